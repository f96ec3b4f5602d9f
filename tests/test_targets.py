"""Labels become class indices, and weights become weights of mean 1."""

import enum
from functools import partial
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import MultiLabelBinarizer

from skprotolm._data.targets import (
    class_codes,
    encode_targets,
    one_code_each,
    refuse_swapped,
)
from skprotolm.exceptions import SingleTextClassesWarning


def encode(y, n_texts=None, *, sample_weight=None, class_weight=None):
    n_texts = len(y) if n_texts is None else n_texts
    classes, targets = encode_targets(
        y, n_texts, sample_weight, class_weight, "TheClassifier"
    )
    assert targets.strata is targets.values
    return SimpleNamespace(
        classes=classes,
        codes=targets.values,
        weights=targets.weights,
        rows=targets.rows,
    )


WORDS = ["b", "a", "c", "b"]
LABELS = {
    "list of str": WORDS,
    "tuple of str": tuple(WORDS),
    "numpy U": np.array(WORDS),
    "numpy object": np.array(WORDS, dtype=object),
    "pandas str": pd.Series(WORDS),
    "pandas object": pd.Series(WORDS, dtype=object),
    "pandas string": pd.Series(WORDS, dtype="string"),
    "pandas category": pd.Series(WORDS, dtype="category"),
    "pandas Categorical": pd.Categorical(WORDS),
    "pandas Index": pd.Index(WORDS),
    "polars String": pl.Series(WORDS),
    "polars Categorical": pl.Series(WORDS).cast(pl.Categorical),
    "pyarrow string": pa.array(WORDS),
    "empty string": ["", "x", "", "x"],
    "list of int": [3, 1, -1, 3],
    "numpy uint8": np.array([3, 0, 1, 3], dtype=np.uint8),
    "pandas category of int": pd.Series([3, 1, -1, 3], dtype="category"),
    "polars Int64": pl.Series([3, 1, -1, 3]),
    "float without fraction": [3.0, 1.0, -1.0, 3.0],
    "list of bool": [True, False, True, True],
    "numpy bool": np.array([True, False, True, True]),
    "pandas bool": pd.Series([True, False, True, True]),
}


@pytest.mark.parametrize("y", LABELS.values(), ids=LABELS)
def test_codes_are_indices_of_the_sorted_labels(y):
    targets = encode(y)
    labels = np.asarray(y).tolist()
    assert targets.classes.tolist() == sorted(set(labels))
    assert [targets.classes.tolist()[code] for code in targets.codes] == labels
    assert {type(label) for label in targets.classes.tolist()} == {
        type(label) for label in labels
    }
    assert targets.codes.dtype == np.int64
    assert targets.rows.tolist() == [0, 1, 2, 3]
    assert targets.weights.tolist() == [1, 1, 1, 1]


@pytest.mark.skipif(
    not hasattr(getattr(np, "dtypes", None), "StringDType"), reason="needs NumPy 2"
)
def test_numpy_variable_width_strings_are_labels():
    targets = encode(np.array(WORDS, dtype=np.dtypes.StringDType()))
    assert targets.classes.tolist() == ["a", "b", "c"]


def test_python_and_numpy_strings_are_one_type_of_label():
    y = np.array([np.str_("a"), "b", np.str_("b")], dtype=object)
    targets = encode(y)
    assert targets.classes.tolist() == ["a", "b"]
    assert targets.codes.tolist() == [0, 1, 1]


def test_a_column_vector_is_accepted_with_the_warning_of_scikit_learn():
    with pytest.warns(UserWarning, match="column-vector y was passed"):
        targets = encode(np.array(WORDS)[:, None])
    assert targets.codes.tolist() == [1, 0, 2, 1]


@settings(deadline=None)
@given(y=st.one_of(st.lists(st.integers(-5, 5)), st.lists(st.text("abü😀"))))
def test_codes_and_classes_reproduce_the_labels(y):
    assume(len(set(y)) > 1)
    targets = encode(y)
    assert targets.classes[targets.codes].tolist() == y
    assert targets.classes.tolist() == sorted(set(y))


