"""Losses on prefix trees, whose gradients equal those computed completion by completion.

All completions of a question share its prompt, and many share prefixes or whole texts. Each
distinct token goes through the model once, and its term is weighted by the sums of the weights of
the completions through it. Completions merge by token ids, end token included, never by text.

* `PolicyGradient`: GRPO (Shao et al. 2024, arXiv 2402.03300) and its variants DAPO (arXiv
  2503.14476), Dr. GRPO (arXiv 2503.20783) and leave-one-out advantages (arXiv 2402.14740).
* `Likelihood`: supervised and rejection fine-tuning.
* `Preference`: DPO (Rafailov et al. 2023, arXiv 2305.18290) on all pairs of a group.

The first `backward` of a policy gradient is on-policy: the ratio is 1. Later ones, after optimiser
steps on the same batch, are clipped against it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from numpy.typing import NDArray

from attrib.attribution.forest import Forest, plant
from attrib.attribution.groups import Group
from attrib.attribution.policy import Policy

STD_OFFSET = 1e-4  # keeps the normalisation finite, as in TRL


class Advantage(StrEnum):
    """How the rewards of a group become advantages."""

    GROUP_NORMALISED = "group-normalised"
    """(r - mean) / (std + 1e-4), with the sample standard deviation: GRPO."""
    MEAN_ONLY = "mean-only"
    """r - mean: Dr. GRPO."""
    LEAVE_ONE_OUT = "leave-one-out"
    """r - mean of the others: RLOO."""


class Normalisation(StrEnum):
    """What the token terms of a batch are divided by."""

    PER_SEQUENCE = "per-sequence"
    """Mean over the tokens of a completion, then over completions and groups: GRPO."""
    PER_TOKEN = "per-token"
    """Mean over all tokens of the batch: DAPO."""
    CONSTANT = "constant"
    """Sum over tokens by the limit on new tokens, then mean over completions: Dr. GRPO."""


@dataclass(frozen=True, slots=True)
class GroupGradient:
    """What the backward pass of one group used.

    Attributes:
        loss: the group's part of the batch's loss.
        tokens: distinct tokens that carry it; 0 if the group took no part.
        weight: sum over completions of |advantage| x loss weight x tokens.
    """

    loss: float
    tokens: int
    weight: float


NO_GRADIENT = GroupGradient(0.0, 0, 0.0)


def group_advantages(
    reward_G: NDArray[np.float64], advantage: Advantage = Advantage.GROUP_NORMALISED
) -> NDArray[np.float64]:
    """Return each completion's advantage; fewer than two rewards, or equal ones, give zeros.

    Source: arXiv 2402.03300, section 4.1.2; 2503.20783, section 3.2; 2402.14740, section 3.
    """
    count = len(reward_G)
    if count < 2:
        return np.zeros(count)
    centred_G = np.asarray(reward_G - reward_G.mean(), dtype=np.float64)
    if advantage is Advantage.MEAN_ONLY:
        return centred_G
    if advantage is Advantage.LEAVE_ONE_OUT:
        return centred_G * (count / (count - 1))
    return centred_G / (float(reward_G.std(ddof=1)) + STD_OFFSET)


def token_weights(
    groups: Sequence[Group],
    counted: Sequence[NDArray[np.bool_]],
    normalisation: Normalisation,
    longest: int,
) -> list[NDArray[np.float64]]:
    """Return the weight of every token of each completion in the loss of the batch.

    Groups in which nothing counts leave the denominators; all others are in them, whether they
    carry a gradient or not.

    Args:
        groups: the batch.
        counted: for each group, which completions take part, shape (G,).
        normalisation: what is divided by.
        longest: the limit on new tokens, for `constant`.

    Returns:
        for each group shape (G,); 0 for completions that take no part.
    """
    kept = sum(bool(counted_G.any()) for counted_G in counted)
    pairs = list(zip(groups, counted, strict=True))
    tokens = sum(int(group.length_G[counted_G].sum()) for group, counted_G in pairs)
    weights = []
    for group, counted_G in pairs:
        if normalisation is Normalisation.PER_TOKEN:
            weight_G = np.full(len(counted_G), 1.0 / max(tokens, 1))
        else:
            each = group.length_G if normalisation is Normalisation.PER_SEQUENCE else longest
            weight_G = np.ones(len(counted_G)) / each / max(int(counted_G.sum()), 1) / max(kept, 1)
        weights.append(np.where(counted_G, weight_G, 0.0))
    return weights


Differentiate = Callable[[Sequence[int], torch.Tensor], None]


def add_gradient(places: Sequence[int], loss: torch.Tensor) -> None:
    """Add the gradient of a loss to the parameters' `.grad`."""
    loss.backward()  # type: ignore[no-untyped-call]


