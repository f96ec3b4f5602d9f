"""Facility location: every text is similar to one that is quoted."""

import numpy as np
import pytest
from sklearn.preprocessing import normalize

from skprotolm._training.selection import representative


def unit_vectors(n, n_dimensions=3, seed=0):
    rng = np.random.RandomState(seed)
    return normalize(rng.normal(size=(n, n_dimensions)))


def directions(*degrees):
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def select(vectors, count, *, weights=None, seed=0):
    weights = np.ones(len(vectors)) if weights is None else np.asarray(weights)
    return representative(vectors, weights, count, seed).tolist()


def coverage(vectors, weights, rows):
    """Return Σ_i w_i·max_j cos(i, j)."""
    return float((vectors @ vectors[rows].T).max(axis=1) @ weights)


def greedy_by_hand(vectors, weights, count):
    rows = []
    for _ in range(count):
        others = [j for j in range(len(vectors)) if j not in rows]
        rows.append(max(others, key=lambda j: coverage(vectors, weights, [*rows, j])))
    return sorted(rows)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("seed", range(5))
def test_few_texts_are_chosen_greedily_among_all(seed, count):
    """So few are drawn per step only of more texts."""
    vectors = unit_vectors(9, seed=seed)
    weights = np.random.RandomState(seed).uniform(0.1, 3, size=9)
    rows = select(vectors, count, weights=weights, seed=seed)
    assert rows == greedy_by_hand(vectors, weights, count)


def test_each_cluster_has_a_text():
    vectors = directions(0, 1, 2, 90, 91, 92, 200, 201, 202)
    assert [row // 3 for row in select(vectors, 3)] == [0, 1, 2]


def test_weights_change_the_choice():
    vectors = directions(0, 10, 20)
    assert select(vectors, 1) == [1]
    assert select(vectors, 1, weights=[9.0, 1, 1]) == [0]


@pytest.mark.parametrize("count", [1, 7, 40, 150, 299])
def test_as_many_different_texts_are_chosen_as_asked(count):
    rows = select(unit_vectors(300), count)
    assert len(set(rows)) == count
    assert rows == sorted(rows)
    assert {type(row) for row in rows} == {int}


def test_equal_texts_are_chosen_once_each():
    rows = select(np.ones((50, 1)), 20)
    assert len(set(rows)) == 20


@pytest.mark.parametrize("count", [5, 6, 1000])
def test_all_texts_are_chosen_where_there_are_no_more(count):
    assert select(unit_vectors(5), count) == [0, 1, 2, 3, 4]


def test_the_seed_alone_decides_which_texts_are_drawn():
    vectors = unit_vectors(400, 8)
    np.random.seed(0)
    first = select(vectors, 60, seed=0)
    np.random.seed(1)
    assert select(vectors, 60, seed=0) == first
    assert select(vectors, 60, seed=1) != first


@pytest.mark.parametrize("count", [10, 60])
def test_drawn_texts_cover_nearly_as_much_as_all(count):
    vectors, weights = unit_vectors(200, 8), np.ones(200)
    at_random = np.random.RandomState(0).permutation(200)[:count]
    greedy = greedy_by_hand(vectors, weights, count)
    gains = [
        coverage(vectors, weights, rows) - coverage(vectors, weights, at_random)
        for rows in (select(vectors, count), greedy)
    ]
    assert gains[0] > 0.6 * gains[1] > 0


def test_of_many_texts_a_sample_is_compared():
    """The cosines of 20,000 texts would take 1.6 GB."""
    n, rng = 20_000, np.random.RandomState(0)
    angles = rng.choice([0, 90, 180], size=n) + rng.uniform(0, 5, size=n)
    vectors = directions(*angles).astype(np.float32)
    rows, others = (np.array(select(vectors, 100, seed=seed)) for seed in (0, 1))
    assert set(angles[rows] // 90) == {0, 1, 2}
    assert rows.max() > 15_000  # not the first ones
    assert len(np.intersect1d(rows, others)) < 50


def test_more_texts_may_be_quoted_than_are_compared_otherwise():
    rows = select(unit_vectors(5300).astype(np.float32), 5200)
    assert len(set(rows)) == 5200


@pytest.mark.parametrize("error", [-1e-12, 0.0, 1e-12])
def test_rounding_does_not_decide_between_texts_that_are_as_good(error):
    """The choice depended on the processor: one of two texts nearest to each other."""
    vectors = directions(0, 90, 180, 200)
    weights = [5, 4, 1, 1 + error]
    assert select(vectors, 3, weights=weights) == [0, 1, 2]
