"""Faithfulness and time of word scores, against LIME, SHAP and integrated gradients.

    pip install lime shap captum
    python examples/benchmarks/explanations.py --data FOLDER_OF_CSV_FILES

All methods explain the same texts of the same fitted classifier, word by word. Time is
that of one text at a time, as a multiple of one prediction's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import shap
import torch
from captum.attr import LayerIntegratedGradients
from lime.lime_text import LimeTextExplainer
from scipy.cluster.hierarchy import linkage
from scipy.stats import bootstrap
from tasks import load_task, provenance

from skprotolm import Explanation, ProtoLMClassifier
from skprotolm._decomposition import log_odds
from skprotolm._words import replace_words
from skprotolm.metrics import comprehensiveness, sufficiency

SEED = 0
N_TIMED = 10  # texts that are explained one at a time
LIME_SAMPLES = 1000
IG_STEPS = 50
PERMUTATIONS = 64  # of the sampled Shapley values

Method = Callable[[ProtoLMClassifier, Explanation], np.ndarray]


def masked_log_odds(clf: ProtoLMClassifier, e: Explanation, masks: np.ndarray):
    """Return the target's log-odds where only some words are left, masks (n, W)."""
    texts = [
        replace_words(e.text, e.word_offsets[~mask].tolist())
        for mask in masks.astype(bool)
    ]
    distinct = list(dict.fromkeys(texts))
    p = clf.predict_proba(distinct)[:, e.classes.tolist().index(e.target)]
    p = np.clip(p, 1e-12, 1 - 1e-12)
    found = dict(zip(distinct, np.log(p) - np.log1p(-p), strict=True))
    return np.array([found[text] for text in texts])


def by_token_method(method: str) -> Method:
    """Score words as `explain` does."""
    return lambda clf, e: (
        clf.explain([e.text], target=e.target, token_method=method)[0].word_scores
    )


def by_attention(clf: ProtoLMClassifier, e: Explanation) -> np.ndarray:
    """Score words by their weight in the text vector."""
    return np.bincount(e._words.owners, e.attention)


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


class Gradients:
    """What gradient methods need of the model: ids to the target's log-odds."""

    def __init__(self, clf: ProtoLMClassifier, e: Explanation):
        self.model = clf._state.model
        self.code = torch.tensor([e.classes.tolist().index(e.target)])
        encoder = self.model.encoder
        self.tokenized = encoder.tokenize([e.text])
        self.batch = encoder.collate(self.tokenized, np.arange(1))
        self.embeddings = encoder.transformer.auto_model.embeddings
        self.owners = e._words.owners

    def odds(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the log-odds of a batch of versions of the text."""
        batch = {n: t.expand(len(ids), -1) for n, t in self.batch.items()}
        batch["input_ids"] = ids
        h = self.model.encoder(batch, bf16=False)
        _, output = self.model.head(h, batch["own"])
        return log_odds(output.scores, self.code.expand(len(ids)))

    def words(self, tokens: torch.Tensor) -> np.ndarray:
        """Sum the scores of the own tokens of each word."""
        own = self.batch["own"][0]
        return np.bincount(self.owners, tokens[own].detach().double().numpy())


def by_gradient(clf: ProtoLMClassifier, e: Explanation) -> np.ndarray:
    """Score words by gradient times input at the embeddings."""
    found = Gradients(clf, e)
    caught: list[torch.Tensor] = []

    def catch(module, args, output):
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
    padding = found.model.encoder.transformer.tokenizer.pad_token_id
    baseline = torch.where(found.batch["own"], padding, ids)
    method = LayerIntegratedGradients(found.odds, found.embeddings)
    parts = method.attribute(ids, baselines=baseline, n_steps=IG_STEPS)
    return found.words(parts.sum(dim=-1)[0])


METHODS: dict[str, Method] = {
    "attention": by_attention,
    "gradient × input": by_gradient,
    "decomposition": by_token_method("decomposition"),
    "relevance": by_token_method("relevance"),
    "occlusion": by_token_method("occlusion"),
    f"integrated gradients, {IG_STEPS} steps": by_integrated_gradients,
    f"LIME, {LIME_SAMPLES:,} samples": by_lime,
    "SHAP, partition": by_shap,
    f"Shapley, {PERMUTATIONS} permutations": by_shapley,
}


def measure(
    clf: ProtoLMClassifier, X: list[str], scores: list[np.ndarray] | str
) -> dict[str, np.ndarray]:
    """Return both ERASER measures of every text."""
    return {
        "comprehensiveness": comprehensiveness(clf, X, scores, random_state=SEED),
        "sufficiency": sufficiency(clf, X, scores, random_state=SEED),
    }


def seconds_a_text(run: Callable[[Explanation], object], explained: list) -> float:
    """Return the median time of a call, over some texts after the first."""
    run(explained[0])
    taken = []
    for e in explained[:N_TIMED]:
        started = time.perf_counter()
        run(e)
        taken.append(time.perf_counter() - started)
    return float(np.median(taken))


def interval(values: np.ndarray) -> str:
    """Write a mean with half of its 95 % bootstrap interval."""
    rng = np.random.default_rng(SEED)
    found = bootstrap((values,), np.mean, method="percentile", rng=rng)
    half = (found.confidence_interval.high - found.confidence_interval.low) / 2
    return f"{values.mean():.3f} ± {half:.3f}"


def run_task(name: str, data: Path, n_texts: int) -> None:
    """Fit on a task, explain its test texts by every method, print a table."""
    task = load_task(name, data)
    clf = ProtoLMClassifier(random_state=SEED).fit(task.X_train, task.y_train)
    order = np.random.RandomState(SEED).permutation(len(task.X_test))
    X = [task.X_test[i] for i in order if len(task.X_test[i].split()) > 3][:n_texts]
    explained = list(clf.explain(X))
    one = seconds_a_text(lambda e: clf.predict_proba([e.text]), explained)
    print(f"\n{name}, {len(X)} texts:\n", flush=True)
    print("| | comprehensiveness ↑ | sufficiency ↓ | of the way | time |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    rows: dict[str, tuple[dict[str, np.ndarray], float]] = {
        "random": (measure(clf, X, "random"), 0.0)
    }
    for title, method in METHODS.items():
        seconds = seconds_a_text(lambda e, run=method: run(clf, e), explained)
        scores = [method(clf, e) for e in explained]
        rows[title] = (measure(clf, X, scores), seconds / one)
    first, last = (list(rows.values())[i][0]["comprehensiveness"] for i in (0, -1))
    for title, (found, cost) in rows.items():
        way = (found["comprehensiveness"] - first).mean() / (last - first).mean()
        cost_shown = f"{cost:.1f} ×" if cost > 0.1 else "–"
        print(
            f"| {title} | {interval(found['comprehensiveness'])} | "
            f"{interval(found['sufficiency'])} | {100 * way:.0f} % | {cost_shown} |",
            flush=True,
        )


def main() -> None:
    """Print a table a task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument(
        "--tasks", nargs="+", default=["sst2", "rotten_tomatoes", "banking77"]
    )
    arguments = parser.parse_args()
    rivals = ", ".join(f"{name} {version(name)}" for name in ("lime", "shap", "captum"))
    threads = torch.get_num_threads()
    print(f"{provenance()} {rivals}. Seed {SEED}, {threads} threads.")
    for name in arguments.tasks:
        run_task(name, arguments.data, arguments.texts)


if __name__ == "__main__":
    main()
