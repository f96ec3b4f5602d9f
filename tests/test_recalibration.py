"""Recalibration: biases after the projection onto texts."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from skprotolm._network import blocks
from skprotolm._network.mixture import MixtureLayer
from skprotolm._network.value_readout import ValueReadout
from skprotolm._training.recalibration import (
    draw_sample,
    recalibrate,
    sample_rows,
)
from tests.helpers import make_data, make_mixture, normal

N, H, VALUES, N_CLASSES = 200, 5, torch.tensor([0, 0, 1, 1, 1, 2]), 3
F32 = torch.float32
CODES = np.arange(N) % 3
QUOTED = np.array([0, 3, 1, 4, 7, 2])  # one text of its class per prototype


@pytest.fixture
def layer() -> MixtureLayer:
    vectors = normal(len(VALUES), H, dtype=F32)
    return make_mixture(vectors, VALUES, N_CLASSES, 10.0).requires_grad_(False)


@pytest.fixture
def s() -> torch.Tensor:
    return normal(N, H, seed=1, dtype=F32)


def divergence(layer: MixtureLayer, s: torch.Tensor, learned: torch.Tensor) -> float:
    """Return the mean KL divergence of a layer's probabilities from the learned."""
    log_p, log_q = layer.outputs_of(s).log_softmax(1), learned.log_softmax(1)
    return float((log_q.exp() * (log_q - log_p)).sum(dim=1).mean())


def recalibrated(
    layer: MixtureLayer,
    s: torch.Tensor,
    learned: torch.Tensor,
    *,
    codes: Any = CODES,
    quoted: np.ndarray = QUOTED,
    weights: Any = None,
    text_ids: Any = None,
    seed: int = 0,
    **limits: int,
) -> MixtureLayer:
    """Return a recalibrated copy of a layer."""
    other = copy.deepcopy(layer)
    data = make_data(s, codes, weights=weights, text_ids=text_ids, seed=seed)
    sample = draw_sample(data, s, quoted, **limits)
    recalibrate(other, sample, data.targets, learned[sample.rows])
    return other


def same(one: MixtureLayer, other: MixtureLayer) -> bool:
    return all(
        torch.equal(value, other.state_dict()[name])
        for name, value in one.state_dict().items()
    )


def test_nothing_changes_where_texts_give_the_learned_outputs(layer, s):
    itself = torch.from_numpy(np.arange(N)[:, None] == QUOTED)
    evidence = layer.evidence(layer.cosines(s), itself)
    learned = layer.readout(evidence, layer.values)
    after = recalibrated(layer, s, learned)
    for name, value in layer.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], value)


def test_biases_compensate_for_moved_prototypes(layer, s):
    learned = layer.outputs_of(s)
    with torch.no_grad():
        layer.vectors += 0.1 * normal(*layer.vectors.shape, seed=2, dtype=F32)
        layer.readout.bias += torch.tensor([1.0, 0.0, -1.0])
    after = recalibrated(layer, s, learned)
    assert divergence(after, s, learned) < 0.5 * divergence(layer, s, learned)
    for name, tensor in layer.state_dict().items():
        is_same = torch.equal(after.state_dict()[name], tensor)
        assert is_same == (name != "readout.bias"), name
    assert not any(p.requires_grad for p in after.parameters())


def test_a_quoted_text_is_scored_by_the_other_prototypes_of_its_class(layer):
    """Their priors are rescaled to sum to 1."""
    with torch.no_grad():
        layer.prior_logits.copy_(normal(len(VALUES), seed=3))
    itself = torch.eye(len(VALUES), dtype=torch.bool)[:2]  # prototypes of class 0
    cosines = layer.cosines(layer.vectors[:2])
    outputs = layer.readout(layer.evidence(cosines, itself), layer.values)
    expected = layer.outputs(cosines)
    for b, other in ((0, 1), (1, 0)):
        score = layer.readout.concentration(cosines) * cosines[b, other]
        torch.testing.assert_close(outputs[b, 0], score + layer.readout.bias[0])
    torch.testing.assert_close(outputs[:, 1:], expected[:, 1:])


def test_copies_of_a_quoted_text_are_not_compared_with_it_either(layer):
    quoted = np.arange(6)
    s = torch.cat([layer.vectors, layer.vectors, normal(N, H, seed=1, dtype=F32)])
    ids = np.array([*range(6), *range(6), *range(6, 6 + N)])
    codes = np.array([*VALUES, *VALUES, *CODES])
    learned = layer.outputs_of(s)
    after = recalibrated(
        layer, s, learned, codes=codes, quoted=quoted, text_ids=ids
    ).readout.bias
    assert (after - layer.readout.bias).abs().max() > 0.01
    once = [*range(6), *range(12, 12 + N)]  # without the copies
    single = recalibrated(
        layer, s[once], learned[once], codes=codes[once], quoted=quoted
    ).readout.bias
    # A copy has the same effect as its text, so that both move the biases further.
    changes = [float((bias - layer.readout.bias).norm()) for bias in (single, after)]
    assert 1.1 * changes[0] < changes[1]


