"""Speed against the bare encoder: medians of ratios over interleaved runs.

    python examples/benchmarks/speed.py --data FOLDER_OF_CSV_FILES

Each comparison runs both sides in turn on the same texts in the same precision. In the
first four rows a ratio above 1 means that the package is faster than the bare loop,
which has loaded its encoder and tokenized the texts before. The other rows are costs:
explanations, training only the head, long texts and 1,000 prototypes.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from encoders import (
    TokenizedTexts,
    has_bf16,
    load_encoder,
    prediction_batches,
    resolve_device,
    token_vectors,
    training_batches,
)
from linear_head import hidden_size
from tasks import load_task, provenance
from torch import nn
from torch.nn import functional as F

from skprotolm import ProtoLMClassifier
from skprotolm.exceptions import TextTruncatedWarning

SEED = 0


class BareLoop:
    """Forward, backward and a fused AdamW step of the encoder on the same batches."""

    def __init__(self, X: list[str], y: np.ndarray, clf: ProtoLMClassifier):
        self.device = resolve_device(clf.device)
        self.bf16 = has_bf16(self.device)
        self.batch_size = clf.batch_size
        self.encoder = load_encoder(clf.backbone, clf.max_length).to(self.device)
        self.texts = TokenizedTexts(self.encoder, X)
        classes, codes = np.unique(y, return_inverse=True)
        self.codes = torch.from_numpy(codes).to(self.device)
        self.head = nn.Linear(hidden_size(self.encoder), len(classes)).to(self.device)
        parameters = [*self.encoder.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, lr=5e-5, fused=True)

    def fit(self, n_epochs: int) -> None:
        """Take one optimizer step per batch, for some epochs."""
        self.encoder.train()
        for seed in range(n_epochs):
            rng = np.random.RandomState(seed)
            for rows in training_batches(self.texts.lengths, self.batch_size, rng):
                batch = self.texts.batch(rows, self.device)
                h = token_vectors(self.encoder, batch, bf16=self.bf16)
                loss = F.cross_entropy(self.head(h.mean(dim=1)), self.codes[rows])
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()

    @torch.inference_mode()
    def predict(self, X: list[str]) -> None:
        """Tokenize texts and run the encoder over them in fp32."""
        self.encoder.eval()
        texts = TokenizedTexts(self.encoder, X)
        for rows in prediction_batches(texts.lengths, self.batch_size):
            batch = texts.batch(rows, self.device)
            token_vectors(self.encoder, batch, bf16=False)


def timed(run: Callable[[], object]) -> float:
    """Return the duration of a call in seconds."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def interleave(
    repeats: int, *, warm_up: bool = True, **runs: Callable[[], object]
) -> dict[str, list[float]]:
    """Time calls in turn, after one untimed round if `warm_up`."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + warm_up):
        for name, run in runs.items():
            duration = timed(run)
            if repeat >= warm_up:
                seconds[name].append(duration)
    return seconds


def row(title: str, target: str, ratios: list[float]) -> None:
    """Print one row of the table."""
    values = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"| {title} | {np.median(ratios):.2f} | {target} | {values} |", flush=True)


def ratios(numerator: list[float], denominator: list[float]) -> list[float]:
    """Divide pair by pair."""
    return [a / b for a, b in zip(numerator, denominator, strict=True)]


def measure_training(
    clf: ProtoLMClassifier, X: list[str], y: np.ndarray, repeats: int
) -> None:
    """Compare the epochs of a fit, and the whole fit, with the bare loop.

    The time of the epochs is computed from the throughput in `history_`.
    """
    bare, n_epochs = BareLoop(X, y, clf), int(clf.max_epochs)
    epoch_seconds: list[float] = []

    def fit() -> None:
        clf.fit(X, y)
        seconds = [len(X) / epoch["texts_per_second"] for epoch in clf.history_]
        epoch_seconds.append(sum(seconds))

    seconds = interleave(
        repeats, warm_up=False, bare=lambda: bare.fit(n_epochs), fit=fit
    )
    row("training steps", "≥ 0.95", ratios(seconds["bare"], epoch_seconds))
    title = f"whole fit of {n_epochs} epochs"
    row(title, "≥ 0.85", ratios(seconds["bare"], seconds["fit"]))


def measure_few_texts(X: list[str], y: np.ndarray, repeats: int) -> None:
    """Compare a short fit of 64 texts with the default's 40 epochs of the bare loop."""
    X, y = X[:64], y[:64]
    clf = ProtoLMClassifier(max_epochs=10, learning_rate=1e-4, random_state=SEED)
    bare = BareLoop(X, y, clf)
    seconds = interleave(repeats, bare=lambda: bare.fit(40), fit=lambda: clf.fit(X, y))
    title = "64 texts, whole fit of 10 epochs, 40 of the bare loop"
    row(title, "≥ 3", ratios(seconds["bare"], seconds["fit"]))


def measure_prediction(X: list[str], y: np.ndarray, repeats: int) -> None:
    """Compare prediction with the bare forward pass, explanation with prediction."""
    clf = ProtoLMClassifier(max_epochs=1, finetune="head", random_state=SEED).fit(X, y)
    bare = BareLoop(X, y, clf)
    seconds = interleave(
        repeats,
        bare=lambda: bare.predict(X),
        predict=lambda: clf.predict_proba(X),
        explain=lambda: clf.explain(X, token_method="decomposition"),
    )
    row("predict_proba", "≥ 0.95", ratios(seconds["bare"], seconds["predict"]))
    row(
        "explain / predict_proba",
        "≤ 1.2",
        ratios(seconds["explain"], seconds["predict"]),
    )


def measure_head(X: list[str], y: np.ndarray, repeats: int) -> None:
    """Compare a fit of the head only with one prediction of its texts."""
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
    """Compare texts of 100 KB with their first 8 KB, which is more than is read."""
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
    """Compare fits with 500 and with 5 prototypes for each of the two classes."""
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
    row("1,000 prototypes / 10", "≤ 1.05", ratios(seconds["many"], seconds["few"]))


ROWS: dict[str, Callable[[list[str], np.ndarray, int], None]] = {
    "training": partial(
        measure_training, ProtoLMClassifier(max_epochs=3, random_state=SEED)
    ),
    "few texts": measure_few_texts,
    "prediction": measure_prediction,
    "head": measure_head,
    "long texts": measure_long_texts,
    "prototypes": measure_prototypes,
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--texts", type=int, default=1600)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    arguments = parser.parse_args()
    task = load_task("sst2", arguments.data)
    X, y = task.X_train[: arguments.texts], task.y_train[: arguments.texts]
    # 1,000 prototypes need more texts.
    X_many, y_many = task.X_train[:4000], task.y_train[:4000]
    print(
        f"{provenance()} {len(X)} sentences of SST-2, seed {SEED}, "
        f"{torch.get_num_threads()} threads.\n"
    )
    print("| | median ratio | target | all |\n| --- | --- | --- | --- |", flush=True)
    torch.manual_seed(SEED)
    for name in arguments.rows:
        texts = (X_many, y_many) if name == "prototypes" else (X, y)
        ROWS[name](*texts, arguments.repeats)


if __name__ == "__main__":
    main()
