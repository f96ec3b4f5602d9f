"""Rare classes and wrong labels: the classifier beside the linear head.

    python examples/benchmarks/robustness.py --data FOLDER_OF_CSV_FILES

*Rare*: of SST-2's two classes one is thinned out to a tenth and to a hundredth of the
other. *Wrong labels*: a share of the training labels is replaced by another label drawn
at random, and then searched for: how many of the first r training texts of a list are
among the r that were replaced. Results are written as they come, and a run that was
stopped goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from linear_head import LinearHeadClassifier
from measuring import JUDGED, ResultFile, interval, judge, table
from sklearn.metrics import balanced_accuracy_score, recall_score
from sklearn.neighbors import NearestNeighbors
from tasks import Task, draw, load_task, provenance

from skprotolm import ProtoLMClassifier
from skprotolm._encoder import frozen_vectors

SEEDS = (0, 1, 2)
N_TRAINING, N_TEST = 2500, 2000
RARE_TASK, RARE_LABEL = "sst2", "1"
NOISY_TASKS = ("sst2", "banking77")
MODELS = ("linear head", "mixture")
RESULTS = ResultFile(
    "robustness.csv",
    ("task", "change", "model", "class_weight", "seed"),
    (*JUDGED, "balanced", "rare_recall", "found", "found_frozen"),
)


class Change(NamedTuple):
    """One way to spoil a training set, and which rows of it are wrong then."""

    name: str
    apply: Callable[[list, np.ndarray, np.random.RandomState], tuple]


def thinned(ratio: int) -> Change:
    """Keep one text of the rare class for every `ratio` of the other."""

    def apply(X: list, y: np.ndarray, rng: np.random.RandomState) -> tuple:
        rare = rng.permutation(np.flatnonzero(y == RARE_LABEL))
        other = np.flatnonzero(y != RARE_LABEL)
        rows = np.sort(np.append(other, rare[: len(other) // ratio]))
        return [X[i] for i in rows], y[rows], None

    return Change(f"1 to {ratio}", apply)


def flipped(share: float) -> Change:
    """Replace a share of the labels by another one, drawn at random."""

    def apply(X: list, y: np.ndarray, rng: np.random.RandomState) -> tuple:
        classes, codes = np.unique(y, return_inverse=True)
        wrong = np.zeros(len(y), dtype=bool)
        wrong[rng.permutation(len(y))[: round(share * len(y))]] = True
        steps = rng.randint(1, len(classes), len(y))
        codes = np.where(wrong, (codes + steps) % len(classes), codes)
        return X, classes[codes], wrong

    return Change(f"{share:.0%} wrong", apply)


RARE = (thinned(1), thinned(10), thinned(100))
NOISE = (flipped(0.0), flipped(0.1), flipped(0.2))


def main() -> None:
    """Run what is missing from the results, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--seeds", nargs="+", default=SEEDS, type=int)
    parser.add_argument("--table", action="store_true", help="print, run nothing")
    arguments = parser.parse_args()
    if not arguments.table:
        for seed in arguments.seeds:
            run_missing(arguments.data, seed)
    print_tables(RESULTS.rows())


def run_missing(data: Path, seed: int) -> None:
    """Run what is missing of one seed."""
    for change in RARE:
        for weight in (None, "balanced"):
            run_models(RARE_TASK, data, change, weight, seed)
    for name in NOISY_TASKS:
        for change in NOISE:
            run_models(name, data, change, None, seed)


def run_models(
    name: str, data: Path, change: Change, weight: str | None, seed: int
) -> None:
    """Fit the two models on a changed training set, where they have not been."""
    missing = [
        m for m in MODELS if not RESULTS.has(name, change.name, m, weight or "", seed)
    ]
    if not missing:
        return
    X, y, X_test, y_test = load_task(name, data)
    # Thinning starts from all texts, so that the rare class can be as rare as asked.
    X, y = (X, y) if change in RARE else draw(X, y, N_TRAINING, seed)
    X, y, wrong = change.apply(X, y, np.random.RandomState(seed))
    if change in RARE:
        X, y = draw_stratified(X, y, N_TRAINING, seed)
    task = Task(X, y, *draw(X_test, y_test, N_TEST, 0))
    for model in missing:
        clf = ProtoLMClassifier(class_weight=weight, random_state=seed)
        fitted: Any = LinearHeadClassifier(clf) if model == MODELS[0] else clf
        fitted.fit(task.X_train, task.y_train)
        key = {"task": name, "change": change.name, "model": model}
        key |= {"class_weight": weight or "", "seed": seed}
        RESULTS.add(key | measure(fitted, task, wrong))


def draw_stratified(
    X: list, y: np.ndarray, n: int, seed: int
) -> tuple[list, np.ndarray]:
    """Draw n texts with the classes in their proportions, 2 of each at least."""
    rng = np.random.RandomState(seed)
    share = min(1.0, n / len(y))
    kept = []
    for label in np.unique(y):
        mine = rng.permutation(np.flatnonzero(y == label))
        kept.append(mine[: max(2, round(share * len(mine)))])
    rows = np.sort(np.concatenate(kept))
    return [X[i] for i in rows], y[rows]


