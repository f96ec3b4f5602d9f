"""Explanations of one of several labels: exact sums, and views."""

from __future__ import annotations

import re

import numpy as np
import pytest

from skprotolm import Explanations, LabelExplanation
from tests.label_sets import LABELS, NEW, X, Y

pytestmark = pytest.mark.filterwarnings(
    "ignore::skprotolm.exceptions.UnpredictedClassWarning"
)


def test_shares_of_the_prototypes_with_a_label_sum_to_its_probability(multilabel):
    p = multilabel.predict_proba(NEW)
    for j, label in enumerate(LABELS):
        for row, e in enumerate(multilabel.explain(NEW, target=label)):
            assert isinstance(e, LabelExplanation)
            own = Y[multilabel.prototypes_.train_indices, j] == 1
            np.testing.assert_array_equal(e.has_target, own)
            assert e.contributions[own].sum() == pytest.approx(p[row, j], abs=1e-12)
            assert e.contributions.sum() == pytest.approx(1, abs=1e-12)
            assert e.probability == p[row, j]


def test_shares_inside_a_side_are_a_softmax_of_the_cosines(multilabel):
    [e] = multilabel.explain(NEW[:1], target="food")
    for side in (e.has_target, ~e.has_target):
        logs = np.log(e.contributions[side])
        slope, intercept = np.polyfit(e.similarities[side], logs, 1)  # equal priors
        fitted = slope * e.similarities[side] + intercept
        np.testing.assert_allclose(logs, fitted, atol=1e-6)
        assert slope > 0


@pytest.mark.parametrize("method", ["decomposition", "relevance", "occlusion"])
def test_base_and_token_scores_sum_to_the_log_odds(multilabel, method):
    z = multilabel.decision_function(NEW[:3])
    for j, label in enumerate(LABELS):
        for row, e in enumerate(
            multilabel.explain(NEW[:3], target=label, token_method=method)
        ):
            total = e.base_value + e.token_scores.sum()
            assert total == pytest.approx(z[row, j], abs=1e-6)
            assert e.log_odds == pytest.approx(z[row, j], abs=1e-9)


def test_the_most_probable_label_is_explained_by_default(multilabel):
    p = multilabel.predict_proba(X[:9])
    explanations = multilabel.explain(X[:9])
    assert [e.target for e in explanations] == [LABELS[j] for j in p.argmax(axis=1)]
    for e, row in zip(explanations, multilabel.predict(X[:9]), strict=True):
        assert e.prediction == tuple(np.array(LABELS)[row == 1].tolist())
        assert list(e.probabilities) == LABELS


def test_targets_may_differ_per_text(multilabel):
    explanations = multilabel.explain(NEW[:2], target=["film", "food"])
    assert [e.target for e in explanations] == ["film", "food"]


def test_prototypes_speak_for_and_against(multilabel):
    [e] = multilabel.explain(NEW[:1], target="food", top_k=2)
    assert len(e.in_favor) == len(e.against) == 2
    assert all("food" in p.labels for p in e.in_favor)
    assert not any("food" in p.labels for p in e.against)
    first, second = e.in_favor
    assert first.contribution >= second.contribution
    assert len(e.prototypes) == 2
    listed = sum(p.contribution for p in e.prototypes)
    assert listed + e.remainder == pytest.approx(1)


def test_sides_are_those_before_json(multilabel):
    explanations = multilabel.explain(NEW, target="food", top_k=3)
    restored = Explanations.from_json(explanations.to_json())
    np.testing.assert_array_equal(restored[0].has_target, explanations[0].has_target)
    assert restored[0].in_favor == explanations[0].in_favor


def test_print_shows_both_sides_and_their_sums(multilabel):
    [e] = multilabel.explain(NEW[:1], target="food")
    lines = str(e).splitlines()
    assert lines[0] == NEW[0]
    p = 100 * e.probability
    assert any(line.startswith(f"food: {p:.1f} % (predicted: ") for line in lines)
    assert any(re.search(rf"= {p:.1f} %  with food", line) for line in lines)
    assert any(re.search(rf"= {100 - p:.1f} %  without food", line) for line in lines)
    n_listed = min(3, e.has_target.sum()), min(3, (~e.has_target).sum())
    assert sum("because" in line for line in lines) == n_listed[0] > 0
    assert sum("although" in line for line in lines) == n_listed[1] > 0
    assert repr(e) == f"<Explanation of 'the food was good': food {p:.1f} %>"


def test_a_text_may_have_no_label(multilabel):
    row = int(multilabel.predict(X).sum(axis=1).argmin())
    [e] = multilabel.explain([X[row]])
    assert e.prediction == ()
    assert "(predicted: no label)" in str(e)


def test_pages_show_both_sides_and_escape(multilabel):
    page = multilabel.explain(["<b>food</b> & film"], target="food").to_html()
    assert "with food" in page
    assert "without food" in page
    assert "<b>food</b>" not in page
    assert "Predicted: " in page
    assert 'class="skprotolm-card"' in multilabel.explain(NEW[:1])._repr_html_()


def test_frames_and_figures_show_labels(multilabel):
    explanations = multilabel.explain(NEW[:2], target="food", top_k=2)
    frame = explanations.to_frame()
    assert len(frame) == 4
    own = ["food" in labels for labels in frame["prototype_labels"]]
    assert frame["in_favor"].tolist() == own
    words, shares = explanations[0].plot().axes
    assert len(shares.patches) == 2
    assert "part of the log-odds of food" in words.get_xlabel()
    assert len(explanations.plot().axes[0].patches) == 2


@pytest.mark.filterwarnings("ignore:The set_bad function:PendingDeprecationWarning")
def test_shap_values_and_base_sum_to_the_log_odds(multilabel):
    pytest.importorskip("shap")
    shown = multilabel.explain(NEW[:2], target="food").to_shap()
    sums = [shown.base_values[i] + shown.values[i].sum() for i in range(2)]
    np.testing.assert_allclose(
        sums, multilabel.decision_function(NEW[:2])[:, 1], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"against": "food"}, "against has no meaning for several labels"),
        ({"target": "drink"}, "must contain labels from classes_"),
        ({"target": ["food"]}, "one label, or one per text"),
    ],
)
def test_targets_must_be_labels(multilabel, arguments, message):
    with pytest.raises(ValueError, match=message):
        multilabel.explain(NEW, **arguments)
