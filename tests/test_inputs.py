"""Every container of texts, or of pairs of texts, becomes the same list of str."""

import enum
import pickle
import re
from collections import deque

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skprotolm._data.texts import Columns, as_texts

TEXTS = ["the food was good", "", "café 😀 naïve", "  two\nlines ", "漢字 and [SEP]"]
PAIRS = [("a question", "an answer"), ("", "one side"), ("😀 emoji", "")]
FIRST, SECOND = ([pair[i] for pair in PAIRS] for i in range(2))

STRING_DTYPE = getattr(getattr(np, "dtypes", None), "StringDType", None)
needs_string_dtype = pytest.mark.skipif(
    STRING_DTYPE is None, reason="StringDType requires NumPy 2"
)

SINGLE = {
    "list": list,
    "tuple": tuple,
    "list of np.str_": lambda texts: [np.str_(text) for text in texts],
    "numpy U": np.array,
    "numpy object": lambda texts: np.array(texts, dtype=object),
    "numpy (n, 1)": lambda texts: np.array(texts)[:, None],
    "numpy object (n, 1)": lambda texts: np.array(texts, dtype=object)[:, None],
    "pandas Series of object": lambda texts: pd.Series(texts, dtype=object),
    "pandas Series of str": pd.Series,
    "pandas Series of string": lambda texts: pd.Series(texts, dtype="string"),
    "pandas Series of category": lambda texts: pd.Series(texts, dtype="category"),
    "pandas Series with an index": lambda texts: pd.Series(texts, index=[7] * 5),
    "pandas DataFrame": lambda texts: pd.DataFrame({"text": texts}),
    "polars Series": pl.Series,
    "polars Series of Categorical": lambda texts: pl.Series(texts).cast(pl.Categorical),
    "polars DataFrame": lambda texts: pl.DataFrame({"text": texts}),
    "pyarrow Array": pa.array,
    "pyarrow ChunkedArray": lambda texts: pa.chunked_array([texts[:2], texts[2:]]),
    "pyarrow Table": lambda texts: pa.table({"text": texts}),
}
PAIRED = {
    "list of 2-tuples": list,
    "tuple of 2-tuples": tuple,
    "numpy U (n, 2)": np.array,
    "numpy object (n, 2)": lambda pairs: np.array(pairs, dtype=object),
    "pandas DataFrame": pd.DataFrame,
    "pandas DataFrame of category": lambda pairs: pd.DataFrame(pairs, dtype="category"),
    "polars DataFrame": lambda pairs: pl.DataFrame({"a": FIRST, "b": SECOND}),
    "pyarrow Table": lambda pairs: pa.table({"a": FIRST, "b": SECOND}),
}
CONTAINERS = [
    *(pytest.param(make, TEXTS, id=f"texts in {n}") for n, make in SINGLE.items()),
    *(pytest.param(make, PAIRS, id=f"pairs in {n}") for n, make in PAIRED.items()),
    pytest.param(
        lambda texts: np.array(texts, dtype=STRING_DTYPE()),
        TEXTS,
        id="texts in numpy StringDType",
        marks=needs_string_dtype,
    ),
    pytest.param(
        lambda pairs: np.array(pairs, dtype=STRING_DTYPE()),
        PAIRS,
        id="pairs in numpy StringDType",
        marks=needs_string_dtype,
    ),
]


@pytest.mark.parametrize(("make", "expected"), CONTAINERS)
def test_every_container_gives_the_same_plain_strings(make, expected):
    texts = as_texts(make(expected))
    assert texts == expected
    parts = [part for row in texts for part in (row if type(row) is tuple else [row])]
    assert {type(part) for part in parts} == {str}


@pytest.mark.parametrize(("make", "expected"), CONTAINERS)
def test_the_container_is_neither_changed_nor_returned(make, expected):
    X = make(expected)
    before = pickle.dumps(X)
    as_texts(X).clear()
    assert pickle.dumps(X) == before


@pytest.mark.parametrize("X", [TEXTS, PAIRS])
def test_fitted_columns_are_accepted(X):
    assert as_texts(X, columns=Columns.of(X, X)) == X


def test_members_of_a_string_enumeration_become_their_values():
    """`str(member)` is the name of the member, "Topic.CARD"."""

    class Topic(str, enum.Enum):
        CARD = "lost card"

    assert as_texts([Topic.CARD]) == ["lost card"]


# Hypothesis generates no surrogates by default.
_any_text = st.text(max_size=20)


