"""What y means to a model: its values, groups, predictions and scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np


class Task(ABC):
    """A kind of target. Arrays named `values` are as in `Targets`.

    The two masks are also computed from tensors, on whatever device these are.
    """

    readout: str  # the kind of the readout, see `_network.readouts`

    @property
    @abstractmethod
    def n_outputs(self) -> int:
        """The number of outputs of the model, L."""

    @property
    @abstractmethod
    def strata(self) -> list[Any]:
        """What messages, and a dict as `n_prototypes`, call each stratum."""

    @abstractmethod
    def own_mask(self, values: Any, prototype_values: Any) -> Any:
        """Return whose prototypes are a text's own, (B, M) bool."""

    @abstractmethod
    def score(
        self, outputs: np.ndarray, values: np.ndarray, weights: np.ndarray
    ) -> float:
        """Return how good outputs (n, L) are, for early stopping; higher is better."""

    @abstractmethod
    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Turn outputs (n, L) into predictions (n,)."""

    @abstractmethod
    def labels(self, values: np.ndarray) -> np.ndarray:
        """Turn the values of M prototypes into what users call them, (M,)."""

    @abstractmethod
    def strata_of(self, values: np.ndarray) -> np.ndarray:
        """Return the stratum of each of M values, (M,)."""

    @abstractmethod
    def encode(self, labels: Any, name: str, n: int | None = None) -> np.ndarray:
        """Turn labels into values; they are called `name`, and there must be n."""

    @abstractmethod
    def target_index(self, target: Any, n: int, name: str = "target") -> np.ndarray:
        """Return which output is explained for each of n texts, (n,) int."""

    @abstractmethod
    def require_prototypes(self, values: np.ndarray, action: str) -> None:
        """Raise if prototypes of these values do not suffice after an edit."""

    @abstractmethod
    def never_predicted(self, outputs: np.ndarray, values: np.ndarray) -> list[Any]:
        """Return the labels of texts that are predicted for none of them."""

    @abstractmethod
    def describe(
        self, outputs: np.ndarray, index: np.ndarray, against: np.ndarray | None
    ) -> list[dict[str, Any]]:
        """Return what explanations of n texts hold of predictions and targets."""
