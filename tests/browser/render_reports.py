"""Write the reports that the browser opens: a rich one, partial ones, and one of hostile texts.

Usage: python tests/browser/render_reports.py FOLDER
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "reports"))

from conftest import HOSTILE, WHOLE, Builder, Recipe

from attrib.reports.render import write_report
from attrib.store import Store

STUDIES = {
    "rich": WHOLE,
    "untrained": Recipe(arms=False),
    "one-seed": Recipe(subsets=("never-correct",), roles=("only",)),
    "hostile": Recipe(seeds=(0, 1), samples=2, hostile=HOSTILE),
}


def main(folder: Path) -> None:
    """Build each study and render it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, recipe in STUDIES.items():
        path = folder / f"{name}.duckdb"
        path.unlink(missing_ok=True)
        summary = write_report(Builder(Store(path), recipe).build(), folder / f"{name}.html")
        print(f"{summary.path.name}: {summary.bytes:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
