"""Tokens are scored by relevance and by occlusion."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from skprotolm import ProtoLMClassifier
from skprotolm._explaining import relevance as _relevance
from skprotolm._explaining.relevance import LinearEncoder, relevance
from skprotolm._network.encoder import load_encoder
from skprotolm._network.prototypes import TokenAttention
from tests.conftest import make_texts
from tests.tiny import KINDS, make_encoder

X, Y = make_texts()
PAIRS = list(zip(X, X[::-1], strict=True))


@pytest.fixture(scope="module", params=KINDS)
def backbone(request, tmp_path_factory) -> Any:
    return make_encoder(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def clf(make_classifier) -> ProtoLMClassifier:
    return make_classifier().fit(X, Y)


@pytest.fixture(scope="module")
def published(make_classifier) -> ProtoLMClassifier:
    return make_classifier(formulation="proto-lm").fit(X, Y)


# --- The linear encoder.


def batch_of(encoder: Any) -> Any:
    return encoder.tokenizer.collate(encoder.tokenize([*X[:5], "a film"]), np.arange(6))


def test_the_view_computes_what_the_encoder_computes(backbone):
    encoder = load_encoder(backbone, None).eval()
    batch = batch_of(encoder)
    with torch.no_grad():
        expected = encoder(batch, bf16=False)
    with LinearEncoder(encoder).run(batch, presence=1.0) as linear:
        read = batch["attention_mask"] == 1
        found = linear.h.detach()[read]
        torch.testing.assert_close(found, expected[read], atol=1e-5, rtol=1e-4)
        assert linear.embedded.shape == linear.h.shape


def test_words_of_no_presence_do_not_change_the_others(backbone):
    """With all but one word nearly absent, it is read as if it stood alone."""
    encoder = load_encoder(backbone, None).eval()
    linear = LinearEncoder(encoder)
    batch = batch_of(encoder)
    with linear.run(batch, presence=1e-30) as run:
        [at] = torch.where(batch["own"][5])  # of two words
        together = run.h.detach()[5, at[0]].clone()
    batch["input_ids"][5, at[1]] = batch["input_ids"][0, batch["own"][0]][0]
    with linear.run(batch, presence=1e-30) as run:
        torch.testing.assert_close(run.h.detach()[5, at[0]], together)


def test_relevance_is_conserved_where_there_are_no_biases(backbone):
    """All that the encoder's output says comes from its embeddings then."""
    encoder = load_encoder(backbone, None).double().eval()
    model = encoder.transformer.auto_model
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            in_embeddings = name.startswith("embeddings.")
            if name.endswith("bias") and not in_embeddings:
                parameter.zero_()
        if hasattr(model, "wpe"):  # added behind the embeddings that are caught
            model.wpe.weight.zero_()
    batch = batch_of(encoder)
    rng = np.random.RandomState(0)
    with LinearEncoder(encoder).run(batch) as linear:
        weights = linear.attend(TokenAttention(linear.h.shape[2]).double())
        pull = torch.from_numpy(rng.normal(size=(6, linear.h.shape[2])))
        scores = relevance(linear, weights, pull)
        expected = torch.einsum("bt,bth,bh->b", weights, linear.h, pull).detach()
    assert expected.abs().min() > 1e-3, "nothing to conserve"
    torch.testing.assert_close(scores.sum(dim=1), expected)


def test_padding_gets_nothing(backbone):
    encoder = load_encoder(backbone, None).eval()
    batch = batch_of(encoder)
    with LinearEncoder(encoder).run(batch) as linear:
        weights = linear.attend(TokenAttention(linear.h.shape[2]))
        scores = relevance(linear, weights, torch.ones(6, linear.h.shape[2]))
    assert (scores[batch["attention_mask"] == 0] == 0).all()


def test_the_encoder_is_left_as_it_was(backbone):
    encoder = load_encoder(backbone, None).eval()
    before = {name: t.clone() for name, t in encoder.state_dict().items()}
    batch = batch_of(encoder)
    linear = LinearEncoder(encoder)
    with pytest.raises(RuntimeError, match="stop"), linear.run(batch):
        raise RuntimeError("stop")
    with linear.run(batch) as run:  # the lock was given back
        assert run.h.requires_grad
    for module in encoder.modules():
        assert not module._forward_hooks
    for name, tensor in encoder.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    assert all(p.grad is None for p in encoder.parameters())


def test_the_view_shares_the_weights(backbone):
    encoder = load_encoder(backbone, None).eval()
    mine = {id(p) for p in encoder.parameters()}
    theirs = {id(p) for p in LinearEncoder(encoder).transformer.parameters()}
    assert theirs <= mine
    assert len(theirs) > 10


# --- Relevance of a prediction.


def test_relevance_and_base_are_the_log_odds(clf):
    for e in clf.explain(X, token_method="relevance"):
        assert e.token_method == "relevance"
        assert e.token_scores.shape == (len(e.tokens),)
        total = e.base_value + e.token_scores.sum()
        assert total == pytest.approx(e.log_odds, abs=1e-9)


def test_relevance_changes_nothing_else(clf):
    for one, other in zip(
        clf.explain(X), clf.explain(X, token_method="relevance"), strict=True
    ):
        assert one.log_odds == other.log_odds
        np.testing.assert_array_equal(one.contributions, other.contributions)
        np.testing.assert_array_equal(one.attention, other.attention)
        assert not np.allclose(one.token_scores, other.token_scores)


