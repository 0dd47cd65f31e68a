"""Effects: what each arm gained, its share of the full arm's gain, and what its controls gained.

Paired on questions: every arm answers the same ones as the base. A question that the grader could
not grade for some arm is left out for all, and the count of questions says so. Arms are compared at
fractions of the budget that all their runs reached, never beyond; an arm that ran out is compared
at the largest planned fraction that it and the full arm both reached, and has no share where there
is none. Runs that failed, or have not ended, take no part; the number of seeds says so.
"""

from collections.abc import Iterator
from itertools import chain, combinations

import numpy as np
import polars as pl

from attrib.analysis.intervals import mcnemar_exact, mean_interval, wilson_interval
from attrib.analysis.paired import holm, sign_flip_test
from attrib.analysis.passk import pass_at_k
from attrib.analysis.seeds import (
    contrast_p_value,
    difference_over_seeds,
    gain_over_seeds,
    share_over_seeds,
)
from attrib.analysis.shapley import LARGEST_GAME, shapley_values
from attrib.attribution.arms import JOINT
from attrib.attribution.changes import describe_changes
from attrib.attribution.effect import HELD_OUT, Effect, make_effect, rate_interval
from attrib.attribution.evaluation import Decoding
from attrib.attribution.outcomes import (
    Arms,
    Evaluated,
    Outcomes,
    Place,
    arrange,
    base_of,
    compared_at,
    full_of,
    planned_fractions,
    read_evaluations,
)
from attrib.attribution.training_questions import (
    describe_held_out_cuts,
    describe_training_questions,
)
from attrib.errors import DataError
from attrib.roles import Role
from attrib.store import Store

CONTROLS = {Role.MATCHED_RANDOM: "random", Role.MATCHED_COMPLEMENT: "complement"}
BASELINES = {
    Decoding.MAJORITY: "majority",
    Decoding.CHAIN_OF_THOUGHT: "chain_of_thought",
}
FROM = "difference_from:"  # begins the name of a difference between two subsets alone
NO_FULL = "no run of the full arm has ended and been graded: there is no gain to be a share of"
NOT_REACHED = "no fraction of the budget was reached by all runs of this arm and of the full arm"


def estimate_effects(store: Store, experiment_id: str) -> list[Effect]:
    """Return every statistic of an experiment; `docs/store.md` lists them.

    Raises:
        DataError: the base has not been evaluated.
    """
    frame = read_evaluations(store, experiment_id)
    planned = planned_fractions(store, experiment_id)
    greedy = frame.filter(pl.col("decoding") == Decoding.GREEDY)
    if greedy.filter(pl.col("role") == Role.BASE).is_empty():
        raise DataError(f"The base of experiment {experiment_id} has not been evaluated.")
    effects: list[Effect] = []
    compared: dict[Place, float] = {}
    for evaluated_on in sorted(set(greedy["evaluated_on"])):
        arms = arrange(greedy.filter(pl.col("evaluated_on") == evaluated_on), planned)
        effects += _describe_gains(arms, evaluated_on)
        if evaluated_on == HELD_OUT:
            effects += _compare(arms)
            effects += _divide(arms)
            compared = _places_compared(arms)
    held_out = frame.filter(pl.col("evaluated_on") == HELD_OUT)
    effects += _describe_baselines(held_out)
    effects += _describe_samples(held_out)
    effects += describe_changes(store, experiment_id, compared)
    effects += describe_training_questions(store, experiment_id, greedy)
    effects += describe_held_out_cuts(store, experiment_id, greedy)
    return effects


def _places_compared(arms: Arms) -> dict[Place, float]:
    """Return the fraction of the budget at which each trained arm is compared, if there is one."""
    full = full_of(arms)
    found = {
        place: compared_at(arm.planned, full.planned if full and full.planned else arm.planned)
        for place, arm in arms.items()
        if place.role is not Role.BASE
    }
    return {place: at for place, at in found.items() if at is not None}


def _describe_gains(arms: Arms, evaluated_on: str) -> Iterator[Effect]:
    """Yield accuracy, gain and share of every arm at every fraction that its runs reached."""
    before_Q, full = base_of(arms), full_of(arms)
    if before_Q is None:
        return
    for place, arm in arms.items():
        if place.role is Role.BASE:
            accuracy = wilson_interval(int(before_Q.sum()), len(before_Q))
            yield make_effect(place, "accuracy", evaluated_on, 0.0, accuracy, 1, len(before_Q))
            continue
        for fraction, after_SQ in arm.planned.items():
            size = (len(arm.seeds), len(before_Q))
            accuracy = rate_interval(after_SQ)
            yield make_effect(place, "accuracy", evaluated_on, fraction, accuracy, *size)
            gain = gain_over_seeds(before_Q, after_SQ)
            yield make_effect(place, "gain", evaluated_on, fraction, gain, *size)
            if full is not None and place.role is not Role.FULL and fraction in full.planned:
                share = share_over_seeds(before_Q, after_SQ, full.planned[fraction])
                seeds = min(size[0], len(full.seeds))
                yield Effect(
                    place.subset,
                    place.role,
                    "share",
                    evaluated_on,
                    fraction,
                    share.value,
                    share.low,
                    share.high,
                    seeds,
                    size[1],
                    share.reason,
                )
        yield from _describe_end(place, arm, before_Q, evaluated_on)
        is_comparable = full is not None and compared_at(arm.planned, full.planned) is not None
        if place.role is not Role.FULL and not is_comparable:
            reason = NO_FULL if full is None else NOT_REACHED
            nothing, size = (None, None, None), (len(arm.seeds), len(before_Q))
            where = ("share", evaluated_on, arm.reached)
            yield Effect(place.subset, place.role, *where, *nothing, *size, reason)


