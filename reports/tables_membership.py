"""The tables of who is in which bucket, and the sentences that read them.

What the counts do not bound is shown as “?”.
"""

from attrib.analyses import Membership
from attrib.analysis.profile import ProfileInterval
from attrib.reports.tables import Column, Kind, Table, make_table
from attrib.reports.text import (
    UNKNOWN,
    count,
    percent,
    percent_range,
    plural,
)


def tabulate_stability(found: Membership) -> Table:
    """Return how each bucket's questions would fare in a fresh draw."""
    return make_table(
        f"The same {count(found.n)} rollouts drawn again, expected; 95\u00a0% intervals",
        [
            Column("Bucket", Kind.LABEL),
            "Questions",
            "Correct rate, observed",
            "expected again",
            "In the same bucket again",
        ],
        [
            (
                str(row.bucket),
                count(row.questions),
                percent(row.observed_rate, 1),
                _rate(row.fresh_rate),
                _rate(row.stays),
            )
            for row in found.stability
        ],
    )


def tabulate_counts(found: Membership) -> Table:
    """Return what each number of right rollouts says about the questions that have it."""
    return make_table(
        f"What c right of {count(found.n)} rollouts says about a question's chance p of a right "
        "answer; 95\u00a0% intervals",
        [
            Column("Bucket", Kind.LABEL),
            "c",
            "Questions",
            "p, exact",
            "p, by the prior",
            "its mean",
            "Same bucket again",
        ],
        [
            (
                str(row.bucket),
                count(row.correct),
                count(row.questions),
                percent_range(row.low, row.high),
                percent_range(row.posterior_low, row.posterior_high),
                percent(row.mean, 1),
                percent(row.stays),
            )
            for row in found.counts
        ],
    )


def tabulate_mixture(found: Membership) -> Table:
    """Return how small p is among the never-correct questions."""
    return make_table(
        "How small the chance p of a right answer is among the never-correct questions",
        [
            "p at most",
            "Expected questions",
            "The number itself",
            f"0 of {count(found.n)} at this p",
        ],
        [
            (
                percent(row.p, 2),
                _profile(row.expected),
                f"{_bound(row.number_low)} to {_bound(row.number_high)}",
                percent(row.chance_of_none),
            )
            for row in found.mixture
        ],
    )


def tabulate_other_n(found: Membership) -> Table:
    """Return how many questions would be never-correct at other numbers of rollouts."""
    return make_table(
        f"Never-correct questions, of {count(found.questions)}, at other numbers of rollouts",
        ["Rollouts", "Never-correct", Column("Known from")],
        [
            (
                count(row.n),
                _profile(row.expected),
                "the prior" if row.from_prior else "subsets of the rollouts",
            )
            for row in found.other_n
        ],
    )


def tabulate_cuts(found: Membership) -> Table:
    """Return what never-correct would hold if its cut were raised."""
    return make_table(
        "If up to so many right rollouts still counted as never-correct",
        ["Right, at most", "Questions", "Expected p", "of those joining"],
        [
            (
                count(row.most_correct),
                count(row.questions),
                _rate(row.rate),
                _rate(row.joining_rate),
            )
            for row in found.cuts
        ],
    )


def describe_membership(found: Membership) -> list[str]:
    """Return what the counts say about who is in which bucket, in sentences."""
    sentences = []
    if found.check.p_value < 0.05:
        sentences.append(
            f"The fitted prior does not fit the counts (p = {found.check.p_value:.2g}, "
            f"{found.check.draws} bootstrap draws): do not rely on what is said to be expected."
        )
    halves = found.halves.agreement
    kappa = "" if found.halves.kappa is None else f", kappa {found.halves.kappa:.2f}"
    sentences.append(
        f"Two random halves of the rollouts agree on the bucket of {percent(halves.value)} "
        f"[{100 * halves.low:.0f}, {100 * halves.high:.0f}] of the "
        f"{plural(found.questions, 'question')}{kappa}; this needs no prior."
    )
    never = found.stability[0]
    if never.stays is not None and never.fresh_rate is not None:
        noun = plural(never.questions, f"{never.bucket} question")
        sentences.append(
            f"Drawn again, {_rate(never.stays)} of the {noun} are expected to "
            f"be {never.bucket} again, and {_rate(never.fresh_rate)} of their "
            "rollouts to be right, where none was."
        )
    prior, check = found.prior, found.check
    sentences.append(
        f"Expectations rest on a zero-inflated beta({prior.a:.3g}, {prior.b:.3g}) with "
        f"{percent(prior.spike, 1)} at 0, fitted to all counts (fit: p = {check.p_value:.2g}, "
        f"{check.draws} bootstrap draws). How small p is, and what more rollouts would show, "
        "depend on its shape, which few questions cannot test. p = 0 cannot be told from a small "
        "p: nothing here counts questions that the model cannot answer."
    )
    return sentences


def _profile(found: ProfileInterval | None) -> str:
    if found is None:
        return UNKNOWN
    low, high = ("?" if end is None else f"{end:.1f}" for end in (found.low, found.high))
    return f"{found.value:.1f} [{low}, {high}]"


def _rate(found: ProfileInterval | None) -> str:
    if found is None:
        return UNKNOWN
    low, high = ("?" if end is None else f"{100 * end:.1f}" for end in (found.low, found.high))
    return f"{percent(found.value, 1)} [{low}, {high}]"


def _bound(number: int | None) -> str:
    return "?" if number is None else count(number)
