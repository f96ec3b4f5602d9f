"""Rare classes and wrong labels: the classifier against the linear head.

    python examples/benchmarks/robustness.py --data FOLDER_OF_CSV_FILES

*Rare classes*: one of the two classes of SST-2 is reduced to a tenth and to a hundredth
of the other. *Wrong labels*: a share of the training labels is replaced by other labels
at random. The training texts are then ranked by how doubtful their labels are, and
``found`` is the share of wrong labels among the first r texts if r are wrong. Results
are written as they come, and an interrupted run continues with the missing ones.

A label is doubtful if the model gives it a low probability and if the ten nearest texts
have other labels. Here the nearest texts have similar cosines to all prototypes
(`transform`). The published rows of the mixture were computed with the label audit of
`ProtoLMClassifier.report`, whose nearest texts have similar text vectors.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from encoders import frozen_vectors
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
from sklearn.metrics import recall_score
from sklearn.neighbors import NearestNeighbors
from tasks import Task, draw, load_task, provenance, shortened

from skprotolm import ProtoLMClassifier

SEEDS = (0, 1, 2)
N_TRAINING, N_TEST = 2500, 2000
RARE_TASK, RARE_LABEL = "sst2", "1"
NOISY_TASKS = ("sst2", "banking77")
MODELS = ("linear head", "mixture")
FROZEN = "frozen neighbors"
RANKERS = (*MODELS, FROZEN)  # of labels; the last has no predictions
RATIOS, SHARES = (1, 10, 100), (0.0, 0.1, 0.2)
KEYS = ("task", "change", "class_weight", "model", "seed")
RESULTS = ResultFile(
    "robustness.csv", KEYS, (*EVALUATED, "balanced", "rare_recall", "found")
)


def thinned(y: np.ndarray, ratio: int, n: int, seed: int) -> np.ndarray:
    """Draw at most n rows, one of the rare class per `ratio` of the other."""
    rng = np.random.RandomState(seed)
    rare = rng.permutation(np.flatnonzero(y == RARE_LABEL))
    other = rng.permutation(np.flatnonzero(y != RARE_LABEL))
    n_other = min(len(other), round(n * ratio / (ratio + 1)))
    return np.sort(np.append(other[:n_other], rare[: max(2, n_other // ratio)]))


def flipped(y: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Replace a share of the labels at random, and return which are wrong, too."""
    rng = np.random.RandomState(seed)
    classes, codes = np.unique(y, return_inverse=True)
    wrong = np.zeros(len(y), dtype=bool)
    wrong[rng.permutation(len(y))[: round(share * len(y))]] = True
    steps = rng.randint(1, len(classes), len(y))
    return classes[np.where(wrong, (codes + steps) % len(classes), codes)], wrong


