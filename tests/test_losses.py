"""Every term of the loss, against plain loops, and the way it moves things."""

import math

import pytest
import torch

from skprotolm import ProtoLMClassifier
from skprotolm._config import check_parameters
from skprotolm._network import losses as _losses
from skprotolm._network.prototypes import InverseDistanceLayer, MixtureLayer
from skprotolm._training.formulations import FORMULATIONS, Step

# Six texts in the plane, of classes with three, one and two prototypes.
S = torch.tensor([[1, 0.2], [0.5, 1], [-1, 0.5], [0.3, -1], [2, 1], [-0.5, -0.5]])
CODES = torch.tensor([0, 0, 1, 2, 0, 1])
P = torch.tensor([[1, 0], [0, 1], [0.8, 0.7], [-1, 0.2], [0.1, -1], [-0.3, -0.9]])
OWNER = torch.tensor([0, 0, 0, 1, 2, 2])
S, P = S.double(), P.double()
OWN = CODES[:, None] == OWNER[None, :]
WEIGHTS = torch.tensor([1.0, 0.5, 2.0, 0.25, 3.0, 0.75]).double()
B, M = OWN.shape


def squared(s, p):
    return (s[:, None] - p[None]).square().sum(dim=-1)


D2 = squared(S, P)


def assert_close(value, expected):
    assert float(value.detach()) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def d2_of(b, own):
    """The squared distances of one text to prototypes of its class, or the others."""
    return [float(D2[b, j]) for j in range(M) if bool(OWN[b, j]) == own]


# Each term by hand


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cross_entropy(smoothing):
    scores = S @ torch.tensor([[1.0, -1.0, 0.5], [0.3, 2.0, -1.0]]).double()
    total = 0.0
    for b in range(B):
        z = scores[b].tolist()
        for c in range(3):
            target = smoothing / 3 + (1 - smoothing) * (c == int(CODES[b]))
            log_p = z[c] - math.log(sum(math.exp(v) for v in z))
            total -= float(WEIGHTS[b]) * target * log_p
    assert_close(_losses.cross_entropy(scores, CODES, WEIGHTS, smoothing), total / B)


def test_cohesion():
    total = sum(float(WEIGHTS[b]) * min(d2_of(b, own=True)) for b in range(B))
    assert_close(_losses.cohesion(D2, OWN, WEIGHTS), total / B)


def test_separation():
    total = 0.0
    for b in range(B):
        total += float(WEIGHTS[b]) * max(0.0, 1 - min(d2_of(b, own=False)))
    assert 0 < total
    assert_close(_losses.separation(D2, OWN, WEIGHTS), total / B)


def test_coverage():
    total = 0.0
    for j in range(M):
        total += min(float(D2[b, j]) for b in range(B) if OWN[b, j])
    assert_close(_losses.coverage(D2, OWN), total / M)


def test_coverage_skips_prototypes_without_a_text_in_the_batch():
    rows = torch.tensor([0, 1, 4])  # of class 0 alone
    expected = sum(float(D2[rows, j].min()) for j in range(3)) / 3
    assert_close(_losses.coverage(D2[rows], OWN[rows]), expected)


def grouped(p=P):
    layer = MixtureLayer(p, OWNER, 3, sharpness=1.0)
    return layer, layer.grouped()


def test_diversity():
    unit = [[x / math.hypot(*p) for x in p] for p in P.tolist()]
    total, pairs = 0.0, 0
    for i in range(M):
        for j in range(M):
            if i != j and OWNER[i] == OWNER[j]:
                cos = unit[i][0] * unit[j][0] + unit[i][1] * unit[j][1]
                total += max(0.0, cos - 0.5)
                pairs += 1
    assert pairs == 8  # six of class 0, two of class 2
    assert total > 0
    assert_close(_losses.diversity(*grouped()[1]), total / pairs)


def test_diversity_of_single_prototypes_is_nothing():
    layer = MixtureLayer(P[:2], torch.tensor([0, 1]), 2, sharpness=1.0)
    value = _losses.diversity(*layer.grouped())
    value.backward()
    assert_close(value, 0)
    assert (layer.vectors.grad == 0).all()


