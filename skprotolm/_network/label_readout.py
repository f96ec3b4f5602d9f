"""The readout of several labels.

Letters as in `readout`; L labels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skprotolm._network import losses
from skprotolm._network.readout import CalibratedReadout, Readout, grouped_logsumexp
from skprotolm._tasks.units import LABEL

# Of texts that share a prediction, on both sides.
_PERPLEXITY = 5.0
# κ at the start; 20 overfits (GoEmotions, 1,500 texts, development: log loss 3.01
# instead of 2.75).
_INITIAL_CONCENTRATION = 10.0
_RARE = 1e-6  # the lowest frequency that a bias starts from


class LabelReadout(CalibratedReadout):
    """The log-odds of a label compare the prototypes with it and those without it.

        z_l = (κ_l/λ)·(log Σ_{j with l} e^{g_j} − log Σ_{j without l} e^{g_j}) + b_l

    with the evidence g_j = log π_j + λ·cos(s, p_j). A prototype's value is the
    indicator row of its labels. With κ_l = λ and b_l = 0 the probability is the share
    of the prototypes with the label in a kernel mean (Nadaraya 1964; Watson 1964).

    While prototypes are learned, each stands for one label, and the sum over those
    without it is left out: a text may have several labels, which need not compete.

    Parameters
    ----------
    label_weights : list of L pairs
        Weights in the loss of the texts without a label, and of those with it.
    sharpness : float
        λ.
    of_texts : bool
        Whether prototypes are texts.
    """

    unit = LABEL
    loss_name = "binary_cross_entropy"
    n_groups = 1

    def __init__(
        self,
        label_weights: list[list[float]],
        sharpness: float,
        of_texts: bool = False,
    ):
        super().__init__()
        L = len(label_weights)
        self.label_weights = label_weights
        self.sharpness = float(sharpness)
        self.of_texts = of_texts
        start = torch.full((L,), _INITIAL_CONCENTRATION, dtype=torch.float64).log()
        self.bias = nn.Parameter(torch.zeros(L, dtype=torch.float64))
        self.log_concentration = nn.Parameter(start)

    @property
    def perplexity(self) -> float:
        """The perplexity of shares."""
        return _PERPLEXITY

    def options(self) -> dict[str, Any]:
        """Return the kind, the weights, the sharpness λ and what prototypes are."""
        return {
            "kind": "labels",
            "label_weights": self.label_weights,
            "sharpness": self.sharpness,
            "of_texts": self.of_texts,
        }

    def initialize(
        self, values: Tensor, weights: Tensor, outputs: Callable[[], Tensor]
    ) -> None:
        """Set b_l so that the mean log-odds are those of the label's frequency."""
        scores = outputs()
        sides = self._weights(scores, values) * weights[:, None]
        positive = (sides * values).sum(dim=0)
        frequencies = (positive / sides.sum(dim=0)).clamp(_RARE, 1 - _RARE)
        self.align(scores, frequencies.logit()[None])

    def align(self, outputs: Tensor, targets: Tensor) -> None:
        """Move b_l so that the means of outputs (B, L) are those of targets."""
        with torch.no_grad():
            self.bias.add_((targets.mean(dim=0) - outputs.mean(dim=0)).to(self.bias))

    def groups(self, values: Tensor) -> Tensor:
        """Return one group for all."""
        return torch.zeros(len(values), dtype=torch.int64, device=values.device)

    def forward(self, evidence: Tensor, values: Tensor) -> Tensor:
        """Return the log-odds z (B, L)."""
        log_sums = label_logsumexp(evidence, values)
        if self.of_texts:
            log_sums = log_sums - label_logsumexp(evidence, ~values)
        scale = self.log_concentration.to(evidence).exp() / self.sharpness
        return scale * log_sums + self.bias.to(evidence)

    def loss(
        self, outputs: Tensor, values: Tensor, weights: Tensor, smoothing: float
    ) -> Tensor:
        """Return the binary cross-entropy, summed over labels."""
        values = values.to(outputs.device)
        sides = self._weights(outputs, values)
        return losses.binary_cross_entropy(outputs, values, weights, sides, smoothing)

    def _weights(self, like: Tensor, values: Tensor) -> Tensor:
        """Return the weight of each label of each text, (B, L)."""
        without, with_label = torch.tensor(self.label_weights).to(like).T
        return torch.where(values, with_label, without)

    def default_index(self, outputs: Tensor) -> Tensor:
        """Return the most probable label."""
        return outputs.argmax(dim=1)

    def explained(
        self, outputs: Tensor, index: Tensor, against: Tensor | None = None
    ) -> Tensor:
        """Return the log-odds of a label."""
        return outputs.gather(1, index[:, None])[:, 0]

    def shares(self, evidence: Tensor, values: Tensor, index: Tensor) -> Tensor:
        """Return p·r_j of prototypes with the label, and (1 − p)·r_j of the others.

        r_j is the share of the prototype among those of its side.
        """
        z = self.explained(self(evidence, values), index)
        has_label = values.T[index]  # (B, M)
        shares = torch.zeros_like(evidence)
        for side, log_odds in ((has_label, z), (~has_label, -z)):
            inside = evidence.masked_fill(~side, -torch.inf).log_softmax(dim=1)
            log_p = F.logsigmoid(log_odds)[:, None]
            shares = torch.where(side, (log_p + inside).exp(), shares)
        return shares

    def divergence(
        self, outputs: Tensor, targets: Tensor, values: Tensor, weights: Tensor
    ) -> Tensor:
        """Return Σ_b w_b·Σ_l KL(targets ‖ outputs) / B."""
        p = targets.sigmoid()
        gaps = p * (F.logsigmoid(targets) - F.logsigmoid(outputs))
        gaps = gaps + (1 - p) * (F.logsigmoid(-targets) - F.logsigmoid(-outputs))
        return (weights * gaps.sum(dim=1)).mean()

    def calibrated(self) -> list[nn.Parameter]:
        """Return the biases and concentrations.

        On their training texts, compared with other texts, labels are less certain than
        the learned model is, so that κ falls, and rankings across labels are better
        (GoEmotions, 1,500 texts, development: average precision .523, with biases alone
        .508).
        """
        return [self.bias, self.log_concentration]

    def on_texts(self) -> Readout:
        """Return a copy that compares the prototypes with and without a label."""
        readout = copy.deepcopy(self)
        readout.of_texts = True
        return readout

    def fold_into_values(self, values: Tensor) -> Tensor:
        """Return the values."""
        return values


def label_logsumexp(x: Tensor, values: Tensor) -> Tensor:
    """Return the logsumexp of x (B, M) over the rows of values (M, L), (B, L).

    It is −inf for a label without rows. Prototypes of the same labels are summed first,
    so that the sums of hundreds of labels are one small matrix product.
    """
    sets, ids = torch.unique(values, dim=0, return_inverse=True)
    sums = grouped_logsumexp(x, ids, len(sets))  # (B, K)
    top = sums.detach().amax(dim=1, keepdim=True)
    totals = (sums - top).exp() @ sets.to(sums)
    # Where all prototypes of a label are far below the top one, the exponentials are 0.
    least = torch.finfo(x.dtype).tiny ** 0.9
    is_exact = (totals >= least).all(dim=0)
    log_sums = list((totals.clamp_min(least).log() + top).unbind(dim=1))
    for label in (~is_exact).nonzero().flatten().tolist():
        others = ~sets[None, :, label]
        log_sums[label] = sums.masked_fill(others, -torch.inf).logsumexp(dim=1)
    return torch.stack(log_sums, dim=1)
