"""What `attrib analyze` prints."""

from collections.abc import Mapping, Sequence

import polars as pl

from attrib.analyses import (
    ANSWERS,
    CHANGED,
    CUTS,
    KINDS,
    LENGTHS,
    MASSES,
    VOTES,
    Analysis,
    Membership,
)
from attrib.analysis.profile import ProfileInterval
from attrib.attribution.passes import RunPasses
from attrib.roles import Role
from attrib.tables import print_lines, print_titled

_KIND_TITLES = {
    "before": "What the base answered",
    "reach": "Where the right answer stood before",
    "relation": "Relation",
    "popularity": "Popularity, in thirds",
}
_ANSWER_NAMES = {
    "one_answer": "name one answer",
    "accuracy_of_one_answer": "of these right",
    "several_answers": "several",
    "no_answer": "none",
    "cut_off": "cut off",
    "top_answer_share": "most frequent answer",
    "answer_entropy": "entropy (nats)",
    "brier": "Brier score",
    "overconfidence": "overconfidence",
    "calibration_error": "calibration error",
}
_MEASURE_NAMES = {
    "answer_tokens": "length in tokens",
    "answer_characters": "length in characters",
    "mass_of_answers": "probability of the accepted answers",
    "mass_of_phrasings": "of these and the phrasings of the base",
    "mass_of_samples": "of its own right samples",
}
_CHANGE_NAMES = {**_ANSWER_NAMES, **_MEASURE_NAMES}
_CUT_NAMES = {
    "cut_gain_share": "of the gain on them",
    "cut_gradient_share": "of the gradient",
    "cut_rewarded": "ever rewarded",
}
_SHOWN = (Role.FULL, Role.ONLY, Role.MATCHED_RANDOM, Role.IMPORTED)


def print_analysis(analysis: Analysis) -> None:
    """Print every section that there is data for."""
    if analysis.membership is None:
        print_lines(f"Who is in which bucket: not known. {analysis.why_no_membership}")
    else:
        _print_membership(analysis.membership)
    if analysis.experiment_id is None:
        return print_lines("\nNothing was trained yet. Type: attrib ablate --subset never-correct")
    print_lines(f"\nExperiment {analysis.experiment_id}, held-out questions, 95 % intervals")
    if analysis.effects.is_empty():
        return print_lines(
            "Its answers were not looked at; the command that made it does so again."
        )
    _print_parts(analysis.effects)
    _print_answers(analysis.effects)
    _print_changes(analysis.effects)
    _print_votes(analysis.effects)
    _print_cuts(analysis.effects)
    _print_passes(analysis.passes)


