"""Predictions and explanations of a stream of texts, as methods of an estimator."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any

from skprotolm._config import COUNT, require
from skprotolm._fitted import fitted_model
from skprotolm.exceptions import TextTruncatedWarning, UnreadTextWarning

_METHODS = ("predict", "predict_proba", "transform", "novelty_score")


class StreamingMixin:
    """Adds methods that read any iterable of texts with bounded memory."""

    def iter_predict(
        self, X: Iterable[Any], *, method: str = "predict", chunk_size: int = 1024
    ) -> Iterator[Any]:
        """Predict a stream of texts, such as one that does not fit into memory.

        Parameters
        ----------
        X : iterable of str
            Texts, or pairs of texts as tuples, or lists of words in a token
            classifier: for example a generator that reads a file. It is read in
            chunks, as the results are consumed.
        method : {"predict", "predict_proba", "transform", "novelty_score"}, \
                default="predict"
            The method whose results are returned.
        chunk_size : int, default=1024
            Texts that are held in memory, and read before the first of them is
            predicted. Texts of similar length share a batch only inside a chunk.

        Yields
        ------
        object
            The result of each text: a label or number, or a row of the array.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            At once for `method`, `chunk_size` and X itself. Texts are checked chunk by
            chunk, and the message names the text.

        Examples
        --------
        >>> from skprotolm import ProtoLMClassifier
        >>> clf = ProtoLMClassifier(random_state=0)
        >>> clf.fit(["good", "bad"], [1, 0])  # doctest: +SKIP
        >>> with open("reviews.txt") as lines:  # doctest: +SKIP
        ...     for label in clf.iter_predict(line.strip() for line in lines):
        ...         print(label)
        """
        fitted_model(self)
        available = [name for name in _METHODS if hasattr(self, name)]
        if method not in available:
            raise ValueError(f"method must be one of {available}, got {method!r}.")
        return self._iterate(getattr(self, method), X, chunk_size)

    def iter_explain(
        self, X: Iterable[Any], *, chunk_size: int = 64, **options: Any
    ) -> Iterator[Any]:
        """Explain a stream of texts, such as one that does not fit into memory.

        Parameters
        ----------
        X : iterable of str
            As in `iter_predict`.
        chunk_size : int, default=64
            Texts that are held in memory, with their explanations.
        **options
            Keyword arguments of `explain`, the same for all texts.

        Yields
        ------
        Explanation
            In the order of `explain`.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            As in `iter_predict` and `explain`.
        """
        fitted_model(self)
        estimator: Any = self  # each has its own `explain`
        return self._iterate(partial(estimator.explain, **options), X, chunk_size)

    def _iterate(
        self, of: Callable[[list[Any]], Iterable[Any]], X: Iterable[Any], size: int
    ) -> Iterator[Any]:
        """Check the arguments, which a generator would do at its first step only."""
        require("chunk_size", size, COUNT)
        if isinstance(X, (str, bytes)) or not isinstance(X, Iterable):
            raise TypeError(
                f"X must be an iterable of texts, got a single {type(X).__name__}; "
                f"pass [text] for a single text."
            )
        if hasattr(X, "columns"):  # whose iteration gives columns, not rows
            raise TypeError(
                f"X must be an iterable of texts, got a {type(X).__name__}; pass one "
                f"of its columns, or its rows as tuples, such as "
                f"X.itertuples(index=False, name=None)."
            )
        return _in_chunks(of, iter(X), size)


def _in_chunks(
    of: Callable[[list[Any]], Iterable[Any]], texts: Iterator[Any], size: int
) -> Iterator[Any]:
    start = 0
    shown: set[type[Warning]] = set()
    while chunk := list(islice(texts, size)):
        try:
            with warnings.catch_warnings(record=True) as caught:
                results = of(chunk)
        except (TypeError, ValueError) as error:
            last = start + len(chunk) - 1
            where = f"Texts {start} to {last} of X, where row 0 is text {start}"
            raise type(error)(f"{where}: {error}") from error
        _show(caught, shown)
        yield from results
        start += len(chunk)


def _show(caught: list[warnings.WarningMessage], shown: set[type[Warning]]) -> None:
    """Show the warnings of a chunk; those about texts are shown once per stream."""
    for w in caught:
        if w.category not in shown:
            warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)
        if w.category in (TextTruncatedWarning, UnreadTextWarning):
            shown.add(w.category)
