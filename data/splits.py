"""Splits: which facts are trained on and which are only ever evaluated on.

A whole fact falls on one side. What a study has used keeps its side; the facts that are free are
drawn with a seed, in the same proportion in every relation. Refuses nothing: a question that asks
for a fact of both sides is left out and named.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attrib.data.facts import find_links, join
from attrib.data.parsing import Draft, Dropped
from attrib.data.questions import Question, Split
from attrib.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Leaking:
    """A draft that asks for a fact of both sides, and a question of each that it is linked with."""

    draft: Draft
    train: Question
    held_out: Question


@dataclass(frozen=True, slots=True)
class Settled:
    """Drafts that have become questions, by the side of their fact.

    Attributes:
        questions: in the order of the drafts.
        leaking: what could be put on neither side.
        links: between ids, what was already there first.
    """

    questions: tuple[Question, ...]
    leaking: tuple[Leaking, ...]
    links: tuple[tuple[str, str, str], ...]

    @property
    def dropped(self) -> list[Dropped]:
        """Return what is leaking as rows that were dropped, with the questions in its way."""
        return [
            Dropped(
                one.draft.question_id,
                None,
                "it asks for a fact of both sides",
                f"{one.draft.text} · train: {one.train.text} · held-out: {one.held_out.text}",
            )
            for one in self.leaking
        ]


def settle(
    dataset: str, drafts: Sequence[Draft], settled: Sequence[Question], held_out: float, seed: int
) -> Settled:
    """Return the drafts as questions of `dataset`, each on the side of its fact.

    Args:
        dataset: their name.
        drafts: new questions.
        settled: questions that keep their facts and sides.
        held_out: share of the new facts that are only evaluated on.
        seed: of the draw.

    Raises:
        ConfigError: the share is no number between 0 and 1.
    """
    if not 0.0 <= held_out <= 1.0:
        raise ConfigError(f"--held-out {held_out} must be a number from 0 to 1.")
    everything: list[Question | Draft] = [*settled, *drafts]
    links = find_links(everything)
    known = len(settled)
    fact_ids: dict[int, str] = {}
    sides: dict[int, Split] = {}
    leaking: dict[int, Leaking] = {}
    free: list[tuple[str, str, list[int]]] = []
    for members in join(len(everything), links):
        new = [place for place in members if place >= known]
        old = [settled[place] for place in members if place < known]
        by_side = {question.split: question for question in reversed(old)}
        if not old:
            first = min((drafts[place - known] for place in new), key=lambda d: d.question_id)
            fact_id = first.question_id  # a fact is named after one of its questions
            free.append((first.relation or "", fact_id, new))
        elif len(by_side) == 1:
            fact_id = min(question.fact_id for question in old)
            sides |= dict.fromkeys(new, old[0].split)
        else:
            for place in new:
                draft = drafts[place - known]
                leaking[place] = Leaking(draft, by_side[Split.TRAIN], by_side[Split.HELD_OUT])
            continue
        fact_ids |= dict.fromkeys(new, fact_id)
    sides |= _draw(free, held_out, seed)
    return Settled(
        questions=tuple(
            _place(dataset, drafts[place - known], fact_ids[place], sides[place])
            for place in range(known, len(everything))
            if place not in leaking
        ),
        leaking=tuple(leaking.values()),
        links=tuple(
            (everything[link.first].question_id, everything[link.second].question_id, link.rule)
            for link in links
            if link.second >= known and not {link.first, link.second} & leaking.keys()
        ),
    )


def _draw(
    free: Sequence[tuple[str, str, list[int]]], held_out: float, seed: int
) -> dict[int, Split]:
    """Return the side of every new question: a systematic draw along relations and hashes.

    Every relation gets its share of held-out facts to within one, however small it is.
    """
    ordered = sorted(
        (relation, hashlib.sha256(f"{seed}:{fact}".encode()).digest(), places)
        for relation, fact, places in free
    )
    start = np.random.default_rng(seed).random()
    sides: dict[int, Split] = {}
    for number, (_, _, places) in enumerate(ordered):
        passed = math.floor((number + 1) * held_out + start) - math.floor(number * held_out + start)
        sides |= dict.fromkeys(places, Split.HELD_OUT if passed else Split.TRAIN)
    return sides


def _place(dataset: str, draft: Draft, fact_id: str, split: Split) -> Question:
    return Question(
        question_id=draft.question_id,
        dataset=dataset,
        split=split,
        text=draft.text,
        answers=draft.answers,
        answer_type=draft.answer_type,
        subject=draft.subject,
        relation=draft.relation,
        fact_id=fact_id,
        popularity=draft.popularity,
        flags=draft.flags,
    )
