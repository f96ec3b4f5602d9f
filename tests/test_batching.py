"""Batches contain each text once, together with texts of similar length."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skprotolm._network.batching import prediction_batches, training_batches


def shuffled(lengths, batch_size):
    return training_batches(lengths, batch_size, np.random.RandomState(0))


BOTH = pytest.mark.parametrize("make", [prediction_batches, shuffled])
_lengths = st.lists(st.integers(1, 512), min_size=1, max_size=400).map(np.array)


@BOTH
@settings(deadline=None)
@given(lengths=_lengths, batch_size=st.integers(1, 40))
def test_each_text_is_in_one_batch_of_limited_size(make, lengths, batch_size):
    batches = make(lengths, batch_size)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // batch_size)  # all but one are full
    assert all(0 < len(batch) <= batch_size for batch in batches)


@settings(deadline=None)
@given(lengths=_lengths, batch_size=st.integers(1, 40))
def test_the_longest_texts_come_first_in_prediction(lengths, batch_size):
    ordered = lengths[np.concatenate(prediction_batches(lengths, batch_size))]
    assert (np.diff(ordered) <= 0).all()


@settings(deadline=None)
@given(lengths=_lengths, batch_size=st.integers(1, 40))
def test_training_batches_of_a_window_do_not_overlap_in_length(lengths, batch_size):
    """Within a window, the range of lengths of each batch is disjoint."""
    spans = sorted(
        (lengths[batch].min(), lengths[batch].max())
        for batch in shuffled(lengths, batch_size)
        if len(lengths) <= 100 * batch_size
    )
    for (_, longest), (shortest, _) in pairwise(spans):
        assert longest <= shortest


def padding_share(lengths, batches):
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    return 1 - lengths.sum() / padded


@BOTH
def test_less_than_a_tenth_is_padding(make):
    rng = np.random.RandomState(0)
    lengths = np.clip(rng.lognormal(3, 0.8, size=10_000).astype(int), 3, 256)
    order = rng.permutation(len(lengths))
    unsorted = [order[i : i + 32] for i in range(0, len(order), 32)]
    assert padding_share(lengths, unsorted) > 0.5
    assert padding_share(lengths, make(lengths, 32)) < 0.1


def test_training_batches_are_shuffled_per_epoch():
    lengths = np.random.RandomState(1).randint(3, 60, size=1000)
    rng = np.random.RandomState(0)
    first, second = (training_batches(lengths, 8, rng) for _ in range(2))
    assert [batch.tolist() for batch in first] != [batch.tolist() for batch in second]
    # The order of batches does not depend on length.
    means = np.array([lengths[batch].mean() for batch in first])
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3


def test_texts_of_equal_length_are_shuffled():
    batches = shuffled(np.full(100, 7), 10)
    assert not any((np.diff(batch) == 1).all() for batch in batches)


def test_equal_seeds_give_equal_batches():
    lengths = np.random.RandomState(1).randint(3, 60, size=100)
    first, second = (shuffled(lengths, 8) for _ in range(2))
    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in second]


@BOTH
def test_numpys_global_generator_does_not_change(make):
    before = np.random.get_state()[1].copy()
    make(np.arange(1, 50), 8)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
