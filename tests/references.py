"""Reference results of many kinds of fits.

    python -m tests.references

fits the tiny encoder in every way that the parameters allow, and writes the results of
the models under ``tests/references/``; ``tests/test_references.py`` compares. The
encoder computes in float64, so that processors that add in another order agree to many
more digits than are compared. If a change improves a result, run this script again and
mention it in the commit.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from skprotolm import ProtoLMClassifier, ProtoLMRegressor
from tests.texts import make_texts
from tests.tiny import make_encoder

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
FOLDER = Path(__file__).parent / "references"
Results = dict[str, np.ndarray]


class Case(NamedTuple):
    """A way to fit, and the edits of the model afterwards."""

    parameters: dict[str, Any]
    data: str = "texts"
    edits: tuple[Callable[[ProtoLMClassifier], Any], ...] = ()


def _data() -> dict[str, tuple[Any, Any, dict[str, Any]]]:
    """Return X, y and further arguments of `fit` by the name of the data."""
    X, y = make_texts(48)
    pairs = [(text, X[-i - 1]) for i, text in enumerate(X)]
    days = [f"{text} day" for text in X]
    many = np.arange(48) % 12
    weights = np.linspace(0, 2, 48)
    return {
        "texts": (X, y, {}),
        "pairs": (pairs, y, {}),
        "weighted": (X, y, {"sample_weight": weights}),
        "few": (X[:12], y[:12], {}),
        "many classes": (days, many, {}),
        "numbers": (X, (y == "pos") + np.arange(48) % 7 / 10, {}),
        "label sets": (X, _label_sets(X, y), {}),
        "rated pairs": (pairs, np.arange(48) % 5, {"sample_weight": weights}),
        "unequal": (X, np.where(np.arange(48) < 8, "rare", "frequent"), {}),
    }


def _label_sets(X: list[str], y: np.ndarray) -> np.ndarray:
    words = [[word in text for word in ("food", "film")] for text in X]
    return np.column_stack([y == "pos", words]).astype(int)


MIXTURE, PUBLISHED = {"formulation": "mixture"}, {"formulation": "proto-lm"}
AUTO = {"n_prototypes": "auto"}
EARLY = {"early_stopping": True, "validation_fraction": 0.3, "max_epochs": 4}
EDITS: dict[str, Callable[[ProtoLMClassifier], Any]] = {
    "removed": lambda clf: clf.remove_prototypes([1]),
    "relabeled": lambda clf: clf.relabel_prototypes({0: clf.classes_[1]}),
    "added": lambda clf: clf.add_prototypes(["a kind day"], [clf.classes_[0]]),
    "pruned": lambda clf: clf.prune_prototypes(min_usage=4, min_purity=0.3),
    "redacted": lambda clf: clf.redact_prototypes({0: "hidden"}),
}


def _undo(clf: ProtoLMClassifier) -> Any:
    return clf.undo_edit()


CASES: dict[str, Case] = {
    f"{formulation['formulation']}, {name}": Case({**formulation, **case[0]}, *case[1:])
    for formulation in (MIXTURE, PUBLISHED)
    for name, case in {
        "texts": ({},),
        "automatic": (AUTO,),
        "pairs": ({}, "pairs"),
        "weighted": ({}, "weighted"),
        # With one prototype per class: clusters of few texts differ between processors.
        "balanced": ({"class_weight": "balanced", "n_prototypes": 1}, "unequal"),
        "early stopping": (EARLY,),
        "few texts": ({**AUTO, "max_epochs": "auto"}, "few"),
        "many classes": ({"n_prototypes": 1}, "many classes"),
        "learned vectors": ({"projection": False},),
        "head": ({"finetune": "head", "max_epochs": 4},),
        "cut": ({"max_length": 7},),
        **{edit: ({}, "texts", (change,)) for edit, change in EDITS.items()},
        "undone": ({}, "texts", (EDITS["removed"], EDITS["added"], _undo)),
    }.items()
}


CASES |= {
    "regressor, texts": Case({"n_prototypes": 15}, "numbers"),
    "regressor, automatic": Case(AUTO, "numbers"),
    "regressor, pairs": Case({"n_prototypes": 15}, "rated pairs"),
    "regressor, early stopping": Case({**EARLY, "n_prototypes": 15}, "numbers"),
    "regressor, learned vectors": Case(
        {"projection": False, "n_prototypes": 5}, "numbers"
    ),
}

CASES |= {
    "labels, texts": Case({}, "label sets"),
    "labels, automatic": Case({**AUTO, "max_epochs": 6}, "label sets"),
}

# The packaged MiniLM, in float32.
REAL = Case({"precision": "fp32", "n_prototypes": 1, "learning_rate": 1e-5})


def fit(case: Case, backbone: Any) -> ProtoLMClassifier:
    """Fit the classifier of a case, and edit it."""
    X, y, more = _data()[case.data]
    settings: dict[str, Any] = {
        "n_prototypes": 3,
        "max_epochs": 2,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "random_state": 0,
        "device": "cpu",
    }
    is_regression = case.data in ("numbers", "rated pairs")
    estimator = ProtoLMRegressor if is_regression else ProtoLMClassifier
    clf: Any = estimator(backbone, **{**settings, **case.parameters})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clf.fit(X, y, **more)
        for edit in case.edits:
            edit(clf)
    return clf


def results_of(clf: Any, X: Any) -> Results:
    """Return the results of a fitted model for texts, as arrays."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = {
            "similarities": clf.transform(X),
            "novelty": clf.novelty_score(X),
            **_prototypes(clf),
        }
        if isinstance(clf, ProtoLMRegressor):
            results |= {"predictions": clf.predict(X), **_value_explanations(clf, X)}
        else:
            results |= {
                "probabilities": clf.predict_proba(X),
                "decisions": clf.decision_function(X),
                **_explanations(clf, X),
            }
    return {name: np.asarray(values) for name, values in results.items()}


