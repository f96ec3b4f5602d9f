"""Explanations by prototypes: exactness, faithfulness and stability over seeds.

    python examples/benchmarks/prototypes.py --data FOLDER_OF_CSV_FILES

Exactness is the largest error of the sums over a thousand test texts. For faithfulness,
the most important prototypes of the predicted class are removed, or all others of that
class are; random prototypes of the class are the baseline. The last table compares the
decisions and prototypes of two seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
from explanations import bootstrap_interval, fitted_on, parse
from tasks import Task, load_task, provenance

from skprotolm import Explanation, ProtoLMClassifier
from skprotolm.metrics import (
    prototype_comprehensiveness,
    prototype_sufficiency,
    seed_stability,
    simulatability,
)

SEED, OTHER_SEED = 0, 1
K = 3
N_EXACT = 1000
N_SPLIT = 100  # of these, the texts whose similarities are split over tokens
N_PUBLISHED = 1000  # training texts of the published formulation


def errors(e: Explanation) -> list[float]:
    """Return the absolute errors of the sums of an explanation."""
    if e.space == "score":
        return [abs(e.contributions.sum() + e.base_value - e.score)]
    of_target = e.prototype_labels == e.target
    shares = e.contributions
    assert e.token_scores is not None  # the mixture has them
    return [
        max(abs(shares.sum() - 1), abs(shares[of_target].sum() - e.probability)),
        abs(e.base_value + e.token_scores.sum() - e.log_odds),
    ]


def exactness(clf: ProtoLMClassifier, X: list[str]) -> str:
    """Return the largest errors over many texts."""
    method = "decomposition" if clf.formulation == "mixture" else "auto"
    explanations = clf.explain(X[:N_EXACT], token_method=method)
    largest = np.max([errors(e) for e in explanations], axis=0).tolist()
    if explanations[0].space == "probability":
        largest.append(
            max(
                np.abs(e.token_similarities.sum(axis=0) - e.similarities).max()
                for e in explanations[:N_SPLIT]
            )
        )
    return " | ".join(f"{error:.0e}" for error in largest)


def factor(values: np.ndarray, baseline: np.ndarray) -> str:
    """Format a measure, its baseline and their ratio."""
    ratio = values.mean() / baseline.mean()
    return (
        f"{bootstrap_interval(values)} | {bootstrap_interval(baseline)} | {ratio:.2f}"
    )


def row(name: str, clf: ProtoLMClassifier, X: list[str]) -> str:
    """Return the row of a task in the table of faithfulness."""
    cells = []
    for measure in (prototype_comprehensiveness, prototype_sufficiency):
        random = measure(clf, X, k=K, ranking="random", random_state=SEED)
        cells.append(factor(measure(clf, X, k=K), random))
    counts = np.unique(clf.predict(X), return_counts=True)[1]
    simulated = "–"
    if counts.min() >= 5:
        result = simulatability(clf, X, k=K, random_state=SEED)
        simulated = (
            f"{result.from_prototypes.mean():.2f} / {result.from_text.mean():.2f}"
        )
    return f"| {name} | {' | '.join(cells)} | {simulated} |"


@dataclass
class DrawnTexts:
    """Training texts that stand in for prototypes."""

    texts: list[str]
    labels: np.ndarray
    redacted: np.ndarray

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.texts)


def random_texts(clf: ProtoLMClassifier, task: Task, seed: int) -> SimpleNamespace:
    """Draw as many texts per class as the classifier has prototypes."""
    order = np.random.RandomState(seed).permutation(len(task.y_train))
    drawn: list[int] = []
    for label in clf.classes_:
        count = (clf.prototypes_.labels == label).sum()
        drawn.extend(order[task.y_train[order] == label][:count])
    none = np.full(len(drawn), False)
    texts = DrawnTexts([task.X_train[i] for i in drawn], task.y_train[drawn], none)
    return SimpleNamespace(
        classes_=clf.classes_, prototypes_=texts, backbone=clf.backbone
    )


def stability(clf: ProtoLMClassifier, other: ProtoLMClassifier, task: Task) -> str:
    """Compare the prototypes of two seeds with random texts."""
    matched = seed_stability(clf, other)
    drawn = [random_texts(fit, task, i) for i, fit in enumerate((clf, other))]
    texts, others = (set(fit.prototypes_.texts) for fit in (clf, other))
    shared = f"{len(texts & others)} of {len(texts)}, {len(others)}"
    baseline = seed_stability(*drawn)
    cells = bootstrap_interval(matched), bootstrap_interval(baseline), shared
    return " | ".join(cells)


def main() -> None:
    """Print the tables of exactness, faithfulness and stability."""
    arguments = parse(__doc__)
    print(f"{provenance()} Seed {SEED}.\n")
    print("| largest error | shares | log-odds by tokens | cosines by tokens |")
    print("| --- | --- | --- | --- |")
    rows, seeds = [], []
    for name in arguments.tasks:
        task = load_task(name, arguments.data)
        clf = fitted_on(name, task, arguments.fitted)
        print(f"| {name} | {exactness(clf, task.X_test)} |", flush=True)
        order = np.random.RandomState(SEED).permutation(len(task.X_test))
        X = [task.X_test[i] for i in order[: arguments.texts]]
        rows.append(row(name, clf, X))
        other = fitted_on(name, task, arguments.fitted, OTHER_SEED)
        agreement = (clf.predict(task.X_test) == other.predict(task.X_test)).mean()
        seeds.append(
            f"| {name} | {100 * agreement:.1f} | {stability(clf, other, task)} |"
        )
    task = load_task(arguments.tasks[0], arguments.data)
    subset = np.random.RandomState(SEED).permutation(len(task.X_train))[:N_PUBLISHED]
    published = ProtoLMClassifier(formulation="proto-lm", random_state=SEED)
    published.fit([task.X_train[i] for i in subset], task.y_train[subset])
    print(
        f"| {arguments.tasks[0]}, proto-lm | {exactness(published, task.X_test)} | | |"
    )
    print(f"\nWithout or with only {K} prototypes, and simulatability:\n")
    print("| | dropped | at random | factor | kept | at random | factor | simulated |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    print("\n".join(rows))
    print(f"\nSeeds {SEED} and {OTHER_SEED}, and the cosines of their prototypes:\n")
    print("| | same decisions, % | matched | random texts, matched | the same texts |")
    print("| --- | --- | --- | --- | --- |")
    print("\n".join(seeds))


if __name__ == "__main__":
    main()
