"""Whether explanations by prototypes are exact, what predictions hang on, and chance.

    python examples/benchmarks/prototypes.py --data FOLDER_OF_CSV_FILES

Exactness is the largest miss over a thousand test texts. Prototypes are taken out of
the class predicted, or are all that is left of it, beside random ones of that class.
The last table says how much of what a reader sees another seed would show, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
from explanations import fitted_on, interval, parse
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
N_SPLIT = 100  # of these, also similarities by tokens
N_PUBLISHED = 1000  # texts that the published formulation is trained on


def misses(e: Explanation) -> list[float]:
    """Return by how much the sums of an explanation miss what they promise."""
    if e.space == "score":
        return [abs(e.contributions.sum() + e.base_value - e.score)]
    own = e.prototype_labels == e.target
    shares = e.contributions
    assert e.token_scores is not None  # since these are of the mixture
    return [
        max(abs(shares.sum() - 1), abs(shares[own].sum() - e.probability)),
        abs(e.base_value + e.token_scores.sum() - e.log_odds),
    ]


def exactness(clf: ProtoLMClassifier, X: list[str]) -> str:
    """Return the largest misses over many texts."""
    explanations = clf.explain(X[:N_EXACT])
    found = np.max([misses(e) for e in explanations], axis=0).tolist()
    if explanations[0].space == "probability":
        found.append(
            max(
                np.abs(e.token_similarities.sum(axis=0) - e.similarities).max()
                for e in explanations[:N_SPLIT]
            )
        )
    return " | ".join(f"{miss:.0e}" for miss in found)


def factor(values: np.ndarray, baseline: np.ndarray) -> str:
    """Write a measure beside its baseline, with their ratio."""
    ratio = values.mean() / baseline.mean()
    return f"{interval(values)} | {interval(baseline)} | {ratio:.2f}"


def row(name: str, clf: ProtoLMClassifier, X: list[str]) -> str:
    """Measure what a task's predictions hang on."""
    cells = []
    for measure in (prototype_comprehensiveness, prototype_sufficiency):
        random = measure(clf, X, k=K, ranking="random", random_state=SEED)
        cells.append(factor(measure(clf, X, k=K), random))
    counts = np.unique(clf.predict(X), return_counts=True)[1]
    told = "–"
    if counts.min() >= 5:
        found = simulatability(clf, X, k=K, random_state=SEED)
        told = f"{found.from_prototypes.mean():.2f} / {found.from_text.mean():.2f}"
    return f"| {name} | {' | '.join(cells)} | {told} |"


@dataclass
class DrawnTexts:
    """Training texts in the place of prototypes."""

    texts: list[str]
    labels: np.ndarray
    redacted: np.ndarray

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.texts)


def at_random(clf: ProtoLMClassifier, task: Task, seed: int) -> SimpleNamespace:
    """Draw as many texts of each class as a fit has prototypes."""
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
    """Compare two seeds' prototypes, beside texts drawn at random."""
    matched = seed_stability(clf, other)
    drawn = [at_random(fit, task, i) for i, fit in enumerate((clf, other))]
    own, foreign = (set(fit.prototypes_.texts) for fit in (clf, other))
    shared = f"{len(own & foreign)} of {len(own)}, {len(foreign)}"
    return f"{interval(matched)} | {interval(seed_stability(*drawn))} | {shared}"


def main() -> None:
    """Print tables of exactness, of what predictions hang on, and of two seeds."""
    arguments = parse(__doc__)
    print(f"{provenance()} Seed {SEED}.\n")
    print("| largest miss | shares | log-odds by tokens | cosines by tokens |")
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
        told = (clf.predict(task.X_test) == other.predict(task.X_test)).mean()
        seeds.append(f"| {name} | {100 * told:.1f} | {stability(clf, other, task)} |")
    task = load_task(arguments.tasks[0], arguments.data)
    some = np.random.RandomState(SEED).permutation(len(task.X_train))[:N_PUBLISHED]
    published = ProtoLMClassifier(formulation="proto-lm", random_state=SEED)
    published.fit([task.X_train[i] for i in some], task.y_train[some])
    print(
        f"| {arguments.tasks[0]}, proto-lm | {exactness(published, task.X_test)} | | |"
    )
    print(f"\n{K} prototypes, and how plainly they tell the decision:\n")
    print("| | dropped | at random | factor | kept | at random | factor | told |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    print("\n".join(rows))
    print(f"\nSeeds {SEED} and {OTHER_SEED}, and cosines of their prototypes:\n")
    print("| | same decisions, % | matched | random texts, matched | the same texts |")
    print("| --- | --- | --- | --- | --- |")
    print("\n".join(seeds))


if __name__ == "__main__":
    main()
