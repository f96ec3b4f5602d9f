"""The records that explanations and prototypes are, and every view of them."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from skprotolm import Explanation, Explanations, ProtoLMClassifier, Prototype
from tests.conftest import make_texts
from tests.tiny import make_encoder

# A tiny random encoder gives many texts nearly the same vector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::skprotolm.exceptions.UnreadTextWarning"
)


@pytest.fixture(scope="module")
def explained(tmp_path_factory) -> Callable[..., Explanations]:
    """Return a function that explains texts by a tiny encoder of some kind."""

    @cache
    def fit(kind: str, pairs: bool, formulation: str) -> ProtoLMClassifier:
        X, y = make_texts()
        clf = ProtoLMClassifier(
            make_encoder(kind, tmp_path_factory.mktemp(kind)),
            n_prototypes=2,
            formulation=formulation,
            max_epochs=1,
            random_state=0,
        )
        return clf.fit([(text, "so it was") for text in X] if pairs else X, y)

    def explain(
        kind: str, X: list[Any], formulation: str = "mixture", **options: Any
    ) -> Explanations:
        clf = fit(kind, isinstance(X[0], tuple), formulation)
        return clf.explain(X, **options)

    return explain


@pytest.fixture
def explanation(fitted) -> Explanation:
    return fitted.explain(["the food was good today, and kind!"])[0]


# --- Words.

WORDS = [
    ("the food was good", ["the", "food", "was", "good"]),
    ("the lovely, honest day!", ["the", "lovely,", "honest", "day!"]),
    ("it's  a\tday\nat -3.75", ["it's", "a", "day", "at", "-3.75"]),
    ("😀😀 good 👩‍👩‍👧 day", ["😀😀", "good", "👩‍👩‍👧", "day"]),
    ("食べ物 good", ["食", "べ", "物", "good"]),
    ("한국어 좋다", ["한국어", "좋다"]),
    ("שלום good عالم", ["שלום", "good", "عالم"]),
    ("naïve cafe\u0301 ﬁne", ["naïve", "cafe\u0301", "ﬁne"]),
    ("[SEP] the [CLS] <s>", ["[SEP]", "the", "[CLS]", "<s>"]),
    ("<|endoftext|> [PAD] [UNK]", ["<|endoftext|>", "[PAD]", "[UNK]"]),
]


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama"])
@pytest.mark.parametrize(("text", "words"), WORDS, ids=[text for text, _ in WORDS])
def test_words_are_those_of_the_text(explained, kind, text, words):
    [e] = explained(kind, [text])
    assert e.words == tuple(words)
    assert e.word_scores.shape == (len(words),)
    assert e.word_scores.sum() == pytest.approx(e.token_scores.sum())


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_a_word_s_score_is_the_sum_of_its_tokens(explained, kind):
    text = "a lovely, honest day"
    [e] = explained(kind, [text])
    assert len(e.tokens) > len(e.words), "no word was cut, so this says nothing"
    starts = [match.start() for match in re.finditer(r"\S+", text)]
    owner = np.searchsorted(starts, e.offsets[:, 1], side="right") - 1
    for number, score in enumerate(e.word_scores):
        assert score == pytest.approx(e.token_scores[owner == number].sum())


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize("text", ["good です", "ですか", *[text for text, _ in WORDS]])
def test_no_letter_is_missing_from_the_words(explained, kind, text):
    """Of a token over two kana, which are two words, only the first was left."""
    [e] = explained(kind, [text])
    assert "".join(e.words) == "".join(text.split())


@pytest.mark.parametrize(
    ("kind", "tokens"),
    [("bert", ("[CLS]", "[SEP]")), ("llama", ("<s>",)), ("gpt2", ("<|endoftext|>",))],
)
def test_an_empty_text_is_explained_by_its_special_tokens(explained, kind, tokens):
    [e] = explained(kind, [""])
    assert e.tokens == e.words == tokens
    assert e.word_scores.sum() == pytest.approx(e.log_odds - e.base_value)
    assert e._repr_html_()
    assert str(e)


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize("text", [" ", "\n\n", "\t \u3000"])
def test_a_text_of_nothing_but_space_has_its_scores(explained, kind, text):
    [e] = explained(kind, [text])
    assert len(e.words) == len(e.word_scores) > 0
    assert e.word_scores.sum() == pytest.approx(e.token_scores.sum())


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama"])
def test_words_of_pairs_do_not_run_into_one_another(explained, kind):
    pairs = [("the food, good", "good day"), ("", "good food"), ("good", "")]
    several = explained(kind, pairs)
    assert [e.words for e in several] == [
        ("the", "food,", "good", "good", "day"),
        ("good", "food"),
        ("good",),
    ]
    for e in several:
        assert e.word_scores.sum() == pytest.approx(e.token_scores.sum())


# --- Tokens.


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama"])
@pytest.mark.parametrize("text", [text for text, _ in WORDS])
def test_tokens_are_slices_of_the_text(explained, kind, text):
    [e] = explained(kind, [text])
    assert len(e.tokens) == len(e.offsets) > 0
    for token, (start, end) in zip(e.tokens, e.offsets, strict=True):
        assert token == text[start:end] != ""
    covered = {i for start, end in e.offsets for i in range(start, end)}
    letters = {i for i, letter in enumerate(text) if letter.isalnum()}
    assert letters <= covered


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama"])
def test_tokens_of_pairs_are_slices_of_their_text(explained, kind):
    pair = ("the food was good", "a lovely, honest day")
    [e] = explained(kind, [pair])
    assert e.text == pair
    assert set(e.segments) == {0, 1}
    for token, segment, (start, end) in zip(
        e.tokens, e.segments, e.offsets, strict=True
    ):
        assert token == pair[segment][start:end] != ""


def test_what_is_cut_off_is_not_explained(explained):
    text = "good food " * 50
    with pytest.warns(UserWarning, match="1 of 1 texts are longer"):
        [e] = explained("bert", [text])
    assert len(e.words) == 62  # and [CLS] and [SEP]
    assert e.text == text


# --- Prototypes of an explanation.


def test_prototypes_are_sorted_by_what_they_contribute(fitted, explanation):
    found = [p.contribution for p in explanation.prototypes]
    assert found == sorted(explanation.contributions.tolist(), reverse=True)
    assert explanation.remainder == 0
    for p in explanation.prototypes:
        one = fitted.prototypes_[p.index]
        assert (p.text, p.label) == (one.text, one.label)
        assert p.contribution == explanation.contributions[p.index]
        assert p.similarity == explanation.similarities[p.index]


@pytest.mark.parametrize("formulation", ["mixture", "proto-lm"])
@pytest.mark.parametrize("top_k", [1, 3, 4, np.int64(2), 100])
def test_top_k_shortens_the_list_and_says_what_is_left(explained, formulation, top_k):
    X = make_texts(4, seed=5)[0]
    everything = explained("bert", X, formulation)
    for short, full in zip(
        explained("bert", X, formulation, top_k=top_k), everything, strict=True
    ):
        assert short.prototypes == full.prototypes[:top_k]
        left = sum(p.contribution for p in full.prototypes[top_k:])
        assert short.remainder == pytest.approx(left)
        np.testing.assert_array_equal(short.contributions, full.contributions)


@pytest.mark.parametrize("top_k", [0, -1, 1.5, "2", True])
def test_a_top_k_that_is_no_number_of_prototypes_is_refused(fitted, top_k):
    with pytest.raises(ValueError, match=r"top_k must be an int of at least 1"):
        fitted.explain(["good"], top_k=top_k)


def test_a_prototype_explains_itself_best(fitted):
    for p in fitted.prototypes_:
        [e] = fitted.explain([p.text])
        assert e.prototypes[0].label == e.prediction
        assert e.similarities[p.index] == pytest.approx(1, abs=1e-5)
        assert e.similarities.max() <= 1 + 1e-5


def test_indices_of_alignments_are_those_of_prototypes(fitted, explanation):
    last = len(fitted.prototypes_) - 1
    T = len(explanation.tokens)
    U = len(fitted.explain([fitted.prototypes_[last].text])[0].tokens)
    assert explanation.alignment(last).shape == (T, U)


# --- Targets.


def test_any_class_can_be_explained(fitted):
    X = make_texts(4)[0]
    for target in ("neg", "pos", np.str_("pos"), np.array("neg")):
        for e in fitted.explain(X, target=target):
            assert e.target == str(target)
            assert e.probability == e.probabilities[str(target)]
            assert f"{target}:" in str(e)
    several = ["neg", "pos", "pos", "neg"]
    for targets in (several, np.array(several), pd.Series(several, index=list("abcd"))):
        assert [e.target for e in fitted.explain(X, target=targets)] == several
    assert [e.prediction for e in fitted.explain(X, target="neg")] == list(
        fitted.predict(X)
    )


@pytest.mark.parametrize(
    ("target", "message"),
    [("good", "'good'"), (0, "0"), (["pos"], r"\(2\), got 1"), (["pos", "no"], "'no'")],
)
def test_a_target_that_is_no_class_is_refused(fitted, target, message):
    with pytest.raises(ValueError, match=f"target must .*{message}"):
        fitted.explain(["good", "bad"], target=target)


# --- The sequence.


def test_explanations_are_a_sequence(fitted):
    X = make_texts(8)[0]
    several = fitted.explain(X)
    assert isinstance(several, Explanations)
    assert len(several) == 8
    assert [e.text for e in several] == X
    assert several[-1] is several[7]
    assert isinstance(several[2:4], Explanations)
    assert [e.text for e in several[2:4]] == X[2:4]
    assert [e.text for e in several[::-3]] == X[::-3]
    assert several[3] in several
    with pytest.raises(IndexError):
        several[8]


def test_an_explanation_cannot_be_changed(explanation):
    with pytest.raises(dataclasses.FrozenInstanceError):
        explanation.target = "neg"
    explanation.probabilities["pos"] = 2.0
    assert explanation.probabilities["pos"] < 1


def test_an_explanation_outlives_a_refit(make_classifier, texts):
    X, y = texts
    clf = make_classifier().fit(X, y)
    [e] = clf.explain(X[:1])
    before = (e.to_dict(), e.token_similarities, e.alignment(0))
    clf.set_params(random_state=1).fit(X[:20], y[:20])
    assert e.to_dict() == before[0]
    np.testing.assert_array_equal(e.token_similarities, before[1])
    np.testing.assert_array_equal(e.alignment(0), before[2])


# --- Plain objects.

KEYS = {
    "text", "prediction", "target", "labels", "probabilities", "space", "base_value",
    "log_odds", "score", "prototypes", "remainder", "tokens", "offsets", "segments",
    "attention", "token_scores", "token_method", "token_unread", "words",
    "word_offsets", "word_scores", "word_unread",
}  # fmt: skip


@pytest.mark.parametrize(
    "labels", [["no", "yes"], [0, 1], [False, True], [1.0, 2.0]], ids=str
)
@pytest.mark.parametrize("formulation", ["mixture", "proto-lm"])
def test_dicts_survive_json(make_classifier, texts, labels, formulation):
    X, y = texts
    y = np.array(labels)[(y == "pos").astype(int)]
    clf = make_classifier(max_epochs=1, n_prototypes=1, formulation=formulation)
    several = clf.fit(X, y).explain([*X[:2], "", "😀 naïve"], target=labels[1])
    found = several.to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    for plain, e in zip(found, several, strict=True):
        assert plain.keys() == KEYS
        assert plain["labels"] == labels
        assert plain["target"] is labels[1] or plain["target"] == labels[1]
        assert type(plain["target"]) is type(labels[1])
        assert plain["probabilities"] == list(e.probabilities.values())
        assert plain["words"] == list(e.words)
        assert plain == e.to_dict()
        index = plain["prototypes"][0]["index"]
        assert plain["prototypes"][0]["text"] == clf.prototypes_[index].text


def test_dicts_of_pairs_survive_json(explained):
    [found] = explained("bert", [("good food", "a day")]).to_dict()
    again = json.loads(json.dumps(found))
    assert again["text"] == ["good food", "a day"]
    assert again["segments"] == [0, 0, 1, 1]
    assert again["prototypes"][0]["text"][1] == "so it was"


def test_a_frame_has_a_row_for_every_text_and_prototype(fitted):
    X = make_texts(4)[0][:3]
    several = fitted.explain(X, top_k=2)
    frame = several.to_frame()
    assert list(frame.columns) == [
        "row", "text", "prediction", "target", "probability", "prototype",
        "prototype_label", "prototype_text", "prototype_unread", "of_target",
        "similarity", "contribution",
    ]  # fmt: skip
    assert (frame["of_target"] == (frame["prototype_label"] == frame["target"])).all()
    assert frame["row"].tolist() == [0, 0, 1, 1, 2, 2]
    assert frame["text"].tolist() == [text for text in X for _ in range(2)]
    expected = [p.contribution for e in several for p in e.prototypes]
    assert frame["contribution"].tolist() == expected
    assert several[1].to_frame()["text"].tolist() == [X[1]] * 2


# --- What is printed.


def shares_of(shown: str) -> tuple[list[float], float]:
    """Return the shares that a print lists for the target, and the sum it names."""
    percents = re.findall(r"^ +(= |< )?([\d.]+) %  ", shown, flags=re.MULTILINE)
    at = [sign for sign, _ in percents].index("= ")
    return [float(number) for _, number in percents[:at]], float(percents[at][1])


@pytest.mark.parametrize("top_k", [None, 1, 2, 5])
@pytest.mark.parametrize("target", ["pos", "neg"])
def test_the_lines_that_are_printed_sum_to_the_probability(fitted, top_k, target):
    """The sum named shares of prototypes that stood in no line above it."""
    for e in fitted.explain(make_texts(6)[0], top_k=top_k, target=target):
        listed, total = shares_of(str(e))
        assert len(listed) == min(top_k or 3, 3) + (top_k in (1, 2))
        assert sum(listed) == pytest.approx(total, abs=0.06 * len(listed))
        assert total == pytest.approx(100 * e.probability, abs=0.06)


def test_an_explanation_prints_what_speaks_for_it_and_against_it(explanation):
    shown = str(explanation)
    assert explanation.text in shown
    assert f"{explanation.target}: {100 * explanation.probability:.1f} %" in shown
    own = [p for p in explanation.prototypes if p.label == explanation.target]
    for p in own:
        assert f'because it reads like the {p.label} text "{p.text}"' in shown
    other = next(p for p in explanation.prototypes if p.label != explanation.target)
    assert f'although it reads like the {other.label} text "{other.text}"' in shown
    assert "2 more texts of other classes" in shown
    assert f"{explanation.log_odds:+.2f}" in shown
    strongest = int(np.argmax(np.abs(explanation.word_scores)))
    score = explanation.word_scores[strongest]
    assert (
        f'words (decomposition): "{explanation.words[strongest]}" {score:+.2f}' in shown
    )


def test_another_target_is_told_from_the_prediction(fitted):
    for e in fitted.explain(make_texts(4)[0], target="neg"):
        assert ("(predicted is pos)" in str(e)) == (e.prediction == "pos")


def test_a_published_explanation_prints_its_score(explained):
    [e] = explained("bert", ["the food was good"], "proto-lm")
    shown = str(e)
    assert f"{e.score:+.3f}  score of {e.target}" in shown
    assert f"{e.base_value:+.3f}  bias of the class" in shown


def test_colours_are_only_printed_if_asked_for(explanation):
    assert "\x1b[" not in str(explanation)
    coloured = explanation.to_text(color=True)
    assert "\x1b[" in coloured
    plain = re.sub(r"\x1b\[[\d;]*m", "", coloured)
    assert plain == explanation.to_text()


def test_reprs_are_short(fitted):
    several = fitted.explain(["the food was good " * 3, "bad"])
    assert repr(several) == "<Explanations of 2 texts>"
    shown = repr(several[0])
    assert shown.startswith("<Explanation of 'the food was good")
    assert len(shown) < 80
    assert "%" in shown


def test_a_long_sequence_is_cut_where_it_is_printed(fitted):
    several = fitted.explain([f"good day {i}" for i in range(8)])
    shown = str(several)
    assert "good day 4" in shown
    assert "good day 5" not in shown
    assert shown.endswith("… and 3 more explanations")
    assert str(several[:2]).count("because") == 6


def test_a_long_sequence_is_cut_in_a_notebook_and_says_so(fitted):
    """Fifty were shown of however many there were, without a word."""
    several = fitted.explain([f"good day {i}" for i in range(60)])
    shown = several._repr_html_()
    assert shown.count("<article") == 50
    assert "10 more" in shown
    assert several.to_html().count("<article") == 60


# --- Storing.


def test_a_stored_explanation_says_the_same(fitted):
    several = fitted.explain(make_texts(4)[0], top_k=2)
    stored = pickle.dumps(several)
    assert len(stored) < 30_000  # and not the model
    again = pickle.loads(stored)
    assert again.to_dict() == several.to_dict()
    assert str(again) == str(several)
    assert again.to_html() == several.to_html(n_alignments=0)  # they need the model
    for ask in (lambda: again[0].alignment(0), lambda: again[0].token_similarities):
        with pytest.raises(ValueError, match="stored without its model"):
            ask()


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy])
def test_a_copy_of_an_explanation_can_do_all_that_it_can(explanation, make):
    """Copying went through what pickle stores, and lost the model."""
    np.testing.assert_array_equal(
        make(explanation).alignment(0), explanation.alignment(0)
    )


# --- Prototypes of a fit.


def test_prototypes_are_a_sequence(fitted):
    prototypes = fitted.prototypes_
    assert len(prototypes) == 6
    assert [p.index for p in prototypes] == list(range(6))
    assert isinstance(prototypes[0], Prototype)
    assert prototypes[-1].index == 5
    assert [p.text for p in prototypes[1:3]] == list(prototypes.texts[1:3])
    with pytest.raises(IndexError):
        prototypes[6]


def test_prototypes_pass_for_the_array_of_their_vectors(fitted):
    prototypes = fitted.prototypes_
    array = np.asarray(prototypes)
    assert array.shape == prototypes.shape == (6, 16)
    np.testing.assert_array_equal(array, prototypes.vectors)
    assert np.asarray(prototypes, dtype=np.float64).dtype == np.float64
    copied = np.array(prototypes)
    copied[:] = 0
    assert prototypes.vectors.any()


def test_a_prototype_cannot_be_changed(fitted):
    with pytest.raises(dataclasses.FrozenInstanceError):
        fitted.prototypes_[0].text = "another"


@pytest.mark.parametrize("formulation", ["mixture", "proto-lm"])
def test_prototypes_have_priors_or_weights(make_classifier, texts, formulation):
    prototypes = make_classifier(formulation=formulation).fit(*texts).prototypes_
    for p in prototypes:
        if formulation == "mixture":
            assert 0 < p.prior < 1
            assert p.weights is None
        else:
            assert p.prior is None
            assert len(p.weights) == 2
            assert p in set(prototypes)  # it can be compared and hashed
            own = int(p.label == "pos")
            assert p.weights[own] > p.weights[1 - own]  # near 1 and −0.5
    assert json.loads(json.dumps(prototypes.to_dict())) == prototypes.to_dict()
    frame = prototypes.to_frame()
    assert frame["text"].tolist() == list(prototypes.texts)
    assert frame["train_index"].tolist() == prototypes.train_indices.tolist()


def test_purity_and_usage_are_counted_over_the_training_texts(make_classifier, texts):
    X, y = texts
    clf = make_classifier(finetune="head", head_learning_rate=1e-30, max_epochs=1)
    clf.fit(X, y)
    cosines = clf.transform(X)  # with vectors that no training has moved
    nearest = cosines.argmax(axis=1)
    for p in clf.prototypes_:
        users = [row for row in np.flatnonzero(nearest == p.index) if X[row] != p.text]
        assert p.usage == len(users)
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
    shown = repr(clf.prototypes_)
    assert shown.startswith("24 prototypes of 2 classes")
    assert shown.count("good day") == 20
    assert shown.endswith("… and 4 more")
    assert clf.prototypes_._repr_html_().count("<article") == 24


# --- Words of two texts.


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama"])
def test_word_alignments_are_sums_of_token_alignments(explained, kind):
    [e] = explained(kind, ["a lovely, honest film today"])
    for p in e.prototypes:
        pairs = e.alignment(p.index)
        found = e.word_alignment(p.index)
        matrix, words, offsets = found.matrix, found.words, found.offsets
        assert matrix.shape == (len(e.words), len(words))
        assert words == tuple(p.text[a:b] for _, a, b in offsets)
        assert "".join(words) == "".join(p.text.split())
        assert matrix.sum() == pytest.approx(p.similarity, abs=1e-4)
        np.testing.assert_allclose(
            matrix.sum(axis=1), np.bincount(e._words.owners, pairs.sum(axis=1))
        )


@pytest.mark.parametrize("index", [-1, 6, 99])
def test_a_prototype_that_is_not_there_has_no_alignment(explanation, index):
    for split in (explanation.alignment, explanation.word_alignment):
        with pytest.raises(IndexError, match=rf"no prototype {index}: .* 0 to 5"):
            split(index)


def test_alignments_encode_each_text_once(fitted, monkeypatch):
    """The text explained was encoded anew for each prototype, which was cut twice."""
    [e] = fitted.explain(["the food was good"])
    encoder = type(fitted._fitted.network.encoder)
    calls = {"forward": 0, "tokenize": 0}
    for name in calls:
        original = getattr(encoder, name)

        def counted(self, *args, _original=original, _name=name, **options):
            calls[_name] += 1
            return _original(self, *args, **options)

        monkeypatch.setattr(encoder, name, counted)
    e.to_html(n_alignments=3)
    assert calls == {"forward": 4, "tokenize": 4}


def test_nearest_finds_the_most_similar_prototypes(fitted):
    X = ["the food was good", "a dull card"]
    found = fitted.prototypes_.nearest(X, k=3)
    similarities = fitted.transform(X)
    expected = np.sort(similarities, axis=1)[:, ::-1][:, :3]
    np.testing.assert_array_equal(found.similarities, expected)
    np.testing.assert_array_equal(
        np.take_along_axis(similarities, found.indices, axis=1), expected
    )
    [[own]] = fitted.prototypes_.nearest([fitted.prototypes_.texts[4]]).indices
    assert fitted.prototypes_.vectors[own] == pytest.approx(
        fitted.prototypes_.vectors[4], abs=1e-3
    )


@pytest.mark.parametrize("k", [0, 7, 1.0, True, None])
def test_nearest_refuses_what_is_no_count(fitted, k):
    with pytest.raises(ValueError, match=r"k must be (an int of at least 1|at most 6)"):
        fitted.prototypes_.nearest(["good"], k=k)


def test_stored_prototypes_are_told_from_those_of_a_model(fitted):
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
    assert [t.get_text() for t in axes.texts] == list("012345")
    named = [t.get_text() for t in axes.get_legend().get_texts()]
    assert named == ["neg", "pos"]
    alone = clf.prototypes_.plot().axes[0]
    assert sum(len(marks.get_offsets()) for marks in alone.collections) == 6
    unlabelled = clf.prototypes_.plot(X[:3]).axes[0]
    named = [t.get_text() for t in unlabelled.get_legend().get_texts()]
    assert named == ["neg", "pos", "no label"]
    with pytest.raises(ValueError, match=r"one label per text \(48\), got 3"):
        clf.prototypes_.plot(X, y[:3])
    with pytest.raises(ValueError, match="one label per text"):
        clf.prototypes_.plot(labels=y)
    with pytest.raises(ValueError, match="a single value"):
        clf.prototypes_.plot(X[:3], "pos")
    with pytest.raises(ValueError, match="labels of classes_, got 'other'"):
        clf.prototypes_.plot(X[:1], ["other"])


def test_the_threshold_is_exceeded_by_no_more_than_the_rate(fitted):
    X, _ = make_texts(40, seed=5)
    scores = np.sort(fitted.novelty_score(X))
    assert fitted.novelty_threshold(X, rate=0.1) == scores[36]  # ⌈41·0.9⌉ = 37
    assert fitted.novelty_threshold(X, rate=0.5) == scores[20]
    assert fitted.novelty_threshold(X[:19]) == fitted.novelty_score(X[:19]).max()


@pytest.mark.parametrize("rate", [0, 1, -0.1, "0.1", None, True, float("nan")])
def test_a_threshold_needs_a_rate(fitted, rate):
    with pytest.raises(ValueError, match=r"rate must be a number in \(0, 1\)"):
        fitted.novelty_threshold(["good"] * 20, rate=rate)


def test_a_threshold_needs_enough_texts(fitted):
    with pytest.raises(ValueError, match="needs at least 19 texts, got 18"):
        fitted.novelty_threshold(["good"] * 18)


@pytest.mark.parametrize("formulation", ["mixture", "proto-lm"])
def test_several_explanations_show_what_carries_them(
    make_classifier, texts, formulation
):
    pytest.importorskip("matplotlib")
    X, y = texts
    clf = make_classifier(max_epochs=1, formulation=formulation).fit(X, y)
    explanations = clf.explain(X[:7])
    [axes] = explanations.plot().axes
    widths = [bar.get_width() for bar in axes.patches]
    mean = np.mean([e.contributions for e in explanations], axis=0)
    expected = mean[np.argsort(-np.abs(mean), kind="stable")]
    np.testing.assert_allclose(widths, expected)
    [few] = clf.explain(X[:7], top_k=2).plot().axes
    assert len(few.patches) == 2
    other = make_classifier(max_epochs=1, formulation=formulation, n_prototypes=2)
    mixed = Explanations([explanations[0], other.fit(X, y).explain(X[:1])[0]])
    for several in (mixed, Explanations([])):
        with pytest.raises(ValueError, match="no explanations, or they are of several"):
            several.plot()


@pytest.mark.parametrize("index", ["negative", 1.0, True, None, [1], np.float64(1)])
def test_an_alignment_takes_a_position(fitted, index):
    """Python said that "'<=' not supported", and 1.5 was read as 1."""
    explanation = fitted.explain(["the food was good"])[0]
    for align in (explanation.alignment, explanation.word_alignment):
        with pytest.raises(
            TypeError, match=r"position in prototypes_, an int .* got"
        ) as e:
            align(index)
        assert repr(index) in str(e.value)
        for bad in (-1, 6):
            with pytest.raises(IndexError, match=f"There is no prototype {bad}"):
                align(bad)
    expected = explanation.alignment(2)
    np.testing.assert_array_equal(explanation.alignment(np.int64(2)), expected)


@pytest.mark.parametrize("n_alignments", ["all", 1.5, -1])
def test_the_number_of_alignments_is_a_count(fitted, n_alignments):
    """Python spoke of slice indices, and -1 left out the last prototype only."""
    explanations = fitted.explain(["the food was good"])
    with pytest.raises(ValueError, match="n_alignments must be an int of at least 0"):
        explanations.to_html(n_alignments=n_alignments)
