"""New classes: 60 intents of Banking77 are fitted, and 17 added from 20 texts each.

    python examples/benchmarks/tasks_partial_fit.py --data FOLDER_OF_CSV_FILES

`partial_fit` is compared with a new fit of all 77 on the old texts and the 20 texts per
new class, and `warm_start` with one epoch on the same texts is between them. The seed
draws the new classes, too. Results are written as they come, and an interrupted run
continues with the missing ones. `--development` evaluates on a sixth of the training
texts instead, and keeps nothing.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from measuring import ResultFile, Runs, table
from tasks import Task, development_task, load_task, provenance

from skprotolm import ProtoLMClassifier

SEEDS = (0, 1, 2)
N_OLD, TEXTS_PER_NEW_CLASS = 60, 20
TITLES = {
    "before": "60 classes",
    "partial_fit": "`partial_fit` of 17 more",
    "twice": "`partial_fit` of 10 texts each, twice",
    "warm_start": "`warm_start`, one epoch",
    "new fit": "new fit",
}
MEASURES = ("old", "new", "old_as_new", "new_as_old", "nll_old", "prototypes")
RESULTS = ResultFile("tasks_partial_fit.csv", ("model", "seed"), ("seconds", *MEASURES))


class Split(NamedTuple):
    """Texts of old and of new classes; tests have both."""

    old: tuple[list, np.ndarray]
    new: tuple[list, np.ndarray]
    test: tuple[list, np.ndarray]
    is_new: np.ndarray  # of the tests

    @property
    def both(self) -> tuple[list, np.ndarray]:
        """All training texts."""
        (X, y), (X_new, y_new) = self.old, self.new
        return [*X, *X_new], np.concatenate([y, y_new])


def split(task: Task, seed: int) -> Split:
    """Draw the classes that come later, and their texts."""
    rng = np.random.RandomState(seed)
    later = rng.permutation(np.unique(task.y_train))[N_OLD:]
    is_later = np.isin(task.y_train, later)
    drawn = [
        rng.permutation(np.flatnonzero(task.y_train == c))[:TEXTS_PER_NEW_CLASS]
        for c in later
    ]

    def chosen(rows: np.ndarray) -> tuple[list, np.ndarray]:
        return [task.X_train[i] for i in rows], task.y_train[rows]

    return Split(
        chosen(np.flatnonzero(~is_later)),
        chosen(rng.permutation(np.concatenate(drawn))),
        (task.X_test, task.y_test),
        np.isin(task.y_test, later),
    )


def run_seed(parts: Split, seed: int) -> dict[str, dict[str, float]]:
    """Run all models of a seed, which start from the same fit."""
    clf = ProtoLMClassifier(random_state=seed)
    rows = {"before": measured(parts, clf, lambda clf: clf.fit(*parts.old))}
    rows["partial_fit"] = measured(
        parts, copy.copy(clf), lambda clf: clf.partial_fit(*parts.new)
    )
    rows["twice"] = measured(parts, copy.copy(clf), lambda clf: in_halves(clf, parts))
    warm = copy.copy(clf).set_params(warm_start=True, max_epochs=1)
    rows["warm_start"] = measured(parts, warm, lambda clf: clf.fit(*parts.both))
    cold = ProtoLMClassifier(random_state=seed)
    rows["new fit"] = measured(parts, cold, lambda clf: clf.fit(*parts.both))
    return rows


def in_halves(clf: ProtoLMClassifier, parts: Split) -> None:
    """Add half of the texts of each new class, and then the other half."""
    X, y = parts.new
    ranks = np.empty(len(y), int)
    for label in np.unique(y):
        ranks[y == label] = np.arange((y == label).sum())
    for half in (0, 1):
        rows = np.flatnonzero(ranks % 2 == half)
        clf.partial_fit([X[i] for i in rows], y[rows])


def measured(
    parts: Split, clf: ProtoLMClassifier, learn: Callable[[Any], Any]
) -> dict[str, float]:
    """Time what a model learns, and evaluate it on the test texts."""
    started = time.perf_counter()
    learn(clf)
    seconds = time.perf_counter() - started
    X, y = parts.test
    probabilities, is_new = clf.predict_proba(X), parts.is_new
    predicted = clf.classes_[probabilities.argmax(axis=1)]
    correct = 100 * (predicted == y)
    new_classes = np.isin(predicted, np.unique(y[is_new]))
    rows = np.flatnonzero(~is_new)
    columns = np.searchsorted(clf.classes_, y[rows])
    row = {
        "old": correct[~is_new].mean(),
        "new": correct[is_new].mean(),
        "old_as_new": 100 * new_classes[~is_new].mean(),
        "new_as_old": 100 * (~new_classes)[is_new].mean(),
        "nll_old": -np.log(np.maximum(probabilities[rows, columns], 1e-12)).mean(),
        "prototypes": len(clf.prototypes_),
    }
    rounded = {name: float(f"{value:.6g}") for name, value in row.items()}
    return {"seconds": round(seconds, 2)} | rounded


def main() -> None:
    """Run what is missing from the results, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--seeds", nargs="+", default=SEEDS, type=int)
    parser.add_argument("--development", action="store_true")
    parser.add_argument("--table", action="store_true", help="only print the table")
    arguments = parser.parse_args()
    load = development_task if arguments.development else load_task
    for seed in () if arguments.table else arguments.seeds:
        if arguments.development or not RESULTS.has("new fit", seed):
            rows = run_seed(split(load("banking77", arguments.data), seed), seed)
            for model, row in rows.items():
                print(model, seed, row, flush=True)
                if not arguments.development:
                    RESULTS.add({"model": model, "seed": seed} | row)
    if not arguments.development:
        print_table(RESULTS.rows())


def print_table(rows: list[dict[str, str]]) -> None:
    """Print means over seeds as Markdown, and the ratios that matter."""
    runs = Runs(rows)
    print(f"\n{provenance()} Seeds {runs.seeds}.\n")
    titles = ["time / new fit", "old classes, %", "new classes, %"]
    titles += ["old as new, %", "new as old, %", "NLL of old", "prototypes"]
    table("Banking77, 60 + 17 classes", titles)
    for model, title in TITLES.items():
        cells = [ratio(runs, model, "seconds", 3)]
        cells += [runs.mean(model, m, 1) for m in MEASURES[:4]]
        cells += [runs.mean(model, "nll_old", 3), runs.mean(model, "prototypes", 0)]
        print(f"| {title} | {' | '.join(cells)} |")
    for model in ("partial_fit", "twice", "warm_start"):
        loss = runs.differences(model, "before", column="old")
        print(
            f"\n{TITLES[model]}: old classes {loss.mean():+.2f} points against before "
            f"(worst seed {loss.min():+.2f}); new classes reach "
            f"{ratio(runs, model, 'new', 3)} of the new fit's accuracy."
        )


def ratio(runs: Runs, model: str, column: str, digits: int) -> str:
    """Format the mean ratio of a column to that of the new fit."""
    ours, theirs = (runs.values(m, column) for m in (model, "new fit"))
    ratios = [ours[key] / theirs[key] for key in ours.keys() & theirs]
    return f"{np.mean(ratios):.{digits}f}" if ratios else "–"


if __name__ == "__main__":
    main()
