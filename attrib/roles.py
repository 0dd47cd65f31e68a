"""What part a training run plays in an experiment."""

from enum import StrEnum


class Role(StrEnum):
    """What an arm is for."""

    BASE = "base"
    """The model as it was: evaluated, not trained."""
    FULL = "full"
    """Trained on every bucketed question."""
    ONLY = "only"
    """Trained on the subset."""
    ALL_BUT = "all-but"
    """Trained on everything but the subset."""
