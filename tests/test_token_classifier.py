"""The token classifier: words tagged in their sentences, and bad input."""

from __future__ import annotations

import copy
import re
from collections import deque
from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score

from skprotolm import (
    MarkedWord,
    ProtoLMClassifier,
    ProtoLMTokenClassifier,
)
from skprotolm._data.sentences import as_sentences, as_tags
from skprotolm._data.words import Sentence
from skprotolm.metrics import (
    comprehensiveness,
    explanation_compactness,
    prototype_uniqueness,
)
from tests.tagged import INVISIBLE, NEW, X, Y
from tests.tiny import MODEL_TYPES, make_encoder


@pytest.fixture
def clf(tagger):
    return tagger


# Predictions.


def test_tags_are_learned(clf):
    assert clf.score(X, Y) > 0.9
    assert clf.classes_.tolist() == ["B-loc", "B-per", "I-loc", "O"]
    predicted = clf.predict(NEW)
    assert [len(tags) for tags in predicted] == [6, 0, 3]
    assert predicted[0].tolist() == ["O", "B-per", "O", "O", "B-loc", "I-loc"]
    assert predicted[1].dtype == clf.classes_.dtype


def test_probabilities_are_those_of_the_predictions(clf):
    for tags, probabilities in zip(
        clf.predict(NEW), clf.predict_proba(NEW), strict=True
    ):
        assert probabilities.shape == (len(tags), 4)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
        assert clf.classes_[probabilities.argmax(axis=1)].tolist() == tags.tolist()


def test_predictions_do_not_depend_on_the_other_sentences(clf):
    together = clf.predict_proba([*X[:9], *NEW])
    for row, words in enumerate(NEW):
        alone = clf.predict_proba([words])[0]
        np.testing.assert_allclose(together[9 + row], alone, atol=1e-6)


@pytest.mark.parametrize(
    "container",
    [
        tuple,
        lambda X: [tuple(words) for words in X],
        lambda X: [np.array(words) for words in X],
        pd.Series,
        lambda X: pd.Series(X, index=range(5, 5 + len(X))),
        lambda X: np.array([*X, None], dtype=object)[:-1],
    ],
)
def test_containers_of_sentences(clf, container):
    expected = clf.predict_proba(NEW[::2])
    for got, wanted in zip(
        clf.predict_proba(container(NEW[::2])), expected, strict=True
    ):
        np.testing.assert_array_equal(got, wanted)


def test_fits_of_the_same_seed_are_equal_and_inputs_stay(make_tagger):
    before = copy.deepcopy((X, Y))
    first, second = (make_tagger(max_epochs=2).fit(X, Y) for _ in range(2))
    for one, two in zip(
        first.predict_proba(NEW), second.predict_proba(NEW), strict=True
    ):
        np.testing.assert_array_equal(one, two)
    assert (X, Y) == before


def test_ints_are_tags_and_the_score_is_then_accuracy(make_tagger):
    codes = [[1 if tag == "O" else 7 for tag in tags] for tags in Y]
    clf = make_tagger().fit(X, codes)
    assert clf.classes_.tolist() == [1, 7]
    right = np.concatenate(clf.predict(X)) == np.concatenate(codes)
    assert clf.score(X, codes) == pytest.approx(right.mean())
    assert len(clf.explain(X[:1])) == 7  # all words
    with pytest.raises(ValueError, match=r"valid_tags=True needs BIO tags.*\[1, 7\]"):
        clf.predict(X, valid_tags=True)


# Words and their pieces.


@pytest.fixture(scope="module")
def tagger_of(tmp_path_factory):
    """Return fitted taggers by model type."""
    fitted = {}

    def make(model_type, **parameters):
        key = (model_type, *parameters.items())
        if key not in fitted:
            encoder = make_encoder(model_type, tmp_path_factory.mktemp(model_type))
            clf = ProtoLMTokenClassifier(
                encoder, n_prototypes=3, max_epochs=1, random_state=0, **parameters
            )
            fitted[key] = clf.fit(X[:24], Y[:24])
        return fitted[key]

    return make


