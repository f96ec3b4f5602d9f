"""Faithfulness and time of word scores, against LIME, SHAP and integrated gradients.

    pip install lime shap captum
    python examples/benchmarks/explanations.py --data FOLDER_OF_CSV_FILES

All methods explain the same texts of the same fitted classifier, word by word. Time is
that of one text at a time, as a multiple of one prediction's, interleaved with it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import shap
import torch
from captum.attr import LayerIntegratedGradients
from lime.lime_text import LimeTextExplainer
from scipy.cluster.hierarchy import linkage
from scipy.stats import bootstrap
from tasks import Task, load_task, provenance

from skprotolm import Explanation, ProtoLMClassifier
from skprotolm._explaining.attribution import log_odds
from skprotolm._records.words import replace_words
from skprotolm.metrics import comprehensiveness, sufficiency

SEED = 0
N_TIMED = 20  # texts that are explained one at a time
LIME_SAMPLES = 1000
IG_STEPS = 50
PERMUTATIONS = 64  # of the sampled Shapley values
BEAM = 5  # orders of deletion that are followed

Method = Callable[[ProtoLMClassifier, Explanation], np.ndarray]
Measured = dict[str, np.ndarray]  # one number a text


def masked_log_odds(
    clf: ProtoLMClassifier, e: Explanation, masks: np.ndarray
) -> np.ndarray:
    """Return the target's log-odds where only some words are left, masks (n, W)."""
    texts = [
        replace_words(e.text, e.word_offsets[~mask].tolist(), deleted=e.unread_spans)
        for mask in masks.astype(bool)
    ]
    distinct = list(dict.fromkeys(texts))
    p = clf.predict_proba(distinct)[:, e.classes.tolist().index(e.target)]
    p = np.clip(p, 1e-12, 1 - 1e-12)
    found = dict(zip(distinct, np.log(p) - np.log1p(-p), strict=True))
    return np.array([found[text] for text in texts])


def by_token_method(method: str) -> Method:
    """Score words as `explain` does."""

    def scores(clf: ProtoLMClassifier, e: Explanation) -> np.ndarray:
        again = clf.explain([e.text], target=e.target, token_method=method)[0]
        assert again.word_scores is not None
        return again.word_scores

    return scores


def by_attention(clf: ProtoLMClassifier, e: Explanation) -> np.ndarray:
    """Score words by their weight in the text vector."""
    return np.bincount(e.word_ids, e.attention)


def by_lime(clf: ProtoLMClassifier, e: Explanation) -> np.ndarray:
    """Score words by LIME's linear model, on stand-ins that name the words."""
    W = len(e.words)
    stand_in = " ".join(f"w{i}" for i in range(W))

    def predict(versions: list[str]) -> np.ndarray:
        masks = [[word.startswith("w") for word in v.split()] for v in versions]
        odds = masked_log_odds(clf, e, np.array(masks))
        p = 1 / (1 + np.exp(-odds))
        return np.stack([1 - p, p], axis=1)

    explainer = LimeTextExplainer(
        split_expression=r"\s+", bow=False, mask_string="-", random_state=SEED
    )
    found = explainer.explain_instance(
        stand_in, predict, labels=(1,), num_features=W, num_samples=LIME_SAMPLES
    )
    scores = np.zeros(W)
    for word, weight in found.as_map()[1]:
        scores[word] = weight
    return scores


def by_shap(clf: ProtoLMClassifier, e: Explanation) -> np.ndarray:
    """Score words by SHAP's partition explainer, over a tree of neighbouring words."""
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
    """Sample Shapley values over permutations: the honest ceiling."""
    W, rng = len(e.words), np.random.RandomState(SEED)
    orders = [rng.permutation(W) for _ in range(PERMUTATIONS)]
    masks = np.concatenate(
        [np.argsort(order)[None, :] >= np.arange(W + 1)[:, None] for order in orders]
    )
    odds = masked_log_odds(clf, e, masks).reshape(PERMUTATIONS, W + 1)
    scores = np.zeros(W)
    for order, left in zip(orders, odds, strict=True):
        scores[order] += left[:-1] - left[1:]
    return scores / PERMUTATIONS