def _prototypes(clf: ProtoLMClassifier) -> Results:
    prototypes = clf.prototypes_
    priors = prototypes.priors
    arrays = {
        "vectors": prototypes.vectors,
        "labels": [str(label) for label in prototypes.labels.tolist()],
        "rows": prototypes.train_indices,
        "purities": prototypes.purities,
        "usages": prototypes.usages,
        "projected": prototypes.projected,
        "priors": prototypes.weights if priors is None else priors,
    }
    return {f"prototypes, {name}": np.asarray(v) for name, v in arrays.items()}


def _explanations(clf: ProtoLMClassifier, X: Any) -> Results:
    exact = clf.formulation == "mixture"
    methods = ["relevance", "occlusion", *(["decomposition"] if exact else [])]
    results: Results = {}
    for method in methods:
        explained = clf.explain(X, token_method=method)
        results[f"{method}, scores"] = np.concatenate(
            [e.token_scores for e in explained]
        )
        results[f"{method}, bases"] = np.array([e.base_value for e in explained])
    results["shares"] = np.stack([e.contributions for e in explained])
    results["attention"] = np.concatenate([e.attention for e in explained])
    results["log-odds"] = np.array([e.log_odds for e in explained])
    other = clf.explain(X, target=clf.classes_[-1])
    results["shares of the last class"] = np.stack([e.contributions for e in other])
    projected = np.flatnonzero(clf.prototypes_.projected)
    if exact and len(projected):
        [first, *_] = explained
        results["alignment"] = first.alignment(int(projected[0]))
        results["token similarities"] = first.token_similarities
    return results


def _value_explanations(reg: ProtoLMRegressor, X: Any) -> Results:
    results: Results = {}
    for method in ("relevance", "occlusion", "decomposition"):
        explained = reg.explain(X, token_method=method)
        scores = [e.token_scores for e in explained if e.token_scores is not None]
        results[f"{method}, scores"] = np.concatenate(scores)
        results[f"{method}, bases"] = np.array([e.base_value for e in explained])
    results["shares"] = np.stack([e.shares for e in explained])
    return results


def evaluated(case: Case) -> Any:
    """Return the texts that the model of a case is evaluated on."""
    new, _ = make_texts(8, seed=3)
    if "pairs" in case.data:
        return [(text, new[-i - 1]) for i, text in enumerate(new)]
    return [*new[:5], "", "a café 😀 day", "the food " * 20]


def make_backbone(folder: Path) -> SentenceTransformer:
    """Return the tiny encoder in float64."""
    return make_encoder("bert", folder, dtype=torch.float64)


def path_of(name: str) -> Path:
    """Return the file of a case."""
    return FOLDER / f"{name.replace(', ', '-').replace(' ', '_')}.npz"


def main() -> None:
    """Write the references of the named cases, or of all."""
    FOLDER.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        backbone = make_backbone(Path(folder))
        for name in sys.argv[1:] or [*CASES, "MiniLM"]:
            case, encoder = (
                (REAL, MINILM) if name == "MiniLM" else (CASES[name], backbone)
            )
            results = results_of(fit(case, encoder), evaluated(case))
            np.savez_compressed(path_of(name), **results)
            print(f"{name}: {len(results)} arrays", flush=True)


if __name__ == "__main__":
    main()
