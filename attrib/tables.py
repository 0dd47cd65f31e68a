"""What commands print: tables on stdout, and records as JSON."""

import dataclasses
import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table

from attrib.roles import Role
from attrib.settings import suggest

if TYPE_CHECKING:
    from attrib.attribution.effect import Effect
    from attrib.attribution.plan import TrainingPlan
    from attrib.inspection import StudyStatus
    from attrib.sampling.bucketing import Bucketing
    from attrib.sampling.comparing import Comparison
    from attrib.sampling.dry_run import SamplePlan

WIDTH_OF_FILES = 1_000_000  # columns: nothing is folded that another program reads


def to_json(value: object, indent: int | None = 2) -> str:
    """Return a record, a mapping or a frame as JSON; unknown numbers become null."""
    return json.dumps(simplify(value), ensure_ascii=False, allow_nan=False, indent=indent)


def to_csv(frame: pl.DataFrame) -> str:
    """Return a frame as CSV; lists and other nested values are written as JSON."""
    nested = [
        name for name, dtype in frame.schema.items() if dtype.is_nested() or dtype.is_(pl.Binary)
    ]
    texts = [
        pl.Series(
            name,
            [
                None if v is None else json.dumps(simplify(v), ensure_ascii=False)
                for v in frame[name].to_list()
            ],
            dtype=pl.String,
        )
        for name in nested
    ]
    return frame.with_columns(texts).write_csv()


def simplify(item: object) -> object:
    """Return `item` in terms of JSON: arrays and frames become lists, records mappings."""
    if item is None or isinstance(item, str | int):
        return item
    if isinstance(item, float):
        return item if math.isfinite(item) else None
    if isinstance(item, Decimal):  # a sum of whole numbers in DuckDB
        return int(item) if item == item.to_integral_value() else float(item)
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        return {f.name: simplify(getattr(item, f.name)) for f in dataclasses.fields(item)}
    if isinstance(item, Mapping):
        return {str(key): simplify(value) for key, value in item.items()}
    if isinstance(item, pl.DataFrame):
        return [simplify(row) for row in item.iter_rows(named=True)]
    if hasattr(item, "tolist"):
        return simplify(item.tolist())
    if isinstance(item, list | tuple):
        return [simplify(value) for value in item]
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


def print_bucketing(bucketing: "Bucketing", db: Path) -> None:
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
        _describe_suspects(bucketing),
        f"\npass@k from {bucketing.k} rollouts",
        passes,
        f"Graded by {bucketing.grader}. Next: {suggest('ablate --subset never-correct', db)}",
    )


def _describe_suspects(bucketing: "Bucketing") -> str:
    if not bucketing.suspects:
        return "No never-correct question is suspect."
    reasons = ", ".join(f"{count} {reason}" for reason, count in bucketing.suspects.items())
    kept = f"{bucketing.suspects_left_out} left out" if bucketing.suspects_left_out else "all kept"
    return (
        f"Never-correct questions whose accepted answers may be at fault: {reasons}; {kept}. "
        "List them: attrib grade suspects"
    )


def print_comparison(comparison: "Comparison") -> None:
    """Print how far two graders agree, and where they do not."""
    found = comparison.agreement
    kappa = "undefined: one verdict throughout"
    if found.kappa is not None:
        kappa = f"{found.kappa:.3f}"
        if found.low is not None and found.high is not None:
            kappa += f" (95 %: {found.low:.3f} – {found.high:.3f}, over questions)"
    same = f"{found.observed:.2%}"
    if found.observed_low is not None and found.observed_high is not None:
        same += f" (95 %: {found.observed_low:.2%} – {found.observed_high:.2%}, over questions)"
    _print(
        f"{comparison.one} and {comparison.other} on {found.responses:,} distinct responses to "
        f"{found.questions:,} questions",
        f"Same verdict: {same}. Cohen's kappa: {kappa}",
    )
    print_frame(comparison.confusion)
    if comparison.disagreeing:
        shown = len(comparison.disagreements)
        _print(f"\n{comparison.disagreeing:,} disagreements, the {shown} most frequent:")
        print_frame(comparison.disagreements)


def print_training_plan(plan: "TrainingPlan", *, to_stderr: bool = False) -> None:
    """Print every planned run with what it is expected to take."""
    table = _table(
        "run", "questions", "informative", "updates", "rollouts", "gradients", "time", "state"
    )
    for run in plan.runs:
        expected = run.forecast
        share = expected.informative_share if expected else None
        cells = ["", "", "", ""]
        if expected is not None:
            numbers = (expected.updates, expected.rollouts, expected.gradients)
            cells = [
                "" if share is None else f"{share:.0%}",
                *(f"{number:,.0f}" for number in numbers),
            ]
        table.add_row(
            " = ".join(run.names),
            str(run.questions or ""),
            *cells,
            _about(run.seconds) if run.is_owed else "",
            run.status if run.is_owed else f"{run.status}, reused",
        )
    lines: list[Table | str] = [
        f"Experiment {plan.experiment_id}: held equal {plan.budget}, batches filled: {plan.fill}.",
        table,
        "Expected at the start, from the posterior of each question; training changes it.",
        describe_owed(plan),
    ]
    if plan.owed and plan.disk_bytes is not None and plan.kept_bytes is not None:
        lines.append(
            f"Disk: up to {plan.disk_bytes / 1e9:.1f} GB while it runs, "
            f"{plan.kept_bytes / 1e6:,.0f} MB stay."
        )
    _print(*lines, *(f"Warning: {warning}" for warning in plan.warnings), to_stderr=to_stderr)


