"""The study file: the only module that talks to DuckDB.

Owns connections, migrations and the writer lock. DuckDB locks out even readers while a writer is
connected, so nobody stays connected: a run holds the *lock file* for its whole life, which makes it
the only writer, and connects only to append a batch; readers hold short connections. Whoever finds
the database busy waits up to 30 s and then names the holder. A batch is one transaction: a kill at
any instant loses at most the batch in flight and never half of it.

Refuses files that are not DuckDB databases, that a newer attrib wrote, or that another run is
writing.
"""

import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from pathlib import Path

import duckdb
import polars as pl
import tenacity
from filelock import FileLock, Timeout

from attrib.errors import QueryError, StoreError, first_line, query_error

WAIT_SECONDS = 30.0
# What a killed writer left beside the database is moved into it with the first batch, not before:
# of a damaged study nothing is touched by a command that cannot go on.
LEAVE_AS_IT_LIES = "PRAGMA disable_checkpoint_on_shutdown"


@dataclass(frozen=True, slots=True)
class Holder:
    """The run that is writing to a study."""

    host: str
    pid: int
    command: str

    def __str__(self) -> str:
        """Return a phrase that fits after "held by"."""
        return f"`{self.command}` (pid {self.pid} on {self.host})"


@dataclass(frozen=True, slots=True)
class Failure:
    """How a command that wrote to a study ended, where it failed or was interrupted."""

    command: str
    when: str
    message: str


class Transaction:
    """Writes that become visible together."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Wrap an open connection inside a transaction."""
        self._connection = connection

    def append(self, table: str, frame: pl.DataFrame, unless_present: Sequence[str] = ()) -> None:
        """Append `frame` to `table` by column name.

        Rows whose `unless_present` columns already occur in the table are left out, so that writing
        the same batch twice changes nothing.
        """
        names = [table, *unless_present]
        assert all(name.isidentifier() for name in names), names
        sql = f"INSERT INTO {table} BY NAME FROM batch"
        if unless_present:
            # First what the batch has in common with the table, so that the table is scanned for
            # keys within the batch's range only.
            keys = ", ".join(unless_present)
            sql += f" ANTI JOIN (FROM {table} SEMI JOIN batch USING ({keys})) USING ({keys})"
        self._connection.register("batch", frame)
        self._connection.execute(sql)
        self._connection.unregister("batch")

    def update(self, table: str, key: str, frame: pl.DataFrame) -> None:
        """Set the other columns of `frame` in the rows of `table` with the same `key`."""
        columns = [name for name in frame.columns if name != key]
        assert all(name.isidentifier() for name in (table, key, *columns)), columns
        changes = ", ".join(f"{name} = batch.{name}" for name in columns)
        self._connection.register("batch", frame)
        self._connection.execute(
            f"UPDATE {table} SET {changes} FROM batch WHERE {table}.{key} = batch.{key}"
        )
        self._connection.unregister("batch")

    def use(self, table: str, key: str, frame: pl.DataFrame) -> None:
        """Append the one row of `frame` unless its `key` is there, and make that row the newest."""
        self.append(table, frame, unless_present=[key])
        self.execute(f"UPDATE {table} SET used_at = now() WHERE {key} = $id", id=frame[key].item())

    def execute(self, sql: str, **params: object) -> None:
        """Run one statement with bound parameters (`$name`)."""
        self._connection.execute(sql, params or None)


