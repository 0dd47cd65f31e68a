"""The two smallest records: a setting as it was recorded, and a number with its interval.

Owns what can be asked of an interval. Refuses nothing: undefined values are None, with a reason
where one was recorded.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Setting:
    """One entry of a JSON settings column, its path joined by dots."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """One statistic, such as a row of `effects`.

    `value` is None where it is undefined, with the reason in `detail`; the bounds are None where
    none were recorded. `fraction` is the part of the budget at which it was measured.
    """

    value: float | None
    low: float | None
    high: float | None
    seeds: int
    questions: int
    fraction: float = 1.0
    detail: str = ""

    @property
    def includes_zero(self) -> bool:
        """Tell whether the interval holds zero; False where there is no interval."""
        return self.low is not None and self.high is not None and self.low <= 0 <= self.high

    def negate(self) -> "Estimate":
        """Return the estimate of the opposite difference."""
        value, low, high = (
            None if one is None else -one for one in (self.value, self.high, self.low)
        )
        return replace(self, value=value, low=low, high=high)


def is_defined(estimate: Estimate | None) -> bool:
    """Tell whether there is a number."""
    return estimate is not None and estimate.value is not None
