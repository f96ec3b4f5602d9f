"""The mixture layer and its one derivative, against plain Python."""

import math

import pytest
import torch

from tests.helpers import make_mixture, normal

VALUES = torch.tensor([2, 0, 0, 1, 0, 2, 0])  # four, one and two prototypes
N_CLASSES = 3
B, H = 5, 6


def make_layer(
    values=VALUES, n_classes=N_CLASSES, sharpness=9.0, seed=0, fixed_priors=False
):
    """Return a layer whose vectors, metric, priors, biases and κ are random."""
    layer = make_mixture(
        normal(len(values), H, seed=seed),
        values,
        n_classes,
        sharpness,
        fixed_priors=fixed_priors,
    )
    with torch.no_grad():
        layer.metric.add_(0.5 * normal(H, H, seed=seed + 4))
        layer.prior_logits.copy_(normal(len(values), seed=seed + 2))
        layer.readout.bias.copy_(normal(n_classes, seed=seed + 3))
        layer.readout.log_concentration.fill_(1.3)
    return layer.requires_grad_(False)


@pytest.fixture
def layer():
    return make_layer()


@pytest.fixture
def s():
    return normal(B, H, seed=1)


# Plain Python.


def members(c, values=VALUES):
    return [j for j, value in enumerate(values.tolist()) if value == c]


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))


def mapped_by_hand(layer, s_b):
    """Return A s of one text."""
    return [
        sum(a * x for a, x in zip(row, s_b, strict=True))
        for row in layer.metric.tolist()
    ]


def priors_by_hand(layer):
    logits, values = layer.prior_logits.tolist(), layer.values
    if layer.fixed_priors:
        return [math.exp(logit) for logit in logits]
    totals = [
        sum(math.exp(logits[i]) for i in members(c, values))
        for c in range(layer.readout.n_classes)
    ]
    return [math.exp(logits[j]) / totals[c] for j, c in enumerate(values.tolist())]


def terms_by_hand(layer, s_b):
    """Return π_j·exp(λ·cos(A s, p_j)) of every prototype, for one text."""
    prototypes, priors = layer.vectors.tolist(), priors_by_hand(layer)
    mapped = mapped_by_hand(layer, s_b)
    return [
        priors[j] * math.exp(layer.sharpness * cosine(mapped, prototypes[j]))
        for j in range(len(prototypes))
    ]


def kappa(layer):
    return math.exp(float(layer.readout.log_concentration))


def scores_by_hand(layer, s_b):
    terms = terms_by_hand(layer, s_b)
    return [
        kappa(layer)
        / layer.sharpness
        * math.log(sum(terms[j] for j in members(c, layer.values)))
        + float(layer.readout.bias[c])
        for c in range(layer.readout.n_classes)
    ]


def softmax_by_hand(scores):
    exponentials = [math.exp(score) for score in scores]
    return [e / sum(exponentials) for e in exponentials]


# Outputs.


def test_priors_are_a_softmax_within_each_class(layer, s):
    priors = layer.log_priors(s).exp()
    torch.testing.assert_close(priors.tolist(), priors_by_hand(layer))
    for c in range(N_CLASSES):
        assert float(priors[members(c)].sum()) == pytest.approx(1, abs=1e-12)


def test_fixed_priors_are_not_normalized(s):
    layer = make_layer(fixed_priors=True)
    assert torch.equal(layer.log_priors(s), layer.prior_logits)


def test_freezing_keeps_the_outputs_and_fixes_the_priors(layer, s):
    expected = layer(s).outputs
    layer.freeze()
    assert layer.fixed_priors
    torch.testing.assert_close(layer(s).outputs, expected)
    torch.testing.assert_close(layer.prior_logits.exp(), layer.describe()["priors"])


def test_outputs_are_those_of_the_formula(layer, s):
    similarities, _, scores = layer(s)
    for b in range(B):
        expected = scores_by_hand(layer, s[b].tolist())
        torch.testing.assert_close(scores[b].tolist(), expected, rtol=1e-9, atol=1e-9)
        mapped = mapped_by_hand(layer, s[b].tolist())
        cosines = [cosine(mapped, p) for p in layer.vectors.tolist()]
        torch.testing.assert_close(
            similarities[b].tolist(), cosines, rtol=1e-9, atol=1e-9
        )


