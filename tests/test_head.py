"""The attention and the prototype layers, against plain Python."""

import math

import pytest
import torch

from skprotolm._network.prototypes import (
    InverseDistanceLayer,
    MixtureLayer,
    PrototypeHead,
    TokenAttention,
    pool,
)

OWNER = torch.tensor([2, 0, 0, 1, 0, 2, 0])  # four, one and two prototypes
N_CLASSES = 3
B, T, H = 5, 4, 6


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.fixture
def s():
    return normal(B, H, seed=1)


@pytest.fixture
def mixture():
    """A mixture layer whose learned numbers are all their own."""
    layer = MixtureLayer(normal(len(OWNER), H), OWNER, N_CLASSES, sharpness=9.0)
    with torch.no_grad():
        layer.prior_logits.copy_(normal(len(OWNER), seed=2))
        layer.bias.copy_(normal(N_CLASSES, seed=3))
        layer.log_concentration.fill_(1.3)
    return layer.requires_grad_(False)


@pytest.fixture
def inverse():
    layer = InverseDistanceLayer(normal(len(OWNER), H), OWNER, N_CLASSES)
    with torch.no_grad():
        layer.weights.copy_(normal(N_CLASSES, len(OWNER), seed=2))
        layer.bias.copy_(normal(N_CLASSES, seed=3))
    return layer.requires_grad_(False)


@pytest.fixture(params=["mixture", "inverse"])
def layer(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def trainable(layer):
    return layer.requires_grad_(True)


# Plain Python


def members(c):
    return [j for j, owner in enumerate(OWNER.tolist()) if owner == c]


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))


def distance(a, b):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


def priors_by_hand(layer):
    logits = layer.prior_logits.tolist()
    totals = [sum(math.exp(logits[i]) for i in members(c)) for c in range(N_CLASSES)]
    return [
        math.exp(logits[j]) / totals[c] for j, c in enumerate(layer.values.tolist())
    ]


def terms_by_hand(layer, s_b):
    """π_j·exp(λ·cos(s, p_j)) of every prototype, for one text."""
    prototypes, priors = layer.vectors.tolist(), priors_by_hand(layer)
    return [
        priors[j] * math.exp(layer.sharpness * cosine(s_b, prototypes[j]))
        for j in range(len(prototypes))
    ]


def scores_by_hand(layer, s_b):
    scale = math.exp(float(layer.log_concentration)) / layer.sharpness
    terms = terms_by_hand(layer, s_b)
    return [
        scale * math.log(sum(terms[j] for j in members(c))) + float(layer.bias[c])
        for c in range(N_CLASSES)
    ]


def softmax_by_hand(scores):
    exponentials = [math.exp(score) for score in scores]
    return [e / sum(exponentials) for e in exponentials]


# Attention


@pytest.fixture
def attention():
    attention = TokenAttention(H).double()
    with torch.no_grad():
        attention.project.weight.copy_(normal(128, H, seed=4))
        attention.project.bias.copy_(normal(128, seed=5))
        attention.score.weight.copy_(normal(1, 128, seed=6) / 10)
    return attention.requires_grad_(False)


OWN = torch.tensor(
    [[0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 1], [0, 1, 0, 1], [1, 0, 0, 0]]
).bool()


def test_attention_is_a_softmax_over_own_tokens(attention):
    h = normal(B, T, H)
    alpha = attention(h, OWN)
    weight, bias = attention.project.weight.tolist(), attention.project.bias.tolist()
    nu = attention.score.weight[0].tolist()
    for b in range(B):
        mine = [t for t in range(T) if OWN[b, t]]
        u = []
        for t in mine:
            h_t = h[b, t].tolist()
            inner = [
                sum(w * x for w, x in zip(row, h_t, strict=True)) + shift
                for row, shift in zip(weight, bias, strict=True)
            ]
            u.append(sum(n * math.tanh(v) for n, v in zip(nu, inner, strict=True)))
        torch.testing.assert_close(
            alpha[b, mine].tolist(), softmax_by_hand(u), rtol=1e-9, atol=0
        )
        assert alpha[b, mine].std(correction=0) > 0.01 or len(mine) == 1


