"""Validation of X: convert any container of texts or pairs of texts to a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
from scipy.sparse import issparse

from skprotolm._data.hints import (
    NOT_FEATURES,
    column,
    column_names,
    container_hint,
    missing_hint,
    row_hint,
)

Text = str | tuple[str, str]
Texts = Sequence[Text]

_N_NAMED = 5  # rows that an error message lists


class Columns(NamedTuple):
    """The columns of X."""

    number: int  # 1, or 2 for pairs of texts
    names: tuple[str, str] | None  # of a frame with two columns

    @classmethod
    def of(cls, X: Any, texts: Texts) -> Columns:
        """Describe X, which `as_texts` converted to these texts."""
        if not isinstance(texts[0], tuple):
            return cls(1, None)
        names = column_names(X)
        if len(names) == 2 and all(isinstance(name, str) for name in names):
            return cls(2, (names[0], names[1]))
        return cls(2, None)


def as_texts(X: Any, *, columns: Columns | None = None, name: str = "X") -> Texts:
    """Convert X to a list of texts, or of pairs of texts.

    Parameters
    ----------
    X : container of str
        A list, tuple, NumPy array or pandas/polars/pyarrow column of str, or a frame
        or array with one such column. For pairs, a frame or array with two columns,
        or a list of 2-tuples.
    columns : Columns, default=None
        The columns that the estimator was fitted on. Other columns are refused. Names
        are compared if both have them.
    name : str, default="X"
        The name of X in error messages.

    Returns
    -------
    list of str, or list of (str, str)
    """
    rows = _rows(X, name)
    if not rows:
        raise ValueError(
            f"{name} holds no text: found array with 0 sample(s) while a minimum of 1 "
            f"is required."
        )
    convert = _as_pair if isinstance(rows[0], tuple) else _as_text
    texts: Any = [convert(row) for row in rows]
    if None in texts:
        _refuse_rows(X, name, rows, [i for i, text in enumerate(texts) if text is None])
    if columns is not None:
        _check_columns(Columns.of(X, texts), columns, name)
    return texts


def _rows(X: Any, name: str) -> list[Any]:
    """Return one object per row, a tuple if there are two columns."""
    if isinstance(X, (list, tuple)):
        return list(X)
    if issparse(X) or type(X).__module__ == "torch":
        raise TypeError(
            f"{name} must hold texts, got a {type(X).__name__} of numbers; "
            f"{NOT_FEATURES}."
        )
    is_single = isinstance(X, (str, bytes, bytearray, memoryview))
    if is_single or getattr(X, "ndim", 1) == 0:
        raise ValueError(
            f"{name} must be a collection of texts, got a single {type(X).__name__}; "
            f"pass [text] for a single text."
        )
    if hasattr(X, "__array__") or hasattr(X, "__dataframe__"):
        return _array_rows(X, np.asarray(unmasked(X), dtype=object), name)
    if isinstance(X, Sequence):  # lazy columns of dataset libraries
        return list(X)
    raise TypeError(
        f"{name} must be a list, tuple, array, column or frame of texts, got "
        f"{type(X).__name__}; {container_hint(X, name)}."
    )


def _array_rows(X: Any, array: np.ndarray, name: str) -> list[Any]:
    """Return one object per row of X, which NumPy converts to this array."""
    if array.ndim == 2 and array.shape[1] == 2:
        return [tuple(row) for row in array]
    if array.ndim == 1 or array.shape[1:] == (1,):
        return list(array.ravel())
    names = f" from {column_names(X)[:5]}" if column_names(X) else ""
    raise ValueError(
        f"{name} must hold one text per row, or a pair of texts in two columns, got an "
        f"array of shape {array.shape}; {NOT_FEATURES}, and choose one column, or two "
        f"for pairs{names}."
    )


def _as_text(value: Any) -> str | None:
    """Return a plain str, or None if the value is not a text."""
    if not isinstance(value, str) or not is_encodable(value):
        return None
    return str.__str__(value)  # the value of a string enumeration, not its name


def _as_pair(row: Any) -> tuple[str, str] | None:
    """Return a pair of plain str, or None if the row is not a pair of texts."""
    if not isinstance(row, tuple) or len(row) != 2:
        return None
    first, second = map(_as_text, row)
    return None if first is None or second is None else (first, second)


def _check_columns(columns: Columns, fitted: Columns, name: str) -> None:
    """Refuse columns other than those that the estimator was fitted on."""
    if columns.number != fitted.number:
        kinds = {1: "single texts", 2: "pairs of texts"}
        hint = "pass a list of 2-tuples, or two columns"
        if fitted.number == 1:
            hint = f"pass the column of texts alone, for example {name}['text']"
        raise ValueError(
            f"{name} holds {kinds[columns.number]}, but the estimator was fitted on "
            f"{kinds[fitted.number]}; {hint}."
        )
    if columns.names and fitted.names and columns.names != fitted.names:
        expected = [*fitted.names]
        raise ValueError(
            f"The feature names should match those that were passed during fit: the "
            f"columns of {name} are {[*columns.names]}, expected {expected}. Pass "
            f"{name}[{expected}], or {name}.to_numpy() if the order is right."
        )


# A row that is not a text or a pair of texts: its number, the column of the invalid
# text in a pair, the row or the invalid text, and a key of _REASONS.
_Fault = tuple[int, int | None, Any, str]


_REASONS = {
    "missing": "",
    "encoding": ", which contains an unpaired surrogate",
    "length": ", but rows must be all texts or all 2-tuples of texts",
    "type": ", not a str",
}


def _find_fault(number: int, row: Any, paired: bool) -> _Fault:
    column, value = None, row
    if paired and isinstance(row, tuple) and len(row) == 2:
        column = int(_as_text(row[0]) is not None)
        value = row[column]
    kind = "length" if isinstance(value, (str, tuple)) else "type"
    if is_missing(value):
        kind = "missing"
    elif isinstance(value, str) and not is_encodable(value):
        kind = "encoding"
    return number, column, value, kind


def _refuse_rows(X: Any, name: str, rows: list[Any], invalid: list[int]) -> NoReturn:
    """Raise an error for the first invalid row and all rows with the same fault."""
    paired = isinstance(rows[0], tuple)
    faults = [_find_fault(number, rows[number], paired) for number in invalid]
    faults = [fault for fault in faults if fault[-1] == faults[0][-1]]
    row, number, value, kind = faults[0]
    position = f"Row {row} of {name}" + (
        "" if number is None else f", column {number},"
    )
    error = TypeError if kind == "type" else ValueError
    raise error(
        f"{position} is {value if kind == 'missing' else shown(value)}{_REASONS[kind]}"
        f"{first_of([fault[0] for fault in faults])}; "
        f"{_fault_hint(X, name, rows, faults)}."
    )


def _fault_hint(X: Any, name: str, rows: list[Any], faults: list[_Fault]) -> str:
    """Return what to do about rows with the same fault."""
    _, number, _, kind = faults[0]
    if kind == "missing":
        return missing_hint(X, name)
    if kind == "encoding":
        return "replace it, for example with text.encode('utf-8', 'replace').decode()"
    if kind == "type" and number is not None:
        other = column(X, name, 1 - number)
        return (
            f"two columns are pairs of texts, not features; convert column {number} to "
            f"str, or pass one column of texts, for example {other}"
        )
    source = None
    if number is None and len(faults) == len(rows):
        is_2d = getattr(X, "ndim", 1) == 2 or column_names(X)
        source = column(X, name, 0) if is_2d else name
    if kind == "length" and not source:
        return f"row 0 is {shown(rows[0])}"
    return row_hint([value for _, _, value, _ in faults], source)


def first_of(rows: list[int]) -> str:
    """List the rows that have the same fault as the first of them."""
    if len(rows) == 1:
        return ""
    numbers = ", ".join(map(str, rows[:_N_NAMED]))
    more = ", …" if len(rows) > _N_NAMED else ""
    return f", the first of {len(rows)} such rows ({numbers}{more})"


def is_encodable(text: str) -> bool:
    """Return whether a text has no unpaired surrogates."""
    return text.isascii() or text.encode("utf-8", "ignore").decode("utf-8") == text


def unmasked(values: Any) -> Any:
    """Replace the hidden values of a masked array with None."""
    if not isinstance(values, np.ma.MaskedArray):
        return values
    plain = values.data.astype(object)
    plain[np.ma.getmaskarray(values)] = None
    return plain


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, NaT or pandas.NA."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def shown(value: Any) -> str:
    """Return a value and its type on one line, shortened if it is long."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # an int with thousands of digits
        text = "a value"
    return f"{text[:60]}{'…' if len(text) > 60 else ''} ({type(value).__name__})"
