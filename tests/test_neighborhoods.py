"""Purity, usage, label agreement and coinciding prototypes, against plain loops."""

import math

import numpy as np
import pytest

from skprotolm._training.neighborhoods import (
    coincident,
    count_usage,
    distinct_ids,
    label_agreement,
    measure_purity,
    nearest_prototypes,
)


def test_distinct_values_are_numbered_in_their_order():
    assert distinct_ids(["b", "a", "b", ("a",), "a"]).tolist() == [0, 1, 0, 2, 1]


# Purity and usage.


def neighborhoods_by_hand(assigned, texts, vectors, codes):
    purity, usage = [], [0] * len(assigned)
    for row in assigned:
        class_texts = {t for t, c in zip(texts, codes, strict=True) if c == codes[row]}
        k = min(10, len(class_texts) - 1)
        others = [i for i in range(len(texts)) if texts[i] != texts[row]]
        others.sort(key=lambda i: math.dist(vectors[i], vectors[row]))
        same = [codes[i] == codes[row] for i in others[:k]]
        purity.append(sum(same) / k if k else np.nan)
    for i, vector in enumerate(vectors):
        distances = [math.dist(vector, vectors[row]) for row in assigned]
        nearest = distances.index(min(distances))
        usage[nearest] += texts[i] != texts[assigned[nearest]]
    return purity, usage


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("n", "n_classes", "n_prototypes"),
    [(9, 2, 5), (40, 3, 5), (120, 2, 5), (400, 3, 300)],  # more than fit in a chunk
)
def test_purity_and_usage_are_those_of_plain_loops(n, n_classes, n_prototypes, seed):
    rng = np.random.RandomState(seed)
    texts = [str(t) for t in rng.permutation(n)]
    texts[-1] = texts[0]  # one text in two rows
    codes = np.arange(n) % n_classes
    codes[-1] = codes[0]
    vectors = rng.normal(size=(n, 3)) + codes[:, None]
    vectors[-1] = vectors[0]
    ids = distinct_ids(texts)
    assigned = rng.choice(n - 1, size=n_prototypes, replace=False)
    assigned[0] = 0 if 0 not in assigned[1:] else assigned[0]
    purity, usage = neighborhoods_by_hand(assigned, texts, vectors, codes)
    np.testing.assert_allclose(measure_purity(assigned, vectors, codes, ids), purity)
    nearest = nearest_prototypes(assigned, vectors)
    assert count_usage(assigned, nearest, ids).tolist() == usage


@pytest.mark.parametrize(
    ("codes", "assigned", "expected"),
    [
        # The class of ten has nine other texts, so that nine neighbors count.
        ([0] * 10 + [1] * 10, [0, 19], [1.0, 1.0]),
        # Ten neighbors count at most: rows 1 to 10, two of another class.
        ([0] * 8 + [1, 1] + [0] * 4 + [1] * 6, [0], [0.8]),
    ],
)
def test_purity_counts_at_most_ten_neighbors(codes, assigned, expected):
    vectors = np.arange(20.0)[:, None]
    purity = measure_purity(np.array(assigned), vectors, np.array(codes), np.arange(20))
    assert purity.tolist() == expected


def test_purity_is_exact_where_texts_hardly_differ():
    """Squared distances of 1e-10 are lost beside lengths of 1 in float32."""
    angles = 1e-5 * np.array([0, 1, 3, 4, 8, 9], dtype=np.float32)
    vectors = np.stack([np.ones(6, dtype=np.float32), angles], axis=1)
    codes = np.array([0, 1, 1, 1, 0, 0])
    purity = measure_purity(np.arange(6), vectors, codes, np.arange(6))
    assert purity.tolist() == [0, 0.5, 1, 1, 0.5, 0.5]


def test_a_class_of_one_text_has_no_purity():
    vectors, codes = np.array([[0.0], [3], [4]]), np.array([0, 1, 1])
    purity = measure_purity(np.array([0, 1]), vectors, codes, np.arange(3))
    assert np.isnan(purity[0])
    assert purity[1] == 1.0  # by one neighbor


def test_further_rows_of_a_prototypes_text_count_neither_as_usage_nor_as_neighbors():
    vectors = np.array([[0.0], [0], [0.1], [5], [5.1]])
    codes, ids = np.array([0, 0, 0, 1, 1]), distinct_ids(["a", "a", "b", "c", "d"])
    assigned = np.array([0, 3])
    nearest = nearest_prototypes(assigned, vectors)
    assert count_usage(assigned, nearest, ids).tolist() == [1, 1]
    assert measure_purity(assigned, vectors, codes, ids).tolist() == [1.0, 1.0]


