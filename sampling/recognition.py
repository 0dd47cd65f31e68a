"""Which question of the study a prompt of another program asks.

By our id where the file has it; else by the words of the question, without case, accents and
punctuation: the prompt is the question, or holds it as a run of words. Where it holds several, as a
prompt with worked examples does, the last one is asked. A text that several questions share is
never guessed at.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from attrib.data.questions import Question

FEWEST_WORDS = 3
"""Of a question that is looked for within a prompt: shorter ones occur by chance."""
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Unrecognised:
    """A prompt that stands for no question, and why."""

    prompt: str
    reason: str


class Recogniser:
    """The questions of a study, to be recognised."""

    def __init__(self, questions: Sequence[Question]) -> None:
        """Index the questions by id and by words."""
        self._by_id = {question.question_id: question for question in questions}
        self._by_words: dict[tuple[str, ...], list[Question]] = {}
        for question in questions:
            self._by_words.setdefault(split_words(question.text), []).append(question)
        lengths = {len(words) for words in self._by_words}
        self._lengths = sorted((n for n in lengths if n >= FEWEST_WORDS), reverse=True)
        self._known: dict[str, Question | Unrecognised] = {}

    def recognise(self, question_id: str | None, prompt: str) -> Question | Unrecognised:
        """Return the question that is asked."""
        if question_id is not None and question_id in self._by_id:
            return self._by_id[question_id]
        if prompt not in self._known:
            self._known[prompt] = self._look_up(prompt)
        return self._known[prompt]

    def _look_up(self, prompt: str) -> Question | Unrecognised:
        words = split_words(prompt)
        found = self._by_words.get(words) or self._find_last(words)
        if not found:
            return Unrecognised(prompt, "asks no question of the study")
        if len(found) > 1:
            return Unrecognised(prompt, f"{len(found)} questions of the study have this text")
        return found[0]

    def _find_last(self, words: tuple[str, ...]) -> list[Question]:
        """Return what the last run of words asks that is a question: the longest ending there."""
        for end in range(len(words), 0, -1):
            for length in self._lengths:
                found = self._by_words.get(words[end - length : end]) if length <= end else None
                if found:
                    return found
        return []


def split_words(text: str) -> tuple[str, ...]:
    """Return the words of a text without case, accents and punctuation."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return tuple(_WORD.findall("".join(c for c in plain if not unicodedata.combining(c))))
