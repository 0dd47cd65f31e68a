"""The numbers of a report without its page: one row each, as JSON or CSV.

Owns the shape of these rows, which is that of the table `effects` (docs/store.md): what the store
holds of the experiment, and beside it what the report finds about buckets, pass@k before training,
and pass@k of each run. Undefined values are null in JSON and empty in CSV.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields

import polars as pl

from attrib import __version__
from attrib.analyses import Analysis, Membership
from attrib.analysis.profile import ProfileInterval
from attrib.reports.claims import Claims
from attrib.reports.records import Study
from attrib.reports.records_grading import Grading
from attrib.roles import Role
from attrib.store import Store

_EFFECTS = """
SELECT role, subset, statistic, evaluated_on, fraction, value, low, high, seeds, questions, detail
FROM effects WHERE experiment_id = $experiment_id ORDER BY ALL
"""


@dataclass(frozen=True, slots=True)
class Number:
    """One statistic of one arm, or of the model before training, with its 95 % interval."""

    role: str
    subset: str
    statistic: str
    evaluated_on: str
    fraction: float
    value: float | None
    low: float | None
    high: float | None
    seeds: int
    questions: int
    detail: str


def list_numbers(store: Store, study: Study, analysis: Analysis) -> list[Number]:
    """Return every number of the report, those before training first.

    Raises:
        StoreError: the study cannot be read.
    """
    numbers = [*_before(study)]
    if analysis.membership is not None:
        numbers += _membership(analysis.membership)
    numbers += _grading(study.grading)
    if study.experiment is not None:
        effects = store.read(_EFFECTS, experiment_id=study.experiment.experiment_id)
        numbers += [Number(*row) for row in effects.iter_rows()]
        numbers += _passes(analysis)
    return numbers


def to_csv(numbers: list[Number]) -> str:
    """Return the numbers as CSV with a header."""
    columns = {one.name: [getattr(number, one.name) for number in numbers] for one in _FIELDS}
    return pl.DataFrame(columns).write_csv()


def to_json(study: Study, claims: Claims, numbers: list[Number]) -> str:
    """Return what the study is, what may be said of it, and the numbers, as JSON."""
    experiment = study.experiment
    content = {
        "attrib": __version__,
        "model": study.sample_set.model,
        "sample_set_id": study.sample_set.sample_set_id,
        "bucketing_id": study.bucketing.bucketing_id,
        "experiment_id": experiment.experiment_id if experiment else None,
        "claims": asdict(claims),
        "numbers": [asdict(number) for number in numbers],
    }
    return json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


_FIELDS = fields(Number)


def _before(study: Study) -> Iterator[Number]:
    for summary in study.buckets:
        row = summary.row
        for statistic, value in (
            ("bucket_questions", float(row.questions)),
            ("bucket_share", row.share_of_questions),
            ("correct_rate", row.mean_correct_rate),
        ):
            yield _make(statistic, f"train:{row.bucket}", value, None, None, row.questions)
    curve = study.pass_curve
    rows = zip(curve.k_K, curve.mean_K, curve.low_K, curve.high_K, strict=True)
    for k, value, low, high in rows:
        bounds = float(value), float(low), float(high)
        yield _make(f"pass@{k}", "train", *bounds, curve.questions)


def _membership(found: Membership) -> Iterator[Number]:
    for row in found.stability:
        on = f"train:{row.bucket}"
        yield from _profile("same_bucket_again", on, row.stays, row.questions)
        yield from _profile("fresh_correct_rate", on, row.fresh_rate, row.questions)
    for other in found.other_n:
        on, known = f"train:n={other.n}", "from the prior" if other.from_prior else ""
        yield from _profile("never_correct_questions", on, other.expected, other.questions, known)
    halves = found.halves.agreement
    yield _make("halves_agree", "train", halves.value, halves.low, halves.high, found.questions)


def _grading(grading: Grading) -> Iterator[Number]:
    for one in grading.others:
        found, detail = one.agreement, f"{one.grader} beside {grading.grader}"
        same = (found.observed, found.observed_low, found.observed_high)
        kappa = (found.kappa, found.low, found.high)
        yield _make("grader_agreement", "train", *same, found.questions, detail)
        yield _make("grader_kappa", "train", *kappa, found.questions, detail)
        never = float(one.never_by_second)
        yield _make("grader_never_correct", "train", never, None, None, one.questions, detail)
    for reason, questions in grading.suspects.by_reason:
        yield _make("suspect_questions", "train", float(questions), None, None,
                    grading.suspects.questions, reason)  # fmt: skip


def _passes(analysis: Analysis) -> Iterator[Number]:
    for run in analysis.passes:
        place = (run.role, run.subset)
        detail = f"seed {run.seed}, {run.crossing.verdict}; the interval holds at all k together"
        compared = run.crossing.comparison
        rows = zip(
            compared.k_K,
            compared.difference_K,
            compared.band_low_K,
            compared.band_high_K,
            strict=True,
        )
        for k, value, low, high in rows:
            bounds = float(value), float(low), float(high)
            yield Number(*place, f"pass_difference@{k}", "held-out", 1.0, *bounds, 1,
                         compared.questions, detail)  # fmt: skip
        worth = run.equivalent
        detail = "; ".join(filter(None, [f"seed {run.seed}", worth.reason]))
        yield Number(*place, "equivalent_attempts", "held-out", 1.0, worth.value, worth.low,
                     worth.high, 1, worth.questions, detail)  # fmt: skip


def _profile(
    statistic: str, on: str, found: ProfileInterval | None, questions: int, detail: str = ""
) -> Iterator[Number]:
    if found is not None:
        reason = "; ".join(filter(None, [detail, found.reason]))
        yield _make(statistic, on, found.value, found.low, found.high, questions, reason)


def _make(
    statistic: str,
    on: str,
    value: float | None,
    low: float | None,
    high: float | None,
    questions: int,
    detail: str = "",
) -> Number:
    return Number(Role.BASE, "none", statistic, on, 0.0, value, low, high, 1, questions, detail)
