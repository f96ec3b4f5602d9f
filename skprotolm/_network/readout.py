"""The interface of readouts: evidence and values to outputs, loss and contributions.

Letters: B texts, M prototypes, L outputs, C classes. The evidence of a prototype for a
text is log π_j + λ·cos(s, p_j), (B, M).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skprotolm._tasks.units import Unit


class Readout(nn.Module, ABC):
    """How evidence and the values of prototypes make the outputs of a model."""

    unit: Unit  # of the contributions
    loss_name: str  # in `history_`
    n_groups: int  # of prototypes, inside which priors sum to 1
    sharpness: float  # λ of the evidence
    can_be_extended = False  # by outputs, without training: see `ClassReadout`

    @property
    @abstractmethod
    def perplexity(self) -> float:
        """How many texts of a group share the prediction of the median text."""

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return the arguments of `make_readout`."""

    @abstractmethod
    def initialize(
        self, values: Tensor, weights: Tensor, outputs: Callable[[], Tensor]
    ) -> None:
        """Set what training starts from.

        `values`, `weights` and `outputs` (n, L) are those of the training texts;
        outputs are computed if they are needed.
        """

    def align(self, outputs: Tensor, targets: Tensor) -> None:
        """Move the parameters near the optimum of recalibration, by default nothing."""

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
    def explained(
        self, outputs: Tensor, index: Tensor, against: Tensor | None = None
    ) -> Tensor:
        """Return what the token scores sum to, (B,), for one output or two."""

    @abstractmethod
    def shares(self, evidence: Tensor, values: Tensor, index: Tensor) -> Tensor:
        """Return the contribution of each prototype, (B, M)."""

    def confidence(
        self, outputs: Tensor, values: Tensor, errors: np.ndarray | None
    ) -> np.ndarray:
        """Return how reliable training texts are, (n,), −inf if mispredicted.

        Parameters
        ----------
        outputs : Tensor of shape (n, L)
        values : Tensor of shape (n, ...)
            The true values.
        errors : ndarray of shape (n,) or None
            Of a linear prediction that does not know the text; see `linear_values`.
        """
        assert errors is not None  # the task has an `output_weight`
        return -errors

    @abstractmethod
    def on_texts(self) -> Readout:
        """Return a copy for prototypes that are texts."""

    @abstractmethod
    def fold_into_values(self, values: Tensor) -> Tensor:
        """Return the values of learned prototypes with what the readout adds to them.

        What moves into the values is reset.
        """


class CalibratedReadout(Readout):
    """A readout with parameters that are calibrated again once prototypes are texts."""

    @abstractmethod
    def divergence(
        self, outputs: Tensor, targets: Tensor, values: Tensor, weights: Tensor
    ) -> Tensor:
        """Return how far outputs are from target outputs, both (B, L)."""

    @abstractmethod
    def calibrated(self) -> list[nn.Parameter]:
        """Return the parameters that recalibration changes."""


def grouped_logsumexp(x: Tensor, groups: Tensor, n_groups: int) -> Tensor:
    """Return the logsumexp of x (B, M) over each group of its columns, (B, G).

    It is −inf for a group without columns.
    """
    groups = groups.to(x.device)
    if x.shape[1] == n_groups and torch.equal(
        groups, torch.arange(n_groups).to(groups)
    ):
        return x  # each column is a group
    top = x.new_full((len(x), n_groups), -torch.inf)
    top = top.scatter_reduce(1, groups.expand_as(x), x.detach(), "amax")
    top = top.masked_fill(top.isinf(), 0)  # of a group of −inf, or of no columns
    sums = torch.zeros_like(top).index_add(1, groups, (x - top[:, groups]).exp())
    return sums.log() + top


def log_odds(scores: Tensor, index: Tensor, against: Tensor | None = None) -> Tensor:
    """Return the log-odds of class k (B,) from scores (B, C).

    They are log p_k − log(1 − p_k), or log p_k − log p_a against one class a (B,).
    """
    score = scores.gather(1, index[:, None])[:, 0]
    if against is not None:
        return score - scores.gather(1, against[:, None])[:, 0]
    rivals = scores.scatter(1, index[:, None], -torch.inf)
    return score - torch.logsumexp(rivals, dim=1)
