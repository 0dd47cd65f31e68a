"""What is said: each sentence against the numbers it speaks of, and what may not be said."""

import re
from collections.abc import Callable

import pytest

from attrib.reports.budgets import describe_siblings
from attrib.reports.claims import share_of_data, state_claims
from attrib.reports.collect import collect_study
from attrib.reports.design import describe_held_equal, name_experiments
from attrib.reports.findings import (
    NO_RANDOM,
    NOTHING_IN_COMMON,
    Finding,
    describe_counts,
    describe_finding,
    explain_missing_share,
    judge,
)
from attrib.reports.mechanism import describe_mechanism
from attrib.reports.records import Study
from attrib.reports.records_arms import Trained
from attrib.reports.records_training import Experiment
from attrib.reports.tables_gains import describe_baselines, describe_passes, describe_shapley_sum
from attrib.reports.values import Setting
from attrib.roles import Role
from attrib.store import Store

Build = Callable[..., Store]
End = Callable[..., object]
Whole = tuple[Store, Study]


def experiment_of(study: Study) -> Experiment:
    assert study.experiment is not None
    return study.experiment


def collect(store: Store) -> Experiment:
    return experiment_of(collect_study(store))


def headline(study: Study) -> str:
    return plain(state_claims(study).headline)


def limits(study: Study) -> str:
    return plain(" ".join(state_claims(study).limits))


def plain(text: str) -> str:
    return text.replace("\u00a0", " ").replace("\u2212", "-")


def finding(experiment: Experiment, role: Role, subset: str) -> str:
    arm = experiment.find(role, subset)
    assert arm is not None
    return plain(describe_finding(experiment, arm))


def change(
    store: Store,
    statistic: str,
    value: float,
    low: float,
    high: float,
    subset: str = "never-correct",
) -> None:
    """Put other numbers in the place of those of one subset alone."""
    with store.writing("attrib test"), store.transaction() as batch:
        batch.execute(
            "UPDATE effects SET value = $value, low = $low, high = $high "
            "WHERE statistic = $statistic AND role = 'only' AND subset = $subset "
            "AND evaluated_on = 'held-out' AND experiment_id = 'e0'",
            statistic=statistic,
            subset=subset,
            value=value,
            low=low,
            high=high,
        )


def test_claim_and_caveat(whole: Whole) -> None:
    claim = headline(whole[1])
    assert re.fullmatch(
        r"Training on the 12 never-correct questions alone \(30 % of the training questions\) gave "
        r"a gain of \S+ \[\S+ \S+\] points on 60 held-out questions, \d+ % \[\d+, \d+\] of the "
        r"full arm's gain; 3 seeds\. As many questions drawn at random did as well, as far as can "
        r"be told: the difference is \S+ \[-\S+ \+\S+\] points, so the gain is not shown to be "
        r"these questions' own\.",
        claim,
    )


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((0.1, 0.02, 0.2), "drawn at random gave: the difference is +10.0 [+2.0, +20.0]"),
        ((-0.1, -0.2, -0.02), "drawn at random gave more: the difference is -10.0 [-20.0, -2.0]"),
        ((0.1, -0.02, 0.2), "drawn at random did as well, as far as can be told"),
    ],
)
def test_claim_is_held_against_random_questions(
    build_study: Build, numbers: tuple[float, float, float], said: str
) -> None:
    store = build_study(roles=("only", "matched-random"), subsets=("never-correct",))
    change(store, "difference_random", *numbers)
    assert said in headline(collect_study(store))


@pytest.mark.parametrize(
    ("gain", "difference", "said"),
    [
        ((-0.1, -0.2, -0.05), (0.0, -0.1, 0.1), "lost as much, as far as can be told"),
        ((-0.1, -0.2, -0.05), (0.1, 0.05, 0.2), "drawn at random gave less: the difference is"),
        ((0.0, -0.1, 0.1), (0.0, -0.1, 0.1), "Nor can it be told from training on as many"),
    ],
)
def test_losses_and_no_gain_are_held_against_random_questions_too(
    build_study: Build,
    gain: tuple[float, float, float],
    difference: tuple[float, float, float],
    said: str,
) -> None:
    store = build_study(roles=("only", "matched-random"), subsets=("never-correct",))
    change(store, "gain", *gain)
    change(store, "difference_random", *difference)
    assert said in headline(collect_study(store))


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((0.1, -0.02, 0.2), "they differ by {} points: their order is not settled."),
        ((0.1, 0.02, 0.2), "they differ by {} points: the {first} questions gave more."),
        ((-0.1, -0.2, -0.02), "they differ by {} points: the {second} questions gave more."),
    ],
)
def test_the_two_largest_gains_are_compared_with_each_other(
    build_study: Build, numbers: tuple[float, float, float], said: str
) -> None:
    store = build_study(roles=("only",), seeds=(0, 1), held_out=200)
    study = collect_study(store)
    alone = [arm for arm in experiment_of(study).arms if arm.role is Role.ONLY and arm.is_compared]
    alone.sort(key=lambda arm: -(arm.gain.value if arm.gain and arm.gain.value else 0.0))
    first, second = alone[:2]
    forward = second.subset in first.others
    change(
        store,
        f"difference_from:{second.subset if forward else first.subset}",
        *(numbers if forward else (-numbers[0], -numbers[2], -numbers[1])),
        first.subset if forward else second.subset,
    )
    text = " ".join(state_claims(collect_study(store)).further).replace("\u2212", "-")
    shown = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * one for one in numbers))
    expected = said.format(shown, first=first.subset, second=second.subset)
    assert expected in text.replace("\u00a0", " ")


