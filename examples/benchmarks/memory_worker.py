"""One fit, or one bare loop, in a process of its own, for `memory.py`.

It prints the largest memory of the process in bytes, during the steps and in all, and
the processor time per step of the last epoch, in seconds. Linux only.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from encoders import (
    TokenizedTexts,
    has_bf16,
    load_encoder,
    token_vectors,
    training_batches,
)
from linear_head import hidden_size
from tasks import load_task
from torch import nn
from torch.nn import functional as F

from skprotolm import ProtoLMClassifier

SEED = 0
RANK, ALPHA = 8, 16  # as the adapters of the package
CPU = torch.device("cpu")


def peak() -> int:
    """Return the largest resident memory since the last `forget_peak`, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])
    raise OSError("Linux only")


def forget_peak() -> None:
    """Begin to record the largest memory anew."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def make_texts(
    data: Path, n_texts: int, n_sentences: int
) -> tuple[list[str], np.ndarray]:
    """Return texts of several sentences of SST-2 with the same label."""
    task = load_task("sst2", data)
    X, y = [], []
    for label in np.unique(task.y_train):
        sentences = [
            t for t, c in zip(task.X_train, task.y_train, strict=True) if c == label
        ]
        for i in range(n_texts // 2):
            X.append(" ".join(sentences[i * n_sentences : (i + 1) * n_sentences]))
            y.append(label)
    return X, np.array(y)


class Steps:
    """A callback of scikit-learn: the largest memory in the epochs, and before them."""

    def __init__(self) -> None:
        self.peak_of_steps = self.peak_of_fit = 0
        self.started = self.seconds = 0.0

    def setup(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def teardown(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Separate the steps from what was before."""
        self.peak_of_fit = max(self.peak_of_fit, peak())
        forget_peak()
        self.started = time.process_time()

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Separate the steps from what comes after."""
        if context.task_name == "epoch":
            self.seconds = time.process_time() - self.started
            self.peak_of_steps = max(self.peak_of_steps, peak())


def measure_fit(X: list[str], y: np.ndarray, options: dict[str, Any]) -> dict[str, Any]:
    """Fit a classifier."""
    steps = Steps()
    clf = ProtoLMClassifier(device="cpu", random_state=SEED, **options)
    clf.set_callbacks(steps).fit(X, y)
    return {
        "steps": steps.peak_of_steps,
        "fit": max(steps.peak_of_fit, steps.peak_of_steps, peak()),
        "seconds": steps.seconds * clf.batch_size / len(X),
    }


class BareLoop:
    """Forward, backward and a fused AdamW step of the encoder and a linear head.

    Gradients of the parts of a batch are added up.
    """

    def __init__(self, X: list[str], y: np.ndarray, options: dict[str, Any]):
        self.batch_size = options["batch_size"]
        self.n_parts = options["gradient_accumulation_steps"]
        self.n_epochs = options["max_epochs"]
        self.encoder = load_encoder(options["backbone"], None)
        model = transformer_of(self.encoder)
        model.config.use_cache = False
        if self.encoder.tokenizer.pad_token is None:
            self.encoder.tokenizer.pad_token = self.encoder.tokenizer.eos_token
        self.encoder.tokenizer.padding_side = "right"
        freeze(model, options["finetune"])
        if options["gradient_checkpointing"]:
            checkpoint_layers(model)
        self.texts = TokenizedTexts(self.encoder, X)
        self.codes = torch.from_numpy(np.unique(y, return_inverse=True)[1])
        self.head = nn.Linear(hidden_size(self.encoder), 2)
        trained = [p for p in self.encoder.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            [*trained, *self.head.parameters()], lr=5e-5, fused=True
        )

    def step(self, rows: np.ndarray) -> None:
        """Take an optimizer step, part by part."""
        self.optimizer.zero_grad()
        for part in np.array_split(rows, self.n_parts):
            batch = self.texts.batch(part, CPU)
            h = token_vectors(self.encoder, batch, bf16=has_bf16(CPU))
            loss = F.cross_entropy(self.head(h.mean(dim=1)), self.codes[part])
            (loss * len(part) / len(rows)).backward()
        self.optimizer.step()

    def run(self) -> dict[str, Any]:
        """Train for all epochs."""
        before = peak()
        forget_peak()
        self.encoder.train()
        for epoch in range(self.n_epochs):
            rng = np.random.RandomState(epoch)
            batches = training_batches(self.texts.lengths, self.batch_size, rng)
            started = time.process_time()
            for rows in batches:
                self.step(rows)
            seconds = (time.process_time() - started) / len(batches)
        return {"steps": peak(), "fit": max(before, peak()), "seconds": seconds}


def transformer_of(encoder: Any) -> Any:
    """Return the model of transformers."""
    return encoder[0].auto_model


def layers_of(model: Any) -> tuple[str, nn.ModuleList]:
    """Return the name of the list of layers, and the list."""
    n_layers = model.config.num_hidden_layers
    return next(
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == n_layers
    )


def freeze(model: Any, finetune: str | int) -> None:
    """Freeze what `finetune` does not train, and add adapters."""
    if finetune == "full":
        return
    path, layers = layers_of(model)
    model.requires_grad_(False)
    if finetune == "lora":
        add_adapters(model, path)
    else:
        layers[-int(finetune) :].requires_grad_(True)


def add_adapters(model: Any, path: str) -> None:
    """Add adapters in float32 to all matrices of the layers."""
    from peft import LoraConfig, inject_adapter_in_model

    matrices = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.startswith(f"{path}.")
    ]
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=matrices)
    inject_adapter_in_model(config, model)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def checkpoint_layers(model: Any) -> None:
    """Let layers run again in the backward pass; other names from 5.24 on."""
    if not model.supports_gradient_checkpointing:
        raise SystemExit(f"{type(model).__name__} does not support checkpoints")
    enable = getattr(model, "activation_checkpointing_enable", None)
    (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})


def main() -> None:
    """Run what the command line says in JSON."""
    what, data, n_texts, n_sentences, options = map(json.loads, sys.argv[1:])
    torch.manual_seed(SEED)
    warnings.simplefilter("ignore")
    X, y = make_texts(Path(data), n_texts, n_sentences)
    if what == "fit":
        result = measure_fit(X, y, options)
    else:
        result = BareLoop(X, y, options).run()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
