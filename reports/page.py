"""What is on the page about training: records become figures, tables and sentences by name.

Owns which sections there are; `page_study` has those before training. A figure without data is
None, and a table without data is left to say so itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from attrib.analyses import Analysis
from attrib.reports import (
    tables_analysis,
    tables_arms,
    tables_attribution,
    tables_budgets,
    tables_changes,
    tables_gains,
    tables_study,
    tables_training,
)
from attrib.reports.budgets import describe_siblings
from attrib.reports.design import (
    GRPO,
    describe_budget,
    describe_held_equal,
    describe_training_seeds,
    method_of,
)
from attrib.reports.kinds import describe_parts, list_contrasted, list_kinds
from attrib.reports.mechanism import describe_mechanism
from attrib.reports.records import Study
from attrib.reports.records_arms import Arm
from attrib.reports.records_attribution import Attribution
from attrib.reports.records_training import Experiment, PassRun, Transitions
from attrib.reports.tables import Table
from attrib.reports.text import show
from attrib.roles import Role

MOST_COLUMNS = 3  # arms side by side in a table: with their intervals, more do not fit a page


@dataclass(frozen=True, slots=True)
class Examples:
    """The tables of one arm's changed answers."""

    arm: str
    learned: Table
    lost: Table
    learned_count: int
    lost_count: int


def describe_experiment(
    study: Study, analysis: Analysis, experiment: Experiment
) -> dict[str, object]:
    """Return the figures, tables and sentences about training."""
    full = experiment.full
    known = set(experiment.settings)
    settings = (
        [one for one in full.runs[0].settings if one not in known] if full and full.runs else []
    )
    return {
        **_describe_arms(study, experiment),
        **_describe_budgets(experiment),
        **_describe_other_gains(experiment),
        **_describe_training(experiment),
        **_describe_kinds(experiment),
        **_describe_crossings(analysis, experiment),
        **_describe_stored(analysis, experiment),
        **_describe_moves(experiment),
        **_describe_attribution(study.attribution),
        "shift_tables": [
            tables_training.tabulate_shifts(caption, group, shifts)
            for caption, group, shifts in (
                (
                    "Training questions by bucket: rollouts before RL, greedy answers after “full”",
                    "Bucket",
                    study.training_shifts,
                ),
                (
                    "Held-out questions by change: sampled answers before RL and after “full”",
                    "Greedy answer",
                    study.held_out_shifts,
                ),
            )
            if shifts
        ],
        "run_table": tables_arms.tabulate_runs(experiment),
        "experiment_settings": tables_study.tabulate_settings("Experiment", experiment.settings),
        "arm_settings": tables_study.tabulate_settings("Further settings of the full arm", settings)
        if settings
        else None,
        "training_seeds": describe_training_seeds(experiment.arms),
        "run_id_table": tables_arms.tabulate_run_ids(experiment),
    }


def _describe_arms(study: Study, experiment: Experiment) -> dict[str, object]:
    from attrib.reports import figures_arms

    evaluated = any(arm.accuracy and arm.accuracy.value is not None for arm in experiment.arms)
    parts = [arm for arm in experiment.arms if arm is not experiment.full]
    claimed = figures_arms.list_claimed(experiment)
    return {
        "claim_figure": Markup(figures_arms.draw_claim(study, experiment).svg) if claimed else None,
        "narrow_claim_figure": Markup(figures_arms.draw_claim(study, experiment, narrow=True).svg)
        if claimed
        else None,
        "claim_table": tables_arms.tabulate_claim(study, claimed),
        "role_table": tables_arms.tabulate_roles(experiment),
        "held_equal": describe_held_equal(experiment),
        "accuracy_figure": Markup(figures_arms.draw_accuracy(experiment).svg)
        if evaluated
        else None,
        "effect_table": tables_arms.tabulate_effects(experiment),
        "finding_table": tables_arms.tabulate_findings(experiment),
        "control_table": tables_arms.tabulate_controls(experiment),
        "pair_table": tables_arms.tabulate_pairs(experiment),
        "share_figure": Markup(figures_arms.draw_shares(study, experiment).svg) if parts else None,
        "share_table": tables_arms.tabulate_shares(study, experiment),
    }


