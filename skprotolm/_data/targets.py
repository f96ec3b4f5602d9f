"""Validation of y and of weights: labels to class indices, weights to mean 1."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, NamedTuple, NoReturn

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_sample_weight

from skprotolm._data import remedies as _remedies
from skprotolm._data.texts import (
    as_texts,
    is_encodable,
    is_missing,
    rows_like,
    shown,
    unmasked,
)

# Weights this many times smaller than the largest vanish in fp32, and count as 0.
_NEGLIGIBLE = 1e-30

_ONE_VS_REST = (
    "For several labels per text, wrap the classifier in "
    "sklearn.multiclass.OneVsRestClassifier"
)
_BINARIZED = "sklearn.preprocessing.MultiLabelBinarizer().fit_transform(y)"


class Targets(NamedTuple):
    """What training reads of y and its weights; rows of weight 0 are left out."""

    classes: np.ndarray  # (C,), sorted labels
    codes: np.ndarray  # (n,) int64, each row's index into classes
    weights: np.ndarray  # (n,) float64, of mean 1
    rows: np.ndarray  # (n,) int64, the rows of X that take part


def encode_targets(
    y: Any, n_texts: int, sample_weight: Any, class_weight: Any, name: str
) -> Targets:
    """Check y and the weights against X and encode them.

    Parameters
    ----------
    y : array-like of shape (n_texts,)
    n_texts : int
        The number of rows of X.
    sample_weight : array-like of shape (n_texts,), float or None
    class_weight : dict, "balanced" or None
    name : str
        The estimator's name, for messages.
    """
    labels = _checked_labels(y, n_texts, name)
    weights = _checked_weights(sample_weight, n_texts)
    rows = np.flatnonzero(weights > 0)
    if rows.size == 0:
        raise ValueError(
            "All values of sample_weight are zero: nothing can be learned."
        )
    labels, weights = labels[rows], weights[rows]
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        found = repr(classes.tolist()[0])[:60]
        raise ValueError(
            f"y must hold at least two classes, got only one class ({found}) among the "
            f"texts of positive weight. Classifier can't train when only one class is "
            f"present."
        )
    _check_class_weight(class_weight)
    weights = weights * _scaled(compute_sample_weight(class_weight, labels))
    if not weights.any():
        raise ValueError("class_weight gives every text the weight 0.")
    weights = _scaled(weights)
    kept = np.flatnonzero(weights)
    if kept.size < rows.size:  # a class of weight 0 is a class that is not there
        everywhere = np.zeros(n_texts)
        everywhere[rows[kept]] = weights[kept]
        return encode_targets(y, n_texts, everywhere, None, name)
    return Targets(classes, codes.astype(np.int64), weights / weights.mean(), rows)


def refuse_swapped(X: Any, y: Any) -> None:
    """Notice fit(y, X): labels where the texts belong, and a text per row of y.

    Nothing that can be fitted is refused: every class needs a text of its own, and
    here X holds no texts, or fewer than there are classes.
    """
    if not isinstance(X, (list, tuple)) and not hasattr(X, "__array__"):
        return
    try:
        labels = _as_list("X", X) or []
        distinct = set(labels)
        numeric = all(isinstance(label, (Real, np.bool_)) for label in labels)
        named = all(isinstance(label, str) for label in labels)
        if not numeric and not (named and len(distinct) <= len(labels) / 2):
            return
        texts = as_texts(y, name="y")
    except (TypeError, ValueError):
        return
    n_phrases = sum(
        " " in (text if isinstance(text, str) else text[0]) for text in texts
    )
    if len(texts) != len(labels) or n_phrases < len(texts) / 2:
        return
    if len(set(texts)) >= 0.9 * len(texts):
        raise ValueError(
            f"X and y seem to be swapped: y holds texts, like {shown(texts[0])}, and X "
            f"{len(distinct)} distinct values, like {shown(labels[0])}. Pass the texts "
            f"as X and the labels as y."
        )


def class_codes(
    classes: np.ndarray, name: str, labels: Any, n_texts: int | None = None
) -> np.ndarray:
    """Return the class index of each label, or of one label for all texts.

    Parameters
    ----------
    classes : ndarray of shape (C,)
        The labels that there are.
    name : str
        What the labels are called, for messages.
    labels : label, or array-like of shape (n,)
    n_texts : int, default=None
        How many there must be; a single label then serves all texts.
    """
    if isinstance(labels, np.ndarray) and labels.ndim == 0:
        labels = labels.item()
    given = _as_list(name, labels)
    if given is None and n_texts is None:
        raise ValueError(f"{name} must be a list of labels, got {labels!r}.")
    if given is None:
        given = [labels] * (n_texts or 0)
    if n_texts is not None and len(given) != n_texts:
        raise ValueError(
            f"{name} must be one label, or one per text ({n_texts}), got {len(given)}."
        )
    known = {label: code for code, label in enumerate(classes.tolist())}
    codes = [_code(label, known) for label in given]
    if None in codes:
        raise ValueError(
            f"{name} must hold labels of classes_, got "
            f"{shown(given[codes.index(None)])}; the classes are "
            f"{classes.tolist()[:10]}."
        )
    return np.array(codes, dtype=np.int64)


def one_code_each(
    classes: np.ndarray, name: str, labels: Any, n_texts: int
) -> np.ndarray:
    """Return the class index of each label, one per text; a single label is refused."""
    given = _as_list(name, labels)
    if given is None or len(given) != n_texts:
        found = "a single value" if given is None else len(given)
        raise ValueError(f"{name} must be one label per text ({n_texts}), got {found}.")
    return class_codes(classes, name, given)


def _as_list(name: str, labels: Any) -> list[Any] | None:
    """Return a column of labels as a list, or None for a single label."""
    is_column = hasattr(labels, "__iter__") or hasattr(labels, "__array__")
    if isinstance(labels, (str, bytes, np.generic)) or not is_column:
        return None
    if isinstance(labels, (list, tuple)):
        alone = all(isinstance(row, (list, tuple)) and len(row) == 1 for row in labels)
        return [row[0] for row in labels] if alone else [*labels]
    column = np.asarray(unmasked(labels), dtype=object)
    if column.ndim == 2 and column.shape[1] == 1:  # a frame of one column
        column = column[:, 0]
    if column.ndim != 1:  # sets and dicts, too
        remedy = f"pass one column, for example {_remedies.column(labels, name, 0)}"
        if column.ndim == 0:
            remedy = _remedies.for_container(labels, name, of="label")
        raise ValueError(
            f"{name} must be one column of labels, got {type(labels).__name__}; "
            f"{remedy}."
        )
    return column.tolist()


def _code(label: Any, known: dict[Any, int]) -> int | None:
    try:
        return known.get(_plain(label))
    except TypeError:  # a list or a dict, which is no label
        return None


def _checked_labels(y: Any, n_texts: int, name: str) -> np.ndarray:
    """Return y as one column of labels that can be told apart."""
    if y is None:
        raise ValueError(f"{name} requires y to be passed, but the target y is None.")
    labels = _as_column(y)
    if len(labels) != n_texts:
        raise ValueError(
            f"X and y must have one entry per text each. Found input variables with "
            f"inconsistent numbers of samples: [{n_texts}, {len(labels)}]"
        )
    if labels.dtype.kind == "f":
        _check_floats(labels, y)
    elif labels.dtype.kind not in "biuUO":
        raise TypeError(
            f"y must hold labels of type str, int or bool, got {labels.dtype.name}; "
            f"convert them, for example with {_as_strings(y)}."
        )
    return labels


def _as_column(y: Any) -> np.ndarray:
    labels = _as_array(y)
    if labels.ndim > 1 and labels.shape[1:] != (1,):
        raise ValueError(
            f"Unknown label type: multilabel or multioutput. y must hold one label per "
            f"text, got a matrix of shape {labels.shape}. {_for_matrix(y, labels)}."
        )
    if labels.dtype.kind == "c":
        raise ValueError(
            "Unknown label type: complex. y must hold labels, got complex numbers."
        )
    labels = column_or_1d(labels, warn=True)
    if labels.dtype.kind == "U":
        _check_objects(labels.tolist(), y)
    if labels.dtype.kind not in "OT":
        return labels
    kind = _check_objects(labels, y)
    dtype = object if kind == "str" else None
    return np.array(_plain_labels(labels, kind), dtype=dtype)


def _as_array(y: Any) -> Any:
    """Return y as an array of any shape, or as the sparse matrix that it is."""
    if isinstance(y, (list, tuple)):
        # As objects first: NumPy would write the 1 of [1, "a"] as "1".
        kind = _check_objects(y, y)
        # Of numbers as they are: NumPy makes floats of integers beyond 63 bits.
        return np.asarray(_plain_labels(y, kind) if kind else y)
    if hasattr(y, "toarray"):
        return y
    is_column = hasattr(y, "__array__") or hasattr(y, "__array_interface__")
    labels = np.asarray(unmasked(y))
    if labels.ndim == 0 or (not is_column and _remedies.column_names(y)):
        raise ValueError(
            f"y must be an array-like of labels, got {type(y).__name__}; "
            f"{_remedies.for_container(y, 'y', of='label')}."
        )
    return labels


def _for_matrix(y: Any, labels: Any) -> str:
    """Return what to do about a matrix of labels."""
    if hasattr(labels, "toarray"):
        return _ONE_VS_REST
    numeric = labels.dtype.kind in "biuf"
    if numeric and np.isin(labels, (0, 1)).all():
        if (labels.sum(axis=1) == 1).all():
            code = (
                "y.idxmax(axis=1)" if hasattr(y, "idxmax") else "np.argmax(y, axis=1)"
            )
            return f"If each row marks one class, use {code}. {_ONE_VS_REST}"
        return _ONE_VS_REST
    if isinstance(y, (list, tuple)):
        return f"{_ONE_VS_REST} and pass {_BINARIZED}"
    return f"Pass one column, for example {_remedies.column(y, 'y', -1)}"


def _check_objects(labels: Any, y: Any) -> str | None:
    """Refuse what is no label, and several kinds of label at once; return the kind."""
    missing = [row for row, label in enumerate(labels) if is_missing(label)]
    if missing:
        _refuse_missing(y, missing, labels[missing[0]])
    kinds, wrapped = set(), []
    for row, label in enumerate(labels):
        if isinstance(label, bytes):
            raise TypeError(
                f"Row {row} of y is {shown(label)}, not a str; decode the labels, "
                f"for example with [label.decode('utf-8') for label in y]."
            )
        if isinstance(label, (list, tuple, np.ndarray, set, frozenset)):
            wrapped.append(row)
        else:
            kinds.add(_kind(label, row))
    if wrapped:
        _check_wrapped(labels, wrapped, mixed=bool(kinds))
    if len(kinds) > 1:
        raise TypeError(
            "y mixes labels of several types, str and numbers; use one type, for "
            "example [str(label) for label in y]."
        )
    if kinds == {"number"}:
        _check_floats(np.array([_as_float(label) for label in labels]), y)
    return kinds.pop() if kinds else None


def _check_wrapped(labels: Any, wrapped: list[int], *, mixed: bool) -> None:
    """Refuse rows that are collections of labels, unless they are rows of a column."""
    sizes = {
        row: np.size(labels[row])
        if isinstance(labels[row], np.ndarray)
        else len(labels[row])
        for row in wrapped
    }
    several = [row for row, size in sizes.items() if size != 1]
    sets = [row for row in wrapped if isinstance(labels[row], (set, frozenset))]
    if sets or (several and (mixed or len(set(sizes.values())) > 1)):
        row = (several or sets)[0]
        raise ValueError(
            f"Unknown label type: row {row} of y is {shown(labels[row])}; y must hold "
            f"one label per text. {_ONE_VS_REST} and pass {_BINARIZED}."
        )
    if mixed:
        kind = type(labels[wrapped[0]]).__name__
        raise ValueError(
            f"Row {wrapped[0]} of y is a {kind}, and other rows are labels; y must "
            f"hold one label per text."
        )


def _refuse_missing(y: Any, rows: list[int], label: Any) -> NoReturn:
    """Raise an error about labels that are missing."""
    masks = ("notna", "is_not_null", "is_valid")  # of pandas, Polars and PyArrow
    method = next((method for method in masks if hasattr(y, method)), None)
    mask = f"y.{method}()" if method else "pandas.notna(y)"
    if isinstance(y, np.ma.MaskedArray):
        mask = "~y.mask"
    them = "that row" if len(rows) == 1 else "these rows"
    raise ValueError(
        f"Input y contains NaN: row {rows[0]} is {label}{rows_like(rows)}; drop {them} "
        f"of X and y, for example with the mask {mask}."
    )


def _kind(label: Any, row: int) -> str:
    """Return what one label is; only kinds that sort as labels do are let in."""
    if isinstance(label, str):
        if not is_encodable(label) or label.endswith("\0"):
            raise ValueError(
                f"Row {row} of y is {label!r}, which holds half of a surrogate pair or "
                f"ends with NUL; neither can be stored as a label."
            )
        return "str"
    if isinstance(label, Mapping):
        key = "label" if "label" in label or not label else [*label][-1]
        example = f", for example [row[{key!r}] for row in y]" if label else ""
        raise ValueError(
            f"Unknown label type: row {row} of y is {shown(label)}; pass one label per "
            f"text{example}."
        )
    if not isinstance(label, (Real, np.bool_)):
        raise ValueError(
            f"Unknown label type: row {row} of y is {shown(label)}; y must hold labels "
            f"of type str, int or bool, for example [str(label) for label in y]."
        )
    if isinstance(label, (Integral, np.bool_)) and not -(2**63) <= int(label) < 2**63:
        raise ValueError(
            f"Row {row} of y is {shown(label)}, which needs more than 64 bits; use str."
        )
    return "number"


def _as_float(label: Any) -> float:
    try:
        return float(label)
    except OverflowError:
        return math.inf


def _plain_labels(labels: Any, kind: str | None) -> list[Any]:
    """Return labels as Python's own: bools if all are, else ints, else floats."""
    plain = [_plain(label) for label in labels]
    if kind != "number" or all(isinstance(label, bool) for label in plain):
        return plain
    if all(isinstance(label, int) for label in plain):
        return [int(label) for label in plain]
    return [float(label) for label in plain]


