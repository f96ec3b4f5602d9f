"""The one door for X: any container of texts, or of sentence pairs, to plain lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Texts = list[str] | list[tuple[str, str]]


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
    paired = isinstance(rows[0], tuple)
    texts = [
        _checked(row, f"Row {number} of {name}", paired)
        for number, row in enumerate(rows)
    ]
    if columns is not None:
        _compare(Columns.of(X, texts), columns, name)
    return texts


def _compare(given: Columns, fitted: Columns, name: str) -> None:
    """Refuse rows that are not what the estimator was fitted on."""
    if given.number != fitted.number:
        kinds = {1: "single texts", 2: "pairs of texts"}
        raise ValueError(
            f"{name} holds {kinds[given.number]}, but the estimator was fitted on "
            f"{kinds[fitted.number]} ({fitted.number} column"
            f"{'s' if fitted.number == 2 else ''})."
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
    names = getattr(X, "column_names", None)  # of pyarrow
    if not isinstance(names, list):  # a column of pandas may be called so
        names = list(getattr(X, "columns", ()))
    if len(names) == 2 and all(isinstance(name, str) for name in names):
        return names[0], names[1]
    return None


def _rows(X: Any, name: str) -> list[Any]:
    """Take the container apart: one object a row, a tuple for two columns."""
    if isinstance(X, (str, bytes)):
        raise ValueError(
            f"{name} must be a collection of texts, got a single {type(X).__name__}; "
            f"pass [text] to handle one text."
        )
    if isinstance(X, (list, tuple)):
        return list(X)
    if hasattr(X, "toarray") and hasattr(X, "nnz"):
        raise TypeError(f"{name} must hold texts, got a sparse matrix of numbers.")
    if hasattr(X, "__array__") or hasattr(X, "__dataframe__"):
        return _array_rows(np.asarray(unmasked(X), dtype=object), name)
    if isinstance(X, Sequence):  # lazy columns of data set libraries
        return list(X)
    raise TypeError(
        f"{name} must be a list, tuple, array, column or frame of texts, got "
        f"{type(X).__name__}; {_remedy(X)}."
    )


def _remedy(X: Any) -> str:
    if isinstance(X, Mapping):
        return "pass one of its columns"
    if hasattr(X, "__iter__"):
        return "use list(X) for other collections"
    return "pass [text] to handle one text"


def _array_rows(array: np.ndarray, name: str) -> list[Any]:
    if array.ndim == 0:
        raise ValueError(
            f"{name} must be a collection of texts, got a single value; pass [text] to "
            "handle one text. Reshape your data."
        )
    if array.ndim > 2 or (array.ndim == 2 and array.shape[1] not in (1, 2)):
        raise ValueError(
            f"{name} must hold one text a row, or a pair of texts in two columns, got "
            f"an array of shape {array.shape}. Expected one or two columns: choose "
            f"them, for example X['text']. Reshape your data."
        )
    if array.ndim == 2 and array.shape[1] == 2:
        return [tuple(row) for row in array]
    return list(array.ravel())


def _checked(row: Any, place: str, paired: bool) -> Any:
    if not paired:
        return _checked_text(row, place)
    if not isinstance(row, tuple) or len(row) != 2:
        raise ValueError(
            f"{place} is {_shown(row)}; the first row is a pair of texts, "
            f"and pairs are 2-tuples throughout."
        )
    first, second = (_checked_text(text, place, paired) for text in row)
    return first, second


def _checked_text(value: Any, place: str, paired: bool = False) -> str:
    if isinstance(value, str):
        if not is_encodable(value):
            raise ValueError(
                f"{place} holds half of a surrogate pair, which is no text; "
                f"mend it, for example with text.encode('utf-8', 'replace').decode()."
            )
        return str.__str__(value)  # of a subclass, what it holds, not what it prints
    if isinstance(value, bytes):
        raise TypeError(
            f"{place} is bytes, not str; decode it, for example with "
            f"value.decode('utf-8')."
        )
    if is_missing(value):
        raise ValueError(f'{place} is {value}; drop it or replace it with "".')
    if isinstance(value, tuple):
        raise ValueError(
            f"{place} is a tuple of {len(value)}, but row 0 is a text; rows "
            f"are texts throughout, or 2-tuples of texts throughout."
        )
    remedy = "convert it with str(value) if that is meant"
    if paired:
        remedy = (
            "two columns are read as pairs of texts; pass the column of texts alone, "
            "for example X['text'], if pairs were not meant"
        )
    if isinstance(value, (list, np.ndarray)):
        remedy = "pairs of texts are tuples: [tuple(row) for row in X]"
    raise TypeError(
        f"{place} is {_shown(value)}, not a str. The argument must be a "
        f"string; {remedy}."
    )


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


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{text[:60]}{'…' if len(text) > 60 else ''} ({type(value).__name__})"
