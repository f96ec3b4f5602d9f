"""Explanations of predictions, as frozen records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np

from skprotolm._config import USAGE, require
from skprotolm._display.html import (
    as_frame,
    as_shap,
    explanations_html,
    one_line,
    percent,
    shorten,
)
from skprotolm._display.plots import plot_explanation, plot_shares
from skprotolm._display.text import explanation_text
from skprotolm._records.json import dump_records, load_records
from skprotolm._records.prototypes import Text
from skprotolm._records.words import Words, merge_tokens
from skprotolm._tasks.units import UNITS, Unit

_PRINTED = 5  # explanations that a printed sequence holds
_SHOWN = 5  # prototypes that HTML lists, unless top_k says
_RENDERED = 50  # explanations that a notebook cell shows


@dataclass(frozen=True)
class Contribution:
    """What one prototype contributes to a prediction.

    Attributes
    ----------
    index : int
        The prototype's position in ``prototypes_``.
    label : object
        Its class.
    text : str or (str, str)
        The training text it stands on.
    unread : tuple of str
        Words of that text that the tokenizer cannot read.
    similarity : float
        Cosine to the text explained; 1/(distance + ε) under "proto-lm".
    contribution : float
        Its share of the probabilities; under "proto-lm", its part of the target's
        score.
    """

    index: int
    label: Any
    text: Text
    unread: tuple[str, ...]
    similarity: float
    contribution: float


class NoSplitError(ValueError):
    """A similarity cannot be split over tokens here."""


class Splitter(NamedTuple):
    """What an explanation needs of its model to split similarities over tokens."""

    token_similarities: Callable[[Text], np.ndarray]  # (T, M)
    alignment: Callable[[Text, int], np.ndarray]  # (T, U)
    # Segments, offsets and which are unread, of a prototype's U tokens.
    places: Callable[[int], tuple[np.ndarray, np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class WordAlignment:
    """Which words of a text match which words of a prototype's text.

    Attributes
    ----------
    matrix : ndarray of shape (W, V), float64
        How much the match of each word of the text explained with each word of the
        prototype's text adds to their cosine.
    words : tuple of str, length V
        The words of the prototype's text.
    offsets : ndarray of shape (V, 3), int64
        Segment, begin and end of each, in characters of the prototype's text.
    unread : ndarray of shape (V,), bool
        Whether the tokenizer cannot read the word.
    """

    __module__ = "skprotolm"

    matrix: np.ndarray
    words: tuple[str, ...]
    offsets: np.ndarray
    unread: np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """Why a text was classified as it was, in exact sums.

    Under ``formulation="mixture"`` (``space == "probability"``):

    - the contributions of all prototypes sum to 1, and those of the target's
      prototypes to the probability of the target;
    - ``base_value + token_scores.sum() == log_odds`` of the target;
    - ``token_similarities[:, j].sum()`` and ``alignment(j).sum()`` are the cosine
      to prototype j.

    Under ``formulation="proto-lm"`` (``space == "score"``) the contributions and
    ``base_value`` sum to ``score``, the target's logit; no exact split over tokens
    exists there.

    Attributes
    ----------
    text : str or (str, str)
        The text explained.
    prediction : object
        The predicted label.
    target : object
        The label explained: the predicted one unless another was asked for.
    classes : ndarray of shape (C,)
        All labels.
    class_probabilities : ndarray of shape (C,), float64
        Their probabilities.
    space : {"probability", "score"}
        What contributions are parts of.
    base_value : float
        What no token (or, under "proto-lm", no prototype) accounts for.
    log_odds : float
        log p − log(1 − p) of the target.
    score : float or None
        The target's logit, under "proto-lm" only.
    similarities, contributions : ndarray of shape (M,), float64
        One entry a prototype, in the order of ``prototypes_``.
    tokens : tuple of str
        The text's own tokens, as they stand in it.
    offsets : ndarray of shape (T, 2), int64
        Where each token begins and ends, in characters.
    segments : ndarray of shape (T,), int64
        Which text of a pair each token belongs to, 0 or 1; offsets count within it.
    attention : ndarray of shape (T,), float64
        The share α of each token in the text vector; they sum to 1.
    token_scores : ndarray of shape (T,), float64, or None
        The part of the log-odds that each token accounts for.
    token_method : {"decomposition", "relevance", "occlusion"} or None
        How token scores were found; None where there are none.
    token_unread : ndarray of shape (T,), bool
        Tokens that are the tokenizer's unknown token: the model sees that something
        stands there, but not what.
    top_k : int or None
        How many prototypes are listed; None for all.
    prototype_labels : ndarray of shape (M,)
        The class of each prototype.
    prototype_texts : tuple of str, or of (str, str)
        The training text of each prototype.
    prototype_unread : tuple of tuples of str
        The words of each of these texts that the tokenizer cannot read.
    """

    __module__ = "skprotolm"

    text: Text
    prediction: Any
    target: Any
    classes: np.ndarray
    class_probabilities: np.ndarray
    space: str
    base_value: float
    log_odds: float
    score: float | None
    similarities: np.ndarray
    contributions: np.ndarray
    tokens: tuple[str, ...]
    offsets: np.ndarray
    segments: np.ndarray
    attention: np.ndarray
    token_scores: np.ndarray | None
    token_method: str | None
    token_unread: np.ndarray
    top_k: int | None
    prototype_labels: np.ndarray
    prototype_texts: tuple[Text, ...]
    prototype_unread: tuple[tuple[str, ...], ...]
    # Recomputes token vectors on demand; they would fill memory if they were kept.
    _splitter: Splitter | None = field(default=None)

    @property
    def unit(self) -> Unit:
        """What contributions are parts of, and how they are written."""
        return UNITS[self.space]

    @property
    def probabilities(self) -> dict[Any, float]:
        """Label → probability, in the order of the classes."""
        labels, values = self.classes.tolist(), self.class_probabilities.tolist()
        return dict(zip(labels, values, strict=True))

    @property
    def probability(self) -> float:
        """The probability of the target."""
        return self.probabilities[self.target]

    @property
    def prototypes(self) -> tuple[Contribution, ...]:
        """The prototypes by falling contribution, at most `top_k`."""
        order = np.argsort(-self.contributions, kind="stable")[: self.top_k]
        labels = self.prototype_labels[order].tolist()
        return tuple(
            Contribution(
                index=int(j),
                label=label,
                text=self.prototype_texts[j],
                unread=self.prototype_unread[j],
                similarity=float(self.similarities[j]),
                contribution=float(self.contributions[j]),
            )
            for j, label in zip(order, labels, strict=True)
        )

    @property
    def remainder(self) -> float:
        """The sum of the contributions that `prototypes` does not list."""
        if self.top_k is None:
            return 0.0
        return float(np.sort(self.contributions)[::-1][self.top_k :].sum())

    @cached_property
    def _words(self) -> Words:
        return merge_tokens(self._texts, self.segments, self.offsets)

    @property
    def _texts(self) -> tuple[str, ...]:
        return (self.text,) if isinstance(self.text, str) else self.text

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the text; of a pair, those of both texts one after the other."""
        spans, owners = self._words
        firsts = np.unique(owners, return_index=True)[1].tolist()
        return tuple(
            self._texts[segment][start:end] if end > start else self.tokens[t]
            for (segment, start, end), t in zip(spans, firsts, strict=True)
        )

    @property
    def word_offsets(self) -> np.ndarray:
        """(W, 3): segment, begin and end of each word, in characters of its text."""
        return np.array(self._words.spans, dtype=np.int64).reshape(-1, 3)

    @property
    def word_scores(self) -> np.ndarray | None:
        """The sum of the token scores of each word, in the order of `words`."""
        if self.token_scores is None:
            return None
        return np.bincount(self._words.owners, self.token_scores)

    @property
    def word_unread(self) -> np.ndarray:
        """(W,): whether the tokenizer cannot read a word, in the order of `words`."""
        return np.bincount(self._words.owners, self.token_unread) > 0

    @cached_property
    def token_similarities(self) -> np.ndarray:
        """(T, M): the part of each prototype's cosine that each token accounts for.

        Computed when first asked for, by one forward pass over the text.
        """
        return self._split().token_similarities(self.text)

    def alignment(self, index: int) -> np.ndarray:
        """Split the cosine to a prototype over pairs of tokens.

        Parameters
        ----------
        index : int
            The prototype's position in ``prototypes_``.

        Returns
        -------
        ndarray of shape (T, U), float64
            How much the match of each token of this text with each of the U own
            tokens of the prototype's text adds to their cosine.

        Raises
        ------
        ValueError
            If the prototypes are not texts (``projection=False``), or the
            formulation is not "mixture".
        IndexError, TypeError
            If there is no such prototype, or `index` is no int.
        """
        return self._split().alignment(self.text, self._position(index))

    def _position(self, index: int) -> int:
        M = len(self.prototype_texts)
        if not isinstance(index, Integral) or isinstance(index, bool):
            raise TypeError(
                f"index must be a position in prototypes_, an int from 0 to {M - 1}, "
                f"got {index!r}."
            )
        if not 0 <= index < M:
            raise IndexError(
                f"There is no prototype {index}: positions in prototypes_ are 0 to "
                f"{M - 1}."
            )
        return int(index)

    def word_alignment(self, index: int) -> WordAlignment:
        """Split the cosine to a prototype over pairs of words.

        Parameters
        ----------
        index : int
            The prototype's position in ``prototypes_``.

        Returns
        -------
        WordAlignment
            The matrix (W, V), and the V words of the prototype's text.

        Raises
        ------
        ValueError, IndexError, TypeError
            As in `alignment`.
        """
        pairs = self.alignment(index)
        j = self._position(index)
        text = self.prototype_texts[j]
        texts = (text,) if isinstance(text, str) else text
        segments, offsets, unread = self._split().places(j)
        spans, owners = merge_tokens(texts, segments, offsets)
        matrix = np.zeros((len(self._words.spans), len(spans)))
        np.add.at(matrix, (self._words.owners[:, None], owners[None, :]), pairs)
        words = tuple(texts[segment][start:end] for segment, start, end in spans)
        return WordAlignment(
            matrix,
            words,
            np.array(spans).reshape(-1, 3),
            np.bincount(owners, unread) > 0,
        )

    def page_record(self, aligned: Sequence[int]) -> dict[str, Any]:
        """Return what a page shows, with word alignments of some prototypes."""
        shown = replace(self, top_k=self.top_k or _SHOWN)
        return {**shown.to_dict(), "matches": self._matches(aligned)}

    def _matches(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return the word alignments of those prototypes that have one."""
        found = []
        for j in indices:
            try:
                match = self.word_alignment(j)
            except NoSplitError:
                continue
            found.append(
                {
                    "index": j,
                    "text": self.prototype_texts[j],
                    "matrix": match.matrix.round(5).tolist(),
                    "words": match.words,
                    "offsets": match.offsets.tolist(),
                    "unread": match.unread.tolist(),
                }
            )
        return found

    def _split(self) -> Splitter:
        if self.space == "score":
            raise NoSplitError(
                'formulation="proto-lm" has no exact split over tokens: its '
                "similarity is 1/(distance + ε), not a sum."
            )
        if self._splitter is None:
            raise NoSplitError(
                "This explanation was stored without its model; explain the text again "
                "to split similarities over tokens."
            )
        return self._splitter

    def _record(self) -> dict[str, Any]:
        """Return the fields, without what belongs to the model."""
        names = (f.name for f in fields(self) if not f.name.startswith("_"))
        return {name: getattr(self, name) for name in names}

    def __getstate__(self) -> dict[str, Any]:
        return {**self._record(), "_splitter": None}  # the model is not ours to store

    def __copy__(self) -> Explanation:
        return replace(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Explanation:
        arrays: dict[str, Any] = {
            name: value.copy()
            for name, value in self._record().items()
            if isinstance(value, np.ndarray)
        }
        return replace(self, **arrays)

    def to_dict(self) -> dict[str, Any]:
        """Return the explanation as plain Python objects.

        Labels and probabilities are parallel lists, so that a label 1 stays 1.
        """
        scores = self.word_scores
        return {
            "text": self.text,
            "prediction": self.prediction,
            "target": self.target,
            "labels": self.classes.tolist(),
            "probabilities": self.class_probabilities.tolist(),
            "space": self.space,
            "base_value": self.base_value,
            "log_odds": self.log_odds,
            "score": self.score,
            "prototypes": [
                {
                    "index": p.index,
                    "label": p.label,
                    "text": p.text,
                    "unread": list(p.unread),
                    "similarity": p.similarity,
                    "contribution": p.contribution,
                }
                for p in self.prototypes
            ],
            "remainder": self.remainder,
            "tokens": list(self.tokens),
            "offsets": self.offsets.tolist(),
            "segments": self.segments.tolist(),
            "attention": self.attention.tolist(),
            "token_scores": _as_list(self.token_scores),
            "token_method": self.token_method,
            "token_unread": self.token_unread.tolist(),
            "words": list(self.words),
            "word_offsets": self.word_offsets.tolist(),
            "word_scores": _as_list(scores),
            "word_unread": self.word_unread.tolist(),
        }

    def to_json(self) -> str:
        """Return the explanation as JSON, without loss; see `Explanations.to_json`."""
        return Explanations([self]).to_json()

    def to_frame(self) -> Any:
        """Return a pandas DataFrame, one row a listed prototype."""
        return Explanations([self]).to_frame()

    def to_html(self, *, n_alignments: int = 3) -> str:
        """Return a self-contained HTML page.

        Parameters
        ----------
        n_alignments : int, default=3
            As in `Explanations.to_html`.
        """
        return Explanations([self]).to_html(n_alignments=n_alignments)

    @np.errstate(under="ignore")
    def plot(self) -> Any:
        """Draw the words' scores and the prototypes' contributions.

        Of a longer text the 40 words of the strongest scores are drawn, in the order of
        the text. Prototypes are five, unless `top_k` of `explain` gives another number,
        and 40 at most. Long words, labels and quotes are shortened.

        Returns
        -------
        matplotlib.figure.Figure
            Two panels of bars; green ones speak for the target, red and hatched ones
            against it, or belong to other classes.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        """
        return plot_explanation(self)

    def to_text(self, *, color: bool = False) -> str:
        """Return the explanation as lines of text.

        Parameters
        ----------
        color : bool, default=False
            Paint the words for a terminal: green speaks for the target, red
            against it.
        """
        return explanation_text(self, color=color)

    def save_html(self, path: str | PathLike[str], *, n_alignments: int = 3) -> None:
        """Write `to_html` to a file.

        Parameters
        ----------
        path : str or path
            The file to write; one that is there is replaced.
        n_alignments : int, default=3
            As in `Explanations.to_html`.
        """
        Explanations([self]).save_html(path, n_alignments=n_alignments)

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        return one_line(
            f"<Explanation of {shorten(self.text, 40)!r}: {self.target} "
            f"{percent(self.probability)}>"
        )

    def _repr_html_(self) -> str:
        return Explanations([self])._repr_html_()


class Explanations(Sequence[Explanation]):
    """Explanations of several texts: a sequence of `Explanation`."""

    __module__ = "skprotolm"

    def __init__(self, explanations: Sequence[Explanation]):
        self._items = tuple(explanations)

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Explanation: ...
    @overload
    def __getitem__(self, index: slice) -> Explanations: ...
    def __getitem__(self, index: int | slice) -> Explanation | Explanations:
        """Return one explanation, or `Explanations` for a slice."""
        if isinstance(index, slice):
            return Explanations(self._items[index])
        return self._items[index]

    def __iter__(self) -> Iterator[Explanation]:
        return iter(self._items)

    def to_dict(self) -> list[dict[str, Any]]:
        """Return one plain dict a text; see `Explanation.to_dict`."""
        return [explanation.to_dict() for explanation in self]

    def to_json(self) -> str:
        """Return all explanations as JSON, without loss.

        Every prototype is written, whatever `top_k` lists. `from_json` gives the
        explanations back; `token_similarities` and `alignment` need the model, and
        are not there then.
        """
        return dump_records([explanation._record() for explanation in self])

    @classmethod
    def from_json(cls, text: str | bytes) -> Explanations:
        """Read what `to_json` wrote.

        Parameters
        ----------
        text : str or bytes
            The JSON.

        Returns
        -------
        Explanations
            The explanations, without their model.

        Raises
        ------
        ValueError
            If it is no JSON, or other JSON, or from a later version.
        """
        return cls([Explanation(**record) for record in load_records(text)])

    def to_frame(self) -> Any:
        """Return a pandas DataFrame, one row a text and listed prototype.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        """
        return as_frame(
            [
                {
                    "row": row,
                    "text": explanation.text,
                    "prediction": explanation.prediction,
                    "target": explanation.target,
                    "probability": explanation.probability,
                    "prototype": p.index,
                    "prototype_label": p.label,
                    "prototype_text": p.text,
                    "prototype_unread": p.unread,
                    "of_target": p.label == explanation.target,
                    "similarity": p.similarity,
                    "contribution": p.contribution,
                }
                for row, explanation in enumerate(self)
                for p in explanation.prototypes
            ]
        )

    def to_shap(self) -> Any:
        """Return a ``shap.Explanation`` of the words, for SHAP's plots.

        Its values are the word scores and its base values what these leave of the
        target's log-odds, text by text.

        Returns
        -------
        shap.Explanation
            One row a text.

        Raises
        ------
        MissingExtraError
            If shap is not installed.
        ValueError
            If a text's tokens have no scores, or there are no explanations.
        """
        if not len(self):
            raise ValueError("There are no explanations to pass on to shap.")
        rest = []
        for row, e in enumerate(self):
            found = e.word_scores
            if found is None:
                raise ValueError(
                    f"Explanation {row} has no word scores; explain with "
                    f"token_method='relevance' or 'occlusion'."
                )
            rest.append(e.log_odds - float(found.sum()))
        return as_shap(self.to_dict(), rest)

    @np.errstate(under="ignore")
    def plot(self) -> Any:
        """Draw which prototypes carry the predictions, by their mean contribution.

        Fifteen of them, unless `top_k` of `explain` gives another number, and 40 at
        most. Long labels and quotes are shortened.

        Returns
        -------
        matplotlib.figure.Figure
            It belongs to the caller; ``figure.savefig(path)`` writes it.

        Raises
        ------
        ValueError
            If there are no explanations, or they are of several models.
        MissingExtraError
            If matplotlib is not installed.
        """
        kinds = {(e.space, e.prototype_texts, len(e.contributions)) for e in self}
        if len(kinds) != 1:
            raise ValueError(
                "There are no explanations, or they are of several models, whose "
                "prototypes have nothing in common; plot those of one model."
            )
        return plot_shares(self)

    def to_text(self, *, color: bool = False) -> str:
        """Return all explanations as lines of text.

        Parameters
        ----------
        color : bool, default=False
            As in `Explanation.to_text`.
        """
        return "\n\n".join(e.to_text(color=color) for e in self)

    def to_html(self, *, n_alignments: int = 3) -> str:
        """Return a self-contained HTML page with all explanations.

        It lists five prototypes a text, unless `top_k` of `explain` said how many.

        Parameters
        ----------
        n_alignments : int, default=3
            Of how many of its first prototypes an explanation shows which words match,
            where alignments are to be had. Each text, and each of these prototypes,
            takes a pass through the encoder.

        Raises
        ------
        ValueError
            If `n_alignments` is no int of at least 0.
        """
        require("n_alignments", n_alignments, USAGE)
        records = [
            e.page_record([p.index for p in e.prototypes[:n_alignments]]) for e in self
        ]
        return explanations_html(records, page=True)

    def save_html(self, path: str | PathLike[str], *, n_alignments: int = 3) -> None:
        """Write `to_html` to a file.

        Parameters
        ----------
        path : str or path
            The file to write; one that is there is replaced.
        n_alignments : int, default=3
            As in `to_html`.
        """
        page = self.to_html(n_alignments=n_alignments)
        Path(path).write_text(page, encoding="utf-8")

    def __str__(self) -> str:
        parts = [str(explanation) for explanation in self[:_PRINTED]]
        if len(self) > _PRINTED:
            parts.append(f"… and {len(self) - _PRINTED} more explanations")
        return "\n\n".join(parts)

    def __repr__(self) -> str:
        return f"<Explanations of {len(self)} texts>"

    def _repr_html_(self) -> str:
        shown = [replace(e, top_k=e.top_k or _SHOWN) for e in self[:_RENDERED]]
        records = [e.to_dict() for e in shown]
        return explanations_html(records, page=False, n_more=len(self) - len(shown))


def _as_list(values: np.ndarray | None) -> list[float] | None:
    return None if values is None else values.tolist()
