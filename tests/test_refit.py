"""What is refitted once prototypes stand on texts, so that the model says the same."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from skprotolm._network.prototypes import MixtureLayer
from skprotolm._training.refit import TrainingTexts, refit

N, H, OWNER, N_CLASSES = 200, 5, torch.tensor([0, 0, 1, 1, 1, 2]), 3


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def layer() -> MixtureLayer:
    layer = MixtureLayer(normal(len(OWNER), H), OWNER, N_CLASSES, 10.0)
    return layer.requires_grad_(False)


def training_texts(vectors: torch.Tensor, **given: np.ndarray) -> TrainingTexts:
    """Texts that are all distinct, of classes in turn."""
    n = len(vectors)
    usual = {"ids": np.arange(n), "codes": np.arange(n) % 3, "weights": np.ones(n)}
    return TrainingTexts(vectors, **{**usual, **given})


NONE_QUOTED = -1 - np.arange(len(OWNER))


def gap(layer: MixtureLayer, s: torch.Tensor, learned: torch.Tensor) -> float:
    """Mean KL divergence of what a layer says from what was learned."""
    said, wanted = layer.score_all(s).log_softmax(1), learned.log_softmax(1)
    return float((wanted.exp() * (wanted - said)).sum(dim=1).mean())


def refitted(layer: MixtureLayer, *given: object) -> MixtureLayer:
    """Return a copy of the layer, refitted."""
    other = copy.deepcopy(layer)
    refit(other, *given)
    return other


def same(one: MixtureLayer, other: MixtureLayer) -> bool:
    return all(
        torch.equal(value, other.state_dict()[name])
        for name, value in one.state_dict().items()
    )


def test_nothing_moves_where_texts_say_what_was_learned(layer):
    s = normal(N, H, seed=1)
    after = refitted(layer, training_texts(s), NONE_QUOTED, layer.score_all(s), 0)
    for name, value in layer.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], value)


def test_priors_and_biases_make_up_for_other_places(layer):
    s = normal(N, H, seed=1)
    learned = layer.score_all(s)
    with torch.no_grad():
        layer.vectors += 0.3 * normal(*layer.vectors.shape, seed=2)
        layer.bias += torch.tensor([1.0, 0.0, -1.0])
    after = refitted(layer, training_texts(s), NONE_QUOTED, learned, 0)
    assert gap(after, s, learned) < 0.5 * gap(layer, s, learned)
    assert torch.equal(after.vectors, layer.vectors)
    assert not any(p.requires_grad for p in after.parameters())


def test_no_text_is_compared_with_itself(layer):
    """Nor with a copy of itself: it would say what was learned, whatever is missing."""
    s = torch.cat([layer.vectors, layer.vectors, normal(N, H, seed=1)])
    ids = np.array([*range(6), *range(6), *range(6, 6 + N)])
    codes = np.array([*OWNER, *OWNER, *(np.arange(N) % 3)])
    texts, quoted = training_texts(s, ids=ids, codes=codes), np.arange(6)
    learned = layer.score_all(s)
    after = refitted(layer, texts, quoted, learned, 0)
    once = torch.cat([torch.arange(6), torch.arange(12, 12 + N)])  # no copies
    alone = training_texts(s[once], ids=ids[once], codes=codes[once])
    assert (after.bias - layer.bias).abs().max() > 0.01
    before = refitted(layer, alone, quoted, learned[once], 0)
    # A copy says the same as its text, so the two count for more than one.
    gaps = [(one.bias - layer.bias).norm() for one in (before, after)]
    assert 1.1 * gaps[0] < gaps[1]


def test_a_class_for_which_nothing_speaks_stays_as_likely(layer):
    """Texts of the others spoke against it, and it was hardly ever found again."""
    s = torch.cat([normal(N, H, seed=1), layer.vectors[5:]])
    codes = np.append(np.arange(N) % 2, 2)
    texts = training_texts(s, ids=np.append(10 + np.arange(N), 5), codes=codes)
    learned = layer.score_all(s) + torch.tensor([0.0, 2.0, -5.0])
    after = refitted(layer, texts, np.arange(6), learned, 0)
    change = after.bias - layer.bias
    assert change[1] - change[0] > 0.5, "the others are refitted"
    assert change[2] == 0
    assert change[:2].mean() == pytest.approx(0, abs=1e-3)
    assert torch.equal(after.prior_logits[5:], layer.prior_logits[5:])
    # Another text of it is enough.
    s, codes = torch.cat([s, s[-1:] + 0.1]), np.append(codes, 2)
    texts = training_texts(s, codes=codes)
    learned = layer.score_all(s) + torch.tensor([0.0, 2.0, -5.0])
    change = refitted(layer, texts, np.arange(6), learned, 0).bias - layer.bias
    assert change[2] < -0.5


def test_nothing_is_refitted_where_nothing_can_be_compared(layer):
    s = layer.vectors[5:]
    texts = training_texts(s, ids=np.array([5]), codes=np.array([2]))
    assert same(refitted(layer, texts, np.arange(6), layer.score_all(s), 0), layer)


def test_a_rare_class_is_looked_at_whatever_the_seed(layer, monkeypatch):
    """Drawn without a text of it, nothing was refitted, by the seed."""
    monkeypatch.setattr("skprotolm._training.refit._SAMPLE", 20)
    s = normal(N, H, seed=1)
    codes = np.append(np.arange(N - 1) % 2, 2)
    learned = layer.score_all(s) + torch.tensor([0.0, 2.0, -5.0])
    for seed in range(5):
        texts = training_texts(s, codes=codes)
        after = refitted(layer, texts, NONE_QUOTED, learned, seed)
        assert (after.bias - layer.bias).min() < -0.5


@pytest.mark.parametrize("sharpness", [0.01, 1.0, 10.0])
def test_few_prototypes_lose_no_more_than_many_by_their_own_texts(sharpness):
    """Without itself, one of two left half of its class's prior, and biases moved."""
    owner = torch.tensor([0] * 2 + [1] * 12)
    vectors = torch.eye(H)[owner] + 0.001 * normal(14, H)
    layer = MixtureLayer(vectors, owner, 2, sharpness).requires_grad_(False)
    texts = training_texts(vectors, codes=owner.numpy())
    after = refitted(layer, texts, np.arange(14), layer.score_all(vectors), 0)
    torch.testing.assert_close(after.bias, layer.bias, atol=1e-3, rtol=0)


