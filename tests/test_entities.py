"""Entities of BIO tags: their F1, and valid sequences of tags."""

from __future__ import annotations

import numpy as np
import pytest

from skprotolm._tasks.tagging import TaggingTask
from tests.tagged import X, Y

TAGS = ["O", "O", "B-a", "I-a", "B-b", "I-b"]
TASK = TaggingTask(np.unique(TAGS))


def brute_force_entities(tags):
    """Return the entities of one sentence, as (start, stop, type)."""
    entities, current = [], None
    for position, tag in enumerate([*tags, "O"]):
        kind = tag[2:]
        if current and (tag == "O" or tag[0] == "B" or kind != current[1]):
            entities.append((current[0], position, current[1]))
            current = None
        if current is None and tag != "O":
            current = (position, kind)
    return entities


def score(true, predicted, weights=None):
    weights = np.ones(len(true)) if weights is None else weights
    of_words = [np.full(len(y), w) for y, w in zip(true, weights, strict=True)]
    tags = ([np.asarray(y) for y in of_all] for of_all in (true, predicted))
    return TASK.score_sentences(*tags, of_words)


def test_entity_f1_is_that_of_a_plain_loop():
    rng = np.random.RandomState(0)
    true, predicted = (
        [rng.choice(TAGS, size=len(words)) for words in X] for _ in range(2)
    )
    true[0][:], predicted[0][:] = "B-a", "B-a"
    found = [[set(brute_force_entities(t)) for t in y] for y in (true, predicted)]
    n_right = sum(len(a & b) for a, b in zip(*found, strict=True))
    n_both = sum(len(a) + len(b) for a, b in zip(*found, strict=True))
    assert n_right > 7
    assert score(true, predicted) == pytest.approx(2 * n_right / n_both)
    weights = np.arange(len(X))
    right = sum(w * len(a & b) for w, a, b in zip(weights, *found, strict=True))
    both = sum(w * (len(a) + len(b)) for w, a, b in zip(weights, *found, strict=True))
    assert score(true, predicted, weights) == pytest.approx(2 * right / both)


def test_entity_f1_is_that_of_seqeval():
    metrics = pytest.importorskip("seqeval.metrics")
    rng = np.random.RandomState(1)
    true, predicted = (
        [rng.choice(TAGS, size=len(words)).tolist() for words in X] for _ in range(2)
    )
    assert score(true, predicted) == pytest.approx(metrics.f1_score(true, predicted))


def test_the_score_without_entities_is_zero(tagger):
    assert tagger.score([["was", "in"]], [["O", "O"]]) == 0
    assert tagger.score([[]], [[]]) == 0


def test_valid_tags_are_the_most_probable_valid_sequence(tagger):
    """Viterbi's algorithm finds what trying all sequences finds."""
    rng = np.random.RandomState(0)
    task = tagger._fitted.task
    tags = task.strata
    for _ in range(10):
        outputs = rng.randn(4, 4)
        log_p = outputs - np.log(np.exp(outputs).sum(axis=1, keepdims=True))
        sequences = np.stack(np.meshgrid(*[range(4)] * 4), axis=-1).reshape(-1, 4)
        valid = [
            codes
            for codes in sequences
            if all(
                tags[code] != "I-loc"
                or (i and tags[codes[i - 1]] in ("B-loc", "I-loc"))
                for i, code in enumerate(codes)
            )
        ]
        best = max(valid, key=lambda codes: log_p[range(4), codes].sum())
        assert task.valid_codes(outputs).tolist() == best.tolist()
    for row in tagger.predict([["rome", "paris"], []], valid_tags=True)[:1]:
        assert not row[0].startswith("I-")


def test_tags_of_a_type_without_b_may_start_with_i(make_tagger):
    tags = [["I-x" if tag != "O" else tag for tag in row] for row in Y]
    clf = make_tagger(max_epochs=4).fit(X, tags)
    assert "I-x" in clf.predict(X[:1], valid_tags=True)[0]


def test_early_stopping_is_by_entity_f1_on_whole_sentences(make_tagger):
    clf = make_tagger(early_stopping=True, max_epochs=6).fit(X, Y)
    scores = [epoch["validation_score"] for epoch in clf.history_]
    assert 0.5 < max(scores) <= 1
    rows = clf.prototypes_.train_indices
    assert len(np.unique(rows)) > 3