def _plain(label: Any) -> Any:
    """Turn a label of any library, or of an enumeration, into what it holds."""
    if isinstance(label, str):
        return str.__str__(label)
    if isinstance(label, (bool, np.bool_)):
        return bool(label)
    return int(label) if isinstance(label, Integral) else label


def _check_floats(labels: np.ndarray, y: Any) -> None:
    """Refuse numbers that are missing, infinite or not whole."""
    missing = np.flatnonzero(np.isnan(labels)).tolist()
    if missing:
        _refuse_missing(y, missing, labels[missing[0]])
    infinite = np.flatnonzero(np.isinf(labels)).tolist()
    if infinite:
        raise ValueError(
            f"Input y contains infinity: row {infinite[0]} is {labels[infinite[0]]}"
            f"{rows_like(infinite)}; drop those rows of X and y."
        )
    fractions = np.flatnonzero(labels != np.floor(labels)).tolist()
    if fractions:
        raise ValueError(
            f"Unknown label type: continuous. y must hold labels, got "
            f"{labels[fractions[0]]} in row {fractions[0]}. Group measurements into "
            f"classes, for example with pandas.cut(y, bins=3, labels=['low', 'medium', "
            f"'high']), or use {_as_strings(y)} if the numbers are labels."
        )


def _as_strings(y: Any) -> str:
    return "y.astype(str)" if hasattr(y, "astype") else "[str(label) for label in y]"


