"""The tables about what training did: ledger, curves, changed answers, training questions, masses.

Owns which columns are shown and how their cells read. Counts by seed are listed where they differ;
counts of visits are summed over seeds.
"""

from collections.abc import Callable, Sequence

from attrib.reports.findings import describe_counts
from attrib.reports.records_arms import Arm, Elsewhere
from attrib.reports.records_training import (
    AnswerShift,
    Change,
    Experiment,
    LedgerRow,
    Masses,
    TrainingCurve,
    Transitions,
)
from attrib.reports.tables import (
    Column,
    Kind,
    Table,
    describe_common_questions,
    join_answers,
    make_table,
    span,
)
from attrib.reports.text import (
    UNKNOWN,
    count,
    mean_count,
    number_interval,
    percent,
    percent_interval,
    plural,
    points_interval,
    show,
)

NOT_VISITED = "\u2009◦"


def tabulate_rewards(rows: Sequence[LedgerRow]) -> Table:
    """Return which training questions ever got a right rollout, when, and what became of them."""
    return make_table(
        "Training questions that got a right rollout, by arm and bucket",
        [
            "Arm",
            Column("Bucket", Kind.LABEL),
            "Questions",
            "visited",
            "ever with a right rollout",
            "… still wrong at the end",
            "visited, never so, yet right at the end",
            "First reward: earliest update",
            "median update",
            "median visit",
        ],
        [
            (
                show(row.arm.marked_label),
                show(row.bucket),
                describe_counts(row.trained_on_S),
                describe_counts(row.visited_S),
                describe_counts(row.rewarded_S),
                describe_counts(row.still_wrong_S),
                describe_counts(row.unrewarded_right_S),
                count(row.first_step),
                mean_count(row.median_step),
                mean_count(row.median_visits),
            )
            for row in rows
        ],
    )


def tabulate_ledger(rows: Sequence[LedgerRow]) -> Table:
    """Return visits and gradient weight by arm and bucket."""
    return make_table(
        "Visits of training questions by arm and bucket, summed over seeds",
        [
            "Arm",
            Column("Bucket", Kind.LABEL),
            "Visits",
            "with a right rollout",
            "informative",
            "informative share",
            "Gradient weight",
        ],
        [
            (
                show(row.arm.marked_label),
                show(row.bucket),
                count(row.visits),
                count(row.rewarded_visits),
                count(row.informative_visits),
                percent(row.informative_visits / row.visits),
                percent(row.gradient_share),
            )
            for row in rows
        ],
    )


def tabulate_curve(curve: TrainingCurve) -> Table:
    """Return one arm's training curve."""
    return make_table(
        f"Training of the arm “{show(curve.arm)}”",
        [
            "Updates",
            "Rollouts",
            "Correct",
            "Correct rate",
            "Groups",
            "Informative",
            "Informative share",
        ],
        [
            (
                span(point.first_step, point.last_step),
                count(point.rollouts),
                count(point.correct),
                percent(point.correct / point.rollouts if point.rollouts else None, 1),
                count(point.groups),
                count(point.informative),
                percent(point.informative / point.groups if point.groups else None, 1),
            )
            for point in curve.points
        ],
    )


def tabulate_transitions(questions: str, transitions: Sequence[Transitions]) -> Table:
    """Return right and wrong before and after, by arm."""
    return make_table(
        f"{questions} by verdict before and after training (greedy, summed over seeds)",
        ["Arm", "right → right", "wrong → right", "right → wrong", "wrong → wrong", "not gradable"],
        [
            (
                show(row.arm.marked_label),
                count(row.kept),
                count(row.learned),
                count(row.lost),
                count(row.still_wrong),
                count(row.ungraded),
            )
            for row in transitions
        ],
    )


def tabulate_changes(caption: str, changes: Sequence[Change]) -> Table:
    """Return questions whose verdict changed, with both answers."""
    quotes = [
        Column(title, Kind.QUOTE)
        for title in ("Question", "Accepted", "Answer before", "Answer after")
    ]
    return make_table(
        caption,
        quotes,
        [
            (show(one.question), join_answers(one.answers), show(one.before), show(one.after))
            for one in changes
        ],
    )