PRETRAINED = torch.tensor(
    [[0, 1, 0.5], [1, 0, 0], [0, 0.2, 1], [1, 1, 1], [0.2, 0.9, 0.1], [0.3, 0, 1]]
).double()


def preservation_by_hand(s, pretrained, codes):
    def cosine(a, b):
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return dot / math.hypot(*a) / math.hypot(*b)

    total = 0.0
    for b in range(len(codes)):
        mates = [i for i in range(len(codes)) if i != b and codes[i] == codes[b]]
        if len(mates) < 2:
            continue
        exps = [
            [math.exp(10 * cosine(x[b].tolist(), x[i].tolist())) for i in mates]
            for x in (pretrained, s)
        ]
        target, learned = ([e / sum(row) for e in row] for row in exps)
        total += sum(t * math.log(t / q) for t, q in zip(target, learned, strict=True))
    return total / len(codes)


@pytest.mark.parametrize(
    "codes",
    [
        CODES,  # class 0 has three texts; the others are skipped
        torch.zeros(6, dtype=torch.long),
        torch.tensor([0, 1, 0, 1, 0, 1]),
        torch.tensor([3, 1, 3, 3, 1, 3]),
    ],
)
def test_preservation(codes):
    expected = preservation_by_hand(S, PRETRAINED, codes)
    assert expected > 0
    assert_close(_losses.preservation(S, PRETRAINED, codes), expected)


def test_preservation_without_classmates_is_nothing():
    s = S.clone().requires_grad_(True)
    value = _losses.preservation(s, PRETRAINED, torch.tensor([0, 0, 1, 1, 2, 2]))
    assert_close(value, 0)


def test_preservation_is_nothing_where_the_order_is_kept():
    turned = S @ torch.tensor([[0.0, 2.0], [-2.0, 0.0]]).double()
    assert_close(_losses.preservation(turned, S, torch.zeros(6, dtype=torch.long)), 0.0)


def test_preservation_has_finite_gradients_on_equal_and_on_opposite_texts():
    s = torch.tensor([[1.0, 0], [1, 0], [-1, 0], [1, 0]], requires_grad=True)
    pretrained = torch.tensor([[1.0, 0], [-1, 0], [1, 0], [0, 1]])
    _losses.preservation(s, pretrained, torch.zeros(4, dtype=torch.long)).backward()
    assert torch.isfinite(s.grad).all()


K = [1, 2, 50, 10**30, 0.5, 0.34, 1.0, 0.01, 1e-50]


def k_of(n_nearest, count):
    """K: a number, or a share of the text's class's prototypes."""
    if isinstance(n_nearest, float):
        return math.ceil(n_nearest * count)
    return n_nearest


@pytest.mark.parametrize("n_nearest", K)
def test_published_cohesion(n_nearest):
    total = 0.0
    for b in range(B):
        distances = sorted(d2_of(b, own=True), reverse=True)
        largest = distances[: k_of(n_nearest, len(distances))]
        total += float(WEIGHTS[b]) * sum(largest) / len(largest)
    assert_close(_losses.published_cohesion(D2, OWN, WEIGHTS, n_nearest), total / B)


@pytest.mark.parametrize("n_nearest", K)
def test_published_separation(n_nearest):
    total = 0.0
    for b in range(B):
        k = k_of(n_nearest, len(d2_of(b, own=True)))
        smallest = sorted(d2_of(b, own=False))[:k]
        total -= float(WEIGHTS[b]) * sum(smallest) / len(smallest)
    assert_close(_losses.published_separation(D2, OWN, WEIGHTS, n_nearest), total / B)


