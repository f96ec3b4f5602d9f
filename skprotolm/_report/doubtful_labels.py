"""Labels that neither the nearest texts nor the model's prediction support."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from typing import Any

import numpy as np

from skprotolm._report.predictions import Predictions, nearest_rows
from skprotolm._training.neighborhoods import N_NEIGHBORS, distinct_ids

_MIN_NEIGHBORS = 3
_N_LISTED = 30
_N_QUOTED = 3  # neighbors per listed text


def find_doubtful_labels(
    predictions: Predictions,
) -> tuple[list[dict[str, Any]], int]:
    """Find texts for which another label has more than half of the support.

    Returns
    -------
    doubtful : list of dict
        The first 30 of them, in increasing order of their own label's support.
    n_doubtful : int
        The number of all of them.
    """
    doubtful: list[tuple[float, int, list[int], int]] = []
    for row, neighbors, support in label_support(predictions):
        code = predictions.codes[row]
        own, support[code] = float(support[code]), 0.0
        if support.max() > 0.5:
            doubtful.append((own, row, neighbors, int(support.argmax())))
    doubtful.sort(key=itemgetter(0))
    listed = [
        _describe(predictions, row, neighbors, other)
        for _, row, neighbors, other in doubtful[:_N_LISTED]
    ]
    return listed, len(doubtful)


def _describe(
    predictions: Predictions, row: int, neighbors: list[int], other: int
) -> dict[str, Any]:
    return {
        **predictions.quote(row),
        "row": row,
        "other": other,
        "n_other": int(np.sum(predictions.codes[neighbors] == other)),
        "n_neighbors": len(neighbors),
        "p_other": float(predictions.probabilities[row, other]),
        "nearest": [predictions.quote(j) for j in neighbors[:_N_QUOTED]],
    }


def label_support(
    predictions: Predictions,
) -> Iterator[tuple[int, list[int], np.ndarray]]:
    """Yield the support of each label for each text, without copies.

    The support of a label is the mean of its share among the nearest other texts and of
    its predicted probability. There are min(10, n_c − 1) neighbors, n_c the number of
    texts in the class of the text's label, so that the texts of a rare class are not
    outvoted because the class is rare. Copies of a text with the same label count once;
    copies with different labels count once per label.

    Yields
    ------
    row : int
        A text with three neighbors or more.
    neighbors : list of int
        The rows of its neighbors, the nearest first.
    support : ndarray of shape (C,)
    """
    labeled = list(zip(predictions.keys, predictions.codes.tolist(), strict=True))
    distinct = np.unique(distinct_ids(labeled), return_index=True)[1]
    n_classes = predictions.probabilities.shape[1]
    codes, vectors = predictions.codes[distinct], predictions.vectors[distinct]
    class_sizes = np.bincount(codes, minlength=n_classes)
    nearest = nearest_rows(vectors, vectors, N_NEIGHBORS + 1)
    for i, row in enumerate(distinct.tolist()):
        n_neighbors = min(N_NEIGHBORS, int(class_sizes[codes[i]]) - 1)
        others = nearest[i][nearest[i] != i][:n_neighbors]
        if len(others) < _MIN_NEIGHBORS:
            continue
        shares = np.bincount(codes[others], minlength=n_classes) / len(others)
        support = (shares + predictions.probabilities[row]) / 2
        yield row, distinct[others].tolist(), support
