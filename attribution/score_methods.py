"""Methods that score training questions."""

from enum import StrEnum


class ScoreMethod(StrEnum):
    """How training questions are scored; a higher score promises more held-out gain."""

    TRACIN = "tracin"
    """Inner products of visits' gradients with held-out gradients: `attribution.influence`."""
    TRACIN_ADAM = "tracin-adam"
    """The same, weighted as Adam weighs them."""
    VISITS = "visits"
    """How many visits carried a gradient."""
    REWARDED = "rewarded"
    """How many right rollouts training drew."""
    DIFFICULTY = "difficulty"
    """Share of wrong rollouts before training: what the model could not do yet scores high."""
    SIMILARITY = "similarity"
    """Mean cosine of the base's embedding of the prompt to those of held-out questions."""
    RANDOM = "random"
    """A number drawn for the question: what any method has to beat."""


GRADIENT_METHODS = (ScoreMethod.TRACIN, ScoreMethod.TRACIN_ADAM)
"""Those for which a run is repeated."""