def test_a_text_of_more_weight_says_more(layer):
    s = normal(3, H, seed=1)
    wanted = torch.tensor([[3.0, 0, 0], [0, 0, 3.0], [0, 0, 0]])
    learned = layer.score_all(s) + wanted
    gaps = []
    for weights in ([1.9, 0.1, 1.0], [0.1, 1.9, 1.0]):
        texts = training_texts(s, weights=np.array(weights))
        after = refitted(layer, texts, NONE_QUOTED, learned, 0)
        gaps.append([gap(after, s[[i]], learned[[i]]) for i in range(2)])
    assert gaps[0][0] < gaps[1][0]
    assert gaps[1][1] < gaps[0][1]


def test_a_seed_says_which_of_many_texts_are_looked_at(layer):
    n = 6000
    s = normal(n, H, seed=1)
    learned = layer.score_all(s) + normal(n, N_CLASSES, seed=2)
    found = [
        refitted(layer, training_texts(s), NONE_QUOTED, learned, seed)
        for seed in (0, 0, 1)
    ]
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


def test_fewer_texts_are_looked_at_where_prototypes_are_many(layer, monkeypatch):
    s = normal(N, H, seed=1)
    learned = layer.score_all(s) + normal(N, N_CLASSES, seed=2)
    whole = refitted(layer, training_texts(s), NONE_QUOTED, learned, 0)
    monkeypatch.setattr(
        "skprotolm._training.refit._NUMBERS", 50 * layer.members.numel()
    )
    part = refitted(layer, training_texts(s), NONE_QUOTED, learned, 0)
    first = np.random.RandomState(0).permutation(N)[:50]
    texts = training_texts(s[first], codes=first % 3)
    alone = refitted(layer, texts, NONE_QUOTED, learned[first], 0)
    assert not same(part, whole)
    torch.testing.assert_close(part.bias, alone.bias)