def _describe_budgets(experiment: Experiment) -> dict[str, object]:
    from attrib.reports import figures_training

    drawn = any(arm.points for arm in experiment.arms)
    subsets = figures_training.list_budget_subsets(experiment)
    return {
        "budget": describe_budget(experiment),
        "budget_figure": Markup(figures_training.draw_budgets(experiment).svg) if drawn else None,
        "budget_table": tables_budgets.tabulate_points(experiment),
        "subsets_left_out": max(0, len(subsets) - figures_training.MOST_SUBSETS),
        "experiment_table": tables_budgets.tabulate_experiments(experiment),
        "sibling_table": tables_budgets.tabulate_siblings(experiment),
        "sibling_sentences": describe_siblings(experiment),
    }


def _describe_other_gains(experiment: Experiment) -> dict[str, object]:
    from attrib.reports import figures_training

    first = [arm for arm in (experiment.base, experiment.full) if arm is not None]
    others = [arm for arm in experiment.arms if arm is not experiment.full]
    has_values = any(arm.shapley is not None for arm in experiment.coalitions)
    passes = any(arm.passes for arm in experiment.arms if arm.role in figures_training.PASS_ROLES)
    return {
        "divided": has_values or bool(experiment.coalitions),
        "shapley_table": tables_gains.tabulate_shapley(experiment) if has_values else None,
        "shapley_sum": tables_gains.describe_shapley_sum(experiment) if has_values else "",
        "coalition_table": tables_gains.tabulate_coalitions(experiment),
        "baseline_table": tables_gains.tabulate_baselines(experiment, first),
        "other_baseline_table": tables_gains.tabulate_baselines(experiment, others),
        "baseline_sentence": tables_gains.describe_baselines(experiment),
        "pass_after_figure": Markup(figures_training.draw_passes(experiment).svg)
        if passes
        else None,
        "pass_after_table": tables_gains.tabulate_passes(experiment),
        "pass_after_sentence": tables_gains.describe_passes(experiment),
        "mass_table": tables_training.tabulate_masses(experiment.masses),
    }


def _describe_kinds(experiment: Experiment) -> dict[str, object]:
    from attrib.reports import figures_analysis

    base, full = experiment.base, experiment.full
    split = [arm for arm in experiment.arms if arm.parts]
    contrasted = [arm for arm in list_contrasted(experiment) if arm.parts]
    others = [arm for arm in split if arm not in contrasted[:1]]
    kinds = list_kinds(contrasted)
    shown = [kind for kind in ("before", "reach") if kind in kinds]
    groups = [kind for kind in ("relation", "popularity") if kind in kinds]
    first = contrasted[:1] or [arm for arm in experiment.arms if arm.role is Role.FULL]
    tally = [row for row in experiment.bucket_transitions if row.arm in first]
    moved = bool(first) and bool(tally or (groups and first[0].parts))
    answered = [arm for arm in contrasted if arm.answers]
    return {
        "kind_figure": Markup(figures_analysis.draw_parts(contrasted, shown).svg)
        if shown
        else None,
        "kind_sentences": describe_parts(experiment),
        "kind_tables": [tables_analysis.tabulate_part_overview(contrasted, one) for one in shown],
        "transition_figure": Markup(figures_analysis.draw_transitions(first[0], groups, tally).svg)
        if moved
        else None,
        "transition_arm": show(first[0].label) if first else "",
        "group_tables": [tables_analysis.tabulate_part_overview(contrasted, one) for one in groups],
        "bucket_transition_table": tables_analysis.tabulate_bucket_transitions(
            experiment.bucket_transitions
        ),
        "part_tables": [tables_analysis.tabulate_parts(arm) for arm in (*contrasted[:1], *others)],
        "answer_figure": Markup(figures_analysis.draw_answers(base, answered).svg)
        if answered and base is not None and base.answers
        else None,
        "answer_sentence": tables_analysis.describe_answers(base, full),
        "answer_tables": [
            tables_analysis.tabulate_answers(base, experiment.arms, names)
            for names in (tables_analysis.GREEDY_ANSWERS, tables_analysis.SAMPLED_ANSWERS)
        ],
    }


def _describe_crossings(analysis: Analysis, experiment: Experiment) -> dict[str, object]:
    from attrib.reports import figures_analysis

    runs = [
        PassRun(arm, one.seed, one.crossing, one.equivalent)
        for one in analysis.passes
        if (arm := experiment.find(one.role, one.subset)) is not None
    ]
    drawn = [(arm, [run for run in runs if run.arm is arm]) for arm in list_contrasted(experiment)]
    drawn = [(arm, found) for arm, found in drawn if found]
    return {
        "crossing_figure": Markup(figures_analysis.draw_crossings(drawn).svg) if drawn else None,
        "crossing_sentence": tables_analysis.describe_crossings(runs),
        "crossing_table": tables_analysis.tabulate_crossings(runs),
    }


