"""Several labels per text: emotions of comments, and attributes of bank questions.

    python examples/benchmarks/tasks_labels.py --data FOLDER_OF_CSV_FILES

GoEmotions has 28 labels. The attributes of a Banking77 question are the words of its
intent's name, of three letters or more, that occur in the names of at least three
intents: "card", "payment" and "charged" of card_payment_fee_charged; a question may
have none.

The linear head uses the same encoder, texts, batch size, epochs and learning rates as
the classifier, under binary cross-entropy. Results are written as they come, and an
interrupted run continues with the missing ones. `--development` evaluates on texts for
choices instead, and keeps nothing; with it, `--texts` is the number of training texts.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import FrozenVectors
from linear_head import LinearHeadMultilabel
from measuring import ResultFile, Runs, interval, table
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import MultiLabelBinarizer
from tasks import Task, development_task, load_task, provenance, shortened

from skprotolm import ProtoLMClassifier

SEEDS = (0, 1, 2)
TASKS = {"goemotions": "GoEmotions", "banking77": "Banking77 attributes"}
TITLES = {
    "linear": "linear head",
    "mixture": "classifier",
    "frozen": "frozen vectors + one-vs-rest logistic regression",
}
MEASURES = ("micro_f1", "macro_f1", "average_precision", "ece", "for_90", "gap")
RESULTS = ResultFile(
    "tasks_labels.csv", ("task", "model", "seed"), ("seconds", *MEASURES)
)
LEAST_INTENTS = 3  # whose names have an attribute
N_BINS = 15
N_EXPLAINED = 300


class FrozenOneVsRest(FrozenVectors):
    """Logistic regressions on sentence vectors of the frozen encoder."""

    def fit(self, X: list, y: np.ndarray) -> FrozenOneVsRest:
        """Encode the texts and fit one regression per label."""
        regression = LogisticRegression(C=10, max_iter=3000)
        self.model = OneVsRestClassifier(regression).fit(self._features(X), y)
        return self


def load(name: str, data: Path, *, is_development: bool) -> Task:
    """Load texts and indicator matrices."""
    if name == "goemotions":
        part = "dev" if is_development else "test"
        (X, sets), (X_test, sets_test) = (
            _read(data / f"goemotions.{p}.csv") for p in ("train", part)
        )
    else:
        task = (development_task if is_development else load_task)(name, data)
        X, X_test = task.X_train, task.X_test
        known = attributes(np.unique(task.y_train).tolist())
        sets, sets_test = ([known[i] for i in y] for y in (task.y_train, task.y_test))
    binarizer = MultiLabelBinarizer().fit([*sets, *sets_test])
    return Task(X, binarizer.transform(sets), X_test, binarizer.transform(sets_test))


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["labels"].split() for row in rows]


def attributes(intents: list[str]) -> dict[str, list[str]]:
    """Return the words of each intent's name that several names have."""
    words = {intent: set(intent.lower().split("_")) for intent in intents}
    counts = Counter(word for own in words.values() for word in own)
    return {
        intent: sorted(
            word for word in own if counts[word] >= LEAST_INTENTS and len(word) > 2
        )
        for intent, own in words.items()
    }


def make(model: str, seed: int) -> Any:
    """Build a model by its name in the results."""
    clf = ProtoLMClassifier(random_state=seed)
    if model == "linear":
        return LinearHeadMultilabel(clf)
    return FrozenOneVsRest(clf.backbone) if model == "frozen" else clf


def run_one(task: Task, model: str, seed: int) -> dict[str, float]:
    """Fit one model and evaluate it."""
    started = time.perf_counter()
    fitted = make(model, seed).fit(task.X_train, task.y_train)
    seconds = time.perf_counter() - started
    row = evaluate(task.y_test, fitted.predict_proba(task.X_test))
    if model == "mixture":
        row |= explained(fitted, task.X_test[:N_EXPLAINED])
    rounded = {name: float(f"{value:.6g}") for name, value in row.items()}
    return {"seconds": round(seconds, 1)} | rounded


