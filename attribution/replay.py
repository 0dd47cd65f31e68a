"""Replay: train an arm once more, from the base, to score what its visits did.

The ledger holds what every visit drew, so that nothing is drawn again, and another machine, which
rounds otherwise, makes the same updates to rounding. The norms of their gradients are held against
the ledger as they are made. The replay has a study file and a checkpoint of its own beside the
study, goes on after a kill, and leaves the scores in the study and nothing else.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import polars as pl

from attrib.attribution.arms import Arm
from attrib.attribution.effect import HELD_OUT
from attrib.attribution.groups import Group
from attrib.attribution.held_out_gradients import WHOLE_GRADIENTS, HeldOut, Target, as_group
from attrib.attribution.influence import (
    PROJECTED,
    DivergenceError,
    Scoring,
    ScoringTrainer,
    has_room,
)
from attrib.attribution.ledger import mark_running
from attrib.attribution.projection import Projection
from attrib.attribution.runs import Runner
from attrib.attribution.score_methods import ScoreMethod
from attrib.attribution.scores import Scores, relation_name
from attrib.attribution.trainer import Run
from attrib.attribution.visits import RecordedRollouts
from attrib.config import content_hash
from attrib.data.questions import Question
from attrib.errors import ConfigError, DataError
from attrib.progress import say, working_on
from attrib.sampling.responder import Responder
from attrib.sampling.tree import TreeEngine
from attrib.store import Store

_LEDGER = "SELECT step, gradient_norm FROM updates WHERE arm_id = $arm_id"
_LOST = """
    SELECT count(*) FROM visits LEFT JOIN (
        SELECT arm_id, visit, sum(draws) AS kept FROM visit_rollouts GROUP BY ALL
    ) USING (arm_id, visit)
    WHERE arm_id = $arm_id AND coalesce(kept, 0) != rollouts
"""
_SCORED = """
    SELECT visit, question_id, evaluated_on, score FROM visit_scores
    WHERE arm_id = $arm_id AND method = $method ORDER BY visit, evaluated_on
