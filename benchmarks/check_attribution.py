"""Do scores find what was planted? `python benchmarks/check_attribution.py`.

A small model is trained on questions of which half have rewards that mean something and half coin
flips (tests/planted_rewards.py). Prints how well every method tells the halves apart, how well it
foretells what retraining on random parts gives, and what training with only, or without, its
highest scores gains. Exits 1 if `tracin` does not tell them apart, or foretells nothing.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import polars as pl

sys.path.append(str(Path(__file__).parents[1]))

from attrib.analysis.discrimination import area_under_curve
from attrib.attribution.attribute import AttributeSettings, attribute
from attrib.attribution.curves import CurvesSettings, draw_curves
from attrib.attribution.score_methods import ScoreMethod
from attrib.attribution.validation import ValidateSettings, validate
from attrib.progress import be_quiet
from attrib.store import Store
from attrib.tables_attribution import print_curves, print_validation
from tests.planted_rewards import NOISE, SIGNAL, make_study

SCORES = """
    SELECT method, relation, avg(score) AS score
    FROM question_scores JOIN questions USING (question_id)
    WHERE evaluated_on = 'held-out' GROUP BY method, question_id, relation
    ORDER BY method, question_id
"""


def main() -> int:
    """Make the study and print what every method reaches."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--training", type=int, default=60, help="training questions")
    parser.add_argument("--held-out", type=int, default=60, help="held-out questions")
    parser.add_argument("--updates", type=int, default=10, help="of every arm")
    parser.add_argument("--learning-rate", type=float, default=0.0005, help="of every arm")
    parser.add_argument("--seeds", type=int, default=3, help="scored arms")
    parser.add_argument("--subsets", type=int, default=48, help="retrained on random halves")
    chosen = parser.parse_args()
    be_quiet(True)
    with tempfile.TemporaryDirectory() as folder:
        store = make_study(
            Path(folder),
            training=chosen.training,
            held_out=chosen.held_out,
            updates=chosen.updates,
            learning_rate=chosen.learning_rate,
            seeds=chosen.seeds,
        )
        attribute(store, AttributeSettings(device="cpu"))
        area_low = _print_areas(store)
        validation = validate(store, ValidateSettings(device="cpu", subsets=chosen.subsets))
        print_validation(validation)
        methods = (ScoreMethod.TRACIN, ScoreMethod.REWARDED, ScoreMethod.DIFFICULTY)
        curves = CurvesSettings(device="cpu", method=methods, fraction=(0.2,))
        print_curves(draw_curves(store, curves))
    tracin = next(one for one in validation.methods if one.method is ScoreMethod.TRACIN)
    return int(area_low <= 0.5 or (tracin.log_probability.low or 0.0) <= 0.0)


def _print_areas(store: Store) -> float:
    """Print the area under the curve of every method; return the lower bound of `tracin`'s."""
    rows = store.read(SCORES)
    low = 0.0
    print("| method | area under the curve, signal against noise |\n|---|---|")
    for (method,), part in rows.group_by(["method"], maintain_order=True):
        signal, noise = (
            part.filter(pl.col("relation") == kind)["score"].to_numpy() for kind in (SIGNAL, NOISE)
        )
        area = area_under_curve(signal, noise)
        print(f"| {method} | {area.value:.3f} ({area.low:.3f} – {area.high:.3f}) |")
        low = area.low if method == ScoreMethod.TRACIN else low
    return low


if __name__ == "__main__":
    sys.exit(main())
