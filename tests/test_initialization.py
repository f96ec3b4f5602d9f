"""Where prototypes start."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from skprotolm._training.initialization import (
    INITIALIZERS,
    cluster_centers,
    shrink_to_means,
)
from tests.helpers import make_config, make_data


def centers_of(vectors, codes, counts, *, weights=None, seed=0):
    vectors = np.asarray(vectors, dtype=np.float32)
    weights = np.ones(len(vectors)) if weights is None else np.asarray(weights)
    return cluster_centers(vectors, np.asarray(codes), weights, counts, seed)


def directions(*degrees):
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def degrees(vectors):
    return np.degrees(np.arctan2(vectors[:, 1], vectors[:, 0])) % 360


# Three clusters of class 0 and one of class 1, in any order.
ANGLES = [10, 200, 110, 12, 290, 112, 14, 202, 294, 114]
CODES = [0, 1, 0, 0, 0, 0, 0, 1, 0, 0]


# Cluster centers.


def test_centers_are_the_means_of_clusters_class_after_class():
    centers = centers_of(directions(*ANGLES), CODES, [3, 1])
    assert centers.shape == (4, 2)
    assert sorted(degrees(centers[:3])) == pytest.approx([12, 112, 292], abs=0.01)
    assert degrees(centers[3:]) == pytest.approx([201], abs=0.01)


def test_a_single_center_is_the_mean_of_the_unit_vectors():
    vectors = directions(*ANGLES) * np.arange(1, 11)[:, None]  # of any length
    centers = centers_of(vectors, CODES, [1, 1])
    for c in range(2):
        unit = [
            vector / np.linalg.norm(vector)
            for vector, code in zip(vectors, CODES, strict=True)
            if code == c
        ]
        np.testing.assert_allclose(centers[c], sum(unit) / len(unit), atol=1e-6)


def test_a_single_center_is_that_of_k_means():
    rng = np.random.RandomState(0)
    vectors, weights = rng.normal(size=(40, 8)), rng.uniform(0.1, 3, size=40)
    codes = np.arange(40) % 2
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for code, center in enumerate(centers_of(vectors, codes, [1, 1], weights=weights)):
        rows = codes == code
        kmeans = KMeans(1, n_init=1).fit(unit[rows], sample_weight=weights[rows])
        np.testing.assert_allclose(center, kmeans.cluster_centers_[0], atol=1e-6)


def test_threads_are_limited_once_for_all_classes(monkeypatch):
    """Per class, setting the limit took as long as k-means itself."""
    limits, original = [], threadpool_limits.__init__

    def counted(self, *args, **kwargs):
        limits.append(args)
        original(self, *args, **kwargs)

    monkeypatch.setattr(threadpool_limits, "__init__", counted)
    codes = np.repeat(np.arange(20), 3)
    centers_of(np.random.RandomState(0).normal(size=(60, 4)), codes, [2] * 20)
    assert len(limits) == 1


def test_weights_move_the_centers():
    vectors, weights = directions(0, 90, 180), [3.0, 1.0, 1.0]
    centers = centers_of(vectors, [0, 0, 1], [1, 1], weights=weights)
    np.testing.assert_allclose(centers[0], [0.75, 0.25], atol=1e-6)


def test_texts_of_other_classes_do_not_move_the_centers_of_a_class():
    expected = centers_of(directions(*ANGLES), CODES, [3, 1])
    moved = np.array(ANGLES)
    moved[[1, 7]] = [55, 57]  # the texts of class 1
    centers = centers_of(directions(*moved), CODES, [3, 1])
    np.testing.assert_array_equal(centers[:3], expected[:3])


def test_as_many_centers_as_texts_are_the_texts():
    centers = centers_of(directions(0, 80, 170, 250), [0, 0, 0, 1], [3, 1])
    assert sorted(degrees(centers[:3])) == pytest.approx([0, 80, 170], abs=0.01)


def test_texts_of_one_vector_have_coinciding_centers_without_a_warning():
    centers = centers_of(directions(30, 30, 30, 90), [0, 0, 0, 1], [3, 1])
    np.testing.assert_allclose(degrees(centers), [30, 30, 30, 90], atol=0.01)


def test_a_text_vector_of_length_zero_is_accepted():
    centers = centers_of([[0, 0], [1, 0], [0, 1]], [0, 0, 1], [2, 1])
    assert np.isfinite(centers).all()


def test_centers_depend_on_the_seed_and_not_on_numpys_generator():
    rng = np.random.RandomState(1)
    vectors, codes = rng.normal(size=(200, 8)), np.arange(200) % 2
    before = np.random.get_state()[1].copy()
    first, again, other = (
        centers_of(vectors, codes, [10, 10], seed=seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_centers_have_the_precision_of_the_vectors_which_stay_unchanged(dtype):
    vectors = directions(*ANGLES).astype(dtype) * 3
    before = vectors.copy()
    weights = np.ones(len(vectors))
    centers = cluster_centers(vectors, np.array(CODES), weights, [3, 1], 0)
    assert centers.dtype == dtype
    np.testing.assert_array_equal(vectors, before)


@pytest.mark.parametrize("spread", [0.1, 0.4, 1.0])
def test_centers_shrink_towards_the_mean_of_their_class(spread):
    centers = np.random.RandomState(0).normal(size=(6, 4))
    shrunk = shrink_to_means(centers, [3, 1, 2], spread)
    for rows in (range(3), range(3, 4), range(4, 6)):
        mean = sum(centers[row] for row in rows) / len(rows)
        for row in rows:
            np.testing.assert_allclose(
                shrunk[row], (1 - spread) * mean + spread * centers[row]
            )


# Layers.


@pytest.mark.parametrize("spread", [0.1, 1.0])
def test_a_mixture_starts_at_shrunk_centers_with_the_shares_of_classes(spread):
    vectors = directions(*ANGLES).astype(np.float32)
    weights = np.where(np.array(CODES) == 1, 4.0, 1.0)
    data = make_data(vectors, CODES, weights=weights)
    config = make_config(prototype_counts=(3, 1), spread=spread, sharpness=7.0)
    layer = INITIALIZERS["mixture"](data, config)
    centers = cluster_centers(vectors, np.array(CODES), weights, (3, 1), 0)
    expected = shrink_to_means(centers, (3, 1), spread)
    np.testing.assert_array_equal(layer.vectors.detach(), expected)
    assert layer.values.tolist() == [0, 0, 0, 1]
    assert layer.sharpness == layer.readout.sharpness == 7.0
    shares = layer.readout.bias.detach().exp()
    assert shares.tolist() == pytest.approx([0.5, 0.5])  # 8 texts, and 2 of weight 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_proto_lm_starts_at_standard_normal_points_of_torchs_generator(dtype):
    data = make_data(torch.zeros(4, 50, dtype=dtype), [1, 0, 0, 1])
    config = make_config(prototype_counts=(150, 50))
    with torch.random.fork_rng(devices=[]):
        layers = []
        for seed in (0, None, 0):
            if seed is not None:
                torch.manual_seed(seed)
            layers.append(INITIALIZERS["proto-lm"](data, config))
    first, other, again = (layer.vectors.detach() for layer in layers)
    assert first.shape == (200, 50)
    assert first.dtype == dtype
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert abs(float(first.mean())) < 0.05
    assert abs(float(first.std()) - 1) < 0.05
    assert layers[0].values.tolist() == [0] * 150 + [1] * 50