@settings(deadline=None)
@given(
    rows=st.one_of(
        st.lists(_any_text, min_size=1),
        st.lists(st.tuples(_any_text, _any_text), min_size=1),
    ),
    make=st.sampled_from([list, tuple, lambda rows: np.array(rows, dtype=object)]),
)
def test_texts_in_a_sequence_stay_unchanged(rows, make):
    assert as_texts(make(rows)) == rows


@settings(deadline=None, max_examples=30)
@given(
    texts=st.lists(_any_text, min_size=1),
    make=st.sampled_from([pd.Series, pl.Series, pa.array]),
)
def test_texts_in_a_column_stay_unchanged(texts, make):
    assert as_texts(make(texts)) == texts


MISSING = "drop missing rows"
NOT_STR = r"use str\(row\)"
ONE_TEXT = r"pass \[text\]"
SURROGATE = "replace it"
FEATURES = "pass texts, not features computed from them"
PAIRS_HINT = "two columns are pairs of texts, not features; .* pass one column of texts"

# X; the error; patterns for the row or parameter, the value and the hint.
REFUSED = {
    "None": (["a", None], ValueError, "Row 1 of X", "None", MISSING),
    "NaN": (["a", float("nan")], ValueError, "Row 1 of X", "nan", MISSING),
    "NumPy's NaN": (["a", np.float32("nan")], ValueError, "Row 1", "nan", MISSING),
    "pandas.NA": (["a", "b", pd.NA], ValueError, "Row 2 of X", "<NA>", MISSING),
    "NaN in a Series": (pd.Series(["a", None]), ValueError, "Row 1", "", MISSING),
    "NaN in a category": (
        pd.Series(["a", None], dtype="category"),
        ValueError,
        "Row 1 of X",
        "nan",
        MISSING,
    ),
    "null in polars": (pl.Series(["a", None]), ValueError, "Row 1", "None", MISSING),
    "null in pyarrow": (pa.array(["a", None]), ValueError, "Row 1", "None", MISSING),
    "None in a pair": ([("a", "b"), ("c", None)], ValueError, "Row 1", "None", MISSING),
    "NaN in a frame": (
        pd.DataFrame({"a": ["x", "y"], "b": ["z", None]}),
        ValueError,
        "Row 1 of X",
        "",
        MISSING,
    ),
    "None instead of a pair": (
        [("a", "b"), None],
        ValueError,
        "Row 1",
        "None",
        MISSING,
    ),
    "a masked text": (
        np.ma.array(["a", "b"], mask=[False, True]),
        ValueError,
        "Row 1 of X",
        "None",
        MISSING,
    ),
    "int": (["a", 3], TypeError, "Row 1 of X", r"3 \(int\)", NOT_STR),
    "array of ints": (np.arange(3), TypeError, "Row 0", r"0 \(int\)", FEATURES),
    "array of floats": (np.ones((3, 1)), TypeError, "Row 0", "float", FEATURES),
    "array of features": (np.ones((3, 5)), ValueError, "X", r"\(3, 5\)", FEATURES),
    "tensor": (torch.ones(3, 2), TypeError, "X must", "Tensor of numbers", FEATURES),
    "tensors": ([torch.ones(2)] * 3, TypeError, "Row 0", "Tensor", FEATURES),
    "two columns of numbers": (np.ones((3, 2)), TypeError, "Row 0", "1.0", PAIRS_HINT),
    "embeddings": ([[0.1, 0.2]] * 3, TypeError, "Row 0", "3 such rows", FEATURES),
    "int in a frame": (
        pd.DataFrame({"a": ["x"], "b": [1]}),
        TypeError,
        "Row 0 of X",
        r"1 \(int\)",
        PAIRS_HINT,
    ),
    "bytes": (["a", b"b"], TypeError, "Row 1 of X", "bytes", r"decode\('utf-8'\)"),
    "array of bytes": (np.array([b"a"]), TypeError, "Row 0", "bytes", "decode"),
    "nested lists": ([["a", "b"]], TypeError, "Row 0", r"\(list\)", "for pairs"),
    "a nested list": (["a", ["b"]], TypeError, "Row 1", r"\['b'\]", r"row\[0\]"),
    "list without a text": (
        [[], [1, None]],
        TypeError,
        "Row 0",
        "list",
        FEATURES,
    ),
    "an int of 5000 digits": ([10**5000], TypeError, "Row 0", r"\(int\)", FEATURES),
    "bytearray": (
        bytearray(b"a"),
        ValueError,
        "X must",
        "a single bytearray",
        ONE_TEXT,
    ),
    "memoryview": (
        memoryview(b"a"),
        ValueError,
        "X must",
        "a single memoryview",
        ONE_TEXT,
    ),
    "bare string": ("good", ValueError, "X must", "a single str", ONE_TEXT),
    "bare bytes": (b"good", ValueError, "X must", "a single bytes", ONE_TEXT),
    "0-d array": (np.array("good"), ValueError, "X must", "a single ndarray", ONE_TEXT),
    "empty list": ([], ValueError, "X", r"0 sample\(s\)", "minimum of 1"),
    "empty Series": (pd.Series([], dtype=object), ValueError, "X", "0 sample", "1"),
    "generator": (
        (text for text in TEXTS),
        TypeError,
        "X must",
        "got generator",
        r"list\(X\)",
    ),
    "set": ({"a", "b"}, TypeError, "X must", "got set", r"list\(X\)"),
    "dict": ({"text": TEXTS}, TypeError, "X must", "got dict", "one of its columns"),
    "number": (3, TypeError, "X must", "got int", "pass a list"),
    "None instead of X": (None, TypeError, "X must", "NoneType", "pass a list"),
    "frame of 3 columns": (
        pd.DataFrame([["a", "b", "c"]]),
        ValueError,
        "X must",
        r"\(1, 3\)",
        r"choose one column, or two for pairs from \[0, 1, 2\]",
    ),
    "array of 3 columns": (
        np.array([["a"] * 3] * 2),
        ValueError,
        "X must",
        r"\(2, 3\)",
        "choose one column, or two for pairs",
    ),
    "frame of no column": (
        pd.DataFrame(index=[0, 1]),
        ValueError,
        "X must",
        r"\(2, 0\)",
        "choose one column",
    ),
    "3-d array": (
        np.full((2, 2, 2), "a"),
        ValueError,
        "X must",
        r"2, 2, 2",
        "one text",
    ),
    "text after pairs": (
        [("a", "b"), "c"],
        ValueError,
        "Row 1 of X",
        r"'c' \(str\)",
        "all 2-tuples of texts; row 0 is \\('a', 'b'\\)",
    ),
    "pair after texts": (
        ["a", ("b", "c")],
        ValueError,
        "Row 1 of X",
        r"\('b', 'c'\) \(tuple\)",
        "all texts or all 2-tuples of texts; row 0 is 'a'",
    ),
    "3-tuple after pairs": (
        [("a", "b"), ("c", "d", "e")],
        ValueError,
        "Row 1 of X",
        r"\('c', 'd', 'e'\)",
        "all 2-tuples of texts; row 0 is \\('a', 'b'\\)",
    ),
    "high surrogate": (["a", "\ud83d"], ValueError, "Row 1", "surrogate", SURROGATE),
    "low surrogate": ([("a", "\udc00 b")], ValueError, "Row 0", "surrogate", SURROGATE),
    "sparse matrix": (
        scipy.sparse.csr_matrix(np.eye(2)),
        TypeError,
        "X must",
        "csr_matrix of numbers",
        FEATURES,
    ),
}


