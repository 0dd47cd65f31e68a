"""What a question is worded with: the words that name things, what is asked of them, and numbers.

Weights of words come from `common_words.txt`, so that what two questions have in common does not
change with the other questions of a study. `build_common_words.py` counts them.
"""

import math
import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from importlib import resources

from rapidfuzz.distance import OSA

_WORD = re.compile(r"[^\W\d_]+|\d+")
_POSSESSIVE = re.compile(r" ?'s\b|'")
_COUNTRIES = (  # written in many ways, and with words that are common otherwise
    (re.compile(r"\b(united states of america|united states|u\.s\.a?\.?|usa|us)(?!\w)"), "america"),
    (re.compile(r"\b(united kingdom|great britain|u\.k\.|uk)(?!\w)"), "britain"),
)
_SAME_START = 5  # letters from which on two words may be forms of one
_LONGEST_ENDING = 3

_NUMBERS = {
    word: str(number)
    for words in (
        "zero one two three four five six seven eight nine ten eleven twelve",
        "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth",
        "_ _ ii iii iv _ vi vii viii ix _ xi xii",  # lone letters are no numbers
    )
    for number, word in enumerate(words.split())
}

_FILLERS = """
a about actual actually after all also an and another answer answers any are as at be became become
becomes been before being between both but by call called can century come comes common commonly
could country current currently date day did do does down during each ever every famous famously
first for form found from full get gets give given go goes going got had has have having he her him
his how i in into is it its just kind kinds known last latest like list located made main major make
makes making map many may me meaning might month more most my name named names nation new next no
not now nowadays number of off official officially old on once one ones only onto or original
originally other others our out over part people person place please popular presently real recent
recently right s shall she should so some still such t take takes tell term than that the their them
then there these they thing things this those time times title titled to today two type types under
up use used uses using very was we well were what whats when where which while who whom whos whose
why wiki wikipedia will with word would yahoo year years yes you your
"""

# Words for one thing that is asked, a line each. A word may be on several.
_ASKED = """
author authored novelist novel pen penned playwright poem lyric lyrics screenplay screenwriter
  write writer writes writing written wrote
compose composed composer composes music write writes written wrote
build built create created creator design designed designer develop developed discover discovered
  discoverer drew establish established founded founder introduce introduced invent invented
  inventor originate originated started wrote
artist created paint painted painter painting work
direct directed director
produce produced producer produces
band group hit music musician perform performed performer performs record recorded recording
  released sang sing singer sings single song sung
act acted acting actor actress cast character play played player playing plays portray portrayed
  portrays role star starred starring voice voiced voiceover voices
dialect language languages speak speaking speaks spoken tongue
currencies currency monetary money
capital
bride husband marriage married marries marry spouse widow wife wives
dad father fathered
mom mother mum
child children daughter kid son
brother sibling sister
birth birthday birthplace born grew hometown raised
assassinated buried dead death die died dies killed murdered
attend attended college colleges educated education graduate graduated school studied study
  university
belief beliefs believe faith religion religious
democracy government political politics
beat champion defeated win winner winning wins won
biggest greatest largest
longest
highest tallest
smallest
populated population populous
belong belongs own owned owner owns
color colour
episode
air aired airs began begin beginning begins come comes out premiere premiered release released
  releases return returned returns start started starts
end ended ends finish
goals score scored scorer
timezone zone
genre style
job occupation profession
club team
located location situated where
headquarter headquartered headquarters hq
mean meaning means stand stands
vice
filmed shot
export import
date when year
many number
"""


@dataclass(frozen=True, slots=True)
class Wording:
    """The words of a question by what they do in it.

    Attributes:
        words: all of them.
        names: what is left when the others are taken out; mostly names and what goes with them.
        asked: numbers of the lines of `_ASKED`, for what is asked.
        numbers: digits, also of numbers in words and of Roman ones.
    """

    words: frozenset[str]
    names: frozenset[str]
    asked: frozenset[int]
    numbers: frozenset[str]


def read_wording(text: str) -> Wording:
    """Return what a question is worded with."""
    names: set[str] = set()
    asked: set[int] = set()
    numbers: set[str] = set()
    words = frozenset(split_words(text))
    for word in words:
        if word.isdigit() or word in _NUMBERS:
            numbers.add(_NUMBERS.get(word, word))
        elif word in _ASKED_BY_WORD:
            asked |= _ASKED_BY_WORD[word]
        elif word not in _FILLER_WORDS:
            names.add(word)
    return Wording(words, frozenset(names), frozenset(asked), frozenset(numbers))


def split_words(text: str) -> list[str]:
    """Return the words in lower case and in the singular, without accents and possessives."""
    plain = unicodedata.normalize("NFKD", text.casefold().replace("’", "'"))
    if not plain.isascii():
        plain = "".join(c for c in plain if not unicodedata.combining(c))
    plain = _POSSESSIVE.sub("", plain)
    for pattern, country in _COUNTRIES:
        plain = pattern.sub(country, plain)
    return [_make_singular(word) for word in _WORD.findall(plain)]


def weigh(word: str) -> float:
    """Return how much a word tells: minus the logarithm of its share of questions, capped."""
    return _weights().get(word, _weights()[""])


@cache
def are_forms_of_one(one: str, other: str) -> bool:
    """Tell whether two words differ in their ending, as Canada and Canadian, or in one letter."""
    shorter, longer = sorted((one, other), key=len)
    if len(shorter) < _SAME_START:
        return False
    same = next(
        (i for i, pair in enumerate(zip(shorter, longer, strict=False)) if len(set(pair)) > 1),
        len(shorter),
    )
    if same >= _SAME_START and len(longer) - same <= _LONGEST_ENDING:
        return True
    return OSA.distance(one, other, score_cutoff=1) <= 1


def _make_singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


@cache
def _weights() -> dict[str, float]:
    """Return the weights of common words; of all others under the empty word."""
    text = resources.files("attrib.data").joinpath("common_words.txt").read_text(encoding="utf-8")
    counts = {word: int(count) for word, count in map(str.split, text.splitlines())}
    questions = counts.pop("questions:")
    weights = {word: math.log(questions / count) for word, count in counts.items()}
    return {**weights, "": max(weights.values())}


_FILLER_WORDS = frozenset(map(_make_singular, _FILLERS.split()))
_ASKED_BY_WORD: dict[str, frozenset[int]] = {}
for _number, _line in enumerate(_ASKED.replace("\n  ", " ").strip().splitlines()):
    for _word in map(_make_singular, _line.split()):
        _ASKED_BY_WORD[_word] = _ASKED_BY_WORD.get(_word, frozenset()) | {_number}