@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.UnreadTextWarning")
@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.UnpredictedClassWarning")
@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.DuplicatePrototypesWarning")
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_word_has_one_tag_and_exact_sums(tagger_of, model_type):
    """Words of one or many pieces, of none, with spaces, and sentences without any."""
    clf = tagger_of(model_type)
    sentences = [
        ["goodgoodgood", "a", "café😀", "new york", "", "'s", INVISIBLE, "."],
        [INVISIBLE, INVISIBLE],
        [],
        [""],
    ]
    probabilities = clf.predict_proba(sentences)
    assert [len(p) for p in probabilities] == [8, 2, 0, 1]
    explanations = clf.explain(sentences, words="all", token_method="decomposition")
    assert len(explanations) == 11
    assert [(e.sentence, e.position) for e in explanations[7:]] == [
        (0, 7),
        (1, 0),
        (1, 1),
        (3, 0),
    ]
    for e in explanations:
        expected = probabilities[e.sentence][e.position]
        np.testing.assert_allclose(e.class_probabilities, expected, atol=1e-5)
        own = e.prototype_labels == e.target
        assert e.contributions.sum() == pytest.approx(1, abs=1e-9)
        assert e.contributions[own].sum() == pytest.approx(e.probability, abs=1e-9)
        assert e.base_value + e.token_scores.sum() == pytest.approx(
            e.log_odds, abs=1e-4
        )
        assert e.attention.sum() == pytest.approx(1, abs=1e-5)
        assert str(e)


def test_only_the_pieces_of_a_word_are_pooled(clf):
    words = ["goodgood", "was", "goodgood"]
    for position, e in enumerate(clf.explain([words], words="all")):
        spans = Sentence.of(words).spans
        start, end = spans[position]
        inside = (e.offsets[:, 0] >= start) & (e.offsets[:, 1] <= end)
        assert (inside.sum() > 1) == (position != 1)
        assert (e.attention[~inside] == 0).all()
        assert (e.attention[inside] > 0).all()
    assert e.words == ("goodgood", "was", "goodgood")


def test_words_are_those_of_the_user(clf):
    words = ["don't", "(kind)", "u.s.", "film"]
    [e] = clf.explain([words], words=[[1]])
    assert e.words == tuple(words)
    assert e.word == "(kind)"


def test_spaces_and_empty_words_are_kept_apart():
    sentence = Sentence.of(["new york", "", "a"])
    assert sentence.words == ["new\xa0york", "\xa0", "a"]
    assert [sentence[start:end] for start, end in sentence.spans] == sentence.words
    assert Sentence.of([]).spans == []


@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.UnreadTextWarning")
@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.UnpredictedClassWarning")
@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.DuplicatePrototypesWarning")
@pytest.mark.parametrize("finetune", ["full", 1, "head"])
def test_long_sentences_are_windowed_and_stitched(make_tagger, finetune):
    """A word whose pieces stand in two windows has them all, and one tag."""
    long_words = [word for words in X[:9] for word in [*words, "goodgoodgood"]]
    long_words[40] = INVISIBLE  # read from the special tokens, which all windows have
    tags = [tag for tags in Y[:9] for tag in [*tags, "O"]]
    clf = make_tagger(max_length=12, finetune=finetune, max_epochs=2)
    clf.fit([*X, long_words], [*Y, tags])
    [probabilities] = clf.predict_proba([long_words])
    assert probabilities.shape == (72, 4)
    explanations = clf.explain([long_words], words="all", token_method="decomposition")
    n_pieces = []
    for e, expected in zip(explanations, probabilities, strict=True):
        np.testing.assert_allclose(e.class_probabilities, expected, atol=1e-5)
        assert e.base_value + e.token_scores.sum() == pytest.approx(
            e.log_odds, abs=1e-4
        )
        n_pieces.append(np.count_nonzero(e.attention))
    n_joined, *others = n_pieces[7::8]
    assert n_joined > 5
    assert others == [n_joined] * 8
    for e in clf.explain([long_words], words=[[0, 7, 71]], token_method="relevance"):
        total = e.base_value + e.token_scores.sum()
        assert total == pytest.approx(e.log_odds, abs=1e-4)


@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.UnpredictedClassWarning")
@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.DuplicatePrototypesWarning")
def test_a_frozen_encoder_is_read_once_and_gives_the_same(make_tagger, monkeypatch):
    """Stored token vectors and those that are computed again are equal."""
    clf = make_tagger(finetune="head", max_epochs=2, early_stopping=True).fit(X, Y)
    assert clf.history_[-1]["validation_score"] >= 0
    assert clf.predict(NEW)[0].shape == (6,)


# Prototypes.


def test_prototypes_are_distinct_training_words(clf):
    prototypes = clf.prototypes_
    assert len(set(prototypes.texts)) == len(prototypes)
    assert len(set(prototypes.names)) == len(prototypes)
    for p in prototypes:
        assert p.text.words == X[p.train_index]
        assert Y[p.train_index][p.text.position] == p.label
    assert prototype_uniqueness(clf) == 1


