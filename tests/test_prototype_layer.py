"""What both layers of prototypes promise: distances, precision, state and edits."""

import copy
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from skprotolm._network.network import Network
from skprotolm._network.pooling import TokenAttention, pool
from skprotolm._network.proto_lm import InverseDistanceLayer
from tests.helpers import make_mixture, normal

VALUES = torch.tensor([2, 0, 0, 1, 0, 2, 0])  # four, one and two prototypes
N_CLASSES = 3
B, T, H = 5, 4, 6


def make_random_mixture():
    layer = make_mixture(normal(len(VALUES), H), VALUES, N_CLASSES)
    with torch.no_grad():
        layer.metric.add_(0.5 * normal(H, H, seed=4))
        layer.prior_logits.copy_(normal(len(VALUES), seed=2))
        layer.readout.bias.copy_(normal(N_CLASSES, seed=3))
        layer.readout.log_concentration.fill_(1.3)
    return layer


def make_random_proto_lm():
    layer = InverseDistanceLayer(normal(len(VALUES), H), VALUES, n_classes=N_CLASSES)
    with torch.no_grad():
        layer.weights.copy_(normal(N_CLASSES, len(VALUES), seed=2))
        layer.bias.copy_(normal(N_CLASSES, seed=3))
    return layer


@pytest.fixture(params=[make_random_mixture, make_random_proto_lm])
def trainable(request):
    return request.param()


@pytest.fixture
def layer(trainable):
    return trainable.requires_grad_(False)


@pytest.fixture
def s():
    return normal(B, H, seed=1)


def test_squared_distances_are_euclidean_after_mapping(layer, s):
    similarities, squared, _ = layer(s)
    mapped, prototypes = layer.to_euclidean(s), layer.positions
    for b in range(B):
        for j in range(len(VALUES)):
            expected = sum((mapped[b] - prototypes[j]).square().tolist())
            assert float(squared[b, j]) == pytest.approx(expected, rel=1e-6)
    by_similarity = similarities.flatten().argsort(descending=True)
    assert by_similarity.tolist() == squared.flatten().argsort().tolist()


def test_outputs_have_the_precision_of_the_text_vectors(layer, s):
    exact = layer(s)
    single = layer.float()(s.float())
    mixed = layer(s)  # float32 parameters, float64 arithmetic
    for output, dtype in ((single, torch.float32), (mixed, torch.float64)):
        assert {part.dtype for part in output} == {dtype}
        torch.testing.assert_close(
            output.outputs.double(), exact.outputs, rtol=1e-4, atol=1e-4
        )


def test_gradients_are_finite_for_a_text_exactly_on_a_prototype(trainable):
    layer = trainable.float()
    matrix = layer.mapped(torch.eye(H)).T  # the identity under proto-lm
    s = torch.linalg.solve(matrix, layer.vectors.detach().T).T.requires_grad_(True)
    similarities, squared, outputs = layer(s)
    assert squared.detach().diagonal().abs().max() < 1e-6
    total = outputs.softmax(dim=1).sum() + squared.sum() + similarities.sum()
    total.backward()
    F.cross_entropy(layer(s).outputs, VALUES).backward()
    for gradient in [s.grad, *(p.grad for p in layer.parameters())]:
        assert torch.isfinite(gradient).all()


def test_every_parameter_is_trained(trainable, s):
    F.cross_entropy(trainable(s).outputs, VALUES[:B]).backward()
    for name, parameter in trainable.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_many_text_vectors_have_the_same_outputs_in_chunks(layer):
    s = normal(2500, H, seed=1)
    torch.testing.assert_close(layer.outputs_of(s), layer(s).outputs)


@pytest.mark.parametrize(
    "make",
    [
        lambda vectors: make_mixture(vectors, VALUES, N_CLASSES),
        lambda vectors: InverseDistanceLayer(vectors, VALUES, n_classes=N_CLASSES),
    ],
    ids=["mixture", "proto-lm"],
)
def test_a_layer_copies_the_vectors_it_starts_from(make):
    start = normal(len(VALUES), H)
    with torch.no_grad():
        make(start).vectors.add_(1)
    assert torch.equal(start, normal(len(VALUES), H))


