"""Scores tell questions whose rewards mean something from those whose rewards are coin flips."""

import polars as pl
import pytest

from attrib.analysis.discrimination import area_under_curve
from attrib.analysis.intervals import Interval
from attrib.attribution.attribute import AttributeSettings, attribute
from attrib.attribution.score_methods import GRADIENT_METHODS, ScoreMethod
from attrib.store import Store
from tests.planted_rewards import NOISE, SIGNAL, make_study

BLIND = (ScoreMethod.DIFFICULTY, ScoreMethod.RANDOM, ScoreMethod.SIMILARITY, ScoreMethod.VISITS)
"""Methods that see nothing of what was planted."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = make_study(
        tmp_path_factory.mktemp("planted-rewards"), training=40, held_out=12, updates=10
    )
    attribute(store, AttributeSettings(device="cpu"))
    return store


@pytest.fixture(scope="module")
def areas(study: Store) -> dict[ScoreMethod, Interval]:
    """Return for every method the area under the curve of signal against noise."""
    rows = study.read(
        "SELECT method, relation, score FROM question_scores JOIN questions USING (question_id) "
        "WHERE evaluated_on = 'held-out' ORDER BY method, question_id"
    )
    return {
        ScoreMethod(str(method)): area_under_curve(
            *(
                part.filter(pl.col("relation") == kind)["score"].to_numpy()
                for kind in (SIGNAL, NOISE)
            )
        )
        for (method,), part in rows.group_by(["method"], maintain_order=True)
    }


def test_both_halves_are_equally_hard(study: Store) -> None:
    rates = study.read(
        "SELECT relation, avg(correct / n) AS rate FROM buckets JOIN questions USING (question_id) "
        "GROUP BY relation ORDER BY relation"
    )
    assert rates["rate"].to_list() == pytest.approx([0.5, 0.5], abs=0.06)


@pytest.mark.parametrize("method", GRADIENT_METHODS)
def test_gradients_tell_them_apart(areas: dict[ScoreMethod, Interval], method: ScoreMethod) -> None:
    assert areas[method].value > 0.85
    assert areas[method].low > 0.7


@pytest.mark.parametrize("method", BLIND)
def test_methods_that_see_nothing_of_it_do_not(
    areas: dict[ScoreMethod, Interval], method: ScoreMethod
) -> None:
    assert areas[method].low < 0.5 < areas[method].high


def test_signal_helps_and_noise_does_not_on_the_whole(study: Store) -> None:
    rows = study.read(
        "SELECT relation, sum(score) AS score FROM question_scores "
        "JOIN questions USING (question_id) WHERE evaluated_on = 'held-out' AND method = 'tracin' "
        "GROUP BY relation ORDER BY relation DESC"
    )
    signal, noise = rows["score"].to_list()
    assert signal > 5 * abs(noise)
