"""Few texts per class: the classifier, a linear head and SetFit, with their times.

    python examples/benchmarks/few_texts.py --data FOLDER --setfit PYTHON

SetFit needs a separate environment (``pip install setfit``), and PYTHON is its
interpreter. All three fine-tune the same encoder on the same texts, one after the
other, with one thread. Results are written as they come, and an interrupted run
continues with the missing ones.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from encoders import backbone_folder
from linear_head import LinearHeadClassifier
from measuring import (
    EVALUATED,
    ResultFile,
    Runs,
    evaluate,
    evaluate_probabilities,
    interval,
    table,
)
from tasks import Task, draw, load_task, provenance

from skprotolm import ProtoLMClassifier
from skprotolm.exceptions import FewerPrototypesWarning

TASKS = ("sst2", "sst5", "rotten_tomatoes")
PER_CLASS = (8, 16, 64)
COMPARED = ("linear", "mixture", "setfit")
SHORT = "mixture, 10 epochs"  # at the rate of many texts
MODELS = (*COMPARED, SHORT)
SEEDS = (0, 1, 2)
MAX_TEST = 2000
WORKER = Path(__file__).parent / "setfit_worker.py"
RESULTS = ResultFile(
    "few_texts.csv", ("task", "per_class", "model", "seed"), ("seconds", *EVALUATED)
)


def main() -> None:
    """Run what is missing from the results, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--setfit", help="an interpreter with SetFit")
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--seeds", nargs="+", default=SEEDS, type=int)
    parser.add_argument("--table", action="store_true", help="only print the table")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.table:
        warnings.simplefilter("ignore", FewerPrototypesWarning)
        run_missing(arguments)
    print_table(RESULTS.rows())


def run_missing(arguments: argparse.Namespace) -> None:
    """Run one seed after another, so that an interrupted run has whole comparisons."""
    models = [m for m in arguments.models if m != "setfit" or arguments.setfit]
    for seed in arguments.seeds:
        for name in arguments.tasks:
            task = load_task(name, arguments.data)
            for n in PER_CLASS:
                small_task = draw_per_class(task, n, seed)
                for model in models:
                    if not RESULTS.has(name, n, model, seed):
                        row = run_one(small_task, model, seed, arguments.setfit)
                        key = {"task": name, "per_class": n, "model": model}
                        RESULTS.add({**key, "seed": seed, **row})


def draw_per_class(task: Task, n: int, seed: int) -> Task:
    """Draw n training texts per class, and the test texts."""
    order = np.random.RandomState(seed).permutation(len(task.X_train))
    rows = np.concatenate(
        [order[task.y_train[order] == label][:n] for label in np.unique(task.y_train)]
    )
    X_test, y_test = draw(task.X_test, task.y_test, MAX_TEST, seed=0)
    return Task([task.X_train[i] for i in rows], task.y_train[rows], X_test, y_test)


def run_one(task: Task, model: str, seed: int, python: str) -> dict[str, float]:
    """Fit one model and evaluate it on the test texts."""
    if model == "setfit":
        return run_setfit(task, seed, python)
    clf = ProtoLMClassifier(random_state=seed)
    if model == SHORT:
        clf.set_params(max_epochs=10, learning_rate=1e-4, label_smoothing=0.1)
    fitted: Any = LinearHeadClassifier(clf) if model == "linear" else clf
    started = time.perf_counter()
    fitted.fit(task.X_train, task.y_train)
    seconds = time.perf_counter() - started
    return {"seconds": round(seconds, 1), **evaluate(fitted, task)}


def run_setfit(task: Task, seed: int, python: str) -> dict[str, float]:
    """Fit SetFit in its environment and evaluate it on the test texts."""
    request = {
        "backbone": backbone_folder(str(ProtoLMClassifier().backbone)),
        "X_train": task.X_train,
        "y_train": task.y_train.tolist(),
        "X_test": task.X_test,
        "seed": seed,
        "threads": torch.get_num_threads(),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "response.json"
        subprocess.run(
            [python, str(WORKER), str(path)],
            input=json.dumps(request),
            text=True,
            check=True,
            capture_output=True,
        )
        response = json.loads(path.read_text(encoding="utf-8"))
    classes = np.unique(task.y_train)
    measures = evaluate_probabilities(
        np.array(response["probabilities"]), classes, task.y_test
    )
    return {"seconds": round(response["seconds"], 1), **measures}


def print_table(rows: list[dict[str, str]]) -> None:
    """Print accuracies, paired differences and times as Markdown."""
    runs = Runs(rows, "task", "per_class").common(COMPARED)
    print(f"\n{provenance()} Seeds {runs.seeds}, where available.\n")
    titles = ["linear head, %", "mixture, %", "SetFit, %"]
    titles += ["mixture − linear head, points", "mixture − SetFit, points"]
    titles += ["10 epochs − mixture, points", "time / SetFit's"]
    titles += ["ECE linear / mixture / SetFit", "runs"]
    table("texts per class", titles)
    for task in [t for t in TASKS if runs.values("linear", "accuracy", t)]:
        for n in map(str, PER_CLASS):
            cells = [runs.mean(m, "accuracy", 1, task, n) for m in COMPARED]
            for other in ("linear", "setfit"):
                cells.append(interval(runs.differences("mixture", other, task, n)))
            cells.append(interval(runs.differences(SHORT, "mixture", task, n)))
            ours, theirs = (
                runs.values(m, "seconds", task, n) for m in ("mixture", "setfit")
            )
            ratios = [ours[key] / theirs[key] for key in ours.keys() & theirs]
            cells.append(f"{np.median(ratios):.2f}" if ratios else "–")
            cells.append(runs.means(COMPARED, "ece", 3, task, n))
            cells.append(str(len(runs.values("mixture", "accuracy", task, n))))
            print(f"| {task}, {n} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
