"""The layer of proto-lm as published, and its losses.

Xie, Vosoughi and Hassanpour, Findings of EMNLP 2023. Letters as in `prototypes`; C
classes.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from skprotolm._config import FitConfig
from skprotolm._network.losses import cross_entropy
from skprotolm._network.prototypes import (
    Attribution,
    Batch,
    LayerOutput,
    PrototypeLayer,
    Terms,
)
from skprotolm._network.readout import log_odds
from skprotolm._tasks.units import SCORE

_EPSILON = 1e-4  # keeps 1 / (d + ε) finite on a prototype's own text


class InverseDistanceLayer(PrototypeLayer):
    """Similarities a_j = 1/(‖s − p_j‖ + ε) under a linear output layer.

    Output weights start at 1 for the prototype's class and at −0.5 for the others.

    Parameters
    ----------
    vectors : Tensor of shape (M, H)
    values : Tensor of shape (M,), int
        Classes.
    n_classes : int
    """

    formulation = "proto-lm"
    per_prototype = "weights"
    unit = SCORE

    def __init__(self, vectors: Tensor, values: Tensor, *, n_classes: int):
        super().__init__(vectors, values)
        self.n_classes = n_classes
        own = values[None, :] == torch.arange(n_classes)[:, None]
        self.weights = nn.Parameter(1.5 * own.to(vectors) - 0.5)  # (C, M)
        self.bias = nn.Parameter(vectors.new_zeros(n_classes))

    def options(self) -> dict[str, Any]:
        """Return the number of classes."""
        return {"n_classes": self.n_classes}

    def describe(self) -> dict[str, Tensor]:
        """Return the output weights (C, M)."""
        return {"weights": self.weights}

    def _mean_weight(self, value: Tensor) -> Tensor:
        """Return the mean output weights (C,) of the class's prototypes."""
        return self.weights[:, self.values == value].mean(dim=1)

    def _revalued_weights(self, rows: Tensor, values: Tensor) -> Tensor:
        """Swap the output weights of the old and the new class."""
        weights = self.weights.clone()
        for j in rows.tolist():
            swapped = [int(self.values[j]), int(values[j])]
            weights[swapped, j] = weights[swapped[::-1], j]
        return weights

    def novelty_at(self, points: Tensor, excluded: Tensor | None = None) -> Tensor:
        """Return the distance to the nearest prototype."""
        squares = self(points).squared_distances
        if excluded is not None:
            squares = squares.masked_fill(excluded, torch.inf)
        return squares.amin(dim=1).sqrt()

    def forward(self, s: Tensor) -> LayerOutput:
        """Compare text vectors (B, H) by distance."""
        # Differences, not the expansion of the square, which loses small distances.
        distances = torch.cdist(
            s, self.vectors.to(s), compute_mode="donot_use_mm_for_euclid_dist"
        )
        similarities = 1 / (distances + _EPSILON)
        scores = similarities @ self.weights.to(s).T + self.bias.to(s)
        return LayerOutput(similarities, distances.square(), scores)

    def losses(self, output: LayerOutput, batch: Batch, config: FitConfig) -> Terms:
        """Return cross-entropy, cohesion and separation, as published."""
        d2, own, weights = output.squared_distances, batch.own, batch.weights
        if config.similarities_as_distances:
            d2 = output.similarities
        return {
            "cross_entropy": (
                1 - config.cohesion - config.separation,
                cross_entropy(output.outputs, batch.values, weights),
            ),
            "cohesion": (
                config.cohesion,
                cohesion(d2, own, weights, config.n_nearest),
            ),
            "separation": (
                config.separation,
                separation(d2, own, weights, config.n_nearest),
            ),
        }

    def explained(
        self, outputs: Tensor, index: Tensor, against: Tensor | None = None
    ) -> Tensor:
        """Return the log-odds of a class, against all others or against one."""
        return log_odds(outputs, index, against)

    def _attribute(
        self, s: Tensor, index: Tensor | None, against: Tensor | None
    ) -> Attribution:
        """Explain scores as sums over prototypes; the direction is only a gradient.

        1/(distance + ε) is no sum over tokens, so that base and contributions are those
        of the class's score, or of the difference of two scores, while the direction is
        that of the log-odds at the text.
        """
        with torch.inference_mode(False), torch.enable_grad():
            point = s.clone().requires_grad_()
            _, squared_distances, scores = self(point)
            index = scores.argmax(dim=1) if index is None else index
            explained = self.explained(scores, index, against)
            (direction,) = torch.autograd.grad(explained.sum(), point)
        base = self.bias.to(s)[index]
        if against is not None:
            base = base - self.bias.to(s)[against]
        return Attribution(
            scores.detach(),
            index,
            against,
            explained.detach(),
            novelty=squared_distances.detach().amin(dim=1).sqrt(),
            base=base,
            direction=direction,
        )

    def contributions(
        self, s: Tensor, index: Tensor | None = None, against: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return similarities, and weight × similarity."""
        similarities, _, scores = self(s)
        index = scores.argmax(dim=1) if index is None else index
        weights = self.weights.to(s)[index]
        if against is not None:
            weights = weights - self.weights.to(s)[against]
        return similarities, weights * similarities


def cohesion(d2: Tensor, own: Tensor, weights: Tensor, n_nearest: float) -> Tensor:
    """Return the weighted mean of the K largest d² to prototypes of its class."""
    k = _n_extremes(own, n_nearest)
    return (weights * _mean_of_extremes(d2, own, k, largest=True)).mean()


def separation(d2: Tensor, own: Tensor, weights: Tensor, n_nearest: float) -> Tensor:
    """Return minus the weighted mean of the K smallest d² to the other prototypes."""
    k = _n_extremes(own, n_nearest)
    return -(weights * _mean_of_extremes(d2, ~own, k, largest=False)).mean()


def _n_extremes(own: Tensor, n_nearest: float) -> Tensor:
    """Return K per text, (B,): a number, or a fraction of its class's prototypes."""
    counts = own.sum(dim=1)
    if isinstance(n_nearest, Integral):  # more than M means all
        return torch.full_like(counts, min(int(n_nearest), own.shape[1]))
    return torch.ceil(float(n_nearest) * counts).long().clamp(min=1)


def _mean_of_extremes(d2: Tensor, chosen: Tensor, k: Tensor, largest: bool) -> Tensor:
    """Return the mean of each text's K extreme chosen distances, (B,)."""
    k = torch.minimum(k, chosen.sum(dim=1))
    fill = -torch.inf if largest else torch.inf
    ordered = d2.masked_fill(~chosen, fill).sort(dim=1, descending=largest).values
    kept = torch.arange(d2.shape[1], device=d2.device)[None, :] < k[:, None]
    return ordered.masked_fill(~kept, 0).sum(dim=1) / k
