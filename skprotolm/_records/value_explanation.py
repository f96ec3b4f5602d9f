"""The explanation of a predicted number, as a frozen record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from skprotolm._data.texts import Text
from skprotolm._display.formatting import decimal, decimals_of, one_line, shorten
from skprotolm._display.value_plots import plot_value_explanation
from skprotolm._display.value_text import value_explanation_text
from skprotolm._records.base_explanation import BaseExplanation
from skprotolm._tasks.units import VALUE, Unit


@dataclass(frozen=True)
class ValueContribution:
    """The contribution of one prototype to a predicted number.

    Attributes
    ----------
    index : int
        Position of the prototype in ``prototypes_``.
    name : str
        Name of the prototype; see `Prototype`.
    value : float
        Value of the prototype.
    text : str or (str, str)
        Training text of the prototype.
    unread : tuple of str
        Words of that text that the tokenizer cannot read.
    similarity : float
        Cosine to the explained text.
    share : float
        Share of the prototype in the mean.
    contribution : float
        ``share * value``.
    """

    index: int
    name: str
    value: float
    text: Text
    unread: tuple[str, ...]
    similarity: float
    share: float
    contribution: float

    def row(self, e: Any) -> dict[str, Any]:
        """Return the columns of a data frame of explanations."""
        return {
            "prototype": self.index,
            "prototype_name": self.name,
            "prototype_value": self.value,
            "prototype_text": self.text,
            "prototype_unread": self.unread,
            "similarity": self.similarity,
            "share": self.share,
            "contribution": self.contribution,
        }


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ValueExplanation(BaseExplanation):
    """The explanation of one predicted number, in exact sums.

    - ``(shares * prototype_values).sum() == prediction``, and the shares sum to 1;
    - ``base_value + token_scores.sum() == prediction``;
    - ``token_similarities[:, j].sum()`` and ``alignment(j).sum()`` are the cosine
      to prototype j.

    Attributes
    ----------
    text : str or (str, str)
        The explained text.
    prediction : float
        The predicted number.
    base_value : float
        The part of the prediction that belongs to no token.
    similarities, shares : ndarray of shape (M,), float64
        Cosine to each prototype, and its share in the mean, in the order of
        ``prototypes_``.
    novelty : float
        The dissimilarity of the text to all prototypes; see
        `ProtoLMRegressor.novelty_score`.
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
        The part of the prediction that is attributed to each token.
    token_method : {"decomposition", "relevance", "occlusion"} or None
        The method of the token scores; None without token scores.
    token_unread : ndarray of shape (T,), bool
        Whether a token is the tokenizer's unknown token.
    top_k : int or None
        How many prototypes are listed; None for all.
    """

    __module__ = "skprotolm"

    kind = "value"
    ranked_by = "shares"

    @property
    def unit(self) -> Unit:
        """The unit of the shares."""
        return VALUE

    @property
    def prototype_values(self) -> np.ndarray:
        """(M,): the value of each prototype."""
        return self._prototypes.labels

    @property
    def shares(self) -> np.ndarray:
        """(M,): the share of each prototype, by which they are sorted."""
        return self.ranking

    @property
    def contributions(self) -> np.ndarray:
        """(M,): ``shares * prototype_values``."""
        return self.shares * self.prototype_values

    @property
    def explained(self) -> float:
        """`prediction`, which `base_value` and the token scores sum to."""
        return self.prediction

    @cached_property
    def decimals(self) -> int:
        """How many decimals views show of values, by the spread of the prototypes'."""
        return decimals_of(self.prototype_values)

    def _label_name(self, index: int) -> str:
        """Return the value of a prototype."""
        return decimal(float(self.prototype_values[index]), self.decimals)

    def _contribution_of(self, index: int) -> ValueContribution:
        """Return the contribution of a prototype."""
        value, share = self.prototype_values[index], self.shares[index]
        return ValueContribution(
            **self._quote_of(index),
            value=float(value),
            share=float(share),
            contribution=float(share * value),
        )

    def _sum_of(self, indices: np.ndarray) -> dict[str, float]:
        """Return the sums of some shares and contributions."""
        return {
            "share": float(self.shares[indices].sum()),
            "contribution": float(self.contributions[indices].sum()),
        }

    def _kind_dict(self) -> dict[str, Any]:
        return {"remainder": self.remainder, "decimals": self.decimals}

    def _kind_row(self) -> dict[str, Any]:
        return {}

    def _kind_json(self, labels: Callable[[np.ndarray], int]) -> dict[str, Any]:
        return {"prediction": self.prediction}

    @classmethod
    def _from_kind_json(
        cls, entry: dict[str, Any], labels: Sequence[np.ndarray]
    ) -> dict[str, Any]:
        return {"prediction": float(entry["prediction"])}

    @np.errstate(under="ignore")
    def plot(self) -> Any:
        """Draw the word scores and the shares of the prototypes.

        The figure shows at most the 40 words of the largest absolute scores, in the
        order of the text, and five prototypes, or `top_k` of `explain`, at most 40.

        Returns
        -------
        matplotlib.figure.Figure
            Two panels of bars. Words with green bars raise the number, those with red,
            hatched ones lower it.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        """
        return plot_value_explanation(self)

    def to_text(self, *, color: bool = False) -> str:
        """Return the explanation as lines of text.

        Parameters
        ----------
        color : bool, default=False
            Color the words for a terminal: green ones raise the number, red ones lower
            it.
        """
        return value_explanation_text(self, color=color)

    def __repr__(self) -> str:
        prediction = decimal(self.prediction, self.decimals)
        return one_line(f"<Explanation of {shorten(self.text, 40)!r}: {prediction}>")
