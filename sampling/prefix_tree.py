"""Prefix trees of token sequences: every distinct prefix once.

Both ideas that carry the performance (sampling and training on trees) rest on this one structure: a
set of sequences is merged into nodes, a node attends to itself and its ancestors, and its position
is its depth. One packed forward over the nodes then equals one forward per sequence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PrefixTree:
    """A forest over token sequences; parents come before their children.

    Attributes:
        token_N: the token at each node.
        parent_N: index of the parent node, -1 at a root.
        depth_N: number of ancestors, which is the position in the sequence.
        paths: for each input sequence, the node of each of its tokens.
    """

    token_N: NDArray[np.int64]
    parent_N: NDArray[np.int64]
    depth_N: NDArray[np.int64]
    paths: tuple[NDArray[np.int64], ...]

    @property
    def leaf_Q(self) -> NDArray[np.int64]:
        """Return the last node of every sequence, shape (sequences,)."""
        return np.array([path[-1] for path in self.paths], dtype=np.int64)

    def visible_NN(self) -> NDArray[np.bool_]:
        """Return who sees whom: [i, j] is true when j is i or an ancestor of i."""
        nodes = len(self.token_N)
        visible_NN = np.eye(nodes, dtype=np.bool_)
        for node, parent in enumerate(self.parent_N):
            if parent >= 0:
                visible_NN[node] |= visible_NN[parent]
        return visible_NN


def build_prefix_tree(sequences: Sequence[Sequence[int]]) -> PrefixTree:
    """Merge `sequences`, each of at least one token, into a prefix tree."""
    assert all(len(sequence) > 0 for sequence in sequences)
    children: dict[tuple[int, int], int] = {}
    tokens: list[int] = []
    parents: list[int] = []
    depths: list[int] = []
    paths: list[NDArray[np.int64]] = []
    for sequence in sequences:
        node, path = -1, []
        for depth, token in enumerate(sequence):
            child = children.setdefault((node, token), len(tokens))
            if child == len(tokens):
                tokens.append(token)
                parents.append(node)
                depths.append(depth)
            node = child
            path.append(node)
        paths.append(np.array(path, dtype=np.int64))
    return PrefixTree(
        token_N=np.array(tokens, dtype=np.int64),
        parent_N=np.array(parents, dtype=np.int64),
        depth_N=np.array(depths, dtype=np.int64),
        paths=tuple(paths),
    )
