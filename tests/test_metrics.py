"""Measures of explanations are those of plain loops, and rank what they should."""

from __future__ import annotations

import copy
import math
import shutil
from unittest import mock

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from skprotolm import ProtoLMClassifier
from skprotolm._network.encoder import TextEncoder
from skprotolm.exceptions import TextTruncatedWarning
from skprotolm.metrics import (
    comprehensiveness,
    evaluate_explanations,
    prototype_comprehensiveness,
    prototype_purity,
    prototype_sufficiency,
    simulatability,
    sufficiency,
)
from tests.conftest import make_texts
from tests.tiny import make_encoder

pytestmark = pytest.mark.filterwarnings(
    "ignore::skprotolm.exceptions.UnreadTextWarning"
)

X, Y = make_texts()
ERASER = (0.01, 0.05, 0.1, 0.2, 0.5)


@pytest.fixture(scope="module")
def clf(make_classifier) -> ProtoLMClassifier:
    return make_classifier(max_epochs=4, learning_rate=5e-3).fit(X, Y)


def probability(clf: ProtoLMClassifier, text: str, label: str) -> float:
    return clf.predict_proba([text])[0][clf.classes_.tolist().index(label)]


@pytest.mark.parametrize("put", ["", "…"])
@pytest.mark.parametrize("protocol", ["eraser", "ferret"])
def test_measures_of_words_are_those_of_loops(clf, protocol, put):
    fractions = ERASER if protocol == "eraser" else np.arange(1, 11) / 10
    options = {"protocol": protocol, "removal": "mask" if put else "delete"}
    found = comprehensiveness(clf, X[:6], **options)
    alone = sufficiency(clf, X[:6], **options)
    for row, e in enumerate(clf.explain(X[:6])):
        words, scores = list(e.words), e.word_scores
        order = sorted(range(len(words)), key=lambda w: -scores[w])
        falls, rests = [], []
        for fraction in fractions:
            top = order[: math.ceil(round(fraction * len(words), 9))]
            if protocol == "ferret":
                top = [w for w in top if scores[w] > 0]
            # The texts have single spaces, of which those of a word's sides stay.
            without = " ".join(put if w in top else t for w, t in enumerate(words))
            only = " ".join(t if w in top else put for w, t in enumerate(words))
            falls.append(e.probability - probability(clf, without, e.prediction))
            rests.append(e.probability - probability(clf, only, e.prediction))
        assert found[row] == pytest.approx(np.mean(falls), abs=1e-6)
        assert alone[row] == pytest.approx(np.mean(rests), abs=1e-6)


def test_given_scores_are_used(clf):
    explanations = clf.explain(X, token_method="occlusion")
    scores = [e.word_scores for e in explanations]
    np.testing.assert_array_equal(
        comprehensiveness(clf, X, scores),
        comprehensiveness(clf, X, token_method="occlusion"),
    )
    opposite = [-s for s in scores]
    assert comprehensiveness(clf, X, scores).mean() > (
        comprehensiveness(clf, X, opposite).mean()
    )


def test_occlusion_is_better_than_chance(clf):
    options = {"random_state": 0}
    method = {"token_method": "occlusion"}
    random = comprehensiveness(clf, X, "random", **options).mean()
    assert comprehensiveness(clf, X, **method).mean() > random
    random = sufficiency(clf, X, "random", **options).mean()
    assert sufficiency(clf, X, **method).mean() < random


def test_random_rankings_are_those_of_the_seed(clf):
    one, same, other = (
        comprehensiveness(clf, X, "random", random_state=seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_pairs_and_empty_texts_are_measured(make_classifier):
    pairs = list(zip(X, X[::-1], strict=True))
    clf = make_classifier(max_epochs=1).fit(pairs, Y)
    assert np.isfinite(comprehensiveness(clf, [*pairs[:3], ("", "good")])).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "aopc"}, "protocol must be 'eraser' or 'ferret', got 'aopc'"),
        ({"removal": "drop"}, "removal must be 'delete' or 'mask'"),
        ({"word_scores": "shap"}, "word_scores must be 'random', got 'shap'"),
        ({"word_scores": [[1.0]]}, "an array a text, got 1 for 2"),
        ({"word_scores": [[1.0], [1.0]]}, r"Row 0 of word_scores must hold 6 numbers"),
    ],
)
def test_wrong_options_are_refused(clf, options, message):
    for measure in (comprehensiveness, sufficiency):
        with pytest.raises(ValueError, match=message):
            measure(clf, X[:2], **options)


