"""Faithfulness: how the prediction changes when parts of the explanation are removed.

ERASER: DeYoung et al. 2020, "ERASER: A Benchmark to Evaluate Rationalized NLP Models".
ferret: Attanasio et al. 2023, "ferret: a Framework for Benchmarking Explainers on
Transformers".
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.utils import check_random_state

from skprotolm._config import COUNT, Rule, require
from skprotolm._explaining.explain import explain
from skprotolm._fitted import FittedModel, fitted_classifier
from skprotolm._records.explanation import Explanation
from skprotolm._records.explanations import Explanations
from skprotolm._records.words import replace_words

_FRACTIONS = {
    "eraser": (0.01, 0.05, 0.1, 0.2, 0.5),
    "ferret": tuple(tenth / 10 for tenth in range(1, 11)),
}
# Most tokenizers read "…" as one token, which is not a word.
_REPLACEMENTS = {"delete": "", "mask": "…"}


@np.errstate(under="ignore")
def comprehensiveness(
    clf: Any,
    X: Any,
    word_scores: Sequence[np.ndarray] | str | None = None,
    *,
    token_method: str = "auto",
    protocol: str = "eraser",
    removal: str = "delete",
    random_state: Any = None,
) -> np.ndarray:
    """Measure the drop of the probability without the most important words.

    Parameters
    ----------
    clf : ProtoLMClassifier
        A fitted classifier.
    X : container of str, length n
        Texts, as in `ProtoLMClassifier.fit`.
    word_scores : sequence of ndarray, "random" or None, default=None
        One array per text with one score per word, in the order of
        `Explanation.words`, from any method. "random" ranks words at random, as a
        baseline. By default, the scores of `ProtoLMClassifier.explain`.
    token_method : str, default="auto"
        Passed to `ProtoLMClassifier.explain` if `word_scores` is None.
    protocol : {"eraser", "ferret"}, default="eraser"
        "eraser" removes the 1, 5, 10, 20 and 50 % of words with the highest scores.
        "ferret" removes 10 to 100 % in steps of ten, but only words with positive
        scores. Fractions of words are rounded up.
    removal : {"delete", "mask"}, default="delete"
        Whether words are deleted or replaced by "…".
    random_state : int, RandomState instance or None, default=None
        Seed of the random ranking.

    Returns
    -------
    ndarray of shape (n,), float64
        p(full text) − p(text without the words) of the predicted class, averaged over
        the fractions. Higher is better.

    Raises
    ------
    ValueError
        If a parameter is not one of its options, `word_scores` do not match the words,
        or `token_method` has no word scores for this architecture.

    Examples
    --------
    >>> comprehensiveness(clf, X_test).mean()  # doctest: +SKIP
    0.41
    >>> comprehensiveness(
    ...     clf, X_test, "random", random_state=0
    ... ).mean()  # doctest: +SKIP
    0.06
    """
    _check_options(protocol, removal)
    explanations, scores = _score_words(clf, X, word_scores, token_method, random_state)
    model = fitted_classifier(clf)
    return word_drops(model, explanations, scores, protocol, removal, keep=False)


@np.errstate(under="ignore")
def sufficiency(
    clf: Any,
    X: Any,
    word_scores: Sequence[np.ndarray] | str | None = None,
    *,
    token_method: str = "auto",
    protocol: str = "eraser",
    removal: str = "delete",
    random_state: Any = None,
) -> np.ndarray:
    """Measure the drop of the probability with only the most important words.

    Parameters
    ----------
    clf : ProtoLMClassifier
        A fitted classifier.
    X : container of str, length n
        Texts, as in `ProtoLMClassifier.fit`.
    word_scores : sequence of ndarray, "random" or None, default=None
        As in `comprehensiveness`.
    token_method : str, default="auto"
        As in `comprehensiveness`.
    protocol : {"eraser", "ferret"}, default="eraser"
        As in `comprehensiveness`, with the words that are kept.
    removal : {"delete", "mask"}, default="delete"
        Whether the other words are deleted or replaced by "…".
    random_state : int, RandomState instance or None, default=None
        Seed of the random ranking.

    Returns
    -------
    ndarray of shape (n,), float64
        p(full text) − p(only the words) of the predicted class, averaged over the
        fractions. Lower is better.

    Raises
    ------
    ValueError
        As in `comprehensiveness`.
    """
    _check_options(protocol, removal)
    explanations, scores = _score_words(clf, X, word_scores, token_method, random_state)
    model = fitted_classifier(clf)
    return word_drops(model, explanations, scores, protocol, removal, keep=True)


def word_drops(
    model: FittedModel,
    explanations: Explanations,
    word_scores: Sequence[np.ndarray],
    protocol: str,
    removal: str,
    *,
    keep: bool,
) -> np.ndarray:
    """Return the mean drop of the predicted class's probability per text, (n,).

    The words of the highest scores are removed; with `keep`, all others are.
    """
    reduced: list[Any] = []
    for e, scores in zip(explanations, word_scores, strict=True):
        for words in _top_words(np.asarray(scores), protocol):
            others = np.setdiff1d(np.arange(len(e.words)), words)
            removed = others if keep else words
            reduced.append(_without_words(e, removed, _REPLACEMENTS[removal]))
    n = len(explanations)
    probabilities = _probabilities(model, reduced)
    probabilities = probabilities.reshape(n, -1, probabilities.shape[1])
    remaining = probabilities[np.arange(n), :, _predicted_codes(explanations)]
    full = np.array([e.probability for e in explanations])
    return (full[:, None] - remaining).mean(axis=1)


def explained_scores(explanations: Explanations) -> list[np.ndarray]:
    """Return the word scores of each text, or raise an error if there are none."""
    scores = [e.word_scores for e in explanations if e.word_scores is not None]
    if len(scores) < len(explanations):
        raise ValueError(
            "Words have no scores for this architecture and formulation; use "
            "token_method='occlusion'."
        )
    return scores


def random_scores(explanations: Explanations, random_state: Any) -> list[np.ndarray]:
    """Return random positive word scores for each text."""
    rng = check_random_state(random_state)
    return [1 - rng.random_sample(len(e.words)) for e in explanations]


def _check_options(protocol: str, removal: str) -> None:
    require("protocol", protocol, _one_of(_FRACTIONS))
    require("removal", removal, _one_of(_REPLACEMENTS))


def _one_of(options: Collection[str]) -> Rule:
    words = " or ".join(map(repr, options))
    return Rule(words, lambda value: isinstance(value, str) and value in options)


def _score_words(
    clf: Any, X: Any, word_scores: Any, token_method: str, random_state: Any
) -> tuple[Explanations, Any]:
    """Explain texts and return the explanations with the scores of their words."""
    if word_scores is None:
        explanations = clf.explain(X, token_method=token_method)
        return explanations, explained_scores(explanations)
    if isinstance(word_scores, str):
        require("word_scores", word_scores, _one_of(["random"]))
    model = fitted_classifier(clf)
    explanations = explain(model, model.texts_of(X))
    if isinstance(word_scores, str):
        return explanations, random_scores(explanations, random_state)
    _check_scores(explanations, word_scores)
    return explanations, word_scores


def _check_scores(explanations: Explanations, word_scores: Any) -> None:
    has_length = hasattr(word_scores, "__len__")
    if not has_length or len(word_scores) != len(explanations):
        got = len(word_scores) if has_length else type(word_scores).__name__
        raise ValueError(
            f"word_scores must hold one array per text ({len(explanations)}), got "
            f"{got}."
        )
    for row, (e, scores) in enumerate(zip(explanations, word_scores, strict=True)):
        shape = None if scores is None else np.shape(scores)
        if shape != (len(e.words),):
            raise ValueError(
                f"Row {row} of word_scores must hold {len(e.words)} numbers, one per "
                f"word of Explanation.words, got the shape {shape}."
            )
        try:
            is_finite = np.isfinite(np.asarray(scores, dtype=float)).all()
        except (TypeError, ValueError):
            is_finite = False
        if not is_finite:
            raise ValueError(f"Row {row} of word_scores must hold finite numbers.")


def _top_words(scores: np.ndarray, protocol: str) -> list[np.ndarray]:
    """Return the words of the highest scores for each fraction of the protocol."""
    order = np.argsort(-scores, kind="stable")
    # The tolerance keeps rounding errors of the product from adding a word.
    counts = [math.ceil(f * len(scores) - 1e-9) for f in _FRACTIONS[protocol]]
    top_words = [order[:count] for count in counts]
    if protocol == "ferret":
        return [words[scores[words] > 0] for words in top_words]
    return top_words


def _without_words(e: Explanation, words: np.ndarray, replacement: str) -> Any:
    """Return the part of a text that the encoder reads, without some words."""
    offsets = e.word_offsets
    # Otherwise the encoder would read truncated text instead of the removed words.
    return replace_words(
        e.text, offsets[words].tolist(), replacement, deleted=e.unread_spans
    )


def _probabilities(model: FittedModel, texts: list[Any]) -> np.ndarray:
    """Return the probabilities of all classes for texts with many duplicates."""
    rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    distinct: Any = list(rows)
    # Quiet, since users did not pass these texts: warnings would confuse them.
    scores = model.outputs(distinct, quiet=True)
    return softmax(scores, axis=1)[[rows[text] for text in texts]]


def _predicted_codes(explanations: Explanations) -> np.ndarray:
    """Return the index of each text's predicted class, (n,)."""
    codes = {label: code for code, label in enumerate(explanations[0].probabilities)}
    return np.array([codes[e.prediction] for e in explanations])


