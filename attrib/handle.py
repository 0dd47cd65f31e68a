"""A study from Python: `attrib.open("attrib.duckdb")`, whose answers are polars frames.

Only reads; a run may be writing meanwhile. Frames have `.to_pandas()` where pandas is installed.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from attrib.analysis.passk import mean_pass_at_k
from attrib.errors import DataError, QueryError, condition_error
from attrib.store import Store

_NEWEST = {
    "sample_sets": "sample_set_id",
    "bucketings": "bucketing_id",
    "experiments": "experiment_id",
}
_ROLLOUTS = """
    SELECT rollouts.*, grader, verdict, detail FROM rollouts
    LEFT JOIN (FROM graded_rollouts WHERE sample_set_id = $sample_set_id
               AND starts_with(grader, $grader))
      USING (sample_set_id, question_id, rollout)
    WHERE sample_set_id = $sample_set_id
"""
_BUCKETS = """
    SELECT buckets.* EXCLUDE bucketing_id, dataset, question.text, answers, subject, relation,
           popularity
    FROM buckets JOIN questions AS question USING (question_id)
    WHERE bucketing_id = $bucketing_id
"""


class Study:
    """One study file, read-only."""

    def __init__(self, path: str | Path = "attrib.duckdb") -> None:
        """Open a study.

        Args:
            path: of the DuckDB file.

        Raises:
            StoreError: there is none, or it was written by another version of attrib.
        """
        self._store = Store(Path(path))
        self._store.read("SELECT 1")

    def __repr__(self) -> str:
        """Return how the study is opened."""
        return f"attrib.open({str(self._store.path)!r})"

    def query(self, sql: str, **params: object) -> pl.DataFrame:
        """Return the rows of a SELECT statement; `$name` stands for a parameter.

        Args:
            sql: the statement; docs/store.md lists the tables.
            params: values of the parameters.

        Raises:
            QueryError: the statement fails.
        """
        return self._store.read(sql, **params)

    def rollouts(
        self, where: str = "TRUE", *, sample_set: str = "", grader: str = "match"
    ) -> pl.DataFrame:
        """Return the rollouts of a sample set, each with its verdict, null where it has none.

        Args:
            where: an SQL condition on the columns of `graded_rollouts` and of `questions`, such as
                `verdict = 'correct' AND relation = 'capital'`.
            sample_set: beginning of its id; the newest by default.
            grader: its name, or the beginning of its fingerprint. Where several fingerprints fit
                and have graded a rollout, it has a row for each.

        Raises:
            ConfigError: the condition is not valid SQL.
            DataError: there is no such sample set.
        """
        return self._select(
            f"SELECT found.*, question.text AS question, answers, relation, popularity "
            f"FROM ({_ROLLOUTS}) AS found JOIN questions AS question USING (question_id)",
            where,
            "question_id, rollout, grader",
            sample_set_id=self._newest("sample_sets", sample_set),
            grader=grader,
        )

    def buckets(self, where: str = "TRUE", *, bucketing: str = "") -> pl.DataFrame:
        """Return the bucket of every question, its counts, and the question.

        Args:
            where: an SQL condition on these columns, such as `bucket = 'never-correct'`.
            bucketing: beginning of its id; the newest by default.

        Raises:
            ConfigError: the condition is not valid SQL.
            DataError: there is no such bucketing.
        """
        bucketing_id = self._newest("bucketings", bucketing)
        return self._select(_BUCKETS, where, "question_id", bucketing_id=bucketing_id)

    def pass_at_k(
        self,
        k: Sequence[int] | None = None,
        *,
        where: str = "TRUE",
        bucketing: str = "",
        seed: int = 0,
    ) -> pl.DataFrame:
        """Return mean pass@k with 95 % bounds over questions: k, pass_at_k, low, high, questions.

        Args:
            k: numbers of attempts; by default the powers of two up to n, and n.
            where: an SQL condition on the columns of `buckets()`.
            bucketing: beginning of its id; the newest by default.
            seed: of the bootstrap.

        Raises:
            ConfigError: the condition is not valid SQL.
            DataError: no question satisfies it, or a k exceeds the rollouts of a question.
        """
        counts = self.buckets(where, bucketing=bucketing)
        if counts.is_empty():
            raise DataError(f'No bucketed question satisfies "{where}".')
        n_Q = counts["n"].to_numpy()
        least = int(n_Q.min())
        k_K = [*(2**i for i in range(least.bit_length())), least] if k is None else [*k]
        curve = mean_pass_at_k(
            n_Q, counts["correct"].to_numpy(), np.unique(k_K), np.random.default_rng(seed)
        )
        return pl.DataFrame(
            {
                "k": curve.k_K,
                "pass_at_k": curve.mean_K,
                "low": curve.low_K,
                "high": curve.high_K,
                "questions": curve.questions,
            }
        )

    def effects(self, where: str = "TRUE", *, experiment: str = "") -> pl.DataFrame:
        """Return the statistics of an experiment's arms; docs/store.md lists them.

        Args:
            where: an SQL condition on the columns of `effects`, such as `statistic = 'share'`.
            experiment: beginning of its id; the newest by default.

        Raises:
            ConfigError: the condition is not valid SQL.
            DataError: there is no such experiment.
        """
        return self._select(
            "SELECT * EXCLUDE experiment_id FROM effects WHERE experiment_id = $experiment_id",
            where,
            "role, subset, statistic, evaluated_on, fraction",
            experiment_id=self._newest("experiments", experiment),
        )

    def _select(self, sql: str, where: str, order: str, **params: object) -> pl.DataFrame:
        try:
            return self._store.read(
                f"SELECT * FROM ({sql}) WHERE ({where}\n) ORDER BY {order}", **params
            )
        except QueryError as error:
            columns = self._store.read(f"SELECT * FROM ({sql}) LIMIT 0", **params).columns
            raise condition_error(where, error, columns) from error

    def _newest(self, table: str, prefix: str) -> str:
        key = _NEWEST[table]
        rows = self._store.read(
            f"SELECT {key} FROM {table} WHERE starts_with({key}, $prefix) "
            f"ORDER BY used_at DESC, {key} LIMIT 1",
            prefix=prefix,
        )
        if rows.is_empty():
            named = f" whose id begins with '{prefix}'" if prefix else ""
            what = table.replace("_", " ")[:-1]
            raise DataError(f"{self._store.path} holds no {what}{named}.")
        return str(rows.item())
