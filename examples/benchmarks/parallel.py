"""Seconds per epoch in two processes, against one, with one thread each.

    python examples/benchmarks/parallel.py

Both sides run under torchrun, in turn, on the same texts and global batches. Wall-clock
ratios are those of the table only if two cores are free; the CPU times of a process,
which waiting does not change much, show what the ratio would be then.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from tasks import provenance

from skprotolm import ProtoLMClassifier
from skprotolm.datasets import load_rotten_tomatoes

SEED = 0
EPOCHS = 3  # of which the first is not counted
FINETUNE: dict[str, str | int] = {
    "full": "full",
    "last 3 layers": 3,
    "adapters": "lora",
}


class EpochTimes:
    """A callback that measures the wall-clock and the CPU time of every epoch."""

    def __init__(self) -> None:
        self.times: list[tuple[float, float]] = []

    def setup(self, estimator: Any, context: Any) -> None:
        """Measure nothing yet."""

    teardown = setup

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Start the clocks."""
        self.started = time.perf_counter(), time.process_time()

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Stop the clocks after an epoch."""
        if context.task_name == "epoch":
            wall, cpu = self.started
            self.times.append((time.perf_counter() - wall, time.process_time() - cpu))


def fit(arguments: argparse.Namespace) -> None:
    """Fit in one of the processes, and print the times of its epochs."""
    reviews = load_rotten_tomatoes()
    step = len(reviews.data) // arguments.texts
    X, y = (rows[::step][: arguments.texts] for rows in (reviews.data, reviews.target))
    clf = ProtoLMClassifier(
        finetune=FINETUNE[arguments.finetune],
        batch_size=arguments.batch_size,
        max_epochs=EPOCHS,
        precision="fp32",
        random_state=SEED,
    )
    times = EpochTimes()
    clf.set_callbacks(times).fit(X, y)
    print(json.dumps(times.times[1:]), flush=True)


def launch(n_processes: int, finetune: str) -> tuple[float, float]:
    """Return the median wall-clock and CPU seconds of an epoch, of any process."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    result = subprocess.run(
        [
            *torchrun,
            f"--nproc-per-node={n_processes}",
            __file__,
            *sys.argv[1:],
            "--finetune",
            finetune,
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    # Processes may print at once.
    lines = result.stdout.replace("][", "]\n[").split("\n")
    epochs = [epoch for line in lines if line for epoch in json.loads(line)]
    wall, cpu = (statistics.median(column) for column in zip(*epochs, strict=True))
    return wall, cpu


def measure(finetune: str, repeats: int) -> Iterator[str]:
    """Yield the rows of a way to train: wall-clock and CPU time."""
    runs = [(launch(1, finetune), launch(2, finetune)) for _ in range(repeats)]
    for i, title in enumerate(("wall-clock", "CPU, per process")):
        one, two = ([run[side][i] for run in runs] for side in (0, 1))
        ratios = [b / a for a, b in zip(one, two, strict=True)]
        values = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        medians = (statistics.median(column) for column in (one, two))
        seconds = " | ".join(f"{median:.1f}" for median in medians)
        ratio = statistics.median(ratios)
        yield f"| {finetune}, {title} | {seconds} | {ratio:.2f} | {values} |"


def main() -> None:
    """Print the table, or fit if torchrun has started this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=640)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--finetune", choices=FINETUNE, help="used by the processes")
    arguments = parser.parse_args()
    if arguments.finetune:
        fit(arguments)
        return
    print(
        f"{provenance()} {arguments.texts} sentences of Rotten Tomatoes, seed {SEED}, "
        f"batches of {arguments.batch_size}, {os.cpu_count()} cores with a load of "
        f"{os.getloadavg()[0]:.1f} before.\n"
    )
    print("| seconds per epoch | one process | two | ratio | all |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    for finetune in FINETUNE:
        for row in measure(finetune, arguments.repeats):
            print(row, flush=True)


if __name__ == "__main__":
    main()
