"""Prototypes are removed, relabelled, added, pruned and redacted; edits are undone."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest

from skprotolm import ProtoLMClassifier
from tests.conftest import make_texts

FORMULATIONS = ["mixture", "proto-lm"]
NEW = ["a warm day with great food", "the service was kind"]
X, Y = make_texts()


@pytest.fixture(scope="module", params=FORMULATIONS)
def model(request, make_classifier) -> ProtoLMClassifier:
    """A fitted classifier of each formulation; tests edit copies of it."""
    return make_classifier(formulation=request.param).fit(X, Y)


@pytest.fixture
def clf(model) -> ProtoLMClassifier:
    return copy.deepcopy(model)


@pytest.fixture(scope="module")
def mixture(make_classifier) -> ProtoLMClassifier:
    return make_classifier().fit(X, Y)


EDITS = {
    "remove": lambda clf: clf.remove_prototypes([0, 4]),
    "relabel": lambda clf: clf.relabel_prototypes({1: "pos"}),
    "add": lambda clf: clf.add_prototypes(NEW, ["pos", "pos"]),
    "prune": lambda clf: clf.prune_prototypes(min_usage=9),
}


def log_scores(clf: ProtoLMClassifier) -> np.ndarray:
    """Return the classes' scores z, from what the state computes."""
    return clf._fitted.layer_outputs(X).outputs.numpy()


# --- What edits do.


@pytest.mark.parametrize("indices", [[1], [0, 4], np.array([2, 3]), 5])
def test_removing_changes_a_score_by_the_share_and_no_other(mixture, indices):
    """z_c changes by (κ/λ)·log(1 − share inside the class); priors stay as they are."""
    clf = copy.deepcopy(mixture)
    before, explained = log_scores(clf), clf.explain(X)
    gone = np.atleast_1d(indices)
    kept = np.setdiff1d(np.arange(6), gone)
    priors = clf.prototypes_.priors
    scale = clf._fitted.layer.concentration(clf._fitted.layer.vectors).item() / 30
    assert clf.remove_prototypes(indices) is clf
    np.testing.assert_allclose(clf.prototypes_.priors, priors[kept], rtol=1e-6)
    after = log_scores(clf)
    labels = mixture.prototypes_.labels
    for row, e in enumerate(explained):
        for code, label in enumerate(clf.classes_):
            share = e.contributions[gone][labels[gone] == label].sum()
            inside = share / e.probabilities[label]
            expected = before[row, code] + scale * np.log1p(-inside)
            assert after[row, code] == pytest.approx(expected, abs=1e-6)


def test_removing_takes_the_term_out_of_the_published_sum(make_classifier):
    clf = make_classifier(formulation="proto-lm").fit(X, Y)
    before, explained = log_scores(clf), clf.explain(X, target="pos")
    clf.remove_prototypes(2)
    for row, e in enumerate(explained):
        expected = before[row, 1] - e.contributions[2]
        assert log_scores(clf)[row, 1] == pytest.approx(expected, rel=1e-5)


def test_relabelled_prototypes_count_for_their_new_class(clf):
    priors = clf.prototypes_.priors
    clf.relabel_prototypes({1: "pos"})
    assert clf.prototypes_.labels.tolist() == ["neg", "pos", "neg"] + ["pos"] * 3
    if priors is not None:
        np.testing.assert_allclose(clf.prototypes_.priors, priors, rtol=1e-6)
    text = clf.prototypes_[1].text
    [e] = clf.explain([text])
    assert e.prototypes[0].index == 1 or e.space == "score"
    assert e.prediction == "pos"


def test_relabelling_there_and_back_changes_nothing(clf):
    expected = clf.predict_proba(X)
    clf.relabel_prototypes({1: "pos"}).relabel_prototypes({1: "neg"})
    np.testing.assert_array_equal(clf.predict_proba(X), expected)


def test_added_prototypes_stand_on_their_texts(clf):
    priors = clf.prototypes_.priors
    clf.add_prototypes(NEW, ["pos", "neg"])
    assert len(clf.prototypes_) == 8
    added = clf.prototypes_[6:]
    assert [p.text for p in added] == NEW
    assert [p.label for p in added] == ["pos", "neg"]
    assert {(p.train_index, p.purity, p.usage) for p in added} == {(None, None, None)}
    if priors is not None:
        assert added[0].prior == pytest.approx(priors[3:].mean(), rel=1e-5)
    best = clf.transform(NEW).argmax(axis=1)
    assert best.tolist() == [6, 7]
    if priors is not None:
        [e] = clf.explain([NEW[0]])
        np.testing.assert_allclose(e.alignment(6).sum(), 1, atol=1e-4)