def _describe_end(
    place: Place, arm: Evaluated, before_Q: Outcomes, evaluated_on: str
) -> Iterator[Effect]:
    """Yield where an arm ended that did not reach its whole budget with all seeds."""
    if arm.final is None or 1.0 in arm.planned:
        return
    size = (len(arm.seeds), len(before_Q))
    gain = gain_over_seeds(before_Q, arm.final)
    yield make_effect(place, "final_gain", evaluated_on, arm.reached, gain, *size)
    accuracy = rate_interval(arm.final)
    yield make_effect(place, "final_accuracy", evaluated_on, arm.reached, accuracy, *size)


def _compare(arms: Arms) -> list[Effect]:
    """Return tests against the base and against controls, at the fraction of the comparison.

    `gain_p` and `difference_…_p` agree with the intervals: they cover other questions and, where
    there are several, other seeds. The sign flips beside them ask about these trained models only.
    Holm's correction is over all arms against the base, and over all comparisons with controls.
    """
    before_Q = base_of(arms)
    if before_Q is None:  # no question could be graded for all
        return []
    families: dict[str, list[Effect]] = {}  # one for each kind of test
    others = []
    for place, at in _places_compared(arms).items():
        arm = arms[place]
        after_SQ, size = arm.planned[at], (len(arm.seeds), len(before_Q))
        for name, p in _test(after_SQ, before_Q[None, :], "gain").items():
            families.setdefault(name, []).append(_p_value(place, name, at, p, *size))
        for seed, after_Q in zip(arm.seeds, after_SQ, strict=True):
            p = mcnemar_exact(before_Q, after_Q)
            others.append(_p_value(place, f"mcnemar_p_seed_{seed}", at, p, 1, size[1]))
        if place.role not in (Role.ONLY, Role.MATCHED_SUBSET):
            continue
        for role, word in CONTROLS.items():
            control = arms.get(Place(role, place.subset))
            is_trimmed = Place(Role.MATCHED_SUBSET, place.subset) in arms
            if role is Role.MATCHED_COMPLEMENT and is_trimmed and place.role is Role.ONLY:
                continue  # the trimmed subset is what this control matches
            common = compared_at(arm.planned, control.planned) if control else None
            if control is None or common is None:
                continue
            first_SQ, second_SQ = arm.planned[common], control.planned[common]
            size = (min(len(first_SQ), len(second_SQ)), len(before_Q))
            difference = difference_over_seeds(first_SQ, second_SQ)
            name = f"difference_{word}"
            others.append(make_effect(place, name, HELD_OUT, common, difference, *size))
            for test, p in _test(first_SQ, second_SQ, name).items():
                family = families.setdefault(test.replace(word, "control"), [])
                family.append(_p_value(place, test, common, p, *size))
    others += _compare_subsets(arms, len(before_Q))
    return [*others, *chain.from_iterable(map(_adjust, families.values()))]


def _compare_subsets(arms: Arms, questions: int) -> Iterator[Effect]:
    """Yield for each pair how much more one subset alone gained than the other.

    Paired on questions, at the largest fraction of the budget that both reached.
    """
    alone = {place: arm for place, arm in arms.items() if place.role is Role.ONLY}
    for (place, arm), (other_place, other) in combinations(alone.items(), 2):
        at = compared_at(arm.planned, other.planned)
        if at is not None:
            difference = difference_over_seeds(arm.planned[at], other.planned[at])
            seeds = min(len(arm.seeds), len(other.seeds))
            name = f"{FROM}{other_place.subset}"
            yield make_effect(place, name, HELD_OUT, at, difference, seeds, questions)


def _test(first_SQ: Outcomes, second_SQ: Outcomes, statistic: str) -> dict[str, float]:
    """Return p-values of a difference: over questions and seeds, and of these models alone."""
    flips = p = sign_flip_test(first_SQ, second_SQ)
    if max(len(first_SQ), len(second_SQ)) > 1:
        nothing_Q = np.zeros(first_SQ.shape[1], dtype=np.bool_)  # the base cancels
        p = contrast_p_value(nothing_Q, [first_SQ, second_SQ], [1.0, -1.0])
    return {f"{statistic}_p": p, f"{statistic}_sign_flip_p": flips}


