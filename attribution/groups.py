"""Groups: what one visit of a question gives to learn from.

Whatever the method, a visit yields completions of one prompt and which of them are right: fresh
rollouts for GRPO, stored ones for rejection fine-tuning and DPO, the accepted answer for supervised
fine-tuning. A completion that was drawn several times stands there several times; prefix trees
merge it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Group:
    """The completions of one visit.

    Attributes:
        question_id: the question visited.
        prompt: token ids, at least one.
        completions: G sequences of token ids, end token included where there was one; none empty.
        correct_G: which are right, shape (G,).
    """

    question_id: str
    prompt: tuple[int, ...]
    completions: tuple[tuple[int, ...], ...]
    correct_G: NDArray[np.bool_]

    @property
    def length_G(self) -> NDArray[np.int64]:
        """Return the number of tokens of each completion, its end token counted."""
        return np.array([len(completion) for completion in self.completions], dtype=np.int64)

    @property
    def has_right(self) -> bool:
        """Tell whether a completion is right."""
        return bool(self.correct_G.any())

    @property
    def has_both(self) -> bool:
        """Tell whether some completions are right and others wrong."""
        return bool(self.correct_G.any() and not self.correct_G.all())