@pytest.mark.parametrize(
    ("X", "error", "position", "value", "hint"), REFUSED.values(), ids=REFUSED
)
def test_the_error_names_the_invalid_row_the_value_and_a_hint(
    X, error, position, value, hint
):
    with pytest.raises(error) as caught:
        as_texts(X)
    for pattern in (position, value, hint):
        assert re.search(pattern, str(caught.value)), (pattern, str(caught.value))


class Table:
    """A dataset like those of Hugging Face: named columns, and rows that are dicts."""

    def __init__(self, **columns):
        self.columns_by_name = columns

    @property
    def column_names(self):
        return list(self.columns_by_name)

    def __len__(self):
        return len(next(iter(self.columns_by_name.values())))

    def __iter__(self):
        for values in zip(*self.columns_by_name.values(), strict=True):
            yield dict(zip(self.column_names, values, strict=True))

    def __getitem__(self, key):
        if isinstance(key, str):
            return self.columns_by_name[key]
        return {name: values[key] for name, values in self.columns_by_name.items()}


class Stream:
    """An iterable dataset, whose columns may be unknown."""

    column_names = None

    def __iter__(self):
        return iter(ROWS)


class Lazy:
    """A lazy collection, like those of Dask."""

    def compute(self):
        return WORDS


WORDS = ["good food", "a dull film", "lost card"]
SIDES = [("good food", "yes"), ("a dull film", "no"), ("lost card", "no")]
ROWS = [{"label": i % 2, "id": f"#{i}", "text": text} for i, text in enumerate(WORDS)]
COLUMNS = {"label": [0, 1, 0], "id": ["#0", "#1", "#2"], "text": WORDS}
NLI = {"premise": WORDS, "hypothesis": ["yes", "no", "no"], "label": [0, 1, 0]}
FRAME = pd.DataFrame(COLUMNS, index=[7, 7, 9])
GAPS = ["good food", None, "lost card"]
FILLED = ["good food", "", "lost card"]

