"""Texts as token ids, and padded batches of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from skprotolm._data.words import MarkedWord, Sentence
from skprotolm._network.windows import TextWindows
from skprotolm._network.word_tokens import WordTokens, find_word_tokens


@dataclass(frozen=True)
class TokenizedTexts:
    """Texts as token ids, one array per text.

    ``content_mask`` marks content tokens: the tokens of the user's text, without the
    prompt and the tokens that the tokenizer adds. A text without content tokens is
    represented by its special tokens, which are marked instead. ``counted`` marks those
    that are pooled: all of them, or the tokens of a marked word. ``unread`` marks the
    content tokens that are the tokenizer's unknown token. ``windows`` are those of the
    texts that the encoder does not read at once, and ``words`` the tokens of each word
    of a sentence.
    """

    ids: list[np.ndarray]
    type_ids: list[np.ndarray]
    content_mask: list[np.ndarray]
    counted: list[np.ndarray]
    unread: list[np.ndarray]
    windows: list[TextWindows | None]
    words: list[WordTokens | None]
    offsets: list[np.ndarray] | None  # (T, 2) characters, within each text of a pair
    segments: list[np.ndarray] | None  # (T,) 0 or 1, the text of the pair

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per text, special tokens included."""
        return np.array([len(ids) for ids in self.ids])

    @property
    def n_windows(self) -> np.ndarray:
        """Windows per text, 1 for a text that the encoder reads at once."""
        return np.array([1 if w is None else len(w.starts) for w in self.windows])

    def tokens_of_words(self, row: int) -> WordTokens:
        """Return the tokens of the words of a text; other texts count as one word."""
        tokens = np.flatnonzero(self.counted[row])
        return self.words[row] or WordTokens(tokens, np.zeros_like(tokens))

    @property
    def n_words(self) -> np.ndarray:
        """Words per text; a text that is not cut into words counts as one."""
        counts = [1 if w is None else len(np.unique(w.words)) for w in self.words]
        return np.array(counts, dtype=np.int64)

    def positions(self, row: int, number: int) -> np.ndarray:
        """Return which tokens of a text one of its windows has."""
        windows, n_tokens = self.windows[row], len(self.ids[row])
        if windows is None:
            return np.arange(n_tokens)
        return windows.positions(number, n_tokens)

    def weights(self, row: int, number: int) -> np.ndarray:
        """Return how much the tokens of a window count in it."""
        windows, counted = self.windows[row], self.counted[row]
        if windows is None:
            return counted.astype(np.float32)
        return windows.weights(number, counted)

    @property
    def keys(self) -> list[bytes]:
        """The encoder's input per text; equal keys have equal vectors."""
        columns = zip(
            self.ids, self.type_ids, self.content_mask, self.counted, strict=True
        )
        return [
            ids.tobytes()
            + type_ids.tobytes()
            + (b"" if counted is content_mask else counted.tobytes())
            for ids, type_ids, content_mask, counted in columns
        ]

    def take(self, rows: np.ndarray) -> TokenizedTexts:
        """Return the texts of the given rows."""

        def pick(arrays: list[Any] | None) -> Any:
            return None if arrays is None else [arrays[i] for i in rows]

        return TokenizedTexts(
            pick(self.ids),
            pick(self.type_ids),
            pick(self.content_mask),
            pick(self.counted),
            pick(self.unread),
            pick(self.windows),
            pick(self.words),
            pick(self.offsets),
            pick(self.segments),
        )


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


class TextTokens(NamedTuple):
    """The tokens of one text, or of one pair."""

    ids: np.ndarray
    type_ids: np.ndarray
    content_mask: np.ndarray
    counted: np.ndarray
    unread: np.ndarray
    windows: TextWindows | None
    words: WordTokens | None
    offsets: np.ndarray
    segments: np.ndarray

    def spans(self, segment: int) -> np.ndarray:
        """Return the offsets of one text's content tokens."""
        return self.offsets[self.content_mask & (self.segments == segment)]

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
