"""The sharpness under which few texts share a prediction."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from skprotolm._network.class_readout import ClassReadout
from skprotolm._training.sharpness import (
    choose_sharpness,
    weighted_median,
)
from tests.helpers import make_data, make_mixture, normal

PERPLEXITY = 2.5  # with two classes


def targets_of(codes, weights=None):
    return make_data(torch.zeros(len(codes), 1), codes, weights=weights).targets


def make_sample(rows, cosines, itself):
    """Return a sample of texts of which only the comparison is known."""

    def compare(exact, some):
        return cosines[some], itself[some]

    return SimpleNamespace(rows=rows, compare=compare)


def sharpness_of(cosines, codes, prototype_codes, itself=None, weights=None):
    """Return λ from the cosines of texts and prototypes, both of classes."""
    cosines = torch.as_tensor(cosines, dtype=torch.float64)
    if itself is None:
        itself = torch.zeros(cosines.shape, dtype=torch.bool)
    values = torch.tensor(prototype_codes)
    vectors, n_classes = normal(len(values), 2), 2
    layer = make_mixture(vectors, values, n_classes)
    sample = make_sample(np.arange(len(codes)), cosines, itself)
    return choose_sharpness(layer, sample, targets_of(codes, weights))


def perplexity(sharpness, cosines):
    """Return exp(entropy) of the shares of one text, by hand."""
    terms = [math.exp(sharpness * (c - max(cosines))) for c in cosines]
    shares = [term / sum(terms) for term in terms]
    return math.exp(-sum(r * math.log(r) for r in shares if r > 0))


@pytest.mark.parametrize("spread", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("n_prototypes", [8, 20])
def test_the_median_text_has_the_perplexity(spread, n_prototypes):
    rng = np.random.RandomState(0)
    cosines = 0.8 - spread * rng.rand(51, n_prototypes)
    sharpness = sharpness_of(cosines, [0] * 51, [0] * n_prototypes)
    assert 30 < sharpness < 3000
    perplexities = [perplexity(sharpness, row) for row in cosines.tolist()]
    assert np.median(perplexities) == pytest.approx(PERPLEXITY, abs=1e-3)


def test_the_sharpness_is_inverse_to_the_differences_of_cosines():
    sharpness = [
        sharpness_of([[0.9, *[0.9 - gap] * 4]], [0], [0] * 5) for gap in (0.01, 0.02)
    ]
    assert sharpness[0] == pytest.approx(2 * sharpness[1], rel=1e-4)
    assert perplexity(sharpness[1], [0.9, *[0.88] * 4]) == pytest.approx(
        PERPLEXITY, abs=1e-4
    )


def test_only_prototypes_of_the_texts_class_count():
    rng = np.random.RandomState(0)
    cosines = np.concatenate(
        [0.8 - 0.05 * rng.rand(30, 6), np.full((30, 40), 0.99)], axis=1
    )
    inside = sharpness_of(cosines[:, :6], [0] * 30, [0] * 6)
    both = sharpness_of(cosines, [0] * 30, [0] * 6 + [1] * 40)
    assert both == pytest.approx(inside)


def test_a_text_is_not_compared_with_itself():
    """Its own cosine of 1 would leave no share to others, under any λ."""
    rng = np.random.RandomState(0)
    cosines = 0.8 - 0.05 * rng.rand(8, 8)
    np.fill_diagonal(cosines, 1.0)
    itself = torch.eye(8, dtype=torch.bool)
    others = [np.delete(row, b).tolist() for b, row in enumerate(cosines)]
    sharpness = sharpness_of(cosines, [0] * 8, [0] * 8, itself)
    lower_median = sorted(perplexity(sharpness, row) for row in others)[3]
    assert lower_median == pytest.approx(PERPLEXITY, abs=1e-3)
    assert sharpness_of(cosines, [0] * 8, [0] * 8) == pytest.approx(30)


def test_texts_whose_class_has_no_other_prototype_do_not_count():
    cosines = np.full((5, 5), 0.5)
    cosines[:2, :4] = 0.8 - 0.05 * np.random.RandomState(0).rand(2, 4)
    itself = torch.zeros(5, 5, dtype=torch.bool)
    itself[2:, 4] = True
    values, prototype_values = [0, 0, 1, 1, 1], [0, 0, 0, 0, 1]
    sharpness = sharpness_of(cosines, values, prototype_values, itself)
    alone = sharpness_of(cosines[:2, :4], [0, 0], [0] * 4)
    assert sharpness == alone > 31


@pytest.mark.parametrize(
    ("cosines", "bound"),
    [
        (np.full((3, 9), 0.7), 3000),  # all texts are equal
        ([[0.9] + [-0.9] * 8] * 3, 30),  # one is nearest by far
        ([[0.5, 0.6]] * 3, 30),
        ([[0.5]] * 3, 30),
    ],
    ids=["equal", "far", "two", "one"],
)
def test_the_sharpness_has_bounds(cosines, bound):
    n_prototypes = len(cosines[0])
    sharpness = sharpness_of(cosines, [0] * 3, [0] * n_prototypes)
    assert sharpness == pytest.approx(bound, rel=1e-5)
    assert 30 <= sharpness <= 3000


def test_without_a_text_to_compare_it_is_the_lowest():
    itself = torch.eye(2, dtype=torch.bool)
    assert sharpness_of(np.eye(2), [0, 1], [0, 1], itself) == 30


def test_the_rows_say_which_texts_are_compared():
    """Values are those of all training texts."""
    rng = np.random.RandomState(0)
    cosines = torch.from_numpy(0.8 - 0.05 * rng.rand(4, 6))
    layer = make_mixture(normal(6, 2), torch.tensor([0] * 6), 2)
    none = torch.zeros(4, 6, dtype=torch.bool)
    rows, targets = np.array([1, 3, 4, 5]), targets_of([1, 0, 1, 0, 0, 0])
    chosen = choose_sharpness(layer, make_sample(rows, cosines, none), targets)
    assert chosen == sharpness_of(cosines, [0] * 4, [0] * 6)


def test_the_first_500_texts_are_compared():
    rng = np.random.RandomState(0)
    cosines = 0.8 - 0.05 * rng.rand(900, 5)
    cosines[500:] = 0.5
    assert sharpness_of(cosines, [0] * 900, [0] * 5) == sharpness_of(
        cosines[:500], [0] * 500, [0] * 5
    )


def test_a_text_of_weight_3_counts_as_three_texts():
    cosines = 0.8 - 0.05 * np.random.RandomState(0).rand(6, 5)
    weights = [3, 1, 1, 2, 1, 1]
    weighted = sharpness_of(cosines, [0] * 6, [0] * 5, weights=weights)
    repeated = sharpness_of(cosines.repeat(weights, axis=0), [0] * 9, [0] * 5)
    assert weighted == repeated
    assert weighted != sharpness_of(cosines, [0] * 6, [0] * 5)


@pytest.mark.parametrize(
    ("values", "weights", "expected"),
    [
        ([5.0, 1, 3], [1.0, 1, 1], 3),
        ([5.0, 1, 3, 4], [0.1, 0.1, 0.1, 0.1], 3),  # the lower one of two
        ([5.0, 1, 3], [9.0, 1, 1], 5),
        ([2.0], [0.3], 2),
    ],
)
def test_half_of_the_weight_is_at_or_below_the_median(values, weights, expected):
    assert weighted_median(np.array(values), np.array(weights)) == expected


@pytest.mark.parametrize(
    ("n_classes", "expected"), [(1, 4.0), (2, 2.5), (4, 1.75), (5, 1.6), (77, 1.5)]
)
def test_more_classes_have_fewer_prototypes_each(n_classes, expected):
    assert ClassReadout(n_classes, 30.0).perplexity == pytest.approx(expected)
