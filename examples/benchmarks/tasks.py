"""The tasks of the benchmarks, and the provenance of their tables."""

from __future__ import annotations

import csv
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.model_selection import train_test_split

from skprotolm.datasets import load_imdb, load_rotten_tomatoes

PACKAGES = (
    "skprotolm",
    "scikit-learn",
    "sentence-transformers",
    "transformers",
    "torch",
)


MAX_TRAINING = 10_000  # texts, the same for all seeds
N_IMDB = 1_000  # reviews for training, and as many for testing

# The column of labels, where it is not "label".
LABELS = {"sick": "entailment"}


class Task(NamedTuple):
    """Training and test texts, or pairs of texts, with labels."""

    X_train: list
    y_train: np.ndarray
    X_test: list
    y_test: np.ndarray


def load_task(name: str, data: Path) -> Task:
    """Load a task by name from the CSV files in the folder `data`."""
    if name == "rotten_tomatoes":
        X, y = load_rotten_tomatoes(return_X_y=True)
        split = train_test_split(X, y, test_size=0.2, stratify=y, random_state=0)
    elif name == "imdb":
        X, y = load_imdb(return_X_y=True)
        sizes = {"train_size": N_IMDB, "test_size": N_IMDB}
        split = train_test_split(X, y, **sizes, stratify=y, random_state=0)
    else:
        (X_train, y_train), (X_test, y_test) = (
            _read(data / f"{name}.{part}.csv") for part in ("train", "test")
        )
        split = X_train, X_test, y_train, y_test
    X_train, X_test, y_train, y_test = split
    return Task(*draw(X_train, y_train, MAX_TRAINING, 0), X_test, y_test)


def development_task(name: str, data: Path) -> Task:
    """Load a task for choices: its dev split, or a sixth of the training texts.

    The test split is not used.
    """
    X, y = load_task(name, data)[:2]
    if (data / f"{name}.dev.csv").exists():
        return Task(X, y, *_read(data / f"{name}.dev.csv"))
    split = train_test_split(X, y, test_size=1 / 6, stratify=y, random_state=0)
    X_train, X_dev, y_train, y_dev = split
    return Task(X_train, y_train, X_dev, y_dev)


def draw(X: list, y: np.ndarray, n: int, seed: int) -> tuple[list, np.ndarray]:
    """Draw n texts at random, or all if there are fewer, in their order."""
    if len(X) <= n:
        return X, y
    rows = np.sort(np.random.RandomState(seed).permutation(len(X))[:n])
    return [X[i] for i in rows], y[rows]


def shortened(task: Task, n: int, seed: int) -> Task:
    """Draw n training texts of a task, or all if there are fewer."""
    X, y = draw(task.X_train, task.y_train, n, seed)
    return task._replace(X_train=X, y_train=y)


def _read(path: Path) -> tuple[list, np.ndarray]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = np.array(
        [row[LABELS.get(path.name.split(".")[0], "label")] for row in rows]
    )
    if "text" in rows[0]:
        return [row["text"] for row in rows], labels
    return [(row["text_a"], row["text_b"]) for row in rows], labels


def provenance() -> str:
    """Return the command, versions and machine of a table in Markdown."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    command = f"python examples/benchmarks/{Path(sys.argv[0]).name} "
    command += " ".join("FOLDER" if "/" in a else a for a in sys.argv[1:])
    return (
        f"Printed by `{command.strip()}` with {versions}, Python "
        f"{platform.python_version()} on {platform.machine()}."
    )
