"""The training loop: epoch, step and optimiser."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm.auto import tqdm

from skprotolm._config import Settings
from skprotolm._network.batching import training_batches
from skprotolm._network.network import ProtoLM
from skprotolm._network.token_vectors import ReadTexts
from skprotolm._training.formulations import Formulation, Step

_MAX_GRADIENT_NORM = 1.0
# learning_rate="auto": of encoders as wide as MiniLM, on which it was chosen.
_RATE, _WIDTH = 1e-4, 384
_ENOUGH = 500  # texts for the whole rate


@dataclass(frozen=True)
class TrainingSet:
    """The texts that training sees, one entry per text."""

    texts: ReadTexts
    codes: Tensor  # (n,)
    weights: Tensor  # (n,) of mean 1
    pretrained: Tensor  # (n, P), the pretrained encoder's sentence vectors

    def __len__(self) -> int:
        return len(self.codes)


def encoder_rate(learning_rate: Any, hidden_size: int, n_texts: int) -> float:
    """Return the encoder's rate; "auto" falls with the width, as usual rates do.

    It gives 1e-4 up to a width of 384, 5e-5 at 768, and 3.75e-5 at 1024; with fewer
    than 500 texts less, by the root of their number, since what so few say of the
    classes is soon learned by heart.
    """
    if learning_rate != "auto":
        return float(learning_rate)
    fewer = min(1.0, math.sqrt(n_texts / _ENOUGH))
    return _RATE * min(1.0, _WIDTH / hidden_size) * fewer


def make_optimizer(
    encoder: nn.Module, head: nn.Module, settings: Settings
) -> torch.optim.AdamW:
    """Build AdamW with a rate each for encoder and head; the head has no decay."""
    trained = [p for p in encoder.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.ndim > 1]
    vectors = [p for p in trained if p.ndim <= 1]  # biases and norms: no decay
    groups = [
        {"params": matrices, "lr": settings.learning_rate},
        {"params": vectors, "lr": settings.learning_rate, "weight_decay": 0.0},
        {
            "params": list(head.parameters()),
            "lr": settings.head_learning_rate,
            "weight_decay": 0.0,
        },
    ]
    fused = next(head.parameters()).device.type in ("cpu", "cuda")
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        weight_decay=settings.weight_decay,
        fused=fused,
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


class Trainer:
    """All that one training run carries from step to step."""

    def __init__(
        self,
        model: ProtoLM,
        data: TrainingSet,
        formulation: Formulation,
        settings: Settings,
        *,
        n_epochs: int,
        rng: np.random.RandomState,
    ):
        self.model = model
        self.data = data
        self.formulation = formulation
        self.settings = settings
        self.rng = rng
        self.n_steps_taken = 0
        self.steps_an_epoch = math.ceil(len(data) / settings.batch_size)
        self.optimizer = make_optimizer(model.encoder, model.head, settings)
        self.schedule = make_schedule(
            self.optimizer, n_epochs * self.steps_an_epoch, settings.warmup_fraction
        )

    def run_epoch(self, bar: tqdm) -> dict[str, float]:
        """Train on every text once and return the means of the epoch's figures."""
        self.model.train()
        started = time.perf_counter()
        rate = [float(rate) for rate in self.schedule.get_last_lr()]
        totals: dict[str, Tensor] = {}
        lengths = self.data.texts.lengths
        batches = training_batches(lengths, self.settings.batch_size, self.rng)
        for rows in batches:
            for name, value in self._step(rows).items():
                totals[name] = totals.get(name, 0) + value * len(rows)
            bar.update()
        seconds = time.perf_counter() - started
        figures: dict[str, float] = {
            name: float(total) / len(self.data) for name, total in totals.items()
        }
        if not math.isfinite(figures["loss"]):
            raise_diverged(self.settings)
        figures["learning_rate"] = rate[0] if len(rate) > 1 else 0.0
        figures["head_learning_rate"] = rate[-1]
        figures["texts_per_second"] = len(self.data) / seconds
        return figures

    def _step(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Take one optimiser step; return the loss and its unweighted terms."""
        encoder, head = self.model.encoder, self.model.head
        s, output = head(*self.data.texts.read(encoder, rows))
        some = torch.from_numpy(rows)
        codes, weights, pretrained = (
            values[some].to(encoder.device)
            for values in (self.data.codes, self.data.weights, self.data.pretrained)
        )
        step = Step(s, output, codes, weights, pretrained)
        terms = self.formulation.losses(step, head.layer, self.settings)
        loss = torch.stack([weight * term for weight, term in terms.values()]).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self._clip_gradients()
        self.optimizer.step()
        self.schedule.step()
        self.n_steps_taken += 1
        return {
            "loss": loss.detach(),
            **{name: term.detach() for name, (_, term) in terms.items()},
        }

    def _clip_gradients(self) -> None:
        parameters = [
            p for group in self.optimizer.param_groups for p in group["params"]
        ]
        nn.utils.clip_grad_norm_(parameters, _MAX_GRADIENT_NORM)


def raise_diverged(settings: Settings) -> NoReturn:
    """Say that the weights are lost, and what to change."""
    raise ValueError(
        f"Training diverged: the loss or the weights are no longer finite. Use a "
        f"smaller learning_rate (now {settings.learning_rate}) or head_learning_rate "
        f"(now {settings.head_learning_rate}), or less diversity, preservation or "
        f"weight_decay, if these were raised."
    )
