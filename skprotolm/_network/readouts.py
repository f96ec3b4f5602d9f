"""Evidence and values of prototypes to outputs, their loss, and shares of them.

Letters: B texts, M prototypes, L outputs, C classes. The evidence of a prototype for a
text is log π_j + λ·cos(s, p_j), (B, M).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skprotolm._network import losses
from skprotolm._tasks.units import PROBABILITY, Unit

# κ for two classes at the start. With C classes it starts log(C − 1) higher, so that
# the same cosines give the same confidence; from the start of two classes, 77 classes
# stay underconfident to the end.
_INITIAL_CONCENTRATION = math.e**2


class Readout(nn.Module, ABC):
    """How evidence and the values of prototypes make the outputs of a model."""

    unit: Unit  # of the shares
    n_groups: int  # of prototypes, inside which priors sum to 1

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return the arguments of `make_readout`."""

    @abstractmethod
    def initialize(self, values: Tensor, weights: Tensor) -> None:
        """Set what training starts from, by the training texts' values and weights."""

    @abstractmethod
    def groups(self, values: Tensor) -> Tensor:
        """Return the group of each prototype, (M,) int."""

    @abstractmethod
    def forward(self, evidence: Tensor, values: Tensor) -> Tensor:
        """Return the outputs (B, L)."""

    @abstractmethod
    def loss(
        self, outputs: Tensor, values: Tensor, weights: Tensor, smoothing: float
    ) -> Tensor:
        """Return the loss of B texts by their true values."""

    @abstractmethod
    def default_index(self, outputs: Tensor) -> Tensor:
        """Return which output is explained unless the user names one, (B,)."""

    @abstractmethod
    def explained(self, outputs: Tensor, index: Tensor) -> Tensor:
        """Return what the token scores sum to, (B,)."""

    @abstractmethod
    def shares(self, evidence: Tensor, values: Tensor, index: Tensor) -> Tensor:
        """Return the contribution of each prototype, (B, M)."""

    @abstractmethod
    def true_probability(self, outputs: Tensor, values: Tensor) -> Tensor:
        """Return how likely the model finds the true value, 0 if mispredicted, (B,)."""

    @abstractmethod
    def divergence(
        self, outputs: Tensor, targets: Tensor, values: Tensor, weights: Tensor
    ) -> Tensor:
        """Return how far outputs are from target outputs, both (B, L)."""

    @abstractmethod
    def calibrated(self) -> list[nn.Parameter]:
        """Return the parameters that recalibration may move."""


