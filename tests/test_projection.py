"""Every prototype gets a training text of its own, and is told what stands around."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skprotolm._training.projection import (
    assign,
    count_coincident,
    find_candidates,
    survey,
    worth_keeping,
)

# Candidates


def test_a_distinct_text_is_a_candidate_once_at_its_first_row():
    texts = ["a", "b", "a", "c", "b", "a"]
    candidates = find_candidates(texts, np.array([0, 1, 0, 1, 1, 0]))
    assert candidates.rows.tolist() == [0, 1, 3]
    assert candidates.codes.tolist() == [0, 1, 1]
    assert candidates.text_ids.tolist() == [0, 1, 0, 2, 1, 0]


def test_a_text_under_two_labels_serves_neither_class():
    texts = ["a", "b", "a", "c", "d", "c", "c"]
    candidates = find_candidates(texts, np.array([0, 0, 1, 1, 1, 1, 2]))
    assert candidates.rows.tolist() == [1, 4]
    assert candidates.codes.tolist() == [0, 1]
    ids = candidates.text_ids
    assert ids[0] == ids[2]
    assert len(set(ids.tolist())) == 4


def test_pairs_are_one_text_when_both_of_their_texts_are():
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
def test_candidates_are_those_that_a_loop_finds(rows):
    texts, codes = [text for text, _ in rows], np.array([code for _, code in rows])
    expected = []
    for i, (text, code) in enumerate(rows):
        labels = {other for same, other in rows if same == text}
        if texts.index(text) == i and labels == {code}:
            expected.append((i, code))
    candidates = find_candidates(texts, codes)
    found = zip(candidates.rows.tolist(), candidates.codes.tolist(), strict=True)
    assert list(found) == expected


# Assignment


def squared(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def least_total(prototypes, owner, vectors, candidates):
    """The least total of squared distances, by trying every assignment."""
    total = 0.0
    for code in set(owner.tolist()):
        mine = [p for p, o in zip(prototypes, owner, strict=True) if o == code]
        rows = candidates.rows[candidates.codes == code]
        total += min(
            sum(squared(p, vectors[r]) for p, r in zip(mine, chosen, strict=True))
            for chosen in permutations(rows, len(mine))
        )
    return total


@pytest.mark.parametrize("seed", range(25))
def test_assignment_is_one_to_one_and_the_best_there_is(seed):
    rng = np.random.RandomState(seed)
    # Rows 6 to 8 repeat rows 0 to 2, and rows 9 and 10 are one text of two classes.
    texts = [*"abcdef", *"abc", *"gg", *"hijk"]
    codes = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 1, 0, 1, 0, 1])
    by_text = {text: rng.normal(size=3) for text in dict.fromkeys(texts)}
    vectors = np.array([by_text[text] for text in texts])
    candidates = find_candidates(texts, codes)
    owner = rng.permutation([0] * rng.randint(1, 6) + [1] * rng.randint(1, 6))
    # All of them near one place, so that they compete for its texts.
    prototypes = 0.3 * rng.normal(size=(len(owner), 3))

    assigned = assign(prototypes, owner, vectors, candidates)

    assert codes[assigned].tolist() == owner.tolist()
    assert len({texts[row] for row in assigned}) == len(owner)
    assert "g" not in {texts[row] for row in assigned}
    assert set(assigned.tolist()) <= set(candidates.rows.tolist())
    total = sum(
        squared(p, vectors[row]) for p, row in zip(prototypes, assigned, strict=True)
    )
    expected = least_total(prototypes, owner, vectors, candidates)
    assert total == pytest.approx(expected)


def test_two_prototypes_in_one_place_get_two_texts():
    vectors = np.array([[0.0, 0], [1, 0], [5, 5]])
    candidates = find_candidates(["a", "b", "c"], np.zeros(3, dtype=np.int64))
    prototypes = np.array([[0.0, 0], [0, 0]])
    assigned = assign(prototypes, np.zeros(2, dtype=np.int64), vectors, candidates)
    assert sorted(assigned.tolist()) == [0, 1]


def test_as_many_prototypes_as_texts_take_them_all():
    rng = np.random.RandomState(0)
    vectors = rng.normal(size=(6, 2))
    codes = np.array([0, 0, 0, 1, 1, 1])
    candidates = find_candidates(list("abcdef"), codes)
    assigned = assign(rng.normal(size=(6, 2)), codes, vectors, candidates)
    assert sorted(assigned.tolist()) == [0, 1, 2, 3, 4, 5]


def test_a_prototype_on_a_text_stays_there():
    rng = np.random.RandomState(0)
    vectors = rng.normal(size=(50, 4))
    codes = np.arange(50) % 2
    candidates = find_candidates([str(i) for i in range(50)], codes)
    rows = np.array([7, 8, 30, 31, 41])
    assigned = assign(vectors[rows], codes[rows], vectors, candidates)
    assert assigned.tolist() == rows.tolist()


# Purity and usage


def survey_by_hand(assigned, texts, vectors, codes):
    purity, usage = [], [0] * len(assigned)
    for row in assigned:
        own_class = {t for t, c in zip(texts, codes, strict=True) if c == codes[row]}
        k = min(10, len(own_class) - 1)
        others = [i for i in range(len(texts)) if texts[i] != texts[row]]
        others.sort(key=lambda i: squared(vectors[i], vectors[row]))
        same = [codes[i] == codes[row] for i in others[:k]]
        purity.append(sum(same) / k if k else np.nan)
    for i, vector in enumerate(vectors):
        distances = [squared(vector, vectors[row]) for row in assigned]
        nearest = distances.index(min(distances))
        usage[nearest] += texts[i] != texts[assigned[nearest]]
    return purity, usage


@pytest.mark.parametrize(("n", "n_classes"), [(9, 2), (40, 3), (120, 2)])
@pytest.mark.parametrize("seed", range(4))
def test_purity_and_usage_are_those_of_plain_loops(n, n_classes, seed):
    rng = np.random.RandomState(seed)
    texts = [str(t) for t in rng.permutation(n)]
    texts[-1] = texts[0]  # a text that stands twice
    codes = np.arange(n) % n_classes
    codes[-1] = codes[0]
    vectors = rng.normal(size=(n, 3)) + codes[:, None]
    vectors[-1] = vectors[0]
    candidates = find_candidates(texts, codes)
    assigned = rng.choice(candidates.rows, size=min(5, n), replace=False)
    assigned[0] = 0 if 0 not in assigned[1:] else assigned[0]

    found = survey(assigned, vectors, codes, candidates)

    purity, usage = survey_by_hand(assigned, texts, vectors, codes)
    np.testing.assert_allclose(found.purity, purity)
    assert found.usage.tolist() == usage


def test_purity_counts_ten_neighbours_at_most():
    """Twenty texts on a line; the tenth-nearest is the last that counts."""
    vectors = np.arange(20.0)[:, None]
    codes = np.array([0] * 10 + [1] * 10)
    candidates = find_candidates([str(i) for i in range(20)], codes)
    found = survey(np.array([0, 19]), vectors, codes, candidates)
    # Nine neighbours each, since a class of ten has no more of its own to show.
    assert found.purity.tolist() == [1.0, 1.0]
    codes = np.array([0] * 8 + [1, 1] + [0] * 4 + [1] * 6)
    candidates = find_candidates([str(i) for i in range(20)], codes)
    found = survey(np.array([0]), vectors, codes, candidates)
    assert found.purity.tolist() == [0.8]


def test_a_class_of_one_text_has_no_purity():
    vectors = np.array([[0.0], [3], [4]])
    candidates = find_candidates(["a", "b", "c"], np.array([0, 1, 1]))
    found = survey(np.array([0, 1]), vectors, np.array([0, 1, 1]), candidates)
    assert np.isnan(found.purity[0])
    assert found.purity[1] == 1.0  # one neighbour is looked at


def test_further_rows_of_a_prototypes_own_text_are_not_its_use():
    vectors = np.array([[0.0], [0], [0.1], [5], [5.1]])
    texts, codes = ["a", "a", "b", "c", "d"], np.array([0, 0, 0, 1, 1])
    candidates = find_candidates(texts, codes)
    found = survey(np.array([0, 3]), vectors, codes, candidates)
    assert found.usage.tolist() == [1, 1]
    assert found.purity.tolist() == [1.0, 1.0]


def test_every_text_uses_one_prototype_however_many_texts_there_are():
    rng = np.random.RandomState(0)
    n = 20_000  # more than are compared at once
    vectors, codes = rng.normal(size=(n, 2)), np.arange(n) % 2
    candidates = find_candidates([str(i) for i in range(n)], codes)
    assigned = np.array([3, 4, 10_001, 19_998])
    found = survey(assigned, vectors, codes, candidates)
    assert found.usage.sum() == n - len(assigned)


# --- Prototypes that nearly coincide.


def test_prototypes_of_one_class_coincide_where_their_distance_is_small():
    vectors = np.array([[1, 0], [1, 0.05], [1, 0.3], [1, 0.01], [1, 0]])
    owner = np.array([0, 0, 0, 0, 1])
    assert count_coincident(vectors, owner) == 2  # the second and the fourth


def test_one_direction_is_not_one_place():
    """Cosines were looked at under "proto-lm" too, which compares distances."""
    vectors = np.array([[1.0, 0.0], [3.0, 0.0], [3.1, 0.0]])
    assert count_coincident(vectors, np.zeros(3, dtype=int)) == 1


def test_coincidence_does_not_depend_on_the_scale():
    rng = np.random.RandomState(0)
    vectors = rng.normal(size=(20, 3))
    owner = rng.randint(2, size=20)
    vectors[10:] = vectors[:10] + 0.05 * rng.normal(size=(10, 3))
    count = count_coincident(vectors, owner)
    assert 0 < count < 10
    assert count_coincident(1000 * vectors, owner) == count


# --- Prototypes that no text needs.


def keep(vectors, codes, assigned, texts=None):
    vectors, codes = np.array(vectors, dtype=float), np.array(codes)
    candidates = find_candidates(texts or [str(i) for i in range(len(codes))], codes)
    return worth_keeping(np.array(assigned), vectors, codes, candidates).tolist()


def test_a_prototype_that_no_other_text_is_nearest_to_goes():
    vectors = [[1, 0], [1, 0.1], [0.7, 0.7], [0, 1], [0.1, 1], [-1, 0], [-1, 0.1]]
    codes = [0, 0, 0, 0, 0, 1, 1]
    # Texts 1 and 4 are nearest to 0 and 3; nothing is to 2 but itself.
    assert keep(vectors, codes, [0, 2, 3, 5]) == [0, 2, 3]


def test_of_two_that_nearly_coincide_the_more_used_stays():
    near = [[1, 0], [1, 0.02], [1, 0.03], [1, 0.04], [1, -0.01]]
    vectors = [*near, [0, 1], [0.1, 1], [-1, 0], [-1, 0.1]]
    codes = [0] * 7 + [1, 1]
    # Prototype 1 has the texts 2 and 3, prototype 0 has text 4 alone.
    assert keep(vectors, codes, [0, 1, 5, 7]) == [1, 2, 3]


def test_of_two_classes_none_goes_for_being_alike():
    vectors = [[1, 0], [1, 0.01], [1, 0.001], [1, 0.011]]
    assert keep(vectors, [0, 1, 0, 1], [0, 1]) == [0, 1]


def test_no_class_loses_its_last_prototype():
    vectors = [[1, 0], [0, 1], [-1, 0], [0, -1]]
    assert keep(vectors, [0, 0, 1, 1], [0, 1, 2, 3]) == [0, 2]
    assert keep([[1, 0], [0, 1]], [0, 1], [0, 1]) == [0, 1]
    zeros = np.zeros((4, 2))
    assert keep(zeros, [0, 0, 1, 1], [0, 1, 2, 3]) == [0, 2]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("n", "n_prototypes"), [(10, 5), (40, 5), (200, 8)])
def test_those_kept_are_used_and_apart(seed, n, n_prototypes):
    rng = np.random.RandomState(seed)
    codes = np.arange(n) % 2
    vectors = rng.normal(size=(n, 3)) + 2 * codes[:, None]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assigned = np.concatenate(
        [np.flatnonzero(codes == c)[:n_prototypes] for c in (0, 1)]
    )
    candidates = find_candidates([str(i) for i in range(n)], codes)
    kept = worth_keeping(assigned, vectors, codes, candidates)
    rows = assigned[kept]
    assert set(codes[rows]) == {0, 1}
    usage = survey(rows, vectors, codes, candidates).usage
    for j, row in enumerate(rows):
        mates = [r for r in rows if codes[r] == codes[row] and r != row]
        if mates:
            assert usage[j] > 0
            assert max(vectors[m] @ vectors[row] for m in mates) <= 0.9
    assert 2 <= len(kept) <= len(assigned)
