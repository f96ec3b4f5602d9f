"""Labels to classes and class indices, and y that is not what it should be."""

from __future__ import annotations

from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from skprotolm._data.hints import column
from skprotolm._data.labels import as_label_list, check_labels, plain_label
from skprotolm._data.texts import Texts, as_texts, shown
from skprotolm._data.weights import combine_weights
from skprotolm._runtime import warn
from skprotolm.exceptions import SingleTextClassesWarning

# With fewer classes than this, one text per class may be intended.
_MIN_IDENTIFIERS = 6


class Targets(NamedTuple):
    """y and its weights, encoded; rows of weight 0 are left out."""

    values: np.ndarray  # (n, ...), for a prototype the value of its text
    # (n,) int: groups of texts that have their own prototypes and of which splits keep
    # the same fraction.
    strata: np.ndarray
    weights: np.ndarray  # (n,) float64, with mean 1
    rows: np.ndarray  # (n,) int64, rows of X


def encode_targets(
    y: Any,
    n_texts: int,
    sample_weight: Any,
    class_weight: Any,
    name: str,
    *,
    fewest: int = 2,
) -> tuple[np.ndarray, Targets]:
    """Validate y and the weights, and encode the labels.

    `name` is the name of the estimator in error messages, `fewest` how many classes
    there must be. Returns the sorted labels (C,), and targets whose values and strata
    are class indices.
    """
    if y is None:
        raise ValueError(f"{name} requires y to be passed, but the target y is None.")
    labels = check_labels(y, n_texts)
    weights = combine_weights(labels, sample_weight, class_weight)
    rows = np.flatnonzero(weights)
    classes, codes = np.unique(labels[rows], return_inverse=True)
    if len(classes) < fewest:
        raise ValueError(
            f"y must hold at least two classes, got only one class "
            f"({repr(classes.tolist()[0])[:60]}) among the texts of positive weight. "
            f"Classifier can't train when only one class is present."
        )
    weights = weights[rows] / weights[rows].mean()
    codes = codes.astype(np.int64)
    return classes, Targets(codes, codes, weights, rows)


def require_listed(classes: Any, labels: list[Any]) -> None:
    """Raise an error if `classes` lacks a label, unless it is None."""
    if classes is None:
        return
    listed = as_label_list("classes", classes)
    if listed is None:
        raise ValueError(f"classes must be a list of labels, got {shown(classes)}.")
    # What is no label need not be hashable.
    known = {plain_label(v) for v in listed if isinstance(v, (str, Real, np.bool_))}
    missing = [label for label in labels if label not in known]
    if missing:
        raise ValueError(
            f"classes must list all labels of y, and all of classes_; missing: "
            f"{missing[:5]}. It may be left out."
        )


def refuse_swapped(X: Any, y: Any) -> None:
    """Raise an error if X and y are swapped, as in ``fit(y, X)``.

    X then holds numbers, or few distinct str, and y holds distinct texts. Such y
    cannot be fitted: it has more classes than X has texts.
    """
    if not isinstance(X, (list, tuple)) and not hasattr(X, "__array__"):
        return
    try:
        labels = as_label_list("X", X) or []
        n_distinct = len(set(labels))
        repeated = n_distinct <= len(labels) / 2
        if not all(isinstance(label, (Real, np.bool_)) for label in labels) and not (
            repeated and all(isinstance(label, str) for label in labels)
        ):
            return
        texts = as_texts(y, name="y")
    except (TypeError, ValueError):
        return
    firsts = [text if isinstance(text, str) else text[0] for text in texts]
    n_phrases = sum(" " in text for text in firsts)
    is_text_column = n_phrases >= len(texts) / 2 and len(set(texts)) >= 0.9 * len(texts)
    if len(texts) == len(labels) and is_text_column:
        raise ValueError(
            f"X and y seem to be swapped: y holds texts, like {shown(texts[0])}, and X "
            f"{n_distinct} distinct values, like {shown(labels[0])}. Pass the texts "
            f"as X and the labels as y."
        )


def refuse_labels_in_texts(
    X: Any, texts: Texts, classes: np.ndarray, targets: Targets
) -> None:
    """Raise an error if one text of each pair is the label."""
    if isinstance(texts[0], str):
        return
    labels = [str(label) for label in classes.tolist()]
    pairs: Any = [texts[row] for row in targets.rows.tolist()]
    for number in (0, 1):
        values = [pair[number] for pair in pairs]
        matches = set(zip(values, targets.values.tolist(), strict=True))
        one_to_one = len(matches) == len(set(values)) == len(labels)
        # If the other column has as few values, the texts themselves repeat.
        has_more_texts = len({pair[1 - number] for pair in pairs}) > len(matches)
        equal = all(value == labels[code] for value, code in matches)
        if equal or (one_to_one and has_more_texts):
            raise ValueError(
                f"Column {number} of X holds the labels y, or other names of them: "
                f"each of its values occurs with one label only, and each label with "
                f"one value. Two columns are pairs of texts; pass the column of texts "
                f"alone, {column(X, 'X', 1 - number)}."
            )


def warn_single_text_classes(classes: np.ndarray, targets: Targets) -> None:
    """Warn if every class has one text only, as if y held identifiers."""
    n_classes = len(classes)
    if n_classes < _MIN_IDENTIFIERS or n_classes < len(targets.rows):
        return
    warn(
        f"Each of the {n_classes} classes of y has only one text, so the classifier "
        f"cannot learn what the texts of a class have in common. If y holds "
        f"identifiers, pass the column of labels instead.",
        SingleTextClassesWarning,
    )


def class_codes(
    classes: np.ndarray, name: str, labels: Any, n_texts: int | None = None
) -> np.ndarray:
    """Return the class index per label.

    With `n_texts`, a single label is repeated for all texts. `name` is the name of
    the labels in error messages.
    """
    if isinstance(labels, np.ndarray) and labels.ndim == 0:
        labels = labels.item()
    values = as_label_list(name, labels)
    if values is None:
        if n_texts is None:
            raise ValueError(f"{name} must be a list of labels, got {labels!r}.")
        values = [labels] * n_texts
    if n_texts is not None and len(values) != n_texts:
        raise ValueError(
            f"{name} must be one label, or one per text ({n_texts}), got {len(values)}."
        )
    known = {label: code for code, label in enumerate(classes.tolist())}
    codes = [_code(value, known) for value in values]
    if None in codes:
        raise ValueError(
            f"{name} must contain labels from classes_, got "
            f"{shown(values[codes.index(None)])}; the classes are "
            f"{classes.tolist()[:10]}."
        )
    return np.array(codes, dtype=np.int64)


def _code(label: Any, known: dict[Any, int]) -> int | None:
    try:
        return known.get(plain_label(label))
    except TypeError:  # not hashable
        return None


def one_code_each(
    classes: np.ndarray, name: str, labels: Any, n_texts: int
) -> np.ndarray:
    """Return the class index per text. A single label for all texts is refused."""
    values = as_label_list(name, labels)
    if values is None or len(values) != n_texts:
        received = "a single value" if values is None else len(values)
        raise ValueError(
            f"{name} must be one label per text ({n_texts}), got {received}."
        )
    return class_codes(classes, name, values)
