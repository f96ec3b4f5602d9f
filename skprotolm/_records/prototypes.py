"""The prototypes of a fitted estimator, as frozen records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, NamedTuple, Protocol, overload

import numpy as np

from skprotolm._config import COUNT, require
from skprotolm._data.texts import Text
from skprotolm._display.formatting import one_line, set_name, shorten
from skprotolm._display.html import prototypes_html
from skprotolm._display.plots import plot_map
from skprotolm._display.tables import as_frame

_PRINTED = 20  # prototypes in print
_RENDERED = 100  # prototypes in a notebook cell


class TextComparison(Protocol):
    """The part of a fitted model that compares texts with prototypes."""

    def nearest(self, texts: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the k nearest prototypes of n texts, and similarities, (n, k)."""
        ...

    def map_vectors(self, texts: Any) -> np.ndarray:
        """Return n text vectors, (n, H), as in ``Prototypes._map_vectors``."""
        ...

    def groups_of(self, labels: Any, n: int) -> list[Any]:
        """Return what a map calls the groups of n labels."""
        ...


class Nearest(NamedTuple):
    """The nearest prototypes of n texts, in descending order of similarity.

    Attributes
    ----------
    indices : ndarray of shape (n, k), int64
        Positions in ``prototypes_``.
    similarities : ndarray of shape (n, k), float64
        As in `ProtoLMClassifier.transform`.
    """

    indices: np.ndarray
    similarities: np.ndarray


Nearest.__module__ = "skprotolm"  # a NamedTuple does not allow it in its body


