"""Texts to token ids, and padded batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tokenizers import Encoding, Tokenizer

from skprotolm._data.texts import Texts, shown
from skprotolm._data.words import Sentence
from skprotolm._network.long_texts import TextPart, chunk_parts, select_part
from skprotolm._network.tokenized import TextTokens, TokenBatch, TokenizedTexts
from skprotolm._network.unread_text import UnreadText, words_without_tokens
from skprotolm._network.windows import PairTooLongError, TextWindows, cut_windows

_CHECKED_CHARACTERS = 1024  # of removed text, enough to decide whether it has tokens


class TextTokenizer:
    """A fast tokenizer with fixed settings, which threads can share.

    The call of a transformers tokenizer sets padding and truncation of a shared object.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast
        The tokenizer of the backbone; it is copied.
    max_length : int
        Tokens read per text, special tokens included.
    max_positions : int or None
        Tokens that the backbone has position embeddings for; None without a limit.
    prompt : str
        Text that is prepended to every text.
    long_text : {"truncate", "window"}
        Whether long texts are truncated, or cut into windows.
    is_causal : bool
        Whether tokens of the backbone read only the tokens before them.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_length: int,
        max_positions: int | None,
        prompt: str,
        long_text: str = "truncate",
        is_causal: bool = False,
    ):
        self.max_length = max_length
        self.max_positions = max_positions
        self.prompt = prompt
        self.long_text = long_text
        self.is_causal = is_causal
        pad_id, unknown_id = tokenizer.pad_token_id, tokenizer.unk_token_id
        self._pad_id = 0 if pad_id is None else int(pad_id)  # masked, so any id works
        self._unknown_id = -1 if unknown_id is None else int(unknown_id)
        filler_ids = [tokenizer.eos_token_id, pad_id]
        self._filler_id = int(next((i for i in filler_ids if i is not None), 0))
        self._has_type_ids = "token_type_ids" in tokenizer.model_input_names
        self._truncation_side = tokenizer.truncation_side
        self._untruncated = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._untruncated.no_padding()
        self._untruncated.no_truncation()
        self._untruncated.encode_special_tokens = True  # a typed "[SEP]" is text
        self._truncating = Tokenizer.from_str(self._untruncated.to_str())
        self._truncating.enable_truncation(max_length, direction=self._truncation_side)
        self._truncating.encode_special_tokens = True
        self.n_prompt_tokens = self._count_prompt_tokens()

    def __deepcopy__(self, memo: dict[int, Any]) -> TextTokenizer:
        return self  # immutable

    @property
    def _truncates(self) -> bool:
        return self.long_text == "truncate"

    @property
    def definition(self) -> tuple[Any, ...]:
        """Everything that determines the tokens of a text."""
        return (
            self._untruncated.to_str(),
            self.max_length,
            self.prompt,
            self.long_text,
            self.is_causal,
            self._truncation_side,
            self._pad_id,
            self._unknown_id,
            self._filler_id,
            self._has_type_ids,
        )

    def tokenize(
        self, texts: Texts, *, with_offsets: bool = False, quiet: bool = False
    ) -> TokenizedTexts:
        """Turn texts into token ids; warn about unread text, unless quiet."""
        rows: list[TextTokens] = []
        unread_text = UnreadText()
        parts = (self._select_part(text) for text in texts)
        for chunk in chunk_parts(parts):
            for part, encoding in zip(chunk, self._encode(chunk), strict=True):
                tokens = self._read_encoding(encoding, part, with_offsets)
                if not quiet:
                    self._count_unread(unread_text, part, tokens)
                rows.append(tokens if with_offsets else tokens.without_offsets())
        unread_text.warn(self.max_length, self.max_positions)
        return TokenizedTexts(rows)

    def _select_part(self, text: str | tuple[str, str]) -> TextPart:
        if not self._truncates:
            texts = (text,) if isinstance(text, str) else text
            return TextPart(texts, texts, (0,) * len(texts))
        return select_part(
            text, self.max_length, self._encode_untruncated, self._truncation_side
        )

    def _encode_untruncated(self, text: str) -> Encoding:
        return self._untruncated.encode(text, add_special_tokens=False)

    def _encode(self, parts: Sequence[TextPart]) -> list[Encoding]:
        inputs: list[Any] = []
        for part in parts:
            first, *second = part.texts
            first = self.prompt + first
            inputs.append((first, *second) if second else first)
        if not self._truncates:
            return self._untruncated.encode_batch(inputs)
        return self._truncating.encode_batch(inputs)

    def _read_encoding(
        self, encoding: Encoding, part: TextPart, with_offsets: bool
    ) -> TextTokens:
        """Return the arrays of one text."""
        ids = np.array(encoding.ids, dtype=np.int64)
        type_ids = np.array(encoding.type_ids, dtype=np.int64)
        special = np.array(encoding.special_tokens_mask, dtype=bool)
        content_mask, unread = ~special, ids == self._unknown_id
        # Offsets take as long as everything else, and most texts do not need them.
        offsets = np.zeros((len(ids), 2), dtype=np.int64)
        segments = np.zeros(len(ids), dtype=np.int64)
        is_full = len(ids) >= self.max_length
        is_ascii = all(map(str.isascii, part.texts))
        with_offsets |= isinstance(part.texts[0], Sentence)
        if with_offsets or self.prompt or is_full or unread.any() or not is_ascii:
            segments = np.array([s or 0 for s in encoding.sequence_ids], dtype=np.int64)
            offsets, content_mask = self._locate(encoding, part, segments, content_mask)
            unread &= content_mask & (offsets[:, 1] > offsets[:, 0])
        if not (content_mask.any() or special.any()):
            return self._of_words(self._with_filler(ids), part)
        content_mask = content_mask if content_mask.any() else special
        windows = self._cut(content_mask, segments, part)
        tokens = TextTokens(
            ids=ids,
            type_ids=type_ids,
            content_mask=content_mask,
            counted=content_mask,
            unread=unread,
            windows=windows,
            words=None,
            offsets=offsets,
            segments=segments,
        )
        return self._of_words(tokens, part)

    def _of_words(self, tokens: TextTokens, part: TextPart) -> TextTokens:
        sentence = part.full_texts[0]
        return tokens.of_words(sentence) if isinstance(sentence, Sentence) else tokens

    def _cut(
        self, content_mask: np.ndarray, segments: np.ndarray, part: TextPart
    ) -> TextWindows | None:
        try:
            return cut_windows(content_mask, segments, self.max_length, self.is_causal)
        except PairTooLongError as error:
            raise ValueError(
                f"Both texts of the pair {shown(part.full_texts)} are too long for "
                f"long_text='window': a window needs the whole shorter text, and has "
                f"too little space for the longer one beside it in "
                f"max_length={self.max_length} tokens. Shorten the shorter text, "
                f"increase max_length, or set long_text='truncate'."
            ) from error

    def _locate(
        self,
        encoding: Encoding,
        part: TextPart,
        segments: np.ndarray,
        content_mask: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return offsets in the user's text, and the mask without the prompt."""
        offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        first = (segments == 0) & content_mask
        content_mask = content_mask & (~first | (offsets[:, 1] > len(self.prompt)))
        shift = np.where(first, len(self.prompt), 0)[:, None]
        offsets = np.maximum(offsets - shift, 0)
        starts = np.array(part.starts)[segments]
        offsets += np.where(content_mask, starts, 0)[:, None]
        return offsets, content_mask

    def _with_filler(self, ids: np.ndarray) -> TextTokens:
        """Append a token that gets all attention, for a text without any token."""
        ids = np.append(ids, self._filler_id)[-self.max_length :]
        zeros = np.zeros(len(ids), dtype=np.int64)
        content_mask = np.arange(len(ids)) == len(ids) - 1
        offsets = np.zeros((len(ids), 2), dtype=np.int64)
        unread = zeros.astype(bool)
        return TextTokens(
            ids=ids,
            type_ids=zeros,
            content_mask=content_mask,
            counted=content_mask,
            unread=unread,
            windows=None,
            words=None,
            offsets=offsets,
            segments=zeros,
        )

    def _count_unread(
        self, unread_text: UnreadText, part: TextPart, tokens: TextTokens
    ) -> None:
        """Count the truncated characters and the unknown words of one text."""
        texts = part.full_texts
        is_full = self._truncates and len(tokens.ids) >= self.max_length
        removed = 0
        if is_full or part.texts != texts:
            removed = self._count_removed(texts, tokens)
        unknown = [
            texts[tokens.segments[t]][slice(*tokens.offsets[t].tolist())]
            for t in np.flatnonzero(tokens.unread).tolist()
        ]
        missing = [
            word
            for segment, text in enumerate(texts)
            for word in words_without_tokens(text, tokens.spans(segment), is_full)
        ]
        n_tokens = int(tokens.content_mask.sum()) + len(missing)
        unread_text.add(sum(map(len, texts)), removed, n_tokens, unknown + missing)

    def _count_removed(self, texts: Sequence[str], tokens: TextTokens) -> int:
        """Count the characters after the last token, or before the first.

        The encoding's ``overflowing`` is no alternative: tokenizers 0.23.1 leaves it
        empty for tokenizers that add no special tokens.
        """
        n_removed = 0
        for segment, text in enumerate(texts):
            spans = tokens.spans(segment)
            if self._truncation_side == "left":
                removed = text[: spans[:, 0].min(initial=len(text))]
            else:
                removed = text[spans[:, 1].max(initial=0) :]
            # The tokenizer itself drops some characters, such as control characters.
            start = removed.strip()[:_CHECKED_CHARACTERS]
            if start and self._encode_untruncated(start).ids:
                n_removed += len(removed)
        return n_removed

    def token_name(self, token_id: int) -> str:
        """Return the string of a token in the vocabulary."""
        return self._untruncated.id_to_token(token_id) or ""

    def _count_prompt_tokens(self) -> int:
        """Count the prompt's tokens and the special ones before it, as pooling does."""
        if not self.prompt:
            return 0
        special = self._truncating.encode(self.prompt).special_tokens_mask
        if len(special) >= self.max_length:
            raise ValueError(
                f"max_length must be larger than the backbone's prompt, which has at "
                f"least {len(special)} tokens with its special tokens, got "
                f"{self.max_length}."
            )
        return len(special) - (1 if special[-1] else 0)

    def collate(
        self,
        tokenized: TokenizedTexts,
        rows: np.ndarray,
        numbers: np.ndarray | None = None,
    ) -> TokenBatch:
        """Pad windows of texts on the right into one batch, (B, T).

        Parameters
        ----------
        tokenized : TokenizedTexts
        rows : ndarray of shape (B,), int
            The text of each window.
        numbers : ndarray of shape (B,), int, default=None
            Which of its windows; None for the first ones.
        """
        numbers = np.zeros_like(rows) if numbers is None else numbers
        windows = list(zip(rows.tolist(), numbers.tolist(), strict=True))
        positions = [tokenized[row].positions(number) for row, number in windows]
        B, T = len(rows), max(map(len, positions))
        ids = np.full((B, T), self._pad_id, dtype=np.int64)
        type_ids = np.zeros((B, T), dtype=np.int64)
        attention_mask = np.zeros((B, T), dtype=np.int64)
        content_mask = np.zeros((B, T), dtype=bool)
        weights = np.zeros((B, T), dtype=np.float32)
        for b, ((row, number), columns) in enumerate(
            zip(windows, positions, strict=True)
        ):
            tokens, length = tokenized[row], len(columns)
            ids[b, :length] = tokens.ids[columns]
            type_ids[b, :length] = tokens.type_ids[columns]
            attention_mask[b, :length] = 1
            content_mask[b, :length] = tokens.content_mask[columns]
            weights[b, :length] = tokens.weights(number)
        batch = {
            "input_ids": ids,
            "attention_mask": attention_mask,
            "content_mask": content_mask,
            "weights": weights,
        }
        if self._has_type_ids:
            batch["token_type_ids"] = type_ids
        return TokenBatch({name: torch.from_numpy(a) for name, a in batch.items()})
