"""Replay: train an arm once more, from the base, to score what its visits did.

A run is a function of its settings, its seed and its questions, so that it can be repeated; visits
are held against the ledger as they are made. The replay has a study file and a checkpoint of its
own beside the study, goes on after a kill, and leaves the scores in the study and nothing else.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import polars as pl

from attrib.attribution.arms import Arm
from attrib.attribution.effect import HELD_OUT
from attrib.attribution.held_out_gradients import Target, held_out_groups
from attrib.attribution.influence import QUESTION, Scoring, ScoringTrainer
from attrib.attribution.ledger import begin_run
from attrib.attribution.policy import Policy
from attrib.attribution.projection import Projection
from attrib.attribution.runs import Runner
from attrib.attribution.score_methods import ScoreMethod
from attrib.attribution.scores import Scores, mean_over_relations
from attrib.config import content_hash
from attrib.data.questions import Question
from attrib.errors import ConfigError, TrainingError
from attrib.progress import say
from attrib.store import Store

_LEDGER = """
    SELECT visit, question_id, correct FROM visits WHERE arm_id = $arm_id ORDER BY visit
"""
_SCORED = """
    SELECT visit, question_id, evaluated_on, score FROM visit_scores
    WHERE arm_id = $arm_id AND method = $method ORDER BY visit, evaluated_on
"""
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
        params: `checkpoints`, `target` and `rank`.

    Raises:
        ConfigError: the arm was trained in a way that is not scored.
        TrainingError: the run does not go as it went the first time.
    """
    _refuse_what_is_not_scored(arm)
    folder = Path(f"{store.path}.replays")
    name = f"{arm.arm_id}-{content_hash([sorted(methods), params])}"
    scratch, checkpoint = Store(folder / f"{name}.duckdb"), folder / f"{name}.safetensors"
    policy, responder = runner.load_base()
    projection = Projection(policy.trained, int(str(params["rank"])))
    _say_memory(policy, projection, len(held_out), methods)
    rows = store.read(_LEDGER, arm_id=arm.arm_id)
    count = int(str(params["checkpoints"]))
    run = replace(
        runner.make_run(arm, policy, responder),
        store=scratch,
        checkpoint=checkpoint,
        evaluate_at=tuple(place / count for place in range(1, count)),
    )
    scoring = Scoring(
        methods=tuple(methods),
        held_out=tuple(held_out_groups(responder, held_out)),
        target=Target(str(params["target"])),
        projection=projection,
        gradients_at=folder / f"{name}.gradients",
        ledger={visit: (question, correct) for visit, question, correct in rows.iter_rows()},
    )
    with scratch.writing("attrib attribute"):
        begin_run(scratch, arm)
        outcome = ScoringTrainer(run, scoring).train()
    if outcome.position.visit != len(rows):
        raise TrainingError(
            f"The run cannot be repeated here: it ended after {outcome.position.visit} visits, and "
            f"had {len(rows)} the first time. Train it here: attrib ablate --db FILE"
        )
    return {method: _collect(scratch, arm, method, held_out) for method in methods}


def clean_up(store: Store, arm: Arm) -> None:
    """Remove what replays of an arm left beside the study, once its scores are in it."""
    folder = Path(f"{store.path}.replays")
    for file in folder.glob(f"{arm.arm_id}-*"):
        file.unlink()
    with suppress(OSError):  # another arm's is in there
        folder.rmdir()


def _refuse_what_is_not_scored(arm: Arm) -> None:
    for name, scored in {"method": "grpo", "trainer": "native", "inner_epochs": 1}.items():
        if arm.params.get(name) != scored:
            raise ConfigError(
                f"The arm {arm.arm_id} was trained with --{name.replace('_', '-')} "
                f"{arm.params.get(name)}; gradients are scored with {scored} only. Choose another "
                "arm with --arm, or methods without gradients, such as --method visits."
            )


def _say_memory(
    policy: Policy, projection: Projection, held_out: int, methods: Sequence[ScoreMethod]
) -> None:
    weights = sum(weight.numel() for weight in policy.trained.values())
    whole = 2 + 2 * (ScoreMethod.TRACIN_ADAM in methods)  # of a visit, of the held-out mean; Adam's
    megabytes = (held_out * projection.size * 4 + projection.nbytes) / 1e6
    say(
        f"Gradients of {weights:,} weights, projected to {projection.size:,} numbers: "
        f"{megabytes:,.0f} MB for {held_out} held-out questions, {whole * weights * 4 / 1e6:,.0f} "
        "MB for whole ones, beside what training takes."
    )


def _collect(scratch: Store, arm: Arm, method: ScoreMethod, held_out: Sequence[Question]) -> Scores:
    """Return the scores of a finished replay: of visits, summed to questions, and of pairs."""
    rows = scratch.read(_SCORED, arm_id=arm.arm_id, method=str(method))
    exact = rows.filter(pl.col("evaluated_on") == HELD_OUT)
    single = rows.filter(pl.col("evaluated_on") != HELD_OUT).with_columns(
        held_out_id=pl.col("evaluated_on").str.strip_prefix(QUESTION)
    )
    by_relation = mean_over_relations(single, held_out, "visit", "question_id")
    visits = pl.concat([exact, by_relation.select(exact.columns)])
    questions = _sum_visits(visits, arm, ["question_id", "evaluated_on"])
    pairs = single.group_by("question_id", "held_out_id").agg(pl.col("score").sum())
    projected = single.group_by("visit").agg(pl.col("score").mean().alias("projected"))
    both = exact.join(projected, on="visit")
    r = both.select(pl.corr("score", "projected").fill_nan(None)).item()
    return Scores(
        questions=questions,
        visits=visits,
        pairs=pairs.sort("question_id", "held_out_id"),
        seconds=float(scratch.read(_SECONDS, arm_id=arm.arm_id).item()),
        projection_r=r,
    )


def _sum_visits(visits: pl.DataFrame, arm: Arm, keys: list[str]) -> pl.DataFrame:
    """Return the sum over visits for every question of the arm, 0 for those that took no part."""
    everything = pl.DataFrame(
        {"question_id": [question.question_id for question in arm.questions]}
    ).join(visits.select("evaluated_on").unique(), how="cross")
    sums = visits.group_by(keys).agg(pl.col("score").sum())
    return (
        everything.join(sums, on=keys, how="left")
        .with_columns(pl.col("score").fill_null(0.0))
        .sort(keys)
    )
