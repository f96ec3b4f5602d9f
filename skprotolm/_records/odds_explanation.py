"""What the explanations of the log-odds of one label have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skprotolm._records.base_explanation import BaseExplanation


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class OddsExplanation(BaseExplanation):
    """The explanation of the log-odds of one of several classes, tags or labels.

    `Explanation` and `LabelExplanation` describe the fields.
    """

    target: Any
    classes: np.ndarray
    log_odds: float

    @property
    @abstractmethod
    def _class_probabilities(self) -> np.ndarray:
        """(C,): the probability of each label."""

    @property
    def prototype_labels(self) -> np.ndarray:
        """(M,): the class of each prototype, or its labels as a tuple."""
        return self._prototypes.labels

    @property
    def contributions(self) -> np.ndarray:
        """(M,): the contribution of each prototype, by which they are sorted."""
        return self.ranking

    @property
    def probabilities(self) -> dict[Any, float]:
        """Label → probability, in the order of ``classes``."""
        labels, values = self.classes.tolist(), self._class_probabilities.tolist()
        return dict(zip(labels, values, strict=True))

    @property
    def probability(self) -> float:
        """The probability of the target."""
        return self.probabilities[self.target]

    @property
    def explained(self) -> float:
        """`log_odds`, which `base_value` and the token scores sum to."""
        return self.log_odds

    def _sum_of(self, indices: np.ndarray) -> dict[str, float]:
        """Return the sum of some contributions."""
        return {"contribution": float(self.contributions[indices].sum())}

    def _codes(self) -> dict[Any, int]:
        """Return the position of each label among the classes."""
        return {label: code for code, label in enumerate(self.classes.tolist())}

    def _kind_json(self, labels: Callable[[np.ndarray], int]) -> dict[str, Any]:
        return {
            "classes": labels(self.classes),
            "target": self._codes()[self.target],
            "log_odds": self.log_odds,
        }

    @classmethod
    def _from_kind_json(
        cls, entry: dict[str, Any], labels: Sequence[np.ndarray]
    ) -> dict[str, Any]:
        classes = labels[entry["classes"]]
        return {
            "classes": classes,
            "target": classes.tolist()[entry["target"]],
            "log_odds": float(entry["log_odds"]),
        }