def tabulate_shifts(caption: str, group: str, shifts: Sequence[AnswerShift]) -> Table:
    """Return one row for each question and answer: how often it was given before and after."""
    return make_table(
        caption,
        [
            Column("Question", Kind.QUOTE),
            Column(group, Kind.LABEL),
            Column("Accepted", Kind.QUOTE),
            Column("Answer", Kind.QUOTE),
            Column("Verdict", Kind.LABEL),
            "Before RL",
            "After",
        ],
        [
            (
                show(one.question),
                show(one.group),
                join_answers(one.accepted),
                show(text, 120),
                show(verdict),
                f"{count(before)} of {count(one.before_drawn)}",
                f"{count(after)} of {count(one.after_drawn)}",
            )
            for one in shifts
            for text, verdict, before, after in one.answers
        ],
    )


def tabulate_learning(experiment: Experiment) -> Table:
    """Return the gain on training questions by arm and bucket."""
    visited = {(id(row.arm), row.bucket) for row in experiment.ledger}
    trained = {id(row.arm) for row in experiment.ledger}

    def show_gain(arm: Arm, place: Elsewhere) -> str:
        unseen = id(arm) in trained and (id(arm), place.place) not in visited
        return points_interval(place.gain, 0) + (NOT_VISITED if unseen else "")

    return _by_place(
        "Change of greedy accuracy on training questions, in points with 95\u00a0% intervals"
        + (f" ({NOT_VISITED.strip()} never visited by the arm)" if trained else ""),
        experiment,
        show_gain,
        is_training=True,
        with_base=False,
    )


def tabulate_training_accuracy(experiment: Experiment) -> Table:
    """Return greedy accuracy on training questions before and after, by arm and bucket."""
    return _by_place(
        "Greedy accuracy on training questions, with 95\u00a0% intervals",
        experiment,
        lambda _, place: percent_interval(place.accuracy),
        is_training=True,
        with_base=True,
    )


def tabulate_transfer(experiment: Experiment) -> Table:
    """Return accuracy and gain on every other data set, by arm."""

    def show_both(arm: Arm, place: Elsewhere) -> str:
        accuracy = percent_interval(place.accuracy, 1)
        return accuracy if arm is experiment.base else f"{accuracy}; {points_interval(place.gain)}"

    return _by_place(
        "Greedy accuracy on other data sets; change in points; 95\u00a0% intervals",
        experiment,
        show_both,
        is_training=False,
        with_base=True,
    )


def _by_place(
    caption: str,
    experiment: Experiment,
    cell: Callable[[Arm, Elsewhere], str],
    *,
    is_training: bool,
    with_base: bool,
) -> Table:
    """Return a table with a row per arm and a column per place, its number of questions on top."""
    base = [experiment.base] if experiment.base and with_base else []
    arms = [
        arm
        for arm in [*base, *experiment.arms]
        if any(one.is_training is is_training for one in arm.elsewhere)
    ]
    places: dict[str, int] = {}
    for arm in arms:
        for one in arm.elsewhere:
            if one.is_training is is_training and one.accuracy is not None:
                places.setdefault(one.place, one.accuracy.questions)
    seeds = {_seeds(arm) for arm in arms if arm is not experiment.base}
    rows = []
    for arm in arms:
        mine = {one.place: one for one in arm.elsewhere if one.is_training is is_training}
        cells = [cell(arm, mine[place]) if place in mine else UNKNOWN for place in places]
        own = f", {plural(_seeds(arm), 'seed')}" if len(seeds) > 1 else ""
        rows.append((f"{show(arm.marked_label)}{own}", *cells))
    heads = [f"{show(place)}, n\u00a0=\u00a0{count(n)}" for place, n in places.items()]
    common = f"; {plural(seeds.pop(), 'seed')}" if len(seeds) == 1 else ""
    return make_table(f"{caption}{common}", ["Arm", *heads], rows)


def _seeds(arm: Arm) -> int:
    return max((one.accuracy.seeds for one in arm.elsewhere if one.accuracy), default=0)


def tabulate_masses(rows: Sequence[Masses]) -> Table:
    """Return where probability lies on held-out questions, before RL and after each arm."""
    over, varying = describe_common_questions([row.logprob for row in rows])
    return make_table(
        f"Accepted answers under teacher forcing{over}",
        [
            "Arm",
            "Seeds",
            *varying,
            "Log-probability of the best",
            "Change",
            "Probability of all, at least",
            "Best is the greedy answer",
        ],
        [
            (
                show(row.arm.marked_label),
                count(row.logprob.seeds),
                *([count(row.logprob.questions)] if varying else []),
                number_interval(row.logprob, 2),
                number_interval(row.logprob_change, 2, signed=True),
                percent_interval(row.mass_low, 2),
                percent_interval(row.greedy, 1),
            )
            for row in rows
        ],
    )
