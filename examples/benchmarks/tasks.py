"""The tasks that benchmarks run on, and what the runs record about themselves."""

from __future__ import annotations

import csv
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.model_selection import train_test_split

from skprotolm.datasets import load_rotten_tomatoes

PACKAGES = (
    "skprotolm",
    "scikit-learn",
    "sentence-transformers",
    "transformers",
    "torch",
)


class Task(NamedTuple):
    """Training and test texts with labels."""

    X_train: list[str]
    y_train: np.ndarray
    X_test: list[str]
    y_test: np.ndarray


def load_task(name: str, data: Path) -> Task:
    """Load a task by name; the CSV files lie in the folder `data`."""
    if name == "rotten_tomatoes":
        X, y = load_rotten_tomatoes(return_X_y=True)
        split = train_test_split(X, y, test_size=0.2, stratify=y, random_state=0)
        X_train, X_test, y_train, y_test = split
        return Task(X_train, y_train, X_test, y_test)
    return Task(*_read(data / f"{name}.train.csv"), *_read(data / f"{name}.test.csv"))


def _read(path: Path) -> tuple[list[str], np.ndarray]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], np.array([row["label"] for row in rows])


def provenance() -> str:
    """Say, in Markdown, what printed a table: command, versions, machine."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    command = f"python examples/benchmarks/{Path(sys.argv[0]).name} "
    command += " ".join("FOLDER" if "/" in a else a for a in sys.argv[1:])
    return (
        f"Printed by `{command.strip()}` with {versions}, Python "
        f"{platform.python_version()} on {platform.machine()}."
    )
