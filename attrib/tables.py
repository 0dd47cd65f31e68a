"""What commands print: tables on stdout, and records as JSON."""

import dataclasses
import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from attrib.attribution.effects import Effect
    from attrib.inspection import StudyStatus
    from attrib.sampling.bucketing import Bucketing
    from attrib.sampling.dry_run import SamplePlan

WIDTH_OF_FILES = 240  # columns


def to_json(value: object) -> str:
    """Return a record, a mapping or a frame as JSON; unknown numbers become null."""
    return json.dumps(_simplify(value), ensure_ascii=False, allow_nan=False, indent=2)


def to_csv(frame: pl.DataFrame) -> str:
    """Return a frame as CSV; lists and other nested values are written as JSON."""
    nested = [
        name for name, dtype in frame.schema.items() if dtype.is_nested() or dtype.is_(pl.Binary)
    ]
    texts = [
        pl.Series(
            name,
            [
                None if v is None else json.dumps(_simplify(v), ensure_ascii=False)
                for v in frame[name].to_list()
            ],
            dtype=pl.String,
        )
        for name in nested
    ]
    return frame.with_columns(texts).write_csv()


def _simplify(item: object) -> object:
    """Return `item` in terms of JSON: arrays and frames become lists, records mappings."""
    if item is None or isinstance(item, str | int):
        return item
    if isinstance(item, float):
        return item if math.isfinite(item) else None
    if isinstance(item, Decimal):  # a sum of whole numbers in DuckDB
        return int(item) if item == item.to_integral_value() else float(item)
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        return {f.name: _simplify(getattr(item, f.name)) for f in dataclasses.fields(item)}
    if isinstance(item, Mapping):
        return {str(key): _simplify(value) for key, value in item.items()}
    if isinstance(item, pl.DataFrame):
        return [_simplify(row) for row in item.iter_rows(named=True)]
    if hasattr(item, "tolist"):
        return _simplify(item.tolist())
    if isinstance(item, list | tuple):
        return [_simplify(value) for value in item]
    return str(item)


def print_plan(plan: "SamplePlan") -> None:
    """Print what a sampling run would draw, and what it would take."""
    lines = [
        f"Engine      {plan.engine}",
        f"Questions   {plan.questions:,} × {plan.n} rollouts",
        f"Stored      {plan.already_stored:,} rollouts",
        f"To draw     {plan.rollouts:,} rollouts",
    ]
    if plan.seconds is not None and plan.tokens is not None and plan.megabytes is not None:
        seconds = round(plan.seconds)
        lines += [
            f"Tokens      about {plan.tokens:,}",
            f"Time        about {timedelta(seconds=seconds)}, after loading the model",
            f"Disk        at most about {plan.megabytes:,.1f} MB",
            f"Probe       {plan.probed_rollouts:,} rollouts, not stored",
        ]
    _print(*lines)


def print_bucketing(bucketing: "Bucketing") -> None:
    """Print the bucket table and pass@k with its interval."""
    questions = sum(row.questions for row in bucketing.rows)
    table = _table("bucket", "questions", "share", "mean right")
    for row in bucketing.rows:
        rate = "" if row.mean_correct_rate is None else f"{row.mean_correct_rate:.1%}"
        table.add_row(row.bucket, str(row.questions), f"{row.share_of_questions:.1%}", rate)
    curve = bucketing.pass_curve
    passes = _table("k", "pass@k", "95 % interval")
    for k, mean, low, high in zip(curve.k_K, curve.mean_K, curve.low_K, curve.high_K, strict=True):
        passes.add_row(str(k), f"{mean:.1%}", f"{low:.1%} – {high:.1%}")
    _print(
        f"{questions} questions by right answers in {bucketing.k} rollouts",
        table,
        f"0 of {bucketing.k} means p < {bucketing.never_correct_bound:.1%} (95 %), not p = 0.",
        f"\npass@k from {bucketing.k} rollouts",
        passes,
        f"Graded by {bucketing.grader}. Next: attrib ablate --subset never-correct",
    )


def print_effects(effects: Sequence["Effect"], incomparable: Sequence[str]) -> None:
    """Print held-out accuracy, gain and share of each arm; name those trained less than planned."""
    questions, seeds = effects[0].questions, effects[0].seeds
    plural = "" if seeds == 1 else "s"
    table = _table("arm", "accuracy", "gain (points)", "share of full", "p")
    order = {"base": 0, "full": 1, "only": 2, "all-but": 3}
    places = sorted(
        {(effect.role, effect.subset) for effect in effects},
        key=lambda place: (order.get(str(place[0]), 9), place[1]),
    )
    for role, subset in places:
        by_name = {e.statistic: e for e in effects if (e.role, e.subset) == (role, subset)}
        name = str(role) if role in ("base", "full") else f"{role} {subset}"
        p = by_name.get("mcnemar_p")
        table.add_row(
            name,
            _interval(by_name.get("accuracy"), "{:.1f}% [{:.0f}, {:.0f}]"),
            _interval(by_name.get("gain"), "{:+.1f} [{:+.1f}, {:+.1f}]"),
            _interval(by_name.get("share"), "{:.0f}% [{:.0f}, {:.0f}]"),
            "" if p is None or p.value is None else f"{p.value:.1g}",
        )
    notes = [
        "p: exact McNemar test against the base. Shares of `only` and `all-but` need not add to "
        "100 %."
    ]
    if seeds == 1:
        notes.append(
            "One seed: the intervals cover the choice of questions, not the spread between seeds."
        )
    if incomparable:
        notes.append(f"Trained less than planned, not comparable: {', '.join(incomparable)}.")
    _print(
        f"{questions} held-out questions, {seeds} seed{plural}, 95 % intervals",
        table,
        *notes,
    )


def print_status(found: "StudyStatus") -> None:
    """Print what a study holds."""
    _print(f"{found.path} ({found.megabytes:.1f} MB), writer: {found.writer or 'none'}")
    for title, frame in found.tables.items():
        if not frame.is_empty():
            _print(title)
            print_frame(frame)


def print_frame(frame: pl.DataFrame) -> None:
    """Print a frame as a table, every row of it."""
    table = Table(box=box.HORIZONTALS, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name, dtype in frame.schema.items():
        table.add_column(  # folded, so that ids stay whole
            name, justify="right" if dtype.is_numeric() else "left", overflow="fold"
        )
    for row in frame.iter_rows():
        table.add_row(*("" if value is None else _make_visible(str(value)) for value in row))
    _print(table)


def _make_visible(text: str) -> str:
    """Replace control characters, which a terminal would obey: a model may write any."""
    return "".join("�" if unicodedata.category(c) == "Cc" and c not in "\n\t" else c for c in text)


def _interval(effect: "Effect | None", form: str) -> str:
    """Return value and bounds in per cent or points, as `form` says."""
    if effect is None:
        return ""
    if effect.value is None or effect.low is None or effect.high is None:
        return "undefined"
    return form.format(*(100 * x for x in (effect.value, effect.low, effect.high)))


def _table(*columns: str) -> Table:
    """Return a table whose first column is text and whose others are numbers."""
    table = Table(box=box.HORIZONTALS, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index else "left", no_wrap=True)
    return table


def _print(*parts: Table | str) -> None:
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:  # a pipe or a file has no width to fit
        console = Console(highlight=False, markup=False, emoji=False, width=WIDTH_OF_FILES)
    for part in parts:
        console.print(part)
