"""What an arm shows, in a few words: the same ones on the first screen and in the tables.

Owns the distinctions that are easily lost. An arm that ran out of informative groups had no signal,
which is not the same as teaching nothing; a gain is not the bucket's own where as many random
questions gained as much; and what is undefined has a reason.
"""

from collections.abc import Sequence
from enum import StrEnum

from attrib.reports.design import GRPO, method_of
from attrib.reports.records_arms import Arm, Comparison, Run, Trained
from attrib.reports.text import count, percent, points_interval, show
from attrib.reports.values import Estimate, is_defined
from attrib.roles import Role

NO_RANDOM = (
    "No arm was trained on as many questions drawn at random, so a share does not show that a "
    "bucket teaches more than other questions would."
)
NOTHING_IN_COMMON = (
    "no planned fraction of the budget was reached by all runs of this arm and of the full arm"
)
ALONE = (Role.ONLY, Role.MATCHED_SUBSET)  # trained on a subset, and held against controls


class Finding(StrEnum):
    """What can be said of an arm; two experiments contradict each other where these differ."""

    GAIN = "gain"
    """The interval of its gain lies above zero."""
    LOSS = "loss"
    """It lies below zero."""
    NOTHING = "nothing"
    """It used its whole budget, and the interval includes zero."""
    NO_SIGNAL = "no signal"
    """Runs of it could not use their budget."""
    UNKNOWN = "unknown"
    """It has not been trained, or not been evaluated."""


def judge(arm: Arm) -> Finding:
    """Return what can be said of an arm; running short of signal is said before anything else."""
    if arm.exhausted:
        return Finding.NO_SIGNAL
    gain = arm.gain
    if gain is None or gain.value is None:
        return Finding.UNKNOWN
    if gain.includes_zero:
        return Finding.NOTHING
    return Finding.GAIN if gain.value > 0 else Finding.LOSS


def describe_finding(experiment: Trained, arm: Arm) -> str:
    """Return what an arm shows."""
    unfinished = _describe_unfinished(arm)
    if not is_defined(arm.gain):
        return unfinished or "not evaluated"
    parts = [unfinished] if unfinished else []
    if arm.exhausted:
        parts.append(describe_exhaustion(experiment, arm))
        if arm.is_compared:
            parts.append(f"until {percent(arm.compared_at)} of the budget: {_describe_gain(arm)}")
    else:
        parts.append(_describe_gain(arm))
        if arm.compared_at is not None and arm.compared_at < 1:
            parts.append(f"compared at {percent(arm.compared_at)} of the budget")
    if arm.role in ALONE and arm.is_compared:
        parts.append(_describe_control(experiment, arm))
    return "; ".join(parts)


def describe_exhaustion(experiment: Trained, arm: Arm) -> str:
    """Return that an arm had no signal within the budget, and how much it had."""
    runs = arm.exhausted
    which = "" if len(runs) == len(arm.runs) else f" in {len(runs)} of {len(arm.runs)} runs"
    start = f"had no signal within the budget{which}"
    if method_of(experiment) != GRPO:
        return f"{start}: {show(runs[0].detail)}" if runs[0].detail else start
    groups = [run.informative_groups or 0 for run in runs]
    drawn = f"{describe_counts([run.rollouts for run in runs])} rollouts"
    each = f" in each of {len(runs)} runs" if len(runs) > 1 and _agree(runs) else ""
    if not any(groups):
        return f"{start}: not one informative group among {drawn}{each}"
    return f"{start} beyond {describe_counts(groups)} informative groups, {drawn} drawn{each}"


def explain_missing_share(experiment: Trained, arm: Arm) -> str:
    """Return why an arm has no share of the gain, in a few words; '' where it has one."""
    if is_defined(arm.share):
        return ""
    full = experiment.full
    if full is None or not is_defined(full.gain):
        return "undefined: the full arm has not been evaluated"
    if not is_defined(arm.gain):
        return "undefined: this arm has not been evaluated"
    if not arm.is_compared or full.compared_at is None:
        return f"undefined: {NOTHING_IN_COMMON}"
    return f"undefined: {explain_no_shares(full)}"


def explain_no_shares(full: Arm) -> str:
    """Return why nothing can have a share of the full arm's gain."""
    gain = full.gain
    if gain is None or gain.value is None:
        return "the full arm has not been evaluated"
    shown = f"{points_interval(gain)} points"
    if gain.value <= 0:
        return f"the full arm did not gain ({shown}), so there is nothing to have a share of"
    if gain.low is None or gain.low <= 0:
        return f"the full arm's gain ({shown}) cannot be told from zero"
    return f"the full arm's gain ({shown}) is too uncertain to divide by"


