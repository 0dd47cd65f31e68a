"""Drawing the split again: the facts of what a study has not used yet get new sides.

Questions that were sampled, trained on or evaluated keep their facts and sides, and so does the
built-in set; the others are settled anew, in the order in which their data sets came.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import polars as pl

from attrib.data.library import append_links, load_every_question
from attrib.data.parsing import Draft
from attrib.data.questions import WORLDFACTS, Question, Split
from attrib.data.splits import Settled, settle
from attrib.errors import DataError
from attrib.settings import Settings
from attrib.store import Store, Transaction

_USED = """
    SELECT question_id FROM selections UNION SELECT question_id FROM rollouts
    UNION SELECT question_id FROM evaluations UNION SELECT question_id FROM arm_questions
    ORDER BY question_id
"""


class SplitSettings(Settings):
    """What `attrib data split` was asked for."""

    held_out: float = 0.25
    """Share of the free facts that are only evaluated on."""
    seed: int = 0
    """Of the draw."""


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """What drawing the split again did."""

    kept: int
    """Questions that were used, or are built in, and stayed where they are."""
    drawn: int
    moved: int
    held_out: Mapping[str, int]
    """Held-out questions by data set."""
    left_out: tuple[str, ...]
    """Texts of questions that ask for facts of both sides now."""


def split_again(store: Store, settings: SplitSettings) -> SplitSummary:
    """Give the questions that are not used yet their facts and sides anew.

    Raises:
        ConfigError: the share is no number from 0 to 1.
        DataError: every question is used, or built in.
    """
    with store.writing("attrib data split", create=False):
        used = set(store.read(_USED)["question_id"])
        questions = load_every_question(store)
        settled = [q for q in questions if q.question_id in used or q.dataset == WORLDFACTS]
        kept = {q.question_id for q in settled}
        free = [q for q in questions if q.question_id not in kept]
        if not free:
            raise DataError(
                "There is nothing to split: every question is built in, or was used already. "
                "Bring some in with: attrib data import FILE"
            )
        imports = store.read("SELECT dataset, dropped FROM imports ORDER BY imported_at, dataset")
        with store.transaction() as transaction:
            left_out: list[str] = []
            for dataset, dropped in imports.iter_rows():
                mine = [q for q in free if q.dataset == dataset]
                if mine:
                    drafts = [_to_draft(q) for q in mine]
                    found = settle(dataset, drafts, settled, settings.held_out, settings.seed)
                    ids = [q.question_id for q in mine]
                    _replace(transaction, dropped, dataset, ids, found)
                    settled += found.questions
                    left_out += [one.draft.text for one in found.leaking]
        before = {q.question_id: q.split for q in free}
        drawn = [q for q in settled if q.question_id in before]
        held_out = Counter(q.dataset for q in settled if q.split is Split.HELD_OUT)
        return SplitSummary(
            kept=len(kept),
            drawn=len(drawn),
            moved=sum(q.split is not before[q.question_id] for q in drawn),
            held_out=dict(sorted(held_out.items())),
            left_out=tuple(left_out),
        )


def _to_draft(question: Question) -> Draft:
    return Draft(
        question_id=question.question_id,
        text=question.text,
        answers=question.answers,
        answer_type=question.answer_type,
        subject=question.subject,
        relation=question.relation,
        popularity=question.popularity,
        flags=question.flags,
    )


def _replace(
    transaction: Transaction, dropped: str, dataset: str, old: Sequence[str], found: Settled
) -> None:
    """Write facts, sides and links anew, and take out what is on no side."""
    transaction.execute("DELETE FROM fact_links WHERE list_contains($ids, other_id)", ids=old)
    places = pl.DataFrame(
        [(q.question_id, q.fact_id, str(q.split)) for q in found.questions],
        ["question_id", "fact_id", "split"],
        orient="row",
    )
    transaction.update("questions", "question_id", places)
    append_links(transaction, found.links)
    if found.leaking:
        gone = [one.draft.question_id for one in found.leaking]
        transaction.execute(
            "DELETE FROM questions WHERE list_contains($ids, question_id)", ids=gone
        )
        record = json.loads(dropped) + [asdict(one) for one in found.dropped]
        transaction.execute(
            "UPDATE imports SET dropped = $dropped WHERE dataset = $dataset",
            dropped=json.dumps(record),
            dataset=dataset,
        )