def test_answers_without_a_verdict_are_said(build_study: Build) -> None:
    store = build_study(roles=("only",), subsets=("never-correct",))
    with store.writing("attrib test"), store.transaction() as batch:
        batch.execute(
            "UPDATE evaluations SET verdict = 'ungraded' WHERE question_id IN "
            "(SELECT question_id FROM questions WHERE split = 'held-out' ORDER BY ALL LIMIT 4) "
            "AND arm_id IN (SELECT arm_id FROM arm_roles WHERE role = 'only')"
        )
    assert "(4 held-out questions: only never-correct: 4)" in limits(collect_study(store))


def test_questions_in_no_bucket_are_said(build_study: Build) -> None:
    store = build_study(roles=("only",), subsets=("never-correct",))
    assert "in no bucket" not in limits(collect_study(store))
    with store.writing("attrib test"), store.transaction() as batch:
        batch.execute(
            "INSERT INTO selections SELECT sample_set_id, question_id FROM sample_sets, questions "
            "WHERE split = 'train'"
        )
        batch.execute(
            "DELETE FROM buckets WHERE question_id IN (SELECT min(question_id) FROM buckets)"
        )
    said = limits(collect_study(store))
    assert "1 of 40 training questions that were to be sampled is in no bucket" in said


def test_a_bucket_with_a_control_leads_before_one_that_gained_more(build_study: Build) -> None:
    store = build_study(roles=("only", "matched-random"))
    change(store, "gain", 0.01, -0.02, 0.04)
    with store.writing("attrib test"), store.transaction() as batch:
        batch.execute(
            "DELETE FROM arm_roles WHERE role = 'matched-random' AND subset = 'rarely-correct'"
        )
    claims = state_claims(collect_study(store))
    assert "never-correct questions alone" in claims.headline
    assert NO_RANDOM not in claims.headline
    assert sum("rarely-correct questions alone" in plain(text) for text in claims.further) == 1


def test_no_random_arm_is_said(build_study: Build) -> None:
    assert headline(collect_study(build_study(seeds=(0,)))).endswith(NO_RANDOM)


def test_random_arm_that_failed_is_said(build_study: Build, exhausted: End) -> None:
    store = build_study(
        roles=("only", "matched-random"),
        endings={"matched-random never-correct": {0: exhausted(0.2, "failed")}},
    )
    assert "drawn at random (failed) cannot be compared with it" in headline(collect_study(store))


def test_random_arm_that_ran_out_is_compared_where_it_was(
    build_study: Build, exhausted: End
) -> None:
    store = build_study(
        roles=("only", "matched-random"),
        subsets=("never-correct",),
        endings={"matched-random never-correct": {0: exhausted(0.75)}},
    )
    claim = headline(collect_study(store))
    assert re.search(r"difference is \S+ \[.*?\] points at 50 % of the budget", claim)


def test_nothing_in_common_with_the_full_arm(build_study: Build, exhausted: End) -> None:
    study = collect_study(build_study(endings={"full full": {0: exhausted(0.25)}}))
    experiment = experiment_of(study)
    arm = experiment.find(Role.ONLY, "never-correct")
    assert arm is not None
    assert explain_missing_share(experiment, arm) == f"undefined: {NOTHING_IN_COMMON}"
    said = "The full arm cannot be compared with the others, so no share of the gain is defined."
    assert said in limits(study)


def test_running_out_of_signal_is_not_teaching_nothing(whole: Whole) -> None:
    experiment = experiment_of(whole[1])
    always = experiment.find(Role.ONLY, "always-correct")
    assert always is not None
    assert judge(always) is Finding.NO_SIGNAL
    assert finding(experiment, Role.ONLY, "always-correct") == (
        "had no signal within the budget: not one informative group among 320 rollouts in each of "
        "3 runs"
    )
    rollouts = experiment.find(Role.ONLY, "mostly-correct").runs[1].rollouts  # type: ignore[union-attr]
    assert finding(experiment, Role.ONLY, "mostly-correct") == (
        f"had no signal within the budget in 1 of 3 runs beyond 36 informative groups, {rollouts} "
        "rollouts drawn; until 50 % of the budget: no gain that can be told from zero; cannot be "
        "told apart from as many random questions"
    )
    assert finding(experiment, Role.ONLY, "rarely-correct") == (
        "teaches: accuracy rose; more than as many random questions"
    )


