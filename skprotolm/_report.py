"""What a report says of a fitted model, as plain lists and dicts.

Letters: n texts that the model is judged by, m texts that its prototypes are shown
among (the training texts where they are given), M prototypes, C classes.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from skprotolm._data.texts import Texts
from skprotolm._display.formatting import shorten
from skprotolm._display.map import map_coordinates
from skprotolm._explaining.attribution import account
from skprotolm._explaining.explain import explain
from skprotolm._fitted import FittedModel
from skprotolm._records.views import page_record
from skprotolm._training.projection import N_NEIGHBOURS, distinct_ids

_MATRIX = 20  # classes whose confusion is shown as a whole
_CONFUSIONS = 10  # pairs of classes that are listed
_BINS = 15  # of the calibration curve
_MISTAKES = 20
_LISTED = 5  # prototypes of a mistake, texts in which a prototype counts most
_NEAREST = 3  # texts around a prototype
_FEWEST_VOICES = 3
_DOUBTFUL = 30
# Accuracy on training texts from which their labels count as learned by heart: at most
# two percent of them are left to doubt.
_LEARNED = 0.98
_NEVER = 20  # classes never predicted that are named
_MARKS = 1000  # texts on the map
_LENGTH = 300  # characters of a text in a list


class Corpus(NamedTuple):
    """Texts with their classes."""

    texts: Texts
    codes: np.ndarray


class Decisions(NamedTuple):
    """What a state says of n texts, and which prototypes say it."""

    vectors: np.ndarray  # (n, H), where distance is Euclidean
    probabilities: np.ndarray  # (n, C)
    predicted: np.ndarray  # (n,)
    leader: np.ndarray  # (n,): the predicted class's prototype that counts most
    keys: list[Any]  # n: what the encoder reads of each text
    has_unread: np.ndarray  # (n,): whether the tokenizer cannot read some of it


def decisions(state: FittedModel, texts: Texts) -> Decisions:
    """Return what the state says of each text, and the prototype that counts most."""
    layer = state.layer
    owner = layer.owner

    def of(s: Tensor) -> tuple[Tensor, ...]:
        found = account(layer, s)
        predicted = found.log_probabilities.argmax(dim=1)
        others = owner[None, :] != predicted[:, None]
        mine = found.contributions.masked_fill(others, -math.inf)
        probabilities = found.log_probabilities.exp()
        return layer.compare(s), probabilities, predicted, mine.argmax(dim=1)

    tokenized = state.tokenize(texts)
    vectors, probabilities, predicted, leader = (
        tensor.numpy() for tensor in state.read(tokenized, of)
    )
    has_unread = np.array([unread.any() for unread in tokenized.unread])
    return Decisions(
        vectors, probabilities, predicted, leader, tokenized.keys, has_unread
    )


def build(state: FittedModel, judged: Corpus, training: Corpus | None) -> dict:
    """Return all that the report's template shows.

    Parameters
    ----------
    state : FittedModel
    judged : Corpus
        The texts that accuracy, calibration and mistakes are told of.
    training : Corpus or None
        The training texts; without them the judged ones stand in where texts are shown
        around prototypes.
    """
    seen = decisions(state, judged.texts)
    around = training or judged
    there = decisions(state, around.texts) if training else seen
    right = seen.predicted == judged.codes
    doubtful, n_doubtful = doubtful_labels(around, there)
    return {
        "labels": state.classes.tolist(),
        "space": state.layer.space,
        "around": "training texts" if training else "texts of this report",
        "around_name": "X_train" if training else "X",
        "n_around": len(around.texts),
        "glance": {
            **_glance(state, judged, right, training),
            "n_unread": int(seen.has_unread.sum()),
        },
        "classes": _by_class(state, judged.codes, seen.predicted),
        **_never_predicted(judged.codes, seen.predicted),
        "confusion": _confusion(judged.codes, seen.predicted, len(state.classes)),
        "calibration": _calibration(seen.probabilities.max(axis=1), right),
        "map": _map(state, around, there.vectors),
        "prototypes": _cards(state, judged, seen, around, there),
        "mistakes": _mistakes(state, judged, seen),
        "doubtful": doubtful,
        "n_doubtful": n_doubtful,
        **(_learned_labels(training, there) if training else _NOT_LEARNED),
    }


def _glance(
    state: FittedModel, judged: Corpus, right: np.ndarray, training: Corpus | None
) -> dict[str, Any]:
    """Return the figures that a reader wants first."""
    n, k = len(right), int(right.sum())
    interval = binomtest(k, n).proportion_ci(method="wilson")
    n_classes = len(state.classes)
    counts, asked = (
        np.bincount(corpus.codes, minlength=n_classes)
        for corpus in (training or judged, judged)
    )
    # Of classes that are as frequent the one that would be right most often.
    frequent = np.lexsort((asked, counts))[-1]
    return {
        "n": n,
        "n_training": None if training is None else len(training.texts),
        "n_prototypes": len(state.layer.owner),
        "n_edits": len(state.edits),
        "accuracy": k / n,
        "low": float(interval.low),
        "high": float(interval.high),
        "frequent": state.classes.tolist()[frequent],
        "majority": float((judged.codes == frequent).mean()),
    }


def _by_class(
    state: FittedModel, codes: np.ndarray, predicted: np.ndarray
) -> list[dict[str, Any]]:
    """Return each class's counts, its recall and its precision, None where 0 of 0."""
    C = len(state.classes)
    precision, recall, _, support = precision_recall_fscore_support(
        codes, predicted, labels=np.arange(C), zero_division=np.nan
    )
    prototypes = np.bincount(state.layer.owner.numpy(), minlength=C)
    return [
        {
            "label": label,
            "n": int(support[code]),
            "n_prototypes": int(prototypes[code]),
            "recall": None if np.isnan(recall[code]) else float(recall[code]),
            "precision": None if np.isnan(precision[code]) else float(precision[code]),
        }
        for code, label in enumerate(state.classes.tolist())
    ]