def test_explanations_stay_exact_after_edits(mixture):
    clf = copy.deepcopy(mixture)
    clf.remove_prototypes(0).add_prototypes(NEW, ["neg", "pos"])
    clf.relabel_prototypes({0: "pos"})
    for e in clf.explain(X):
        owned = clf.prototypes_.labels == e.target
        assert e.contributions.sum() == pytest.approx(1, abs=1e-9)
        assert e.contributions[owned].sum() == pytest.approx(e.probability, abs=1e-9)
        total = e.base_value + e.token_scores.sum()
        assert total == pytest.approx(e.log_odds, abs=1e-5)


def test_pruning_takes_out_what_is_hardly_used_and_leaves_each_class_one(clf):
    usages, labels = clf.prototypes_.usages, clf.prototypes_.labels
    clf.prune_prototypes(min_usage=9)
    left = [p.usage for p in clf.prototypes_]
    for label in ("neg", "pos"):
        mine = usages[labels == label]
        wanted = [n for n in mine if n >= 9] or [mine.max()]
        found = [p.usage for p in clf.prototypes_ if p.label == label]
        assert found == wanted
    assert len(left) < 6, "nothing was pruned, so this says nothing"


def test_pruning_by_purity_keeps_added_prototypes(clf):
    pure = [p.text for p in clf.prototypes_ if p.purity == 1]
    assert len(pure) < len(clf.prototypes_), "there is nothing to prune"
    clf.add_prototypes(NEW, ["pos", "neg"])
    clf.prune_prototypes(min_usage=0, min_purity=1.0)
    assert [p.text for p in clf.prototypes_] == [*pure, *NEW]


def test_pruning_nothing_is_no_edit(clf):
    clf.prune_prototypes(min_usage=0)
    assert clf.edits_ == []


# --- Undo, and what is kept.


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("store", [False, True])
def test_an_edit_is_undone_bit_for_bit(clf, name, store):
    expected = clf.predict_proba(X)
    before = clf.prototypes_.to_dict()
    EDITS[name](clf)
    assert not np.array_equal(clf.predict_proba(X), expected)
    if store:
        clf = pickle.loads(pickle.dumps(clf))
    assert clf.undo_edit() is clf
    np.testing.assert_array_equal(clf.predict_proba(X), expected)
    assert clf.prototypes_.to_dict() == before
    assert clf.edits_ == []


def test_edits_are_undone_in_turn(clf):
    seen = [clf.predict_proba(X)]
    for edit in EDITS.values():
        seen.append(edit(clf).predict_proba(X))
    assert [edit["action"] for edit in clf.edits_] == list(EDITS)
    for expected in seen[-2::-1]:
        np.testing.assert_array_equal(clf.undo_edit().predict_proba(X), expected)
    with pytest.raises(ValueError, match="no edit to undo"):
        clf.undo_edit()


def test_edits_say_what_was_changed(clf):
    indices = clf.prototypes_.train_indices.tolist()
    clf.remove_prototypes([3, 1]).relabel_prototypes({0: "pos"})
    clf.add_prototypes(NEW[:1], ["neg"])
    assert clf.edits_ == [
        {
            "action": "remove",
            "indices": [3, 1],
            "train_indices": [indices[3], indices[1]],
            "labels": ["pos", "neg"],
        },
        {
            "action": "relabel",
            "indices": [0],
            "train_indices": [indices[0]],
            "labels": ["neg"],
            "new_labels": ["pos"],
        },
        {"action": "add", "indices": [4], "train_indices": [None], "labels": ["neg"]},
    ]
    clf.edits_[0]["action"] = "nothing"
    assert clf.edits_[0]["action"] == "remove"


def test_edits_are_kept_by_pickle(clf):
    for edit in EDITS.values():
        edit(clf)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    assert again.edits_ == clf.edits_
    assert again.prototypes_.to_dict() == clf.prototypes_.to_dict()


def test_copies_are_edited_alone(model):
    expected = model.predict_proba(X)
    copied = copy.deepcopy(model)
    for edit in EDITS.values():
        edit(copied)
    np.testing.assert_array_equal(model.predict_proba(X), expected)
    assert model.edits_ == []


