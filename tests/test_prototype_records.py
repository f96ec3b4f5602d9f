"""The records of prototypes: their fields, views and neighbors."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

import numpy as np
import pytest

from skprotolm import Prototype

# A tiny random encoder gives many texts nearly the same vector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::skprotolm.exceptions.UnreadTextWarning"
)


def test_prototypes_are_a_sequence(fitted):
    prototypes = fitted.prototypes_
    assert len(prototypes) == 6
    assert [p.index for p in prototypes] == list(range(6))
    assert isinstance(prototypes[0], Prototype)
    assert prototypes[-1].index == 5
    assert [p.text for p in prototypes[1:3]] == list(prototypes.texts[1:3])
    with pytest.raises(IndexError):
        prototypes[6]


def test_prototypes_convert_to_the_array_of_their_vectors(fitted):
    prototypes = fitted.prototypes_
    array = np.asarray(prototypes)
    assert array.shape == prototypes.shape == (6, 16)
    np.testing.assert_array_equal(array, prototypes.vectors)
    assert np.asarray(prototypes, dtype=np.float64).dtype == np.float64
    copied = np.array(prototypes)
    copied[:] = 0
    assert prototypes.vectors.any()


def test_prototypes_are_immutable(fitted):
    with pytest.raises(dataclasses.FrozenInstanceError):
        fitted.prototypes_[0].text = "another"


def test_prototypes_of_a_mixture_have_priors(fitted):
    for p in fitted.prototypes_:
        assert 0 < p.prior < 1
        assert p.weights is None


def test_prototypes_of_proto_lm_have_weights(make_classifier, texts):
    prototypes = make_classifier(formulation="proto-lm").fit(*texts).prototypes_
    for p in prototypes:
        assert p.prior is None
        assert len(p.weights) == 2
        assert p in set(prototypes)  # weights are hashable
        code = int(p.label == "pos")
        assert p.weights[code] > p.weights[1 - code]  # near 1 and −0.5


@pytest.mark.parametrize("formulation", ["mixture", "proto-lm"])
def test_prototypes_convert_to_dicts_and_frames(make_classifier, texts, formulation):
    prototypes = make_classifier(formulation=formulation).fit(*texts).prototypes_
    dicts = prototypes.to_dict()
    assert json.loads(json.dumps(dicts)) == dicts
    assert [d.keys() for d in dicts] == [vars(p).keys() for p in prototypes]
    frame = prototypes.to_frame()
    assert frame["text"].tolist() == list(prototypes.texts)
    assert frame["train_index"].tolist() == prototypes.train_indices.tolist()


def test_purity_and_usage_are_counted_over_the_training_texts(make_classifier, texts):
    X, y = texts
    clf = make_classifier(finetune="head", head_learning_rate=1e-30, max_epochs=1)
    clf.fit(X, y)
    cosines = clf.transform(X)  # the training does not change the vectors
    nearest = cosines.argmax(axis=1)
    for p in clf.prototypes_:
        rows = [row for row in np.flatnonzero(nearest == p.index) if X[row] != p.text]
        assert p.usage == len(rows)
        assert 0 <= p.purity <= 1


def test_a_class_of_one_text_has_no_purity(make_classifier, texts):
    clf = make_classifier(n_prototypes=1, max_epochs=1)
    clf.fit([*texts[0][:9], "a rare day"], [*texts[1][:9], "rare"])
    [rare] = [p for p in clf.prototypes_ if p.label == "rare"]
    assert rare.purity is None
    assert "–" in clf.prototypes_._repr_html_()


def test_prototypes_print_their_texts(make_classifier):
    X = [f"good day {i}" for i in range(24)]
    clf = make_classifier(n_prototypes=12, max_epochs=1, preservation=0)
    clf.fit(X, [i % 2 for i in range(24)])
    output = repr(clf.prototypes_)
    assert output.startswith("24 prototypes of 2 classes")
    assert output.count("good day") == 20
    first = clf.prototypes_[0]
    assert f"  0  0, {first.name}: {first.text}" in output
    assert output.endswith("… and 4 more")
    assert clf.prototypes_._repr_html_().count("<article") == 24


def test_nearest_finds_the_most_similar_prototypes(fitted):
    X = ["the food was good", "a dull card"]
    nearest = fitted.prototypes_.nearest(X, k=3)
    similarities = fitted.transform(X)
    expected = np.sort(similarities, axis=1)[:, ::-1][:, :3]
    np.testing.assert_array_equal(nearest.similarities, expected)
    np.testing.assert_array_equal(
        np.take_along_axis(similarities, nearest.indices, axis=1), expected
    )
    [[index]] = fitted.prototypes_.nearest([fitted.prototypes_.texts[4]]).indices
    assert fitted.prototypes_.vectors[index] == pytest.approx(
        fitted.prototypes_.vectors[4], abs=1e-3
    )


@pytest.mark.parametrize("k", [0, 7, 1.0, True, None])
def test_nearest_rejects_an_invalid_k(fitted, k):
    with pytest.raises(ValueError, match=r"k must be (a positive int|at most 6)"):
        fitted.prototypes_.nearest(["good"], k=k)


def test_pickled_prototypes_have_no_model(fitted):
    stored = pickle.loads(pickle.dumps(fitted.prototypes_))
    assert stored.texts == fitted.prototypes_.texts
    np.testing.assert_array_equal(stored.vectors, fitted.prototypes_.vectors)
    with pytest.raises(ValueError, match="stored without their model"):
        stored.nearest(["good"])
    assert copy.deepcopy(fitted.prototypes_).nearest(["good"]).indices.shape == (1, 1)


@pytest.mark.parametrize("formulation", ["mixture", "proto-lm"])
def test_the_map_shows_prototypes_and_texts(make_classifier, texts, formulation):
    pytest.importorskip("matplotlib")
    X, y = texts
    clf = make_classifier(max_epochs=1, formulation=formulation).fit(X, y)
    [axes] = clf.prototypes_.plot(X, y).axes
    drawn = sum(len(marks.get_offsets()) for marks in axes.collections)
    assert drawn == len(X) + 6
    numbered = [f"{p.index}  {p.name}" for p in clf.prototypes_]
    assert [t.get_text() for t in axes.texts] == numbered
    names = [t.get_text() for t in axes.get_legend().get_texts()]
    assert names == ["neg", "pos"]
    alone = clf.prototypes_.plot().axes[0]
    assert sum(len(marks.get_offsets()) for marks in alone.collections) == 6
    unlabeled = clf.prototypes_.plot(X[:3]).axes[0]
    names = [t.get_text() for t in unlabeled.get_legend().get_texts()]
    assert names == ["neg", "pos", "no label"]
    with pytest.raises(ValueError, match=r"one label per text \(48\), got 3"):
        clf.prototypes_.plot(X, y[:3])
    with pytest.raises(ValueError, match="one label per text"):
        clf.prototypes_.plot(labels=y)
    with pytest.raises(ValueError, match="a single value"):
        clf.prototypes_.plot(X[:3], "pos")
    with pytest.raises(ValueError, match="labels from classes_, got 'other'"):
        clf.prototypes_.plot(X[:1], ["other"])
