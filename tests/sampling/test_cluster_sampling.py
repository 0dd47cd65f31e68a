"""What workers do and how work is cut, without a cluster; `make test-scale` has one."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attrib.data.questions import AnswerType, Question, Split, load_worldfacts
from attrib.errors import ConfigError, ModelError
from attrib.sampling import cluster_sampling
from attrib.sampling.cluster_sampling import Worker, _Batch, _cut, _of_engine, _pack, _unpack
from attrib.sampling.engines import find_source
from attrib.sampling.rollout_rows import SCHEMA, Owed, to_rows
from attrib.sampling.rollouts import SampleSettings, draw_rollouts, make_requests
from attrib.store import Store

CONTINENTS = [question for question in load_worldfacts() if question.relation == "continent"]


def question(number: int) -> Question:
    return Question(
        question_id=f"{number:016x}",
        dataset="numbers",
        split=Split.TRAIN,
        text=f"What is {number}?",
        answers=(str(number),),
        answer_type=AnswerType.NUMBER,
        subject=None,
        relation=None,
        fact_id=f"{number:016x}",
        popularity=None,
        flags=(),
    )


def settings_of(model: Path, **changes: object) -> SampleSettings:
    base = {"model": str(model), "engine": "tree", "max_new_tokens": 4, "device": "cpu"}
    return SampleSettings(**{**base, **changes})


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(1, 50), min_size=1, max_size=60),
    workers=st.integers(0, 5),
    most=st.integers(1, 200),
)
def test_tasks_hold_everything_once_and_are_about_as_long(
    counts: list[int], workers: int, most: int
) -> None:
    owed = [Owed(question(i), 3, 3 + count) for i, count in enumerate(counts)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster_sampling, "ROLLOUTS_PER_TASK", most)
        tasks = _cut(owed, workers)
    rows = [row for task in tasks for row in _unpack(task)]
    assert [(row["question_id"], row["first"], row["stop"]) for row in rows] == [
        (one.question.question_id, one.first, one.stop) for one in owed
    ]
    sizes = [sum(row["stop"] - row["first"] for row in _unpack(task)) for task in tasks]
    limit = max(1, min(most, sum(counts) // (4 * max(workers, 1))))
    assert all(size < limit + 50 for size in sizes)
    assert all(size >= limit for size in sizes[:-1])


def test_a_worker_draws_what_this_process_draws_in_batches(
    continent_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_sampling, "ROLLOUTS_PER_BATCH", 20)
    asked = settings_of(continent_model)
    source = find_source(asked)
    owed = [Owed(one, i, i + 8) for i, one in enumerate(CONTINENTS[:6])]
    worker = Worker(_of_engine(asked, source.sample_set), source.sample_set)
    packed = list(worker(_pack(owed)))
    assert [len(table) for table in packed] == [1, 1]
    batches = [_Batch.unpack(table) for table in packed]
    assert [len(batch.rows) for batch in batches] == [24, 24]
    assert all(batch.is_reproducible for batch in batches)
    responder = source.open()
    requests = make_requests(responder, owed)
    drawn = {
        answered.position: to_rows(requests[answered.position].stream, answered.rollouts)
        for answered in responder.respond(requests, source.sample_set.seed)
    }
    rows = pl.concat([batch.rows for batch in batches])
    assert rows.schema == SCHEMA
    assert rows.equals(pl.concat([drawn[position] for position in range(6)]))
    again = [_Batch.unpack(table).rows for table in worker(_pack(owed))]
    assert [len(batch) for batch in again] == [24, 24], "the batches of a task done again"


def test_a_worker_opens_what_was_chosen_here(
    continent_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("{question} It is")
    monkeypatch.chdir(continent_model.parent)
    asked = settings_of(Path(continent_model.name), prompt=prompt, engine="auto")
    sample_set = find_source(asked).sample_set
    prompt.unlink()  # other nodes do not have it
    monkeypatch.chdir(tmp_path)
    given = _of_engine(asked, sample_set)
    assert (given.engine, Path(given.model).resolve()) == ("tree", continent_model.resolve())
    owed = [Owed(CONTINENTS[0], 0, 2)]
    assert len(list(Worker(given, sample_set)(_pack(owed)))) == 1


def test_a_node_with_other_weights_refuses(
    continent_model: Path, tmp_path: Path, save_answering_model: Callable[..., Path]
) -> None:
    sample_set = find_source(settings_of(continent_model)).sample_set
    (tmp_path / "other").mkdir()
    other = save_answering_model(tmp_path / "other", ["Africa", "Asia"])
    worker = Worker(settings_of(other), sample_set)
    with pytest.raises(ModelError, match=r"On the node .* another model .*weights_hash: "):
        list(worker(_pack([Owed(CONTINENTS[0], 0, 2)])))


def test_a_server_is_one_place(tmp_path: Path) -> None:
    asked = SampleSettings(url="http://localhost:1/v1", cluster="local")
    with pytest.raises(ConfigError, match="--cluster does not go with --url"):
        draw_rollouts(Store(tmp_path / "study.duckdb"), asked)
