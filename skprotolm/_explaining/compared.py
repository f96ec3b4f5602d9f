"""Comparisons of explained texts with all prototypes, computed when they are read."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from skprotolm._network.prototypes import PrototypeLayer, rows_of
from skprotolm._records.parts import StoredArrays
from skprotolm._runtime import isolated_torch


class ComparedTexts:
    """The vectors of n texts, from which the arrays of explanations are computed.

    The explanations of a call share them: with 100,000 prototypes, the arrays of a
    thousand explanations would fill 1.6 GB, while the vectors have 3 MB.

    Parameters
    ----------
    layer : PrototypeLayer
        In float64.
    n : int
    against : ndarray of shape (n,), int, or None
        The output that each is compared with; None for all others.
    """

    def __init__(self, layer: PrototypeLayer, n: int, against: np.ndarray | None):
        self._layer = layer
        self._vectors = torch.empty(n, layer.vectors.shape[1], dtype=torch.float64)
        self.target = torch.empty(n, dtype=torch.int64)
        self._against = None if against is None else torch.from_numpy(against)
        self._last: tuple[int, StoredArrays] | None = None  # views read one text often

    def __deepcopy__(self, memo: dict[int, Any]) -> ComparedTexts:
        return self  # immutable once filled

    def add(self, rows: np.ndarray, vectors: Tensor, target: Tensor) -> None:
        """Keep the vectors of some texts, and which of their outputs are explained."""
        self._vectors[rows], self.target[rows] = vectors, target

    def arrays_of(self, row: int) -> StoredArrays:
        """Return the arrays of one text."""
        last = self._last  # another thread may replace it
        if last is None or last[0] != row:
            last = self._last = row, self._compare(row)
        return last[1]

    @isolated_torch()
    def _compare(self, row: int) -> StoredArrays:
        one = slice(row, row + 1)
        with torch.inference_mode():
            columns = self._layer.contributions(
                self._vectors[one], self.target[one], rows_of(self._against, one)
            )
        arrays = StoredArrays(*(column[0].numpy() for column in columns))
        for array in arrays:  # which are computed again after another text was read
            array.setflags(write=False)
        return arrays


class ComparedText(NamedTuple):
    """One of these texts."""

    texts: ComparedTexts
    row: int

    @property
    def similarities(self) -> np.ndarray:
        """The similarity to each prototype, (M,)."""
        return self.texts.arrays_of(self.row).similarities

    @property
    def ranking(self) -> np.ndarray:
        """The contribution, or share, of each prototype, (M,)."""
        return self.texts.arrays_of(self.row).ranking
