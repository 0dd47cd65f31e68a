"""The page: whole, well-formed, self-contained, repeatable, and honest about what is missing."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from attrib.analyses import ANSWERS, analyze
from attrib.analysis.intervals import exact_interval
from attrib.attribution.effect import store_effects
from attrib.attribution.effects import estimate_effects
from attrib.errors import ConfigError, DataError
from attrib.reports.claims import state_claims
from attrib.reports.collect import collect_study
from attrib.reports.contents import PARTS
from attrib.reports.page_study import LONGEST_COMMAND
from attrib.reports.records import Study
from attrib.reports.render import ReportFormat, ReportSummary, write_report
from attrib.store import Store

Build = Callable[..., Store]
Rendered = tuple["Page", str, ReportSummary]
VOID = {"meta", "link", "br", "hr", "img", "input"}


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
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).replace("\u00a0", " ").split())


def read(store: Store, tmp_path: Path, **options: str) -> Rendered:
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
    assert page.tags.count("script") == page.tags.count("style") == text.count("<script") == 1
    assert not any(key == "style" for _, key, _ in page.attributes)
    check_policy(page, text)
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


def check_policy(page: Page, text: str) -> None:
    """The page's own policy allows its style sheet and its script by their hashes, and no more."""
    policies = [value for tag, key, value in page.attributes if value.startswith("default-src")]
    allowed = []
    for tag in ("style", "script"):
        inside = text.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        allowed.append(f"{tag}-src 'sha256-{digest}'")
    ends = ("base-uri 'none'", "form-action 'none'")
    assert policies == ["; ".join(["default-src 'none'", *allowed, *ends])]


@pytest.fixture(scope="module")
def whole_page(whole: tuple[Store, Study], tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    return read(whole[0], tmp_path_factory.mktemp("page"))


def test_whole_study(whole_page: Rendered) -> None:
    page, text, summary = whole_page
    check_sound(page, text)
    assert text.startswith("<!doctype html>")
    assert summary.bytes < 900_000
    assert page.tags.count("figure") == page.tags.count("svg") - 1 == 14  # one for phones
    assert page.tags.count("figcaption") == page.tags.count("figure")
    assert page.tags.count("caption") == page.tags.count("table")
    assert text.count('role="img"') == 15
    for heading in (
        "What was asked",
        "Buckets",
        "Who is in which bucket, really?",
        "Pass@k before RL",
        "Held-out accuracy",
        "What each arm shows",
        "Would other questions have done as well?",
        "Share of the data",
        "Gain against budget used",
        "Under other budgets",
        "Shapley values",
        "Baselines without training",
        "Pass@k after training",
        "Sampling more against training",
        "What kind of change is the gain?",
        "Learned and lost by bucket, relation and popularity",
        "What answers look like, and calibration",
        "Probability moved, question by question",
        "Training questions, and other data sets",
        "Transfer",
        "Where the probability lies",
        "The ledger of visits",
        "Training",
        "Learned and lost",
        "Every run",
        "Settings and versions",
    ):
        assert heading in page.words
    assert "arXiv 2605.07153" in page.words
    assert "not a result of this study" in page.words
    assert "need not add to 100 %" in page.words
    assert "6b1f0c52d9e3a874" in page.words
    assert "attrib ablate --seeds 1" in page.words
    assert "With one seed, how much" not in page.words
    assert "none recorded" not in page.words


def shown(statistic: str, *numbers: float) -> str:
    if statistic.startswith(("answer_tokens", "answer_characters")):
        form = "{:+.1f} [{:+.1f}, {:+.1f}]" if "change" in statistic else "{:.1f} [{:.1f}, {:.1f}]"
        text = form.format(*numbers)
    elif statistic.startswith("mass_of"):
        form = (
            "{:+.2f} [{:+.2f}, {:+.2f}]" if "change" in statistic else "{:.2f} % [{:.2f}, {:.2f}]"
        )
        text = form.format(*(100 * one for one in numbers))
    elif statistic.startswith("maj@") or statistic == "share" or statistic == "shapley_share":
        text = "{:.0f} % [{:.0f}, {:.0f}]".format(*(100 * one for one in numbers))
    elif statistic in ("answer_entropy", "brier"):
        text = "{:.2f} [{:.2f}, {:.2f}]".format(*numbers)
    elif statistic in ANSWERS and statistic != "overconfidence":
        text = "{:.0f} % [{:.0f}, {:.0f}]".format(*(100 * one for one in numbers))
    elif "accuracy" in statistic:
        text = "{:.1f} % [{:.1f}, {:.1f}]".format(*(100 * one for one in numbers))
    elif statistic.startswith("pass@"):
        text = "{:.0f} % [{:.0f}, {:.0f}]".format(*(100 * one for one in numbers))
    else:
        text = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * one for one in numbers))
    text = re.sub(r"[-+](0\.0+)(?!\d)", r"\1", text).replace("-", "\u2212")
    return re.sub("\u22120(?![.0-9])", "0", text)


