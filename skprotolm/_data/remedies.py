"""The code that makes texts of a wrong input, for messages about that input."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice
from numbers import Number
from os import PathLike
from typing import Any

import numpy as np

_LAZY = ("compute", "toPandas", "collect")  # of Dask, Spark and Polars
_FILL = ("filled", "fillna", "fill_null")  # of NumPy, pandas, Polars and PyArrow
_LISTS = (list, tuple, np.ndarray)
_SEEN = 20  # rows by which a column of texts is told from others

_MEANT = {
    "str(value)": " if that is meant",
    "tuple(row)": ": pairs of texts are tuples",
    "' '.join(row)": " if they are the words of a text",
}

NOT_FEATURES = "pass the texts, not features computed from them"


def for_container(X: Any, name: str, *, of: str = "text") -> str:
    """Return what to pass instead of an object that is no list, array or frame.

    `of` is what it should hold, "text" or "label".
    """
    for method in _LAZY:
        if hasattr(X, method):
            return f"use {name}.{method}()"
    if isinstance(X, PathLike):
        return f"pass its lines, {name}.read_text(encoding='utf-8').splitlines()"
    if isinstance(X, Mapping) and _all_str(X.values()):
        return f"use list({name}.values())"
    if column_names(X) or text_columns(X, name):
        return f"pass one of its columns, {_examples(X, name, of)}"
    if isinstance(X, Iterable) and not isinstance(X, (str, bytes)):
        return f"use list({name}) for other collections"
    return (
        "pass [text] to handle one text" if of == "text" else "pass one label per text"
    )


def _examples(X: Any, name: str, of: str) -> str:
    """Return code for the column that is likely to hold the texts, and for pairs."""
    columns = text_columns(X, name)
    if of != "text" or not columns:
        return f"which are {column_names(X)[:5]}"
    pairs = f", or list(zip({', '.join(columns)})) for pairs"
    return f"for example {longest(columns)}{pairs if len(columns) == 2 else ''}"


def for_missing(X: Any, name: str, n_missing: int) -> str:
    """Return what to do about rows of X that are missing."""
    them = "it" if n_missing == 1 else "them"
    plain = ".astype(object)" if "category" in str(getattr(X, "dtypes", "")) else ""
    fill = next((method for method in _FILL if hasattr(X, method)), None)
    example = f", for example with {name}{plain}.{fill}('')" if fill else ""
    return f'drop {them} or replace {them} with ""{example}'


def for_rows(values: list[Any], source: str | None) -> str:
    """Return what makes texts of rows that are no str.

    Parameters
    ----------
    values : list
        The rows that are no str.
    source : str or None
        Code that gives all rows, if none is a str.
    """
    variable, expression = _conversion(values[0])
    alike = {type(value) for value in values} == {type(values[0])}
    if source and all(map(is_numeric, values)):
        return (
            f"{source} holds numbers: {NOT_FEATURES}, or [str(value) for value in "
            f"{source}] if the numbers are the texts"
        )
    if not expression:
        return "pass one text per row"
    meant = _MEANT.get(expression, "")
    if source and alike:
        return f"use [{expression} for {variable} in {source}]{meant}"
    return f"convert it with {expression}{meant}"


def is_numeric(value: Any) -> bool:
    """Whether a value is a number, or an array or a list of nothing but numbers."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.dtype.kind in "biufc"
    if isinstance(value, _LISTS):
        return len(value) > 0 and all(map(is_numeric, value))
    return isinstance(value, Number) or is_tensor(value)


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor of torch, without importing torch."""
    return type(value).__module__ == "torch" and hasattr(value, "numel")


def text_columns(X: Any, name: str) -> dict[str, str]:
    """Return some text of each column of texts, by the code that gives it."""
    names = column_names(X)
    if isinstance(X, Mapping):
        for key in names:
            if column_names(X[key]):  # of "train" and "test"
                return text_columns(X[key], f"{name}[{key!r}]")
    code = f"{name}[{{!r}}]"
    if not hasattr(X, "__len__"):  # a stream
        code = f"[row[{{!r}}] for row in {name}]"
    elif not names and getattr(X, "ndim", 1) == 2:
        names, code = [*range(X.shape[1])], f"{name}[:, {{}}]"
    columns = _first_values(X, names)
    return {
        code.format(key): " ".join(values)
        for key, values in columns.items()
        if _all_str(values)
    }


def longest(texts: Mapping[Any, str]) -> Any:
    """Return the key of the text with the most words: labels and ids have fewer."""
    return max(texts, key=lambda key: (len(texts[key].split()), len(texts[key])))


def column(X: Any, name: str, number: int) -> str:
    """Return code that takes one column out of X, whose rows are all alike."""
    names = column_names(X)
    if names:
        return f"{name}[{names[number]!r}]"
    if getattr(X, "ndim", 1) == 2:
        return f"{name}[:, {number}]"
    return f"[row[{number}] for row in {name}]"


def column_names(X: Any) -> list[Any]:
    """Return the names of the columns of a frame, a data set or a mapping, if any."""
    if isinstance(X, Mapping):
        return list(X)
    if getattr(X, "ndim", 2) == 1:  # a Series may have a row that is called "columns"
        return list(getattr(getattr(X, "dtype", None), "names", None) or ())
    names: Any = getattr(X, "column_names", None)  # of PyArrow and Hugging Face
    if not isinstance(names, list):  # a column of pandas may be called so
        names = getattr(X, "columns", ())
    return [*names]


def _first_values(X: Any, names: list[Any]) -> dict[Any, list[Any]]:
    """Return some values of each column, if there are columns that can be seen."""
    try:
        if isinstance(X, Mapping):
            columns = {name: X[name] for name in names if not isinstance(X[name], str)}
            return {
                name: list(islice(values, _SEEN)) for name, values in columns.items()
            }
        if hasattr(X, "column_names") and not hasattr(X, "__len__"):  # a stream
            return {name: [value] for name, value in next(iter(X)).items()}
        head = X[:_SEEN] if names else {}
        if isinstance(head, Mapping):
            return {name: [*values] for name, values in head.items()}
        rows = np.asarray(head, dtype=object)
        return {name: [*rows[:, i]] for i, name in enumerate(names)}
    except Exception:  # no failure here may hide what the message is about
        return {}


def _conversion(value: Any) -> tuple[str, str]:
    """Return a name for a row, and the expression that makes a text of it, if any."""
    for matches, variable, expression in _CONVERSIONS:
        if matches(value):
            return variable, expression(value)
    is_scalar = not hasattr(value, "__len__") and not hasattr(value, "__array__")
    return "value", "str(value)" if is_scalar else ""


def _texts_of(row: Any) -> dict[Any, str]:
    """Return what a row holds that is a str, by position or by key."""
    if isinstance(row, Mapping):
        items: Iterable[tuple[Any, Any]] = row.items()
    elif isinstance(row, _LISTS) and np.ndim(row) == 1:
        items = enumerate(row)
    else:
        items = ()
    return {key: value for key, value in items if isinstance(value, str)}


def _all_str(values: Collection[Any]) -> bool:
    return len(values) > 0 and all(isinstance(value, str) for value in values)


def _of_mapping(row: Any) -> str:
    return f"row[{longest(_texts_of(row))!r}]"


def _of_list(row: Any) -> str:
    """Return what makes a text, or a pair of texts, of a list that holds some."""
    positions = list(_texts_of(row))
    if len(positions) == 1:
        return f"row[{positions[0]}]"
    if len(row) == 2:
        return "tuple(row)"
    if isinstance(row, tuple) or len(positions) < len(row):
        return f"(row[{positions[0]}], row[{positions[1]}])"
    return "' '.join(row)"


def _of_bytes(value: Any) -> str:
    binary = "bytes(value)" if isinstance(value, memoryview) else "value"
    return f"{binary}.decode('utf-8')"


# What a row may be, a name for it, and what makes a text of it.
_CONVERSIONS: tuple[tuple[Callable[[Any], Any], str, Callable[[Any], str]], ...] = (
    (lambda row: isinstance(row, Mapping) and _texts_of(row), "row", _of_mapping),
    (_texts_of, "row", _of_list),
    (
        lambda row: isinstance(row, (bytes, bytearray, memoryview)),
        "value",
        _of_bytes,
    ),
    (
        lambda row: isinstance(row, PathLike) and hasattr(row, "read_text"),
        "path",
        lambda path: "path.read_text(encoding='utf-8')",
    ),
    (
        lambda row: hasattr(row, "as_py"),  # of PyArrow
        "scalar",
        lambda scalar: "scalar.as_py()",
    ),
)