class ClassReadout(Readout):
    """Class evidence is a smooth maximum; probabilities are its softmax.

        z_c = (κ/λ)·log Σ_{j: c(j)=c} π_j exp(λ·cos(s, p_j)) + b_c

    A prototype's value is the index of its class. With κ = λ this is a mixture of von
    Mises-Fisher densities trained discriminatively (Seo and Obermayer 2003), with two
    concentrations SoftTriple (Qian et al. 2019) on labeled prototypes.

    Parameters
    ----------
    n_classes : int
    sharpness : float
        λ.
    """

    unit = PROBABILITY

    def __init__(self, n_classes: int, sharpness: float):
        super().__init__()
        self.n_classes = self.n_groups = n_classes
        self.sharpness = float(sharpness)
        # In float64, whatever torch's default is: the layer casts it.
        start = math.log(_INITIAL_CONCENTRATION + math.log(max(n_classes - 1, 1)))
        self.bias = nn.Parameter(torch.zeros(n_classes, dtype=torch.float64))
        self.log_concentration = nn.Parameter(
            torch.full((), start, dtype=torch.float64)
        )

    def options(self) -> dict[str, Any]:
        """Return the kind, the number of classes and the sharpness λ."""
        return {
            "kind": "classes",
            "n_outputs": self.n_classes,
            "sharpness": self.sharpness,
        }

    def initialize(self, values: Tensor, weights: Tensor) -> None:
        """Start b_c at the logarithm of the class's share, where training moves it to.

        A bias moves by its learning rate per step and does not get there from 0, so
        that rare classes would be predicted too often.
        """
        counts = torch.bincount(values, weights, minlength=self.n_classes)
        with torch.no_grad():
            self.bias.copy_((counts / counts.sum()).log())

    def groups(self, values: Tensor) -> Tensor:
        """Return the classes."""
        return values

    def concentration(self, like: Tensor) -> Tensor:
        """Return κ, which sets how confident the model is."""
        return self.log_concentration.to(like).exp()

    def forward(self, evidence: Tensor, values: Tensor) -> Tensor:
        """Return the scores z (B, C)."""
        log_sums = grouped_logsumexp(evidence, values, self.n_classes)
        scale = self.concentration(evidence) / self.sharpness
        return scale * log_sums + self.bias.to(evidence)

    def loss(
        self, outputs: Tensor, values: Tensor, weights: Tensor, smoothing: float
    ) -> Tensor:
        """Return the cross-entropy."""
        return losses.cross_entropy(outputs, values, weights, smoothing)

    def default_index(self, outputs: Tensor) -> Tensor:
        """Return the predicted class."""
        return outputs.argmax(dim=1)

    def explained(self, outputs: Tensor, index: Tensor) -> Tensor:
        """Return the log-odds of a class."""
        return log_odds(outputs, index)

    def shares(self, evidence: Tensor, values: Tensor, index: Tensor) -> Tensor:
        """Return p_c·r_j, with r_j the share of the prototype inside its class."""
        log_p = torch.log_softmax(self(evidence, values), dim=1)
        log_sums = grouped_logsumexp(evidence, values, self.n_classes)
        return (log_p[:, values] + evidence - log_sums[:, values]).exp()

    def true_probability(self, outputs: Tensor, values: Tensor) -> Tensor:
        """Return p of the true class (B,), 0 where another class is predicted."""
        p = outputs.softmax(dim=1)
        is_right = p.argmax(dim=1) == values
        return p.gather(1, values[:, None])[:, 0] * is_right

    def divergence(
        self, outputs: Tensor, targets: Tensor, values: Tensor, weights: Tensor
    ) -> Tensor:
        """Return Σ_b w_b·KL(targets ‖ outputs) / B, over the classes in `values`."""
        classes = values.unique()
        log_p = outputs[:, classes].log_softmax(dim=1)
        log_q = targets[:, classes].log_softmax(dim=1)
        gaps = F.kl_div(log_p, log_q, log_target=True, reduction="none")
        return (weights * gaps.sum(dim=1)).mean()

    def calibrated(self) -> list[nn.Parameter]:
        """Return the biases."""
        return [self.bias]


# By `Task.readout`.
_READOUTS: dict[str, Callable[[int, float], Readout]] = {"classes": ClassReadout}


def make_readout(kind: str, n_outputs: int, sharpness: float) -> Readout:
    """Build the readout of a kind of target."""
    return _READOUTS[kind](n_outputs, sharpness)


def grouped_logsumexp(x: Tensor, groups: Tensor, n_groups: int) -> Tensor:
    """Return the logsumexp of x (B, M) over each group of its columns, (B, G).

    It is −inf for a group without columns.
    """
    groups = groups.to(x.device)
    top = x.new_full((len(x), n_groups), -torch.inf)
    top = top.scatter_reduce(1, groups.expand_as(x), x.detach(), "amax")
    top = top.masked_fill(top.isinf(), 0)  # of a group of −inf, or of no columns
    sums = torch.zeros_like(top).index_add(1, groups, (x - top[:, groups]).exp())
    return sums.log() + top


def log_odds(scores: Tensor, index: Tensor) -> Tensor:
    """Return log p_k − log(1 − p_k) of class k (B,) from scores (B, C)."""
    rivals = scores.scatter(1, index[:, None], -torch.inf)
    return scores.gather(1, index[:, None])[:, 0] - torch.logsumexp(rivals, dim=1)
