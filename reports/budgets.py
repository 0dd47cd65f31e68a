"""The same arm under other budgets: experiments on the same buckets, side by side in sentences.

Owns which arms of two experiments are the same one (role and subset), and when they contradict each
other. In a trial on a small model the same bucket lost under one budget and gained under another,
so a claim about a bucket is a claim under a budget.
"""

from dataclasses import dataclass

from attrib.reports.design import asks_same_questions, method_of, name_experiments
from attrib.reports.findings import Finding, describe_exhaustion, judge
from attrib.reports.records_arms import Arm, Trained
from attrib.reports.records_training import Experiment
from attrib.reports.text import percent, plural, points_interval, show
from attrib.roles import Role

COMPARED = (Role.FULL, Role.ONLY)  # arms that get a sentence; the table has all


@dataclass(frozen=True, slots=True)
class Placed:
    """An arm in its experiment, under the name of that."""

    name: str
    experiment: Trained
    arm: Arm


def list_experiments(experiment: Experiment) -> list[tuple[str, Trained]]:
    """Return this experiment and its siblings, each under its name."""
    everything: list[Trained] = [experiment, *experiment.siblings]
    return list(zip(name_experiments(everything), everything, strict=True))


def place_arms(experiment: Experiment) -> list[list[Placed]]:
    """Return for each role and subset its arms in all experiments, this one's first."""
    named = list_experiments(experiment)
    keys: dict[tuple[Role, str], None] = {}
    for _, one in named:
        keys.update(dict.fromkeys((arm.role, arm.subset) for arm in one.arms))
    roles = list(Role)
    order = {key: place for place, key in enumerate(keys)}
    placed = []
    for role, subset in sorted(keys, key=lambda key: (roles.index(key[0]), order[key])):
        found = [(name, one, one.find(role, subset)) for name, one in named]
        placed.append([Placed(name, one, arm) for name, one, arm in found if arm is not None])
    return placed


def describe_siblings(experiment: Experiment) -> list[str]:
    """Return a sentence for every arm that was trained under several budgets."""
    return [
        set_side_by_side(experiment, arm)
        for arm in experiment.arms
        if arm.role in COMPARED and len(_same_arm(experiment, arm)) > 1
    ]


def set_side_by_side(experiment: Experiment, arm: Arm, *, same_method: bool = False) -> str:
    """Return what one arm gained under each budget, or that it had no signal there."""
    same = _same_arm(experiment, arm, same_method=same_method)
    grounds = {_grounds(one.arm) for one in same if one.arm.gain is not None}
    common = grounds.pop() if len(grounds) == 1 else ""
    shown = "; ".join(f"{_describe_outcome(one, common)} under {show(one.name)}" for one in same)
    other = [one.name for one in same if not asks_same_questions(experiment, one.experiment)]
    note = f" Under {', '.join(other)} other held-out questions were asked." if other else ""
    return f"“{show(arm.label)}”: {shown}{f' ({common} each)' if common else ''}.{note}"


def contradicts_siblings(experiment: Experiment, arm: Arm) -> bool:
    """Tell whether the arm came out otherwise under another budget of the same method."""
    same = _same_arm(experiment, arm, same_method=True)
    return len({judge(one.arm) for one in same} - {Finding.UNKNOWN}) > 1


def _same_arm(experiment: Experiment, arm: Arm, *, same_method: bool = False) -> list[Placed]:
    found = []
    for name, one in list_experiments(experiment):
        same = one.find(arm.role, arm.subset)
        if same_method and method_of(one) != method_of(experiment):
            continue
        if same is not None and same.runs:
            found.append(Placed(name, one, same))
    return found


def _describe_outcome(placed: Placed, common_grounds: str) -> str:
    arm = placed.arm
    signal = describe_exhaustion(placed.experiment, arm) if arm.exhausted else ""
    if arm.gain is None or arm.gain.value is None:
        return signal or f"not evaluated ({arm.status})"
    grounds = "" if common_grounds else f" ({_grounds(arm)})"
    gain = f"{points_interval(arm.gain)} points{_at(arm)}{grounds}"
    return f"{signal}; {gain}" if signal else gain


def _at(arm: Arm) -> str:
    if arm.compared_at is None:
        return " where it ended"
    return f" at {percent(arm.compared_at)} of the budget" if arm.compared_at < 1 else ""


def _grounds(arm: Arm) -> str:
    assert arm.gain is not None
    questions = plural(arm.gain.questions, "held-out question")
    return f"{questions}, {plural(arm.gain.seeds, 'seed')}"