class TreeLoss(ABC):
    """The loss of one batch; `backward` adds its gradient to the parameters' `.grad`."""

    temperature = 1.0

    def __init__(
        self, policy: Policy, groups: Sequence[Group], taking_part: Sequence[bool], at_once: int
    ) -> None:
        """Lay out the groups that take part, about `at_once` distinct tokens a forward."""
        self._policy = policy
        self._groups = len(groups)
        self._places = [place for place, takes in enumerate(taking_part) if takes]
        self._forests = list(plant([groups[place] for place in self._places], at_once))

    def backward(self, differentiate: Differentiate = add_gradient) -> list[GroupGradient]:
        """Run the passes; return what each group of the batch contributed, in its order.

        Args:
            differentiate: adds the gradient of each forward's loss, of the groups at these places.
        """
        gradients = [NO_GRADIENT] * self._groups
        for forest, (places, loss_F) in zip(self._forests, self.losses(), strict=True):
            differentiate(places, loss_F.sum())
            for place_in_forest, (place, loss) in enumerate(
                zip(places, loss_F.detach().tolist(), strict=True)
            ):
                gradients[place] = GroupGradient(
                    loss=loss,
                    tokens=forest.count_targets(place_in_forest),
                    weight=self._weight_of(place),
                )
        return gradients

    def losses(self) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Yield, forward by forward, the places of groups in the batch and their losses.

        Places are those of the groups that take part; the losses carry gradients.
        """
        for index, forest in enumerate(self._forests):
            logprob_K = self._policy.logprobs(forest, self.temperature)
            yield self._places_in(index), self._group_losses(index, forest, logprob_K)

    @abstractmethod
    def _group_losses(self, index: int, forest: Forest, logprob_K: torch.Tensor) -> torch.Tensor:
        """Return the loss of each group of forest number `index`, shape (groups,)."""

    @abstractmethod
    def _weight_of(self, place: int) -> float:
        """Return the gradient weight of a group of the batch."""

    def _places_in(self, index: int) -> list[int]:
        """Return the batch's places of the groups in forest number `index`."""
        before = sum(len(forest.groups) for forest in self._forests[:index])
        return self._places[before : before + len(self._forests[index].groups)]


class PolicyGradient(TreeLoss):
    """The clipped policy gradient, with a penalty on the distance from the model before training.

    A target's term is W⁺·min(r, 1 + ε_high) + W⁻·max(r, 1 - ε_low): the weights of the completions
    through it with positive and negative advantages, summed apart, which keeps clipping exact. The
    penalty is exp(Δ) - Δ - 1 with Δ = log π_ref - log π (Schulman's k3, as in arXiv 2402.03300,
    eq. 4), weighted by all completions.
    """

    def __init__(
        self,
        policy: Policy,
        groups: Sequence[Group],
        *,
        advantage: Advantage = Advantage.GROUP_NORMALISED,
        normalisation: Normalisation = Normalisation.PER_SEQUENCE,
        longest: int = 1,
        clip_low: float = 0.2,
        clip_high: float = 0.2,
        kl: float = 0.0,
        temperature: float = 1.0,
        at_once: int = 1024,
    ) -> None:
        """Weigh the completions; see `Advantage` and `Normalisation`.

        Args:
            policy: what is trained.
            groups: the batch; only those with right and wrong completions are run, unless `kl` > 0.
            advantage: how rewards become advantages.
            normalisation: what is divided by.
            longest: the limit on new tokens, for `constant`.
            clip_low: ε_low.
            clip_high: ε_high.
            kl: weight of the penalty.
            temperature: that the completions were drawn at.
            at_once: distinct tokens of one forward.
        """
        taking_part = [group.has_both or (kl > 0 and bool(group.completions)) for group in groups]
        super().__init__(policy, groups, taking_part, at_once)
        self.temperature = temperature
        everything = [np.ones(len(group.completions), dtype=np.bool_) for group in groups]
        self._share = token_weights(groups, everything, normalisation, longest)
        self._advantage = [
            group_advantages(group.correct_G.astype(np.float64), advantage) for group in groups
        ]
        self._length = [group.length_G for group in groups]
        self._clip_low, self._clip_high, self._kl = clip_low, clip_high, kl
        self._old: list[torch.Tensor] = []
        self._reference: list[torch.Tensor] = []

    def _group_losses(self, index: int, forest: Forest, logprob_K: torch.Tensor) -> torch.Tensor:
        if index == len(self._old):
            self._old.append(logprob_K.detach())
        places = self._places_in(index)
        signed = [self._advantage[place] * self._share[place] for place in places]
        up_K = _tensor(forest.spread([np.maximum(w, 0.0) for w in signed]), logprob_K)
        down_K = _tensor(forest.spread([np.minimum(w, 0.0) for w in signed]), logprob_K)
        ratio_K = (logprob_K - self._old[index]).exp()
        gain_K = up_K * ratio_K.clamp(max=1.0 + self._clip_high)
        term_K = -gain_K - down_K * ratio_K.clamp(min=1.0 - self._clip_low)
        if self._kl > 0:
            if index == len(self._reference):
                reference_K = self._policy.reference_logprobs(forest, self.temperature)
                self._reference.append(reference_K)
            away_K = self._reference[index] - logprob_K
            every_K = _tensor(forest.spread([self._share[place] for place in places]), logprob_K)
            term_K = term_K + self._kl * every_K * (away_K.exp() - away_K - 1.0)
        return _sum_by_group(term_K, forest)

    def _weight_of(self, place: int) -> float:
        weight_G = np.abs(self._advantage[place]) * self._share[place] * self._length[place]
        return float(weight_G.sum())


