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
    MATCHED_RANDOM = "matched-random"
    """As many questions as the subset, drawn at random from all, anew for every seed."""
    MATCHED_COMPLEMENT = "matched-complement"
    """As many questions as the subset, or all there are, from outside it; drawn for every seed."""
    MATCHED_SUBSET = "matched-subset"
    """Questions of the subset, as many as there are outside it; planned where these are fewer."""
    COALITION = "coalition"
    """Trained on several buckets together, for Shapley values."""
    IMPORTED = "imported"
    """Trained elsewhere."""


PLANNED = (Role.ONLY, Role.ALL_BUT, Role.MATCHED_RANDOM, Role.MATCHED_COMPLEMENT)
"""What is planned for a subset unless it is asked otherwise."""
