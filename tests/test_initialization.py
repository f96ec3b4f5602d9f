"""Where prototypes start."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from skprotolm._network.prototypes import InverseDistanceLayer, MixtureLayer
from skprotolm._training import initialization as _initialization
from skprotolm._training.formulations import FORMULATIONS, Placement
from skprotolm._training.initialization import (
    automatic_counts,
    clearness,
    gathered,
    kmeans_start,
    normal_start,
)


def start(vectors, codes, counts, *, weights=None, seed=0):
    vectors = np.asarray(vectors, dtype=np.float32)
    weights = np.ones(len(vectors)) if weights is None else np.asarray(weights)
    return kmeans_start(vectors, np.asarray(codes), weights, counts, seed)


def directions(*degrees):
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def degrees(vectors):
    return np.degrees(np.arctan2(vectors[:, 1], vectors[:, 0])) % 360


# Three clusters of class 0 and one of class 1, in any order.
ANGLES = [10, 200, 110, 12, 290, 112, 14, 202, 294, 114]
CODES = [0, 1, 0, 0, 0, 0, 0, 1, 0, 0]


def test_centres_stand_class_after_class_in_the_middle_of_their_clusters():
    centres = start(directions(*ANGLES), CODES, [3, 1])
    assert centres.shape == (4, 2)
    assert sorted(degrees(centres[:3])) == pytest.approx([12, 112, 292], abs=0.01)
    assert degrees(centres[3:]) == pytest.approx([201], abs=0.01)


def test_one_centre_is_the_mean_of_the_unit_vectors():
    vectors = directions(*ANGLES) * np.arange(1, 11)[:, None]  # lengths mean nothing
    centres = start(vectors, CODES, [1, 1])
    for c in range(2):
        unit = [
            vector / np.linalg.norm(vector)
            for vector, code in zip(vectors, CODES, strict=True)
            if code == c
        ]
        np.testing.assert_allclose(centres[c], sum(unit) / len(unit), atol=1e-6)


def test_one_center_is_that_of_k_means():
    rng = np.random.RandomState(0)
    vectors, weights = rng.normal(size=(40, 8)), rng.uniform(0.1, 3, size=40)
    codes = np.arange(40) % 2
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for code, center in enumerate(start(vectors, codes, [1, 1], weights=weights)):
        rows = codes == code
        kmeans = KMeans(1, n_init=1).fit(unit[rows], sample_weight=weights[rows])
        np.testing.assert_allclose(center, kmeans.cluster_centers_[0], atol=1e-6)


def test_threads_are_limited_once_for_all_classes(monkeypatch):
    """The limit was set once per class, which took as long as k-means itself."""
    limits = []

    def counted(*args, **kwargs):
        limits.append(args)
        return threadpool_limits(*args, **kwargs)

    monkeypatch.setattr(_initialization, "threadpool_limits", counted)
    codes = np.repeat(np.arange(20), 3)
    start(np.random.RandomState(0).normal(size=(60, 4)), codes, [2] * 20)
    assert len(limits) == 1


def test_weights_move_the_centres():
    vectors, weights = directions(0, 90, 180), [3.0, 1.0, 1.0]
    centres = start(vectors, [0, 0, 1], [1, 1], weights=weights)
    np.testing.assert_allclose(centres[0], [0.75, 0.25], atol=1e-6)


def test_other_classes_have_no_part_in_a_start():
    one = start(directions(*ANGLES), CODES, [3, 1])
    moved = np.array(ANGLES)
    moved[[1, 7]] = [55, 57]  # the texts of class 1
    other = start(directions(*moved), CODES, [3, 1])
    np.testing.assert_array_equal(one[:3], other[:3])


def test_as_many_centres_as_texts_are_the_texts():
    vectors = directions(0, 80, 170, 250)
    centres = start(vectors, [0, 0, 0, 1], [3, 1])
    assert sorted(degrees(centres[:3])) == pytest.approx([0, 80, 170], abs=0.01)


def test_texts_of_one_vector_give_coinciding_centres_and_no_warning():
    centres = start(directions(30, 30, 30, 90), [0, 0, 0, 1], [3, 1])
    np.testing.assert_allclose(degrees(centres), [30, 30, 30, 90], atol=0.01)


def test_a_text_vector_of_length_zero_is_taken():
    centres = start([[0, 0], [1, 0], [0, 1]], [0, 0, 1], [2, 1])
    assert np.isfinite(centres).all()


def test_the_seed_decides_alone():
    rng = np.random.RandomState(1)
    vectors, codes = rng.normal(size=(200, 8)), np.arange(200) % 2
    before = np.random.get_state()[1].copy()
    first, again, other = (
        start(vectors, codes, [10, 10], seed=seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_vectors_keep_their_precision_and_stay_as_they_are(dtype):
    vectors = directions(*ANGLES).astype(dtype) * 3
    before = vectors.copy()
    weights = np.ones(len(vectors))
    centres = kmeans_start(vectors, np.array(CODES), weights, [3, 1], 0)
    assert centres.dtype == dtype
    np.testing.assert_array_equal(vectors, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_normal_start_is_standard_and_comes_from_torchs_generator(dtype):
    like = torch.zeros(3, 50, dtype=dtype)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first = normal_start(200, like)
        other = normal_start(200, like)
        torch.manual_seed(0)
        again = normal_start(200, like)
    assert first.shape == (200, 50)
    assert first.dtype == dtype
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert abs(float(first.mean())) < 0.05
    assert abs(float(first.std()) - 1) < 0.05


# --- How many prototypes are chosen.


@pytest.mark.parametrize(
    ("clear", "spread"), [(0.0, 0.1), (0.05, 0.1), (0.4, 0.4), (1.0, 1.0)]
)
def test_centres_of_a_class_gather_as_far_as_classes_are_unclear(clear, spread):
    centres = np.random.RandomState(0).normal(size=(6, 4))
    found = gathered(centres, [3, 1, 2], clear)
    for rows in (range(3), range(3, 4), range(4, 6)):
        mean = sum(centres[row] for row in rows) / len(rows)
        for row in rows:
            np.testing.assert_allclose(
                found[row], (1 - spread) * mean + spread * centres[row]
            )


# --- Before prototypes are put on texts.


def settled(prototypes, angles, codes, counts, **given):
    """Return where prototypes of a mixture settle among texts, all by their angles."""
    owner = np.repeat(np.arange(len(counts)), counts)
    vectors = torch.from_numpy(directions(*prototypes)).float()
    layer = MixtureLayer(vectors, torch.from_numpy(owner), len(counts), 30.0)
    learned = directions(*angles).astype(np.float32)
    place = Placement(
        learned,
        given.get("pretrained", learned),
        np.array(codes),
        np.array(given.get("weights", np.ones(len(codes)))),
        counts,
        clear=0.0,
        seed=0,
    )
    with torch.no_grad():
        scores = layer.score_all(torch.from_numpy(learned))
        return FORMULATIONS["mixture"].settle(layer, place, scores)


def test_prototypes_settle_in_clusters_each_in_the_one_nearest_to_it():
    angles, codes = [0, 10, 60, 70, 200, 210], [0, 0, 0, 0, 1, 1]
    for first, second in ((30, 40), (40, 30)):
        places, _ = settled([first, second, 180], angles, codes, [2, 1])
        expected = [5, 65, 205] if first < second else [65, 5, 205]
        found = degrees(places[:, :2])
        assert found == pytest.approx(expected, abs=0.1)


def test_texts_that_the_model_gives_another_class_draw_no_prototype():
    """Three texts of class 0 stand where the model has class 1."""
    angles = [0, 10, 60, 70, 178, 180, 182, 175, 185]
    codes = [0, 0, 0, 0, 0, 0, 0, 1, 1]
    places, _ = settled([30, 40, 180], angles, codes, [2, 1])
    found = degrees(places[:, :2])
    assert found == pytest.approx([5, 65, 180], abs=1)


def test_a_class_that_the_model_never_gives_settles_all_the_same():
    places, _ = settled([90, 180], [170, 190, 180], [0, 0, 1], [1, 1])
    assert degrees(places[:, :2]) == pytest.approx([180, 180], abs=1)


def test_weights_move_where_prototypes_settle():
    given = {"weights": [3.0, 1.0, 1.0]}
    places, _ = settled([5, 180], [0, 40, 180], [0, 0, 1], [1, 1], **given)
    assert degrees(places[:, :2])[0] == pytest.approx(10, abs=1)


def test_prototypes_settle_where_texts_are_alike_to_the_pretrained_encoder_too():
    """Inside a class the model tells subjects hardly, and clustered what it told."""
    angles, codes = [0, 1, 2, 0, 1, 2, 180, 181], [0] * 6 + [1] * 2
    subjects = np.array([0, 0, 0, 1, 1, 1, 0, 1])
    prototypes, texts = settled(
        [20, 340, 180], angles, codes, [2, 1], pretrained=np.eye(2)[subjects]
    )
    gaps = np.linalg.norm(prototypes[:2, None] - texts[None, :6], axis=2)
    assert sorted(subjects[gaps.argmin(axis=1)]) == [0, 1]
    # Where all have one subject, the model's kinds are what there is.
    angles = [0, 1, 80, 81, 0, 80, 180, 181]
    places, _ = settled(
        [20, 60, 180], angles, codes, [2, 1], pretrained=np.ones((8, 2))
    )
    found = degrees(places[:, :2])
    assert found[:2] == pytest.approx([1 / 3, 80 + 1 / 3], abs=0.01)


def test_learned_and_pretrained_vectors_vary_alike_inside_a_class():
    rng = np.random.RandomState(0)
    angles, pretrained = rng.uniform(0, 9, size=40), rng.normal(size=(40, 5))
    _, texts = settled([5, 5], angles, [0, 1] * 20, [1, 1], pretrained=pretrained)
    within = texts - np.stack([texts[i::2].mean(axis=0) for i in (0, 1)] * 20)
    learned, read = (within[:, :2] ** 2).sum(), (within[:, 2:] ** 2).sum()
    assert learned == pytest.approx(read, rel=1e-4)
    assert np.linalg.norm(texts, axis=1) == pytest.approx(1)


def test_prototypes_as_published_stay_where_they_are():
    layer = InverseDistanceLayer(torch.eye(2), torch.tensor([0, 1]), 2)
    vectors = 3 * np.eye(2)[::-1]
    place = Placement(vectors, vectors, np.arange(2), np.ones(2), [1, 1], 0.0, 0)
    with torch.no_grad():
        scores = layer.score_all(torch.from_numpy(vectors).float())
        prototypes, texts = FORMULATIONS["proto-lm"].settle(layer, place, scores)
    np.testing.assert_array_equal(prototypes, np.eye(2))
    np.testing.assert_array_equal(texts, vectors)
    torch.testing.assert_close(layer.vectors.detach(), torch.eye(2))


# --- How many.


def spread(n, n_classes, noise, seed=0):
    """Texts around one direction a class, and their classes."""
    rng = np.random.RandomState(seed)
    codes = np.arange(n) % n_classes
    return np.eye(n_classes)[codes] + noise * rng.normal(size=(n, n_classes)), codes


def test_clearness_is_one_where_neighbours_tell_the_class():
    assert clearness(*spread(60, 3, 0.01), seed=0) == 1


def test_clearness_is_about_nothing_where_they_do_not():
    rng = np.random.RandomState(0)
    vectors = rng.normal(size=(2000, 5))
    for codes in (rng.randint(2, size=2000), rng.rand(2000) < 0.1):
        assert clearness(vectors, codes.astype(int), seed=0) < 0.03


@pytest.mark.parametrize("sizes", [(4, 2, 1), (30, 12, 5), (40, 40, 40)])
def test_clearness_is_that_of_plain_loops(sizes):
    codes = np.repeat([0, 1, 2], sizes)
    n = len(codes)
    vectors = np.eye(3)[codes] + 0.7 * np.random.RandomState(0).normal(size=(n, 3))
    unit = [v / np.linalg.norm(v) for v in vectors]
    agree, chance = [], []
    for i in range(n):
        others = [j for j in range(n) if j != i]
        mates = sum(codes[j] == codes[i] for j in others)
        if mates:
            near = sorted(others, key=lambda j: -unit[i] @ unit[j])[: min(10, mates)]
            agree.append(np.mean([codes[j] == codes[i] for j in near]))
            chance.append(mates / len(others))
    expected = (np.mean(agree) - np.mean(chance)) / (1 - np.mean(chance))
    assert 0 < expected < 1
    assert clearness(vectors, codes, seed=0) == pytest.approx(expected)


def test_few_texts_that_their_neighbours_tell_are_clear():
    """Ten neighbours were asked where a class had eight texts: .4 at most."""
    assert clearness(*spread(16, 2, 0.01), seed=0) == 1
    assert clearness(np.eye(3), np.arange(3), seed=0) == 0


@pytest.mark.parametrize(
    ("n_classes", "noise", "expected"),
    [(2, 9.0, 8), (3, 9.0, 5), (4, 9.0, 4), (6, 9.0, 3), (2, 0.01, 10), (6, 0.01, 10)],
)
def test_fewer_prototypes_where_classes_are_many_or_unclear(n_classes, noise, expected):
    vectors, codes = spread(600, n_classes, noise)
    clear = clearness(vectors, codes, seed=0)
    counts = automatic_counts([99] * n_classes, codes, clear)
    assert counts == [expected] * n_classes


def test_few_texts_of_an_unclear_class_have_few_prototypes():
    codes = np.repeat([0, 1, 2], [4, 25, 400])
    assert automatic_counts([4, 10, 10], codes, clear=0.0) == [2, 3, 5]
    assert automatic_counts([4, 10, 10], codes, clear=0.4) == [4, 4, 5]


def test_automatic_counts_keep_to_the_most_that_can_be_had():
    codes = np.repeat([0, 1], 99)
    assert automatic_counts([1, 99], codes, 0.0) == [1, 8]


def test_two_texts_are_enough_to_count():
    codes = np.array([0, 1])
    clear = clearness(np.eye(2), codes, seed=0)
    assert automatic_counts([1, 1], codes, clear) == [1, 1]
