"""Long texts: the part that is tokenized, and chunks that bound the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import NamedTuple

# Upper bounds of one chunk. The encodings of a chunk are in memory at the same time.
_CHUNK_TEXTS, _CHUNK_CHARACTERS = 1024, 2**20
# Characters of a long text in the first attempt: per token, and at least. Most texts
# have four to six characters per token, so one attempt suffices. A single token can be
# longer: WordPiece maps every word of more than 100 characters to the unknown token.
_CHARACTERS_PER_TOKEN, _MIN_CHARACTERS = 16, 1024
# Tokens that a part must have beyond max_length. The last tokens of a part can differ
# from those of the full text, and one word rarely has as many tokens.
_MARGIN = 16
_SPACES = " \t\n"


class TextPart(NamedTuple):
    """The part of a text, or of each text of a pair, that fills `max_length`."""

    full_texts: tuple[str, ...]  # one text, or the two texts of a pair
    texts: tuple[str, ...]
    starts: tuple[int, ...]  # position of each part in its full text


def select_part(
    text: str | tuple[str, str],
    max_length: int,
    tokenize: Callable[[str], Sized],
    truncation_side: str,
) -> TextPart:
    """Return the part of a text, or of a pair, that has enough tokens.

    If both texts of a pair are truncated and share an odd number of tokens, the
    additional token may go to another text than with the full texts.

    Parameters
    ----------
    text : str or (str, str)
    max_length : int
        Tokens that the encoder reads.
    tokenize : callable
        Maps a string to its tokens, without truncation.
    truncation_side : {"left", "right"}
        The side at which long texts are truncated.
    """
    full_texts = (text,) if isinstance(text, str) else text
    slices = [
        _find_slice(full_text, max_length, tokenize, truncation_side)
        for full_text in full_texts
    ]
    parts = tuple(t[i] for t, i in zip(full_texts, slices, strict=True))
    return TextPart(full_texts, parts, tuple(i.start for i in slices))


def _find_slice(
    text: str, max_length: int, tokenize: Callable[[str], Sized], truncation_side: str
) -> slice:
    """Return a slice of more than `max_length` tokens, or of the full text."""
    size = max(_MIN_CHARACTERS, _CHARACTERS_PER_TOKEN * max_length)
    while size < len(text):
        part = _slice_between_words(text, size, truncation_side)
        if len(tokenize(text[part])) > max_length + _MARGIN:
            return part
        size *= 4
    return slice(0, len(text))


def _slice_between_words(text: str, size: int, truncation_side: str) -> slice:
    """Return a slice of at most `size` characters that does not split a word."""
    if truncation_side == "left":
        start = len(text) - size
        spaces = [text.find(space, start) for space in _SPACES]
        return slice(min((i for i in spaces if i >= 0), default=start), len(text))
    end = max(text.rfind(space, 0, size) for space in _SPACES)
    return slice(0, end if end > 0 else size)


def chunk_parts(parts: Iterable[TextPart]) -> Iterator[list[TextPart]]:
    """Group texts into chunks that are tokenized at the same time."""
    chunk: list[TextPart] = []
    n_characters = 0
    for part in parts:
        size = sum(map(len, part.texts))
        is_full = len(chunk) == _CHUNK_TEXTS or n_characters + size > _CHUNK_CHARACTERS
        if chunk and is_full:
            yield chunk
            chunk, n_characters = [], 0
        chunk.append(part)
        n_characters += size
    if chunk:
        yield chunk
