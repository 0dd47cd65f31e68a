"""Commands, machines and versions, as they were recorded."""

from collections.abc import Callable
from pathlib import Path

import pytest

from attrib.reports.collect import collect_study
from attrib.reports.records import Study
from attrib.reports.records_provenance import Provenance
from attrib.reports.render import write_report
from attrib.reports.tables_provenance import (
    MOST_ENVIRONMENTS,
    describe_environments,
    describe_machines,
    tabulate_environments,
)
from attrib.reports.text import show_lines
from attrib.store import Store

Build = Callable[..., Store]
COMMANDS = ("attrib sample --n 32", "attrib bucket --k 32", "attrib ablate --seeds 1")


def change(store: Store, *statements: str) -> Provenance:
    with store.writing("attrib test"), store.transaction() as batch:
        for statement in statements:
            batch.execute(statement)
    return collect_study(store).provenance


def test_commands_and_environments_as_recorded(whole: tuple[Store, Study]) -> None:
    store, study = whole
    found = study.provenance
    assert found.commands == COMMANDS
    runs = store.read(
        "SELECT arm_id, any_value(seed) AS seed, any_value(wall_seconds) AS seconds FROM arms "
        "WHERE experiment_id = 'e0' AND role <> 'base' GROUP BY arm_id"
    )
    assert found.runs == runs.height
    assert found.unrecorded == 0
    assert found.seconds == pytest.approx(runs["seconds"].sum())
    first, second = found.environments
    assert (first.rollouts, first.buckets, first.base) == (True, True, True)
    assert (second.rollouts, second.buckets, second.base) == (False, False, False)
    assert first.runs == runs.filter(runs["seed"] < 2).height
    assert second.runs == runs.filter(runs["seed"] == 2).height
    assert first.get("processor") == "AMD EPYC 7B13"
    assert first.get("colour") is None


def test_the_table_shows_what_was_installed_somewhere(whole: tuple[Store, Study]) -> None:
    found = whole[1].provenance
    rows = {row[0]: row[1:] for row in tabulate_environments(found, "tree").rows}
    assert rows["made"] == (
        f"rollouts, buckets, evaluation before RL, {found.environments[0].runs} of "
        f"{found.runs}\u00a0training runs",
        f"{found.environments[1].runs} of {found.runs}\u00a0training runs",
    )
    assert rows["torch"] == ("2.13.0+cpu", "2.13.0+cu130")
    assert "vllm" not in rows
    assert list(rows)[:4] == ["made", "from", "processor", "cores"]
    differing, dirty = describe_environments(found)
    assert (
        "2\u00a0environments, which differ in processor, cores, memory, GPUs, commit and torch."
        in (differing)
    )
    assert "-dirty had changes" in dirty


def test_the_machines_are_named_among_the_design(whole: tuple[Store, Study]) -> None:
    words = describe_machines(whole[1].provenance)
    assert words.startswith(
        "AMD EPYC 7B13, 2\u00a0cores, 24 GiB, no GPU; AMD EPYC 9654, 16\u00a0cores, 128 GiB, "
        "1\u00a0×\u00a0NVIDIA H100 80GB HBM3; "
    )
    assert words.endswith("training runs, evaluation not counted")


def test_a_study_of_an_older_attrib(build_study: Build, tmp_path: Path) -> None:
    store = build_study(provenance=False)
    found = collect_study(store).provenance
    assert found.commands == found.environments == ()
    assert found.unrecorded == found.runs > 0
    assert describe_machines(found).startswith("not recorded; ")
    assert describe_environments(found)[0].startswith("Machine and versions were not recorded")
    write_report(store, tmp_path / "report.html")
    assert "Commands</h3>" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_runs_of_before_the_record_are_counted(build_study: Build) -> None:
    store = build_study()
    found = change(store, "DELETE FROM provenance WHERE made_id LIKE 'only-%'")
    assert 0 < found.unrecorded < found.runs
    assert describe_environments(found)[0].startswith(f"Of {found.unrecorded} of {found.runs}")


def test_a_command_given_again_is_shown_once_and_another_one_too(build_study: Build) -> None:
    found = change(
        build_study(),
        "INSERT INTO provenance SELECT * REPLACE ('elsewhere' AS environment_id) FROM provenance "
        "WHERE made_id = 's0'",
        "INSERT INTO provenance SELECT * REPLACE ('attrib sample --n 64' AS command, "
        "began_at + INTERVAL 1 HOUR AS began_at) FROM provenance WHERE made_id = 's0'",
        "INSERT INTO provenance SELECT * REPLACE ('other' AS made_id, 'attrib x' AS command) "
        "FROM provenance WHERE made_id = 's0'",
    )
    assert found.commands == (COMMANDS[0], "attrib sample --n 64", *COMMANDS[1:])


def test_many_environments_are_not_all_shown(build_study: Build) -> None:
    more = (
        f"INSERT INTO provenance SELECT * REPLACE ('env{number}' AS environment_id) "
        "FROM provenance WHERE made_id = 'full-full-0' AND environment_id NOT LIKE 'env%'"
        for number in range(6)
    )
    found = change(build_study(), *more)
    assert len(found.environments) == 8
    assert len(tabulate_environments(found, "tree").columns) == 1 + MOST_ENVIRONMENTS
    assert any("The first 4 are shown" in one for one in describe_environments(found))


def test_rollouts_from_elsewhere_are_not_said_to_be_drawn_here(whole: tuple[Store, Study]) -> None:
    found = whole[1].provenance
    for engine, words in (("imported", "(imported)"), ("server", "(asked of a server)")):
        assert tabulate_environments(found, engine).rows[0][1].startswith(f"rollouts {words}, ")


def test_a_command_over_several_lines_stays_one() -> None:
    assert show_lines("attrib ablate 'a\nOR\u202eb'", 100) == "attrib ablate 'a\nOR⟨U+202E⟩b'"