def test_options_and_state_rebuild_a_layer(layer, s):
    rebuilt = type(layer).from_arrays(layer.state_dict(), layer.options())
    assert rebuilt.options() == layer.options()
    for output, expected in zip(rebuilt(s), layer(s), strict=True):
        assert torch.equal(output, expected)
    assert not any(p.requires_grad for p in rebuilt.parameters())


def test_the_exact_copy_is_float64_and_independent(trainable, s):
    layer = trainable.float()
    exact = layer.exact()
    expected = copy.deepcopy(exact(s).outputs)
    with torch.no_grad():
        layer.vectors.zero_()
    assert exact.vectors.dtype == torch.float64
    assert torch.equal(exact(s).outputs, expected)


# Edits return new layers.


def test_taking_rows_keeps_their_vectors_values_and_weights(layer):
    layer.freeze()
    rows = torch.tensor([0, 3, 4, 6])
    taken = layer.take(rows)
    assert torch.equal(taken.vectors, layer.vectors[rows])
    assert torch.equal(taken.values, VALUES[rows])
    for name, tensor in taken.describe().items():
        assert torch.equal(tensor, layer.describe()[name][..., rows])
    moved = layer.take(rows, normal(4, H, seed=9))
    assert torch.equal(moved.vectors, normal(4, H, seed=9))


def test_added_prototypes_have_the_mean_weight_of_their_class(layer):
    layer.freeze()
    texts = normal(2, H, seed=9)
    extended = layer.extended(texts, torch.tensor([0, 2]))
    assert torch.equal(extended.vectors[:7], layer.vectors)
    assert torch.equal(extended.vectors[7:], layer.mapped(texts))
    distances = extended(texts).squared_distances[:, 7:].diagonal()
    torch.testing.assert_close(distances, torch.zeros(2).double())
    assert extended.values.tolist() == [*VALUES.tolist(), 0, 2]
    for name, weights in layer.describe().items():
        after = extended.describe()[name]
        torch.testing.assert_close(after[..., :7], weights)
        for j, c in ((7, 0), (8, 2)):
            expected = weights[..., c == VALUES].mean(dim=-1)
            torch.testing.assert_close(after[..., j], expected)


def test_relabeling_twice_restores_the_outputs(layer, s):
    layer.freeze()
    rows = torch.tensor([1, 5])
    relabeled = layer.revalued(rows, torch.tensor([2, 1]))
    assert relabeled.values.tolist() == [2, 2, 0, 1, 0, 1, 0]
    assert not torch.allclose(relabeled(s).outputs, layer(s).outputs)
    back = relabeled.revalued(rows, VALUES[rows])
    assert torch.equal(back(s).outputs, layer(s).outputs)


def test_edited_layers_share_no_memory_with_the_layer(layer):
    rows = torch.arange(7)
    before = copy.deepcopy(layer.state_dict())
    for edited in (
        layer.take(rows),
        layer.revalued(rows[:1], VALUES[:1]),
        layer.extended(normal(1, H), VALUES[:1]),
    ):
        for tensor in edited.state_dict().values():
            tensor.zero_()
    for name, tensor in layer.state_dict().items():
        assert torch.equal(tensor, before[name]), name


# The network around a layer.


class VectorTexts:
    """Texts of one window each, whose token vectors are known."""

    def __init__(self, h, content):
        self.h, self.content = h, content
        self.n_readers = 1
        self.n_windows = np.ones(len(h), dtype=np.int64)

    def read(self, encoder, rows, numbers=None):
        return self.h[rows], self.content[rows].float()

    def units(self, windows):
        return windows.rows


def test_the_network_applies_the_layer_to_pooled_texts(layer):
    attention = TokenAttention(H).double().requires_grad_(False)
    torch.nn.init.normal_(attention.score.weight, generator=torch.Generator())
    h, content = normal(B, T, H), torch.ones(B, T, dtype=torch.bool)
    content[0, 1:] = False
    source = VectorTexts(h, content)
    network = Network(torch.nn.Identity(), attention, layer)
    units, s, output = network(source, np.arange(B), part_size=B)
    assert units.tolist() == list(range(B))
    torch.testing.assert_close(s, pool(attention(h, content), h))
    torch.testing.assert_close(s[0], h[0, 0])
    assert torch.equal(output.outputs, layer(s).outputs)
    assert math.isfinite(float(output.outputs.sum()))
