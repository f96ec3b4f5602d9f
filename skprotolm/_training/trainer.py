"""The training loop: epochs, steps and optimizer, in one state that can be saved."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from skprotolm._config import FitConfig
from skprotolm._network.batching import training_batches
from skprotolm._network.network import Network, text_vectors
from skprotolm._network.prototypes import Batch
from skprotolm._network.token_vectors import ReadTexts
from skprotolm._network.windows import draw_windows
from skprotolm._runtime import device_rng_state, set_device_rng_state
from skprotolm._training.progress import Progress
from skprotolm._training.row_gradients import RowGradients
from skprotolm._training.splits import FitData

_MAX_GRADIENT_NORM = 1.0
_TRAINED_WINDOWS = 4  # of a long text, at most, in each epoch others
_COMPARED = 1024  # texts, or words, of a batch that are compared with each other


class Trainer:
    """One training run, from step to step.

    Parameters
    ----------
    network : Network
        Trained in place.
    data : FitData
    config : FitConfig
        Resolved.
    """

    def __init__(self, network: Network, data: FitData, config: FitConfig):
        self.network = network
        self.data = data
        self.config = config
        self.history: list[dict[str, float]] = []
        self.n_steps = 0  # taken in all
        self.batch = 0  # of the epoch, the next one
        self.totals: dict[str, Any] = {}  # of the epoch's loss and its terms
        self.rates: list[float] = []  # as the epoch began
        self.rng = np.random.RandomState(data.seed)  # as the epoch began
        n_texts = len(data.source.lengths)
        self.steps_per_epoch = math.ceil(n_texts / config.batch_size)
        self.parts_per_pass = math.ceil(n_texts / config.part_size)
        self.optimizer = make_optimizer(network, config)
        n_steps = config.max_epochs * self.steps_per_epoch
        self.schedule = make_schedule(self.optimizer, n_steps, config.warmup_fraction)
        self._vectors: Tensor | None = data.vectors
        self._row_gradients = RowGradients(network.encoder)

    def run_epoch(self, progress: Progress) -> dict[str, float]:
        """Train on every text once, and return the means of the epoch.

        An interrupted epoch is resumed.
        """
        self.network.train()
        self._vectors = None
        started, first = time.perf_counter(), self.batch
        if first == 0:
            self.rates = [float(rate) for rate in self.schedule.get_last_lr()]
        lengths = self.data.source.lengths
        rng = copy.deepcopy(self.rng)
        batches = training_batches(lengths, self.config.batch_size, rng)
        drawn = draw_windows(self.data.source.n_windows, _TRAINED_WINDOWS, rng)
        n_read = sum(map(len, batches[:first]))
        for rows in batches[first:]:
            with self._row_gradients.collected():
                terms = self._step(rows, drawn)
            for name, value in terms.items():
                self.totals[name] = self.totals.get(name, 0) + value * len(rows)
            self.batch += 1
            n_read += len(rows)
            progress.on_step(self.totals["loss"] / n_read)
        seconds = time.perf_counter() - started
        figures = {
            name: float(total) / len(lengths) for name, total in self.totals.items()
        }
        if not math.isfinite(figures["loss"]):
            raise_diverged(self.config)
        figures["learning_rate"] = self.rates[0] if len(self.rates) > 1 else 0.0
        figures["head_learning_rate"] = self.rates[-1]
        figures["texts_per_second"] = sum(map(len, batches[first:])) / seconds
        self.rng, self.batch, self.totals = rng, 0, {}
        return {"epoch": len(self.history) + 1, **figures}

    def _step(
        self, rows: np.ndarray, drawn: dict[int, np.ndarray]
    ) -> dict[str, Tensor]:
        """Take one optimizer step; return the loss and its unweighted terms.

        `drawn` are the windows of long texts that this epoch reads.
        """
        network, targets = self.network, self.data.targets
        self.optimizer.zero_grad()  # first: the forward pass needs the memory
        units, s, output = network(
            self.data.source,
            rows,
            self.config.part_size,
            drawn,
            checkpoints_layers=self.config.checkpoints_layers,
        )
        values = torch.from_numpy(targets.values[units])
        prototype_values = network.layer.values.to(values.device)
        own_mask = self.data.task.own_mask
        batch = Batch(
            s,
            values,
            torch.from_numpy(targets.weights[units]).to(s),
            self.data.pretrained[torch.from_numpy(units)].to(s.device),
            own_mask(values, prototype_values).to(s.device),
            own_mask(values[:_COMPARED], values[:_COMPARED]).to(s.device),
        )
        terms = network.layer.losses(output, batch, self.config)
        loss = torch.stack([weight * term for weight, term in terms.values()]).sum()
        loss.backward()
        self._complete_gradients()
        self.optimizer.step()
        self.schedule.step()
        self.n_steps += 1
        return {
            "loss": loss.detach(),
            **{name: term.detach() for name, (_, term) in terms.items()},
        }

    def _complete_gradients(self) -> None:
        """Average the gradients of all processes, and clip them."""
        self._row_gradients.complete()
        groups = self.optimizer.param_groups
        parameters = [p for group in groups for p in group["params"]]
        self.data.processes.average_gradients(parameters)
        nn.utils.clip_grad_norm_(parameters, _MAX_GRADIENT_NORM)

    def vectors(self, on_batch: Callable[[], None] | None = None) -> Tensor:
        """Return the training texts' vectors (n, H) under the current weights.

        If they are not known, `on_batch` is called after each batch.
        """
        if self._vectors is None:
            self._vectors = finite_vectors(
                self.network, self.data.source, self.config, on_batch
            )
        return self._vectors

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Put trainable weights back, as `trainable_weights` returned them."""
        self.network.load_state_dict(weights, strict=False)
        self._vectors = None

    def state_dict(self) -> dict[str, Any]:
        """Return all that a run needs to continue in another process, bit for bit."""
        return {
            "weights": trainable_weights(self.network),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "random_state": self.rng.get_state(),
            "torch_random_state": device_rng_state(self.network.encoder.device),
            "history": [dict(epoch) for epoch in self.history],
            "n_steps": self.n_steps,
            "batch": self.batch,
            "totals": {name: float(total) for name, total in self.totals.items()},
            "rates": list(self.rates),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of another run of the same fit."""
        self.load_weights(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.rng.set_state(state["random_state"])
        set_device_rng_state(self.network.encoder.device, state["torch_random_state"])
        self.history = [dict(epoch) for epoch in state["history"]]
        self.n_steps, self.batch = state["n_steps"], state["batch"]
        self.totals, self.rates = dict(state["totals"]), list(state["rates"])


def trainable_weights(network: Network) -> dict[str, Tensor]:
    """Return copies of what training changes: trainable weights and buffers."""
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    return {
        name: copy.deepcopy(value)  # modules may have states that are no tensors
        for name, value in network.state_dict().items()
        if name not in frozen
    }


def finite_vectors(
    network: Network,
    texts: ReadTexts,
    config: FitConfig,
    on_batch: Callable[[], None] | None = None,
) -> Tensor:
    """Return text vectors; a last step that ruined the weights shows only here."""
    vectors = text_vectors(network, texts, config.part_size, on_batch)
    if not (vectors.isfinite().all() and network.layer.vectors.isfinite().all()):
        raise_diverged(config)
    return vectors


def make_optimizer(network: Network, config: FitConfig) -> torch.optim.AdamW:
    """Build AdamW with one rate for the encoder and one for the head.

    Biases, norms and the head have no weight decay.
    """
    trained = [p for p in network.encoder.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.ndim > 1]
    biases = [p for p in trained if p.ndim <= 1]
    head = [*network.attention.parameters(), *network.layer.parameters()]
    rate, head_rate = config.learning_rate, config.head_learning_rate
    groups = [
        {"params": matrices, "lr": rate},
        {"params": biases, "lr": rate, "weight_decay": 0.0},
        {"params": head, "lr": head_rate, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        weight_decay=config.weight_decay,
        fused=head[0].device.type in ("cpu", "cuda"),
    )


def make_schedule(
    optimizer: torch.optim.Optimizer, n_steps: int, warmup_fraction: float
) -> LambdaLR:
    """Build a linear warm-up and a linear decay to zero over `n_steps`."""
    warmup = max(1, round(warmup_fraction * n_steps))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return max(0.0, (n_steps - step) / max(1, n_steps - warmup))

    return LambdaLR(optimizer, factor)


def raise_diverged(config: FitConfig) -> NoReturn:
    """Raise an error that names what to change."""
    raise ValueError(
        f"Training diverged: the loss or the weights are no longer finite. Use a "
        f"smaller learning_rate (now {config.learning_rate}) or head_learning_rate "
        f"(now {config.head_learning_rate}), or less diversity, preservation or "
        f"weight_decay, if these were raised."
    )
