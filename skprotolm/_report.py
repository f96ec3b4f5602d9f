"""What a report says of a fitted model, as plain lists and dicts.

Letters: n texts that the model is judged by, m texts that its prototypes are shown
among (the training texts where they are given), M prototypes, C classes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from skprotolm import _decomposition, _explaining
from skprotolm._display import shorten
from skprotolm._explanation import page_records
from skprotolm._inputs import Texts
from skprotolm._plots import places
from skprotolm._prototypes import Text
from skprotolm._state import FittedState

_MATRIX = 20  # classes whose confusion is shown as a whole
_CONFUSIONS = 10  # pairs of classes that are listed
_BINS = 10  # of the calibration curve
_MISTAKES = 20
_LISTED = 5  # training texts of a mistake, texts that a prototype decides
_NEAREST = 3  # texts around a prototype
_NEIGHBOURS = 10  # that a label is held against
_CONTRADICTED = 30
_MARKS = 1000  # texts on the map
_LENGTH = 300  # characters of a text in a list


class Corpus(NamedTuple):
    """Texts with their classes."""

    texts: Texts
    codes: np.ndarray


class _Seen(NamedTuple):
    """What the model says of some texts."""

    vectors: np.ndarray  # (n, H), where distance is Euclidean
    probabilities: np.ndarray  # (n, C)
    predicted: np.ndarray  # (n,)
    decider: np.ndarray  # (n,): the predicted class's prototype that counts most
    contribution: np.ndarray  # (n,): what that contributes


def build(state: FittedState, judged: Corpus, reference: Corpus | None) -> dict:
    """Return all that the report's template shows.

    Parameters
    ----------
    state : FittedState
    judged : Corpus
        The texts that accuracy, calibration and mistakes are told of.
    reference : Corpus or None
        The training texts; by default the judged ones stand in for them.
    """
    seen = _look(state, judged.texts)
    around = reference or judged
    there = seen if reference is None else _look(state, around.texts)
    right = seen.predicted == judged.codes
    prototypes = state.prototypes.to_dict()
    return {
        "labels": state.classes.tolist(),
        "space": state.layer.space,
        "formulation": "mixture" if state.layer.space == "probability" else "proto-lm",
        "around": "training texts" if reference else "texts of this report",
        "n_around": len(around.texts),
        "glance": _glance(state, judged, right, reference),
        "classes": _by_class(state, judged.codes, seen.predicted),
        "confusion": _confusion(judged.codes, seen.predicted, len(state.classes)),
        "calibration": _calibration(seen.probabilities.max(axis=1), right),
        "map": _map(state, around, there),
        "prototypes": _cards(state, prototypes, judged, seen, around, there),
        "mistakes": _mistakes(state, judged, seen),
        "contradicted": contradicted(around, there.vectors, len(state.classes)),
    }


def _look(state: FittedState, texts: Texts) -> _Seen:
    layer = state.layer
    owner = layer.owner

    def of(s: Tensor) -> tuple[Tensor, ...]:
        found = _decomposition.account(layer, s)
        predicted = found.log_probabilities.argmax(dim=1)
        others = owner[None, :] != predicted[:, None]
        mine = found.contributions.masked_fill(others, -float("inf"))
        most, decider = mine.max(dim=1)
        return (
            layer.compare(s),
            found.log_probabilities.exp(),
            predicted,
            decider,
            most,
        )

    return _Seen(*(tensor.numpy() for tensor in state.read(texts, of)))


def _glance(
    state: FittedState, judged: Corpus, right: np.ndarray, reference: Corpus | None
) -> dict[str, Any]:
    """Return the figures that a reader wants first."""
    n, k = len(right), int(right.sum())
    interval = binomtest(k, n).proportion_ci(method="wilson")
    return {
        "n": n,
        "n_training": None if reference is None else len(reference.texts),
        "n_prototypes": len(state.layer.owner),
        "n_edits": len(state.edits),
        "accuracy": k / n,
        "low": float(interval.low),
        "high": float(interval.high),
        "majority": float(np.bincount(judged.codes).max() / n),
    }


def _by_class(
    state: FittedState, codes: np.ndarray, predicted: np.ndarray
) -> list[dict[str, Any]]:
    """Return each class's counts, its recall and its precision."""
    rows = []
    counts = np.bincount(state.layer.owner.numpy(), minlength=len(state.classes))
    for code, label in enumerate(state.classes.tolist()):
        true, said = codes == code, predicted == code
        hits = int((true & said).sum())
        rows.append(
            {
                "label": label,
                "n": int(true.sum()),
                "n_prototypes": int(counts[code]),
                "recall": hits / int(true.sum()) if true.any() else None,
                "precision": hits / int(said.sum()) if said.any() else None,
            }
        )
    return rows


def _confusion(
    codes: np.ndarray, predicted: np.ndarray, n_classes: int
) -> dict[str, Any]:
    """Return the matrix, where it can be read, and the pairs confused most."""
    matrix = confusion_matrix(codes, predicted, labels=np.arange(n_classes))
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_CONFUSIONS]
    pairs = [
        {"true": int(i), "predicted": int(j), "n": int(wrong[i, j])}
        for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True)
        if wrong[i, j]
    ]
    shown = matrix.tolist() if n_classes <= _MATRIX else None
    return {"matrix": shown, "pairs": pairs}


