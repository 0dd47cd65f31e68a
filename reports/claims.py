"""The sentences at the top: one per claim, each with its interval, its n and its seeds.

Owns the wording of results and of their limits. Refuses to compare an arm where it cannot be
compared with the full arm: such arms are named as limits. The headline is about the bucket whose
questions alone gained most, hardest first where equal, among those that stand beside as many random
questions, and says whether these did as well. Without such a control it is about the largest gain.
"""

from dataclasses import dataclass

from attrib.reports.budgets import contradicts_siblings, set_side_by_side
from attrib.reports.collect_arms import bucket_order
from attrib.reports.design import GRPO, method_of
from attrib.reports.findings import (
    ALONE,
    describe_control,
    describe_exhaustion,
    describe_unfinished_runs,
    explain_missing_share,
    explain_no_shares,
)
from attrib.reports.records import Study
from attrib.reports.records_arms import Arm
from attrib.reports.records_training import Experiment
from attrib.reports.text import (
    percent,
    percent_interval,
    plural,
    points_interval,
    show,
)
from attrib.reports.values import is_defined
from attrib.roles import Role

FEW_QUESTIONS = 1000  # below this many training questions a study is called small
NEVER_CORRECT = "never-correct"
PAPER_SHARES = (0.18, 0.83)  # of the data and of the gain, as arXiv 2605.07153 reports them
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
        limits = tuple(filter(None, [_describe_left_out(study)]))
        return Claims(_describe_untrained(study), (), limits, _describe_scale(study))
    comparable = [arm for arm in experiment.arms if arm.is_compared and is_defined(arm.gain)]
    alone = [arm for arm in comparable if arm.role is Role.ONLY]
    alone.sort(key=lambda arm: (-_gain(arm), bucket_order(arm.subset)))
    full = next((arm for arm in comparable if arm.role is Role.FULL), None)
    controlled = (arm for arm in alone if experiment.find(Role.MATCHED_RANDOM, arm.subset))
    first = next(controlled, next(iter(alone), None))
    sentences = _describe_leading(study, experiment, first)
    if len(alone) > 1:
        sentences.append(_compare_first_two(alone[0], alone[1]))
    if full is not None:
        sentences.append(_describe_full(experiment, full))
    named = [arm for arm in alone if arm.subset == NEVER_CORRECT or arm is alone[0]]
    sentences += [_describe_alone(study, experiment, arm) for arm in named if arm is not first]
    leading = first.subset if first else NEVER_CORRECT
    others = [arm for arm in comparable if arm.role is Role.ALL_BUT]
    sentences += [
        _describe_without(experiment, arm)
        for arm in others
        if arm.subset in {leading, NEVER_CORRECT}
    ]
    if not sentences:
        sentences = ["No arm has finished and been evaluated yet, so nothing is claimed."]
    found = _describe_limits(experiment, full, {leading, NEVER_CORRECT})
    left_out = [one] if (one := _describe_left_out(study)) else []
    scale = _describe_scale(study)
    return Claims(sentences[0], tuple(sentences[1:]), (*left_out, *found), scale)


def share_of_data(study: Study, arm: Arm) -> float | None:
    """Return a run's questions as a share of the full arm's, without one of the bucketed ones.

    An arm whose questions are drawn anew for every seed has as many of them with each.
    """
    full = study.experiment.full if study.experiment else None
    whole = full.questions if full is not None and full.questions else study.bucketed
    return arm.questions / whole if whole and arm.runs else None


def count_evaluated(study: Study) -> int:
    """Return how many held-out questions the effects rest on, or how many there are."""
    arms = study.experiment.arms if study.experiment else ()
    return max((arm.gain.questions for arm in arms if arm.gain), default=study.held_out)


def _describe_untrained(study: Study) -> str:
    never = study.buckets[0].row
    noun = "question was" if never.questions == 1 else "questions were"
    return (
        f"{never.questions:,} of {study.bucketed:,} training {noun} never answered correctly in "
        f"{study.bucketing.k} rollouts ({percent(never.share_of_questions)}). No arm has been "
        "trained on these buckets yet, so nothing can be said about which questions produce a gain."
    )


def _describe_leading(study: Study, experiment: Experiment, first: Arm | None) -> list[str]:
    """Return the headline, if there is an arm trained on one subset alone."""
    if first is not None:
        claim = _describe_alone(study, experiment, first)
        return [f"{claim} {describe_control(experiment, first)}"]
    exhausted = [arm for arm in experiment.arms if arm.role is Role.ONLY and arm.exhausted]
    return [
        f"Training on {_name_questions(study, arm)} {describe_exhaustion(experiment, arm)}, so it "
        "is not known whether they teach anything; that is not the same as teaching nothing."
        for arm in exhausted[:1]
    ]


def _name_questions(study: Study, arm: Arm) -> str:
    portion = percent(share_of_data(study, arm))
    return (
        f"the {plural(arm.questions, f'{show(arm.subset)} question')} alone "
        f"({portion} of the training questions)"
    )


def _describe_alone(study: Study, experiment: Experiment, arm: Arm) -> str:
    subject = f"Training on {_name_questions(study, arm)}"
    return f"{subject} {_state_gain(arm)}{_state_share(experiment, arm)}; {_seeds(arm)}."


