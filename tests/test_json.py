"""Explanations are written to JSON and restored without loss."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skprotolm import Explanation, Explanations
from tests.texts import make_texts

FIELDS = [f.name for f in dataclasses.fields(Explanation) if f.name[0] != "_"]
FIELDS += ["similarities", "contributions"]
FIELDS += [f"prototype_{name}" for name in ("labels", "texts", "names", "unread")]


def assert_same(restored: Explanations, original: Explanations) -> None:
    """Compare every field, bit for bit and type for type."""
    assert len(restored) == len(original)
    for a, b in zip(restored, original, strict=True):
        for name in FIELDS:
            value, expected = getattr(a, name), getattr(b, name)
            assert type(value) is type(expected), name
            if isinstance(expected, np.ndarray):
                assert value.dtype == expected.dtype, name
                np.testing.assert_array_equal(value, expected)
            else:
                assert value == expected, name
        assert a.to_dict() == b.to_dict()
        assert a.words == b.words


LABELS = {
    "str": ["a", "b"],
    "int": [1, -7],
    "bool": [False, True],
    "float": [1.0, 2.0],
    "object": np.array(["a", "1"], dtype=object),
    "int8": np.array([1, 2], dtype=np.int8),
}


@pytest.mark.parametrize("formulation", ["mixture", "proto-lm"])
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_explanations_are_restored_without_loss(make_classifier, labels, formulation):
    X, y = make_texts(16)
    labels = np.asarray(labels)
    clf = make_classifier(formulation=formulation, max_epochs=1)
    clf.fit(X, labels[(y == "pos").astype(int)])
    explanations = clf.explain(["", "good food, 😀", *X[:3]], top_k=2)
    text = explanations.to_json()
    assert_same(Explanations.from_json(text), explanations)
    assert_same(Explanations.from_json(text.encode()), explanations)
    assert Explanations.from_json(text).to_json() == text


def test_pairs_are_restored_as_tuples(make_classifier):
    X, y = make_texts(16)
    pairs = list(zip(X, X[::-1], strict=True))
    explanations = make_classifier(max_epochs=1).fit(pairs, y).explain(pairs[:2])
    assert_same(Explanations.from_json(explanations.to_json()), explanations)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(text=st.text(st.characters(codec="utf-8"), max_size=60))
@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.UnreadTextWarning")
def test_any_text_is_restored(fitted, text):
    explanations = fitted.explain([text])
    assert_same(Explanations.from_json(explanations.to_json()), explanations)


def test_explanations_of_several_models_are_restored(fitted, make_classifier):
    X, y = make_texts(16)
    other = make_classifier(max_epochs=1, n_prototypes=1).fit(X, y)
    both = Explanations([*fitted.explain(X[:2]), *other.explain(X[:2])])
    assert_same(Explanations.from_json(both.to_json()), both)
    content = json.loads(both.to_json())
    assert [len(table["texts"]) for table in content["prototypes"]] == [6, 2]


def test_restored_explanations_have_no_token_splits(fitted):
    [e] = Explanations.from_json(fitted.explain(["good food"]).to_json())
    with pytest.raises(ValueError, match="stored without its model"):
        e.alignment(0)
    with pytest.raises(ValueError, match="stored without its model"):
        _ = e.token_similarities


@pytest.mark.parametrize("text", ["", "{"])
def test_a_text_that_is_not_json_is_rejected(text):
    with pytest.raises(ValueError, match="not JSON"):
        Explanations.from_json(text)


@pytest.mark.parametrize("text", ['{"format": "other"}', "[]", "3"])
def test_json_without_explanations_is_rejected(text):
    with pytest.raises(ValueError, match="contains no explanations"):
        Explanations.from_json(text)


@pytest.mark.parametrize(
    ("version", "remedy"), [(99, "Upgrade skprotolm"), (1, "Explain the texts again")]
)
def test_another_format_version_is_rejected_with_a_remedy(fitted, version, remedy):
    content = json.loads(fitted.explain(["good"]).to_json())
    content["version"] = version
    with pytest.raises(ValueError, match=rf"version {version}.*{remedy}"):
        Explanations.from_json(json.dumps(content))


def test_prototypes_before_and_after_relabeling_are_stored_separately(
    make_classifier, texts
):
    """Tables of equal texts were merged although their labels differed."""
    clf = make_classifier(max_epochs=1).fit(*texts)
    [before] = clf.explain(["good food"])
    [after] = clf.relabel_prototypes({0: "pos"}).explain(["good food"])
    again = Explanations.from_json(Explanations([before, after]).to_json())
    assert again.to_dict() == Explanations([before, after]).to_dict()


@pytest.mark.parametrize("key", ["classes", "prototypes", "explanations"])
@pytest.mark.parametrize("value", [None, [{}], [3]])
def test_malformed_explanations_are_rejected(fitted, key, value):
    content = json.loads(fitted.explain(["good food"]).to_json())
    content[key] = value
    with pytest.raises(ValueError, match="differs from the output of Explanations"):
        Explanations.from_json(json.dumps(content))


@pytest.mark.parametrize("value", [[0.5], ["a", "b"], "ab", 3])
@pytest.mark.parametrize("key", ["contributions", "class_probabilities", "segments"])
def test_damaged_arrays_are_rejected(fitted, key, value):
    """Fewer contributions than prototypes were accepted; views then failed."""
    content = json.loads(fitted.explain(["good food"]).to_json())
    content["explanations"][0][key] = value
    with pytest.raises(ValueError, match="differs from the output of Explanations"):
        Explanations.from_json(json.dumps(content))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("base_value", "abc"),
        ("novelty", None),
        ("top_k", 2.5),
        ("top_k", True),
        ("token_method", 3),
        ("text", ["a", "b", "c"]),
        ("text", 5),
        ("segments", [7, 7]),
        ("attention", None),
    ],
)
def test_damaged_values_are_rejected(fitted, key, value):
    """They were accepted, and views failed."""
    content = json.loads(fitted.explain(["good food"]).to_json())
    content["explanations"][0][key] = value
    with pytest.raises(ValueError, match="differs from the output of Explanations"):
        Explanations.from_json(json.dumps(content))


@pytest.mark.parametrize("column", ["labels", "texts", "names", "unread"])
def test_columns_of_prototypes_have_one_length(fitted, column):
    content = json.loads(fitted.explain(["good food"]).to_json())
    content["prototypes"][0][column] = content["prototypes"][0][column][:1]
    with pytest.raises(ValueError, match="differs from the output of Explanations"):
        Explanations.from_json(json.dumps(content))


@pytest.mark.parametrize("text", [b"\xff", "[" * 100_000])
def test_what_no_parser_reads_is_rejected(text):
    with pytest.raises(ValueError, match="is not JSON, or is truncated"):
        Explanations.from_json(text)


@pytest.mark.parametrize("key", ["classes", "prototypes", "explanations"])
def test_incomplete_explanations_are_rejected(fitted, key):
    content = json.loads(fitted.explain(["good food"]).to_json())
    del content[key]
    with pytest.raises(ValueError, match="differs from the output of Explanations"):
        Explanations.from_json(json.dumps(content))
