"""Validation of X and y of words: lists of words, and as many tags."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from numbers import Integral
from typing import Any

import numpy as np

from skprotolm._data.hints import column_names, container_hint
from skprotolm._data.targets import Targets, encode_targets
from skprotolm._data.texts import is_encodable, is_missing, shown, unmasked
from skprotolm._data.weights import combine_weights
from skprotolm._data.words import MarkedWord, Sentence

_SPLIT = "[text.split() for text in X]"


def as_sentences(X: Any, name: str = "X") -> list[Sentence]:
    """Convert X to sentences.

    Parameters
    ----------
    X : container of lists of str
        A list, tuple, array, or column whose rows are lists, tuples or arrays of words.
        Rows may be empty.
    name : str, default="X"
        The name of X in error messages.
    """
    rows = _rows(X, name)
    if not rows:
        raise ValueError(
            f"{name} holds no sentence: found array with 0 sample(s) while a minimum "
            f"of 1 is required."
        )
    return [
        words
        if isinstance(words, Sentence)
        else Sentence.of(_as_words(words, number, name))
        for number, words in enumerate(rows)
    ]


def refuse_marked(sentences: list[Sentence]) -> None:
    """Refuse marked words, such as the texts of prototypes, as training sentences."""
    for row, sentence in enumerate(sentences):
        if isinstance(sentence, MarkedWord):
            raise TypeError(
                f"Row {row} of X is a MarkedWord, but fit needs the tags of all words "
                f"of a sentence; pass its words, row.words, with as many tags."
            )


def as_marked_words(texts: Any, name: str) -> list[MarkedWord]:
    """Convert words in their sentences.

    Parameters
    ----------
    texts : container of (list of str, int), or of MarkedWord
        The words of each sentence, and the position of one of them.
    name : str
        The name of `texts` in error messages.
    """
    return [_as_marked(text, row, name) for row, text in enumerate(_rows(texts, name))]


def _as_marked(text: Any, row: int, name: str) -> MarkedWord:
    if isinstance(text, MarkedWord):
        return text
    if (
        not isinstance(text, (list, tuple))
        or len(text) != 2
        or isinstance(text[0], str)
    ):
        raise TypeError(
            f"Row {row} of {name} is {shown(text)}, but it must be the words of a "
            f"sentence and the position of one of them, such as "
            f"(['in', 'new', 'york'], 1)."
        )
    sentence = Sentence.of(_as_words(text[0], row, name, f"{name}[{row}][0]"))
    return MarkedWord(sentence, _as_position(text[1], sentence, row, name))


def _as_position(position: Any, sentence: Sentence, row: int, name: str) -> int:
    is_int = isinstance(position, Integral) and not isinstance(position, bool)
    if not is_int or not 0 <= position < len(sentence.words):
        raise ValueError(
            f"Row {row} of {name} must have positions of words from 0 to "
            f"{len(sentence.words) - 1}, got {shown(position)}."
        )
    return int(position)


def mark_words(
    words: Any, sentences: list[Sentence]
) -> tuple[list[MarkedWord], list[int]]:
    """Mark words of sentences, and return them with the row of each.

    A word that is marked already stands for itself.

    Parameters
    ----------
    words : container of containers of int
        Positions of words, for each sentence.
    sentences : list of Sentence
    """
    rows = _rows(words, "words")
    if len(rows) != len(sentences):
        raise ValueError(
            f"words must hold a list of positions for each of {len(sentences)} "
            f"sentences, got {len(rows)}."
        )
    marked: list[MarkedWord] = []
    numbers: list[int] = []
    for row, (positions, sentence) in enumerate(zip(rows, sentences, strict=True)):
        if isinstance(sentence, MarkedWord):
            of_row = [sentence]
        elif isinstance(positions, (str, bytes)) or not isinstance(positions, Iterable):
            raise TypeError(
                f"Row {row} of words must be a list of positions, got "
                f"{shown(positions)}."
            )
        else:
            of_row = [
                MarkedWord(sentence, _as_position(position, sentence, row, "words"))
                for position in positions
            ]
        marked += of_row
        numbers += [row] * len(of_row)
    return marked, numbers


def _rows(data: Any, name: str, elements: str = "words") -> list[Any]:
    """Return the rows of a container, one per sentence."""
    if isinstance(data, (str, bytes)):
        raise ValueError(
            f"{name} must be a list of sentences, each a list of {elements}, got a "
            f"single {type(data).__name__}; pass [text.split()] for a single sentence."
        )
    is_table = isinstance(data, Mapping) or (
        not isinstance(data, (list, tuple)) and bool(column_names(data))
    )
    is_rows = isinstance(data, Iterable) and not hasattr(data, "tocsr")
    if is_table or not is_rows or getattr(data, "ndim", 1) == 0:
        raise TypeError(
            f"{name} must be a list of sentences, each a list of {elements}, got "
            f"{type(data).__name__}; {container_hint(data, name)}."
        )
    return list(data)


def _elements(row: Any) -> list[Any] | None:
    """Return the elements of a list, tuple or column of any library, or None."""
    if hasattr(row, "as_py"):  # a row of a PyArrow column
        row = row.as_py()
    for method in ("to_pylist", "to_list", "tolist"):
        if hasattr(row, method) and getattr(row, "ndim", 1) > 0:
            elements = getattr(unmasked(row), method)()
            return elements if isinstance(elements, list) else None
    is_single = isinstance(row, (str, bytes))
    return list(row) if isinstance(row, Sequence) and not is_single else None


def _as_words(words: Any, row: int, name: str, place: str = "") -> list[str]:
    """Return the words of one row; `place` is code for them, if not ``X[row]``."""
    if isinstance(words, str):
        raise TypeError(
            f"Row {row} of {name} is {shown(words)}, but each row must be the list of "
            f"the words of a sentence. For texts use {_SPLIT}; for a single sentence "
            f"pass [words]."
        )
    listed = _elements(words)
    if listed is None:
        error = ValueError if is_missing(words) else TypeError
        raise error(
            f"Row {row} of {name} is {shown(words)}, but each row must be the list of "
            f"the words of a sentence; {_row_hint(words, name)}."
        )
    place = place or f"{name}[{row}]"
    for number, word in enumerate(listed):
        if not isinstance(word, str):
            error = ValueError if is_missing(word) else TypeError
            raise error(
                f"{place}[{number}] is {shown(word)}, not a str; "
                f"{_word_hint(word, name)}."
            )
        if not is_encodable(word):
            raise ValueError(
                f"{place}[{number}] is {shown(word)}, which contains an unpaired "
                f"surrogate; replace it, for example with "
                f"word.encode('utf-8', 'replace').decode()."
            )
    return [str.__str__(word) for word in listed]


def _row_hint(row: Any, name: str) -> str:
    """Return what to do about a row that is not a list of words."""
    if isinstance(row, Mapping):
        lists = [key for key, value in row.items() if _elements(value) is not None]
        return f"use [row[{next(iter(lists or row), 'tokens')!r}] for row in {name}]"
    if isinstance(row, (Set, Iterator)):
        return "pass a list, in the order of the sentence"
    return "drop the row, or use [] for a sentence without words"


def _word_hint(word: Any, name: str) -> str:
    """Return what to do about a word that is not a str."""
    if isinstance(word, tuple) and len(word) == 2:
        code = f"[[word for word, tag in row] for row in {name}]"
        return f"pass words and tags apart, the words as {code}"
    if isinstance(word, bytes):
        return "use word.decode('utf-8')"
    if _elements(word) is not None:
        return f"rows of {name} are lists of str, not lists of lists"
    return "drop it with its tag, or convert it with str"


def as_tags(y: Any, sentences: list[Sentence], name: str = "y") -> list[Any]:
    """Return the tags of all words, in sequence.

    Parameters
    ----------
    y : container of lists of str or int
        One list per sentence, with one tag per word.
    sentences : list of Sentence
    name : str, default="y"
        The name of y in error messages.
    """
    given = _rows(y, name, "tags")
    rows = [_tag_row(of_row, row, name) for row, of_row in enumerate(given)]
    if len(rows) != len(sentences):
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: {name} has "
            f"tags of {len(rows)} sentences, and there are {len(sentences)}."
        )
    tags: list[Any] = []
    for row, (listed, sentence) in enumerate(zip(rows, sentences, strict=True)):
        n_words = sentence.n_predicted
        if len(listed) != n_words:
            raise ValueError(
                f"Row {row} of {name} has {len(listed)} tags for {n_words} words; each "
                f"word needs one tag."
            )
        tags += [_as_tag(tag, number, row, name) for number, tag in enumerate(listed)]
    return tags


def _tag_row(tags: Any, row: int, name: str) -> list[Any]:
    """Return the tags of one row."""
    listed = _elements(tags)
    if listed is None:
        error = ValueError if is_missing(tags) else TypeError
        raise error(
            f"Row {row} of {name} is {shown(tags)}, but each row must be a list of one "
            f"tag per word of the sentence in the same row of X."
        )
    return listed


def _as_tag(tag: Any, number: int, row: int, name: str) -> Any:
    if isinstance(tag, str):
        if not is_encodable(tag) or tag.endswith("\0"):
            raise ValueError(
                f"{name}[{row}][{number}] is {tag!r}, which contains an unpaired "
                f"surrogate or ends with NUL; such tags cannot be stored."
            )
        return str.__str__(tag)
    if isinstance(tag, Integral) and not isinstance(tag, bool):
        return int(tag)
    error = ValueError if is_missing(tag) else TypeError
    raise error(
        f"{name}[{row}][{number}] is {shown(tag)}; tags must be str, such as 'O' and "
        f"'B-person', or int. Convert others with str or int."
    )


def encode_tags(
    y: Any,
    sentences: list[Sentence],
    sample_weight: Any,
    class_weight: Any,
    name: str,
) -> tuple[np.ndarray, Targets]:
    """Validate tags and weights, and encode the tags of all words.

    `sample_weight` are weights of sentences; those of weight 0 are left out, as are
    sentences without words. Returns the sorted tags, and targets with one entry per
    word, whose rows are those of the sentences.
    """
    if y is None:
        raise ValueError(f"{name} requires y to be passed, but the target y is None.")
    tags = as_tags(y, sentences)
    if not tags:
        raise ValueError("X holds no words: all of its rows are empty.")
    if len({isinstance(tag, str) for tag in tags}) > 1:
        raise TypeError("y mixes tags of types str and int; use one type.")
    weights = combine_weights(np.zeros(len(sentences)), sample_weight, None)
    rows = np.repeat(np.arange(len(sentences)), [len(s.words) for s in sentences])
    if not weights[rows].any():
        raise ValueError("All sentences of positive weight are empty.")
    classes, targets = encode_targets(
        tags, len(tags), weights[rows], class_weight, name
    )
    if len(targets.rows) < np.count_nonzero(weights[rows]):
        raise ValueError(
            "class_weight must be positive for all tags: the words of a sentence are "
            "read together, and none of them can be left out."
        )
    return classes, targets._replace(rows=rows[targets.rows])
