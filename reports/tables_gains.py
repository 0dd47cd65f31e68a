"""The tables about gains seen otherwise: Shapley values, baselines without training, pass@k.

Owns which columns are shown and how their cells read, and the sentences that go with them.
"""

from collections.abc import Sequence

from attrib.reports.collect_arms import BASELINES
from attrib.reports.records_arms import JOINT, Arm, Baseline, PassAt
from attrib.reports.records_training import Experiment
from attrib.reports.settings import find_setting
from attrib.reports.tables import Column, Kind, Table, make_table
from attrib.reports.tables_arms import show_share
from attrib.reports.text import (
    UNKNOWN,
    count,
    percent_interval,
    plural,
    points,
    points_interval,
    show,
)
from attrib.reports.values import Estimate

_DECODINGS = {
    "greedy": "greedy",
    "majority": "majority vote",
    "chain_of_thought": "greedy, after a chain of thought",
}


def tabulate_shapley(experiment: Experiment) -> Table:
    """Return the Shapley value of every bucket, with the reason where a share is undefined."""
    values = [arm for arm in experiment.coalitions if arm.shapley is not None]
    reasons = [arm.shapley_share.detail if arm.shapley_share else "" for arm in values]
    remark = [Column("Remark")] if any(reasons) else []
    return make_table(
        "Shapley values, with 95\u00a0% intervals",
        [
            Column("Bucket", Kind.LABEL),
            "Shapley value, points",
            "Share of the full gain",
            "Held-out questions",
            "Seeds",
            *remark,
        ],
        [
            (
                show(arm.subset),
                points_interval(arm.shapley),
                "undefined" if reason else percent_interval(arm.shapley_share),
                count(arm.shapley.questions if arm.shapley else None),
                count(arm.shapley.seeds if arm.shapley else None),
                *([show(reason, 500)] if remark else []),
            )
            for arm, reason in zip(values, reasons, strict=True)
        ],
    )


def describe_shapley_sum(experiment: Experiment) -> str:
    """Return what the values add up to, beside the gain of the union of all buckets."""
    values = [arm.shapley.value for arm in experiment.coalitions if arm.shapley is not None]
    total = sum(value for value in values if value is not None)
    whole = max(experiment.coalitions, key=lambda arm: arm.subset.count(JOINT), default=None)
    gain = points_interval(whole.gain) if whole is not None else UNKNOWN
    return (
        f"The values add up to {points(total)} points: the gain of training on all of these "
        f"buckets, {gain}{_describe_grounds(whole.gain) if whole is not None else ''}."
    )


def tabulate_coalitions(experiment: Experiment) -> Table:
    """Return the gain of every union of buckets."""
    return make_table(
        "Every union of buckets",
        [
            "Union",
            Column("Status", Kind.STATUS),
            "Training questions",
            "Accuracy",
            "Gain, points",
            "Share of full gain",
            "Held-out questions",
            "Seeds",
        ],
        [
            (
                show(arm.subset.replace(JOINT, f" {JOINT} ")),
                arm.status,
                count(arm.questions if arm.runs else None),
                percent_interval(arm.accuracy, 1),
                points_interval(arm.gain),
                show_share(experiment, arm),
                count(arm.gain.questions if arm.gain else None),
                count(arm.gain.seeds if arm.gain else None),
            )
            for arm in experiment.coalitions
        ],
    )


def tabulate_baselines(experiment: Experiment, arms: Sequence[Arm]) -> Table:
    """Return greedy decoding, majority votes and chains of thought of these arms."""
    base = experiment.base
    samples = find_setting(experiment.settings, "samples")
    rows = []
    for arm in arms:
        greedy = Baseline("greedy", arm.accuracy, None if arm is base else arm.gain)
        for one in (greedy, *arm.baselines):
            if one.accuracy is None:
                continue
            of = f" of {samples} samples" if samples and one.decoding == "majority" else ""
            rows.append(
                (
                    show(arm.marked_label),
                    f"{_DECODINGS[one.decoding]}{of}",
                    percent_interval(one.accuracy, 1),
                    points_interval(one.gain),
                    count(one.accuracy.questions),
                    count(one.accuracy.seeds),
                )
            )
    return make_table(
        "Held-out accuracy by decoding; gain over greedy answers before RL; 95\u00a0% intervals",
        ["Arm", Column("Decoding"), "Accuracy", "Gain, points", "Held-out questions", "Seeds"],
        rows,
    )


def describe_baselines(experiment: Experiment) -> str:
    """Return what the base reaches without any training, beside the full arm's gain."""
    base, full = experiment.base, experiment.full
    measured = base.baselines if base else ()
    found = [f"{_DECODINGS[one.decoding]} {points_interval(one.gain)}" for one in measured]
    decodings = {one.decoding for one in measured}
    missing = [_DECODINGS[word] for word in BASELINES if word not in decodings]
    text = ""
    if found:
        over = _describe_grounds(measured[0].gain)
        text = f"Without any training, in points over greedy decoding{over}: {'; '.join(found)}."
    if missing:
        text += f" Not measured: {', '.join(missing)}."
    if full is not None and full.gain is not None:
        shown = f"{points_interval(full.gain)}{_describe_grounds(full.gain)}"
        text += f" Training on everything, decoded greedily: {shown}."
    return text.strip()


def _describe_grounds(gain: Estimate | None) -> str:
    if gain is None:
        return ""
    return f" ({plural(gain.questions, 'held-out question')}, {plural(gain.seeds, 'seed')})"


def tabulate_passes(experiment: Experiment) -> Table:
    """Return pass@k on held-out questions, before RL and after each arm."""
    base = [experiment.base] if experiment.base else []
    arms = [arm for arm in [*base, *experiment.arms] if arm.passes]
    k_K = sorted({one.k for arm in arms for one in arm.passes})
    rows = []
    for arm in arms:
        found = {one.k: one.estimate for one in arm.passes}
        first = arm.passes[0].estimate
        cells = [percent_interval(found.get(k)) for k in k_K]
        rows.append((show(arm.marked_label), count(first.questions), count(first.seeds), *cells))
    heads = [f"pass@{k}" for k in k_K]
    return make_table(
        "Pass@k on held-out questions, with 95\u00a0% intervals over questions",
        ["Arm", "Questions", "Seeds", *heads],
        rows,
    )


def describe_passes(experiment: Experiment) -> str:
    """Return pass@k of the full arm beside the base's, at the smallest and the largest k."""
    base, full = experiment.base, experiment.full
    if base is None or full is None or not base.passes or not full.passes:
        return ""
    before = {one.k: one for one in base.passes}
    both = [one for one in full.passes if one.k in before]
    if not both:
        return ""
    ends = list(dict.fromkeys([both[0].k, both[-1].k]))
    after = {one.k: one for one in both}
    shown = "; ".join(
        f"pass@{k} {_show(before[k])} before RL, {_show(after[k])} after training on everything"
        for k in ends
    )
    return f"{shown} ({plural(both[0].estimate.questions, 'held-out question')})."


def _show(one: PassAt) -> str:
    return percent_interval(one.estimate, 1)
