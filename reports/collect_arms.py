"""Arms from what was read of experiments: which of their numbers are shown, and how far they came.

Owns which fraction of the budget an arm is shown at: the largest planned one that all of its runs,
and all of the full arm's, have reached; where there is none, the end of its runs. The numbers come
from `effects` and are never computed again here, save the accuracy of a single run. Only reads.
"""

from collections.abc import Iterable, Mapping

import polars as pl

from attrib.analyses import ANSWERS, CHANGED, KINDS, LENGTHS, MASSES
from attrib.analysis.buckets import Bucket
from attrib.analysis.intervals import wilson_interval
from attrib.reports.collect_effects import Effects, Material, Place, read_material
from attrib.reports.records_arms import (
    JOINT,
    Arm,
    Baseline,
    BudgetPoint,
    Comparison,
    Elsewhere,
    GroupPart,
    PassAt,
    Run,
    Trained,
)
from attrib.reports.settings import read_settings
from attrib.reports.values import Estimate
from attrib.roles import Role
from attrib.store import Store

HELD_OUT = "held-out"
GROUP = "held-out:"  # begins the name of a group of held-out questions
_FROM = "difference_from:"  # begins the name of a difference between two subsets alone
TRAINING = "train:"  # begins the name of a bucket in `effects.evaluated_on`
_ANSWERED = (*ANSWERS, *LENGTHS, *MASSES, *(f"{name}_change" for name in CHANGED))
BASELINES = ("majority", "chain_of_thought")
EVALUATED = ("done", "exhausted")  # runs in any other state have no part in the effects


def collect_trained(store: Store, bucketing_id: str) -> list[Trained]:
    """Return every experiment on these buckets with its arms, the newest first.

    Raises:
        StoreError: the study cannot be read.
    """
    return [_assemble(material) for material in read_material(store, bucketing_id)]


def _assemble(material: Material) -> Trained:
    places = [place for place in material.runs if place[0] in set(Role)]
    full = next((place for place in places if place[0] == Role.FULL), None)
    reached = frozenset[float]() if full is None else _comparable(material, full)
    everything = [_make_arm(material, place, reached) for place in places]
    roles = list(Role)
    everything.sort(key=lambda arm: (roles.index(arm.role), _subset_order(arm.subset)))
    apart = (Role.BASE, Role.COALITION)
    return Trained(
        experiment_id=material.experiment_id,
        settings=material.settings,
        created_at=material.created_at,
        base=next((arm for arm in everything if arm.role is Role.BASE), None),
        arms=tuple(arm for arm in everything if arm.role not in apart),
        coalitions=tuple(arm for arm in everything if arm.role is Role.COALITION),
    )


def bucket_order(name: str) -> tuple[int, str]:
    """Return the sort key of a bucket: hardest first, names of other groupings after them."""
    known = [bucket.value for bucket in Bucket]
    return (known.index(name), "") if name in known else (len(known), name)


def _subset_order(subset: str) -> tuple[int, list[tuple[int, str]]]:
    members = subset.split(JOINT) if all(map(_is_bucket, subset.split(JOINT))) else [subset]
    return (len(members), [bucket_order(member) for member in members])


def _is_bucket(name: str) -> bool:
    return name in set(Bucket)


def _comparable(material: Material, place: Place) -> frozenset[float]:
    """Return the planned fractions with a gain: those that all runs of the arm reached."""
    gains = material.effects.get(place, {}).get(("gain", HELD_OUT), {})
    return frozenset(
        fraction
        for fraction in gains
        if (fraction > 0.0 if material.planned is None else fraction in material.planned)
    )


def _make_arm(material: Material, place: Place, full_reached: frozenset[float]) -> Arm:
    effects = material.effects.get(place, {})
    own = _comparable(material, place)
    at = max(own & full_reached if full_reached else own, default=None)

    def find(statistic: str, on: str = HELD_OUT) -> Estimate | None:
        return _latest(effects.get((statistic, on), {}))

    return Arm(
        role=Role(place[0]),
        subset=place[1],
        runs=tuple(_make_run(material, effects, row, at) for row in material.runs[place]),
        compared_at=at,
        accuracy=_choose(effects, "accuracy", HELD_OUT, at),
        gain=_choose(effects, "gain", HELD_OUT, at),
        share=_choose(effects, "share", HELD_OUT, at),
        gain_p=_latest(effects.get(("gain_p_holm", HELD_OUT), {}), own),
        random=_compare(effects, "difference_random", own),
        complement=_compare(effects, "difference_complement", own),
        shapley=find("shapley"),
        shapley_share=find("shapley_share"),
        points=tuple(_make_points(material, place, own)),
        elsewhere=tuple(_find_elsewhere(effects, at)),
        baselines=tuple(
            Baseline(word, find(f"{word}_accuracy"), find(f"{word}_gain"))
            for word in BASELINES
            if find(f"{word}_accuracy") is not None
        ),
        passes=tuple(
            sorted(
                (
                    PassAt(int(statistic.removeprefix("pass@")), estimate)
                    for (statistic, _), found in effects.items()
                    if statistic.startswith("pass@") and (estimate := _latest(found)) is not None
                ),
                key=lambda one: one.k,
            )
        ),
        parts=tuple(_find_parts(effects, at)),
        answers={name: one for name in _ANSWERED if (one := find(name)) is not None},
        others={
            statistic.removeprefix(_FROM): estimate
            for (statistic, _), found in effects.items()
            if statistic.startswith(_FROM) and (estimate := _latest(found)) is not None
        },
    )