def _print_membership(found: Membership) -> None:
    print_lines(
        f"Who is in which bucket: {found.questions:,} questions, {found.n} rollouts each. Prior of "
        f"p: beta({found.prior.a:.3g}, {found.prior.b:.3g}) and a spike of {found.prior.spike:.1%} "
        f"at 0, a device of the fit; it fits with p = {found.check.p_value:.2g} "
        f"({found.check.draws} bootstrap draws)."
    )
    buckets = pl.DataFrame(
        {
            "bucket": [str(row.bucket) for row in found.stability],
            "questions": [row.questions for row in found.stability],
            "observed": [_percent(row.observed_rate) for row in found.stability],
            "expected again": [_profile(row.fresh_rate, 100, "%") for row in found.stability],
            "in it again": [_profile(row.stays, 100, "%") for row in found.stability],
        }
    )
    mixture = pl.DataFrame(
        {
            "p at most": [f"{row.p:.2%}" for row in found.mixture],
            "expected": [_profile(row.expected) for row in found.mixture],
            "number": [_range(row.number_low, row.number_high) for row in found.mixture],
            f"0 of {found.n} at this p": [f"{row.chance_of_none:.0%}" for row in found.mixture],
        }
    )
    other = pl.DataFrame(
        {
            "rollouts": [row.n for row in found.other_n],
            "never-correct": [_profile(row.expected) for row in found.other_n],
            "from": ["the prior" if row.from_prior else "the counts" for row in found.other_n],
        }
    )
    cuts = pl.DataFrame(
        {
            "at most correct": [row.most_correct for row in found.cuts],
            "questions": [row.questions for row in found.cuts],
            "expected p": [_profile(row.rate, 100, "%") for row in found.cuts],
            "of those joining": [_profile(row.joining_rate, 100, "%") for row in found.cuts],
        }
    )
    never = next(row.questions for row in found.stability)
    titles = {
        "\nThe same rollouts drawn again: mean right, and the chance to be in the bucket again": (
            buckets
        ),
        f"\nHow small p is among the {never} never-correct questions": mixture,
        "\nNever-correct questions at other numbers of rollouts": other,
        "\nIf never-correct were": cuts,
    }
    print_titled(titles)
    print_lines(
        "How small p is, and numbers of rollouts beyond these, rest on the shape of the prior: a "
        "wrong one makes their intervals wrong, and with few questions the fit cannot tell."
    )
    agreement = found.halves.agreement
    kappa = "" if found.halves.kappa is None else f", kappa {found.halves.kappa:.2f}"
    print_lines(
        f"Two halves of the rollouts agree on the bucket of {agreement.value:.0%} "
        f"[{agreement.low:.0%}, {agreement.high:.0%}] of the questions{kappa}. p = 0 cannot be "
        "told from a small p: no number here is of questions that the model cannot answer."
    )


def _print_parts(effects: pl.DataFrame) -> None:
    """Print the parts of each arm's gain, arms side by side."""
    tables = {}
    for kind in KINDS:
        start = f"held-out:{kind}="
        mine = effects.filter(pl.col("evaluated_on").str.starts_with(start))
        labels = mine["evaluated_on"].unique().sort()
        if labels.is_empty():
            continue
        columns: dict[str, list[object]] = {
            kind: [label.removeprefix(start) for label in labels],
            "questions": [
                mine.filter(pl.col("evaluated_on") == label)["questions"].max() for label in labels
            ],
        }
        for name, rows in _by_arm(mine.filter(pl.col("statistic") == "gain_part")).items():
            cells = {
                row["evaluated_on"]: _interval(row, "{:+.1f} [{:+.1f}, {:+.1f}]")
                for row in rows.iter_rows(named=True)
            }
            columns[name] = [cells.get(label, "") for label in labels]
        title = f"\n{_KIND_TITLES[kind]}: points that each group adds to the gain"
        tables[title] = pl.DataFrame(columns)
    print_titled(tables)


def _print_answers(effects: pl.DataFrame) -> None:
    mine = effects.filter(pl.col("statistic").is_in(ANSWERS))
    arms = _by_arm(mine, (Role.BASE, *_SHOWN))
    if not arms:
        return
    known = [name for name in ANSWERS if name in set(mine["statistic"])]
    columns: dict[str, list[object]] = {"answers": [_ANSWER_NAMES[name] for name in known]}
    for name, rows in arms.items():
        cells = {
            row["statistic"]: _interval(row, "{:.2f} [{:.2f}, {:.2f}]", 1)
            if row["statistic"] in ("answer_entropy", "brier")
            else _interval(row, "{:.0f}% [{:.0f}, {:.0f}]")
            for row in rows.iter_rows(named=True)
        }
        columns[name] = [cells.get(statistic, "") for statistic in known]
    sampled = "; the last five are of sampled answers" if known[-1] == ANSWERS[-1] else ""
    print_titled({f"\nWhat answers look like{sampled}": pl.DataFrame(columns)})


