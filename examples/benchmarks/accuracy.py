"""Test accuracy, calibration and prototypes on eight tasks, compared with baselines.

    python examples/benchmarks/accuracy.py --data FOLDER_OF_CSV_FILES

The linear head uses the same encoder, texts, batch size, epochs and learning rates as
the classifier. Results are written as they come, and an interrupted run continues with
the missing ones. `--tasks`, `--models` and `--seeds` select a part. `--fitted` keeps
classifiers in a folder, where `explanations.py` finds them.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from encoders import Backbone, frozen_vectors
from linear_head import LinearHeadClassifier
from measuring import (
    DESCRIBED,
    EVALUATED,
    ResultFile,
    Runs,
    describe,
    evaluate,
    interval,
    table,
)
from published import CHOSEN, PAPER, rates, warm_start
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from tasks import Task, load_task, provenance

from skprotolm import ProtoLMClassifier

TASKS = (
    "sst2",
    "sst5",
    "banking77",
    "mrpc",
    "sick",
    "pubmedqa",
    "rotten_tomatoes",
    "imdb",
)
SEEDS = (0, 1, 2)
RESULTS = ResultFile(
    "accuracy.csv", ("task", "model", "seed"), ("seconds", *EVALUATED, *DESCRIBED)
)
PROTOTYPES = ("mixture", "learned", "proto-lm")
TITLES = {
    "linear": "linear head",
    "mixture": "mixture",
    "learned": "mixture, learned vectors",
    "proto-lm": "proto-lm as published, warm start",
    "frozen": "frozen vectors + logistic regression",
    "tfidf": "TF-IDF + logistic regression",
    "prior": "most frequent class",
}
DETERMINISTIC = ("tfidf", "frozen", "prior")  # one run suffices


class FrozenVectors:
    """Logistic regression on the sentence vectors of the frozen encoder."""

    def __init__(self, backbone: Backbone):
        self.backbone = backbone

    def fit(self, X: list, y: np.ndarray) -> FrozenVectors:
        """Encode the texts and choose the regularization by cross-validation."""
        self.model = tuned(LogisticRegression(max_iter=3000), "C", (1, 10, 100))
        self.model.fit(self._features(X), y)
        self.classes_ = self.model.classes_
        return self

    def predict_proba(self, X: list) -> np.ndarray:
        """Return class probabilities (n, C)."""
        return self.model.predict_proba(self._features(X))

    def _features(self, X: list) -> np.ndarray:
        if isinstance(X[0], str):
            return frozen_vectors(self.backbone, X)
        u, v = (
            frozen_vectors(self.backbone, list(half)) for half in zip(*X, strict=True)
        )
        return np.hstack([u, v, np.abs(u - v), u * v])


def tfidf() -> GridSearchCV:
    """Build a logistic regression on TF-IDF of words and word pairs."""
    one_text = FunctionTransformer(
        lambda X: [x if isinstance(x, str) else " ".join(x) for x in X]
    )
    pipeline = make_pipeline(
        one_text,
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        LogisticRegression(max_iter=3000),
    )
    return tuned(pipeline, "logisticregression__C", (1, 10, 100))


def tuned(model: Any, parameter: str, values: tuple[float, ...]) -> GridSearchCV:
    """Choose a value by cross-validation on the training texts."""
    return GridSearchCV(model, {parameter: values}, cv=3)


def published(task: Task, clf: ProtoLMClassifier) -> ProtoLMClassifier:
    """Build proto-lm as published, on an encoder that is already fine-tuned.

    Its authors start from an encoder that was fine-tuned on the task with a linear
    head. The loss weights and K are the paper's. The learning rates are the best on the
    development texts of `published.py`, over both of its tasks.
    """
    encoder = warm_start(task, clf).encoder
    return clf.set_params(backbone=encoder, **PAPER, **rates(*CHOSEN["sick"]))


def make(model: str, task: Task, seed: int, **parameters: Any) -> Any:
    """Build a model by its name in the results."""
    clf = ProtoLMClassifier(random_state=seed, **parameters)
    if model == "mixture":
        return clf
    if model == "learned":
        return clf.set_params(projection=False)
    if model == "linear":
        return LinearHeadClassifier(clf)
    if model == "proto-lm":
        return published(task, clf)
    if model == "prior":
        return DummyClassifier(strategy="prior")
    return tfidf() if model == "tfidf" else FrozenVectors(clf.backbone)


def main() -> None:
    """Run what is missing from the results, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--models", nargs="+", default=TITLES, choices=TITLES)
    parser.add_argument("--seeds", nargs="+", default=SEEDS, type=int)
    parser.add_argument("--fitted", type=Path, help="folder for fitted classifiers")
    parser.add_argument("--table", action="store_true", help="only print the tables")
    arguments = parser.parse_args()
    if not arguments.table:
        run_missing(arguments)
    print_tables(RESULTS.rows())


