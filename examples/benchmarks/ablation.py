"""Ablations: the classifier without single parts, on development texts.

    python examples/benchmarks/ablation.py --data FOLDER_OF_CSV_FILES

Development texts are the dev splits, or a sixth of the training texts. No test text is
used, so these results may guide choices. Results are written as they come, and an
interrupted run continues with the missing ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from linear_head import LinearHeadClassifier
from measuring import (
    DESCRIBED,
    EVALUATED,
    ResultFile,
    Runs,
    ablated,
    describe,
    evaluate,
    interval,
    table,
)
from tasks import Task, development_task, provenance, shortened

TASKS = ("sst2", "mrpc", "sst5")
SEEDS = (0, 1, 2)
MAX_TRAINING = 2000  # texts


@dataclass(frozen=True)
class Variant:
    """Parameters and ablations of the classifier, or a linear head instead of it."""

    parameters: dict[str, Any] = field(default_factory=dict)
    ablation: dict[str, Any] = field(default_factory=dict)
    linear: bool = False

    def fit(self, task: Task, seed: int, **parameters: Any) -> Any:
        """Fit on the training texts; the variant's own parameters take precedence."""
        parameters |= self.parameters
        clf = ablated(**self.ablation)(random_state=seed, **parameters)
        model = LinearHeadClassifier(clf) if self.linear else clf
        return model.fit(task.X_train, task.y_train)


DEFAULT = "default"
VARIANTS = {
    "linear head": Variant(linear=True),
    "linear head, learning_rate 5e-5": Variant({"learning_rate": 5e-5}, linear=True),
    DEFAULT: Variant(),
    "learning_rate 5e-5": Variant({"learning_rate": 5e-5}),
    "no cohesion, no coverage": Variant({"cohesion": 0.0}),
    "no separation": Variant({"separation": 0.0}),
    "no cohesion, coverage, separation": Variant({"cohesion": 0.0, "separation": 0.0}),
    "diversity 0.1": Variant({"diversity": 0.1}),
    "no preservation": Variant({"preservation": 0.0}),
    "no shrinkage at the start": Variant(ablation={"least_spread": 1.0}),
    "no reading metric": Variant(ablation={"reading_weight": 0.0}),
    "no recalibration": Variant(ablation={"recalibrate": False}),
    "label_smoothing 0.1": Variant({"label_smoothing": 0.1}),
    "no projection": Variant({"projection": False}),
    "10 prototypes per class": Variant({"n_prototypes": 10}),
    "100 prototypes per class": Variant({"n_prototypes": 100}),
}
RESULTS = ResultFile("ablation.csv", ("task", "variant", "seed"), EVALUATED + DESCRIBED)
COLUMNS = {"nll": 3, "ece": 3, "purity": 3, "for_90": 1}


def main() -> None:
    """Run what is missing from the results, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS)
    parser.add_argument("--seeds", nargs="+", default=SEEDS, type=int)
    parser.add_argument("--table", action="store_true", help="only print the table")
    arguments = parser.parse_args()
    if not arguments.table:
        for seed in arguments.seeds:
            for name in arguments.tasks:
                task = development_task(name, arguments.data)
                task = shortened(task, MAX_TRAINING, seed)
                run_missing(name, task, seed, arguments.variants)
    print_table(RESULTS.rows())


def run_missing(name: str, task: Task, seed: int, variants: Iterable[str]) -> None:
    """Run the missing variants of one task and seed."""
    for title in variants:
        variant = VARIANTS[title]
        if not RESULTS.has(name, title, seed):
            fitted = variant.fit(task, seed)
            row = evaluate(fitted, task)
            if not variant.linear:
                row |= describe(fitted, task)
            RESULTS.add({"task": name, "variant": title, "seed": seed, **row})


def print_table(rows: list[dict[str, str]]) -> None:
    """Print each variant's difference in accuracy to the default, per task.

    The other columns are means over the runs of a variant.
    """
    runs = Runs(rows, "task", model="variant")
    print(f"\n{provenance()} Seeds {runs.seeds}.\n")
    titles = [f"accuracy, {task}" for task in TASKS]
    table("", [*titles, *COLUMNS, "reading distance"])
    for variant in VARIANTS:
        differences = [runs.differences(variant, DEFAULT, task) for task in TASKS]
        cells = [interval(values) for values in differences]
        if variant == DEFAULT:
            cells = [runs.mean(variant, "accuracy", 1, task) for task in TASKS]
        columns = (*COLUMNS.items(), ("reading_distance", 2))
        cells += [runs.mean(variant, *column) for column in columns]
        print(f"| {variant} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
