"""Names of prototypes: distinct, and words of the quoted texts alone."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skprotolm import Prototypes
from skprotolm._training.names import name_prototypes
from tests.texts import make_texts

X, Y = make_texts()


def names_alone(texts):
    """Name prototypes whose documents are their texts."""
    rows = np.arange(len(texts))
    return name_prototypes(texts, rows, rows)


def words_of(name):
    return name.split(" · ")


# Which words.


def scores_by_hand(texts, rows, nearest):
    documents = []
    for j, row in enumerate(rows):
        members = {i for i, k in enumerate(nearest) if k == j} | {row}
        documents.append([word for i in members for word in texts[i].split()])
    A = sum(map(len, documents)) / len(documents)
    scores = []
    for row, document in zip(rows, documents, strict=True):
        scores.append({})
        for word in texts[row].split():
            f = sum(d.count(word) for d in documents)
            d = sum(word in d for d in documents)
            rarity = math.log(1 + A / f) * math.log((len(rows) + 0.5) / d)
            scores[-1][word] = math.sqrt(document.count(word)) * rarity
    return scores


@pytest.mark.parametrize("M", [1, 2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_names_are_the_words_of_the_highest_scores(M, seed):
    rng = np.random.RandomState(seed)
    vocabulary = [f"w{a}{b}" for a in "abcde" for b in "xyz"]
    counts = rng.geometric(0.1, size=(40, 8)) % len(vocabulary)
    texts = [" ".join(vocabulary[i] for i in row) for row in counts]
    rows, nearest = rng.permutation(40)[:M], rng.randint(M, size=40)
    names = name_prototypes(texts, rows, nearest)
    scores = scores_by_hand(texts, rows, nearest)
    for row, name, score_of in zip(rows, names, scores, strict=True):
        chosen = words_of(name)
        positions = [texts[row].split().index(word) for word in chosen]
        assert positions == sorted(positions)
        ranked = sorted(score_of.values(), reverse=True)
        n = len(chosen)
        assert n in (2, 3)
        assert sorted(map(score_of.get, chosen))[::-1] == pytest.approx(ranked[:n])
        assert (n == 3) == (ranked[2] >= ranked[0] / 2)


def test_function_words_and_words_of_all_texts_are_not_in_names():
    good, bad = ["lovely", "charming", "warm"], ["dull", "slow", "boring"]
    texts = [
        f"the film is so {word} and it is {word} to the end" for word in good + bad
    ]
    names = name_prototypes(texts * 9, np.array([0, 3]), np.repeat([0, 1] * 9, 3))
    assert "lovely" in words_of(names[0])
    assert "dull" in words_of(names[1])


def test_a_name_has_no_words_of_other_texts():
    texts = ["a slow plot", "the secret of Anna", "a slow secret", "a kind waiter"]
    names = name_prototypes(texts, np.array([0, 3]), np.array([0, 0, 0, 1]))
    assert names == ("slow · plot", "kind · waiter")


def test_short_words_and_words_with_punctuation_come_last():
    text = "ok <br/> film me@home.org http://a.b/c movie.<br clear-eyed don't"
    others = ["film clear-eyed don't"] * 3
    names = name_prototypes([text, *others], np.array([0, 1]), np.array([0, 1, 1, 1]))
    assert set(words_of(names[0])) <= {"film", "clear-eyed", "don't"}


def test_names_of_pairs_have_words_of_both_texts():
    pairs = [("slow plot", "loud music"), ("slow plot", "old actors")]
    assert names_alone(pairs) == ("loud · music", "old · actors")
    [alone] = names_alone([("plot", "music")])
    assert alone == "plot · music"


def test_words_are_lower_case():
    assert names_alone(["Slow PLOT", "İstanbul Straße"])[0] == "slow · plot"


# Unusual texts.


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("很好", "很好"),
        ("菜很好吃", "菜很好吃"),
        ("iPhone很好", "iphone很好"),
        ("味が良い", "味が良い"),
        ("음식이 맛있다", "음식이 · 맛있다"),
        ("खाना अच्छा", "खाना · अच्छा"),
        ("طعام جيد", "طعام · جيد"),
        ("อาหารอร่อย", "อาหารอร่อย"),
        ("x" * 99, "x" * 23 + "…"),
        ("12 + 3 :-)", "12 + 3 :-)"),
        ("7" * 99, "7" * 39 + "…"),
        ("", "…"),
        (" \n", "…"),
        ("no\x1b[31m\u202e letters", "no\ufffd[31m\ufffd · letters"),
    ],
)
def test_names_of_unusual_texts(text, name):
    assert names_alone([text])[0] == name


def test_chinese_names_have_words_of_two_ideographs_at_least():
    texts = ["这家餐厅的菜很好吃", "这家酒店的房间很干净", "这家商店的价格很便宜"]
    for name, text in zip(names_alone(texts), texts, strict=True):
        assert all(len(word) >= 2 and word in text for word in words_of(name))
        assert "这家" not in name


any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
texts_and_pairs = st.lists(any_text, min_size=1, max_size=8) | st.lists(
    st.tuples(any_text, any_text), min_size=1, max_size=8
)


@given(texts_and_pairs, st.data())
@settings(deadline=None)
def test_any_texts_have_distinct_names_of_one_line(texts, data):
    n = len(texts)
    M = data.draw(st.integers(1, n))
    nearest = data.draw(st.lists(st.integers(0, M - 1), min_size=n, max_size=n))
    names = name_prototypes(texts, np.arange(M), np.array(nearest))
    assert len(set(names)) == len(names) == M
    assert all(name and len(name.splitlines()) == 1 for name in names)
    kept = name_prototypes(texts, np.arange(M), np.array(nearest), names[:1])
    assert kept[:1] == names[:1]
    assert len(set(kept)) == M


# Distinct names.


def test_equal_names_become_longer_and_are_numbered_at_last():
    texts = [
        "slow dull plot",
        "plot plot slow dull",
        "slow slow dull plot",
        "...",
        "...",
    ]
    names = names_alone(["slow plot", "slow  plot", "slow plot !", "...", "... "])
    assert names == (
        "slow · plot",
        "slow · plot (1)",
        "slow · plot (2)",
        "...",
        "... (4)",
    )
    longer = name_prototypes(
        ["slow plot", "slow plot of it", "a kind waiter"],
        np.arange(3),
        np.arange(3),
        ["of · it"],
    )
    assert longer[0] == "of · it"
    assert len(set(names_alone(texts))) == len(texts)


# In a fitted model.


@pytest.fixture(scope="module")
def model(make_classifier):
    return make_classifier().fit(X, Y)


@pytest.fixture
def clf(model):
    return copy.deepcopy(model)


def test_a_fit_names_prototypes_by_their_nearest_training_texts(clf):
    prototypes = clf.prototypes_
    nearest = prototypes.nearest(X).indices[:, 0]
    # Numbers have no letters.
    texts = [" ".join(text.split()[:-1]) for text in X]
    scores = scores_by_hand(texts, prototypes.train_indices, nearest)
    assert len(set(prototypes.names)) == 6
    for p, score_of in zip(prototypes, scores, strict=True):
        assert p.name == prototypes.names[p.index]
        best = max(score_of, key=score_of.get)
        assert best in words_of(p.name)
        assert set(words_of(p.name)) <= set(p.text.split())


def test_views_have_the_names(clf):
    prototypes = clf.prototypes_
    names = list(prototypes.names)
    assert [p["name"] for p in prototypes.to_dict()] == names
    assert prototypes.to_frame()["name"].tolist() == names
    [e] = clf.explain(X[:1])
    assert e.prototype_names == prototypes.names
    assert [p.name for p in e.prototypes] == [names[p.index] for p in e.prototypes]
    assert [p["name"] for p in e.to_dict()["prototypes"]] == [
        p.name for p in e.prototypes
    ]
    for name in names:
        assert name in repr(prototypes)
        assert f"{name} (no. {names.index(name)})" in prototypes._repr_html_()
    top = e.prototypes[0]
    assert f"{top.name} (no. {top.index})" in e.to_html()


def test_names_are_stored(clf):
    again = pickle.loads(pickle.dumps(clf))
    assert again.prototypes_.names == clf.prototypes_.names
    stored: Prototypes = pickle.loads(pickle.dumps(clf.prototypes_))
    assert stored.names == clf.prototypes_.names


# Edits.


def test_edits_keep_the_names_of_other_prototypes(clf):
    names = clf.prototypes_.names
    clf.relabel_prototypes({1: "pos"})
    assert clf.prototypes_.names == names
    clf.remove_prototypes([0])
    assert clf.prototypes_.names == names[1:]
    clf.add_prototypes(["a patient waiter", "a patient waiter again"], ["pos", "neg"])
    *kept, first, second = clf.prototypes_.names
    assert tuple(kept) == names[1:]
    assert words_of(first) == ["patient", "waiter"]
    assert set(words_of(second)) <= {"a", "patient", "waiter", "again"}
    assert first != second
    for _ in range(3):
        clf.undo_edit()
    assert clf.prototypes_.names == names


def test_a_redacted_name_vanishes_also_from_what_can_be_undone(clf):
    clf.add_prototypes(["Annabel wept"], ["pos"])
    assert clf.prototypes_[6].name == "annabel · wept"
    kept = clf.prototypes_.names[1:6]
    clf.remove_prototypes([0])
    clf.redact_prototypes({5: "[x]"})
    assert clf.prototypes_[5].name == "redacted 6"
    assert b"annabel" not in pickle.dumps(clf)
    clf.undo_edit()  # of the removal
    assert clf.prototypes_.names[1:] == (*kept, "redacted 6")
    assert b"annabel" not in pickle.dumps(clf)
    clf.redact_prototypes({6: "[y]", 1: "[y]"})
    assert clf.prototypes_[6].name == "redacted 6"
    assert clf.prototypes_[1].name == "redacted 1"
    assert len(set(clf.prototypes_.names)) == 7
