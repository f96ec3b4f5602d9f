"""Training texts replace the learned prototypes of each class."""

import copy
import math
from itertools import permutations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch.nn import functional as F

from skprotolm._network.proto_lm import InverseDistanceLayer
from skprotolm._training.projection import (
    PROJECTIONS,
    assign,
    choose_texts,
    nearest_texts,
    prototype_strata,
    reading_metric,
    weights_of_texts,
)
from skprotolm._training.splits import find_candidates
from tests.helpers import make_config, make_data, make_mixture, normal

# Which texts are quoted.


def chosen(p, codes, counts, *, prune=True, quotable=0.5, pretrained=None, **data):
    """Return the rows of the quoted texts, from the probabilities of the true class."""
    n = len(codes)
    if pretrained is None:
        pretrained = normal(n, 5)
    config = make_config(quoted_counts=tuple(counts), prune=prune, quotable=quotable)
    data = make_data(torch.zeros(n, 2), codes, pretrained=pretrained, **data)
    confidence = torch.tensor(p, dtype=torch.float64).log().numpy()  # −inf for 0
    return choose_texts(data, config, confidence).tolist()


def test_texts_that_are_classified_correctly_are_quoted_class_after_class():
    p = [0.6, 0.9, 0.7, 0.0, 0.8, 0.5, 0.6, 0.9, 0.0]
    codes = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1])
    assert chosen(p, codes, [9, 9]) == [0, 1, 2, 4, 5, 6, 7]
    assert chosen(p, 1 - codes, [9, 9]) == [6, 7, 0, 1, 2, 4, 5]


@pytest.mark.parametrize("quotable", [0.5, 0.75, 1.0])
def test_of_many_texts_the_more_confident_ones_are_quoted(quotable):
    """50 at least: of few texts, none is dispensable."""
    rng = np.random.RandomState(0)
    p, codes = rng.uniform(0.5, 1, size=260), np.repeat([0, 1], [200, 60])
    p[:20] = 0  # of class 0, so that 180 are classified correctly
    rows = np.array(chosen(p, codes, [300, 300], quotable=quotable))
    for code, n_correct in ((0, 180), (1, 60)):
        members = np.flatnonzero(codes == code)
        n_quoted = max(50, round(n_correct * quotable))
        expected = members[p[members].argsort()[-n_quoted:]]
        assert rows[codes[rows] == code].tolist() == sorted(expected)


def test_a_class_that_is_never_predicted_has_one_text():
    assert chosen([0.9, 0.8, 0.0, 0.0, 0.0], [0, 0, 1, 1, 1], [5, 5]) == [0, 1, 2]


def test_more_texts_are_quoted_where_the_user_asks_for_more():
    """First the confident ones, then those that are misclassified."""
    p, codes = [0.6, 0.0, 0.9, 0.0, 0.7], [0, 0, 0, 0, 1]
    assert chosen(p, codes, [3, 1], prune=False) == [0, 1, 2, 4]
    assert chosen(p, codes, [1, 1], prune=False) == [2, 4]
    assert chosen(p, codes, [3, 1]) == [0, 2, 4]


def test_a_text_is_quoted_once_and_texts_of_two_classes_are_not_quoted():
    ids = [0, 1, 0, 2, 3, 2]  # rows 0 and 2 are one text, and so are 3 and 5
    codes = [0, 0, 0, 0, 1, 1]
    p = [0.9, 0.8, 0.9, 0.99, 0.7, 0.8]
    assert chosen(p, codes, [2, 1], prune=False, text_ids=ids) == [0, 1, 4]


TOPICS = np.array([0, 0, 1, 0, 1, 0, 2, 2])


def test_quoted_texts_stand_for_the_topics_of_the_frozen_encoder():
    pretrained = np.eye(3)[TOPICS] + 0.01 * np.random.RandomState(0).normal(size=(8, 3))
    rows = chosen(
        np.ones(8), [0] * 6 + [1] * 2, [2, 1], prune=False, pretrained=pretrained
    )
    assert sorted(TOPICS[rows]) == [0, 1, 2]