def test_a_fit_begins_without_edits(clf):
    clf.remove_prototypes(0).fit(X, Y)
    assert clf.edits_ == []
    assert len(clf.prototypes_) == 6


# --- Redaction.


def test_a_redacted_text_is_gone_from_everything(clf):
    expected = clf.predict_proba(X)
    secret = clf.prototypes_[1].text
    clf.remove_prototypes(0)
    clf.redact_prototypes({0: "[a patient's note]"})
    assert clf.prototypes_[0].text == "[a patient's note]"
    assert secret.encode() not in pickle.dumps(clf)
    clf.undo_edit()  # of the removal
    assert clf.prototypes_[1].text == "[a patient's note]"
    assert secret.encode() not in pickle.dumps(clf)
    np.testing.assert_array_equal(clf.predict_proba(X), expected)
    assert [edit["action"] for edit in clf.edits_] == ["redact"]
    with pytest.raises(ValueError, match="redactions cannot be undone"):
        clf.undo_edit()


def test_a_redacted_text_has_no_alignment(mixture):
    clf = copy.deepcopy(mixture).redact_prototypes({1: "[gone]"})
    assert not clf.prototypes_[1].projected
    [e] = clf.explain(X[:1])
    assert "[gone]" in [p.text for p in e.prototypes]
    with pytest.raises(ValueError, match="Prototype 1 is not the vector of the text"):
        e.alignment(1)
    e.alignment(0)


# --- What is refused changes nothing.


WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "no such index": (
        lambda clf: clf.remove_prototypes(6),
        IndexError,
        "no prototype 6: they are 0 to 5",
    ),
    "a negative index": (lambda clf: clf.remove_prototypes(-1), IndexError, "-1"),
    "no index": (lambda clf: clf.remove_prototypes([]), ValueError, "one at least"),
    "an index twice": (lambda clf: clf.remove_prototypes([1, 1]), ValueError, "twice"),
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
    "a class relabelled": (
        lambda clf: clf.relabel_prototypes({3: "neg", 4: "neg", 5: "neg"}),
        ValueError,
        "'pos' would have no prototype left",
    ),
    "an unknown label": (
        lambda clf: clf.relabel_prototypes({0: "odd"}),
        ValueError,
        r"labels must hold labels of classes_, got 'odd'",
    ),
    "labels that are no dict": (
        lambda clf: clf.relabel_prototypes([0]),
        TypeError,
        "must be a dict",
    ),
    "a text of no class": (
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
    "a purity that is no number": (
        lambda clf: clf.prune_prototypes(min_purity=float("nan")),
        ValueError,
        "min_purity",
    ),
    "half a use": (
        lambda clf: clf.prune_prototypes(min_usage=1.5),
        ValueError,
        "min_usage must be an int of at least 0, got 1.5",
    ),
    "one label": (
        lambda clf: clf.add_prototypes(NEW, "pos"),
        ValueError,
        r"labels must be one label per text \(2\), got a single value",
    ),
    "a bare text": (
        lambda clf: clf.add_prototypes("good", ["pos"]),
        ValueError,
        "texts must be a collection of texts, got a single str",
    ),
    "a pair": (
        lambda clf: clf.add_prototypes([("a", "b")], ["pos"]),
        ValueError,
        "texts holds pairs of texts, but the estimator was fitted on single texts",
    ),
    "a prototype again": (
        lambda clf: clf.add_prototypes([clf.prototypes_[2].text], ["neg"]),
        ValueError,
        "Row 0 of texts is the text of prototype 2 already",
    ),
    "a text twice": (
        lambda clf: clf.add_prototypes(["x", "x"], ["neg", "neg"]),
        ValueError,
        "Row 1 of texts",
    ),
    "a missing text": (
        lambda clf: clf.redact_prototypes({0: None}),
        ValueError,
        "Row 0",
    ),
    "texts that are no dict": (
        lambda clf: clf.redact_prototypes(["gone"]),
        TypeError,
        "must be a dict",
    ),
}


@pytest.mark.parametrize(("edit", "error", "message"), WRONG.values(), ids=WRONG)
def test_a_bad_edit_is_refused_and_changes_nothing(clf, edit, error, message):
    expected, prototypes = clf.predict_proba(X), clf.prototypes_
    with pytest.raises(error, match=message):
        edit(clf)
    np.testing.assert_array_equal(clf.predict_proba(X), expected)
    assert clf.prototypes_ is prototypes
    assert clf.edits_ == []