def by_beam(clf: ProtoLMClassifier, e: Explanation) -> np.ndarray:
    """Search the order of deletions under which the probability falls most."""
    W = len(e.words)
    beam: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for _ in range(W // 2 + 1):  # no measure deletes more
        longer = list(
            {
                frozenset((*order, w)): (total, (*order, w))
                for total, order in reversed(beam)  # of equal sets the best stays
                for w in range(W)
                if w not in order
            }.values()
        )
        masks = np.ones((len(longer), W), dtype=bool)
        for mask, (_, order) in zip(masks, longer, strict=True):
            mask[list(order)] = False
        p = 1 / (1 + np.exp(-masked_log_odds(clf, e, masks)))
        fallen = [
            (total - left, order)
            for (total, order), left in zip(longer, p, strict=True)
        ]
        beam = sorted(fallen, reverse=True)[:BEAM]
    scores = np.zeros(W)
    best = beam[0][1]
    scores[list(best)] = np.arange(len(best), 0, -1)
    return scores


class Gradients:
    """What gradient methods need of the model: ids to the target's log-odds."""

    def __init__(self, clf: ProtoLMClassifier, e: Explanation):
        self.model = clf._fitted.network
        self.code = torch.tensor([e.classes.tolist().index(e.target)])
        encoder = self.network.encoder
        self.tokenized = encoder.tokenize([e.text])
        self.batch = encoder.tokenizer.collate(self.tokenized, np.arange(1))
        self.embeddings = encoder.transformer.auto_model.embeddings
        self.word_ids = e.word_ids

    def odds(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the log-odds of a batch of versions of the text."""
        batch = {n: t.expand(len(ids), -1) for n, t in self.batch.items()}
        batch["input_ids"] = ids
        h = self.network.encoder(batch, bf16=False)
        _, output = self.model.head(h, batch["own"])
        return log_odds(output.scores, self.code.expand(len(ids)))

    def words(self, tokens: torch.Tensor) -> np.ndarray:
        """Sum the scores of the own tokens of each word."""
        own = self.batch["own"][0]
        return np.bincount(self.word_ids, tokens[own].detach().double().numpy())


def by_gradient(clf: ProtoLMClassifier, e: Explanation) -> np.ndarray:
    """Score words by gradient times input at the embeddings."""
    found = Gradients(clf, e)
    caught: list[torch.Tensor] = []

    def catch(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        caught.append(output.detach().requires_grad_())
        return caught[0]

    handle = found.embeddings.register_forward_hook(catch)
    try:
        odds = found.odds(found.batch["input_ids"])
    finally:
        handle.remove()
    (gradient,) = torch.autograd.grad(odds.sum(), caught[0])
    return found.words((gradient * caught[0]).sum(dim=-1)[0])


def by_integrated_gradients(clf: ProtoLMClassifier, e: Explanation) -> np.ndarray:
    """Score words by integrated gradients from a text of padding."""
    found = Gradients(clf, e)
    ids = found.batch["input_ids"]
    padding = found.network.encoder.transformer.tokenizer.pad_token_id
    baseline = torch.where(found.batch["own"], padding, ids)
    method = LayerIntegratedGradients(found.odds, found.embeddings)
    parts = method.attribute(ids, baselines=baseline, n_steps=IG_STEPS)
    return found.words(parts.sum(dim=-1)[0])


CEILING = f"Shapley, {PERMUTATIONS} permutations"
LIME, SHAP = f"LIME, {LIME_SAMPLES:,} samples", "SHAP, partition"
GRADIENTS = f"integrated gradients, {IG_STEPS} steps"
RIVALS = (LIME, SHAP, GRADIENTS)
OURS = ("decomposition", "relevance", "occlusion")
METHODS: dict[str, Method] = {
    "attention": by_attention,
    "gradient × input": by_gradient,
    "decomposition": by_token_method("decomposition"),
    "relevance": by_token_method("relevance"),
    "occlusion": by_token_method("occlusion"),
    GRADIENTS: by_integrated_gradients,
    LIME: by_lime,
    SHAP: by_shap,
    CEILING: by_shapley,
    f"beam search, {BEAM} wide": by_beam,
}


def measure(
    clf: ProtoLMClassifier, X: list[str], scores: list[np.ndarray] | str
) -> Measured:
    """Return both ERASER measures of every text."""
    return {
        "comprehensiveness": comprehensiveness(clf, X, scores, random_state=SEED),
        "sufficiency": sufficiency(clf, X, scores, random_state=SEED),
    }


def cost_of(clf: ProtoLMClassifier, method: Method, explained: list) -> float:
    """Return the time of explaining one text, as a multiple of predicting it."""
    ratios = []
    method(clf, explained[0])
    for e in explained[:N_TIMED]:
        started = time.perf_counter()
        clf.predict_proba([e.text])
        between = time.perf_counter()
        method(clf, e)
        ratios.append((time.perf_counter() - between) / (between - started))
    return float(np.median(ratios))


def interval(values: np.ndarray) -> str:
    """Write a mean with half of its 95 % bootstrap interval."""
    rng = np.random.default_rng(SEED)
    found = bootstrap((values,), np.mean, method="percentile", rng=rng)
    half = (found.confidence_interval.high - found.confidence_interval.low) / 2
    return f"{values.mean():.3f} ± {half:.3f}"


def fitted_on(
    name: str, task: Task, folder: Path | None, seed: int = SEED
) -> ProtoLMClassifier:
    """Fit on a task, or load what an earlier run has put into a folder."""
    path = None if folder is None else folder / f"{name}-{seed}.joblib"
    if path is not None and path.exists():
        return joblib.load(path)
    clf = ProtoLMClassifier(random_state=seed).fit(task.X_train, task.y_train)
    if path is not None:
        joblib.dump(clf, path)
    return clf


def print_row(title: str, found: Measured, way: float, cost: float) -> None:
    """Print a method's row."""
    cost_shown = f"{cost:.1f} ×" if cost > 0.1 else "–"
    print(
        f"| {title} | {interval(found['comprehensiveness'])} | "
        f"{interval(found['sufficiency'])} | {100 * way:.0f} % | {cost_shown} |",
        flush=True,
    )


def print_differences(rows: dict[str, Measured]) -> None:
    """Print, text by text, how far our methods are above their rivals."""
    print("\nComprehensiveness / sufficiency, less that of:\n")
    print(f"| | {' | '.join(RIVALS)} |\n| --- |{' --- |' * len(RIVALS)}")
    for title in OURS:
        cells = [
            " / ".join(
                interval(rows[title][measure] - rows[rival][measure])
                for measure in ("comprehensiveness", "sufficiency")
            )
            for rival in RIVALS
        ]
        print(f"| {title} | {' | '.join(cells)} |", flush=True)


def run_task(name: str, data: Path, n_texts: int, folder: Path | None) -> None:
    """Explain test texts of a task by every method, print tables."""
    task = load_task(name, data)
    clf = fitted_on(name, task, folder)
    order = np.random.RandomState(SEED).permutation(len(task.X_test))
    X = [task.X_test[i] for i in order if len(task.X_test[i].split()) > 3][:n_texts]
    explained = list(clf.explain(X))
    rows: dict[str, Measured] = {"random": measure(clf, X, "random")}
    costs = {"random": 0.0}
    for title, method in METHODS.items():
        costs[title] = cost_of(clf, method, explained)
        scores = [method(clf, e) for e in explained]
        rows[title] = measure(clf, X, scores)
    print(f"\n{name}, {len(X)} texts:\n")
    print("| | comprehensiveness ↑ | sufficiency ↓ | of the way | time |")
    print("| --- | --- | --- | --- | --- |")
    start, end = (rows[x]["comprehensiveness"].mean() for x in ("random", CEILING))
    for title, found in rows.items():
        way = (found["comprehensiveness"].mean() - start) / (end - start)
        print_row(title, found, way, costs[title])
    print_differences(rows)


def parse(description: str | None) -> argparse.Namespace:
    """Read which tasks to run, on how many texts."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument(
        "--tasks", nargs="+", default=["sst2", "rotten_tomatoes", "banking77"]
    )
    parser.add_argument("--fitted", type=Path, help="folder to keep fitted models in")
    return parser.parse_args()


def main() -> None:
    """Print tables, task by task."""
    arguments = parse(__doc__)
    rivals = ", ".join(f"{name} {version(name)}" for name in ("lime", "shap", "captum"))
    threads = torch.get_num_threads()
    print(f"{provenance()} {rivals}. Seed {SEED}, {threads} threads.")
    for name in arguments.tasks:
        run_task(name, arguments.data, arguments.texts, arguments.fitted)


if __name__ == "__main__":
    main()
