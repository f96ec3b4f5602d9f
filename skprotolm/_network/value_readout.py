"""The readout of one number.

Letters as in `readout`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from skprotolm._network import losses
from skprotolm._network.readout import Readout
from skprotolm._tasks.units import VALUE

# On pairs of sentences (SICK, development), 3, 4 and 6 texts have a correlation of
# .874, .875 and .877 with the true values.
_PERPLEXITY = 5.0


class ValueReadout(Readout):
    """The number is a mean of the prototypes' values, weighted by their evidence.

        ŷ = Σ_j r_j v_j,  r = softmax of the evidence over all prototypes

    This is kernel regression (Nadaraya 1964; Watson 1964) with a von Mises-Fisher
    kernel on text vectors. The output is standardized, (ŷ − center) / scale.

    A mean never leaves the range of its values, and those of learned prototypes are
    means themselves. While prototypes are learned the output is therefore shift +
    stretch·mean; once they are texts, both are gone.

    Parameters
    ----------
    center, scale : float
        Mean and standard deviation of the training values.
    sharpness : float
        λ.
    """

    unit = VALUE
    loss_name = "squared_error"
    n_groups = 1

    def __init__(self, center: float, scale: float, sharpness: float):
        super().__init__()
        self.center = center
        self.scale = scale
        self.sharpness = float(sharpness)
        self.shift = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.stretch = nn.Parameter(torch.ones((), dtype=torch.float64))

    @property
    def perplexity(self) -> float:
        """The perplexity of shares."""
        return _PERPLEXITY

    def options(self) -> dict[str, Any]:
        """Return the kind, the standardization and the sharpness λ."""
        return {
            "kind": "value",
            "center": self.center,
            "scale": self.scale,
            "sharpness": self.sharpness,
        }

    def initialize(
        self, values: Tensor, weights: Tensor, outputs: Callable[[], Tensor]
    ) -> None:
        """Keep shift and stretch: outputs are standardized."""

    def groups(self, values: Tensor) -> Tensor:
        """Return one group for all."""
        return torch.zeros(len(values), dtype=torch.int64, device=values.device)

    def standardized(self, values: Tensor, like: Tensor) -> Tensor:
        """Return (value − center) / scale."""
        return ((values.double() - self.center) / self.scale).to(like)

    def forward(self, evidence: Tensor, values: Tensor) -> Tensor:
        """Return the standardized numbers (B, 1)."""
        means = evidence.softmax(dim=1) @ self.standardized(values, evidence)
        return (self.shift.to(means) + self.stretch.to(means) * means)[:, None]

    def loss(
        self, outputs: Tensor, values: Tensor, weights: Tensor, smoothing: float
    ) -> Tensor:
        """Return the squared error of standardized numbers."""
        true = self.standardized(values, outputs)
        return losses.squared_error(outputs[:, 0], true, weights)

    def default_index(self, outputs: Tensor) -> Tensor:
        """Return the only output."""
        return torch.zeros(len(outputs), dtype=torch.int64, device=outputs.device)

    def explained(
        self, outputs: Tensor, index: Tensor, against: Tensor | None = None
    ) -> Tensor:
        """Return the predicted number."""
        return self.center + self.scale * outputs[:, 0]

    def shares(self, evidence: Tensor, values: Tensor, index: Tensor) -> Tensor:
        """Return r_j, which sum to 1."""
        return evidence.softmax(dim=1)

    def on_texts(self) -> Readout:
        """Return a plain mean, without shift and stretch."""
        readout = copy.deepcopy(self)
        readout._reset()
        return readout

    def fold_into_values(self, values: Tensor) -> Tensor:
        """Move shift and stretch into the values of the prototypes."""
        if self.shift == 0 and self.stretch == 1:  # exact values stay as they are
            return values
        means = self.standardized(values, values)
        outputs = self.shift.to(means) + self.stretch.to(means) * means
        self._reset()
        return self.center + self.scale * outputs

    def _reset(self) -> None:
        with torch.no_grad():
            self.shift.zero_()
            self.stretch.fill_(1)