def test_o_does_not_crowd_out_other_tags(make_tagger):
    clf = make_tagger(n_prototypes="auto").fit(X, Y)
    tags, counts = np.unique(clf.prototypes_.labels, return_counts=True)
    assert tags.tolist() == ["B-loc", "B-per", "I-loc", "O"]
    assert counts[-1] <= 2000 // 4


def test_edits_and_undo(clf):
    edited = copy.deepcopy(clf)
    before = edited.predict_proba(NEW)
    edited.remove_prototypes([0])
    edited.relabel_prototypes({0: "O"})
    edited.add_prototypes([(["the", "great", "paris"], 2)], ["I-loc"])
    added = edited.prototypes_[-1]
    assert (added.text.word, added.label, added.train_index) == ("paris", "I-loc", None)
    with pytest.raises(ValueError, match="is the text of prototype"):
        edited.add_prototypes([added.text], ["I-loc"])
    edited.prune_prototypes(min_usage=1)
    edited.redact_prototypes({0: (["x", "y"], 1)})
    assert edited.prototypes_[0].text == MarkedWord("x y", 1)
    while any(edit["action"] != "redact" for edit in edited.edits_):
        edited.undo_edit()
    for one, two in zip(before, edited.predict_proba(NEW), strict=True):
        np.testing.assert_array_equal(one, two)
    assert clf.edits_ == []


def test_similarities_novelty_and_neighbors_are_by_word(clf):
    M = len(clf.prototypes_)
    assert [s.shape for s in clf.transform(NEW)] == [(6, M), (0, M), (3, M)]
    novelty = clf.novelty_score(NEW)
    assert [s.shape for s in novelty] == [(6,), (0,), (3,)]
    assert novelty[0][0] == pytest.approx(clf.explain(NEW, words="all")[0].novelty)
    limit = clf.novelty_threshold(X[:9], rate=0.1)
    assert min(map(np.min, novelty[::2])) < limit
    nearest = clf.prototypes_.nearest(NEW, k=2)
    assert nearest.indices.shape == (9, 2)
    assert clf.prototypes_.plot(NEW, [["O"] * 6, [], ["O"] * 3]).axes


def test_compactness_counts_the_prototypes_of_each_word(clf):
    counts = explanation_compactness(clf, NEW)
    [e] = clf.explain(NEW[2:], words=[[0]])
    shares = np.sort(e.contributions)[::-1].cumsum()
    assert len(counts) == 9
    assert counts[6] == 1 + (shares < 0.9).sum()


def test_measures_of_texts_are_refused(clf):
    with pytest.raises(TypeError, match="This measure is defined for classifiers"):
        comprehensiveness(clf, X)


# The report.


def test_the_report_has_a_table_of_types_and_of_tags(clf, tmp_path):
    y = [list(tags) for tags in Y[:9]]
    y[0][2] = "B-per"  # which is wrong
    path = tmp_path / "report.html"
    clf.report([*X[:9], []], [*y, []], path, title="Places <&>")
    page = path.read_text(encoding="utf-8")
    assert "Places &lt;&amp;&gt;" in page
    assert "63 words have the right tag" in page
    assert "<td>per</td><td>10</td>" in page
    assert "<td>B-per</td><td>10</td>" in page
    assert "X[0][2], “in”: B-per, predicted O" in page
    text = re.sub(
        r"<style.*?</style>|<script.*?</script>|<[^>]*>", "", page, flags=re.S
    )
    assert "class" not in text
    assert f"Entity F1 is <b>{100 * clf.score(X[:9], y):.1f} %" in page
    with pytest.raises(ValueError, match="y must contain labels from classes_"):
        clf.report(X[:1], [["X"] * 7], path)
    with pytest.raises(ValueError, match="holds no words"):
        clf.report([[]], [[]], path)


# Parameters and tools.


def test_weights_of_sentences(make_tagger):
    """A sentence of weight 2 counts as two copies, one of weight 0 is left out."""
    weights = np.ones(len(X))
    weights[:30] = 0
    clf = make_tagger(max_epochs=1).fit(X, Y, sample_weight=weights)
    assert clf.prototypes_.train_indices.min() >= 30
    clf = make_tagger(max_epochs=1, class_weight={"O": 0.1}).fit(X, Y)
    assert (np.concatenate(clf.predict(X)) != "O").mean() > 0.2


