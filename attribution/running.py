"""Running what is owed: arms one after another in this process, or side by side on a cluster.

A run that fails does not stop the others, and a killed one goes on from its last checkpoint.
"""

import importlib.util
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager

import torch

from attrib.attribution.arms import Arm
from attrib.attribution.experiment import Experiment
from attrib.attribution.runs import Runner
from attrib.attribution.settings import AblateSettings
from attrib.attribution.trainers import NATIVE
from attrib.cluster import LOCAL, NONE
from attrib.progress import say
from attrib.roles import Role
from attrib.store import Store


def choose_cluster(settings: AblateSettings) -> str | None:
    """Return which cluster runs the arms; None for this process.

    Where nobody has said, and this machine has several GPUs, each gets an arm.
    """
    if settings.cluster is not None:
        return None if settings.cluster == NONE else settings.cluster
    is_free = settings.device == "auto" and settings.trainer == NATIVE
    if not is_free or torch.cuda.device_count() < 2:
        return None
    if importlib.util.find_spec("ray") is None:
        say("Only one GPU is used. One arm on each: pip install 'attrib[ray]'")
        return None
    return LOCAL


@contextmanager
def running(
    store: Store,
    experiment: Experiment,
    settings: AblateSettings,
    runner: Runner,
    owed: Sequence[Arm],
) -> Iterator[Generator[tuple[Arm, bool]]]:
    """Run arms; yield an iterator over them as they end, each with whether it succeeded.

    Only inside `store.writing`; leaving the block early stops what is running.

    Args:
        store: the study.
        experiment: that the arms belong to.
        settings: of it, and of the cluster.
        runner: of it in this process.
        owed: what is to be run.
    """
    cluster = choose_cluster(settings)
    if cluster is None:
        ended = _run_here(runner, owed, settings)
    else:
        ended = _run_there(
            store, experiment, settings.model_copy(update={"cluster": cluster}), runner, owed
        )
    with closing(ended):
        yield ended


def _run_here(
    runner: Runner, owed: Sequence[Arm], settings: AblateSettings
) -> Generator[tuple[Arm, bool]]:
    for arm in owed:
        if arm.role is Role.IMPORTED:
            assert settings.import_arm is not None
            runner.measure_imported(arm, settings.import_arm)
            yield arm, True
        else:
            yield arm, runner.run(arm)
    for summary in runner.grading_summaries:
        say(summary)


def _run_there(
    store: Store,
    experiment: Experiment,
    settings: AblateSettings,
    runner: Runner,
    owed: Sequence[Arm],
) -> Generator[tuple[Arm, bool]]:
    from attrib.attribution.cluster_arms import run_on_cluster

    if owed:
        with closing(run_on_cluster(store, experiment, settings, owed, runner.command)) as there:
            for ended in there:
                if ended.is_done:
                    runner.clean_up(ended.arm)  # begun in this process once
                for sentence in ended.said:
                    say(f"{ended.arm.name}: {sentence}")
                yield ended.arm, ended.is_done