def test_attention_outside_the_own_tokens_is_exactly_zero(attention):
    alpha = attention(normal(B, T, H) * 10, OWN)
    assert (alpha[~OWN] == 0).all()
    assert (alpha[OWN] > 0).all()


def test_other_tokens_have_no_part_in_a_text(attention):
    h = normal(B, T, H)
    changed = torch.where(OWN[..., None], h, 1e6 * normal(B, T, H, seed=7))
    s, s_changed = (pool(attention(x, OWN), x) for x in (h, changed))
    torch.testing.assert_close(s_changed, s)
    h.requires_grad_(True)
    pool(attention(h, OWN), h).square().sum().backward()
    assert (h.grad[~OWN] == 0).all()


def test_untrained_attention_is_the_mean_of_own_tokens():
    h = normal(B, T, H, dtype=torch.float32)
    alpha = TokenAttention(H)(h, OWN)
    torch.testing.assert_close(alpha, OWN / OWN.sum(dim=1, keepdim=True))
    expected = torch.stack([h[b][OWN[b]].mean(dim=0) for b in range(B)])
    torch.testing.assert_close(pool(alpha, h), expected)


def test_untrained_attention_can_learn():
    """With ν and W both at zero no gradient would ever leave the start."""
    attention = TokenAttention(H)
    h = normal(B, T, H, dtype=torch.float32)
    pool(attention(h, OWN), h).square().sum().backward()
    assert attention.score.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("shape", [(B, T - 1), (B - 1, T), (T, B), (B, T, 1), (B * T,)])
def test_a_mask_of_the_wrong_shape_is_refused_with_both_shapes(shape, attention):
    with pytest.raises(ValueError, match="content_mask has shape") as caught:
        attention(normal(B, T, H), torch.ones(shape, dtype=torch.bool))
    assert str(shape) in str(caught.value)
    assert str((B, T, H)) in str(caught.value)


# The mixture


def test_priors_are_a_softmax_within_each_class(mixture, s):
    priors = mixture.log_priors(s).exp()
    torch.testing.assert_close(priors.tolist(), priors_by_hand(mixture))
    for c in range(N_CLASSES):
        assert float(priors[members(c)].sum()) == pytest.approx(1, abs=1e-12)


def test_mixture_scores_are_those_of_the_formula(mixture, s):
    similarities, _, scores = mixture(s)
    for b in range(B):
        expected = scores_by_hand(mixture, s[b].tolist())
        torch.testing.assert_close(scores[b].tolist(), expected, rtol=1e-9, atol=1e-9)
        cosines = [cosine(s[b].tolist(), p) for p in mixture.vectors.tolist()]
        torch.testing.assert_close(
            similarities[b].tolist(), cosines, rtol=1e-9, atol=1e-9
        )


def test_a_mixture_starts_with_equal_priors_and_no_bias(s):
    layer = MixtureLayer(normal(len(OWNER), H), OWNER, N_CLASSES, sharpness=30.0)
    layer.requires_grad_(False)
    for c in range(N_CLASSES):
        expected = [1 / len(members(c))] * len(members(c))
        assert layer.log_priors(s)[members(c)].exp().tolist() == pytest.approx(expected)
    assert layer.bias.tolist() == [0] * N_CLASSES


@pytest.mark.parametrize("n_classes", [2, 3, 77])
def test_kappa_starts_higher_where_there_are_more_classes(s, n_classes):
    layer = MixtureLayer(
        normal(n_classes, H), torch.arange(n_classes), n_classes, sharpness=30.0
    )
    expected = math.exp(2) + math.log(n_classes - 1)
    assert float(layer.concentration(s).detach()) == pytest.approx(expected)


def _shares(layer, s):
    """p_c times a prototype's part of its class's sum, from the layer's own pieces."""
    log_terms = layer.log_terms(layer.similarities(s))
    log_sums, scores = layer.evidence(log_terms)
    p = torch.softmax(scores, dim=1)
    return p[:, layer.values] * (log_terms - log_sums[:, layer.values]).exp(), p


