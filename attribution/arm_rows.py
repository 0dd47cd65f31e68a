"""What a run has left in a study, taken out of one study file and put into another.

An arm that is run elsewhere has a study file of its own there. Its rows come back through here, and
so do those of an arm that goes on elsewhere. Putting them is idempotent: what the other file had of
the arm makes room.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from attrib.store import Store, Transaction

_OF_ARMS = (
    *("updates", "visits", "visit_rollouts"),
    *("milestones", "evaluations", "masses", "phrasings"),
)
_RUN = "SELECT * EXCLUDE created_at FROM training_runs WHERE arm_id = $arm_id"
_PROVENANCE = "FROM provenance WHERE made_id = $arm_id"
_CHANGING = ("arm_id", "status", "detail", "updates", "rollouts", "wall_seconds")
_MADE = ["made_id", "command", "environment_id"]
_VERDICT = ["question_id", "answers_hash", "text", "truncated", "grader"]


@dataclass(frozen=True, slots=True)
class ArmRows:
    """The rows of one run.

    Attributes:
        run: its row of `training_runs`.
        tables: its rows of the tables that name arms.
        verdicts: on what it said.
        provenance: the machines and versions that it ran on.
    """

    run: pl.DataFrame
    tables: Mapping[str, pl.DataFrame]
    verdicts: pl.DataFrame
    provenance: pl.DataFrame

    @property
    def status(self) -> str:
        """Return `running`, `done`, `exhausted` or `failed`."""
        return str(self.run["status"].item())

    @property
    def detail(self) -> str:
        """Return why it failed or is exhausted."""
        return str(self.run["detail"].item())

    def with_detail(self, detail: str) -> "ArmRows":
        """Return the same rows with another reason."""
        return replace(self, run=self.run.with_columns(detail=pl.lit(detail)))


def count_verdicts(store: Store) -> int:
    """Return how many verdicts a study holds."""
    return int(store.read("SELECT count(*) FROM verdicts").item())


def take_rows(store: Store, arm_id: str, known_verdicts: int = 0) -> ArmRows | None:
    """Return what a study holds of a run; None if it has not begun.

    Args:
        store: the study, to which only this run has added verdicts since it held so many.
        arm_id: which run.
        known_verdicts: of the study before the run.
    """
    run = store.read(_RUN, arm_id=arm_id)
    if run.is_empty():
        return None
    return ArmRows(
        run=run,
        tables={
            table: store.read(f"FROM {table} WHERE arm_id = $arm_id", arm_id=arm_id)
            for table in _OF_ARMS
        },
        verdicts=store.read("FROM verdicts WHERE rowid >= $known", known=known_verdicts),
        provenance=store.read(_PROVENANCE, arm_id=arm_id),
    )


def put_rows(transaction: Transaction, rows: ArmRows) -> None:
    """Store a run as it is in `rows`, in place of what there was of it."""
    arm_id = rows.run["arm_id"].item()
    for table, frame in rows.tables.items():
        transaction.execute(f"DELETE FROM {table} WHERE arm_id = $arm_id", arm_id=arm_id)
        transaction.append(table, frame)
    put_verdicts(transaction, rows.verdicts)
    transaction.append("provenance", rows.provenance, unless_present=_MADE)
    transaction.append("training_runs", rows.run, unless_present=["arm_id"])
    transaction.update("training_runs", "arm_id", rows.run.select(_CHANGING))


def put_verdicts(transaction: Transaction, verdicts: pl.DataFrame) -> None:
    """Store verdicts that the study does not hold yet."""
    transaction.append("verdicts", verdicts, unless_present=_VERDICT)


def save_rows(rows: ArmRows, path: Path) -> None:
    """Write the rows into a study file of their own."""
    path.unlink(missing_ok=True)
    store = Store(path)
    with store.writing("attrib ablate"), store.transaction() as transaction:
        put_rows(transaction, rows)


def load_rows(path: Path, arm_id: str) -> ArmRows:
    """Return what `save_rows` has written, with another version of attrib perhaps."""
    store = Store(path)
    with store.writing("attrib ablate", create=False):  # brings the tables up to date
        pass
    rows = take_rows(store, arm_id)
    assert rows is not None, path
    return rows
