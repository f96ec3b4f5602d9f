"""Prototypes are removed, relabeled, added, pruned and redacted; edits are undone."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from skprotolm import ProtoLMClassifier
from tests.helpers import FORMULATIONS
from tests.texts import make_texts

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
def fitted_mixture(make_classifier) -> ProtoLMClassifier:
    return make_classifier().fit(X, Y)


@pytest.fixture
def mixture(fitted_mixture) -> ProtoLMClassifier:
    return copy.deepcopy(fitted_mixture)


EDITS = {
    "remove": lambda clf: clf.remove_prototypes([0, 4]),
    "relabel": lambda clf: clf.relabel_prototypes({1: "pos"}),
    "add": lambda clf: clf.add_prototypes(NEW, ["pos", "pos"]),
    "prune": lambda clf: clf.prune_prototypes(min_usage=9),
}


def log_scores(clf: ProtoLMClassifier) -> np.ndarray:
    """Return the scores z of the classes."""
    return clf._fitted.outputs(X)


# Effects of edits.


@pytest.mark.parametrize("indices", [[1], [0, 4], np.array([2, 3]), 5])
def test_removing_changes_only_the_scores_of_the_classes(mixture, indices):
    """z_c changes by (κ/λ)·log(1 − share inside the class), and priors do not."""
    clf = mixture
    before, explained = log_scores(clf), clf.explain(X)
    removed, labels = np.atleast_1d(indices), clf.prototypes_.labels
    kept = np.setdiff1d(np.arange(6), removed)
    priors, layer = clf.prototypes_.priors, clf._fitted.layer
    scale = layer.readout.concentration(layer.vectors).item() / layer.sharpness
    assert clf.remove_prototypes(indices) is clf
    np.testing.assert_allclose(clf.prototypes_.priors, priors[kept], rtol=1e-6)
    after = log_scores(clf)
    for row, e in enumerate(explained):
        for code, label in enumerate(clf.classes_):
            share = e.contributions[removed][labels[removed] == label].sum()
            inside = share / e.probabilities[label]
            expected = before[row, code] + scale * np.log1p(-inside)
            assert after[row, code] == pytest.approx(expected, abs=1e-6)


def test_removing_subtracts_the_contribution_under_proto_lm(make_classifier):
    clf = make_classifier(formulation="proto-lm").fit(X, Y)
    before, explained = log_scores(clf), clf.explain(X, target="pos")
    clf.remove_prototypes(2)
    for row, e in enumerate(explained):
        expected = before[row, 1] - e.contributions[2]
        assert log_scores(clf)[row, 1] == pytest.approx(expected, rel=1e-5)


def test_a_relabeled_prototype_belongs_to_its_new_class(clf):
    text = clf.prototypes_[1].text
    [before] = clf.predict_proba([text])
    clf.relabel_prototypes({1: "pos"})
    assert clf.prototypes_.labels.tolist() == ["neg", "pos", "neg"] + ["pos"] * 3
    assert clf.predict_proba([text])[0, 1] > before[1]
    [e] = clf.explain([text], target="pos")
    assert e.prototypes[0].index == 1


def test_a_relabeled_prototype_keeps_its_prior(mixture):
    priors = mixture.prototypes_.priors
    mixture.relabel_prototypes({1: "pos"})
    np.testing.assert_allclose(mixture.prototypes_.priors, priors, rtol=1e-6)
    [e] = mixture.explain([mixture.prototypes_[1].text])
    assert e.prototypes[0].index == 1


def test_relabeling_twice_restores_the_predictions(clf):
    expected = clf.predict_proba(X)
    clf.relabel_prototypes({1: "pos"}).relabel_prototypes({1: "neg"})
    np.testing.assert_array_equal(clf.predict_proba(X), expected)


def test_a_relabeled_prototype_has_no_purity(mixture):
    """Purity of the former class must not count in pruning."""
    clf = mixture.relabel_prototypes({0: "pos"})
    assert clf.prototypes_[0].purity is None
    assert clf.prototypes_[1].purity is not None
    clf.prune_prototypes(min_usage=0, min_purity=1.0)
    assert clf.edits_[-1]["action"] == "prune"
    assert clf.prototypes_[0].label == "pos"
    clf.undo_edit().undo_edit()
    assert clf.prototypes_[0].purity is not None


def test_added_prototypes_have_the_vectors_of_their_texts(clf):
    clf.add_prototypes(NEW, ["pos", "neg"])
    assert len(clf.prototypes_) == 8
    added = clf.prototypes_[6:]
    assert [p.text for p in added] == NEW
    assert [p.label for p in added] == ["pos", "neg"]
    assert {(p.train_index, p.purity, p.usage) for p in added} == {(None, None, None)}
    assert clf.transform(NEW).argmax(axis=1).tolist() == [6, 7]


def test_added_prototypes_have_the_mean_prior_of_their_class_and_alignments(mixture):
    priors = mixture.prototypes_.priors
    mixture.add_prototypes(NEW, ["pos", "neg"])
    added = mixture.prototypes_[6:]
    assert added[0].prior == pytest.approx(priors[3:].mean(), rel=1e-5)
    assert added[1].prior == pytest.approx(priors[:3].mean(), rel=1e-5)
    [e] = mixture.explain([NEW[0]])
    np.testing.assert_allclose(e.alignment(6).sum(), 1, atol=1e-4)


def test_explanations_are_exact_after_edits(mixture):
    clf = mixture
    clf.remove_prototypes(0).add_prototypes(NEW, ["neg", "pos"])
    clf.relabel_prototypes({0: "pos"})
    for e in clf.explain(X):
        is_target = clf.prototypes_.labels == e.target
        assert e.contributions.sum() == pytest.approx(1, abs=1e-9)
        share = e.contributions[is_target].sum()
        assert share == pytest.approx(e.probability, abs=1e-9)
        total = e.base_value + e.token_scores.sum()
        assert total == pytest.approx(e.log_odds, abs=1e-5)


@pytest.mark.parametrize("min_usage", [9, 1000])
def test_pruning_removes_prototypes_of_low_usage_but_one_per_class(clf, min_usage):
    usages, labels = clf.prototypes_.usages, clf.prototypes_.labels
    clf.prune_prototypes(min_usage=min_usage)
    for label in ("neg", "pos"):
        members = usages[labels == label]
        expected = [n for n in members if n >= min_usage] or [members.max()]
        assert [p.usage for p in clf.prototypes_ if p.label == label] == expected
    assert len(clf.prototypes_) < 6


def test_pruning_by_purity_keeps_added_prototypes(clf):
    pure = [p.text for p in clf.prototypes_ if p.purity == 1]
    assert len(pure) < len(clf.prototypes_)
    clf.add_prototypes(NEW, ["pos", "neg"])
    clf.prune_prototypes(min_usage=0, min_purity=1.0)
    assert [p.text for p in clf.prototypes_] == [*pure, *NEW]


def test_pruning_without_effect_is_not_an_edit(clf):
    clf.prune_prototypes(min_usage=0)
    assert clf.edits_ == []


# Undo, and what is stored.


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("store", [False, True])
def test_an_edit_is_undone_bit_by_bit(clf, name, store):
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


def test_edits_are_undone_in_reverse_order(clf):
    probabilities = [clf.predict_proba(X)]
    for edit in EDITS.values():
        probabilities.append(edit(clf).predict_proba(X))
    assert [edit["action"] for edit in clf.edits_] == list(EDITS)
    for expected in probabilities[-2::-1]:
        np.testing.assert_array_equal(clf.undo_edit().predict_proba(X), expected)
    with pytest.raises(ValueError, match="no edit to undo"):
        clf.undo_edit()


def test_edits_record_what_was_changed(clf):
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
    clf.edits_[0]["action"] = "changed"
    assert clf.edits_[0]["action"] == "remove"


def test_edits_are_pickled(clf):
    for edit in EDITS.values():
        edit(clf)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    assert again.edits_ == clf.edits_
    assert again.prototypes_.to_dict() == clf.prototypes_.to_dict()


def test_edits_of_a_copy_do_not_change_the_original(model):
    expected = model.predict_proba(X)
    copied = copy.deepcopy(model)
    for edit in EDITS.values():
        edit(copied)
    np.testing.assert_array_equal(model.predict_proba(X), expected)
    assert model.edits_ == []


def test_a_new_fit_has_no_edits(clf):
    clf.remove_prototypes(0).fit(X, Y)
    assert clf.edits_ == []
    assert len(clf.prototypes_) == 6


# Redaction.


def test_a_redacted_text_is_removed_from_the_estimator_and_its_pickles(clf):
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
    clf = mixture.redact_prototypes({1: "[redacted]"})
    assert not clf.prototypes_[1].projected
    [e] = clf.explain(X[:1])
    assert "[redacted]" in [p.text for p in e.prototypes]
    with pytest.raises(
        ValueError, match="vector of prototype 1 is not that of its text"
    ):
        e.alignment(1)
    e.alignment(0)


def test_prototypes_with_equal_replacements_are_redacted_separately(mixture):
    clf = mixture
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


def test_a_text_that_is_redacted_twice_cannot_be_restored(mixture):
    clf = mixture
    clf.add_prototypes(["my name is Anna"], ["pos"])
    clf.remove_prototypes([5])
    for shown in ("the patient John Doe", "[x]"):
        clf.redact_prototypes({0: shown, 5: f"{shown} too"})
    assert b"John Doe" not in pickle.dumps(clf)
    assert b"Anna" not in pickle.dumps(clf)
    clf.undo_edit()
    assert clf.prototypes_.texts[0] == "[x]"
    assert clf.prototypes_.texts[6] == "[x] too"


def test_a_text_that_was_removed_and_added_again_is_redacted_everywhere(mixture):
    clf = mixture
    secret = clf.prototypes_.texts[2]
    clf.remove_prototypes([2]).add_prototypes([secret], ["neg"])
    clf.redact_prototypes({5: "[withheld]"})
    assert secret.encode() not in pickle.dumps(clf)
