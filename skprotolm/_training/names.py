"""Names of prototypes: the words that set their texts apart."""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import count, pairwise
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer

from skprotolm._data.texts import Text
from skprotolm._data.words import MarkedWord
from skprotolm._display.formatting import one_line, shorten
from skprotolm._records.words import find_words, split_pair

_MAX_WORDS = 5  # of a name; more than three only if another prototype has it
_WEAKEST_THIRD = 0.5  # of the highest score, at least, for a third word
_MIN_LETTERS = 3  # of the words that are preferred
_WORD_LENGTH, _TEXT_LENGTH = 24, 40  # characters
# Words with other punctuation are mostly markup, addresses or missing spaces.
_PUNCTUATION = set(string.punctuation) - set("'-")


def name_prototypes(
    texts: Sequence[Text],
    rows: np.ndarray,
    nearest: np.ndarray,
    names: Sequence[str] = (),
) -> tuple[str, ...]:
    """Name each prototype by the two or three words of the highest scores.

    The document of a prototype is its text and all texts whose nearest prototype it is.
    A word's score is √tf·log(1 + A/f)·log((M + ½)/d): tf is its count in the document,
    f its count in all documents, A the mean number of words per document, and d the
    number of documents with the word. The first two factors are the class-based TF-IDF
    [1]_ with the square root that reduces frequent words. The last one does so where
    documents are few and long: A is then above the f of function words.

    A name has only words of the prototype's own text, since the other texts are not
    quoted.

    Parameters
    ----------
    texts : sequence of n str, or of (str, str)
    rows : ndarray of shape (M,), int
        The row of each prototype's text.
    nearest : ndarray of shape (n,), int
        The nearest prototype of each text.
    names : sequence of str, default=()
        The names of the first prototypes, which keep them.

    Returns
    -------
    tuple of M str
        Distinct names.

    References
    ----------
    .. [1] Grootendorst. "BERTopic: Neural topic modeling with a class-based TF-IDF
       procedure". arXiv:2203.05794, 2022.
    """
    if isinstance(texts[0], MarkedWord):
        marked: list[Any] = [texts[row] for row in rows.tolist()]
        return name_words(marked, names)
    lowered = ["\n".join(split_pair(text)).lower() for text in texts]
    scores = _score_words(lowered, rows, nearest)
    taken = dict.fromkeys(names)  # a set in order
    for j in range(len(names), len(rows)):
        candidates = _candidates(lowered[rows[j]], scores[j], j)
        taken[next(name for name in candidates if name not in taken)] = None
    return tuple(taken)


def _score_words(
    texts: list[str], rows: np.ndarray, nearest: np.ndarray
) -> list[dict[str, float]]:
    """Return the scores of the words of each prototype's text."""
    words_of_run = lru_cache(maxsize=None)(_words_of_run)  # most runs repeat

    def words_of_text(text: str) -> list[str]:
        # CountVectorizer requires a word.
        return [word for run in text.split() for word in words_of_run(run)] or [""]

    n, M = len(texts), len(rows)
    vectorizer = CountVectorizer(analyzer=words_of_text)
    counts = vectorizer.fit_transform(texts)
    members = np.append(nearest, np.arange(M)), np.append(np.arange(n), rows)
    documents = csr_matrix((np.ones(n + M), members), shape=(M, n))
    documents.data[:] = 1  # 2 for a text that is nearest to its own prototype
    tf = documents @ counts
    weights = np.log1p(tf.sum() / M / np.asarray(tf.sum(axis=0)).ravel())
    weights *= np.log((M + 0.5) / np.bincount(tf.indices, minlength=len(weights)))
    scores = counts[rows].sign().multiply(tf.sqrt()).multiply(weights).tocsr()
    words = vectorizer.get_feature_names_out()[scores.indices]
    pieces = zip(
        np.split(words, scores.indptr[1:-1]),
        np.split(scores.data, scores.indptr[1:-1]),
        strict=True,
    )
    return [dict(zip(w.tolist(), s.tolist(), strict=True)) for w, s in pieces]


def _words_of_run(run: str) -> list[str]:
    return [run[start:end] for start, end in _find_words(run)]


def _find_words(text: str) -> list[tuple[int, int]]:
    """Return start and end of each word that has letters.

    Two successive ideographs, which mean little alone, are one word; such words
    overlap.
    """
    spans = [
        (start, end)
        for start, end in find_words(text, whole_runs=True)
        if any(map(str.isalpha, text[start:end]))
    ]
    words: list[tuple[int, int]] = []
    for (start, end), (following, stop) in pairwise([*spans, (-1, -1)]):
        if end == following and sum(map(str.isalpha, text[start:stop])) == 2:
            words.append((start, stop))
        elif not words or words[-1][1] != end:
            words.append((start, end))
    return words


def _candidates(text: str, scores: dict[str, float], number: int) -> Iterator[str]:
    """Give names of a text, from the best one to longer and numbered ones."""
    spans: dict[str, tuple[int, int]] = {}
    for start, end in _find_words(text):
        spans.setdefault(text[start:end], (start, end))
    words = sorted(spans, key=lambda word: (not _is_preferred(word), -scores[word]))
    name = shorten(one_line(text), _TEXT_LENGTH) or "…"
    n_strong = sum(
        _is_preferred(word) and scores[word] >= _WEAKEST_THIRD * scores[words[0]]
        for word in words[:3]
    )
    fewest = max(2, n_strong)
    most = max(fewest, min(len(words), _MAX_WORDS))
    for n_words in range(fewest, most + 1):
        name = _join(text, [spans[word] for word in words[:n_words]]) or name
        yield name
    for suffix in count(number):
        yield f"{name} ({suffix})"


def _is_preferred(word: str) -> bool:
    """Whether a word has three letters, and no punctuation but hyphens and apostrophes.

    Three letters are only asked of alphabets with upper case.
    """
    n_letters = sum(map(str.isalpha, word))
    is_long = n_letters >= _MIN_LETTERS or word == word.upper()
    return is_long and _PUNCTUATION.isdisjoint(word)


def _join(text: str, spans: list[tuple[int, int]]) -> str:
    """Join words in their order in the text; ideographs without a gap stay together."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    parts = [shorten(one_line(text[start:end]), _WORD_LENGTH) for start, end in joined]
    return " · ".join(parts)


def name_words(
    words: Sequence[MarkedWord], names: Sequence[str] = ()
) -> tuple[str, ...]:
    """Name prototypes that are words by the word, and as many neighbors as it takes.

    The first names are those of `names`, as in `name_prototypes`.
    """
    taken = dict.fromkeys(names)  # a set in order
    for j, word in enumerate(words[len(names) :], start=len(names)):
        candidates = _names_of_word(word, j)
        taken[next(name for name in candidates if name not in taken)] = None
    return tuple(taken)


def _names_of_word(word: MarkedWord, number: int) -> Iterator[str]:
    """Give the word, the word with its neighbors on both sides, and numbered names."""
    words, position = word.words, word.position
    for n_sides in range(_MAX_WORDS):
        first = max(0, position - (n_sides + 1) // 2)
        near = words[first : position + n_sides // 2 + 1]
        name = " · ".join(shorten(one_line(w), _WORD_LENGTH) or "…" for w in near)
        yield name
    for suffix in count(number):
        yield f"{name} ({suffix})"
