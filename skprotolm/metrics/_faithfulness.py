"""Faithfulness: what happens to a prediction when its reasons are taken away, or alone.

ERASER: DeYoung et al. 2020, "ERASER: A Benchmark to Evaluate Rationalized NLP Models".
ferret: Attanasio et al. 2023, "ferret: a Framework for Benchmarking Explainers on
Transformers".
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.utils import check_random_state

from skprotolm._config import COUNT, require
from skprotolm._records.explanation import Explanation
from skprotolm._records.explanations import Explanations
from skprotolm._records.words import replace_words

_FRACTIONS = {
    "eraser": (0.01, 0.05, 0.1, 0.2, 0.5),
    "ferret": tuple(tenth / 10 for tenth in range(1, 11)),
}
_MASK = "…"  # one token to most tokenizers, and no word
_REMOVALS = {"delete": "", "mask": _MASK}


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
    """Measure how far the prediction falls without its most important words.

    Parameters
    ----------
    clf : ProtoLMClassifier
        A fitted classifier.
    X : container of str, length n
        Texts, as in `ProtoLMClassifier.fit`.
    word_scores : sequence of ndarray, "random" or None, default=None
        One array a text, a number a word in the order of `Explanation.words`, from
        any method; "random" ranks words at random, which is the baseline; by default
        those of `ProtoLMClassifier.explain`.
    token_method : str, default="auto"
        Passed to `ProtoLMClassifier.explain`, unless there are `word_scores`.
    protocol : {"eraser", "ferret"}, default="eraser"
        "eraser": the words of highest score, 1, 5, 10, 20 and 50 % of them.
        "ferret": 10 to 100 % in steps of ten, of which only words of positive score
        are taken. A share is rounded up to whole words.
    removal : {"delete", "mask"}, default="delete"
        Leave words out, or put "…" in their place.
    random_state : int, RandomState instance or None, default=None
        Seed of the random ranking.

    Returns
    -------
    ndarray of shape (n,), float64
        For each text the mean over the shares of p(all) − p(without the words), of the
        class predicted for the whole text. Higher is better.

    Raises
    ------
    ValueError
        If a parameter is none of the above, or `word_scores` do not fit the words, or
        `token_method` gives none for this architecture.

    Examples
    --------
    >>> comprehensiveness(clf, X_test).mean()  # doctest: +SKIP
    0.41
    >>> comprehensiveness(
    ...     clf, X_test, "random", random_state=0
    ... ).mean()  # doctest: +SKIP
    0.06
    """
    return _measure(
        clf,
        X,
        word_scores,
        (token_method, protocol, removal, random_state),
        keep=False,
    )


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
    """Measure how far the prediction falls when only its most important words are left.

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
        As in `comprehensiveness`.
    removal : {"delete", "mask"}, default="delete"
        Leave the other words out, or put "…" in their place.
    random_state : int, RandomState instance or None, default=None
        Seed of the random ranking.

    Returns
    -------
    ndarray of shape (n,), float64
        For each text the mean over the shares of p(all) − p(the words alone), of the
        class predicted for the whole text. Lower is better.

    Raises
    ------
    ValueError
        As in `comprehensiveness`.
    """
    return _measure(
        clf,
        X,
        word_scores,
        (token_method, protocol, removal, random_state),
        keep=True,
    )


def _measure(
    clf: Any,
    X: Any,
    word_scores: Any,
    options: tuple[str, str, str, Any],
    *,
    keep: bool,
) -> np.ndarray:
    token_method, protocol, removal, random_state = options
    _require_one_of("protocol", protocol, _FRACTIONS)
    _require_one_of("removal", removal, _REMOVALS)
    is_random = isinstance(word_scores, str)
    if is_random:
        _require_one_of("word_scores", word_scores, ("random",))
    method = token_method if word_scores is None else "auto"
    explanations = clf.explain(X, token_method=method)
    if is_random:
        word_scores = random_scores(explanations, random_state)
    elif word_scores is None:
        word_scores = known_scores(explanations)
    _check_scores(explanations, word_scores)
    return measure_words(clf, explanations, word_scores, protocol, removal, keep=keep)


def measure_words(
    clf: Any,
    explanations: Explanations,
    word_scores: Sequence[np.ndarray],
    protocol: str,
    removal: str,
    *,
    keep: bool,
) -> np.ndarray:
    """Take words away from texts that are explained already, or keep only them."""
    reduced = [
        text
        for e, scores in zip(explanations, word_scores, strict=True)
        for text in _reduced(
            e, _tops(np.asarray(scores), protocol), _REMOVALS[removal], keep
        )
    ]
    whole = np.array([e.probabilities[e.prediction] for e in explanations])
    left = _probabilities(clf, explanations, reduced)
    return (whole[:, None] - left).mean(axis=1)


def _require_one_of(name: str, value: Any, options: Any) -> None:
    if value not in options:
        named = " or ".join(map(repr, options))
        raise ValueError(f"{name} must be {named}, got {value!r}.")


def known_scores(explanations: Explanations) -> list[np.ndarray]:
    """Return the word scores of each text, or say that there are none."""
    found = [e.word_scores for e in explanations]
    if any(scores is None for scores in found):
        raise ValueError(
            "The texts' words have no scores, which this architecture does not give "
            "under this formulation; use token_method='occlusion'."
        )
    return [scores for scores in found if scores is not None]


def random_scores(explanations: Explanations, random_state: Any) -> list[np.ndarray]:
    """Return what ranks the words of each text at random."""
    rng = check_random_state(random_state)
    return [1 - rng.random_sample(len(e.words)) for e in explanations]  # all positive


def _check_scores(explanations: Explanations, word_scores: Any) -> None:
    if not hasattr(word_scores, "__len__"):
        raise ValueError(
            f"word_scores must hold an array a text, got {type(word_scores).__name__}."
        )
    if len(word_scores) != len(explanations):
        raise ValueError(
            f"word_scores must hold an array a text, got {len(word_scores)} for "
            f"{len(explanations)} texts."
        )
    for row, (e, scores) in enumerate(zip(explanations, word_scores, strict=True)):
        if scores is None or np.shape(scores) != (len(e.words),):
            found = None if scores is None else np.shape(scores)
            raise ValueError(
                f"Row {row} of word_scores must hold {len(e.words)} numbers, one a "
                f"word of Explanation.words, got {found}."
            )
        try:
            are_finite = np.isfinite(np.asarray(scores, dtype=float)).all()
        except (TypeError, ValueError):
            are_finite = False
        if not are_finite:
            raise ValueError(f"Row {row} of word_scores must hold finite numbers.")


def _tops(scores: np.ndarray, protocol: str) -> list[np.ndarray]:
    """Return the words that each share of a text consists of."""
    order = np.argsort(-scores, kind="stable")
    # 10 % of ten words are one word, whatever the product's last bit says.
    counts = [math.ceil(f * len(scores) - 1e-9) for f in _FRACTIONS[protocol]]
    tops = [order[:count] for count in counts]
    if protocol == "ferret":
        return [top[scores[top] > 0] for top in tops]
    return tops


def _reduced(
    e: Explanation, tops: list[np.ndarray], put: str, keep: bool
) -> Iterator[Any]:
    """Yield the text without each choice of words, or with it alone."""
    offsets = e.word_offsets
    rest = e.unread_spans
    for top in tops:
        gone = np.setdiff1d(np.arange(len(offsets)), top) if keep else top
        yield replace_words(e.text, offsets[gone].tolist(), put, deleted=rest)


def _probabilities(clf: Any, explanations: Explanations, reduced: list) -> np.ndarray:
    """Return p of each text's predicted class for its reduced texts, (n, shares)."""
    distinct = list(dict.fromkeys(reduced))
    places = {text: i for i, text in enumerate(distinct)}
    # Quiet, since nobody passed these texts: words may be cut in their middle.
    state = clf._fitted_model()
    tokenized = state.tokenize(distinct, quiet=True)
    [scores] = state.read(tokenized, lambda s: (state.layer(s).scores,))
    found = softmax(scores.numpy(), axis=1)[[places[text] for text in reduced]]
    found = found.reshape(len(explanations), -1, found.shape[1])
    labels = explanations[0].classes.tolist()
    codes = [labels.index(e.prediction) for e in explanations]
    return found[np.arange(len(codes)), :, codes]