def test_scikit_learn_selects_and_validates(make_tagger):
    clf = make_tagger(max_epochs=1)
    assert clone(clf).get_params()["max_epochs"] == 1
    assert "long_text" not in clf.get_params()
    scores = cross_val_score(clf, X, Y, cv=2, error_score="raise")
    assert scores.shape == (2,)
    search = GridSearchCV(clf, {"max_epochs": [1]}, cv=2, error_score="raise")
    assert search.fit(X, Y).predict(NEW)[0].shape == (6,)


@pytest.mark.parametrize(
    ("X", "y", "error", "message"),
    [
        (
            ["a text", "b"],
            [["O"], ["O"]],
            TypeError,
            r"Row 0 of X is 'a text' .*split\(\)",
        ),
        ("a text", [["O"]], ValueError, "got a single str"),
        ([], [], ValueError, "holds no sentence"),
        ([[]], [[]], ValueError, "X holds no words"),
        ([["a"], None], [["O"], []], ValueError, "Row 1 of X is None"),
        ([["a"], 3], [["O"], []], TypeError, "Row 1 of X is 3"),
        ([["a", 3]], [["O", "O"]], TypeError, r"^X\[0\]\[1\] is 3 \(int\)"),
        ([["a", None]], [["O", "O"]], ValueError, r"^X\[0\]\[1\] is None"),
        ([["a", "\ud800"]], [["O", "O"]], ValueError, r"^X\[0\]\[1\] is.*surrogate"),
        ([["a"]], None, ValueError, "requires y to be passed"),
        ([["a"]], [["O"], ["O"]], ValueError, "2 sentences, and there are 1"),
        ([["a", "b"]], [["O"]], ValueError, "Row 0 of y has 1 tags for 2 words"),
        ([["a"]], ["O"], TypeError, "Row 0 of y is 'O'"),
        ([["a"]], [[None]], ValueError, r"^y\[0\]\[0\] is None"),
        ([["a"]], [[1.5]], TypeError, r"^y\[0\]\[0\] is 1.5"),
        ([["a"]], [["O\0"]], ValueError, r"^y\[0\]\[0\] is.*NUL"),
        ([["a", "b"]], [["O", 1]], TypeError, "mixes tags of types"),
        ([["a", "b"]], [["O", "O"]], ValueError, "at least two classes"),
        ({"a": 1}, [["O"]], TypeError, "got dict"),
        (np.eye(2), [["O"], ["O"]], TypeError, r"^X\[0\]\[0\] is 1.0"),
        (pd.DataFrame({"words": [["a"]]}), [["O"]], TypeError, r"\['words'\]"),
        ([{"id": 1, "words": ["a"]}], [["O"]], TypeError, r"use \[row\['words'\] for"),
        ([{"a", "b"}], [["O", "O"]], TypeError, "pass a list, in the order"),
        ([[("a", "O")]], [["O"]], TypeError, "pass words and tags apart"),
        ([[["a"]]], [["O"]], TypeError, "not lists of lists"),
        ([[b"a"]], [["O"]], TypeError, r"use word.decode\('utf-8'\)"),
        ([["a", "b"]], ["O", "O"], TypeError, "Row 0 of y is 'O'.*one tag per word"),
        ([["a"]], [{"a": "O"}], TypeError, "Row 0 of y is .*one tag per word"),
        ([["a"]], pd.DataFrame({"t": [["O"]]}), TypeError, "each a list of tags"),
    ],
)
def test_bad_input_is_named(make_tagger, X, y, error, message):
    with pytest.raises(error, match=message):
        make_tagger().fit(X, y)


COLUMNS = {
    "pandas": pd.Series,
    "pandas, with an index": lambda rows: pd.Series(rows, index=range(7, 9)),
    "pandas, Arrow": lambda rows: pd.Series(
        rows, dtype=pd.ArrowDtype(pa.list_(pa.string()))
    ),
    "rows are Series": lambda rows: [pd.Series(row) for row in rows],
    "rows are Arrow Series": lambda rows: [
        pd.Series(row, dtype=pd.ArrowDtype(pa.string())) for row in rows
    ],
    "rows are object arrays": lambda rows: [
        np.array(row, dtype=object) for row in rows
    ],
    "object array": lambda rows: np.array(rows, dtype=object),
    "polars": pl.Series,
    "pyarrow": pa.array,
    "pyarrow, in chunks": lambda rows: pa.chunked_array([rows]),
    "rows are deques": lambda rows: [deque(row) for row in rows],
}


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_sentences_and_tags_of_any_library_are_read(column):
    """Rows that were Series or Arrow arrays were refused with the hint to drop them."""
    rows = [["anna", "is", "in"], ["rome"]]
    sentences = as_sentences(column(rows))
    assert [sentence.words for sentence in sentences] == rows
    tags = [["B-per", "O", "O"], ["B-loc"]]
    assert as_tags(column(tags), sentences) == ["B-per", "O", "O", "B-loc"]


