"""Texts as token ids, and padded batches of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from skprotolm._data.words import MarkedWord, Sentence
from skprotolm._network.windows import TextWindows
from skprotolm._network.word_tokens import WordTokens, find_word_tokens

_NO_OFFSETS = np.zeros((0, 2), dtype=np.int64)
_NO_SEGMENTS = np.zeros(0, dtype=np.int64)


class TextTokens(NamedTuple):
    """The T tokens of one text, or of one pair.

    ``content_mask`` marks content tokens: the tokens of the user's text, without the
    prompt and the tokens that the tokenizer adds. A text without content tokens is
    represented by its special tokens, which are marked instead. ``counted`` marks those
    that are pooled: all of them, or the tokens of a marked word. ``unread`` marks the
    content tokens that are the tokenizer's unknown token. ``windows`` are those of a
    text that the encoder does not read at once, and ``words`` the tokens of each word
    of a sentence. ``offsets`` and ``segments`` are empty if they are not asked for.
    """

    ids: np.ndarray
    type_ids: np.ndarray
    content_mask: np.ndarray
    counted: np.ndarray
    unread: np.ndarray
    windows: TextWindows | None
    words: WordTokens | None
    offsets: np.ndarray  # (T, 2) characters, within each text of a pair
    segments: np.ndarray  # (T,) 0 or 1, the text of the pair

    @property
    def n_windows(self) -> int:
        """How many windows there are, 1 for a text that the encoder reads at once."""
        return 1 if self.windows is None else len(self.windows.starts)

    def positions(self, number: int) -> np.ndarray:
        """Return which tokens one of the windows has."""
        if self.windows is None:
            return np.arange(len(self.ids))
        return self.windows.positions(number, len(self.ids))

    def weights(self, number: int) -> np.ndarray:
        """Return how much the tokens of a window count in it."""
        if self.windows is None:
            return self.counted.astype(np.float32)
        return self.windows.weights(number, self.counted)

    @property
    def n_words(self) -> int:
        """How many words there are; a text that is not cut into words counts as one."""
        return 1 if self.words is None else len(np.unique(self.words.words))

    def tokens_of_words(self) -> WordTokens:
        """Return the tokens of the words; a text that is not cut counts as one word."""
        tokens = np.flatnonzero(self.counted)
        return self.words or WordTokens(tokens, np.zeros_like(tokens))

    @property
    def key(self) -> bytes:
        """The encoder's input; texts of equal keys have equal vectors."""
        counted = b"" if self.counted is self.content_mask else self.counted.tobytes()
        return self.ids.tobytes() + self.type_ids.tobytes() + counted

    def spans(self, segment: int) -> np.ndarray:
        """Return the offsets of one text's content tokens."""
        return self.offsets[self.content_mask & (self.segments == segment)]

    def without_offsets(self) -> TextTokens:
        """Return the tokens without their offsets, which would fill the memory."""
        return self._replace(offsets=_NO_OFFSETS, segments=_NO_SEGMENTS)

    def of_words(self, sentence: Sentence) -> TextTokens:
        """Return the tokens with those that the words of a sentence are read from.

        Of a marked word, only the windows remain in which its tokens count.
        """
        words = find_word_tokens(sentence, self.offsets, self.content_mask)
        tokens, windows = words.tokens, self.windows
        is_marked = isinstance(sentence, MarkedWord)
        if isinstance(sentence, MarkedWord):
            tokens = words.of(sentence.position)
            windows = windows and windows.around(tokens)
        counted = np.zeros_like(self.content_mask)
        counted[tokens] = True
        return self._replace(
            content_mask=self.content_mask | counted,
            counted=counted,
            windows=windows,
            words=None if is_marked else words,
        )


class TokenizedTexts(tuple[TextTokens, ...]):
    """The tokens of n texts."""

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per text, special tokens included."""
        return np.array([len(tokens.ids) for tokens in self])

    @property
    def n_windows(self) -> np.ndarray:
        """Windows per text."""
        return np.array([tokens.n_windows for tokens in self])

    @property
    def n_words(self) -> np.ndarray:
        """Words per text."""
        return np.array([tokens.n_words for tokens in self], dtype=np.int64)

    @property
    def keys(self) -> list[bytes]:
        """The encoder's input per text; equal keys have equal vectors."""
        return [tokens.key for tokens in self]

    def take(self, rows: np.ndarray) -> TokenizedTexts:
        """Return the texts of the given rows."""
        return TokenizedTexts(self[row] for row in rows.tolist())


class TokenBatch(dict[str, Tensor]):
    """The tensors of one batch, (B, T).

    The keys are ``input_ids``, ``attention_mask``, ``content_mask``, ``weights`` and,
    for models that use them, ``token_type_ids``. The weights are how much tokens count
    in the text vector; content tokens of weight 0 are the context of others.
    """

    @property
    def features(self) -> dict[str, Tensor]:
        """What the transformer reads, without masks and weights of content tokens."""
        ours = ("content_mask", "weights")
        return {name: tensor for name, tensor in self.items() if name not in ours}

    def take(self, rows: slice | np.ndarray) -> TokenBatch:
        """Return some rows, padded as the whole batch is."""
        return TokenBatch({name: tensor[rows] for name, tensor in self.items()})

    def to(self, device: torch.device) -> TokenBatch:
        """Return the batch on another device."""
        return TokenBatch({name: tensor.to(device) for name, tensor in self.items()})
