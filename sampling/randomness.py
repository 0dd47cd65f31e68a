"""Counter-based randomness: a rollout's uniforms are a function of its name alone.

Rollout r of a question draws, at depth t, from row r of a stream that only (seed, question id, t)
select. So rollout r does not depend on how many rollouts are drawn, in which order, in which batch,
or after which interruption; any set of indices is a fair sample. The bits are NumPy's Philox
(Salmon et al. 2011), whose raw stream is fixed across versions.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

UNIFORMS_PER_DRAW = 32  # one per halving of the vocabulary: enough for 2^32 tokens
_WORDS_PER_BLOCK = 4  # Philox-4x64 yields four words per counter value
_BLOCKS_PER_DRAW = UNIFORMS_PER_DRAW // _WORDS_PER_BLOCK


def derive_seed(*names: object) -> int:
    """Return a seed of 56 bits for engines that have a generator of their own.

    Other names give an unrelated seed: a later range of rollouts never repeats an earlier one.
    """
    text = "\n".join(map(str, names)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:7], "big")


class UniformStream:
    """The uniforms of one question."""

    def __init__(self, seed: int, name: str) -> None:
        """Key the stream by `seed` and `name` (a question id, or a question id and a step)."""
        digest = hashlib.sha256(f"{seed}\n{name}".encode()).digest()
        self._key = np.frombuffer(digest[:16], dtype="<u8").astype(np.uint64)

    def draw(self, depth: int, first: int, stop: int) -> NDArray[np.float64]:
        """Return the uniforms in [0, 1) of rollouts first … stop-1 at `depth`.

        Returns:
            shape (stop - first, UNIFORMS_PER_DRAW).
        """
        counter = np.array([first * _BLOCKS_PER_DRAW, depth, 0, 0], dtype=np.uint64)
        raw = np.random.Philox(key=self._key, counter=counter).random_raw(
            (stop - first) * UNIFORMS_PER_DRAW
        )
        uniform: NDArray[np.float64] = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return uniform.reshape(stop - first, UNIFORMS_PER_DRAW)
