"""Every prototype moves to a distinct text of its class; unused ones are pruned."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch

from skprotolm._network.proto_lm import InverseDistanceLayer
from skprotolm._training.neighborhoods import count_usage
from skprotolm._training.projection import (
    PROJECTION_TARGETS,
    assign,
    join_spaces,
    prototype_strata,
    prune,
)
from skprotolm._training.splits import find_candidates
from tests.helpers import make_config, make_data, make_mixture

# Targets of the projection, on the unit circle.


def directions(*degrees):
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def degrees(vectors):
    return np.degrees(np.arctan2(vectors[:, 1], vectors[:, 0])) % 360


def mixture_targets(
    prototypes, angles, codes, counts, *, pretrained=None, weights=None, **fields
):
    """Return projection targets of a mixture layer, and texts, all from angles."""
    config = make_config(prototype_counts=tuple(counts), **fields)
    values = torch.from_numpy(prototype_strata(config))
    vectors = torch.from_numpy(directions(*prototypes)).float()
    layer = make_mixture(vectors, values, len(counts), 30.0).requires_grad_(False)
    learned = torch.from_numpy(directions(*angles)).float()
    data = make_data(learned, codes, weights=weights, pretrained=pretrained)
    outputs = layer.outputs_of(learned)
    targets = PROJECTION_TARGETS["mixture"]
    return targets(layer, data, config, learned, outputs)


@pytest.mark.parametrize(
    ("first", "second", "expected"), [(30, 40, [5, 65, 205]), (40, 30, [65, 5, 205])]
)
def test_targets_are_cluster_centers_each_matched_to_the_nearest_prototype(
    first, second, expected
):
    angles, codes = [0, 10, 60, 70, 200, 210], [0, 0, 0, 0, 1, 1]
    targets, _ = mixture_targets([first, second, 180], angles, codes, [2, 1])
    assert degrees(targets[:, :2]) == pytest.approx(expected, abs=0.1)


def test_misclassified_texts_do_not_attract_a_prototype():
    """Three texts of class 0 lie where the model predicts class 1."""
    angles = [0, 10, 60, 70, 178, 180, 182, 175, 185]
    codes = [0, 0, 0, 0, 0, 0, 0, 1, 1]
    targets, _ = mixture_targets([30, 40, 180], angles, codes, [2, 1])
    assert degrees(targets[:, :2]) == pytest.approx([5, 65, 180], abs=1)


def test_a_class_that_is_never_predicted_has_targets_too():
    targets, _ = mixture_targets([90, 180], [170, 190, 180], [0, 0, 1], [1, 1])
    assert degrees(targets[:, :2]) == pytest.approx([180, 180], abs=1)


def test_weights_move_the_targets():
    targets, _ = mixture_targets(
        [5, 180], [0, 40, 180], [0, 0, 1], [1, 1], weights=[3.0, 1.0, 1.0]
    )
    assert degrees(targets[:, :2])[0] == pytest.approx(10, abs=1)


TOPICS = np.array([0, 0, 0, 1, 1, 1, 0, 1])


def test_clusters_are_formed_in_the_pretrained_space_too():
    """Inside a class the model does not separate topics."""
    angles, codes = [0, 1, 2, 0, 1, 2, 180, 181], [0] * 6 + [1] * 2
    targets, texts = mixture_targets(
        [20, 340, 180], angles, codes, [2, 1], pretrained=np.eye(2)[TOPICS]
    )
    gaps = np.linalg.norm(targets[:2, None] - texts[None, :6], axis=2)
    assert sorted(TOPICS[gaps.argmin(axis=1)]) == [0, 1]


def test_clusters_of_texts_of_one_topic_are_those_of_the_learned_space():
    angles, codes = [0, 1, 80, 81, 0, 80, 180, 181], [0] * 6 + [1] * 2
    targets, _ = mixture_targets(
        [20, 60, 180], angles, codes, [2, 1], pretrained=np.ones((8, 2))
    )
    expected = [1 / 3, 80 + 1 / 3]
    assert degrees(targets[:2, :2]) == pytest.approx(expected, abs=0.01)


def test_clusters_may_be_formed_in_the_learned_space_alone():
    angles, codes = [0, 2, 9, 0, 2, 9, 180, 181], [0] * 6 + [1] * 2
    targets, texts = mixture_targets(
        [0, 9, 180],
        angles,
        codes,
        [2, 1],
        pretrained=np.eye(2)[TOPICS],
        cluster_in_pretrained_space=False,
    )
    assert degrees(targets) == pytest.approx([1, 9, 180.5], abs=0.01)
    np.testing.assert_allclose(texts, directions(*angles), atol=1e-6)


def test_without_clusters_targets_are_the_learned_positions():
    targets, texts = mixture_targets(
        [30, 180], [0, 60, 180], [0, 0, 1], [1, 1], cluster_before_projection=False
    )
    assert degrees(targets) == pytest.approx([30, 180], abs=1e-4)
    np.testing.assert_allclose(texts, directions(0, 60, 180), atol=1e-6)


def test_learned_and_pretrained_vectors_vary_equally_inside_a_class():
    rng = np.random.RandomState(0)
    learned, pretrained = (
        directions(*rng.uniform(0, 9, size=40)),
        rng.normal(size=(40, 5)),
    )
    texts = join_spaces(learned, pretrained, np.arange(40) % 2)
    means = np.stack([texts[i::2].mean(axis=0) for i in (0, 1)] * 20)
    scatter = ((texts - means) ** 2).sum(axis=0)
    assert scatter[:2].sum() == pytest.approx(scatter[2:].sum(), rel=1e-4)
    assert np.linalg.norm(texts, axis=1) == pytest.approx(1)


def test_targets_of_proto_lm_are_the_learned_positions():
    vectors = torch.from_numpy(3 * np.eye(2)[::-1].copy()).float()
    layer = InverseDistanceLayer(torch.eye(2), torch.tensor([0, 1]), n_classes=2)
    layer.requires_grad_(False)
    config, data = make_config(prototype_counts=(1, 1)), make_data(vectors, [0, 1])
    outputs = layer.outputs_of(vectors)
    targets, texts = PROJECTION_TARGETS["proto-lm"](
        layer, data, config, vectors, outputs
    )
    np.testing.assert_array_equal(targets, np.eye(2))
    np.testing.assert_array_equal(texts, vectors)
    assert torch.equal(layer.vectors, torch.eye(2))


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


# Pruning.


def prune_of(vectors, codes, assigned):
    vectors, codes = np.array(vectors, dtype=float), np.array(codes)
    candidates = find_candidates(range(len(codes)), codes)
    return prune(np.array(assigned), vectors, codes, candidates).tolist()


def test_an_unused_prototype_is_pruned():
    vectors = [[1, 0], [1, 0.1], [0.7, 0.7], [0, 1], [0.1, 1], [-1, 0], [-1, 0.1]]
    codes = [0, 0, 0, 0, 0, 1, 1]
    # Texts 1 and 4 are nearest to 0 and 3; only text 2 itself is nearest to 2.
    assert prune_of(vectors, codes, [0, 2, 3, 5]) == [0, 2, 3]


def test_the_more_used_of_two_near_duplicates_is_kept():
    near = [[1, 0], [1, 0.02], [1, 0.03], [1, 0.04], [1, -0.01]]
    vectors = [*near, [0, 1], [0.1, 1], [-1, 0], [-1, 0.1]]
    codes = [0] * 7 + [1, 1]
    # Texts 2 and 3 are nearest to prototype 1, and text 4 to prototype 0.
    assert prune_of(vectors, codes, [0, 1, 5, 7]) == [1, 2, 3]


def test_near_duplicates_of_different_classes_are_kept():
    vectors = [[1, 0], [1, 0.01], [1, 0.001], [1, 0.011]]
    assert prune_of(vectors, [0, 1, 0, 1], [0, 1]) == [0, 1]


@pytest.mark.parametrize(
    ("vectors", "codes", "assigned", "kept"),
    [
        ([[1, 0], [0, 1], [-1, 0], [0, -1]], [0, 0, 1, 1], [0, 1, 2, 3], [0, 2]),
        ([[1, 0], [0, 1]], [0, 1], [0, 1], [0, 1]),
        (np.zeros((4, 2)), [0, 0, 1, 1], [0, 1, 2, 3], [0, 2]),
    ],
)
def test_the_last_prototype_of_a_class_is_kept(vectors, codes, assigned, kept):
    assert prune_of(vectors, codes, assigned) == kept


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("n", "n_prototypes"), [(10, 5), (40, 5), (200, 8)])
def test_kept_prototypes_are_used_and_differ(seed, n, n_prototypes):
    rng = np.random.RandomState(seed)
    codes = np.arange(n) % 2
    vectors = rng.normal(size=(n, 3)) + 2 * codes[:, None]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assigned = np.concatenate(
        [np.flatnonzero(codes == c)[:n_prototypes] for c in (0, 1)]
    )
    rows = assigned[prune_of(vectors, codes, assigned)]
    assert set(codes[rows]) == {0, 1}
    usage = count_usage(rows, vectors, np.arange(n))
    for j, row in enumerate(rows):
        mates = [r for r in rows if codes[r] == codes[row] and r != row]
        assert usage[j] > 0 or not mates
        cosines = [vectors[m] @ vectors[row] for m in mates]
        assert max(cosines, default=0) <= 0.9
    assert 2 <= len(rows) < len(assigned)