def _never_predicted(codes: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    """Return the classes that are never predicted, the largest first."""
    classes, counts = np.unique(codes, return_counts=True)
    missing = ~np.isin(classes, predicted)
    classes, counts = classes[missing], counts[missing]
    order = np.argsort(-counts, kind="stable")[:_NEVER]
    return {
        "never": [
            {"code": int(classes[i]), "n": int(counts[i])} for i in order.tolist()
        ],
        "n_never": len(classes),
    }


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


def _map(
    state: FittedModel, around: Corpus, vectors: np.ndarray
) -> list[dict[str, Any]]:
    """Place the prototypes and a sample of the texts, within 0 and 1."""
    layer = state.layer
    sample = np.random.RandomState(0).permutation(len(around.texts))[:_MARKS]
    own = layer.compare(layer.vectors).numpy()
    at = map_coordinates(np.concatenate([own, vectors[sample]]))
    low, high = at.min(axis=0), at.max(axis=0)
    # One scale for both directions: it is distances that are looked at.
    at = (at - low) / max((high - low).max(), 1e-9)
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
    state: FittedModel,
    judged: Corpus,
    seen: Decisions,
    around: Corpus,
    there: Decisions,
) -> list[dict[str, Any]]:
    """Add to each prototype what stands around it, and where it counts most."""
    own = state.layer.compare(state.layer.vectors).numpy()
    first = np.unique(distinct_ids(there.keys), return_index=True)[1]
    # One more than are shown: the prototype's own text is among them.
    near = first[_nearest(there.vectors[first], own, _NEAREST + 1)]
    wrong = seen.predicted != judged.codes
    sure = seen.probabilities.max(axis=1)
    cards = []
    for prototype, code, rows in zip(
        state.prototypes.to_dict(), state.layer.owner.tolist(), near, strict=True
    ):
        mine = np.flatnonzero(seen.leader == prototype["index"])
        mine = mine[np.lexsort((-sure[mine], ~wrong[mine]))]  # mistakes first
        key = state.quoted.keys[prototype["index"]]
        others = [r for r in rows.tolist() if there.keys[r] != key]
        # The nearest of a redacted text is itself.
        others = [] if prototype["redacted"] else others[:_NEAREST]
        cards.append(
            {
                **prototype,
                "owner": code,
                "nearest": [_quote(around, row) for row in others],
                "n_led": len(mine),
                "n_wrong": int(wrong[mine].sum()),
                "led": [
                    {**_quote(judged, row), "right": bool(~wrong[row])}
                    for row in mine[:_LISTED].tolist()
                ],
            }
        )
    return cards


def _nearest(vectors: np.ndarray, points: np.ndarray, k: int) -> np.ndarray:
    """Return the rows of the k vectors nearest to each point, or of all."""
    search = NearestNeighbors(n_neighbors=min(k, len(vectors)), algorithm="brute")
    return search.fit(vectors).kneighbors(points, return_distance=False)


