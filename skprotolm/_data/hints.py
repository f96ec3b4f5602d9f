"""Hints in error messages: the code that turns an input into texts or labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

NOT_FEATURES = "pass texts, not features computed from them"

_CONVERSIONS = {  # of bytes, paths and PyArrow scalars, by an attribute
    "decode": "row.decode('utf-8')",
    "read_text": "row.read_text(encoding='utf-8')",
    "as_py": "row.as_py()",
}


def container_hint(data: Any, name: str) -> str:
    """Return what to pass instead of an object that is not array-like."""
    for method in ("compute", "toPandas", "collect"):  # Dask, Spark, Polars
        if hasattr(data, method):
            return f"use {name}.{method}()"
    if isinstance(data, Mapping) and all(isinstance(v, str) for v in data.values()):
        return f"use list({name}.values())"
    if names := column_names(data):
        return f"pass one of its columns, which are {names[:5]}"
    if isinstance(data, Iterable) and not isinstance(data, (str, bytes)):
        return f"use list({name})"
    return "pass a list with one element per text"


def missing_hint(X: Any, name: str) -> str:
    """Return what to do about missing rows of X."""
    # Categories must include "" before fillna can use it.
    cast = ".astype(object)" if "category" in str(getattr(X, "dtypes", "")) else ""
    for method in ("filled", "fillna", "fill_null"):  # NumPy, pandas, Polars and Arrow
        if hasattr(X, method):
            return f"drop missing rows or use {name}{cast}.{method}('')"
    return 'drop missing rows or replace them with ""'


def row_hint(values: list[Any], source: str | None) -> str:
    """Return how to convert rows that are not str.

    `source` is code for all rows, if `values` are all rows.
    """
    row = values[0]
    alike = source and len({type(value) for value in values}) == 1
    pattern = f"[{{}} for row in {source}]" if alike else "{}"
    items: Any = ()
    if isinstance(row, (list, tuple, np.ndarray)):
        items = enumerate(row)
    elif isinstance(row, Mapping):
        items = row.items()
    # A text has more words than a label or an identifier.
    n_words = {key: len(v.split()) for key, v in items if isinstance(v, str)}
    if n_words:
        code = pattern.format(f"row[{max(n_words, key=n_words.__getitem__)!r}]")
        if isinstance(row, Mapping) or len(row) == 1:
            return f"use {code}"
        pairs = pattern.format("(row[0], row[1])")
        words = pattern.format("' '.join(row)")
        return f"use {code} for texts, {pairs} for pairs, or {words} for lists of words"
    for attribute, code in _CONVERSIONS.items():
        if hasattr(row, attribute):
            return f"use {pattern.format(code)}"
    is_scalar = not hasattr(row, "__len__") and not hasattr(row, "__array__")
    as_str = f", or use {pattern.format('str(row)')}" if is_scalar else ""
    return f"{NOT_FEATURES}{as_str}"


def column(data: Any, name: str, number: int) -> str:
    """Return code that selects one column by its number."""
    if names := column_names(data):
        return f"{name}[{names[number]!r}]"
    if getattr(data, "ndim", 1) == 2:
        return f"{name}[:, {number}]"
    return f"[row[{number}] for row in {name}]"


def column_names(data: Any) -> list[Any]:
    """Return the column names of a frame, dataset, mapping or structured array."""
    if isinstance(data, Mapping):
        return list(data)
    if getattr(data, "ndim", 2) == 1:  # a Series may have a row named "columns"
        return list(getattr(getattr(data, "dtype", None), "names", None) or ())
    names: Any = getattr(data, "column_names", None)  # PyArrow and Hugging Face
    if not isinstance(names, list):  # a column of a pandas frame may have this name
        names = getattr(data, "columns", ())
    return [*names]
