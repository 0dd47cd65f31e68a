"""Trainers by name.

A trainer takes a run, trains its policy in place until the budget is used, records every batch in
the ledger, and evaluates at the fractions of the budget that the run names.
"""

from collections.abc import Callable
from typing import cast

from attrib.attribution.settings import AblateSettings, TrlSettings
from attrib.attribution.trainer import Evaluate, Outcome, Run, Trainer
from attrib.attribution.trl_checks import refuse_unfit
from attrib.attribution.trl_trainer import TrlTrainer
from attrib.errors import ConfigError
from attrib.plugins import TRAINERS, load_plugin

NATIVE, TRL = "native", "trl"

Train = Callable[[Run, Evaluate], Outcome]
"""What an entry point of `attrib.trainers` has to be."""


def find_trainer(settings: AblateSettings) -> Train:
    """Return the trainer that the settings name.

    Raises:
        ConfigError: there is none, or it cannot train with these settings.
        MissingExtraError: it is not installed.
    """
    if settings.trainer != TRL:
        _refuse_trl_settings(settings)
    if settings.trainer == NATIVE:
        return lambda run, evaluate: Trainer(run, evaluate).train()
    if settings.trainer == TRL:
        refuse_unfit(settings)
        return lambda run, evaluate: TrlTrainer(run, evaluate, settings).train()
    return cast(Train, load_plugin(TRAINERS, settings.trainer, (NATIVE, TRL)))


def _refuse_trl_settings(settings: AblateSettings) -> None:
    """Refuse what only TRL would look at: whoever gives it forgot which trainer to name."""
    for name, field in TrlSettings.model_fields.items():
        if getattr(settings, name) != field.default:
            flag = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{flag} is for --trainer trl. Add that, or leave {flag} out.")
