"""Budgets: what they read, what they count, what is left."""

import pytest

from attrib.attribution.budget import Budget, BudgetKind
from attrib.attribution.checkpoint import Position
from attrib.errors import ConfigError

POSITION = Position(step=1, visit=2, rollouts=30, informative_groups=4, gradient_tokens=500)


@pytest.mark.parametrize("kind", BudgetKind)
def test_budgets_read_what_they_write(kind: BudgetKind) -> None:
    budget = Budget.parse(f"{kind}=12")
    assert budget == Budget(kind, 12)
    assert str(budget) == f"{kind}=12"


@pytest.mark.parametrize(
    "text",
    ["", "12", "updates", "updates=", "updates=0", "updates=-1", "updates=1.5", "updates=²", "x=1"],
)
def test_what_is_no_budget_is_refused_with_the_choices(text: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        Budget.parse(text)
    assert str(refusal.value) == (
        f"--budget {text} is not a budget. Give one of: updates=N, epochs=N, informative-groups=N, "
        "rollouts=N."
    )


@pytest.mark.parametrize(
    ("text", "total", "used"),
    [
        ("updates=9", 9, 1),
        ("epochs=9", 45, 2),
        ("informative-groups=9", 9, 4),
        ("rollouts=90", 90, 30),
    ],
)
def test_totals_and_what_is_used(text: str, total: int, used: int) -> None:
    budget = Budget.parse(text)
    assert budget.total(questions=5) == total
    assert budget.used(POSITION) == used
    for kind in BudgetKind:
        left = budget.left(kind, POSITION, 5)
        assert left == (total - used if kind is budget.kind else float("inf"))
