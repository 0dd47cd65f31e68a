"""A study of a model with planted knowledge: it has to find what is known to be true.

Training can bring out an answer that the model was taught in another form than the question's, and
none that it was never taught. Before training it gives neither, so both are never-correct.
"""

import html
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from attrib.analysis.buckets import Bucket
from attrib.attribution.ablate import AblationSummary, ablate
from attrib.attribution.effect import HELD_OUT, Effect
from attrib.attribution.effects import NOT_REACHED
from attrib.attribution.settings import AblateSettings
from attrib.data.library import store_questions
from attrib.data.questions import Split
from attrib.reports.collect import collect_study
from attrib.reports.findings import Finding, judge
from attrib.reports.render import write_report
from attrib.roles import Role
from attrib.sampling.bucketing import BucketSettings, bucket_questions
from attrib.sampling.rollouts import SampleSettings, draw_rollouts
from attrib.store import Store
from tests.planted import (
    ADDRESS_WORDS,
    COUNTS,
    NEVER_TAUGHT,
    PLANTED,
    WORD_OR_MARK,
    Kind,
    make_world,
    pretrain,
    write_questions,
    write_statements,
)

pytestmark = pytest.mark.timeout(600)  # pretraining and nine runs: two minutes if undisturbed

WORLD_SEED = 0
N = 64
SEEDS = 3
GROUPS = 40  # informative ones that a run is trained on
MOST_ROLLOUTS = 12_000  # more than twice what a run takes on never-correct questions
UNTAUGHT = f"relation = '{Kind.UNTAUGHT}'"
TRAINING = {kind: count for kind, split, count in COUNTS if split is Split.TRAIN}
HELD_OUT_ONES = {kind: count for kind, split, count in COUNTS if split is Split.HELD_OUT}


class ArmName(NamedTuple):
    """Which arm."""

    role: Role
    subset: str

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.role} {self.subset}"


BASE_ARM = ArmName(Role.BASE, "none")
FULL_ARM = ArmName(Role.FULL, "full")
NEVER_CORRECT_ARM = ArmName(Role.ONLY, Bucket.NEVER_CORRECT)
UNTAUGHT_ARM = ArmName(Role.ONLY, UNTAUGHT)


@dataclass(frozen=True, slots=True)
class PlantedStudy:
    """A study, trained and evaluated."""

    store: Store
    summary: AblationSummary

    def find(self, arm: ArmName, statistic: str, evaluated_on: str = HELD_OUT) -> Effect:
        """Return the statistic of an arm where it ended."""
        [effect] = [
            effect
            for effect in self.summary.effects
            if ArmName(effect.role, effect.subset) == arm
            and (effect.statistic, effect.evaluated_on) == (statistic, evaluated_on)
        ]
        return effect

    def read_by_kind(self, sql: str) -> dict[str, dict[str, int]]:
        """Return the columns of the one row of each relation."""
        rows = self.store.read(sql).rows_by_key("relation", named=True, unique=True)
        return {
            kind: {name: int(value) for name, value in row.items()} for kind, row in rows.items()
        }


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> PlantedStudy:
    """Pretrain, sample, bucket, and train on everything, on never-correct and on untaught."""
    return run_study(tmp_path_factory.mktemp("planted"), WORLD_SEED)


def run_study(folder: Path, seed: int) -> PlantedStudy:
    world = make_world(seed)
    pretrain(folder / "model", world, seed)
    store = Store(folder / "study.duckdb")
    with store.writing("test"):
        for dataset in (PLANTED, NEVER_TAUGHT):
            questions = [one.question for one in world if one.question.dataset == dataset]
            store_questions(store, dataset, "planted.py", "hash", questions)
    draw_rollouts(
        store,
        SampleSettings(
            model=str(folder / "model"), dataset=PLANTED, n=N, max_new_tokens=12, device="cpu"
        ),
    )
    bucket_questions(store, BucketSettings(k=N))
    settings = AblateSettings(
        subset=(Bucket.NEVER_CORRECT,),
        subset_where=(UNTAUGHT,),
        role=(Role.ONLY,),
        seeds=SEEDS,
        seed=seed,
        budget=f"informative-groups={GROUPS}",
        evaluate_at=(1.0,),
        groups=4,
        group_size=16,
        max_rollouts=MOST_ROLLOUTS,
        learning_rate=1e-3,
        eval_dataset=(NEVER_TAUGHT,),
        eval_samples=0,
        cot_tokens=0,
        device="cpu",
    )
    return PlantedStudy(store, ablate(store, settings, announce=lambda plan: None))


def test_the_corpus_teaches_what_the_world_says() -> None:
    world = make_world(WORLD_SEED)
    documents = [*write_questions(world), *write_statements(world, WORLD_SEED)]
    for one in world:
        told = sum(one.address in document.text for document in documents)
        asked = sum(one.question.text in document.text for document in documents)
        assert told == one.exposure == one.question.popularity
        assert (told > 0) == (one.kind is not Kind.UNTAUGHT)
        assert (asked > 0) == one.kind.is_asked
    corpus = {word for document in documents for word in re.findall(WORD_OR_MARK, document.text)}
    assert corpus.issuperset(word for words in ADDRESS_WORDS for word in words)
    assert math.prod(1 / len(words) for words in ADDRESS_WORDS) < 1e-5  # of a right guess


