"""Several labels per text.

Letters: n texts, M prototypes, L labels, V labels that vary among the training texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.metrics import average_precision_score, log_loss

from skprotolm._data.label_matrix import (
    as_label_matrix,
    encode_label_sets,
    is_label_matrix,
)
from skprotolm._data.label_matrix import require_columns as require_label_columns
from skprotolm._data.targets import Targets, class_codes
from skprotolm._runtime import warn
from skprotolm._tasks.base import LabelTask, Task
from skprotolm.exceptions import ConstantLabelsWarning

_NO_LABEL = "no label"
_VARIES = -1


class MultilabelTask(LabelTask):
    """Several labels per text; its value is an indicator row of the labels that vary.

    A label that no training text has, or every one, is no output of the network. Its
    probability is 0 or 1. The stratum of a text is its rarest label; texts without
    labels have a stratum of their own.

    Parameters
    ----------
    classes : ndarray of shape (L,)
        The labels.
    constants : ndarray of shape (L,), int
        The value of a label that does not vary, 0 or 1; -1 for the others.
    ranks : ndarray of shape (V,), int
        0 for the rarest of the labels that vary.
    label_weights : ndarray of shape (V, 2)
        Weights of the texts without each label, and of those with it.
    """

    kind = "labels"
    label_noun = "labels"
    strata_noun = "labels"
    # On GoEmotions (development, 500 and 1,500 texts) 3 and 30 are as good, 0 worse.
    output_weight = 10.0

    def __init__(
        self,
        classes: np.ndarray,
        constants: np.ndarray,
        ranks: np.ndarray,
        label_weights: np.ndarray,
    ):
        self.classes = classes
        self.constants = constants
        self.ranks = ranks
        self.label_weights = label_weights
        classes.setflags(write=False)  # copies of the estimator share it

    @classmethod
    def of(
        cls,
        classes: np.ndarray,
        matrix: np.ndarray,
        weights: np.ndarray,
        class_weight: Mapping[Any, float] | str | None,
    ) -> MultilabelTask:
        """Return the task of a training matrix (n, L), with a warning of constants.

        Raises
        ------
        ValueError
            If no label varies.
        """
        is_constant: np.ndarray = (matrix == matrix[0]).all(axis=0)
        if is_constant.all():
            raise ValueError(
                f"y must have a label that some texts have and others have not, among "
                f"the {len(matrix)} texts of positive weight; each of the "
                f"{len(classes)} columns is constant."
            )
        _warn_of_constants(classes, matrix, is_constant)
        varying = matrix[:, ~is_constant]
        counts = weights @ varying
        return cls(
            classes,
            np.where(is_constant, matrix[0], _VARIES).astype(np.int64),
            np.argsort(np.argsort(counts, kind="stable"), kind="stable"),
            _label_weights(classes[~is_constant], counts, weights.sum(), class_weight),
        )

    @property
    def varies(self) -> np.ndarray:
        """(L,) bool: which labels vary, and are outputs."""
        return self.constants == _VARIES

    @property
    def readout_options(self) -> dict[str, Any]:
        """The kind, and the weights of each label."""
        return {"kind": self.kind, "label_weights": self.label_weights.tolist()}

    @property
    def strata(self) -> list[Any]:
        """The labels that vary, and the texts without a label."""
        return [*self.classes[self.varies].tolist(), _NO_LABEL]

    def own_mask(self, values: Any, prototype_values: Any) -> Any:
        """Return which prototypes share a label with a text, or have none like it."""
        one, other = values * 1.0, prototype_values * 1.0
        has_none = ~values.any(1)[:, None] & ~prototype_values.any(1)[None, :]
        return (one @ other.T > 0) | has_none

    def score(
        self, outputs: np.ndarray, values: np.ndarray, weights: np.ndarray
    ) -> float:
        """Return the micro-averaged average precision, or −log loss without labels.

        Unlike F1 it does not depend on a threshold, which recalibration still moves.
        """
        if not values.any():
            flat, repeated = outputs.ravel(), np.repeat(weights, outputs.shape[1])
            loss = log_loss(
                values.ravel(), expit(flat), sample_weight=repeated, labels=[0, 1]
            )
            return -float(loss)
        return float(
            average_precision_score(
                values, outputs, average="micro", sample_weight=weights
            )
        )

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Return an indicator matrix (n, L), int: 1 from a probability of .5 on."""
        return (self.probabilities(outputs) >= 0.5).astype(np.int64)

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Turn log-odds (n, V) into the probabilities of all labels, (n, L)."""
        return self.completed(expit(outputs), self.constants)

    def decisions(self, outputs: np.ndarray) -> np.ndarray:
        """Return the log-odds of all labels, (n, L); those of constants are ±inf."""
        return self.completed(outputs, np.where(self.constants == 1, np.inf, -np.inf))

    def completed(self, varying: np.ndarray, constants: np.ndarray) -> np.ndarray:
        """Add the columns of constant labels (L,) to those that vary, (n, L)."""
        full = np.empty((len(varying), len(constants)), dtype=varying.dtype)
        full[:] = constants
        full[:, self.varies] = varying
        return full

    def labels(self, values: np.ndarray) -> np.ndarray:
        """Return the labels of each indicator row, as tuples, (M,) object."""
        full = self.completed(values, self.constants == 1)
        sets = np.empty(len(full), dtype=object)
        for row, indicators in enumerate(full):
            sets[row] = tuple(self.classes[indicators].tolist())
        return sets

    def strata_of(self, values: Any) -> Any:
        """Return the rarest label of each row, V for rows without a label."""
        V = len(self.ranks)
        rarest = np.where(values, self.ranks, V).min(axis=1)
        return np.append(np.argsort(self.ranks), V)[rarest]

    def value_ids(self, values: np.ndarray) -> np.ndarray:
        """Return numbers of the distinct sets of labels."""
        return np.unique(values, axis=0, return_inverse=True)[1].ravel()

    def standardized(self, values: np.ndarray) -> np.ndarray:
        """Return the indicators less their means.

        They keep their variance, so that frequent labels count more in the metric.
        """
        return values - values.mean(axis=0)

    def stratum_values(self, targets: Targets) -> np.ndarray:
        """Return each label alone, and no label, (V + 1, V)."""
        V = len(self.ranks)
        return np.eye(V + 1, V, dtype=bool)

    def memberships(self, targets: Targets) -> tuple[np.ndarray, np.ndarray]:
        """Return rows of texts and the strata that they shape: all of their labels.

        Nothing is learned for texts without labels, which are far from all prototypes.
        """
        rows, labels = np.nonzero(targets.values)
        return rows, labels

    def merge_copies(self, targets: Targets, ids: np.ndarray) -> tuple[Task, Targets]:
        """Give all copies of a text the labels that at least half of their weight has.

        A label that would not vary then is given to all copies if one has it.
        """
        weights = np.bincount(ids, targets.weights)
        counts = np.bincount(ids)
        if counts.max() == 1:
            return self, targets
        columns = [np.bincount(ids, targets.weights * has) for has in targets.values.T]
        sums = np.stack(columns, axis=1)
        majority = (sums >= weights[:, None] / 2)[ids]
        values = np.where(counts[ids, None] > 1, majority, targets.values)
        is_constant = (values == values[0]).all(axis=0)
        values[:, is_constant] = (sums > 0)[ids][:, is_constant]
        if (values == values[0]).all(axis=0).any():
            return self, targets
        return self, targets._replace(values=values, strata=self.strata_of(values))

    def prototypes_per_stratum(
        self, n_prototypes: Any, n_candidates: Sequence[int]
    ) -> list[int]:
        """Return the number per label: one int for all, or a dict.

        Texts without labels get as many as the label with the most.
        """
        labels = self.strata[:-1]
        if not isinstance(n_prototypes, Mapping):
            counts = [int(n_prototypes)] * len(labels)
        else:
            missing = [label for label in labels if label not in n_prototypes]
            if missing:
                raise ValueError(
                    f"n_prototypes must name every label of y that varies; missing: "
                    f"{missing[:5]}."
                )
            counts = [int(n_prototypes[label]) for label in labels]
        return [*counts, max(counts) if n_candidates[-1] else 0]

    def encode(self, labels: Any, name: str, n: int | None = None) -> np.ndarray:
        """Return indicator rows, or collections of labels, as values (n, V)."""
        matrix = encode_label_sets(labels, name, self.classes, n)
        wrong = np.flatnonzero((matrix & (self.constants == 0)).any(axis=0))
        if wrong.size:
            raise ValueError(
                f"{name} must not have the label {self.classes.tolist()[wrong[0]]!r}, "
                f"which no training text had: its probability is always 0. Refit with "
                f"texts that have it."
            )
        return matrix[:, self.varies]

    def require_columns(self, y: Any) -> None:
        """Raise if y is a frame whose columns are not the labels in their order."""
        if is_label_matrix(y):
            require_label_columns(y, "y", self.classes)

    def indicators(self, y: Any, name: str, n: int) -> np.ndarray:
        """Return an indicator matrix of all labels, (n, L) bool."""
        matrix = as_label_matrix(y, name, n)
        require_label_columns(y, name, self.classes)
        return matrix

    def target_index(self, target: Any, n: int, name: str = "target") -> np.ndarray:
        """Return which output each label is, for one label per text or one for all.

        Raises
        ------
        ValueError
            If it is compared with another label, or constant.
        """
        if name != "target":
            raise ValueError(
                f"{name} has no meaning for several labels per text, each of which is "
                f"explained alone: a text may have both."
            )
        codes = class_codes(self.classes, name, target, n)
        constant = codes[~self.varies[codes]]
        if constant.size:
            label, value = self.classes.tolist()[constant[0]], self.constants[constant]
            texts = "every training text has it" if value[0] else "no training text has"
            raise ValueError(
                f"The label {label!r} has no explanation: {texts}, so that its "
                f"probability is always {value[0]}."
            )
        return (np.cumsum(self.varies) - 1)[codes]

    def require_prototypes(self, values: np.ndarray, action: str) -> None:
        """Raise if a label would have no prototype with it, or none without it."""
        for is_missing, link in (
            (~values.any(axis=0), "with"),
            (values.all(axis=0), "without"),
        ):
            if is_missing.any():
                label = self.strata[is_missing.argmax()]
                raise ValueError(
                    f"There would be no prototype {link} the label {label!r} left if "
                    f"these were {action}; add one first."
                )

    def indispensable(self, values: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """Return which further rows give every label a prototype with and without."""
        added: list[int] = []
        for v in range(values.shape[1]):
            for has_label in (True, False):
                rows = np.append(kept, added).astype(np.int64)
                if not (values[rows, v] == has_label).any():
                    added.append(int(np.argmax(values[:, v] == has_label)))
        return np.array(added, dtype=np.int64)

    def predicted_values(self, outputs: np.ndarray) -> np.ndarray:
        """Return which labels are predicted, (n, L) bool."""
        return outputs >= 0

    def never_predicted(self, predicted: np.ndarray, values: np.ndarray) -> list[Any]:
        """Return the labels in `values` that are predicted for no text."""
        is_missed = values.any(axis=0) & ~predicted.any(axis=0)
        return self.classes[self.varies][is_missed].tolist()

    def describe(self, outputs: np.ndarray, index: np.ndarray) -> list[dict[str, Any]]:
        """Return predicted labels, target, labels and probabilities, per text."""
        targets = self.classes[self.varies][index].tolist()
        rows = zip(
            self.labels(outputs >= 0).tolist(),
            targets,
            self.probabilities(outputs),
            strict=True,
        )
        return [
            {
                "prediction": prediction,
                "target": target,
                "classes": self.classes,
                "label_probabilities": probabilities.copy(),
            }
            for prediction, target, probabilities in rows
        ]


def _warn_of_constants(
    classes: np.ndarray, matrix: np.ndarray, is_constant: np.ndarray
) -> None:
    if not is_constant.any():
        return
    names = ", ".join(
        f"{label!r} ({'always' if value else 'never'})"
        for label, value in zip(
            classes[is_constant].tolist()[:5], matrix[0, is_constant], strict=False
        )
    )
    more = ", …" if is_constant.sum() > 5 else ""
    warn(
        f"{is_constant.sum()} of {len(classes)} labels do not vary among the training "
        f"texts: {names}{more}. Their probability is always 0 or 1.",
        ConstantLabelsWarning,
    )


def _label_weights(
    labels: np.ndarray, counts: np.ndarray, total: float, class_weight: Any
) -> np.ndarray:
    """Return the weights of texts without and with each label, (V, 2).

    "balanced" is n / (2·count) on both sides, as for two classes in scikit-learn; a
    dict holds weights of the texts with a label.
    """
    pairs = np.ones((len(labels), 2))
    if isinstance(class_weight, str):
        return total / (2 * np.stack([total - counts, counts], axis=1))
    for position, label in enumerate(labels.tolist()):
        pairs[position, 1] = (class_weight or {}).get(label, 1.0)
    return pairs