NAN = float("nan")
REFUSED = {
    "None": (None, ValueError, "TheClassifier requires y .* None"),
    "None in a list": (["a", None, "b"], ValueError, "row 1 is None; drop these rows"),
    "NaN in an object array": (
        np.array(["a", NAN, "b"], dtype=object),
        ValueError,
        "row 1 is nan; drop",
    ),
    "NaN in a Series": (pd.Series(["a", None, "b"]), ValueError, "row 1 .*drop"),
    "NaN in a category": (
        pd.Series(["a", None, "b"], dtype="category"),
        ValueError,
        "row 1 is nan; drop",
    ),
    "pandas.NA": (["a", pd.NA, "b"], ValueError, "row 1 is <NA>; drop"),
    "NA in Int64": (pd.Series([1, None, 2], dtype="Int64"), ValueError, "row 1.*drop"),
    "null in polars": (pl.Series(["a", None, "b"]), ValueError, "row 1 is None"),
    "null in pyarrow": (pa.array(["a", None, "b"]), ValueError, "row 1 is None"),
    "NaN in floats": ([1.0, NAN, 2.0], ValueError, r"NaN.*row 1 is nan; drop"),
    "infinity": ([1.0, 2.0, np.inf], ValueError, r"infinity: row 2 is inf; drop"),
    "continuous": ([0.5, 1.5, 0.2], ValueError, "Unknown label type: continuous"),
    "indicator matrix": (
        np.array([[1, 0], [0, 1], [1, 1]]),
        ValueError,
        r"multilabel.*one label per text.*shape \(3, 2\)",
    ),
    "list of indicator rows": ([[1, 0], [0, 1], [1, 1]], ValueError, "one label per"),
    "sparse indicator matrix": (
        scipy.sparse.csr_matrix(np.array([[1, 0], [0, 1], [1, 1]])),
        ValueError,
        "multilabel.*one label per text",
    ),
    "two columns": (np.array([["a", "b"]] * 3), ValueError, r"\(3, 2\)"),
    "one class": (["a", "a", "a"], ValueError, r"two classes, .*one class \('a'\)"),
    "too many": (["a", "b", "a", "b"], ValueError, r"\[3, 4\]"),
    "too few": (["a", "b"], ValueError, r"\[3, 2\]"),
    "bytes": ([b"a", b"b", b"a"], TypeError, "bytes"),
    "bare string": ("aba", ValueError, "one column of labels"),
    "set": ({"a", "b", "c"}, ValueError, "one column of labels"),
}