def test_teaching_nothing_used_the_whole_budget(build_study: Build) -> None:
    store = build_study(subsets=("never-correct",))
    change(store, "gain", 0.01, -0.05, 0.07)
    experiment = collect(store)
    said = finding(experiment, Role.ONLY, "never-correct")
    assert said.startswith(
        "teaches nothing that shows: its whole budget used, its gain cannot be told from zero"
    )
    change(store, "gain", -0.1, -0.15, -0.07)
    experiment = collect(store)
    assert finding(experiment, Role.ONLY, "never-correct").startswith("unteaches: accuracy fell")


def test_limits_name_what_cannot_be_compared(whole: Whole) -> None:
    said = limits(whole[1])
    assert "“only always-correct” had no signal within the budget" in said
    assert "Its numbers tell where it ended, and are left out of the claims." in said
    assert "It is compared at 50 % of the budget, no further." in said
    assert said.count("That is not the same as teaching nothing.") == 2


def test_one_failed_seed_is_named(build_study: Build, exhausted: End) -> None:
    store = build_study(
        seeds=(0, 1, 2), endings={"only never-correct": {1: exhausted(0.5, "failed", "too hot")}}
    )
    said = limits(collect_study(store))
    assert "“only never-correct”: failed: seed 1 (too hot)." in said
    assert "Its numbers rest on 2 seeds." in said
    assert "2 seeds." in headline(collect_study(store))


def test_only_an_exhausted_arm(build_study: Build, exhausted: End) -> None:
    store = build_study(
        subsets=("never-correct",), endings={"only never-correct": {0: exhausted(0.0)}}
    )
    claim = headline(collect_study(store))
    assert claim.startswith("Training on the 12 never-correct questions alone (30 % of the")
    assert "had no signal within the budget" in claim
    assert claim.endswith("that is not the same as teaching nothing.")


