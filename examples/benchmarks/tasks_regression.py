"""Numbers: how related two sentences are, on a scale from 1 to 5 (SICK).

    python examples/benchmarks/tasks_regression.py --data FOLDER_OF_CSV_FILES

The linear head uses the same encoder, texts, batch size, epochs and learning rates as
the regressor, under the squared error. Results are written as they come, and an
interrupted run continues with the missing ones. `--development` evaluates on the
development pairs instead, and keeps nothing.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import FrozenVectors
from linear_head import LinearHeadRegressor
from measuring import ResultFile, Runs, interval, table
from scipy.stats import pearsonr, spearmanr
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from tasks import Task, provenance

from skprotolm import ProtoLMRegressor

SEEDS = (0, 1, 2)
TITLES = {
    "linear": "linear head",
    "mixture": "regressor",
    "learned": "regressor, learned vectors",
    "ridge": "frozen vectors + ridge regression",
}
MEASURES = ("pearson", "spearman", "rmse", "for_90", "gap")
RESULTS = ResultFile("tasks_regression.csv", ("model", "seed"), ("seconds", *MEASURES))
N_EXPLAINED = 300


class FrozenRidge(FrozenVectors):
    """Ridge regression on sentence vectors of the frozen encoder."""

    def fit(self, X: list, y: np.ndarray) -> FrozenRidge:
        """Encode the texts and choose the regularization by cross-validation."""
        alphas = {"alpha": (0.1, 0.3, 1, 3, 10)}
        self.model = GridSearchCV(Ridge(), alphas, cv=3).fit(self._features(X), y)
        return self

    def predict(self, X: list) -> np.ndarray:
        """Return the predicted numbers."""
        return self.model.predict(self._features(X))


def load(data: Path, part: str) -> Task:
    """Load the pairs and their relatedness."""
    (X, y), (X_test, y_test) = (_read(data / f"sick.{p}.csv") for p in ("train", part))
    return Task(X, y, X_test, y_test)


def _read(path: Path) -> tuple[list, np.ndarray]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    X = [(row["text_a"], row["text_b"]) for row in rows]
    return X, np.array([float(row["relatedness"]) for row in rows])


def make(model: str, seed: int) -> Any:
    """Build a model by its name in the results."""
    reg = ProtoLMRegressor(random_state=seed)
    if model == "linear":
        return LinearHeadRegressor(reg)
    if model == "ridge":
        return FrozenRidge(reg.backbone)
    return reg.set_params(projection=model == "mixture")


def run_one(task: Task, model: str, seed: int) -> dict[str, float]:
    """Fit one model and evaluate it."""
    started = time.perf_counter()
    fitted = make(model, seed).fit(task.X_train, task.y_train)
    seconds = time.perf_counter() - started
    predicted = fitted.predict(task.X_test)
    row = {
        "pearson": pearsonr(predicted, task.y_test).statistic,
        "spearman": spearmanr(predicted, task.y_test).statistic,
        "rmse": float(np.sqrt(np.mean((predicted - task.y_test) ** 2))),
    }
    if model == "mixture":
        row |= explained(fitted, task.X_test[:N_EXPLAINED])
    rounded = {name: float(f"{value:.6g}") for name, value in row.items()}
    return {"seconds": round(seconds, 1)} | rounded


def explained(reg: ProtoLMRegressor, X: list) -> dict[str, float]:
    """Count the texts behind a prediction, and how far it is from its exact sum."""
    explanations = reg.explain(X, token_method="decomposition")
    shares = np.sort([e.shares for e in explanations], axis=1)[:, ::-1]
    counts = 1 + (shares.cumsum(axis=1) < 0.9).sum(axis=1)
    gaps = [abs(e.shares @ e.prototype_values - e.prediction) for e in explanations]
    return {"for_90": float(np.median(counts)), "gap": float(max(gaps))}


def main() -> None:
    """Run what is missing from the results, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--models", nargs="+", default=TITLES, choices=TITLES)
    parser.add_argument("--seeds", nargs="+", default=SEEDS, type=int)
    parser.add_argument("--development", action="store_true")
    parser.add_argument("--table", action="store_true", help="only print the table")
    arguments = parser.parse_args()
    if not arguments.table:
        task = load(arguments.data, "dev" if arguments.development else "test")
        for seed in arguments.seeds:
            for model in arguments.models:
                run_missing(task, model, seed, arguments.development)
    print_table(RESULTS.rows())


def run_missing(task: Task, model: str, seed: int, is_development: bool) -> None:
    """Run one model and seed; one seed of ridge regression suffices."""
    is_repetition = model == "ridge" and seed != SEEDS[0]
    if is_development:
        print(model, seed, run_one(task, model, seed), flush=True)
    elif not is_repetition and not RESULTS.has(model, seed):
        RESULTS.add({"model": model, "seed": seed} | run_one(task, model, seed))


def print_table(rows: list[dict[str, str]]) -> None:
    """Print means over seeds, and paired differences, as Markdown."""
    runs = Runs(rows)
    print(f"\n{provenance()} Seeds {runs.seeds}.\n")
    table("SICK relatedness", ["Pearson", "Spearman", "RMSE", "Pearson − linear head"])
    for model, title in TITLES.items():
        cells = [runs.mean(model, m, 4) for m in ("pearson", "spearman", "rmse")]
        difference = runs.differences(model, "linear", column="pearson")
        cells.append("–" if model == "linear" else interval(difference, 4))
        print(f"| {title} | {' | '.join(cells)} |")
    for_90 = runs.mean("mixture", "for_90", 1)
    gap = f"{max(runs.values('mixture', 'gap').values()):.0e}"
    print(
        f"\nTexts for 90 % of the shares of the median pair: {for_90}. Largest "
        f"distance of a prediction to its sum of share × value: {gap}."
    )


if __name__ == "__main__":
    main()
