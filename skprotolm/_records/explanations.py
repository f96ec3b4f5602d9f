"""A sequence of explanations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

import numpy as np

from skprotolm._display.html import explanations_html
from skprotolm._display.plots import plot_mean_contributions
from skprotolm._display.tables import as_frame, as_shap
from skprotolm._records.base_explanation import BaseExplanation
from skprotolm._records.explanation import Explanation
from skprotolm._records.json import dump_explanations, load_explanations
from skprotolm._records.label_explanation import LabelExplanation
from skprotolm._records.pages import PageMixin
from skprotolm._records.value_explanation import ValueExplanation
from skprotolm._records.views import frame_rows, listed_record
from skprotolm._records.word_explanation import WordExplanation

E = TypeVar("E", bound=BaseExplanation)
# By `Task.kind`.
KINDS: dict[str, Any] = {
    kind.kind: kind
    for kind in (Explanation, LabelExplanation, ValueExplanation, WordExplanation)
}
_PRINTED = 5  # explanations in print
_RENDERED = 50  # explanations in a notebook cell


class Explanations(PageMixin, Sequence[E], Generic[E]):
    """Explanations of several texts: a sequence of `Explanation`."""

    __module__ = "skprotolm"

    def __init__(self, explanations: Sequence[E]):
        self._items = tuple(explanations)

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> E: ...
    @overload
    def __getitem__(self, index: slice) -> Explanations[E]: ...
    def __getitem__(self, index: int | slice) -> E | Explanations[E]:
        """Return one explanation, or `Explanations` for a slice."""
        if isinstance(index, slice):
            return Explanations(self._items[index])
        return self._items[index]

    def __iter__(self) -> Iterator[E]:
        return iter(self._items)

    def _explanations(self) -> Explanations[E]:
        return self

    def to_dict(self, *, n_alignments: int = 0) -> list[dict[str, Any]]:
        """Return one plain dict per text; see `Explanation.to_dict`.

        Parameters
        ----------
        n_alignments : int, default=0
            As in `Explanation.to_dict`.
        """
        return [e.to_dict(n_alignments=n_alignments) for e in self]

    def to_json(self) -> str:
        """Return all explanations as JSON, without loss.

        The JSON contains all prototypes, regardless of `top_k`. `from_json` restores
        the explanations. They have no `token_similarities` and no `alignment`, since
        these need the model.
        """
        return dump_explanations(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> Explanations[Any]:
        """Restore explanations from the output of `to_json`.

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
            If `text` is not JSON, not from `to_json`, or from a later version.
        """
        return cls(load_explanations(text, KINDS))

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with one row per text and listed prototype.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        """
        return as_frame(frame_rows(self))

    def to_shap(self) -> Any:
        """Return a ``shap.Explanation`` of the words, for SHAP's plots.

        The values are the word scores. The base value of each text is the remaining
        part of the target's log-odds, or of the predicted number.

        Returns
        -------
        shap.Explanation
            One row per text.

        Raises
        ------
        MissingExtraError
            If shap is not installed.
        ValueError
            If an explanation has no token scores, or there are no explanations.
        """
        if not len(self):
            raise ValueError("There are no explanations to pass on to shap.")
        base_values = []
        for row, e in enumerate(self):
            scores = e.word_scores
            if scores is None:
                raise ValueError(
                    f"Explanation {row} has no word scores; explain with "
                    f"token_method='relevance' or 'occlusion'."
                )
            base_values.append(e.explained - float(scores.sum()))
        return as_shap(self.to_dict(), base_values)

    @np.errstate(under="ignore")
    def plot(self) -> Any:
        """Draw the prototypes with the largest mean contributions.

        The figure shows 15 prototypes, or `top_k` of `explain`, at most 40. Long labels
        and texts are shortened.

        Returns
        -------
        matplotlib.figure.Figure
            A figure without pyplot; ``figure.savefig(path)`` writes it.

        Raises
        ------
        ValueError
            If there are no explanations, or they belong to several models.
        MissingExtraError
            If matplotlib is not installed.
        """
        models = {(e.unit.name, e.prototype_texts) for e in self}
        if len(models) != 1:
            raise ValueError(
                "plot needs at least one explanation, and all must belong to the same "
                f"model; got {len(self)} explanations of {len(models)} models."
            )
        return plot_mean_contributions(self)

    def to_text(self, *, color: bool = False) -> str:
        """Return all explanations as lines of text.

        Parameters
        ----------
        color : bool, default=False
            As in `Explanation.to_text`.
        """
        return "\n\n".join(e.to_text(color=color) for e in self)

    def __str__(self) -> str:
        if not len(self):
            return (
                "no explanations: there is no text, or no word that is predicted to be "
                "a part of an entity (words='all' explains all words)"
            )
        parts = [str(explanation) for explanation in self[:_PRINTED]]
        if len(self) > _PRINTED:
            parts.append(f"… and {len(self) - _PRINTED} more explanations")
        return "\n\n".join(parts)

    def __repr__(self) -> str:
        noun = self[0].unit.quoted if len(self) else "text"
        return f"<Explanations of {len(self)} {noun}s>"

    def _repr_html_(self) -> str:
        records = [listed_record(e) for e in self[:_RENDERED]]
        return explanations_html(records, page=False, n_more=len(self) - len(records))