@np.errstate(under="ignore")
def prototype_comprehensiveness(
    clf: Any, X: Any, *, k: int = 3, ranking: str = "share", random_state: Any = None
) -> np.ndarray:
    """Measure how far the prediction falls without its most important prototypes.

    Parameters
    ----------
    clf : ProtoLMClassifier
        A fitted classifier.
    X : container of str, length n
        Texts, as in `ProtoLMClassifier.fit`.
    k : int, default=3
        How many prototypes of the predicted class are taken out; of a class that has
        no more, all but one.
    ranking : {"share", "random"}, default="share"
        The prototypes of the largest contributions, or, as the baseline, random ones of
        the predicted class.
    random_state : int, RandomState instance or None, default=None
        Seed of the random choice.

    Returns
    -------
    ndarray of shape (n,), float64
        For each text p(all) − p(without them), of its predicted class. Higher is
        better; NaN where the class has one prototype.

    Raises
    ------
    ValueError
        If `ranking` is none of the above, or `k` no count.
    """
    return _measure_prototypes(clf, X, k, ranking, random_state, keep=False)


@np.errstate(under="ignore")
def prototype_sufficiency(
    clf: Any, X: Any, *, k: int = 3, ranking: str = "share", random_state: Any = None
) -> np.ndarray:
    """Measure how far the prediction falls when its class keeps its best prototypes.

    The other classes keep all of theirs.

    Parameters
    ----------
    clf : ProtoLMClassifier
        A fitted classifier.
    X : container of str, length n
        Texts, as in `ProtoLMClassifier.fit`.
    k : int, default=3
        How many prototypes of the predicted class are kept; of a class that has no
        more, all but one.
    ranking : {"share", "random"}, default="share"
        As in `prototype_comprehensiveness`.
    random_state : int, RandomState instance or None, default=None
        Seed of the random choice.

    Returns
    -------
    ndarray of shape (n,), float64
        For each text p(all) − p(with them alone in the class), of its predicted class.
        Lower is better; NaN where the class has one prototype.

    Raises
    ------
    ValueError
        If `ranking` is none of the above, or `k` no count.
    """
    return _measure_prototypes(clf, X, k, ranking, random_state, keep=True)