def measure(fitted: Any, task: Task, wrong: np.ndarray | None) -> dict[str, Any]:
    """Measure a fitted model on the test texts, and how it finds wrong labels."""
    row: dict[str, Any] = judge(fitted, task)
    predicted = fitted.predict(task.X_test)
    row["balanced"] = round(100 * balanced_accuracy_score(task.y_test, predicted), 3)
    if wrong is None:
        recall = recall_score(task.y_test, predicted, pos_label=RARE_LABEL)
        return row | {"rare_recall": round(100 * recall, 3)}
    if not wrong.any():
        return row
    codes = np.searchsorted(fitted.classes_, task.y_train)
    row["found"] = found(doubt_of_model(fitted, task, codes), wrong)
    vectors = frozen_vectors(ProtoLMClassifier().backbone, task.X_train)
    row["found_frozen"] = found(doubt_of_neighbours(vectors, codes), wrong)
    return row


def doubt_of_model(fitted: Any, task: Task, codes: np.ndarray) -> np.ndarray:
    """Doubt a label as much as the model does that was trained on it."""
    p = fitted.predict_proba(task.X_train)
    return 1 - p[np.arange(len(codes)), codes]


def doubt_of_neighbours(vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Doubt a label as the ten texts around do, by the share that has another one."""
    search = NearestNeighbors(n_neighbors=11, algorithm="brute").fit(vectors)
    near = search.kneighbors(vectors, return_distance=False)[:, 1:]
    return (codes[near] != codes[:, None]).mean(axis=1)


def found(doubt: np.ndarray, wrong: np.ndarray) -> float:
    """Return, in %, how many of the first r are wrong, where r are."""
    first = np.argsort(-doubt, kind="stable")[: int(wrong.sum())]
    return round(100 * float(wrong[first].mean()), 3)


def print_tables(rows: list[dict[str, str]]) -> None:
    """Print the two comparisons as Markdown."""
    print(f"\n{provenance()} {N_TRAINING} training texts at most.\n")
    print_rare(rows)
    print_noise(rows)


def print_rare(rows: list[dict[str, str]]) -> None:
    """Print what becomes of a rare class."""
    titles = ["class_weight", "accuracy", "balanced accuracy", "recall of the rare"]
    table("linear head / mixture", [*titles, "ECE", "balanced, difference"])
    for change in RARE:
        for weight in ("", "balanced"):
            runs = Runs(rows, RARE_TASK, change.name, weight)
            cells = [weight or "None"]
            cells += [runs.both(c, 1) for c in ("accuracy", "balanced", "rare_recall")]
            cells += [runs.both("ece", 3), interval(runs.gaps("balanced"))]
            print(f"| {RARE_TASK}, {change.name} | {' | '.join(cells)} |")


def print_noise(rows: list[dict[str, str]]) -> None:
    """Print what wrong labels do, and who finds them."""
    print()
    titles = ["accuracy", "difference", "ECE", "wrong labels found, %"]
    table("linear head / mixture", [*titles, "by frozen neighbours"])
    for name in NOISY_TASKS:
        for change in NOISE:
            runs = Runs(rows, name, change.name, "")
            cells = [runs.both("accuracy", 1), interval(runs.gaps("accuracy"))]
            cells += [runs.both("ece", 3), runs.both("found", 1)]
            cells.append(runs.mean("mixture", "found_frozen", 1))
            print(f"| {name}, {change.name} | {' | '.join(cells)} |")


class Runs:
    """The runs of one row of a table, by model and seed."""

    def __init__(self, rows: list[dict[str, str]], task: str, change: str, weight: str):
        self.rows = {
            (r["model"], r["seed"]): r
            for r in rows
            if (r["task"], r["change"], r["class_weight"]) == (task, change, weight)
        }

    def values(self, model: str, column: str) -> dict[str, float]:
        """Return a column's values by seed."""
        return {
            seed: float(row[column])
            for (m, seed), row in self.rows.items()
            if m == model and row[column]
        }

    def mean(self, model: str, column: str, digits: int) -> str:
        """Write the mean over the seeds."""
        values = list(self.values(model, column).values())
        return f"{np.mean(values):.{digits}f}" if values else "–"

    def both(self, column: str, digits: int) -> str:
        """Write the means of both models."""
        return " / ".join(self.mean(model, column, digits) for model in MODELS)

    def gaps(self, column: str) -> np.ndarray:
        """Return the mixture's paired differences to the linear head."""
        theirs, ours = (self.values(model, column) for model in MODELS)
        return np.array([ours[s] - theirs[s] for s in sorted(ours.keys() & theirs)])


if __name__ == "__main__":
    main()