@pytest.mark.parametrize(("weight", "topic"), [(1.0, 0), (5.0, 1)])
def test_weights_change_which_topic_is_quoted(weight, topic):
    weights = np.where(TOPICS == 1, weight, 1.0)
    first, _ = chosen(
        np.ones(8),
        [0] * 6 + [1] * 2,
        [1, 1],
        prune=False,
        pretrained=np.eye(3)[TOPICS],
        weights=weights,
    )
    assert TOPICS[first] == topic


def test_weights_of_copies_are_added():
    """The copies of the text of topic 1 are five rows of weight 1."""
    topics = np.array([0, 0, 0, 1, 1, 1, 1, 1, 2])
    ids = [0, 1, 2, 3, 3, 3, 3, 3, 4]
    rows = chosen(
        np.ones(9),
        [0] * 8 + [1],
        [1, 1],
        prune=False,
        quotable=1.0,
        pretrained=np.eye(3)[topics],
        text_ids=ids,
    )
    assert rows == [3, 8]


# The metric in which texts are compared.

N, H, P = 60, 4, 7


@pytest.fixture
def spaces():
    """Return learned and pretrained vectors that are related, of any lengths."""
    learned = normal(N, H)
    pretrained = learned @ normal(H, P, seed=1) + 0.5 * normal(N, P, seed=2)
    return learned, pretrained


def metric_of(spaces, reading_weight, weights=None):
    weights = np.ones(len(spaces[0])) if weights is None else np.asarray(weights)
    return reading_metric(*spaces, weights, reading_weight)


def regression(learned, pretrained):
    """Return the ridge regression W from learned to pretrained unit vectors, (P, H)."""
    ridge = Ridge(alpha=0.1, fit_intercept=False)
    return torch.from_numpy(
        ridge.fit(F.normalize(learned, dim=1), F.normalize(pretrained, dim=1)).coef_
    )


@pytest.mark.parametrize("weight", [0.0, 0.4, 3.0])
def test_the_metric_weights_what_the_frozen_encoder_sees(spaces, weight):
    A, W = metric_of(spaces, weight), regression(*spaces)
    assert A.shape == (H, H)
    gram = torch.eye(H) + weight * W.T @ W
    torch.testing.assert_close(A.T @ A, gram, rtol=1e-9, atol=1e-9)


def test_of_weight_0_the_metric_is_the_identity(spaces):
    A = metric_of(spaces, 0.0)
    torch.testing.assert_close(A, torch.eye(H, dtype=torch.float64))


def test_cosines_are_those_of_learned_vectors_joined_with_their_regression(spaces):
    A, W = metric_of(spaces, 0.4), regression(*spaces)
    s = normal(9, H, seed=3)  # of further texts
    joined = torch.cat([s, math.sqrt(0.4) * s @ W.T], dim=1)
    cosines = (
        F.normalize(x, dim=1) @ F.normalize(x, dim=1).T for x in (s @ A.T, joined)
    )
    torch.testing.assert_close(*cosines, rtol=1e-9, atol=1e-9)


def test_lengths_of_vectors_do_not_change_the_metric(spaces):
    expected = metric_of(spaces, 0.4)
    lengths = normal(N, 1, seed=4).abs() + 0.1
    metric = metric_of((lengths * spaces[0], spaces[1] / lengths), 0.4)
    torch.testing.assert_close(metric, expected)


def test_a_text_of_weight_3_counts_as_three_copies(spaces):
    weights = np.arange(N) % 3 + 1
    expected = metric_of(
        [space[np.repeat(np.arange(N), weights)] for space in spaces], 0.4
    )
    torch.testing.assert_close(metric_of(spaces, 0.4, weights), expected)
    assert not torch.allclose(metric_of(spaces, 0.4), expected)