def _checked_weights(sample_weight: Any, n_texts: int) -> np.ndarray:
    if sample_weight is None:
        return np.ones(n_texts)
    weights = _as_numbers(sample_weight)
    if weights.ndim == 0:
        weights = np.full(n_texts, float(weights))
    if weights.ndim != 1:
        raise ValueError(
            f"sample_weight must be 1D array or scalar, got {weights.ndim}D array. "
            f"Expected one number per text."
        )
    if len(weights) != n_texts:
        raise ValueError(
            f"sample_weight.shape == {weights.shape}, expected {(n_texts,)}!"
        )
    bad = np.flatnonzero(~np.isfinite(weights) | (weights < 0))
    if bad.size:
        raise ValueError(
            f"sample_weight must hold finite numbers of at least 0, got "
            f"{weights[bad[0]]} in row {bad[0]}."
        )
    return _scaled(weights)


def _scaled(weights: np.ndarray) -> np.ndarray:
    """Divide by the maximum; only ratios count, and sums do not overflow then."""
    scaled = weights / (weights.max() or 1.0)
    return np.where(scaled < _NEGLIGIBLE, 0.0, scaled)


def _as_numbers(sample_weight: Any) -> np.ndarray:
    if hasattr(sample_weight, "toarray"):
        raise TypeError(
            "sample_weight must be an array-like of numbers, got a sparse matrix; "
            "convert it with sample_weight.toarray().ravel()."
        )
    try:
        given = np.asarray(unmasked(sample_weight))
        if given.dtype.kind in "biufO":
            return given.astype(np.float64)
        reason = f"its type is {given.dtype.name}"
    except (TypeError, ValueError, OverflowError) as error:
        reason = str(error)
    raise ValueError(
        f"sample_weight must be one number per text, or a single one; it cannot be "
        f"read as numbers: {reason}."
    )


def _check_class_weight(class_weight: Any) -> None:
    if not isinstance(class_weight, dict):
        return
    for label, weight in class_weight.items():
        is_number = isinstance(weight, Real) and math.isfinite(_as_float(weight))
        if not is_number or weight < 0:
            raise ValueError(
                f"class_weight must hold finite numbers of at least 0, got {weight!r} "
                f"for {label!r}."
            )
