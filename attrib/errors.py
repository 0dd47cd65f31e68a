"""The errors users see.

Every message names what happened, the value at fault and what to type next. The command line turns
an `AttribError` into one line on stderr and exit code 1; subclasses also inherit the stdlib class
they stand for, so library users can catch either.
"""

from collections.abc import Sequence


class AttribError(Exception):
    """Root of every error that `attrib` raises on purpose."""


class ConfigError(AttribError, ValueError):
    """A setting, or a combination of settings, that cannot work."""


class DataError(AttribError, ValueError):
    """Questions, rollouts or buckets that are missing, malformed or too few."""


class StoreError(AttribError, OSError):
    """The study's database cannot be opened, read or written."""


class QueryError(StoreError):
    """A statement that the study's database does not accept."""


def query_error(error: Exception) -> QueryError:
    """Return the error for a query that failed, with a remedy where the reason tells of none."""
    if "month_day_nano_interval" in str(error):
        return QueryError(
            "The query gives an INTERVAL, which cannot be shown. Cast it: (…)::VARCHAR, or "
            "epoch(…) for seconds."
        )
    return QueryError(f"The query failed: {first_line(error)}")


def condition_error(where: str | None, error: QueryError, columns: Sequence[str]) -> ConfigError:
    """Return the error for an SQL condition that cannot be used.

    Args:
        where: the condition.
        error: what became of a statement with it.
        columns: that it can name.
    """
    reason = str(error).removeprefix("The query failed: ").rstrip(".!")
    reason = reason.partition(" Error: ")[2] or reason
    return ConfigError(
        f'The condition "{where}" cannot be used: {reason}. Columns: {", ".join(columns)}.'
    )


class ModelError(AttribError, OSError):
    """A model or tokenizer cannot be found, loaded or served exactly."""


class TrainingError(AttribError, ArithmeticError):
    """A training run that cannot go on (non-finite loss, no signal)."""


class MissingExtraError(AttribError, ImportError):
    """An optional dependency is needed and not installed."""


def missing_extra(feature: str, extra: str, cause: ImportError) -> MissingExtraError:
    """Return the error that tells how to install what `feature` needs."""
    return MissingExtraError(
        f"{feature} needs the package '{cause.name}', which is not installed. "
        f"Type: pip install 'attrib[{extra}]'"
    )


def first_line(error: BaseException) -> str:
    """Return what a message of another library says, in one line without its full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(" .:")
