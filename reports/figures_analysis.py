"""The figures of what a referee would ask: bucket membership, kinds of change, calibration.

Owns how parts of gains, of probability and of answers are drawn. An arm has the mark of its role
and the colour of its subset, as everywhere; controls are grey.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from attrib.analyses import Membership
from attrib.reports.drawing import (
    PERCENT,
    WIDTH_INCHES,
    Drawing,
    arm_colour,
    bucket_colour,
    finish,
    make_panels,
    name_panel,
    name_rows,
    styled,
)
from attrib.reports.figures_arms import MARKS
from attrib.reports.kinds import TITLES, order_parts
from attrib.reports.records_arms import Arm
from attrib.reports.records_training import BucketTransitions, MassMove, PassRun
from attrib.reports.svg import BLUE, GREY, INK, MUTED, PAPER, PURPLE, VERMILLION
from attrib.reports.text import count, percent, points, show
from attrib.reports.values import Estimate

MOST_GROUPS = 12  # rows of a panel; the table has all
LEAST_MASS = 1e-6  # where the axes of probabilities begin
_POINTS = FuncFormatter(lambda value, _: points(value, 0))
_MASS_TICKS = ([1e-6, 1e-4, 1e-2, 1], ["10⁻⁶", "10⁻⁴", "10⁻²", "1"])
_STEPS_PER_DECADE = 6  # points as near as that are drawn as one, larger


def draw_membership(found: Membership) -> Drawing:
    """Return the chance of the same bucket again, and never-correct over rollouts drawn."""
    with styled():
        figure = Figure(figsize=(WIDTH_INCHES, 2.9), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
        for row, one in enumerate(found.stability):
            if one.stays is not None:
                bounds = Estimate(one.stays.value, one.stays.low, one.stays.high, 1, one.questions)
                _draw_mark(left, row, bounds, bucket_colour(one.bucket), "o")
        name_rows(left, [f"{one.bucket} ({count(one.questions)})" for one in found.stability])
        left.set_xlim(0, 1.03)
        left.xaxis.set_major_formatter(PERCENT)
        left.set_title("in the same bucket when drawn again", color=MUTED)
        known = [row for row in found.other_n if not row.from_prior]
        never = next(one.questions for one in found.stability)
        counted = [(row.n, row.expected.value) for row in known] + [(found.n, float(never))]
        beyond = [(row.n, row.expected.value) for row in found.other_n if row.from_prior]
        solid, dashed = sorted(counted), sorted([(found.n, float(never)), *beyond])
        colour = bucket_colour("never-correct")
        right.plot(*zip(*solid, strict=True), color=colour, linewidth=1.6)
        right.plot(*zip(*dashed, strict=True), color=colour, linewidth=1.6, linestyle=(0, (3, 2)))
        for other in found.other_n:
            if other.expected.low is not None and other.expected.high is not None:
                right.plot([other.n] * 2, [other.expected.low, other.expected.high], color=colour,
                           linewidth=1, alpha=0.5)  # fmt: skip
            face = PAPER if other.from_prior else colour
            right.plot(other.n, other.expected.value, "o", color=colour, markersize=4.5,
                       markerfacecolor=face)  # fmt: skip
        right.plot(found.n, never, "D", color=INK, markersize=5)
        right.set_xscale("log", base=2)
        ticks = [row.n for row in found.other_n if row.n in (16, 64, 256, 1024, 4096)]
        right.set_xticks(ticks, [count(n) for n in ticks])
        right.xaxis.set_minor_locator(NullLocator())
        right.set_ylim(bottom=0)
        right.set_xlabel("rollouts per question")
        right.set_title("never-correct questions", color=MUTED)
        told = "; ".join(
            f"{one.bucket} {percent(one.stays.value)}" for one in found.stability if one.stays
        )
        return finish(
            figure, "figure-membership", "Who is in which bucket", f"In the same again: {told}."
        )


def draw_parts(arms: Sequence[Arm], kinds: Sequence[str]) -> Drawing:
    """Return what each group of held-out questions adds to the gain, a panel a kind."""
    with styled():
        figure, panels = _make_row_panels([_count_rows(arms, kind) for kind in kinds], 0.42)
        for axes, kind in zip(panels, kinds, strict=True):
            labels = _list_labels(arms, kind)
            for place, arm in enumerate(arms):
                aside = 0.24 * (place - (len(arms) - 1) / 2)
                found = {part.label: part for part in arm.parts}
                for row, label in enumerate(labels):
                    part = found.get(label)
                    if part is not None and part.kind == kind:
                        mark = MARKS.get(arm.role, "o")
                        _draw_mark(axes, row + aside, part.gain, arm_colour(arm), mark)
            axes.axvline(0, color=MUTED, linewidth=1)
            name_rows(axes, _name_groups(arms, kind, labels))
            axes.xaxis.set_major_formatter(_POINTS)
            axes.set_title(TITLES[kind].lower(), color=MUTED)
        panels[0].set_xlabel("points of the gain")
        figure.legend(
            handles=[
                panels[0].plot([], [], MARKS.get(arm.role, "o"), color=arm_colour(arm),
                               label=show(arm.compared_label, 40))[0]
                for arm in arms
            ],
            loc="outside upper left",
            ncols=3,
            handletextpad=0.2,
        )  # fmt: skip
        told = "; ".join(
            f"{arm.label}: {part.label} {points(part.gain.value)}"
            for arm in arms
            for kind in kinds
            for part in order_parts(arm.parts, kind)
        )
        return finish(figure, "figure-kinds", "What the gain came from", f"{show(told, 2000)}.")


def draw_transitions(
    arm: Arm, kinds: Sequence[str], buckets: Sequence[BucketTransitions]
) -> Drawing:
    """Return what one arm learned and lost, by group of held-out questions and training bucket."""
    rows = [_count_rows([arm], kind) for kind in kinds] + [len(buckets)] * bool(buckets)
    with styled():
        figure, panels = _make_row_panels(rows, 0.3)
        for axes, kind in zip(panels, kinds, strict=False):
            labels = _list_labels([arm], kind)
            found = {part.label: part for part in arm.parts if part.kind == kind}
            for row, label in enumerate(labels):
                part = found[label]
                learned = part.learned.value if part.learned else None
                lost = part.lost.value if part.lost else None
                _draw_exchange(axes, row, learned or 0.0, abs(lost or 0.0))
            name_rows(axes, _name_groups([arm], kind, labels))
            axes.set_title(f"{kind}: points of the gain", color=MUTED)
            axes.xaxis.set_major_formatter(_POINTS)
        if buckets:
            axes = panels[-1]
            for row, one in enumerate(buckets):
                if one.gradable:
                    _draw_exchange(axes, row, one.learned / one.gradable, one.lost / one.gradable)
            name_rows(axes, [f"{one.bucket} ({count(one.gradable)})" for one in buckets])
            axes.set_title("training questions: share of the bucket", color=MUTED)
            axes.xaxis.set_major_formatter(PERCENT)
        for axes in panels:
            axes.axvline(0, color=MUTED, linewidth=1)
        figure.legend(
            handles=[
                Patch(color=BLUE, label="learned, to the right"),
                Patch(color=VERMILLION, alpha=0.55, label="lost, to the left"),
            ],
            loc="outside upper left",
            ncols=2,
        )
        told = f"Learned to the right and lost to the left, after “{arm.label}”"
        return finish(figure, "figure-transitions", "Learned and lost by group", f"{told}.")


def draw_answers(base: Arm | None, arms: Sequence[Arm]) -> Drawing:
    """Return what greedy answers look like, and how far sampled ones are from calibrated."""
    shown = [arm for arm in (base, *arms) if arm is not None and arm.answers]
    with styled():
        figure = Figure(figsize=(WIDTH_INCHES, 0.36 * len(shown) + 1.25), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
        handles: dict[str, Artist] = {}
        for row, arm in enumerate(shown):
            start = 0.0
            for name, (value, colour, alpha) in _split_answers(arm).items():
                (bar,) = left.barh(row, value, left=start, height=0.66, color=colour, alpha=alpha,
                                   edgecolor=PAPER, linewidth=1.2)  # fmt: skip
                handles.setdefault(name, bar)
                start += value
            gap = arm.answers.get("overconfidence")
            if gap is not None and gap.value is not None:
                _draw_mark(right, row, gap, arm_colour(arm), MARKS.get(arm.role, "o"))
        name_rows(left, [show(arm.compared_label, 34) for arm in shown])
        left.set_xlim(0, 1)
        left.xaxis.set_major_formatter(PERCENT)
        left.set_title("greedy answers, held-out", color=MUTED)
        name_rows(right, [""] * len(shown))
        right.axvline(0, color=MUTED, linewidth=1)
        right.xaxis.set_major_formatter(_POINTS)
        right.set_title("given minus right, points", color=MUTED)
        if handles:
            figure.legend(list(handles.values()), list(handles), loc="outside lower left", ncols=5,
                          handlelength=1.1, columnspacing=1.2)  # fmt: skip
        told = "; ".join(
            f"{arm.label}: {name} {percent(value)}"
            for arm in shown
            for name, (value, _, _) in _split_answers(arm).items()
        )
        return finish(figure, "figure-answers", "What answers look like", f"{show(told, 2000)}.")


def draw_crossings(runs: Sequence[tuple[Arm, Sequence[PassRun]]]) -> Drawing:
    """Return pass@k after training minus before, a panel an arm, a line a seed."""
    with styled():
        figure, panels = make_panels(
            1,
            len(runs),
            1.7,
            left_inches=0.55,
            gap_inches=0.4,
            top_inches=0.3,
            sharey=True,
            sharex=True,
        )
        for axes, (arm, found) in zip(panels.flat, runs, strict=True):
            colour = arm_colour(arm)
            for one in found:
                compared = one.crossing.comparison
                axes.fill_between(compared.k_K, compared.band_low_K, compared.band_high_K,
                                  color=colour, alpha=0.1, linewidth=0)  # fmt: skip
                axes.plot(compared.k_K, compared.difference_K, color=colour, linewidth=1.4,
                          marker=MARKS.get(arm.role, "o"), markersize=3.5)  # fmt: skip
            axes.axhline(0, color=MUTED, linewidth=1)
            axes.set_xscale("log", base=2)
            k_K = found[0].crossing.comparison.k_K
            axes.set_xticks([int(k) for k in k_K], [count(int(k)) for k in k_K])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter(_POINTS)
            axes.set_title(name_panel(arm))
        panels[0, 0].set_ylabel("points gained")
        panels[0, 0].set_xlabel("k, attempts per held-out question")
        told = "; ".join(
            f"{arm.label}, seed {one.seed}: "
            + " to ".join(points(float(one.crossing.comparison.difference_K[at])) for at in (0, -1))
            for arm, found in runs
            for one in found
        )
        return finish(
            figure, "figure-crossings", "Pass@k gained over the base", f"{show(told, 2000)}."
        )


def draw_mass_moves(moves: Sequence[MassMove]) -> Drawing:
    """Return the probability of the right answer after training over that before, by question."""
    with styled():
        figure, panels = make_panels(
            1,
            len(moves),
            2.2 if len(moves) > 1 else 3.2,
            left_inches=0.75,
            gap_inches=0.4,
            top_inches=0.3,
            sharey=True,
            sharex=True,
        )
        for axes, move in zip(panels.flat, moves, strict=True):
            near = Counter(zip(_coarse(move.before_Q), _coarse(move.after_Q), strict=True))
            where = np.array(list(near), dtype=np.float64).T
            axes.plot([LEAST_MASS, 1], [LEAST_MASS, 1], color=MUTED, linewidth=1,
                      linestyle=(0, (3, 2)))  # fmt: skip
            axes.scatter(*where, s=9 * np.sqrt(list(near.values())), color=arm_colour(move.arm),
                         alpha=0.45, linewidths=0)  # fmt: skip
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xlim(0.6 * LEAST_MASS, 1.6)
            axes.set_ylim(0.6 * LEAST_MASS, 1.6)
            axes.set_xticks(_MASS_TICKS[0], [*_MASS_TICKS[1][:-1], ""])
            axes.set_yticks(*_MASS_TICKS)
            axes.minorticks_off()
            axes.set_title(name_panel(move.arm))
        panels[0, 0].set_xlabel("probability of an accepted answer before RL")
        panels[0, 0].set_ylabel("after")
        told = "; ".join(
            f"{move.arm.label}: {sum(np.greater(move.after_Q, move.before_Q))} of "
            f"{len(move.before_Q)} questions rise"
            for move in moves
        )
        return finish(figure, "figure-moves", "Probability moved", f"{show(told, 2000)}.")


def _coarse(mass_Q: Sequence[float]) -> list[float]:
    """Return probabilities rounded on the logarithmic scale, none below `LEAST_MASS`."""
    tens_Q = np.log10(np.maximum(mass_Q, LEAST_MASS))
    rounded_Q = np.rint(tens_Q * _STEPS_PER_DECADE) / _STEPS_PER_DECADE
    return [float(one) for one in 10**rounded_Q]


def _split_answers(arm: Arm) -> dict[str, tuple[float, str, float]]:
    """Return the shares of kinds of greedy answers, with a colour and its opacity."""
    known = {name: one.value for name, one in arm.answers.items() if one.value is not None}
    if "one_answer" not in known:
        return {}
    one = known["one_answer"]
    right = one * known.get("accuracy_of_one_answer", 0.0)
    return {
        "the right one": (right, BLUE, 1.0),
        "another one": (one - right, VERMILLION, 0.85),
        "several": (known["several_answers"], PURPLE, 1.0),
        "none": (known["no_answer"], GREY, 0.75),
        "cut off": (known["cut_off"], GREY, 0.35),
    }


def _make_row_panels(rows: Sequence[int], each_inches: float) -> tuple[Figure, list[Axes]]:
    """Return a figure of panels side by side, two in a line, as high as their rows need."""
    lines = [rows[at : at + 2] for at in range(0, len(rows), 2)]
    heights = [each_inches * max(line) + 0.55 for line in lines]
    figure = Figure(figsize=(WIDTH_INCHES, sum(heights) + 0.45), layout="constrained")
    across = 2 if len(rows) > 1 else 1
    grid = figure.subplots(len(lines), across, squeeze=False, height_ratios=heights)
    for axes in grid.flat[len(rows) :]:
        axes.set_visible(False)
    return figure, list(grid.flat[: len(rows)])


def _list_labels(arms: Sequence[Arm], kind: str) -> list[str]:
    """Return the groups of a kind that are drawn: the largest ones, in their order."""
    sizes: dict[str, int] = {}
    for arm in arms:
        for part in order_parts(arm.parts, kind):
            sizes[part.label] = max(sizes.get(part.label, 0), part.gain.questions)
    largest = sorted(sizes, key=lambda label: -sizes[label])[:MOST_GROUPS]
    return [label for label in sizes if label in largest]


def _count_rows(arms: Sequence[Arm], kind: str) -> int:
    return len(_list_labels(arms, kind))


def _name_groups(arms: Sequence[Arm], kind: str, labels: Sequence[str]) -> list[str]:
    sizes = {
        part.label: part.gain.questions for arm in arms for part in arm.parts if part.kind == kind
    }
    return [f"{show(label.partition(' (')[0], 24)} ({count(sizes[label])})" for label in labels]


def _draw_exchange(axes: Axes, row: int, learned: float, lost: float) -> None:
    axes.barh(row, learned, height=0.6, color=BLUE)
    axes.barh(row, -lost, height=0.6, color=VERMILLION, alpha=0.55)
    axes.xaxis.set_major_locator(MaxNLocator(5))


def _draw_mark(axes: Axes, row: float, estimate: Estimate, colour: str, mark: str) -> None:
    if estimate.low is not None and estimate.high is not None:
        axes.plot([estimate.low, estimate.high], [row, row], color=colour, linewidth=1.8,
                  solid_capstyle="butt")  # fmt: skip
    if estimate.value is not None:
        axes.plot(estimate.value, row, mark, color=colour, markersize=5)
