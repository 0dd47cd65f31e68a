"""The sentences at the top: one per claim, each with its interval, its n and its seeds.

Owns the wording of results and of their limits. Refuses to compare an arm that did not end as
planned: such arms are named as limits. The headline is about the bucket whose questions alone
gained most, hardest first where equal.
"""

from dataclasses import dataclass

from attrib.reports.collect_arms import bucket_order
from attrib.reports.records import Arm, Experiment, Study
from attrib.reports.settings import find_setting
from attrib.reports.text import percent, percent_interval, plural, points_interval, show
from attrib.roles import Role

FEW_QUESTIONS = 1000  # below this many training questions a study is called small
NEVER_CORRECT = "never-correct"
REFERENCE = (
    "For reference, not a result of this study: Yang et al. 2026 (arXiv 2605.07153) report that "
    "questions never correct in 128 rollouts, about 18\u00a0% of their training data, produced "
    "about 83\u00a0% of the gain, with other models and many more questions."
)


@dataclass(frozen=True, slots=True)
class Claims:
    """The headline, the sentences below it, their limits, and a note where the scale is reduced."""

    headline: str
    further: tuple[str, ...]
    limits: tuple[str, ...]
    scale: str | None


def state_claims(study: Study) -> Claims:
    """Return what may be said about the study."""
    experiment = study.experiment
    if experiment is None:
        return Claims(_describe_untrained(study), (), (), _describe_scale(study))
    comparable = [arm for arm in experiment.arms if arm.finished and _has_gain(arm)]
    alone = [arm for arm in comparable if arm.role is Role.ONLY]
    alone.sort(key=lambda arm: (-_gain(arm), bucket_order(arm.subset)))
    others = [arm for arm in comparable if arm.role is Role.ALL_BUT]
    full = next((arm for arm in comparable if arm.role is Role.FULL), None)
    sentences = [_describe_alone(study, experiment, arm) for arm in alone[:1]]
    if len(alone) > 1:
        sentences.append(_compare_first_two(alone[0], alone[1]))
    if full is not None:
        sentences.append(_describe_full(experiment, full))
    never = [arm for arm in alone[1:] if arm.subset == NEVER_CORRECT]
    sentences += [_describe_alone(study, experiment, arm) for arm in never]
    leading = alone[0].subset if alone else NEVER_CORRECT
    sentences += [
        _describe_without(arm) for arm in others if arm.subset in {leading, NEVER_CORRECT}
    ]
    if not sentences:
        sentences = ["No arm has finished and been evaluated yet, so nothing is claimed."]
    limits = [_describe_unfinished(arm) for arm in experiment.arms if not arm.finished]
    if full is not None and any(arm.share and arm.share.value is None for arm in comparable):
        limits.append(_explain_undefined(full))
    if full is None:
        limits.append("There is no finished full arm, so no share of the gain is defined.")
    return Claims(sentences[0], tuple(sentences[1:]), tuple(limits), _describe_scale(study))


def share_of_data(study: Study, arm: Arm) -> float | None:
    """Return an arm's questions as a share of the full arm's, without one of the bucketed ones."""
    full = study.experiment.full if study.experiment else None
    whole = full.questions if full is not None and full.questions else study.bucketed
    return arm.questions / whole if whole and arm.runs else None


def describe_held_equal(experiment: Experiment) -> str:
    """Return what all arms had in common, in words, from the settings the trainer records."""
    updates, groups, size, limit = (
        find_setting(experiment.settings, name)
        for name in ("updates", "groups", "group_size", "max_rollouts")
    )
    if updates is None or groups is None or size is None:
        return "see the settings below"
    text = f"{updates} updates, each from {groups} informative groups of {size} rollouts"
    if limit is not None:
        text += f"; an arm that cannot fill its batches within {limit} rollouts ends as exhausted"
    return f"{text}. Rollouts drawn and wall time differ between arms and are listed"


def explain_missing_share(experiment: Experiment, arm: Arm) -> str:
    """Return why an arm has no share of the gain, in a few words; '' where it has one."""
    full = experiment.full
    if full is not None and full.status != "done":
        return f"undefined: the full arm is {full.status}"
    if arm.share is not None and arm.share.value is not None:
        return ""
    if full is None or full.gain is None or full.gain.value is None:
        return "undefined: the full arm has not been evaluated"
    if arm.gain is None or arm.gain.value is None:
        return "undefined: this arm has not been evaluated"
    return "undefined: " + _why(full)


def _describe_untrained(study: Study) -> str:
    never = study.buckets[0].row
    noun = "question was" if never.questions == 1 else "questions were"
    return (
        f"{never.questions:,} of {study.bucketed:,} training {noun} never answered correctly in "
        f"{study.bucketing.k} rollouts ({percent(never.share_of_questions)}). No arm has been "
        "trained on these buckets yet, so nothing can be said about which questions produce a gain."
    )


def _describe_alone(study: Study, experiment: Experiment, arm: Arm) -> str:
    portion = percent(share_of_data(study, arm))
    subject = (
        f"Training on the {plural(arm.questions, f'{show(arm.subset)} question')} alone "
        f"({portion} of the training questions)"
    )
    return f"{subject} {_state_gain(arm)}{_state_share(experiment, arm)}; {_seeds(arm)}."