def _calibration(confidence: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """Hold the highest probability against how often it is right, in equal bins.

    The expected calibration error is the mean gap of the bins, weighted by their
    counts (Guo et al. 2017, "On Calibration of Modern Neural Networks").
    """
    at = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    bins = [
        {
            "low": b / _BINS,
            "high": (b + 1) / _BINS,
            "n": int((at == b).sum()),
            "confidence": float(confidence[at == b].mean()),
            "accuracy": float(right[at == b].mean()),
        }
        for b in np.unique(at).tolist()
    ]
    gaps = [b["n"] * abs(b["accuracy"] - b["confidence"]) for b in bins]
    return {"bins": bins, "error": sum(gaps) / len(right)}


def _map(state: FittedState, around: Corpus, there: _Seen) -> list[dict[str, Any]]:
    """Place the prototypes and a sample of the texts in a unit square."""
    layer = state.layer
    sample = np.random.RandomState(0).permutation(len(around.texts))[:_MARKS]
    own = layer.compare(layer.vectors).numpy()
    at = places(np.concatenate([own, there.vectors[sample]]))
    low, high = at.min(axis=0), at.max(axis=0)
    at = (at - low) / np.maximum(high - low, 1e-9)
    M = len(own)
    codes = np.append(layer.owner.numpy(), around.codes[sample])
    texts = [*state.quotes.texts, *(around.texts[row] for row in sample.tolist())]
    return [
        {
            "x": round(float(x), 4),
            "y": round(float(y), 4),
            "code": int(code),
            "prototype": number if number < M else None,
            "text": shorten(text),
        }
        for number, ((x, y), code, text) in enumerate(
            zip(at, codes, texts, strict=True)
        )
    ]


def _cards(
    state: FittedState,
    prototypes: list[dict[str, Any]],
    judged: Corpus,
    seen: _Seen,
    around: Corpus,
    there: _Seen,
) -> list[dict[str, Any]]:
    """Add to each prototype what stands around it, and what it decides."""
    own = state.layer.compare(state.layer.vectors).numpy()
    # One more than are shown: the prototype's own text is among them.
    near = _nearest(there.vectors, own, _NEAREST + 1)
    owner = state.layer.owner.tolist()
    right = seen.predicted == judged.codes
    cards = []
    for prototype, code, rows in zip(prototypes, owner, near, strict=True):
        mine = np.flatnonzero(seen.decider == prototype["index"])
        strongest = mine[np.argsort(-seen.contribution[mine], kind="stable")]
        others = [r for r in rows.tolist() if around.texts[r] != prototype["text"]]
        cards.append(
            {
                **prototype,
                "code": code,
                "nearest": [_quote(around, row) for row in others[:_NEAREST]],
                "n_decided": len(mine),
                "n_wrong": int((~right[mine]).sum()),
                "decided": [
                    {
                        **_quote(judged, row),
                        "contribution": float(seen.contribution[row]),
                        "right": bool(right[row]),
                    }
                    for row in strongest[:_LISTED].tolist()
                ],
            }
        )
    return cards


def _nearest(vectors: np.ndarray, points: np.ndarray, k: int) -> np.ndarray:
    """Return the rows of the k vectors nearest to each point."""
    search = NearestNeighbors(n_neighbors=min(k, len(vectors)), algorithm="brute")
    return search.fit(vectors).kneighbors(points, return_distance=False)


def _quote(corpus: Corpus, row: int) -> dict[str, Any]:
    return {
        "row": row,
        "code": int(corpus.codes[row]),
        "text": shorten(corpus.texts[row], _LENGTH),
    }


def _mistakes(state: FittedState, judged: Corpus, seen: _Seen) -> list[dict[str, Any]]:
    """Explain the mistakes that the model was surest of."""
    rows = np.flatnonzero(seen.predicted != judged.codes)
    true = seen.probabilities[rows, judged.codes[rows]]
    rows = rows[np.argsort(true, kind="stable")][:_MISTAKES]
    if not len(rows):
        return []
    texts: Any = [judged.texts[row] for row in rows.tolist()]
    explanations = _explaining.explain(state, texts, None, _LISTED, "auto")
    records = page_records(explanations, 1)
    return [
        {
            **record,
            "row": row,
            "code": int(seen.predicted[row]),
            "truth": int(judged.codes[row]),
            "n_like_it": _count_like(seen, judged, row),
        }
        for row, record in zip(rows.tolist(), records, strict=True)
    ]


def _count_like(seen: _Seen, judged: Corpus, row: int) -> int:
    """Count the mistakes that the same prototype decided."""
    same = seen.decider == seen.decider[row]
    return int((same & (seen.predicted != judged.codes)).sum())


def contradicted(
    around: Corpus, vectors: np.ndarray, n_classes: int
) -> list[dict[str, Any]]:
    """Find texts most of whose nearest other texts have one other label."""
    ids = _same_text(around.texts)
    near = _nearest(vectors, vectors, _NEIGHBOURS + 1)
    # A second row of the same text under the same label vouches for nothing.
    others = ids[near] != ids[:, None]
    others |= around.codes[near] != around.codes[:, None]
    votes = np.zeros((len(ids), n_classes))
    np.add.at(votes, (np.arange(len(ids))[:, None], around.codes[near]), others)
    majority = votes.argmax(axis=1)
    share = votes.max(axis=1) / np.maximum(votes.sum(axis=1), 1)
    suspects = np.flatnonzero((majority != around.codes) & (share > 0.5))
    suspects = suspects[np.argsort(-share[suspects], kind="stable")][:_CONTRADICTED]
    found = []
    for row in suspects.tolist():
        rows = near[row][others[row]].tolist()
        found.append(
            {
                **_quote(around, row),
                "majority": int(majority[row]),
                "share": float(share[row]),
                "nearest": [_quote(around, r) for r in rows[:_NEAREST]],
            }
        )
    return found


def _same_text(texts: list[Text] | Texts) -> np.ndarray:
    ids: dict[Text, int] = {}
    return np.array([ids.setdefault(text, len(ids)) for text in texts])
