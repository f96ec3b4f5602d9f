"""One tag per word, and the entities that BIO tags make.

Letters: n words, C tags.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import log_softmax

from skprotolm._data.sentences import as_sentences, as_tags
from skprotolm._data.targets import Targets, class_codes, one_code_each
from skprotolm._data.texts import Columns, Texts
from skprotolm._data.words import Sentence, split_words
from skprotolm._tasks.classification import ClassificationTask

_BIO = re.compile(r"O|[BI]-.+", re.DOTALL)


class Entity(NamedTuple):
    """An entity: words of one type in a row."""

    start: int  # position of its first word
    stop: int  # position after its last word
    kind: str


class TaggingTask(ClassificationTask):
    """One tag per word; its value, and its stratum, is the tag's index.

    Parameters
    ----------
    classes : ndarray of shape (C,)
        The tags, sorted.
    """

    kind = "tags"
    unit_noun = "word"
    label_noun = "tag"
    strata_noun = "tags"
    # What a word is about says little of its tag: on entities (WNUT-17, development,
    # 1,200 sentences) F1 is .502 with 0, .521 with .3 and .520 with 1.
    quotable = 0.5
    reading_weight = 0.4
    output_weight = 0.3
    # Few sentences are not: with 64 (three seeds) F1 is .33, and .23 at a lower rate.
    is_soon_memorized = False

    def texts_of(self, X: Any, columns: Columns, name: str) -> Texts:
        """Return the sentences of X."""
        return as_sentences(X, name)

    def units_of(self, texts: Texts) -> Texts:
        """Return the words of sentences."""
        sentences: Any = texts
        return [word for sentence in sentences for word in sentence.marked_words]

    @property
    def is_bio(self) -> bool:
        """Whether the tags are "O", "B-…" and "I-…"."""
        tags = self.strata
        return tags != ["O"] and all(
            isinstance(tag, str) and _BIO.fullmatch(tag) for tag in tags
        )

    def standardized(self, values: np.ndarray) -> np.ndarray:
        """Return the indicators of the tags less their means, (n, C)."""
        indicators = np.eye(len(self.classes))[values]
        return indicators - indicators.mean(axis=0)

    def validation_score(self, outputs: np.ndarray, targets: Targets) -> float:
        """Return the score of sentences, whose words follow each other."""
        firsts = np.flatnonzero(np.diff(targets.rows)) + 1
        predicted, true, weights = (
            np.split(array, firsts)
            for array in (
                self.decode(outputs),
                self.labels(targets.values),
                targets.weights,
            )
        )
        return self.score_sentences(true, predicted, weights)

    def decode_sentences(
        self, outputs: np.ndarray, sentences: list[Sentence], *, valid_tags: bool
    ) -> list[np.ndarray]:
        """Return the most probable tags of each sentence, or the valid ones of them."""
        if not valid_tags:
            return split_words(sentences, self.decode(outputs))
        codes = [self.valid_codes(o) for o in split_words(sentences, outputs)]
        return [self.labels(of_sentence) for of_sentence in codes]

    def score_sentences(
        self,
        true: list[np.ndarray],
        predicted: list[np.ndarray],
        weights: list[np.ndarray],
    ) -> float:
        """Return the entity F1 where tags are BIO, else the accuracy, weighted."""
        if self.is_bio:
            return entity_f1(true, predicted, weights)
        is_correct = np.concatenate(true) == np.concatenate(predicted)
        return float(np.average(is_correct, weights=np.concatenate(weights)))

    def valid_codes(self, outputs: np.ndarray) -> np.ndarray:
        """Return the most probable valid tags of one sentence, by Viterbi's algorithm.

        No I-x follows anything but B-x or I-x, unless there is no B-x among the tags.
        """
        if not len(outputs):
            return np.zeros(0, dtype=np.int64)
        log_p, tags = log_softmax(outputs, axis=1), self.strata
        starts = {tag for tag in tags if f"B{tag[1:]}" not in tags}
        allowed = np.array(
            [[b in starts or _follows(b, a) for b in tags] for a in tags]
        )
        allowed_first = np.array([b in starts or _follows(b, "O") for b in tags])
        scores = np.where(allowed_first, log_p[0], -np.inf)
        origins = np.zeros(log_p.shape, dtype=np.int64)
        for word in range(1, len(log_p)):
            candidates = np.where(allowed, scores[:, None], -np.inf)
            origins[word] = candidates.argmax(axis=0)
            scores = candidates.max(axis=0) + log_p[word]
        codes = [int(scores.argmax())]
        for word in range(len(log_p) - 1, 0, -1):
            codes.append(int(origins[word, codes[-1]]))
        return np.array(codes[::-1])

    def encode(self, labels: Any, name: str, n: int | None = None) -> np.ndarray:
        """Return the tag's index of each label; other labels are refused.

        There may also be a list of tags for each of several sentences.
        """
        rows = labels if isinstance(labels, (list, tuple)) else []
        if rows and all(isinstance(row, (list, tuple, np.ndarray)) for row in rows):
            labels = [tag for row in rows for tag in row]
        if n is None:
            return class_codes(self.classes, name, labels)
        return one_code_each(self.classes, name, labels, n)

    def encode_words(self, y: Any, sentences: list[Sentence], name: str) -> np.ndarray:
        """Return the tag's index of each word of sentences, (n,)."""
        tags = as_tags(y, sentences, name)
        return class_codes(self.classes, name, tags) if tags else np.zeros(0, dtype=int)


def _follows(tag: str, previous: str) -> bool:
    """Whether a tag may stand after another one."""
    is_inside = tag.startswith("I-")
    return not is_inside or (previous != "O" and previous[2:] == tag[2:])


def find_entities(tags: Sequence[str]) -> Iterator[Entity]:
    """Find the entities of one sentence, as the CoNLL evaluation does.

    An I-x starts an entity if it does not follow B-x or I-x.
    """
    start, kind = 0, ""
    for position, tag in enumerate([*tags, "O"]):
        if kind and not (tag.startswith("I-") and tag[2:] == kind):
            yield Entity(start, position, kind)
            kind = ""
        if not kind and tag != "O":
            start, kind = position, tag[2:]


def entity_counts(
    y_true: Sequence[Iterable[str]],
    y_pred: Sequence[Iterable[str]],
    weights: Sequence[np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Count the entities of each type: correct, predicted, and true ones, (3,).

    An entity counts as much as its first word.
    """
    counts: dict[str, np.ndarray] = {}
    for row, tags in enumerate(zip(y_true, y_pred, strict=True)):
        true, predicted = (list(find_entities(list(t))) for t in tags)
        for column, entities in enumerate(
            ([e for e in predicted if e in set(true)], predicted, true)
        ):
            for entity in entities:
                of_kind = counts.setdefault(entity.kind, np.zeros(3))
                of_kind[column] += 1 if weights is None else weights[row][entity.start]
    return counts


def f1_of(counts: np.ndarray) -> float:
    """Return F1 from counts of correct, predicted and true entities; 0 without any."""
    return float(2 * counts[0] / (counts[1] + counts[2])) if counts[1:].any() else 0.0


def entity_f1(
    y_true: Sequence[Iterable[str]],
    y_pred: Sequence[Iterable[str]],
    weights: Sequence[np.ndarray] | None = None,
) -> float:
    """Return the micro-averaged F1 of entities, which must match exactly."""
    counts = entity_counts(y_true, y_pred, weights)
    return f1_of(sum(counts.values(), np.zeros(3)))
