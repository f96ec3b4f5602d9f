"""What is refitted once prototypes stand on texts, so that the model says the same."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from skprotolm._head import MixtureLayer
from skprotolm._refitting import TextIds, refit

N, H, OWNER, N_CLASSES = 200, 5, torch.tensor([0, 0, 1, 1, 1, 2]), 3


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def layer() -> MixtureLayer:
    layer = MixtureLayer(normal(len(OWNER), H), OWNER, N_CLASSES, 10.0)
    return layer.requires_grad_(False)


def distinct(n: int) -> TextIds:
    """Texts none of which is a prototype."""
    return TextIds(np.arange(n), -1 - np.arange(len(OWNER)))


def gap(layer: MixtureLayer, s: torch.Tensor, learned: torch.Tensor) -> float:
    """Mean KL divergence of what a layer says from what was learned."""
    said, wanted = layer.score_all(s).log_softmax(1), learned.log_softmax(1)
    return float((wanted.exp() * (wanted - said)).sum(dim=1).mean())


def test_nothing_moves_where_texts_say_what_was_learned(layer):
    s, before = normal(N, H, seed=1), copy.deepcopy(layer.state_dict())
    refit(layer, s, distinct(N), np.ones(N), layer.score_all(s), seed=0)
    for name, value in layer.state_dict().items():
        torch.testing.assert_close(value, before[name])


def test_values_and_biases_make_up_for_other_places(layer):
    s = normal(N, H, seed=1)
    learned = layer.score_all(s)
    with torch.no_grad():
        layer.vectors += 0.3 * normal(*layer.vectors.shape, seed=2)
        layer.bias += torch.tensor([1.0, 0.0, -1.0])
    before, vectors = gap(layer, s, learned), layer.vectors.clone()
    refit(layer, s, distinct(N), np.ones(N), learned, seed=0)
    assert gap(layer, s, learned) < 0.5 * before
    assert torch.equal(layer.vectors, vectors)
    assert not any(p.requires_grad for p in layer.parameters())


def test_no_text_is_compared_with_itself(layer):
    """Each of the prototypes' texts, and copies of one, are left with the others."""
    s = torch.cat([layer.vectors, layer.vectors[:1], normal(N, H, seed=1)])
    ids = TextIds(np.array([*range(6), 0, *range(6, 6 + N)]), np.arange(6))
    alone = copy.deepcopy(layer)
    refit(layer, s, ids, np.ones(len(s)), alone.score_all(s), seed=0)
    # Compared with themselves, they would have said what was learned.
    assert (layer.bias - alone.bias).norm() > 0.01
    others = ~np.isin(ids.texts, ids.prototypes)
    other_ids = TextIds(ids.texts[others], ids.prototypes)
    refit(alone, s[others], other_ids, np.ones(N), alone.score_all(s[others]), seed=0)
    torch.testing.assert_close(alone.state_dict()["bias"], torch.zeros(3))


def test_a_text_that_is_its_class_s_one_prototype_is_left_out(layer):
    s, before = layer.vectors[5:].clone(), copy.deepcopy(layer.state_dict())
    ids = TextIds(np.array([5]), np.arange(6))
    refit(layer, s, ids, np.ones(1), layer.score_all(s), seed=0)
    assert all(torch.equal(before[k], v) for k, v in layer.state_dict().items())


def test_a_text_of_more_weight_says_more(layer):
    s = normal(2, H, seed=1)
    learned = layer.score_all(s) + torch.tensor([[3.0, 0, 0], [0, 0, 3.0]])
    gaps = []
    for weights in ([1.9, 0.1], [0.1, 1.9]):
        refitted = copy.deepcopy(layer)
        refit(refitted, s, distinct(2), np.array(weights), learned, seed=0)
        gaps.append([gap(refitted, s[[i]], learned[[i]]) for i in range(2)])
    assert gaps[0][0] < gaps[1][0]
    assert gaps[1][1] < gaps[0][1]


def test_a_seed_says_which_of_many_texts_are_looked_at(layer):
    n = 6000
    s = normal(n, H, seed=1)
    learned = layer.score_all(s) + normal(n, N_CLASSES, seed=2)
    found = []
    for seed in (0, 0, 1):
        refitted = copy.deepcopy(layer)
        refit(refitted, s, distinct(n), np.ones(n), learned, seed=seed)
        found.append(refitted.bias)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
