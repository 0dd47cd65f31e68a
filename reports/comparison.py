"""Two studies side by side: other models, other methods, other budgets.

Owns which rows a comparison has. Refuses to subtract: the studies asked other questions of other
models, so that no difference between them has an interval here.
"""

from collections.abc import Sequence

from attrib.reports.claims import share_of_data, state_claims
from attrib.reports.design import describe_budget, describe_seeds, method_of
from attrib.reports.kinds import MEANINGS, order_parts
from attrib.reports.records import Study
from attrib.reports.records_arms import Arm
from attrib.reports.tables import Column, Kind, Table, make_table
from attrib.reports.text import (
    UNKNOWN,
    count,
    percent,
    percent_interval,
    plural,
    points_interval,
    show,
)
from attrib.roles import Role


def name_studies(studies: Sequence[Study]) -> list[str]:
    """Return a name for each: its model, numbered where two have the same."""
    models = [show(study.sample_set.model, 60) for study in studies]
    return [
        f"{model} ({place})" if models.count(model) > 1 else model
        for place, model in enumerate(models, 1)
    ]


def tabulate_comparison(studies: Sequence[Study]) -> Table:
    """Return one row a quantity and one column a study, this one first."""
    rows = [
        ("Method, budget", *(_describe_training(study) for study in studies)),
        ("Seeds", *(_seeds(study) for study in studies)),
        ("Rollouts per question", *(count(study.bucketing.k) for study in studies)),
        ("Grader", *(show(study.bucketing.grader, 40) for study in studies)),
        ("Bucket cuts", *(_cuts(study) for study in studies)),
        ("Training questions", *(count(study.bucketed) for study in studies)),
        ("Held-out questions", *(_held_out(study) for study in studies)),
    ]
    for place in range(len(studies[0].buckets)):
        summaries = [study.buckets[place] for study in studies]
        name = str(summaries[0].row.bucket)
        shares = [percent(summary.row.share_of_questions) for summary in summaries]
        rows.append((f"Share of questions: {name}", *shares))
    base = [study.experiment.base if study.experiment else None for study in studies]
    rows.append(
        (
            "Accuracy before RL",
            *(percent_interval(arm.accuracy if arm else None, 1) for arm in base),
        )
    )
    for role, subset in _list_places(studies):
        arms = [_find(study, role, subset) for study in studies]
        label = next(arm.label for arm in arms if arm is not None)
        rows.append((f"Gain, {show(label)}", *(_gain(arm) for arm in arms)))
        if role is Role.ONLY:
            pairs = [(study, arm) for study, arm in zip(studies, arms, strict=True)]
            rows.append(
                (f"Share of data → of gain, {show(label)}", *(_share(*one) for one in pairs))
            )
            rows.append((
                f"Against as many random, {show(label)}",
                *(points_interval(arm.random.difference if arm and arm.random else None)
                  for arm in arms),
            ))  # fmt: skip
    for kind, group in MEANINGS:
        cells = [_part(study, kind, group) for study in studies]
        if any(cell != UNKNOWN for cell in cells) and (kind, group) != ("reach", "greedy"):
            rows.append((f"Part of the full gain: {MEANINGS[kind, group]}", *cells))
    heads = [Column(name, Kind.TEXT) for name in name_studies(studies)]
    return make_table(
        "Studies side by side; gains in points, 95\u00a0% intervals, each study's own",
        [Column("Quantity"), *heads],
        rows,
    )


def describe_studies(studies: Sequence[Study]) -> list[str]:
    """Return each study's own headline under its name."""
    names = name_studies(studies)
    return [
        f"{name}: {state_claims(study).headline}"
        for name, study in zip(names, studies, strict=True)
    ]


def _describe_training(study: Study) -> str:
    experiment = study.experiment
    if experiment is None:
        return "not trained yet"
    return f"{show(method_of(experiment))}, {describe_budget(experiment)}"


def _seeds(study: Study) -> str:
    return describe_seeds(study.experiment.arms) if study.experiment else UNKNOWN


def _cuts(study: Study) -> str:
    return ", ".join(f"{show(one.key)} {show(one.value)}" for one in study.bucketing.cuts)


def _gain(arm: Arm | None) -> str:
    if arm is None or arm.gain is None or arm.gain.fraction == 1:
        return points_interval(arm.gain if arm else None)
    return f"{points_interval(arm.gain)} at {percent(arm.gain.fraction)} of the budget"


def _held_out(study: Study) -> str:
    full = study.experiment.full if study.experiment else None
    asked = full.gain.questions if full is not None and full.gain is not None else study.held_out
    return count(asked)


def _list_places(studies: Sequence[Study]) -> list[tuple[Role, str]]:
    """Return the arms that any study has, those that claims are about."""
    wanted = (Role.FULL, Role.ONLY, Role.ALL_BUT, Role.MATCHED_RANDOM)
    found: dict[tuple[Role, str], None] = {}
    for study in studies:
        arms = study.experiment.arms if study.experiment else ()
        found.update(dict.fromkeys((arm.role, arm.subset) for arm in arms if arm.role in wanted))
    return sorted(found, key=lambda place: wanted.index(place[0]))


def _find(study: Study, role: Role, subset: str) -> Arm | None:
    return study.experiment.find(role, subset) if study.experiment else None


def _share(study: Study, arm: Arm | None) -> str:
    if arm is None:
        return UNKNOWN
    grounds = plural(arm.gain.seeds, "seed") if arm.gain else "not evaluated"
    return f"{percent(share_of_data(study, arm))} → {percent_interval(arm.share)}; {grounds}"


def _part(study: Study, kind: str, group: str) -> str:
    full = study.experiment.full if study.experiment else None
    parts = order_parts(full.parts, kind) if full is not None else []
    found = next((part for part in parts if part.label == group), None)
    if found is None:
        return UNKNOWN
    return f"{points_interval(found.gain)} ({plural(found.gain.questions, 'question')})"
