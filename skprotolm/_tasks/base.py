"""What y means to a model: its values, groups, predictions and scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from skprotolm._data.targets import Targets
from skprotolm._data.texts import Columns, Texts, as_texts


class Task(ABC):
    """A kind of target. Arrays named `values` are as in `Targets`.

    Masks are also computed from tensors, on whatever device these are.
    """

    kind: str  # readouts, explanations and reports are listed by it
    unit_noun = "text"  # what has a value; "word" for words in their sentences
    label_noun: str  # what views call what a prototype stands for
    strata_noun: str  # what they call strata, in the plural
    # How texts are quoted. The fraction of the reliable texts of a stratum that may be,
    # and the weights of two further spaces in the metric: the pretrained one, and a
    # linear prediction of the values.
    quotable = 0.5
    reading_weight = 0.4
    output_weight = 0.0
    # Whether few texts are so soon memorized that they need a lower learning rate.
    is_soon_memorized = False

    def texts_of(self, X: Any, columns: Columns, name: str) -> Texts:
        """Return the texts of X, whose columns must be those of the fit."""
        return as_texts(X, columns=columns, name=name)

    def units_of(self, texts: Texts) -> Texts:
        """Return what has a value: the texts, or the words of sentences."""
        return texts

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

    def learned_values(self, outputs: np.ndarray) -> np.ndarray | None:
        """Return what the linear prediction in the metric predicts, (n,) or (n, D).

        None stands for the standardized true values.
        """
        return None

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

    def predicted_values(self, outputs: np.ndarray) -> np.ndarray:
        """Turn outputs (n, L) into values, (n, ...), by default the outputs."""
        return outputs

    def never_predicted(self, predicted: np.ndarray, values: np.ndarray) -> list[Any]:
        """Return the labels in `values` that no text is predicted to have.

        `predicted` are those of `predicted_values`. By default none: a number is no
        label.
        """
        return []


class LabelTask(Task):
    """A kind of target with labels, each of which has a probability."""

    classes: np.ndarray  # the labels

    @abstractmethod
    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Turn outputs into the probabilities of the labels, (n, C)."""

    @abstractmethod
    def decisions(self, outputs: np.ndarray) -> np.ndarray:
        """Turn outputs into log-odds or log-probabilities, (n,) or (n, C)."""
