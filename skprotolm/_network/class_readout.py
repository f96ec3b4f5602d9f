"""The readout of one class.

Letters as in `readout`; C classes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skprotolm._network import losses
from skprotolm._network.readout import (
    CalibratedReadout,
    Readout,
    grouped_logsumexp,
    log_odds,
)
from skprotolm._tasks.units import PROBABILITY

# Texts that share the prediction of the median text: 1 + 3/C in each of C classes,
# since the shares of all classes add up, but not fewer than this.
_LEAST_PERPLEXITY, _PERPLEXITY_OF_ALL = 1.5, 3.0
# κ for two classes at the start. With C classes it starts log(C − 1) higher, so that
# the same cosines give the same confidence; from the start of two classes, 77 classes
# stay underconfident to the end.
_INITIAL_CONCENTRATION = math.e**2
# A score whose probability is 0, but whose product with 0 is a number.
NEVER = -1e4


class ClassReadout(CalibratedReadout):
    """Class evidence is a smooth maximum; probabilities are its softmax.

        z_c = (κ/λ)·log Σ_{j: c(j)=c} π_j exp(λ·cos(s, p_j)) + b_c

    A prototype's value is the index of its class. With κ = λ this is a mixture of von
    Mises-Fisher densities trained discriminatively (Seo and Obermayer 2003), with two
    concentrations SoftTriple (Qian et al. 2019) on labeled prototypes.

    Parameters
    ----------
    n_outputs : int
        The number of classes.
    sharpness : float
        λ.
    """

    unit = PROBABILITY
    loss_name = "cross_entropy"
    can_be_extended = True

    def __init__(self, n_outputs: int, sharpness: float):
        super().__init__()
        self.n_classes = self.n_groups = n_outputs
        self.sharpness = float(sharpness)
        # In float64, whatever torch's default is: the layer casts it.
        start = math.log(_INITIAL_CONCENTRATION + math.log(max(n_outputs - 1, 1)))
        self.bias = nn.Parameter(torch.zeros(n_outputs, dtype=torch.float64))
        self.log_concentration = nn.Parameter(
            torch.full((), start, dtype=torch.float64)
        )

    @property
    def perplexity(self) -> float:
        """The perplexity of shares in a class: 2.5 for 2 classes, 1.6 for 5."""
        return max(_LEAST_PERPLEXITY, 1 + _PERPLEXITY_OF_ALL / self.n_classes)

    def options(self) -> dict[str, Any]:
        """Return the kind, the number of classes and the sharpness λ."""
        return {
            "kind": "classes",
            "n_outputs": self.n_classes,
            "sharpness": self.sharpness,
        }

    def initialize(
        self, values: Tensor, weights: Tensor, outputs: Callable[[], Tensor]
    ) -> None:
        """Start b_c at the log of the class's share, which is close to the optimum.

        A bias changes by its learning rate per step and does not get there from 0, so
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
        codes = values.to(outputs.device)
        return losses.cross_entropy(outputs, codes, weights, smoothing)

    def default_index(self, outputs: Tensor) -> Tensor:
        """Return the predicted class."""
        return outputs.argmax(dim=1)

    def explained(
        self, outputs: Tensor, index: Tensor, against: Tensor | None = None
    ) -> Tensor:
        """Return the log-odds of a class, against all others or against one."""
        return log_odds(outputs, index, against)

    def shares(self, evidence: Tensor, values: Tensor, index: Tensor) -> Tensor:
        """Return p_c·r_j, with r_j the share of the prototype inside its class."""
        log_p = torch.log_softmax(self(evidence, values), dim=1)
        log_sums = grouped_logsumexp(evidence, values, self.n_classes)
        return (log_p[:, values] + evidence - log_sums[:, values]).exp()

    def confidence(
        self, outputs: Tensor, values: Tensor, errors: np.ndarray | None = None
    ) -> np.ndarray:
        """Return log p of the true class (n,), −inf if another is predicted."""
        # In float32, all probabilities near 1 are equal.
        log_p = outputs.double().log_softmax(dim=1)
        is_wrong = log_p.argmax(dim=1) != values
        true = log_p.gather(1, values[:, None])[:, 0]
        return true.masked_fill(is_wrong, -torch.inf).numpy()

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
        """Return the biases, not κ.

        On its training texts the learned model is too confident, and fitted to them κ
        would keep that: the expected calibration error of new texts would be .12
        instead of .05 (five grades of sentiment).
        """
        return [self.bias]

    def certain(self, values: Tensor) -> Tensor:
        """Return scores whose softmax is 1 for the class, in float64."""
        scores = torch.full((len(values), self.n_classes), NEVER, dtype=torch.float64)
        return scores.scatter(1, values[:, None].cpu(), 0.0)

    def extended(self, n_outputs: int, positions: Tensor) -> Readout:
        """Return a copy with further classes, whose biases are the mean of its own.

        `positions` (C,) are where its own classes are then.
        """
        readout = ClassReadout(n_outputs, self.sharpness).to(self.bias)
        readout.requires_grad_(False)
        readout.log_concentration.copy_(self.log_concentration)
        readout.bias.fill_(self.bias.mean())
        readout.bias[positions.to(self.bias.device)] = self.bias.detach()
        return readout

    def on_texts(self) -> Readout:
        """Return a copy: biases are recalibrated, and κ stays."""
        return copy.deepcopy(self)

    def fold_into_values(self, values: Tensor) -> Tensor:
        """Return the values."""
        return values
