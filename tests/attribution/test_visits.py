"""What each method learns from: fresh rollouts, stored ones with their multiplicities, answers."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from attrib.attribution.arms import Arm, visit_order
from attrib.attribution.experiment import Experiment, set_up
from attrib.attribution.groups import Group
from attrib.attribution.policy import Policy
from attrib.attribution.runs import Runner
from attrib.attribution.settings import AblateSettings
from attrib.attribution.visits import (
    FreshRollouts,
    StoredGroups,
    accepted_answers,
    stored_rollouts,
    visits_from,
)
from attrib.data.questions import AnswerType, Question, Split
from attrib.errors import DataError
from attrib.roles import Role
from attrib.sampling.engine import EngineName
from attrib.sampling.grading import Graded, Grader, Response, Verdict, grade_one
from attrib.sampling.models import Dtype, load_model
from attrib.sampling.prompts import choose_prompt_style
from attrib.sampling.responder import ModelIdentity, Responder, SampleSet
from attrib.sampling.tree import TreeEngine
from attrib.sampling.verdicts import Verdicts
from attrib.store import Store

K = 10  # fewer than were drawn


@dataclass(frozen=True)
class Base:
    """The base model of the study, ready to be asked."""

    experiment: Experiment
    policy: Policy
    responder: Responder[TreeEngine]

    @property
    def questions(self) -> list[Question]:
        return self.experiment.bucketing.training_questions

    @property
    def grader(self) -> Grader:
        return self.experiment.bucketing.grader


@pytest.fixture
def base(store: Store) -> Base:
    settings = AblateSettings(device="cpu")
    with store.writing("attrib test"):
        experiment = set_up(store, settings)
    return Base(experiment, *Runner(store, experiment, settings).load_base())


def stored(store: Store, base: Base, questions: Sequence[Question]) -> dict[str, Group]:
    sample_set_id = base.experiment.bucketing.sample_set_id
    return stored_rollouts(
        store, base.responder, base.grader.fingerprint, sample_set_id, K, questions
    )


def test_stored_rollouts_come_with_their_multiplicities(store: Store, base: Base) -> None:
    groups = stored(store, base, base.questions)
    assert list(groups) == [question.question_id for question in base.questions]
    sql = (
        "SELECT token_ids, text, finish_reason = 'length' FROM rollouts "
        f"WHERE question_id = $id AND rollout < {K} ORDER BY rollout"
    )
    repeated = 0
    for question in base.questions:
        rows = store.read(sql, id=question.question_id).rows()
        group = groups[question.question_id]
        assert group.prompt == base.responder.prompt(question).token_ids
        assert group.completions == tuple(tuple(token_ids) for token_ids, _, _ in rows)
        verdicts = [
            grade_one(base.grader, question, text, truncated) for _, text, truncated in rows
        ]
        assert group.correct_G.tolist() == [v.verdict is Verdict.CORRECT for v in verdicts]
        repeated += len(group.completions) - len(set(group.completions))
    assert repeated > 0


def test_stored_rollouts_that_failed_or_have_no_verdict_are_left_out(
    store: Store, base: Base
) -> None:
    first, second, third = base.questions[:3]
    with store.writing("attrib test"), store.transaction() as transaction:
        transaction.execute(
            "UPDATE rollouts SET finish_reason = 'error' WHERE question_id = $id AND rollout < 3",
            id=first.question_id,
        )
        transaction.execute(
            "UPDATE verdicts SET verdict = 'ungraded' WHERE question_id = $id",
            id=second.question_id,
        )
    groups = stored(store, base, [first, second, third])
    assert [len(group.completions) for group in groups.values()] == [K - 3, 0, K]
    assert not groups[second.question_id].has_right


def test_rollouts_of_a_server_are_refused(store: Store, base: Base) -> None:
    with store.writing("attrib test"), store.transaction() as transaction:
        transaction.execute("UPDATE rollouts SET token_ids = []")
    with pytest.raises(DataError, match=r"no token ids.*attrib sample --engine tree --new-set"):
        stored(store, base, base.questions)


def test_accepted_answers_are_what_a_right_response_looks_like(base: Base) -> None:
    groups = accepted_answers(base.responder, base.questions)
    model = base.responder.engine.language_model
    for question in base.questions:
        group = groups[question.question_id]
        assert group.prompt == base.responder.prompt(question).token_ids
        response = f" {question.answers[0]}\n"  # a prompt without template has this stop string
        assert group.completions == (tuple(model.tokenizer.encode(response)),)
        assert group.correct_G.tolist() == [True]
        if model.tokenizer.unk_token_id not in group.completions[0]:
            text = model.decode(group.completions[0])
            assert grade_one(base.grader, question, text).verdict is Verdict.CORRECT


@pytest.mark.parametrize("is_chat", [True, False])
def test_answers_are_targets_with_every_end_the_usual_one_first(
    tiny_model_folder: Path, is_chat: bool
) -> None:
    model = load_model(str(tiny_model_folder), "cpu")
    style = choose_prompt_style(is_chat)
    sample_set = SampleSet(
        str(tiny_model_folder),
        EngineName.TREE,
        ModelIdentity.of_files(model, style),
        style,
        *(1.0, 1.0, 0, 4),
        Dtype.FLOAT32,
        0,
    )
    responder = Responder(TreeEngine(model), sample_set, model.tokenizer)
    encode, own = model.tokenizer.encode, model.tokenizer.eos_token_id
    others = sorted({*model.end_token_ids} - {own})
    if is_chat:
        expected = [(*encode("Paris"), end) for end in (own, *others)]
    else:
        expected = [tuple(encode(" Paris\n"))]
        expected += [(*encode(" Paris"), end) for end in (own, *others)]
    assert responder.targets("Paris") == expected


def make_groups(*right_and_wrong: tuple[int, int]) -> tuple[list[Question], dict[str, Group]]:
    """Return questions with so many right and wrong completions, all of them different."""
    groups = {}
    for number, (right, wrong) in enumerate(right_and_wrong):
        completions = tuple((number, place) for place in range(right + wrong))
        groups[str(number)] = Group(
            str(number), (1,), completions, np.arange(right + wrong) < right
        )
    return [_question(name) for name in groups], groups


def _question(name: str) -> Question:
    return Question(name, "d", Split.TRAIN, name, ("x",), AnswerType.NAME, None, None, name, None)


def test_rejection_fine_tuning_needs_a_right_rollout() -> None:
    questions, groups = make_groups((1, 5), (0, 6), (3, 0))
    source = StoredGroups(groups, needs_both=False, most_each=2, seed=0)
    visits = source.visit(7, questions)
    assert [visit.number for visit in visits] == [7, 8, 9]
    assert [visit.is_informative for visit in visits] == [True, False, True]
    assert [visit.group for visit in visits] == list(groups.values())  # whole, however many
    assert {visit.rollouts for visit in visits} == {0}
    assert source.has_signal
    del groups["0"], groups["2"]
    assert not source.has_signal


def test_preferences_need_right_and_wrong_and_take_so_many_of_each() -> None:
    questions, groups = make_groups((10, 3), (0, 6), (4, 0), (1, 12))
    source = StoredGroups(groups, needs_both=True, most_each=4, seed=0)
    visits = source.visit(0, questions)
    assert [visit.is_informative for visit in visits] == [True, False, False, True]
    sizes = [(int(v.group.correct_G.sum()), int((~v.group.correct_G).sum())) for v in visits]
    assert sizes == [(4, 3), (0, 4), (4, 0), (1, 4)]
    for visit in visits:
        whole = dict(
            zip(
                groups[visit.group.question_id].completions,
                groups[visit.group.question_id].correct_G,
                strict=True,
            )
        )
        assert all(
            whole[c] == right
            for c, right in zip(visit.group.completions, visit.group.correct_G, strict=True)
        )
        assert len(set(visit.group.completions)) == len(visit.group.completions)

    def drawn(seed: int, number: int) -> tuple[tuple[int, ...], ...]:
        again = StoredGroups(groups, needs_both=True, most_each=4, seed=seed)
        return again.visit(number, questions[:1])[0].group.completions

    assert drawn(0, 0) == visits[0].group.completions  # a function of seed and number
    assert len({drawn(0, number) for number in range(20)}) > 5
    assert drawn(1, 0) != drawn(2, 0) or drawn(1, 1) != drawn(2, 1)
    seen = Counter(place for number in range(200) for _, place in drawn(0, number) if place < 10)
    assert len(seen) == 10  # every right one has its turn
    assert max(seen.values()) < 2 * min(seen.values())


class Undecided:
    """A grader that cannot tell about one text."""

    name, fingerprint = "undecided", "undecided-0"

    def __init__(self, grader: Grader, text: str) -> None:
        self.grader, self.text = grader, text

    is_costly = False
    cost = ""

    def grade(self, responses: Sequence[Response]) -> Iterator[Graded]:
        return (self._grade(*response) for response in responses)

    def _grade(self, question: Question, text: str, truncated: bool) -> Graded:
        if text == self.text:
            return Graded(Verdict.UNGRADED, "cannot tell")
        return grade_one(self.grader, question, text, truncated)


def test_fresh_rollouts_are_graded_and_what_cannot_be_leaves_the_group(
    store: Store, base: Base
) -> None:
    verdicts = Verdicts(store, base.grader)
    source = FreshRollouts(base.policy, base.responder, verdicts, group_size=16, seed=1)
    question = base.questions[0]
    [visit] = source.visit(0, [question])
    texts = [base.responder.engine.language_model.decode(c) for c in visit.group.completions]
    common, count = Counter(text.split("\n")[0] for text in texts).most_common(1)[0]
    assert len(texts) == visit.rollouts == 16
    assert visit.is_informative == visit.group.has_both

    undecided = Verdicts(store, Undecided(base.grader, common))
    again = FreshRollouts(base.policy, base.responder, undecided, group_size=16, seed=1)
    [fewer] = again.visit(0, [question])
    assert fewer.rollouts == 16
    assert len(fewer.group.completions) == len(fewer.group.correct_G) == 16 - count


def test_fresh_rollouts_depend_on_seed_question_and_number_of_the_visit(
    store: Store, base: Base
) -> None:
    def completions(seed: int, first: int, questions: Sequence[Question]) -> list[object]:
        source = FreshRollouts(base.policy, base.responder, Verdicts(store, base.grader), 8, seed)
        return [visit.group.completions for visit in source.visit(first, questions)]

    one, two = base.questions[:2]
    together = completions(0, 5, [one, two, one])
    assert completions(0, 6, [two]) == together[1:2]  # whatever it is drawn with
    assert together[0] != together[2]  # a question visited twice gives other rollouts
    assert completions(1, 5, [one]) != together[:1]


def test_visits_go_through_shuffled_epochs() -> None:
    questions = [_question(str(i)) for i in range(7)]
    arm = Arm("full", Role.FULL, tuple(questions), {}, seed=4)
    expected = [q for epoch in range(4) for q in visit_order(questions, 4, epoch)]
    for start in (0, 3, 7, 13):
        assert list(islice(visits_from(arm, start), 10)) == expected[start : start + 10]
