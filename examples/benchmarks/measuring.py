"""Measures of a fitted model, result files and tables, shared by the benchmarks."""

from __future__ import annotations

import copy
import csv
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import elsewhere
import numpy as np
from scipy.stats import t as student
from tasks import Task

from skprotolm import ProtoLMClassifier
from skprotolm.metrics import (
    explanation_compactness,
    prototype_diversity,
    prototype_purity,
    prototype_uniqueness,
    reading_distance,
    reading_gain,
)

N_READ = 300  # test texts for the reading gain and the number of prototypes
EVALUATED = (
    "accuracy",  # %
    "nll",
    "ece",  # 15 bins
)
DESCRIBED = (
    "prototypes",
    "unique",  # share of distinct quoted texts
    "own_class",  # share of vectors whose nearest training text has their label
    "purity",
    "unused",  # prototypes that are the nearest of no other training text
    "nearest_pair",  # largest cosine between two prototypes of a class
    "for_90",  # prototypes that carry 90 % of the shares of the median text
    "reading_gain",
    "reading_distance",
    "unlike",  # share of test texts that are said to be unlike the training texts
    "unlike_elsewhere",  # the same of texts from elsewhere
)


class ResultFile:
    """A tidy CSV file with one row per run, written as the runs end.

    Its last column is the commit of the code that ran.
    """

    def __init__(self, name: str, keys: tuple[str, ...], columns: tuple[str, ...]):
        self.path = Path(__file__).parent / "results" / name
        self.keys = keys
        self.fields = (*keys, *columns, "code")

    def rows(self) -> list[dict[str, str]]:
        """Return the results so far."""
        if not self.path.exists():
            return []
        with self.path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def has(self, *run: Any) -> bool:
        """Whether the run with these keys is done."""
        wanted = [str(value) for value in run]
        return any([row[key] for key in self.keys] == wanted for row in self.rows())

    def add(self, row: dict[str, Any]) -> None:
        """Append one result."""
        is_new = not self.path.exists()
        self.path.parent.mkdir(exist_ok=True)
        with self.path.open("a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self.fields, lineterminator="\n")
            if is_new:
                writer.writeheader()
            writer.writerow(row | {"code": CODE})


def last_change() -> str:
    """Return the commit that last changed the package or a benchmark.

    A "+" is appended if files have changed since. The commit is "" outside a checkout.
    """

    def git(*command: str) -> subprocess.CompletedProcess[str]:
        code = ["--", "skprotolm", "examples/benchmarks/*.py"]
        return subprocess.run(
            ["git", *command, *code],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
        )

    commit = git("log", "-1", "--format=%h").stdout.strip()
    return commit + "+" * (git("diff", "--quiet", "HEAD").returncode == 1)


CODE = last_change()  # at the start, since commits may be made during a run


class Runs:
    """Results by model, setting and seed.

    Parameters
    ----------
    rows : list of dict
        As `ResultFile.rows` returns them.
    *columns : str
        Columns that define a setting, such as the task. Methods select settings by the
        values of the first columns.
    model : str, default="model"
        The column of the model's name.
    """

    def __init__(
        self, rows: list[dict[str, str]], *columns: str, model: str = "model"
    ) -> None:
        self.rows = {
            (tuple(row[c] for c in columns), row[model], int(row["seed"])): row
            for row in rows
        }
        self.seeds = ", ".join(map(str, sorted({seed for _, _, seed in self.rows})))

    def common(self, models: Iterable[str]) -> Runs:
        """Return the runs of settings and seeds that all these models have."""
        models_runs = [
            {(setting, seed) for setting, m, seed in self.rows if m == model}
            for model in models
        ]
        complete = set.intersection(*models_runs)
        runs = copy.copy(self)
        runs.rows = {key: row for key, row in self.rows.items() if key[::2] in complete}
        return runs

    def values(self, model: str, column: str, *setting: str) -> dict[tuple, float]:
        """Return the values of a column by setting and seed."""
        return {
            (key, seed): float(row[column])
            for (key, m, seed), row in self.rows.items()
            if m == model and key[: len(setting)] == setting and row[column]
        }

    def mean(self, model: str, column: str, digits: int, *setting: str) -> str:
        """Format the mean of a column."""
        values = list(self.values(model, column, *setting).values())
        return f"{np.mean(values):.{digits}f}" if values else "–"

    def means(
        self, models: Iterable[str], column: str, digits: int, *setting: str
    ) -> str:
        """Format the means of several models."""
        return " / ".join(self.mean(m, column, digits, *setting) for m in models)

    def differences(
        self, model: str, other: str, *setting: str, column: str = "accuracy"
    ) -> np.ndarray:
        """Return the paired differences of the runs that both models have."""
        ours, theirs = (self.values(m, column, *setting) for m in (model, other))
        return np.array([ours[k] - theirs[k] for k in sorted(ours.keys() & theirs)])


def ablated(**fields: Any) -> type[ProtoLMClassifier]:
    """Return a classifier class without some parts of the training.

    Parameters
    ----------
    **fields
        Ablations of `FitConfig`.
    """

    class Ablated(ProtoLMClassifier):
        _ablation: ClassVar[dict[str, Any]] = fields

    return Ablated


def evaluate(fitted: Any, task: Task) -> dict[str, float]:
    """Return accuracy, NLL and ECE on the test texts."""
    probabilities = np.asarray(fitted.predict_proba(task.X_test))
    return evaluate_probabilities(probabilities, fitted.classes_, task.y_test)


def evaluate_probabilities(
    probabilities: np.ndarray, classes: np.ndarray, y: np.ndarray
) -> dict[str, float]:
    """Return accuracy, NLL and ECE of probabilities (n, C)."""
    codes = np.searchsorted(classes, y)
    correct = probabilities.argmax(axis=1) == codes
    true = probabilities[np.arange(len(codes)), codes]
    return {
        "accuracy": round(100 * float(correct.mean()), 3),
        "nll": round(float(-np.log(np.maximum(true, 1e-12)).mean()), 4),
        "ece": round(expected_calibration_error(probabilities.max(axis=1), correct), 4),
    }


def describe(clf: ProtoLMClassifier, task: Task) -> dict[str, float]:
    """Return measures of the prototypes and explanations of a fitted classifier."""
    prototypes = clf.prototypes_
    order = np.random.RandomState(0).permutation(len(task.X_test))[:N_READ]
    X = [task.X_test[i] for i in order]
    # With learned vectors, `usages` describes the texts that they quote. A text does
    # not count as a use of the prototype that quotes it.
    similarities = clf.transform(task.X_train)
    nearest_text = similarities.argmax(axis=0)
    nearest = similarities.argmax(axis=1)
    others = [
        text != prototypes.texts[j]
        for text, j in zip(task.X_train, nearest, strict=True)
    ]
    usage = np.bincount(nearest[others], minlength=len(prototypes))
    same_label = task.y_train[nearest_text] == prototypes.labels
    # A backbone that is already fine-tuned compares texts by their label.
    encoder = ProtoLMClassifier().backbone
    gains = reading_gain(clf, X, encoder=encoder)
    distances = reading_distance(clf, X, task.X_train, task.y_train, encoder=encoder)
    foreign: list = list(elsewhere.TEXTS)
    if not isinstance(X[0], str):
        foreign = list(zip(foreign, foreign[1:] + foreign[:1], strict=True))
    measures = {
        "prototypes": len(prototypes),
        "unique": prototype_uniqueness(clf),
        "own_class": same_label.mean(),
        "purity": np.nanmean(prototype_purity(clf, task.X_train, task.y_train)),
        "unused": int(np.sum(usage == 0)),
        "nearest_pair": 1 - np.nanmin(prototype_diversity(clf)),
        "for_90": np.median(explanation_compactness(clf, X)),
        "reading_gain": np.nanmean(gains),
        "reading_distance": np.nanmean(distances),
        "unlike": share_unlike(clf, X),
        "unlike_elsewhere": share_unlike(clf, foreign),
    }
    return {name: round(float(value), 4) for name, value in measures.items()}


def share_unlike(clf: ProtoLMClassifier, X: list) -> float:
    """Return the share of texts that are said to be unlike the training texts."""
    return float(np.mean([explanation.is_unlike for explanation in clf.explain(X)]))


def expected_calibration_error(
    confidence: np.ndarray, correct: np.ndarray, n_bins: int = 15
) -> float:
    """Return the mean gap between confidence and accuracy over equal-width bins."""
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gaps = [
        abs(confidence[bins == b].mean() - correct[bins == b].mean())
        * (bins == b).mean()
        for b in np.unique(bins)
    ]
    return float(np.sum(gaps))


def interval(values: np.ndarray, digits: int = 2) -> str:
    """Format a mean with half of its 95 % interval, Student's t."""
    if len(values) < 2:
        return f"{values.mean():+.{digits}f}" if len(values) else "–"
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1)
    half /= np.sqrt(len(values))
    return f"{values.mean():+.{digits}f} ± {half:.{digits}f}"


def table(corner: str, titles: list[str]) -> None:
    """Print the header of a Markdown table."""
    print(f"| {corner} | {' | '.join(titles)} |")
    print("| --- " * (len(titles) + 1) + "|")
