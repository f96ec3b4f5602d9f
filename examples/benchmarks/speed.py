"""Speed against the bare encoder: ratios of medians over interleaved runs.

    python examples/benchmarks/speed.py --data FOLDER_OF_CSV_FILES

Every comparison runs both sides in turn on the same texts in the same precision.
A ratio above 1 means that the package is faster than what it is held against, but in
the rows of what costs more than something else (explanations, training the head alone,
long texts, 500 prototypes).
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tasks import load_task, provenance
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from skprotolm import ProtoLMClassifier
from skprotolm._config import check_parameters
from skprotolm._data.targets import encode_targets
from skprotolm._data.texts import Columns
from skprotolm._network.batching import prediction_batches, training_batches
from skprotolm._network.encoder import load_encoder
from skprotolm._runtime import has_bf16, resolve_device, seeded
from skprotolm._training.fit import Hooks, _Fit, prepare_fit
from skprotolm._training.formulations import FORMULATIONS
from skprotolm.exceptions import TextTruncatedWarning

SEED = 0


class BareLoop:
    """Forward, backward and a fused AdamW step of the encoder on the same batches."""

    def __init__(self, X: list[str], codes: np.ndarray, clf: ProtoLMClassifier):
        self.settings = check_parameters(clf, tuple(FORMULATIONS))
        self.device = resolve_device(clf.device)
        self.bf16 = has_bf16(self.device)
        self.encoder = load_encoder(self.settings.backbone, None).to(self.device)
        self.tokenized = self.encoder.tokenize(X)
        self.codes = torch.from_numpy(codes).to(self.device)
        self.head = nn.Linear(self.encoder.hidden_size, int(codes.max()) + 1)
        self.head.to(self.device)
        parameters = [*self.encoder.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, lr=5e-5, fused=True)

    def epoch(self, rng: np.random.RandomState) -> None:
        """Take one optimiser step a batch."""
        self.encoder.train()
        lengths = self.tokenized.lengths
        for rows in training_batches(lengths, self.settings.batch_size, rng):
            batch = self.encoder.tokenizer.collate(self.tokenized, rows).to(self.device)
            h = self.encoder(batch, bf16=self.bf16)
            loss = F.cross_entropy(self.head(h.mean(dim=1)), self.codes[rows])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    def fit(self, n_epochs: int) -> None:
        """Go through the texts some times."""
        for seed in range(n_epochs):
            self.epoch(np.random.RandomState(seed))

    @torch.inference_mode()
    def forward(self, bf16: bool) -> None:
        """Run the encoder over all texts, in batches by length."""
        self.encoder.eval()
        lengths = self.tokenized.lengths
        for rows in prediction_batches(lengths, self.settings.batch_size):
            batch = self.encoder.tokenizer.collate(self.tokenized, rows).to(self.device)
            self.encoder(batch, bf16=bf16)


def timed(run: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def interleave(
    repeats: int, *, warm_up: bool = True, **runs: Callable[[], object]
) -> dict[str, list[float]]:
    """Time calls in turn; short ones after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + warm_up):
        for name, run in runs.items():
            taken = timed(run)
            if repeat >= warm_up:
                seconds[name].append(taken)
    return seconds


def row(title: str, asked: str, ratios: list[float]) -> None:
    """Print one line of the table."""
    values = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"| {title} | {np.median(ratios):.2f} | {asked} | {values} |", flush=True)


def ratios(numerator: list[float], denominator: list[float]) -> list[float]:
    """Divide pair by pair."""
    return [a / b for a, b in zip(numerator, denominator, strict=True)]


def prepared_fit(clf: ProtoLMClassifier, X: list[str], y: np.ndarray) -> _Fit:
    """Return a fit that is ready for its first step."""
    settings = check_parameters(clf, tuple(FORMULATIONS))
    targets = encode_targets(y, len(X), None, None, "speed")
    device = resolve_device(clf.device)
    prepared = prepare_fit(X, Columns.of(X, X), targets, settings, SEED, device)
    return _Fit(prepared, SEED, Hooks(lambda: None, lambda state: False))