def _quote(corpus: Corpus, row: int) -> dict[str, Any]:
    return {
        "code": int(corpus.codes[row]),
        "text": shorten(corpus.texts[row], _LENGTH),
    }


def _mistakes(
    state: FittedModel, judged: Corpus, seen: Decisions
) -> list[dict[str, Any]]:
    """Explain the mistakes in which the right class seemed least likely."""
    wrong = np.flatnonzero(seen.predicted != judged.codes)
    led = np.bincount(seen.leader[wrong], minlength=len(state.layer.owner))
    of_right = seen.probabilities[wrong, judged.codes[wrong]]
    rows = wrong[np.argsort(of_right, kind="stable")][:_MISTAKES].tolist()
    if not rows:
        return []
    texts: Any = [judged.texts[row] for row in rows]
    explanations = explain(state, texts, None, _LISTED, "auto")
    return [
        {
            **page_record(e, [leader]),
            "row": row,
            "predicted": int(seen.predicted[row]),
            "truth": int(judged.codes[row]),
            "leader": leader,
            "n_led": int(led[leader]),
        }
        for e, row, leader in zip(
            explanations, rows, seen.leader[rows].tolist(), strict=True
        )
    ]


def doubtful_labels(
    around: Corpus, seen: Decisions
) -> tuple[list[dict[str, Any]], int]:
    """Find texts of whose labels another one has more than half of the support.

    Returns the first of them, the own label's support least first, and how many there
    are.
    """
    rows, voices, support = label_support(around, seen)
    codes = around.codes[rows]
    at = np.arange(len(rows))
    of_own = support[at, codes]
    others = support.copy()
    others[at, codes] = 0.0
    found = np.flatnonzero(others.max(axis=1, initial=0.0) > 0.5)
    found = found[np.argsort(of_own[found], kind="stable")]
    listed = []
    for i in found[:_DOUBTFUL].tolist():
        row, other = int(rows[i]), int(others[i].argmax())
        listed.append(
            {
                **_quote(around, row),
                "row": row,
                "other": other,
                "n_against": int(np.sum(around.codes[voices[i]] == other)),
                "n_voices": len(voices[i]),
                "p_other": float(seen.probabilities[row, other]),
                "nearest": [_quote(around, voice) for voice in voices[i][:_NEAREST]],
            }
        )
    return listed, len(found)


_NOT_LEARNED = {"own_label": None, "by_heart": False}


def _learned_labels(training: Corpus, seen: Decisions) -> dict[str, Any]:
    """Return how many texts are given their own label, and whether nearly all are.

    A model that has learned its training texts by heart gives each label of them a
    probability near 1, also a wrong one, so that none can be doubtful.
    """
    share = float(np.mean(seen.predicted == training.codes))
    return {"own_label": share, "by_heart": share >= _LEARNED}


def label_support(
    around: Corpus, seen: Decisions
) -> tuple[np.ndarray, list[list[int]], np.ndarray]:
    """Return rows of texts, (r,), the rows of their voices, and their labels' support.

    Each label's support, (r, C), is the mean of two shares that add to one each: of
    those among the nearest texts that have it, and of the model's probability. The
    min(10, n_c − 1) nearest others are asked, n_c those of the text's own class, so
    that a rare class is not outvoted for being rare. Texts count once a label: one
    that stands under two has a voice for each. Rows that have fewer than three
    voices are left out, and all but one of copies.
    """
    # Rows of the same text under the same label are one voice.
    same = distinct_ids(list(zip(seen.keys, around.codes.tolist(), strict=True)))
    rows = np.unique(same, return_index=True)[1]
    codes, n_classes = around.codes[rows], seen.probabilities.shape[1]
    sizes = np.bincount(codes, minlength=n_classes)
    near = _nearest(seen.vectors[rows], seen.vectors[rows], N_NEIGHBOURS + 1)
    kept, voices, support = [], [], []
    for at, row in enumerate(rows.tolist()):
        n_voices = min(N_NEIGHBOURS, int(sizes[codes[at]]) - 1)
        asked = near[at][near[at] != at][:n_voices]
        if len(asked) < _FEWEST_VOICES:
            continue
        votes = np.bincount(codes[asked], minlength=n_classes) / len(asked)
        kept.append(row)
        voices.append(rows[asked].tolist())
        support.append((votes + seen.probabilities[row]) / 2)
    shape = (len(kept), n_classes)
    return np.array(kept, dtype=int), voices, np.reshape(support, shape)
