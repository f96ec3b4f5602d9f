"""The report on tags: all that its page shows, as plain lists and dicts.

Letters: n evaluated words, M prototypes, C tags.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from skprotolm._data.sentences import as_sentences
from skprotolm._data.words import MarkedWord, Sentence, split_words
from skprotolm._display.html import report_html
from skprotolm._explaining.explain import explain
from skprotolm._fitted import FittedModel
from skprotolm._records.views import page_record
from skprotolm._report.classes import class_figures
from skprotolm._report.prototypes import most_used_prototypes
from skprotolm._tasks.tagging import TaggingTask, entity_counts, f1_of

_N_MISTAKES = 20  # words that are explained
_N_LISTED = 5  # prototypes per explained word


def tag_report(model: FittedModel, X: Any, y: Any, title: str | None) -> str:
    """Evaluate a token classifier and return the page.

    Raises
    ------
    ValueError
        If y does not have one tag per word, or there are no words.
    """
    sentences = as_sentences(X)
    codes = model.task_as(TaggingTask).encode_words(y, sentences, "y")
    if not len(codes):
        raise ValueError("X holds no words: all of its rows are empty.")
    report = build_tag_report(model, sentences, codes)
    return report_html("tag_report.html", report, title=title)


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
    task = model.task_as(TaggingTask)
    outputs = model.outputs(sentences)
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
        "tags": class_figures(model, codes, predicted),
        "mistakes": _mistakes(model, sentences, codes, outputs),
        "n_mistakes": int(np.sum(predicted != codes)),
        "prototypes": most_used_prototypes(model),
    }


def entity_kinds(
    model: FittedModel,
    sentences: list[Sentence],
    codes: np.ndarray,
    predicted: np.ndarray,
) -> list[dict[str, Any]]:
    """Return precision, recall and F1 of the entities of each type, and of all."""
    true, found = (
        split_words(sentences, model.task.labels(values))
        for values in (codes, predicted)
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


def _mistakes(
    model: FittedModel,
    sentences: list[Sentence],
    codes: np.ndarray,
    outputs: np.ndarray,
) -> list[dict[str, Any]]:
    """Explain the mistakes with the lowest probabilities of the true tag."""
    task = model.task_as(TaggingTask)
    p_true = task.probabilities(outputs)[np.arange(len(codes)), codes]
    mistakes = np.flatnonzero(outputs.argmax(axis=1) != codes)
    worst = mistakes[np.argsort(p_true[mistakes], kind="stable")][:_N_MISTAKES]
    if not len(worst):
        return []
    counts = np.array([sentence.n_predicted for sentence in sentences])
    rows = np.repeat(np.arange(len(sentences)), counts)[worst]
    positions = worst - (np.cumsum(counts) - counts)[rows]
    texts = [
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
