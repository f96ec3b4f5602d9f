"""Time and memory beside other packages, each side in a process of its own.

    python examples/benchmarks/peers.py --data FOLDER_OF_CSV_FILES --setfit PYTHON

The sides of a comparison run in turn, on the same texts of SST-2 and the same encoder,
with the same precision and number of threads. SetFit needs a separate environment
(``pip install setfit``), and PYTHON is its interpreter; without it, its row is left
out. The time is that of the fit or of the prediction, the memory is the peak of the
whole process.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from encoders import backbone_folder, has_bf16, load_encoder
from few_texts import run_setfit
from tasks import Task, draw, load_task, provenance
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from skprotolm import ProtoLMClassifier

SEED, N_EPOCHS, BATCH_SIZE, LENGTH = 0, 3, 32, 256


def fit_with_trainer(task: Task) -> Callable[[], object]:
    """Prepare a fit of transformers' Trainer: a linear head, all weights trained."""
    folder = backbone_folder(str(ProtoLMClassifier().backbone))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encodings = tokenizer(task.X_train, truncation=True, max_length=LENGTH)
    codes = np.unique(task.y_train, return_inverse=True)[1].tolist()
    data = [
        {"input_ids": ids, "labels": code}
        for ids, code in zip(encodings["input_ids"], codes, strict=True)
    ]
    settings = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=BATCH_SIZE,
        num_train_epochs=N_EPOCHS,
        learning_rate=1e-4,
        bf16=has_bf16(torch.device("cpu")),
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=SEED,
    )
    trainer = Trainer(
        AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2),
        settings,
        train_dataset=data,
        data_collator=DataCollatorWithPadding(tokenizer),
    )
    return trainer.train


def fit_classifier(
    task: Task, finetune: str | int = "full", max_epochs: str | int = N_EPOCHS
) -> Callable[[], object]:
    """Prepare a fit, by default of the same number of epochs."""
    clf = ProtoLMClassifier(
        max_length=LENGTH,
        finetune=finetune,
        batch_size=BATCH_SIZE,
        max_epochs=max_epochs,
        random_state=SEED,
    )
    return lambda: clf.fit(task.X_train, task.y_train)


def predict(task: Task) -> Callable[[], object]:
    """Prepare the prediction of the test texts."""
    clf = ProtoLMClassifier(finetune="head", max_epochs=1, random_state=SEED)
    clf.fit(task.X_train[:200], task.y_train[:200])
    return lambda: clf.predict_proba(task.X_test)


def encode(task: Task) -> Callable[[], object]:
    """Prepare the encoding of the test texts by sentence-transformers."""
    encoder = load_encoder(str(ProtoLMClassifier().backbone), LENGTH)
    return lambda: encoder.encode(task.X_test, batch_size=BATCH_SIZE)


SIDES: dict[str, Callable[[Task], Callable[[], object]]] = {
    "trainer": fit_with_trainer,
    "fit": fit_classifier,
    "fit, 3 layers": lambda task: fit_classifier(task, finetune=3),
    "predict": predict,
    "encode": encode,
}
# Ours, the peer's side, and what the table calls both.
ROWS = (
    ("fit", "trainer", "fit / transformers.Trainer with a linear head"),
    ("fit, 3 layers", "trainer", "fit with finetune=3 / the same Trainer"),
    ("predict", "encode", "predict_proba / SentenceTransformer.encode"),
)


def main() -> None:
    """Print the table, or run one side and print its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--texts", type=int, default=1600)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--setfit", help="an interpreter with SetFit")
    parser.add_argument("--side", choices=SIDES)
    arguments = parser.parse_args()
    task = load_task("sst2", arguments.data)
    X, y = draw(task.X_train, task.y_train, arguments.texts, SEED)
    task = task._replace(X_train=X, y_train=y)
    if arguments.side:
        print(json.dumps(measure(SIDES[arguments.side](task))))
        return
    threads = torch.get_num_threads()
    precision = "bf16" if has_bf16(torch.device("cpu")) else "fp32"
    print(
        f"{provenance()} {len(X)} training texts, {len(task.X_test)} test texts, seed "
        f"{SEED}, {N_EPOCHS} epochs, {threads} threads, training in {precision}.\n"
    )
    print("| | time | peak memory | all times |\n| --- | --- | --- | --- |")
    for ours, peer, title in ROWS:
        print_row(title, *run_in_turn(ours, peer, arguments))
    if arguments.setfit:
        print_setfit(task, arguments)


def measure(run: Callable[[], object]) -> dict[str, float]:
    """Return the seconds of a call, and the peak memory of the process in MB."""
    started = time.perf_counter()
    run()
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "memory": peak}


def run_in_turn(
    ours: str, peer: str, arguments: argparse.Namespace
) -> tuple[list[float], list[float]]:
    """Return ratios of times and of peak memory, ours to the peer's."""
    times, memory = [], []
    for _ in range(arguments.repeats):
        our, their = (run_side(side, arguments) for side in (ours, peer))
        times.append(our["seconds"] / their["seconds"])
        memory.append(our["memory"] / their["memory"])
    return times, memory


def run_side(side: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Run one side in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--data", str(arguments.data)]
    command += ["--texts", str(arguments.texts)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def print_row(title: str, times: list[float], memory: list[float]) -> None:
    """Print one row of the table."""
    each = ", ".join(f"{ratio:.2f}" for ratio in times)
    print(
        f"| {title} | {np.median(times):.2f} | {np.median(memory):.2f} | {each} |",
        flush=True,
    )


def print_setfit(task: Task, arguments: argparse.Namespace) -> None:
    """Print the row of SetFit, with 64 texts per class; its memory is not measured."""
    y, times = task.y_train, []
    few = np.concatenate([np.flatnonzero(y == label)[:64] for label in np.unique(y)])
    small = task._replace(
        X_train=[task.X_train[i] for i in few],
        y_train=y[few],
        X_test=task.X_test[:16],
        y_test=task.y_test[:16],
    )
    for _ in range(arguments.repeats):
        run = fit_classifier(small, max_epochs="auto")
        ours = measure(run)["seconds"]
        times.append(ours / run_setfit(small, SEED, arguments.setfit)["seconds"])
    each = ", ".join(f"{ratio:.2f}" for ratio in times)
    title = "fit / SetFit, 64 texts per class"
    print(f"| {title} | {np.median(times):.2f} | – | {each} |", flush=True)


if __name__ == "__main__":
    main()
