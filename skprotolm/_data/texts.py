"""Validation of X: any container of texts or pairs of texts becomes a plain list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
from scipy.sparse import issparse

from skprotolm._data import remedies as _remedies

Texts = list[str] | list[tuple[str, str]]

_NAMED = 5  # rows that a message names


class Columns(NamedTuple):
    """What a row of X is."""

    number: int  # 1, or 2 for pairs of texts
    names: tuple[str, str] | None  # of a frame's two columns

    @classmethod
    def of(cls, X: Any, texts: Texts) -> Columns:
        """Describe X, of which `as_texts` made these texts."""
        paired = isinstance(texts[0], tuple)
        return cls(1 + paired, _pair_names(X) if paired else None)


def as_texts(X: Any, *, columns: Columns | None = None, name: str = "X") -> Texts:
    """Return the texts, or pairs of texts, that X holds, one a row.

    Parameters
    ----------
    X : container of str
        A list, tuple, NumPy array or pandas/polars/pyarrow column of str, a frame
        or array of one such column, or pairs: a frame or array of two columns, or a
        list of 2-tuples.
    columns : Columns, default=None
        What a fitted estimator was trained on; anything else is refused. Names are
        compared where both have them.
    name : str, default="X"
        What the caller's user calls it.

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
    read = _as_pair if isinstance(rows[0], tuple) else _as_text
    texts: Any = [read(row) for row in rows]
    if None in texts:
        _refuse_rows(X, name, rows, [i for i, text in enumerate(texts) if text is None])
    if columns is not None:
        _compare(Columns.of(X, texts), columns, name)
    return texts


def _compare(given: Columns, fitted: Columns, name: str) -> None:
    """Refuse rows that are not what the estimator was fitted on."""
    if given.number != fitted.number:
        kinds = {1: "single texts", 2: "pairs of texts"}
        remedy = f"{name} must be a list of 2-tuples, or have two columns"
        if fitted.number == 1:
            remedy = f"pass the column of texts alone, for example {name}['text']"
        raise ValueError(
            f"{name} holds {kinds[given.number]}, but the estimator was fitted on "
            f"{kinds[fitted.number]} ({fitted.number} column"
            f"{'s' if fitted.number == 2 else ''}); {remedy}."
        )
    if given.names and fitted.names and given.names != fitted.names:
        right = [*fitted.names]
        raise ValueError(
            f"The feature names should match those that were passed during fit: the "
            f"columns of {name} are {[*given.names]}, and were {right}. Pass "
            f"{name}[{right}], or {name}.to_numpy() if the order is right."
        )


def _pair_names(X: Any) -> tuple[str, str] | None:
    """Return the names of a frame's two columns, if it has two that are str."""
    names = _remedies.column_names(X)
    if len(names) == 2 and all(isinstance(name, str) for name in names):
        return names[0], names[1]
    return None


def _rows(X: Any, name: str) -> list[Any]:
    """Return one object per row, a tuple for two columns."""
    if isinstance(X, (str, bytes, bytearray, memoryview)):
        raise ValueError(
            f"{name} must be a collection of texts, got a single {type(X).__name__}; "
            f"pass [text] to handle one text."
        )
    if isinstance(X, (list, tuple)):
        return list(X)
    if issparse(X) or _remedies.is_tensor(X):
        kind = "sparse matrix" if issparse(X) else "tensor"
        raise TypeError(
            f"{name} must hold texts, got a {kind} of numbers; "
            f"{_remedies.NOT_FEATURES}."
        )
    if hasattr(X, "__array__") or hasattr(X, "__dataframe__"):
        return _array_rows(X, np.asarray(unmasked(X), dtype=object), name)
    if isinstance(X, Sequence):  # lazy columns of data set libraries
        return list(X)
    raise TypeError(
        f"{name} must be a list, tuple, array, column or frame of texts, got "
        f"{type(X).__name__}; {_remedies.for_container(X, name)}."
    )


def _array_rows(X: Any, array: np.ndarray, name: str) -> list[Any]:
    """Return one object per row of X, which NumPy reads as this array."""
    if array.ndim == 0:
        raise ValueError(
            f"{name} must be a collection of texts, got a single value; pass [text] to "
            f"handle one text."
        )
    if array.ndim > 2 or (array.ndim == 2 and array.shape[1] not in (1, 2)):
        numeric = _remedies.is_numeric(array)
        columns = _remedies.text_columns(X, name)
        column = _remedies.longest(columns) if columns else f"{name}[:, 0]"
        remedy = f"choose them, for example {column}"
        raise ValueError(
            f"{name} must hold one text per row, or a pair of texts in two columns, "
            f"got an array of {'numbers of ' if numeric else ''}shape {array.shape}; "
            f"{_remedies.NOT_FEATURES if numeric else remedy}."
        )
    if array.ndim == 2 and array.shape[1] == 2:
        return [tuple(row) for row in array]
    return list(array.ravel())


def _as_text(value: Any) -> str | None:
    """Return a plain str, or None for what is no text."""
    if not isinstance(value, str) or not is_encodable(value):
        return None
    return str.__str__(value)  # of a subclass, what it holds, not what it prints