UNEVEN = torch.tensor([0.0, 2.0, -5.0])


@pytest.fixture
def single_text(layer) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Texts of two classes, and the only text of class 2, which is quoted."""
    s = torch.cat([normal(N, H, seed=1, dtype=F32), layer.vectors[5:]])
    return s, np.append(np.arange(N) % 2, 2), np.array([0, 2, 1, 3, 5, N])


def test_a_class_without_other_texts_keeps_its_bias(layer, single_text):
    """Texts of other classes lowered its bias, so that it was hardly predicted."""
    s, codes, quoted = single_text
    learned = layer.outputs_of(s) + UNEVEN
    after = recalibrated(layer, s, learned, codes=codes, quoted=quoted)
    change = after.readout.bias - layer.readout.bias
    assert change[1] - change[0] > 0.5  # the other classes are recalibrated
    assert change[2] == 0
    assert change[:2].mean() == pytest.approx(0, abs=1e-3)


def test_one_further_text_of_a_class_recalibrates_it(layer, single_text):
    s, codes, quoted = single_text
    s, codes = torch.cat([s, s[-1:] + 0.1]), np.append(codes, 2)
    learned = layer.outputs_of(s) + UNEVEN
    after = recalibrated(layer, s, learned, codes=codes, quoted=quoted)
    assert (after.readout.bias - layer.readout.bias)[2] < -0.5


def test_nothing_changes_where_no_text_can_be_compared(layer):
    s = layer.vectors[5:]
    learned, quoted = layer.outputs_of(s) + 1, np.zeros(6, dtype=int)
    assert same(recalibrated(layer, s, learned, codes=[2], quoted=quoted), layer)


@pytest.mark.parametrize("seed", range(5))
def test_a_rare_class_is_always_in_the_sample(layer, s, seed):
    """Without a text in the sample its bias would not be recalibrated."""
    codes = np.append(np.arange(N - 1) % 2, 2)
    quoted = np.array([0, 2, 1, 3, 5, 7])
    after = recalibrated(
        layer,
        s,
        layer.outputs_of(s) + UNEVEN,
        codes=codes,
        quoted=quoted,
        seed=seed,
        max_texts=20,
    )
    assert (after.readout.bias - layer.readout.bias)[2] < -0.5


@pytest.mark.parametrize("sharpness", [0.01, 1.0, 10.0])
def test_classes_of_few_and_many_prototypes_are_treated_alike(sharpness):
    """Without its text, one of two prototypes lost half of its class's prior."""
    values = torch.tensor([0] * 2 + [1] * 12)
    vectors = torch.eye(H)[values] + 0.001 * normal(14, H, dtype=F32)
    layer = make_mixture(vectors, values, 2, sharpness).requires_grad_(False)
    after = recalibrated(
        layer,
        vectors,
        layer.outputs_of(vectors),
        codes=values.numpy(),
        quoted=np.arange(14),
    )
    torch.testing.assert_close(
        after.readout.bias, layer.readout.bias, atol=1e-3, rtol=0
    )


def test_a_text_of_more_weight_is_matched_better(layer):
    s = normal(9, H, seed=1, dtype=F32)
    changes = torch.zeros(9, 3)
    changes[0, 0] = changes[1, 2] = 3.0
    learned = layer.outputs_of(s) + changes
    codes, quoted = np.arange(9) % 3, np.array([3, 6, 4, 7, 7, 5])
    gaps = []
    for weights in ([1.9, 0.1, 1.0, *[0.1] * 6], [0.1, 1.9, 1.0, *[0.1] * 6]):
        after = recalibrated(
            layer, s, learned, codes=codes, quoted=quoted, weights=weights
        )
        gaps.append([divergence(after, s[[i]], learned[[i]]) for i in range(2)])
    assert gaps[0][0] < gaps[1][0]
    assert gaps[1][1] < gaps[0][1]


def test_the_seed_chooses_the_sample(layer, s):
    learned = layer.outputs_of(s) + normal(N, N_CLASSES, seed=2, dtype=F32)
    layers = [
        recalibrated(layer, s, learned, seed=seed, max_texts=100) for seed in (0, 0, 1)
    ]
    assert same(layers[0], layers[1])
    assert not same(layers[0], layers[2])


