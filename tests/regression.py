"""A readout and a task of numbers: what a regressor adds to the package."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from skprotolm._network.readout import Readout
from skprotolm._tasks.base import Task
from skprotolm._tasks.units import Unit


class NumberReadout(Readout):
    """The mean of the prototypes' numbers, weighted by their shares."""

    unit = Unit(
        name="value",
        noun="contribution",
        is_percentage=False,
        total="value",
        sums_target_only=False,
        bias="bias",
        has_token_sums=True,
        reason="from",
        reason_if_unlike="",
        similarity="cosine {:.2f}",
        axis_label="part of the value",
        table_caption="Training texts, and what each adds to the value",
        table_caption_if_unlike="Nearest training texts, and what each adds",
    )
    loss_name = "squared_error"
    n_groups = 1

    def options(self):
        return {"kind": "numbers"}

    def initialize(self, values, weights):
        pass

    def groups(self, values):
        return torch.zeros(len(values), dtype=torch.long)

    def forward(self, evidence, values):
        return evidence.softmax(dim=1) @ values[:, None].to(evidence)

    def loss(self, outputs, values, weights, smoothing):
        return (weights * (outputs[:, 0] - values).square()).mean()

    def default_index(self, outputs):
        return torch.zeros(len(outputs), dtype=torch.long)

    def explained(self, outputs, index, against=None):
        return outputs.gather(1, index[:, None])[:, 0]

    def shares(self, evidence, values, index):
        return evidence.softmax(dim=1) * values.to(evidence)

    def confidence(self, outputs, values):
        return -(outputs[:, 0] - values).abs()

    def divergence(self, outputs, targets, values, weights):
        return (weights * (outputs - targets)[:, 0].square()).mean()

    def calibrated(self):
        return []


@dataclass(frozen=True)
class NumberTask(Task):
    """One number per text; strata are negative and other numbers."""

    readout = "numbers"
    n_outputs = 1
    strata = ("negative", "other")

    def own_mask(self, values, prototype_values):
        return abs(values[:, None] - prototype_values[None, :]) <= 1

    def score(self, outputs, values, weights):
        return -float(np.average((outputs[:, 0] - values) ** 2, weights=weights))

    def decode(self, outputs):
        return outputs[:, 0]

    def labels(self, values):
        return values

    def strata_of(self, values):
        return (values >= 0).astype(np.int64)

    def encode(self, labels, name, n=None):
        return np.asarray(labels, dtype=np.float32)

    def target_index(self, target, n, name="target"):
        return np.zeros(n, dtype=np.int64)

    def require_prototypes(self, values, action):
        pass

    def never_predicted(self, outputs, values):
        return []

    def describe(self, outputs, index, against):
        return [{"prediction": float(output)} for output in outputs[:, 0]]
