"""What is printed of effects: each arm at the fraction at which it is compared."""

import pytest

from attrib.attribution.effect import Effect
from attrib.roles import Role
from attrib.tables import print_effects

NEVER = "never-correct"


def effect(
    role: Role, statistic: str, fraction: float, value: float | None, subset: str = NEVER
) -> Effect:
    low, high = (None, None) if value is None else (value - 0.05, value + 0.05)
    return Effect(subset, role, statistic, "held-out", fraction, value, low, high, 3, 200)


def rows(printed: str) -> dict[str, list[str]]:
    """Return the cells of each row; two blanks part them."""
    lines = [line for line in printed.splitlines() if "%" in line or "+" in line]
    cells = [[cell for cell in line.strip().split("  ") if cell.strip()] for line in lines]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in cells}


def test_an_arm_stands_where_it_is_compared_and_not_beyond(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The full arm ran out at half of its budget; the subset did not."""
    effects = [
        effect(Role.BASE, "accuracy", 0.0, 0.20, "none"),
        effect(Role.FULL, "accuracy", 0.5, 0.40, "full"),
        effect(Role.FULL, "gain", 0.5, 0.20, "full"),
        effect(Role.FULL, "gain_p_holm", 0.5, 0.001, "full"),
        effect(Role.ONLY, "accuracy", 0.5, 0.30),
        effect(Role.ONLY, "gain", 0.5, 0.10),
        effect(Role.ONLY, "share", 0.5, 0.50),
        effect(Role.ONLY, "accuracy", 1.0, 0.70),
        effect(Role.ONLY, "gain", 1.0, 0.50),
        effect(Role.ONLY, "gain_p_holm", 0.5, 0.02),
    ]
    print_effects(effects, ["full, seed 1"])
    printed = capsys.readouterr().out
    found = rows(printed)
    assert found["only never-correct"] == [
        *("50%", "3", "30.0% [25, 35]", "+10.0 [+5.0, +15.0]", "50% [45, 55]", "0.02"),
    ]
    assert found["full"][:2] == ["50%", "3"]
    assert found["base"] == ["20.0% [15, 25]"]
    assert "Exhausted before the budget was used: full, seed 1." in printed
    assert "One seed" not in printed


def test_without_a_comparison_the_last_fraction_is_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    effects = [
        effect(Role.BASE, "accuracy", 0.0, 0.20, "none"),
        effect(Role.ONLY, "final_accuracy", 0.31, 0.25),
        effect(Role.ONLY, "final_gain", 0.31, 0.05),
        effect(Role.ONLY, "share", 0.31, None),
    ]
    print_effects(effects, [])
    found = rows(capsys.readouterr().out)
    assert found["only never-correct"] == [
        *("31%", "3", "25.0% [20, 30]", "+5.0 [+0.0, +10.0]", "undefined"),
    ]


def test_shapley_values_stand_beside_their_shares(capsys: pytest.CaptureFixture[str]) -> None:
    effects = [
        effect(Role.BASE, "accuracy", 0.0, 0.20, "none"),
        effect(Role.COALITION, "gain", 1.0, 0.11),
        effect(Role.COALITION, "shapley", 1.0, 0.12),
        effect(Role.COALITION, "shapley_share", 1.0, 0.60),
        effect(Role.COALITION, "gain", 1.0, 0.20, f"{NEVER}+rarely-correct"),
    ]
    print_effects(effects, [])
    found = rows(capsys.readouterr().out)
    assert found[f"Shapley value of {NEVER}"] == [
        *("100%", "3", "+12.0 [+7.0, +17.0]", "60% [55, 65]"),
    ]
    assert not any("+rarely" in name for name in found)


def test_nothing_gradable_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    print_effects([], [])
    assert capsys.readouterr().out == "No held-out question could be graded for every arm.\n"
