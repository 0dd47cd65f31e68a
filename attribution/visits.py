"""Where the groups of a visit come from: fresh rollouts, recorded or stored ones, answers.

Every method learns from groups of completions; this is the one place where methods differ in what
they learn from. Fresh rollouts go through the same engine, grader and verdict cache as sampling.
Ungraded rollouts leave their group before anything is computed from it.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import polars as pl

from attrib.attribution.arms import Arm, visit_order
from attrib.attribution.groups import Group
from attrib.attribution.ledger import Visit
from attrib.attribution.policy import Policy
from attrib.attribution.settings import Method, TrainSettings
from attrib.data.questions import Question
from attrib.errors import DataError, TrainingError
from attrib.sampling.engine import Request, Rollout, in_order
from attrib.sampling.grading import Verdict
from attrib.sampling.randomness import derive_seed
from attrib.sampling.responder import Responder
from attrib.sampling.tree import TreeEngine
from attrib.sampling.verdicts import Verdicts, to_response
from attrib.store import Store

_GRADED = """
    SELECT question_id, token_ids, verdict = 'correct' AS correct
    FROM graded_rollouts
    WHERE sample_set_id = $sample_set_id AND grader = $grader AND rollout < $k
      AND verdict IN ('correct', 'incorrect') AND list_contains($question_ids, question_id)
    ORDER BY question_id, rollout
"""
_RECORDED = """
    SELECT visit, token_ids, correct FROM visit_rollouts, generate_series(1, draws)
    WHERE arm_id = $arm_id AND visit >= $first AND visit < $end ORDER BY visit, rowid
"""
_VISITED = """
    SELECT question_id FROM visits
    WHERE arm_id = $arm_id AND visit >= $first AND visit < $end ORDER BY visit