def test_pages_and_prints_of_tags_name_words_and_tags(make_tagger):
    """They spoke of classes and texts."""
    numbers = {tag: i for i, tag in enumerate(["O", "B-per", "B-loc", "I-loc"])}
    y = [[numbers[tag] for tag in row] for row in Y]
    clf = make_tagger(max_epochs=1, n_prototypes=2).fit(X, y)
    explanations = clf.explain(X[:1], words=[[0, 1]], target=1)
    output, page = str(explanations), explanations.to_html()
    assert "tag 1: " in output
    assert "of tag 1" in output
    assert repr(explanations) == "<Explanations of 2 words>"
    text = re.sub(
        r"<style.*?</style>|<script.*?</script>|<[^>]*>", "", page, flags=re.S
    )
    assert "Explanations of 2 words" in text
    assert "speak for the tag" in text
    for shown in (output, text):
        assert "class" not in shown
    assert " texts" not in output
    unlike = replace(explanations[0], novelty_limit=-2.0)
    assert "the quoted words are the nearest ones" in unlike.to_html()
    with pytest.raises(
        ValueError, match="the explained tag, which is 1 in explained w"
    ):
        clf.explain(X[:1], words=[[0]], target=1, against=1)


def test_bad_weights_and_arguments_are_named(make_tagger, clf):
    with pytest.raises(ValueError, match="class_weight must be positive for all tags"):
        make_tagger(class_weight={"O": 0}).fit(X, Y)
    with pytest.raises(ValueError, match="sample_weight"):
        make_tagger().fit(X, Y, sample_weight=[1.0])
    with pytest.raises(ValueError, match=r"occlusion.*not available for words"):
        clf.explain(NEW, token_method="occlusion")
    with pytest.raises(ValueError, match="words must be 'all'"):
        clf.explain(NEW, words="some")
    with pytest.raises(ValueError, match="positions of words from 0 to 5"):
        clf.explain(NEW, words=[[6], [], []])
    with pytest.raises(ValueError, match="for each of 3 sentences, got 1"):
        clf.explain(NEW, words=[[0]])
    with pytest.raises(ValueError, match="valid_tags must be a bool"):
        clf.predict(NEW, valid_tags="yes")
    with pytest.raises(TypeError, match="Row 0 of texts is"):
        clf.add_prototypes([["the", "paris"]], ["O"])
    with pytest.raises(ValueError, match=re.escape("Row 0 of texts must have pos")):
        clf.add_prototypes([(["the", "paris"], 2)], ["O"])
    with pytest.raises(ValueError, match="classes_"):
        clf.add_prototypes([(["the", "paris"], 1)], ["X"])


def test_texts_and_words_are_not_confused(fitted, clf):
    with pytest.raises((TypeError, ValueError)):
        fitted.predict(NEW)
    assert isinstance(fitted, ProtoLMClassifier)
    with pytest.raises(TypeError, match="must be the list of the words"):
        clf.predict(["a text"])


def test_marked_words_are_no_training_sentences(clf):
    """They were counted as all of their words, and the error spoke of weights."""
    quoted = clf.prototypes_
    with pytest.raises(TypeError, match="Row 0 of X is a MarkedWord"):
        copy.copy(clf).fit(list(quoted.texts), [[tag] for tag in quoted.labels])


def test_frames_are_no_output(clf):
    """`set_output` was there, and `transform` failed under it."""
    assert not hasattr(clf, "set_output")


def test_arguments_are_checked_if_there_is_no_word_to_explain(clf):
    """A typo was found only in sentences with entities."""
    assert "no explanations" in str(clf.explain([[]]))
    for arguments, message in (
        ({"target": "zz"}, "classes_"),
        ({"top_k": -3}, "top_k must be"),
        ({"token_method": "nope"}, "token_method must be"),
    ):
        with pytest.raises(ValueError, match=message):
            clf.explain([[]], **arguments)