def test_shares_are_those_of_the_formula_and_sum_to_the_probabilities(mixture, s):
    shares, p = _shares(mixture, s)
    for b in range(B):
        terms = terms_by_hand(mixture, s[b].tolist())
        p_by_hand = softmax_by_hand(scores_by_hand(mixture, s[b].tolist()))
        for j, c in enumerate(OWNER.tolist()):
            expected = p_by_hand[c] * terms[j] / sum(terms[i] for i in members(c))
            assert float(shares[b, j]) == pytest.approx(expected, rel=1e-9)
        for c in range(N_CLASSES):
            assert float(shares[b, members(c)].sum()) == pytest.approx(float(p[b, c]))
    torch.testing.assert_close(shares.sum(dim=1), torch.ones_like(shares[:, 0]))


@pytest.mark.parametrize("removed", [j for j in range(7) if j != 3])  # 3 is alone
def test_without_one_prototype_its_class_alone_loses_by_the_log_of_what_is_left(
    removed, mixture, s
):
    log_terms = mixture.log_terms(mixture.similarities(s))
    log_sums, before = mixture.evidence(log_terms)
    c = OWNER[removed]
    inside = (log_terms[:, removed] - log_sums[:, c]).exp()
    without = log_terms.clone()
    without[:, removed] = -torch.inf
    _, after = mixture.evidence(without)
    loss = mixture.concentration(s) / mixture.sharpness * torch.log1p(-inside)
    torch.testing.assert_close(after[:, c] - before[:, c], loss)
    others = [i for i in range(N_CLASSES) if i != c]
    assert torch.equal(after[:, others], before[:, others])


def test_the_length_of_a_vector_means_nothing_to_a_mixture(mixture, s):
    torch.testing.assert_close(mixture(7 * s).scores, mixture(s).scores)
    before = mixture(s).scores
    with torch.no_grad():
        mixture.vectors *= normal(len(OWNER), 1, seed=8).abs() + 0.1
    torch.testing.assert_close(mixture(s).scores, before)


def test_sharpness_says_how_few_prototypes_carry_a_class(s):
    largest = []
    for sharpness in (1.0, 10.0, 100.0):
        layer = MixtureLayer(normal(len(OWNER), H), OWNER, N_CLASSES, sharpness)
        shares, p = _shares(layer.requires_grad_(False), s)
        largest.append(float((shares[:, members(0)] / p[:, :1]).amax(dim=1).mean()))
    assert 0.25 < largest[0] < 0.5 < largest[1] < largest[2]


def test_vectors_are_grouped_by_class_with_zeros_behind(mixture):
    grouped, counts = mixture.grouped()
    assert counts.tolist() == [4, 1, 2]
    for c in range(N_CLASSES):
        for place, j in enumerate(members(c)):
            direction = mixture.vectors[j] / mixture.vectors[j].norm()
            torch.testing.assert_close(grouped[c, place], direction)
        assert (grouped[c, len(members(c)) :] == 0).all()


def test_a_sharp_mixture_does_not_overflow(mixture, s):
    mixture.sharpness = 1e4
    scores = mixture(s.float()).scores
    assert torch.isfinite(scores).all()


# Inverse distances, as published


def test_inverse_distance_scores_are_those_of_the_formula(inverse, s):
    similarities, _, scores = inverse(s)
    weights, bias = inverse.weights.tolist(), inverse.bias.tolist()
    for b in range(B):
        a = [1 / (distance(s[b].tolist(), p) + 1e-4) for p in inverse.vectors.tolist()]
        z = [
            bias[c] + sum(w * x for w, x in zip(weights[c], a, strict=True))
            for c in range(N_CLASSES)
        ]
        torch.testing.assert_close(similarities[b].tolist(), a, rtol=1e-9, atol=0)
        torch.testing.assert_close(scores[b].tolist(), z, rtol=1e-9, atol=1e-9)


