"""Texts that are unlike the training texts."""

from __future__ import annotations

import copy
import math
import pickle
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from skprotolm import Explanation, Explanations, ProtoLMClassifier
from skprotolm._network.proto_lm import InverseDistanceLayer
from skprotolm._training.novelty_limit import conformal_rank, find_novelty_limit
from tests.helpers import FORMULATIONS, make_data, make_mixture, normal
from tests.texts import make_texts

H = 5


def novelty_without(
    cosines: np.ndarray, priors: np.ndarray, labels: np.ndarray, j: int | None
) -> float:
    """Return the novelty of a text without prototype j, under a sharpness of 9."""
    total = 0.0
    for label in np.unique(labels):
        members = [i for i in np.flatnonzero(labels == label) if i != j]
        mass = sum(priors[i] for i in members)
        total += sum(priors[i] / mass * np.exp(9 * cosines[i]) for i in members)
    return -math.log(total / len(np.unique(labels))) / 9


def test_the_limit_is_a_quantile_of_the_novelty_without_ones_own_prototype():
    n, labels = 30, np.arange(30) % 2
    vectors, quoted = normal(n, H), np.array([0, 1, 2, 3, 5])
    layer = make_mixture(vectors[quoted], torch.from_numpy(labels[quoted]), 2)
    with torch.no_grad():
        layer.prior_logits.copy_(normal(5, seed=1))
    layer.freeze()
    data = make_data(vectors, np.zeros(n, dtype=np.int64))  # no midpoints
    limit = find_novelty_limit(layer, data, vectors, quoted)
    cosines = layer.cosines(vectors).detach().numpy()
    priors = layer.describe()["priors"].detach().numpy()
    expected = [
        novelty_without(
            cosines[row],
            priors,
            labels[quoted],
            quoted.tolist().index(row) if row in quoted else None,
        )
        for row in range(n)
    ]
    assert limit == pytest.approx(max(expected))  # the rate of 30 texts is 0.01 %


@pytest.mark.parametrize(("n", "rate"), [(6000, 0.02), (1000, 0.004)])
def test_few_of_many_training_texts_are_above_the_limit(n, rate):
    vectors, quoted = normal(n, H), np.arange(20)
    labels = np.arange(n) % 2
    layer = make_mixture(vectors[quoted], torch.from_numpy(labels[quoted]), 2)
    limit = find_novelty_limit(layer, make_data(vectors, labels), vectors, quoted)
    novelty = layer.novelty(vectors[20:]).detach().numpy()  # not of the quoted texts
    # The limit is the novelty of a text, which may be above it by rounding.
    assert np.mean(novelty > limit) == pytest.approx(rate, rel=0.15, abs=1.1 / n)


def test_the_limit_of_proto_lm_is_a_distance_to_the_nearest_other_prototype():
    vectors, quoted = normal(24, H), np.array([0, 1])
    vectors[1] += 100
    values = torch.tensor([0, 1])
    layer = InverseDistanceLayer(vectors[quoted], values, n_classes=2)
    data = make_data(vectors, np.arange(24) % 2)
    limit = find_novelty_limit(layer, data, vectors, quoted)
    assert limit == pytest.approx(float((vectors[0] - vectors[1]).norm()))


