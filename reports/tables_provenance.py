"""The table of machines and versions, and what of it is said in words.

Owns which of the recorded versions are shown: those of packages that were installed somewhere.
"""

from collections.abc import Iterable

from attrib.reports.records_provenance import Environment, Provenance
from attrib.reports.tables import Column, Kind, Table, make_table
from attrib.reports.text import UNKNOWN, count, duration, plural, show

MOST_ENVIRONMENTS = 4  # columns of the table
NOT_RECORDED = "not recorded"
_MISSING = "not installed"
_MACHINE = ("processor", "cores", "memory", "gpus", "platform")
_TITLES = {"gpus": "GPUs"}
_CODE = ("attrib", "commit", "python")
_SOURCES = {"imported": "rollouts (imported)", "server": "rollouts (asked of a server)"}


def describe_machines(provenance: Provenance) -> str:
    """Return on what the study was made, and how long its training took."""
    machines = dict.fromkeys(_describe_machine(one) for one in provenance.environments)
    text = "; ".join(machines) or NOT_RECORDED
    if not provenance.runs:
        return text
    runs = plural(provenance.runs, "training run")
    return f"{text}; {duration(provenance.seconds)} for {runs}, evaluation not counted"


def tabulate_environments(provenance: Provenance, engine: str) -> Table:
    """Return one row an entry and one column an environment, with what was made in each."""
    shown = provenance.environments[:MOST_ENVIRONMENTS]
    if len(shown) == 1:
        titles = ["Recorded"]
    else:
        titles = [f"Environment {place}" for place, _ in enumerate(shown, 1)]
    rows = [
        ("made", [_describe_made(one, provenance, engine) for one in shown]),
        ("from", [one.began_at for one in shown]),
    ]
    for key in _order_keys(shown):
        values = [one.get(key) or UNKNOWN for one in shown]
        if set(values) - {_MISSING, UNKNOWN}:
            rows.append((_TITLES.get(key, key), [show(value) for value in values]))
    return make_table(
        "Machines and versions, as recorded when the work was done",
        [Column("Entry", Kind.CODE), *(Column(title, Kind.CODE) for title in titles)],
        [(key, *values) for key, values in rows],
    )


def describe_environments(provenance: Provenance) -> list[str]:
    """Return what a reader of the table should know."""
    environments, sentences = provenance.environments, []
    if not environments:
        return ["Machine and versions were not recorded: an older attrib did the work."]
    if provenance.unrecorded:
        sentences.append(
            f"Of {count(provenance.unrecorded)} of {plural(provenance.runs, 'training run')} the "
            "machine was not recorded."
        )
    differing = [key for key in _order_keys(environments) if _differs(environments, key)]
    if differing:
        sentences.append(
            f"Work was done in {plural(len(environments), 'environment')}, which differ in "
            f"{_join(_TITLES.get(key, key) for key in differing)}."
        )
    if len(environments) > MOST_ENVIRONMENTS:
        sentences.append(
            f"The first {MOST_ENVIRONMENTS} are shown; all of them: "
            'attrib query "SELECT DISTINCT environment FROM provenance"'
        )
    if any((one.get("commit") or "").endswith("-dirty") for one in environments):
        sentences.append("A commit that ends in -dirty had changes that were not committed.")
    return sentences


def _describe_machine(one: Environment) -> str:
    cores, memory, gpus = one.get("cores"), one.get("memory"), one.get("gpus")
    parts = [show(one.get("processor") or "processor not recorded", 80)]
    parts += [plural(int(cores), "core")] if cores and cores.isdecimal() else []
    parts += [show(memory, 40)] if memory else []
    found = show(gpus or "", 120).replace(" × ", "\u00a0×\u00a0")
    parts += ["no GPU" if gpus == "none" else found] if gpus else []
    return ", ".join(parts)


def _describe_made(one: Environment, provenance: Provenance, engine: str) -> str:
    runs = f"{count(one.runs)} of {plural(provenance.runs, 'training run')}"
    made = [
        _SOURCES.get(engine, "rollouts") if one.rollouts else "",
        "buckets" if one.buckets else "",
        "evaluation before RL" if one.base else "",
        runs if one.runs else "",
    ]
    return ", ".join(filter(None, made))


def _order_keys(environments: Iterable[Environment]) -> list[str]:
    """Return every key: the machine, the code, then packages by name."""
    keys = {setting.key for one in environments for setting in one.found}
    first = [key for key in (*_MACHINE, *_CODE) if key in keys]
    return [*first, *sorted(keys.difference(first))]


def _join(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _differs(environments: Iterable[Environment], key: str) -> bool:
    return len({one.get(key) for one in environments}) > 1