@pytest.mark.parametrize(
    "term",
    [
        lambda w: _losses.cross_entropy(S @ torch.ones(2, 3).double(), CODES, w),
        lambda w: _losses.cohesion(D2, OWN, w),
        lambda w: _losses.separation(D2, OWN, w),
        lambda w: _losses.published_cohesion(D2, OWN, w, 0.5),
        lambda w: _losses.published_separation(D2, OWN, w, 0.5),
    ],
)
def test_sums_are_divided_by_the_size_of_the_batch_not_by_its_weights(term):
    assert_close(term(3 * WEIGHTS), 3 * float(term(WEIGHTS)))
    parts = [float(term(WEIGHTS * (torch.arange(B) == b))) for b in range(B)]
    assert_close(term(WEIGHTS), sum(parts))


# Which way one step of descent goes


def descend(loss, *tensors, rate=0.01):
    """Take one step of descent; return where the tensors, left alone, would be."""
    gradients = torch.autograd.grad(loss, tensors, allow_unused=True)
    return [
        t.detach() if g is None else t.detach() - rate * g
        for t, g in zip(tensors, gradients, strict=True)
    ]


@pytest.fixture
def s():
    return S.clone().requires_grad_(True)


@pytest.fixture
def p():
    return P.clone().requires_grad_(True)


def masked(d2, mask, fill):
    return d2.masked_fill(~mask, fill)


def test_cohesion_moves_every_text_nearer_to_its_prototype(s):
    moved, *_ = descend(_losses.cohesion(squared(s, P), OWN, WEIGHTS), s)
    before, after = (masked(squared(x, P), OWN, torch.inf).amin(1) for x in (S, moved))
    assert (after < before).all()


def test_published_cohesion_moves_every_text_nearer_to_its_farthest_prototypes(s):
    """With similarities for distances, as in the published code, they part."""
    moved, *_ = descend(_losses.published_cohesion(squared(s, P), OWN, WEIGHTS, 1), s)
    before, after = (masked(squared(x, P), OWN, -torch.inf).amax(1) for x in (S, moved))
    assert (after < before).all()


def test_separation_moves_texts_away_from_prototypes_of_other_classes(s):
    moved, *_ = descend(_losses.separation(squared(s, P), OWN, WEIGHTS), s)
    before, after = (masked(squared(x, P), ~OWN, torch.inf).amin(1) for x in (S, moved))
    near = before < 1
    assert 0 < near.sum() < B
    assert (after[near] > before[near]).all()
    assert torch.equal(after[~near], before[~near])  # far enough


def test_published_separation_moves_every_text_away_from_other_classes(s):
    loss = _losses.published_separation(squared(s, P), OWN, WEIGHTS, 1)
    moved, *_ = descend(loss, s)
    before, after = (masked(squared(x, P), ~OWN, torch.inf).amin(1) for x in (S, moved))
    assert (after > before).all()


def test_coverage_moves_prototypes_to_texts_and_skips_those_without_one(p):
    rows = torch.tensor([0, 1, 2, 4, 5])  # none of class 2
    moved, *_ = descend(_losses.coverage(squared(S[rows], p), OWN[rows]), p)
    before, after = (
        masked(squared(S[rows], x), OWN[rows], torch.inf).amin(0) for x in (P, moved)
    )
    assert (after[:4] < before[:4]).all()
    assert torch.equal(moved[4:], P[4:])


def test_diversity_spreads_prototypes_of_one_class_and_no_others():
    # Two near ones of class 0, and two of other classes in the same place.
    near = torch.tensor([[1, 0.1], [1, 0.2], [-1, 1], [1, 0.1], [1, 0.2], [-1, -1]])
    layer, (vectors, counts) = grouped(near.double())
    moved, *_ = descend(_losses.diversity(vectors, counts), layer.vectors)
    cos = torch.nn.functional.cosine_similarity
    assert cos(moved[0], moved[1], dim=0) < cos(near[0], near[1], dim=0)
    assert torch.equal(moved[2:], near[2:].double())