def main() -> None:
    """Run what is missing from the results, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--seeds", nargs="+", default=SEEDS, type=int)
    parser.add_argument("--table", action="store_true", help="only print the tables")
    arguments = parser.parse_args()
    if not arguments.table:
        for seed in arguments.seeds:
            run_missing(arguments.data, seed)
    print_tables(RESULTS.rows())


def run_missing(data: Path, seed: int) -> None:
    """Run the missing results of one seed."""
    for ratio in RATIOS:
        for weight in (None, "balanced"):
            run_rare(load_task(RARE_TASK, data), ratio, weight, seed)
    for name in NOISY_TASKS:
        task = shortened(load_task(name, data), N_TRAINING, seed)
        X_test, y_test = draw(task.X_test, task.y_test, N_TEST, 0)
        for share in SHARES:
            run_noisy(name, task._replace(X_test=X_test, y_test=y_test), share, seed)


def make(model: str, weight: str | None, seed: int) -> Any:
    """Build one of the two models."""
    clf = ProtoLMClassifier(class_weight=weight, random_state=seed)
    return LinearHeadClassifier(clf) if model == MODELS[0] else clf


def run_rare(task: Task, ratio: int, weight: str | None, seed: int) -> None:
    """Fit both models with a rare class.

    Accuracy and calibration are measured on test texts with the same ratio, recall on
    all test texts.
    """
    rows = thinned(task.y_train, ratio, N_TRAINING, seed)
    test_rows = thinned(task.y_test, ratio, len(task.y_test), seed)
    X, y = [task.X_train[i] for i in rows], task.y_train[rows]
    for model in MODELS:
        key = (RARE_TASK, f"1 to {ratio}", weight or "None", model, seed)
        if RESULTS.has(*key):
            continue
        fitted = make(model, weight, seed).fit(X, y)
        p = fitted.predict_proba(task.X_test)
        recalls = recall_score(
            task.y_test, fitted.classes_[p.argmax(axis=1)], average=None
        )
        measures = evaluate_probabilities(
            p[test_rows], fitted.classes_, task.y_test[test_rows]
        )
        measures["balanced"] = round(100 * float(recalls.mean()), 3)
        rare_recall = recalls[np.unique(task.y_test) == RARE_LABEL]
        measures["rare_recall"] = round(100 * float(rare_recall[0]), 3)
        RESULTS.add(dict(zip(KEYS, key, strict=True)) | measures)


def run_noisy(name: str, task: Task, share: float, seed: int) -> None:
    """Fit both models on partly wrong labels, and rank the labels by their doubt."""
    y, wrong = flipped(task.y_train, share, seed)
    for model in RANKERS:
        key = (name, f"{share:.0%} wrong", "None", model, seed)
        if RESULTS.has(*key) or (model == FROZEN and not share):
            continue
        codes = np.unique(y, return_inverse=True)[1]
        measures: dict[str, float] = {}
        if model == FROZEN:
            vectors = frozen_vectors(ProtoLMClassifier().backbone, task.X_train)
            doubt = neighbor_doubt(vectors, codes)
        else:
            fitted = make(model, None, seed).fit(task.X_train, y)
            measures |= evaluate(fitted, task)
            doubt = label_doubt(fitted, task.X_train, codes)
        if share:
            measures["found"] = precision(doubt, wrong)
        RESULTS.add(dict(zip(KEYS, key, strict=True)) | measures)


def label_doubt(fitted: Any, X: list, codes: np.ndarray) -> np.ndarray:
    """Return how doubtful each label is; a linear head uses its probabilities only."""
    doubt = 1 - fitted.predict_proba(X)[np.arange(len(codes)), codes]
    if not isinstance(fitted, ProtoLMClassifier):
        return doubt
    return (doubt + neighbor_doubt(fitted.transform(X), codes)) / 2


def neighbor_doubt(vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return the share of the ten nearest texts with another label."""
    search = NearestNeighbors(n_neighbors=10, algorithm="brute").fit(vectors)
    neighbors = search.kneighbors(return_distance=False)
    return (codes[neighbors] != codes[:, None]).mean(axis=1)


def precision(doubt: np.ndarray, wrong: np.ndarray) -> float:
    """Return the share of wrong labels, in %, among the r most doubtful of r wrong."""
    first = np.argsort(-doubt, kind="stable")[: int(wrong.sum())]
    return round(100 * float(wrong[first].mean()), 3)


def print_tables(rows: list[dict[str, str]]) -> None:
    """Print the two comparisons as Markdown."""
    runs = Runs(rows, *KEYS[:3])
    print(f"\n{provenance()} Seeds {runs.seeds}.\n")
    titles = ["class_weight", "accuracy", "ECE", "balanced accuracy", "difference"]
    table("linear head / mixture", [*titles, "recall of the rare class"])
    for ratio in RATIOS:
        for weight in ("None", "balanced"):
            setting = (RARE_TASK, f"1 to {ratio}", weight)
            if not runs.values(MODELS[1], "accuracy", *setting):
                continue
            cells = [weight, runs.means(MODELS, "accuracy", 1, *setting)]
            cells.append(runs.means(MODELS, "ece", 3, *setting))
            cells.append(runs.means(MODELS, "balanced", 1, *setting))
            cells.append(difference(runs, setting, "balanced"))
            cells.append(runs.means(MODELS, "rare_recall", 1, *setting))
            print(f"| {RARE_TASK}, 1 to {ratio} | {' | '.join(cells)} |")
    print()
    titles = ["accuracy", "difference", "ECE", "wrong labels found, %"]
    table("linear head / mixture", [*titles, "by frozen neighbors"])
    for name in NOISY_TASKS:
        for share in SHARES:
            setting = (name, f"{share:.0%} wrong", "None")
            if not runs.values(MODELS[1], "accuracy", *setting):
                continue
            cells = [runs.means(MODELS, "accuracy", 1, *setting)]
            cells.append(difference(runs, setting, "accuracy"))
            cells.append(runs.means(MODELS, "ece", 3, *setting))
            cells.append(runs.means(MODELS, "found", 1, *setting))
            cells.append(runs.mean(FROZEN, "found", 1, *setting))
            print(f"| {name}, {share:.0%} wrong | {' | '.join(cells)} |")


def difference(runs: Runs, setting: tuple[str, ...], column: str) -> str:
    """Format the paired difference of the mixture to the linear head."""
    linear, mixture = MODELS
    return interval(runs.differences(mixture, linear, *setting, column=column))


if __name__ == "__main__":
    main()
