"""Early stopping: the best weights by a score on held-out texts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from skprotolm._config import FitConfig
from skprotolm._data.targets import Targets
from skprotolm._network.network import Network
from skprotolm._network.token_vectors import ReadTexts
from skprotolm._processes import ALONE, Processes
from skprotolm._tasks.base import Task
from skprotolm._training.trainer import finite_vectors, trainable_weights


class EarlyStopping:
    """The best weights so far, the untrained ones included.

    Parameters
    ----------
    network : Network
        Whose weights are scored.
    source : ReadTexts
        Of the held-out texts.
    targets : Targets
        Of the held-out texts.
    task : Task
    config : FitConfig
    processes : Processes, default=ALONE
        That score the same weights.
    """

    def __init__(
        self,
        network: Network,
        source: ReadTexts,
        targets: Targets,
        task: Task,
        config: FitConfig,
        processes: Processes = ALONE,
    ):
        self.network = network
        self.source = source
        self.targets = targets
        self.task = task
        self.config = config
        self.processes = processes
        self.score = -float("inf")
        self.n_worse = 0  # epochs since the score last rose
        self.is_best = True  # whether the network has the best weights now
        self.weights: dict[str, Tensor] = {}
        self.vectors = torch.empty(0)  # of the held-out texts, under the best weights

    def update(self, on_batch: Callable[[], None] | None = None) -> float:
        """Score the current weights, and keep them unless others were better.

        Among equal scores the later weights are kept. `on_batch` is called after each
        batch of held-out texts.
        """
        config, targets = self.config, self.targets
        s = finite_vectors(self.network, self.source, config, on_batch)
        with torch.no_grad():
            outputs = self.network.layer.outputs_of(s)
        score = self.task.validation_score(outputs.numpy(), targets)
        score = self.processes.agree(score)
        self.n_worse = 0 if score > self.score else self.n_worse + 1
        self.is_best = score >= self.score
        if self.is_best:
            self.score, self.vectors = score, s
            self.weights = trainable_weights(self.network)
        return score

    @property
    def has_ended(self) -> bool:
        """Whether the score has not risen for `n_iter_no_change` epochs."""
        return self.n_worse >= self.config.n_iter_no_change