def test_every_text_counts_for_one_prototype_in_large_data():
    rng = np.random.RandomState(0)
    n = 20_000  # more than are compared at once
    assigned = np.array([3, 4, 10_001, 19_998])
    nearest = nearest_prototypes(assigned, rng.normal(size=(n, 2)))
    usage = count_usage(assigned, nearest, np.arange(n))
    assert usage.sum() == n - len(assigned)


# Prototypes that nearly coincide.


def test_a_prototype_coincides_with_an_earlier_one_of_its_class_near_by():
    vectors = np.array([[1, 0], [1, 0.05], [1, 0.3], [1, 0.01], [1, 0]])
    strata = np.array([0, 0, 0, 0, 1])
    expected = [False, True, False, True, False]
    assert coincident(vectors, strata).tolist() == expected


def test_prototypes_in_a_chain_coincide_only_with_those_that_do_not():
    """Pruning left one of 35 texts of which each was near only the one before it."""
    angles = 0.09 * np.arange(35)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    repeated = coincident(vectors, np.zeros(35, dtype=int))
    assert repeated.tolist() == 17 * [False, True] + [False]


def test_equal_prototypes_all_coincide_with_the_first():
    vectors = np.ones((4, 2))
    repeated = coincident(vectors, np.array([1, 0, 1, 1]))
    assert repeated.tolist() == [False, False, True, True]


def test_prototypes_of_one_direction_do_not_coincide():
    """proto-lm compares distances and not cosines."""
    vectors = np.array([[1.0, 0.0], [3.0, 0.0], [3.1, 0.0]])
    repeated = coincident(vectors, np.zeros(3, dtype=int))
    assert repeated.tolist() == [False, False, True]


def test_coincidence_does_not_depend_on_the_scale():
    rng = np.random.RandomState(0)
    vectors, strata = rng.normal(size=(20, 3)), rng.randint(2, size=20)
    vectors[10:] = vectors[:10] + 0.05 * rng.normal(size=(10, 3))
    repeated = coincident(vectors, strata)
    assert 0 < repeated.sum() < 10
    assert not repeated[:10].any()
    np.testing.assert_array_equal(coincident(1000 * vectors, strata), repeated)


# Label agreement.


def scattered(n, n_classes, noise, seed=0):
    """Return vectors around one direction per class, and their classes."""
    rng = np.random.RandomState(seed)
    codes = np.arange(n) % n_classes
    return np.eye(n_classes)[codes] + noise * rng.normal(size=(n, n_classes)), codes


@pytest.mark.parametrize(("n", "n_classes"), [(60, 3), (16, 2)])
def test_agreement_is_1_where_all_neighbors_share_the_class(n, n_classes):
    """With ten neighbors instead of the class size it was 0.4 at most for 16 texts."""
    assert label_agreement(*scattered(n, n_classes, 0.01), seed=0) == 1


def test_agreement_is_about_0_at_chance():
    rng = np.random.RandomState(0)
    vectors = rng.normal(size=(2000, 5))
    for codes in (rng.randint(2, size=2000), rng.rand(2000) < 0.1):
        assert label_agreement(vectors, codes.astype(int), seed=0) < 0.03


@pytest.mark.parametrize("n", [2, 3])
def test_agreement_of_single_texts_is_0(n):
    assert label_agreement(np.eye(n), np.arange(n), seed=0) == 0


@pytest.mark.parametrize("sizes", [(4, 2, 1), (30, 12, 5), (40, 40, 40)])
def test_agreement_is_that_of_plain_loops(sizes):
    codes = np.repeat([0, 1, 2], sizes)
    n = len(codes)
    vectors = np.eye(3)[codes] + 0.7 * np.random.RandomState(0).normal(size=(n, 3))
    unit = [v / np.linalg.norm(v) for v in vectors]
    agree, chance = [], []
    for i in range(n):
        others = [j for j in range(n) if j != i]
        n_mates = sum(codes[j] == codes[i] for j in others)
        if n_mates:
            near = sorted(others, key=lambda j: -unit[i] @ unit[j])[: min(10, n_mates)]
            agree.append(np.mean([codes[j] == codes[i] for j in near]))
            chance.append(n_mates / len(others))
    expected = (np.mean(agree) - np.mean(chance)) / (1 - np.mean(chance))
    assert 0 < expected < 1
    assert label_agreement(vectors, codes, seed=0) == pytest.approx(expected)