def test_preservation_brings_back_the_order_of_the_pretrained_encoder():
    """Three classmates that have become alike part as they were parted before."""
    collapsed = torch.tensor([[1, 0.0], [1, 0.1], [1, -0.1]]).double()
    collapsed.requires_grad_(True)
    pretrained = torch.tensor([[1, 0.0], [0.9, 0.4], [0, 1.0]]).double()
    loss = _losses.preservation(collapsed, pretrained, torch.zeros(3, dtype=torch.long))
    moved, *_ = descend(loss, collapsed)
    cos = torch.nn.functional.cosine_similarity(moved[:1], moved[1:])
    assert cos[0] > cos[1]


def test_preservation_makes_more_neighbours_those_of_the_pretrained_encoder():
    generator = torch.Generator().manual_seed(0)
    s, pretrained = (torch.randn(12, 4, generator=generator) for _ in range(2))
    codes = torch.arange(12) % 2
    mates = (codes[:, None] == codes) & ~torch.eye(12, dtype=torch.bool)

    def n_agreeing(vectors):
        orders = []
        for x in (vectors, pretrained):
            unit = torch.nn.functional.normalize(x, dim=1)
            orders.append((unit @ unit.T).masked_fill(~mates, -torch.inf).argmax(1))
        return int((orders[0] == orders[1]).sum())

    start = n_agreeing(s)
    for _ in range(100):
        s.requires_grad_(True)
        [s] = descend(_losses.preservation(s, pretrained, codes), s, rate=0.3)
    assert n_agreeing(s) > start + 3


# The table of formulations


def make_step(name, s, p, **parameters):
    settings = check_parameters(
        ProtoLMClassifier(formulation=name, **{"label_smoothing": 0} | parameters),
        tuple(FORMULATIONS),
    )
    if name == "mixture":
        layer = MixtureLayer(p, OWNER, 3, settings.sharpness)
    else:
        layer = InverseDistanceLayer(p, OWNER, 3)
    step = Step(s, layer(s), CODES, WEIGHTS, PRETRAINED)
    return FORMULATIONS[name].losses(step, layer, settings), layer


@pytest.mark.parametrize("name", FORMULATIONS)
def test_terms_carry_the_weights_that_the_parameters_name(name, s):
    weights = {"cohesion": 0.15, "separation": 0.25}
    terms, _ = make_step(name, s, P, diversity=0.35, preservation=0.45, **weights)
    expected = {"cross_entropy": 0.6, **weights}
    if name == "mixture":
        expected |= {"coverage": 0.15, "diversity": 0.35, "preservation": 0.45}
    found = {term: weight for term, (weight, _) in terms.items()}
    assert found == pytest.approx(expected)


def _distances_meant(name, term, d2):
    """Return, for each text, the distance that a term of all K = N pulls or pushes."""
    if term == "separation":
        return masked(d2, ~OWN, torch.inf).amin(1)
    if name == "mixture":
        return masked(d2, OWN, torch.inf).amin(1)
    return (d2 * OWN).sum(1) / OWN.sum(1)


@pytest.mark.parametrize("name", FORMULATIONS)
@pytest.mark.parametrize(
    ("term", "direction"), [("cohesion", -1), ("separation", 1)], ids=["pull", "push"]
)
def test_a_term_of_either_formulation_moves_texts_the_right_way(
    name, term, direction, s
):
    terms, layer = make_step(name, s, P, n_nearest=1.0)
    weight, value = terms[term]
    moved, *_ = descend(weight * value, s)
    before, after = (
        _distances_meant(name, term, layer(x.detach()).squared_distances.detach())
        for x in (S, moved)
    )
    change = direction * (after - before)
    assert (change > -1e-9).all()
    assert change.sum() > 1e-4


@pytest.mark.parametrize("name", FORMULATIONS)
def test_terms_of_weight_zero_do_not_move_anything(name, s):
    nothing = {"cohesion": 0, "separation": 0, "diversity": 0, "preservation": 0}
    terms, layer = make_step(name, s, P, **nothing)
    total = sum(weight * value for weight, value in terms.values())
    entropy = _losses.cross_entropy(layer(s).scores, CODES, WEIGHTS)
    (mine,), (expected,) = descend(total, s), descend(entropy, s)
    torch.testing.assert_close(mine, expected)
