"""Test accuracy, calibration and prototypes on eight tasks, beside other models.

    python examples/benchmarks/accuracy.py --data FOLDER_OF_CSV_FILES

The linear head is trained in the same way as the classifier: the same encoder, texts,
size of batches, epochs and rates. Every result is written as it comes, and a run that
was stopped goes on where it was; `--tasks`, `--models` and `--seeds` run a part.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from linear_head import LinearHeadClassifier
from measuring import (
    DESCRIBED,
    JUDGED,
    ResultFile,
    Runs,
    describe,
    interval,
    judge,
    table,
)
from published import CHOSEN, PAPER, rates, warm
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from tasks import Task, load_task, provenance

from skprotolm import ProtoLMClassifier
from skprotolm._classifier import _attributes
from skprotolm._fitted import FittedModel
from skprotolm._network.loading import frozen_vectors
from skprotolm._network.network import ProtoLM
from skprotolm._training.fit import _Fit

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
    "accuracy.csv", ("task", "model", "seed"), ("seconds", *JUDGED, *DESCRIBED)
)
BOTH = ("mixture", "learned")
PROTOTYPES = (*BOTH, "proto-lm")


class FrozenVectors:
    """Logistic regression on the vectors of the encoder that nobody fine-tuned."""

    def __init__(self, backbone: str):
        self.backbone = backbone

    def fit(self, X: list, y: np.ndarray) -> FrozenVectors:
        """Encode the texts and choose the regularisation by cross-validation."""
        self.model = chosen(LogisticRegression(max_iter=3000), "C", (1, 10, 100))
        self.model.fit(self._features(X), y)
        self.classes_ = self.model.classes_
        return self

    def predict_proba(self, X: list) -> np.ndarray:
        """Return class probabilities, (n, C)."""
        return self.model.predict_proba(self._features(X))

    def _features(self, X: list) -> np.ndarray:
        if isinstance(X[0], str):
            return frozen_vectors(self.backbone, X)
        u, v = (
            frozen_vectors(self.backbone, list(half)) for half in zip(*X, strict=True)
        )
        return np.hstack([u, v, np.abs(u - v), u * v])


def tfidf() -> Any:
    """TF-IDF of words and pairs of words under logistic regression."""
    one_text = FunctionTransformer(
        lambda X: [x if isinstance(x, str) else " ".join(x) for x in X]
    )
    pipeline = make_pipeline(
        one_text,
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        LogisticRegression(max_iter=3000),
    )
    return chosen(pipeline, "logisticregression__C", (1, 10, 100))


def chosen(model: Any, parameter: str, values: tuple[float, ...]) -> GridSearchCV:
    """Choose a value by cross-validation on the training texts."""
    return GridSearchCV(model, {parameter: values}, cv=3)


def published(task: Task, seed: int) -> ProtoLMClassifier:
    """Make proto-lm as published, on an encoder that is fine-tuned already.

    Its authors start from an encoder that was fine-tuned on the task under a linear
    head. The weights of the terms and K are the paper's, rates those that were best on
    the development texts of `published.py`, over both of its tasks.
    """
    encoder = warm(task, seed).encoder.sentence_transformer
    parameters = PAPER | rates(*CHOSEN["sick"])
    return ProtoLMClassifier(encoder, random_state=seed, **parameters)


def make(model: str, task: Task, seed: int) -> Any:
    """Make a model by the name that it has in the results."""
    ours = ProtoLMClassifier(random_state=seed)
    if model == "mixture":
        return ours
    if model == "learned":
        return ours.set_params(projection=False)
    if model == "linear":
        return LinearHeadClassifier(ours)
    if model == "proto-lm":
        return published(task, seed)
    if model == "prior":
        return DummyClassifier(strategy="prior")
    return tfidf() if model == "tfidf" else FrozenVectors(str(ours.backbone))


MODELS = ("linear", "mixture", "learned", "proto-lm", "frozen", "tfidf", "prior")
TITLES = {
    "linear": "linear head",
    "mixture": "mixture",
    "learned": "mixture, learned vectors",
    "proto-lm": "proto-lm as published, warm start",
    "tfidf": "TF-IDF + logistic regression",
    "frozen": "frozen vectors + logistic regression",
    "prior": "most frequent class",
}
UNSEEDED = ("tfidf", "frozen", "prior")  # they draw nothing, so one run is all


def main() -> None:
    """Run what is missing from the results, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--seeds", nargs="+", default=SEEDS, type=int)
    parser.add_argument("--table", action="store_true", help="print, run nothing")
    arguments = parser.parse_args()
    if not arguments.table:
        run_missing(arguments)
    print_tables(RESULTS.rows())