def describe_control(experiment: Trained, arm: Arm) -> str:
    """Return the sentence that holds an arm against as many random questions."""
    if arm.random is None:
        control = experiment.find(Role.MATCHED_RANDOM, arm.subset)
        if control is None:
            return NO_RANDOM
        return (
            f"The arm on as many questions drawn at random ({control.status}) cannot be compared "
            "with it, so a share does not show that these questions teach more than others would."
        )
    difference = arm.random.difference
    at = difference.fraction
    when = f" at {percent(at)} of the budget" if at != arm.compared_at else ""
    shown = f"{points_interval(difference)} points{when}"
    shows = _sign(arm.gain)
    if difference.includes_zero or difference.low is None:
        if shows == 0:
            return (
                "Nor can it be told from training on as many questions drawn at random: the "
                f"difference is {shown}."
            )
        did, change = ("did as well", "gain") if shows > 0 else ("lost as much", "loss")
        return (
            f"As many questions drawn at random {did}, as far as can be told: the difference "
            f"is {shown}, so the {change} is not shown to be these questions' own."
        )
    if difference.low > 0:
        if shows > 0:
            return (
                "That is more than as many questions drawn at random gave: the difference is "
                f"{shown}."
            )
        return f"As many questions drawn at random gave less: the difference is {shown}."
    return f"As many questions drawn at random gave more: the difference is {shown}."


def _sign(gain: Estimate | None) -> int:
    """Return 1 where a gain can be told from zero, -1 where a loss can, else 0."""
    if gain is None or gain.value is None or gain.includes_zero:
        return 0
    return 1 if gain.value > 0 else -1


def describe_counts(counts_S: Sequence[int | None]) -> str:
    """Return counts by seed: `14` where all agree, else `14, 13 and 14`; – for unknown ones."""
    shown = [count(one) for one in counts_S]
    if len(set(shown)) <= 1:
        return shown[0] if shown else count(None)
    return f"{', '.join(shown[:-1])} and {shown[-1]}"


def describe_unfinished_runs(arm: Arm) -> str:
    """Return which runs of an arm have failed, and why, or not ended; '' where none."""
    parts = []
    for status, verb in (("failed", "failed"), ("running", "not finished")):
        runs = [run for run in arm.runs if run.status == status]
        if runs:
            seeds = ", ".join(str(run.seed) for run in runs)
            why = "; ".join(dict.fromkeys(show(run.detail) for run in runs if run.detail))
            named = f"seed{'s' * (len(runs) > 1)} {seeds}"
            parts.append(f"{verb}: {named}{f' ({why})' if why else ''}")
    return "; ".join(parts)


def _describe_unfinished(arm: Arm) -> str:
    if arm.status == "planned":
        return "planned, not begun"
    return describe_unfinished_runs(arm)


def _describe_gain(arm: Arm) -> str:
    gain = arm.gain
    assert gain is not None
    assert gain.value is not None
    if gain.low is None or gain.high is None:
        return f"{points_interval(gain)} points"
    if gain.includes_zero:
        if arm.exhausted:
            return "no gain that can be told from zero"
        spent = "its whole budget used, " if arm.finished and arm.compared_at == 1 else ""
        return f"teaches nothing that shows: {spent}its gain cannot be told from zero"
    return "teaches: accuracy rose" if gain.value > 0 else "unteaches: accuracy fell"


def _describe_control(experiment: Trained, arm: Arm) -> str:
    """Return how an arm stands beside as many random questions."""
    if arm.random is not None:
        return compare_with_random(arm.random)
    control = experiment.find(Role.MATCHED_RANDOM, arm.subset)
    if control is None:
        return "not compared with random questions"
    return f"its random control cannot be compared ({control.status})"


def compare_with_random(comparison: Comparison) -> str:
    """Return whether as many random questions did as well."""
    difference = comparison.difference
    if not is_defined(difference) or difference.low is None:
        return "not comparable with as many random questions"
    if difference.includes_zero:
        return "cannot be told apart from as many random questions"
    if difference.low > 0:
        return "more than as many random questions"
    return "less than as many random questions"


def _agree(runs: Sequence[Run]) -> bool:
    return len({(run.informative_groups or 0, run.rollouts) for run in runs}) == 1
