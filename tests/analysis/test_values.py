"""Values over seeds: by hand, against the versions for right and wrong, and by simulation."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from attrib.analysis.seeds import gain_over_seeds
from attrib.analysis.values import change_over_seeds, part_share_over_seeds, value_over_seeds
from attrib.errors import ConfigError, DataError


class TestMeans:
    def test_one_seed_by_hand(self) -> None:
        """Student's t on the values with one of 0 and one of 10 added."""
        value = [2.0, 4.0, 3.0, 7.0]
        found = value_over_seeds([value], 10.0)
        padded = np.array([*value, 0.0, 10.0])
        half = stats.t.ppf(0.975, 3) * padded.std(ddof=1) / np.sqrt(6)
        assert found.value == 4.0
        assert (found.low, found.high) == pytest.approx(
            (max(0.0, padded.mean() - half), min(10.0, padded.mean() + half))
        )
        assert not found.covers_seeds

    def test_right_and_wrong_are_values_too(self) -> None:
        generator = np.random.default_rng(0)
        before = generator.random(40) < 0.3
        after = generator.random((3, 40)) < 0.6
        want = gain_over_seeds(before, after)
        found = change_over_seeds(before, after)
        assert found.value == pytest.approx(want.value)
        # Student's variance here has Q - 1 in the place of Q.
        assert (found.low, found.high) == pytest.approx((want.low, want.high), abs=0.004)
        assert found.covers_seeds

    @settings(max_examples=50)
    @given(
        st.integers(1, 4),
        st.integers(1, 12),
        st.floats(0.1, 50.0),
        st.integers(0, 2**32 - 1),
    )
    def test_unit_and_direction_do_not_matter(
        self, seeds: int, questions: int, unit: float, seed: int
    ) -> None:
        generator = np.random.default_rng(seed)
        before, after = generator.random(questions), generator.random((seeds, questions))
        one = change_over_seeds(before, after)
        other = change_over_seeds(unit * before, unit * after, unit * (1 + 1e-12))
        assert (other.value, other.low, other.high) == pytest.approx(
            (unit * one.value, unit * one.low, unit * one.high), abs=1e-9
        )
        back = change_over_seeds(1 - before, 1 - after)
        assert (back.value, back.low, back.high) == pytest.approx(
            (-one.value, -one.high, -one.low), abs=1e-9
        )
        mean = value_over_seeds(after)
        assert -1 <= one.low <= one.value <= one.high <= 1
        assert 0 <= mean.low <= mean.value <= mean.high <= 1

    def test_refuses(self) -> None:
        with pytest.raises(DataError, match=r"values outside 0\.\.1"):
            value_over_seeds([[0.5, 1.5]])
        with pytest.raises(DataError, match="must hold finite values"):
            value_over_seeds([[np.nan]])
        with pytest.raises(DataError, match="changes by 3, more than 2"):
            change_over_seeds([0.0], [[3.0]], 2.0)
        with pytest.raises(DataError, match="have 2 and 1 questions"):
            change_over_seeds([0.0, 1.0], [[1.0]])
        with pytest.raises(ConfigError, match="largest is 0"):
            value_over_seeds([[0.0]], 0.0)


class TestShares:
    def test_by_hand(self) -> None:
        """One seed: θ is inside where |mean of change · (member - θ)| is within Student's t."""
        generator = np.random.default_rng(1)
        change = (generator.random(80) < 0.5).astype(float)
        member = np.arange(80) < 30
        found = part_share_over_seeds([change], member)
        assert found.value == pytest.approx(change[:30].sum() / change.sum())
        assert found.low is not None
        assert found.high is not None

        def is_inside(share: float) -> bool:
            padded = np.array([*change * (member - share), 1.0, -1.0])
            limit = stats.t.ppf(0.975, 79) * padded.std(ddof=1) / np.sqrt(82)
            return abs(padded.mean()) <= limit

        for end in (found.low, found.high):
            assert is_inside(end + 1e-6) != is_inside(end - 1e-6)

    def test_parts_add_up(self) -> None:
        generator = np.random.default_rng(2)
        change = generator.uniform(-0.3, 1.0, (3, 60))
        member = generator.random(60) < 0.4
        one = part_share_over_seeds(change, member)
        rest = part_share_over_seeds(change, ~member)
        assert one.value is not None
        assert rest.value == pytest.approx(1 - one.value)
        assert (rest.low, rest.high) == pytest.approx((1 - one.high, 1 - one.low), abs=1e-6)
        assert one.covers_seeds

    def test_scale_does_not_matter(self) -> None:
        generator = np.random.default_rng(3)
        weight = generator.gamma(0.5, 1.0, (4, 50))
        member = np.arange(50) < 20
        typical = float(weight.mean())
        one = part_share_over_seeds(weight, member, typical)
        other = part_share_over_seeds(7 * weight, member, 7 * typical)
        assert (other.low, other.high) == pytest.approx((one.low, one.high), abs=1e-6)
        assert 0 <= one.low <= one.value <= one.high <= 1  # type: ignore[operator]

    def test_nothing_has_a_share_of_nothing(self) -> None:
        change = np.tile([1.0, -1.0], 20)[None, :]
        found = part_share_over_seeds(change, np.arange(40) < 10)
        assert (found.value, found.low, found.high) == (None, None, None)
        assert "cannot be told from zero" in found.reason
        lost = part_share_over_seeds(-np.ones((1, 40)), np.arange(40) < 10)
        assert lost.value is None
        assert "negative" in lost.reason

    def test_refuses(self) -> None:
        with pytest.raises(DataError, match="one truth value for each of 3 questions"):
            part_share_over_seeds(np.ones((1, 3)), [1, 0, 1])


class TestCoverage:
    """A small version of benchmarks/check_intervals.py."""

    @pytest.fixture
    def check(self) -> ModuleType:
        """Load benchmarks/check_intervals.py, which is no part of the package."""
        path = Path(__file__).parents[2] / "benchmarks" / "check_intervals.py"
        spec = importlib.util.spec_from_file_location("check_intervals", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    @pytest.mark.parametrize(
        ("study", "settings"),
        [("values", (200, 3, 0.1)), ("gains", (200, 3, 0.1)), ("calibration", (300,)),
         ("proportions", (200,)), ("Polls", (40, 0.4)), ("Halves", (60,))],
    )  # fmt: skip
    def test_covers_the_truth(
        self, check: ModuleType, study: str, settings: tuple[float, ...]
    ) -> None:
        """Of 150 studies 95 % ± 1.8 % hold the truth: below 89 % is three errors away."""
        made = getattr(check, study)(*settings)
        found = check.measure(made, 150, np.random.default_rng(4))
        assert all(held >= 0.89 for held, _ in found.values()), found
