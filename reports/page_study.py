"""What is on the page about the study as it was before training, and about how it was made.

Owns which sections there are, as `page` does for training. A figure without data is None, and a
table without data is left to say so itself.
"""

from markupsafe import Markup

from attrib.analyses import Analysis
from attrib.reports import tables_grading, tables_membership, tables_provenance, tables_study
from attrib.reports.records import Study
from attrib.reports.records_grading import Grading
from attrib.reports.text import show_lines

LONGEST_COMMAND = 2000


def describe_study(study: Study, analysis: Analysis) -> dict[str, object]:
    """Return the figures and tables about what there is before training."""
    from attrib.reports import figures  # matplotlib takes half a second: not before it is needed

    sample_set = study.sample_set
    return {
        "bucket_figure": Markup(figures.draw_buckets(study.buckets).svg),
        "pass_figure": Markup(figures.draw_pass_curve(study.pass_curve).svg),
        "bucket_table": tables_study.tabulate_buckets(study.buckets, study.bucketing.k),
        "pass_table": tables_study.tabulate_pass_curve(study.pass_curve),
        "sampled_table": tables_study.tabulate_sampled(study.sampled),
        "dataset_table": tables_study.tabulate_datasets(study.datasets),
        "choice_table": tables_study.tabulate_choices(study),
        "sampling_settings": tables_study.tabulate_settings("Sampling", sample_set.settings),
        **_describe_membership(analysis),
        **_describe_grading(study.grading),
        **_describe_provenance(study),
        "cut_settings": tables_study.tabulate_settings("Bucket cuts", study.bucketing.cuts),
    }


def _describe_membership(analysis: Analysis) -> dict[str, object]:
    from attrib.reports import figures_analysis

    found = analysis.membership
    if found is None:
        return {"membership_figure": None, "why_no_membership": analysis.why_no_membership}
    return {
        "membership_figure": Markup(figures_analysis.draw_membership(found).svg),
        "membership_sentences": tables_membership.describe_membership(found),
        "membership_tables": [
            tables_membership.tabulate_stability(found),
            tables_membership.tabulate_other_n(found),
            tables_membership.tabulate_mixture(found),
            tables_membership.tabulate_cuts(found),
        ],
        "count_table": tables_membership.tabulate_counts(found),
    }


def _describe_provenance(study: Study) -> dict[str, object]:
    found = study.provenance
    return {
        "commands": [show_lines(command, LONGEST_COMMAND) for command in found.commands],
        "experiment_command": show_lines(found.experiment_command, LONGEST_COMMAND),
        "machines": tables_provenance.describe_machines(found),
        "environment_table": tables_provenance.tabulate_environments(found, study.sample_set.engine)
        if found.environments
        else None,
        "environment_sentences": tables_provenance.describe_environments(found),
    }


def _describe_grading(grading: Grading) -> dict[str, object]:
    others, listed = grading.others, grading.suspects.listed
    return {
        "grader_sentences": tables_grading.describe_graders(grading),
        "grader_command": tables_grading.suggest_grader(grading),
        "grader_table": tables_grading.tabulate_graders(grading) if others else None,
        "grader_never_table": tables_grading.tabulate_never_correct(grading) if others else None,
        "suspect_sentence": tables_grading.describe_suspects(grading.suspects),
        "suspect_table": tables_grading.tabulate_suspects(grading.suspects) if listed else None,
    }