@np.errstate(under="ignore")
def prototype_comprehensiveness(
    clf: Any, X: Any, *, k: int = 3, ranking: str = "share", random_state: Any = None
) -> np.ndarray:
    """Measure the drop of the probability without the most important prototypes.

    Parameters
    ----------
    clf : ProtoLMClassifier
        A fitted classifier.
    X : container of str, length n
        Texts, as in `ProtoLMClassifier.fit`.
    k : int, default=3
        The number of prototypes of the predicted class that are removed; all but one
        if the class has k or fewer.
    ranking : {"share", "random"}, default="share"
        "share" removes the prototypes with the largest contributions. "random" removes
        random prototypes of the predicted class, as a baseline.
    random_state : int, RandomState instance or None, default=None
        Seed of the random ranking.

    Returns
    -------
    ndarray of shape (n,), float64
        p(all prototypes) − p(remaining prototypes) of the predicted class. Higher is
        better. NaN if the class has only one prototype.

    Raises
    ------
    ValueError
        If `ranking` is not one of the options, or `k` is not a positive int.
    """
    _check_prototype_options(k, ranking)
    model = fitted_classifier(clf)
    explanations = explain(model, model.texts_of(X))
    return prototype_drops(model, explanations, k, ranking, random_state, keep=False)


@np.errstate(under="ignore")
def prototype_sufficiency(
    clf: Any, X: Any, *, k: int = 3, ranking: str = "share", random_state: Any = None
) -> np.ndarray:
    """Measure the drop of the probability with only the most important prototypes.

    Only prototypes of the predicted class are removed.

    Parameters
    ----------
    clf : ProtoLMClassifier
        A fitted classifier.
    X : container of str, length n
        Texts, as in `ProtoLMClassifier.fit`.
    k : int, default=3
        The number of prototypes of the predicted class that are kept; all but one if
        the class has k or fewer.
    ranking : {"share", "random"}, default="share"
        As in `prototype_comprehensiveness`, with the prototypes that are kept.
    random_state : int, RandomState instance or None, default=None
        Seed of the random ranking.

    Returns
    -------
    ndarray of shape (n,), float64
        p(all prototypes) − p(remaining prototypes) of the predicted class. Lower is
        better. NaN if the class has only one prototype.

    Raises
    ------
    ValueError
        If `ranking` is not one of the options, or `k` is not a positive int.
    """
    _check_prototype_options(k, ranking)
    model = fitted_classifier(clf)
    explanations = explain(model, model.texts_of(X))
    return prototype_drops(model, explanations, k, ranking, random_state, keep=True)