def test_relevance_of_another_class_has_the_other_sign(clf):
    pos = clf.explain(X, target="pos", token_method="relevance")
    neg = clf.explain(X, target="neg", token_method="relevance")
    for one, other in zip(pos, neg, strict=True):
        np.testing.assert_allclose(one.token_scores, -other.token_scores, atol=1e-5)


def test_relevance_does_not_depend_on_the_batch(make_classifier):
    """A word counts for what it adds: the same text in any batch, any order."""
    clf = make_classifier().fit(X, Y)
    together = clf.explain(X, token_method="relevance")
    alone = clf.explain(X[3:4], token_method="relevance")[0]
    np.testing.assert_allclose(together[3].token_scores, alone.token_scores, atol=1e-5)


@pytest.mark.parametrize("scope", [torch.no_grad, torch.inference_mode])
def test_relevance_needs_no_gradients_of_the_caller(clf, scope):
    expected = clf.explain(X[:3], token_method="relevance")
    with scope():
        found = clf.explain(X[:3], token_method="relevance")
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one.token_scores, other.token_scores)


@pytest.mark.parametrize("method", ["relevance", "occlusion"])
def test_threads_do_not_disturb_one_another(clf, method):
    expected = clf.predict_proba(X)
    scores = [e.token_scores for e in clf.explain(X, token_method=method)]

    def work(number: int) -> bool:
        if number % 2:
            return np.array_equal(clf.predict_proba(X), expected)
        found = [e.token_scores for e in clf.explain(X, token_method=method)]
        return all(map(np.array_equal, found, scores))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(12)))


def test_pairs_have_relevance(make_classifier):
    clf = make_classifier().fit(PAIRS, Y)
    for e in clf.explain(PAIRS[:4], token_method="relevance"):
        assert e.base_value + e.token_scores.sum() == pytest.approx(e.log_odds)
        assert set(e.segments) == {0, 1}


def test_the_published_formulation_has_relevance(published):
    for e in published.explain(X[:5]):
        assert e.token_method == "relevance"
        assert e.token_scores.shape == (len(e.tokens),)
        assert e.base_value + e.contributions.sum() == pytest.approx(e.score)


# --- Occlusion.


@pytest.mark.parametrize("formulation", ["mixture", "proto-lm"])
def test_occlusion_is_the_fall_of_the_log_odds(make_classifier, formulation):
    clf = make_classifier(formulation=formulation).fit(X, Y)
    texts = ["the food  was good", "bad film", "good", ""]
    for text, e in zip(
        texts, clf.explain(texts, token_method="occlusion"), strict=True
    ):
        full = clf.decision_function([text])[0]
        for word, (_, start, end), score in zip(
            e.words, e.word_offsets, e.word_scores, strict=True
        ):
            left = clf.decision_function([text[:start] + text[end:]])[0]
            expected = (full - left) * (1 if e.target == "pos" else -1)
            assert score == pytest.approx(expected, abs=1e-5), word
        if formulation == "mixture":
            total = e.base_value + e.token_scores.sum()
            assert total == pytest.approx(e.log_odds, abs=1e-9)


def test_words_are_left_out_of_their_own_text_of_a_pair(make_classifier):
    clf = make_classifier().fit(PAIRS, Y)
    pair = ("good food", "bad film")
    [e] = clf.explain([pair], target="pos", token_method="occlusion")
    assert e.words == ("good", "food", "bad", "film")
    reduced = [
        (" food", "bad film"),
        ("good ", "bad film"),
        ("good food", " film"),
        ("good food", "bad "),
    ]
    falls = clf.decision_function([pair])[0] - clf.decision_function(reduced)
    np.testing.assert_allclose(e.word_scores, falls, atol=1e-5)


def test_many_words_are_occluded_in_parts(clf, monkeypatch):
    expected = [e.token_scores for e in clf.explain(X, token_method="occlusion")]
    monkeypatch.setattr("skprotolm._explaining.explain._AT_ONCE", 7)
    found = clf.explain(X, token_method="occlusion")
    for scores, e in zip(expected, found, strict=True):
        np.testing.assert_allclose(e.token_scores, scores, atol=1e-5)


# --- What is not there.


@pytest.mark.parametrize("method", ["lime", "", None, 1])
def test_another_method_is_refused(clf, method):
    with pytest.raises(ValueError, match="token_method must be one of 'auto', 'deco"):
        clf.explain(X, token_method=method)


def test_the_published_formulation_has_no_decomposition(published):
    with pytest.raises(ValueError, match="no exact split over tokens"):
        published.explain(X, token_method="decomposition")


def test_an_unknown_architecture_is_named(make_classifier, monkeypatch):
    monkeypatch.setattr(_relevance, "_QUERIES_AND_KEYS", {"roberta": ("query", "key")})
    clf = make_classifier().fit(X, Y)
    with pytest.raises(ValueError, match=r"does not know the architecture 'bert'"):
        clf.explain(X, token_method="relevance")
    clf = make_classifier(formulation="proto-lm").fit(X, Y)
    [e] = clf.explain(X[:1])  # "auto" finds no way to score tokens
    assert e.token_scores is None
    assert e.token_method is None
