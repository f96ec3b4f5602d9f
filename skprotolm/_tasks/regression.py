"""One number per text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.metrics import r2_score

from skprotolm._data.numbers import as_numbers
from skprotolm._data.targets import Targets
from skprotolm._tasks.base import Task

# With 5, texts of a range lose their order, and the correlation with the true values is
# .874 instead of .879; with 20 as well (learned vectors, SICK, development, one seed).
# Fewer prototypes have fewer ranges, but not fewer than 5.
_MOST_STRATA, _LEAST_STRATA = 10, 5


def _distinct_names(edges: Sequence[float]) -> list[str]:
    """Write numbers with as many digits as tell them apart, at least six."""
    for digits in range(6, 18):
        rounded = [float(f"{edge:.{digits}g}") for edge in edges]
        if len(set(rounded)) == len(edges):
            break
    return [f"{value:.{max(15, digits)}g}" for value in rounded]


class RegressionTask(Task):
    """One number per text; its stratum is a range of numbers.

    The model computes with standardized numbers, (value − center) / scale.

    Parameters
    ----------
    center, scale : float
        Weighted mean and standard deviation of the training values.
    edges : sequence of float
        The upper ends of all ranges but the last, ascending.
    """

    kind = "value"
    label_noun = "value"
    strata_noun = "ranges of values"
    # On pairs of sentences (SICK, development, one seed) the correlation with the true
    # values is .879; .873 with a half, and .871 if the linear prediction is one of true
    # values, too.
    quotable = 0.25
    output_weight = 1.0

    def __init__(self, center: float, scale: float, edges: Sequence[float]):
        self.center = center
        self.scale = scale
        self.edges = list(edges)

    @classmethod
    def of(
        cls, values: np.ndarray, weights: np.ndarray, n_prototypes: Any = "auto"
    ) -> RegressionTask:
        """Return the task of training values, with at most ten ranges.

        They have about the same weight each, as far as equal values allow.
        """
        most = _MOST_STRATA
        if n_prototypes != "auto":
            most = min(most, max(_LEAST_STRATA, n_prototypes))
        return cls._with_ranges(values, weights, most)

    @classmethod
    def _with_ranges(
        cls, values: np.ndarray, weights: np.ndarray, most: int
    ) -> RegressionTask:
        # Values near the largest float would overflow in sums.
        largest = np.abs(values).max() or 1.0
        center = float(np.average(values / largest, weights=weights) * largest)
        deviations = (values / largest - center / largest) ** 2
        scale = float(np.sqrt(np.average(deviations, weights=weights)) * largest)
        distinct, ids = np.unique(values, return_inverse=True)
        n_strata = min(most, len(distinct))
        below = np.bincount(ids, weights).cumsum() / weights.sum()
        # The sums may be rounding errors below a quantile.
        quantiles = np.arange(1, n_strata) / n_strata - 1e-9
        # The last range is never empty, even if most values are the largest.
        positions = np.minimum(np.searchsorted(below, quantiles), len(distinct) - 2)
        return cls(center, scale, np.unique(distinct[positions]).tolist())

    @property
    def readout_options(self) -> dict[str, Any]:
        """The kind and the standardization."""
        return {"kind": self.kind, "center": self.center, "scale": self.scale}

    @property
    def strata(self) -> list[Any]:
        """The ranges in words: "up to 2", "2 to 3.5", "above 3.5"."""
        names = _distinct_names(self.edges)
        inner = [f"{a} to {b}" for a, b in pairwise(names)]
        return [f"up to {names[0]}", *inner, f"above {names[-1]}"]

    def score(
        self, outputs: np.ndarray, values: np.ndarray, weights: np.ndarray
    ) -> float:
        """Return the weighted R², or −MSE if all values are the same."""
        predicted, true = outputs[:, 0], self.standardized(values)
        if np.ptp(true) == 0:
            return -float(np.average((predicted - true) ** 2, weights=weights))
        return float(r2_score(true, predicted, sample_weight=weights))

    def standardized(self, values: np.ndarray) -> np.ndarray:
        """Return (value − center) / scale."""
        return (values - self.center) / self.scale

    def learned_values(self, outputs: np.ndarray) -> np.ndarray | None:
        """Return the outputs: they have less noise than the true values."""
        return outputs[:, 0]

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Return the predicted number of each text."""
        return self.center + self.scale * outputs[:, 0]

    def labels(self, values: np.ndarray) -> np.ndarray:
        """Return the values, as float64."""
        return values.astype(np.float64)

    def strata_of(self, values: Any) -> Any:
        """Return the range of each value."""
        strata = (values > np.inf) * 1  # zeros, in an array like the values
        for edge in self.edges:
            strata = strata + (values > edge)
        return strata

    def stratum_values(self, targets: Targets) -> np.ndarray:
        """Return the weighted mean of each range, (S,)."""
        means = []
        for stratum in range(len(self.strata)):
            is_in = targets.strata == stratum
            values = targets.values[is_in]
            mean = np.average(values, weights=targets.weights[is_in])
            # A mean of equal values may be a rounding error beyond them.
            means.append(np.clip(mean, values.min(), values.max()))
        return np.array(means)

    def merge_copies(self, targets: Targets, ids: np.ndarray) -> tuple[Task, Targets]:
        """Give all copies of a text the mean of their values, and find the ranges anew.

        The squared error has the same gradient, and a text that is a prototype stands
        for all its copies.

        Raises
        ------
        ValueError
            If all texts then have the same value.
        """
        weights = np.bincount(ids, targets.weights)
        sums = np.bincount(ids, targets.weights * targets.values)
        counts = np.bincount(ids)
        means = np.divide(sums, weights, out=sums, where=weights > 0)
        values = np.where(counts[ids] > 1, means[ids], targets.values)
        if np.ptp(values) == 0:
            raise ValueError(
                f"y must hold different numbers for different texts: the mean of all "
                f"copies of a text, as the encoder reads them, is {values[0]} for each "
                f"of the {len(counts)} distinct texts."
            )
        task = self._with_ranges(values, targets.weights, len(self.strata))
        strata = task.strata_of(values)
        return task, targets._replace(values=values, strata=strata)

    def prototypes_per_stratum(
        self, n_prototypes: Any, n_candidates: Sequence[int]
    ) -> list[int]:
        """Distribute a total number evenly, at least one to each range.

        Ranges of few texts come first; the others have what these leave.
        """
        S = len(self.strata)
        counts, left = [0] * S, max(int(n_prototypes), S)
        *first, last = sorted(range(S), key=lambda stratum: n_candidates[stratum])
        for number, stratum in enumerate(first):
            counts[stratum] = min(left // (S - number), n_candidates[stratum])
            left -= counts[stratum]
        counts[last] = left
        return counts

    def encode(self, labels: Any, name: str, n: int | None = None) -> np.ndarray:
        """Return the numbers as float64; they are called `name`, and there must be n.

        All must be finite.
        """
        return as_numbers(labels, name, n)

    def require_prototypes(self, values: np.ndarray, action: str) -> None:
        """Raise if there would be no prototype."""
        if not len(values):
            raise ValueError(
                f"The model would have no prototype left if these were {action}; add "
                f"one first."
            )
