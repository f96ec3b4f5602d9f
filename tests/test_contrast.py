"""Explanations of why one class and not another."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from skprotolm import Explanations, ProtoLMClassifier
from tests.helpers import FORMULATIONS
from tests.texts import make_texts

X = make_texts(6, seed=3)[0]
LABELS = np.array(["bad", "good", "so-so"])


@pytest.fixture(scope="module")
def three(make_classifier) -> Callable[[str], ProtoLMClassifier]:
    """Return a maker of classifiers of three classes."""
    texts, _ = make_texts()
    y = LABELS[np.arange(len(texts)) % 3]
    fitted = {f: make_classifier(formulation=f).fit(texts, y) for f in FORMULATIONS}
    return fitted.__getitem__


@pytest.mark.parametrize("method", ["decomposition", "relevance", "occlusion"])
def test_token_scores_sum_to_the_log_ratio_of_both_probabilities(three, method):
    clf = three("mixture")
    p = clf.predict_proba(X)
    explanations = clf.explain(X, target="good", against="bad", token_method=method)
    for e, (p_bad, p_good, _) in zip(explanations, p, strict=True):
        assert (e.target, e.against, e.token_method) == ("good", "bad", method)
        assert e.log_odds == pytest.approx(np.log(p_good / p_bad), abs=1e-5)
        total = e.base_value + e.token_scores.sum()
        assert total == pytest.approx(e.log_odds, abs=1e-5)


def test_occlusion_is_the_decrease_of_the_log_ratio(three):
    clf = three("mixture")
    [e] = clf.explain(
        ["the food was good"], target="good", against="bad", token_method="occlusion"
    )
    ratios = [np.log(p[1] / p[0]) for p in clf.predict_proba([e.text, "the food was "])]
    assert e.word_scores[-1] == pytest.approx(ratios[0] - ratios[1], abs=1e-5)


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize("method", ["relevance", "occlusion"])
def test_the_reverse_has_the_opposite_scores(three, formulation, method):
    clf = three(formulation)
    one = clf.explain(X, target="good", against="bad", token_method=method)
    other = clf.explain(X, target="bad", against="good", token_method=method)
    for a, b in zip(one, other, strict=True):
        assert a.log_odds == pytest.approx(-b.log_odds)
        np.testing.assert_allclose(a.token_scores, -b.token_scores, atol=1e-5)


def test_the_shares_do_not_change(three):
    clf = three("mixture")
    plain = clf.explain(X, target="good")
    for a, b in zip(plain, clf.explain(X, target="good", against="bad"), strict=True):
        np.testing.assert_array_equal(a.contributions, b.contributions)
        assert a.probability == b.probability
        assert not np.allclose(a.token_scores, b.token_scores)


def test_scores_of_proto_lm_are_differences_of_scores(three):
    clf = three("proto-lm")
    good = clf.explain(X, target="good")
    bad = clf.explain(X, target="bad")
    both = clf.explain(X, target="good", against="bad")
    for a, b, e in zip(good, bad, both, strict=True):
        assert e.score == pytest.approx(a.score - b.score)
        assert e.base_value + e.contributions.sum() == pytest.approx(e.score)
        np.testing.assert_allclose(e.contributions, a.contributions - b.contributions)
        assert e.log_odds == pytest.approx(e.score)


@pytest.mark.parametrize("method", ["decomposition", "relevance", "occlusion"])
def test_of_two_classes_the_other_one_changes_nothing(fitted, method):
    plain = fitted.explain(X, target="pos", token_method=method)
    both = fitted.explain(X, target="pos", against="neg", token_method=method)
    for a, b in zip(plain, both, strict=True):
        assert a.log_odds == pytest.approx(b.log_odds)
        np.testing.assert_allclose(a.token_scores, b.token_scores, atol=1e-6)


def test_the_target_is_the_predicted_class_by_default(three):
    clf = three("mixture")
    predicted = clf.predict(X)
    against = np.where(predicted == "bad", "good", "bad")
    explanations = clf.explain(X, against=against)
    assert [e.target for e in explanations] == predicted.tolist()
    assert [e.against for e in explanations] == against.tolist()


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_a_class_against_itself_is_rejected(three, formulation):
    clf = three(formulation)
    targets = ["good", "good", "bad"]
    with pytest.raises(ValueError, match=r"must differ .* which is 'bad' in row 2"):
        clf.explain(X[:3], target=targets, against="bad")
    [predicted] = clf.predict(X[:1])
    with pytest.raises(ValueError, match=f"which is '{predicted}' in row 0"):
        clf.explain(X[:1], against=predicted)


@pytest.mark.parametrize("against", ["other", 0, ["bad"]])
def test_an_unknown_class_is_rejected(three, against):
    with pytest.raises(ValueError, match="against must"):
        three("mixture").explain(X, target="good", against=against)


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_contrasts_are_stored_and_shown(three, formulation):
    explanations = three(formulation).explain(X, target="good", against="bad")
    restored = Explanations.from_json(explanations.to_json())
    assert restored.to_dict() == explanations.to_dict()
    assert str(restored) == str(explanations)
    plain = explanations.to_dict()
    assert json.loads(json.dumps(plain))[0]["against"] == "bad"
    assert set(explanations.to_frame()["against"]) == {"bad"}
    assert "good rather than bad" in repr(explanations[0])


def printed_sums(output: str) -> list[tuple[float, str]]:
    """Return the printed sums of shares, and their names."""
    sums = re.findall(r"^ += ([\d.]+) %  (.*)$", output, flags=re.MULTILINE)
    return [(float(number), name) for number, name in sums]


@pytest.mark.parametrize("top_k", [None, 1])
def test_print_lists_the_shares_of_both_classes(three, top_k):
    [e] = three("mixture").explain(X[:1], target="good", against="bad", top_k=top_k)
    output = str(e)
    p = e.probabilities
    assert printed_sums(output) == [
        (pytest.approx(100 * p["good"], abs=0.06), "good"),
        (pytest.approx(100 * p["bad"], abs=0.06), "bad"),
    ]
    first, second = output.split("%  good\n")
    assert f"good rather than bad: {100 * p['good']:.1f} % to" in first
    n_listed = top_k or 3
    reads_like = r"%s (?:it reads like the|its (?:nearest|next)) %s text"
    assert len(re.findall(reads_like % ("because", "good"), first)) == n_listed
    assert len(re.findall(reads_like % ("although", "bad"), second)) == n_listed
    assert "3 texts of other classes" in second
    assert "log-odds of good rather than bad: " in second
    assert "words for good rather than bad (relevance): " in second


def test_print_names_the_difference_of_scores(three: Any) -> None:
    [e] = three("proto-lm").explain(X[:1], target="good", against="bad")
    assert f"{e.score:+.3f}  score of good rather than bad" in str(e)
    assert f"{e.base_value:+.3f}  difference of the biases" in str(e)
