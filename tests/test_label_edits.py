"""Edits of prototypes that have several labels."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from tests.label_sets import LABELS, NEW, X, Y

pytestmark = pytest.mark.filterwarnings(
    "ignore::skprotolm.exceptions.UnpredictedClassWarning"
)


def test_edits_change_predictions_and_can_be_undone(multilabel):
    edited = copy.deepcopy(multilabel)
    before = multilabel.predict_proba(NEW)
    [e] = multilabel.explain(NEW[:1], target="food")
    top = e.in_favor[0]
    edited.relabel_prototypes({top.index: {"praise"}})
    assert edited.predict_proba(NEW[:1])[0, 1] < before[0, 1]
    assert edited.prototypes_[top.index].label == ("praise",)
    edited.remove_prototypes(top.index)
    edited.add_prototypes(["something else", "one more"], [["food", "film"], []])
    edited.add_prototypes(["with a row"], np.array([[1, 0, 1]]))
    added = [p.label for p in edited.prototypes_[-3:]]
    assert added == [("food", "film"), (), ("praise", "film")]
    edited.redact_prototypes({0: "hidden"})
    actions = [edit["action"] for edit in edited.edits_]
    assert actions == ["relabel", "remove", "add", "add", "redact"]
    assert edited.edits_[0]["new_labels"] == [("praise",)]
    for _ in range(4):
        edited.undo_edit()
    np.testing.assert_array_equal(edited.predict_proba(NEW), before)


def test_removing_a_prototype_rescales_its_side_alone(multilabel):
    [e] = multilabel.explain(NEW[:1], target="food", token_method="decomposition")
    top = e.in_favor[0]
    edited = copy.deepcopy(multilabel).remove_prototypes(top.index)
    [after] = edited.explain(NEW[:1], target="food")
    without = np.delete(e.has_target, top.index)
    others = np.delete(e.contributions, top.index)[~without]
    rest = after.contributions[~without]
    np.testing.assert_allclose(rest / rest.sum(), others / others.sum())


def test_every_label_keeps_prototypes_with_and_without_it(multilabel):
    edited = copy.deepcopy(multilabel)
    labels = [p.label for p in multilabel.prototypes_]
    food = [j for j, own in enumerate(labels) if "food" in own]
    others = [j for j, own in enumerate(labels) if "food" not in own]
    with pytest.raises(ValueError, match="no prototype with the label 'food' left"):
        edited.remove_prototypes(food)
    with pytest.raises(ValueError, match=r"no prototype .* label .* left"):
        edited.remove_prototypes(others)
    with pytest.raises(ValueError, match="no prototype with the label 'food' left"):
        edited.relabel_prototypes({j: ["film"] for j in food})
    edited.prune_prototypes(min_usage=10**6)
    kept = [p.label for p in edited.prototypes_]
    for label in LABELS:
        assert 0 < sum(label in own for own in kept) < len(kept)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["food"], "must hold a set of labels per text"),
        ([["drink"]], "'drink' is not one of them"),
        ([["food", "food"]], "one is named twice"),
        ([["food"], ["film"]], r"one set of labels per text \(1\), got 2"),
        (np.array([[1, 0]]), r"one column per label \(3\), got 2"),
        (np.array([[2, 0, 0]]), "row 0, column 0 is 2"),
    ],
)
def test_labels_of_added_texts_are_checked(multilabel, labels, message):
    with pytest.raises(ValueError, match=message):
        copy.deepcopy(multilabel).add_prototypes(["a new text"], labels)


def test_a_list_of_two_numbers_may_be_labels_or_indicators(make_multilabel):
    clf = make_multilabel().fit(X, Y[:, :2])
    with pytest.raises(ValueError, match="may be both labels or an indicator row"):
        clf.add_prototypes(["a new text"], [[0, 1]])
    clf.add_prototypes(["a new text"], [{0, 1}])
    clf.add_prototypes(["another text"], np.array([[0, 1]]))
    assert [p.label for p in clf.prototypes_[-2:]] == [(0, 1), (1,)]


def test_a_list_that_may_be_labels_or_indicators_is_refused(make_classifier, texts):
    """With the labels 1 and 0, in this order, [0, 1] were both labels."""
    pd = pytest.importorskip("pandas")
    X, _ = texts
    rows = np.arange(len(X))
    frame = pd.DataFrame({1: rows % 2, 0: (rows % 3 == 0).astype(int)})
    clf = make_classifier(n_prototypes="auto").fit(X, frame)
    with pytest.raises(ValueError, match="may be both labels or an indicator row"):
        clf.relabel_prototypes({0: [0, 1]})