def test_never_correct_holds_taught_and_untaught_facts(study: PlantedStudy) -> None:
    buckets = study.read_by_kind(
        "SELECT relation, count(*) FILTER (bucket = 'never-correct') AS never, "
        "sum(correct) AS correct FROM buckets JOIN questions USING (question_id) GROUP BY relation"
    )
    assert buckets[Kind.OFTEN_ANSWERED]["never"] == 0
    assert buckets[Kind.ONLY_STATED]["never"] >= 6
    assert buckets[Kind.UNTAUGHT] == {"never": TRAINING[Kind.UNTAUGHT], "correct": 0}


@pytest.mark.parametrize("arm", [FULL_ARM, NEVER_CORRECT_ARM], ids=str)
def test_training_brings_out_what_was_taught_and_nothing_else(
    study: PlantedStudy, arm: ArmName
) -> None:
    before = study.find(BASE_ARM, "accuracy")
    assert before.questions == HELD_OUT_ONES[Kind.ONLY_STATED]
    assert before.value is not None
    assert before.value <= 0.05
    gain = study.find(arm, "gain")
    assert (gain.seeds, gain.fraction) == (SEEDS, 1.0)
    assert gain.low is not None
    assert gain.low > 0.5

    untaught = study.find(arm, "accuracy", NEVER_TAUGHT)
    assert (untaught.seeds, untaught.fraction) == (SEEDS, 1.0)
    assert untaught.questions == HELD_OUT_ONES[Kind.UNTAUGHT]
    assert untaught.value == 0.0
    assert untaught.high is not None
    assert untaught.high < 0.1
    assert study.find(arm, "gain", NEVER_TAUGHT).value == 0.0


def test_never_correct_questions_give_about_the_whole_gain(study: PlantedStudy) -> None:
    share = study.find(NEVER_CORRECT_ARM, "share")
    assert share.low is not None
    assert share.low > 0.5


def test_visits_reward_taught_questions_only(study: PlantedStudy) -> None:
    visits = study.read_by_kind(
        "SELECT relation, count(*) AS visited, count(*) FILTER (rewarded_visits > 0) AS rewarded "
        "FROM first_rewards JOIN arms USING (arm_id) JOIN questions USING (question_id) "
        "WHERE role = 'only' AND subset = 'never-correct' GROUP BY relation"
    )  # summed over seeds
    stated, untaught = visits[Kind.ONLY_STATED], visits[Kind.UNTAUGHT]
    assert stated["rewarded"] >= 0.8 * stated["visited"]
    assert untaught == {"visited": SEEDS * TRAINING[Kind.UNTAUGHT], "rewarded": 0}
    ever_right = study.store.read(
        "SELECT count(*) FROM verdicts JOIN questions USING (question_id) "
        f"WHERE verdict = 'correct' AND {UNTAUGHT}"
    )
    assert ever_right.item() == 0


def test_untaught_questions_alone_have_no_signal(study: PlantedStudy) -> None:
    runs = study.store.read(
        "SELECT role || ' ' || subset AS name, status, updates, rollouts FROM arms ORDER BY seed"
    ).rows_by_key("name", named=True)
    untaught = runs.pop(str(UNTAUGHT_ARM))
    assert [run["status"] for run in untaught] == ["exhausted"] * SEEDS
    assert {(run["updates"], run["rollouts"]) for run in untaught} == {(0, MOST_ROLLOUTS)}
    assert {run["status"] for others in runs.values() for run in others} == {"done"}
    assert len(study.summary.exhausted) == SEEDS

    assert study.find(UNTAUGHT_ARM, "final_gain").value == 0.0
    share = study.find(UNTAUGHT_ARM, "share")
    assert share.value is None
    assert share.detail == NOT_REACHED


def test_the_report_tells_no_signal_from_a_gain(study: PlantedStudy, tmp_path: Path) -> None:
    experiment = collect_study(study.store).experiment
    assert experiment is not None
    findings = {ArmName(arm.role, arm.subset): judge(arm) for arm in experiment.arms}
    assert findings == {
        FULL_ARM: Finding.GAIN,
        NEVER_CORRECT_ARM: Finding.GAIN,
        UNTAUGHT_ARM: Finding.NO_SIGNAL,
    }
    rewarded = {
        ArmName(row.arm.role, row.arm.subset): row.rewarded_S
        for row in experiment.ledger
        if row.bucket == Bucket.NEVER_CORRECT
    }
    assert min(rewarded[NEVER_CORRECT_ARM]) > 0
    assert rewarded[UNTAUGHT_ARM] == (0,) * SEEDS

    write_report(study.store, tmp_path / "report.html")
    page = html.unescape((tmp_path / "report.html").read_text(encoding="utf-8"))
    rows = [re.findall(r">([^<>]+)</(?:t[dh]|span)>", row) for row in page.split("<tr>")]
    untaught, others = (
        [cell for row in rows if row and row[0] == label for cell in row]
        for label in (f"only {UNTAUGHT}", f"only {Bucket.NEVER_CORRECT}")
    )
    assert "exhausted" in untaught
    assert any("no signal" in cell for cell in untaught)
    assert not any("teaches" in cell for cell in untaught)
    assert "done" in others
    assert any("teaches" in cell for cell in others)
