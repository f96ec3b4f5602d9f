"""The prototypes of a report: cards, and rows of tables."""

from __future__ import annotations

from typing import Any

import numpy as np

from skprotolm._display.formatting import shorten
from skprotolm._fitted import FittedModel
from skprotolm._report.predictions import Predictions, nearest_rows
from skprotolm._training.neighborhoods import distinct_ids

_N_LISTED, _LENGTH = 60, 300  # rows of a table, and characters of their texts
_N_CARDS = 60
_N_ROWS = 2000  # further prototypes, in a table and on the map
_N_ASSIGNED = 5  # texts per card
_N_NEAREST = 3  # reference texts per card


def most_used_prototypes(model: FittedModel) -> list[dict[str, Any]]:
    """Return the prototypes that most texts are nearest to, by descending usage."""
    order = np.argsort(-model.prototypes.usages, kind="stable")
    return listed_prototypes(model, order)


def listed_prototypes(model: FittedModel, order: np.ndarray) -> list[dict[str, Any]]:
    """Return the first prototypes of an order, with shortened texts."""
    records = (model.prototypes[j].to_dict() for j in order[:_N_LISTED].tolist())
    return [{**record, "text": shorten(record["text"], _LENGTH)} for record in records]


def prototype_cards(
    model: FittedModel, evaluated: Predictions, reference: Predictions
) -> dict[str, Any]:
    """Return the prototypes of the report's template.

    A text is assigned to its top prototype.

    Returns
    -------
    dict
        "prototypes" are the 60 with the most mistakes, then the most assigned texts
        and the highest usage, with their nearest and their assigned texts;
        "other_prototypes" are the next 2,000, without texts.
    """
    prototypes, codes = model.prototypes, model.layer.values.numpy()
    M, top = len(prototypes), evaluated.top_prototypes
    n_assigned = np.bincount(top, minlength=M)
    n_wrong = np.bincount(top[~evaluated.is_correct], minlength=M)

    def record(j: int) -> dict[str, Any]:
        counts = {"n_assigned": int(n_assigned[j]), "n_wrong": int(n_wrong[j])}
        return {**prototypes[j].to_dict(), **counts, "code": int(codes[j])}

    order = np.lexsort((-prototypes.usages, -n_assigned, -n_wrong))
    listed = np.sort(order[:_N_CARDS])
    others = np.sort(order[_N_CARDS : _N_CARDS + _N_ROWS])
    nearest = _nearest_texts(model, reference, listed)
    cards = [
        {
            **record(j),
            "nearest": [reference.quote(row) for row in near],
            "assigned": _assigned_texts(evaluated, j),
        }
        for j, near in zip(listed.tolist(), nearest, strict=True)
    ]
    rest = [record(j) for j in others.tolist()]
    return {"prototypes": cards, "other_prototypes": rest}


def _assigned_texts(evaluated: Predictions, index: int) -> list[dict[str, Any]]:
    """Quote texts of a prototype: mistakes first, the most confident ones first."""
    rows = np.flatnonzero(evaluated.top_prototypes == index)
    confidence = evaluated.probabilities[rows].max(axis=1)
    rows = rows[np.lexsort((-confidence, evaluated.is_correct[rows]))]
    return [
        {**evaluated.quote(row), "is_correct": bool(evaluated.is_correct[row])}
        for row in rows[:_N_ASSIGNED].tolist()
    ]


def _nearest_texts(
    model: FittedModel, reference: Predictions, indices: np.ndarray
) -> list[list[int]]:
    """Return the rows of the texts nearest to some prototypes, without their own."""
    distinct = np.unique(distinct_ids(reference.keys), return_index=True)[1]
    prototype_vectors = model.layer.positions.numpy()[indices]
    # One more, since the prototype's own text may be among them.
    nearest = distinct[
        nearest_rows(reference.vectors[distinct], prototype_vectors, _N_NEAREST + 1)
    ]
    return [
        # The text nearest to a redacted prototype is likely the redacted text.
        []
        if model.quotes.redacted[j]
        else [row for row in rows if reference.keys[row] != model.quoted.keys[j]][
            :_N_NEAREST
        ]
        for j, rows in zip(indices.tolist(), nearest.tolist(), strict=True)
    ]