def test_weights_of_texts_sum_to_the_number_of_distinct_ones():
    """Weighted texts, and as many copies of each, are then the same training data."""
    data = make_data(torch.zeros(3, 2), [0, 0, 1], weights=[1.5, 0.5, 1.0])
    assert weights_of_texts(data).tolist() == [1.5, 0.5, 1.0]
    ids = [0, 0, 0, 1, 2, 2]
    data = make_data(torch.zeros(6, 2), [0, 0, 0, 0, 1, 1], text_ids=ids)
    assert weights_of_texts(data).tolist() == [0.5] * 6


def test_texts_of_one_topic_are_nearer_under_the_metric():
    """The learned space shows hardly more than the class."""
    topics = torch.arange(N) % 2
    learned = torch.tensor([1.0, 0.0]).repeat(N, 1)
    learned[:, 1] = 0.1 * (2 * topics - 1) + 0.02 * normal(N)
    A = metric_of((learned, torch.eye(2)[topics]), 0.4)

    def contrast(vectors):
        cosines = F.normalize(vectors, dim=1) @ F.normalize(vectors, dim=1).T
        is_same = topics[:, None] == topics
        return float(cosines[is_same].mean() - cosines[~is_same].mean())

    assert contrast(learned.double() @ A.T) > 5 * contrast(learned)


# The projection of a mixture.

CODES = np.arange(N) % 3 % 2  # two thirds are of class 0
CONFIG = {
    "prototype_counts": (1, 1),
    "quoted_counts": (12, 6),
    "quotable": 0.5,
    "reading_weight": 0.4,
    "recalibrate": False,
}


@pytest.fixture
def vectors():
    """Return learned vectors around one direction per class."""
    return (torch.eye(H)[CODES] + 0.3 * normal(N, H, seed=5)).float()


@pytest.fixture
def layer():
    layer = make_mixture(torch.eye(H)[:2], torch.tensor([0, 1]), 2, 30.0)
    with torch.no_grad():
        layer.prior_logits.copy_(torch.tensor([0.5, -0.5]))
        layer.readout.bias.copy_(torch.tensor([0.3, -0.3]))
    return layer.requires_grad_(False)


def project(layer, vectors, *, read=None, codes=CODES, **fields):
    """Return the projected layer, the rows of its texts, and the data."""
    config = make_config(**{**CONFIG, **fields})
    data = make_data(vectors, codes, pretrained=normal(len(codes), P, seed=6))
    read = read or vectors.__getitem__
    return *PROJECTIONS["mixture"](layer, data, config, vectors, read), data


def test_prototypes_are_the_quoted_texts_under_the_metric(layer, vectors):
    projected, rows, data = project(layer, vectors)
    confidence = layer.readout.confidence(
        layer.outputs_of(vectors), torch.from_numpy(CODES)
    )
    expected = choose_texts(data, make_config(**CONFIG), confidence)
    assert rows.tolist() == expected.tolist()
    assert np.bincount(CODES[rows]).tolist() == [12, 6]
    A = metric_of((vectors, data.pretrained), 0.4)
    torch.testing.assert_close(projected.metric, A.float())
    torch.testing.assert_close(projected.vectors, vectors[rows] @ A.float().T)
    assert projected.values.tolist() == CODES[rows].tolist()
    torch.testing.assert_close(
        projected.cosines(vectors[rows]).diagonal(), torch.ones(18)
    )
    assert {p.dtype for p in projected.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in projected.parameters())


def test_priors_are_equal_inside_a_class(layer, vectors):
    projected, _, _ = project(layer, vectors)
    expected = [1 / 12] * 12 + [1 / 6] * 6
    assert projected.describe()["priors"].tolist() == pytest.approx(expected)


def test_prototypes_are_what_predictions_read(layer, vectors):
    """Training in bfloat16 reads other vectors."""
    learned, rows, _ = project(layer, vectors)
    read, again, _ = project(layer, vectors, read=lambda rows: 2 - vectors[rows])
    assert rows.tolist() == again.tolist()
    torch.testing.assert_close(read.metric, learned.metric)
    torch.testing.assert_close(read.vectors, (2 - vectors[rows]) @ learned.metric.T)