def _latest(
    by_fraction: Mapping[float, Estimate], among: frozenset[float] | None = None
) -> Estimate | None:
    """Return the estimate at the largest fraction, or at the largest `among` these."""
    fractions = by_fraction.keys() if among is None else by_fraction.keys() & among
    return by_fraction[max(fractions)] if fractions else None


def _choose(effects: Effects, statistic: str, on: str, at: float | None) -> Estimate | None:
    """Return a statistic at the fraction of the comparison, else at the end of the runs."""
    found = effects.get((statistic, on), {})
    if at in found:
        return found[at]
    return _latest(effects.get((f"final_{statistic}", on), {})) or _latest(found)


def _compare(effects: Effects, statistic: str, own: frozenset[float]) -> Comparison | None:
    """Return a comparison with a control, if it was made at a planned fraction."""
    difference = _latest(effects.get((statistic, HELD_OUT), {}), own)
    if difference is None:
        return None
    p = effects.get((f"{statistic}_p_holm", HELD_OUT), {})
    return Comparison(difference, p.get(difference.fraction))


def _make_run(
    material: Material, effects: Effects, row: Mapping[str, object], at: float | None
) -> Run:
    values = dict(row)
    settings = read_settings(str(values.pop("params")))
    outcomes = material.accuracies.get(str(row["arm_id"]), {})
    accuracy = None
    shown_at = at if at in outcomes else max(outcomes, default=None)
    if shown_at is not None and outcomes[shown_at][1]:
        correct, graded = outcomes[shown_at]
        own = wilson_interval(correct, graded)
        accuracy = Estimate(own.value, own.low, own.high, 1, graded, shown_at)
    p = effects.get((f"mcnemar_p_seed_{row['seed']}", HELD_OUT), {})
    return Run(**values, settings=settings, accuracy=accuracy, mcnemar_p=_latest(p))  # type: ignore[arg-type]


def _make_points(
    material: Material, place: Place, comparable: frozenset[float]
) -> Iterable[BudgetPoint]:
    """Yield the arm's gain along its budget, and where its runs ended if they ended apart."""
    if place[0] in (Role.BASE, Role.IMPORTED):
        return
    effects = material.effects.get(place, {})
    arm_ids = [row["arm_id"] for row in material.runs[place] if row["status"] in EVALUATED]
    milestones = material.milestones.filter(pl.col("arm_id").is_in(arm_ids))
    for fraction in sorted(comparable):
        reached = milestones.filter(pl.col("fraction") == fraction)
        if not reached.is_empty():
            yield _average(reached, effects["gain", HELD_OUT][fraction], planned=True)
    final = _latest(effects.get(("final_gain", HELD_OUT), {}))
    ends = milestones.group_by("arm_id", maintain_order=True).last()
    if final is not None and final.fraction not in comparable and not ends.is_empty():
        yield _average(ends, final, planned=False)


def _average(reached: pl.DataFrame, gain: Estimate, *, planned: bool) -> BudgetPoint:
    counts = ("updates", "rollouts", "informative_groups", "gradient_tokens")
    means = reached.select(pl.col(counts).mean()).row(0, named=True)
    return BudgetPoint(planned=planned, runs=reached.height, gain=gain, **means)


def _find_parts(effects: Effects, at: float | None) -> Iterable[GroupPart]:
    """Yield the parts of a gain by kind of group, in the order of `KINDS`."""
    for on in sorted({on for statistic, on in effects if statistic == "gain_part"}):
        kind, _, label = on.removeprefix(GROUP).partition("=")
        gain = _choose(effects, "gain_part", on, at)
        if kind in KINDS and gain is not None:
            yield GroupPart(
                kind=kind,
                label=label,
                gain=gain,
                learned=_choose(effects, "learned_part", on, at),
                lost=_choose(effects, "lost_part", on, at),
                within=_choose(effects, "gain", on, at),
            )


def _find_elsewhere(effects: Effects, at: float | None) -> Iterable[Elsewhere]:
    """Yield training questions by bucket, hardest first, then other data sets by name."""
    asked = ("accuracy", "final_accuracy")  # the others are of groups of these questions
    places = {on for statistic, on in effects if statistic in asked} - {HELD_OUT}
    buckets = [on for on in places if on.startswith(TRAINING)]
    buckets.sort(key=lambda on: bucket_order(on.removeprefix(TRAINING)))
    for on in [*buckets, *sorted(places - set(buckets))]:
        yield Elsewhere(
            place=on.removeprefix(TRAINING),
            is_training=on.startswith(TRAINING),
            accuracy=_choose(effects, "accuracy", on, at),
            gain=_choose(effects, "gain", on, at),
        )
