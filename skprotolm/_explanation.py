"""Explanations of predictions, as frozen records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, overload

import numpy as np

from skprotolm._display import (
    as_frame,
    coloured,
    explanations_html,
    percent,
    printable,
    shorten,
)
from skprotolm._json import dump_records, load_records
from skprotolm._prototypes import Text
from skprotolm._words import Words, merge_tokens

_LISTED = 3  # prototypes that a printed explanation lists, unless top_k says
_PRINTED = 5  # explanations that a printed sequence holds
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
    similarity : float
        Cosine to the text explained; 1/(distance + ε) under "proto-lm".
    contribution : float
        Its share of the probabilities; under "proto-lm", its part of the target's
        score.
    """

    index: int
    label: Any
    text: Text
    similarity: float
    contribution: float


class Splitter:
    """What an explanation needs of its model to split similarities over tokens."""

    def __init__(
        self,
        token_similarities: Callable[[Text], np.ndarray],
        alignment: Callable[[Text, int], np.ndarray],
    ):
        self.token_similarities = token_similarities
        self.alignment = alignment


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
    top_k : int or None
        How many prototypes are listed; None for all.
    prototype_labels : ndarray of shape (M,)
        The class of each prototype.
    prototype_texts : tuple of str, or of (str, str)
        The training text of each prototype.
    """

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
    top_k: int | None
    prototype_labels: np.ndarray
    prototype_texts: tuple[Text, ...]
    # Recomputes token vectors on demand; they would fill memory if they were kept.
    _splitter: Splitter | None = field(default=None)

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
        IndexError
            If there is no such prototype.
        """
        j = range(len(self.prototype_texts))[index]
        return self._split().alignment(self.text, j)

    def _split(self) -> Splitter:
        if self.space == "score":
            raise ValueError(
                'formulation="proto-lm" has no exact split over tokens: its '
                "similarity is 1/(distance + ε), not a sum."
            )
        if self._splitter is None:
            raise ValueError(
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
            "words": list(self.words),
            "word_offsets": self.word_offsets.tolist(),
            "word_scores": _as_list(scores),
        }

    def to_json(self) -> str:
        """Return the explanation as JSON, without loss; see `Explanations.to_json`."""
        return Explanations([self]).to_json()

    def to_frame(self) -> Any:
        """Return a pandas DataFrame, one row a listed prototype."""
        return Explanations([self]).to_frame()

    def to_html(self) -> str:
        """Return a self-contained HTML page."""
        return Explanations([self]).to_html()

    def to_text(self, *, color: bool = False) -> str:
        """Return the explanation as lines of text.

        Parameters
        ----------
        color : bool, default=False
            Paint the words for a terminal: green speaks for the target, red
            against it.
        """
        shown = replace(self, top_k=self.top_k or _LISTED)
        text = coloured(self.to_dict()) if color else printable(shorten(self.text, 300))
        lines = [f"{self.target}: {percent(self.probability)}"]
        if self.space == "probability":
            lines += _share_lines(shown)
        else:
            lines += _score_lines(shown)
        return "\n".join([text, *map(printable, lines)])

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        return printable(
            f"<Explanation of {shorten(self.text, 40)!r}: {self.target} "
            f"{percent(self.probability)}>"
        )

    def _repr_html_(self) -> str:
        return explanations_html([self.to_dict()], page=False)


class Explanations(Sequence[Explanation]):
    """Explanations of several texts: a sequence of `Explanation`."""

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

        Returns
        -------
        Explanations

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
                    "similarity": p.similarity,
                    "contribution": p.contribution,
                }
                for row, explanation in enumerate(self)
                for p in explanation.prototypes
            ]
        )

    def to_html(self) -> str:
        """Return a self-contained HTML page with all explanations."""
        return explanations_html(self.to_dict(), page=True)

    def save_html(self, path: str | PathLike[str]) -> None:
        """Write `to_html` to a file.

        Parameters
        ----------
        path : str or path
            The file to write; one that is there is replaced.
        """
        Path(path).write_text(self.to_html(), encoding="utf-8")

    def __str__(self) -> str:
        parts = [str(explanation) for explanation in self[:_PRINTED]]
        if len(self) > _PRINTED:
            parts.append(f"… and {len(self) - _PRINTED} more explanations")
        return "\n\n".join(parts)

    def __repr__(self) -> str:
        return f"<Explanations of {len(self)} texts>"

    def _repr_html_(self) -> str:
        shown = self[:_RENDERED]
        n_more = len(self) - len(shown)
        return explanations_html(shown.to_dict(), page=False, n_more=n_more)


def _share_lines(explanation: Explanation) -> list[str]:
    """List the shares, then the sum that makes the probability."""
    lines = [
        f"  {percent(p.contribution):>8}  because it reads like the {p.label} text "
        f'"{shorten(p.text, 70)}" (cosine {p.similarity:.2f})'
        for p in explanation.prototypes
    ]
    if explanation.remainder > 0:
        n_others = len(explanation.contributions) - len(explanation.prototypes)
        lines.append(
            f"  {percent(explanation.remainder):>8}  {n_others} other prototypes"
        )
    owned = explanation.prototype_labels == explanation.target
    shares = np.sort(explanation.contributions[owned])[::-1]
    listed = " + ".join(f"{100 * share:.1f}" for share in shares[:_LISTED])
    rest = shares[_LISTED:].sum()
    others = f" + {100 * rest:.1f}" if len(shares) > _LISTED else ""
    lines.append(
        f"  {explanation.target}: {listed}{others} = {percent(explanation.probability)}"
    )
    assert explanation.token_scores is not None
    lines.append(
        f"  log-odds: {explanation.base_value:+.2f} (base) "
        f"{explanation.token_scores.sum():+.2f} (words) = {explanation.log_odds:+.2f}"
    )
    return lines


def _score_lines(explanation: Explanation) -> list[str]:
    lines = [
        f"  {p.contribution:+8.3f}  from the {p.label} text "
        f'"{shorten(p.text, 70)}" (similarity {p.similarity:.3f})'
        for p in explanation.prototypes
    ]
    if explanation.remainder:
        n_others = len(explanation.contributions) - len(explanation.prototypes)
        lines.append(f"  {explanation.remainder:+8.3f}  {n_others} other prototypes")
    lines.append(f"  {explanation.base_value:+8.3f}  bias of the class")
    lines.append(f"  {explanation.score:+8.3f}  score of {explanation.target}")
    return lines


def _as_list(values: np.ndarray | None) -> list[float] | None:
    return None if values is None else values.tolist()