def test_the_learned_layer_stays_unchanged(layer, vectors):
    before = copy.deepcopy(layer.state_dict())
    project(layer, vectors, recalibrate=True)
    for name, tensor in layer.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert layer.sharpness == layer.readout.sharpness == 30


@pytest.mark.parametrize("prune", [True, False])
def test_texts_that_the_model_cannot_tell_apart_are_pruned(layer, vectors, prune):
    vectors[3::6] = vectors[0]  # of class 0
    projected, rows, _ = project(
        layer, vectors, prune=prune, quoted_counts=(N, N), reading_weight=0.0
    )
    near = np.isin(rows, [0, *range(3, N, 6)])
    assert near.sum() == (1 if prune else 11)
    assert len(projected.values) == len(projected.vectors) == len(rows)
    torch.testing.assert_close(projected.vectors, vectors[rows])


def test_equal_texts_of_two_classes_are_both_kept(layer, vectors):
    """Each class has such a text, whatever the other one quotes."""
    vectors[:] = torch.tensor([1.0, 1, 0, 0])
    _, rows, _ = project(layer, vectors, prune=True)
    assert CODES[rows].tolist() == [0, 1]


def test_the_sharpness_that_the_user_sets_is_kept(layer, vectors):
    projected, _, _ = project(layer, vectors, quoted_sharpness=12.0)
    assert projected.sharpness == projected.readout.sharpness == 12
    assert projected.options()["readout"]["sharpness"] == 12


def test_the_automatic_sharpness_is_higher_than_the_learned_one(layer, vectors):
    projected, _, _ = project(layer, vectors, quoted_sharpness=None)
    assert projected.sharpness == projected.readout.sharpness
    assert 30 < projected.sharpness < 3000


def test_recalibration_changes_the_biases_alone(layer, vectors):
    without, _, _ = project(layer, vectors)
    assert torch.equal(without.readout.bias, layer.readout.bias)
    after, _, _ = project(layer, vectors, recalibrate=True)
    changed = [
        name
        for name, tensor in after.state_dict().items()
        if not torch.equal(tensor, without.state_dict()[name])
    ]
    assert changed == ["readout.bias"]


def test_recalibration_brings_the_outputs_closer_to_the_learned_ones(layer, vectors):
    expected = layer.outputs_of(vectors).log_softmax(dim=1)
    distances = []
    for recalibrate in (False, True):
        projected, rows, _ = project(layer, vectors, recalibrate=recalibrate)
        others = np.setdiff1d(np.arange(N), rows)
        outputs = projected.outputs_of(vectors[others]).log_softmax(dim=1)
        gaps = F.kl_div(outputs, expected[others], log_target=True, reduction="sum")
        distances.append(float(gaps))
    assert distances[1] < 0.9 * distances[0]


# The projection of proto-lm, and nearest texts.


def test_published_prototypes_move_to_their_nearest_texts():
    vectors = torch.tensor([[0.0, 0], [4, 0], [0, 3], [9, 9], [5, 5]])
    layer = InverseDistanceLayer(
        torch.tensor([[0.0, 4], [3, 1], [8, 9]]), torch.tensor([0, 0, 1]), n_classes=2
    )
    with torch.no_grad():
        layer.weights.copy_(normal(2, 3))
    layer.requires_grad_(False)
    config = make_config(prototype_counts=(2, 1))
    data = make_data(vectors, [0, 0, 0, 1, 1])
    project = PROJECTIONS["proto-lm"]
    projected, rows = project(layer, data, config, vectors, lambda r: vectors[r] + 0.5)
    assert rows.tolist() == [2, 1, 3]
    assert torch.equal(projected.vectors, vectors[rows] + 0.5)
    assert projected.values.tolist() == [0, 0, 1]
    assert torch.equal(projected.weights, layer.weights)
    assert torch.equal(projected.bias, layer.bias)


