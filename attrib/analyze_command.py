"""`attrib analyze`: what a referee would ask about buckets and gains."""

from typing import Annotated

import typer

from attrib.config import DEFAULT_DATABASE
from attrib.options import AsJson, Database, print_json


def analyze(
    db: Database = DEFAULT_DATABASE,
    experiment: Annotated[str, typer.Option(help="Beginning of its id; default: newest.")] = "",
    bucketing: Annotated[
        str, typer.Option(help="Beginning of its id; default: the experiment's.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Ask what a referee would: who is in which bucket, and what kind of change training made.

    Example: `attrib analyze`
    """
    from attrib.analyses import analyze as find
    from attrib.store import Store
    from attrib.tables_analysis import print_analysis

    analysis = find(Store(db), experiment, bucketing)
    if as_json:
        return print_json(analysis)
    print_analysis(analysis)
