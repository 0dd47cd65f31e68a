"""What the counts leave open about a number that the prior determines.

Owns profile-likelihood intervals over the parameters of the prior. Refuses to invent a bound: where
parameters that fit the counts almost as well take the number to the end of its range, the bound is
None and the reason is told. The paper (arXiv 2605.07153) has no counterpart.

An interval covers the uncertainty of the prior's parameters given that its shape is right. It does
not cover a wrong shape: below about 1/n nothing but the shape speaks. Where p is drawn from a
logit-normal, these intervals of 95 % for what never-correct holds cover in almost no study, and
`analysis.prior_check` notices in every study of 1,000 questions but in 30 % of those of 150
(`benchmarks/check_membership.py`). Posteriors of single questions hardly suffer.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special  # type: ignore[import-untyped, unused-ignore]

from attrib.analysis.checks import FloatArray, check_confidence
from attrib.analysis.prior import BOX, Prior, PriorFit, log_likelihood_gradient, to_point, to_prior

# Steps of numeric derivatives, and how far below the cut-off a bound's log-likelihood may fall.
_STEP = 1e-3
_SLACK = 1e-2
_PRICES, _NEAR = 40, 1e-3
_FLAT = 1e-6
# Standard errors (of spike, log a, log b) are capped: a flat likelihood says nothing of its scale.
_LARGEST_ERROR = 3.0


@dataclass(frozen=True, slots=True)
class ProfileInterval:
    """An estimate with bounds; a bound that the counts do not give is None, and `reason` says why.

    `reason` is empty where both bounds are given.
    """

    value: float
    low: float | None
    high: float | None
    reason: str


def profile_interval(
    fit: PriorFit,
    number: Callable[[Prior], float],
    limits: tuple[float, float],
    margin: float = 0.0,
    confidence: float = 0.95,
) -> ProfileInterval:
    """Return a number at the fit, with the range it takes where the likelihood is nearly as high.

    Nearly as high is within half the chi-squared quantile at one degree of freedom; the range of
    the number over those parameters is its profile-likelihood interval. The parameters are scaled
    by the curvature at the fit, so that the region is about a ball, and the number is pushed to
    either side of it from several starts.

    Args:
        fit: The prior and its counts.
        number: What to bound, a smooth function of the prior.
        limits: Least and greatest value that it can take at all.
        margin: How near to a limit counts as reaching it.
        confidence: Two-sided level.

    Raises:
        ConfigError: If `confidence` is outside (0, 1).

    Source: Venzon & Moolgavkar 1988, Appl. Stat. 37:87.
    """
    check_confidence(confidence)
    value = float(number(fit.prior))
    region = _Region(fit, number, float(special.chdtri(1, 1.0 - confidence)) / 2.0)
    low, high = region.push(-1.0), region.push(1.0)
    is_open_below, is_open_above = low <= limits[0] + margin, high >= limits[1] - margin
    missing = []
    if is_open_below:
        missing.append(f"below: {limits[0]:.6g} fits them too")
    if is_open_above:
        missing.append(f"above: {limits[1]:.6g} fits them too")
    reason = f"The counts give no bound {' and none '.join(missing)}." if missing else ""
    return ProfileInterval(
        value, None if is_open_below else low, None if is_open_above else high, reason
    )


class _Region:
    """The parameters whose log-likelihood is within `depth` of the fit's, scaled to a ball."""

    def __init__(self, fit: PriorFit, number: Callable[[Prior], float], depth: float) -> None:
        self.fit, self.number, self.depth = fit, number, depth
        self.centre = to_point(fit.prior)
        # Lower triangular, so that the spike depends on the first coordinate alone, and the wall
        # at a spike of 0 is a plain bound.
        self.scale = np.linalg.cholesky(_covariance(fit))
        walls = [(edge - self.centre[0]) / self.scale[0, 0] for edge in BOX[0]]
        self.radius = float(np.sqrt(2.0 * depth))
        reach = 20.0 * self.radius
        self.lower = np.array([max(walls[0], -reach), -reach, -reach])
        self.upper = np.array([min(walls[1], reach), reach, reach])
        self.last: tuple[bytes, float, FloatArray] | None = None

    def prior_at(self, ball: FloatArray) -> Prior:
        """Return the prior at a point of the ball."""
        return to_prior(self.centre + self.scale @ ball)

    def room(self, ball: FloatArray) -> float:
        """Return how far the log-likelihood is above the cut-off."""
        return self._likelihood(ball)[0] - self.fit.log_likelihood + self.depth

    def room_slope(self, ball: FloatArray) -> FloatArray:
        """Return the gradient of `room`."""
        slope: FloatArray = self.scale.T @ self._likelihood(ball)[1]
        return slope

    def number_slope(self, ball: FloatArray) -> FloatArray:
        """Return the gradient of the number, by differences that stay within the walls."""
        slope = np.empty(3)
        for axis in range(3):
            ends = np.stack([ball, ball])
            ends[:, axis] += (-_STEP, _STEP)
            ends = np.clip(ends, self.lower, self.upper)
            values = [self.number(self.prior_at(end)) for end in ends]
            slope[axis] = (values[1] - values[0]) / (ends[1, axis] - ends[0, axis])
        return slope

    def push(self, sign: float) -> float:
        """Return the greatest (sign 1) or least (-1) number of the region."""
        slope = self.number_slope(np.clip(np.zeros(3), self.lower, self.upper))
        length = float(np.linalg.norm(slope))
        ahead = sign * self.radius * slope / length if length else np.zeros(3)
        # A number that is flat at the fit is scaled by its size, or rounding would steer.
        unit = max(length, _FLAT * abs(self.number(self.fit.prior)), math.ulp(1.0))
        ends = [self._climb(start, sign / unit) for start in (ahead, np.zeros(3))]
        if all(self.room(end) < -_SLACK for end in ends):  # a region that is long and bent
            edge = self._trade(sign / unit)
            ends = [edge, self._climb(edge, sign / unit)]
        inside = [self.number(self.prior_at(end)) for end in ends if self.room(end) >= -_SLACK]
        # The fit itself is in the region: no bound may fall short of it.
        return sign * max(sign * value for value in (*inside, self.number(self.fit.prior)))

    def _climb(self, start: FloatArray, factor: float) -> FloatArray:
        """Return where a search for the greatest `factor` times the number ends, in the region."""
        found = optimize.minimize(
            lambda ball: -factor * self.number(self.prior_at(ball)),
            np.clip(start, self.lower, self.upper),
            jac=lambda ball: -factor * self.number_slope(ball),
            method="SLSQP",
            bounds=optimize.Bounds(self.lower, self.upper),
            constraints={"type": "ineq", "fun": self.room, "jac": self.room_slope},
            options={"ftol": 1e-7, "maxiter": 60},
        )
        end: FloatArray = np.clip(found.x, self.lower, self.upper)
        return end

    def _trade(self, factor: float) -> FloatArray:
        """Return the farthest point found by trading log-likelihood for `factor` times the number.

        Under each price of the number the best point is sought from the last one inside; prices
        rise until it leaves the region, then halve the step. Slower than `_climb`, and sure: the
        fit is where it begins.
        """
        inside, price, step = np.clip(np.zeros(3), self.lower, self.upper), 0.0, 1.0
        for _ in range(_PRICES):
            found = optimize.minimize(
                lambda ball, price: (
                    -self.room(ball) - price * factor * self.number(self.prior_at(ball))
                ),
                inside,
                args=(price + step,),
                jac=lambda ball, price: (
                    -self.room_slope(ball) - price * factor * self.number_slope(ball)
                ),
                method="L-BFGS-B",
                bounds=optimize.Bounds(self.lower, self.upper),
            )
            if self.room(found.x) >= -_SLACK:
                inside, price, step = found.x, price + step, 2.0 * step
            else:
                step /= 4.0
                if step < _NEAR * price:
                    break
        return inside

    def _likelihood(self, ball: FloatArray) -> tuple[float, FloatArray]:
        """Return log-likelihood and gradient; the search asks for both at a point in turn."""
        key = ball.tobytes()
        if self.last is None or self.last[0] != key:
            self.last = (key, *log_likelihood_gradient(self.fit.tally, self.prior_at(ball)))
        return self.last[1:]


def _covariance(fit: PriorFit) -> FloatArray:
    """Return the inverse curvature of the log-likelihood at the fit, shape (3, 3)."""
    centre = to_point(fit.prior)
    curvature = np.empty((3, 3))
    for axis in range(3):
        ends = np.stack([centre, centre])
        ends[:, axis] += (-_STEP / 10.0, _STEP / 10.0)
        ends = np.clip(ends, *np.array(BOX).T)
        slopes = [log_likelihood_gradient(fit.tally, to_prior(end))[1] for end in ends]
        curvature[axis] = (slopes[0] - slopes[1]) / (ends[1, axis] - ends[0, axis])
    values, axes = np.linalg.eigh((curvature + curvature.T) / 2.0)
    values = np.maximum(values, 1.0 / _LARGEST_ERROR**2)
    covariance: FloatArray = (axes / values) @ axes.T
    return covariance
