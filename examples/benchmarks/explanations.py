"""Faithfulness and time of word scores, against LIME and SHAP.

    pip install lime shap
    python examples/benchmarks/explanations.py --data FOLDER_OF_CSV_FILES

All methods score the words of the same texts for the same fitted classifier. Time is
measured on one text at a time, as a multiple of one prediction, interleaved with it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import joblib
import numpy as np
import torch
from scipy.cluster.hierarchy import linkage
from scipy.stats import bootstrap
from tasks import Task, load_task, provenance

from skprotolm import Explanation, ProtoLMClassifier
from skprotolm.metrics import comprehensiveness, sufficiency

SEED = 0
N_TIMED = 20  # texts
LIME_SAMPLES = 1000
PERMUTATIONS = 64  # of the sampled Shapley values

Method = Callable[[ProtoLMClassifier, Explanation], np.ndarray]
Measures = dict[str, np.ndarray]  # one number per text


def masked_log_odds(
    clf: ProtoLMClassifier, e: Explanation, masks: np.ndarray
) -> np.ndarray:
    """Return the log-odds of the target per mask of kept words (n, W)."""
    texts = [masked_text(e, mask) for mask in masks.astype(bool)]
    distinct = list(dict.fromkeys(texts))
    p = clf.predict_proba(distinct)[:, e.classes.tolist().index(e.target)]
    p = np.clip(p, 1e-12, 1 - 1e-12)
    odds = dict(zip(distinct, np.log(p) - np.log1p(-p), strict=True))
    return np.array([odds[text] for text in texts])


def masked_text(e: Explanation, mask: np.ndarray) -> str:
    """Delete the words that are not kept, and what follows the last word read."""
    assert isinstance(e.text, str)
    spans = e.word_offsets[:, 1:]
    text = e.text[: spans[:, 1].max()]
    for start, end in spans[~mask][::-1].tolist():
        text = text[:start] + text[end:]
    return text


def word_ids(e: Explanation) -> np.ndarray:
    """Return the index of the word of each token, (T,)."""
    return np.searchsorted(e.word_offsets[:, 2], e.offsets[:, 1])


def by_token_method(method: str) -> Method:
    """Score words by a token method of `explain`."""

    def scores(clf: ProtoLMClassifier, e: Explanation) -> np.ndarray:
        explanation = clf.explain([e.text], target=e.target, token_method=method)[0]
        assert explanation.word_scores is not None
        return explanation.word_scores

    return scores


def by_attention(clf: ProtoLMClassifier, e: Explanation) -> np.ndarray:
    """Score words by the attention of their tokens."""
    return np.bincount(word_ids(e), e.attention, minlength=len(e.words))


def by_lime(clf: ProtoLMClassifier, e: Explanation) -> np.ndarray:
    """Score words by LIME, on a text of one placeholder per word."""
    from lime.lime_text import LimeTextExplainer

    W = len(e.words)
    placeholders = " ".join(f"w{i}" for i in range(W))

    def predict(versions: list[str]) -> np.ndarray:
        masks = [[word.startswith("w") for word in v.split()] for v in versions]
        odds = masked_log_odds(clf, e, np.array(masks))
        p = 1 / (1 + np.exp(-odds))
        return np.stack([1 - p, p], axis=1)

    explainer = LimeTextExplainer(
        split_expression=r"\s+", bow=False, mask_string="-", random_state=SEED
    )
    explanation = explainer.explain_instance(
        placeholders, predict, labels=(1,), num_features=W, num_samples=LIME_SAMPLES
    )
    scores = np.zeros(W)
    for word, weight in explanation.as_map()[1]:
        scores[word] = weight
    return scores


def by_shap(clf: ProtoLMClassifier, e: Explanation) -> np.ndarray:
    """Score words by the partition explainer of SHAP, on a tree of adjacent words."""
    import shap

    W = len(e.words)
    if W < 3:
        return by_token_method("occlusion")(clf, e)
    tree = linkage(np.arange(W)[:, None], "ward")
    masker = shap.maskers.Partition(np.zeros((1, W)), clustering=tree)
    explainer = shap.PartitionExplainer(
        lambda masks: masked_log_odds(clf, e, masks), masker
    )
    return explainer(np.ones((1, W)), silent=True).values[0]


def by_shapley(clf: ProtoLMClassifier, e: Explanation) -> np.ndarray:
    """Score words by Shapley values, sampled over permutations."""
    W, rng = len(e.words), np.random.RandomState(SEED)
    orders = [rng.permutation(W) for _ in range(PERMUTATIONS)]
    masks = np.concatenate(
        [np.argsort(order)[None, :] >= np.arange(W + 1)[:, None] for order in orders]
    )
    odds = masked_log_odds(clf, e, masks).reshape(PERMUTATIONS, W + 1)
    scores = np.zeros(W)
    for order, path in zip(orders, odds, strict=True):
        scores[order] += path[:-1] - path[1:]
    return scores / PERMUTATIONS


CEILING = f"Shapley, {PERMUTATIONS} permutations"
LIME, SHAP = f"LIME, {LIME_SAMPLES:,} samples", "SHAP, partition"
BASELINES = (LIME, SHAP)
TOKEN_METHODS = ("decomposition", "relevance", "occlusion")
METHODS: dict[str, Method] = {
    "attention": by_attention,
    "decomposition": by_token_method("decomposition"),
    "relevance": by_token_method("relevance"),
    "occlusion": by_token_method("occlusion"),
    LIME: by_lime,
    SHAP: by_shap,
    CEILING: by_shapley,
}


def measure(
    clf: ProtoLMClassifier, X: list[str], scores: list[np.ndarray] | str
) -> Measures:
    """Return both ERASER measures per text."""
    return {
        "comprehensiveness": comprehensiveness(clf, X, scores, random_state=SEED),
        "sufficiency": sufficiency(clf, X, scores, random_state=SEED),
    }


def cost_of(
    clf: ProtoLMClassifier, method: Method, explanations: list[Explanation]
) -> float:
    """Return the time of explaining a text, as a multiple of predicting it."""
    ratios = []
    method(clf, explanations[0])
    for e in explanations[:N_TIMED]:
        started = time.perf_counter()
        clf.predict_proba([e.text])
        predicted = time.perf_counter()
        method(clf, e)
        ratios.append((time.perf_counter() - predicted) / (predicted - started))
    return float(np.median(ratios))


def bootstrap_interval(values: np.ndarray) -> str:
    """Format a mean with half of its 95 % bootstrap interval."""
    rng = np.random.default_rng(SEED)
    limits = bootstrap(
        (values,), np.mean, method="percentile", rng=rng
    ).confidence_interval
    half = (limits.high - limits.low) / 2
    return f"{values.mean():.3f} ± {half:.3f}"


def fitted_on(
    name: str, task: Task, folder: Path | None, seed: int = SEED
) -> ProtoLMClassifier:
    """Fit on a task, or load the model that an earlier run has saved in a folder."""
    path = None if folder is None else folder / f"{name}-{seed}.joblib"
    if path is not None and path.exists():
        return joblib.load(path)
    clf = ProtoLMClassifier(random_state=seed).fit(task.X_train, task.y_train)
    if path is not None:
        joblib.dump(clf, path)
    return clf


def print_row(title: str, measures: Measures, share: float, cost: float) -> None:
    """Print the row of a method."""
    cells = [
        bootstrap_interval(measures["comprehensiveness"]),
        bootstrap_interval(measures["sufficiency"]),
        f"{100 * share:.0f} %",
        f"{cost:.1f} ×" if cost > 0.1 else "–",
    ]
    print(f"| {title} | {' | '.join(cells)} |", flush=True)


def print_differences(rows: dict[str, Measures]) -> None:
    """Print the paired differences between the token methods and the baselines."""
    print("\nDifferences in comprehensiveness / sufficiency to:\n")
    print(f"| | {' | '.join(BASELINES)} |\n| --- |{' --- |' * len(BASELINES)}")
    for title in TOKEN_METHODS:
        cells = [
            " / ".join(
                bootstrap_interval(rows[title][measure] - rows[baseline][measure])
                for measure in ("comprehensiveness", "sufficiency")
            )
            for baseline in BASELINES
        ]
        print(f"| {title} | {' | '.join(cells)} |", flush=True)


def run_task(name: str, data: Path, n_texts: int, folder: Path | None) -> None:
    """Score the words of test texts by every method, and print tables."""
    task = load_task(name, data)
    clf = fitted_on(name, task, folder)
    order = np.random.RandomState(SEED).permutation(len(task.X_test))
    X = [task.X_test[i] for i in order if len(task.X_test[i].split()) > 3][:n_texts]
    explanations = list(clf.explain(X, token_method="decomposition"))
    rows: dict[str, Measures] = {"random": measure(clf, X, "random")}
    costs = {"random": 0.0}
    for title, method in METHODS.items():
        costs[title] = cost_of(clf, method, explanations)
        scores = [method(clf, e) for e in explanations]
        rows[title] = measure(clf, X, scores)
    print(f"\n{name}, {len(X)} texts:\n")
    print("| | comprehensiveness ↑ | sufficiency ↓ | of the way | time |")
    print("| --- | --- | --- | --- | --- |")
    start, end = (rows[x]["comprehensiveness"].mean() for x in ("random", CEILING))
    for title, measures in rows.items():
        share = (measures["comprehensiveness"].mean() - start) / (end - start)
        print_row(title, measures, share, costs[title])
    print_differences(rows)


def parse(description: str | None) -> argparse.Namespace:
    """Parse the tasks and the number of texts."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument(
        "--tasks", nargs="+", default=["sst2", "rotten_tomatoes", "banking77"]
    )
    parser.add_argument("--fitted", type=Path, help="folder for fitted models")
    return parser.parse_args()


def main() -> None:
    """Print the tables of each task."""
    arguments = parse(__doc__)
    baselines = ", ".join(f"{name} {version(name)}" for name in ("lime", "shap"))
    threads = torch.get_num_threads()
    print(f"{provenance()} {baselines}. Seed {SEED}, {threads} threads.")
    for name in arguments.tasks:
        run_task(name, arguments.data, arguments.texts, arguments.fitted)


if __name__ == "__main__":
    main()
