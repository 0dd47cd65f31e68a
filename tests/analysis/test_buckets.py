"""Bucket edges in whole numbers, the bound behind never-correct, and the table."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from attrib.analysis.buckets import (
    DEFAULT_CUTS,
    Bucket,
    BucketRow,
    Cuts,
    assign_buckets,
    bucket_table,
    never_correct_bound,
)
from attrib.errors import ConfigError, DataError

NEVER, RARELY, SOMETIMES, MOSTLY, ALWAYS = Bucket


def assign_by_definition(n: int, correct: int, rarely: Fraction, sometimes: Fraction) -> Bucket:
    if correct == 0:
        return NEVER
    if correct == n:
        return ALWAYS
    if correct <= n * rarely:
        return RARELY
    return SOMETIMES if correct <= n * sometimes else MOSTLY


class TestAssignBuckets:
    def test_order_and_names(self) -> None:
        assert list(Bucket) == [
            "never-correct",
            "rarely-correct",
            "sometimes-correct",
            "mostly-correct",
            "always-correct",
        ]

    def test_edges_at_128_rollouts(self) -> None:
        correct = [0, 1, 8, 9, 64, 65, 127, 128]
        want = [NEVER, RARELY, RARELY, SOMETIMES, SOMETIMES, MOSTLY, MOSTLY, ALWAYS]
        assert assign_buckets([128] * 8, correct).tolist() == want

    def test_edges_at_the_smallest_n(self) -> None:
        assert assign_buckets([16] * 4, [0, 1, 2, 16]).tolist() == [
            NEVER,
            RARELY,
            SOMETIMES,
            ALWAYS,
        ]

    def test_ragged_n(self) -> None:
        assert assign_buckets([16, 64, 17], [4, 4, 9]).tolist() == [SOMETIMES, RARELY, MOSTLY]

    @pytest.mark.parametrize("n", [48, 49, 147, 3_000_000])
    @pytest.mark.parametrize(("part", "whole"), [(1, 3), (1, 49), (2, 7), (1, 10)])
    def test_cuts_that_floats_miss(self, n: int, part: int, whole: int) -> None:
        """49·(1/49) is 0.9999999999999999 in floats; the cut is still one in 49."""
        edge = n * part // whole
        got = assign_buckets([n, n], [edge, edge + 1], Cuts(part / whole, 0.9))
        assert got.tolist() == [RARELY if edge else NEVER, SOMETIMES]

    @given(
        st.integers(1, 400),
        st.fractions(Fraction(1, 64), Fraction(1, 2), max_denominator=64),
        st.fractions(Fraction(33, 64), Fraction(63, 64), max_denominator=64),
    )
    def test_agrees_with_the_definition_at_every_count(
        self, n: int, rarely: Fraction, sometimes: Fraction
    ) -> None:
        correct = np.arange(n + 1)
        got = assign_buckets(np.full(n + 1, n), correct, Cuts(float(rarely), float(sometimes)))
        want = [assign_by_definition(n, int(c), rarely, sometimes) for c in correct]
        assert got.tolist() == want

    def test_one_rollout_is_never_or_always(self) -> None:
        assert assign_buckets([1, 1], [0, 1], DEFAULT_CUTS).tolist() == [NEVER, ALWAYS]

    def test_default_cuts_refuse_fewer_than_16_rollouts(self) -> None:
        with pytest.raises(ConfigError, match=r"n is 15 in row 1; rarely-correct cannot occur.*16"):
            assign_buckets([128, 15], [0, 0])
        assert assign_buckets([15], [1], DEFAULT_CUTS).tolist() == [SOMETIMES]

    def test_refuses_malformed_counts(self) -> None:
        with pytest.raises(DataError, match="c exceeds n in row 0: n=16, c=17"):
            assign_buckets([16], [17])
        with pytest.raises(DataError, match="n_Q is empty"):
            assign_buckets([], [])

    @pytest.mark.parametrize(
        ("rarely", "sometimes"),
        [(0.0, 0.5), (0.5, 0.5), (0.6, 0.5), (0.1, 1.0), (float("nan"), 0.5), (-0.1, 0.5)],
    )
    def test_cuts_refuse_disorder(self, rarely: float, sometimes: float) -> None:
        with pytest.raises(ConfigError, match="0 < rarely < sometimes < 1"):
            Cuts(rarely, sometimes)


class TestNeverCorrectBound:
    def test_known_values(self) -> None:
        assert never_correct_bound(1) == pytest.approx(0.95)
        assert never_correct_bound(128) == pytest.approx(1 - 0.05 ** (1 / 128), rel=1e-12)
        assert never_correct_bound(128) == pytest.approx(0.0231, abs=5e-5)

    @pytest.mark.parametrize("n", [1, 16, 128, 100_000])
    def test_is_the_one_sided_exact_bound(self, n: int) -> None:
        want = stats.binomtest(0, n, alternative="less").proportion_ci(0.95, method="exact").high
        assert never_correct_bound(n) == pytest.approx(want, rel=1e-9)

    def test_refuses(self) -> None:
        with pytest.raises(DataError, match="n is 0"):
            never_correct_bound(0)
        with pytest.raises(ConfigError, match="confidence is 1"):
            never_correct_bound(5, 1.0)


class TestBucketTable:
    def test_hand_computed_case(self) -> None:
        n, correct = [16, 16, 32, 16], [0, 0, 2, 12]
        rows = bucket_table(assign_buckets(n, correct), n, correct)
        assert rows == [
            BucketRow(NEVER, 2, 0.5, 0.0),
            BucketRow(RARELY, 1, 0.25, 2 / 32),
            BucketRow(SOMETIMES, 0, 0.0, None),
            BucketRow(MOSTLY, 1, 0.25, 0.75),
            BucketRow(ALWAYS, 0, 0.0, None),
        ]
        assert all(isinstance(row.bucket, Bucket) for row in rows)

    def test_accepts_members_names_and_object_arrays(self) -> None:
        n, correct = [16, 16], [0, 16]
        for names in ([NEVER, ALWAYS], ["never-correct", "always-correct"]):
            for array in (names, np.array(names, dtype=object), np.array(names)):
                rows = bucket_table(array, n, correct)
                assert [row.questions for row in rows] == [1, 0, 0, 0, 1]

    @given(st.lists(st.integers(0, 32), min_size=1, max_size=50))
    def test_rows_add_up(self, correct: list[int]) -> None:
        n = [32] * len(correct)
        rows = bucket_table(assign_buckets(n, correct), n, correct)
        assert [row.bucket for row in rows] == list(Bucket)
        assert sum(row.questions for row in rows) == len(correct)
        assert sum(row.share_of_questions for row in rows) == pytest.approx(1.0)
        total = sum(row.questions * (row.mean_correct_rate or 0.0) for row in rows)
        assert total == pytest.approx(sum(correct) / 32)

    def test_refuses(self) -> None:
        with pytest.raises(
            DataError, match=r"'hard' is not a bucket\. Use one of: never-correct, "
        ):
            bucket_table(["hard"], [16], [0])
        with pytest.raises(DataError, match=r"bucket_Q has shape \(1,\) for 2 questions"):
            bucket_table([NEVER], [16, 16], [0, 0])
