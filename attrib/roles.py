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
    RANDOM_SUBSET = "random-subset"
    """Trained on questions drawn at random, to check scores of questions against."""
    KEEP = "keep"
    """Trained on the questions with the highest scores."""
    REMOVE = "remove"
    """Trained on everything but these."""


CHECKS = (Role.RANDOM_SUBSET, Role.KEEP, Role.REMOVE)
"""Of arms that check scores; they take no part in what an experiment compares."""

PLANNED = (Role.ONLY, Role.ALL_BUT, Role.MATCHED_RANDOM, Role.MATCHED_COMPLEMENT)
"""What is planned for a subset unless it is asked otherwise."""
