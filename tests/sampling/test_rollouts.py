"""The rollout pipeline: what is owed, what a sample set is, and that resuming changes nothing."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrib.data.library import import_dataset
from attrib.errors import ConfigError, DataError, ModelError
from attrib.sampling import dry_run, engines
from attrib.sampling import rollouts as pipeline
from attrib.sampling.bucketing import BucketSettings, bucket_questions
from attrib.sampling.dry_run import SamplePlan, plan_rollouts
from attrib.sampling.engine import (
    Answered,
    EngineName,
    FinishReason,
    Request,
    Rollout,
    SamplingParams,
)
from attrib.sampling.engines import Source, find_source
from attrib.sampling.responder import Responder
from attrib.sampling.rollouts import SampleSettings, SampleSummary, draw_rollouts, owed_ranges
from attrib.store import Store

Draw = Callable[..., SampleSummary]
WHERE = "relation = 'continent'"
ROLLOUTS = "SELECT * EXCLUDE (sample_set_id) FROM rollouts ORDER BY question_id, rollout"


@pytest.fixture(scope="module")
def new_study(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Store]:
    """Return `new_study(path)`, which makes a study that holds the questions already."""
    imported = Store(tmp_path_factory.mktemp("imported") / "study.duckdb")
    with imported.writing("attrib test"):
        import_dataset(imported, "worldfacts")
    return lambda path: Store(Path(shutil.copy(imported.path, path)))


@pytest.fixture
def store(tmp_path: Path, new_study: Callable[[Path], Store]) -> Store:
    return new_study(tmp_path / "study.duckdb")


@pytest.fixture
def draw(store: Store, continent_model: Path) -> Draw:
    """Return `draw(into, **settings)`, which draws a few short rollouts for ten questions."""

    def run(into: Store = store, **changes: object) -> SampleSummary:
        settings: dict[str, object] = {
            "model": str(continent_model),
            "n": 8,
            "where": WHERE,
            "limit": 10,
            "max_new_tokens": 4,
            "device": "cpu",
            **changes,
        }
        return draw_rollouts(into, SampleSettings(**settings))

    return run


def stored(store: Store, condition: str = "TRUE") -> pl.DataFrame:
    return store.read(ROLLOUTS.replace("ORDER BY", f"WHERE {condition} ORDER BY"))


def same(ours: pl.DataFrame, theirs: pl.DataFrame) -> bool:
    """Tell whether rollouts are equal; log-probabilities up to rounding."""
    key = pl.exclude("logprob")
    difference = (ours["logprob"] - theirs["logprob"]).abs().max()
    return ours.select(key).equals(theirs.select(key)) and float(str(difference)) < 1e-4


@given(stored=st.sets(st.integers(0, 40)), n=st.integers(0, 40))
def test_owed_ranges_are_the_missing_indices_in_as_few_runs_as_can_be(
    stored: set[int], n: int
) -> None:
    ranges = owed_ranges(sorted(stored, reverse=True), n)
    covered = [index for first, stop in ranges for index in range(first, stop)]
    assert covered == [index for index in range(n) if index not in stored]
    assert all(stop < first for (_, stop), (first, _) in pairwise(ranges))


@pytest.mark.parametrize(
    ("stored", "n", "expected"),
    [
        ([], 0, []),
        ([], 3, [(0, 3)]),
        ([0, 1, 2], 3, []),
        ([0, 1, 2, 9], 3, []),
        ([1], 4, [(0, 1), (2, 4)]),
        ([0, 1], 5, [(2, 5)]),
    ],
)
def test_owed_ranges_by_hand(stored: list[int], n: int, expected: list[tuple[int, int]]) -> None:
    assert owed_ranges(stored, n) == expected


def test_every_question_gets_its_rollouts(store: Store, draw: Draw) -> None:
    summary = draw()
    assert (summary.questions, summary.n, summary.drawn, summary.already_stored) == (10, 8, 80, 0)
    rows = stored(store)
    assert (
        rows.group_by("question_id").agg(pl.col("rollout").sort())["rollout"].to_list()
        == [list(range(8))] * 10
    )
    assert summary.tokens == rows["tokens"].sum()
    assert (rows["tokens"] == rows["token_ids"].list.len()).all()
    assert rows["tokens"].max() <= 4
    assert set(rows["finish_reason"]) == {"stop", "length"}
    assert (rows.filter(finish_reason="length")["tokens"] == 4).all()
    assert (rows["logprob"] < 0).all()
    held_out = store.read(
        "SELECT count(*) FROM rollouts JOIN questions USING (question_id) WHERE split <> 'train'"
    )
    assert held_out.item() == 0


def test_topping_up_leaves_the_first_rollouts_and_equals_one_go(
    store: Store, draw: Draw, tmp_path: Path, new_study: Callable[[Path], Store]
) -> None:
    draw(n=8)
    first = stored(store)
    summary = draw(n=16)
    assert (summary.drawn, summary.already_stored) == (80, 80)
    assert stored(store, "rollout < 8").equals(first)

    at_once = new_study(tmp_path / "at-once.duckdb")
    draw(at_once, n=16)
    assert same(stored(store), stored(at_once))


def test_more_questions_leave_the_first_ones_as_they_were(
    store: Store, draw: Draw, tmp_path: Path, new_study: Callable[[Path], Store]
) -> None:
    draw(limit=4)
    first = stored(store)
    assert draw(limit=10).drawn == 6 * 8
    ids = set(first["question_id"])
    assert stored(store).filter(pl.col("question_id").is_in(ids)).equals(first)

    at_once = new_study(tmp_path / "at-once.duckdb")
    draw(at_once, limit=10)
    assert same(stored(store), stored(at_once))


def test_gaps_are_filled_with_what_was_there(store: Store, draw: Draw) -> None:
    draw()
    whole = stored(store)
    with store.writing("attrib test"), store.transaction() as transaction:
        transaction.execute("DELETE FROM rollouts WHERE rollout IN (0, 3, 4) OR tokens = 1")
    missing = len(whole) - len(stored(store))
    assert missing >= 30
    assert draw().drawn == missing
    assert same(stored(store), whole)


def test_asking_again_or_for_fewer_draws_nothing(store: Store, draw: Draw) -> None:
    draw()
    before = stored(store)
    for changes in ({}, {"n": 3}, {"limit": 2}, {"n": 1, "limit": 1}):
        summary = draw(**changes)
        assert (summary.drawn, summary.tokens) == (0, 0)
        assert summary.already_stored == summary.questions * summary.n
    assert stored(store).equals(before)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"temperature": 0.7}, "temperature: 1.0 → 0.7"),
        ({"seed": 5}, "seed: 0 → 5"),
        ({"max_new_tokens": 3}, "max_new_tokens: 4 → 3"),
        ({"top_k": 3}, "top_k: 0 → 3"),
        ({"engine": "transformers"}, "engine: 'tree' → 'transformers'"),
    ],
)
def test_other_settings_are_refused_and_named(
    store: Store, draw: Draw, changes: dict[str, object], difference: str
) -> None:
    draw(limit=2)
    with pytest.raises(ConfigError) as refusal:
        draw(limit=2, **changes)
    assert f"under other settings ({difference})" in str(refusal.value)
    assert "--new-set" in str(refusal.value)
    assert len(stored(store)) == 16


def test_another_prompt_and_another_model_are_other_settings(
    store: Store, draw: Draw, tmp_path: Path, save_answering_model: Callable[..., Path]
) -> None:
    draw(limit=2)
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("{question} It is\n")
    with pytest.raises(ConfigError, match=r"prompt: .*It is"):
        draw(limit=2, prompt=prompt)
    (tmp_path / "other").mkdir()
    other = save_answering_model(tmp_path / "other", ["Africa", "Asia"])
    with pytest.raises(ConfigError, match="weights_hash: "):
        draw(limit=2, model=str(other))


def test_a_second_sample_set_stands_beside_the_first(store: Store, draw: Draw) -> None:
    first = draw(limit=2)
    before = stored(store)
    second = draw(limit=2, seed=5, new_set=True)
    assert second.sample_set_id != first.sample_set_id
    assert (second.drawn, second.already_stored) == (16, 0)
    rows = store.read("SELECT sample_set_id, seed FROM sample_sets ORDER BY created_at")
    assert rows.rows() == [(first.sample_set_id, 0), (second.sample_set_id, 5)]
    rollouts = "SELECT * EXCLUDE (sample_set_id) FROM rollouts WHERE sample_set_id = $id"
    ours = store.read(f"{rollouts} ORDER BY question_id, rollout", id=first.sample_set_id)
    theirs = store.read(f"{rollouts} ORDER BY question_id, rollout", id=second.sample_set_id)
    assert ours.equals(before)
    assert ours["token_ids"].to_list() != theirs["token_ids"].to_list()
    # both are continued without being asked for another set
    assert draw(limit=2).already_stored == draw(limit=2, seed=5).already_stored == 16


def test_the_identity_is_that_of_the_distribution(
    store: Store, draw: Draw, continent_model: Path, tmp_path: Path
) -> None:
    first = draw(limit=2, n=2)
    renamed = tmp_path / "renamed"
    renamed.symlink_to(continent_model)
    for changes in ({"model": str(renamed)}, {"n": 4}, {"limit": 3}, {"where": None}):
        assert draw(**{"limit": 2, "n": 2, **changes}).sample_set_id == first.sample_set_id
    assert len(store.read("SELECT * FROM sample_sets")) == 1


def test_streams_of_questions_differ(store: Store, draw: Draw) -> None:
    draw(n=16)
    texts = stored(store).group_by("question_id").agg(pl.col("text").sort_by("rollout"))["text"]
    assert len({tuple(t) for t in texts}) == 10


@pytest.mark.parametrize(
    "changes",
    [{"n": 0}, {"temperature": -1.0}, {"max_new_tokens": 0}, {"limit": 0}, {"top_p": 0.0}],
)
def test_settings_without_a_meaning_leave_no_sample_set(
    store: Store, draw: Draw, changes: dict[str, object]
) -> None:
    with pytest.raises(ConfigError):
        draw(**changes)
    assert draw(limit=1).drawn == 8  # what failed stands in nobody's way


def test_a_model_that_is_not_there_is_refused(store: Store, draw: Draw, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"no config\.json"):
        draw(model=str(tmp_path / "empty"))
    assert store.read("SELECT * FROM sample_sets").is_empty()


# --- engines that fail, and what is written -------------------------------------------------------


class FlakyEngine:
    """Answers with the question's position; fails or breaks off as told."""

    name = EngineName.SERVER
    is_reproducible = False

    def __init__(self, failing: Callable[[Request, int], bool], breaks_after: int = 10_000) -> None:
        self._failing = failing
        self._breaks_after = breaks_after
        self.asked: list[tuple[int, int]] = []

    def respond(
        self, requests: Sequence[Request], params: SamplingParams, seed: int
    ) -> Iterator[Answered]:
        order = range(len(requests))[::-1]  # answers need not come in the order of the questions
        for done, position in enumerate(order):
            if done == self._breaks_after:
                raise KeyboardInterrupt
            request = requests[position]
            self.asked.append((request.first, request.stop))
            yield Answered(
                position,
                [
                    Rollout.failed(index)
                    if self._failing(request, index)
                    else Rollout(index, f"r{index}", (), 1, None, FinishReason.STOP)
                    for index in range(request.first, request.stop)
                ],
            )