# X, the code in the message, and the texts that the code returns.
HINTS = {
    "dict of texts": (dict(enumerate(WORDS)), "list(X.values())", WORDS),
    "rows of a dataset": (ROWS, "[row['text'] for row in X]", WORDS),
    "Series of dicts": (pd.Series(ROWS), "[row['text'] for row in X]", WORDS),
    "Polars rows": (
        pl.DataFrame({"text": WORDS}).rows(),
        "[row[0] for row in X]",
        WORDS,
    ),
    "lists of one": ([[text] for text in WORDS], "[row[0] for row in X]", WORDS),
    "tuples of one": ([(text,) for text in WORDS], "[row[0] for row in X]", WORDS),
    "arrays of one": ([np.array([t]) for t in WORDS], "[row[0] for row in X]", WORDS),
    "lists of text and label": (
        [[1, text] for text in WORDS],
        "[row[1] for row in X]",
        WORDS,
    ),
    "tuples of text and label": (
        [(text, 1) for text in WORDS],
        "[row[0] for row in X]",
        WORDS,
    ),
    "lists of two": (
        [[*pair] for pair in SIDES],
        "[(row[0], row[1]) for row in X]",
        SIDES,
    ),
    "tuples of three": (
        [(*pair, "label") for pair in SIDES],
        "[(row[0], row[1]) for row in X]",
        SIDES,
    ),
    "lists of words": (
        [["a", "dull", "film"]] * 2,
        "[' '.join(row) for row in X]",
        ["a dull film"] * 2,
    ),
    "bytes": (
        [b"good", b"bad"],
        "[row.decode('utf-8') for row in X]",
        ["good", "bad"],
    ),
    "bytearrays": (
        [bytearray(b"good")],
        "[row.decode('utf-8') for row in X]",
        ["good"],
    ),
    "PyArrow scalars": (
        list(pa.array(WORDS)),
        "[row.as_py() for row in X]",
        WORDS,
    ),
    "dates": (
        pd.Series(pd.to_datetime(["2020-01-31"])),
        "[str(row) for row in X]",
        ["2020-01-31 00:00:00"],
    ),
    "numbers in a frame": (
        pd.DataFrame({"zip": [8001, 3011]}),
        "[str(row) for row in X['zip']]",
        ["8001", "3011"],
    ),
    "numbers in an array": (
        np.array([[1], [2]]),
        "[str(row) for row in X[:, 0]]",
        ["1", "2"],
    ),
    "pandas frame, text and label": (FRAME[["text", "label"]], "X['text']", WORDS),
    "structured array": (
        np.array([("good", 1), ("bad", 0)], dtype=[("text", "U5"), ("label", int)]),
        "X['text']",
        ["good", "bad"],
    ),
    "array, label and text": (
        np.array([[1, "good"], [0, "bad"]], dtype=object),
        "X[:, 1]",
        ["good", "bad"],
    ),
    "Polars LazyFrame": (pl.LazyFrame({"text": WORDS}), "X.collect()", WORDS),
    "Dask": (Lazy(), "X.compute()", WORDS),
    "generator": ((text for text in WORDS), "list(X)", WORDS),
    "dict_keys": (dict.fromkeys(WORDS).keys(), "list(X)", WORDS),
    "NaN in a Series": (pd.Series(GAPS, index=[3, 1, 3]), "X.fillna('')", FILLED),
    "NaN in a category": (
        pd.Series(GAPS, dtype="category"),
        "X.astype(object).fillna('')",
        FILLED,
    ),
    "NaN in a frame of pairs": (
        pd.DataFrame({"a": GAPS, "b": WORDS}),
        "X.fillna('')",
        [*zip(FILLED, WORDS, strict=True)],
    ),
    "null in Polars": (pl.Series(GAPS), "X.fill_null('')", FILLED),
    "null in PyArrow": (pa.array(GAPS), "X.fill_null('')", FILLED),
    "masked array": (np.ma.array(WORDS, mask=[0, 1, 0]), "X.filled('')", FILLED),
}


