"""What benchmarks of accuracy share: measures of a fitted model, and result files."""

from __future__ import annotations

import copy
import csv
import dataclasses
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student
from tasks import Task

from skprotolm import ProtoLMClassifier
from skprotolm._runtime import has_bf16
from skprotolm.metrics import (
    explanation_compactness,
    prototype_diversity,
    prototype_purity,
    prototype_uniqueness,
    reading_gain,
)

N_READ = 300  # test texts for the reading gain and the number of prototypes
JUDGED = (
    "accuracy",  # %
    "nll",
    "ece",  # 15 bins
)
DESCRIBED = (
    "prototypes",
    "unique",  # share of distinct quoted texts
    "own_class",  # share of vectors whose nearest training text is of their class
    "purity",
    "unused",  # prototypes that are no other training text's nearest
    "nearest_pair",  # largest cosine of two prototypes of a class
    "for_90",  # prototypes that carry 90 % of the shares of the median text
    "reading_gain",
)


class ResultFile:
    """A tidy CSV file, one row a run, to which runs are added as they end.

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
        """Whether a run, by its keys, is done."""
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

    With a "+" behind it where files have changed since; "" outside a checkout.
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


CODE = last_change()  # as the program starts, whatever is committed while it runs


class Runs:
    """Results that can be asked for by model and place, as far as they have run.

    A place is what the runs that are compared have in common, such as a task; where
    only the first of its parts are given, or none, all such places are meant.
    """

    def __init__(
        self, rows: list[dict[str, str]], *parts: str, model: str = "model"
    ) -> None:
        self.rows = {
            (tuple(row[part] for part in parts), row[model], int(row["seed"])): row
            for row in rows
        }
        self.seeds = ", ".join(map(str, sorted({seed for _, _, seed in self.rows})))

    def common(self, models: Iterable[str]) -> Runs:
        """Return the runs of places and seeds at which all these models have one."""
        of = [{(w, seed) for w, m, seed in self.rows if m == model} for model in models]
        complete = set.intersection(*of)
        found = copy.copy(self)
        found.rows = {
            key: row for key, row in self.rows.items() if key[::2] in complete
        }
        return found

    def values(self, model: str, column: str, *place: str) -> dict[tuple, float]:
        """Return a column's values, by place and seed."""
        return {
            (where, seed): float(row[column])
            for (where, m, seed), row in self.rows.items()
            if m == model and where[: len(place)] == place and row[column]
        }

    def mean(self, model: str, column: str, digits: int, *place: str) -> str:
        """Write the mean of a column."""
        found = list(self.values(model, column, *place).values())
        return f"{np.mean(found):.{digits}f}" if found else "–"

    def means(
        self, models: Iterable[str], column: str, digits: int, *place: str
    ) -> str:
        """Write the means of some models."""
        return " / ".join(self.mean(m, column, digits, *place) for m in models)

    def gaps(
        self, model: str, other: str, *place: str, column: str = "accuracy"
    ) -> np.ndarray:
        """Return paired differences, a number a run that both models have."""
        ours, theirs = (self.values(m, column, *place) for m in (model, other))
        return np.array([ours[k] - theirs[k] for k in sorted(ours.keys() & theirs)])


def judge(fitted: Any, task: Task) -> dict[str, float]:
    """Measure a fitted model's predictions for the test texts."""
    probabilities = np.asarray(fitted.predict_proba(task.X_test))
    return judge_probabilities(probabilities, fitted.classes_, task.y_test)


def judge_probabilities(
    probabilities: np.ndarray, classes: np.ndarray, y: np.ndarray
) -> dict[str, float]:
    """Measure probabilities (n, C) by the true labels."""
    codes = np.searchsorted(classes, y)
    right = probabilities.argmax(axis=1) == codes
    of_truth = probabilities[np.arange(len(codes)), codes]
    return {
        "accuracy": round(100 * float(right.mean()), 3),
        "nll": round(float(-np.log(np.maximum(of_truth, 1e-12)).mean()), 4),
        "ece": round(expected_calibration_error(probabilities.max(axis=1), right), 4),
    }


def describe(clf: ProtoLMClassifier, task: Task) -> dict[str, float]:
    """Measure the prototypes of a fitted classifier, and what explanations need.

    In bfloat16, which takes a third of the time and moves cosines by 1e-3.
    """
    clf, device = copy.copy(clf), clf._fitted.network.encoder.device
    clf._fitted = dataclasses.replace(clf._fitted, bf16=has_bf16(device))
    prototypes = clf.prototypes_
    order = np.random.RandomState(0).permutation(len(task.X_test))[:N_READ]
    X = [task.X_test[i] for i in order]
    # With learned vectors, `usages` are of the texts that these quote. A text is not
    # its own prototype's use.
    similarities = clf.transform(task.X_train)
    nearest_text = similarities.argmax(axis=0)
    nearest = similarities.argmax(axis=1)
    others = [
        text != prototypes.texts[j]
        for text, j in zip(task.X_train, nearest, strict=True)
    ]
    usage = np.bincount(nearest[others], minlength=len(prototypes))
    own = task.y_train[nearest_text] == prototypes.labels
    # A backbone that was fine-tuned already is no judge of the reading.
    judge_of_reading = ProtoLMClassifier().backbone
    gains = reading_gain(clf, X, encoder=judge_of_reading)
    found = {
        "prototypes": len(prototypes),
        "unique": prototype_uniqueness(clf),
        "own_class": own.mean(),
        "purity": np.nanmean(prototype_purity(clf, task.X_train, task.y_train)),
        "unused": int(np.sum(usage == 0)),
        "nearest_pair": 1 - np.nanmin(prototype_diversity(clf)),
        "for_90": np.median(explanation_compactness(clf, X)),
        "reading_gain": np.nanmean(gains),
    }
    return {name: round(float(value), 4) for name, value in found.items()}


def expected_calibration_error(
    confidence: np.ndarray, right: np.ndarray, n_bins: int = 15
) -> float:
    """Return the mean gap between confidence and accuracy over equal-width bins."""
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gaps = [
        abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean()
        for b in np.unique(bins)
    ]
    return float(np.sum(gaps))


def interval(values: np.ndarray) -> str:
    """Write a mean with the half-width of its 95 % interval, Student's t."""
    if len(values) < 2:
        return f"{values.mean():+.2f}" if len(values) else "–"
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1)
    return f"{values.mean():+.2f} ± {half / np.sqrt(len(values)):.2f}"


def table(corner: str, titles: list[str]) -> None:
    """Print the head of a table."""
    print(f"| {corner} | {' | '.join(titles)} |")
    print("| --- " * (len(titles) + 1) + "|")
