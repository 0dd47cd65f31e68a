"""Write the report: one self-contained HTML file.

Owns the page: records become tables and figures, the template puts them in order, and the file
appears whole or not at
all. Refuses studies that have no buckets. The page loads nothing and runs nothing (its own policy
forbids both); texts of questions and models pass only through the template's autoescape. Equal
studies give equal bytes: every time shown comes from the store.
"""

import contextlib
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup

from attrib import __version__
from attrib.analysis.buckets import never_correct_bound
from attrib.errors import ConfigError
from attrib.reports import tables_arms, tables_study
from attrib.reports.claims import (
    REFERENCE,
    Claims,
    count_evaluated,
    describe_held_equal,
    state_claims,
)
from attrib.reports.collect import collect_study
from attrib.reports.records import Experiment, Study, Transitions
from attrib.reports.settings import find_setting
from attrib.reports.tables import Table
from attrib.reports.text import duration, percent, plural, show
from attrib.store import Store

HEADING = "Which training questions produced the gain?"


@dataclass(frozen=True, slots=True)
class ReportSummary:
    """What was written: where, how large, its title and its first sentence."""

    path: Path
    bytes: int
    title: str
    claim: str


@dataclass(frozen=True, slots=True)
class Examples:
    """The tables of one arm's changed answers."""

    arm: str
    learned: Table
    lost: Table
    learned_count: int
    lost_count: int


def write_report(store: Store, output: Path, experiment_id: str | None = None) -> ReportSummary:
    """Write the report of a study to `output` and return what it says in one line.

    Args:
        store: The study; it is only read.
        output: The HTML file; replaced if it exists.
        experiment_id: Beginning of an experiment's id; None takes the latest of the latest
            bucketing.

    Raises:
        DataError: nothing has been bucketed, or no single experiment matches.
        StoreError: the study cannot be read.
        ConfigError: `output` cannot be written.
    """
    study = collect_study(store, experiment_id)
    claims = state_claims(study)
    title = f"{HEADING} · {show(study.sample_set.model, 80)}"
    page = render_page(study, claims, title).encode()
    _replace(output, page)
    return ReportSummary(output, len(page), title, claims.headline.replace("\u00a0", " "))


def render_page(study: Study, claims: Claims, title: str) -> str:
    """Return the page as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("attrib.reports", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(show=show, percent=percent, plural=plural, duration=duration)
    page = environment.get_template("report.html.j2")
    return page.render(
        heading=HEADING,
        title=title,
        style=Markup(_read_template("report.css")),
        reference=REFERENCE,
        version=__version__,
        claims=claims,
        evaluated=count_evaluated(study),
        study=study,
        experiment=study.experiment,
        commands=_collect_commands(study),
        bound=never_correct_bound(study.bucketing.k),
        **_draw_study(study),
        **(_draw_experiment(study, study.experiment) if study.experiment else {}),
    )


def _draw_study(study: Study) -> dict[str, object]:
    """Return figures and tables of sections 2 to 4 and 10."""
    from attrib.reports import figures  # matplotlib takes half a second: not before it is needed

    sample_set = study.sample_set
    return {
        "bucket_figure": Markup(figures.draw_buckets(study.buckets).svg),
        "pass_figure": Markup(figures.draw_pass_curve(study.pass_curve).svg),
        "bucket_table": tables_study.tabulate_buckets(study.buckets, study.bucketing.k),
        "pass_table": tables_study.tabulate_pass_curve(study.pass_curve),
        "sampled_table": tables_study.tabulate_sampled(study.sampled),
        "dataset_table": tables_study.tabulate_datasets(study.datasets),
        "choice_table": tables_study.tabulate_choices(study),
        "sampling_settings": tables_study.tabulate_settings("Sampling", sample_set.settings),
        "cut_settings": tables_study.tabulate_settings("Bucket cuts", study.bucketing.cuts),
    }


def _draw_experiment(study: Study, experiment: Experiment) -> dict[str, object]:
    """Return figures and tables of sections 5 to 9; a figure without data is None."""
    from attrib.reports import figures

    evaluated = any(arm.accuracy and arm.accuracy.value is not None for arm in experiment.arms)
    parts = [arm for arm in experiment.arms if arm is not experiment.full]
    full = experiment.full
    return {
        "accuracy_figure": Markup(figures.draw_accuracy(experiment).svg) if evaluated else None,
        "share_figure": Markup(figures.draw_shares(study, experiment).svg) if parts else None,
        "curve_figure": Markup(figures.draw_curves(experiment.curves).svg)
        if experiment.curves
        else None,
        "effect_table": tables_arms.tabulate_effects(study, experiment),
        "run_table": tables_arms.tabulate_runs(experiment),
        "share_table": tables_arms.tabulate_shares(study, experiment),
        "ledger_table": tables_arms.tabulate_ledger(experiment.ledger),
        "curve_tables": [tables_arms.tabulate_curve(curve) for curve in experiment.curves],
        "transition_table": tables_arms.tabulate_transitions(experiment.transitions),
        "examples": [_tabulate_examples(row) for row in experiment.transitions],
        "held_equal": describe_held_equal(experiment),
        "experiment_settings": tables_study.tabulate_settings("Experiment", experiment.settings),
        "arm_settings": tables_study.tabulate_settings(
            "Training settings of the full arm", full.runs[0].settings if full and full.runs else ()
        ),
        "run_id_table": tables_arms.tabulate_run_ids(experiment),
    }


def _tabulate_examples(row: Transitions) -> Examples:
    arm = show(row.arm)
    return Examples(
        arm=arm,
        learned=tables_arms.tabulate_changes(
            f"Learned by “{arm}”: {len(row.learned_examples)} of {row.learned}",
            row.learned_examples,
        ),
        lost=tables_arms.tabulate_changes(
            f"Lost by “{arm}”: {len(row.lost_examples)} of {row.lost}", row.lost_examples
        ),
        learned_count=row.learned,
        lost_count=row.lost,
    )


def _collect_commands(study: Study) -> tuple[str, ...]:
    """Return the commands recorded with the settings, in the order they were run."""
    experiment = study.experiment
    settings = [study.sample_set.settings, study.bucketing.cuts]
    settings += [experiment.settings] if experiment else []
    found = [find_setting(one, "command") for one in settings]
    return tuple(dict.fromkeys(show(command, 2000) for command in found if command))


def _read_template(name: str) -> str:
    return (resources.files("attrib.reports") / "templates" / name).read_text(encoding="utf-8")


def _replace(output: Path, page: bytes) -> None:
    """Write beside the target and move into place, so that a reader never sees half a page."""
    beside = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(page)
        beside.replace(output)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise ConfigError(
            f"The report cannot be written to {output}: {error}. Choose another --output."
        ) from error
