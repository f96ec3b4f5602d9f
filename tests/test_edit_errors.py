"""Invalid edits of prototypes are refused without any change."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from skprotolm import ProtoLMClassifier
from tests.helpers import FORMULATIONS

NEW = ["a warm day with great food", "the service was kind"]


@pytest.fixture(scope="module", params=FORMULATIONS)
def model(request, make_classifier, texts) -> ProtoLMClassifier:
    """A fitted classifier of each formulation; tests edit copies of it."""
    return make_classifier(formulation=request.param).fit(*texts)


@pytest.fixture
def clf(model) -> ProtoLMClassifier:
    return copy.deepcopy(model)


WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "a missing index": (
        lambda clf: clf.remove_prototypes(6),
        IndexError,
        "no prototype 6: they are 0 to 5",
    ),
    "a negative index": (lambda clf: clf.remove_prototypes(-1), IndexError, "-1"),
    "an empty list": (
        lambda clf: clf.remove_prototypes([]),
        ValueError,
        "must not be empty",
    ),
    "an index twice": (
        lambda clf: clf.remove_prototypes([1, 1]),
        ValueError,
        "must be distinct",
    ),
    "a bool": (lambda clf: clf.remove_prototypes([True]), TypeError, "must be an int"),
    "a string": (lambda clf: clf.remove_prototypes("1"), TypeError, "must be an int"),
    "a label": (lambda clf: clf.remove_prototypes("pos"), TypeError, "got 'pos' .str"),
    "half an index": (
        lambda clf: clf.remove_prototypes(1.5),
        TypeError,
        r"an int or an iterable of ints, got 1.5 \(float\)",
    ),
    "a class removed": (
        lambda clf: clf.remove_prototypes([0, 1, 2]),
        ValueError,
        "'neg' would have no prototype left",
    ),
    "a class relabeled": (
        lambda clf: clf.relabel_prototypes({3: "neg", 4: "neg", 5: "neg"}),
        ValueError,
        "'pos' would have no prototype left",
    ),
    "an unknown label": (
        lambda clf: clf.relabel_prototypes({0: "odd"}),
        ValueError,
        r"labels must contain labels from classes_, got 'odd'",
    ),
    "labels in a list": (
        lambda clf: clf.relabel_prototypes([0]),
        TypeError,
        "must be a dict",
    ),
    "an unknown label of a text": (
        lambda clf: clf.add_prototypes(NEW, ["pos", "odd"]),
        ValueError,
        "got 'odd'",
    ),
    "fewer labels than texts": (
        lambda clf: clf.add_prototypes(NEW, ["pos"]),
        ValueError,
        r"labels must be one label per text \(2\), got 1",
    ),
    "a set of labels": (
        lambda clf: clf.add_prototypes(NEW, {"pos", "neg"}),
        ValueError,
        r"labels must be one column of labels, got set",
    ),
    "a frame of labels": (
        lambda clf: clf.add_prototypes(NEW, pd.DataFrame({"pos": [1], "neg": [2]})),
        ValueError,
        r"one column of labels, got DataFrame",
    ),
    "a purity in %": (
        lambda clf: clf.prune_prototypes(min_purity=90),
        ValueError,
        r"min_purity must be a number in \[0, 1\], got 90",
    ),
    "a purity that is not a number": (
        lambda clf: clf.prune_prototypes(min_purity=float("nan")),
        ValueError,
        "min_purity",
    ),
    "half a text": (
        lambda clf: clf.prune_prototypes(min_usage=1.5),
        ValueError,
        "min_usage must be a non-negative int, got 1.5",
    ),
    "one label": (
        lambda clf: clf.add_prototypes(NEW, "pos"),
        ValueError,
        r"labels must be one label per text \(2\), got a single value",
    ),
    "a single text": (
        lambda clf: clf.add_prototypes("good", ["pos"]),
        ValueError,
        "texts must be a collection of texts, got a single str",
    ),
    "a pair": (
        lambda clf: clf.add_prototypes([("a", "b")], ["pos"]),
        ValueError,
        "texts holds pairs of texts, but the estimator was fitted on single texts",
    ),
    "the text of a prototype": (
        lambda clf: clf.add_prototypes([clf.prototypes_[2].text], ["neg"]),
        ValueError,
        "Row 0 of texts is the text of prototype 2 already",
    ),
    "a text twice": (
        lambda clf: clf.add_prototypes(["x", "x"], ["neg", "neg"]),
        ValueError,
        "Rows 0 and 1 of texts are the same text",
    ),
    "a missing text": (
        lambda clf: clf.redact_prototypes({0: None}),
        ValueError,
        "Row 0",
    ),
    "texts in a list": (
        lambda clf: clf.redact_prototypes(["redacted"]),
        TypeError,
        "must be a dict",
    ),
}


@pytest.mark.parametrize(("edit", "error", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_edit_is_refused_and_changes_nothing(clf, texts, edit, error, message):
    X, _ = texts
    expected, prototypes = clf.predict_proba(X), clf.prototypes_
    with pytest.raises(error, match=message):
        edit(clf)
    np.testing.assert_array_equal(clf.predict_proba(X), expected)
    assert clf.prototypes_ is prototypes
    assert clf.edits_ == []


def test_an_estimator_that_is_not_fitted_cannot_be_edited():
    clf = ProtoLMClassifier()
    with pytest.raises(NotFittedError):
        clf.remove_prototypes(0)
    assert not hasattr(clf, "edits_")


def test_a_missing_index_of_prototypes_is_named(clf):
    assert clf.prototypes_[-1].index == len(clf.prototypes_) - 1
    with pytest.raises(IndexError, match=r"There is no prototype 99: .* 0 to 5"):
        clf.prototypes_[99]
    with pytest.raises(TypeError, match="index must be an int, got 'pos'"):
        clf.prototypes_["pos"]
