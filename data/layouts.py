"""Layouts: which columns of a question file hold what.

Owns the layouts of the public sets, as their sources publish them, and how a cell is read: lists
come as lists, as JSON or Python literals inside a string, or as structs with aliases. Where a set
asks from templates, relation and subject are read off the question.
"""

import ast
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from attrib.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Layout:
    """Columns by what they hold; `a.b` is the field b inside a.

    Attributes:
        preset: what users call it.
        question: the text.
        answers: accepted answers, in any form that `read_answers` knows.
        aliases: more of them.
        key: what names a row for good; None where only its place does.
        subject: what is asked about.
        relation: what is asked of it.
        popularity: a count.
        kind: the type of the answer, in the source's words.
        header: the columns, where the file has no header line.
        templates: the relation of questions of a form; the subject stands where `{}` does.
        relation_in_name: the relation is in the file's name.
        several: a list of answers means all of them together, not ways to say one.
        ending: what the source puts after names that are said without it too.
    """

    preset: str
    question: str
    answers: str
    aliases: tuple[str, ...] = ()
    key: str | None = None
    subject: str | None = None
    relation: str | None = None
    popularity: str | None = None
    kind: str | None = None
    header: tuple[str, ...] = ()
    templates: tuple[tuple[str, str], ...] = ()
    relation_in_name: re.Pattern[str] | None = None
    several: bool = False
    ending: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns that a row must have."""
        named = (self.question, self.answers, *self.aliases, self.key, self.subject)
        more = (self.relation, self.popularity, self.kind)
        return tuple(dict.fromkeys(name for name in (*named, *more) if name))

    def missing(self, there: Collection[str]) -> list[str]:
        """Return the columns that are not among those of a file."""
        return [name for name in self.columns if name.split(".")[0] not in there]


POPQA_TEMPLATES = (
    ("What is {}'s occupation?", "occupation"),
    ("In what city was {} born?", "place of birth"),
    ("What genre is {}?", "genre"),
    ("Who is the father of {}?", "father"),
    ("In what country is {}?", "country"),
    ("Who was the producer of {}?", "producer"),
    ("Who was the director of {}?", "director"),
    ("What is {} the capital of?", "capital of"),
    ("Who was the screenwriter for {}?", "screenwriter"),
    ("Who was the composer of {}?", "composer"),
    ("What color is {}?", "color"),
    ("What is the religion of {}?", "religion"),
    ("What sport does {} play?", "sport"),
    ("Who is the author of {}?", "author"),
    ("Who is the mother of {}?", "mother"),
    ("What is the capital of {}?", "capital"),
)
"""Of Mallen et al. 2023 (arXiv 2212.10511); the relations in their words."""

ENTITY_TEMPLATES = (
    ("Which country is {} located in?", "P17"),
    ("Where was {} born?", "P19"),
    ("Where did {} die?", "P20"),
    ("Who is {} married to?", "P26"),
    ("What is the capital of {}?", "P36"),
    ("Who is {}'s child?", "P40"),
    ("Who is the author of {}?", "P50"),
    ("Where was {} educated?", "P69"),
    ("What kind of work does {} do?", "P106"),
    ("Who founded {}?", "P112"),
    ("Who owns {}?", "P127"),
    ("Where is {} located?", "P131"),
    ("What type of music does {} play?", "P136"),
    ("Where is the headquarter of {}?", "P159"),
    ("Who was {} created by?", "P170"),
    ("Who performed {}?", "P175"),
    ("Which company is {} produced by?", "P176"),
    ("What music label is {} represented by?", "P264"),
    ("Where is {} located?", "P276"),
    ("Which language was {} written in?", "P407"),
    ("What position does {} play?", "P413"),
    ("Which country was {} created in?", "P495"),
    ("Where was {} founded?", "P740"),
    ("What is {} famous for?", "P800"),
)
"""Of Sciavolino et al. 2021 (arXiv 2109.08535), by the Wikidata property that names the file."""

PRESETS: Mapping[str, tuple[Layout, ...]] = {
    "popqa": (
        Layout(
            "popqa",
            question="question",
            answers="possible_answers",
            key="id",
            subject="subj",
            relation="prop",
            popularity="s_pop",
        ),
        Layout(
            "popqa",
            question="question",
            answers="golden_answers",
            key="id",
            subject="metadata.subj",
            relation="metadata.prop",
            popularity="metadata.s_pop",
        ),
        Layout(
            "popqa",
            question="question",
            answers="answer",
            aliases=("aliases",),
            templates=POPQA_TEMPLATES,
        ),
    ),
    "entityquestions": (
        Layout(
            "entityquestions",
            question="question",
            answers="answers",
            templates=ENTITY_TEMPLATES,
            relation_in_name=re.compile(r"\b(P\d+)\b"),
        ),
    ),
    "triviaqa": (
        Layout("triviaqa", question="question", answers="answer", key="question_id"),
        Layout("triviaqa", question="Question", answers="Answer", key="QuestionId"),
    ),
    "simpleqa": (
        Layout("simpleqa", question="problem", answers="answer", kind="metadata.answer_type"),
    ),
    "simpleqa-verified": (
        Layout("simpleqa-verified", question="problem", answers="answer", kind="answer_type"),
    ),
    "webquestions": tuple(
        Layout(
            *("webquestions", question, "answers"),
            key=key,
            several=True,
            ending=" language",  # Freebase: Spanish Language
        )
        for question, key in (("qText", "qId"), ("question", "url"))
    ),
    "nq-open": (Layout("nq-open", question="question", answers="answer"),),
    "dpr": (Layout("dpr", question="question", answers="answers", header=("question", "answers")),),
}
"""In the order in which they are tried on a file whose layout is not named."""


def choose_layout(preset: str, columns: Iterable[str], path: object) -> Layout:
    """Return the preset's layout whose columns a file has.

    Raises:
        ConfigError: there is no such preset, or the file lacks a column.
    """
    if preset not in PRESETS:
        raise ConfigError(f"--format {preset} is not known. Choose one of: {', '.join(PRESETS)}.")
    there = set(columns)
    layouts = PRESETS[preset]
    for layout in layouts:
        if not layout.missing(there):
            return layout
    missing = layouts[-1].missing(there)
    raise ConfigError(
        f"{path} has no column {missing[0]!r}, which --format {preset} needs; it has "
        f"{', '.join(sorted(there))}. Name its columns: --question-column, --answers-column."
    )


def guess_layout(columns: Iterable[str]) -> Layout | None:
    """Return the first layout whose columns are all there, None without one."""
    there = set(columns)
    for layouts in PRESETS.values():
        for layout in layouts:
            if not layout.header and not layout.missing(there):
                return layout
    return None


def read_cell(cells: Mapping[str, object], name: str) -> object:
    """Return a cell, or the field that a dotted name leads to; None where there is none."""
    value: object = cells
    for part in name.split("."):
        value = _parse(value) if isinstance(value, str) else value
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def read_text(cells: Mapping[str, object], name: str | None) -> str:
    """Return a cell as text without outer blanks; empty where there is none."""
    value = read_cell(cells, name) if name else None
    return "" if value is None else " ".join(str(value).split())


def read_answers(value: object) -> list[str]:
    """Return the answers that a cell lists, in order.

    A cell is an answer, a list of them, either of these written as JSON or a Python literal, or a
    struct as in TriviaQA: its value, then its aliases.
    """
    if isinstance(value, str):
        literal = _parse(value) if value.lstrip()[:1] in ("[", "{") else value
        return [value] if isinstance(literal, str) else read_answers(literal)
    if isinstance(value, Mapping):
        folded = {str(name).lower(): one for name, one in value.items()}
        found = read_answers(folded.get("value"))
        for name in ("aliases", "humananswers"):
            found += read_answers(folded.get(name))
        return found
    if isinstance(value, Iterable):
        return [answer for one in value for answer in read_answers(one)]
    return [] if value is None else [str(value)]


def unquote(text: str) -> str:
    """Return a text without the quotation marks that a second round of quoting left around it."""
    inner = text[1:-1]
    if len(text) > 1 and text[0] == text[-1] == '"' and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"').strip()
    return text


def _parse(text: str) -> object:
    """Return what a JSON or Python literal stands for; the text itself if it is none."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


@cache
def _patterns(templates: tuple[tuple[str, str], ...]) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple(
        (re.compile(re.escape(template).replace(r"\{\}", "(.*)"), re.DOTALL), relation)
        for template, relation in templates
    )


def read_template(layout: Layout, text: str, relation: str | None) -> tuple[str, str] | None:
    """Return relation and subject of a question from its template, None if none fits.

    Where the file names the relation, only its own template is tried.
    """
    for pattern, own in _patterns(layout.templates):
        if relation in (None, own):
            found = pattern.fullmatch(text)
            if found:
                return own, found[1].strip()
    return None
