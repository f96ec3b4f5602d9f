"""Which texts are trained on, which are held out, and which may be quoted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skprotolm._data.targets import Targets
from skprotolm._training.splits import find_candidates, select
from skprotolm._training.text_units import split_texts
from tests.helpers import make_config

# Candidates.


def test_a_distinct_text_is_a_candidate_once_at_its_first_row():
    texts = ["a", "b", "a", "c", "b", "a"]
    candidates = find_candidates(texts, np.array([0, 1, 0, 1, 1, 0]))
    assert candidates.rows.tolist() == [0, 1, 3]
    assert candidates.strata.tolist() == [0, 1, 1]
    assert candidates.text_ids.tolist() == [0, 1, 0, 2, 1, 0]


def test_a_text_with_two_labels_is_not_a_candidate():
    texts = ["a", "b", "a", "c", "d", "c", "c"]
    candidates = find_candidates(texts, np.array([0, 0, 1, 1, 1, 1, 2]))
    assert candidates.rows.tolist() == [1, 4]
    assert candidates.strata.tolist() == [0, 1]
    assert candidates.text_ids.tolist() == [0, 1, 0, 2, 3, 2, 2]


def test_pairs_are_equal_if_both_of_their_texts_are():
    texts = [("a", "b"), ("a", "c"), ("a", "b"), ("b", "a"), ("ab", "")]
    candidates = find_candidates(texts, np.zeros(5, dtype=np.int64))
    assert candidates.rows.tolist() == [0, 1, 3, 4]


@settings(deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["", "a", "A", " a", "ä"]), st.integers(0, 2)),
        min_size=1,
    )
)
def test_candidates_are_those_of_a_plain_loop(rows):
    texts, codes = [text for text, _ in rows], np.array([code for _, code in rows])
    expected = []
    for i, (text, code) in enumerate(rows):
        labels = {label for other, label in rows if other == text}
        if texts.index(text) == i and labels == {code}:
            expected.append((i, code))
    candidates = find_candidates(texts, codes)
    pairs = zip(candidates.rows.tolist(), candidates.strata.tolist(), strict=True)
    assert list(pairs) == expected


# Held-out texts.


def split_of(texts, codes, fraction=0.4, early_stopping=True, seed=0):
    codes = np.array(codes)
    config = make_config(early_stopping=early_stopping, validation_fraction=fraction)
    return split_texts(codes, find_candidates(texts, codes), config, seed)


def test_without_early_stopping_nothing_is_held_out():
    training, held_out = split_of(range(6), [0, 1] * 3, early_stopping=False)
    assert training.tolist() == list(range(6))
    assert held_out.size == 0


@pytest.mark.parametrize(
    ("fraction", "counts"), [(0.1, [2, 1, 0]), (0.4, [8, 2, 0]), (0.99, [19, 3, 0])]
)
def test_the_same_fraction_of_every_class_is_held_out(fraction, counts):
    """At least one text per class, and never the last one."""
    codes = np.repeat([0, 1, 2], [20, 4, 1])
    training, held_out = split_of(range(25), codes, fraction)
    assert np.bincount(codes[held_out], minlength=3).tolist() == counts
    assert sorted([*training, *held_out]) == list(range(25))


@pytest.mark.parametrize("seed", range(6))
def test_the_last_candidate_of_a_class_is_not_held_out(seed):
    texts = ["shared", "own a", "shared", "b1", "b2", "b3"]
    training, _ = split_of(texts, [0, 0, 1, 1, 1, 1], seed=seed)
    assert 1 in training


@pytest.mark.parametrize("seed", range(5))
def test_copies_of_a_training_text_are_not_held_out(seed):
    """Their score was that of texts that the model knows."""
    texts, codes = [*range(20), *range(10), *range(5)], np.arange(35) % 2
    training, held_out = split_of(texts, codes, seed=seed)
    assert len(held_out)
    assert not {texts[i] for i in training} & {texts[i] for i in held_out}
    assert sorted([*training, *held_out]) == list(range(35))


def test_the_split_depends_on_the_seed():
    codes = np.arange(40) % 2
    splits = [split_of(range(40), codes, seed=seed)[1].tolist() for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]


def test_classes_of_one_text_each_cannot_be_split():
    with pytest.raises(ValueError, match="at least two texts"):
        split_of(range(2), [0, 1])


def test_selected_weights_have_mean_1():
    weights = np.array([1.0, 2.0, 0.5, 0.5])
    codes = np.array([0, 1, 0, 1])
    targets = Targets(codes, codes, weights, np.array([3, 5, 7, 8]))
    selected = select(targets, np.array([1, 2]))
    assert selected.weights.tolist() == [1.6, 0.4]
    assert selected.rows.tolist() == [5, 7]
    assert selected.values.tolist() == selected.strata.tolist() == [1, 0]
