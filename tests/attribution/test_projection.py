"""Random projection of gradients: unbiased, the same for a name, whole where asked."""

import numpy as np
import pytest
import torch

from attrib.attribution.projection import Projection


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"wide": (6, 20), "tall": (30, 5), "square": (4, 4), "vector": (7,)}
    return {n: torch.nn.Parameter(torch.randn(s, generator=generator)) for n, s in shapes.items()}


def draw(weights: dict[str, torch.nn.Parameter], seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(weight.shape, generator=generator) for weight in weights.values()]


def flat(gradients: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([gradient.reshape(-1) for gradient in gradients])


def test_without_projection_nothing_is_lost(weights: dict[str, torch.nn.Parameter]) -> None:
    gradients = draw(weights, 1)
    projection = Projection(weights, 0)
    assert projection.size == 6 * 20 + 30 * 5 + 16 + 7
    assert projection.nbytes == 0
    assert torch.equal(projection.project(gradients), flat(gradients))


def test_short_sides_and_vectors_stay_whole(weights: dict[str, torch.nn.Parameter]) -> None:
    gradients = draw(weights, 1)
    projection = Projection(weights, 6)
    assert projection.size == 6 * 6 + 6 * 5 + 16 + 7
    assert projection.nbytes == 4 * 6 * (20 + 30)
    found = projection.project(gradients)
    assert torch.equal(found[-23:], flat(gradients[2:]))
    assert found.shape == (projection.size,)


def test_it_multiplies_both_sides() -> None:
    weight = {"w": torch.nn.Parameter(torch.zeros(12, 9))}
    projection = Projection(weight, 3)
    # The gradient with a single 1 at (row, column) projects to the outer product of the columns.
    whole = torch.eye(108).reshape(108, 12, 9)
    images = torch.stack([projection.project([one]) for one in whole])
    rank_one = images.reshape(12, 9, 3, 3).permute(0, 2, 1, 3).reshape(36, 27)
    assert torch.linalg.matrix_rank(rank_one, rtol=1e-4) == 1
    gradient = torch.randn(12, 9, generator=torch.Generator().manual_seed(5))
    expected = gradient.reshape(-1) @ images
    assert torch.allclose(projection.project([gradient]), expected, atol=1e-5)


def test_inner_products_are_unbiased(weights: dict[str, torch.nn.Parameter]) -> None:
    first, second = draw(weights, 1), draw(weights, 2)
    second = [0.5 * a + b for a, b in zip(first, second, strict=True)]
    exact = float(flat(first) @ flat(second))
    found = []
    for seed in range(400):
        projection = Projection(weights, 4, seed=seed)
        found.append(float(projection.project(first) @ projection.project(second)))
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    assert error < 0.1 * abs(exact)
    assert np.mean(found) == pytest.approx(exact, abs=4 * error)


def test_a_larger_rank_errs_less(weights: dict[str, torch.nn.Parameter]) -> None:
    first = draw(weights, 1)

    def spread(rank: int) -> float:
        squares = [
            float(Projection(weights, rank, seed=seed).project(first).square().sum())
            for seed in range(60)
        ]
        return float(np.std(squares))

    assert spread(12) < spread(3)


def test_it_depends_on_the_name_and_the_seed_alone(
    weights: dict[str, torch.nn.Parameter],
) -> None:
    gradients = draw(weights, 1)
    found = Projection(weights, 4).project(gradients)
    assert torch.equal(Projection(weights, 4).project(gradients), found)
    assert not torch.equal(Projection(weights, 4, seed=1).project(gradients), found)
    alone = Projection({"tall": weights["tall"]}, 4).project([gradients[1]])
    assert torch.equal(alone, found[16 : 16 + 16])
