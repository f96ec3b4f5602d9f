"""Test accuracy of the classifier, tied prototypes, against a linear head.

Both are trained the same way in the same run. Every result is written as it comes,
and a run that was stopped goes on where it was.

    python examples/benchmarks/accuracy.py --data FOLDER_OF_CSV_FILES
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from linear_head import LinearHeadClassifier
from tasks import Task, load_task, provenance

from skprotolm import ProtoLMClassifier

TASKS = ("sst2", "banking77", "rotten_tomatoes")
MODELS = ("linear", "mixture")
SEEDS = (0, 1, 2)
RESULTS = Path(__file__).parent / "results" / "accuracy.csv"
FIELDS = (
    "task",
    "model",
    "seed",
    "accuracy",
    "ece",
    "distinct_texts",
    "own_class",
    "prototypes_for_90",
    "mean_purity",
)


def main() -> None:
    """Run what is missing from the results, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--table", action="store_true", help="print, run nothing")
    arguments = parser.parse_args()
    if not arguments.table:
        run_missing(arguments.data)
    print_table(read_results())


def run_missing(data: Path) -> None:
    """Run seed after seed, so that a stopped run has whole comparisons."""
    done = {(row["task"], row["model"], row["seed"]) for row in read_results()}
    for seed in SEEDS:
        for name in TASKS:
            for model in MODELS:
                if (name, model, str(seed)) not in done:
                    write_result(run_one(name, load_task(name, data), model, seed))


def run_one(name: str, task: Task, model: str, seed: int) -> dict[str, object]:
    """Fit one model and measure it on the test texts."""
    clf = ProtoLMClassifier(random_state=seed)
    fitted = LinearHeadClassifier(clf) if model == "linear" else clf
    fitted.fit(task.X_train, task.y_train)
    probabilities = fitted.predict_proba(task.X_test)
    right = fitted.classes_[probabilities.argmax(axis=1)] == task.y_test
    row: dict[str, object] = {
        "task": name,
        "model": model,
        "seed": seed,
        "accuracy": round(100 * right.mean(), 3),
        "ece": round(expected_calibration_error(probabilities.max(axis=1), right), 4),
    }
    return row if model == "linear" else row | describe_prototypes(clf, task)


def describe_prototypes(clf: ProtoLMClassifier, task: Task) -> dict[str, object]:
    """Check that prototypes are distinct training texts of their own class."""
    prototypes = clf.prototypes_
    own = [task.y_train[p.train_index] == p.label for p in prototypes]
    quoted = [task.X_train[p.train_index] == p.text for p in prototypes]
    shares = np.stack([e.contributions for e in clf.explain(task.X_test)])
    largest_first = -np.sort(-shares, axis=1)
    needed = 1 + (largest_first.cumsum(axis=1) < 0.9).sum(axis=1)
    return {
        "distinct_texts": f"{len(set(prototypes.texts))} of {len(prototypes)}",
        "own_class": f"{np.sum(np.logical_and(own, quoted))} of {len(prototypes)}",
        "prototypes_for_90": float(np.median(needed)),
        "mean_purity": round(float(np.nanmean(prototypes.purities)), 3),
    }


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


def read_results() -> list[dict[str, str]]:
    """Return the results so far."""
    if not RESULTS.exists():
        return []
    with RESULTS.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_result(row: dict[str, object]) -> None:
    """Append one result."""
    is_new = not RESULTS.exists()
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def print_table(results: list[dict[str, str]]) -> None:
    """Print paired accuracies as Markdown."""
    print(f"\n{provenance()} Seeds {', '.join(map(str, SEEDS))}.\n")
    print(
        "| task | linear head | mixture, tied | difference by seed | mean "
        "| ECE linear / mixture | distinct texts | own class | prototypes for 90 % |"
    )
    print("| --- " * 9 + "|")
    means = []
    for name in TASKS:
        rows = {(r["model"], r["seed"]): r for r in results if r["task"] == name}
        seeds = [s for s in map(str, SEEDS) if all((m, s) in rows for m in MODELS)]
        if not seeds:
            continue
        linear, mixture = ([rows[model, s] for s in seeds] for model in MODELS)
        gaps = [
            float(m["accuracy"]) - float(li["accuracy"])
            for li, m in zip(linear, mixture, strict=True)
        ]
        means.append(np.mean(gaps))
        print(
            f"| {name} | {mean_of(linear, 'accuracy'):.2f} | "
            f"{mean_of(mixture, 'accuracy'):.2f} | "
            f"{', '.join(f'{gap:+.2f}' for gap in gaps)} | {means[-1]:+.2f} | "
            f"{mean_of(linear, 'ece'):.3f} / {mean_of(mixture, 'ece'):.3f} | "
            f"{mixture[0]['distinct_texts']} | {mixture[0]['own_class']} | "
            f"{mean_of(mixture, 'prototypes_for_90'):.1f} |"
        )
    if means:
        print(f"\nMean difference over tasks: {np.mean(means):+.2f} points.")


def mean_of(rows: list[dict[str, str]], column: str) -> float:
    """Return the mean of a column."""
    return float(np.mean([float(row[column]) for row in rows]))


if __name__ == "__main__":
    main()
