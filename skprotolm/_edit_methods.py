"""Edits of prototypes, as methods of an estimator."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from sklearn.exceptions import NotFittedError

from skprotolm import _editing
from skprotolm._config import COUNT_OR_ZERO, PURITY, require
from skprotolm._fitted import FittedModel, fitted_model

_Self = TypeVar("_Self", bound="EditMethodsMixin")


class EditMethodsMixin:
    """Adds methods that change the prototypes of a fitted estimator."""

    _fitted: FittedModel

    def _fitted_attributes(self, model: FittedModel) -> dict[str, Any]:
        """Return the attributes with which an estimator can predict."""
        return {"_fitted": model}

    def remove_prototypes(self: _Self, indices: Any) -> _Self:
        """Remove prototypes from the model.

        The following prototypes move up: read the next indices from ``prototypes_``
        again, or pass all indices in one call.

        In a classifier under "mixture" the score z of the class changes by
        (κ/λ)·log(1 − share inside the class) for each removed prototype, and other
        scores do not change. Of several labels, so does the sum of its side in the
        log-odds of every label; in a regressor, the other shares grow in proportion.

        Parameters
        ----------
        indices : int or sequence of int
            Positions in ``prototypes_``.

        Returns
        -------
        self
            The estimator itself, modified.

        Raises
        ------
        IndexError, TypeError
            If an index is out of range or not an int.
        ValueError
            If a class would have no prototype left, or one of several labels none with
            it or none without it. Nothing is changed then.
        """
        return self._replace_model(_editing.remove(fitted_model(self), indices))

    def relabel_prototypes(self: _Self, labels: dict[int, Any]) -> _Self:
        """Assign prototypes to other classes, or other numbers.

        Under "mixture" a prototype keeps its prior; under "proto-lm" its output
        weights of the two classes are swapped.

        Parameters
        ----------
        labels : dict of int -> label
            The new labels by position in ``prototypes_``; of several labels per text,
            collections of labels, or indicator rows as arrays; of a regressor, numbers.

        Returns
        -------
        self
            The estimator itself, modified.

        Raises
        ------
        IndexError, TypeError
            If an index is out of range or not an int.
        ValueError
            If a label is not in ``classes_``, or not a finite number, or a class would
            have no prototype left. Nothing is changed then.
        """
        return self._replace_model(_editing.relabel(fitted_model(self), labels))

    def add_prototypes(self: _Self, texts: Any, labels: Any) -> _Self:
        """Add texts as prototypes, after the existing ones.

        A new prototype has the mean prior (under "proto-lm": the mean output weights)
        of its class.

        Parameters
        ----------
        texts : container of str, length n
            As X in `fit`.
        labels : array-like of shape (n,)
            One label from ``classes_`` per text; of several labels per text, a list of
            collections of them, or an indicator matrix; of a regressor, one number.

        Returns
        -------
        self
            The estimator itself, modified.

        Raises
        ------
        ValueError, TypeError
            If a text or label is invalid, or a text is already a prototype. Nothing is
            changed then.
        """
        return self._replace_model(_editing.add(fitted_model(self), texts, labels))

    def prune_prototypes(
        self: _Self, *, min_usage: int = 1, min_purity: float = 0.0
    ) -> _Self:
        """Remove prototypes of low usage or purity.

        ``usage`` and ``purity`` are computed in `fit`. Added prototypes have neither
        and are not pruned. A class keeps at least its most used prototype.

        Parameters
        ----------
        min_usage : int, default=1
            Lowest usage that is kept: the number of other training texts whose nearest
            prototype it is.
        min_purity : float, default=0.0
            Lowest purity that is kept.

        Returns
        -------
        self
            The estimator itself, modified if any prototype is pruned.

        Raises
        ------
        ValueError
            If `min_usage` is not a non-negative int, or `min_purity` is not in
            [0, 1].
        """
        model = fitted_model(self)
        require("min_usage", min_usage, COUNT_OR_ZERO)
        require("min_purity", min_purity, PURITY)
        return self._replace_model(_editing.prune(model, min_usage, min_purity))

    def redact_prototypes(self: _Self, texts: dict[int, Any]) -> _Self:
        """Replace the quoted texts of prototypes permanently.

        The vectors stay, so predictions and shares do not change. `alignment` with a
        redacted prototype raises an error. The old texts, and the names with words of
        them, are removed from the estimator, from the undo history, and from files that
        are saved afterwards.

        Parameters
        ----------
        texts : dict of int -> str (or (str, str))
            The replacements, by position in ``prototypes_``.

        Returns
        -------
        self
            The estimator itself, modified.

        Raises
        ------
        IndexError, TypeError, ValueError
            If an index is out of range, or a text is invalid.
        """
        return self._replace_model(_editing.redact(fitted_model(self), texts))

    def undo_edit(self: _Self) -> _Self:
        """Undo the last edit of the prototypes, bit for bit.

        Redactions are skipped and cannot be undone, nor can edits before the last
        `partial_fit`.

        Returns
        -------
        self
            The estimator itself, modified.

        Raises
        ------
        ValueError
            If there is nothing to undo.
        """
        return self._replace_model(_editing.undo_last(fitted_model(self)))

    @property
    def edits_(self) -> list[dict[str, Any]]:
        """The edits since `fit`, in order.

        Each has an ``action`` and, with one entry per prototype, ``indices`` (positions
        at the time of the edit), ``train_indices`` and ``labels``; a relabeling also
        has ``new_labels``.
        """
        if "_fitted" not in self.__dict__:
            raise NotFittedError(
                f"{type(self).__name__} is not fitted: call fit first."
            )
        return [copy.deepcopy(edit) for edit in self._fitted.edits]

    def _replace_model(self: _Self, model: FittedModel) -> _Self:
        """Predict with another model from now on, in place."""
        self.__dict__.update(self._fitted_attributes(model))
        return self