def test_output_weights_start_for_the_own_class_and_against_the_others():
    layer = InverseDistanceLayer(normal(len(OWNER), H), OWNER, N_CLASSES)
    for c in range(N_CLASSES):
        expected = [1.0 if c == owner else -0.5 for owner in OWNER.tolist()]
        assert layer.weights[c].tolist() == expected
    assert layer.bias.tolist() == [0] * N_CLASSES


def test_small_distances_are_not_lost_in_large_vectors():
    """‖a‖² + ‖b‖² − 2a·b of vectors this long is wrong by more than the distance."""
    p = 100 * normal(1, H, dtype=torch.float32)
    layer = InverseDistanceLayer(p, torch.tensor([0]), 1)
    layer.requires_grad_(False)
    s = p + 0.01 * torch.eye(1, H)
    exact = float((s - p).double().norm())
    assert float(layer(s).squared_distances) ** 0.5 == pytest.approx(exact, rel=1e-3)


# Both layers


def test_a_similarity_carries_its_distance(layer, s):
    """Nearer is more similar, and distances are Euclidean where `compare` maps to."""
    similarities, squared, _ = layer(s)
    mapped, prototypes = layer.to_euclidean(s), layer.to_euclidean(layer.vectors)
    for b in range(B):
        for j in range(len(OWNER)):
            expected = distance(mapped[b].tolist(), prototypes[j].tolist()) ** 2
            assert float(squared[b, j]) == pytest.approx(expected, rel=1e-6)
    by_nearness = similarities.flatten().argsort(descending=True)
    assert by_nearness.tolist() == squared.flatten().argsort().tolist()


def test_scores_come_in_the_precision_of_the_text_vectors(layer, s):
    exact = layer(s)
    rough = layer.float()(s.float())
    again = layer(s)  # float32 parameters, float64 arithmetic
    for output, dtype in ((rough, torch.float32), (again, torch.float64)):
        assert {part.dtype for part in output} == {dtype}
        torch.testing.assert_close(
            output.scores.double(), exact.scores, rtol=1e-4, atol=1e-4
        )


def test_a_text_that_stands_exactly_on_a_prototype_has_finite_gradients(
    trainable,
):
    layer = trainable.float()
    s = layer.vectors.detach().clone().requires_grad_(True)
    similarities, squared, scores = layer(s)
    assert squared.detach().diagonal().abs().max() < 1e-6
    (torch.softmax(scores, dim=1).sum() + squared.sum() + similarities.sum()).backward()
    torch.nn.functional.cross_entropy(layer(s).scores, OWNER).backward()
    for gradient in [s.grad, *(p.grad for p in layer.parameters())]:
        assert torch.isfinite(gradient).all()


def test_every_parameter_is_trained(trainable, s):
    torch.nn.functional.cross_entropy(trainable(s).scores, OWNER[:B]).backward()
    for name, parameter in trainable.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_a_layer_does_not_train_the_vectors_that_it_was_given(layer):
    start = normal(len(OWNER), H)
    own = type(layer)(start, OWNER, N_CLASSES, **layer.options())
    with torch.no_grad():
        own.vectors += 1
    assert torch.equal(start, normal(len(OWNER), H))


def test_options_and_state_rebuild_a_layer(layer, s):
    copy = type(layer)(
        torch.zeros_like(layer.vectors), OWNER, N_CLASSES, **layer.options()
    )
    copy.load_state_dict(layer.state_dict())
    for mine, theirs in zip(copy(s), layer(s), strict=True):
        assert torch.equal(mine.detach(), theirs)


def test_the_head_scores_the_pooled_text(layer, attention):
    h = normal(B, T, H)
    s, output = PrototypeHead(attention, layer)(h, OWN)
    alpha = attention(h, OWN)
    for b in range(B):
        by_hand = [
            sum(float(alpha[b, t] * h[b, t, i]) for t in range(T)) for i in range(H)
        ]
        torch.testing.assert_close(s[b].tolist(), by_hand)
    assert torch.equal(output.scores, layer(s).scores)
