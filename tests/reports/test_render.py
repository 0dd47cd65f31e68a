"""The page: whole, well-formed, self-contained, repeatable, and honest about what is missing."""

import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from attrib.errors import ConfigError, DataError
from attrib.reports.render import ReportSummary, write_report
from attrib.store import Store

Build = Callable[..., Store]
VOID = {"meta", "link", "br", "hr", "img", "input"}
HOSTILE = (
    "<script>alert(1)</script> ]]> </style></svg> \u202eevil\u200f \x00\x07 {{ 7*7 }} $x^2$ 👩‍🔬 "
    + "x" * 10_000
)


class Page(HTMLParser):
    """A strict reader: every element must be closed in turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.problems: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, key, value or "") for key, value in attrs]
        self.ids += [value or "" for key, value in attrs if key == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).replace("\u00a0", " ").split())


def read(store: Store, tmp_path: Path, **options: str) -> tuple[Page, str, ReportSummary]:
    output = tmp_path / "out" / "report.html"
    summary = write_report(store, output, **options)
    text = output.read_text(encoding="utf-8")
    assert summary.bytes == output.stat().st_size
    assert [path.name for path in output.parent.iterdir()] == ["report.html"]
    return Page(text), text, summary


def check_sound(page: Page, text: str) -> None:
    assert page.problems == []
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert page.tags.count("h1") == 1
    assert "script" not in page.tags
    referred = {
        value[1:] for _, key, value in page.attributes if key == "href" and value[:1] == "#"
    }
    referred |= set(re.findall(r"url\(#([^)]+)\)", text))
    for _, key, value in page.attributes:
        if key == "aria-labelledby":
            referred |= set(value.split())
    assert referred <= set(page.ids)
    loading = [
        (tag, key, value)
        for tag, key, value in page.attributes
        if key in {"src", "href", "xlink:href", "srcset", "data", "action"}
        and not value.startswith("#")
    ]
    assert loading == []
    assert "http://" not in text
    assert "https://" not in text
    assert not any(key.startswith("on") for _, key, _ in page.attributes)
    assert "nan" not in re.findall(r"\bnan\b", text)


def test_whole_study(build_study: Build, tmp_path: Path) -> None:
    page, text, summary = read(build_study(), tmp_path)
    check_sound(page, text)
    assert text.startswith("<!doctype html>")
    assert summary.bytes < 400_000
    assert page.tags.count("figure") == page.tags.count("svg") == 5
    assert page.tags.count("figcaption") == page.tags.count("figure")
    assert page.tags.count("caption") == page.tags.count("table")
    assert text.count('role="img"') == 5
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in text
    for heading in (
        "What was asked",
        "Buckets",
        "Pass@k before RL",
        "Held-out accuracy",
        "Share of the data",
        "The ledger of visits",
        "Training",
        "Learned and lost",
        "Settings and versions",
    ):
        assert heading in page.words
    assert "arXiv 2605.07153" in page.words
    assert "not a result of this study" in page.words
    assert "6b1f0c52d9e3a874" in page.words
    assert "attrib ablate --seeds 1" in page.words
    assert "24 updates, each from 8 informative groups of 8 rollouts" in page.words
    assert "With one seed, how much a result varies" in page.words


def test_effects_appear_as_stored(build_study: Build, tmp_path: Path) -> None:
    store = build_study()
    page, _, summary = read(store, tmp_path)
    effects = store.read(
        "SELECT role, subset, statistic, value, low, high FROM effects WHERE value IS NOT NULL "
        "AND statistic IN ('gain', 'share') AND role <> 'full' ORDER BY ALL"
    )
    assert effects.height > 10
    for _, _, statistic, value, low, high in effects.iter_rows():
        if statistic == "gain":
            shown = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * one for one in (value, low, high)))
        else:
            shown = "{:.0f} % [{:.0f} %, {:.0f} %]".format(
                *(100 * one for one in (value, low, high))
            )
        shown = shown.replace("-", "\u2212").replace("+0.0", "0.0").replace("\u22120.0", "0.0")
        assert shown.replace("\u22120 %", "0 %") in page.words
    assert summary.claim.startswith("Training on the 12 never-correct questions alone (30 % of")
    assert summary.claim in page.words


def test_same_study_same_bytes(
    build_study: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = build_study()
    _, first, _ = read(store, tmp_path)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    _, second, _ = read(store, tmp_path)
    assert first == second


def test_hostile_text_is_shown_and_harmless(build_study: Build, tmp_path: Path) -> None:
    page, text, _ = read(build_study(hostile=HOSTILE), tmp_path)
    check_sound(page, text)
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script>alert(1)</script> ]]>" in page.words
    assert "{{ 7*7 }}" in page.words
    assert "⟨U+202E⟩evil⟨U+200F⟩ ␀␇" in page.words
    assert "👩‍🔬" in page.words
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", text)
    assert "x" * 600 not in text
    assert "x…" in page.words


def test_no_arms_yet(build_study: Build, tmp_path: Path) -> None:
    page, text, summary = read(build_study(arms=False), tmp_path)
    check_sound(page, text)
    assert "No arm has been trained" in summary.claim
    assert "attrib ablate" in page.words
    assert page.tags.count("svg") == 2
    assert "The ledger of visits" not in page.words
    assert "Settings and versions" in page.words


def test_samples_only_is_refused(build_study: Build, tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    with pytest.raises(DataError, match="attrib bucket --k N"):
        write_report(build_study(buckets=False, arms=False), output)
    assert not output.exists()


@pytest.mark.parametrize("status", ["exhausted", "failed", "running"])
def test_unfinished_arm_is_flagged_and_not_compared(
    build_study: Build, tmp_path: Path, status: str
) -> None:
    statuses = {"only never-correct": (status, "no <b>signal</b>")}
    page, text, summary = read(build_study(statuses=statuses), tmp_path)
    check_sound(page, text)
    assert "never-correct questions alone" not in summary.claim
    assert "rarely-correct questions alone" in summary.claim
    assert f"only never-correct ({status})" in page.words
    assert f'<span class="status flag">{status}</span>' in text
    assert "no <b>signal</b>" in page.words
    assert "left out of the claims" in page.words


def test_undefined_share_is_explained(build_study: Build, tmp_path: Path) -> None:
    store = build_study(full_gain=0.0)
    known = store.read("SELECT count(value) FROM effects WHERE statistic = 'share'").item()
    assert known == 0
    page, text, _ = read(store, tmp_path)
    check_sound(page, text)
    assert "Shares of the gain are undefined because the full arm" in page.words
    assert "share undefined" in page.words
    assert "which cannot be told from zero" in page.words


def test_seeds_are_counted(build_study: Build, tmp_path: Path) -> None:
    page, _, summary = read(build_study(seeds=(1, 2)), tmp_path)
    assert summary.claim.endswith("2 seeds.")
    assert "With one seed" not in page.words
    assert "Reduced scale" in page.words


def test_arm_planned_but_not_begun(build_study: Build, tmp_path: Path) -> None:
    store = build_study()
    with store.writing("attrib test"), store.transaction() as batch:
        batch.execute("DELETE FROM training_runs WHERE arm_id = 'only-never-correct-1'")
        batch.execute("DELETE FROM effects WHERE role = 'only' AND subset = 'never-correct'")
    page, text, _ = read(store, tmp_path)
    check_sound(page, text)
    assert "“only never-correct” is planned and has not begun" in page.words


def test_experiment_just_begun(build_study: Build, tmp_path: Path) -> None:
    store = build_study()
    with store.writing("attrib test"), store.transaction() as batch:
        for table in ("training_runs", "effects", "visits", "updates", "evaluations"):
            batch.execute(f"DELETE FROM {table}")
    page, text, summary = read(store, tmp_path)
    check_sound(page, text)
    assert summary.claim == "No arm has finished and been evaluated yet, so nothing is claimed."


def test_experiment_is_chosen_by_prefix(build_study: Build, tmp_path: Path) -> None:
    store = build_study()
    assert read(store, tmp_path, experiment_id="e")[2] == read(store, tmp_path)[2]
    with pytest.raises(DataError, match="No experiment begins with 'zz'"):
        write_report(store, tmp_path / "report.html", "zz")


def test_unwritable_output(build_study: Build, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="Choose another --output"):
        write_report(build_study(arms=False), tmp_path / "file" / "report.html")


def test_matplotlib_waits_until_it_is_needed() -> None:
    code = (
        "import sys, attrib.reports.render as _; "
        "print('matplotlib' in sys.modules, 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