def test_an_estimator_that_is_not_fitted_has_nothing_to_edit():
    from sklearn.exceptions import NotFittedError

    clf = ProtoLMClassifier()
    with pytest.raises(NotFittedError):
        clf.remove_prototypes(0)
    assert not hasattr(clf, "edits_")


# --- Novelty.


def test_novelty_is_that_of_the_formula(mixture):
    clf = mixture
    cosines, priors = clf.transform(X), clf.prototypes_.priors
    for cosine, found in zip(cosines, clf.novelty_score(X), strict=True):
        total = sum(
            prior * np.exp(30 * c) for prior, c in zip(priors, cosine, strict=True)
        )
        assert found == pytest.approx(-np.log(total / 2) / 30, abs=1e-9)
        assert -1 <= found <= 1


def test_the_published_novelty_is_the_distance_to_the_nearest(make_classifier):
    clf = make_classifier(formulation="proto-lm").fit(X, Y)
    expected = 1 / clf.transform(X).max(axis=1) - 1e-4
    np.testing.assert_allclose(clf.novelty_score(X), expected, atol=1e-6)


def test_prototypes_are_less_novel_than_other_texts(clf):
    """On average: a text may lie nearer to several than each of them to the others."""
    own = np.isin(X, clf.prototypes_.texts)
    novelty = clf.novelty_score(X)
    assert novelty[own].mean() < np.quantile(novelty[~own], 0.1)


def test_equal_placeholders_are_told_apart(make_classifier, texts):
    """Redacting one of two redacted prototypes anew changed the other one too."""
    clf = make_classifier().fit(*texts)
    before = list(clf.prototypes_.texts)
    clf.remove_prototypes([5])
    clf.redact_prototypes({0: "[redacted]", 4: "[redacted]"})
    clf.redact_prototypes({0: "[new]"})
    after = ["[new]", *before[1:4], "[redacted]"]
    assert list(clf.prototypes_.texts) == after
    assert clf.prototypes_.redacted.tolist() == [True, False, False, False, True]
    clf.undo_edit()  # of the removal
    assert list(clf.prototypes_.texts)[1:4] == before[1:4]
    assert clf.prototypes_.texts[5] == before[5]
    assert clf.prototypes_.redacted.tolist() == [True] + [False] * 3 + [True, False]
    assert before[0] not in clf.prototypes_.texts
    assert before[4] not in clf.prototypes_.texts


def test_a_relabelled_prototype_has_no_purity(make_classifier, texts):
    """The purity of the old class stayed, and the next pruning went by it."""
    clf = make_classifier().fit(*texts)
    clf.relabel_prototypes({0: "pos"})
    assert clf.prototypes_[0].purity is None
    assert clf.prototypes_[1].purity is not None
    clf.prune_prototypes(min_usage=0, min_purity=1.0)
    assert clf.edits_[-1]["action"] == "prune"
    assert clf.prototypes_[0].label == "pos"
    clf.undo_edit().undo_edit()
    assert clf.prototypes_[0].purity is not None


def test_what_was_redacted_twice_is_gone_from_what_can_be_undone(
    make_classifier, texts
):
    """The second redaction left the first text where an undo would find it."""
    clf = make_classifier().fit(*texts)
    clf.add_prototypes(["my name is Anna"], ["pos"])
    clf.remove_prototypes([5])
    for shown in ("the patient John Doe", "[x]"):
        clf.redact_prototypes({0: shown, 5: f"{shown} too"})
    assert b"John Doe" not in pickle.dumps(clf)
    assert b"Anna" not in pickle.dumps(clf)
    clf.undo_edit()
    assert clf.prototypes_.texts[0] == "[x]"
    assert clf.prototypes_.texts[6] == "[x] too"


def test_a_text_that_was_added_again_is_redacted_everywhere(make_classifier, texts):
    clf = make_classifier().fit(*texts)
    secret = clf.prototypes_.texts[2]
    clf.remove_prototypes([2]).add_prototypes([secret], ["neg"])
    clf.redact_prototypes({5: "[withheld]"})
    assert secret.encode() not in pickle.dumps(clf)


def test_a_prototype_that_is_not_there_is_named(clf):
    """The error was that of a range."""
    assert clf.prototypes_[-1].index == len(clf.prototypes_) - 1
    with pytest.raises(IndexError, match="There is no prototype 99: they are 0 to 5"):
        clf.prototypes_[99]
    with pytest.raises(TypeError, match="index must be an int, got 'pos'"):
        clf.prototypes_["pos"]