def measure_training(X: list[str], y: np.ndarray, repeats: int) -> None:
    """Compare training steps, and the whole fit, with the bare loop."""
    codes = np.unique(y, return_inverse=True)[1]
    clf = ProtoLMClassifier(max_epochs=3, random_state=SEED)
    bare = BareLoop(X, codes, clf)
    fit = prepared_fit(clf, X, y)
    steps = interleave(
        repeats,
        bare=lambda: bare.epoch(np.random.RandomState(SEED)),
        ours=lambda: _epoch(fit),
    )
    row("training steps", "≥ 0.95", ratios(steps["bare"], steps["ours"]))
    whole = interleave(
        max(2, repeats // 2),
        warm_up=False,
        bare=lambda: bare.fit(n_epochs=3),
        ours=lambda: clf.fit(X, y),
    )
    row("whole fit of 3 epochs", "≥ 0.75", ratios(whole["bare"], whole["ours"]))


def _epoch(fit: _Fit) -> None:
    fit.trainer.rng = np.random.RandomState(SEED)
    with tqdm(disable=True) as bar:
        fit.trainer.run_epoch(bar)


def measure_prediction(X: list[str], y: np.ndarray, repeats: int) -> None:
    """Compare prediction with the bare forward pass, explanation with prediction."""
    codes = np.unique(y, return_inverse=True)[1]
    clf = ProtoLMClassifier(max_epochs=1, finetune="head", random_state=SEED).fit(X, y)
    bare = BareLoop(X, codes, clf)
    seconds = interleave(
        repeats,
        bare=lambda: (bare.encoder.tokenize(X), bare.forward(bf16=False)),
        predict=lambda: clf.predict_proba(X),
        explain=lambda: clf.explain(X),
    )
    row("predict_proba", "≥ 0.95", ratios(seconds["bare"], seconds["predict"]))
    row(
        "explain / predict_proba",
        "≤ 1.2",
        ratios(seconds["explain"], seconds["predict"]),
    )


def measure_head(X: list[str], y: np.ndarray, repeats: int) -> None:
    """Compare the fit of the head alone with one pass over the texts."""
    clf = ProtoLMClassifier(
        max_epochs=20, finetune="head", precision="fp32", random_state=SEED
    )
    seconds = interleave(
        max(2, repeats // 2),
        fit=lambda: clf.fit(X, y),
        predict=lambda: clf.predict_proba(X),
    )
    row(
        "head of 20 epochs / predict_proba",
        "≤ 3",
        ratios(seconds["fit"], seconds["predict"]),
    )


def measure_long_texts(X: list[str], y: np.ndarray, repeats: int) -> None:
    """Compare texts of 100 KB with their beginnings, which are all that is read."""
    clf = ProtoLMClassifier(max_epochs=1, finetune="head", random_state=SEED).fit(X, y)
    long = " ".join(X * (1 + 100_000 // sum(map(len, X))))
    rng = np.random.RandomState(SEED)
    texts = [long[start : start + 100_000] for start in rng.randint(1000, size=64)]
    beginnings = [text[:8000] for text in texts]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TextTruncatedWarning)
        seconds = interleave(
            repeats,
            long=lambda: clf.predict_proba(texts),
            short=lambda: clf.predict_proba(beginnings),
        )
    row(
        "predict_proba, 100 KB per text / 8 KB",
        "≤ 1.1",
        ratios(seconds["long"], seconds["short"]),
    )


def measure_prototypes(X: list[str], y: np.ndarray, repeats: int) -> None:
    """Compare the fit with 500 prototypes a class with that of 5."""
    few, many = (
        ProtoLMClassifier(n_prototypes=n, max_epochs=3, random_state=SEED)
        for n in (5, 500)
    )
    seconds = interleave(
        max(2, repeats // 2),
        warm_up=False,
        few=lambda: few.fit(X, y),
        many=lambda: many.fit(X, y),
    )
    row("500 prototypes a class / 5", "≤ 1.1", ratios(seconds["many"], seconds["few"]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--texts", type=int, default=1600)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    task = load_task("sst2", arguments.data)
    X, y = task.X_train[: arguments.texts], task.y_train[: arguments.texts]
    # 500 prototypes a class are to be a part of the texts, not most of them.
    X_many, y_many = task.X_train[:4000], task.y_train[:4000]
    print(
        f"{provenance()} {len(X)} sentences of SST-2, seed {SEED}, "
        f"{torch.get_num_threads()} threads.\n"
    )
    print("| | median ratio | asked | all |\n| --- | --- | --- | --- |", flush=True)
    with seeded(SEED, resolve_device("auto")):
        measure_training(X, y, arguments.repeats)
    measure_prediction(X, y, arguments.repeats)
    measure_head(X, y, arguments.repeats)
    measure_long_texts(X, y, arguments.repeats)
    measure_prototypes(X_many, y_many, arguments.repeats)


if __name__ == "__main__":
    main()