def test_effects_appear_as_stored(whole: tuple[Store, Study], whole_page: Rendered) -> None:
    store = whole[0]
    page, _, summary = whole_page
    effects = store.read(
        "SELECT statistic, value, low, high FROM effects WHERE value IS NOT NULL "
        "AND low IS NOT NULL AND evaluated_on IN ('held-out', 'elsewhere') AND ("
        "  fraction IN (0.0, 1.0) AND role <> 'coalition' AND NOT (role = 'full' AND "
        "    statistic = 'share') AND experiment_id = 'e0' "
        "  OR statistic = 'gain' AND experiment_id = 'e0' AND evaluated_on = 'held-out' "
        "    AND (role <> 'coalition' OR fraction = 1.0)"
        "  OR statistic LIKE 'shapley%' "
        "  OR statistic IN ('gain', 'share') AND fraction = 1.0 AND experiment_id <> 'e0' "
        "    AND role = 'only' AND evaluated_on = 'held-out')"
        " ORDER BY ALL"
    )
    assert set(ANSWERS) - {"calibration_error"} <= set(effects["statistic"])
    assert effects.height > 150
    assert len(set(effects["statistic"])) > 20
    for statistic, *numbers in effects.iter_rows():
        assert shown(statistic, *numbers) in page.words, (statistic, numbers)
    assert summary.claim.startswith("Training on the 12 never-correct questions alone (30 % of")
    assert summary.claim in page.words


def test_parts_of_gains_appear_as_stored(whole: tuple[Store, Study], whole_page: Rendered) -> None:
    page, _, _ = whole_page
    effects = whole[0].read(
        "SELECT value, low, high FROM effects WHERE evaluated_on LIKE 'held-out:%' "
        "AND statistic IN ('gain', 'gain_part', 'learned_part', 'lost_part') "
        "AND experiment_id = 'e0' AND role IN ('full', 'only', 'matched-random') AND fraction = 1.0"
    )
    assert effects.height > 20
    for numbers in effects.iter_rows():
        assert shown("gain_part", *numbers) in page.words


def test_membership_and_crossings_appear_as_found(
    whole: tuple[Store, Study], whole_page: Rendered
) -> None:
    page, _, _ = whole_page
    found = analyze(whole[0], "e0")
    assert found.membership is not None
    for row in found.membership.stability:
        if row.stays is not None:
            assert f"{100 * row.stays.value:.1f} % [" in page.words
    assert found.membership.check.p_value < 0.05  # the counts were made up, not drawn
    assert "The fitted prior does not fit the counts" in page.words
    assert f"agree on the bucket of {100 * found.membership.halves.agreement.value:.0f} %" in (
        page.words
    )
    assert len(found.passes) > 10
    for one in (one for one in found.passes if one.role in ("full", "only")):
        first = one.crossing.comparison
        ends = (first.difference_K[0], first.band_low_K[0], first.band_high_K[0])
        assert f"{shown('gain', *ends)} " in page.words
        assert str(one.crossing.verdict) in page.words


def test_training_questions_appear_as_stored(
    whole: tuple[Store, Study], whole_page: Rendered
) -> None:
    store = whole[0]
    page, _, _ = whole_page
    effects = store.read(
        "SELECT value, low, high FROM effects WHERE evaluated_on LIKE 'train:%' "
        "AND statistic = 'gain' AND fraction = 1.0 AND experiment_id = 'e0' "
        "AND role IN ('full', 'only', 'matched-random') ORDER BY ALL"
    )
    assert effects.height > 30
    for numbers in effects.iter_rows():
        text = "{:+.0f} [{:+.0f}, {:+.0f}]".format(*(100 * one for one in numbers))
        text = re.sub(r"[-+]0(?![.0-9])", "0", text).replace("-", "\u2212")
        assert text in page.words


