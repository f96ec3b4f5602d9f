"""warm_start: a fit that starts from the encoder of the previous one."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from sklearn.base import clone

from tests.helpers import assert_same_predictions, built
from tests.tiny import make_encoder
from tests.watching import weights_of

TRAINED = ("encoder.", "attention.")
# Steps that change no weight of the encoder visibly.
UNCHANGED = {"max_epochs": 1, "learning_rate": 1e-12, "head_learning_rate": 1e-12}


def body_of(clf) -> dict[str, torch.Tensor]:
    """Return copies of the weights that a warm start keeps."""
    weights = weights_of(clf).items()
    return {n: tensor.clone() for n, tensor in weights if n.startswith(TRAINED)}


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[n].double() - other[n].double()).abs().max()) for n in one)


@pytest.mark.parametrize("finetune", ["full", 1, "head"])
def test_a_fit_starts_from_the_previous_encoder(make_classifier, texts, finetune):
    X, y = texts
    clf = make_classifier(max_epochs=3, warm_start=True).fit(X, y)
    before = body_of(clf)
    pretrained = body_of(make_classifier(**UNCHANGED).fit(X, y))
    assert distance(before, pretrained) > 1e-3
    clf.set_params(**UNCHANGED, finetune=finetune)
    clf.fit(X[::2], np.array(["a", "b", "c"] * 8))
    assert distance(body_of(clf), before) < 1e-9
    assert clf.classes_.tolist() == ["a", "b", "c"]
    assert clf.n_iter_ == len(clf.history_) == 1


def test_the_frozen_encoder_stays_the_pretrained_one(make_classifier, texts):
    """Quoted texts are chosen, and preserved, by what they were about before."""
    clf = make_classifier(max_epochs=3, precision="fp32").fit(*texts)
    fitted = clf._fitted
    cold, warm = (built(clf, *texts, start=start)[2] for start in (None, fitted))
    assert torch.equal(warm.pretrained, cold.pretrained)
    [s] = fitted.read(warm.tokenized, lambda s: (s,))
    np.testing.assert_allclose(warm.vectors.double(), s, atol=1e-5)
    assert not torch.allclose(cold.vectors, warm.vectors, atol=1e-3)


def test_without_it_a_fit_starts_anew(make_classifier, texts, fitted):
    X, y = texts
    clf = make_classifier().fit(X[:20], y[:20]).fit(X, y)
    assert_same_predictions(clf, fitted, X)


def test_the_first_fit_and_clones_start_from_the_backbone(
    make_classifier, texts, fitted
):
    clf = make_classifier(warm_start=True).fit(*texts)
    assert_same_predictions(clf, fitted, texts[0])
    assert_same_predictions(clone(clf).fit(*texts), fitted, texts[0])


def test_copies_keep_their_encoder(make_classifier, texts):
    X, y = texts
    clf = make_classifier(warm_start=True).fit(X, y)
    other, expected = copy.deepcopy(clf), clf.predict_proba(X)
    clf.fit(X, y)
    np.testing.assert_array_equal(other.predict_proba(X), expected)
    assert (clf.predict_proba(X) != expected).any()


def test_it_goes_on_after_partial_fit(make_classifier, texts):
    X, y = texts
    clf = make_classifier(n_prototypes=2, warm_start=True).fit(X, y)
    X_new = ["i lost my card today", "i lost my food today"]
    clf.partial_fit(X_new, ["lost", "lost"])
    before = body_of(clf)
    clf.set_params(**UNCHANGED).fit([*X, *X_new], [*y, "lost", "lost"])
    assert distance(body_of(clf), before) < 1e-9


def test_held_out_texts_are_read_by_the_previous_encoder(make_classifier, texts):
    clf = make_classifier(max_epochs=8, learning_rate=5e-3, warm_start=True)
    clf.fit(*texts)
    clf.set_params(early_stopping=True, finetune="head", max_epochs=1)
    score = clf.fit(*texts).history_[0]["validation_score"]
    cold = clone(clf).fit(*texts).history_[0]["validation_score"]
    assert score > cold


def test_another_backbone_is_refused(make_classifier, texts, tmp_path):
    clf = make_classifier(warm_start=True).fit(*texts)
    before, expected = dict(vars(clf)), clf.predict_proba(texts[0])
    make_encoder("distilbert", tmp_path)
    clf.set_params(backbone=str(tmp_path))
    with pytest.raises(ValueError, match="do not fit into the backbone"):
        clf.fit(*texts)
    clf.set_params(backbone=before["backbone"])
    assert vars(clf) == before
    np.testing.assert_array_equal(clf.predict_proba(texts[0]), expected)


def test_the_bar_counts_both_passes(make_classifier, texts, capfd):
    clf = make_classifier(warm_start=True, verbose=1).fit(*texts)
    capfd.readouterr()
    clf.fit(*texts)
    assert "done: 100%|" in capfd.readouterr().err
