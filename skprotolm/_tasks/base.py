"""What y means to a model: its values, groups, predictions and scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from skprotolm._data.targets import Targets


class Task(ABC):
    """A kind of target. Arrays named `values` are as in `Targets`.

    Masks are also computed from tensors, on whatever device these are.
    """

    label_noun: str  # what views call what a prototype stands for
    strata_noun: str  # what they call strata, in the plural
    text_noun = "text"  # what they call what has a value
    # Weight of a linear prediction of the values in the metric of quoted texts.
    output_weight = 0.0

    @property
    @abstractmethod
    def readout_options(self) -> dict[str, Any]:
        """The arguments of `_network.readouts.make_readout`, but the sharpness."""

    @property
    @abstractmethod
    def strata(self) -> list[Any]:
        """What messages, and a dict as `n_prototypes`, call each stratum."""

    def own_mask(self, values: Any, prototype_values: Any) -> Any:
        """Return whose prototypes are of a text's own stratum, (B, M) bool."""
        strata, others = self.strata_of(values), self.strata_of(prototype_values)
        return strata[:, None] == others[None, :]

    @abstractmethod
    def score(
        self, outputs: np.ndarray, values: np.ndarray, weights: np.ndarray
    ) -> float:
        """Return how good outputs (n, L) are, for early stopping; higher is better."""

    def validation_score(self, outputs: np.ndarray, targets: Targets) -> float:
        """Return the score by which early stopping compares epochs."""
        return self.score(outputs, targets.values, targets.weights)

    @abstractmethod
    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Turn outputs (n, L) into predictions (n,)."""

    @abstractmethod
    def labels(self, values: np.ndarray) -> np.ndarray:
        """Turn the values of M prototypes into what users call them, (M,)."""

    @abstractmethod
    def strata_of(self, values: Any) -> Any:
        """Return the stratum of each of M values, (M,); tensors give tensors."""

    def value_ids(self, values: np.ndarray) -> np.ndarray:
        """Return numbers that are equal where one prototype can replace another, (M,).

        By default those of a stratum can.
        """
        return self.strata_of(values)

    def stratum_names(self, values: np.ndarray) -> list[Any]:
        """Return what views call the strata of M values."""
        strata = self.strata
        return [strata[stratum] for stratum in self.strata_of(values).tolist()]

    def standardized(self, values: np.ndarray) -> np.ndarray:
        """Return numbers of mean 0 that a linear model can predict, (n,) or (n, D)."""
        raise TypeError(f"{self.strata_noun} have no order.")

    @abstractmethod
    def stratum_values(self, targets: Targets) -> np.ndarray:
        """Return the value that learned prototypes of each stratum have, (S, ...)."""

    def memberships(self, targets: Targets) -> tuple[np.ndarray, np.ndarray]:
        """Return rows of texts, and the stratum whose learned prototypes each shapes.

        By default each text shapes those of its own stratum.
        """
        return np.arange(len(targets.strata)), targets.strata

    @abstractmethod
    def merge_copies(self, targets: Targets, ids: np.ndarray) -> tuple[Task, Targets]:
        """Return task and targets (n,) once copies of a text, of equal ids, have one.

        Strata may depend on the values, so that the task changes with them.
        """

    @abstractmethod
    def prototypes_per_stratum(
        self, n_prototypes: Any, n_candidates: Sequence[int]
    ) -> list[int]:
        """Return how many prototypes of each stratum the user asked for.

        `n_candidates` are the texts of each stratum that may become one.
        """

    @abstractmethod
    def encode(self, labels: Any, name: str, n: int | None = None) -> np.ndarray:
        """Turn labels into values; they are called `name`, and there must be n."""

    def target_index(self, target: Any, n: int, name: str = "target") -> np.ndarray:
        """Return which output is explained for each of n texts, (n,) int."""
        raise TypeError("There is only one output to explain.")

    def require_columns(self, y: Any) -> None:  # noqa: B027
        """Raise if y is a frame whose columns are not the outputs in their order."""

    @abstractmethod
    def require_prototypes(self, values: np.ndarray, action: str) -> None:
        """Raise if prototypes of these values do not suffice after an edit."""

    def indispensable(self, values: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """Return rows of `values` without which those `kept` would not suffice.

        By default none: texts are kept by their strata.
        """
        return np.empty(0, dtype=np.int64)

    @abstractmethod
    def never_predicted(self, outputs: np.ndarray, values: np.ndarray) -> list[Any]:
        """Return the labels of texts that are predicted for none of them."""