@pytest.mark.parametrize(("y", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_the_error_names_the_invalid_label(y, error, message):
    with pytest.raises(error, match=message):
        encode(y, 3)


def test_masked_labels_are_missing():
    y = np.ma.array([1, 2, 1, 2], mask=[False, True, False, False])
    with pytest.raises(ValueError, match="y contains NaN: row 1 is None"):
        encode(y)


def test_nan_in_a_list_of_strings_is_missing():
    """NumPy converts the NaN of such a list to "nan"."""
    with pytest.raises(ValueError, match="row 1 is nan; drop"):
        encode(["a", NAN, "b"])


@pytest.mark.parametrize(
    "y",
    [
        pytest.param([1, "a", 1], id="list"),
        pytest.param([True, "a", True], id="list with bools"),
        pytest.param(np.array([1, "a", 1], dtype=object), id="object array"),
        pytest.param(pd.Series([1, "a", 1]), id="Series"),
    ],
)
def test_labels_of_several_types_are_refused(y):
    """NumPy converts the 1 of such a list to "1"."""
    with pytest.raises(
        TypeError, match=r"y mixes labels of several types.*row 1 .*use one"
    ):
        encode(y)


@pytest.mark.parametrize("make", [np.array, pd.Series, list], ids=lambda m: m.__name__)
def test_measurements_in_an_object_column_are_refused(make):
    numbers = [0.5, 1.5, 0.25, 0.5]
    y = numbers if make is list else make(numbers, dtype=object)
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        encode(y)


def test_labels_without_an_order_are_refused():
    class Topic(enum.Enum):
        CARD = 1
        FOOD = 2

    with pytest.raises((ValueError, TypeError), match=r"\by\b.*(str|label)"):
        encode([Topic.CARD, Topic.FOOD, Topic.CARD])


class Tone(str, enum.Enum):
    """Labels whose `str` is not their value."""

    GOOD = "positive"
    BAD = "negative"


@pytest.mark.parametrize("make", [np.array, pd.Series, list], ids=lambda m: m.__name__)
def test_members_of_a_string_enumeration_become_their_values(make):
    """NumPy converts them to "Tone.GOOD" and truncates that."""
    members = [Tone.GOOD, Tone.BAD, Tone.GOOD]
    y = members if make is list else make(members, dtype=object)
    targets = encode(y)
    assert targets.classes.tolist() == ["negative", "positive"]
    assert {type(label) for label in targets.classes.tolist()} == {str}
    assert class_codes(targets.classes, "target", Tone.GOOD, 2).tolist() == [1, 1]


@pytest.mark.parametrize("y", [["pos", ["neg"]], [["pos"], "neg"], [1, (0,)]])
def test_labels_and_lists_of_one_label_do_not_mix(y):
    with pytest.raises(ValueError, match=r"row \d of y is .* \((list|tuple)\); y must"):
        encode(y)


@pytest.mark.parametrize(
    "make", [list, np.array, pd.DataFrame, lambda y: pa.table({"y": [*chain(*y)]})]
)
def test_a_column_with_one_label_per_row_is_accepted_after_the_fit(make):
    classes = np.array(["neg", "pos"])
    y = make([["pos"], ["neg"], ["pos"]])
    assert one_code_each(classes, "y", y, 3).tolist() == [1, 0, 1]


@pytest.mark.parametrize("label", ["a\0", "a\ud800"])
def test_labels_that_numpy_or_files_would_change_are_refused(label):
    """NumPy drops a trailing NUL, so that two classes would become one."""
    for make in (list, np.array, partial(np.array, dtype=object)):
        y = make(["a", label, "b"])
        if y[1] == label:  # otherwise NumPy has dropped the NUL
            with pytest.raises(ValueError, match=r"Row 1 of y is 'a\\"):
                encode(y)


@pytest.mark.parametrize("y", [[2**63, 1], [-1, 2**63 + 1, 2**63]])
def test_integers_beyond_64_bits_are_refused(y):
    """As floats, neighboring integers would become one class."""
    with pytest.raises(ValueError, match=r"more than 64 bits; use str"):
        encode(y)


@pytest.mark.parametrize(
    ("labels", "kind"), [([0, 1], "i"), ([True, False], "b"), ([1.0, 2.0], "f")]
)
def test_numbers_in_an_object_column_are_numbers(labels, kind):
    """The scorers of scikit-learn refuse classes of type object."""
    classes = encode(np.array(labels, dtype=object)).classes
    assert classes.dtype.kind == kind


def test_classes_of_long_doubles_become_floats():
    """Explanations of them could not be written as JSON or HTML."""
    classes = encode(np.array([1, 2], dtype=np.longdouble)).classes
    assert classes.dtype == np.float64
    assert encode(np.array([1, 2], dtype=np.float32)).classes.dtype == np.float32


def test_other_collections_are_refused_with_a_hint():
    with pytest.raises(ValueError, match=r"got generator; use list\(y\)"):
        encode_targets((label for label in "ab"), 2, None, None, "clf")
    message = r"Unknown label type: row 0 of y is 1j \(complex\)"
    with pytest.raises(ValueError, match=message):
        encode(np.array([1j, 2]))


BINARIZED = r"pass the indicator matrix sklearn.preprocessing.MultiLabelBinarizer\(\)"
SETS = [["a"], ["b", "c"], ["a"]]


@pytest.mark.parametrize(
    ("y", "hint"),
    [
        (SETS, rf"row 0 of y is \['a'\] \(list\).* {BINARIZED}"),
        (pd.Series(SETS), BINARIZED),
        ([{"a"}, {"b"}, {"a"}], BINARIZED),
        ([["a", "b"], ["b", "c"], ["a", "b"]], BINARIZED),
        (["a", ["b", "c"], "a"], BINARIZED),
        (np.zeros((3, 2, 2)), r"y must hold one label per text, .* \(3, 2, 2\)"),
        ([[], [], []], r"y must hold one label per text, .* \(3, 0\)"),
    ],
)
def test_the_error_for_sets_of_labels_names_the_binarizer(y, hint):
    with pytest.raises(ValueError, match=hint):
        encode(y, 3)


def test_several_labels_per_text_are_fitted_one_vs_rest(make_classifier, texts):
    X, y = texts
    label_sets = [[label] if i % 3 else [label, "x"] for i, label in enumerate(y)]
    with pytest.raises(ValueError, match=BINARIZED):
        make_classifier().fit(X, label_sets)
    Y = MultiLabelBinarizer().fit_transform(label_sets)
    clf = OneVsRestClassifier(make_classifier(n_prototypes=1)).fit(X, Y)
    assert clf.multilabel_
    predicted = clf.predict(X)
    assert predicted.shape == (48, 3)
    assert set(np.unique(predicted)) <= {0, 1}
    proba = clf.predict_proba(X)
    assert proba.shape == (48, 3)
    np.testing.assert_array_equal(proba > 0.5, predicted)
    explanation = clf.estimators_[0].explain(X[:1])[0]
    assert explanation.probabilities[1] == pytest.approx(proba[0, 0])


# y, the code in the message, and the classes that the code leads to.
HINTS = {
    "measurements": (
        [0.1, 5.5, 9.9],
        "pandas.cut(y, bins=3, labels=['low', 'medium', 'high'])",
        ["high", "low", "medium"],
    ),
    "numbers that are labels": (
        pd.Series([0.5, 1.5, 0.5]),
        "y.astype(str)",
        ["0.5", "1.5"],
    ),
    "a list of them": ([0.5, 1.5, 0.5], "[str(label) for label in y]", ["0.5", "1.5"]),
    "two columns": (
        pd.DataFrame({"a": [*"xyx"], "b": [*"uvw"]}),
        "y['b']",
        ["u", "v", "w"],
    ),
    "an array of two": (
        np.array([["u", "x"], ["u", "y"], ["u", "x"]]),
        "y[:, -1]",
        "xy",
    ),
    "rows of a dataset": (
        [{"text": "t", "label": i % 2} for i in range(3)],
        "[row['label'] for row in y]",
        [0, 1],
    ),
    "generator": ((label for label in "aba"), "list(y)", "ab"),
    "LazyFrame": (pl.LazyFrame({"y": [*"aba"]}), "y.collect()", "ab"),
    "bytes": ([b"a", b"b", b"a"], "[label.decode('utf-8') for label in y]", "ab"),
    "several types": ([1, "a", 1], "[str(label) for label in y]", ["1", "a"]),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
@pytest.mark.parametrize(("y", "code", "classes"), HINTS.values(), ids=HINTS)
def test_the_code_in_the_message_returns_labels(y, code, classes):
    with pytest.raises((TypeError, ValueError)) as caught:
        encode(y, 3)
    assert code in str(caught.value)
    labels = eval(code, {"y": y, "np": np, "pandas": pd})
    assert encode(labels, 3).classes.tolist() == [*classes]


@pytest.mark.parametrize(
    ("y", "mask"),
    [
        (["a", None, "b", NAN, None, "b"], "pandas.notna(y)"),
        (np.array([1, NAN, 2, NAN, NAN, 1]), "pandas.notna(y)"),
        (pd.Series(["a", None, "b", None, None, "a"], index=[5] * 6), "y.notna()"),
        (pl.Series(["a", None, "b", None, None, "a"]), "y.is_not_null()"),
        (pa.array(["a", None, "b", None, None, "a"]), "y.is_valid()"),
        (np.ma.array([1, 9, 2, 9, 9, 1], mask=[0, 1, 0, 1, 1, 0]), "~y.mask"),
    ],
)
def test_missing_labels_are_counted_and_masked(y, mask):
    message = r"row 1 is .*, the first of 3 such rows \(1, 3, 4\); drop these rows of X"
    with pytest.raises(ValueError, match=message) as caught:
        encode(y)
    assert f"the mask {mask}." in str(caught.value)
    kept = np.asarray(eval(mask, {"y": y, "pandas": pd}))
    assert kept.tolist() == [True, False, True, False, False, True]


def test_infinite_labels_are_counted():
    with pytest.raises(ValueError, match=r"row 0 is inf, .* 2 such rows \(0, 2\)"):
        encode([np.inf, 1, -np.inf])


PHRASES = ["good food", "a dull film", "my lost card", "kind staff", "great", "so poor"]
PAIRED = [(phrase, "yes") for phrase in PHRASES]


@pytest.mark.parametrize("y", [PHRASES, np.array(PHRASES), pd.Series(PHRASES), PAIRED])
@pytest.mark.parametrize(
    "X",
    [
        [0, 1, 0, 1, 0, 1],
        np.array([True, False] * 3),
        pd.Series(["pos", "neg"] * 3, dtype="category"),
        pd.DataFrame({"label": ["pos", "neg"] * 3}),
        ["world news", "sports news"] * 3,
        range(6),
    ],
)
def test_swapped_texts_and_labels_are_refused(make_classifier, X, y):
    X = list(X) if isinstance(X, range) else X
    with pytest.raises(ValueError, match=r"X and y seem to be swapped: y .*'good food"):
        make_classifier().fit(X, y)


@pytest.mark.parametrize(
    ("X", "y"),
    [
        (PHRASES, ["pos", "neg"] * 3),
        (PHRASES, [0, 1] * 3),
        (PHRASES, ["world news", "sports news"] * 3),
        (["yes", "no", "yes", "no", "so", "yes"], ["pos", "neg"] * 3),  # repeated texts
        (["yes", "no"] * 3, ["a b", "c d", "e f", "a b", "c d", "e f"]),
        (PHRASES, PHRASES),
        ([*"abcdef"], PHRASES),  # class names of several words
        (PAIRED, [0, 1] * 3),
        ([0, 1], ["pos", "neg"]),
        (5, PHRASES),
        (None, None),
    ],
)
def test_other_inputs_are_not_taken_for_swapped(X, y):
    assert refuse_swapped(X, y) is None


def test_the_error_for_labels_in_X_names_the_column_of_texts(make_classifier, texts):
    X, y = texts
    frame = pd.DataFrame({"label": y, "review": X})
    with pytest.raises(ValueError, match=r"Column 0 of X holds the .* X\['review'\]"):
        make_classifier().fit(frame, y)
    pairs = [*zip(X, y.tolist(), strict=True)]
    with pytest.raises(ValueError, match=r"Column 1 .* \[row\[0\] for row in X\]"):
        make_classifier().fit(pairs, y)


def test_classes_with_a_single_text_cause_a_warning(make_classifier, texts):
    X, y = texts
    clf = make_classifier(n_prototypes=1, max_epochs=1)
    for identifiers in (list(range(8)), [f"row {i}" for i in range(8)]):
        with pytest.warns(SingleTextClassesWarning, match="8 classes .* identifiers"):
            clf.fit(X[:8], identifiers)
    clf.fit(X[:5], range(5))  # few classes
    clf.fit(X[:9], [*range(8), 0])
    clf.fit(X[:8], y[:8])


@pytest.mark.parametrize("y", [WORDS, np.array(WORDS, dtype=object), pd.Series(WORDS)])
def test_labels_and_weights_are_not_changed(y):
    weights = np.array([0.0, 1.0, 2.0, 3.0])
    before = list(y)
    encode(y, sample_weight=weights, class_weight="balanced")
    assert list(y) == before
    assert weights.tolist() == [0, 1, 2, 3]