def _describe_without(experiment: Experiment, arm: Arm) -> str:
    tail = _state_share(experiment, arm) if is_defined(arm.share) else ""
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
    """Return by how much the two largest gains differ, paired on questions."""
    gains = f"({points_interval(first.gain)} and {points_interval(second.gain)} points)"
    pair = f"from the {show(first.subset)} and the {show(second.subset)} questions {gains}"
    difference = first.minus(second)
    if difference is None or difference.low is None or difference.high is None:
        return f"The two largest gains, {pair}, are not compared with each other."
    at = difference.fraction
    when = f", at {percent(at)} of the budget" if at < 1 else ""
    shown = f"{points_interval(difference)} points{when}"
    text = f"The two largest gains are {pair}; they differ by {shown}"
    if difference.includes_zero:
        return f"{text}: their order is not settled."
    more = first if difference.low > 0 else second
    return f"{text}: the {show(more.subset)} questions gave more."


def _describe_limits(experiment: Experiment, full: Arm | None, subsets: set[str]) -> list[str]:
    limits = []
    if method_of(experiment) != GRPO:
        limits.append(f"Trained by {show(method_of(experiment))}, not by reinforcement learning.")
    for arm in experiment.arms:
        if (
            arm.role is Role.ONLY
            and arm.subset in subsets
            and contradicts_siblings(experiment, arm)
        ):
            same = set_side_by_side(experiment, arm, same_method=True)
            limits.append(f"What is held equal matters here. {same}")
    planned = [arm for arm in experiment.arms if arm.status == "planned"]
    if planned:
        listed = ", ".join(f"“{show(arm.label)}”" for arm in planned)
        verb = "is planned and has" if len(planned) == 1 else "are planned and have"
        limits.append(f"{listed} {verb} not begun.")
    limits += [_describe_unfinished(experiment, arm) for arm in experiment.arms if not arm.finished]
    if any(arm.status in ("planned", "failed", "running") for arm in experiment.arms):
        limits.append("The experiment's command, the last under “Commands”, runs what is missing.")
    limits.append(_describe_ungraded(experiment))
    if full is not None and any(
        arm.share is not None and not is_defined(arm.share) and arm.is_compared
        for arm in experiment.arms
    ):
        limits.append(f"Shares of the gain are undefined because {explain_no_shares(full)}.")
    if full is None:
        there_is = "There is no finished full arm"
        if experiment.full is not None and experiment.full.status in ("done", "exhausted"):
            there_is = "The full arm cannot be compared with the others"
        limits.append(f"{there_is}, so no share of the gain is defined.")
    return [limit for limit in limits if limit]


def _describe_unfinished(experiment: Experiment, arm: Arm) -> str:
    """Return what keeps an arm from being compared like the others, '' for planned ones."""
    name = f"“{show(arm.label)}”"
    if arm.status == "planned":
        return ""
    if arm.exhausted:
        text = (
            f"{name} {describe_exhaustion(experiment, arm)}. That is not the same as teaching "
            "nothing."
        )
        if arm.is_compared:
            return f"{text} It is compared at {percent(arm.compared_at)} of the budget, no further."
        return f"{text} Its numbers tell where it ended, and are left out of the claims."
    text = f"{name}: {describe_unfinished_runs(arm)}."
    if arm.is_compared and arm.gain is not None:
        return f"{text} Its numbers rest on {plural(arm.gain.seeds, 'seed')}."
    return f"{text} It is left out of the claims."


def _describe_ungraded(experiment: Experiment) -> str:
    """Return which held-out questions are left out because no verdict was given, '' for none."""
    if not experiment.ungraded:
        return ""
    left_out = max(one.left_out for one in experiment.ungraded)
    listed = "; ".join(f"{show(one.label)}: {one.questions:,}" for one in experiment.ungraded)
    where = f"{plural(left_out, 'held-out question')}: {listed}"
    return (
        "The grader gave no verdict on answers to some held-out questions. They are left out for "
        f"all arms, runs without any verdict altogether ({where})."
    )


def _describe_left_out(study: Study) -> str:
    """Return how many sampled training questions are in no bucket, '' where all are."""
    left_out = study.bucketing.left_out
    if not left_out:
        return ""
    verb = "is" if left_out == 1 else "are"
    return (
        f"{left_out:,} of {left_out + study.bucketed:,} training questions that were to be sampled "
        f"{verb} in no bucket: fewer than {study.bucketing.k} of their rollouts have a verdict. "
        "The first command under “Commands” draws what is missing."
    )


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
    alone = [arm for arm in experiment.arms if arm.role in ALONE]
    without = [arm for arm in alone if experiment.find(Role.MATCHED_RANDOM, arm.subset) is None]
    if without and len(without) < len(alone):
        listed = ", ".join(f"“{show(arm.label)}”" for arm in without)
        text += f" No arm on as many random questions stands beside {listed}."
    return text


def _state_gain(arm: Arm) -> str:
    questions = plural(arm.gain.questions if arm.gain else 0, "held-out question")
    at = arm.compared_at
    when = f", at {percent(at)} of the budget" if at is not None and at < 1 else ""
    text = f"gave a gain of {points_interval(arm.gain)} points on {questions}{when}"
    return f"{text}, which cannot be told from zero" if _includes_zero(arm) else text


def _state_share(experiment: Experiment, arm: Arm) -> str:
    missing = explain_missing_share(experiment, arm)
    if missing:
        return f"; its share of the full gain is {missing}"
    full = experiment.full
    seeds = "" if full is None or _seeds(full) == _seeds(arm) else f" ({_seeds(full)})"
    return f", {percent_interval(arm.share)} of the full arm's gain{seeds}"


def _seeds(arm: Arm) -> str:
    seeds = arm.gain.seeds if arm.gain else len(arm.runs)
    return "one seed" if seeds == 1 else plural(seeds, "seed")


def _includes_zero(arm: Arm) -> bool:
    return arm.gain is not None and arm.gain.includes_zero


def _gain(arm: Arm) -> float:
    return arm.gain.value if arm.gain is not None and arm.gain.value is not None else 0.0
