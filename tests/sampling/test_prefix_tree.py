import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrib.sampling.prefix_tree import build_prefix_tree

sequences_of_few_tokens = st.lists(
    st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=8
)


def test_tree_by_hand() -> None:
    tree = build_prefix_tree([[7, 1, 2], [7, 1], [7, 3], [8]])
    assert tree.token_N.tolist() == [7, 1, 2, 3, 8]
    assert tree.parent_N.tolist() == [-1, 0, 1, 0, -1]
    assert tree.depth_N.tolist() == [0, 1, 2, 1, 0]
    assert [path.tolist() for path in tree.paths] == [[0, 1, 2], [0, 1], [0, 3], [4]]
    assert tree.leaf_Q.tolist() == [2, 1, 3, 4]
    assert tree.visible_NN().astype(int).tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 0, 0, 1, 0],
        [0, 0, 0, 0, 1],
    ]


@given(sequences_of_few_tokens)
def test_nodes_are_the_distinct_prefixes(sequences: list[list[int]]) -> None:
    tree = build_prefix_tree(sequences)

    def prefix(node: int) -> tuple[int, ...]:
        parent = int(tree.parent_N[node])
        return (*(prefix(parent) if parent >= 0 else ()), int(tree.token_N[node]))

    prefixes = [prefix(node) for node in range(len(tree.token_N))]
    expected = {tuple(s[:end]) for s in sequences for end in range(1, len(s) + 1)}
    assert len(prefixes) == len(set(prefixes))
    assert set(prefixes) == expected
    assert [len(p) - 1 for p in prefixes] == tree.depth_N.tolist()


@given(sequences_of_few_tokens)
def test_paths_reproduce_the_sequences(sequences: list[list[int]]) -> None:
    tree = build_prefix_tree(sequences)
    assert [tree.token_N[path].tolist() for path in tree.paths] == sequences
    assert tree.leaf_Q.tolist() == [path[-1] for path in tree.paths]
    for path in tree.paths:
        assert tree.parent_N[path].tolist() == [-1, *path[:-1]]
        assert tree.depth_N[path].tolist() == list(range(len(path)))


@given(sequences_of_few_tokens)
def test_parents_come_before_their_children(sequences: list[list[int]]) -> None:
    tree = build_prefix_tree(sequences)
    assert (tree.parent_N < np.arange(len(tree.parent_N))).all()


@given(sequences_of_few_tokens)
def test_a_node_sees_itself_and_its_ancestors(sequences: list[list[int]]) -> None:
    tree = build_prefix_tree(sequences)
    expected = np.zeros((len(tree.token_N),) * 2, dtype=bool)
    for node in range(len(tree.token_N)):
        seen = node
        while seen >= 0:
            expected[node, seen] = True
            seen = int(tree.parent_N[seen])
    assert (tree.visible_NN() == expected).all()


def test_equal_sequences_share_every_node() -> None:
    tree = build_prefix_tree([[5, 6]] * 3)
    assert len(tree.token_N) == 2
    assert tree.leaf_Q.tolist() == [1, 1, 1]


def test_an_empty_sequence_is_refused() -> None:
    with pytest.raises(AssertionError):
        build_prefix_tree([[1], []])
