"""The readout of several labels per text."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit

from skprotolm._network.label_readout import LabelReadout, label_logsumexp
from tests.helpers import normal


def test_sums_over_labels_are_those_of_a_plain_loop():
    x, values = 1e3 * normal(5, 7), normal(7, 4, seed=1) > 0
    values[:, 3] = False
    sums = label_logsumexp(x, values)
    for v in range(3):
        expected = x[:, values[:, v]].logsumexp(dim=1)
        np.testing.assert_allclose(sums[:, v], expected)
    assert np.isneginf(sums[:, 3].numpy()).all()


@pytest.mark.parametrize("scale", [1.0, 1e5])
def test_sums_far_below_the_nearest_prototype_are_exact(scale):
    """Their exponentials are 0, whose logarithm would be −inf."""
    x, values = scale * normal(4, 6), normal(6, 3, seed=1) > 0
    x.requires_grad_(True)
    sums = label_logsumexp(x, values)
    expected = torch.stack([x[:, own].logsumexp(dim=1) for own in values.T], dim=1)
    torch.testing.assert_close(sums, expected)
    upstream = normal(4, 3, seed=2)
    gradients = [
        torch.autograd.grad((s * upstream).sum(), x)[0] for s in (sums, expected)
    ]
    torch.testing.assert_close(*gradients)


def test_without_calibration_the_probability_is_a_kernel_mean():
    readout = LabelReadout([[1.0, 1.0]] * 2, sharpness=9.0, of_texts=True)
    readout.log_concentration.data.fill_(np.log(9.0))
    evidence, values = normal(4, 6), normal(6, 2, seed=1) > 0
    p = readout(evidence, values).sigmoid().detach()
    expected = evidence.softmax(dim=1) @ values.double()
    np.testing.assert_allclose(p, expected)


def test_the_loss_is_that_of_a_plain_loop():
    readout = LabelReadout([[1.0, 3.0], [0.5, 2.0]], sharpness=9.0)
    z, values = normal(3, 2), normal(3, 2, seed=1) > 0
    weights, smoothing = normal(3, seed=2).abs(), 0.2
    total = 0.0
    for b in range(3):
        for v in range(2):
            side = readout.label_weights[v][int(values[b, v])]
            target = 0.8 * float(values[b, v]) + 0.2 * float(
                values[:, v].double().mean()
            )
            p = expit(float(z[b, v]))
            entropy = -target * np.log(p) - (1 - target) * np.log(1 - p)
            total += float(weights[b]) * side * entropy / 3
    loss = readout.loss(z, values, weights, smoothing)
    assert float(loss) == pytest.approx(total)