@pytest.fixture
def use_engine(monkeypatch: pytest.MonkeyPatch) -> Callable[[FlakyEngine], FlakyEngine]:
    """Return `use(engine)`, which puts an engine behind whatever model is asked for."""

    def use(engine: FlakyEngine) -> FlakyEngine:
        def find(settings: SampleSettings) -> Source:
            source = find_source(settings)
            opened = lambda: Responder(engine, source.sample_set, None)  # noqa: E731
            return Source(source.sample_set, opened)

        monkeypatch.setattr(pipeline, "find_source", find)
        return engine

    return use


def test_what_was_drawn_before_an_error_is_stored(
    store: Store, draw: Draw, use_engine: Callable[[FlakyEngine], FlakyEngine]
) -> None:
    use_engine(FlakyEngine(lambda request, index: False, breaks_after=3))
    with pytest.raises(KeyboardInterrupt):
        draw()
    assert len(stored(store)) == 3 * 8  # whole questions only
    use_engine(FlakyEngine(lambda request, index: False))
    summary = draw()
    assert (summary.drawn, summary.already_stored) == (56, 24)
    assert len(stored(store)) == 80


def test_failed_rollouts_are_stored_as_such_and_drawn_again(
    store: Store, draw: Draw, use_engine: Callable[[FlakyEngine], FlakyEngine]
) -> None:
    use_engine(FlakyEngine(lambda request, index: index in (2, 3, 6)))
    with pytest.raises(ModelError, match=r"30 of 80 rollouts failed.*draws the failed ones again"):
        draw()
    rows = stored(store)
    assert len(rows) == 80
    failed = rows.filter(finish_reason="error")
    assert sorted(set(failed["rollout"])) == [2, 3, 6]
    assert (failed["text"] == "").all()

    again = use_engine(FlakyEngine(lambda request, index: index == 6))
    with pytest.raises(ModelError, match="10 of 30 rollouts failed"):
        draw()
    assert set(again.asked) == {(2, 4), (6, 7)}
    assert len(stored(store)) == 80
    assert len(stored(store, "finish_reason = 'error'")) == 10
    use_engine(FlakyEngine(lambda request, index: False))
    assert draw().drawn == 10
    assert set(stored(store)["finish_reason"]) == {"stop"}
    assert stored(store).select("question_id", "rollout").is_unique().all()