@dataclass(frozen=True)
class Prototype:
    """One prototype: a training text that represents a part of its class.

    Attributes
    ----------
    index : int
        Position among all prototypes.
    name : str
        Words of the text that are frequent among the texts nearest to the prototype and
        rare elsewhere, such as "slow · plot · dull". Names are unique, and edits do not
        change them; only a redacted prototype is named "redacted" with a number.
    label : object
        Class of the prototype; of several labels per text, a tuple of them, and of a
        regressor, its value.
    text : str, (str, str) or MarkedWord
        Training text of the prototype; with ``projection=False``, the nearest one. Of a
        token classifier, the training word, marked in its sentence.
    train_index : int or None
        Row of that text in the X of `fit`; None for an added prototype. Rows of
        `partial_fit` are numbered on from those of the calls before.
    unread : tuple of str
        Words of the text that the tokenizer cannot read: the model sees the same
        unknown token instead of each.
    prior : float or None
        Weight π within the class. After a fit the priors of a class sum to 1; edits do
        not change them. None under ``formulation="proto-lm"``.
    weights : tuple of n_classes floats, or None
        Output weights under ``formulation="proto-lm"``, in the order of ``classes_``.
    purity : float or None
        Share of the prototype's class among the nearest other training texts, at most
        ten; of several labels per text, of those whose rarest label is the same. None
        without other texts, and for added and relabeled prototypes and those of
        `partial_fit`.
    usage : int or None
        How many other training texts had it as their nearest prototype when they were
        learned; None for an added one. Edits do not change purity and usage.
    projected : bool
        Whether the prototype's vector is that of its text; False with
        ``projection=False`` and for a redacted text.
    redacted : bool
        Whether the text replaces a confidential one.
    """

    __module__ = "skprotolm"

    index: int
    name: str
    label: Any
    text: Text
    train_index: int | None
    unread: tuple[str, ...]
    prior: float | None
    weights: tuple[float, ...] | None
    purity: float | None
    usage: int | None
    projected: bool
    redacted: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the prototype as plain Python objects, without its vector."""
        weights = None if self.weights is None else list(self.weights)
        return {**vars(self), "unread": list(self.unread), "weights": weights}


@dataclass(frozen=True, eq=False, repr=False)
class Prototypes(Sequence[Prototype]):
    """All prototypes of a model: a sequence of `Prototype`.

    After a fit they are sorted by class. Added prototypes, and those of `partial_fit`,
    are appended.

    ``numpy.asarray(prototypes)`` is ``prototypes.vectors``, and ``prototypes.shape``
    its shape, so that they can be used as an array.

    Attributes
    ----------
    vectors : ndarray of shape (M, H), float32
        Text vectors of the prototypes.
    labels : ndarray of shape (M,)
        Class of each prototype; of several labels per text, tuples of them, object; of
        a regressor, its value, float64.
    texts : tuple of str, of (str, str), or of MarkedWord
        Training text of each prototype.
    names : tuple of str
        Name of each prototype, unique.
    train_indices : ndarray of shape (M,), int64
        Row of each text in the X of `fit`, numbered on in `partial_fit`; -1 for added
        prototypes.
    unread : tuple of tuples of str
        Words of each text that the tokenizer cannot read.
    priors : ndarray of shape (M,), float64, or None
        Weights π; None under ``formulation="proto-lm"``.
    weights : ndarray of shape (C, M), float64, or None
        Output weights under ``formulation="proto-lm"``.
    purities : ndarray of shape (M,), float64
        NaN without other texts, and for added and relabeled prototypes and those of
        `partial_fit`.
    usages : ndarray of shape (M,), int64
        -1 for added prototypes.
    projected : ndarray of shape (M,), bool
        Whether each vector is that of its text.
    redacted : ndarray of shape (M,), bool
        Whether each text replaces a confidential one.

    Examples
    --------
    >>> prototypes = clf.prototypes_  # doctest: +SKIP
    >>> prototypes[0].text, prototypes[0].label  # doctest: +SKIP
    ('the food was wonderful', 'positive')
    """

    __module__ = "skprotolm"

    vectors: np.ndarray
    labels: np.ndarray
    texts: tuple[Text, ...]
    names: tuple[str, ...]
    train_indices: np.ndarray
    unread: tuple[tuple[str, ...], ...]
    priors: np.ndarray | None
    weights: np.ndarray | None
    purities: np.ndarray
    usages: np.ndarray
    projected: np.ndarray
    redacted: np.ndarray
    # Vectors whose Euclidean distance is the distance of the prototype layer.
    _map_vectors: np.ndarray
    _nouns: tuple[str, str]  # for what a prototype stands for, and for its groups
    _groups: tuple[Any, ...]  # of each prototype, on a map
    _model: TextComparison | None = field(default=None)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": None}  # pickles leave the model out

    def __copy__(self) -> Prototypes:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Prototypes:
        return self

    def __post_init__(self) -> None:
        for value in self.__dict__.values():
            if isinstance(value, np.ndarray):
                value.setflags(write=False)  # copies of the estimator share it

    @property
    def shape(self) -> tuple[int, int]:
        """(M, H), the shape of ``vectors``."""
        return self.vectors.shape

    def __len__(self) -> int:
        return len(self.texts)

    @overload
    def __getitem__(self, index: int) -> Prototype: ...
    @overload
    def __getitem__(self, index: slice) -> list[Prototype]: ...
    def __getitem__(self, index: int | slice) -> Prototype | list[Prototype]:
        """Return one prototype, or a list of them for a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not isinstance(index, Integral):
            raise TypeError(f"A prototype's index must be an int, got {index!r}.")
        if not -len(self) <= index < len(self):
            raise IndexError(
                f"There is no prototype {index}: positions are 0 to {len(self) - 1}."
            )
        j = range(len(self))[index]
        purity, usage = float(self.purities[j]), int(self.usages[j])
        train_index = int(self.train_indices[j])
        return Prototype(
            index=j,
            name=self.names[j],
            label=self.labels[j : j + 1].tolist()[0],
            text=self.texts[j],
            train_index=None if train_index < 0 else train_index,
            unread=self.unread[j],
            prior=None if self.priors is None else float(self.priors[j]),
            weights=None
            if self.weights is None
            else tuple(self.weights[:, j].tolist()),
            purity=None if np.isnan(purity) else purity,
            usage=None if usage < 0 else usage,
            projected=bool(self.projected[j]),
            redacted=bool(self.redacted[j]),
        )

    def __iter__(self) -> Iterator[Prototype]:
        return (self[j] for j in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            return np.asarray(self.vectors, dtype=dtype)
        return np.array(self.vectors, dtype=dtype)

    def nearest(self, texts: Any, k: int = 1) -> Nearest:
        """Find the most similar prototypes of each text.

        Parameters
        ----------
        texts : container of str, length n
            As X in `ProtoLMClassifier.fit`.
        k : int, default=1
            Number of prototypes per text, at most M.

        Returns
        -------
        Nearest
            ``indices`` and ``similarities``, both of shape (n, k).

        Raises
        ------
        ValueError
            If `k` is not an int from 1 to M, or the prototypes were stored without
            their model.

        Examples
        --------
        >>> nearest = clf.prototypes_.nearest(["a lovely meal"], k=2)  # doctest: +SKIP
        >>> [clf.prototypes_[j].text for j in nearest.indices[0]]  # doctest: +SKIP
        ['the food was wonderful', 'a kind and patient waiter']
        """
        require("k", k, COUNT)
        if k > len(self):
            raise ValueError(
                f"k must be at most {len(self)}, the number of prototypes, got {k}."
            )
        return Nearest(*self._require_model().nearest(texts, k))

    @np.errstate(under="ignore")
    def plot(self, texts: Any = None, labels: Any = None) -> Any:
        """Draw a map of the prototypes, and of texts.

        The coordinates come from t-SNE [1]_, which preserves neighborhoods: most points
        that are close on the map are similar. Distances between groups and their sizes
        have little meaning. Up to 100 prototypes are numbered, and up to 12 named;
        markers of more than 100 are smaller.

        Parameters
        ----------
        texts : container of str, length n, default=None
            Texts to draw as small markers.
        labels : array-like of shape (n,), default=None
            Labels of the texts, from the classes of the prototypes; of several labels
            per text, sets of them or an indicator matrix, and texts are drawn by their
            rarest label; of a regressor, numbers, which are drawn by their range. By
            default texts are drawn as "no label".

        Returns
        -------
        matplotlib.figure.Figure
            A figure without pyplot; ``figure.savefig(path)`` writes it.

        Raises
        ------
        ValueError
            If there are labels without texts, the wrong number of labels or unknown
            labels, or if `texts` are passed to prototypes that were stored without
            their model.
        MissingExtraError
            If matplotlib is not installed.

        References
        ----------
        .. [1] van der Maaten and Hinton. "Visualizing Data using t-SNE". Journal of
           Machine Learning Research 9, 2008.
        """
        vectors = self._map_vectors[:0]
        if texts is not None:
            vectors = self._require_model().map_vectors(texts)
        groups: list[Any] = [None] * len(vectors)
        if labels is not None:
            groups = self._require_model().groups_of(labels, len(vectors))
        vectors = np.concatenate([self._map_vectors, vectors])
        return plot_map(vectors, self._groups, self.names, groups)

    def _require_model(self) -> TextComparison:
        if self._model is None:
            raise ValueError(
                "These prototypes were stored without their model; take them from "
                "the estimator's prototypes_ to compare texts with them."
            )
        return self._model

    def to_dict(self) -> list[dict[str, Any]]:
        """Return one plain dict per prototype, without the vectors."""
        return [p.to_dict() for p in self]

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with one row per prototype.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        """
        return as_frame(self.to_dict())

    def __repr__(self) -> str:
        n_groups, noun = len(set(self._groups)), self._nouns[1]
        lines = [f"{len(self)} prototypes of {n_groups} {noun}"]
        lines += [
            f"  {p.index:>3}  {set_name(p.label)}, {p.name}: {shorten(p.text)}"
            + (f" (not read: {', '.join(dict.fromkeys(p.unread))})" if p.unread else "")
            for p in self[:_PRINTED]
        ]
        if len(self) > _PRINTED:
            lines.append(f"  … and {len(self) - _PRINTED} more")
        return "\n".join(map(one_line, lines))

    def _repr_html_(self) -> str:
        records = [p.to_dict() for p in self[:_RENDERED]]
        n_more = len(self) - len(records)
        return prototypes_html(records, noun=self._nouns[0], n_more=n_more)
