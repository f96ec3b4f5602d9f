"""Token scores by relevance and by occlusion."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from skprotolm import ProtoLMClassifier
from skprotolm._explaining.relevance import SUPPORTED, LinearizedEncoder, relevance
from skprotolm._network.encoder import load_encoder
from skprotolm._network.pooling import TokenAttention
from tests.texts import make_texts
from tests.tiny import HIDDEN, make_encoder

X, Y = make_texts()
PAIRS = list(zip(X, X[::-1], strict=True))


@pytest.fixture(scope="module", params=SUPPORTED)
def backbone(request, tmp_path_factory) -> Any:
    return make_encoder(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def clf(make_classifier) -> ProtoLMClassifier:
    return make_classifier().fit(X, Y)


@pytest.fixture(scope="module")
def published(make_classifier) -> ProtoLMClassifier:
    return make_classifier(formulation="proto-lm").fit(X, Y)


# --- The linearized encoder.


def batch_of(encoder: Any) -> Any:
    return encoder.tokenizer.collate(encoder.tokenize([*X[:5], "a film"]), np.arange(6))


def test_at_full_presence_the_output_is_the_encoders(backbone):
    encoder = load_encoder(backbone, None).eval()
    batch = batch_of(encoder)
    with torch.no_grad():
        expected = encoder(batch, bf16=False)
    with LinearizedEncoder(encoder).run(batch, presence_weight=1.0) as linearized:
        is_token = batch["attention_mask"] == 1
        h = linearized.h.detach()[is_token]
        torch.testing.assert_close(h, expected[is_token], atol=1e-5, rtol=1e-4)
        assert linearized.embeddings.shape == linearized.h.shape


def test_tokens_without_presence_do_not_change_other_tokens(backbone):
    """The vector of the first of two words does not depend on the second."""
    encoder = load_encoder(backbone, None).eval()
    linearized_encoder = LinearizedEncoder(encoder)
    batch = batch_of(encoder)
    with linearized_encoder.run(batch, presence_weight=1e-30) as linearized:
        first, second, *_ = torch.where(batch["content_mask"][5])[0]  # of two words
        h = linearized.h.detach()[5, first].clone()
    batch["input_ids"][5, second] = batch["input_ids"][0, batch["content_mask"][0]][0]
    with linearized_encoder.run(batch, presence_weight=1e-30) as linearized:
        torch.testing.assert_close(linearized.h.detach()[5, first], h)


def test_relevance_is_conserved_without_biases(backbone):
    """Without biases, the output is a sum over the embeddings."""
    encoder = load_encoder(backbone, None).double().eval()
    model = encoder.transformer.auto_model
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") and not name.startswith("embeddings."):
                parameter.zero_()
        if hasattr(model, "wpe"):  # added after the captured embeddings
            model.wpe.weight.zero_()
    batch = batch_of(encoder)
    rng = np.random.RandomState(0)
    with LinearizedEncoder(encoder).run(batch) as linearized:
        attention = TokenAttention(HIDDEN).double()
        pooled = linearized.pool(attention)
        weights = linearized.attention_weights(attention, pooled.log_sums)
        direction = torch.from_numpy(rng.normal(size=(6, HIDDEN)))
        scores = relevance(linearized, weights, direction, pooled.s)
        expected = torch.einsum("bt,bth,bh->b", weights, linearized.h, direction)
    expected = expected.detach()
    assert expected.abs().min() > 1e-3, "sums near 0 do not test conservation"
    torch.testing.assert_close(scores.sum(dim=1), expected)


def test_padding_has_no_relevance(backbone):
    encoder = load_encoder(backbone, None).eval()
    batch = batch_of(encoder)
    with LinearizedEncoder(encoder).run(batch) as linearized:
        attention = TokenAttention(HIDDEN)
        _, log_sums, s = linearized.pool(attention)
        weights = linearized.attention_weights(attention, log_sums)
        scores = relevance(linearized, weights, torch.ones(6, HIDDEN), s)
    assert (scores[batch["attention_mask"] == 0] == 0).all()


def test_linearization_does_not_change_the_encoder(backbone):
    encoder = load_encoder(backbone, None).eval()
    before = {name: t.clone() for name, t in encoder.state_dict().items()}
    batch = batch_of(encoder)
    linearized_encoder = LinearizedEncoder(encoder)
    with pytest.raises(RuntimeError, match="stop"), linearized_encoder.run(batch):
        raise RuntimeError("stop")
    with linearized_encoder.run(batch) as linearized:  # the lock is released
        assert linearized.h.requires_grad
    for module in encoder.modules():
        assert not module._forward_hooks
    for name, tensor in encoder.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    assert all(p.grad is None for p in encoder.parameters())


def test_the_linearized_encoder_shares_the_weights(backbone):
    encoder = load_encoder(backbone, None).eval()
    weights = {id(p) for p in encoder.parameters()}
    shared = {id(p) for p in LinearizedEncoder(encoder).transformer.parameters()}
    assert shared <= weights
    assert len(shared) > 10


# --- Relevance of a prediction.


def test_base_value_and_relevance_sum_to_the_log_odds(clf):
    for e in clf.explain(X, token_method="relevance"):
        assert e.token_method == "relevance"
        assert e.token_scores.shape == (len(e.tokens),)
        total = e.base_value + e.token_scores.sum()
        assert total == pytest.approx(e.log_odds, abs=1e-9)


def test_relevance_changes_only_token_scores(clf):
    methods = ("decomposition", "relevance")
    explanations = [clf.explain(X, token_method=method) for method in methods]
    for exact, relevant in zip(*explanations, strict=True):
        assert exact.log_odds == relevant.log_odds
        np.testing.assert_array_equal(exact.contributions, relevant.contributions)
        np.testing.assert_array_equal(exact.attention, relevant.attention)
        assert not np.allclose(exact.token_scores, relevant.token_scores)


@pytest.mark.parametrize("name", ["clf", "published"])
def test_relevance_is_the_default(name, request):
    clf = request.getfixturevalue(name)
    by_name = clf.explain(X[:3], token_method="relevance")
    assert clf.explain(X[:3]).to_dict() == by_name.to_dict()


def test_relevance_of_the_other_class_has_the_opposite_sign(clf):
    positive = clf.explain(X, target="pos", token_method="relevance")
    negative = clf.explain(X, target="neg", token_method="relevance")
    for pos, neg in zip(positive, negative, strict=True):
        np.testing.assert_allclose(pos.token_scores, -neg.token_scores, atol=1e-5)


def test_relevance_does_not_depend_on_the_batch(clf):
    in_batch = clf.explain(X, token_method="relevance")[3]
    [single] = clf.explain(X[3:4], token_method="relevance")
    np.testing.assert_allclose(in_batch.token_scores, single.token_scores, atol=1e-5)


@pytest.mark.parametrize("scope", [torch.no_grad, torch.inference_mode])
def test_relevance_is_independent_of_the_callers_gradient_mode(clf, scope):
    expected = clf.explain(X[:3], token_method="relevance")
    with scope():
        explanations = clf.explain(X[:3], token_method="relevance")
    for e, reference in zip(explanations, expected, strict=True):
        np.testing.assert_array_equal(e.token_scores, reference.token_scores)


@pytest.mark.parametrize("method", ["relevance", "occlusion"])
def test_explain_is_thread_safe(clf, method):
    expected = clf.predict_proba(X)
    scores = [e.token_scores for e in clf.explain(X, token_method=method)]

    def predict() -> bool:
        return np.array_equal(clf.predict_proba(X), expected)

    def explain() -> bool:
        results = [e.token_scores for e in clf.explain(X, token_method=method)]
        return all(map(np.array_equal, results, scores))

    with ThreadPoolExecutor(4) as pool:
        tasks = [pool.submit(task) for task in [predict, explain] * 6]
        assert all(task.result() for task in tasks)


def test_pairs_have_relevance(make_classifier):
    clf = make_classifier().fit(PAIRS, Y)
    for e in clf.explain(PAIRS[:4], token_method="relevance"):
        assert e.base_value + e.token_scores.sum() == pytest.approx(e.log_odds)
        assert set(e.segments) == {0, 1}


def test_the_published_formulation_has_relevance(published):
    for e in published.explain(X[:5], token_method="relevance"):
        assert e.token_scores.shape == (len(e.tokens),)
        assert e.base_value + e.contributions.sum() == pytest.approx(e.score)


# --- Occlusion.


OCCLUDED = ["the food  was good", "bad film", "good", ""]


@pytest.mark.parametrize("name", ["clf", "published"])
def test_occlusion_is_the_decrease_of_the_log_odds(name, request):
    clf = request.getfixturevalue(name)
    explanations = clf.explain(OCCLUDED, token_method="occlusion")
    for text, e in zip(OCCLUDED, explanations, strict=True):
        full = clf.decision_function([text])[0]
        for word, (_, start, end), score in zip(
            e.words, e.word_offsets, e.word_scores, strict=True
        ):
            reduced = clf.decision_function([text[:start] + text[end:]])[0]
            expected = (full - reduced) * (1 if e.target == "pos" else -1)
            assert score == pytest.approx(expected, abs=1e-5), word


def test_base_value_and_occlusion_sum_to_the_log_odds(clf):
    for e in clf.explain(OCCLUDED, token_method="occlusion"):
        total = e.base_value + e.token_scores.sum()
        assert total == pytest.approx(e.log_odds, abs=1e-9)


def test_words_are_removed_from_their_text_of_a_pair(make_classifier):
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
    decreases = clf.decision_function([pair])[0] - clf.decision_function(reduced)
    np.testing.assert_allclose(e.word_scores, decreases, atol=1e-5)


def test_occlusion_does_not_depend_on_the_number_of_texts(clf):
    """More than 1,024 words are occluded in groups."""
    expected = [e.token_scores for e in clf.explain(X, token_method="occlusion")]
    explanations = clf.explain(X * 5, token_method="occlusion")
    assert sum(len(e.words) for e in explanations) > 1024
    for e, scores in zip(explanations, expected * 5, strict=True):
        np.testing.assert_allclose(e.token_scores, scores, atol=1e-5)


# --- Unsupported methods and architectures.


@pytest.mark.parametrize("method", ["lime", "", None, 1])
def test_an_unknown_method_raises_an_error(clf, method):
    with pytest.raises(ValueError, match="token_method must be 'auto', 'deco"):
        clf.explain(X, token_method=method)


def test_the_published_formulation_has_no_decomposition(published):
    with pytest.raises(ValueError, match="no exact split over tokens"):
        published.explain(X, token_method="decomposition")


@pytest.fixture(scope="module")
def unsupported(tmp_path_factory) -> Any:
    return make_encoder("albert", tmp_path_factory.mktemp("albert"))


def test_relevance_of_an_unsupported_architecture_raises_an_error(
    make_classifier, unsupported
):
    clf = make_classifier(backbone=unsupported).fit(X, Y)
    with pytest.raises(ValueError, match="does not support the architecture 'albert'"):
        clf.explain(X, token_method="relevance")


def test_an_unsupported_architecture_has_the_decomposition_by_default(
    make_classifier, unsupported
):
    clf = make_classifier(backbone=unsupported).fit(X, Y)
    by_name = clf.explain(X[:3], token_method="decomposition")
    assert clf.explain(X[:3]).to_dict() == by_name.to_dict()


def test_the_published_formulation_of_an_unsupported_architecture_has_no_token_scores(
    make_classifier, unsupported
):
    clf = make_classifier(backbone=unsupported, formulation="proto-lm").fit(X, Y)
    [e] = clf.explain(X[:1])
    assert e.token_scores is None
    assert e.token_method is None
