"""Effects from hand-made evaluations, against direct calls of the statistics."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from attrib.analysis.intervals import mcnemar_exact, mean_interval, wilson_interval
from attrib.analysis.paired import holm, sign_flip_test
from attrib.analysis.passk import pass_at_k
from attrib.analysis.seeds import (
    contrast_p_value,
    difference_over_seeds,
    gain_over_seeds,
    share_over_seeds,
)
from attrib.analysis.shapley import shapley_values
from attrib.attribution.effect import Effect, store_effects
from attrib.attribution.effects import NO_FULL, NOT_REACHED, estimate_effects
from attrib.data.library import store_questions
from attrib.data.questions import AnswerType, Question, Split
from attrib.errors import DataError
from attrib.roles import Role
from attrib.store import Store

QUESTIONS = 40
SUBSET = "never-correct"

Outcomes = NDArray[np.bool_]


def outcomes(correct: int, seed: int = 0, questions: int = QUESTIONS) -> Outcomes:
    """Return so many right answers; other seeds are right about others of them."""
    return np.roll(np.arange(questions) < correct, seed)


@dataclass
class Run:
    """A run with its greedy answers to the held-out questions, by fraction of the budget."""

    role: Role
    subset: str
    seed: int
    held_out: Mapping[float, Outcomes]
    status: str = "done"
    training: Outcomes | None = None
    elsewhere: Outcomes | None = None
    samples: NDArray[np.bool_] | None = None
    """(questions, rollouts)."""
    others: Mapping[str, Outcomes] = field(default_factory=dict)
    """By decoding."""
    ungraded: tuple[int, ...] = ()
    """Held-out questions that could not be graded at its end."""

    @property
    def arm_id(self) -> str:
        return f"{self.role}-{self.subset}-{self.seed}"


BASE = Run(Role.BASE, "none", 0, {0.0: outcomes(10)})


def full(seed: int = 0, correct: int = 30, **more: object) -> Run:
    return Run(Role.FULL, "full", seed, {1.0: outcomes(correct, seed)}, **more)  # type: ignore[arg-type]


def only(seed: int = 0, correct: int = 20, **more: object) -> Run:
    return Run(Role.ONLY, SUBSET, seed, {1.0: outcomes(correct, seed)}, **more)  # type: ignore[arg-type]


def make_questions() -> list[Question]:
    places = (("h", "d", Split.HELD_OUT), ("t", "d", Split.TRAIN), ("x", "e", Split.HELD_OUT))
    return [
        Question(
            f"{letter}{i:02}",
            dataset,
            split,
            "?",
            ("x",),
            AnswerType.NAME,
            None,
            None,
            f"{i}",
            None,
        )
        for letter, dataset, split in places
        for i in range(QUESTIONS)
    ]


def evaluations(run: Run) -> pl.DataFrame:
    rows: list[tuple[int, str, str, int, str]] = []
    last = len(run.held_out) if run.role is not Role.BASE else 0

    def answer(step: int, letter: str, decoding: str, rollout: int, right_Q: Outcomes) -> None:
        for place, right in enumerate(right_Q):
            verdict = "correct" if right else "incorrect"
            if letter == "h" and place in run.ungraded and step == last:
                verdict = "ungraded"
            rows.append((step, f"{letter}{place:02}", decoding, rollout, verdict))

    for step, (_, right_Q) in enumerate(sorted(run.held_out.items()), start=min(last, 1)):
        answer(step, "h", "greedy", 0, right_Q)
    if run.training is not None:
        answer(last, "t", "greedy", 0, run.training)
    if run.elsewhere is not None:
        answer(last, "x", "greedy", 0, run.elsewhere)
    for rollout, right_Q in enumerate(run.samples.T if run.samples is not None else []):
        answer(last, "h", "sample", rollout, right_Q)
    for decoding, right_Q in run.others.items():
        answer(last, "h", decoding, 0, right_Q)
    columns = ["step", "question_id", "decoding", "rollout", "verdict"]
    return pl.DataFrame(rows, schema=columns, orient="row").with_columns(
        arm_id=pl.lit(run.arm_id),
        text=pl.lit("text"),
        detail=pl.lit(""),
        eval_grader=pl.lit("match-0"),
    )


@pytest.fixture
def make_study(open_store: Callable[..., Store]) -> Callable[..., Store]:
    """Return `make_study(*runs)`: a study with the experiment "e"."""

    def make(*runs: Run) -> Store:
        store = open_store()
        training = [f"t{i:02}" for i in range(QUESTIONS)]
        buckets = pl.DataFrame({"question_id": training}).with_columns(
            bucketing_id=pl.lit("b"),
            n=16,
            correct=0,
            bucket=pl.Series([SUBSET] * 10 + ["rarely-correct"] * 30),
            p_low=0.0,
            p_high=1.0,
        )
        params = '{"evaluate_at": [0.5, 1.0]}'
        experiment = {"experiment_id": "e", "bucketing_id": "b", "params": params}
        with store.writing("test"):
            store_questions(store, "d", "d", "hash", make_questions())
            with store.transaction() as transaction:
                transaction.append("buckets", buckets)
                transaction.append("experiments", pl.DataFrame([experiment]))
                for run in runs:
                    _write_run(transaction, run)
        return store

    return make


def _write_run(transaction: object, run: Run) -> None:
    arm = {"arm_id": run.arm_id}
    place = {**arm, "experiment_id": "e", "subset": run.subset, "role": str(run.role)}
    row = {**arm, "method": "grpo", "seed": run.seed, "params": "{}", "questions": 3}
    first = 0 if run.role is Role.BASE else 1
    costs = ("visits", "rollouts", "informative_groups", "gradient_tokens", "seconds")
    milestones = [
        {**arm, "fraction": fraction, "step": step, **dict.fromkeys(costs, 0)}
        for step, fraction in enumerate(sorted(run.held_out), start=first)
    ]
    append: Callable[[str, pl.DataFrame], None] = transaction.append  # type: ignore[attr-defined]
    append("arm_roles", pl.DataFrame([place]))
    append("training_runs", pl.DataFrame([{**row, "status": run.status}]))
    append("milestones", pl.DataFrame(milestones))
    append("evaluations", evaluations(run))


def find(
    effects: Sequence[Effect], role: Role, statistic: str, subset: str = "", **more: object
) -> Effect:
    """Return the one effect of that name on held-out questions, unless `more` says otherwise."""
    wanted = {"evaluated_on": "held-out", **more}
    [found] = [
        e
        for e in effects
        if (e.role, e.statistic) == (role, statistic)
        and (not subset or e.subset == subset)
        and all(getattr(e, name) == value for name, value in wanted.items())
    ]
    return found


def of_everything(effects: Sequence[Effect]) -> list[Effect]:
    """Return the effects but those of groups of held-out questions (see test_changes)."""
    return [e for e in effects if not e.evaluated_on.startswith("held-out:")]


def interval_of(effect: Effect) -> tuple[object, object, object]:
    return effect.value, effect.low, effect.high


def test_one_seed_is_the_paired_statistics(make_study: Callable[..., Store]) -> None:
    effects = of_everything(estimate_effects(make_study(BASE, full(), only()), "e"))
    base, whole, part = outcomes(10), outcomes(30)[None], outcomes(20)[None]

    accuracy = find(effects, Role.BASE, "accuracy")
    wilson = wilson_interval(10, QUESTIONS)
    assert interval_of(accuracy) == (0.25, wilson.low, wilson.high)
    assert (accuracy.fraction, accuracy.seeds) == (0.0, 1)
    wilson = wilson_interval(20, QUESTIONS)
    assert interval_of(find(effects, Role.ONLY, "accuracy")) == (0.5, wilson.low, wilson.high)
    gain, expected = find(effects, Role.ONLY, "gain"), gain_over_seeds(base, part)
    assert interval_of(gain) == (0.25, expected.low, expected.high)
    share, ratio = find(effects, Role.ONLY, "share"), share_over_seeds(base, part, whole)
    assert share.value == pytest.approx(0.5)
    assert interval_of(share) == (ratio.value, ratio.low, ratio.high)
    assert find(effects, Role.FULL, "mcnemar_p_seed_0").value == mcnemar_exact(base, whole[0])
    assert {e.questions for e in effects} == {QUESTIONS}
    assert {e.seeds for e in effects} == {1}
    told = [e for e in effects if not e.statistic.startswith("answer_")]
    assert {(e.role, e.statistic) for e in told} == {
        (Role.BASE, "accuracy"),
        (Role.ONLY, "share"),
        *(
            (role, name)
            for role in (Role.FULL, Role.ONLY)
            for name in (
                *("accuracy", "gain", "mcnemar_p_seed_0", "gain_p", "gain_p_holm"),
                *("gain_sign_flip_p", "gain_sign_flip_p_holm"),
            )
        ),
    }


def test_several_seeds_are_the_statistics_over_seeds(make_study: Callable[..., Store]) -> None:
    seeds = (0, 1, 5)
    runs = [full(seed) for seed in seeds] + [only(seed, 18 + seed) for seed in seeds]
    effects = estimate_effects(make_study(BASE, *reversed(runs)), "e")
    base = outcomes(10)
    whole = np.stack([outcomes(30, seed) for seed in seeds])
    part = np.stack([outcomes(18 + seed, seed) for seed in seeds])

    gain, expected = find(effects, Role.ONLY, "gain"), gain_over_seeds(base, part)
    assert interval_of(gain) == (expected.value, expected.low, expected.high)
    nothing = np.zeros(QUESTIONS, dtype=np.bool_)
    accuracy, level = find(effects, Role.ONLY, "accuracy"), gain_over_seeds(nothing, part)
    assert interval_of(accuracy) == (level.value, level.low, level.high)
    share, ratio = find(effects, Role.ONLY, "share"), share_over_seeds(base, part, whole)
    assert interval_of(share) == (ratio.value, ratio.low, ratio.high)
    flips = find(effects, Role.ONLY, "gain_sign_flip_p")
    assert flips.value == sign_flip_test(part, base)
    p = find(effects, Role.ONLY, "gain_p")
    assert p.value == pytest.approx(contrast_p_value(base, [part], [1.0]))
    assert (p.low, p.high) == (None, None)
    for seed, after in zip(seeds, part, strict=True):
        mine = find(effects, Role.ONLY, f"mcnemar_p_seed_{seed}")
        assert (mine.value, mine.seeds) == (mcnemar_exact(base, after), 1)
    assert {e.seeds for e in effects if e.statistic in ("gain", "share", "gain_p")} == {3}


def test_controls_are_compared_with_what_they_match(make_study: Callable[..., Store]) -> None:
    random = [Run(Role.MATCHED_RANDOM, SUBSET, s, {1.0: outcomes(25, s + 3)}) for s in (0, 1)]
    outside = [Run(Role.MATCHED_COMPLEMENT, SUBSET, s, {1.0: outcomes(15, s)}) for s in (0, 1)]
    parts = [only(0), only(1)]
    effects = estimate_effects(make_study(BASE, full(), *parts, *random, *outside), "e")
    part = np.stack([outcomes(20, s) for s in (0, 1)])
    for word, control in (
        ("random", np.stack([outcomes(25, s + 3) for s in (0, 1)])),
        ("complement", np.stack([outcomes(15, s) for s in (0, 1)])),
    ):
        expected = difference_over_seeds(part, control)
        found = find(effects, Role.ONLY, f"difference_{word}")
        assert interval_of(found) == (expected.value, expected.low, expected.high)
        assert found.seeds == 2
        p = find(effects, Role.ONLY, f"difference_{word}_p")
        nothing = np.zeros(QUESTIONS, dtype=np.bool_)
        assert p.value == contrast_p_value(nothing, [part, control], [1.0, -1.0])
        flips = find(effects, Role.ONLY, f"difference_{word}_sign_flip_p")
        assert flips.value == sign_flip_test(part, control)


def test_a_trimmed_subset_is_what_the_complement_matches(make_study: Callable[..., Store]) -> None:
    trimmed = Run(Role.MATCHED_SUBSET, SUBSET, 0, {1.0: outcomes(18)})
    outside = Run(Role.MATCHED_COMPLEMENT, SUBSET, 0, {1.0: outcomes(15, 4)})
    random = Run(Role.MATCHED_RANDOM, SUBSET, 0, {1.0: outcomes(14)})
    effects = estimate_effects(make_study(BASE, full(), only(), trimmed, outside, random), "e")
    differences = {(e.role, e.statistic) for e in effects if "difference" in e.statistic}
    assert (Role.MATCHED_SUBSET, "difference_complement") in differences
    assert (Role.ONLY, "difference_complement") not in differences
    assert (Role.ONLY, "difference_random") in differences
    found = find(effects, Role.MATCHED_SUBSET, "difference_complement")
    assert found.value == pytest.approx(3 / QUESTIONS)


def test_holms_families_are_those_against_the_base_and_those_against_controls(
    make_study: Callable[..., Store],
) -> None:
    runs = [full(), only(correct=14)]
    runs += [Run(Role.ALL_BUT, SUBSET, 0, {1.0: outcomes(12)})]
    runs += [Run(Role.MATCHED_RANDOM, SUBSET, 0, {1.0: outcomes(22, 1)})]
    runs += [Run(Role.MATCHED_COMPLEMENT, SUBSET, 0, {1.0: outcomes(24, 2)})]
    effects = estimate_effects(make_study(BASE, *runs), "e")
    families = {
        "base": [e for e in effects if e.statistic == "gain_p"],
        "controls": [
            e for e in effects if e.statistic in ("difference_random_p", "difference_complement_p")
        ],
    }
    assert [len(family) for family in families.values()] == [5, 2]
    for family in families.values():
        expected = holm([e.value for e in family])  # type: ignore[misc]
        for effect, p in zip(family, expected, strict=True):
            adjusted = find(effects, effect.role, f"{effect.statistic}_holm", effect.subset)
            assert adjusted.value == pytest.approx(p)
        assert any(p > e.value for e, p in zip(family, expected, strict=True))  # type: ignore[operator]


def test_arms_are_compared_at_the_largest_fraction_that_all_runs_reached(
    make_study: Callable[..., Store],
) -> None:
    whole = [
        Run(Role.FULL, "full", s, {0.5: outcomes(20, s), 1.0: outcomes(30, s)}) for s in (0, 1)
    ]
    part = [
        Run(Role.ONLY, SUBSET, 0, {0.5: outcomes(14), 1.0: outcomes(24)}),
        Run(Role.ONLY, SUBSET, 1, {0.5: outcomes(15, 1), 0.62: outcomes(16, 1)}, "exhausted"),
    ]
    random = [
        Run(Role.MATCHED_RANDOM, SUBSET, s, {0.5: outcomes(16, s), 1.0: outcomes(18, s)})
        for s in (0, 1)
    ]
    effects = estimate_effects(make_study(BASE, *whole, *part, *random), "e")
    base = outcomes(10)
    part_half = np.stack([outcomes(14), outcomes(15, 1)])
    whole_half = np.stack([outcomes(20, s) for s in (0, 1)])

    share = find(effects, Role.ONLY, "share")  # one: nothing beyond the half
    ratio = share_over_seeds(base, part_half, whole_half)
    assert share.fraction == 0.5
    assert interval_of(share) == (ratio.value, ratio.low, ratio.high)
    assert find(effects, Role.ONLY, "gain").fraction == 0.5
    assert find(effects, Role.ONLY, "gain_sign_flip_p").value == sign_flip_test(part_half, base)
    assert find(effects, Role.FULL, "gain_p").fraction == 1.0
    final = find(effects, Role.ONLY, "final_gain")
    expected = gain_over_seeds(base, np.stack([outcomes(24), outcomes(16, 1)]))
    assert interval_of(final) == (expected.value, expected.low, expected.high)
    assert final.fraction == pytest.approx(0.81)  # on average
    assert find(effects, Role.ONLY, "final_accuracy").value == pytest.approx(0.5)
    difference = find(effects, Role.ONLY, "difference_random")
    control_half = np.stack([outcomes(16, s) for s in (0, 1)])
    assert difference.fraction == 0.5
    assert difference.value == difference_over_seeds(part_half, control_half).value
    assert {e.fraction for e in effects if e.role is Role.MATCHED_RANDOM} == {0.5, 1.0}


def test_without_a_common_fraction_there_is_no_share(make_study: Callable[..., Store]) -> None:
    part = Run(Role.ONLY, SUBSET, 0, {0.31: outcomes(18)}, "exhausted")
    whole = Run(Role.FULL, "full", 0, {0.5: outcomes(20), 1.0: outcomes(30)})
    effects = estimate_effects(make_study(BASE, whole, part), "e")
    share = find(effects, Role.ONLY, "share")
    assert interval_of(share) == (None, None, None)
    assert share.detail == NOT_REACHED
    assert share.fraction == 0.31
    assert find(effects, Role.ONLY, "final_gain").value == pytest.approx(0.2)
    assert not [e for e in effects if e.role is Role.ONLY and "_p" in e.statistic]


def test_an_exhausted_full_arm_gives_shares_as_far_as_it_came(
    make_study: Callable[..., Store],
) -> None:
    whole = Run(Role.FULL, "full", 0, {0.5: outcomes(28), 0.7: outcomes(30)}, "exhausted")
    part = Run(Role.ONLY, SUBSET, 0, {0.5: outcomes(19), 1.0: outcomes(26)})
    effects = estimate_effects(make_study(BASE, whole, part), "e")
    share = find(effects, Role.ONLY, "share")
    assert (share.fraction, share.value) == (0.5, pytest.approx(0.5))
    assert find(effects, Role.FULL, "final_gain").fraction == 0.7
    assert find(effects, Role.ONLY, "gain_p").fraction == 0.5
    assert find(effects, Role.ONLY, "gain", fraction=1.0).value == pytest.approx(0.4)


def test_a_share_of_no_gain_is_undefined_with_a_reason(make_study: Callable[..., Store]) -> None:
    effects = estimate_effects(make_study(BASE, full(correct=11), only()), "e")
    share = find(effects, Role.ONLY, "share")
    assert interval_of(share) == (None, None, None)
    assert "cannot be told from zero" in share.detail


@pytest.mark.parametrize("status", ["failed", "running"])
def test_runs_that_did_not_end_take_no_part(make_study: Callable[..., Store], status: str) -> None:
    runs = [only(0), only(1, status=status), only(2), full(0), full(1, status=status)]
    effects = estimate_effects(make_study(BASE, *runs), "e")
    gain = find(effects, Role.ONLY, "gain")
    expected = gain_over_seeds(outcomes(10), np.stack([outcomes(20), outcomes(20, 2)]))
    assert (gain.seeds, gain.value, gain.low) == (2, expected.value, expected.low)
    assert find(effects, Role.ONLY, "share").seeds == 1  # of the full arm
    assert not [e for e in effects if e.statistic == "mcnemar_p_seed_1"]


def test_without_a_full_arm_there_are_no_shares(make_study: Callable[..., Store]) -> None:
    effects = estimate_effects(make_study(BASE, full(status="failed"), only()), "e")
    assert {e.value for e in effects if e.statistic == "share"} <= {None}
    assert find(effects, Role.ONLY, "gain").value == 0.25
    assert find(effects, Role.ONLY, "gain_p").fraction == 1.0


def test_subsets_alone_are_compared_with_each_other(make_study: Callable[..., Store]) -> None:
    half, whole = outcomes(25, 2), outcomes(35, 2)
    other = Run(Role.ONLY, "rarely-correct", 0, {0.5: half, 1.0: whole})
    short = Run(Role.ONLY, SUBSET, 0, {0.5: outcomes(12)}, "exhausted")
    effects = estimate_effects(make_study(BASE, full(), short, other), "e")
    [found] = [one for one in effects if one.statistic.startswith("difference_from:")]
    assert (found.subset, found.fraction) == (SUBSET, 0.5)
    assert found.statistic == "difference_from:rarely-correct"
    expected = difference_over_seeds(outcomes(12)[None], half[None])
    assert (found.value, found.low, found.high) == (expected.value, expected.low, expected.high)


def test_what_one_arm_leaves_ungraded_is_left_out_for_all(
    make_study: Callable[..., Store],
) -> None:
    runs = [BASE, full(), full(1), only(ungraded=(0, 30))]
    effects = of_everything(estimate_effects(make_study(*runs), "e"))
    assert {e.questions for e in effects} == {QUESTIONS - 2}
    assert find(effects, Role.BASE, "accuracy").value == pytest.approx(9 / 38)
    kept = np.delete(np.stack([outcomes(30), outcomes(30, 1)]), (0, 30), axis=1)
    assert find(effects, Role.FULL, "gain").value == pytest.approx(kept.mean() - 9 / 38)


def test_nothing_gradable_is_no_effect_and_no_crash(make_study: Callable[..., Store]) -> None:
    nothing = tuple(range(QUESTIONS))
    ungraded = full(ungraded=nothing), only(ungraded=nothing)
    effects = of_everything(estimate_effects(make_study(BASE, *ungraded), "e"))
    assert {effect.role for effect in effects} == {Role.BASE}


def test_an_arm_without_any_verdict_takes_nothing_from_the_others(
    make_study: Callable[..., Store],
) -> None:
    runs = [BASE, full(ungraded=tuple(range(QUESTIONS))), only()]
    effects = of_everything(estimate_effects(make_study(*runs), "e"))
    assert find(effects, Role.ONLY, "gain").questions == QUESTIONS
    assert find(effects, Role.ONLY, "gain_p").value is not None
    assert find(effects, Role.ONLY, "share").detail == NO_FULL


def test_other_data_sets_and_training_buckets_have_rows_of_their_own(
    make_study: Callable[..., Store],
) -> None:
    def more(training: int, elsewhere: int) -> dict[str, Outcomes]:
        return {"training": outcomes(training), "elsewhere": outcomes(elsewhere)}

    base = Run(Role.BASE, "none", 0, {0.0: outcomes(10)}, **more(0, 6))  # type: ignore[arg-type]
    runs = [full(**more(25, 8)), only(**more(10, 4))]
    effects = of_everything(estimate_effects(make_study(base, *runs), "e"))
    gains = {
        (str(e.role), e.evaluated_on): (e.value, e.questions)
        for e in effects
        if e.statistic == "gain"
    }
    assert gains == {
        ("full", "held-out"): (pytest.approx(0.5), 40),
        ("only", "held-out"): (pytest.approx(0.25), 40),
        ("full", "e"): (pytest.approx(2 / 40), 40),
        ("only", "e"): (pytest.approx(-2 / 40), 40),
        ("full", f"train:{SUBSET}"): (1.0, 10),  # its ten come first
        ("only", f"train:{SUBSET}"): (1.0, 10),
        ("full", "train:rarely-correct"): (pytest.approx(0.5), 30),
        ("only", "train:rarely-correct"): (0.0, 30),
    }
    assert {e.evaluated_on for e in effects if "_p" in e.statistic} == {"held-out"}


PARTS = ("easy", "hard", "odd")
WORTH = {"easy": 8, "hard": 4, "odd": 2}


def coalition(members: Sequence[str], seed: int, **more: object) -> Run:
    correct = 10 + sum(WORTH[member] for member in members)
    reached = {0.5: outcomes(10, seed), 1.0: outcomes(correct, seed)}
    return Run(Role.COALITION, "+".join(members), seed, reached, **more)  # type: ignore[arg-type]


def coalitions(seed: int) -> list[Run]:
    return [coalition(m, seed) for size in (1, 2, 3) for m in combinations(PARTS, size)]


def test_shapley_values_are_those_of_all_coalitions(make_study: Callable[..., Store]) -> None:
    runs = [full(), *coalitions(0), *coalitions(1)]
    effects = estimate_effects(make_study(BASE, *runs), "e")
    after = {
        frozenset(members): np.stack(
            [outcomes(10 + sum(WORTH[m] for m in members), seed) for seed in (0, 1)]
        )
        for size in (1, 2, 3)
        for members in combinations(PARTS, size)
    }
    for expected in shapley_values(outcomes(10), after):
        found = find(effects, Role.COALITION, "shapley", expected.player)
        gain = (expected.gain.value, expected.gain.low, expected.gain.high)
        assert interval_of(found) == pytest.approx(gain)
        assert (found.fraction, found.seeds) == (1.0, 2)
        share = find(effects, Role.COALITION, "shapley_share", expected.player)
        ratio = (expected.share.value, expected.share.low, expected.share.high)
        assert interval_of(share) == pytest.approx(ratio)
    values = [e.value for e in effects if e.statistic == "shapley"]
    assert sum(values) == pytest.approx(  # type: ignore[arg-type]
        find(effects, Role.COALITION, "gain", "easy+hard+odd", fraction=1.0).value
    )


def test_shapley_values_need_every_coalition(make_study: Callable[..., Store]) -> None:
    runs = [full(), *(run for run in coalitions(0) if run.subset != "easy+odd")]
    runs.append(coalition(("easy", "odd"), 0, status="failed"))
    effects = estimate_effects(make_study(BASE, *runs), "e")
    assert not [e for e in effects if e.statistic.startswith("shapley")]
    assert find(effects, Role.COALITION, "gain", "easy", fraction=1.0)


def test_pass_at_k_of_sampled_answers(make_study: Callable[..., Store]) -> None:
    generator = np.random.default_rng(0)
    drawn = [generator.random((QUESTIONS, 6)) < p for p in (0.2, 0.4, 0.5)]
    base = Run(Role.BASE, "none", 0, {0.0: outcomes(10)}, samples=drawn[0])
    runs = [only(seed, samples=one) for seed, one in enumerate(drawn[1:])]
    effects = estimate_effects(make_study(base, full(), *runs), "e")
    k_K = np.array([1, 2, 4, 6])
    n_Q = np.full(QUESTIONS, 6)
    for role, those in ((Role.BASE, drawn[:1]), (Role.ONLY, drawn[1:])):
        value_QK = np.mean([pass_at_k(n_Q, one.sum(axis=1), k_K) for one in those], axis=0)
        for k, value_Q in zip(k_K, value_QK.T, strict=True):
            found, expected = find(effects, role, f"pass@{k}"), mean_interval(value_Q)
            assert interval_of(found) == (expected.value, expected.low, expected.high)
            assert (found.seeds, found.questions) == (len(those), QUESTIONS)
            assert found.fraction == (0.0 if role is Role.BASE else 1.0)
    assert not [e for e in effects if e.statistic.startswith("pass") and e.role is Role.FULL]


def test_pass_at_k_leaves_out_questions_that_are_short_of_answers(
    make_study: Callable[..., Store],
) -> None:
    drawn = np.random.default_rng(1).random((QUESTIONS, 4)) < 0.5
    runs = [only(0, samples=drawn), only(1, samples=drawn, ungraded=(3, 7))]
    effects = estimate_effects(make_study(BASE, full(), *runs), "e")
    found = find(effects, Role.ONLY, "pass@4")
    kept = np.delete(drawn, (3, 7), axis=0)
    assert found.value == pytest.approx(kept.any(axis=1).mean())
    assert found.questions == QUESTIONS - 2


def test_answers_at_a_step_that_stands_for_two_fractions_count_once(
    make_study: Callable[..., Store],
) -> None:
    """An exhausted arm may end, without a further update, where it was last evaluated."""
    drawn = np.random.default_rng(2).random((QUESTIONS, 4)) < 0.5
    part = Run(Role.ONLY, SUBSET, 0, {0.5: outcomes(18)}, "exhausted", samples=drawn)
    store = make_study(BASE, full(), part)
    once = estimate_effects(store, "e")
    with store.writing("test"), store.transaction() as transaction:
        transaction.execute(
            "INSERT INTO milestones SELECT * REPLACE (0.7 AS fraction) FROM milestones "
            "WHERE arm_id = $arm_id",
            arm_id=part.arm_id,
        )
    effects = estimate_effects(store, "e")
    passes = {e.statistic: e for e in effects if e.statistic.startswith("pass@")}
    before = {e.statistic: e for e in once if e.statistic.startswith("pass@")}
    assert list(passes) == list(before) == ["pass@1", "pass@2", "pass@4"]
    for statistic, effect in passes.items():
        assert interval_of(effect) == interval_of(before[statistic])
        assert effect.fraction == 0.7
    assert find(effects, Role.ONLY, "final_gain").fraction == 0.7


def test_votes_and_reasoning_are_held_against_the_greedy_base(
    make_study: Callable[..., Store],
) -> None:
    others = {"majority": outcomes(14), "chain-of-thought": outcomes(12, 5)}
    base = Run(Role.BASE, "none", 0, {0.0: outcomes(10)}, others=others)
    runs = [only(seed, others={"majority": outcomes(22, seed)}) for seed in (0, 1)]
    effects = estimate_effects(make_study(base, full(), *runs), "e")
    for word, right in (("majority", outcomes(14)), ("chain_of_thought", outcomes(12, 5))):
        wilson = wilson_interval(int(right.sum()), QUESTIONS)
        accuracy = find(effects, Role.BASE, f"{word}_accuracy")
        assert interval_of(accuracy) == (right.mean(), wilson.low, wilson.high)
        expected = gain_over_seeds(outcomes(10), right[None])
        gain = find(effects, Role.BASE, f"{word}_gain")
        assert interval_of(gain) == (expected.value, expected.low, expected.high)
    voted = gain_over_seeds(outcomes(10), np.stack([outcomes(22, seed) for seed in (0, 1)]))
    gain = find(effects, Role.ONLY, "majority_gain")
    assert interval_of(gain) == (voted.value, voted.low, voted.high)
    assert gain.seeds == 2
    assert find(effects, Role.BASE, "accuracy").value == 0.25  # greedy answers alone


def test_a_run_serves_every_role_that_it_has(make_study: Callable[..., Store]) -> None:
    store = make_study(BASE, full(), only())
    with store.writing("test"), store.transaction() as transaction:
        transaction.execute(
            "INSERT INTO arm_roles VALUES ('e', $arm_id, 'rarely-correct', 'all-but')",
            arm_id=only().arm_id,
        )
    effects = estimate_effects(store, "e")
    twin = find(effects, Role.ALL_BUT, "gain", "rarely-correct")
    assert interval_of(twin) == interval_of(find(effects, Role.ONLY, "gain"))


def test_arms_of_other_experiments_do_not_count(make_study: Callable[..., Store]) -> None:
    with pytest.raises(DataError, match="base of experiment other"):
        estimate_effects(make_study(BASE, full()), "other")


def test_stored_effects_are_replaced(make_study: Callable[..., Store]) -> None:
    store = make_study(BASE, full(), only())
    effects = estimate_effects(store, "e")
    for _ in range(2):
        with store.writing("test"):
            store_effects(store, "e", effects)
    stored = store.read("SELECT * EXCLUDE (experiment_id) FROM effects")
    rows = {(e.subset, str(e.role), e.statistic, e.evaluated_on, e.fraction): e for e in effects}
    assert len(stored) == len(effects) == len(rows)
    for row in stored.iter_rows(named=True):
        effect = rows[
            row["subset"], row["role"], row["statistic"], row["evaluated_on"], row["fraction"]
        ]
        assert interval_of(effect) == (row["value"], row["low"], row["high"])
        assert (effect.seeds, effect.questions, effect.detail) == (
            row["seeds"],
            row["questions"],
            row["detail"],
        )
