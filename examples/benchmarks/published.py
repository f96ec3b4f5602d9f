"""The published formulation against the mixture, with and without a warm start.

    python examples/benchmarks/published.py --data FOLDER_OF_CSV_FILES

`proto-lm` starts from the pretrained encoder, or from an encoder that was fine-tuned
with a linear head, as its authors do; the latter also with tuned rates and epochs.
These are chosen on development texts (`--choose`); the table is computed on test texts.
One row uses the sign of the code published with the paper, which passes similarities to
cohesion and separation, whose formulas have distances. Results are written as they
come, and an interrupted run continues with the missing ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

from encoders import Backbone
from linear_head import LinearHeadClassifier
from measuring import (
    DESCRIBED,
    EVALUATED,
    ResultFile,
    Runs,
    ablated,
    describe,
    evaluate,
    table,
)
from tasks import Task, development_task, load_task, provenance, shortened

from skprotolm import ProtoLMClassifier

TASKS = ("sst2", "sick")
SEEDS = (0, 1, 2)
MAX_TRAINING = 2500  # texts
# λ1, λ2 and K of the paper's experiments, and its learned prototypes.
PAPER: dict[str, Any] = {
    "formulation": "proto-lm",
    "cohesion": 0.25,
    "separation": 0.25,
    "n_nearest": 0.5,
    "n_prototypes": 10,
    "projection": False,
}
# Learning rate of the encoder and of the head, epochs.
TRIED = [(1e-5, 1e-3, 3), (1e-4, 1e-2, 3), (1e-4, 1e-1, 3), (1e-4, 1e-1, 10)]
# The best of these on development texts, by `--choose`.
CHOSEN = {"sst2": (1e-4, 1e-2, 3), "sick": (1e-4, 1e-1, 3)}
LINEAR, MIXTURE = "linear head", "mixture"


class Variant(NamedTuple):
    """Parameters of a model and its start."""

    parameters: dict[str, Any] = PAPER
    warm: bool = False  # from an encoder that was fine-tuned with a linear head
    tuned: bool = False  # with the chosen rates and epochs
    code_sign: bool = False  # of the code published with the paper

    def make(self, name: str, encoder: Backbone, seed: int) -> ProtoLMClassifier:
        """Build the classifier for a task; warm starts use the encoder."""
        Classifier = ablated(similarities_as_distances=self.code_sign)
        clf = Classifier(random_state=seed, **self.parameters)
        if self.tuned:
            clf.set_params(**rates(*CHOSEN[name]))
        return clf.set_params(backbone=encoder) if self.warm else clf


VARIANTS = {
    LINEAR: Variant({}),
    MIXTURE: Variant({}),
    "proto-lm": Variant(),
    "proto-lm, warm start": Variant(warm=True),
    "warm start, tuned rates": Variant(warm=True, tuned=True),
    "tuned rates, projection": Variant(
        PAPER | {"projection": True}, warm=True, tuned=True
    ),
    "tuned rates, sign of the code": Variant(warm=True, tuned=True, code_sign=True),
}
KEYS = ("task", "variant", "seed")
RESULTS = ResultFile("published.csv", KEYS, EVALUATED + DESCRIBED)
RATES_TRIED = ResultFile("published_rates.csv", KEYS, EVALUATED)


def main() -> None:
    """Run what is missing from the results, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--seeds", nargs="+", default=SEEDS, type=int)
    parser.add_argument("--choose", action="store_true", help="compare learning rates")
    parser.add_argument("--table", action="store_true", help="only print the table")
    arguments = parser.parse_args()
    if arguments.choose:
        choose_rates(arguments.tasks, arguments.data)
    elif not arguments.table:
        for seed in arguments.seeds:
            for name in arguments.tasks:
                run_missing(name, load_task(name, arguments.data), seed)
    print_table(RESULTS.rows())


def choose_rates(tasks: list[str], data: Path) -> None:
    """Evaluate rates and epochs on development texts, with a warm start."""
    for name in tasks:
        task = shortened(development_task(name, data), MAX_TRAINING, 0)
        encoder = warm_start(task, ProtoLMClassifier(random_state=0)).encoder
        for values in TRIED:
            variant = " ".join(map(str, values))
            if RATES_TRIED.has(name, variant, 0):
                continue
            clf = ProtoLMClassifier(encoder, random_state=0, **PAPER, **rates(*values))
            clf.fit(task.X_train, task.y_train)
            key = {"task": name, "variant": variant, "seed": 0}
            RATES_TRIED.add(key | evaluate(clf, task))
    for row in RATES_TRIED.rows():
        print(row)


def rates(encoder: float, head: float, epochs: int) -> dict[str, Any]:
    """Return rates and epochs as parameters."""
    return dict(learning_rate=encoder, head_learning_rate=head, max_epochs=epochs)


def warm_start(task: Task, clf: ProtoLMClassifier) -> LinearHeadClassifier:
    """Fine-tune the encoder of a classifier with a linear head."""
    return LinearHeadClassifier(clf).fit(task.X_train, task.y_train)


def run_missing(name: str, task: Task, seed: int) -> None:
    """Run the missing variants of one task and seed."""
    task = shortened(task, MAX_TRAINING, seed)
    missing = [v for v in VARIANTS if not RESULTS.has(name, v, seed)]
    if not missing:
        return
    linear = warm_start(task, ProtoLMClassifier(random_state=seed))
    for title in missing:
        if title == LINEAR:
            row = evaluate(linear, task)
        else:
            clf = VARIANTS[title].make(name, linear.encoder, seed)
            clf.fit(task.X_train, task.y_train)
            row = evaluate(clf, task) | describe(clf, task)
        RESULTS.add({"task": name, "variant": title, "seed": seed, **row})


def print_table(rows: list[dict[str, str]]) -> None:
    """Print the measures of each variant, means over tasks and seeds."""
    runs = Runs(rows, "task", model="variant")
    print(f"\n{provenance()} At most {MAX_TRAINING} training texts. ", end="")
    print(f"Seeds {runs.seeds}.\n")
    titles = [f"accuracy, {task}" for task in TASKS]
    columns = {"ece": 3, "own_class": 3, "purity": 3, "for_90": 1, "nearest_pair": 3}
    table("", [*titles, *(f"{name}, mean" for name in columns)])
    for variant in VARIANTS:
        cells = [runs.mean(variant, "accuracy", 1, task) for task in TASKS]
        cells += [runs.mean(variant, *column) for column in columns.items()]
        print(f"| {variant} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
