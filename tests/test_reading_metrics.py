"""How similar quoted texts are to the explained text."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from skprotolm import ProtoLMClassifier
from skprotolm.metrics import reading_distance, reading_gain
from tests.texts import make_texts

X, Y = make_texts()
NEW, NEW_Y = make_texts(20, seed=7)


@pytest.fixture(scope="module")
def clf(make_classifier) -> ProtoLMClassifier:
    return make_classifier(max_epochs=3).fit(X, Y)


@pytest.fixture(scope="module")
def frozen(tiny_folder) -> SentenceTransformer:
    return SentenceTransformer(str(tiny_folder), device="cpu")


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_reading_gain_follows_its_definition(clf, frozen):
    gains = reading_gain(clf, NEW)
    vectors = frozen.encode(list(clf.prototypes_.texts))
    for row, e in enumerate(clf.explain(NEW)):
        top = e.prototypes[int(np.argmax([p.contribution for p in e.prototypes]))]
        x = frozen.encode([NEW[row]])[0]
        cosines = [
            cosine(x, vectors[p.index]) for p in e.prototypes if p.label == top.label
        ]
        mean = np.mean(cosines)
        expected = (cosine(x, vectors[top.index]) - mean) / (max(cosines) - mean)
        assert gains[row] == pytest.approx(expected, abs=1e-3)


def test_reading_gain_is_nan_with_one_prototype_per_class(make_classifier):
    clf = make_classifier(n_prototypes=1, max_epochs=1).fit(X, Y)
    assert np.isnan(reading_gain(clf, NEW)).all()


def test_reading_gain_does_not_change_the_encoder(clf, frozen):
    frozen.train()
    np.testing.assert_allclose(
        reading_gain(clf, NEW, encoder=frozen), reading_gain(clf, NEW)
    )
    assert frozen.training
    frozen.eval()


def test_an_encoder_is_a_name_or_an_encoder(clf):
    with pytest.raises(ValueError, match="encoder must be a name, a folder, or a"):
        reading_gain(clf, NEW, encoder=5)


def test_pairs_have_a_reading_gain(make_classifier):
    pairs = list(zip(X, X[::-1], strict=True))
    clf = make_classifier(max_epochs=1).fit(pairs, Y)
    gains = reading_gain(clf, pairs[:5])
    assert gains.shape == (5,)
    is_defined = ~np.isnan(gains)
    assert is_defined.any()
    assert (gains[is_defined] <= 1 + 1e-6).all()


def test_reading_distance_follows_its_definition(clf, frozen):
    distances = reading_distance(clf, NEW, X, Y)
    training = frozen.encode(X)
    for row, e in enumerate(clf.explain(NEW)):
        top = clf.prototypes_[int(np.argmax(e.contributions))]
        x = frozen.encode([NEW[row]])[0]
        cosines = [cosine(x, training[i]) for i in range(len(X)) if Y[i] == top.label]
        quoted = cosine(x, training[X.index(top.text)])
        expected = (quoted - np.mean(cosines)) / (max(cosines) - np.mean(cosines))
        assert distances[row] == pytest.approx(expected, abs=1e-3)


def test_reading_distance_is_nan_where_it_is_not_defined(clf):
    only = [text for text, label in zip(X, Y, strict=True) if label == Y[0]]
    others = clf.explain(NEW)
    top_labels = [e.prototype_labels[np.argmax(e.contributions)] for e in others]
    distances = reading_distance(clf, NEW, only, [Y[0]] * len(only))
    np.testing.assert_array_equal(np.isnan(distances), np.array(top_labels) != Y[0])
    redacted = copy.deepcopy(clf)
    redacted.redact_prototypes(dict.fromkeys(range(len(clf.prototypes_)), "[hidden]"))
    assert np.isnan(reading_distance(redacted, NEW, X, Y)).all()


def test_reading_distance_needs_one_known_label_per_training_text(clf):
    with pytest.raises(ValueError, match="y_train"):
        reading_distance(clf, NEW, X, Y[:-1])
    with pytest.raises(ValueError, match="y_train"):
        reading_distance(clf, NEW, X, ["unknown"] * len(X))
