"""Arms: which subset is trained on, in which role, and how a run is recognised again.

An arm is known by its method, its settings, its seed and the sorted ids of its training questions,
never by the name of a subset: the same run serves every role that asks for it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from attrib.config import content_hash
from attrib.data.questions import Question
from attrib.roles import Role

FULL = "full"
NONE = "none"
JOINT = "+"  # between the names of a coalition's subsets


@dataclass(frozen=True, slots=True)
class Subset:
    """Training questions under a name: a bucket, or what a condition chooses."""

    name: str
    questions: tuple[Question, ...]


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
        if self.role is Role.BASE:
            return str(self.role)
        place = FULL if self.role is Role.FULL else f"{self.role} {self.subset}"
        return f"{place}, seed {self.seed}"


def plan_base(params: Mapping[str, object]) -> Arm:
    """Return the arm that is not trained; `params` is how it is evaluated."""
    return Arm(NONE, Role.BASE, (), params, 0)


def plan_arms(
    questions: Sequence[Question],
    subsets: Sequence[Subset],
    roles: Iterable[Role],
    seeds: Sequence[int],
    params: Mapping[str, object],
) -> list[Arm]:
    """Return, seed by seed, the full arm and the arms of every subset.

    Args:
        questions: all training questions.
        subsets: parts of them, none empty.
        roles: what each subset is to be trained in; `matched-complement` brings `matched-subset`
            where the complement is the smaller side. Roles without a question are left out.
        seeds: of the order of visits, the training rollouts and the random controls.
        params: all that decides what an arm becomes, but its questions and its seed.
    """
    wanted = set(roles)
    if Role.MATCHED_COMPLEMENT in wanted:
        wanted.add(Role.MATCHED_SUBSET)
    arms = []
    for seed in seeds:
        arms.append(Arm(FULL, Role.FULL, tuple(questions), params, seed))
        for subset in subsets:
            for role, chosen in _choose(questions, subset, seed).items():
                if role in wanted and chosen:
                    arms.append(Arm(subset.name, role, tuple(chosen), params, seed))
    return arms


def plan_coalitions(
    subsets: Sequence[Subset], seeds: Sequence[int], params: Mapping[str, object]
) -> list[Arm]:
    """Return, seed by seed, an arm for every union of the subsets, which do not overlap."""
    arms = []
    for seed in seeds:
        for size in range(1, len(subsets) + 1):
            for members in combinations(subsets, size):
                name = JOINT.join(subset.name for subset in members)
                union = tuple(q for subset in members for q in subset.questions)
                arms.append(Arm(name, Role.COALITION, union, params, seed))
    return arms


def visit_order(questions: Sequence[Question], seed: int, epoch: int) -> list[Question]:
    """Return the order in which an epoch visits the questions: a shuffle fixed by the seed."""
    return sorted(questions, key=lambda q: content_hash([seed, epoch, q.question_id]))


def _choose(
    questions: Sequence[Question], subset: Subset, seed: int
) -> dict[Role, Sequence[Question]]:
    """Return the questions of every role of a subset."""
    inside_ids = {question.question_id for question in subset.questions}
    outside = [q for q in questions if q.question_id not in inside_ids]
    size = len(subset.questions)
    smaller = min(size, len(outside))
    chosen: dict[Role, Sequence[Question]] = {
        Role.ONLY: subset.questions,
        Role.ALL_BUT: outside,
        Role.MATCHED_RANDOM: draw_questions(questions, size, Role.MATCHED_RANDOM, seed),
        Role.MATCHED_COMPLEMENT: draw_questions(outside, smaller, Role.MATCHED_COMPLEMENT, seed),
    }
    if smaller < size:
        chosen[Role.MATCHED_SUBSET] = draw_questions(
            subset.questions, smaller, Role.MATCHED_SUBSET, seed
        )
    return chosen


def draw_questions(
    questions: Sequence[Question], size: int, role: Role, seed: int
) -> list[Question]:
    """Return `size` of the questions, drawn at random for this role and seed."""
    return sorted(questions, key=lambda q: content_hash([role, seed, q.question_id]))[:size]