def test_the_nearest_texts_of_a_mixture_are_those_of_the_highest_cosine():
    vectors = torch.tensor([[9.0, 0], [0.1, 0.1], [0, 5], [-1, 0], [-3, 1]])
    prototypes = torch.tensor([[0.2, 7.0], [1, 1], [-2, 0]])
    layer = make_mixture(prototypes, torch.tensor([0, 0, 1]), 2).requires_grad_(False)
    data = make_data(vectors, [0, 0, 0, 1, 1])
    config = make_config(prototype_counts=(2, 1))
    assert nearest_texts(layer, data, config, vectors).tolist() == [2, 1, 3]


def test_strata_of_learned_prototypes_are_those_of_their_counts():
    config = make_config(prototype_counts=(3, 1, 2))
    assert prototype_strata(config).tolist() == [0, 0, 0, 1, 2, 2]


# Assignment.


def least_total(prototypes, strata, vectors, candidates):
    """Return the least total of squared distances, by trying every assignment."""
    total = 0.0
    for stratum in set(strata.tolist()):
        members = [p for p, c in zip(prototypes, strata, strict=True) if c == stratum]
        rows = candidates.rows[candidates.strata == stratum]
        total += min(
            sum(
                math.dist(p, vectors[r]) ** 2
                for p, r in zip(members, chosen, strict=True)
            )
            for chosen in permutations(rows, len(members))
        )
    return total


@pytest.mark.parametrize("seed", range(25))
def test_the_assignment_is_one_to_one_and_optimal(seed):
    rng = np.random.RandomState(seed)
    # Rows 6 to 8 repeat rows 0 to 2, and rows 9 and 10 are one text of two classes.
    texts = [*"abcdef", *"abc", *"gg", *"hijk"]
    codes = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 1, 0, 1, 0, 1])
    by_text = {text: rng.normal(size=3) for text in dict.fromkeys(texts)}
    vectors = np.array([by_text[text] for text in texts])
    candidates = find_candidates(texts, codes)
    strata = rng.permutation([0] * rng.randint(1, 6) + [1] * rng.randint(1, 6))
    # All near one point, so that they compete for its texts.
    prototypes = 0.3 * rng.normal(size=(len(strata), 3))

    assigned = assign(prototypes, strata, vectors, candidates)

    assert codes[assigned].tolist() == strata.tolist()
    assert len({texts[row] for row in assigned}) == len(strata)
    assert "g" not in {texts[row] for row in assigned}
    assert set(assigned.tolist()) <= set(candidates.rows.tolist())
    total = sum(
        math.dist(p, vectors[row]) ** 2
        for p, row in zip(prototypes, assigned, strict=True)
    )
    expected = least_total(prototypes, strata, vectors, candidates)
    assert total == pytest.approx(expected)


def test_two_equal_prototypes_get_two_texts():
    vectors = np.array([[0.0, 0], [1, 0], [5, 5]])
    candidates = find_candidates(["a", "b", "c"], np.zeros(3, dtype=np.int64))
    prototypes = np.array([[0.0, 0], [0, 0]])
    assigned = assign(prototypes, np.zeros(2, dtype=np.int64), vectors, candidates)
    assert sorted(assigned.tolist()) == [0, 1]


def test_as_many_prototypes_as_texts_use_all_texts():
    rng = np.random.RandomState(0)
    vectors = rng.normal(size=(6, 2))
    codes = np.array([0, 0, 0, 1, 1, 1])
    candidates = find_candidates(list("abcdef"), codes)
    assigned = assign(rng.normal(size=(6, 2)), codes, vectors, candidates)
    assert sorted(assigned.tolist()) == [0, 1, 2, 3, 4, 5]


def test_a_prototype_on_a_text_keeps_its_text():
    rng = np.random.RandomState(0)
    vectors = rng.normal(size=(50, 4))
    codes = np.arange(50) % 2
    candidates = find_candidates([str(i) for i in range(50)], codes)
    rows = np.array([7, 8, 30, 31, 41])
    assigned = assign(vectors[rows], codes[rows], vectors, candidates)
    assert assigned.tolist() == rows.tolist()