def _measure_prototypes(
    clf: Any, X: Any, k: int, ranking: str, random_state: Any, *, keep: bool
) -> np.ndarray:
    _require_one_of("ranking", ranking, ("share", "random"))
    require("k", k, COUNT)
    return measure_prototypes(clf, clf.explain(X), k, ranking, random_state, keep=keep)


def measure_prototypes(
    clf: Any,
    explanations: Explanations,
    k: int,
    ranking: str,
    random_state: Any,
    *,
    keep: bool,
) -> np.ndarray:
    """Take prototypes from texts that are explained already, or keep only them."""
    rng = check_random_state(random_state)
    state = clf._fitted_model()
    texts: Any = [e.text for e in explanations]
    # A text's vector stays when prototypes go, so the encoder runs once.
    [vectors] = state.read(state.tokenize(texts, quiet=True), lambda s: (s,))
    drops = []
    for e, vector in zip(explanations, vectors, strict=True):
        mine = np.flatnonzero(e.prototype_labels == e.prediction)
        order = mine[np.argsort(-e.contributions[mine], kind="stable")]
        if ranking == "random":
            order = rng.permutation(mine)
        if len(mine) == 1:  # neither can it go, nor is there another one
            drops.append(np.nan)
            continue
        some = min(k, len(order) - 1)  # keeping all would be no test
        gone = order[some:] if keep else order[:some]
        edited = copy.copy(clf)  # edits give it another state, and change none
        edited.remove_prototypes(gone.tolist())
        scores = edited._fitted_model().layer(vector[None]).scores
        code = e.classes.tolist().index(e.prediction)
        left = float(scores.softmax(dim=1)[0, code])
        drops.append(e.class_probabilities[code] - left)
    return np.array(drops)
