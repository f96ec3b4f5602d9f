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
from pathlib import Path
from typing import Any

import numpy as np
from linear_head import LinearHeadClassifier
from measuring import (
    JUDGED,
    ResultFile,
    Runs,
    interval,
    judge,
    judge_probabilities,
    table,
)
from sklearn.metrics import recall_score
from sklearn.neighbors import NearestNeighbors
from tasks import Task, draw, load_task, provenance, shortened

from skprotolm import ProtoLMClassifier
from skprotolm._data.texts import as_texts
from skprotolm._fitted import fitted_model
from skprotolm._network.encoder import frozen_vectors
from skprotolm._report.doubtful_labels import label_support
from skprotolm._report.predictions import labeled_predictions

SEEDS = (0, 1, 2)
N_TRAINING, N_TEST = 2500, 2000
RARE_TASK, RARE_LABEL = "sst2", "1"
NOISY_TASKS = ("sst2", "banking77")
MODELS = ("linear head", "mixture")
FROZEN = "frozen neighbours"  # of whom the labels alone are asked
RATIOS, SHARES = (1, 10, 100), (0.0, 0.1, 0.2)
KEYS = ("task", "change", "class_weight", "model", "seed")
RESULTS = ResultFile(
    "robustness.csv", KEYS, (*JUDGED, "balanced", "rare_recall", "found")
)


def thinned(y: np.ndarray, ratio: int, n: int, seed: int) -> np.ndarray:
    """Draw n rows or fewer with one of the rare class for `ratio` of the other."""
    rng = np.random.RandomState(seed)
    rare = rng.permutation(np.flatnonzero(y == RARE_LABEL))
    other = rng.permutation(np.flatnonzero(y != RARE_LABEL))
    n_other = min(len(other), round(n * ratio / (ratio + 1)))
    return np.sort(np.append(other[:n_other], rare[: max(2, n_other // ratio)]))


def flipped(y: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Replace a share of the labels by others, at random; return which, too."""
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
    parser.add_argument("--table", action="store_true", help="print, run nothing")
    arguments = parser.parse_args()
    if not arguments.table:
        for seed in arguments.seeds:
            run_missing(arguments.data, seed)
    print_tables(RESULTS.rows())


def run_missing(data: Path, seed: int) -> None:
    """Run what is missing of one seed."""
    for ratio in RATIOS:
        for weight in (None, "balanced"):
            run_rare(load_task(RARE_TASK, data), ratio, weight, seed)
    for name in NOISY_TASKS:
        task = shortened(load_task(name, data), N_TRAINING, seed)
        X_test, y_test = draw(task.X_test, task.y_test, N_TEST, 0)
        for share in SHARES:
            run_noisy(name, task._replace(X_test=X_test, y_test=y_test), share, seed)


def make(model: str, weight: str | None, seed: int) -> Any:
    """Make one of the two models."""
    clf = ProtoLMClassifier(class_weight=weight, random_state=seed)
    return LinearHeadClassifier(clf) if model == MODELS[0] else clf


def run_rare(task: Task, ratio: int, weight: str | None, seed: int) -> None:
    """Fit both models where one class is rare.

    They are judged on test texts as unequal, and recalls are those on all test texts.
    """
    rows = thinned(task.y_train, ratio, N_TRAINING, seed)
    kept = thinned(task.y_test, ratio, len(task.y_test), seed)
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
        figures = judge_probabilities(p[kept], fitted.classes_, task.y_test[kept])
        figures["balanced"] = round(100 * float(recalls.mean()), 3)
        of_rare = recalls[np.unique(task.y_test) == RARE_LABEL]
        figures["rare_recall"] = round(100 * float(of_rare[0]), 3)
        RESULTS.add(dict(zip(KEYS, key, strict=True)) | figures)


def run_noisy(name: str, task: Task, share: float, seed: int) -> None:
    """Fit both models on labels some of which are wrong, and search for these."""
    y, wrong = flipped(task.y_train, share, seed)
    for model in (*MODELS, FROZEN):
        key = (name, f"{share:.0%} wrong", "None", model, seed)
        if RESULTS.has(*key) or (model == FROZEN and not share):
            continue
        codes = np.unique(y, return_inverse=True)[1]
        figures: dict[str, float] = {}
        if model == FROZEN:
            vectors = frozen_vectors(ProtoLMClassifier().backbone, task.X_train)
            doubt = doubt_of_neighbours(vectors, codes)
        else:
            fitted = make(model, None, seed).fit(task.X_train, y)
            figures |= judge(fitted, task)
            doubt = doubt_of(fitted, task, codes)
        if share:
            figures["found"] = found(doubt, wrong)
        RESULTS.add(dict(zip(KEYS, key, strict=True)) | figures)


def doubt_of(fitted: Any, task: Task, codes: np.ndarray) -> np.ndarray:
    """Doubt a label as the classifier's report does, or else as the model does."""
    at = np.arange(len(codes))
    if not isinstance(fitted, ProtoLMClassifier):
        return 1 - fitted.predict_proba(task.X_train)[at, codes]
    texts = as_texts(task.X_train)
    predictions = labeled_predictions(fitted_model(fitted), texts, codes)
    rows, _, support = label_support(predictions)
    doubt = np.zeros(len(codes))  # a copy's label is doubted where it stands first
    doubt[rows] = 1 - support[at[: len(rows)], codes[rows]]
    return doubt


def doubt_of_neighbours(vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Doubt a label as the ten texts around do, by the share that has another one."""
    search = NearestNeighbors(n_neighbors=10, algorithm="brute").fit(vectors)
    near = search.kneighbors(return_distance=False)
    return (codes[near] != codes[:, None]).mean(axis=1)


def found(doubt: np.ndarray, wrong: np.ndarray) -> float:
    """Return, in %, how many of the first r are wrong, where r are."""
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
            place = (RARE_TASK, f"1 to {ratio}", weight)
            if not runs.values(MODELS[1], "accuracy", *place):
                continue
            cells = [weight, runs.means(MODELS, "accuracy", 1, *place)]
            cells.append(runs.means(MODELS, "ece", 3, *place))
            cells.append(runs.means(MODELS, "balanced", 1, *place))
            cells.append(difference(runs, place, "balanced"))
            cells.append(runs.means(MODELS, "rare_recall", 1, *place))
            print(f"| {RARE_TASK}, 1 to {ratio} | {' | '.join(cells)} |")
    print()
    titles = ["accuracy", "difference", "ECE", "wrong labels found, %"]
    table("linear head / mixture", [*titles, "by frozen neighbours"])
    for name in NOISY_TASKS:
        for share in SHARES:
            place = (name, f"{share:.0%} wrong", "None")
            if not runs.values(MODELS[1], "accuracy", *place):
                continue
            cells = [runs.means(MODELS, "accuracy", 1, *place)]
            cells.append(difference(runs, place, "accuracy"))
            cells.append(runs.means(MODELS, "ece", 3, *place))
            cells.append(runs.means(MODELS, "found", 1, *place))
            cells.append(runs.mean(FROZEN, "found", 1, *place))
            print(f"| {name}, {share:.0%} wrong | {' | '.join(cells)} |")


def difference(runs: Runs, place: tuple[str, ...], column: str) -> str:
    """Write the mixture's paired difference to the linear head."""
    theirs, ours = MODELS
    return interval(runs.gaps(ours, theirs, *place, column=column))


if __name__ == "__main__":
    main()
