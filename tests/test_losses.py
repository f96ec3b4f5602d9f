"""Every term of the loss, against plain loops, and the direction of its gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from skprotolm import ProtoLMClassifier
from skprotolm._config import check_parameters
from skprotolm._network import losses, proto_lm
from skprotolm._network.proto_lm import InverseDistanceLayer
from skprotolm._network.prototypes import Batch
from tests.helpers import make_mixture

# Six texts in the plane, of classes with three, one and two prototypes.
S = torch.tensor([[1, 0.2], [0.5, 1], [-1, 0.5], [0.3, -1], [2, 1], [-0.5, -0.5]])
CODES = torch.tensor([0, 0, 1, 2, 0, 1])
P = torch.tensor([[1, 0], [0, 1], [0.8, 0.7], [-1, 0.2], [0.1, -1], [-0.3, -0.9]])
VALUES = torch.tensor([0, 0, 0, 1, 2, 2])
S, P = S.double(), P.double()
OWN = CODES[:, None] == VALUES[None, :]
WEIGHTS = torch.tensor([1.0, 0.5, 2.0, 0.25, 3.0, 0.75]).double()
B, M = OWN.shape


def squared(s, p):
    return (s[:, None] - p[None]).square().sum(dim=-1)


def mates_of(codes):
    return codes[:, None] == codes[None, :]


D2 = squared(S, P)


def assert_close(value, expected):
    assert float(value.detach()) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def distances(b, own):
    """Return squared distances of a text to prototypes of its class, or the others."""
    return D2[b][OWN[b] == own].tolist()


# Each term by hand.


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
    assert_close(losses.cross_entropy(scores, CODES, WEIGHTS, smoothing), total / B)


def test_cohesion():
    total = sum(float(WEIGHTS[b]) * min(distances(b, own=True)) for b in range(B))
    assert_close(losses.cohesion(D2, OWN, WEIGHTS), total / B)


def test_separation():
    total = 0.0
    for b in range(B):
        total += float(WEIGHTS[b]) * max(0.0, 1 - min(distances(b, own=False)))
    assert total > 0
    assert_close(losses.separation(D2, OWN, WEIGHTS), total / B)


def test_coverage():
    total = sum(min(D2[OWN[:, j], j].tolist()) for j in range(M))
    assert_close(losses.coverage(D2, OWN), total / M)


def test_coverage_skips_prototypes_without_a_text_in_the_batch():
    rows = torch.tensor([0, 1, 4])  # of class 0
    expected = sum(float(D2[rows, j].min()) for j in range(3)) / 3
    assert_close(losses.coverage(D2[rows], OWN[rows]), expected)


@pytest.mark.parametrize("n_many", [1, 100])
def test_diversity(monkeypatch, n_many):
    monkeypatch.setattr(losses, "_MANY", n_many)
    unit = [[x / math.hypot(*p) for x in p] for p in P.tolist()]
    total, pairs = 0.0, 0
    for i in range(M):
        for j in range(M):
            if i != j and VALUES[i] == VALUES[j]:
                cos = unit[i][0] * unit[j][0] + unit[i][1] * unit[j][1]
                total += max(0.0, cos - 0.5)
                pairs += 1
    assert pairs == 8  # six of class 0, two of class 2
    assert total > 0
    assert_close(losses.diversity(F.normalize(P, dim=1), VALUES), total / pairs)


@pytest.mark.parametrize("n_many", [1, 100])
def test_diversity_of_single_prototypes_is_0_with_zero_gradients(monkeypatch, n_many):
    monkeypatch.setattr(losses, "_MANY", n_many)
    p = P[:2].clone().requires_grad_(True)
    value = losses.diversity(F.normalize(p, dim=1), torch.tensor([0, 1]))
    value.backward()
    assert_close(value, 0)
    assert (p.grad == 0).all()


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
    assert_close(losses.preservation(S, PRETRAINED, mates_of(codes)), expected)


ONE_CLASS = torch.ones(6, 6, dtype=torch.bool)


def test_preservation_is_0_without_two_other_texts_of_the_class():
    mates = mates_of(torch.tensor([0, 0, 1, 1, 2, 2]))
    assert_close(losses.preservation(S, PRETRAINED, mates), 0)


def test_preservation_is_0_where_all_cosines_are_kept():
    turned = S @ torch.tensor([[0.0, 2.0], [-2.0, 0.0]]).double()
    assert_close(losses.preservation(turned, S, ONE_CLASS), 0.0)


def test_preservation_has_finite_gradients_for_equal_and_opposite_texts():
    s = torch.tensor([[1.0, 0], [1, 0], [-1, 0], [1, 0]], requires_grad=True)
    pretrained = torch.tensor([[1.0, 0], [-1, 0], [1, 0], [0, 1]])
    losses.preservation(s, pretrained, ONE_CLASS[:4, :4]).backward()
    assert torch.isfinite(s.grad).all()


@pytest.mark.parametrize(
    "term",
    [
        lambda w: losses.cross_entropy(S @ torch.ones(2, 3).double(), CODES, w),
        lambda w: losses.cohesion(D2, OWN, w),
        lambda w: losses.separation(D2, OWN, w),
        lambda w: proto_lm.cohesion(D2, OWN, w, 0.5),
        lambda w: proto_lm.separation(D2, OWN, w, 0.5),
    ],
)
def test_sums_are_divided_by_the_batch_size_and_not_by_the_weights(term):
    assert_close(term(3 * WEIGHTS), 3 * float(term(WEIGHTS)))
    parts = [float(term(WEIGHTS * (torch.arange(B) == b))) for b in range(B)]
    assert_close(term(WEIGHTS), sum(parts))


# The direction of one step of gradient descent.


def descend(loss, tensor, rate=0.01):
    (gradient,) = torch.autograd.grad(loss, tensor)
    return tensor.detach() - rate * gradient


@pytest.fixture
def s():
    return S.clone().requires_grad_(True)


def nearest(d2, mask):
    return d2.masked_fill(~mask, torch.inf).amin(1)


def farthest(d2, mask):
    return d2.masked_fill(~mask, -torch.inf).amax(1)


def test_cohesion_moves_every_text_towards_its_nearest_prototype(s):
    moved = descend(losses.cohesion(squared(s, P), OWN, WEIGHTS), s)
    assert (nearest(squared(moved, P), OWN) < nearest(D2, OWN)).all()


def test_published_cohesion_moves_every_text_towards_its_farthest_prototype(s):
    """With similarities for distances, as in the published code, it moves away."""
    moved = descend(proto_lm.cohesion(squared(s, P), OWN, WEIGHTS, 1), s)
    assert (farthest(squared(moved, P), OWN) < farthest(D2, OWN)).all()


def test_separation_moves_texts_away_from_near_prototypes_of_other_classes(s):
    moved = descend(losses.separation(squared(s, P), OWN, WEIGHTS), s)
    before, after = nearest(D2, ~OWN), nearest(squared(moved, P), ~OWN)
    near = before < 1
    assert 0 < near.sum() < B
    assert (after[near] > before[near]).all()
    assert torch.equal(after[~near], before[~near])


def test_published_separation_moves_every_text_away_from_other_classes(s):
    moved = descend(proto_lm.separation(squared(s, P), OWN, WEIGHTS, 1), s)
    assert (nearest(squared(moved, P), ~OWN) > nearest(D2, ~OWN)).all()


def test_coverage_moves_prototypes_towards_texts_and_skips_those_without_one():
    rows = torch.tensor([0, 1, 2, 4, 5])  # none of class 2
    p = P.clone().requires_grad_(True)
    moved = descend(losses.coverage(squared(S[rows], p), OWN[rows]), p)
    before, after = (nearest(squared(S[rows], x).T, OWN[rows].T) for x in (P, moved))
    assert (after[:4] < before[:4]).all()
    assert torch.equal(moved[4:], P[4:])


def test_diversity_spreads_prototypes_of_one_class_only():
    # Two near ones of class 0, and two of other classes at the same positions.
    p = torch.tensor([[1, 0.1], [1, 0.2], [-1, 1], [1, 0.1], [1, 0.2], [-1, -1]])
    p = p.double().requires_grad_(True)
    moved = descend(losses.diversity(F.normalize(p, dim=1), VALUES), p)
    before = p.detach()
    gap = F.cosine_similarity(moved[0], moved[1], dim=0)
    assert gap < F.cosine_similarity(before[0], before[1], dim=0)
    assert torch.equal(moved[2:], before[2:])


def test_preservation_restores_the_order_of_the_pretrained_encoder():
    """Three texts of a class that have become alike move apart as they were."""
    collapsed = torch.tensor([[1, 0.0], [1, 0.1], [1, -0.1]]).double()
    collapsed.requires_grad_(True)
    pretrained = torch.tensor([[1, 0.0], [0.9, 0.4], [0, 1.0]]).double()
    loss = losses.preservation(collapsed, pretrained, ONE_CLASS[:3, :3])
    moved = descend(loss, collapsed)
    cos = F.cosine_similarity(moved[:1], moved[1:])
    assert cos[0] > cos[1]


def test_preservation_restores_nearest_neighbors_of_the_pretrained_encoder():
    generator = torch.Generator().manual_seed(0)
    s, pretrained = (torch.randn(12, 4, generator=generator) for _ in range(2))
    mates = mates_of(torch.arange(12) % 2)
    others = mates & ~torch.eye(12, dtype=torch.bool)

    def n_agreeing(vectors):
        neighbors = []
        for x in (vectors, pretrained):
            unit = F.normalize(x, dim=1)
            cosines = (unit @ unit.T).masked_fill(~others, -torch.inf)
            neighbors.append(cosines.argmax(1))
        return int((neighbors[0] == neighbors[1]).sum())

    start = n_agreeing(s)
    for _ in range(100):
        s.requires_grad_(True)
        s = descend(losses.preservation(s, pretrained, mates), s, rate=0.3)
    assert n_agreeing(s) > start + 3


# The objective of each formulation.


def mixture(p):
    return make_mixture(p, VALUES, 3, sharpness=30.0)


def published(p):
    return InverseDistanceLayer(p, VALUES, n_classes=3)


def make_terms(layer, s, **parameters):
    clf = ProtoLMClassifier(**{"label_smoothing": 0, "preservation": 0.4, **parameters})
    batch = Batch(s, CODES, WEIGHTS, PRETRAINED, OWN, mates_of(CODES))
    return layer.losses(layer(s), batch, check_parameters(clf))


@pytest.mark.parametrize(
    ("make", "others"),
    [
        (mixture, {"coverage": 0.15, "diversity": 0.35, "preservation": 0.45}),
        (published, {}),
    ],
)
def test_terms_have_the_weights_of_the_parameters(make, others, s):
    weights = {"cohesion": 0.15, "separation": 0.25}
    terms = make_terms(make(P), s, diversity=0.35, preservation=0.45, **weights)
    by_name = {term: weight for term, (weight, _) in terms.items()}
    assert by_name == pytest.approx({"cross_entropy": 0.6, **weights, **others})


def mean_own(d2):
    return (d2 * OWN).sum(1) / OWN.sum(1)


@pytest.mark.parametrize(
    ("make", "term", "measure", "sign"),
    [
        (mixture, "cohesion", lambda d2: nearest(d2, OWN), -1),
        (mixture, "separation", lambda d2: nearest(d2, ~OWN), 1),
        (published, "cohesion", mean_own, -1),  # n_nearest=1.0 takes all
        (published, "separation", lambda d2: nearest(d2, ~OWN), 1),
    ],
)
def test_a_weighted_term_moves_texts_in_its_direction(make, term, measure, sign, s):
    layer = make(P)
    weight, value = make_terms(layer, s, n_nearest=1.0)[term]
    moved = descend(weight * value, s)
    with torch.no_grad():
        before, after = (measure(layer(x).squared_distances) for x in (S, moved))
    change = sign * (after - before)
    assert (change > -1e-9).all()
    assert change.sum() > 1e-4


@pytest.mark.parametrize("make", [mixture, published])
def test_terms_of_weight_0_have_no_gradient(make, s):
    zero = {"cohesion": 0, "separation": 0, "diversity": 0, "preservation": 0}
    layer = make(P)
    total = sum(
        weight * value for weight, value in make_terms(layer, s, **zero).values()
    )
    entropy = losses.cross_entropy(layer(s).outputs, CODES, WEIGHTS)
    torch.testing.assert_close(descend(total, s), descend(entropy, s))


@pytest.mark.parametrize(
    ("make", "expected"),
    [(mixture, True), (published, False)],
    ids=["mixture", "published"],
)
def test_labels_are_smoothed_under_mixture_only(make, expected, s):
    layer = make(P)
    plain, smoothed = (
        float(make_terms(layer, s, label_smoothing=e)["cross_entropy"][1].detach())
        for e in (0, 0.3)
    )
    assert (plain != smoothed) is expected