def test_budgets_side_by_side(whole: Whole) -> None:
    store, experiment = whole[0], experiment_of(whole[1])
    gains = {
        one: plain("{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * x for x in numbers)))
        for one, *numbers in store.read(
            "SELECT experiment_id, value, low, high FROM effects WHERE statistic = 'gain' AND "
            "role = 'only' AND subset = 'never-correct' AND fraction = 1 AND "
            "evaluated_on = 'held-out' ORDER BY ALL"
        ).iter_rows()
    }
    sentences = [plain(sentence) for sentence in describe_siblings(experiment)]
    assert sentences[1] == (
        f"“only never-correct”: {gains['e0']} points under informative-groups=48 (filled); "
        f"{gains['e1']} points under updates=12 (plain); {gains['e2']} points under sft, "
        "updates=12 (plain) (60 held-out questions, 3 seeds each)."
    )
    assert len(sentences) == 2  # nobody else was trained twice
    said = limits(whole[1])
    assert "What is held equal matters here. “only never-correct”:" in said
    assert f"{gains['e1']} points under updates=12 (plain)" in said
    assert "sft" not in said


def test_no_signal_under_one_budget(build_study: Build, exhausted: End) -> None:
    endings = {"only never-correct": {0: exhausted(0.0)}}
    store = build_study(siblings=True, subsets=("never-correct",), endings=endings)
    said = plain(describe_siblings(collect(store))[1])
    assert re.match(
        r"“only never-correct”: had no signal within the budget: not one informative group among "
        r"\d+ rollouts; 0\.0 \[.*?\] points where it ended under informative-groups=48 \(filled\); "
        r"\S+ \[.*?\] points under updates=12 \(plain\); ",
        said,
    )
    assert "What is held equal matters here." in limits(collect_study(store))


def test_budgets_that_agree_are_no_limit(build_study: Build) -> None:
    store = build_study(siblings=True, subsets=("never-correct",))
    change(store, "gain", 0.0, -0.1, 0.1)  # as under the other budget
    assert "What is held equal matters here" not in limits(collect_study(store))


def trained(**settings: object) -> Trained:
    found = tuple(Setting(key, str(value)) for key, value in sorted(settings.items()))
    return Trained(str(settings.get("id", "e")), found, "", None, (), ())


GRPO = {"method": "grpo", "groups": 8, "group_size": 16, "max_rollouts": 50_000}


@pytest.mark.parametrize(
    ("budget", "fill", "said"),
    [
        ("updates=1", "none", "1 update in every run, in plain batches of 8 visits of 16 rollouts"),
        (
            "updates=12",
            "informative",
            "12 updates in every run, in batches of 8 informative groups",
        ),
        ("epochs=3", "none", "3 visits of each of its questions in every run (larger arms are tr"),
        ("informative-groups=32", "informative", "32 informative groups in every run (visits that"),
        ("rollouts=2000", "none", "2,000 training rollouts in every run, in plain batches of 8"),
    ],
)
def test_held_equal(budget: str, fill: str, said: str) -> None:
    text = plain(describe_held_equal(trained(**GRPO, budget=budget, fill=fill)))
    assert text.startswith(said)
    assert "The paper does not state what it held equal" in text
    kind = budget.partition("=")[0]
    left = re.search(r"not held equal \((.*?)\)", text)
    assert left is not None
    assert kind.replace("-", " ") not in left[1]
    assert "time" in left[1]
    assert ("within 50,000 rollouts ends as exhausted" in text) == (kind != "rollouts")


def test_held_equal_where_it_was_not_recorded() -> None:
    assert describe_held_equal(trained()).startswith("See the settings below.")


def test_experiments_are_told_apart() -> None:
    one = trained(**GRPO, budget="updates=4", fill="none", learning_rate=1e-5, id="aaaa")
    two = trained(**GRPO, budget="updates=4", fill="none", learning_rate=2e-5, id="bbbb")
    three = trained(**{**GRPO, "method": "dpo"}, budget="updates=4", fill="none", id="cccc")
    assert name_experiments([one, three]) == ["updates=4 (plain)", "dpo, updates=4 (plain)"]
    names = name_experiments([one, two])
    assert names[0].startswith("updates=4 (plain), id=aaaa, learning_rate=1e-05")
    assert name_experiments([one, one])[0] == "updates=4 (plain), aaaa"


def test_mechanism_and_its_rival(whole: Whole) -> None:
    experiment = experiment_of(whole[1])
    full, only = (plain(sentence) for sentence in describe_mechanism(experiment))
    row = next(row for row in experiment.ledger if row.arm.label == "only never-correct")
    rewarded, wrong = describe_counts(row.rewarded_S), describe_counts(row.still_wrong_S)
    assert only.startswith(
        f"“only never-correct”: of 12 never-correct questions, {rewarded} got a right rollout "
        f"within the budget (by seed, 3 seeds; first at update {row.first_step}, median "
    )
    assert (
        f"{wrong} of these are still not answered correctly by greedy decoding at the end" in only
    )
    assert full.startswith("“full”: of 12 never-correct questions, ")
    assert "were visited and" in full


def test_mechanism_is_not_claimed_without_rollouts(build_study: Build) -> None:
    store = build_study(subsets=("never-correct",))
    with store.writing("attrib test"), store.transaction() as batch:
        batch.execute(
            "UPDATE experiments SET params = replace(params::VARCHAR, 'grpo', 'sft') "
            "WHERE experiment_id = 'e0'"
        )
    assert describe_mechanism(collect(store)) == []
    assert "Trained by sft, not by reinforcement learning." in limits(collect_study(store))


def test_other_sentences(whole: Whole) -> None:
    store, experiment = whole[0], experiment_of(whole[1])
    baselines = plain(describe_baselines(experiment))
    assert baselines.startswith(
        "Without any training, in points over greedy decoding (60 held-out questions, 1 seed): "
        "majority vote 0.0 ["
    )
    assert "greedy, after a chain of thought +" in baselines
    assert "Training on everything, decoded greedily: +" in baselines
    passes = plain(describe_passes(experiment))
    assert re.match(
        r"pass@1 \S+ % \[.*?\] before RL, .* after training on everything; pass@4", passes
    )
    assert passes.endswith("(60 held-out questions).")
    values = store.read("SELECT sum(value) FROM effects WHERE statistic = 'shapley'").item()
    whole = "never-correct+rarely-correct+sometimes-correct"
    gain = store.read(
        f"SELECT value FROM effects WHERE statistic = 'gain' AND subset = '{whole}' "
        "AND fraction = 1 AND evaluated_on = 'held-out'"
    ).item()
    assert values == pytest.approx(gain)
    said = plain(describe_shapley_sum(experiment))
    assert said.startswith(f"The values add up to {100 * values:+.1f} points: the gain of training")
    assert f"buckets, {100 * gain:+.1f} [" in said


def test_missing_baselines_are_named(build_study: Build) -> None:
    experiment = collect(build_study(samples=0))
    assert "Not measured: majority vote." in describe_baselines(experiment)
    assert describe_passes(experiment) == ""


def test_share_of_data_of_questions_drawn_anew(whole: Whole) -> None:
    study, experiment = whole[1], experiment_of(whole[1])
    random = experiment.find(Role.MATCHED_RANDOM, "never-correct")
    assert random is not None
    assert share_of_data(study, random) == 12 / 40
