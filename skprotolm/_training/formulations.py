"""The two formulations: which layer, start and losses a name stands for.

The only place that compares the name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.preprocessing import normalize
from torch import Tensor

from skprotolm._config import Settings
from skprotolm._network import losses as _losses
from skprotolm._network.prototypes import (
    InverseDistanceLayer,
    LayerOutput,
    MixtureLayer,
    PrototypeLayer,
)
from skprotolm._training.initialization import gathered, kmeans_start, normal_start
from skprotolm._training.projection import Candidates, assign

# The weight of a text that the model gives another class, when prototypes settle; not
# 0, since a class may have no other.
_DISTRUST = 1e-3


@dataclass(frozen=True)
class Placement:
    """What prototypes are placed by: text vectors and their classes."""

    vectors: np.ndarray  # (n, H)
    pretrained: np.ndarray  # (n, P), the pretrained encoder's sentence vectors
    codes: np.ndarray  # (n,)
    weights: np.ndarray  # (n,)
    counts: list[int]  # prototypes a class
    clear: float  # how far the pretrained encoder tells the classes, from 0 to 1
    seed: int

    @property
    def owner(self) -> Tensor:
        """The class of each prototype, (M,)."""
        return torch.repeat_interleave(
            torch.arange(len(self.counts)), torch.tensor(self.counts)
        )


@dataclass(frozen=True)
class Step:
    """What the losses read of one batch."""

    s: Tensor  # (B, H)
    output: LayerOutput
    codes: Tensor  # (B,)
    weights: Tensor  # (B,)
    pretrained: Tensor  # (B, P), the pretrained encoder's sentence vectors


# A term of the loss with the weight it carries in the sum.
Terms = dict[str, tuple[float, Tensor]]


@dataclass(frozen=True)
class Formulation:
    """One way to score with prototypes, and to train it."""

    build: Callable[[Placement, Settings], PrototypeLayer]
    losses: Callable[[Step, PrototypeLayer, Settings], Terms]
    # Where prototypes (M, D) and texts (n, D) stand as each is to be given one, by the
    # scores (n, C) of the texts.
    settle: Callable[[PrototypeLayer, Placement, Tensor], tuple[np.ndarray, np.ndarray]]


def _build_mixture(placement: Placement, settings: Settings) -> PrototypeLayer:
    centres = kmeans_start(
        placement.vectors,
        placement.codes,
        placement.weights,
        placement.counts,
        placement.seed,
    )
    vectors = torch.from_numpy(gathered(centres, placement.counts, placement.clear))
    layer = MixtureLayer(
        vectors, placement.owner, len(placement.counts), settings.sharpness
    )
    layer.start_bias(np.bincount(placement.codes, weights=placement.weights))
    return layer


def _settle_mixture(
    layer: PrototypeLayer, placement: Placement, scores: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Look for texts in the middle of the clusters that each class has come to.

    Prototypes started together, and training leaves them closer than the texts that
    they are to stand for. Texts count as far as the model gives them their class, and
    those that it gives another one hardly, or a cluster of those would get a prototype.

    Texts are of one cluster that are near both to the model and to the pretrained
    encoder, or the text that is quoted would say little to a reader: inside a class the
    model has no reason to tell subjects.
    """
    owner = layer.owner.cpu().numpy()
    places = _learned_and_read(layer, placement)
    trusted = _trust(scores, placement.codes)
    centres = kmeans_start(
        places,
        placement.codes,
        placement.weights * (trusted + _DISTRUST),
        np.bincount(owner).tolist(),
        placement.seed,
    )
    own = layer.compare(layer.vectors).cpu().numpy()
    learned = normalize(centres[:, : own.shape[1]])
    every = np.arange(len(own))  # each to one of its class, with the prior it learned
    matched = assign(own, owner, learned, Candidates(every, np.sort(owner), every))
    return centres[matched], places


def _learned_and_read(layer: PrototypeLayer, placement: Placement) -> np.ndarray:
    """Return text vectors side by side with the pretrained ones, (n, H + P), unit.

    The two are scaled to vary as much inside a class.
    """
    learned = layer.compare(torch.from_numpy(placement.vectors)).numpy()
    read = normalize(placement.pretrained)
    scatters = [_scatter(v, placement.codes) for v in (learned, read)]
    scale = math.sqrt(scatters[0] / max(scatters[1], 1e-12))
    return np.hstack([learned, scale * read]) / math.hypot(1.0, scale)


def _scatter(vectors: np.ndarray, codes: np.ndarray) -> float:
    """Return the mean squared distance of vectors (n, H) to the mean of their class."""
    sizes = np.bincount(codes)
    within = [
        sizes[code] * vectors[codes == code].var(axis=0).sum()
        for code in np.flatnonzero(sizes)
    ]
    return float(sum(within) / len(codes))


def _trust(scores: Tensor, codes: np.ndarray) -> np.ndarray:
    """Return p of each text's class (n,), 0 where the model gives it another one."""
    p = scores.softmax(dim=1).numpy()
    of_own = p[np.arange(len(p)), codes]
    return of_own * (p.argmax(axis=1) == codes)


def leave(
    layer: PrototypeLayer, placement: Placement, scores: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Leave prototypes where they are, as published; what is near is near to them."""
    texts = torch.from_numpy(placement.vectors)
    return layer.compare(layer.vectors).cpu().numpy(), layer.compare(texts).numpy()


def _build_published(placement: Placement, settings: Settings) -> PrototypeLayer:
    vectors = normal_start(sum(placement.counts), torch.from_numpy(placement.vectors))
    return InverseDistanceLayer(vectors, placement.owner, len(placement.counts))


def _mixture_losses(step: Step, layer: PrototypeLayer, settings: Settings) -> Terms:
    assert isinstance(layer, MixtureLayer)
    d2 = step.output.squared_distances
    own = step.codes[:, None] == layer.owner[None, :]
    terms: Terms = {
        "cross_entropy": (
            1 - settings.cohesion - settings.separation,
            _losses.cross_entropy(
                step.output.scores, step.codes, step.weights, settings.label_smoothing
            ),
        )
    }
    if settings.cohesion:
        terms["cohesion"] = (settings.cohesion, _losses.cohesion(d2, own, step.weights))
        terms["coverage"] = (settings.cohesion, _losses.coverage(d2, own))
    if settings.separation:
        pushed = _losses.separation(d2, own, step.weights)
        terms["separation"] = (settings.separation, pushed)
    if settings.diversity:
        terms["diversity"] = (settings.diversity, _losses.diversity(*layer.grouped()))
    if settings.preservation:
        kept = _losses.preservation(step.s, step.pretrained, step.codes)
        terms["preservation"] = (settings.preservation, kept)
    return terms


def _published_losses(step: Step, layer: PrototypeLayer, settings: Settings) -> Terms:
    d2 = step.output.squared_distances
    own = step.codes[:, None] == layer.owner[None, :]
    entropy = _losses.cross_entropy(step.output.scores, step.codes, step.weights)
    return {
        "cross_entropy": (1 - settings.cohesion - settings.separation, entropy),
        "cohesion": (
            settings.cohesion,
            _losses.published_cohesion(d2, own, step.weights, settings.n_nearest),
        ),
        "separation": (
            settings.separation,
            _losses.published_separation(d2, own, step.weights, settings.n_nearest),
        ),
    }


FORMULATIONS = {
    "mixture": Formulation(_build_mixture, _mixture_losses, _settle_mixture),
    "proto-lm": Formulation(_build_published, _published_losses, leave),
}
