"""Graders side by side and suspect questions, held against plain counting."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from attrib.analysis.agreement import measure_agreement
from attrib.reports.collect import collect_study
from attrib.reports.collect_grading import collect_grading
from attrib.reports.records import Study
from attrib.reports.records_grading import Grading
from attrib.reports.render import ReportFormat, write_report
from attrib.reports.tables_grading import (
    describe_graders,
    describe_suspects,
    name_grader,
    suggest_grader,
    tabulate_graders,
    tabulate_suspects,
)
from attrib.store import Store

Build = Callable[..., Store]


def change(store: Store, *statements: str) -> Grading:
    with store.writing("attrib test"), store.transaction() as batch:
        for statement in statements:
            batch.execute(statement)
    return collect_study(store).grading


def test_two_graders_by_plain_counting(whole: tuple[Store, Study]) -> None:
    store, study = whole
    rows = store.read(
        "SELECT question_id, text, grader, verdict, count(*) AS rollouts FROM graded_rollouts "
        "GROUP BY ALL"
    )
    right: dict[tuple[str, str], dict[str, bool]] = {}
    counts: dict[tuple[str, str], int] = {}
    for question_id, text, grader, verdict, rollouts in rows.iter_rows():
        right.setdefault((question_id, text), {})[grader[:5]] = verdict == "correct"
        counts[question_id, text] = rollouts
    names = sorted({question_id for question_id, _ in right})
    table = np.zeros((len(names), 2, 2))
    for (question_id, _), one in right.items():
        table[names.index(question_id), 1 - one["match"], 1 - one["exact"]] += 1
    [second] = study.grading.others
    assert second.agreement == measure_agreement(table, np.random.default_rng(0))
    assert second.first_only == sum(one["match"] and not one["exact"] for one in right.values()) > 0
    assert second.second_only == 0
    assert second.rollouts == second.of == sum(counts.values()) == 40 * 32
    found = {
        grader: {key[0] for key in right if right[key][grader]} for grader in ("match", "exact")
    }
    never = {grader: set(names) - ever for grader, ever in found.items()}
    assert second.questions == 40
    assert second.never_by_first == len(never["match"])
    assert second.never_by_second == len(never["exact"]) > len(never["match"])
    assert second.never_by_both == len(never["match"] & never["exact"])
    assert study.grading.passing == ()
    assert suggest_grader(study.grading) == ""


def test_one_grader_is_said_with_the_command_for_more(build_study: Build, tmp_path: Path) -> None:
    store = build_study(arms=False)
    grading = collect_study(store).grading
    assert grading.others == grading.passing == ()
    assert describe_graders(grading)[0].startswith(
        "All rollouts were judged by one grader, “match”:"
    )
    assert suggest_grader(grading) == "attrib grade --grader exact"
    assert suggest_grader(replace(grading, grader="exact-12ab")) == "attrib grade --grader match"
    assert suggest_grader(replace(grading, grader="judge-12ab")) == "attrib grade --grader exact"
    write_report(store, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<code>attrib grade --grader exact</code>" in page
    assert "No never-correct question shows a sign" in page


def test_verdicts_in_passing_are_not_compared(build_study: Build) -> None:
    store = build_study()
    partly = (
        "DELETE FROM verdicts WHERE grader = 'exact-1:2b' AND question_id > 'q00010'",
        "INSERT INTO verdicts SELECT * REPLACE ('judge-77' AS grader) FROM verdicts "
        "WHERE grader = 'match-1:9f' AND question_id <> 'q00003'",
        "UPDATE verdicts SET verdict = 'ungraded' WHERE grader = 'judge-77' "
        "AND question_id = 'q00005'",
    )
    grading = change(store, *partly)
    [judge] = grading.others
    assert (judge.grader, judge.rollouts, judge.of) == ("judge-77", 38 * 32, 40 * 32)
    assert judge.questions == 38
    assert grading.passing == ("exact-1:2b",)
    words = " ".join(describe_graders(grading))
    assert "The grader “judge” gives all of" in words
    assert "(1,216 of the 1,280 rollouts)" in words
    assert "Not one verdict differs: up to 7.6\u00a0% of such questions" in words
    assert "Verdicts of exact are stored too, on fewer than 90\u00a0% of these rollouts" in words


def test_changed_answers_void_old_verdicts(build_study: Build) -> None:
    store = build_study(arms=False, second_grader=True)
    grading = change(store, "UPDATE questions SET answers_hash = 'other'")
    assert grading.others == ()
    assert grading.passing == ("exact-1:2b",)


def test_only_the_first_k_rollouts_count(build_study: Build) -> None:
    store = build_study(arms=False, second_grader=True)
    study = collect_study(store)
    half = replace(study.bucketing, k=16)
    [second] = collect_grading(store, half, "s0").others
    assert second.of == second.rollouts == 40 * 16
    assert second.questions == 40


def test_graders_of_one_name_are_told_apart() -> None:
    assert name_grader("match-1f") == "match"
    assert name_grader("match-1f", ["match-1f", "exact-2a"]) == "match"
    assert name_grader("match-1f", ["match-1f", "match-2a"]) == "match-1f"
    assert name_grader("plain") == "plain"


def test_suspects_are_counted_and_the_weightiest_listed(whole: tuple[Store, Study]) -> None:
    suspects = whole[1].grading.suspects
    assert suspects.by_reason == (("near-miss", 1), ("too-long", 1), ("dominant-answer", 2))
    assert (suspects.questions, suspects.kept) == (3, 3)
    assert [one.question_id for one in suspects.listed] == ["q00009", "q00000", "q00010"]
    drawn = whole[0].read(
        "SELECT trim(text) AS said, count(*) AS times FROM rollouts WHERE question_id = 'q00009' "
        "GROUP BY said ORDER BY times DESC, said LIMIT 1"
    )
    first = suspects.listed[0]
    assert [(first.said, first.times)] == drawn.rows()
    assert first.n == 32
    assert [reason for reason, _ in first.signs] == ["near-miss", "too-long"]
    table = tabulate_suspects(suspects)
    assert table.caption == "Suspect questions, 3 of 3"
    assert table.rows[0][3:] == (
        f"{first.times} of 32",
        "near-miss: Cairro for Cairo; too-long: 64 characters, about 40 fit into a rollout",
    )
    assert "3\u00a0never-correct questions show a sign" in describe_suspects(suspects)


def test_answers_that_never_come_twice_are_not_called_frequent(whole: tuple[Store, Study]) -> None:
    suspects = whole[1].grading.suspects
    once = replace(suspects.listed[0], times=1)
    unknown = replace(suspects.listed[0], said=None, times=0, n=0)
    rows = tabulate_suspects(replace(suspects, listed=(once, unknown))).rows
    assert [row[2:4] for row in rows] == [("no answer twice", "1 of 32"), ("–", "–")]


def test_few_suspects_of_each_sign_are_listed(build_study: Build) -> None:
    store = build_study(arms=False)
    suspects = change(
        store,
        "INSERT INTO suspects SELECT 'b0', question_id, 'dominant-answer', 'oslo' FROM buckets "
        "WHERE bucket = 'never-correct'",
        "INSERT INTO suspects SELECT 'b0', question_id, 'near-miss', 'oslu for oslo' FROM buckets "
        "WHERE bucket = 'never-correct' AND question_id < 'q00012'",
        "DELETE FROM buckets WHERE question_id IN ('q00000', 'q00009')",
    ).suspects
    assert (suspects.questions, suspects.kept) == (12, 10)
    signs = [[reason for reason, _ in one.signs] for one in suspects.listed]
    assert signs == [["near-miss", "dominant-answer"]] * 4 + [["dominant-answer"]] * 4
    assert "2 of them were left out of the buckets." in describe_suspects(suspects)


@pytest.mark.parametrize("order", ["question_id", "text DESC", "random()"])
def test_the_order_of_rows_plays_no_part(build_study: Build, order: str) -> None:
    store = build_study(arms=False, second_grader=True)
    before = collect_study(store).grading
    assert before == change(
        store,
        f"CREATE OR REPLACE TABLE verdicts AS FROM verdicts ORDER BY {order}",
        f"CREATE OR REPLACE TABLE rollouts AS FROM rollouts ORDER BY {order}",
    )


def test_the_table_has_every_pair(whole: tuple[Store, Study]) -> None:
    table = tabulate_graders(whole[1].grading)
    [row] = table.rows
    [second] = whole[1].grading.others
    assert row[0] == "exact"
    assert row[1:3] == (str(second.agreement.responses), "40")
    assert row[3].startswith(f"{100 * second.agreement.observed:.1f}\u00a0% [")
    assert row[4].startswith(f"{second.agreement.kappa:.2f} [")


def test_hostile_suspects_are_cut(build_study: Build, hostile: str) -> None:
    store = build_study(arms=False, second_grader=True, hostile=hostile)
    table = tabulate_suspects(collect_study(store).grading.suspects)
    assert max(len(cell) for row in table.rows for cell in row) < 400


def test_numbers_hold_what_the_section_shows(whole: tuple[Store, Study], tmp_path: Path) -> None:
    store, study = whole
    write_report(store, tmp_path / "numbers.csv", "e0", form=ReportFormat.CSV)
    frame = pl.read_csv(tmp_path / "numbers.csv", schema_overrides={"detail": pl.String})
    [second] = study.grading.others
    [agreement] = frame.filter(statistic="grader_agreement").iter_rows(named=True)
    assert agreement["value"] == second.agreement.observed
    assert (agreement["low"], agreement["high"]) == (
        second.agreement.observed_low,
        second.agreement.observed_high,
    )
    assert agreement["detail"] == "exact-1:2b beside match-1:9f"
    assert frame.filter(statistic="grader_never_correct")["value"].to_list() == [15.0]
    suspects = frame.filter(statistic="suspect_questions").select("detail", "value").rows()
    assert suspects == [("near-miss", 1.0), ("too-long", 1.0), ("dominant-answer", 2.0)]