def test_contents_name_every_section_once_and_in_order(
    whole_page: Rendered, build_study: Build, tmp_path: Path
) -> None:
    untrained, _, _ = read(build_study(arms=False), tmp_path)
    for page, absent in (
        (whole_page[0], {"comparison", "next", "attribution"}),
        (untrained, {"comparison", "attribution"}),
    ):
        sections = [value for tag, key, value in page.attributes if (tag, key) == ("section", "id")]
        listed = [value[1:] for tag, key, value in page.attributes if (tag, key) == ("a", "href")]
        listed = [one for one in listed if one not in ("contents", "claims")]
        links = listed[: len(sections) - 1]
        assert links == sections[1:]
        assert sections[0] == "claims"
        assert not set(sections) & absent
    known = {id for part in PARTS.values() for id in part}
    shown = {value for _, key, value in whole_page[0].attributes if key == "id"}
    assert known - shown == {"comparison", "next", "attribution"}
    for part in ("Design", "Before training", "The gain", "Training or sampling", "What changed"):
        assert whole_page[1].count(f'<p class="part">{part}</p>') == 1
    assert "The gain" not in untrained.words


def test_repeated_labels_are_marked_not_dropped(whole_page: Rendered) -> None:
    _, text, _ = whole_page
    table = text.partition("<caption>Training questions by bucket: rollouts before RL")[2]
    body = table.partition("<tbody>")[2].partition("</tbody>")[0]
    first, second = re.findall(r"<tr>\n(.*?)</tr>", body, re.DOTALL)[:2]
    assert "same" not in first
    assert second.count(' same"') == 3  # question, bucket and accepted answers, not the answer
    assert re.findall("<bdi>.*?</bdi>", first)[:2] == re.findall("<bdi>.*?</bdi>", second)[:2]


def test_bounds_of_single_questions(whole: tuple[Store, Study], whole_page: Rendered) -> None:
    page, _, _ = whole_page
    for one in whole[1].sampled:
        bounds = exact_interval([one.correct], [one.n])
        assert (one.p_low, one.p_high) == (bounds.low_Q[0], bounds.high_Q[0])
        said = f"{one.correct} of {one.n} {100 * one.p_low:.1f}–{100 * one.p_high:.1f} %"
        assert said in page.words
    membership = analyze(whole[0], "e0").membership
    assert membership is not None
    for row in membership.counts:
        exact = f"{100 * row.low:.1f}–{100 * row.high:.1f} %"
        assert f"{row.correct} {row.questions} {exact} " in page.words


def test_settings_of_the_full_arm_are_not_repeated(
    whole_page: Rendered, build_study: Build, tmp_path: Path
) -> None:
    further = "Further settings of the full arm Setting Value learning_rate 1e-05"
    assert further in whole_page[0].words
    store = build_study(subsets=("never-correct",), roles=("only",))
    with store.writing("attrib test"), store.transaction() as batch:
        batch.execute("UPDATE training_runs SET params = (SELECT params FROM experiments)")
    page, _, _ = read(store, tmp_path)
    assert "Further settings" not in page.words


def test_same_study_same_bytes(
    build_study: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roles = ("only", "matched-random")
    store = build_study(seeds=(0, 1), subsets=("never-correct",), roles=roles, samples=2)
    _, first, _ = read(store, tmp_path)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    _, second, _ = read(store, tmp_path)
    assert first == second


def test_hostile_text_is_shown_and_harmless(
    build_study: Build, tmp_path: Path, hostile: str
) -> None:
    page, text, _ = read(build_study(hostile=hostile), tmp_path)
    check_sound(page, text)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script>alert(1)</script> ]]>" in page.words
    assert "{{ 7*7 }}" in page.words
    assert "⟨U+202E⟩evil⟨U+200F⟩ ␀␇" in page.words
    assert "👩‍🔬" in page.words
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", text)
    assert "x" * 600 not in re.sub(r"<pre>.*?</pre>", "", text, flags=re.DOTALL)  # of commands
    assert "x" * LONGEST_COMMAND not in text
    assert "x…" in page.words


def test_no_arms_yet(build_study: Build, tmp_path: Path) -> None:
    page, text, summary = read(build_study(arms=False), tmp_path)
    check_sound(page, text)
    assert "No arm has been trained" in summary.claim
    assert "attrib ablate" in page.words
    assert page.tags.count("svg") == 3
    assert "The ledger of visits" not in page.words
    assert "Settings and versions" in page.words