def describe_owed(plan: "TrainingPlan") -> str:
    """Return how many runs of a plan are owed, and how long they will take."""
    owed = f"{len(plan.owed)} of {len(plan.runs)} runs to do"
    if plan.seconds is not None and plan.owed:
        owed += f", about {_about(plan.seconds)} one after another"
    return f"{owed}."


def print_effects(effects: Sequence["Effect"], exhausted: Sequence[str]) -> None:
    """Print held-out accuracy, gain and share of each arm, beside its controls."""
    held_out = [effect for effect in effects if effect.evaluated_on == "held-out"]
    if not held_out:
        return _print("No held-out question could be graded for every arm.")
    questions = max(effect.questions for effect in held_out)
    seeds = max(effect.seeds for effect in held_out)
    table = _table(
        "arm",
        "at",
        "seeds",
        "accuracy",
        "gain (points)",
        "share of full",
        "less random",
        "p (Holm)",
    )
    places = dict.fromkeys((str(effect.role), effect.subset) for effect in held_out)
    order = {str(role): place for place, role in enumerate(Role)}
    for role, subset in sorted(places, key=lambda place: (order[place[0]], place[1])):
        mine = [e for e in held_out if (str(e.role), e.subset) == (role, subset)]
        if role == Role.COALITION and "+" in subset:
            continue
        at = next((e.fraction for e in mine if e.statistic == "gain_p_holm"), None)
        ordered = sorted(mine, key=lambda e: (e.fraction == at, e.fraction))
        found = {e.statistic: e for e in ordered}  # those of the comparison, else the last ones
        name = role if role in (Role.BASE, Role.FULL) else f"{role} {subset}"
        gain = found.get("gain") or found.get("final_gain")
        if role == Role.COALITION:  # alone, a bucket stands in the table as `only`
            name, gain = f"Shapley value of {subset}", found.get("shapley")
            found = {"share": found["shapley_share"]} if "shapley_share" in found else {}
        p, share = found.get("gain_p_holm"), found.get("share")
        accuracy = found.get("accuracy") or found.get("final_accuracy")
        table.add_row(
            name,
            "" if gain is None else f"{gain.fraction:.0%}",
            "" if gain is None else str(gain.seeds),
            _interval(accuracy, "{:.1f}% [{:.0f}, {:.0f}]"),
            _interval(gain, "{:+.1f} [{:+.1f}, {:+.1f}]"),
            _interval(share, "{:.0f}% [{:.0f}, {:.0f}]"),
            _interval(found.get("difference_random"), "{:+.1f} [{:+.1f}, {:+.1f}]"),
            "" if p is None or p.value is None else f"{p.value:.1g}",
        )
        for word in ("majority", "chain_of_thought"):
            if role == Role.BASE and f"{word}_accuracy" in found:
                table.add_row(
                    f"base, {word.replace('_', ' ')}",
                    "",
                    "",
                    _interval(found[f"{word}_accuracy"], "{:.1f}% [{:.0f}, {:.0f}]"),
                    _interval(found[f"{word}_gain"], "{:+.1f} [{:+.1f}, {:+.1f}]"),
                    "",
                    "",
                    "",
                )
    notes = [
        "at: share of the budget at which an arm is compared with the full arm. less random: gain "
        "minus that of as many random questions.",
        "p: against the base, over questions and seeds. Shares of `only` and `all-but` need not "
        "add to 100 %.",
    ]
    if seeds == 1:
        notes.append(
            "One seed: intervals and p cover the choice of questions, not the spread between seeds."
        )
    if exhausted:
        notes.append(
            f"Exhausted before the budget was used: {', '.join(exhausted)}. These had too little "
            "signal; that is not the same as teaching nothing."
        )
    _print(
        f"{questions} held-out questions, up to {seeds} seed{'s' * (seeds > 1)}, 95 % intervals",
        table,
        *notes,
    )


def _about(seconds: float | None) -> str:
    """Return a duration in the unit that reads best."""
    if seconds is None:
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def print_status(found: "StudyStatus") -> None:
    """Print what a study holds."""
    size = f"{found.megabytes:.1f} MB"
    if found.megabytes_beside:
        size += f" and {found.megabytes_beside:.1f} MB of weights and checkpoints"
    _print(f"{found.path} ({size}), writer: {found.writer or 'none'}")
    if found.last_error is not None:
        error = found.last_error
        _print(f"Last: `{error.command}` stopped at {error.when}: {_make_visible(error.message)}")
    print_titled(found.tables)


def print_titled(tables: Mapping[str, pl.DataFrame]) -> None:
    """Print tables under their titles, leaving out the empty ones."""
    for title, frame in tables.items():
        if not frame.is_empty():
            _print(title)
            print_frame(frame)


def print_lines(text: str) -> None:
    """Print text, control characters made visible."""
    _print(_make_visible(text))


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


def _print(*parts: Table | str, to_stderr: bool = False) -> None:
    console = Console(highlight=False, markup=False, emoji=False, stderr=to_stderr)
    if not console.is_terminal:  # a pipe or a file has no width to fit
        console = Console(
            highlight=False, markup=False, emoji=False, stderr=to_stderr, width=WIDTH_OF_FILES
        )
    for part in parts:
        console.print(part)