@pytest.mark.parametrize("k", [1, 2, 50])
def test_measures_of_prototypes_are_those_of_edits(clf, k):
    """With more kept than a class has, sufficiency was a perfect 0."""
    dropped = prototype_comprehensiveness(clf, X[:6], k=k)
    kept = prototype_sufficiency(clf, X[:6], k=k)
    for row, e in enumerate(clf.explain(X[:6])):
        mine = [p.index for p in e.prototypes if p.label == e.prediction]
        some = min(k, len(mine) - 1)
        for gone, found in ((mine[:some], dropped), (mine[some:], kept)):
            edited = copy.deepcopy(clf)
            edited.remove_prototypes(gone)
            left = probability(edited, X[row], e.prediction)
            assert found[row] == pytest.approx(e.probability - left, abs=1e-6)
    assert clf.edits_ == []


def test_the_largest_shares_count_for_more_than_random_ones(clf):
    random = {"ranking": "random", "random_state": 0}
    top = prototype_comprehensiveness(clf, X, k=1).mean()
    assert top > prototype_comprehensiveness(clf, X, k=1, **random).mean()
    rest = prototype_sufficiency(clf, X, k=1).mean()
    assert rest < prototype_sufficiency(clf, X, k=1, **random).mean()


def test_a_student_foresees_decisions_from_prototypes(clf):
    found = simulatability(clf, X, k=1, random_state=0)
    assert found.from_text.shape == found.from_prototypes.shape == (len(X),)
    # One prototype stands for one label, so its text says what is decided.
    assert found.from_prototypes.mean() > 0.8
    expected = found.from_prototypes.mean() - found.from_text.mean()
    assert found.gain == pytest.approx(expected)


def test_everything_is_told_in_one_frame(clf):
    frame = evaluate_explanations(clf, X[:20], n_resamples=50)
    again = evaluate_explanations(clf, X[:20], n_resamples=50)
    assert frame.equals(again)
    assert len(frame) == frame["measure"].nunique() + 6  # four of words in four ways
    one = frame["measure"] == "prototype_uniqueness"  # a number, of all prototypes
    assert frame.loc[one, ["low", "high"]].isna().all(axis=None)
    assert (frame["low"] <= frame["value"])[~one].all()
    assert (frame["value"] <= frame["high"])[~one].all()
    without = frame.loc[frame["baseline"].isna(), "measure"].tolist()
    assert without == [
        "explanation_compactness",
        "prototype_uniqueness",
        "prototype_diversity",
        "prototype_purity",
    ]
    assert frame[~one].drop(columns="baseline").notna().all(axis=None)


def test_labels_judge_the_purity(clf):
    X_new, y_new = make_texts(20, seed=9)
    frame = evaluate_explanations(clf, X_new, y_new, n_resamples=9)
    found = frame.set_index("measure").loc["prototype_purity", "value"]
    assert found == pytest.approx(prototype_purity(clf, X_new, y_new).mean())
    with pytest.raises(ValueError, match="y"):
        evaluate_explanations(clf, X_new, y_new[:-1])


def test_measures_of_prototypes_read_the_texts_once(clf, monkeypatch):
    """The encoder ran for every text alone, whose vector edits do not change."""
    batches = []
    forward = TextEncoder.forward

    def count(self, batch, **options):
        batches.append(len(batch["input_ids"]))
        return forward(self, batch, **options)

    monkeypatch.setattr(TextEncoder, "forward", count)
    clf.explain(X)
    alone = len(batches)
    prototype_comprehensiveness(clf, X)
    assert len(batches) == 3 * alone  # explained, and read once more


@pytest.mark.parametrize("measure", [comprehensiveness, sufficiency])
def test_words_without_scores_are_said_to_have_none(make_classifier, measure):
    """It spoke of an argument that nobody had passed, or failed at a minus sign."""
    clf = make_classifier(formulation="proto-lm", max_epochs=1).fit(X, Y)
    with mock.patch("skprotolm._explaining.explain.is_supported", return_value=False):
        for measured in (measure, evaluate_explanations):
            with pytest.raises(ValueError, match="use token_method='occlusion'"):
                measured(clf, X[:3])


def long_texts() -> list[str]:
    """Texts of which the encoder reads the same words, and not what follows."""
    read = "good food bad film " * 14 + "food film "  # 58 words, and two special tokens
    return [read + "bad " * 90, read + "good " * 90, read]


@pytest.mark.parametrize("removal", ["delete", "mask"])
@pytest.mark.parametrize("measure", [comprehensiveness, sufficiency])
def test_what_was_not_read_takes_no_part(make_classifier, measure, removal):
    """It was read in the place of the words that were taken out."""
    clf = make_classifier(max_length=60).fit(X, Y)
    with pytest.warns(TextTruncatedWarning, match="2 of 3"):  # and of no other texts
        found = measure(clf, long_texts(), removal=removal)
    np.testing.assert_allclose(found, found[2], atol=1e-6)


def test_occlusion_reads_no_more_than_the_text_that_it_explains(make_classifier):
    clf = make_classifier(max_length=60).fit(X, Y)
    with pytest.warns(TextTruncatedWarning):
        scores = [
            e.word_scores for e in clf.explain(long_texts(), token_method="occlusion")
        ]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)


