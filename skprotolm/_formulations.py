"""The two formulations: which layer, start and losses a name stands for.

The only place that compares the name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from skprotolm import _losses
from skprotolm._head import (
    InverseDistanceLayer,
    LayerOutput,
    MixtureLayer,
    PrototypeLayer,
)
from skprotolm._initialization import gathered, kmeans_start, normal_start
from skprotolm._parameters import Settings
from skprotolm._projection import Candidates, assign

# The weight of a text that the model gives another class, when prototypes settle; not
# 0, since a class may have no other.
_DISTRUST = 1e-3
_CHUNK = 8192  # texts that are scored at once


@dataclass(frozen=True)
class Placement:
    """What prototypes are placed by: text vectors and their classes."""

    vectors: np.ndarray  # (n, H)
    codes: np.ndarray  # (n,)
    weights: np.ndarray  # (n,)
    counts: list[int]  # prototypes a class
    clearness: float  # of the classes, to the untrained encoder
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
    settle: Callable[[PrototypeLayer, Placement], None]  # before they become texts


def _build_mixture(placement: Placement, settings: Settings) -> PrototypeLayer:
    centres = kmeans_start(
        placement.vectors,
        placement.codes,
        placement.weights,
        placement.counts,
        placement.seed,
    )
    vectors = torch.from_numpy(gathered(centres, placement.counts, placement.clearness))
    layer = MixtureLayer(
        vectors, placement.owner, len(placement.counts), settings.sharpness
    )
    layer.start_bias(np.bincount(placement.codes, weights=placement.weights))
    return layer


def _settle_mixture(layer: PrototypeLayer, placement: Placement) -> None:
    """Move prototypes to the middle of the clusters that their class has come to.

    They started together, and training leaves them closer than the texts they are to
    stand for. Texts count as far as the model gives them their class, and those that it
    gives another one hardly: else a cluster of those would draw a prototype. Momentum
    that the optimiser has from the old places lasts for ten steps or so.
    """
    trusted = _trust(layer, placement.vectors, placement.codes)
    centres = kmeans_start(
        placement.vectors,
        placement.codes,
        placement.weights * (trusted + _DISTRUST),
        placement.counts,
        placement.seed,
    )
    own = layer.vectors
    unit = layer.compare(torch.from_numpy(centres).to(own))
    owner, every = layer.owner.cpu().numpy(), np.arange(len(own))
    nearest = assign(  # each to one of its class
        layer.compare(own).cpu().numpy(),
        owner,
        unit.cpu().numpy(),
        Candidates(every, owner, every),
    )
    # The length sets how far a step of the optimiser turns a vector.
    own.copy_(unit[torch.from_numpy(nearest)] * own.norm(dim=1, keepdim=True))


def _trust(layer: PrototypeLayer, vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return p of each text's class (n,), 0 where the model gives it another one."""
    trusted = np.empty(len(codes))
    for first in range(0, len(codes), _CHUNK):
        rows = slice(first, first + _CHUNK)
        s = torch.from_numpy(vectors[rows]).to(layer.vectors)
        p = layer(s).scores.softmax(dim=1).cpu().numpy()
        of_own = p[np.arange(len(p)), codes[rows]]
        trusted[rows] = of_own * (p.argmax(axis=1) == codes[rows])
    return trusted


def _leave(layer: PrototypeLayer, placement: Placement) -> None:
    """Leave prototypes where they are, as published."""


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
            _losses.cross_entropy(step.output.scores, step.codes, step.weights),
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
    "proto-lm": Formulation(_build_published, _published_losses, _leave),
}
