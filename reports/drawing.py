"""How every figure looks: colours, frame, text, and the way to SVG.

One colour a bucket throughout (Okabe–Ito, with grey for the last), text in the page's colour, no
frame. Figures are `Figure` objects without pyplot's state, under matplotlib's own defaults whatever
the user's settings are, and their ids follow from their names, so that equal records give equal
drawings.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from attrib.reports.records_arms import Arm
from attrib.reports.svg import (
    BLUE,
    GREEN,
    GREY,
    GRID,
    INK,
    MUTED,
    PURPLE,
    VERMILLION,
    inline_svg,
)
from attrib.reports.text import percent, show
from attrib.roles import Role

WIDTH_INCHES = 7.6
PERCENT = FuncFormatter(lambda value, _: percent(value))
_COLOURS = {
    "never-correct": VERMILLION,
    "rarely-correct": PURPLE,
    "sometimes-correct": GREEN,
    "mostly-correct": BLUE,
    "always-correct": GREY,
}
# Keys are literals in the stubs of newer matplotlib and strings in older ones.
_STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # a dollar sign is a dollar sign
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "axes.labelsize": 9.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "savefig.transparent": True,
}


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure as markup for the page; its text has been escaped."""

    name: str
    svg: str


def bucket_colour(bucket: str) -> str:
    """Return the colour of a bucket, the ink where it is none."""
    return _COLOURS.get(bucket, INK)


def arm_colour(arm: Arm) -> str:
    """Return the colour of an arm: of its subset, grey for controls, the ink for the others."""
    if arm.role in (Role.MATCHED_RANDOM, Role.MATCHED_COMPLEMENT):
        return MUTED
    return bucket_colour(arm.subset)


def axis_limits(axes: Axes) -> tuple[float, float]:
    """Return where the horizontal axis ends if it has been fixed, else no ends."""
    if axes.get_autoscalex_on():
        return -np.inf, np.inf
    low, high = axes.get_xlim()
    return float(low), float(high)


def name_panel(arm: Arm) -> str:
    """Return the name of an arm, short enough for one of three panels."""
    return "as many random" if arm.role is Role.MATCHED_RANDOM else show(arm.label, 26)


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Write a name beside every row, the first on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


def make_plot(height_inches: float, width_inches: float = WIDTH_INCHES) -> tuple[Figure, Axes]:
    """Return a figure, of the page's width unless told, with one set of axes."""
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    return figure, figure.subplots()


def make_panels(
    down: int,
    across: int,
    each_inches: float,
    *,
    left_inches: float,
    gap_inches: float,
    top_inches: float = 0.55,
    **shared: Any,
) -> tuple[Figure, Any]:
    """Return a figure of small panels under room for a legend, and the panels, (down, across).

    `top_inches` is that room, and that of the titles.

    Margins are given, not found out: with many panels that takes most of the time.
    """
    bottom, right, between = 0.5, 0.08, 0.12
    height = top_inches + bottom + down * each_inches + (down - 1) * gap_inches
    figure = Figure(figsize=(WIDTH_INCHES, height))
    panel_width = (WIDTH_INCHES - left_inches - right - (across - 1) * between) / across
    panels = figure.subplots(down, across, squeeze=False, **shared)
    figure.subplots_adjust(
        left=left_inches / WIDTH_INCHES,
        right=1 - right / WIDTH_INCHES,
        top=1 - top_inches / height,
        bottom=bottom / height,
        wspace=between / panel_width,
        hspace=gap_inches / each_inches,
    )
    return figure, panels


@contextmanager
def styled() -> Iterator[None]:
    """Draw under matplotlib's defaults and ours, whatever the user's settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def finish(figure: Figure, name: str, title: str, description: str) -> Drawing:
    """Write the figure as SVG whose ids follow from its name alone."""
    written = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    return Drawing(name, inline_svg(written.getvalue(), name, title, description))