def test_samples_only_is_refused(build_study: Build, tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    with pytest.raises(DataError, match="attrib bucket --k N"):
        write_report(build_study(buckets=False, arms=False), output)
    assert not output.exists()


@pytest.mark.parametrize("status", ["exhausted", "failed", "running"])
def test_unfinished_arm_is_flagged_and_not_compared(
    build_study: Build, tmp_path: Path, exhausted: Callable[..., object], status: str
) -> None:
    endings = {"only never-correct": {0: exhausted(0.25, status)}}
    page, text, summary = read(build_study(endings=endings), tmp_path)
    check_sound(page, text)
    assert "never-correct questions alone" not in summary.claim
    assert "rarely-correct questions alone" in summary.claim
    assert f"only never-correct ({status})" in page.words
    assert f'<span class="status flag">{status}</span>' in text
    assert "no <b>signal</b>" in page.words
    assert "left out of the claims" in page.words


def test_undefined_share_is_explained(build_study: Build, tmp_path: Path) -> None:
    store = build_study(full_gain=0.0)
    known = store.read(
        "SELECT count(value) FROM effects WHERE statistic = 'share' AND evaluated_on = 'held-out'"
    ).item()
    assert known == 0
    page, text, _ = read(store, tmp_path)
    check_sound(page, text)
    assert "Shares of the gain are undefined because the full arm" in page.words
    assert "share undefined" in page.words
    assert "which cannot be told from zero" in page.words


def test_one_seed_is_said(build_study: Build, tmp_path: Path) -> None:
    page, _, summary = read(build_study(seeds=(0,)), tmp_path)
    assert "; one seed. " in summary.claim
    assert "With one seed, how much a result varies" in page.words
    assert "Reduced scale" in page.words


def test_arm_planned_but_not_begun(build_study: Build, tmp_path: Path) -> None:
    store = build_study(subsets=("never-correct",))
    with store.writing("attrib test"), store.transaction() as batch:
        batch.execute("DELETE FROM training_runs WHERE arm_id LIKE 'only-never-correct-%'")
        batch.execute("DELETE FROM effects WHERE role = 'only' AND subset = 'never-correct'")
    page, text, _ = read(store, tmp_path)
    check_sound(page, text)
    assert "“only never-correct” is planned and has not begun" in page.words


def test_a_model_trained_elsewhere(build_study: Build, tmp_path: Path) -> None:
    store = build_study(seeds=(0, 1))
    with store.writing("attrib test"):
        with store.transaction() as batch:
            batch.execute(
                "INSERT INTO training_runs SELECT * REPLACE ('imp' AS arm_id, 'imported' AS method,"
                " 0 AS updates, 0 AS rollouts) FROM training_runs WHERE arm_id = 'full-full-0'"
            )
            batch.execute("INSERT INTO arm_roles VALUES ('e0', 'imp', 'their-model', 'imported')")
            batch.execute("INSERT INTO milestones VALUES ('imp', 1.0, 0, 0, 0, 0, 0, 9.0)")
            batch.execute(
                "INSERT INTO evaluations SELECT * REPLACE ('imp' AS arm_id, 0 AS step) "
                "FROM evaluations WHERE arm_id = 'full-full-0' AND step = 12"
            )
        store_effects(store, "e0", estimate_effects(store, "e0"))
    page, text, _ = read(store, tmp_path)
    check_sound(page, text)
    assert "imported their-model done 40 1 – " in page.words
    assert "trained elsewhere, evaluated here" in page.words


def test_a_subset_that_is_most_of_the_questions(build_study: Build, tmp_path: Path) -> None:
    store = build_study(roles=("only", "matched-complement"))
    with store.writing("attrib test"):
        with store.transaction() as batch:
            batch.execute(
                "INSERT INTO arm_roles SELECT * REPLACE ('matched-subset' AS role) FROM arm_roles "
                "WHERE role = 'only' AND subset = 'never-correct'"
            )
        store_effects(store, "e0", estimate_effects(store, "e0"))
    page, text, _ = read(store, tmp_path)
    check_sound(page, text)
    difference = store.read(
        "SELECT value, low, high FROM effects WHERE statistic = 'difference_complement' "
        "AND subset = 'never-correct' AND role = 'matched-subset'"
    ).row(0)
    row = page.words.partition("Gain of each subset alone")[2]
    assert "never-correct, as many as others" in page.words
    assert shown("difference", *difference) in row
    assert "no such arm" in row


def test_experiment_just_begun(build_study: Build, tmp_path: Path) -> None:
    store = build_study(subsets=("never-correct",))
    with store.writing("attrib test"), store.transaction() as batch:
        for table in (
            "training_runs",
            "effects",
            "visits",
            "updates",
            "evaluations",
            "masses",
            "milestones",
        ):
            batch.execute(f"DELETE FROM {table}")
    page, text, summary = read(store, tmp_path)
    check_sound(page, text)
    assert summary.claim == "No arm has finished and been evaluated yet, so nothing is claimed."


def test_experiment_is_chosen_by_prefix(whole: tuple[Store, Study], tmp_path: Path) -> None:
    store, study = whole
    chosen = collect_study(store, "e1")
    assert chosen.experiment is not None
    assert chosen.experiment.experiment_id == "e1"
    assert "−0.6" in state_claims(chosen).headline
    assert state_claims(collect_study(store, "e0")) == state_claims(study)
    for prefix, problem in (("e", "More than one"), ("zz", "No")):
        with pytest.raises(DataError, match=f"{problem} experiment begins with '{prefix}'"):
            write_report(store, tmp_path / "report.html", prefix)


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


def test_numbers_are_those_of_the_store(whole: tuple[Store, Study], tmp_path: Path) -> None:
    store, study = whole
    path = tmp_path / "numbers.csv"
    summary = write_report(store, path, "e0", form=ReportFormat.CSV)
    frame = pl.read_csv(path, schema_overrides={"detail": pl.String})
    effects = store.read(
        "SELECT role, subset, statistic, evaluated_on, fraction, value, low, high "
        "FROM effects WHERE experiment_id = 'e0'"
    )
    keys = ["role", "subset", "statistic", "evaluated_on", "fraction"]
    both = effects.join(frame, on=keys, how="left", suffix="_shown", nulls_equal=True)
    assert both.height == effects.height > 500
    for name in ("value", "low", "high"):
        assert both[name].equals(both[f"{name}_shown"], null_equal=True), name
    added = set(frame["statistic"]) - set(effects["statistic"])
    assert {"bucket_questions", "same_bucket_again", "equivalent_attempts", "pass@32"} <= added
    asked = frame.filter(statistic="bucket_questions")["value"].to_list()
    assert asked == [one.row.questions for one in study.buckets]
    write_report(store, tmp_path / "numbers.json", "e0", form=ReportFormat.JSON)
    content = json.loads((tmp_path / "numbers.json").read_text(encoding="utf-8"))
    assert content["claims"]["headline"].replace("\u00a0", " ") == summary.claim
    assert len(content["numbers"]) == frame.height
    assert content["experiment_id"] == "e0"
    with pytest.raises(ConfigError, match="numbers of one study"):
        write_report(store, path, "e0", others=[store], form=ReportFormat.CSV)


def test_two_studies_side_by_side(
    whole: tuple[Store, Study], build_study: Build, tmp_path: Path
) -> None:
    other = build_study(subsets=("never-correct",), roles=("only",), train=30)
    write_report(other, tmp_path / "both.html", others=[whole[0]])
    page = Page((tmp_path / "both.html").read_text(encoding="utf-8"))
    check_sound(page, (tmp_path / "both.html").read_text(encoding="utf-8"))
    assert "Beside other studies" in page.words
    assert "Training questions 30 40" in page.words
    gains = [
        shown("gain", *store.read(
            "SELECT value, low, high FROM effects WHERE role = 'full' AND statistic = 'gain' "
            "AND evaluated_on = 'held-out' AND fraction = 1.0 AND experiment_id = 'e0'"
        ).row(0))
        for store in (other, whole[0])
    ]  # fmt: skip
    assert f"Gain, full {gains[0]} {gains[1]}" in page.words


def test_examples_count_every_answer(whole: tuple[Store, Study]) -> None:
    store, study = whole
    assert {one.group for one in study.training_shifts} == {
        one.row.bucket.value for one in study.buckets
    }
    assert {one.group for one in study.held_out_shifts} >= {"learned", "still wrong"}
    for one in study.training_shifts:
        drawn = store.read(
            "SELECT trim(rollouts.text) AS text FROM rollouts JOIN questions USING (question_id) "
            "WHERE questions.text = $text",
            text=one.question,
        )["text"].to_list()
        assert one.before_drawn == len(drawn) == 32
        assert one.after_drawn == 3
        for text, _, before, _ in one.answers:
            assert before == drawn.count(text)
    for one in study.held_out_shifts:
        assert (one.before_drawn, one.after_drawn) == (4, 12)


def test_five_thousand_questions_fit(build_study: Build, tmp_path: Path) -> None:
    store = build_study(
        train=5000, k=16, held_out=2000, seeds=(0, 1), roles=("only", "matched-random"), samples=2
    )
    page, text, summary = read(store, tmp_path)
    check_sound(page, text)
    assert "5,000 training questions" in page.words
    assert summary.bytes < 1_500_000
