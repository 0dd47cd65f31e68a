"""How long do facts take? `python benchmarks/facts.py FOLDER` with the files of docs/data.md.

Draws 200,000 questions of the sets in FOLDER, links them by every rule, and prints JSON: seconds of
wall clock and of processor time for the links, and the largest resident memory of the process, the
questions included. With `--no-subjects` no question has a known subject, so that all are compared
by their words: the dearest case.
"""

import argparse
import json
import random
import resource
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from attrib.data.facts import find_links, join
from attrib.data.parsing import parse_files

FILES = (
    "nq_open/*",
    "triviaqa/*",
    "webquestions/*",
    "simpleqa/*",
    "popqa/popqa_test.json",
    "entityquestions/*/*.json.gz",
)


def main() -> None:
    """Draw, link, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--questions", type=int, default=200_000, help="0: all")
    parser.add_argument("--no-subjects", action="store_true")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    args = parser.parse_args()
    drafts = [
        draft
        for pattern in FILES
        for draft in parse_files(pattern.split("/")[0], sorted(args.folder.glob(pattern))).drafts
    ]
    if args.questions:
        drafts = random.Random(args.seed).sample(drafts, args.questions)
    if args.no_subjects:
        drafts = [replace(draft, subject=None) for draft in drafts]
    wall, processor = time.perf_counter(), time.process_time()
    links = find_links(drafts)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    found = {
        "questions": len(drafts),
        "wall_seconds": round(wall, 1),
        "processor_seconds": round(processor, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "links": Counter(link.rule for link in links),
        "largest_facts": sorted(map(len, join(len(drafts), links)), reverse=True)[:5],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
