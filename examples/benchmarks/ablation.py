"""What each part of the training is worth: the classifier without it, part by part.

    python examples/benchmarks/ablation.py --data FOLDER_OF_CSV_FILES

On development texts: the dev splits, or a sixth of the training texts. No test text is
read, so choices can be made by it. Results are written as they come, and a run that was
stopped goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
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
from tasks import Task, development_task, provenance, shortened

from skprotolm import ProtoLMClassifier
from skprotolm._network.prototypes import PrototypeLayer
from skprotolm._training.formulations import FORMULATIONS, Placement

TASKS = ("sst2", "mrpc", "sst5")
SEEDS = (0, 1, 2)
MAX_TRAINING = 2000  # texts


@dataclass(frozen=True)
class Variant:
    """Parameters of the classifier, and what is replaced in the package meanwhile."""

    parameters: dict[str, Any] = field(default_factory=dict)
    replaced: dict[str, Any] = field(default_factory=dict)
    linear: bool = False  # under a linear head

    def fit(self, task: Task, seed: int) -> Any:
        """Fit the classifier, or the linear head, on the training texts."""
        clf = ProtoLMClassifier(**self.parameters, random_state=seed)
        with ExitStack() as stack:
            for target, value in self.replaced.items():
                stack.enter_context(mock.patch(target, value))
            fitted = LinearHeadClassifier(clf) if self.linear else clf
            return fitted.fit(task.X_train, task.y_train)


NOT_SETTLED = {
    **FORMULATIONS,
    "mixture": replace(FORMULATIONS["mixture"], settle=FORMULATIONS["proto-lm"].settle),
}


def learned_alone(layer: PrototypeLayer, placement: Placement) -> np.ndarray:
    """Return text vectors (n, H) as the model compares them."""
    return layer.to_euclidean(torch.from_numpy(placement.vectors)).numpy()


def unchanged(*given: Any) -> None:
    """Leave priors and biases as they were learned."""


USUAL = "as it is"
VARIANTS = {
    "linear head": Variant(linear=True),
    "linear head, learning_rate 5e-5": Variant({"learning_rate": 5e-5}, linear=True),
    USUAL: Variant(),
    "learning_rate 5e-5": Variant({"learning_rate": 5e-5}),
    "no cohesion, no coverage": Variant({"cohesion": 0.0}),
    "no separation": Variant({"separation": 0.0}),
    "none of these": Variant({"cohesion": 0.0, "separation": 0.0}),
    "diversity 0.1": Variant({"diversity": 0.1}),
    "no preservation": Variant({"preservation": 0.0}),
    "not gathered at the start": Variant(
        replaced={"skprotolm._training.initialization._LEAST_SPREAD": 1.0}
    ),
    "not settled": Variant(
        replaced={"skprotolm._training.fit.FORMULATIONS": NOT_SETTLED}
    ),
    "settled by learned vectors alone": Variant(
        replaced={"skprotolm._training.formulations._learned_and_read": learned_alone}
    ),
    "not refitted": Variant(replaced={"skprotolm._training.fit.refit": unchanged}),
    "labels smoothed": Variant({"label_smoothing": 0.1}),
    "not put on texts": Variant({"projection": False}),
    "ten prototypes a class": Variant({"n_prototypes": 10}),
    "ten a class, diversity 0.1": Variant({"n_prototypes": 10, "diversity": 0.1}),
}
RESULTS = ResultFile("ablation.csv", ("task", "variant", "seed"), JUDGED + DESCRIBED)
COLUMNS = {"nll": 3, "ece": 3, "purity": 3, "nearest_pair": 3, "for_90": 1}


def main() -> None:
    """Run what is missing from the results, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS)
    parser.add_argument("--seeds", nargs="+", default=SEEDS, type=int)
    parser.add_argument("--table", action="store_true", help="print, run nothing")
    arguments = parser.parse_args()
    if not arguments.table:
        for seed in arguments.seeds:
            for name in arguments.tasks:
                task = development_task(name, arguments.data)
                task = shortened(task, MAX_TRAINING, seed)
                run_missing(name, task, seed, arguments.variants)
    print_table(RESULTS.rows())


def run_missing(name: str, task: Task, seed: int, variants: Iterable[str]) -> None:
    """Run the variants of one task and seed that are missing."""
    for title in variants:
        variant = VARIANTS[title]
        if not RESULTS.has(name, title, seed):
            fitted = variant.fit(task, seed)
            row = judge(fitted, task) | (
                {} if variant.linear else describe(fitted, task)
            )
            RESULTS.add({"task": name, "variant": title, "seed": seed, **row})


def print_table(rows: list[dict[str, str]]) -> None:
    """Print each variant's difference to the classifier as it is, by task.

    The other columns are means over the runs that a variant has.
    """
    runs = Runs(rows, "task", model="variant")
    print(f"\n{provenance()} Seeds {runs.seeds}.\n")
    titles = [f"accuracy, {task}" for task in TASKS]
    table("", [*titles, *COLUMNS, "reading gain"])
    for variant in VARIANTS:
        gaps = [runs.gaps(variant, USUAL, task) for task in TASKS]
        cells = [interval(of_task) for of_task in gaps]
        if variant == USUAL:
            cells = [runs.mean(variant, "accuracy", 1, task) for task in TASKS]
        columns = (*COLUMNS.items(), ("reading_gain", 2))
        cells += [runs.mean(variant, *column) for column in columns]
        print(f"| {variant} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
