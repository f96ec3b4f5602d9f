"""Readouts: grouped sums, and the readouts of classes and of numbers."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from skprotolm._explaining.attribution import token_scores
from skprotolm._network.class_readout import ClassReadout
from skprotolm._network.mixture import MixtureLayer
from skprotolm._network.network import Encoded
from skprotolm._network.pooling import pool
from skprotolm._network.readout import grouped_logsumexp, log_odds
from skprotolm._network.readouts import make_readout
from skprotolm._network.value_readout import ValueReadout
from skprotolm._network.windows import WindowIndex
from tests.helpers import normal

B, T, H = 5, 4, 6
GROUPS = torch.tensor([2, 0, 0, 1, 0, 2, 0])
N_GROUPS = 3


# Sums over groups of columns.


@pytest.mark.parametrize("scale", [1, 1e4])
def test_grouped_logsumexp_is_that_of_each_group(scale):
    x = scale * normal(B, len(GROUPS))
    x.requires_grad_(True)
    expected = [torch.logsumexp(x[:, GROUPS == g], dim=1) for g in range(N_GROUPS)]
    sums = grouped_logsumexp(x, GROUPS, N_GROUPS)
    torch.testing.assert_close(sums, torch.stack(expected, dim=1))
    upstream = normal(B, N_GROUPS, seed=1)
    (gradient,) = torch.autograd.grad((sums * upstream).sum(), x)
    total = (torch.stack(expected, dim=1) * upstream).sum()
    torch.testing.assert_close(gradient, torch.autograd.grad(total, x)[0])


def test_grouped_logsumexp_ignores_columns_of_minus_infinity():
    x = normal(B, len(GROUPS))
    x[:, 1] = -torch.inf  # group 0 has other columns
    x.requires_grad_(True)
    sums = grouped_logsumexp(x, GROUPS, N_GROUPS)
    others = torch.tensor([0, 2, 3, 4, 5, 6])
    expected = grouped_logsumexp(x[:, others], GROUPS[others], N_GROUPS)
    torch.testing.assert_close(sums, expected)
    (gradient,) = torch.autograd.grad(sums.sum(), x)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), x)[0])
    assert (gradient[:, 1] == 0).all()


def test_a_group_of_minus_infinity_alone_is_minus_infinity():
    x = normal(B, len(GROUPS))
    x[1, [0, 5]] = -torch.inf
    sums = grouped_logsumexp(x, GROUPS, N_GROUPS)
    assert float(sums[1, 2]) == -math.inf
    assert sums.isfinite().sum() == B * N_GROUPS - 1


def test_a_group_without_columns_is_minus_infinity():
    sums = grouped_logsumexp(normal(B, len(GROUPS)), GROUPS, N_GROUPS + 1)
    assert (sums[:, -1] == -math.inf).all()
    assert sums[:, :-1].isfinite().all()


def test_log_odds_compare_a_class_with_all_others():
    scores = normal(B, 3)
    index = torch.tensor([0, 1, 2, 1, 0])
    p = scores.softmax(dim=1).gather(1, index[:, None])[:, 0]
    torch.testing.assert_close(log_odds(scores, index), p.log() - (1 - p).log())


# The readout of classes.


@pytest.fixture
def readout():
    readout = ClassReadout(N_GROUPS, 9.0).double()
    with torch.no_grad():
        readout.bias.copy_(normal(N_GROUPS, seed=3))
    return readout.requires_grad_(False)


@pytest.mark.parametrize("n_classes", [2, 3, 77])
def test_the_concentration_starts_higher_with_more_classes(n_classes):
    readout = ClassReadout(n_classes, 30.0)
    expected = math.exp(2) + math.log(n_classes - 1)
    start = float(readout.concentration(torch.zeros(1).double()).detach())
    assert start == pytest.approx(expected)


def test_biases_start_at_the_logarithms_of_the_weighted_class_shares(readout):
    values = torch.tensor([0, 0, 1, 2, 2])
    weights = torch.tensor([1.0, 2.0, 4.0, 0.5, 0.5])
    readout.initialize(values, weights, lambda: normal(5, N_GROUPS))
    expected = [math.log(share) for share in (3 / 8, 4 / 8, 1 / 8)]
    assert readout.bias.tolist() == pytest.approx(expected)


def test_shares_are_probabilities_times_shares_inside_the_class(readout):
    evidence = normal(B, len(GROUPS), seed=5)
    p = readout(evidence, GROUPS).softmax(dim=1)
    shares = readout.shares(evidence, GROUPS, torch.zeros(B, dtype=torch.long))
    for c in range(N_GROUPS):
        columns = c == GROUPS
        inside = evidence[:, columns].softmax(dim=1)
        torch.testing.assert_close(shares[:, columns], p[:, [c]] * inside)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(B).double())


def test_the_confidence_is_the_log_probability_of_correct_classes(readout):
    outputs = torch.tensor([[2.0, 0, 0], [2, 0, 0], [0, 0, 1]]).double()
    p = np.exp(readout.confidence(outputs, torch.tensor([0, 1, 2])))
    first, last = math.exp(2) / (math.exp(2) + 2), math.e / (math.e + 2)
    assert p.tolist() == pytest.approx([first, 0, last])


def test_probabilities_near_1_do_not_tie(readout):
    """In float32 they were all 1, and the first texts of the fit were quoted."""
    outputs = torch.tensor([[30.0, 0, 0], [31.0, 0, 0], [29.0, 0, 0]])
    confidence = readout.confidence(outputs, torch.tensor([0, 0, 0]))
    assert confidence.argsort().tolist() == [2, 0, 1]


def test_the_divergence_is_the_weighted_mean_over_the_classes_present(readout):
    outputs, targets = normal(3, 3, seed=6), normal(3, 3, seed=7)
    weights = torch.tensor([1.0, 2.0, 0.5]).double()
    values = torch.tensor([0, 2, 0])  # class 1 has no text
    total = 0.0
    for b in range(3):
        p, q = ([math.exp(x[b, c]) for c in (0, 2)] for x in (outputs, targets))
        for one, other in zip(p, q, strict=True):
            share, target = one / sum(p), other / sum(q)
            total += float(weights[b]) * target * math.log(target / share)
    divergence = readout.divergence(outputs, targets, values, weights)
    assert float(divergence) == pytest.approx(total / 3)


def test_recalibration_moves_the_biases_and_not_the_concentration(readout):
    assert [id(p) for p in readout.calibrated()] == [id(readout.bias)]


def test_options_rebuild_a_readout(readout):
    rebuilt = make_readout(**readout.options())
    assert type(rebuilt) is ClassReadout
    assert rebuilt.options() == readout.options()


# The readout of numbers.


def test_numbers_are_exact_sums_over_tokens_and_over_prototypes():
    values = normal(7, seed=3)
    layer = MixtureLayer(
        normal(7, H), values, ValueReadout(0.0, 1.0, 5.0), sharpness=5.0
    )
    torch.nn.init.normal_(layer.prior_logits, generator=torch.Generator())
    layer.requires_grad_(False)
    h, alpha = normal(B, T, H, seed=1), normal(B, T, seed=2).softmax(dim=1)
    s = pool(alpha, h)
    attribution = layer.attribute(s)
    priors = layer.prior_logits.softmax(dim=0)
    terms = priors * (5 * F.cosine_similarity(s[:, None], layer.vectors, dim=2)).exp()
    expected = (terms * values).sum(dim=1) / terms.sum(dim=1)
    torch.testing.assert_close(attribution.explained, expected)
    windows = WindowIndex(np.arange(B), np.zeros(B, dtype=np.int64))
    rows = torch.arange(B)
    encoded = Encoded(np.arange(B), s, [windows], [rows], [alpha], lambda: [h])
    [scores] = token_scores(encoded, attribution.direction)
    assert scores.abs().min() > 0
    total = attribution.base + scores.sum(dim=1)
    torch.testing.assert_close(total, expected, rtol=0, atol=1e-12)
    _, shares = layer.contributions(s)
    torch.testing.assert_close(shares @ values, expected)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(B).double())


def test_numbers_are_learned_by_the_same_layer():
    """Two directions stand for two numbers, and the texts lie between them."""
    torch.manual_seed(0)
    values = torch.tensor([-1.0, 1.0])
    layer = MixtureLayer(
        torch.randn(2, H), values, ValueReadout(0.0, 1.0, 5.0), sharpness=5.0
    )
    s = torch.randn(60, H)
    targets = torch.tanh(3 * F.normalize(s, dim=1)[:, 0])
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    losses = []
    for _ in range(60):
        loss = layer.readout.loss(layer(s).outputs, targets, torch.ones(60), 0)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.05 * losses[0]


def test_numbers_are_standardized_inside():
    """An offset of a million would leave no digits in float32."""
    values = torch.tensor([1e6 + 1, 1e6 + 3], dtype=torch.float64)
    readout = ValueReadout(center=1e6 + 2, scale=1.0, sharpness=5.0)
    evidence = torch.tensor([[0.0, 0.0], [0.0, 50.0]])
    outputs = readout(evidence, values)
    assert outputs.dtype == torch.float32
    assert outputs[:, 0].tolist() == pytest.approx([0, 1])
    explained = readout.explained(outputs.double(), readout.default_index(outputs))
    assert explained.tolist() == [1e6 + 2, 1e6 + 3]


def test_learned_shift_and_stretch_move_into_the_values():
    values, evidence = normal(4, seed=1), normal(B, 4, seed=2)
    readout = ValueReadout(3.0, 2.0, 5.0).double()
    with torch.no_grad():
        readout.shift.fill_(0.5)
        readout.stretch.fill_(1.5)
    expected = readout(evidence, values)
    folded = readout.fold_into_values(values)
    torch.testing.assert_close(readout(evidence, folded), expected)
    means = evidence.softmax(dim=1) @ folded
    torch.testing.assert_close(3.0 + 2.0 * expected[:, 0], means)


def test_values_of_texts_are_kept_bit_for_bit():
    values = torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64)
    readout = ValueReadout(0.3, 0.123, 5.0)
    assert torch.equal(readout.fold_into_values(values), values)
