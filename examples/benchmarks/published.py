"""The published formulation, with a warm start and rates of its own, by the mixture.

    python examples/benchmarks/published.py --data FOLDER_OF_CSV_FILES

`proto-lm` from a random start, from an encoder that was fine-tuned under a linear head
as its authors have it, and there with rates and epochs of its own. They are chosen on
development texts (`--choose`), the table is of test texts. One row has the sign of the
code that was published with the paper, whose cohesion and separation are fed
similarities where the formulas want distances; that sign exists here alone, not in the
package. Results are written as they come, and a run that was stopped goes on where it
was.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from linear_head import LinearHeadClassifier
from measuring import (
    DESCRIBED,
    JUDGED,
    ResultFile,
    Runs,
    describe,
    judge,
    table,
)
from tasks import Task, development_task, load_task, provenance, shortened

from skprotolm import ProtoLMClassifier
from skprotolm._config import Settings
from skprotolm._network.prototypes import PrototypeLayer
from skprotolm._training.formulations import FORMULATIONS, Step, Terms

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
# Rate of the encoder, rate of the head, epochs.
TRIED = [(1e-5, 1e-3, 3), (1e-4, 1e-2, 3), (1e-4, 1e-1, 3), (1e-4, 1e-1, 10)]
# What `--choose` found best on development texts.
CHOSEN = {"sst2": (1e-4, 1e-2, 3), "sick": (1e-4, 1e-1, 3)}
LINEAR, MIXTURE = "linear head", "mixture"


class Variant(NamedTuple):
    """How a model is made."""

    parameters: dict[str, Any] = PAPER
    warm: bool = False
    own_rates: bool = False
    code_sign: bool = False  # that of the code that was published with the paper


VARIANTS = {
    LINEAR: Variant({}),
    MIXTURE: Variant({}),
    "proto-lm": Variant(),
    "proto-lm, warm start": Variant(warm=True),
    "warm start, rates of its own": Variant(warm=True, own_rates=True),
    "with these, on training texts": Variant(
        PAPER | {"projection": True}, warm=True, own_rates=True
    ),
    "with these, the code's sign": Variant(warm=True, own_rates=True, code_sign=True),
}
KEYS = ("task", "variant", "seed")
RESULTS = ResultFile("published.csv", KEYS, JUDGED + DESCRIBED)
RATES_TRIED = ResultFile("published_rates.csv", KEYS, JUDGED)


def main() -> None:
    """Run what is missing from the results, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--seeds", nargs="+", default=SEEDS, type=int)
    parser.add_argument("--choose", action="store_true", help="compare the rates")
    parser.add_argument("--table", action="store_true", help="print, run nothing")
    arguments = parser.parse_args()
    if arguments.choose:
        choose_rates(arguments.tasks, arguments.data)
    elif not arguments.table:
        for seed in arguments.seeds:
            for name in arguments.tasks:
                run_missing(name, load_task(name, arguments.data), seed)
    print_table(RESULTS.rows())


def choose_rates(tasks: list[str], data: Path) -> None:
    """Print what rates and epochs give on development texts, warm start."""
    for name in tasks:
        task = shortened(development_task(name, data), MAX_TRAINING, 0)
        encoder = warm(task, 0).encoder.sentence_transformer
        for values in TRIED:
            variant = " ".join(map(str, values))
            if RATES_TRIED.has(name, variant, 0):
                continue
            clf = ProtoLMClassifier(encoder, random_state=0, **PAPER, **rates(*values))
            clf.fit(task.X_train, task.y_train)
            key = {"task": name, "variant": variant, "seed": 0}
            RATES_TRIED.add(key | judge(clf, task))
    for row in RATES_TRIED.rows():
        print(row)


def rates(encoder: float, head: float, epochs: int) -> dict[str, Any]:
    """Return the parameters that `--choose` chooses."""
    return dict(learning_rate=encoder, head_learning_rate=head, max_epochs=epochs)


def warm(task: Task, seed: int) -> LinearHeadClassifier:
    """Fine-tune the encoder under a linear head."""
    head = LinearHeadClassifier(ProtoLMClassifier(random_state=seed))
    return head.fit(task.X_train, task.y_train)


def run_missing(name: str, task: Task, seed: int) -> None:
    """Run the variants of one task and seed that are missing."""
    task = shortened(task, MAX_TRAINING, seed)
    missing = [v for v in VARIANTS if not RESULTS.has(name, v, seed)]
    if not missing:
        return
    linear = warm(task, seed)
    for variant in missing:
        how = VARIANTS[variant]
        clf = ProtoLMClassifier(random_state=seed, **how.parameters)
        if how.own_rates:
            clf.set_params(**rates(*CHOSEN[name]))
        if how.warm:
            clf.set_params(backbone=linear.encoder.sentence_transformer)
        if variant == LINEAR:
            row = judge(linear, task)
        else:
            with published_sign(how.code_sign):
                clf.fit(task.X_train, task.y_train)
            row = judge(clf, task) | describe(clf, task)
        RESULTS.add({"task": name, "variant": variant, "seed": seed, **row})


@contextmanager
def published_sign(wanted: bool) -> Iterator[None]:
    """Train `proto-lm` on similarities where its terms want distances, for a while."""
    usual = FORMULATIONS["proto-lm"]

    def losses(step: Step, layer: PrototypeLayer, settings: Settings) -> Terms:
        output = step.output._replace(squared_distances=step.output.similarities)
        return usual.losses(dataclasses.replace(step, output=output), layer, settings)

    if wanted:
        FORMULATIONS["proto-lm"] = dataclasses.replace(usual, losses=losses)
    try:
        yield
    finally:
        FORMULATIONS["proto-lm"] = usual


def print_table(rows: list[dict[str, str]]) -> None:
    """Print every variant's figures, means over tasks and seeds."""
    runs = Runs(rows, "task", model="variant")
    print(f"\n{provenance()} {MAX_TRAINING} training texts at most. ", end="")
    print(f"Seeds {runs.seeds}.\n")
    titles = [f"accuracy, {task}" for task in TASKS]
    more = {"ece": 3, "own_class": 3, "purity": 3, "for_90": 1, "nearest_pair": 3}
    table("", [*titles, *(f"{name}, mean" for name in more)])
    for variant in VARIANTS:
        cells = [runs.mean(variant, "accuracy", 1, task) for task in TASKS]
        cells += [runs.mean(variant, *column) for column in more.items()]
        print(f"| {variant} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
