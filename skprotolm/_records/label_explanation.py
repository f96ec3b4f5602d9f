"""The explanation of one of several labels, as a frozen record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from skprotolm._data.texts import Text
from skprotolm._display.formatting import (
    class_name,
    one_line,
    percent,
    set_name,
    shorten,
)
from skprotolm._display.label_plots import plot_label_explanation
from skprotolm._display.label_text import label_explanation_text
from skprotolm._records.json import numbers
from skprotolm._records.odds_explanation import OddsExplanation
from skprotolm._tasks.units import LABEL, Unit

_LISTED_PER_SIDE = 3  # prototypes on a page that have the target, and that do not


@dataclass(frozen=True)
class LabelContribution:
    """The contribution of one prototype to the probability of a label.

    Attributes
    ----------
    index : int
        Position of the prototype in ``prototypes_``.
    name : str
        Name of the prototype; see `Prototype`.
    labels : tuple
        Labels of the prototype.
    text : str or (str, str)
        Training text of the prototype.
    unread : tuple of str
        Words of that text that the tokenizer cannot read.
    similarity : float
        Cosine to the explained text.
    contribution : float
        Share of the prototype: of the probability of the target if it has this label,
        otherwise of the remaining probability.
    in_favor : bool
        Whether the prototype has the target among its labels.
    """

    index: int
    name: str
    labels: tuple[Any, ...]
    text: Text
    unread: tuple[str, ...]
    similarity: float
    contribution: float
    in_favor: bool

    def row(self, e: Any) -> dict[str, Any]:
        """Return the columns of a data frame of explanations."""
        return {
            "prototype": self.index,
            "prototype_name": self.name,
            "prototype_labels": self.labels,
            "prototype_text": self.text,
            "prototype_unread": self.unread,
            "in_favor": self.in_favor,
            "similarity": self.similarity,
            "contribution": self.contribution,
        }


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LabelExplanation(OddsExplanation):
    """The explanation of one label of a text that may have several, in exact sums.

    - The contributions of all prototypes sum to 1, and those of the prototypes that
      have the target among their labels to its probability;
    - ``base_value + token_scores.sum() == log_odds`` of the target;
    - ``token_similarities[:, j].sum()`` and ``alignment(j).sum()`` are the cosine
      to prototype j.

    Attributes
    ----------
    text : str or (str, str)
        The explained text.
    prediction : tuple
        The predicted labels, which may be none.
    target : object
        The explained label: the most probable one unless `explain` gets a target.
    classes : ndarray of shape (L,)
        All labels.
    label_probabilities : ndarray of shape (L,), float64
        Probabilities of the labels.
    base_value : float
        The part of the log-odds that belongs to no token.
    log_odds : float
        log p − log(1 − p) of the target.
    similarities, contributions : ndarray of shape (M,), float64
        Cosine to each prototype, and its share, in the order of ``prototypes_``.
    novelty : float
        The dissimilarity of the text to all prototypes; see
        `ProtoLMClassifier.novelty_score`.
    novelty_limit : float or None
        The novelty that at most two percent of the training texts exceed, as `fit`
        found it; None if there were fewer than 20.
    tokens : tuple of str
        The content tokens, as substrings of the text.
    offsets : ndarray of shape (T, 2), int64
        Start and end of each token, in characters.
    segments : ndarray of shape (T,), int64
        The text of a pair that each token belongs to, 0 or 1; offsets count within it.
    attention : ndarray of shape (T,), float64
        The weight α of each token in the text vector. The weights sum to 1.
    token_scores : ndarray of shape (T,), float64, or None
        The part of the log-odds that is attributed to each token.
    token_method : {"decomposition", "relevance", "occlusion"} or None
        The method of the token scores; None without token scores.
    token_unread : ndarray of shape (T,), bool
        Whether a token is the tokenizer's unknown token.
    top_k : int or None
        How many prototypes are listed; None for all.
    """

    __module__ = "skprotolm"

    kind = "labels"

    label_probabilities: np.ndarray

    @property
    def unit(self) -> Unit:
        """The unit of the contributions."""
        return LABEL

    @property
    def _class_probabilities(self) -> np.ndarray:
        return self.label_probabilities

    @cached_property
    def has_target(self) -> np.ndarray:
        """(M,) bool: whether each prototype has the target among its labels."""
        labels = self.prototype_labels.tolist()
        return np.array([self.target in own for own in labels], dtype=bool)

    @property
    def in_favor(self) -> tuple[LabelContribution, ...]:
        """At most `top_k` prototypes that have the target, the largest shares first."""
        order = self.order
        own = order[self.has_target[order]]
        return tuple(self._contributions_of(own[: self.top_k]))

    @property
    def against(self) -> tuple[LabelContribution, ...]:
        """At most `top_k` prototypes without the target, the largest shares first."""
        order = self.order
        others = order[~self.has_target[order]]
        return tuple(self._contributions_of(others[: self.top_k]))

    @property
    def _roles(self) -> np.ndarray:
        """(M,) str: "target" with the target among the labels, otherwise "other"."""
        return np.where(self.has_target, "target", "other")

    def _listed(self, n: int) -> np.ndarray:
        """Return which prototypes a page lists: some with the target and some not."""
        order, n = self.order, self.top_k or _LISTED_PER_SIDE
        has_target = self.has_target[order]
        return np.concatenate([order[has_target][:n], order[~has_target][:n]])

    def _label_name(self, index: int) -> str:
        """Return the names of a prototype's labels."""
        return set_name(self.prototype_labels[index])

    def _contribution_of(self, index: int) -> LabelContribution:
        """Return the contribution of a prototype."""
        return LabelContribution(
            **self._quote_of(index),
            labels=self.prototype_labels[index],
            contribution=float(self.contributions[index]),
            in_favor=bool(self.has_target[index]),
        )

    def _kind_dict(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "labels": self.classes.tolist(),
            "probabilities": self.label_probabilities.tolist(),
            "log_odds": self.log_odds,
            "remainder": self.remainder,
        }

    def _kind_row(self) -> dict[str, Any]:
        return {"target": self.target, "probability": self.probability}

    def _kind_json(self, labels: Callable[[np.ndarray], int]) -> dict[str, Any]:
        codes = self._codes()
        return {
            **super()._kind_json(labels),
            "prediction": [codes[label] for label in self.prediction],
            "label_probabilities": self.label_probabilities.tolist(),
        }

    @classmethod
    def _from_kind_json(
        cls, entry: dict[str, Any], labels: Sequence[np.ndarray]
    ) -> dict[str, Any]:
        fields = super()._from_kind_json(entry, labels)
        known = fields["classes"].tolist()
        return {
            **fields,
            "prediction": tuple(known[code] for code in entry["prediction"]),
            "label_probabilities": numbers(entry, "label_probabilities", len(known)),
        }

    @np.errstate(under="ignore")
    def plot(self) -> Any:
        """Draw the word scores and the contributions of the prototypes.

        The figure shows at most the 40 words of the largest absolute scores, in the
        order of the text, and five prototypes, or `top_k` of `explain`, at most 40.

        Returns
        -------
        matplotlib.figure.Figure
            Two panels of bars. Green bars speak for the label; red, hatched ones
            against it.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        """
        return plot_label_explanation(self)

    def to_text(self, *, color: bool = False) -> str:
        """Return the explanation as lines of text.

        Parameters
        ----------
        color : bool, default=False
            Color the words for a terminal: green is for the target, red against it.
        """
        return label_explanation_text(self, color=color)

    def __repr__(self) -> str:
        return one_line(
            f"<Explanation of {shorten(self.text, 40)!r}: "
            f"{class_name(self.target, self.unit)} {percent(self.probability)}>"
        )
