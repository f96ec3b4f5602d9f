"""What of the encoder needs training, and how long, by task and number of texts.

    python examples/benchmarks/layers.py --data FOLDER_OF_CSV_FILES

Accuracy is on development texts. The time is the processor time of a fit, in multiples
of that with the defaults on the same texts. Results are written as they come, and an
interrupted run continues with the missing ones.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
from measuring import ResultFile, Runs, evaluate, interval, table
from tasks import Task, development_task, provenance, shortened

from skprotolm import ProtoLMClassifier

TASKS = ("sst2", "sst5", "banking77", "mrpc", "sick", "rotten_tomatoes")
SIZES = (16, 64, 200, 500, 2000)
SEEDS = (0, 1, 2)
FULL, SHORT = "full", "full, 10 epochs, rate 1e-4, smoothing 0.1"
# What is trained, and its learning rate and epochs in multiples of the default's.
SETTINGS: dict[str, tuple[str | int, float, float]] = {
    FULL: ("full", 1, 1),
    "full, rate x 2": ("full", 2, 1),
    "full, epochs x 2/3, rate x 2": ("full", 2, 2 / 3),
    "full, epochs / 2": ("full", 1, 1 / 2),
    "full, epochs / 2, rate x 3/2": ("full", 3 / 2, 1 / 2),
    "full, epochs / 3, rate x 3/2": ("full", 3 / 2, 1 / 3),
    "full, epochs / 4, rate x 6": ("full", 6, 1 / 4),
    "full, epochs / 2, rate x 2": ("full", 2, 1 / 2),
    "full, epochs / 2, rate x 3": ("full", 3, 1 / 2),
    "full, epochs / 4, rate x 3": ("full", 3, 1 / 4),
    "full, epochs / 3": ("full", 1, 1 / 3),
    "full, epochs / 3, rate x 2": ("full", 2, 1 / 3),
    "full, epochs / 3, rate x 4": ("full", 4, 1 / 3),
    "6": (6, 1, 1),
    "4": (4, 1, 1),
    "4, rate x 2": (4, 2, 1),
    "4, rate x 4": (4, 4, 1),
    "3": (3, 1, 1),
    "3, rate x 2": (3, 2, 1),
    "3, rate x 4": (3, 4, 1),
    "2, rate x 2": (2, 2, 1),
    "2, rate x 4": (2, 4, 1),
    "1, rate x 4": (1, 4, 1),
    "lora": ("lora", 1, 1),
    "lora, epochs / 4, rate x 3": ("lora", 3, 1 / 4),
    "lora, rate / 2": ("lora", 1 / 2, 1),
    "lora, rate / 4": ("lora", 1 / 4, 1),
    "head": ("head", 1, 1),
    "head, epochs / 4": ("head", 1, 1 / 4),
}
RESULTS = ResultFile(
    "layers.csv",
    ("task", "texts", "setting", "seed"),
    ("seconds", "accuracy", "nll", "ece"),
)


def main() -> None:
    """Run what is missing from the results, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--sizes", nargs="+", default=SIZES, type=int)
    names = [*SETTINGS, SHORT]
    parser.add_argument("--settings", nargs="+", default=names, choices=names)
    parser.add_argument("--seeds", nargs="+", default=SEEDS, type=int)
    parser.add_argument("--table", action="store_true", help="only print the table")
    arguments = parser.parse_args()
    for seed in () if arguments.table else arguments.seeds:
        for n_texts in arguments.sizes:
            for name in arguments.tasks:
                task = development_task(name, arguments.data)
                task = shortened(task, n_texts, seed)
                run_missing(name, n_texts, task, seed, arguments.settings)
    print_table(RESULTS.rows())


def run_missing(
    name: str, n_texts: int, task: Task, seed: int, settings: list[str]
) -> None:
    """Run the missing settings of one task, size and seed."""
    for setting in settings:
        if RESULTS.has(name, n_texts, setting, seed):
            continue
        clf = ProtoLMClassifier(random_state=seed)
        if setting == SHORT:
            clf.set_params(max_epochs=10, learning_rate=1e-4, label_smoothing=0.1)
        else:
            finetune, rate, epochs = SETTINGS[setting]
            clf.set_params(
                finetune=finetune,
                learning_rate=rate * default_rate(finetune, n_texts),
                max_epochs=max(1, round(epochs * default_epochs(n_texts))),
            )
        started = time.process_time()
        clf.fit(task.X_train, task.y_train)
        row = {"seconds": round(time.process_time() - started, 1)}
        keys = {"task": name, "texts": n_texts, "setting": setting, "seed": seed}
        RESULTS.add(keys | row | evaluate(clf, task))


def default_rate(finetune: str | int, n_texts: int) -> float:
    """Return what `learning_rate="auto"` stands for with all-MiniLM-L6-v2."""
    rate = 2e-3 if finetune == "lora" else 1e-4
    return rate * min(1, math.sqrt(n_texts / 500))


def default_epochs(n_texts: int) -> int:
    """Return what `max_epochs="auto"` stands for."""
    return max(3, min(40, math.ceil(150 / math.ceil(n_texts / 32))))


def print_table(rows: list[dict[str, str]]) -> None:
    """Print differences to "full" per size, and ratios of times."""
    runs = Runs(rows, "texts", "task", model="setting")
    print(f"\n{provenance()} Seeds {runs.seeds}.\n")
    for n_texts in sorted({row["texts"] for row in rows}, key=int):
        tasks = [t for t in TASKS if runs.values(FULL, "accuracy", n_texts, t)]
        table(f"{n_texts} texts", [*tasks, "mean", "time / full", "NLL", "ECE"])
        for setting in (FULL, SHORT, *list(SETTINGS)[1:]):
            print_setting(runs, n_texts, tasks, setting)
        print()


def print_setting(runs: Runs, n_texts: str, tasks: list[str], setting: str) -> None:
    """Print a row: the figures of "full", or what another setting adds to them.

    Times are compared where both were measured beside the same programs.
    """
    if setting == FULL:
        cells = [runs.mean(FULL, "accuracy", 1, n_texts, task) for task in tasks]
        cells += [runs.mean(FULL, "accuracy", 1, n_texts), "1.00"]
        cells += [runs.mean(FULL, column, 3, n_texts) for column in ("nll", "ece")]
    elif not runs.values(setting, "accuracy", n_texts):
        return
    else:
        differences = [runs.differences(setting, FULL, n_texts, t) for t in tasks]
        cells = [interval(values) for values in differences]
        means = np.array([values.mean() for values in differences if len(values)])
        seconds, of_full = (runs.values(s, "seconds", n_texts) for s in (setting, FULL))
        ratios = [seconds[run] / of_full[run] for run in seconds.keys() & of_full]
        cells += [interval(means), f"{np.median(ratios):.2f}" if ratios else "–"]
        for column in ("nll", "ece"):
            added = runs.differences(setting, FULL, n_texts, column=column)
            cells.append(f"{added.mean():+.3f}")
    print(f"| finetune={setting} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
