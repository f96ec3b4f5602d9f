"""All that the page of a token classifier's report shows, as plain lists and dicts.

Letters: n evaluated words, M prototypes, C tags.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_fscore_support

from skprotolm._data.words import MarkedWord, Sentence
from skprotolm._display.formatting import shorten
from skprotolm._explaining.explain import explain
from skprotolm._fitted import FittedModel
from skprotolm._records.views import page_record
from skprotolm._tasks.tagging import entity_counts, f1_of

_N_MISTAKES = 20  # words that are explained
_N_LISTED = 5  # prototypes per explained word
_N_PROTOTYPES = 60


def build_tag_report(
    model: FittedModel, sentences: list[Sentence], codes: np.ndarray
) -> dict[str, Any]:
    """Return the values of the template.

    Parameters
    ----------
    model : FittedModel
    sentences : list of Sentence
    codes : ndarray of shape (n,)
        The true tags of all words.
    """
    task: Any = model.task
    texts: Any = sentences
    outputs = model.outputs(texts)
    predicted = outputs.argmax(axis=1)
    kinds = entity_kinds(model, sentences, codes, predicted) if task.is_bio else []
    return {
        "summary": {
            "n_sentences": len(sentences),
            "n": len(codes),
            "n_prototypes": len(model.layer.values),
            "n_edits": len(model.edits),
            "accuracy": float(np.mean(predicted == codes)),
        },
        "entities": kinds,
        "tags": tag_figures(model, codes, predicted),
        "mistakes": _mistakes(model, sentences, codes, outputs),
        "n_mistakes": int(np.sum(predicted != codes)),
        "prototypes": _prototypes(model),
    }


def entity_kinds(
    model: FittedModel,
    sentences: list[Sentence],
    codes: np.ndarray,
    predicted: np.ndarray,
) -> list[dict[str, Any]]:
    """Return precision, recall and F1 of the entities of each type, and of all."""
    ends = np.cumsum([sentence.n_predicted for sentence in sentences])[:-1]
    true, found = (
        np.split(model.task.labels(values), ends) for values in (codes, predicted)
    )
    counts = dict(sorted(entity_counts(true, found).items()))
    counts["all types"] = sum(counts.values(), np.zeros(3))
    return [
        {
            "name": name,
            "n": int(n_true),
            "n_predicted": int(n_predicted),
            "precision": float(n_right / n_predicted) if n_predicted else None,
            "recall": float(n_right / n_true) if n_true else None,
            "f1": f1_of(np.array([n_right, n_predicted, n_true])),
        }
        for name, (n_right, n_predicted, n_true) in counts.items()
    ]


def tag_figures(
    model: FittedModel, codes: np.ndarray, predicted: np.ndarray
) -> list[dict[str, Any]]:
    """Return counts, recall and precision per tag; None where they are 0 / 0."""
    tags = model.task.strata
    precision, recall, _, support = precision_recall_fscore_support(
        codes, predicted, labels=np.arange(len(tags)), zero_division=np.nan
    )
    n_prototypes = np.bincount(model.layer.values.numpy(), minlength=len(tags))
    return [
        {
            "name": tag,
            "n": int(support[code]),
            "n_prototypes": int(n_prototypes[code]),
            "recall": None if np.isnan(recall[code]) else float(recall[code]),
            "precision": None if np.isnan(precision[code]) else float(precision[code]),
        }
        for code, tag in enumerate(tags)
    ]


def _mistakes(
    model: FittedModel,
    sentences: list[Sentence],
    codes: np.ndarray,
    outputs: np.ndarray,
) -> list[dict[str, Any]]:
    """Explain the mistakes with the lowest probabilities of the true tag."""
    task: Any = model.task
    p_true = task.probabilities(outputs)[np.arange(len(codes)), codes]
    mistakes = np.flatnonzero(outputs.argmax(axis=1) != codes)
    worst = mistakes[np.argsort(p_true[mistakes], kind="stable")][:_N_MISTAKES]
    if not len(worst):
        return []
    counts = np.array([sentence.n_predicted for sentence in sentences])
    rows = np.repeat(np.arange(len(sentences)), counts)[worst]
    positions = worst - (np.cumsum(counts) - counts)[rows]
    texts: Any = [
        sentence if isinstance(sentence, MarkedWord) else MarkedWord(sentence, position)
        for sentence, position in zip(
            [sentences[row] for row in rows], positions.tolist(), strict=True
        )
    ]
    explanations = explain(model, texts, top_k=_N_LISTED, token_method="auto")
    return [
        {
            **page_record(e, e.order[:1].tolist()),
            "row": int(row),
            "true": task.strata[code],
            "predicted": e.prediction,
        }
        for e, row, code in zip(explanations, rows, codes[worst].tolist(), strict=True)
    ]


def _prototypes(model: FittedModel) -> list[dict[str, Any]]:
    """Return the prototypes that most words are nearest to, by descending usage."""
    records = model.prototypes.to_dict()
    order = np.argsort(-model.prototypes.usages, kind="stable")[:_N_PROTOTYPES]
    return [
        {**records[j], "text": shorten(records[j]["text"], 300)} for j in order.tolist()
    ]