def _as_pair(row: Any) -> tuple[str, str] | None:
    """Return a pair of plain str, or None for what is no pair of texts."""
    if not isinstance(row, tuple) or len(row) != 2:
        return None
    first, second = map(_as_text, row)
    return None if first is None or second is None else (first, second)


class _Bad(NamedTuple):
    """What is wrong in a row: all of it, or one text of a pair."""

    row: int
    column: int | None
    value: Any

    @classmethod
    def of(cls, number: int, row: Any, paired: bool) -> _Bad:
        """Find what is wrong in a row."""
        if not paired or not isinstance(row, tuple) or len(row) != 2:
            return cls(number, None, row)
        column = int(_as_text(row[0]) is not None)
        return cls(number, column, row[column])

    @property
    def fault(self) -> str:
        """The kind of error: rows of one kind are named together."""
        if is_missing(self.value):
            return "missing"
        if isinstance(self.value, str):
            return "pairing" if is_encodable(self.value) else "encoding"
        return "pairing" if isinstance(self.value, tuple) else "type"


def _refuse_rows(X: Any, name: str, rows: list[Any], numbers: list[int]) -> NoReturn:
    """Raise an error about the first bad row, which names the others like it."""
    paired = isinstance(rows[0], tuple)
    bad = [_Bad.of(number, rows[number], paired) for number in numbers]
    alike = [one for one in bad if one.fault == bad[0].fault]
    row, column, value = alike[0]
    error, describe = {
        "missing": (ValueError, _about_missing),
        "encoding": (ValueError, _about_encoding),
        "pairing": (ValueError, _about_pairing),
        "type": (TypeError, _about_type),
    }[alike[0].fault]
    place = f"Row {row} of {name}" + ("" if column is None else f", column {column},")
    reason, remedy = describe(X, name, rows, alike)
    raise error(
        f"{place} is {value if is_missing(value) else shown(value)}{reason}"
        f"{rows_like([one.row for one in alike])}; {remedy}."
    )


def rows_like(numbers: list[int]) -> str:
    """Name the rows that have the same fault as the first of them."""
    if len(numbers) == 1:
        return ""
    named = ", ".join(map(str, numbers[:_NAMED]))
    more = ", …" if len(numbers) > _NAMED else ""
    return f", the first of {len(numbers)} such rows ({named}{more})"


# Each returns what is wrong with the bad rows, and what to do about them.


def _about_missing(
    X: Any, name: str, rows: list[Any], bad: list[_Bad]
) -> tuple[str, str]:
    return "", _remedies.for_missing(X, name, len(bad))


def _about_encoding(
    X: Any, name: str, rows: list[Any], bad: list[_Bad]
) -> tuple[str, str]:
    remedy = "replace it, for example with text.encode('utf-8', 'replace').decode()"
    return ", which holds half of a surrogate pair", remedy


def _about_pairing(
    X: Any, name: str, rows: list[Any], bad: list[_Bad]
) -> tuple[str, str]:
    row, column, value = bad[0]
    if column is not None:
        return ", not a str", "a pair is a tuple of two str"
    if not isinstance(rows[0], tuple):
        return (
            f", a tuple of {len(value)}, but row 0 is a text",
            "rows are texts throughout, or 2-tuples of texts throughout",
        )
    if row > 0:
        return "", "row 0 is a pair of texts, and pairs are 2-tuples throughout"
    source = name if len(bad) == len(rows) else None
    remedy = _remedies.for_rows([one.value for one in bad], source)
    return f": pairs of texts are 2-tuples, got a tuple of {len(value)}", remedy


def _about_type(X: Any, name: str, rows: list[Any], bad: list[_Bad]) -> tuple[str, str]:
    values, column = [one.value for one in bad], bad[0].column
    source = None
    if column is None and len(bad) == len(rows):
        two_d = getattr(X, "ndim", 1) == 2 or _remedies.column_names(X)
        source = _remedies.column(X, name, 0) if two_d else name
    remedy = _remedies.for_rows(values, source)
    if column is not None and all(
        _as_text(row[1 - column]) is not None for row in rows
    ):
        texts = _remedies.column(X, name, 1 - column)
        remedy = (
            f"two columns are read as pairs of texts; pass the column of texts alone, "
            f"{texts}, if pairs were not meant"
        )
    elif column is not None and all(map(_remedies.is_numeric, rows)):
        remedy = _remedies.NOT_FEATURES
    return ", not a str", remedy


def is_encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def unmasked(values: Any) -> Any:
    """Put None where a masked array hides a value, which NumPy would hand out."""
    if not isinstance(values, np.ma.MaskedArray):
        return values
    plain = np.array(values.data, dtype=object)
    plain[np.ma.getmaskarray(values)] = None
    return plain


def is_missing(value: Any) -> bool:
    """None, NaN, NaT and pandas.NA, without importing pandas."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def shown(value: Any) -> str:
    """Return a value and its type on one line, cut where it is long."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # an int of thousands of digits
        text = "a value"
    return f"{text[:60]}{'…' if len(text) > 60 else ''} ({type(value).__name__})"
