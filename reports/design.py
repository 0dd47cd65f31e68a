"""What an experiment held equal, and what tells it from its siblings, in words.

Reads the settings that training records. The paper (arXiv 2605.07153) does not state what it held
equal between its subsets, and the choice can turn the conclusion around: hence the words.
"""

from collections import Counter
from collections.abc import Sequence

from attrib.reports.records_arms import Arm, Trained
from attrib.reports.settings import find_setting
from attrib.reports.text import count, plural, show
from attrib.roles import Role

GRPO = "grpo"
UNKNOWN_BUDGET = "budget not recorded"
NOT_STATED = (
    "The paper does not state what it held equal; this is our choice, and another can turn the "
    "conclusion around."
)
_FILLS = {"informative": "filled", "none": "plain"}
_UNITS = {  # kind of budget: its unit, what follows it, what it means, its name among the others
    "updates": ("update", "", "", "updates"),
    "epochs": ("visit", " of each of its questions", "larger arms are trained for longer", ""),
    "informative-groups": (
        "informative group",
        "",
        "visits that a gradient is taken from",
        "informative groups",
    ),
    "rollouts": ("training rollout", "", "", "rollouts"),
}
_QUANTITIES = ("rollouts", "updates", "informative groups", "gradient tokens", "time")
_SHOWN_OTHERWISE = {"training_questions", "budget", "fill", "method"}


def describe_held_equal(experiment: Trained) -> str:
    """Return what all arms had in common, from the settings the trainer records."""
    budget = find_setting(experiment.settings, "budget")
    kind, _, amount = (budget or "").partition("=")
    if kind not in _UNITS or not amount.isdecimal():
        return f"See the settings below. {NOT_STATED}"
    unit, rest, meaning, name = _UNITS[kind]
    text = f"{plural(int(amount), unit)}{rest} in every run{f' ({meaning})' if meaning else ''}"
    text += f", {_describe_batches(experiment)}."
    limit = find_setting(experiment.settings, "max_rollouts")
    if limit is not None and method_of(experiment) == GRPO and kind != "rollouts":
        text += (
            f" A run that cannot use its budget within {count(int(limit))} rollouts ends as "
            "exhausted."
        )
    *left, last = (one for one in _QUANTITIES if one != name)
    listed = f"{', '.join(left)} and {last}"
    return f"{text} What is not held equal ({listed}) is listed for every run. {NOT_STATED}"


def _describe_batches(experiment: Trained) -> str:
    groups = find_setting(experiment.settings, "groups")
    size = find_setting(experiment.settings, "group_size")
    fill = find_setting(experiment.settings, "fill")
    if groups is None or size is None:
        return "in batches whose size was not recorded"
    each = f" of {size} rollouts each" if method_of(experiment) == GRPO else ""
    if fill == "informative":
        return (
            f"in batches of {groups} informative groups{each}: questions are visited until a batch "
            "is filled"
        )
    if fill == "none":
        return f"in plain batches of {groups} visits{each}, whatever they give"
    return f"in batches of {groups} groups{each}"


def method_of(experiment: Trained) -> str:
    """Return how the arms were trained: `grpo`, `sft`, `rft` or `dpo`."""
    return find_setting(experiment.settings, "method") or GRPO


def describe_budget(experiment: Trained) -> str:
    """Return `informative-groups=32 (filled)`, the method before it where it is not GRPO."""
    budget = find_setting(experiment.settings, "budget") or UNKNOWN_BUDGET
    fill = find_setting(experiment.settings, "fill")
    method = method_of(experiment)
    words = f"{budget} ({_FILLS.get(fill, show(fill))})" if fill else budget
    return show(words if method == GRPO else f"{method}, {words}")


def name_experiments(experiments: Sequence[Trained]) -> list[str]:
    """Return a name for each: its budget, with what else differs where that is not enough."""
    names = [describe_budget(one) for one in experiments]
    counts = Counter(names)
    longer = []
    for name, one in zip(names, experiments, strict=True):
        if counts[name] > 1:
            rivals = [two for two in experiments if describe_budget(two) == name]
            found = describe_differences(one, rivals)
            name = f"{name}, {found}" if found else name
        longer.append(name)
    counts = Counter(longer)
    return [
        f"{name}, {one.experiment_id[:6]}" if counts[name] > 1 else name
        for name, one in zip(longer, experiments, strict=True)
    ]


def describe_differences(experiment: Trained, rivals: Sequence[Trained]) -> str:
    """Return an experiment's settings that not all of the rivals share, beside its budget."""
    mine = _comparable_settings(experiment)
    others = [_comparable_settings(one) for one in rivals]
    differing = [
        f"{key}={value}"
        for key, value in sorted(mine.items())
        if key not in _SHOWN_OTHERWISE and any(other.get(key) != value for other in others)
    ]
    return show(", ".join(differing), 200)


def _comparable_settings(experiment: Trained) -> dict[str, str]:
    """Return settings by path, hashes of question sets left out: they are compared apart."""
    return {
        setting.key: setting.value
        for setting in experiment.settings
        if setting.key not in {"evaluation.held_out", "evaluation.training", "evaluation.transfer"}
    }


def asks_same_questions(experiment: Trained, other: Trained) -> bool:
    """Tell whether both were evaluated on the same held-out questions."""
    one, two = (find_setting(each.settings, "held_out") for each in (experiment, other))
    return one == two


def describe_seeds(arms: Sequence[Arm]) -> str:
    """Return `3 seeds`, or `1 to 3 seeds` where arms differ; imported arms have none."""
    numbers = {len(arm.runs) for arm in arms if arm.runs and arm.role is not Role.IMPORTED}
    if not numbers:
        return "no seed yet"
    fewest, most = min(numbers), max(numbers)
    return plural(most, "seed") if fewest == most else f"{fewest} to {plural(most, 'seed')}"


def describe_training_seeds(arms: Sequence[Arm]) -> str:
    """Return the seeds that runs were trained with: `0, 1, 2`, or that there are none yet."""
    trained = (arm for arm in arms if arm.role is not Role.IMPORTED)
    seeds = sorted({run.seed for arm in trained for run in arm.runs})
    return ", ".join(str(seed) for seed in seeds) or "none yet"
