"""What is left to learn once prototypes stand on texts: priors and biases."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from skprotolm._network.prototypes import MixtureLayer

_SAMPLE = 5000  # texts that are looked at, or fewer,
_NUMBERS = 20_000_000  # where prototypes are so many that these are not enough
_STEPS = 30
_PENALTY = 0.01  # on the mean squared distance from the learned parameters


class TrainingTexts(NamedTuple):
    """The training texts, as a projection finds them."""

    vectors: Tensor  # (n, H)
    ids: np.ndarray  # (n,) which distinct text each is
    codes: np.ndarray  # (n,)
    weights: np.ndarray  # (n,)


def refit(
    layer: MixtureLayer,
    texts: TrainingTexts,
    quoted: np.ndarray,
    learned: Tensor,
    seed: int,
) -> None:
    """Let a layer say of texts what it said with its learned vectors, as far as it can.

    A text stands beside the place that was learned for it, so its class would be
    predicted a little too often or too rarely. The logits l of the priors, which are
    their softmax inside each class, and the biases are moved to the least

        Σ_b w_b·KL(p_b with learned vectors ‖ p_b with texts) / B
        + 0.01·(Σ_j (change of l_j)² / M + Σ_c (change of b_c)² / C)

    where no text is compared with itself: to itself it is like no other. The classes
    compared are those for which another text speaks. No label is asked for. (ProtoPNet
    fits its last layer anew by the labels: Chen et al. 2019.) With a tenth of the
    penalty, few prototypes get all the prior of a class, and the text that is quoted
    first is less like the one explained.

    Parameters
    ----------
    layer : MixtureLayer
        Its vectors are those of texts.
    texts : TrainingTexts
    quoted : ndarray of shape (M,)
        The id of each prototype's text.
    learned : Tensor of shape (n, C)
        The scores that the layer gave the texts with its learned vectors.
    seed : int
        Of the texts that are looked at, where there are many.
    """
    rows = _looked_at(texts.codes, max(1, _NUMBERS // layer.members.numel()), seed)
    exact = layer.exact()
    assert isinstance(exact, MixtureLayer)
    cosines = exact.similarities(texts.vectors[rows].cpu().double())
    itself = torch.from_numpy(texts.ids[rows, None] == quoted)
    cosines = cosines.masked_fill(itself, -torch.inf)
    # A text that is the one prototype of its class says nothing of it.
    used = _scores_of_others(exact, cosines, itself).isfinite().all(dim=1)
    cosines, itself, rows = cosines[used], itself[used], rows[used.numpy()]
    # The others would speak against a class that nothing speaks for.
    heard = np.unique(texts.codes[rows])
    if len(heard) < 2:
        return
    targets = learned[rows][:, heard].cpu().double().log_softmax(dim=1)
    weights = torch.from_numpy(texts.weights[rows]).double()

    def divergence() -> Tensor:
        said = _scores_of_others(exact, cosines, itself)[:, heard].log_softmax(dim=1)
        gaps = F.kl_div(said, targets, log_target=True, reduction="none")
        return (weights * gaps.sum(dim=1)).mean()

    _solve([exact.prior_logits, exact.bias], divergence)
    with torch.no_grad():
        layer.prior_logits.copy_(exact.prior_logits)
        layer.bias.copy_(exact.bias)


def _looked_at(codes: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Draw the rows of the texts that are looked at; no class is left out."""
    order = np.random.RandomState(seed).permutation(len(codes))
    drawn = order[: min(_SAMPLE, most)]
    return np.append(drawn, order[~np.isin(codes[order], codes[drawn])])


def _scores_of_others(layer: MixtureLayer, cosines: Tensor, itself: Tensor) -> Tensor:
    """Return scores (n, C) of texts whose cosine to themselves is minus infinity.

    In the class of such a text the priors of the others count as if they summed to 1,
    or it would be less likely with fewer prototypes, however near they are.
    """
    own = itself.any(dim=1).nonzero().flatten()
    priors = layer.log_priors(cosines).expand(len(own), -1)
    left, _ = layer.evidence(priors.masked_fill(itself[own], -torch.inf))
    scale = layer.concentration(cosines) / layer.sharpness
    return layer.scores(cosines).index_add(0, own, -scale * left)


def _solve(moved: list[Tensor], distance: Callable[[], Tensor]) -> None:
    """Move parameters to the least of a distance and a penalty on their change."""
    before = [parameter.clone() for parameter in moved]
    optimizer = torch.optim.LBFGS(
        [parameter.requires_grad_() for parameter in moved],
        max_iter=_STEPS,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        pairs = zip(moved, before, strict=True)
        changes = torch.stack([(now - then).square().mean() for now, then in pairs])
        total = distance() + _PENALTY * changes.sum()
        total.backward()
        return total

    optimizer.step(loss)
