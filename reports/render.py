"""Write the report: one self-contained HTML file.

Owns the file: what `page` makes of the records is put in order by the template, and the file
appears whole or not at all. Refuses studies that have no buckets.
The page loads nothing and runs nothing but one small script that sorts and filters tables: its own
policy names the hashes of that script and of the style sheet, and forbids all else. Texts of
questions and models pass only through the template's autoescape. Equal studies give equal bytes:
every time shown comes from the store.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup

from attrib import __version__
from attrib.analyses import Analysis, analyze
from attrib.analysis.buckets import never_correct_bound
from attrib.errors import ConfigError
from attrib.files import refuse_study, writing_to
from attrib.reports.claims import REFERENCE, Claims, count_evaluated, state_claims
from attrib.reports.collect import collect_study
from attrib.reports.comparison import describe_studies, tabulate_comparison
from attrib.reports.contents import list_parts, name_parts
from attrib.reports.numbers import list_numbers, to_csv, to_json
from attrib.reports.page import describe_experiment
from attrib.reports.page_study import describe_study
from attrib.reports.records import Study
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


class ReportFormat(StrEnum):
    """What a report is written as."""

    HTML = "html"
    JSON = "json"
    CSV = "csv"


def write_report(
    store: Store,
    output: Path,
    experiment_id: str | None = None,
    others: Sequence[Store] = (),
    form: ReportFormat = ReportFormat.HTML,
) -> ReportSummary:
    """Write the report of a study to `output` and return what it says in one line.

    Args:
        store: The study; it is only read.
        output: The file; replaced if it exists.
        experiment_id: Beginning of an experiment's id; None takes the latest of the latest
            bucketing.
        others: Studies to set beside it, each with its own latest experiment; HTML only.
        form: The page, or its numbers alone.

    Raises:
        DataError: nothing has been bucketed, or no single experiment matches.
        StoreError: the study cannot be read.
        ConfigError: `output` cannot be written, or is one of the studies; or numbers alone are to
            be compared.
    """
    for one in (store, *others):
        refuse_study(output, one.path)
    if others and form is not ReportFormat.HTML:
        raise ConfigError(
            f"{form} holds the numbers of one study. Leave --compare out, or write one for each."
        )
    study = collect_study(store, experiment_id)
    chosen = study.experiment.experiment_id if study.experiment else ""
    analysis = analyze(store, chosen, study.bucketing.bucketing_id)
    claims = state_claims(study)
    title = f"{HEADING} · {show(study.sample_set.model, 80)}"
    if form is ReportFormat.HTML:
        compared = [study, *(collect_study(other) for other in others)] if others else []
        text = render_page(study, analysis, claims, title, compared)
    else:
        numbers = list_numbers(store, study, analysis)
        text = to_csv(numbers) if form is ReportFormat.CSV else to_json(study, claims, numbers)
    page = text.encode()
    with writing_to(output) as stream:
        stream.write(page)
    return ReportSummary(output, len(page), title, claims.headline.replace("\u00a0", " "))


def render_page(
    study: Study, analysis: Analysis, claims: Claims, title: str, compared: Sequence[Study] = ()
) -> str:
    """Return the page as HTML; `compared` are the studies to show side by side, this one first."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("attrib.reports", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(show=show, percent=percent, plural=plural, duration=duration)
    page = environment.get_template("report.html.j2")
    style, script = _read_template("report.css"), _read_template("report.js")
    experiment = study.experiment
    shown = describe_study(study, analysis)
    if experiment is not None:
        shown |= describe_experiment(study, analysis, experiment)
    parts = list_parts(
        compared=bool(compared),
        trained=experiment is not None,
        divided=bool(shown.get("divided")),
        scored=study.attribution is not None,
    )
    return page.render(
        parts=parts,
        part_names=name_parts(parts),
        heading=HEADING,
        title=title,
        style=Markup(style),
        script=Markup(script),
        policy=_forbid_all_but(style, script),
        reference=REFERENCE,
        version=__version__,
        claims=claims,
        evaluated=count_evaluated(study),
        study=study,
        experiment=experiment,
        bound=never_correct_bound(study.bucketing.k),
        comparison_table=tabulate_comparison(compared) if compared else None,
        comparison_sentences=describe_studies(compared),
        **shown,
    )


def _forbid_all_but(style: str, script: str) -> str:
    """Return a content security policy that allows one style sheet and one script, by hash."""
    hashes = (base64.b64encode(sha256(text.encode()).digest()).decode() for text in (style, script))
    allowed = [f"'sha256-{one}'" for one in hashes]
    return (
        f"default-src 'none'; style-src {allowed[0]}; script-src {allowed[1]}; base-uri 'none'; "
        "form-action 'none'"
    )


def _read_template(name: str) -> str:
    return (resources.files("attrib.reports") / "templates" / name).read_text(encoding="utf-8")
