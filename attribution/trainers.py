"""Trainers by name.

A trainer takes a run, trains its policy in place until the budget is used, records every batch in
the ledger, and evaluates at the fractions of the budget that the run names.
"""

from collections.abc import Callable
from typing import cast

from attrib.attribution.trainer import Evaluate, Outcome, Run, Trainer
from attrib.plugins import TRAINERS, load_plugin

NATIVE = "native"

Train = Callable[[Run, Evaluate], Outcome]
"""What an entry point of `attrib.trainers` has to be."""


def find_trainer(name: str) -> Train:
    """Return the trainer called `name`.

    Raises:
        ConfigError: there is none.
    """
    if name == NATIVE:
        return lambda run, evaluate: Trainer(run, evaluate).train()
    return cast(Train, load_plugin(TRAINERS, name, (NATIVE,)))