def _print_changes(effects: pl.DataFrame) -> None:
    """Print lengths, probabilities and what answers name, as changes against the base."""
    base = _cells(effects.filter(pl.col("evaluated_on") == "held-out"), Role.BASE)
    after = _by_arm(effects.filter(pl.col("evaluated_on") == "held-out"))
    names = [name for name in CHANGED if name in base]
    if not names or not after:
        return
    columns: dict[str, list[object]] = {"greedy answers": [_CHANGE_NAMES[name] for name in names]}
    columns["base"] = [_interval(base[name], *_form(name)) for name in names]
    for arm, rows in after.items():
        found = {row["statistic"]: row for row in rows.iter_rows(named=True)}
        columns[arm] = [
            _interval(found[f"{name}_change"], *_form(name, "+"))
            if f"{name}_change" in found
            else ""
            for name in names
        ]
    title = "\nHow answers changed: the base, then each arm less the base, paired on questions"
    print_titled({title: pl.DataFrame(columns)})
    print_lines(
        "Probabilities are lower bounds on that of a right response; how many samples are right "
        "(pass@1) estimates it. A response at the token limit would have been longer."
    )


def _print_votes(effects: pl.DataFrame) -> None:
    """Print the vote before training beside greedy answers after it, by group of questions."""
    after = _by_arm(effects.filter(pl.col("statistic") == VOTES))
    votes = effects.filter(
        pl.col("statistic").str.starts_with("maj@") & (pl.col("role") == str(Role.BASE))
    ).with_columns(k=pl.col("statistic").str.strip_prefix("maj@").cast(pl.Int64))
    most = votes.sort("k").unique("evaluated_on", keep="last").sort("evaluated_on")
    if not after or most.is_empty():
        return
    columns: dict[str, list[object]] = {
        "questions": [_place_name(row["evaluated_on"]) for row in most.iter_rows(named=True)],
        "number": most["questions"].to_list(),
        "vote of the base": [
            f"maj@{row['k']} " + _interval(row, "{:.0f}% [{:.0f}, {:.0f}]")
            for row in most.iter_rows(named=True)
        ],
    }
    for arm, rows in after.items():
        cells = {
            row["evaluated_on"]: _interval(row, "{:+.1f} [{:+.1f}, {:+.1f}]")
            for row in rows.iter_rows(named=True)
        }
        columns[arm] = [cells.get(on, "") for on in most["evaluated_on"]]
    title = "\nA vote before training, and points that one greedy answer after it gains on the vote"
    print_titled({title: pl.DataFrame(columns)})


def _print_cuts(effects: pl.DataFrame) -> None:
    """Print what of the full arm falls to questions under each cut of never-correct."""
    mine = effects.filter(pl.col("statistic").is_in(CUTS)).with_columns(
        cut=pl.col("evaluated_on").str.extract(r":cut=(\d+)$").cast(pl.Int64)
    )
    tables = {}
    for start, title in (
        ("train:", "\nThe full arm on its training questions, if never-correct were"),
        ("held-out:", "\nThe full arm's held-out gain, by right samples of the base"),
    ):
        rows = mine.filter(pl.col("evaluated_on").str.starts_with(start)).sort("cut")
        if rows.is_empty():
            continue
        cuts = rows["cut"].unique(maintain_order=True)
        columns: dict[str, list[object]] = {
            "at most correct": cuts.to_list(),
            "questions": [rows.filter(pl.col("cut") == cut)["questions"].max() for cut in cuts],
        }
        for statistic in CUTS:
            cells = {
                row["cut"]: _interval(row, "{:.0f}% [{:.0f}, {:.0f}]")
                for row in rows.filter(pl.col("statistic") == statistic).iter_rows(named=True)
            }
            if cells:
                columns[_CUT_NAMES[statistic]] = [cells.get(cut, "") for cut in cuts]
        tables[title] = pl.DataFrame(columns)
    if tables:
        print_titled(tables)
        print_lines(
            "Where the gain shows, not what caused it: what an arm trained at another cut would "
            "gain is not known without training it. Type: attrib ablate --subset-where "
            "'question_id IN (SELECT question_id FROM buckets WHERE correct <= 1)'"
        )