def test_a_layer_starts_in_the_learned_space(s):
    layer = make_mixture(normal(len(VALUES), H), VALUES, N_CLASSES)
    assert torch.equal(layer.metric, torch.eye(H, dtype=torch.float64))
    assert torch.equal(layer.mapped(s), s)


def test_texts_are_mapped_linearly(layer, s):
    """Token vectors are mapped like the text that is their sum."""
    mapped = layer.mapped(s)
    torch.testing.assert_close(layer.mapped(s.sum(dim=0)), mapped.sum(dim=0))
    tokens = s.reshape(1, B, H).expand(3, B, H)
    torch.testing.assert_close(layer.mapped(tokens), mapped.expand(3, B, H))


def test_a_layer_starts_with_equal_priors_and_no_bias(s):
    layer = make_mixture(normal(len(VALUES), H), VALUES, N_CLASSES)
    layer.requires_grad_(False)
    for c in range(N_CLASSES):
        expected = [1 / len(members(c))] * len(members(c))
        assert layer.log_priors(s)[members(c)].exp().tolist() == pytest.approx(expected)
    assert layer.readout.bias.tolist() == [0] * N_CLASSES


def test_novelty_is_that_of_the_formula(layer, s):
    for b in range(B):
        total = sum(terms_by_hand(layer, s[b].tolist()))
        expected = -math.log(total / N_CLASSES) / layer.sharpness
        assert float(layer.novelty(s)[b]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("removed", [j for j in range(7) if j != 3])  # 3 is alone
def test_without_a_prototype_only_the_score_of_its_class_falls(removed, layer, s):
    evidence = layer.evidence(layer.cosines(s))
    before = layer.readout(evidence, VALUES)
    c = VALUES[removed]
    class_sums = torch.logsumexp(evidence[:, members(c)], dim=1)
    share = (evidence[:, removed] - class_sums).exp()
    rows = torch.tensor([j for j in range(7) if j != removed])
    layer.freeze()
    after = layer.take(rows)(s).outputs
    change = kappa(layer) / layer.sharpness * torch.log1p(-share)
    torch.testing.assert_close(after[:, c] - before[:, c], change)
    others = [i for i in range(N_CLASSES) if i != c]
    torch.testing.assert_close(
        after[:, others], before[:, others], rtol=1e-13, atol=1e-13
    )


def test_the_lengths_of_vectors_do_not_matter(layer, s):
    expected = layer(s).outputs
    torch.testing.assert_close(layer(7 * s).outputs, expected)
    with torch.no_grad():
        layer.vectors *= normal(len(VALUES), 1, seed=8).abs() + 0.1
    torch.testing.assert_close(layer(s).outputs, expected)


def test_a_higher_sharpness_concentrates_a_class_on_fewer_prototypes(s):
    largest = []
    for sharpness in (1.0, 10.0, 100.0):
        layer = make_mixture(normal(len(VALUES), H), VALUES, N_CLASSES, sharpness)
        evidence = layer.requires_grad_(False).evidence(layer.cosines(s))
        inside = evidence[:, members(0)].softmax(dim=1)
        largest.append(float(inside.amax(dim=1).mean()))
    assert 0.25 < largest[0] < 0.5 < largest[1] < largest[2]


def test_sharpening_changes_the_evidence_and_the_readout(layer, s):
    layer.sharpen(200)
    for b in range(B):
        expected = scores_by_hand(layer, s[b].tolist())
        assert layer(s).outputs[b].tolist() == pytest.approx(expected)
    assert layer.options()["sharpness"] == 200
    assert layer.options()["readout"]["sharpness"] == 200


def test_a_sharp_layer_does_not_overflow(s):
    layer = make_layer(sharpness=1e4).float()
    assert layer(s.float()).outputs.isfinite().all()


# The derivative, of which all token sums are made.


def closed_form(layer, s_b, k):
    """Return base value and direction of the log-odds of class k, for one text."""
    n_classes, dimensions = layer.readout.n_classes, range(H)
    terms, priors = terms_by_hand(layer, s_b), priors_by_hand(layer)
    scale = kappa(layer) / layer.sharpness
    p = softmax_by_hand(scores_by_hand(layer, s_b))
    length = math.hypot(*mapped_by_hand(layer, s_b))
    # Without fixed weights, per class: the score without its cosines, and the mean
    # direction of its prototypes.
    rests, directions = [], []
    for c in range(n_classes):
        rows = members(c, layer.values)
        shares = {j: terms[j] / sum(terms[i] for i in rows) for j in rows}
        divergence = sum(shares[j] * math.log(shares[j] / priors[j]) for j in rows)
        rests.append(float(layer.readout.bias[c]) - scale * divergence)
        unit = {
            j: [x / math.hypot(*layer.vectors[j].tolist()) for x in layer.vectors[j]]
            for j in rows
        }
        directions.append(
            [sum(shares[j] * float(unit[j][i]) for j in rows) for i in dimensions]
        )
    base, direction = rests[k], list(directions[k])
    for c in range(n_classes):
        if c != k:
            q = p[c] / (1 - p[k])
            base -= q * (rests[c] - math.log(q))
            direction = [
                x - q * y for x, y in zip(direction, directions[c], strict=True)
            ]
    direction = [  # Aᵀ direction
        sum(row[i] * x for row, x in zip(layer.metric.tolist(), direction, strict=True))
        for i in dimensions
    ]
    return base, [kappa(layer) * x / length for x in direction]


FOUR = torch.tensor([0, 1, 2, 3, 0, 1, 1, 3, 3])


@pytest.mark.parametrize("fixed_priors", [False, True])
@pytest.mark.parametrize("seed", [0, 10, 20])
@pytest.mark.parametrize(
    ("values", "n_classes"), [(VALUES % 2, 2), (FOUR, 4)], ids=["2", "4"]
)
def test_attribution_is_the_closed_form(values, n_classes, seed, fixed_priors, s):
    layer = make_layer(values, n_classes, seed=seed, fixed_priors=fixed_priors)
    for k in range(n_classes):
        attribution = layer.attribute(s, torch.full((B,), k))
        for b in range(B):
            base, direction = closed_form(layer, s[b].tolist(), k)
            assert float(attribution.base[b]) == pytest.approx(base, abs=1e-12)
            torch.testing.assert_close(
                attribution.direction[b].tolist(), direction, rtol=0, atol=1e-12
            )


@pytest.mark.parametrize("fixed_priors", [False, True])
def test_attribution_sums_to_the_log_odds(fixed_priors, s):
    layer = make_layer(fixed_priors=fixed_priors)
    attribution = layer.attribute(s)
    p = layer(s).outputs.softmax(dim=1)
    assert torch.equal(attribution.target, p.argmax(dim=1))
    p_target = p.gather(1, attribution.target[:, None])[:, 0]
    torch.testing.assert_close(attribution.explained, p_target.logit())
    total = attribution.base + (s * attribution.direction).sum(dim=1)
    torch.testing.assert_close(total, attribution.explained, rtol=0, atol=1e-12)
    torch.testing.assert_close(attribution.outputs, layer(s).outputs)
    assert torch.equal(layer.contributions(s)[0], layer(s).similarities)


def test_attribution_works_in_inference_mode_and_without_gradients(layer, s):
    expected = layer.attribute(s).direction
    with torch.inference_mode():
        assert torch.equal(layer.attribute(s).direction, expected)
    with torch.no_grad():
        assert torch.equal(layer.attribute(s).direction, expected)


def test_attribution_of_a_text_of_length_zero_is_finite(layer):
    s = torch.zeros(1, H, dtype=torch.float64)
    assert layer.attribute(s).base.isfinite().all()
    assert (layer.contributions(s)[0] == 0).all()
