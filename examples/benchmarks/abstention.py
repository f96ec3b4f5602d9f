"""Abstention: out-of-distribution texts, and accuracy against coverage.

    python examples/benchmarks/abstention.py --data FOLDER_OF_CSV_FILES

Both classifiers train on the same 90 % of the training texts. The other 10 % set the
threshold, so that 5 % of texts like these are refused.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from linear_head import LinearHeadClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from tasks import Task, load_task, provenance

from skprotolm import ProtoLMClassifier

RATE = 0.05
COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)
N_HELD_OUT_INTENTS = 20


class Setting(NamedTuple):
    """A task, and texts that are out of its distribution."""

    title: str
    task: Task
    foreign: list[str]


class Scores(NamedTuple):
    """Abstention scores of one method: texts with high scores are refused."""

    title: str
    held_out: np.ndarray
    known: np.ndarray
    foreign: np.ndarray
    correct: np.ndarray  # whether each known text is classified correctly


def other_domain(data: Path) -> Setting:
    """Return film reviews as the task, and questions to a bank as foreign texts."""
    banking = load_task("banking77", data)
    return Setting(
        "SST-2 against Banking77", load_task("sst2", data), banking.X_test[:2000]
    )


def other_intents(data: Path, seed: int) -> Setting:
    """Return questions to a bank; those about held-out intents are foreign texts."""
    task = load_task("banking77", data)
    labels = np.unique(task.y_train)
    rng = np.random.RandomState(seed)
    held_out = rng.choice(labels, N_HELD_OUT_INTENTS, replace=False)
    train, test = (~np.isin(y, held_out) for y in (task.y_train, task.y_test))
    known = Task(
        [x for x, is_known in zip(task.X_train, train, strict=True) if is_known],
        task.y_train[train],
        [x for x, is_known in zip(task.X_test, test, strict=True) if is_known],
        task.y_test[test],
    )
    foreign = [x for x, is_known in zip(task.X_test, test, strict=True) if not is_known]
    title = f"Banking77, {N_HELD_OUT_INTENTS} of its intents held out"
    return Setting(title, known, foreign)


def score_texts(setting: Setting, seed: int) -> list[Scores]:
    """Fit both classifiers and score all texts by each method."""
    task = setting.task
    X_train, X_held_out, y_train, _ = train_test_split(
        task.X_train, task.y_train, test_size=0.1, stratify=task.y_train, random_state=0
    )
    clf = ProtoLMClassifier(random_state=seed)
    linear = LinearHeadClassifier(clf).fit(X_train, y_train)
    clf.fit(X_train, y_train)
    groups = (X_held_out, task.X_test, setting.foreign)

    def uncertainty(model: Any) -> Callable[[list], np.ndarray]:
        return lambda X: 1 - model.predict_proba(X).max(axis=1)

    def scores(title: str, model: Any, score: Callable[[list], np.ndarray]) -> Scores:
        held_out, known, foreign = map(score, groups)
        correct = model.predict(task.X_test) == task.y_test
        return Scores(title, held_out, known, foreign, correct)

    return [
        scores("prototypes: novelty score", clf, clf.novelty_score),
        scores("prototypes: 1 − highest probability", clf, uncertainty(clf)),
        scores("linear head: 1 − highest probability", linear, uncertainty(linear)),
    ]


def threshold(scores: np.ndarray, rate: float) -> float:
    """Return the conformal threshold of any score.

    As `novelty_threshold`, with which a test compares it: the k-th smallest score,
    k = ⌈(n + 1)(1 − rate)⌉.
    """
    rank = math.ceil((len(scores) + 1) * (1 - rate) - 1e-9)
    return float(np.sort(scores)[rank - 1])


def measure(scores: Scores) -> list[float]:
    """Return AUROC, both rates of refusal in %, and accuracy in % per coverage."""
    limit = threshold(scores.held_out, RATE)
    is_foreign = np.repeat([0, 1], [len(scores.known), len(scores.foreign)])
    auroc = roc_auc_score(is_foreign, np.append(scores.known, scores.foreign))
    order = np.argsort(scores.known, kind="stable")
    accuracies = [
        scores.correct[order[: round(c * len(order))]].mean() for c in COVERAGES
    ]
    refused = [(group > limit).mean() for group in (scores.known, scores.foreign)]
    return [auroc, *(100 * x for x in (*refused, *accuracies))]


def print_table(setting: Setting, runs: list[list[Scores]]) -> None:
    """Print means over the seeds, one row per method."""
    coverages = " | ".join(f"{100 * c:.0f} %" for c in COVERAGES)
    n_known, n_foreign = len(setting.task.X_test), len(setting.foreign)
    print(f"\n{setting.title} ({n_known} known, {n_foreign} foreign test texts):\n")
    print(f"| | AUROC | known refused | foreign refused | {coverages} |")
    print("| --- |" + " --- |" * (3 + len(COVERAGES)))
    for method in zip(*runs, strict=True):
        auroc, *rates = np.mean([measure(scores) for scores in method], axis=0)
        cells = " | ".join(f"{rate:.1f}" for rate in rates)
        print(f"| {method[0].title} | {auroc:.3f} | {cells} |", flush=True)


def main() -> None:
    """Print one table per setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    seeds = arguments.seeds
    print(f"{provenance()} Seeds {seeds}; all values but AUROC in %. The last columns")
    print("are the accuracy on the given share of known texts with the lowest scores.")
    data = arguments.data
    for settings in (
        [other_domain(data)] * len(seeds),
        [other_intents(data, seed) for seed in seeds],
    ):
        runs = [score_texts(*pair) for pair in zip(settings, seeds, strict=True)]
        print_table(settings[0], runs)


if __name__ == "__main__":
    main()