class Store:
    """One study in one DuckDB file."""

    def __init__(self, path: Path, wait_seconds: float = WAIT_SECONDS) -> None:
        """Point at the study file; nothing is opened or created yet."""
        self.path = path
        self._wait_seconds = wait_seconds
        self._lock = FileLock(f"{path}.lock")
        self._holder_path = Path(f"{path}.writer.json")
        self._failure_path = Path(f"{path}.error.json")
        self._checked_file = -1

    def exists(self) -> bool:
        """Tell whether the study file is there."""
        return self.path.is_file()

    def read(self, sql: str, **params: object) -> pl.DataFrame:
        """Run a query with bound parameters (`$name`) on a short read-only connection.

        Raises:
            QueryError: the statement fails.
            StoreError: there is no study, it is damaged, or busy for 30 s.
        """
        self._require_study()
        with self._connected(read_only=True) as connection:
            self._check_version_once(connection)
            try:
                if len(connection.extract_statements(sql)) > 1:
                    raise QueryError("One statement at a time: the others would go unseen.")
                frame: pl.DataFrame = connection.sql(sql, params=params or None).pl()
                return frame
            except AttributeError as none:  # a statement without a result yields no relation
                raise QueryError("Only statements that return rows can be run here.") from none
            except (duckdb.Error, pl.exceptions.PolarsError) as error:
                if _is_damage(error):
                    raise self._cannot("be read", error) from error
                raise query_error(error) from error

    @contextmanager
    def writing(self, command: str, *, create: bool = True) -> Iterator[None]:
        """Be the study's only writer during the block; create or migrate the file on entry.

        Raises:
            StoreError: another run is writing (it is named), the file cannot be created, or there
                is none and it is not to be created.
        """
        self._refuse_folder()
        if not create:
            self._require_study()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise StoreError(
                f"{self.path} is being written by {self.holder() or 'another run'}. "
                "Wait for it to end, or use another study with --db."
            ) from None
        except OSError as error:
            raise StoreError(
                f"{self.path} cannot be written: {error}. Choose another --db."
            ) from error
        try:
            holder = Holder(socket.gethostname(), os.getpid(), command)
            self._holder_path.write_text(
                json.dumps({"host": holder.host, "pid": holder.pid, "command": holder.command})
            )
            if not self.path.exists():
                self._create()
            with self._connected(read_only=False) as connection:
                connection.execute(LEAVE_AS_IT_LIES)
                _migrate(connection, self.path)
            yield
            self._failure_path.unlink(missing_ok=True)
        except BaseException as error:
            self._record_failure(command, error)
            raise
        finally:
            self._holder_path.unlink(missing_ok=True)
            self._lock.release()

    def _create(self) -> None:
        """Make an empty study beside its place and move it there: killed, there is none yet."""
        place = self.path.resolve()
        beside = Path(f"{place}.new")
        try:
            for leftover in (beside, Path(f"{beside}.wal"), Path(f"{place}.wal")):
                leftover.unlink(missing_ok=True)
            with self._connected(read_only=False, path=beside) as connection:
                _migrate(connection, self.path)
            os.replace(beside, place)
        except StoreError:
            raise
        except OSError as error:
            raise StoreError(
                f"{self.path} cannot be written: {error}. Choose another --db."
            ) from error

    def last_failure(self) -> Failure | None:
        """Return how the last command that wrote here ended, if it failed; else None."""
        try:
            return Failure(**json.loads(self._failure_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _record_failure(self, command: str, error: BaseException) -> None:
        said = " ".join(str(error).split()) or type(error).__name__
        when = datetime.now(UTC).isoformat(timespec="seconds")
        record = asdict(Failure(command, when, said))
        with suppress(OSError):  # the disk may be what failed
            self._failure_path.write_text(json.dumps(record), encoding="utf-8")

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Write a batch: all of it, or nothing. Only inside `writing`."""
        assert self._lock.is_locked, "Store.transaction is used inside Store.writing"
        with self._connected(read_only=False) as connection:
            connection.execute("BEGIN")
            try:
                yield Transaction(connection)
                connection.execute("COMMIT")
            except duckdb.Error as error:
                if _is_damage(error):
                    raise self._cannot("be written", error) from error
                raise StoreError(
                    f"{self.path} could not be written: {first_line(error)}. What it held before "
                    "is intact; the same command continues."
                ) from error

    def holder(self) -> Holder | None:
        """Return who is writing, or None; a run of this host that was killed does not count."""
        try:
            holder = Holder(**json.loads(self._holder_path.read_text()))
        except (OSError, ValueError, TypeError):
            return None
        if holder.host == socket.gethostname() and not _is_alive(holder.pid):
            return None
        return holder

    def _check_version_once(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Check the schema of a file that this object has not read before."""
        file = self.path.stat().st_ino
        if file != self._checked_file:
            _check_version(connection, self.path)
            self._checked_file = file

    def _refuse_folder(self) -> None:
        if self.path.is_dir():
            file = self.path / "study.duckdb"
            raise StoreError(f"{self.path} is a folder. Name a file: --db {file}")

    def _require_study(self) -> None:
        self._refuse_folder()
        if not self.exists():
            raise StoreError(
                f"There is no study at {self.path}. Type: attrib sample --db {self.path}"
            )

    def _cannot(self, do: str, error: Exception) -> StoreError:
        """Return the error that says what to do about a file which may be damaged."""
        advice = "Is it damaged? Put a copy in its place, or start another study: --db FILE"
        if "replaying WAL" in str(error):  # it is the end of what was written, apart from the rest
            advice = (
                f"Its last writes are damaged, or those of another study. To go on without them, "
                f"move {self.path}.wal away."
            )
        return StoreError(f"{self.path} cannot {do}: {first_line(error)}. {advice}")

    @contextmanager
    def _connected(
        self, *, read_only: bool, path: Path | None = None
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        with _interruptible():
            connection = self._connect(path or self.path, read_only=read_only)
            try:
                yield connection
            except duckdb.Error as error:
                raise self._cannot("be used", error) from error
            finally:
                connection.close()

    def _connect(self, path: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        connect = tenacity.retry(
            retry=tenacity.retry_if_exception(_is_busy),
            stop=tenacity.stop_after_delay(self._wait_seconds),
            wait=tenacity.wait_random(0.02, 0.2),
            reraise=True,
        )(duckdb.connect)
        try:
            connection = connect(str(path), read_only=read_only)
            try:
                confine(connection, self.path)
            except BaseException:
                connection.close()
                raise
        except duckdb.Error as error:
            if _is_busy(error):
                held = self.holder() or "another program"
                raise StoreError(
                    f"{self.path} has been busy for {self._wait_seconds:.0f} s, held by {held}. "
                    "Close what has it open (a DuckDB shell?) and try again."
                ) from error
            raise self._cannot("be opened", error) from error
        return connection


@contextmanager
def _interruptible() -> Iterator[None]:
    """Turn what DuckDB makes of a Ctrl-C during a statement, however short, into one."""
    try:
        yield
    except RuntimeError as error:
        if "Query interrupted" in str(error):
            raise KeyboardInterrupt from error
        raise


@cache
def _migrations() -> list[tuple[int, str]]:
    folder = resources.files("attrib") / "migrations"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return [(int(file.name[:4]), file.read_text(encoding="utf-8")) for file in files]


def _version(connection: duckdb.DuckDBPyConnection) -> int | None:
    """Return the schema version, 0 for an empty file, None for somebody else's database."""
    tables = {
        row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
    }
    if "schema_migrations" not in tables:
        return None if tables else 0
    [(version,)] = connection.execute("SELECT max(version) FROM schema_migrations").fetchall()
    return int(version or 0)


def _check_version(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    version, newest = _version(connection), max(number for number, _ in _migrations())
    if version is None:
        raise StoreError(f"{path} is a DuckDB database, but not a study. Choose another --db.")
    if version > newest:
        raise StoreError(
            f"{path} was written by a newer attrib (schema {version}; this one knows {newest}). "
            "Type: pip install --upgrade attrib"
        )
    if version == 0:
        raise StoreError(f"{path} holds no complete study yet. Type: attrib sample --db {path}")
    if version < newest:
        raise StoreError(
            f"{path} was written by an older attrib (schema {version}; this one reads {newest}). "
            f"The next command that writes brings it up to date. Type: attrib bucket --db {path}"
        )


def _migrate(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    version = _version(connection)
    if version == 0:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations "
            "(version INTEGER PRIMARY KEY, applied_at TIMESTAMPTZ NOT NULL DEFAULT now())"
        )
    for number, sql in _migrations():
        if version is not None and number > version:
            connection.execute("BEGIN")
            connection.execute(sql)
            connection.execute("INSERT INTO schema_migrations (version) VALUES (?)", [number])
            connection.execute("COMMIT")
    _check_version(connection, path)


def confine(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Keep statements from the disk, all but the folder beside the study that holds its Parquet.

    Conditions and queries come from flags and shared study files. A database that this process has
    open already is confined already.
    """
    [(is_free,)] = connection.execute("SELECT current_setting('enable_external_access')").fetchall()
    if is_free:
        connection.execute("SET allowed_directories = [$1]", [f"{path.resolve()}.parquet"])
        connection.execute("SET enable_external_access = false")


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, duckdb.IOException) and "Conflicting lock" in str(error)


def _is_damage(error: BaseException) -> bool:
    return "Corrupt" in str(error) or "Could not read enough bytes" in str(error)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