def evaluate(y: np.ndarray, p: np.ndarray) -> dict[str, float]:
    """Compare probabilities with true labels; F1 is in percent, at a threshold of .5.

    A label without true or predicted texts has an F1 of 0.
    """
    predicted = (p >= 0.5).astype(int)
    scores = {
        f"{average}_f1": 100 * f1_score(y, predicted, average=average, zero_division=0)
        for average in ("micro", "macro")
    }
    precision = average_precision_score(y, p, average="micro")
    return scores | {"average_precision": precision, "ece": calibration_error(y, p)}


def calibration_error(y: np.ndarray, p: np.ndarray) -> float:
    """Return the expected calibration error over all labels of all texts."""
    bins = np.minimum((p.ravel() * N_BINS).astype(int), N_BINS - 1)
    return float(np.abs(np.bincount(bins, p.ravel() - y.ravel())).sum() / y.size)


def explained(clf: ProtoLMClassifier, X: list) -> dict[str, float]:
    """Count the texts behind an explained label, and how exact its sum of shares is."""
    explanations = clf.explain(X, token_method="decomposition")
    shares = np.sort([e.contributions for e in explanations], axis=1)[:, ::-1]
    counts = 1 + (shares.cumsum(axis=1) < 0.9).sum(axis=1)
    gaps = [
        abs(e.contributions[e.has_target].sum() - e.probability) for e in explanations
    ]
    return {"for_90": float(np.median(counts)), "gap": float(max(gaps))}


def main() -> None:
    """Run what is missing from the results, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--models", nargs="+", default=TITLES, choices=TITLES)
    parser.add_argument("--seeds", nargs="+", default=SEEDS, type=int)
    parser.add_argument("--development", action="store_true")
    parser.add_argument("--texts", type=int, help="training texts, with --development")
    parser.add_argument("--table", action="store_true", help="only print the tables")
    arguments = parser.parse_args()
    for name in () if arguments.table else arguments.tasks:
        task = load(name, arguments.data, is_development=arguments.development)
        if arguments.development and arguments.texts:
            task = shortened(task, arguments.texts, 0)
        for seed in arguments.seeds:
            for model in arguments.models:
                run_missing(name, task, model, seed, arguments.development)
    print_tables(RESULTS.rows())


def run_missing(
    name: str, task: Task, model: str, seed: int, is_development: bool
) -> None:
    """Run one model and seed; one seed of frozen vectors suffices."""
    is_repetition = model == "frozen" and seed != SEEDS[0]
    if is_development:
        print(name, model, seed, run_one(task, model, seed), flush=True)
    elif not is_repetition and not RESULTS.has(name, model, seed):
        row = {"task": name, "model": model, "seed": seed}
        RESULTS.add(row | run_one(task, model, seed))


def print_tables(rows: list[dict[str, str]]) -> None:
    """Print means over seeds, and paired differences, as Markdown."""
    runs = Runs(rows, "task")
    print(f"\n{provenance()} Seeds {runs.seeds}.")
    columns = ("micro-F1, %", "macro-F1, %", "average precision", "ECE")
    differences = ("micro-F1 − linear head", "macro-F1 − linear head")
    for name, title in TASKS.items():
        print()
        table(title, [*columns, *differences])
        for model, label in TITLES.items():
            cells = [
                runs.mean(model, measure, digits, name)
                for measure, digits in zip(MEASURES, (1, 1, 3, 4), strict=False)
            ]
            for measure in ("micro_f1", "macro_f1"):
                gaps = runs.differences(model, "linear", name, column=measure)
                cells.append("–" if model == "linear" else interval(gaps))
            print(f"| {label} | {' | '.join(cells)} |")
        for_90 = runs.mean("mixture", "for_90", 1, name)
        print(f"\nTexts for 90 % of the shares of the median text: {for_90}.")


if __name__ == "__main__":
    main()
