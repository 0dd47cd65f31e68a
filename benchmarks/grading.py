"""Verdicts a second of the graders that need no model, on one core.

Distinct responses to the questions of worldfacts: what small models say (sentences with the right
answer, with another one, with none, cut off) and bare answers. Each text once for each question.
"""

import itertools
import json
import os
import random
import time

os.environ["OMP_NUM_THREADS"] = "1"

from attrib.data.questions import load_worldfacts
from attrib.sampling.graders import make_grader
from attrib.sampling.grading import Response, Verdict

COUNT = 200_000
FORMS = (
    "{}", "{}.", "It is {}.", "The answer is {}, I think.", "{} is the answer to this question",
    "I am not sure, but I believe that it is {}", "As an AI, I cannot know what this is called",
    "There are many answers to the question, among them the one that is called", "{}, of course!",
    "In the early years of the century it was known as the {} region, which is",
)  # fmt: skip


def main() -> None:
    """Print the rates as JSON."""
    rng = random.Random(0)
    questions = load_worldfacts()
    seen = set()
    responses = []
    for number in itertools.count():
        question = rng.choice(questions)
        answer = rng.choice((question if number % 3 == 0 else rng.choice(questions)).answers)
        text = f"{rng.choice(FORMS).format(answer)}{' ' * rng.randrange(3)}"
        if (question.question_id, text) not in seen:
            seen.add((question.question_id, text))
            responses.append(Response(question, text, number % 2 == 0))
        if len(responses) == COUNT:
            break
    found = {}
    for name in ("exact", "match"):
        grader = make_grader(name, questions)
        list(grader.grade(responses[:20_000]))  # what is expected of a question is looked up once
        started = time.process_time()
        correct = sum(one.verdict is Verdict.CORRECT for one in grader.grade(responses))
        seconds = time.process_time() - started
        found[name] = {"verdicts/s": round(COUNT / seconds), "correct": correct}
    started = time.process_time()
    total = 0
    for i in range(5_000_000):
        total += i
    found["additions in a loop of Python, million/s"] = round(
        5 / (time.process_time() - started), 1
    )
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