def _describe_stored(analysis: Analysis, experiment: Experiment) -> dict[str, object]:
    base, contrasted = experiment.base, list_contrasted(experiment)
    others = [arm for arm in experiment.arms if arm not in contrasted]
    return {
        "change_table": tables_changes.tabulate_changes(base, contrasted),
        "level_table": tables_changes.tabulate_levels(base, experiment.arms),
        "other_change_tables": [
            table
            for some in _take(others, MOST_COLUMNS)
            if (table := tables_changes.tabulate_changes(base, some)).rows
        ],
        "vote_table": tables_changes.tabulate_votes(analysis.effects, contrasted),
        "other_vote_tables": [
            table
            for some in _take(others, MOST_COLUMNS)
            if len((table := tables_changes.tabulate_votes(analysis.effects, some)).columns) > 4
        ],
        "cut_tables": [
            table
            for place in ("train", "held-out")
            if (table := tables_changes.tabulate_cuts(analysis.effects, place)).rows
        ],
    }


def _describe_attribution(found: Attribution | None) -> dict[str, object]:
    from attrib.reports import figures_attribution

    if found is None:
        return {}
    checked = [one for one in found.validations if one.score.value is not None]
    return {
        "score_sentences": tables_attribution.describe_attribution(found),
        "score_figure": Markup(figures_attribution.draw_bucket_scores(found).svg),
        "score_table": tables_attribution.tabulate_bucket_scores(found),
        "score_tables": tables_attribution.tabulate_ends(found),
        "validation_figure": Markup(figures_attribution.draw_validations(checked).svg)
        if checked
        else None,
        "validation_table": tables_attribution.tabulate_validations(found),
        "score_curve_table": tables_attribution.tabulate_curves(found.curves),
    }


def _take(arms: Sequence[Arm], most: int) -> list[Sequence[Arm]]:
    """Return the arms in order, at most so many together."""
    return [arms[first : first + most] for first in range(0, len(arms), most)]


def _describe_moves(experiment: Experiment) -> dict[str, object]:
    from attrib.reports import figures_analysis

    contrasted = list_contrasted(experiment)
    moves = [move for move in experiment.mass_moves if move.arm in contrasted]
    return {
        "move_figure": Markup(figures_analysis.draw_mass_moves(moves).svg) if moves else None,
        "move_sentences": [tables_analysis.describe_mass_move(move) for move in moves],
        "move_tables": [tables_analysis.tabulate_mass_move(move) for move in moves],
    }


def _describe_training(experiment: Experiment) -> dict[str, object]:
    from attrib.reports import figures_training

    curves = experiment.curves
    first = [row for row in experiment.ledger if row.arm.role in (Role.FULL, Role.ONLY)]
    others = [row for row in experiment.ledger if row.arm.role not in (Role.FULL, Role.ONLY)]
    return {
        "draws_rollouts": method_of(experiment) == GRPO,
        "learning_table": tables_training.tabulate_learning(experiment),
        "training_accuracy_table": tables_training.tabulate_training_accuracy(experiment),
        "forgetting_table": tables_training.tabulate_transitions(
            "Training questions", experiment.training_transitions
        ),
        "transfer_table": tables_training.tabulate_transfer(experiment),
        "mechanism": describe_mechanism(experiment),
        "reward_table": tables_training.tabulate_rewards(first),
        "ledger_table": tables_training.tabulate_ledger(first),
        "other_reward_table": tables_training.tabulate_rewards(others),
        "other_ledger_table": tables_training.tabulate_ledger(others),
        "curve_figure": Markup(figures_training.draw_curves(curves).svg) if curves else None,
        "curve_tables": [tables_training.tabulate_curve(curve) for curve in curves],
        "transition_table": tables_training.tabulate_transitions(
            "Held-out questions", experiment.transitions
        ),
        "examples": [
            _tabulate_examples(row)
            for row in experiment.transitions
            if row.learned_examples or row.lost_examples
        ],
    }


def _tabulate_examples(row: Transitions) -> Examples:
    arm = show(row.arm.marked_label)
    return Examples(
        arm=arm,
        learned=tables_training.tabulate_changes(
            f"Learned by “{arm}”: {len(row.learned_examples)} of {row.learned}",
            row.learned_examples,
        ),
        lost=tables_training.tabulate_changes(
            f"Lost by “{arm}”: {len(row.lost_examples)} of {row.lost}", row.lost_examples
        ),
        learned_count=row.learned,
        lost_count=row.lost,
    )