def test_without_its_backbone_a_model_is_measured_but_for_the_reading(
    make_classifier, tmp_path
):
    """All that was measured until then was lost."""
    make_encoder("bert", tmp_path / "gone")
    clf = make_classifier(backbone=str(tmp_path / "gone"), max_epochs=4).fit(X, Y)
    shutil.rmtree(tmp_path / "gone")
    with pytest.warns(UserWarning, match="reading gain is NaN"):
        frame = evaluate_explanations(clf, X[:20], n_resamples=9)
    figures = frame.set_index("measure")["value"]
    assert np.isnan(figures["reading_gain"])
    assert np.isfinite(figures["prototype_comprehensiveness"])


def test_from_redacted_prototypes_a_student_can_read_nothing(make_classifier):
    """An error spoke of an empty vocabulary."""
    clf = make_classifier(max_epochs=4).fit(X, Y)
    clf.redact_prototypes({j: "" for j in range(len(clf.prototypes_))})
    found = simulatability(clf, X, random_state=0)
    assert found.from_prototypes.mean() < found.from_text.mean()


@pytest.mark.parametrize("scores", [np.nan, np.inf, "high"])
def test_word_scores_are_finite_numbers(fitted, scores):
    """NaN ranked words somehow, without a word."""
    given = [
        np.array([scores, *[0.0] * (len(e.words) - 1)], dtype=object)
        for e in fitted.explain(X[:2])
    ]
    with pytest.raises(ValueError, match="Row 0 of word_scores must hold finite"):
        comprehensiveness(fitted, X[:2], given)


def test_before_fit_every_measure_says_so(make_classifier):
    for measure in (evaluate_explanations, prototype_purity, comprehensiveness):
        with pytest.raises(NotFittedError):
            measure(make_classifier(), X, Y)


@pytest.mark.parametrize("n_resamples", [0, -1, 2.5])
def test_resamples_are_counted_before_the_work(fitted, n_resamples):
    with pytest.raises(ValueError, match="n_resamples must be an int"):
        evaluate_explanations(fitted, X, n_resamples=n_resamples)


@pytest.mark.parametrize("k", [0, -1, 1.5, True, None])
@pytest.mark.parametrize(
    "measure", [prototype_comprehensiveness, prototype_sufficiency]
)
def test_a_measure_of_prototypes_needs_a_count(fitted, measure, k):
    with pytest.raises(ValueError, match="k must be an int of at least 1"):
        measure(fitted, ["good food"], k=k)


def test_too_few_texts_to_simulate_leave_the_other_measures(fitted):
    """All was refused, though a rare class in X leaves but one measure unknown."""
    texts = ["good food", "bad food"] * 2
    with pytest.warns(UserWarning, match="5 texts or more of each class"):
        frame = evaluate_explanations(fitted, texts, n_resamples=9)
    figures = frame.set_index("measure")["value"]
    assert np.isnan(figures["simulatability"])
    assert figures["prototype_comprehensiveness"] >= 0


def test_a_student_needs_texts_of_each_decision(fitted):
    """The error was that of the folds, and did not say whose members were meant."""
    with pytest.raises(ValueError, match="3 texts or more of each class that is pred"):
        simulatability(fitted, ["good food"] * 4, n_splits=3)


def test_one_prototype_a_class_leaves_nothing_to_measure(make_classifier):
    """What was dropped or kept was rounding, with an interval."""
    clf = make_classifier(n_prototypes=1).fit(X, Y)
    for measure in (prototype_comprehensiveness, prototype_sufficiency):
        assert np.isnan(measure(clf, X[:3])).all()
    frame = evaluate_explanations(clf, X[:20], n_resamples=9).set_index("measure")
    unknown = frame.index[frame["value"].isna()].tolist()
    assert unknown == [
        "prototype_comprehensiveness",
        "prototype_sufficiency",
        "reading_gain",
        "prototype_diversity",
    ]
    assert frame.loc[unknown, ["low", "high"]].isna().all(axis=None)


@pytest.mark.parametrize("removal", ["delete", "mask"])
def test_a_text_without_words_has_none_to_take(fitted, removal):
    """Masks were put where the tokens stand that a tokenizer adds."""
    [fall] = comprehensiveness(fitted, [""], removal=removal)
    assert fall == pytest.approx(0, abs=1e-12)


def test_all_measures_read_the_same_explanations(fitted, monkeypatch):
    """The texts were explained anew for each measure, some twenty times."""
    calls = []
    explain = ProtoLMClassifier.explain

    def count(self, *args, **kwargs):
        calls.append(kwargs)
        return explain(self, *args, **kwargs)

    monkeypatch.setattr(ProtoLMClassifier, "explain", count)
    X, _ = make_texts(24, seed=3)
    evaluate_explanations(fitted, X, token_method="occlusion", n_resamples=9)
    assert calls == [{"token_method": "occlusion"}]
