"""The study file: one writer, patient readers, and batches that are there whole or not at all."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

import duckdb
import polars as pl
import pytest

from attrib.errors import StoreError
from attrib.store import Holder, Store, Transaction

COUNT = "SELECT count(*) AS rows FROM verdicts"

PREAMBLE = """
import sys
from pathlib import Path

import polars as pl

from attrib.store import Store

store = Store(Path(sys.argv[1]))


def batch(number, rows=1000):
    return pl.DataFrame({
        "question_id": [f"{number}-{row}" for row in range(rows)], "answers_hash": "a",
        "text": "Paris", "truncated": False, "grader": str(number), "verdict": "correct",
        "detail": "",
    })


def wait():
    print("ready", flush=True)
    sys.stdin.readline()
"""


def verdicts(*question_ids: str, text: str = "Paris", verdict: str = "correct") -> pl.DataFrame:
    return pl.DataFrame(
        {
            "question_id": list(question_ids),
            "answers_hash": "a",
            "text": text,
            "truncated": False,
            "grader": "match-1",
            "verdict": verdict,
            "detail": "",
        }
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "study.duckdb", wait_seconds=10)


@pytest.fixture
def other_process(store: Store) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Return a function that runs a program beside this one, up to its first `wait()`."""
    processes = []

    def start(body: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PREAMBLE + body, str(store.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def release(process: subprocess.Popen[str]) -> None:
    process.communicate("\n", timeout=30)
    assert process.returncode == 0


def test_writing_creates_the_file_with_every_table(store: Store) -> None:
    assert not store.exists()
    with store.writing("attrib test"):
        pass
    assert store.exists()
    tables = set(store.read("SELECT table_name FROM information_schema.tables")["table_name"])
    assert tables >= {
        *("imports", "questions", "sample_sets", "rollouts", "verdicts", "bucketings", "buckets"),
        *("arms", "updates", "visits", "evaluations", "effects", "schema_migrations"),
        *("milestones", "masses", "accuracies", "first_rewards"),
        *("arm_questions", "graded_rollouts", "fact_links", "suspects", "provenance"),
    }


def test_opening_again_migrates_nothing_and_keeps_the_rows(store: Store) -> None:
    with store.writing("attrib test"), store.transaction() as transaction:
        transaction.append("verdicts", verdicts("q1"))
    versions = store.read("SELECT * FROM schema_migrations ORDER BY version")
    with store.writing("attrib test"):
        pass
    assert store.read("SELECT * FROM schema_migrations ORDER BY version").equals(versions)
    assert store.read(COUNT).item() == 1


def test_a_migration_that_was_killed_is_made_up_for(store: Store) -> None:
    with duckdb.connect(str(store.path)) as connection:
        connection.execute(
            "CREATE TABLE schema_migrations (version INTEGER PRIMARY KEY, "
            "applied_at TIMESTAMPTZ NOT NULL DEFAULT now())"
        )
    with pytest.raises(StoreError, match="no complete study yet"):
        store.read(COUNT)
    with store.writing("attrib test"):
        assert store.read(COUNT).item() == 0


def test_an_older_study_is_migrated_and_keeps_its_rows(store: Store) -> None:
    first = resources.files("attrib") / "migrations" / "0001_initial.sql"
    with duckdb.connect(str(store.path)) as connection:
        connection.execute(
            "CREATE TABLE schema_migrations (version INTEGER PRIMARY KEY, "
            "applied_at TIMESTAMPTZ NOT NULL DEFAULT now())"
        )
        connection.execute(first.read_text(encoding="utf-8"))
        connection.execute("INSERT INTO schema_migrations (version) VALUES (1)")
        connection.execute("INSERT INTO visits VALUES ('arm', 1, 'q1', 16, 3, true, 0.5)")
        connection.execute(
            "INSERT INTO evaluations VALUES ('arm', 1, 'q1', 'greedy', 0, 'a', "
            "'correct', '', 'match-1')"
        )
        connection.execute("INSERT INTO effects VALUES ('e', 's', 'only', 'gain', 0, 0, 0, 1, 9)")
    with pytest.raises(StoreError, match=r"older attrib \(schema 1.*attrib bucket --db"):
        store.read(COUNT)
    with store.writing("attrib test"):
        pass
    versions = store.read("SELECT version FROM schema_migrations ORDER BY version")["version"]
    assert versions.to_list() == list(range(1, 11))
    assert store.read("SELECT * FROM visits").row(0) == ("arm", 1, "q1", 16, 3, True, 0.5, None)
    assert store.read("SELECT text, logprob FROM evaluations").row(0) == ("a", None)
    assert store.read("SELECT * FROM effects").is_empty()  # estimated anew by the next ablation
    assert "evaluated_on" in store.read("SELECT * FROM effects").columns


def test_accuracies_and_first_rewards_follow_from_the_rows(store: Store) -> None:
    question = {
        **dict.fromkeys(("text", "fact_id", "answers_hash"), "x"),
        **{"answers": ["x"], "answer_type": "name", "flags": ["f"], "dataset": "d"},
    }
    questions = [
        {**question, "question_id": f"q{i}", "split": "held-out" if i < 3 else "train"}
        for i in range(4)
    ]
    evaluation = {"arm_id": "arm", "decoding": "greedy", "rollout": 0, "text": "", "detail": ""}
    verdicts = ["correct", "incorrect", "ungraded", "correct"]
    evaluations = [
        {**evaluation, "step": step, "question_id": f"q{i}", "verdict": verdict, "eval_grader": "g"}
        for step in (2, 4)
        for i, verdict in enumerate(verdicts)
    ]
    numbers = ("visits", "rollouts", "informative_groups", "gradient_tokens", "seconds")
    milestone = {"arm_id": "arm", "fraction": 0.5, "step": 2, **dict.fromkeys(numbers, 0)}
    visits = pl.DataFrame(
        {
            "question_id": ["q3", "q0", "q3", "q3"],
            "step": [1, 1, 2, 3],
            "visit": [0, 1, 2, 3],
            "correct": [0, 0, 2, 4],
            "informative": [False, False, True, False],
        }
    ).with_columns(arm_id=pl.lit("arm"), rollouts=4, gradient_weight=0.0)
    with store.writing("attrib test"), store.transaction() as transaction:
        transaction.append("questions", pl.DataFrame(questions))
        transaction.append("evaluations", pl.DataFrame(evaluations))
        transaction.append("milestones", pl.DataFrame([milestone]))
        transaction.append("visits", visits)
    columns = "fraction, step, split, questions, graded, correct"
    assert store.read(f"SELECT {columns} FROM accuracies ORDER BY step, split").rows() == [
        (0.5, 2, "held-out", 3, 2, 1),
        (0.5, 2, "train", 1, 1, 1),
        (None, 4, "held-out", 3, 2, 1),
        (None, 4, "train", 1, 1, 1),
    ]
    assert store.read("SELECT * FROM first_rewards ORDER BY question_id").rows() == [
        ("arm", "q0", 1, 0, 0, None, None),
        ("arm", "q3", 3, 2, 1, 2, 2),
    ]


def test_a_second_writer_is_refused_and_told_who_writes(
    store: Store, other_process: Callable[[str], subprocess.Popen[str]]
) -> None:
    process = other_process("with store.writing('attrib sample'): wait()")
    with pytest.raises(StoreError) as refusal, store.writing("attrib bucket"):
        pass
    assert "`attrib sample`" in str(refusal.value)
    assert f"pid {process.pid} on {os.uname().nodename}" in str(refusal.value)
    assert store.holder() == Holder(os.uname().nodename, process.pid, "attrib sample")
    assert store.read(COUNT).item() == 0  # between its batches, everybody may read

    release(process)
    assert store.holder() is None
    with store.writing("attrib bucket"):
        pass


def test_the_lock_dies_with_its_holder(
    store: Store, other_process: Callable[[str], subprocess.Popen[str]]
) -> None:
    process = other_process("with store.writing('attrib sample'): wait()")
    process.kill()
    process.wait()
    assert Path(f"{store.path}.writer.json").exists()  # left behind …
    assert store.holder() is None  # … and not believed
    with store.writing("attrib bucket"):
        assert store.holder() == Holder(os.uname().nodename, os.getpid(), "attrib bucket")
    assert store.holder() is None


def test_an_unreadable_holder_file_is_nobody(store: Store) -> None:
    Path(f"{store.path}.writer.json").write_text('{"host": "a"')
    assert store.holder() is None
    Path(f"{store.path}.writer.json").write_text('{"host": "a", "pid": 1}')
    assert store.holder() is None


def test_a_holder_on_another_host_is_believed(store: Store) -> None:
    Path(f"{store.path}.writer.json").write_text(
        '{"host": "elsewhere", "pid": 1, "command": "attrib sample"}'
    )
    assert str(store.holder()) == "`attrib sample` (pid 1 on elsewhere)"


def test_readers_wait_for_a_connected_writer(
    store: Store, other_process: Callable[[str], subprocess.Popen[str]]
) -> None:
    other_process(
        """
import time
with store.writing("attrib sample"), store.transaction() as transaction:
    transaction.append("verdicts", batch(0))
    print("ready", flush=True)
    time.sleep(0.5)
"""
    )
    assert store.read(COUNT).item() == 1000


def test_impatient_readers_are_told_who_writes(
    store: Store, other_process: Callable[[str], subprocess.Popen[str]]
) -> None:
    process = other_process("with store.writing('attrib sample'), store.transaction(): wait()")
    impatient = Store(store.path, wait_seconds=0.3)
    with pytest.raises(StoreError, match=r"busy .*held by `attrib sample` \(pid \d+ on "):
        impatient.read(COUNT)
    release(process)
    assert impatient.read(COUNT).item() == 0


def test_a_writer_waits_for_readers_and_names_a_foreign_program(
    store: Store, other_process: Callable[[str], subprocess.Popen[str]]
) -> None:
    with store.writing("attrib test"):
        pass
    process = other_process(
        "import duckdb\nconnection = duckdb.connect(sys.argv[1], read_only=True)\nwait()"
    )
    assert store.read(COUNT).item() == 0  # readers do not disturb one another
    impatient = Store(store.path, wait_seconds=0.3)
    with pytest.raises(StoreError, match="held by") as refusal, impatient.writing("attrib test"):
        pass
    assert "try again" in str(refusal.value)
    release(process)
    with impatient.writing("attrib test"):
        pass


def test_appending_a_batch_twice_changes_nothing(store: Store) -> None:
    key = ["question_id", "text"]
    with store.writing("attrib test"):
        for frame in (verdicts("q1", "q2"), verdicts("q1", "q2"), verdicts("q2", "q3")):
            with store.transaction() as transaction:
                transaction.append("verdicts", frame, unless_present=key)
    rows = store.read("SELECT question_id FROM verdicts ORDER BY question_id")
    assert rows["question_id"].to_list() == ["q1", "q2", "q3"]


def test_columns_are_matched_by_name(store: Store) -> None:
    frame = verdicts("q1")
    with store.writing("attrib test"), store.transaction() as transaction:
        transaction.append("verdicts", frame.select(reversed(frame.columns)))
    assert store.read("SELECT * FROM verdicts").equals(frame)


def test_a_batch_that_fails_leaves_nothing(store: Store) -> None:
    def write_and(then: Callable[[Transaction], None]) -> None:
        with store.transaction() as transaction:
            transaction.append("verdicts", verdicts("q1"))
            then(transaction)

    def violate(transaction: Transaction) -> None:
        transaction.append("verdicts", verdicts("q2", verdict="perhaps"))

    def fail(_: Transaction) -> None:
        raise ZeroDivisionError

    with store.writing("attrib test"):
        with pytest.raises(StoreError, match="could not be written: Constraint Error"):
            write_and(violate)
        with pytest.raises(ZeroDivisionError):
            write_and(fail)
        assert store.read(COUNT).item() == 0
        write_and(lambda _: None)
    assert store.read(COUNT).item() == 1


def test_a_kill_inside_a_transaction_leaves_the_last_batch_whole(
    store: Store, other_process: Callable[[str], subprocess.Popen[str]]
) -> None:
    process = other_process(
        """
with store.writing("attrib sample"):
    with store.transaction() as transaction:
        transaction.append("verdicts", batch(0))
    with store.transaction() as transaction:
        transaction.append("verdicts", batch(1, 200_000))
        wait()
"""
    )
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert store.read("SELECT DISTINCT grader FROM verdicts")["grader"].to_list() == ["0"]
    with store.writing("attrib sample"), store.transaction() as transaction:
        transaction.append("verdicts", verdicts("q1"))
    assert store.read(COUNT).item() == 1001


@pytest.mark.parametrize("delay_seconds", [0.05, 0.13])
def test_a_kill_at_any_time_leaves_whole_batches(
    store: Store, other_process: Callable[[str], subprocess.Popen[str]], delay_seconds: float
) -> None:
    process = other_process(
        """
with store.writing("attrib sample"):
    print("ready", flush=True)
    for number in range(10_000):
        with store.transaction() as transaction:
            transaction.append("verdicts", batch(number), unless_present=["question_id"])
"""
    )
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(delay_seconds)
    process.kill()
    process.wait()
    batches = store.read("SELECT grader::INT AS n, count(*) AS rows FROM verdicts GROUP BY ALL")
    assert set(batches["rows"]) <= {1000}
    assert sorted(batches["n"]) == list(range(len(batches)))


def test_values_are_bound_and_not_pasted(store: Store) -> None:
    hostile = 'it\'s "quoted"; DROP TABLE verdicts; --'
    with store.writing("attrib test"):
        with store.transaction() as transaction:
            transaction.append("verdicts", verdicts("q1", "q2", text=hostile))
            transaction.execute("DELETE FROM verdicts WHERE text = $text", text="it's another")
        where = "SELECT * FROM verdicts WHERE text = $text AND question_id = $id"
        assert store.read(where, text=hostile, id="q1").equals(verdicts("q1", text=hostile))
        with store.transaction() as transaction:
            transaction.execute("DELETE FROM verdicts WHERE text = $text", text=hostile)
        assert store.read(COUNT).item() == 0


def test_reading_cannot_write(store: Store) -> None:
    with store.writing("attrib test"):
        pass
    for sql in ("DROP TABLE verdicts", "INSERT INTO verdicts SELECT * FROM verdicts"):
        with pytest.raises(StoreError, match="read-only"):
            store.read(sql)


@pytest.mark.parametrize(
    ("sql", "complaint"),
    [
        ("SELECT nothing", "The query failed: Binder Error"),
        ("SELEKT 1", "The query failed: Parser Error"),
        ("", "Only statements that return rows"),
        ("SELECT 1; SELECT 2", "One statement at a time"),
        ("SELECT interval 1 day", "gives an INTERVAL.*Cast it"),
    ],
)
def test_a_query_that_fails_is_one_clear_error(store: Store, sql: str, complaint: str) -> None:
    with store.writing("attrib test"):
        pass
    with pytest.raises(StoreError, match=complaint):
        store.read(sql)


def test_an_interruption_inside_a_statement_is_an_interruption(store: Store) -> None:
    """DuckDB reports Ctrl-C as a RuntimeError, which would look like a bug of ours."""
    with store.writing("attrib test"):
        pass
    slow = (
        "SELECT count(*) FROM range(20000) AS a, range(20000) AS b WHERE a.range * b.range % 7 = 3"
    )

    def interrupt_while_reading() -> None:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        store.read(slow)
        time.sleep(5)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs lack it
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupt_while_reading()
    finally:
        signal.signal(signal.SIGINT, before)
    assert store.read(COUNT).item() == 0


def test_an_interruption_while_a_study_is_opened_is_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.writing("attrib test"):
        pass

    def interrupted(*_: object) -> None:
        raise RuntimeError("Query interrupted")

    with monkeypatch.context() as patch:
        patch.setattr("attrib.store.confine", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.read(COUNT)
    assert store.read(COUNT).item() == 0


def test_a_missing_study_names_the_command_that_makes_one(store: Store) -> None:
    with pytest.raises(StoreError, match=rf"no study at {store.path}.*attrib sample --db"):
        store.read("SELECT 1")


@pytest.mark.parametrize("content", [b"", b"not a database at all" * 1000])
def test_a_file_that_is_no_database_is_refused_and_left_alone(store: Store, content: bytes) -> None:
    store.path.write_bytes(content)
    with pytest.raises(StoreError, match="cannot be opened"):
        store.read("SELECT 1")
    with pytest.raises(StoreError, match="cannot be opened"), store.writing("attrib test"):
        pass
    assert store.path.read_bytes() == content
    assert store.holder() is None


def test_somebody_elses_database_is_refused_and_left_alone(store: Store) -> None:
    with duckdb.connect(str(store.path)) as connection:
        connection.execute("CREATE TABLE recipes (name VARCHAR)")
    with pytest.raises(StoreError, match="not a study"):
        store.read("SELECT 1")
    with pytest.raises(StoreError, match="not a study"), store.writing("attrib test"):
        pass
    with duckdb.connect(str(store.path)) as connection:
        tables = connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
    assert tables == [("recipes",)]


def test_a_study_of_a_newer_attrib_is_refused(store: Store) -> None:
    with store.writing("attrib test"), store.transaction() as transaction:
        transaction.execute("INSERT INTO schema_migrations (version) VALUES (999)")
    with pytest.raises(StoreError, match=r"newer attrib \(schema 999.*pip install --upgrade"):
        store.read("SELECT 1")
    with pytest.raises(StoreError, match="newer attrib"), store.writing("attrib test"):
        pass


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "study.duckdb")
    refused = pytest.raises(StoreError, match=r"cannot be written.*Choose another --db")
    with refused, store.writing("attrib test"):
        pass


def test_a_folder_is_no_study(tmp_path: Path) -> None:
    folder = Store(tmp_path)
    said = rf"{tmp_path} is a folder\. Name a file: --db {tmp_path}/study\.duckdb"
    with pytest.raises(StoreError, match=said), folder.writing("attrib test"):
        pass
    with pytest.raises(StoreError, match=said):
        folder.read(COUNT)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_one_clear_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        store = Store(tmp_path / "study.duckdb")
        with pytest.raises(StoreError, match="cannot be written"), store.writing("attrib test"):
            pass
    finally:
        tmp_path.chmod(0o700)


def test_a_full_disk_is_one_clear_error_and_nothing_is_lost(store: Store, tmp_path: Path) -> None:
    """The limit on file sizes stands for the disk: DuckDB meets either in a write that fails."""
    with store.writing("attrib test"), store.transaction() as transaction:
        transaction.append("selections", selection(0, 10))
    size = store.path.stat().st_size
    script = f"""
import resource, signal
from pathlib import Path
import polars as pl
from attrib.errors import StoreError
from attrib.store import Store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({size + 4096}, {size + 4096}))
store = Store(Path({str(store.path)!r}))
try:
    with store.writing("attrib test"):
        for i in range(100):
            ids = [f"{{i}}-{{j}}" for j in range(20_000)]
            with store.transaction() as transaction:
                frame = pl.DataFrame({{"sample_set_id": ids, "question_id": ids}})
                transaction.append("selections", frame)
except StoreError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "could not be written" in done.stdout, done.stderr
    assert "What it held before is intact" in done.stdout
    assert done.stdout.count("\n") == 1
    rows = store.read("SELECT question_id FROM selections WHERE sample_set_id = 's'")
    assert len(rows) == 10
    rows = store.read("SELECT count(*) AS n FROM selections WHERE sample_set_id <> 's'")
    assert rows.item() % 20_000 == 0


class Killed(BaseException):
    """Stands for a signal that ends the process."""


@pytest.mark.parametrize("place", ["attrib.store._migrate", "os.replace"])
def test_killed_while_the_file_is_made_there_is_none(
    store: Store, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(place, kill)
        with pytest.raises(Killed), store.writing("attrib test"):
            pass
    assert not store.exists()
    beside = Path(f"{store.path}.new")
    beside.write_bytes(beside.read_bytes()[:5000])  # a signal leaves half of it
    with store.writing("attrib test"):
        pass
    assert store.read(COUNT).item() == 0
    assert {file.name for file in store.path.parent.iterdir()} == {
        "study.duckdb",
        "study.duckdb.lock",
    }


def test_what_a_deleted_study_leaves_is_not_read_into_the_next(store: Store) -> None:
    with store.writing("attrib test"):
        pass
    with duckdb.connect(str(store.path)) as connection:
        connection.execute("INSERT INTO selections VALUES ('s', 'q')")
        log = Path(f"{store.path}.wal").read_bytes()
    store.path.unlink()
    Path(f"{store.path}.wal").write_bytes(log)
    with store.writing("attrib test"):
        pass
    assert store.read("FROM selections").is_empty()


def test_last_writes_that_are_damaged_can_be_done_without(store: Store) -> None:
    with store.writing("attrib test"), store.transaction() as transaction:
        transaction.append("selections", selection(0, 10))
    before = store.path.read_bytes()
    with duckdb.connect(str(store.path)) as connection:
        connection.execute("INSERT INTO selections VALUES ('s', 'q')")
        log = bytearray(Path(f"{store.path}.wal").read_bytes())
    store.path.write_bytes(before)
    log[len(log) // 2] ^= 1
    Path(f"{store.path}.wal").write_bytes(log)
    with pytest.raises(StoreError, match=rf"cannot be opened.*move {store.path}\.wal away"):
        store.read("FROM selections")
    Path(f"{store.path}.wal").unlink()
    assert len(store.read("FROM selections")) == 10


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_file_is_one_clear_error(store: Store, damage: str) -> None:
    with store.writing("attrib test"), store.transaction() as transaction:
        transaction.append("selections", selection(0, 50_000))
    content = bytearray(store.path.read_bytes())
    if damage == "cut":
        content = content[:5_000]
    else:
        content[20_000::7] = bytes(255 - byte for byte in content[20_000::7])
    store.path.write_bytes(content)
    with pytest.raises(StoreError, match=r"cannot be (opened|read).*Is it damaged") as caught:
        store.read("SELECT * FROM selections ORDER BY ALL")
    assert "\n" not in str(caught.value)
    assert store.path.read_bytes() == content


def selection(first: int, stop: int) -> pl.DataFrame:
    ids = [f"q{i}" for i in range(first, stop)]
    return pl.DataFrame({"sample_set_id": ["s"] * len(ids), "question_id": ids})


def test_the_lock_is_released_when_the_block_fails(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.writing("attrib test"):
        raise ZeroDivisionError
    with store.writing("attrib test"):
        pass
    assert store.holder() is None


@pytest.mark.parametrize("sql", ["FROM read_text('{}')", "COPY (SELECT 1) TO '{}'"])
def test_queries_cannot_reach_files(tmp_path: Path, sql: str) -> None:
    store = Store(tmp_path / "study.duckdb")
    with store.writing("attrib test"):
        pass
    with pytest.raises(StoreError, match="disabled by config"):
        store.read(sql.format(tmp_path / "secret.txt"))
