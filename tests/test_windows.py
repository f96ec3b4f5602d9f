"""Long texts are read in overlapping windows, under one attention over all tokens."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from skprotolm import ProtoLMClassifier, ProtoLMRegressor
from skprotolm._explaining.relevance import LinearizedEncoder, relevance
from skprotolm._network.encoder import TextEncoder, load_encoder
from skprotolm._network.network import encode
from skprotolm._network.pooling import TokenAttention, merge_windows
from skprotolm._network.token_vectors import EncodedTexts, StoredTexts
from skprotolm._network.windows import (
    PairTooLongError,
    cut_windows,
    draw_windows,
    list_windows,
    number_units,
)
from skprotolm._saving.pickling import pack, unpack
from skprotolm._training.text_units import mean_of_windows
from skprotolm._training.trainer import Trainer
from skprotolm.exceptions import TextTruncatedWarning
from tests.encoding import with_prompt
from tests.helpers import FORMULATIONS, Bar, make_trainer
from tests.texts import BAD, GOOD
from tests.tiny import HIDDEN, make_encoder

WIDTH = 16  # of the windows, in tokens
METHODS = ["relevance", "decomposition", "occlusion"]
LONG = " ".join(f"the food was good and the film {i} bad." for i in range(12))


def make_long_texts(n: int = 24, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Return texts of 2 to 8 windows, whose label is in one of their sentences."""
    rng = np.random.RandomState(seed)
    y = np.array(["pos", "neg"] * (n // 2))
    X = []
    for i, label in enumerate(y):
        sentences = [f"the day of card {i} {k}." for k in range(rng.randint(3, 10))]
        word = rng.choice(GOOD if label == "pos" else BAD)
        sentences[rng.randint(len(sentences))] = f"it was a {word} {word} food."
        X.append(" ".join(sentences))
    return X, y


X, Y = make_long_texts()
PAIRS = [("was it food?", text) for text in X]


@pytest.fixture(scope="module")
def make(make_classifier) -> Callable[..., ProtoLMClassifier]:
    def make(**parameters: Any) -> ProtoLMClassifier:
        settings = {"long_text": "window", "max_length": WIDTH}
        return make_classifier(**{**settings, **parameters})

    return make


@pytest.fixture(scope="module")
def clf(make) -> ProtoLMClassifier:
    """A classifier of long texts; tests must not change it."""
    return make().fit(X, Y)


def windowed(backbone: Any, width: int = WIDTH) -> TextEncoder:
    return load_encoder(backbone, width, "window").eval()


def random_attention(encoder: TextEncoder) -> TokenAttention:
    attention = TokenAttention(HIDDEN)
    rng = np.random.RandomState(1)
    for parameter in attention.parameters():
        values = rng.normal(size=tuple(parameter.shape)) / 2
        parameter.data = torch.from_numpy(values).float()
    return attention.requires_grad_(False)


# Cutting.


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("max_length", [3, 4, 10, 16])
@pytest.mark.parametrize("n_content", [17, 18, 40, 333])
def test_every_token_counts_once_and_far_from_edges(n_content, max_length, is_causal):
    content = np.r_[False, np.ones(n_content, bool), False]
    windows = cut_windows(content, np.zeros(len(content), int), max_length, is_causal)
    K = len(windows.starts)
    positions = [windows.positions(k, len(content)) for k in range(K)]
    weights = [windows.weights(k, content) for k in range(K)]
    total = np.zeros(len(content))
    for p, w in zip(positions, weights, strict=True):
        assert {0, len(content) - 1} <= set(p.tolist())
        assert len(p) <= max_length
        assert (np.diff(p) > 0).all()
        assert (w > 0).any()
        total[p] += w
    np.testing.assert_array_equal(total, content)
    for t in range(1, n_content + 1):
        distances = {}  # to the nearest edge, by window; the ends of a text are none
        for k in range(K):
            start, stop = windows.starts[k], windows.stops[k]
            if start <= t < stop:
                left = t - start if k else np.inf
                right = stop - 1 - t if k < K - 1 and not is_causal else np.inf
                distances[k] = min(left, right)
        [owner] = [
            k for k in distances if windows.bounds[k] <= t < windows.bounds[k + 1]
        ]
        assert distances[owner] == max(distances.values())


def test_windows_are_as_long_as_each_other_and_their_number_is_linear():
    counts = []
    for n_content in (1000, 2000, 4000):
        content = np.ones(n_content, bool)
        windows = cut_windows(content, np.zeros(n_content, int), 100, False)
        assert len(set(windows.stops - windows.starts)) == 1
        counts.append(len(windows.starts))
    assert counts == [13, 27, 53]


def test_a_text_that_fits_is_not_cut():
    content = np.ones(10, bool)
    assert cut_windows(content, np.zeros(10, int), 10, False) is None


def test_the_shorter_text_of_a_pair_is_in_all_windows():
    content = np.array([0, 1, 1, 0, *[1] * 40, 0], bool)
    segments = np.array([0, 0, 0, 0, *[1] * 40, 1])
    for swap in (False, True):
        segments = 1 - segments if swap else segments
        windows = cut_windows(content, segments, 12, False)
        K = len(windows.starts)
        total = np.zeros(len(content))
        for k in range(K):
            positions = windows.positions(k, len(content))
            assert {0, 1, 2, 3, 44} <= set(positions.tolist())
            total[positions] += windows.weights(k, content)
        np.testing.assert_allclose(total, content, atol=1e-6)
    with pytest.raises(PairTooLongError):
        cut_windows(content, segments, 6, False)


def test_windows_are_drawn_anew_and_sorted():
    rng = np.random.RandomState(0)
    n_windows = np.array([1, 30, 4, 5])
    first, second = (draw_windows(n_windows, 4, rng) for _ in range(2))
    assert list(first) == [1, 3]
    assert first[1].tolist() != second[1].tolist()
    assert (np.diff(first[1]) > 0).all()
    listed = list_windows(np.array([3, 0, 2]), n_windows, first)
    assert listed.rows.tolist() == [3] * 4 + [0] + [2] * 4
    units, numbers = number_units(listed.rows)
    assert units.tolist() == [3, 0, 2]
    assert numbers.tolist() == [0] * 4 + [1] + [2] * 4
    state = rng.get_state()[1].tolist()
    assert draw_windows(np.array([1, 4]), 4, rng) == {}
    assert rng.get_state()[1].tolist() == state  # as without windows


# Tokens and vectors, for every tokenizer.


@pytest.mark.parametrize("prompt", ["", "query: "])
@pytest.mark.parametrize("text", [LONG, ("a good day", LONG), (LONG, "a good day")])
def test_all_tokens_of_a_long_text_are_read(backbone, text, prompt):
    first, *second = (text,) if isinstance(text, str) else text
    expected = backbone.tokenizer(prompt + first, *second)["input_ids"]
    encoder = windowed(with_prompt(backbone, prompt), 32)
    [tokens] = encoder.tokenize([text], with_offsets=True)  # warnings are errors
    assert tokens.ids.tolist() == expected
    assert tokens.n_windows > 2
    total = np.zeros(len(expected))
    for number in range(tokens.n_windows):
        positions = tokens.positions(number)
        assert len(positions) <= 32
        total[positions] += tokens.weights(number)
    mask = tokens.content_mask
    np.testing.assert_allclose(total, mask, atol=1e-6)
    offsets, segments = tokens.offsets[mask], tokens.segments[mask]
    for segment, side in enumerate((first, *second)):
        assert offsets[segments == segment].max() == len(side)


def test_the_truncation_side_does_not_matter(tiny_bert):
    changed = copy.deepcopy(tiny_bert)
    changed.tokenizer.truncation_side = "left"
    ids = [windowed(b).tokenize([LONG])[0].ids for b in (tiny_bert, changed)]
    np.testing.assert_array_equal(*ids)


@pytest.mark.parametrize("text", [LONG, ("a good day", LONG)])
def test_merged_windows_are_one_softmax_over_all_tokens(backbone, text):
    """Recomputed with plain loops, window by window, without padding."""
    encoder = windowed(backbone, 24)
    attention = random_attention(encoder)
    tokenized = encoder.tokenize([text, "a day"])
    tokens = tokenized[0]
    logits, vectors = [], []
    for number in range(tokens.n_windows):
        positions = tokens.positions(number)
        batch = {
            "input_ids": tokens.ids[positions],
            "attention_mask": np.ones(len(positions), int),
        }
        if "token_type_ids" in encoder.transformer.tokenizer.model_input_names:
            batch["token_type_ids"] = tokens.type_ids[positions]
        features = {name: torch.from_numpy(a)[None] for name, a in batch.items()}
        with torch.inference_mode():
            h = encoder.transformer(features)["token_embeddings"][0]
            scores = attention.logits(h[None])[0]
        weights = tokens.weights(number)
        for t in np.flatnonzero(weights):
            logits.append(float(scores[t]) + np.log(weights[t]))
            vectors.append(h[t].numpy().astype(float))
    alpha = np.exp(np.array(logits) - max(logits))
    alpha /= alpha.sum()
    assert alpha.std() > 1e-4
    source = EncodedTexts(tokenized, bf16=False)
    for batch_size in (1, 2, 32):
        for encoded in encode(encoder, attention, source, batch_size):
            if 0 in encoded.rows:
                s = encoded.s[list(encoded.rows).index(0)].numpy()
                np.testing.assert_allclose(s, alpha @ np.stack(vectors), atol=1e-5)


def test_stored_windows_equal_computed_windows(backbone):
    encoder = windowed(backbone, 24)
    tokenized = encoder.tokenize([LONG, "a day", "was it good? " * 9])
    computed, stored = (
        EncodedTexts(tokenized, bf16=False),
        StoredTexts(tokenized, encoder),
    )
    with torch.inference_mode():
        every = list_windows(np.arange(3), tokenized.n_windows)
        stored.store(every.rows, computed.read(encoder, *every)[0], every.numbers)
        expected, expected_weights = computed.read(encoder, *every)
        h, weights = stored.read(encoder, *every)
    assert stored.n_windows.tolist() == computed.n_windows.tolist()
    for b in range(len(h)):
        torch.testing.assert_close(
            h[b][weights[b] > 0], expected[b][expected_weights[b] > 0]
        )
    n_content = sum(int(tokens.content_mask.sum()) for tokens in tokenized)
    assert float(weights.sum()) == pytest.approx(n_content)


@pytest.mark.parametrize("batch_size", [1, 2, 4, 32])
def test_progress_counts_texts_not_windows(tiny_bert, batch_size):
    encoder = windowed(tiny_bert)
    source = EncodedTexts(encoder.tokenize([*X[:9], "a day"]), bf16=False)
    calls: list[int] = []
    attention = random_attention(encoder)
    read = [
        encoded.rows
        for encoded in encode(
            encoder, attention, source, batch_size, lambda: calls.append(1)
        )
    ]
    assert sorted(np.concatenate(read)) == list(range(10))
    assert len(calls) == -(-10 // batch_size)


def test_sentence_vectors_are_means_over_windows():
    vectors = torch.arange(12.0).reshape(4, 3)
    rows, counts = np.array([1, 0, 1, 2]), torch.tensor([1.0, 5.0, 3.0, 2.0])
    means = mean_of_windows(vectors, rows, counts)
    expected = [vectors[1], (vectors[0] + 3 * vectors[2]) / 4, vectors[3]]
    torch.testing.assert_close(means, torch.stack(expected))


# Predictions.


@pytest.mark.parametrize("finetune", ["full", 1, "head"])
def test_short_texts_are_as_with_truncation_bit_for_bit(
    make_classifier, texts, finetune
):
    one, other = (
        make_classifier(finetune=finetune, long_text=long_text).fit(*texts)
        for long_text in ("truncate", "window")
    )
    np.testing.assert_array_equal(
        one.predict_proba(texts[0]), other.predict_proba(texts[0])
    )
    for a, b in zip(one.explain(texts[0]), other.explain(texts[0]), strict=True):
        np.testing.assert_array_equal(a.token_scores, b.token_scores)


def test_the_end_of_a_text_is_read(clf):
    start = "the day of card 1. " * 6
    p_bad, p_good = clf.predict_proba([start + "bad bad.", start + "good good."])
    assert abs(p_bad - p_good).max() > 1e-5
    truncating = copy.deepcopy(clf)
    with pytest.warns(TextTruncatedWarning, match="long_text='window'"):
        truncating.set_params(long_text="truncate").fit(X, Y)
    with pytest.warns(TextTruncatedWarning):
        p_bad, p_good = truncating.predict_proba([start + "bad.", start + "good."])
    np.testing.assert_array_equal(p_bad, p_good)


def test_batches_do_not_change_predictions(clf):
    together = clf.predict_proba([*X, "a good day", ""])
    alone = np.concatenate([clf.predict_proba([x]) for x in [*X, "a good day", ""]])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_the_encoder_reads_at_most_batch_size_windows_at_once(make, forward_calls):
    clf = make(batch_size=3, early_stopping=True).fit(X, Y)
    clf.predict([*X, LONG * 20])
    explanations = clf.explain([LONG * 2, *X[:3]], token_method="relevance")
    clf.explain([LONG * 2], token_method="decomposition")
    explanations[0].alignment(0)
    assert max(n for n, _ in forward_calls) == 3
    assert max(width for _, width in forward_calls) <= WIDTH


def test_a_pair_without_room_names_what_to_do(make):
    clf = make().fit(PAIRS, Y)
    with pytest.raises(ValueError, match=r"Both texts of the pair .* are too long"):
        clf.predict([("a day", "a"), (LONG, LONG)])


# Explanations.


@pytest.mark.parametrize("token_method", METHODS)
@pytest.mark.parametrize("data", [X, PAIRS], ids=["texts", "pairs"])
def test_scores_of_all_tokens_sum_to_the_log_odds(make, data, token_method):
    clf = make().fit(data, Y)
    texts = [*data[:4], ("a", LONG) if data is PAIRS else LONG * 3]
    for e in clf.explain(texts, token_method=token_method):
        total = e.base_value + e.token_scores.sum()
        assert total == pytest.approx(e.log_odds, abs=1e-5)
        assert e.sentence_scores.sum() == pytest.approx(e.token_scores.sum(), abs=1e-9)
        assert e.attention.sum() == pytest.approx(1, abs=1e-5)
        assert e.read_fraction == 1
        long = e.text if isinstance(e.text, str) else e.text[1]
        assert e.offsets.max() == len(long)
        similarities = e.token_similarities.sum(axis=0)
        np.testing.assert_allclose(similarities, e.similarities, atol=1e-5)
        assert e.alignment(0).sum() == pytest.approx(e.similarities[0], abs=1e-5)


@pytest.mark.parametrize("token_method", ["relevance", "decomposition"])
def test_parts_of_a_long_text_change_no_scores(make, token_method):
    """Of a text with more windows than `batch_size`, nothing is kept between parts."""
    clf = make(batch_size=32).fit(X, Y)
    [expected] = clf.explain([LONG], token_method=token_method)
    small = pickle.loads(pickle.dumps(clf))
    object.__setattr__(small._fitted, "batch_size", 2)
    [e] = small.explain([LONG], token_method=token_method)
    np.testing.assert_allclose(e.token_scores, expected.token_scores, atol=1e-5)
    np.testing.assert_allclose(e.attention, expected.attention, atol=1e-6)
    assert np.abs(e.token_scores).max() > 1e-3


def test_relevance_of_windows_is_conserved_without_biases(backbone):
    """Over all windows and tokens, it sums to what is split."""
    encoder = windowed(backbone, 24).double()
    model = encoder.transformer.auto_model
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") and not name.startswith("embeddings."):
                parameter.zero_()
        if hasattr(model, "wpe"):  # added after the captured embeddings
            model.wpe.weight.zero_()
    tokenized = encoder.tokenize([LONG, "a day"])
    windows = list_windows(np.arange(2), tokenized.n_windows)
    texts = torch.from_numpy(number_units(windows.rows)[1])
    attention = random_attention(encoder).double()
    direction = torch.from_numpy(np.random.RandomState(0).normal(size=(2, HIDDEN)))
    batch = encoder.tokenizer.collate(tokenized, *windows)
    with LinearizedEncoder(encoder).run(batch) as linearized:
        pooled = linearized.pool(attention)
        merged = merge_windows(pooled.log_sums, pooled.s, texts, 2)
        weights = linearized.attention_weights(attention, merged.log_totals[texts])
        scores = relevance(linearized, weights, direction[texts], merged.s[texts])
    sums = torch.zeros(2).double().index_add(0, texts, scores.sum(dim=1))
    assert len(texts) > 4
    torch.testing.assert_close(sums, (merged.s * direction).sum(dim=1))


def test_the_published_formulation_and_the_regressor_read_windows(make, tiny_folder):
    published = make(formulation="proto-lm").fit(X, Y)
    [e] = published.explain([LONG])
    assert e.contributions.sum() + e.base_value == pytest.approx(e.score, abs=1e-5)
    assert len(e.token_scores) == len(e.tokens) > WIDTH
    reg = ProtoLMRegressor(
        str(tiny_folder), max_length=WIDTH, long_text="window", max_epochs=1
    )
    [e] = reg.fit(X, (Y == "pos") + np.arange(24) / 24).explain([LONG])
    total = e.base_value + e.token_scores.sum()
    assert total == pytest.approx(e.prediction, abs=1e-5)


def test_occlusion_of_more_copies_than_are_held_at_once(clf):
    words = [*["food", "film", "kind", "today"] * 60, "good"]
    [e] = clf.explain([" ".join(words)], token_method="occlusion")
    assert e.words == tuple(words)
    rows = [0, 119, 238, 239, 240]
    copies = [" ".join(words[:i] + words[i + 1 :]) for i in rows]
    log_odds = np.array([d.log_odds for d in clf.explain(copies, target=e.target)])
    np.testing.assert_allclose(
        e.word_scores[rows], e.log_odds - log_odds, rtol=1e-3, atol=1e-5
    )


def test_a_text_without_tokens_is_explained(clf):
    for e in clf.explain(["", " "]):
        assert e.base_value + e.token_scores.sum() == pytest.approx(e.log_odds)


# Training.


@pytest.mark.parametrize("finetune", ["full", 1, "head"])
@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_a_seed_determines_the_fit(make, formulation, finetune):
    one, other = (
        make(formulation=formulation, finetune=finetune, early_stopping=True).fit(X, Y)
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(X))


def test_each_epoch_reads_other_windows(make, monkeypatch):
    read: list[list[int]] = []
    original = EncodedTexts.read

    def recorded(self: Any, encoder: Any, rows: Any, numbers: Any = None) -> Any:
        read[-1].extend(zip(rows.tolist(), numbers.tolist(), strict=True))
        return original(self, encoder, rows, numbers)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trainer = make_trainer(make(), X, Y)
        monkeypatch.setattr(EncodedTexts, "read", recorded)
        for _ in range(2):
            read.append([])
            trainer.history.append(trainer.run_epoch(Bar()))
    n_windows = trainer.data.source.n_windows
    assert n_windows.max() > 4
    for epoch in read:
        counts = np.bincount([row for row, _ in set(epoch)])
        np.testing.assert_array_equal(counts, np.minimum(n_windows, 4))
    assert set(read[0]) != set(read[1])


def test_a_run_continues_in_the_middle_of_an_epoch_exactly(make):
    def new_trainer(seed: int) -> Trainer:
        torch.manual_seed(seed)
        return make_trainer(make(batch_size=4), X, Y)

    with torch.random.fork_rng(devices=[]):
        whole = new_trainer(0)
        whole.run_epoch(Bar())
        interrupted = new_trainer(0)
        with pytest.raises(KeyboardInterrupt):
            interrupted.run_epoch(Bar(interrupt_after=3))
        state = copy.deepcopy(interrupted.state_dict())
        continued = new_trainer(1)
        continued.load_state_dict(state)
        continued.run_epoch(Bar())
    assert torch.equal(continued.vectors(), whole.vectors())


def test_reading_windows_in_parts_changes_no_gradient(make, tmp_path):
    backbone = make_encoder("bert", tmp_path, dtype=torch.float64)
    gradients = []
    for batch_size in (64, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            trainer = make_trainer(make(backbone=backbone), X, Y)
            network = trainer.network.train()
            for module in network.modules():  # batches of other sizes draw others
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
            _, s, output = network(trainer.data.source, np.arange(4), batch_size)
            (s.square().sum() + output.outputs.square().sum()).backward()
        gradients.append({n: p.grad for n, p in network.named_parameters()})
    one, other = gradients
    for name, gradient in one.items():
        if gradient is not None:
            torch.testing.assert_close(other[name], gradient)


def test_parts_are_read_again_with_the_same_dropout(make):
    """Otherwise the gradients are those of another network than the loss."""
    hidden: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, args: Any, output: Any) -> None:
        hidden.append(output["token_embeddings"].detach())

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trainer = make_trainer(make(), X, Y)
        network = trainer.network.train()
        network.encoder.transformer.register_forward_hook(keep)
        _, s, _ = network(trainer.data.source, np.arange(4), 2)
        n_parts, state = len(hidden), torch.default_generator.get_state()
        s.sum().backward()
        assert torch.equal(torch.default_generator.get_state(), state)
    assert len(hidden) == 2 * n_parts - 1 > 4  # the graph of the last part is kept
    for first, again in zip(hidden[: n_parts - 1], hidden[:-n_parts:-1], strict=True):
        assert torch.equal(first, again)


def test_a_frozen_encoder_runs_once_per_window(make, forward_calls):
    clf = make(finetune="head", max_epochs=3).fit(X, Y)
    n_windows = clf._fitted.tokenize(X).n_windows
    quoted = clf._fitted.quoted.n_windows
    assert sum(n for n, _ in forward_calls) == n_windows.sum() + quoted.sum()


# Saving.


def test_a_loaded_model_reads_windows(clf):
    loaded = pickle.loads(pickle.dumps(clf))
    assert loaded.long_text == "window"
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))


def test_a_model_without_the_parameter_truncates(fitted):
    """As in files that were saved before there were windows."""
    payload = pack(fitted._fitted)
    del payload["long_text"]
    loaded = unpack(payload)
    assert loaded.network.encoder.tokenizer.long_text == "truncate"


def test_texts_are_added_as_prototypes_and_listed_in_reports(make, tmp_path):
    clf = make().fit(X, Y)
    clf.add_prototypes([LONG], ["pos"])
    [e] = clf.explain([LONG])
    assert e.similarities[-1] == pytest.approx(1, abs=1e-5)
    clf.report(X, Y, tmp_path / "report.html")
    assert LONG[-20:] in re.sub("<[^>]+>", "", e.to_html())
