"""Killed again and again, `attrib sample` and `attrib ablate` end with what one quiet run gives."""

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from attrib.errors import StoreError
from attrib.sampling.bucketing import BucketSettings, bucket_questions
from attrib.sampling.rollouts import SampleSettings, draw_rollouts
from attrib.store import Store

N = 128
FAR_MORE_QUESTIONS = 2000
"""More than any machine gets through before the kills."""

DELAYS_SECONDS = (0.0, 0.1, 0.3)
"""How long after its first new rollouts each run is killed; some are written every second."""

Start = Callable[..., subprocess.Popen[str]]


def count_rollouts(store: Store) -> int:
    try:
        return int(store.read("SELECT count(*) FROM rollouts").item())
    except StoreError as error:  # killed before it had made the tables
        if "no study" in str(error) or "no complete study" in str(error):
            return 0
        raise


def kill_once_it_draws(process: subprocess.Popen[str], store: Store, delay_seconds: float) -> None:
    """Kill with SIGKILL after the database has shown new rollouts."""
    before = count_rollouts(store)
    while count_rollouts(store) == before:
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    time.sleep(delay_seconds)
    assert process.poll() is None, "the run ended before it could be killed"
    process.kill()
    process.wait()


@pytest.mark.timeout(300)
def test_kills_lose_little_and_change_nothing(
    tmp_path: Path, continent_model: Path, start_attrib: Start
) -> None:
    def start(store: Store, questions: int) -> subprocess.Popen[str]:
        return start_attrib(
            *("sample", "--db", store.path, "--model", continent_model, "--device", "cpu"),
            *("--n", N, "--limit", questions, "--max-new-tokens", 4),
        )

    killed, quiet = Store(tmp_path / "killed.duckdb"), Store(tmp_path / "quiet.duckdb")
    process = start(killed, FAR_MORE_QUESTIONS)
    while not Path(f"{killed.path}.writer.json").exists():
        time.sleep(0.02)
    process.kill()  # while it makes the file, imports the questions or loads the model
    process.wait()
    for delay_seconds in DELAYS_SECONDS:
        kill_once_it_draws(start(killed, FAR_MORE_QUESTIONS), killed, delay_seconds)

    left_by_kills = count_rollouts(killed)
    questions = left_by_kills // N + 20  # a smaller limit is the beginning of a larger one
    runs = [start(killed, questions), start(quiet, questions)]
    (stdout, stderr), (_, stderr_of_quiet) = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], stderr + stderr_of_quiet
    assert f"{left_by_kills} were there" in stdout

    per_question = killed.read(
        "SELECT count(*) AS rows, count(DISTINCT rollout) AS distinct_rows, min(rollout) AS first, "
        "max(rollout) AS last FROM rollouts GROUP BY question_id"
    )
    assert per_question.rows() == [(N, N, 0, N - 1)] * questions
    rollouts = "SELECT * EXCLUDE (logprob) FROM rollouts ORDER BY question_id, rollout"
    assert killed.read(rollouts).equals(quiet.read(rollouts))
    logprobs = "SELECT logprob FROM rollouts ORDER BY question_id, rollout"
    difference = killed.read(logprobs)["logprob"] - quiet.read(logprobs)["logprob"]
    assert float(str(difference.abs().max())) < 1e-4
    sets = "SELECT sample_set_id, params FROM sample_sets"
    assert killed.read(sets).equals(quiet.read(sets))


UPDATES = 6
TRAINED = {
    "arms": "SELECT * EXCLUDE (wall_seconds) FROM arms ORDER BY arm_id, role",
    "updates": "SELECT * EXCLUDE (seconds) FROM updates ORDER BY arm_id, step",
    "visits": "SELECT * FROM visits ORDER BY arm_id, visit",
    "milestones": "SELECT * EXCLUDE (seconds) FROM milestones ORDER BY arm_id, fraction",
    "evaluations": "SELECT * FROM evaluations ORDER BY ALL",
    "masses": "SELECT * FROM masses ORDER BY ALL",
    "effects": "SELECT * FROM effects ORDER BY ALL",
    "verdicts": "SELECT * FROM verdicts ORDER BY ALL",
}


def kill_after_updates(process: subprocess.Popen[str], store: Store, role: str, step: int) -> None:
    """Kill with SIGKILL once the arm of that role has made an update beyond `step`."""
    sql = "SELECT coalesce(max(step), 0) FROM updates JOIN arms USING (arm_id) WHERE role = $role"
    while store.read(sql, role=role).item() <= step:
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)  # a reader keeps the writer waiting
    process.kill()
    process.wait()


@pytest.mark.timeout(300)
def test_kills_change_nothing_of_what_is_trained(
    tmp_path: Path, continent_model: Path, start_attrib: Start
) -> None:
    killed = Store(tmp_path / "killed.duckdb")
    draw_rollouts(
        killed,
        SampleSettings(
            model=str(continent_model),
            n=16,
            limit=24,
            where="relation = 'continent'",
            max_new_tokens=4,
            device="cpu",
        ),
    )
    bucket_questions(killed, BucketSettings(k=16))
    quiet = Store(Path(shutil.copy(killed.path, tmp_path / "quiet.duckdb")))

    def start(store: Store) -> subprocess.Popen[str]:
        return start_attrib(
            *("ablate", "--db", store.path, "--subset-where", "subject < 'M'", "--role", "only"),
            *("--seeds", 1, "--budget", f"updates={UPDATES}", "--groups", 2),
            *("--learning-rate", 0.003, "--eval-limit", 8),
            *("--eval-samples", 1, "--cot-tokens", 0, "--keep", "last", "--device", "cpu"),
        )

    kill_after_updates(start(killed), killed, "full", 1)  # before its first checkpoint
    kill_after_updates(start(killed), killed, "full", UPDATES // 2)  # after it
    kill_after_updates(start(killed), killed, "only", 1)
    assert killed.holder() is None
    runs = [start(killed), start(quiet)]
    (_, stderr), (_, stderr_of_quiet) = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], stderr + stderr_of_quiet
    assert "1 of 3 runs to do" in stderr

    for table, sql in TRAINED.items():
        assert killed.read(sql).equals(quiet.read(sql)), table
    numbers = killed.read("SELECT arm_id, list(visit ORDER BY visit) AS v FROM visits GROUP BY 1")
    for visits in numbers["v"]:
        assert visits.to_list() == list(range(len(visits)))
    weights = [
        {file.parent.name: file.read_bytes() for file in folder.glob("*/*.safetensors")}
        for folder in (tmp_path / "killed.duckdb.models", tmp_path / "quiet.duckdb.models")
    ]
    assert weights[0] == weights[1]
    assert len(weights[0]) == 2
    assert list((tmp_path / "killed.duckdb.checkpoints").iterdir()) == []