"""
_QUESTION = "question="  # before the id of a single held-out question
_SECONDS = "SELECT wall_seconds FROM training_runs WHERE arm_id = $arm_id"


def replay(
    store: Store,
    runner: Runner,
    arm: Arm,
    methods: Sequence[ScoreMethod],
    held_out: Sequence[Question],
    params: Mapping[str, object],
) -> dict[ScoreMethod, Scores]:
    """Repeat a finished run and return its scores by method. Only inside `store.writing`.

    Args:
        store: the study that the run is in.
        runner: of the run's experiment.
        arm: what was trained.
        methods: of the gradient.
        held_out: what visits are scored towards.
        params: `checkpoints`, `target`, `rank` and `single`.

    Raises:
        ConfigError: the arm was trained in a way that is not scored.
        DataError: the ledger lacks rollouts of it.
        DivergenceError: the run does not go as it went the first time.
    """
    _refuse_what_is_not_scored(store, arm)
    folder = Path(f"{store.path}.replays")
    name = f"{arm.arm_id}-{content_hash([sorted(methods), params])}"
    scratch, checkpoint = Store(folder / f"{name}.duckdb"), folder / f"{name}.safetensors"
    policy, responder = runner.load_base()
    projection = Projection(policy.trained, int(str(params["rank"])))
    asked = _ask(responder, held_out, int(str(params["single"])))
    count = int(str(params["checkpoints"]))
    first = runner.make_run(arm, policy, responder)
    run = replace(
        first,
        store=scratch,
        source=RecordedRollouts(store, responder, arm, first.settings.group_size),
        checkpoint=checkpoint,
        evaluate_at=tuple(place / count for place in range(1, count)),
    )
    scoring = Scoring(
        methods=tuple(methods),
        held_out=asked,
        target=Target(str(params["target"])),
        projection=projection,
        gradients_at=folder / f"{name}.gradients",
        norms=dict(store.read(_LEDGER, arm_id=arm.arm_id).iter_rows()),
        keeps_parts=has_room(run),
    )
    _say_memory(run, scoring)
    try:
        with scratch.writing("attrib attribute"), working_on(arm.name):
            with scratch.transaction() as transaction:
                mark_running(transaction, arm)
            ScoringTrainer(run, scoring).train()
    except DivergenceError:  # what is otherwise is nothing to go on from
        clean_up(store, arm)
        raise
    places = [HELD_OUT, *asked.parts]
    return {
        method: _collect(scratch, arm, method, places, is_projected=bool(params["rank"]))
        for method in methods
    }


def clean_up(store: Store, arm: Arm) -> None:
    """Remove what replays of an arm left beside the study, once its scores are in it."""
    folder = Path(f"{store.path}.replays")
    for file in folder.glob(f"{arm.arm_id}-*"):
        file.unlink()
    with suppress(OSError):  # another arm's is in there
        folder.rmdir()


def _refuse_what_is_not_scored(store: Store, arm: Arm) -> None:
    for name, scored in {"method": "grpo", "trainer": "native", "inner_epochs": 1}.items():
        if arm.params.get(name) != scored:
            raise ConfigError(
                f"The arm {arm.arm_id} was trained with --{name.replace('_', '-')} "
                f"{arm.params.get(name)}; gradients are scored with {scored} only. Choose another "
                "arm with --arm, or methods without gradients, such as --method visits."
            )
    if store.read(_LOST, arm_id=arm.arm_id).item():
        raise DataError(
            f"The study does not hold what the arm {arm.arm_id} drew: an older version trained it. "
            "Train another seed, and choose it with --arm; or methods without gradients, such as "
            "--method visits."
        )


def _ask(responder: Responder[TreeEngine], held_out: Sequence[Question], single: int) -> HeldOut:
    """Return what gradients are taken of: the questions by relation, and some one by one."""
    parts: dict[str, list[Group]] = {}
    groups = [as_group(responder, question) for question in held_out]
    for question, group in zip(held_out, groups, strict=True):
        parts.setdefault(relation_name(question.relation), []).append(group)
    return HeldOut(
        {name: tuple(parts[name]) for name in sorted(parts)},
        {_QUESTION + group.question_id: group for group in groups[:single]},
    )


def _say_memory(run: Run, scoring: Scoring) -> None:
    held_out, projection = scoring.held_out, scoring.projection
    weights = sum(weight.numel() for weight in run.policy.trained.values())
    parts = run.settings.groups if scoring.keeps_parts else 1
    scoring_visits = parts + 1 + (ScoreMethod.TRACIN_ADAM in scoring.methods)  # the mean, a moment
    whole = max(scoring_visits, WHOLE_GRADIENTS + 1)  # the mean before waits for the next
    kept = len(held_out.names)
    megabytes = (kept * projection.size * 4 + projection.nbytes) / 1e6
    say(
        f"Gradients of {weights:,} weights, projected to {projection.size:,} numbers: "
        f"{megabytes:,.0f} MB for {held_out.questions} held-out questions by relation "
        f"({len(held_out.parts)}), {len(held_out.single)} of them singly too, "
        f"{whole * weights * 4 / 1e6:,.0f} MB for whole ones, beside what training takes."
    )


def _collect(
    scratch: Store, arm: Arm, method: ScoreMethod, places: Sequence[str], *, is_projected: bool
) -> Scores:
    """Return the scores of a finished replay: of visits, summed to questions, and of pairs.

    Args:
        scratch: the replay's own study.
        arm: what was trained.
        method: of the scores.
        places: what questions are scored towards, single held-out ones apart.
        is_projected: whether projected scores differ from exact ones.
    """
    rows = scratch.read(_SCORED, arm_id=arm.arm_id, method=str(method))
    is_single = pl.col("evaluated_on").str.starts_with(_QUESTION)
    visits = rows.filter(~is_single & (pl.col("evaluated_on") != PROJECTED))
    single = rows.filter(is_single).with_columns(
        held_out_id=pl.col("evaluated_on").str.strip_prefix(_QUESTION)
    )
    pairs = single.group_by("question_id", "held_out_id").agg(pl.col("score").sum())
    exact = rows.filter(pl.col("evaluated_on") == HELD_OUT)
    projected = rows.filter(pl.col("evaluated_on") == PROJECTED)
    both = exact.join(projected, on="visit", suffix="_projected")
    return Scores(
        questions=_sum_visits(visits, arm, places),
        visits=visits,
        pairs=pairs.sort("question_id", "held_out_id"),
        seconds=float(scratch.read(_SECONDS, arm_id=arm.arm_id).item()),
        projection_r=both.select(pl.corr("score", "score_projected").fill_nan(None)).item()
        if is_projected
        else None,
    )


def _sum_visits(visits: pl.DataFrame, arm: Arm, places: Sequence[str]) -> pl.DataFrame:
    """Return the sum over visits for every question of the arm, 0 for those that took no part."""
    keys = ["question_id", "evaluated_on"]
    everything = pl.DataFrame(
        {"question_id": [question.question_id for question in arm.questions]}
    ).join(pl.DataFrame({"evaluated_on": places}), how="cross")
    sums = visits.group_by(keys).agg(pl.col("score").sum())
    return (
        everything.join(sums, on=keys, how="left")
        .with_columns(pl.col("score").fill_null(0.0))
        .sort(keys)
    )