def test_the_sample_is_limited_by_texts_and_by_cosines(layer, s):
    learned = layer.outputs_of(s) + normal(N, N_CLASSES, seed=2, dtype=F32)
    full = recalibrated(layer, s, learned)
    limited = recalibrated(layer, s, learned, max_texts=50)
    assert not same(limited, full)
    by_cosines = recalibrated(layer, s, learned, max_numbers=50 * len(VALUES))
    assert same(by_cosines, limited)
    others = np.random.RandomState(0).permutation(N)[50:]
    learned[others] = 0  # of texts outside the sample
    assert same(recalibrated(layer, s, learned, max_texts=50), limited)


def test_a_readout_without_calibrated_parameters_stays_unchanged(s):
    layer = MixtureLayer(
        normal(6, H, dtype=F32),
        normal(6, dtype=F32),
        ValueReadout(0.0, 1.0, 5.0),
        sharpness=5.0,
    ).requires_grad_(False)
    assert same(recalibrated(layer, s, layer.outputs_of(s) + 1), layer)


# What is compared.


def compare(layer: MixtureLayer, data: Any, s: torch.Tensor) -> tuple[Any, ...]:
    """Return rows of texts, cosines, and whether prototypes quote the texts."""
    sample = draw_sample(data, s, QUOTED)
    return sample.rows, *sample.compare(layer.exact(), slice(None))


def test_texts_are_compared_with_all_prototypes_in_float64(layer, s):
    layer.metric.copy_(normal(H, H, seed=4))
    rows, cosines, itself = compare(layer, make_data(s, CODES), s)
    assert sorted(rows.tolist()) == list(range(N))
    mapped = s[rows].double() @ layer.metric.double().T
    expected = F.cosine_similarity(mapped[:, None], layer.vectors.double(), dim=2)
    torch.testing.assert_close(cosines, expected)
    expected = torch.from_numpy(rows[:, None] == QUOTED)
    assert torch.equal(itself, expected)


def test_copies_of_a_text_are_the_text_itself(layer, s):
    ids = np.arange(N)
    ids[[6, 9]] = 3  # as row 3, which is quoted
    rows, _, itself = compare(layer, make_data(s, CODES, text_ids=ids), s)
    quoting = [(rows[b], j) for b, j in itself.nonzero().tolist()]
    expected = [(row, j) for j, row in enumerate(QUOTED)]
    assert sorted(quoting) == sorted([*expected, (6, 1), (9, 1)])


def test_the_learned_layer_may_be_of_another_precision(layer, s):
    """The copy that is minimized is float64; the layer stays float32."""
    after = recalibrated(layer, s.double(), layer.outputs_of(s).double() + UNEVEN)
    assert {p.dtype for p in after.parameters()} == {F32}
    assert not same(after, layer)


def test_evidence_is_summed_per_class_block_by_block(layer, s, monkeypatch):
    """With 100,000 prototypes, cosines with all of them would fill the memory."""
    exact = layer.exact()
    sample = draw_sample(make_data(s, CODES), s, QUOTED)
    expected, values = sample.evidence(exact)
    assert values.tolist() == [0, 1, 2]
    evidence = exact.evidence(*sample.compare(exact, slice(None)))
    for c in range(N_CLASSES):
        of_class = evidence[:, exact.values == c].logsumexp(dim=1)
        torch.testing.assert_close(expected[:, c], of_class)
    monkeypatch.setattr(blocks, "MAX_PAIRS", 7 * len(VALUES))
    torch.testing.assert_close(sample.evidence(exact)[0], expected)


def test_recalibration_by_blocks_is_the_same(layer, s, monkeypatch):
    learned = layer.outputs_of(s) + UNEVEN
    expected = recalibrated(layer, s, learned).readout.bias
    monkeypatch.setattr(blocks, "MAX_PAIRS", 30)
    after = recalibrated(layer, s, learned).readout.bias
    torch.testing.assert_close(after, expected)


def test_one_text_stands_for_each_of_many_strata_that_are_not_drawn():
    """All of their texts were added: of 10,000 classes, nearly all training texts."""
    strata = np.arange(30_000) % 10_000
    rows = sample_rows(strata, 40, seed=0)
    assert np.unique(strata[rows]).size == 10_000 == rows.size
    few = sample_rows(strata[:300] % 50, 10, seed=0)
    assert set(few) >= set(
        np.flatnonzero(~np.isin(strata[:300] % 50, strata[few[:10]] % 50))
    )
