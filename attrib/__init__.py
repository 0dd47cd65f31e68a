"""attrib: which training questions produced the gain.

From Python, `attrib.open("attrib.duckdb")` reads a study; everything is made by the command line.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attrib.handle import Study

    __version__: str

__all__ = ["__version__", "open"]


def open(path: str | Path = "attrib.duckdb") -> "Study":
    """Return a study to read from; see `attrib.handle.Study`.

    Args:
        path: of the DuckDB file.

    Raises:
        StoreError: there is none, or it was written by another version of attrib.
    """
    from attrib.handle import Study

    return Study(path)


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module 'attrib' has no attribute {name!r}")
    from importlib.metadata import version

    return version("attrib")