def _print_passes(passes: Sequence[RunPasses]) -> None:
    rows = []
    for one in (one for one in passes if one.role in _SHOWN):
        compared, equivalent = one.crossing.comparison, one.equivalent
        ends = (0, len(compared.k_K) - 1)
        least = "under 1" if equivalent.low is None else f"{equivalent.low:.1f}"
        most = (
            f"over {equivalent.largest_k}" if equivalent.high is None else f"{equivalent.high:.1f}"
        )
        value = "" if equivalent.value is None else f"{equivalent.value:.1f} "
        rows.append(
            {
                "run": _arm_name(one.role, one.subset) + f", seed {one.seed}",
                **{
                    f"pass@{compared.k_K[at]}": (
                        f"{100 * compared.difference_K[at]:+.1f} "
                        f"[{100 * compared.band_low_K[at]:+.1f}, "
                        f"{100 * compared.band_high_K[at]:+.1f}]"
                    )
                    for at in ends
                },
                "attempts of the base for one": f"{value}[{least}, {most}]",
                "curves": str(one.crossing.verdict),
            }
        )
    if rows:
        print_titled({"\nSampling more against training: points gained at k": pl.DataFrame(rows)})
        print_lines(
            "One seed each: intervals are over questions. "
            f"{passes[0].crossing.statement.split('. ')[0]}."
        )


def _by_arm(effects: pl.DataFrame, roles: Sequence[Role] = _SHOWN) -> Mapping[str, pl.DataFrame]:
    """Return the rows of each arm by its name, at the largest fraction of the budget it has."""
    shown = effects.filter(pl.col("role").is_in([str(role) for role in roles]))
    return {
        _arm_name(Role(str(role)), str(subset)): rows.sort("fraction").unique(
            ["evaluated_on", "statistic"], keep="last", maintain_order=True
        )
        for (role, subset), rows in shown.group_by("role", "subset", maintain_order=True)
    }


def _cells(effects: pl.DataFrame, role: Role) -> dict[str, dict[str, object]]:
    """Return the rows of one role's arm by statistic."""
    rows = effects.filter(pl.col("role") == str(role)).sort("fraction")
    return {str(row["statistic"]): row for row in rows.iter_rows(named=True)}


def _form(name: str, sign: str = "") -> tuple[str, float]:
    """Return how a statistic is written, and times what."""
    if name in LENGTHS:
        return f"{{:{sign}.1f}} [{{:{sign}.1f}}, {{:{sign}.1f}}]", 1.0
    digits = 2 if name in MASSES else 1
    unit = "" if sign else "%"
    return f"{{:{sign}.{digits}f}}{unit} [{{:{sign}.{digits}f}}, {{:{sign}.{digits}f}}]", 100.0


def _place_name(evaluated_on: str) -> str:
    """Return where a vote was held: held-out and training questions, and groups of them."""
    if evaluated_on.startswith("train"):
        return "training" + evaluated_on.removeprefix("train").replace(":", ", ")
    return evaluated_on.replace("held-out:", "held-out, ").replace("=", " ")


def _arm_name(role: Role, subset: str) -> str:
    return str(role) if role in (Role.BASE, Role.FULL) else f"{role} {subset}"


def _interval(row: Mapping[str, object], form: str, scale: float = 100.0) -> str:
    value, low, high = (row[name] for name in ("value", "low", "high"))
    if not isinstance(value, float):
        return ""
    if not isinstance(low, float) or not isinstance(high, float):
        return f"{scale * value:.0f}%"
    return form.format(scale * value, scale * low, scale * high)


def _profile(found: ProfileInterval | None, scale: float = 1.0, unit: str = "") -> str:
    if found is None:
        return ""
    bounds = ("?" if end is None else f"{scale * end:.1f}" for end in (found.low, found.high))
    return f"{scale * found.value:.1f}{unit} [{', '.join(bounds)}]"


def _range(low: int | None, high: int | None) -> str:
    return f"{'?' if low is None else low} – {'?' if high is None else high}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