def run_missing(arguments: argparse.Namespace) -> None:
    """Run seed after seed, so that a stopped run has whole comparisons."""
    for seed in arguments.seeds:
        for name in arguments.tasks:
            task = load_task(name, arguments.data)
            missing = [m for m in arguments.models if is_missing(name, m, seed)]
            rows = run_both_ways(task, seed) if {*BOTH} <= {*missing} else iter(())
            alone = [m for m in missing if {*BOTH} - {*missing} or m not in BOTH]
            rest = ((model, run_one(task, model, seed)) for model in alone)
            for model, row in chain(rows, rest):
                RESULTS.add({"task": name, "model": model, "seed": seed} | row)


def is_missing(name: str, model: str, seed: int) -> bool:
    """Whether a run is still to be made."""
    again = seed != SEEDS[0] and model in UNSEEDED
    return not again and not RESULTS.has(name, model, seed)


def run_one(task: Task, model: str, seed: int) -> dict[str, object]:
    """Fit one model and measure it on the test texts."""
    started = time.perf_counter()  # a warm start is a part of the fit
    fitted = make(model, task, seed)
    fitted.fit(task.X_train, task.y_train)
    row: dict[str, object] = {"seconds": round(time.perf_counter() - started, 1)}
    row |= judge(fitted, task)
    return row | describe(fitted, task) if model in PROTOTYPES else row


def run_both_ways(task: Task, seed: int) -> Iterator[tuple[str, dict[str, object]]]:
    """Train once, and measure prototypes on texts and the same as learned."""
    clf, other = make("mixture", task, seed), make("learned", task, seed)
    started = time.perf_counter()
    with learned_too(other) as moments:
        clf.fit(task.X_train, task.y_train)
    ended = time.perf_counter()
    forked, joined = moments
    times = ended - started - (joined - forked), joined - started
    for model, fitted, seconds in zip(BOTH, (clf, other), times, strict=True):
        row: dict[str, object] = {"seconds": round(seconds, 1)}
        yield model, row | judge(fitted, task) | describe(fitted, task)


@contextmanager
def learned_too(other: ProtoLMClassifier) -> Iterator[list[float]]:
    """Let a fit give what it would with projection=False, too, in every bit.

    `other` takes that over. The list says when prototypes are to get their texts, and
    when they do.
    """
    moments: list[float] = []
    usual = _Fit._finished

    def finished(fit: _Fit, model: ProtoLM, vectors: torch.Tensor) -> FittedModel:
        moments.append(time.perf_counter())
        fork = copy.copy(fit)
        fork.settings = replace(fit.settings, projection=False)
        learned = usual(fork, copy.deepcopy(model), vectors)
        other.__dict__.update(_attributes(learned))
        moments.append(time.perf_counter())
        return usual(fit, model, vectors)

    with mock.patch.object(_Fit, "_finished", finished):
        yield moments


def print_tables(rows: list[dict[str, str]]) -> None:
    """Print accuracies, paired differences and prototypes as Markdown."""
    runs = Runs(rows, "task")
    print(f"\n{provenance()} Seeds {runs.seeds}.\n")
    models = [m for m in MODELS if runs.values(m, "accuracy")]
    table("accuracy, %", [TITLES[m] for m in models])
    for task in TASKS:
        cells = [runs.mean(m, "accuracy", 1, task) for m in models]
        print(f"| {task} | {' | '.join(cells)} |")
    print_differences(runs)
    print_prototypes(runs)


def print_differences(runs: Runs) -> None:
    """Print what prototypes, and texts as prototypes, cost or gain, and calibration."""
    print()
    titles = ["seeds", "mixture − linear head", "texts − learned vectors"]
    titles += [f"{name} linear / mixture / frozen" for name in ("ECE", "NLL")]
    table("points", titles)
    means: dict[str, list[float]] = {"linear": [], "learned": []}
    for task in TASKS:
        cells = [str(len(runs.values("mixture", "accuracy", task)))]
        for other, found in means.items():
            gaps = runs.gaps("mixture", other, task)
            found.extend([gaps.mean()] if len(gaps) else [])
            cells.append(interval(gaps))
        three = ("linear", "mixture", "frozen")
        cells += [runs.means(three, column, 3, task) for column in ("ece", "nll")]
        print(f"| {task} | {' | '.join(cells)} |")
    cells = [interval(np.array(found)) for found in means.values()]
    print(f"| mean over tasks | | {' | '.join(cells)} | | |")


def print_prototypes(runs: Runs) -> None:
    """Print facts of the prototypes."""
    columns = {
        "prototypes": ("prototypes", 0),
        "distinct texts": ("unique", 3),
        "purity": ("purity", 3),
        "without another text": ("unused", 1),
        "nearest pair": ("nearest_pair", 3),
        "for 90 %": ("for_90", 1),
        "reading gain": ("reading_gain", 2),
    }
    print()
    table("mixture", [*columns, "learned vectors of the own class"])
    for task in TASKS:
        cells = [runs.mean("mixture", *column, task) for column in columns.values()]
        cells.append(runs.mean("learned", "own_class", 3, task))
        print(f"| {task} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
