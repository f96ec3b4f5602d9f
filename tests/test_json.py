"""Explanations survive JSON without loss."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skprotolm import Explanations
from tests.conftest import make_texts


def fields_of(e: Any) -> dict[str, Any]:
    return e._record()


def assert_same(one: Explanations, other: Explanations) -> None:
    """Compare every field, bit for bit and type for type."""
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        for name, value in fields_of(a).items():
            found = fields_of(b)[name]
            assert type(found) is type(value), name
            if isinstance(value, np.ndarray):
                assert found.dtype == value.dtype, name
                np.testing.assert_array_equal(found, value)
            else:
                assert found == value, name
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
def test_explanations_come_back_as_they_were(make_classifier, labels, formulation):
    X, y = make_texts(16)
    labels = np.asarray(labels)
    clf = make_classifier(formulation=formulation, max_epochs=1)
    clf.fit(X, labels[(y == "pos").astype(int)])
    explanations = clf.explain(["", "good food, 😀", *X[:3]], top_k=2)
    text = explanations.to_json()
    assert_same(Explanations.from_json(text), explanations)
    assert_same(Explanations.from_json(text.encode()), explanations)
    assert Explanations.from_json(text).to_json() == text


def test_pairs_come_back_as_tuples(make_classifier):
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
def test_any_text_survives(fitted, text):
    explanations = fitted.explain([text])
    assert_same(Explanations.from_json(explanations.to_json()), explanations)


def test_several_models_in_one_file(fitted, make_classifier):
    X, y = make_texts(16)
    other = make_classifier(max_epochs=1, n_prototypes=1).fit(X, y)
    both = Explanations([*fitted.explain(X[:2]), *other.explain(X[:2])])
    assert_same(Explanations.from_json(both.to_json()), both)
    content = json.loads(both.to_json())
    assert [len(table["texts"]) for table in content["prototypes"]] == [6, 2]


def test_what_needs_the_model_says_so(fitted):
    [e] = Explanations.from_json(fitted.explain(["good food"]).to_json())
    with pytest.raises(ValueError, match="stored without its model"):
        e.alignment(0)
    with pytest.raises(ValueError, match="stored without its model"):
        _ = e.token_similarities


@pytest.mark.parametrize("text", ["", "{", '{"format": "other"}', "[]", "3"])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match=r"no JSON|no explanations"):
        Explanations.from_json(text)


@pytest.mark.parametrize(
    ("version", "remedy"), [(99, "Upgrade"), (1, "Explain the texts again")]
)
def test_another_version_says_what_to_do(fitted, version, remedy):
    content = json.loads(fitted.explain(["good"]).to_json())
    content["version"] = version
    with pytest.raises(ValueError, match=rf"version {version}.*{remedy}"):
        Explanations.from_json(json.dumps(content))


def test_labels_before_and_after_an_edit_are_kept_apart(make_classifier, texts):
    """A relabelling keeps the texts, by which two sets of prototypes were merged."""
    clf = make_classifier(max_epochs=1).fit(*texts)
    [before] = clf.explain(["good food"])
    [after] = clf.relabel_prototypes({0: "pos"}).explain(["good food"])
    again = Explanations.from_json(Explanations([before, after]).to_json())
    assert again.to_dict() == Explanations([before, after]).to_dict()


@pytest.mark.parametrize("gone", ["classes", "prototypes", "explanations"])
@pytest.mark.parametrize("instead", [None, [{}], [3]])
def test_json_that_was_tampered_with_is_refused(fitted, gone, instead):
    content = json.loads(fitted.explain(["good food"]).to_json())
    del content[gone]
    if instead is not None:
        content[gone] = instead
    with pytest.raises(ValueError, match="is not as Explanations"):
        Explanations.from_json(json.dumps(content))
