"""The explanation of one prediction, as a frozen record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skprotolm._display.formatting import (
    class_name,
    compared,
    one_line,
    percent,
    shorten,
)
from skprotolm._display.plots import plot_explanation
from skprotolm._display.text import explanation_text
from skprotolm._records.json import numbers
from skprotolm._records.odds_explanation import OddsExplanation
from skprotolm._records.parts import Contribution
from skprotolm._tasks.units import UNITS, Unit

_LISTED_PER_CLASS = 3  # prototypes on a page of each of two classes


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Explanation(OddsExplanation):
    """The explanation of one prediction, in exact sums.

    Under ``formulation="mixture"`` (``space == "probability"``):

    - the contributions of all prototypes sum to 1, and those of the target's
      prototypes to the probability of the target;
    - ``base_value + token_scores.sum() == log_odds`` of the target;
    - ``token_similarities[:, j].sum()`` and ``alignment(j).sum()`` are the cosine
      to prototype j.

    Under ``formulation="proto-lm"`` (``space == "score"``) the contributions and
    ``base_value`` sum to ``score``, the target's logit. Its similarities have no exact
    split over tokens.

    Attributes
    ----------
    text : str or (str, str)
        The explained text.
    prediction : object
        The predicted label.
    target : object
        The explained label: the predicted label unless `explain` gets another target.
    against : object or None
        The label that the target is compared with; None for all other labels.
    classes : ndarray of shape (C,)
        All labels.
    class_probabilities : ndarray of shape (C,), float64
        Probabilities of the labels.
    space : {"probability", "score"}
        The unit of the contributions.
    base_value : float
        The part of the log-odds that belongs to no token; under "proto-lm", the part of
        the score that belongs to no prototype.
    log_odds : float
        log p − log(1 − p) of the target; with `against`, log p(target) −
        log p(against), which is the same for two labels.
    score : float or None
        The target's logit, under "proto-lm" only; with `against`, the target's logit
        minus that of `against`.
    similarities, contributions : ndarray of shape (M,), float64
        One entry per prototype, in the order of ``prototypes_``.
    novelty : float
        The dissimilarity of the text to all prototypes; see
        `ProtoLMClassifier.novelty_score`.
    novelty_limit : float or None
        The novelty that at most two percent of the training texts exceed, as `fit`
        found it; None if there were fewer than 20. Edits of the prototypes do not
        change it, so that texts that only removed ones resembled are then unlike.
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
        Whether a token is the tokenizer's unknown token: the model knows its position,
        but not its word.
    top_k : int or None
        How many prototypes are listed; None for all.
    """

    __module__ = "skprotolm"

    kind = "classes"

    against: Any
    class_probabilities: np.ndarray
    space: str
    score: float | None

    @property
    def unit(self) -> Unit:
        """The unit of the contributions; `space` is its name."""
        return UNITS[self.space]

    @property
    def _class_probabilities(self) -> np.ndarray:
        return self.class_probabilities

    @property
    def total(self) -> float:
        """The sum that the contributions explain: `score`, or else `probability`."""
        return self.probability if self.score is None else self.score

    @property
    def _roles(self) -> np.ndarray:
        """(M,) str: whether the class is the "target", "against" or an "other" one."""
        names = {self.against: "against", self.target: "target"}
        return np.array([names.get(x, "other") for x in self.prototype_labels.tolist()])

    def _listed(self, n: int) -> np.ndarray:
        """Return which prototypes a page lists: of both classes if two are compared."""
        if self.against is None:
            return super()._listed(n)
        n, order = self.top_k or _LISTED_PER_CLASS, self.order
        labels = self.prototype_labels[order]
        firsts = [order[labels == label][:n] for label in (self.target, self.against)]
        return order[np.isin(order, np.concatenate(firsts))]

    def _label_name(self, index: int) -> str:
        """Return the name of a prototype's class."""
        return class_name(self.prototype_labels.tolist()[index], self.unit)

    def _contribution_of(self, index: int) -> Contribution:
        """Return the contribution of a prototype."""
        return Contribution(
            **self._quote_of(index),
            label=self.prototype_labels.item(index),
            contribution=float(self.contributions[index]),
        )

    def _kind_dict(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "against": self.against,
            "labels": self.classes.tolist(),
            "probabilities": self.class_probabilities.tolist(),
            "space": self.space,
            "log_odds": self.log_odds,
            "score": self.score,
            "remainder": self.remainder,
        }

    def _kind_row(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "against": self.against,
            "probability": self.probability,
        }

    def _kind_json(self, labels: Callable[[np.ndarray], int]) -> dict[str, Any]:
        codes = self._codes()
        return {
            **super()._kind_json(labels),
            "prediction": codes[self.prediction],
            "against": None if self.against is None else codes[self.against],
            "class_probabilities": self.class_probabilities.tolist(),
            "space": self.space,
            "score": self.score,
        }

    @classmethod
    def _from_kind_json(
        cls, entry: dict[str, Any], labels: Sequence[np.ndarray]
    ) -> dict[str, Any]:
        fields, against = super()._from_kind_json(entry, labels), entry["against"]
        known = fields["classes"].tolist()
        return {
            **fields,
            "prediction": known[entry["prediction"]],
            "against": None if against is None else known[against],
            "class_probabilities": numbers(entry, "class_probabilities", len(known)),
            "space": entry["space"],
            "score": entry["score"],
        }

    @np.errstate(under="ignore")
    def plot(self) -> Any:
        """Draw the word scores and the contributions of the prototypes.

        The figure shows at most the 40 words of the largest absolute scores, in the
        order of the text, and five prototypes, or `top_k` of `explain`, at most 40.
        Long words, labels and texts are shortened.

        Returns
        -------
        matplotlib.figure.Figure
            Two panels of bars. Green bars are for the target; red, hatched bars are
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
            Color the words for a terminal: green is for the target, red against it.
        """
        return explanation_text(self, color=color)

    def __repr__(self) -> str:
        return one_line(
            f"<Explanation of {shorten(self.text, 40)!r}: "
            f"{compared(self.target, self.against, self.unit)} "
            f"{percent(self.probability)}>"
        )
