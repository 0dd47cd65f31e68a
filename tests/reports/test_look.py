"""What can be seen: contrast of the colours, and drawings that share a page."""

import re
from importlib import resources

import pytest
from matplotlib.figure import Figure

from attrib.reports.svg import INK, inline_svg

STYLE = (resources.files("attrib.reports") / "templates" / "report.css").read_text(encoding="utf-8")
THEMES = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", THEMES, ids=["light", "dark", "print"])
def test_contrast(theme: str) -> None:
    colours = dict(re.findall(r"--([a-z-]+):\s*(#[0-9a-f]{6})", theme))
    for text in ("ink", "muted", "link", "flag", "fine"):
        assert contrast(colours[text], colours["paper"]) >= 4.5, text
    assert contrast(colours["ink"], colours["note"]) >= 4.5
    for mark in ("vermillion", "purple", "green", "blue", "grey"):
        assert contrast(colours[mark], colours["paper"]) >= 3.0, mark


def test_templates_never_mark_text_as_safe() -> None:
    folder = resources.files("attrib.reports") / "templates"
    pages = [file for file in folder.iterdir() if file.name.endswith(".j2")]
    assert len(pages) == 3
    for page in pages:
        assert not re.search(r"\|\s*safe|autoescape", page.read_text(encoding="utf-8"))


def test_drawings_do_not_clash() -> None:
    import io

    texts = []
    for name in ("one", "two"):
        figure = Figure()
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], marker="o", color=INK)
        axes.set_title("a < b & c")
        written = io.StringIO()
        figure.savefig(written, format="svg")
        texts.append(inline_svg(written.getvalue(), name, f"title <{name}>", "described"))
    ids = [set(re.findall(r'id="([^"]+)"', text)) for text in texts]
    assert ids[0].isdisjoint(ids[1])
    for name, text, known in zip(("one", "two"), texts, ids, strict=True):
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', text)) <= known
        assert f"title &lt;{name}&gt;" in text
        assert "currentColor" in text
        assert "http" not in text
        assert "<style" not in text
