"""When to say nothing: novelty against foreign texts, and accuracy against coverage.

    python examples/benchmarks/abstention.py --data FOLDER_OF_CSV_FILES

Both classifiers train on the same 90 % of the training texts. The other 10 % set the
threshold above which a text is refused, so that 5 % of texts like them would be.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from linear_head import LinearHeadClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from tasks import Task, load_task, provenance

from skprotolm import ProtoLMClassifier
from skprotolm._classifier import _conformal_threshold as threshold

RATE = 0.05
COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)
N_HELD_OUT_INTENTS = 20


class Setting(NamedTuple):
    """What is learned, and what is foreign to it."""

    title: str
    task: Task
    foreign: list[str]


class Judged(NamedTuple):
    """What one way to refuse texts says: high where it would rather not answer."""

    title: str
    held_out: np.ndarray
    known: np.ndarray
    foreign: np.ndarray
    right: np.ndarray  # whether each known text is classified rightly


def other_domain(data: Path) -> Setting:
    """Film reviews, and questions to a bank."""
    banking = load_task("banking77", data)
    return Setting(
        "SST-2 against Banking77", load_task("sst2", data), banking.X_test[:2000]
    )


def other_intents(data: Path, seed: int) -> Setting:
    """Questions to a bank of some intents, and of others that nobody trained on."""
    task = load_task("banking77", data)
    labels = np.unique(task.y_train)
    rng = np.random.RandomState(seed)
    held_out = rng.choice(labels, N_HELD_OUT_INTENTS, replace=False)
    train, test = (~np.isin(y, held_out) for y in (task.y_train, task.y_test))
    known = Task(
        [x for x, use in zip(task.X_train, train, strict=True) if use],
        task.y_train[train],
        [x for x, use in zip(task.X_test, test, strict=True) if use],
        task.y_test[test],
    )
    foreign = [x for x, use in zip(task.X_test, test, strict=True) if not use]
    title = f"Banking77, {N_HELD_OUT_INTENTS} of its intents held out"
    return Setting(title, known, foreign)


def judge(setting: Setting, seed: int) -> list[Judged]:
    """Fit both classifiers, and let each way judge the texts."""
    task = setting.task
    X_train, X_held_out, y_train, _ = train_test_split(
        task.X_train, task.y_train, test_size=0.1, stratify=task.y_train, random_state=0
    )
    ours = ProtoLMClassifier(random_state=seed)
    linear = LinearHeadClassifier(ours).fit(X_train, y_train)
    ours.fit(X_train, y_train)
    groups = (X_held_out, task.X_test, setting.foreign)

    def unsure(clf: Any) -> Callable[[list], np.ndarray]:
        return lambda X: 1 - clf.predict_proba(X).max(axis=1)

    def by(
        title: str, score: Callable[[list], np.ndarray], right: np.ndarray
    ) -> Judged:
        held_out, known, foreign = map(score, groups)
        return Judged(title, held_out, known, foreign, right)

    right = ours.predict(task.X_test) == task.y_test
    linear_right = linear.predict(task.X_test) == task.y_test
    return [
        by("prototypes: novelty score", ours.novelty_score, right),
        by("prototypes: 1 − highest probability", unsure(ours), right),
        by("linear head: 1 − highest probability", unsure(linear), linear_right),
    ]


def figures(judged: Judged) -> list[float]:
    """Return AUROC, both rates of refusal, and accuracies at each coverage, in %."""
    cut = threshold(judged.held_out, RATE)
    is_foreign = np.repeat([0, 1], [len(judged.known), len(judged.foreign)])
    auroc = roc_auc_score(is_foreign, np.append(judged.known, judged.foreign))
    order = np.argsort(judged.known, kind="stable")
    accuracies = [
        judged.right[order[: round(c * len(order))]].mean() for c in COVERAGES
    ]
    refused = [(part > cut).mean() for part in (judged.known, judged.foreign)]
    return [auroc, *(100 * x for x in (*refused, *accuracies))]


def print_table(setting: Setting, runs: list[list[Judged]]) -> None:
    """Print means over the seeds, one row a way to refuse."""
    covered = " | ".join(f"{100 * c:.0f} %" for c in COVERAGES)
    n_known, n_foreign = len(setting.task.X_test), len(setting.foreign)
    print(f"\n{setting.title} ({n_known} known, {n_foreign} foreign test texts):\n")
    print(f"| | AUROC | known refused | foreign refused | {covered} |")
    print("| --- |" + " --- |" * (3 + len(COVERAGES)))
    for way in zip(*runs, strict=True):
        auroc, *shares = np.mean([figures(judged) for judged in way], axis=0)
        cells = " | ".join(f"{share:.1f}" for share in shares)
        print(f"| {way[0].title} | {auroc:.3f} | {cells} |", flush=True)


def main() -> None:
    """Print a table a setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    seeds = arguments.seeds
    print(f"{provenance()} Seeds {seeds}; % but for AUROC. The last columns are the")
    print("accuracy on the known texts that are least refused, that share of them.")
    data = arguments.data
    for settings in (
        [other_domain(data)] * len(seeds),
        [other_intents(data, seed) for seed in seeds],
    ):
        runs = [judge(*pair) for pair in zip(settings, seeds, strict=True)]
        print_table(settings[0], runs)


if __name__ == "__main__":
    main()