class Likelihood(TreeLoss):
    """The negative log-likelihood of the right completions; wrong ones take no part."""

    def __init__(
        self,
        policy: Policy,
        groups: Sequence[Group],
        *,
        normalisation: Normalisation = Normalisation.PER_SEQUENCE,
        longest: int = 1,
        at_once: int = 1024,
    ) -> None:
        """Weigh the right completions; see `Normalisation`."""
        right = [group.correct_G for group in groups]
        only_right = [
            Group(
                group.question_id,
                group.prompt,
                tuple(
                    c
                    for c, is_right in zip(group.completions, group.correct_G, strict=True)
                    if is_right
                ),
                np.ones(int(group.correct_G.sum()), dtype=np.bool_),
            )
            for group in groups
        ]
        super().__init__(policy, only_right, [group.has_right for group in groups], at_once)
        weights = token_weights(groups, right, normalisation, longest)
        self._share = [w[r] for w, r in zip(weights, right, strict=True)]
        self._length = [group.length_G for group in only_right]

    def _group_losses(self, index: int, forest: Forest, logprob_K: torch.Tensor) -> torch.Tensor:
        weight_K = forest.spread([self._share[place] for place in self._places_in(index)])
        return _sum_by_group(-_tensor(weight_K, logprob_K) * logprob_K, forest)

    def _weight_of(self, place: int) -> float:
        return float((self._share[place] * self._length[place]).sum())


class Preference(TreeLoss):
    """-log σ(β·margin), the mean over all pairs of a right and a wrong completion of a group.

    The margin is the log-ratio to the untrained model of the right completion less that of the
    wrong one (arXiv 2305.18290, eq. 7); groups count equally.
    """

    def __init__(
        self, policy: Policy, groups: Sequence[Group], *, beta: float = 0.1, at_once: int = 1024
    ) -> None:
        """Lay out the groups that hold pairs."""
        super().__init__(policy, groups, [group.has_both for group in groups], at_once)
        self._beta = beta
        self._reference: list[torch.Tensor] = []
        self._weight: dict[int, float] = {}

    def _group_losses(self, index: int, forest: Forest, logprob_K: torch.Tensor) -> torch.Tensor:
        if index == len(self._reference):
            self._reference.append(self._policy.reference_logprobs(forest, self.temperature))
        ratio_K = logprob_K - self._reference[index]
        losses = []
        for place, group, targets in zip(
            self._places_in(index), forest.groups, forest.targets, strict=True
        ):
            ratio_G = torch.stack([ratio_K[torch.from_numpy(t)].sum() for t in targets])
            right_G = torch.from_numpy(group.correct_G).to(ratio_G.device)
            margin_RW = ratio_G[right_G][:, None] - ratio_G[~right_G][None, :]
            loss = -torch.nn.functional.logsigmoid(self._beta * margin_RW).mean()
            losses.append(loss / len(self._places))
            push = torch.sigmoid(-self._beta * margin_RW.detach()).mean()
            self._weight[place] = self._beta * float(push) / len(self._places)
        return torch.stack(losses)

    def _weight_of(self, place: int) -> float:
        return self._weight[place]


def _tensor(array_K: NDArray[np.float64], like_K: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(array_K).to(like_K)


def _sum_by_group(term_K: torch.Tensor, forest: Forest) -> torch.Tensor:
    group_K = torch.from_numpy(forest.group_K).to(term_K.device)
    return term_K.new_zeros(len(forest.groups)).index_add(0, group_K, term_K)
