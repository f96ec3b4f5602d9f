"""The published layer and its losses, against plain Python."""

import math

import pytest
import torch

from skprotolm._network.proto_lm import InverseDistanceLayer, cohesion, separation
from tests.helpers import normal

VALUES = torch.tensor([2, 0, 0, 1, 0, 2, 0])
N_CLASSES = 3
B, H = 5, 6


@pytest.fixture
def s():
    return normal(B, H, seed=1)


@pytest.fixture
def layer():
    layer = InverseDistanceLayer(normal(len(VALUES), H), VALUES, n_classes=N_CLASSES)
    with torch.no_grad():
        layer.weights.copy_(normal(N_CLASSES, len(VALUES), seed=2))
        layer.bias.copy_(normal(N_CLASSES, seed=3))
    return layer.requires_grad_(False)


def test_outputs_are_those_of_the_formula(layer, s):
    similarities, _, scores = layer(s)
    weights, bias = layer.weights.tolist(), layer.bias.tolist()
    for b in range(B):
        a = [1 / (math.dist(s[b].tolist(), p) + 1e-4) for p in layer.vectors.tolist()]
        z = [
            bias[c] + sum(w * x for w, x in zip(weights[c], a, strict=True))
            for c in range(N_CLASSES)
        ]
        torch.testing.assert_close(similarities[b].tolist(), a, rtol=1e-9, atol=0)
        torch.testing.assert_close(scores[b].tolist(), z, rtol=1e-9, atol=1e-9)


def test_output_weights_start_at_1_for_the_class_and_at_minus_half_for_others():
    layer = InverseDistanceLayer(normal(len(VALUES), H), VALUES, n_classes=N_CLASSES)
    for c in range(N_CLASSES):
        expected = [1.0 if c == value else -0.5 for value in VALUES.tolist()]
        assert layer.weights[c].tolist() == expected
    assert layer.bias.tolist() == [0] * N_CLASSES


def test_small_distances_between_long_vectors_are_precise():
    """‖a‖² + ‖b‖² − 2a·b of such vectors has a larger error than the distance."""
    p = 100 * normal(1, H, dtype=torch.float32)
    layer = InverseDistanceLayer(p, torch.tensor([0]), n_classes=1)
    layer.requires_grad_(False)
    s = p + 0.01 * torch.eye(1, H)
    exact = float((s - p).double().norm())
    assert float(layer(s).squared_distances) ** 0.5 == pytest.approx(exact, rel=1e-3)


def test_novelty_is_the_distance_to_the_nearest_prototype(layer, s):
    for b in range(B):
        expected = min(math.dist(s[b].tolist(), p) for p in layer.vectors.tolist())
        assert float(layer.novelty(s)[b]) == pytest.approx(expected)


def test_contributions_sum_to_the_score_of_the_class(layer, s):
    for c in range(N_CLASSES):
        index = torch.full((B,), c)
        _, contributions = layer.contributions(s, index)
        total = layer.attribute(s, index).base + contributions.sum(dim=1)
        torch.testing.assert_close(total, layer(s).outputs[:, c])


def test_the_direction_is_the_gradient_of_the_log_odds(layer, s):
    attribution = layer.attribute(s)
    index, h = attribution.target, 1e-6
    assert torch.equal(index, layer(s).outputs.argmax(dim=1))
    for i in range(H):
        step = h * torch.eye(H, dtype=torch.float64)[i]
        up, down = (
            layer.explained(layer(x).outputs, index) for x in (s + step, s - step)
        )
        torch.testing.assert_close(
            attribution.direction[:, i], (up - down) / (2 * h), rtol=1e-5, atol=1e-6
        )


def test_relabeling_swaps_the_output_weights_of_two_classes(layer):
    relabeled = layer.revalued(torch.tensor([1]), torch.tensor([2]))
    before, after = layer.weights[:, 1].tolist(), relabeled.weights[:, 1].tolist()
    assert after == [before[2], before[1], before[0]]
    others = [j for j in range(len(VALUES)) if j != 1]
    assert torch.equal(relabeled.weights[:, others], layer.weights[:, others])


# Losses: K is a number, or a fraction of the prototypes of the text's class.

D2 = normal(6, 6, seed=4).square()
OWN = torch.tensor([0, 0, 1, 2, 0, 1])[:, None] == torch.tensor([0, 0, 0, 1, 2, 2])
WEIGHTS = torch.tensor([1.0, 0.5, 2.0, 0.25, 3.0, 0.75]).double()
N_NEAREST = [
    (1, lambda count: 1),
    (2, lambda count: 2),
    (50, lambda count: 50),
    (10**30, lambda count: 10**30),
    (0.5, lambda count: math.ceil(0.5 * count)),
    (0.34, lambda count: math.ceil(0.34 * count)),
    (1.0, lambda count: count),
    (0.01, lambda count: 1),
    (1e-50, lambda count: 1),
]


def distances(b, own):
    return sorted(D2[b][OWN[b] == own].tolist())


@pytest.mark.parametrize(("n_nearest", "k"), N_NEAREST)
def test_cohesion_is_the_mean_of_the_k_largest_distances(n_nearest, k):
    total = 0.0
    for b in range(6):
        ordered = distances(b, own=True)[::-1]
        largest = ordered[: k(len(ordered))]
        total += float(WEIGHTS[b]) * sum(largest) / len(largest)
    assert float(cohesion(D2, OWN, WEIGHTS, n_nearest)) == pytest.approx(total / 6)


@pytest.mark.parametrize(("n_nearest", "k"), N_NEAREST)
def test_separation_is_minus_the_mean_of_the_k_smallest_distances(n_nearest, k):
    total = 0.0
    for b in range(6):
        smallest = distances(b, own=False)[: k(len(distances(b, own=True)))]
        total -= float(WEIGHTS[b]) * sum(smallest) / len(smallest)
    assert float(separation(D2, OWN, WEIGHTS, n_nearest)) == pytest.approx(total / 6)
