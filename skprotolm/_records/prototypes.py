"""The prototypes of a fitted estimator, as frozen records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from numbers import Integral
from typing import Any, NamedTuple, overload

import numpy as np

from skprotolm._config import COUNT, require
from skprotolm._data.targets import one_code_each
from skprotolm._display.html import as_frame, one_line, prototypes_html, shorten
from skprotolm._display.plots import plot_map

Text = str | tuple[str, str]

_SHOWN = 20  # prototypes that print lists
_RENDERED = 100  # prototypes that a notebook cell shows


@dataclass(frozen=True, eq=False)
class Quotes:
    """The texts that prototypes quote, and what is known of them: one entry each."""

    texts: tuple[Text, ...]
    train_indices: np.ndarray  # (M,) rows of X in `fit`, -1 for an added prototype
    purities: np.ndarray  # (M,), NaN where it is not known
    usages: np.ndarray  # (M,), -1 where it is not known
    projected: np.ndarray  # (M,) whether the vector is that of the text
    redacted: np.ndarray  # (M,) whether the text stands in for another
    ids: np.ndarray  # (M,) numbers that stay with prototypes whatever is edited

    def take(self, rows: np.ndarray) -> Quotes:
        """Return the entries of some prototypes."""
        return Quotes(
            tuple(self.texts[i] for i in rows.tolist()),
            *(getattr(self, f.name)[rows] for f in fields(self)[1:]),
        )

    def added(self, texts: Sequence[Text], first_id: int) -> Quotes:
        """Return the entries with those of new texts behind them."""
        n = len(texts)
        return Quotes(
            (*self.texts, *texts),
            np.append(self.train_indices, np.full(n, -1)),
            np.append(self.purities, np.full(n, np.nan)),
            np.append(self.usages, np.full(n, -1)),
            np.append(self.projected, np.full(n, True)),
            np.append(self.redacted, np.full(n, False)),
            np.append(self.ids, first_id + np.arange(n)),
        )

    def with_redactions(self, texts: Mapping[int, Text]) -> Quotes:
        """Return the entries with other texts, which the vectors are not those of."""
        projected, redacted = self.projected.copy(), self.redacted.copy()
        projected[list(texts)] = False
        redacted[list(texts)] = True
        shown = tuple(texts.get(j, text) for j, text in enumerate(self.texts))
        return replace(self, texts=shown, projected=projected, redacted=redacted)

    def with_unknown_purity(self, rows: np.ndarray) -> Quotes:
        """Return the entries without the purity of some, which are of another class."""
        purities = self.purities.copy()
        purities[rows] = np.nan
        return replace(self, purities=purities)


class Reader(NamedTuple):
    """What prototypes need of their model to be compared with texts."""

    similarities: Callable[[Any], np.ndarray]  # texts to (n, M)
    vectors: Callable[[Any], np.ndarray]  # texts to (n, H), where distance is Euclidean


class Nearest(NamedTuple):
    """The prototypes that are nearest to each of n texts, the nearest first.

    Attributes
    ----------
    indices : ndarray of shape (n, k), int64
        Positions in ``prototypes_``.
    similarities : ndarray of shape (n, k), float64
        As `ProtoLMClassifier.transform` gives them.
    """

    indices: np.ndarray
    similarities: np.ndarray


Nearest.__module__ = "skprotolm"  # a NamedTuple takes none in its body


@dataclass(frozen=True)
class Prototype:
    """One prototype: a training text that stands for a part of its class.

    Attributes
    ----------
    index : int
        Its position among all prototypes.
    label : object
        The class that owns it.
    text : str or (str, str)
        The training text it stands on; with ``projection=False``, the nearest one.
    train_index : int or None
        That text's row in the X of `fit`; None for an added prototype.
    unread : tuple of str
        Words of the text that the tokenizer cannot read: the model sees the same
        unknown token in the place of each.
    prior : float or None
        Its weight π inside its class; after a fit those of a class sum to 1, and edits
        leave them as they are. None under ``formulation="proto-lm"``.
    weights : tuple of n_classes floats, or None
        Output weights under ``formulation="proto-lm"``, in the order of ``classes_``.
    purity : float or None
        Share of its own class among its nearest other training texts, at most ten;
        None where there is none to look at, and for an added or relabelled prototype.
    usage : int or None
        How many other training texts have it as their nearest prototype; None for an
        added one. Purity and usage are facts of the fit.
    projected : bool
        Whether the prototype's vector is that of its text: not with
        ``projection=False``, nor behind a redacted text.
    redacted : bool
        Whether the text stands in for one that is not to be shown.
    """

    __module__ = "skprotolm"

    index: int
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


@dataclass(frozen=True, eq=False, repr=False)
class Prototypes(Sequence[Prototype]):
    """All prototypes of a model: a sequence of `Prototype`.

    After a fit they stand class after class; added ones stand at the end.

    ``numpy.asarray(prototypes)`` is ``prototypes.vectors``, and ``prototypes.shape``
    its shape, so code that expects an array of prototypes works.

    Attributes
    ----------
    vectors : ndarray of shape (M, H), float32
        The prototypes' text vectors.
    labels : ndarray of shape (M,)
        The class of each.
    texts : tuple of str, or of (str, str)
        The training text of each.
    train_indices : ndarray of shape (M,), int64
        The row of each text in the X of `fit`; -1 for added prototypes.
    unread : tuple of tuples of str
        The words of each text that the tokenizer cannot read.
    priors : ndarray of shape (M,), float64, or None
        Weights π; None under ``formulation="proto-lm"``.
    weights : ndarray of shape (C, M), float64, or None
        Output weights under ``formulation="proto-lm"``.
    purities : ndarray of shape (M,), float64
        NaN where there is no other text to look at, and for added and relabelled
        prototypes.
    usages : ndarray of shape (M,), int64
        -1 for added prototypes.
    projected : ndarray of shape (M,), bool
        Whether each vector *is* its text's vector.
    redacted : ndarray of shape (M,), bool
        Whether each text stands in for one that is not to be shown.

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
    train_indices: np.ndarray
    unread: tuple[tuple[str, ...], ...]
    priors: np.ndarray | None
    weights: np.ndarray | None
    purities: np.ndarray
    usages: np.ndarray
    projected: np.ndarray
    redacted: np.ndarray
    _reader: Reader | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None}  # the model is not ours to store

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
                f"There is no prototype {index}: they are 0 to {len(self) - 1}."
            )
        j = range(len(self))[index]
        purity, usage = float(self.purities[j]), int(self.usages[j])
        train_index = int(self.train_indices[j])
        return Prototype(
            index=j,
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
        """Find the prototypes that are most similar to each text.

        Parameters
        ----------
        texts : container of str, length n
            As X in `ProtoLMClassifier.fit`.
        k : int, default=1
            How many a text, at most M.

        Returns
        -------
        Nearest
            ``indices`` and ``similarities``, both of shape (n, k).

        Raises
        ------
        ValueError
            If `k` is no such count, or the prototypes were stored without their
            model.

        Examples
        --------
        >>> found = clf.prototypes_.nearest(["a lovely meal"], k=2)  # doctest: +SKIP
        >>> [clf.prototypes_[j].text for j in found.indices[0]]  # doctest: +SKIP
        ['the food was wonderful', 'a kind and patient waiter']
        """
        require("k", k, COUNT)
        if k > len(self):
            raise ValueError(f"k must be at most {len(self)}, all prototypes, got {k}.")
        similarities = self._read().similarities(texts)
        indices = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
        return Nearest(indices, np.take_along_axis(similarities, indices, axis=1))

    @np.errstate(under="ignore")
    def plot(self, texts: Any = None, labels: Any = None) -> Any:
        """Draw a map of the prototypes, and of texts among them.

        The places are those of t-SNE [1]_, which tries to keep neighbours near: most
        that are drawn near are near, not all, and the distances between groups and
        their sizes say little. Up to 100 prototypes have their numbers beside them; of
        more, marks are smaller.

        Parameters
        ----------
        texts : container of str, length n, default=None
            Texts to draw as small marks.
        labels : array-like of shape (n,), default=None
            Their labels, of classes that have prototypes; by default they are drawn
            without one.

        Returns
        -------
        matplotlib.figure.Figure
            It belongs to the caller; ``figure.savefig(path)`` writes it.

        Raises
        ------
        ValueError
            If labels come without texts, in another number or of other classes, or
            `texts` cannot be read, since the prototypes were stored without their
            model.
        MissingExtraError
            If matplotlib is not installed.

        References
        ----------
        .. [1] van der Maaten and Hinton. "Visualizing Data using t-SNE". Journal of
           Machine Learning Research 9, 2008.
        """
        vectors = self.vectors
        if self.priors is not None:  # the mixture compares by cosine
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        marks = vectors[:0] if texts is None else self._read().vectors(texts)
        given = [None] * len(marks)
        if labels is not None:
            classes = np.unique(self.labels)
            codes = one_code_each(classes, "labels", labels, len(marks))
            given = classes[codes].tolist()
        at = np.concatenate([vectors, marks])
        return plot_map(at, self.labels.tolist(), given)

    def _read(self) -> Reader:
        if self._reader is None:
            raise ValueError(
                "These prototypes were stored without their model; take them from "
                "the estimator's prototypes_ to compare texts with them."
            )
        return self._reader

    def to_dict(self) -> list[dict[str, Any]]:
        """Return one plain dict a prototype, without the vectors."""
        return [
            {
                "index": p.index,
                "label": p.label,
                "text": p.text,
                "train_index": p.train_index,
                "unread": list(p.unread),
                "prior": p.prior,
                "weights": None if p.weights is None else list(p.weights),
                "purity": p.purity,
                "usage": p.usage,
                "projected": p.projected,
                "redacted": p.redacted,
            }
            for p in self
        ]

    def to_frame(self) -> Any:
        """Return a pandas DataFrame, one row a prototype.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        """
        return as_frame(self.to_dict())

    def __repr__(self) -> str:
        lines = [f"{len(self)} prototypes of {len(np.unique(self.labels))} classes"]
        lines += [
            f"  {p.index:>3}  {p.label}: {shorten(p.text)}"
            + (f" (not read: {', '.join(dict.fromkeys(p.unread))})" if p.unread else "")
            for p in self[:_SHOWN]
        ]
        if len(self) > _SHOWN:
            lines.append(f"  … and {len(self) - _SHOWN} more")
        return "\n".join(map(one_line, lines))

    def _repr_html_(self) -> str:
        shown = self.to_dict()[:_RENDERED]
        return prototypes_html(shown, n_more=len(self) - len(shown))