def _describe_without(arm: Arm) -> str:
    share = arm.share
    tail = ""
    if share is not None and share.value is not None:
        tail = f", {percent_interval(share)} of the full arm's gain"
    return (
        f"Training on everything but the {show(arm.subset)} questions "
        f"({plural(arm.questions, 'question')}) {_state_gain(arm)}{tail}; {_seeds(arm)}."
    )


def _describe_full(experiment: Experiment, full: Arm) -> str:
    before = experiment.base.accuracy if experiment.base else None
    after = full.accuracy
    change = ""
    if before is not None and after is not None:
        change = (
            f": held-out accuracy went from {percent_interval(before, 1)} "
            f"to {percent_interval(after, 1)}"
        )
    questions = plural(full.questions, "question")
    return f"Training on all {questions} {_state_gain(full)}{change}; {_seeds(full)}."


def _compare_first_two(first: Arm, second: Arm) -> str:
    bounds = [first.gain, second.gain]
    low = bounds[0].low if bounds[0] else None
    high = bounds[1].high if bounds[1] else None
    pair = f"the {show(first.subset)} and the {show(second.subset)} questions"
    if low is None or high is None or low <= high:
        return (
            f"The gains from {pair}, the two largest, have overlapping intervals "
            f"({points_interval(first.gain)} and {points_interval(second.gain)} points): their "
            "order is not settled."
        )
    return (
        f"The intervals of the two largest gains, from {pair}, do not overlap "
        f"({points_interval(first.gain)} and {points_interval(second.gain)} points)."
    )


def _describe_unfinished(arm: Arm) -> str:
    if arm.status == "planned":
        return f"The arm “{show(arm.label)}” is planned and has not begun."
    updates = sum(run.updates for run in arm.runs)
    ending = {
        "exhausted": "ran out of questions that carry a gradient",
        "failed": "failed",
        "running": "has not finished",
    }[arm.status]
    detail = f" ({show(arm.detail)})" if arm.detail else ""
    return (
        f"The arm “{show(arm.label)}” {ending} after {plural(updates, 'update')}{detail}. It "
        "was trained less than the others: its numbers are shown, marked, and left out of the "
        "claims."
    )


def _explain_undefined(full: Arm) -> str:
    return f"Shares of the gain are undefined because {_why(full)}."


def _why(full: Arm) -> str:
    gain = full.gain
    if gain is None or gain.value is None:
        return "the full arm has not been evaluated"
    shown = f"{points_interval(gain)} points"
    if gain.value <= 0:
        return f"the full arm did not gain ({shown}), so there is nothing to have a share of"
    if gain.low is None or gain.low <= 0:
        return f"the full arm's gain ({shown}) cannot be told from zero"
    return f"the full arm's gain ({shown}) is too uncertain to divide by"


def _describe_scale(study: Study) -> str | None:
    experiment = study.experiment
    seeds = experiment.seeds if experiment else 0
    small = study.bucketed < FEW_QUESTIONS
    if not small and (experiment is None or seeds > 1):
        return None
    parts = [
        f"{plural(study.bucketed, 'training question')}",
        f"{plural(count_evaluated(study), 'held-out question')}",
    ]
    if experiment is not None:
        parts.append(plural(seeds, "seed"))
    text = f"Reduced scale: {', '.join(parts[:-1])} and {parts[-1]}."
    if experiment is None:
        return text
    if seeds == 1:
        text += (
            " With one seed, how much a result varies from one training run to the next is not "
            "measured: the intervals only cover the choice of held-out questions."
        )
    return (
        f"{text} No arm was trained on as many questions drawn at random, so a share does not show "
        "that a bucket teaches more than other questions would."
    )


def count_evaluated(study: Study) -> int:
    """Return how many held-out questions the effects rest on, or how many there are."""
    arms = study.experiment.arms if study.experiment else ()
    return max((arm.gain.questions for arm in arms if arm.gain), default=study.held_out)


def _state_gain(arm: Arm) -> str:
    questions = plural(arm.gain.questions if arm.gain else 0, "held-out question")
    text = f"gave a gain of {points_interval(arm.gain)} points on {questions}"
    return f"{text}, which cannot be told from zero" if _includes_zero(arm) else text


def _state_share(experiment: Experiment, arm: Arm) -> str:
    missing = explain_missing_share(experiment, arm)
    if missing:
        return f"; its share of the full gain is {missing}"
    return f", {percent_interval(arm.share)} of the full arm's gain"


def _seeds(arm: Arm) -> str:
    seeds = arm.gain.seeds if arm.gain else len(arm.runs)
    return "one seed" if seeds == 1 else plural(seeds, "seed")


def _has_gain(arm: Arm) -> bool:
    return arm.gain is not None and arm.gain.value is not None


def _includes_zero(arm: Arm) -> bool:
    gain = arm.gain
    return bool(
        gain and gain.low is not None and gain.high is not None and gain.low <= 0 <= gain.high
    )


def _gain(arm: Arm) -> float:
    return arm.gain.value if arm.gain is not None and arm.gain.value is not None else 0.0