def test_equal_texts_are_not_compared_with_their_prototype():
    """The novelty of such a text, of which the limit is a quantile, is larger then."""
    n = 240  # so many that the midpoints of the first two texts do not count
    vectors = normal(n, H).abs()
    vectors[0] = vectors[1] = -vectors[2:].mean(dim=0)  # nearest to itself only
    layer = make_mixture(vectors[[0, 2, 3]], torch.tensor([0, 0, 1]), 2)
    ids = [0, 0, *range(2, n)]
    labels = [0, 0, 0, 1, *[0, 1] * (n // 2 - 2)]
    # Prototype 0 quotes the first text, and the limit is the novelty of the second.
    rows = np.arange(1, n)
    distinct = make_data(vectors[rows], np.array(labels)[rows])
    equal = make_data(vectors, labels, text_ids=ids)
    limits = [
        find_novelty_limit(layer, distinct, vectors[rows], np.array([-1, 1, 2])),
        find_novelty_limit(layer, equal, vectors, np.array([0, 2, 3])),
    ]
    assert limits[0] < limits[1] - 0.5


def test_the_only_prototype_of_a_class_may_be_left_out():
    vectors = normal(24, H)
    layer = make_mixture(vectors[:2], torch.tensor([0, 1]), 2)
    data = make_data(vectors, np.arange(24) % 2)
    limit = find_novelty_limit(layer, data, vectors, np.array([0, 1]))
    assert math.isfinite(limit)


def test_a_text_between_two_classes_is_not_unlike_memorized_texts():
    """With 500 training texts, 47 % of new texts were called unlike (PubMedQA)."""
    n, labels = 200, np.arange(200) % 2
    centers = torch.eye(H, dtype=torch.float64)[:2]
    vectors = centers[torch.from_numpy(labels)] + 0.01 * normal(n, H)
    quoted = np.arange(20)
    layer = make_mixture(vectors[quoted], torch.from_numpy(labels[quoted]), 2)
    limit = find_novelty_limit(layer, make_data(vectors, labels), vectors, quoted)
    between = centers[:1] + centers[1:] + 0.01 * normal(50, H, seed=1)
    assert np.mean(layer.novelty(between).detach().numpy() > limit) < 0.1
    elsewhere = torch.eye(H, dtype=torch.float64)[2:]
    assert (layer.novelty(elsewhere) > limit).all()


@pytest.mark.parametrize(("n", "has_limit"), [(19, False), (20, True)])
def test_few_texts_have_no_limit(n, has_limit):
    vectors = normal(n, H)
    layer = make_mixture(vectors[:2], torch.tensor([0, 1]), 2)
    data = make_data(vectors, np.arange(n) % 2)
    limit = find_novelty_limit(layer, data, vectors, np.array([0, 1]))
    assert (limit is not None) == has_limit


@pytest.mark.parametrize(
    ("n", "rate", "rank"), [(99, 0.01, 99), (98, 0.01, 99), (39, 0.05, 38), (1, 0.9, 1)]
)
def test_the_conformal_rank(n, rate, rank):
    assert conformal_rank(n, rate) == rank


# --- Of explanations.


@pytest.fixture(scope="module")
def by_formulation(make_classifier) -> Callable[[str], ProtoLMClassifier]:
    """Return a maker of fitted classifiers."""
    X, y = make_texts()
    fitted = {f: make_classifier(formulation=f).fit(X, y) for f in FORMULATIONS}
    return fitted.__getitem__


def unlike(e: Explanation) -> Explanation:
    return replace(e, novelty_limit=e.novelty - 0.01)


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_explanations_have_the_novelty_of_their_text(by_formulation, formulation):
    clf = by_formulation(formulation)
    X = [*make_texts(4, seed=3)[0], "good"]
    explanations = clf.explain(X)
    for e, novelty in zip(explanations, clf.novelty_score(X), strict=True):
        assert e.novelty == pytest.approx(novelty)
        assert e.nearest_similarity == e.similarities.max()
        assert e.is_unlike == (e.novelty > e.novelty_limit)
        assert unlike(e).is_unlike
        assert not replace(e, novelty_limit=None).is_unlike
    restored = Explanations.from_json(explanations.to_json())
    assert [e.novelty_limit for e in restored] == [
        e.novelty_limit for e in explanations
    ]


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_few_training_texts_are_unlike_the_training_texts(by_formulation, formulation):
    explanations = by_formulation(formulation).explain(make_texts()[0])
    assert sum(e.is_unlike for e in explanations) <= 1


def test_the_limit_is_kept_by_edits_and_pickles(fitted):
    clf = copy.deepcopy(fitted)
    [before] = clf.explain(["good"])
    assert before.novelty_limit is not None
    [loaded] = pickle.loads(pickle.dumps(clf)).explain(["good"])
    assert loaded.novelty_limit == before.novelty_limit
    clf.remove_prototypes([0])
    [edited] = clf.explain(["good"])
    assert edited.novelty_limit == before.novelty_limit
    assert edited.novelty > before.novelty


def test_print_says_that_a_text_is_unlike_the_training_texts(fitted):
    [e] = fitted.explain(["the food was good"])
    assert "unlike" not in str(replace(e, novelty_limit=None))
    lines = str(unlike(e)).splitlines()
    nearest = e.similarities.max()
    assert lines[:2] == [
        e.text,
        f"unlike the training texts (nearest cosine {nearest:.2f})",
    ]
    output = "\n".join(lines)
    assert "reads like" not in output
    [other] = {"pos", "neg"} - {e.target}
    for link, label in (("because", e.target), ("although", other)):
        texts = re.findall(rf'{link} its nearest {label} text is "(.*)" \(', output)
        rivals = np.where(e.prototype_labels == label, e.similarities, -np.inf)
        assert texts in ([], [e.prototype_texts[rivals.argmax()]])
    assert len(re.findall(r"because its (nearest|next) ", output)) == 3


def test_print_under_proto_lm_names_the_nearest_similarity(by_formulation):
    [e] = by_formulation("proto-lm").explain(["the food was good"])
    line = f"unlike the training texts (nearest similarity {e.similarities.max():.3f})"
    assert str(unlike(e)).splitlines()[1] == line
    assert f"from the {e.prototypes[0].label} text" in str(unlike(e))


@pytest.mark.parametrize("labels", [[0, 1], [False, True], ["0", "1"]], ids=str)
def test_print_names_texts_of_numeric_classes_by_their_class(make_classifier, labels):
    """It said "the 1 text"."""
    X, y = make_texts(24)
    y = np.array(labels)[(y == "pos").astype(int)]
    clf = make_classifier(max_epochs=1).fit(X, y)
    [e] = clf.explain(["good food"], target=labels[1], top_k=1)
    output = str(replace(e, novelty_limit=None))
    assert f'because it reads like the text of class {labels[1]} "' in output
    assert f"2 other texts of class {labels[1]}" in output
    assert f"text of class {labels[0]} is" in str(unlike(e))
    lines = str(e).splitlines()
    assert sum(line.endswith(f" %  class {labels[1]}") for line in lines) == 1
    if e.prediction != labels[1]:
        assert f"(predicted: class {labels[0]})" in lines[1]


def test_only_near_texts_are_said_to_read_like_a_text(fitted):
    """A text was said to read like one of another class at a cosine of 0.1.

    A quoted text is far if the explained one would be unlike the training texts were
    its nearest text as far.
    """

    def gap_of(e):
        rivals = np.where(e.prototype_labels != e.target, e.similarities, -np.inf)
        return e.nearest_similarity - rivals.max()

    e = max(fitted.explain(make_texts(20, seed=5)[0]), key=gap_of)
    [other] = {"pos", "neg"} - {e.target}
    gap = gap_of(e)
    assert gap > 0.02
    for margin, said in (
        (0.01, "it reads like the {} text"),
        (-0.01, "its nearest {}"),
    ):
        output = str(replace(e, novelty_limit=e.novelty + gap + margin))
        assert f"although {said.format(other)}" in output
        assert f"because it reads like the {e.target} text" in output
