"""The paper's mechanism, and its rival, as sentences about the ledger.

The mechanism: RL reaches answers that were never seen before training, since they are drawn once in
a while when training visits their questions. The rival: such rewards come, and teach nothing that
stays. Counts of the runs at hand, by seed where they differ; nothing is said about methods that
draw no rollouts.
"""

from attrib.reports.claims import NEVER_CORRECT
from attrib.reports.design import GRPO, method_of
from attrib.reports.findings import describe_counts
from attrib.reports.records_training import Experiment, LedgerRow
from attrib.reports.text import count, mean_count, plural, show
from attrib.roles import Role


def describe_mechanism(experiment: Experiment) -> list[str]:
    """Return a sentence for the full arm, and one for the never-correct questions alone."""
    if method_of(experiment) != GRPO:
        return []
    return [
        _describe(row)
        for row in experiment.ledger
        if row.bucket == NEVER_CORRECT
        and (row.arm.role is Role.FULL or (row.arm.role, row.arm.subset) == (Role.ONLY, row.bucket))
    ]


def _describe(row: LedgerRow) -> str:
    questions = max(row.trained_on_S)
    noun = f"{row.bucket} question"
    text = f"“{show(row.arm.label)}”: of {plural(questions, noun)}, "
    if set(row.visited_S) != {questions}:
        text += f"{describe_counts(row.visited_S)} were visited and "
    if not any(row.rewarded_S):
        seeds = f" ({_seeds(row).rstrip('; ')})" if _seeds(row) else ""
        return f"{text}none got a right rollout within the budget{seeds}."
    when = f"first at update {count(row.first_step)}, median {mean_count(row.median_step)}"
    text += f"{describe_counts(row.rewarded_S)} got a right rollout within the budget "
    text += f"({_seeds(row)}{when})"
    if None in row.still_wrong_S:
        return f"{text}; how they are answered at the end was not measured."
    text += (
        f"; {describe_counts(row.still_wrong_S)} of these are still not answered correctly by "
        "greedy decoding at the end"
    )
    if any(row.unrewarded_right_S):
        text += f", while {describe_counts(row.unrewarded_right_S)} that never got one are"
    return f"{text}."


def _seeds(row: LedgerRow) -> str:
    seeds = len(row.arm.runs)
    return "" if seeds == 1 else f"by seed, {seeds} seeds; "
