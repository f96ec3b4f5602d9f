"""Long texts: windows against truncation, on film reviews and medical abstracts.

    python examples/benchmarks/tasks_long_texts.py --data FOLDER_OF_CSV_FILES

IMDb has 2,000 reviews for training and 2,000 for testing, PubMedQA pairs of a question
and an abstract. The linear head reads what the truncating classifier reads. Results are
written as they come, and an interrupted run continues with the missing ones. With
`--texts` or `--max-length`, a quick run on fewer texts or with shorter windows prints
its results and keeps nothing. `--scale` measures time and memory by the length of one
text instead.
"""

from __future__ import annotations

import argparse
import resource
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from linear_head import LinearHeadClassifier
from measuring import ResultFile, Runs, evaluate, interval, table
from sklearn.model_selection import train_test_split
from tasks import Task, draw, load_task, provenance

from skprotolm import ProtoLMClassifier
from skprotolm.datasets import load_imdb
from skprotolm.exceptions import TextTruncatedWarning

SEEDS = (0, 1, 2)
N_IMDB = 2_000  # reviews for training, and as many for testing
N_EXPLAINED = 100  # long texts whose sums are checked
TASKS = {"imdb": "IMDb", "pubmedqa": "PubMedQA"}
TITLES = {
    "linear": "linear head, truncated texts",
    "truncate": 'long_text="truncate"',
    "window": 'long_text="window"',
}
RESULTS = ResultFile(
    "tasks_long_texts.csv",
    ("task", "model", "seed"),
    ("seconds", "seconds_to_predict", "accuracy", "nll", "ece", "gap"),
)
N_WORDS = (300, 1_000, 3_000, 10_000, 30_000, 100_000)


def load(name: str, data: Path, n_texts: int | None) -> Task:
    """Load a task, with at most `n_texts` training texts and as many test texts."""
    if name == "imdb":
        X, y = load_imdb(return_X_y=True)
        sizes = {"train_size": N_IMDB, "test_size": N_IMDB}
        X, X_test, y, y_test = train_test_split(
            X, y, **sizes, stratify=y, random_state=0
        )
        task = Task(X, y, X_test, y_test)
    else:
        task = load_task(name, data)
    if n_texts is None:
        return task
    return Task(
        *draw(task.X_train, task.y_train, n_texts, 0),
        *draw(task.X_test, task.y_test, n_texts, 0),
    )


def make(model: str, seed: int, max_length: int | None) -> Any:
    """Build a model by its name in the results."""
    clf = ProtoLMClassifier(random_state=seed, max_length=max_length)
    if model == "linear":
        return LinearHeadClassifier(clf)
    return clf.set_params(long_text=model)


def run_one(
    task: Task, model: str, seed: int, max_length: int | None
) -> dict[str, float]:
    """Fit one model and evaluate it."""
    started = time.perf_counter()
    fitted = make(model, seed, max_length).fit(task.X_train, task.y_train)
    ended = time.perf_counter()
    row = evaluate(fitted, task)
    row["seconds"] = round(ended - started, 1)
    row["seconds_to_predict"] = round(time.perf_counter() - ended, 1)
    if model == "window":
        longest = sorted(task.X_test, key=lambda text: -len("".join(text)))
        row["gap"] = float(f"{largest_gap(fitted, longest[:N_EXPLAINED]):.2g}")
    return row


def largest_gap(clf: ProtoLMClassifier, X: list) -> float:
    """Return the largest distance of a log-odds to the sum over all tokens.

    The base of the decomposition is not computed as the difference.
    """
    gap = 0.0
    for e in clf.explain(X, token_method="decomposition"):
        assert e.token_scores is not None
        gap = max(gap, abs(e.base_value + float(e.token_scores.sum()) - e.log_odds))
    return gap


def run_missing(task: Task, name: str, model: str, seed: int) -> None:
    """Run one model and seed of a task, unless its result is there."""
    if not RESULTS.has(name, model, seed):
        run = {"task": name, "model": model, "seed": seed}
        RESULTS.add(run | run_one(task, model, seed, None))


def print_table(rows: list[dict[str, str]]) -> None:
    """Print means over seeds, and paired differences, as Markdown."""
    runs = Runs(rows, "task")
    print(f"\n{provenance()} Seeds {runs.seeds}.\n")
    titles = ["Accuracy, %", "ECE", "Accuracy − truncate", "Time of the fit, ratio"]
    for name, title in TASKS.items():
        table(title, titles)
        for model, model_title in TITLES.items():
            cells = [
                runs.mean(model, "accuracy", 2, name),
                runs.mean(model, "ece", 3, name),
                interval(runs.differences(model, "truncate", name)),
                ratio(runs, model, name),
            ]
            print(f"| {model_title} | {' | '.join(cells)} |")
        gaps = runs.values("window", "gap", name).values()
        if gaps:
            print(
                f"\nLargest distance of a log-odds to the sum over all tokens, of the "
                f"{N_EXPLAINED} longest test texts: {max(gaps):.0e}.\n"
            )


def ratio(runs: Runs, model: str, name: str) -> str:
    """Format the mean of the paired ratios of the times of fits."""
    ours, theirs = (runs.values(m, "seconds", name) for m in (model, "truncate"))
    ratios = [ours[key] / theirs[key] for key in ours.keys() & theirs]
    return f"{np.mean(ratios):.2f}" if ratios else "–"


def print_scale(n_words: list[int]) -> None:
    """Print time per word and peak memory by the length of one text."""
    X, y = load_imdb(return_X_y=True)
    clf = ProtoLMClassifier(long_text="window", finetune="head", random_state=0)
    clf.fit(*draw(X, y, 100, 0))
    words = " ".join(X[:1000]).split()
    print(f"\n{provenance()}\n")
    titles = ["Predict, ms/word", "Explain, ms/word", "Peak memory, MB", "Gap"]
    table("Words", titles)
    for n in n_words:
        text = " ".join(words[:n])
        started = time.perf_counter()
        clf.predict([text])
        predicted = time.perf_counter()
        clf.explain([text])
        explained = time.perf_counter()
        gap = largest_gap(clf, [text])
        cells = [
            f"{1000 * (predicted - started) / n:.2f}",
            f"{1000 * (explained - predicted) / n:.2f}",
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000:.0f}",
            f"{gap:.0e}",
        ]
        print(f"| {n:,} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Run what is missing from the results, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--models", nargs="+", default=TITLES, choices=TITLES)
    parser.add_argument("--seeds", nargs="+", default=SEEDS, type=int)
    parser.add_argument("--texts", type=int, help="at most so many, and keep nothing")
    parser.add_argument("--max-length", type=int, help="of windows; keeps nothing")
    parser.add_argument("--scale", nargs="*", type=int, help="numbers of words")
    parser.add_argument("--table", action="store_true", help="only print the table")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", TextTruncatedWarning)
    if arguments.scale is not None:
        print_scale(arguments.scale or list(N_WORDS))
        return
    is_quick = arguments.texts is not None or arguments.max_length is not None
    for name in () if arguments.table else arguments.tasks:
        task = load(name, arguments.data, arguments.texts)
        for seed in arguments.seeds:
            for model in arguments.models:
                if is_quick:
                    row = run_one(task, model, seed, arguments.max_length)
                    print(name, model, seed, row, flush=True)
                else:
                    run_missing(task, name, model, seed)
    if not is_quick:
        print_table(RESULTS.rows())


if __name__ == "__main__":
    main()
