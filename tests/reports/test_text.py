"""Texts and numbers as they are shown."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrib.reports.text import (
    duration,
    mean_count,
    moment,
    number_interval,
    p_value,
    percent,
    percent_interval,
    points,
    points_interval,
    show,
)
from attrib.reports.values import Estimate


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\x00b", "a␀b"),
        ("a\nb\tc", "a↵b␉c"),
        ("a\u202eb", "a⟨U+202E⟩b"),
        ("\u2028", "⟨U+2028⟩"),
        ("\x7f\x85", "␡⟨U+0085⟩"),
        ("👩‍🔬", "👩‍🔬"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("\ud800", "⟨U+D800⟩"),
        ("<b>&", "<b>&"),
    ],
)
def test_show(text: str, shown: str) -> None:
    assert show(text) == shown


@given(st.text(max_size=400), st.integers(2, 50))
def test_shown_text_is_short_and_visible(text: str, longest: int) -> None:
    cut = show(text, longest)
    invisible = {"Cc", "Cs", "Zl", "Zp"}
    assert not any(unicodedata.category(character) in invisible for character in cut)
    assert len(cut) <= longest * len("⟨U+10FFFF⟩")
    assert cut.endswith("…") or len(text) <= longest


def test_numbers() -> None:
    assert percent(0.125, 1) == "12.5\u00a0%"
    assert percent(None) == "–"
    assert percent(-0.001) == "0\u00a0%"
    assert points(0.312) == "+31.2"
    assert points(-0.02) == "\u22122.0"
    assert points(0.0) == points(-0.0001) == "0.0"
    assert (mean_count(12.0), mean_count(3.5), mean_count(1234.56)) == ("12", "3.5", "1,235")
    assert mean_count(None) == "–"
    assert duration(59.4) == "59\u00a0s"
    assert duration(425) == "7\u00a0min\u00a005\u00a0s"
    assert duration(7385) == "2\u00a0h\u00a003\u00a0min"
    assert moment(1_763_876_100_000_000) == "2025-11-23 05:35 UTC"


def test_estimates() -> None:
    full = Estimate(0.312, 0.22, 0.404, seeds=1, questions=128)
    assert points_interval(full) == "+31.2 [+22.0, +40.4]"
    assert points_interval(full, 0) == "+31 [+22, +40]"
    assert number_interval(full, 2) == "0.31 [0.22, 0.40]"
    assert number_interval(full, 2, signed=True) == "+0.31 [+0.22, +0.40]"
    assert number_interval(None, 2) == "–"
    assert not full.includes_zero
    assert Estimate(0.1, -0.1, 0.3, 1, 9).includes_zero
    assert not Estimate(0.1, None, None, 1, 9).includes_zero
    assert percent_interval(full).replace("\u00a0", " ") == "31 % [22, 40]"
    bare = Estimate(0.312, None, None, seeds=1, questions=128)
    assert points_interval(bare) == "+31.2 (no interval)"
    assert percent_interval(Estimate(None, None, None, 1, 128)) == percent_interval(None) == "–"
    assert p_value(Estimate(0.00004, None, None, 1, 9)) == "< 0.001"
    assert p_value(Estimate(0.0213, None, None, 1, 9)) == "0.021"
