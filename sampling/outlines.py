"""Outlines: the letters of many texts at once, to tell which need not be read closely.

Reading words as names compare takes tens of microseconds a text. What most texts are *not* can be
told from their letters: texts with different outlines are not the same name, and a name that a
text has but for some letters leaves a piece of itself in the outline. Owns the texts for which that
holds; others have no outline and are to be read.
"""

import polars as pl

from attrib.sampling.forms import TRIGGERS
from attrib.sampling.normalise import ARTICLES, SYNONYMS

_SPOKEN_OR_ACCENT = r"[&+#%`]"
_INITIAL = r"(?:^|[^a-z0-9])[a-z]\."
_CHANGING = "|".join(sorted({*TRIGGERS, *SYNONYMS}, key=len, reverse=True))
_HAS_CHANGING = rf"(?:^|[^a-z0-9])(?:{_CHANGING})(?:[^a-z0-9]|$)"
_POSSESSIVE = r"'s([^a-z0-9]|$)"
_ARTICLE = rf"\b(?:{'|'.join(sorted(ARTICLES, key=len, reverse=True))})\b"


def outline(text: pl.Expr) -> pl.Expr:
    """Return the letters of texts in lower case, without articles.

    Null where folding may change a word: other than ASCII, figures, numbers in words, initials,
    units and other synonyms, signs that are spoken. For all others: texts with one first name key
    have one outline, and it is that of the words of `split_names` as well.
    """
    lower = text.str.to_lowercase()
    joined = lower.str.replace_all(_POSSESSIVE, " s$1").str.replace_all("'", "", literal=True)
    spaced = joined.str.replace_all(r"[^a-z0-9]+", " ")
    changes = pl.any_horizontal(
        text.str.contains(r"[^\x00-\x7f]|[0-9]"),
        text.str.contains(_SPOKEN_OR_ACCENT),
        lower.str.contains(_INITIAL),
        lower.str.contains(_HAS_CHANGING),
        joined.str.contains(_HAS_CHANGING),
    )
    letters = spaced.str.replace_all(_ARTICLE, "").str.replace_all(" ", "", literal=True)
    return pl.when(~changes).then(letters)


def untouched_pieces(key: str, edits: int) -> list[str]:
    """Return pieces of a name key of which at least one survives in its outline.

    After at most `edits` letters, or blanks, were replaced, left out, added or swapped with the
    next. A letter lies between the pieces, so that no edit touches two.
    """
    letters = key.replace(" ", "")
    size = max((len(letters) - edits) // (edits + 1), 0)
    return [letters[at * (size + 1) : at * (size + 1) + size] for at in range(edits + 1)]
