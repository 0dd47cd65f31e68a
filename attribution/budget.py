"""The budget: what is held equal between arms, and how far an arm has come in it.

One quantity is chosen; arms are equal in it and differ in the others, which are recorded. The paper
does not say what it held equal between its subsets; the choice can turn the conclusion around.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from attrib.attribution.checkpoint import Position
from attrib.errors import ConfigError


class BudgetKind(StrEnum):
    """What may be held equal."""

    UPDATES = "updates"
    """Batches, whether they carried a gradient or not."""
    EPOCHS = "epochs"
    """Visits of every question of the arm: larger arms are trained for longer."""
    INFORMATIVE_GROUPS = "informative-groups"
    """Visits that a gradient was taken from."""
    ROLLOUTS = "rollouts"
    """Training rollouts drawn."""


UNITS = {
    BudgetKind.UPDATES: "updates",
    BudgetKind.EPOCHS: "visits",
    BudgetKind.INFORMATIVE_GROUPS: "informative groups",
    BudgetKind.ROLLOUTS: "rollouts",
}


@dataclass(frozen=True, slots=True)
class Budget:
    """So many of one kind."""

    kind: BudgetKind
    amount: int

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Read `updates=12` and the like.

        Raises:
            ConfigError: it is not a kind and a positive whole number.
        """
        kind, _, amount = text.partition("=")
        if kind not in set(BudgetKind) or not amount.isdecimal() or int(amount) < 1:
            kinds = ", ".join(f"{one}=N" for one in BudgetKind)
            raise ConfigError(f"--budget {text} is not a budget. Give one of: {kinds}.")
        return cls(BudgetKind(kind), int(amount))

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        return f"{self.kind}={self.amount}"

    def total(self, questions: int) -> int:
        """Return the whole budget of an arm of so many questions, in its unit."""
        return self.amount * (questions if self.kind is BudgetKind.EPOCHS else 1)

    def used(self, position: Position) -> int:
        """Return how much of it a run has used, in its unit."""
        return {
            BudgetKind.UPDATES: position.step,
            BudgetKind.EPOCHS: position.visit,
            BudgetKind.INFORMATIVE_GROUPS: position.informative_groups,
            BudgetKind.ROLLOUTS: position.rollouts,
        }[self.kind]

    def left(self, kind: BudgetKind, position: Position, questions: int) -> float:
        """Return how much of one kind a run may still use; without limit if it is not this one."""
        return self.total(questions) - self.used(position) if kind is self.kind else math.inf