def test_failed_rollouts_are_never_graded(
    store: Store, draw: Draw, use_engine: Callable[[FlakyEngine], FlakyEngine]
) -> None:
    use_engine(FlakyEngine(lambda request, index: index == 3))
    with pytest.raises(ModelError):
        draw(n=16)
    with pytest.raises(DataError):
        bucket_questions(store, BucketSettings(k=16))
    assert store.read("SELECT * FROM verdicts WHERE text = ''").is_empty()
    bucketing = bucket_questions(store, BucketSettings(k=3, cut_rarely=0.1))
    assert sum(row.questions for row in bucketing.rows) == 10


def test_whether_rollouts_can_be_drawn_again_is_recorded(
    store: Store, draw: Draw, use_engine: Callable[[FlakyEngine], FlakyEngine]
) -> None:
    draw(limit=1)
    draw(limit=1, engine="transformers", new_set=True)
    rows = store.read("SELECT engine, reproducible FROM sample_sets ORDER BY engine")
    assert rows.rows() == [("transformers", False), ("tree", True)]


def test_nothing_owed_loads_no_model(
    store: Store, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw()
    monkeypatch.setattr(engines, "load_model", lambda *_: pytest.fail("the model was loaded"))
    assert draw().drawn == draw(n=4).drawn == 0


# --- dry run --------------------------------------------------------------------------------------


def plan(store: Store, model: Path, **changes: object) -> SamplePlan:
    settings = {"model": str(model), "n": 8, "where": WHERE, "max_new_tokens": 4, **changes}
    return plan_rollouts(store, SampleSettings(**settings))


def test_a_dry_run_writes_nothing(tmp_path: Path, continent_model: Path) -> None:
    store = Store(tmp_path / "new.duckdb")
    found = plan(store, continent_model, limit=10)
    assert list(tmp_path.iterdir()) == []
    assert (found.questions, found.n, found.rollouts, found.already_stored) == (10, 8, 80, 0)
    assert found.engine == "tree"
    assert found.probed_rollouts == 80
    assert found.seconds is not None
    assert found.seconds > 0


def test_a_dry_run_knows_what_is_stored(store: Store, draw: Draw, continent_model: Path) -> None:
    draw()
    before = stored(store)
    found = plan(store, continent_model, limit=10, n=24)
    assert (found.rollouts, found.already_stored, found.probed_rollouts) == (160, 80, 160)
    drawn = draw(n=24)
    assert found.tokens == drawn.tokens, "the whole of it was probed"
    assert stored(store, "rollout < 8").equals(before)
    done = plan(store, continent_model, limit=10, n=24)
    assert (done.rollouts, done.tokens, done.seconds, done.megabytes) == (0, None, None, None)
    with pytest.raises(ConfigError, match="under other settings"):
        plan(store, continent_model, seed=9)


def test_a_dry_run_scales_its_probe(
    store: Store, continent_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "PROBE_QUESTIONS", (2,))
    found = plan(store, continent_model)
    assert found.probed_rollouts == 16
    assert found.rollouts > 1_000
    assert found.tokens == pytest.approx(2.5 * found.rollouts, rel=0.6)
    assert found.megabytes == pytest.approx(found.rollouts * 55 / 1e6, rel=0.3)
