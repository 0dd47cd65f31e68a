"""The tables and sentences about graders, and about accepted answers that may be at fault.

Owns which columns are shown and how their cells read. One grader alone says nothing about how well
it grades, and that is said.
"""

from collections.abc import Sequence

from attrib.analysis.buckets import never_correct_bound
from attrib.reports.collect_grading import COVERED
from attrib.reports.records_grading import Grading, SecondGrader, SuspectQuestion, Suspects
from attrib.reports.tables import Column, Kind, Table, join_answers, make_table
from attrib.reports.text import (
    UNKNOWN,
    count,
    number_interval,
    percent,
    percent_interval,
    plural,
    show,
)
from attrib.reports.values import Estimate

MEANINGS = {
    "near-miss": "a response is a letter or two from an accepted answer",
    "too-long": "no accepted answer fits into a rollout",
    "dominant-answer": "at least half of the rollouts give one answer that is not accepted",
}


def name_grader(fingerprint: str, others: Sequence[str] = ()) -> str:
    """Return what users call a grader; all of its fingerprint where another is called the same."""
    name = fingerprint.rpartition("-")[0] or fingerprint
    rivals = [one for one in others if one != fingerprint]
    is_alone = all((one.rpartition("-")[0] or one) != name for one in rivals)
    return show(name if is_alone else fingerprint)


def tabulate_graders(grading: Grading) -> Table:
    """Return how each other grader agrees with the one that the buckets rest on."""
    first, names = _name_all(grading)
    return make_table(
        f"Other graders beside {first}, on distinct responses; 95\u00a0% intervals over questions",
        [
            Column("Grader", Kind.LABEL),
            "Responses",
            "Questions",
            "Same verdict",
            "Cohen's kappa",
            f"Right by {first} only",
            "Right by this one only",
        ],
        [
            (
                names[one.grader],
                count(one.agreement.responses),
                count(one.agreement.questions),
                percent_interval(_same(one), 1),
                number_interval(_kappa(one), 2),
                count(one.first_only),
                count(one.second_only),
            )
            for one in grading.others
        ],
    )


def tabulate_never_correct(grading: Grading) -> Table:
    """Return how many questions each grader never finds right."""
    first, names = _name_all(grading)
    return make_table(
        "Never-correct questions, by grader: counts of the same rollouts",
        [
            Column("Grader", Kind.LABEL),
            "Questions judged whole",
            f"Never right by {first}",
            "by this one",
            "by both",
        ],
        [
            (
                names[one.grader],
                *map(
                    count,
                    (one.questions, one.never_by_first, one.never_by_second, one.never_by_both),
                ),
            )
            for one in grading.others
        ],
    )


def describe_graders(grading: Grading) -> list[str]:
    """Return what the verdicts of several graders say, or that there is one only."""
    first, names = _name_all(grading)
    sentences = []
    if not grading.others:
        sentences.append(
            f"All rollouts were judged by one grader, “{first}”: how another would have judged "
            "them, and how often this one errs, is not known from this study."
        )
    for one in grading.others:
        name = names[one.grader]
        same = "all" if one.agreement.observed == 1 else percent_interval(_same(one), 1)
        part = "" if one.rollouts == one.of else f" of the {count(one.of)}"
        sentences.append(
            f"The grader “{name}” gives {same} of "
            f"{plural(one.agreement.responses, 'distinct response')} the verdict of “{first}” "
            f"({count(one.rollouts)}{part} rollouts). {_describe_never_correct(one, first, name)}"
        )
        if one.agreement.observed == 1:
            bound = never_correct_bound(one.agreement.questions)
            sentences.append(
                f"Not one verdict differs: up to {percent(bound, 1)} of such questions may still "
                "have one that does (one-sided 95\u00a0% bound)."
            )
    if grading.passing:
        listed = ", ".join(names[one] for one in grading.passing)
        sentences.append(
            f"Verdicts of {listed} are stored too, on fewer than {percent(COVERED)} of these "
            "rollouts: no fair part of them, so they are not compared."
        )
    return sentences


def suggest_grader(grading: Grading) -> str:
    """Return the command that adds a second grader's verdicts; '' where there are some."""
    if grading.others:
        return ""
    return f"attrib grade --grader {'match' if name_grader(grading.grader) == 'exact' else 'exact'}"


def tabulate_suspects(suspects: Suspects) -> Table:
    """Return a few suspect questions with what their rollouts say most often."""
    return make_table(
        f"Suspect questions, {len(suspects.listed)} of {count(suspects.questions)}",
        [
            Column("Question", Kind.QUOTE),
            Column("Accepted", Kind.QUOTE),
            Column("Most frequent answer", Kind.QUOTE),
            "Times",
            Column("Sign", Kind.QUOTE),
        ],
        [
            (
                show(one.question),
                join_answers(one.answers),
                _show_said(one),
                f"{count(one.times)} of {count(one.n)}" if one.said is not None else UNKNOWN,
                "; ".join(f"{reason}: {show(detail, 120)}" for reason, detail in one.signs),
            )
            for one in suspects.listed
        ],
    )


def _show_said(one: SuspectQuestion) -> str:
    if one.said is None:
        return UNKNOWN
    return "no answer twice" if one.times == 1 < one.n else show(one.said, 80)


def describe_suspects(suspects: Suspects) -> str:
    """Return how many questions are suspect, why, and whether they are in the buckets."""
    if not suspects.questions:
        return "No never-correct question shows a sign that its accepted answers are at fault."
    signs = "; ".join(
        f"{MEANINGS.get(reason, show(reason))} ({count(questions)})"
        for reason, questions in suspects.by_reason
    )
    verb = "shows" if suspects.questions == 1 else "show"
    return (
        f"{plural(suspects.questions, 'never-correct question')} {verb} a sign that the accepted "
        f"answers are at fault rather than the model: {signs}. {_describe_kept(suspects)} A sign "
        "is no verdict: one answer that most rollouts give is more often a firm error."
    )


def _describe_kept(suspects: Suspects) -> str:
    left_out = suspects.questions - suspects.kept
    if not left_out:
        return "All are in the buckets."
    if not suspects.kept:
        return "They were left out of the buckets."
    return f"{count(left_out)} of them were left out of the buckets."


def _describe_never_correct(one: SecondGrader, first: str, name: str) -> str:
    if not one.questions:
        return ""
    return (
        f"Of {plural(one.questions, 'question')}, {count(one.never_by_first)} are never right by "
        f"“{first}”, {count(one.never_by_second)} by “{name}”, {count(one.never_by_both)} by both."
    )


def _name_all(grading: Grading) -> tuple[str, dict[str, str]]:
    everyone = [grading.grader, *(one.grader for one in grading.others), *grading.passing]
    names = {one: name_grader(one, everyone) for one in everyone}
    return names[grading.grader], names


def _same(one: SecondGrader) -> Estimate:
    found = one.agreement
    return Estimate(found.observed, found.observed_low, found.observed_high, 1, found.questions)


def _kappa(one: SecondGrader) -> Estimate:
    found = one.agreement
    return Estimate(found.kappa, found.low, found.high, 1, found.questions)
