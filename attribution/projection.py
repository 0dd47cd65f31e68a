"""Random projection of gradients: inner products of millions of numbers from thousands.

The gradient G of a matrix becomes P G Qᵀ with P and Q of k rows of independent N(0, 1/k) entries,
so that the inner product of two projected gradients is, in expectation over P and Q, that of the
gradients themselves (Johnson and Lindenstrauss 1984; two-sided as in LoGra, arXiv 2405.13954). A
side of at most k stays as it is; vectors stay whole. P and Q depend on the weight's name alone, so
that gradients of any two passes can be held against each other.

The relative error of one matrix is about sqrt(2/k) for the part in which the gradients agree; it
averages out over matrices. It is measured where scores are made, not assumed.
"""

from collections.abc import Mapping, Sequence

import torch

from attrib.sampling.randomness import derive_seed

Side = torch.Tensor | None
"""What one side of a matrix is multiplied by, shape (k, side); None leaves it as it is."""


class Projection:
    """Projects the gradients of all trained weights, in their order, to one vector."""

    def __init__(
        self, trained: Mapping[str, torch.nn.Parameter], rank: int, *, seed: int = 0
    ) -> None:
        """Draw the projections.

        Args:
            trained: the weights, by name.
            rank: k, rows of either side; 0 projects nothing.
            seed: gives unrelated projections.
        """
        self._sides = [_draw_sides(name, weight, rank, seed) for name, weight in trained.items()]
        shapes = [_as_matrix(weight).shape for weight in trained.values()]
        self.size = sum(
            (shape[0] if left is None else rank) * (shape[1] if right is None else rank)
            for shape, (left, right) in zip(shapes, self._sides, strict=True)
        )
        """How many numbers a projected gradient has: D."""

    @property
    def nbytes(self) -> int:
        """Return the memory that the projections take."""
        return sum(side.nbytes for pair in self._sides for side in pair if side is not None)

    def project(self, gradients: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return one gradient of all weights as a float32 vector, shape (D,)."""
        parts = []
        for gradient, (left, right) in zip(gradients, self._sides, strict=True):
            part = _as_matrix(gradient).float()
            # The longer side first: what is left to multiply is the smaller of both.
            if part.shape[0] >= part.shape[1]:
                part = part if left is None else left @ part
                part = part if right is None else part @ right.T
            else:
                part = part if right is None else part @ right.T
                part = part if left is None else left @ part
            parts.append(part.reshape(-1))
        return torch.cat(parts)


def _as_matrix(weight: torch.Tensor) -> torch.Tensor:
    """Return a weight's values as a matrix: a vector is a row, other axes lie flat."""
    return weight.reshape(1, -1) if weight.dim() < 2 else weight.reshape(weight.shape[0], -1)


def _draw_sides(name: str, weight: torch.nn.Parameter, rank: int, seed: int) -> tuple[Side, Side]:
    if weight.dim() < 2 or rank == 0:
        return None, None
    rows, columns = _as_matrix(weight).shape
    return (
        _draw(rank, rows, weight.device, seed, name, "left"),
        _draw(rank, columns, weight.device, seed, name, "right"),
    )


def _draw(rank: int, side: int, device: torch.device, *names: object) -> Side:
    if side <= rank:
        return None
    generator = torch.Generator().manual_seed(derive_seed("projection", *names))
    drawn = torch.randn(rank, side, generator=generator).to(device)
    return drawn.div_(float(rank) ** 0.5)
