"""What `attrib data` prints of imports and splits."""

from pathlib import Path
from typing import TYPE_CHECKING

from attrib.settings import suggest
from attrib.tables import print_lines

if TYPE_CHECKING:
    from attrib.data.importing import ImportSummary
    from attrib.data.resplitting import SplitSummary
    from attrib.sampling.import_rollouts import ImportedRollouts


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def print_import(summary: "ImportSummary") -> None:
    """Print what an import brought, and what it left out."""
    what = "imported" if summary.is_new else "was imported before"
    lines = [
        f"{summary.dataset} {what}: {_count(summary.questions, 'question')} of "
        f"{_count(summary.rows, 'row')} (format {summary.preset}), {_count(summary.facts, 'fact')}"
        f", {_count(summary.train, 'question')} to train on and {summary.held_out:,} held out."
    ]
    if not summary.relations:
        lines.append(
            "No relations: `match` cannot hold other answers of a relation against a response."
        )
    lines += [f"Taken for one fact, {rule}: {n:,}" for rule, n in summary.linked.items()]
    lines += [f"Dropped, {reason}: {n:,}" for reason, n in summary.dropped.items()]
    lines += [f"  such as {example}" for example in summary.examples]
    print_lines("\n".join(lines))


def print_imported_rollouts(summary: "ImportedRollouts", db: Path) -> None:
    """Print what an import of rollouts brought, left out, and how its scores compare with ours."""
    count = (
        f"{summary.fewest}"
        if summary.fewest == summary.most
        else (f"{summary.fewest} to {summary.most}")
    )
    lines = [
        f"{summary.rollouts:,} rollouts of {summary.questions:,} training questions, {count} each, "
        f"in sample set {summary.sample_set_id}; {summary.already_stored:,} were there."
    ]
    left_out = {
        "to held-out questions": summary.held_out,
        "failed": summary.failed,
        "to no question of the study": summary.unmatched,
    }
    lines += [f"Left out, {reason}: {n:,}" for reason, n in left_out.items() if n]
    if summary.end_unknown:
        lines.append(f"Not known whether cut off, taken as whole: {summary.end_unknown:,}")
    lines.append(f"Right by {summary.grader}: {summary.correct:,} of {summary.graded:,}")
    if summary.scored:
        share = summary.agreeing / summary.scored
        lines.append(
            f"The file's scores agree on {summary.agreeing:,} of {summary.scored:,} ({share:.1%})."
        )
    from attrib.analysis.buckets import FEWEST_FOR_DEFAULTS
    from attrib.sampling.bucketing import suggest_cuts

    cuts = "" if summary.fewest >= FEWEST_FOR_DEFAULTS else f" {suggest_cuts(summary.fewest)}"
    lines.append(f"Next: {suggest(f'bucket --k {summary.fewest}{cuts}', db)}")
    print_lines("\n".join(lines))


def print_split(summary: "SplitSummary") -> None:
    """Print what drawing the split again did."""
    sides = ", ".join(f"{dataset} {count:,}" for dataset, count in summary.held_out.items())
    lines = [
        f"{_count(summary.drawn, 'question')} drawn again, {summary.moved:,} changed sides; "
        f"{summary.kept:,} are built in or were used, and stayed. Held out: {sides}."
    ]
    lines += [f"Left out, it asks for a fact of both sides: {text}" for text in summary.left_out]
    print_lines("\n".join(lines))