def _check_prototype_options(k: int, ranking: str) -> None:
    require("ranking", ranking, _one_of(["share", "random"]))
    require("k", k, COUNT)


def prototype_drops(
    model: FittedModel,
    explanations: Explanations,
    k: int,
    ranking: str,
    random_state: Any,
    *,
    keep: bool,
) -> np.ndarray:
    """Return the drop of the predicted class's probability per text, (n,).

    The first k prototypes of the ranking are removed; with `keep`, all others of the
    predicted class are.
    """
    rng = check_random_state(random_state)
    texts: Any = [e.text for e in explanations]
    # Text vectors do not depend on the prototypes, so the encoder runs once.
    [vectors] = model.read(model.tokenize(texts, quiet=True), lambda s: (s,))
    codes = _predicted_codes(explanations)
    drops = np.full(len(explanations), np.nan)
    for row, e in enumerate(explanations):
        prototypes = np.flatnonzero(e.prototype_labels == e.prediction)
        if ranking == "random":
            order = rng.permutation(prototypes)
        else:
            order = prototypes[np.argsort(-e.contributions[prototypes], kind="stable")]
        if len(order) == 1:  # a class cannot lose its only prototype
            continue
        n_top = min(k, len(order) - 1)  # so that at least one is removed
        removed = order[n_top:] if keep else order[:n_top]
        kept = np.setdiff1d(np.arange(len(e.contributions)), removed)
        scores = model.outputs_of(vectors[row : row + 1], kept)
        drops[row] = e.probability - softmax(scores, axis=1)[0, codes[row]]
    return drops