def _adjust(effects: list[Effect]) -> list[Effect]:
    """Return the p-values of a family, and beside each what Holm makes of it."""
    adjusted = holm([effect.value for effect in effects if effect.value is not None])
    return effects + [
        _p_value(
            Place(effect.role, effect.subset),
            f"{effect.statistic}_holm",
            effect.fraction,
            float(p),
            effect.seeds,
            effect.questions,
        )
        for effect, p in zip(effects, adjusted, strict=True)
    ]


def _divide(arms: Arms) -> list[Effect]:
    """Return the Shapley values of the subsets, if there is an arm for every union of them."""
    games = {
        frozenset(place.subset.split(JOINT)): arm
        for place, arm in arms.items()
        if place.role is Role.COALITION
    }
    players = frozenset().union(*games)
    before_Q = base_of(arms)
    if before_Q is None or not games or len(players) > LARGEST_GAME:
        return []
    if len(games) != 2 ** len(players) - 1:
        return []
    common = set.intersection(*(set(arm.planned) for arm in games.values()))
    if not common:
        return []
    at = max(common)
    after = {coalition: arm.planned[at] for coalition, arm in games.items()}
    size = (min(len(outcomes) for outcomes in after.values()), len(before_Q))
    effects = []
    for value in shapley_values(before_Q, after):
        place = Place(Role.COALITION, value.player)
        effects.append(make_effect(place, "shapley", HELD_OUT, at, value.gain, *size))
        share = value.share
        effects.append(
            Effect(
                value.player,
                Role.COALITION,
                "shapley_share",
                HELD_OUT,
                at,
                share.value,
                share.low,
                share.high,
                *size,
                share.reason,
            )
        )
    return effects


def _describe_baselines(frame: pl.DataFrame) -> list[Effect]:
    """Return accuracy and gain over the base's greedy answers, of votes and chains of thought."""
    effects = []
    base = frame.filter(
        (pl.col("role") == Role.BASE) & (pl.col("decoding") == Decoding.GREEDY)
    ).with_columns(pl.lit("before").alias("subset"))
    for decoding, word in BASELINES.items():
        mine = frame.filter(pl.col("decoding") == decoding)
        both = pl.concat([base, mine])
        answered = mine["question_id"].unique().implode()
        arms = arrange(both.filter(pl.col("question_id").is_in(answered)))
        before = arms.pop(Place(Role.BASE, "before"), None)
        if before is None or before.final is None:
            continue
        before_Q = before.final[0]
        for place, arm in arms.items():
            if arm.final is None:
                continue
            size = (len(arm.seeds), len(before_Q))
            name, at = f"{word}_accuracy", arm.reached
            effects.append(make_effect(place, name, HELD_OUT, at, rate_interval(arm.final), *size))
            gain = gain_over_seeds(before_Q, arm.final)
            effects.append(make_effect(place, f"{word}_gain", HELD_OUT, at, gain, *size))
    return effects


def _describe_samples(frame: pl.DataFrame) -> list[Effect]:
    """Return pass@k of sampled answers for k = 1, 2, 4, … m, averaged over seeds.

    The intervals are Student's over questions and do not cover the spread between seeds.
    """
    answer = ["role", "subset", "seed", "question_id", "rollout"]
    sampled = (
        frame.filter(pl.col("decoding") == Decoding.SAMPLE)
        .sort(*answer, "fraction")  # the end of a run may stand for two of them
        .unique(answer, keep="last", maintain_order=True)
    )
    effects = []
    for (role, subset), rows in sampled.group_by(["role", "subset"], maintain_order=True):
        counts = (
            rows.group_by("seed", "question_id")
            .agg(
                n=pl.col("verdict").is_in(["correct", "incorrect"]).sum(),
                correct=(pl.col("verdict") == "correct").sum(),
            )
            .sort("seed", "question_id")
        )
        most = int(counts["n"].max())  # type: ignore[arg-type]
        short = counts.filter(pl.col("n") < most)["question_id"].unique().implode()
        counts = counts.filter(~pl.col("question_id").is_in(short))
        if counts.is_empty() or most < 1:
            continue
        k_K = np.unique([*(2**i for i in range(most.bit_length())), most])
        value_QK = np.mean(
            [
                pass_at_k(part["n"].to_numpy(), part["correct"].to_numpy(), k_K)
                for _, part in counts.group_by("seed", maintain_order=True)
            ],
            axis=0,
        )
        place = Place(Role(str(role)), str(subset))
        size = (counts["seed"].n_unique(), len(value_QK))
        at = float(rows["fraction"].fill_null(0.0).mean())  # type: ignore[arg-type]
        for k, value_Q in zip(k_K, value_QK.T, strict=True):
            interval = mean_interval(value_Q)
            effects.append(make_effect(place, f"pass@{k}", HELD_OUT, at, interval, *size))
    return effects


def _p_value(
    place: Place, statistic: str, fraction: float, p: float, seeds: int, questions: int
) -> Effect:
    return Effect(
        place.subset, place.role, statistic, HELD_OUT, fraction, p, None, None, seeds, questions
    )
