"""Read how a study was made: the commands, and the machines and versions they ran with.

Only reads, and only what was recorded while the work was done.
"""

import polars as pl

from attrib.reports.records_provenance import Environment, Provenance
from attrib.reports.settings import read_settings
from attrib.reports.text import moment
from attrib.store import Store

_MADE = """
    WITH made AS (
        SELECT sample_set_id AS made_id, 0 AS stage FROM bucketings
        WHERE bucketing_id = $bucketing_id
        UNION ALL SELECT $bucketing_id, 1
        UNION ALL SELECT $experiment_id, 2
        UNION ALL SELECT DISTINCT arm_id, if(role = 'base', 3, 4) FROM arm_roles
        WHERE experiment_id = $experiment_id
    )
    SELECT stage, made_id, command, environment_id, environment, epoch_us(began_at) AS began_at
    FROM provenance JOIN made USING (made_id)
    ORDER BY stage, began_at, made_id, command, environment_id
"""
_RUNS = """
    SELECT count(*) AS runs, coalesce(sum(wall_seconds), 0) AS seconds FROM training_runs
    WHERE arm_id IN (SELECT arm_id FROM arm_roles
                     WHERE experiment_id = $experiment_id AND role <> 'base')
"""
_SAMPLE_SET, _BUCKETING, _EXPERIMENT, _BASE, _RUN = range(5)


def collect_provenance(store: Store, bucketing_id: str, experiment_id: str | None) -> Provenance:
    """Return the commands and environments behind a bucketing and an experiment on it.

    Raises:
        StoreError: the study cannot be read.
    """
    place = {"bucketing_id": bucketing_id, "experiment_id": experiment_id or ""}
    made = store.read(_MADE, **place)
    [(runs, seconds)] = store.read(_RUNS, experiment_id=experiment_id or "").rows()
    typed = made.filter(pl.col("stage") <= _EXPERIMENT)["command"].to_list()
    # Registering an experiment trains nothing: where it happened does not count.
    worked = made.filter(pl.col("stage") != _EXPERIMENT).sort("began_at", maintain_order=True)
    experiment = made.filter(pl.col("stage") == _EXPERIMENT)["command"].to_list()
    return Provenance(
        commands=tuple(dict.fromkeys(typed)),
        experiment_command=experiment[-1] if experiment else "attrib ablate",
        environments=tuple(
            _make_environment(rows)
            for _, rows in worked.group_by("environment_id", maintain_order=True)
        ),
        runs=runs,
        unrecorded=runs - made.filter(pl.col("stage") == _RUN)["made_id"].n_unique(),
        seconds=seconds,
    )


def _make_environment(rows: pl.DataFrame) -> Environment:
    stages = rows["stage"].to_list()
    return Environment(
        environment_id=rows["environment_id"][0],
        found=read_settings(rows["environment"][0]),
        began_at=moment(min(rows["began_at"].to_list())),
        rollouts=_SAMPLE_SET in stages,
        buckets=_BUCKETING in stages,
        base=_BASE in stages,
        runs=rows.filter(pl.col("stage") == _RUN)["made_id"].n_unique(),
    )