@pytest.mark.parametrize(("X", "code", "expected"), HINTS.values(), ids=HINTS)
def test_the_code_in_the_message_returns_the_texts(X, code, expected):
    with pytest.raises((TypeError, ValueError)) as caught:
        as_texts(X)
    assert code in str(caught.value)
    assert as_texts(eval(code, {"X": X})) == expected


@pytest.mark.parametrize(
    ("X", "names"),
    [
        (Table(**COLUMNS), ["label", "id", "text"]),
        (Table(**NLI), ["premise", "hypothesis", "label"]),
        (Table(text=[], label=[]), ["text", "label"]),
        ({"train": Table(**COLUMNS)}, ["train"]),
        (COLUMNS, ["label", "id", "text"]),
        (FRAME, ["label", "id", "text"]),
        (pl.DataFrame(COLUMNS), ["label", "id", "text"]),
        (pa.table(COLUMNS), ["label", "id", "text"]),
    ],
)
def test_the_message_lists_the_columns(X, names):
    with pytest.raises((TypeError, ValueError), match=re.escape(str(names))) as caught:
        as_texts(X)
    assert "column" in str(caught.value)


def test_an_iterable_dataset_is_converted_in_two_steps():
    with pytest.raises(TypeError, match=r"use list\(X\)"):
        as_texts(Stream())
    code = "[row['text'] for row in X]"
    with pytest.raises(TypeError, match=re.escape(code)):
        as_texts(list(Stream()))
    assert as_texts(eval(code, {"X": Stream()})) == WORDS


def test_the_hint_for_paths_reads_the_files(tmp_path):
    """`str(path)` would train on the names of the files."""
    X = [tmp_path / f"{i}.txt" for i in range(3)]
    for path, text in zip(X, WORDS, strict=True):
        path.write_text(text, encoding="utf-8")
    code = "[row.read_text(encoding='utf-8') for row in X]"
    with pytest.raises(TypeError, match=re.escape(code)):
        as_texts(X)
    assert as_texts(eval(code, {"X": X})) == WORDS
    with pytest.raises(TypeError, match=r"X must be a list, .* pass a list"):
        as_texts(X[0])


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (
            ["a", None, "b", None, float("nan"), pd.NA, None, None],
            r"Row 1 of X is None, the first of 6 such rows \(1, 3, 4, 5, 6, …\); drop",
        ),
        (
            pd.Series(["a", None, None], index=["x", "y", "z"]),
            r"Row 1 of X is nan, the first of 2 such rows \(1, 2\); drop missing rows",
        ),
        (
            [("a", "b"), (None, "c"), None, ("d", None)],
            r"Row 1 of X, column 0, is None, the first of 3 such rows \(1, 2, 3\)",
        ),
        (
            deque(["a", 3, None, 4]),
            r"Row 1 of X is 3 \(int\), not a str, the first of 2 such rows \(1, 3\)",
        ),
        (
            ["a", ("b", "c"), ("d", "e")],
            r"Row 1 of X is .* the first of 2 such rows \(1, 2\); row 0 is 'a'",
        ),
    ],
)
def test_rows_with_the_same_fault_are_counted(X, message):
    with pytest.raises((TypeError, ValueError), match=message):
        as_texts(X)


@pytest.mark.parametrize("text", ["\ud83d", "good \udc00 bye"])
def test_the_hint_for_surrogates_returns_a_text(text):
    assert as_texts([text.encode("utf-8", "replace").decode()])


@pytest.mark.parametrize("row", [(), ("a",), ("a", "b", "c")])
def test_a_first_tuple_of_another_length_is_named(row):
    message = re.escape(f"Row 0 of X is {row!r} (tuple), but rows must be all texts or")
    with pytest.raises(ValueError, match=message) as caught:
        as_texts([row])
    assert "row 0 is" not in str(caught.value)


def test_long_values_are_shortened_in_the_message():
    with pytest.raises(TypeError, match="Row 0 of X") as caught:
        as_texts([list(range(10_000))])
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("X", "fitted", "message"),
    [
        (PAIRS, TEXTS, "X holds pairs of texts, but .* fitted on single texts"),
        (TEXTS, PAIRS, "X holds single texts, but .* fitted on pairs of texts"),
        (pd.DataFrame(PAIRS), TEXTS, "X holds pairs of texts"),
        (pd.DataFrame({"text": TEXTS}), PAIRS, "X holds single texts"),
    ],
)
def test_pairs_and_single_texts_are_distinguished(X, fitted, message):
    with pytest.raises(ValueError, match=message):
        as_texts(X, columns=Columns.of(fitted, fitted))
