"""Attention over content tokens, against plain Python."""

import math

import pytest
import torch

from skprotolm._network.pooling import TokenAttention, pool
from tests.helpers import normal

B, T, H = 5, 4, 6
CONTENT = torch.tensor(
    [[0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 1], [0, 1, 0, 1], [1, 0, 0, 0]]
).bool()


@pytest.fixture
def attention():
    attention = TokenAttention(H).double()
    with torch.no_grad():
        attention.project.weight.copy_(normal(128, H, seed=4))
        attention.project.bias.copy_(normal(128, seed=5))
        attention.score.weight.copy_(normal(1, 128, seed=6) / 10)
    return attention.requires_grad_(False)


def attention_by_hand(attention, h, tokens):
    """Return the attention of tokens of one text, from its token vectors (T, H)."""
    weight, bias = attention.project.weight.tolist(), attention.project.bias.tolist()
    logits = []
    for t in tokens:
        hidden = [
            sum(w * x for w, x in zip(row, h[t].tolist(), strict=True)) + shift
            for row, shift in zip(weight, bias, strict=True)
        ]
        nu = attention.score.weight[0].tolist()
        logits.append(sum(n * math.tanh(v) for n, v in zip(nu, hidden, strict=True)))
    exponentials = [math.exp(logit) for logit in logits]
    return [e / sum(exponentials) for e in exponentials]


def test_attention_is_a_softmax_over_content_tokens(attention):
    h = normal(B, T, H)
    alpha = attention(h, CONTENT)
    for b in range(B):
        tokens = [t for t in range(T) if CONTENT[b, t]]
        expected = attention_by_hand(attention, h[b], tokens)
        torch.testing.assert_close(
            alpha[b, tokens].tolist(), expected, rtol=1e-9, atol=0
        )
    assert alpha[1].std() > 0.01  # the weights differ


def test_attention_is_exactly_zero_outside_the_mask(attention):
    alpha = attention(normal(B, T, H) * 10, CONTENT)
    assert (alpha[~CONTENT] == 0).all()
    assert (alpha[CONTENT] > 0).all()


def test_tokens_outside_the_mask_have_no_effect_and_no_gradient(attention):
    h = normal(B, T, H)
    changed = torch.where(CONTENT[..., None], h, 1e6 * normal(B, T, H, seed=7))
    s, s_changed = (pool(attention(x, CONTENT), x) for x in (h, changed))
    torch.testing.assert_close(s_changed, s)
    h.requires_grad_(True)
    pool(attention(h, CONTENT), h).square().sum().backward()
    assert (h.grad[~CONTENT] == 0).all()
    assert (h.grad[CONTENT] != 0).any(dim=-1).all()


def test_pooling_is_the_weighted_sum_of_token_vectors(attention):
    h = normal(B, T, H)
    alpha = attention(h, CONTENT)
    s = pool(alpha, h)
    for b in range(B):
        expected = [
            sum(float(alpha[b, t] * h[b, t, i]) for t in range(T)) for i in range(H)
        ]
        torch.testing.assert_close(s[b].tolist(), expected)


def test_untrained_attention_is_the_mean_of_content_tokens():
    h = normal(B, T, H, dtype=torch.float32)
    alpha = TokenAttention(H)(h, CONTENT)
    torch.testing.assert_close(alpha, CONTENT / CONTENT.sum(dim=1, keepdim=True))
    expected = torch.stack([h[b][CONTENT[b]].mean(dim=0) for b in range(B)])
    torch.testing.assert_close(pool(alpha, h), expected)


def test_untrained_attention_has_gradients():
    """With ν and W both at zero all gradients would stay zero."""
    attention = TokenAttention(H)
    h = normal(B, T, H, dtype=torch.float32)
    pool(attention(h, CONTENT), h).square().sum().backward()
    assert attention.score.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("shape", [(B, T - 1), (B - 1, T), (T, B), (B, T, 1), (B * T,)])
def test_a_mask_of_the_wrong_shape_is_refused_with_both_shapes(shape, attention):
    with pytest.raises(ValueError, match="mask of content tokens") as caught:
        attention(normal(B, T, H), torch.ones(shape, dtype=torch.bool))
    assert str(shape) in str(caught.value)
    assert str((B, T, H)) in str(caught.value)
