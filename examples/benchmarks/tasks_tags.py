"""Tags: the entities of WNUT-17.

    python examples/benchmarks/tasks_tags.py --data FOLDER_OF_CONLL_FILES

The linear head uses the same encoder, sentences, batch size, epochs and learning rates
as the token classifier. Results are written as they come, and an interrupted run
continues with the missing ones. `--development` evaluates on the development sentences
instead, `--sentences` trains on fewer; both keep nothing.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from linear_tagger import LinearTagger
from measuring import ResultFile, Runs, interval, table
from tasks import provenance

from skprotolm import ProtoLMTokenClassifier

SEEDS = (0, 1, 2)
TITLES = {
    "linear": "linear head",
    "mixture": "token classifier",
    "learned": "token classifier, learned vectors",
}
MEASURES = ("f1", "valid_f1", "accuracy", "for_90", "gap", "prototypes", "unique")
RESULTS = ResultFile("tasks_tags.csv", ("model", "seed"), ("seconds", *MEASURES))
N_EXPLAINED = 100  # sentences


class Tagged(NamedTuple):
    """Training and test sentences with their tags."""

    X_train: list[list[str]]
    y_train: list[list[str]]
    X_test: list[list[str]]
    y_test: list[list[str]]


def load(data: Path, part: str) -> Tagged:
    """Load the sentences and their tags."""
    return Tagged(
        *read(data / "wnut17.train.conll"), *read(data / f"wnut17.{part}.conll")
    )


def read(path: Path) -> tuple[list[list[str]], list[list[str]]]:
    """Read a file of one word and its tag per line."""
    X: list[list[str]] = [[]]
    y: list[list[str]] = [[]]
    for line in path.read_text(encoding="utf-8").split("\n"):
        word, _, tag = line.partition("\t")
        if word.strip():
            X[-1].append(word)
            y[-1].append(tag)
        elif X[-1]:
            X.append([])
            y.append([])
    return ([words for words in X if words], [tags for tags in y if tags])


def make(model: str, seed: int) -> Any:
    """Build a model by its name in the results."""
    clf = ProtoLMTokenClassifier(random_state=seed)
    if model == "linear":
        return LinearTagger(clf)
    return clf.set_params(projection=model == "mixture")


def run_one(task: Tagged, model: str, seed: int) -> dict[str, float]:
    """Fit one model and evaluate it."""
    started = time.perf_counter()
    fitted = make(model, seed).fit(task.X_train, task.y_train)
    seconds = time.perf_counter() - started
    predicted = fitted.predict(task.X_test)
    row = {
        "f1": entity_f1(task.y_test, predicted),
        "accuracy": float(
            np.mean(np.concatenate(predicted) == np.concatenate(task.y_test))
        ),
    }
    if model != "linear":
        valid = fitted.predict(task.X_test, valid_tags=True)
        row["valid_f1"] = entity_f1(task.y_test, valid)
        prototypes = fitted.prototypes_
        row["prototypes"] = len(prototypes)
        row["unique"] = len(set(prototypes.texts)) / len(prototypes)
    if model == "mixture":
        row |= explained(fitted, task.X_test[:N_EXPLAINED])
    rounded = {name: float(f"{value:.6g}") for name, value in row.items()}
    return {"seconds": round(seconds, 1)} | rounded


def entity_f1(y_true: list, y_pred: list) -> float:
    """Return the F1 of entities that match exactly, as the CoNLL evaluation does."""
    true, predicted = (
        {(row, *entity) for row, tags in enumerate(y) for entity in entities(tags)}
        for y in (y_true, y_pred)
    )
    return 2 * len(true & predicted) / max(len(true) + len(predicted), 1)


def entities(tags: Any) -> list[tuple[int, int, str]]:
    """Return start, stop and type of each entity."""
    found: list[tuple[int, int, str]] = []
    previous = "O"
    for position, tag in enumerate(tags):
        continues = tag[:2] == "I-" and previous != "O" and previous[2:] == tag[2:]
        if continues:
            found[-1] = (found[-1][0], position + 1, tag[2:])
        elif tag != "O":
            found.append((position, position + 1, tag[2:]))
        previous = tag
    return found


def explained(clf: ProtoLMTokenClassifier, X: list) -> dict[str, float]:
    """Count the words behind a tag, and how far shares are from the probability."""
    explanations = clf.explain(X, token_method="decomposition")
    shares = np.sort([e.contributions for e in explanations], axis=1)[:, ::-1]
    counts = 1 + (shares.cumsum(axis=1) < 0.9).sum(axis=1)
    probabilities = clf.predict_proba(X)
    gaps = []
    for e in explanations:
        code = clf.classes_.tolist().index(e.target)
        is_target = e.prototype_labels == e.target
        probability = probabilities[e.sentence][e.position, code]
        assert e.token_scores is not None
        gaps += [
            abs(e.contributions[is_target].sum() - probability),
            abs(e.base_value + e.token_scores.sum() - e.log_odds),
        ]
    return {"for_90": float(np.median(counts)), "gap": float(max(gaps))}


def main() -> None:
    """Run what is missing from the results, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--models", nargs="+", default=TITLES, choices=TITLES)
    parser.add_argument("--seeds", nargs="+", default=SEEDS, type=int)
    parser.add_argument("--development", action="store_true")
    parser.add_argument("--sentences", type=int, default=None)
    parser.add_argument("--table", action="store_true", help="only print the table")
    arguments = parser.parse_args()
    if not arguments.table:
        is_kept = not arguments.development and arguments.sentences is None
        task = load(arguments.data, "dev" if arguments.development else "test")
        n = arguments.sentences
        task = task._replace(X_train=task.X_train[:n], y_train=task.y_train[:n])
        for seed in arguments.seeds:
            for model in arguments.models:
                if not is_kept:
                    print(model, seed, run_one(task, model, seed), flush=True)
                elif not RESULTS.has(model, seed):
                    row = run_one(task, model, seed)
                    RESULTS.add({"model": model, "seed": seed} | row)
    print_table(RESULTS.rows())


def print_table(rows: list[dict[str, str]]) -> None:
    """Print means over seeds, and paired differences, as Markdown."""
    if not rows:
        return
    runs = Runs(rows)
    print(f"\n{provenance()} Seeds {runs.seeds}.\n")
    table("WNUT-17", ["entity F1", "valid tags", "accuracy", "F1 − linear head"])
    for model, title in TITLES.items():
        cells = [
            "–" if model == "linear" and m == "valid_f1" else runs.mean(model, m, 4)
            for m in ("f1", "valid_f1", "accuracy")
        ]
        difference = runs.differences(model, "linear", column="f1")
        cells.append("–" if model == "linear" else interval(difference, 4))
        print(f"| {title} | {' | '.join(cells)} |")
    for_90 = runs.mean("mixture", "for_90", 1)
    gap = f"{max(runs.values('mixture', 'gap').values()):.0e}"
    print(
        f"\nWords for 90 % of the shares of the median word: {for_90}. Largest "
        f"distance of a probability, or of log-odds, to its exact sum: {gap}."
    )


if __name__ == "__main__":
    main()
