"""Forests: the prefix trees of several groups, laid out for one forward.

The sequences of all groups are merged, so that what prompts share (a system prompt, the markup of a
chat) goes through the model once as well. A node is run only where something is predicted from it:
the last token of a completion never is. Targets are kept apart by group, so that the loss of every
question is known.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from attrib.attribution.groups import Group
from attrib.sampling.prefix_tree import PrefixTree, build_prefix_tree


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """Nodes to run, and the K targets whose log-probabilities carry the loss.

    A target is a distinct (group, node): a token that at least one completion of the group has
    after the same prefix.

    Attributes:
        tree: the nodes to run.
        predictor_P: the nodes whose next-token distributions are needed, ascending.
        row_K: for each target, the place of its parent in `predictor_P`.
        token_K: the token of each target.
        groups: what was laid out.
        targets: for every group, for every completion, the targets along it.
        group_K: the place in `groups` that each target belongs to.
    """

    tree: PrefixTree
    predictor_P: NDArray[np.int64]
    row_K: NDArray[np.int64]
    token_K: NDArray[np.int64]
    groups: tuple[Group, ...]
    targets: tuple[tuple[NDArray[np.int64], ...], ...]
    group_K: NDArray[np.int64]

    def spread(self, weights: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return for each target the summed weights of the completions through it.

        Args:
            weights: of every group, the weight on each token of its G completions, shape (G,).

        Returns:
            shape (K,).
        """
        weight_K = np.zeros(len(self.token_K))
        for targets, weight_G in zip(self.targets, weights, strict=True):
            for target_T, weight in zip(targets, weight_G, strict=True):
                weight_K[target_T] += weight
        return weight_K

    def count_targets(self, group: int) -> int:
        """Return the number of distinct tokens of a group's completions."""
        return int((self.group_K == group).sum())


def plant(groups: Sequence[Group], tokens_at_once: int) -> Iterator[Forest]:
    """Yield forests of consecutive groups, each of about `tokens_at_once` distinct tokens at most.

    A single group is never split, however large. What a prompt has in common with another one's
    beginning is run once, and counted once.
    """
    pending: list[Group] = []
    tokens = 0
    for group in groups:
        own = len({c[:i] for c in group.completions for i in range(1, len(c))})
        shared = max((_count_shared(group.prompt, one.prompt) for one in pending), default=0)
        if pending and tokens + len(group.prompt) - shared + own > tokens_at_once:
            yield _lay_out(pending)
            pending, tokens, shared = [], 0, 0
        pending.append(group)
        tokens += len(group.prompt) - shared + own
    if pending:
        yield _lay_out(pending)


def _count_shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how long the beginning is that two sequences have in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _lay_out(groups: Sequence[Group]) -> Forest:
    """Merge the sequences of all groups and number the targets."""
    sequences = [[*group.prompt, *c] for group in groups for c in group.completions]
    whole = build_prefix_tree(sequences)
    paths = iter(whole.paths)
    owners, nodes, targets = [], [], []
    count = 0
    for place, group in enumerate(groups):
        own = [next(paths)[len(group.prompt) :] for _ in group.completions]
        distinct, inverse = np.unique(np.concatenate(own), return_inverse=True)
        ends = np.cumsum([len(path) for path in own])[:-1]
        targets.append(tuple(part + count for part in np.split(inverse.reshape(-1), ends)))
        nodes.append(distinct)
        owners.append(np.full(len(distinct), place))
        count += len(distinct)
    node_K = np.concatenate(nodes)
    is_run_N = np.zeros(len(whole.token_N), dtype=np.bool_)
    is_run_N[whole.parent_N[whole.parent_N >= 0]] = True
    number_N = np.cumsum(is_run_N) - 1
    parent_N = whole.parent_N[is_run_N]
    predictor_P, row_K = np.unique(number_N[whole.parent_N[node_K]], return_inverse=True)
    return Forest(
        tree=PrefixTree(
            token_N=whole.token_N[is_run_N],
            parent_N=np.where(parent_N >= 0, number_N[parent_N], -1),
            depth_N=whole.depth_N[is_run_N],
            paths=(),
        ),
        predictor_P=predictor_P,
        row_K=row_K.reshape(-1),
        token_K=whole.token_N[node_K],
        groups=tuple(groups),
        targets=tuple(targets),
        group_K=np.concatenate(owners),
    )