def run_missing(arguments: argparse.Namespace) -> None:
    """Run one seed after another, so that an interrupted run has whole comparisons."""
    folder = arguments.fitted
    if folder is not None:  # a fit takes minutes
        folder.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds:
        for name in arguments.tasks:
            task = load_task(name, arguments.data)
            for model in arguments.models:
                is_repetition = seed != SEEDS[0] and model in DETERMINISTIC
                if not is_repetition and not RESULTS.has(name, model, seed):
                    path = folder and folder / f"{name}-{seed}.joblib"
                    row = run_one(task, model, seed, path)
                    RESULTS.add({"task": name, "model": model, "seed": seed} | row)


def run_one(
    task: Task, model: str, seed: int, path: Path | None = None
) -> dict[str, float]:
    """Fit one model, save it if it is the classifier, and evaluate it."""
    started = time.perf_counter()  # a warm start is a part of the fit
    fitted = make(model, task, seed)
    fitted.fit(task.X_train, task.y_train)
    row = {"seconds": round(time.perf_counter() - started, 1)}
    if path is not None and model == "mixture":
        joblib.dump(fitted, path)
    row |= evaluate(fitted, task)
    return row | describe(fitted, task) if model in PROTOTYPES else row


def print_tables(rows: list[dict[str, str]]) -> None:
    """Print accuracies, paired differences and prototypes as Markdown.

    Only seeds that both the linear head and the mixture have are compared.
    """
    runs = Runs(rows, "task").common(("linear", "mixture"))
    print(f"\n{provenance()} Seeds {runs.seeds}.\n")
    models = [m for m in TITLES if runs.values(m, "accuracy")]
    table("accuracy, %", [TITLES[m] for m in models])
    for task in compared_tasks(runs):
        cells = [runs.mean(m, "accuracy", 1, task) for m in models]
        print(f"| {task} | {' | '.join(cells)} |")
    print_differences(runs)
    print_prototypes(runs)


def compared_tasks(runs: Runs) -> list[str]:
    """Return the tasks that have a run of the mixture."""
    return [task for task in TASKS if runs.values("mixture", "accuracy", task)]


def print_differences(runs: Runs) -> None:
    """Print differences to the linear head and to learned vectors, and calibration."""
    print()
    titles = ["seeds", "mixture − linear head", "texts − learned vectors"]
    titles += [f"{name} linear / mixture / frozen" for name in ("ECE", "NLL")]
    table("points", titles)
    means: dict[str, list[float]] = {"linear": [], "learned": []}
    for task in compared_tasks(runs):
        cells = [str(len(runs.values("mixture", "accuracy", task)))]
        for other, task_means in means.items():
            differences = runs.differences("mixture", other, task)
            task_means.extend([differences.mean()] if len(differences) else [])
            cells.append(interval(differences))
        models = ("linear", "mixture", "frozen")
        cells += [runs.means(models, column, 3, task) for column in ("ece", "nll")]
        print(f"| {task} | {' | '.join(cells)} |")
    cells = [interval(np.array(task_means)) for task_means in means.values()]
    print(f"| mean over tasks | | {' | '.join(cells)} | | |")


def print_prototypes(runs: Runs) -> None:
    """Print measures of the prototypes."""
    columns = {
        "prototypes": ("prototypes", 0),
        "distinct texts": ("unique", 3),
        "purity": ("purity", 3),
        "for 90 %": ("for_90", 1),
        "reading gain": ("reading_gain", 2),
        "reading distance": ("reading_distance", 2),
        "unlike, of test texts": ("unlike", 3),
        "of texts from elsewhere": ("unlike_elsewhere", 2),
    }
    print()
    table("mixture", [*columns, "learned vectors nearest to their class"])
    for task in compared_tasks(runs):
        cells = [runs.mean("mixture", *column, task) for column in columns.values()]
        cells.append(runs.mean("learned", "own_class", 3, task))
        print(f"| {task} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