"""


class FreshRollouts:
    """Rollouts of the policy as it is now, for GRPO."""

    def __init__(
        self,
        policy: Policy,
        responder: Responder[TreeEngine],
        verdicts: Verdicts,
        group_size: int,
        seed: int,
    ) -> None:
        """Draw `group_size` rollouts a visit; a visit's randomness is its seed's and its own."""
        self.rollouts_per_visit, self.responder = group_size, responder
        self._policy, self._verdicts = policy, verdicts
        self._seed = seed

    def visit(self, first: int, questions: Sequence[Question]) -> list[Visit]:
        """Make the visits number `first`, `first` + 1, … of a run: draw and grade."""
        requests = [
            Request(
                f"{q.question_id}/{first + i}",
                self.responder.prompt(q),
                0,
                self.rollouts_per_visit,
            )
            for i, q in enumerate(questions)
        ]
        with self._policy.precision():
            drawn = list(in_order(self.responder.respond(requests, self._seed)))
        return self.read(first, questions, drawn, self.judge(questions, drawn))

    def judge(
        self, questions: Sequence[Question], drawn: Sequence[Sequence[Rollout]]
    ) -> list[list[Verdict]]:
        """Return the verdict on every rollout of each question."""
        self._verdicts.prepare(questions)
        responses = [
            to_response(question, rollout)
            for question, rollouts in zip(questions, drawn, strict=True)
            for rollout in rollouts
        ]
        graded = iter(self._verdicts.grade(responses))
        return [[one.verdict for one in islice(graded, len(rollouts))] for rollouts in drawn]

    def read(
        self,
        first: int,
        questions: Sequence[Question],
        drawn: Sequence[Sequence[Rollout]],
        verdicts: Sequence[Sequence[Verdict]],
    ) -> list[Visit]:
        """Return the visits number `first`, `first` + 1, … that judged rollouts make."""
        visits = []
        for number, (question, rollouts, judged) in enumerate(
            zip(questions, drawn, verdicts, strict=True), start=first
        ):
            prompt = self.responder.prompt(question).token_ids
            graded = [
                (rollout, verdict is Verdict.CORRECT)
                for rollout, verdict in zip(rollouts, judged, strict=True)
                if verdict in (Verdict.CORRECT, Verdict.INCORRECT)
            ]
            group = Group(
                question.question_id,
                prompt,
                tuple(rollout.token_ids for rollout, _ in graded),
                np.array([is_correct for _, is_correct in graded], dtype=np.bool_),
            )
            texts = tuple(rollout.text for rollout, _ in graded)
            visits.append(Visit(number, question, group, len(rollouts), group.has_both, texts))
        return visits


class RecordedRollouts:
    """The rollouts of a run that has been made, as the ledger holds them."""

    def __init__(
        self, store: Store, responder: Responder[TreeEngine], arm: Arm, group_size: int
    ) -> None:
        """Look visits up by number; each drew `group_size` rollouts, ungraded ones included."""
        self.rollouts_per_visit, self._responder = group_size, responder
        self._store, self._arm_id = store, arm.arm_id

    def visit(self, first: int, questions: Sequence[Question]) -> list[Visit]:
        """Make the visits number `first`, `first` + 1, … of the run again.

        Raises:
            TrainingError: the run visited other questions.
        """
        asked = {"arm_id": self._arm_id, "first": first, "end": first + len(questions)}
        visited = self._store.read(_VISITED, **asked)["question_id"].to_list()
        if visited != [question.question_id for question in questions]:
            raise TrainingError(
                f"The run cannot be repeated here: from visit {first} on it visited other "
                "questions, or none. Was it trained by another version of attrib?"
            )
        rows = self._store.read(_RECORDED, **asked)
        by_visit = {int(visit): part for (visit,), part in rows.group_by(["visit"])}
        visits = []
        for number, question in enumerate(questions, start=first):
            part = by_visit.get(number, rows.clear())
            group = _read_group(self._responder, question, part)
            visits.append(Visit(number, question, group, self.rollouts_per_visit, group.has_both))
        return visits


class StoredGroups:
    """Groups that are known before training: accepted answers, or rollouts drawn before it."""

    rollouts_per_visit = 0

    def __init__(
        self, groups: dict[str, Group], *, needs_both: bool, most_each: int, seed: int
    ) -> None:
        """Look groups up by question.

        Args:
            groups: by question id.
            needs_both: whether a gradient takes wrong completions too (DPO).
            most_each: right, and wrong, completions of a visit that needs both; where there are
                more, each visit draws its own.
            seed: of that draw.
        """
        self._groups, self._needs_both = groups, needs_both
        self._most_each, self._seed = most_each, seed

    @property
    def has_signal(self) -> bool:
        """Tell whether any question gives a gradient."""
        return any(self._is_informative(group) for group in self._groups.values())

    def visit(self, first: int, questions: Sequence[Question]) -> list[Visit]:
        """Make the visits number `first`, `first` + 1, … of a run: look up."""
        visits = []
        for number, question in enumerate(questions, start=first):
            group = self._groups[question.question_id]
            if self._needs_both:
                group = self._choose(group, number)
            visits.append(Visit(number, question, group, 0, self._is_informative(group)))
        return visits

    def _is_informative(self, group: Group) -> bool:
        return group.has_both if self._needs_both else group.has_right

    def _choose(self, group: Group, number: int) -> Group:
        """Return as many right and wrong completions as a visit takes, drawn for this visit."""
        generator = np.random.default_rng(derive_seed(self._seed, group.question_id, number))
        chosen = []
        for is_right in (True, False):
            places = np.flatnonzero(group.correct_G == is_right)
            chosen.append(np.sort(generator.permutation(places)[: self._most_each]))
        kept = np.concatenate(chosen)
        return Group(
            group.question_id,
            group.prompt,
            tuple(group.completions[place] for place in kept),
            group.correct_G[kept],
        )


Source = FreshRollouts | RecordedRollouts | StoredGroups


def accepted_answers(
    responder: Responder[TreeEngine], questions: Sequence[Question]
) -> dict[str, Group]:
    """Return for each question its first accepted answer as the completion to learn.

    It ends as the model ends a response: with its end token, or with the stop string of a prompt
    that has one.
    """
    return {
        question.question_id: Group(
            question.question_id,
            responder.prompt(question).token_ids,
            (responder.targets(question.answers[0])[0],),
            np.ones(1, dtype=np.bool_),
        )
        for question in questions
    }


def stored_rollouts(
    store: Store,
    responder: Responder[TreeEngine],
    grader: str,
    sample_set_id: str,
    k: int,
    questions: Sequence[Question],
) -> dict[str, Group]:
    """Return for each question its graded rollouts among the first `k` of a sample set.

    Raises:
        DataError: the engine that drew them did not tell their tokens.
    """
    rows = store.read(
        _GRADED,
        grader=grader,
        sample_set_id=sample_set_id,
        k=k,
        question_ids=[question.question_id for question in questions],
    )
    if rows.select((pl.col("token_ids").list.len() == 0).any()).item():
        raise DataError(
            "The stored rollouts have no token ids (a server drew them), which rft and dpo train "
            "on. Draw them here: attrib sample --engine tree --new-set"
        )
    by_question = {
        str(question_id): part for (question_id,), part in rows.group_by(["question_id"])
    }
    groups = {}
    for question in questions:
        part = by_question.get(question.question_id, rows.clear())
        groups[question.question_id] = _read_group(responder, question, part)
    return groups


def _read_group(responder: Responder[TreeEngine], question: Question, rows: pl.DataFrame) -> Group:
    """Return the group of a question's stored rollouts."""
    return Group(
        question.question_id,
        responder.prompt(question).token_ids,
        tuple(tuple(token_ids) for token_ids in rows["token_ids"].to_list()),
        rows["correct"].to_numpy().astype(np.bool_),
    )


def make_source(
    store: Store,
    policy: Policy,
    responder: Responder[TreeEngine],
    verdicts: Verdicts,
    arm: Arm,
    settings: TrainSettings,
    sample_set_id: str,
    k: int,
) -> Source:
    """Return what the arm's method learns from."""
    if settings.method is Method.GRPO:
        return FreshRollouts(policy, responder, verdicts, settings.group_size, arm.seed)
    if settings.method is Method.SFT:
        groups = accepted_answers(responder, arm.questions)
    else:
        grader = verdicts.grader.fingerprint
        groups = stored_rollouts(store, responder, grader, sample_set_id, k, arm.questions)
    return StoredGroups(
        groups,
        needs_both=settings.method is Method.DPO,
        most_each=max(settings.group_size // 2, 1),
        seed=arm.seed,
    )


def visits_from(arm: Arm, visit: int) -> Iterator[Question]:
    """Yield the questions of shuffled epochs, from visit number `visit` on, without end."""
    epoch, skip = divmod(visit, len(arm.questions))
    while True:
        yield from visit_order(arm.questions, arm.seed, epoch)[skip:]
        epoch, skip = epoch + 1, 0
