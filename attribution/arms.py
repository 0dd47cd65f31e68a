"""Arms: which subset is trained on, in which role, and how a run is recognised again.

An arm is known by its method, its settings and the sorted ids of its training questions, never by
the name of a bucket: the same run serves every role that asks for it. Refuses buckets that do not
exist or are empty.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from attrib.analysis.buckets import Bucket
from attrib.config import content_hash
from attrib.data.questions import Question
from attrib.errors import ConfigError, DataError
from attrib.roles import Role

FULL = "full"


@dataclass(frozen=True, slots=True)
class Arm:
    """One training run, in one role."""

    subset: str
    role: Role
    questions: tuple[Question, ...]
    params: Mapping[str, object]
    seed: int

    @property
    def arm_id(self) -> str:
        """Return the identity: settings, seed and the set of training questions."""
        ids = sorted(question.question_id for question in self.questions)
        return content_hash({"params": self.params, "seed": self.seed, "questions": ids})

    @property
    def name(self) -> str:
        """Return a short name for people."""
        return (
            str(self.role) if self.role in (Role.BASE, Role.FULL) else f"{self.role} {self.subset}"
        )


def plan_arms(
    questions_by_bucket: Mapping[str, Sequence[Question]],
    subsets: Sequence[str],
    seed: int,
    *,
    params: Mapping[str, object],
    base_params: Mapping[str, object],
    all_but: bool,
) -> list[Arm]:
    """Return base, full, and for each subset `only` and (where asked for and not empty) `all-but`.

    Args:
        questions_by_bucket: all training questions.
        subsets: names of buckets.
        seed: of the order of visits and of the training rollouts.
        params: all that decides what an arm becomes, but its questions and its seed.
        base_params: all that decides how the base is evaluated.
        all_but: whether to train on the complements too.

    Raises:
        ConfigError: a subset is not the name of a bucket.
        DataError: a bucket is empty.
    """
    filled = ", ".join(f"{name} ({len(qs)})" for name, qs in questions_by_bucket.items() if qs)
    for subset in subsets:
        if subset not in set(Bucket):
            raise ConfigError(f"--subset {subset} is not a bucket. Buckets: {', '.join(Bucket)}.")
        if not questions_by_bucket.get(subset):
            raise DataError(
                f"--subset {subset} holds no question, so nothing can be trained on it. "
                f"Buckets with questions: {filled}."
            )
    everything = tuple(q for questions in questions_by_bucket.values() for q in questions)
    arms = [
        Arm("none", Role.BASE, (), base_params, 0),
        Arm(FULL, Role.FULL, everything, params, seed),
    ]
    for subset in dict.fromkeys(subsets):
        inside = tuple(questions_by_bucket[subset])
        inside_ids = {question.question_id for question in inside}
        outside = tuple(q for q in everything if q.question_id not in inside_ids)
        arms.append(Arm(subset, Role.ONLY, inside, params, seed))
        if all_but and outside:
            arms.append(Arm(subset, Role.ALL_BUT, outside, params, seed))
    return arms


def visit_order(questions: Sequence[Question], seed: int, epoch: int) -> list[Question]:
    """Return the order in which an epoch visits the questions: a shuffle fixed by the seed."""
    return sorted(questions, key=lambda q: content_hash([seed, epoch, q.question_id]))
