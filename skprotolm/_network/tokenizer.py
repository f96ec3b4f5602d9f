"""Texts to token ids, and padded batches of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from skprotolm._data.texts import Texts
from skprotolm._runtime import warn
from skprotolm.exceptions import TextTruncatedWarning, UnreadTextWarning

# Texts that are tokenized at once, and their characters, which bound the memory of
# the encodings.
_CHUNK, _CHUNK_CHARACTERS = 1024, 2**20
# Of a long text, how many characters are tried first, per token and at least. Most
# texts have four to six per token, so that one try is enough. But a word of any length
# may be one token: WordPiece takes words of more than 100 characters for unknown.
_CHARACTERS_PER_TOKEN, _CHARACTERS = 16, 1024
_SPACES = " \t\n"
# Tokens that a part of a text must have beyond max_length: where the part ends, its
# last tokens may differ from those of the whole text. One word has seldom as many.
_MARGIN = 16
_EXAMPLES, _EXAMPLE_LENGTH = 3, 20  # of unread words in a warning
_WORD = re.compile(r"\S+")
# A letter, figure, sign or private character, not a mark or control.
_VISIBLE = re.compile(
    r"[^\s\x00-\x1f\x7f-\x9f\xad\u0300-\u036f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    r"\ufe00-\ufe0f\ufeff]"
)
_MULTILINGUAL = "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"


@dataclass(frozen=True)
class TokenizedTexts:
    """Texts as token ids, one array per text.

    ``own`` marks the tokens that stand for what the user wrote; the tokens of a
    text without any are its special tokens. ``unread`` marks those among them that
    are the tokenizer's unknown token.
    """

    ids: list[np.ndarray]
    type_ids: list[np.ndarray]
    own: list[np.ndarray]
    unread: list[np.ndarray]
    offsets: list[np.ndarray] | None  # (T, 2) characters, within each text of a pair
    segments: list[np.ndarray] | None  # (T,) 0 or 1, which text of the pair

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per text, special tokens included."""
        return np.array([len(ids) for ids in self.ids])

    @property
    def keys(self) -> list[bytes]:
        """What the encoder reads of each text: texts of one key get one vector."""
        pairs = zip(self.ids, self.type_ids, strict=True)
        return [ids.tobytes() + type_ids.tobytes() for ids, type_ids in pairs]

    def take(self, rows: np.ndarray) -> TokenizedTexts:
        """Return the texts of some rows."""

        def pick(arrays: list[np.ndarray] | None) -> Any:
            return None if arrays is None else [arrays[i] for i in rows]

        return TokenizedTexts(
            pick(self.ids),
            pick(self.type_ids),
            pick(self.own),
            pick(self.unread),
            pick(self.offsets),
            pick(self.segments),
        )


class TokenBatch(dict[str, Tensor]):
    """The tensors of one batch, (B, T): ``input_ids``, ``attention_mask``, ``own``."""

    def to(self, device: torch.device) -> TokenBatch:
        """Return the batch on another device."""
        return TokenBatch({name: tensor.to(device) for name, tensor in self.items()})


class _Part(NamedTuple):
    """The part of a text, or of each text of a pair, that the encoder may read."""

    whole: tuple[str, ...]  # the text, or the two of a pair
    texts: tuple[str, ...]  # their parts
    begins: tuple[int, ...]  # where each part begins in its text


class _Tokens(NamedTuple):
    """One text; offsets count in the text that the user passed."""

    ids: np.ndarray
    type_ids: np.ndarray
    own: np.ndarray
    unread: np.ndarray
    offsets: np.ndarray
    segments: np.ndarray


@dataclass
class _Tally:
    """What was not read of several texts."""

    n_cut: int = 0
    cut_characters: int = 0
    cut_from: int = 0  # characters of the texts that were cut
    n_unread: int = 0  # texts with unknown tokens
    unread_tokens: int = 0
    tokens: int = 0
    examples: dict[str, None] = field(default_factory=dict)


class TextTokenizer:
    """A fast tokenizer with settings of its own, which never change.

    transformers' own call sets padding and truncation anew each time, on an object
    that threads would share.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast
        The backbone's; it is copied.
    max_length : int
        Tokens read per text, special tokens included.
    limit : int or None
        The tokens that the backbone has positions for, if it has a limit.
    prompt : str
        What is put in front of every text.
    """

    def __init__(self, tokenizer: Any, max_length: int, limit: int | None, prompt: str):
        self.max_length = max_length
        self.limit = limit
        self.prompt = prompt
        pad_id, unknown_id = tokenizer.pad_token_id, tokenizer.unk_token_id
        self._pad_id = 0 if pad_id is None else int(pad_id)  # masked: any id serves
        self._unknown_id = -1 if unknown_id is None else int(unknown_id)
        ends = [tokenizer.eos_token_id, pad_id]
        self._filler_id = int(next((i for i in ends if i is not None), 0))
        self._has_type_ids = "token_type_ids" in tokenizer.model_input_names
        self._cuts_left = tokenizer.truncation_side == "left"
        self._untruncated = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._untruncated.no_padding()
        self._untruncated.no_truncation()
        self._untruncated.encode_special_tokens = True  # a typed "[SEP]" is text
        self._truncating = Tokenizer.from_str(self._untruncated.to_str())
        self._truncating.enable_truncation(
            max_length, direction=tokenizer.truncation_side
        )
        self._truncating.encode_special_tokens = True
        self.n_prompt_tokens = self._count_prompt_tokens()

    def __deepcopy__(self, memo: dict[int, Any]) -> TextTokenizer:
        return self  # it never changes

    @property
    def definition(self) -> tuple[Any, ...]:
        """All that decides which tokens a text has."""
        return (
            self._untruncated.to_str(),
            self.max_length,
            self.prompt,
            self._cuts_left,
            self._pad_id,
            self._unknown_id,
            self._filler_id,
            self._has_type_ids,
        )

    def tokenize(
        self, texts: Texts, *, with_offsets: bool = False, quiet: bool = False
    ) -> TokenizedTexts:
        """Turn texts into token ids; warn about text that is not read, unless quiet."""
        tokenized: list[_Tokens] = []
        tally = _Tally()
        for chunk in self._chunks(texts):
            for part, encoding in zip(chunk, self._encode(chunk), strict=True):
                tokens = self._tokens(encoding, part, with_offsets)
                if not quiet:
                    self._count_unread(tally, part, tokens)
                tokenized.append(tokens)
        self._warn(tally, len(texts))
        columns: Any = map(list, zip(*tokenized, strict=True))
        ids, type_ids, own, unread, offsets, segments = columns
        if not with_offsets:
            return TokenizedTexts(ids, type_ids, own, unread, None, None)
        return TokenizedTexts(ids, type_ids, own, unread, offsets, segments)

    def _chunks(self, texts: Sequence[Any]) -> Iterator[list[_Part]]:
        """Yield parts of the texts, as many as are tokenized at once."""
        chunk: list[_Part] = []
        characters = 0
        for text in texts:
            part = self._part(text)
            size = sum(map(len, part.texts))
            if chunk and (
                len(chunk) == _CHUNK or characters + size > _CHUNK_CHARACTERS
            ):
                yield chunk
                chunk, characters = [], 0
            chunk.append(part)
            characters += size
        if chunk:
            yield chunk

    def _part(self, text: str | tuple[str, str]) -> _Part:
        """Find the part of a text that suffices to fill `max_length`.

        Where both texts of a pair are cut, and an odd number of tokens is left for
        them, the one that gets one more may be another than in whole texts.
        """
        whole = (text,) if isinstance(text, str) else text
        slices = [self._reach(side) for side in whole]
        pairs = zip(whole, slices, strict=True)
        parts = tuple(side[begin:end] for side, (begin, end) in pairs)
        return _Part(whole, parts, tuple(begin for begin, _ in slices))

    def _reach(self, text: str) -> tuple[int, int]:
        """Return the slice of a text that has more than `max_length` tokens."""
        size = max(_CHARACTERS, _CHARACTERS_PER_TOKEN * self.max_length)
        while size < len(text):
            begin, end = self._at_space(text, size)
            part = self._untruncated.encode(text[begin:end], add_special_tokens=False)
            if len(part) > self.max_length + _MARGIN:
                return begin, end
            size *= 4
        return 0, len(text)

    def _at_space(self, text: str, size: int) -> tuple[int, int]:
        """Return a slice of at most `size` characters that ends between words."""
        if self._cuts_left:
            begin = len(text) - size
            found = [text.find(space, begin) for space in _SPACES]
            return min((at for at in found if at >= 0), default=begin), len(text)
        space = max(text.rfind(space, 0, size) for space in _SPACES)
        return 0, space if space > 0 else size

    def _encode(self, parts: Sequence[_Part]) -> list[Encoding]:
        inputs: list[Any] = []
        for part in parts:
            first, *second = part.texts
            first = self.prompt + first
            inputs.append((first, *second) if second else first)
        return self._truncating.encode_batch(inputs)

    def _tokens(self, encoding: Encoding, part: _Part, with_offsets: bool) -> _Tokens:
        """Return the arrays of one text."""
        ids = np.array(encoding.ids, dtype=np.int64)
        type_ids = np.array(encoding.type_ids, dtype=np.int64)
        special = np.array(encoding.special_tokens_mask, dtype=bool)
        own, unread = ~special, ids == self._unknown_id
        # Most texts of a long list need no offsets, which take as long as the rest.
        offsets = np.zeros((len(ids), 2), dtype=np.int64)
        segments = np.zeros(len(ids), dtype=np.int64)
        is_full = len(ids) >= self.max_length
        is_plain = all(map(str.isascii, part.texts))
        if with_offsets or self.prompt or is_full or unread.any() or not is_plain:
            segments = np.array([s or 0 for s in encoding.sequence_ids], dtype=np.int64)
            offsets, own = self._locate(encoding, part, segments, own)
            unread &= own & (offsets[:, 1] > offsets[:, 0])
        if not (own.any() or special.any()):
            return self._filler(ids)
        own = own if own.any() else special
        return _Tokens(ids, type_ids, own, unread, offsets, segments)

    def _locate(
        self, encoding: Encoding, part: _Part, segments: np.ndarray, own: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return offsets in the user's text, and the own mask without the prompt."""
        offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        first = (segments == 0) & own
        own = own & (~first | (offsets[:, 1] > len(self.prompt)))
        shift = np.where(first, len(self.prompt), 0)[:, None]
        offsets = np.maximum(offsets - shift, 0)
        offsets += np.where(own, np.array(part.begins)[segments], 0)[:, None]
        return offsets, own

    def _filler(self, ids: np.ndarray) -> _Tokens:
        """Add a token that carries the attention of a text without any."""
        ids = np.append(ids, self._filler_id)[-self.max_length :]
        zeros = np.zeros(len(ids), dtype=np.int64)
        own = np.arange(len(ids)) == len(ids) - 1
        offsets = np.zeros((len(ids), 2), dtype=np.int64)
        return _Tokens(ids, zeros, own, zeros.astype(bool), offsets, zeros)

    def _count_unread(self, tally: _Tally, part: _Part, tokens: _Tokens) -> None:
        texts = part.whole
        if part.texts != texts or len(tokens.ids) >= self.max_length:
            cut = self._cut_characters(texts, tokens)
            tally.n_cut += cut > 0
            tally.cut_characters += cut
            tally.cut_from += sum(map(len, texts)) if cut else 0
        words = [
            texts[tokens.segments[t]][slice(*tokens.offsets[t].tolist())]
            for t in np.flatnonzero(tokens.unread).tolist()
        ]
        words += self._dropped_words(texts, tokens)
        tally.tokens += int(tokens.own.sum()) + len(words) - int(tokens.unread.sum())
        tally.unread_tokens += len(words)
        tally.n_unread += len(words) > 0
        for word in words:
            if len(tally.examples) < _EXAMPLES and word.isprintable():
                tally.examples[word[:_EXAMPLE_LENGTH]] = None

    def _dropped_words(self, texts: Sequence[str], tokens: _Tokens) -> list[str]:
        """Find visible words that give no token, such as replacement characters."""
        dropped: list[str] = []
        for segment, text in enumerate(texts):
            if text.isascii():  # of which tokenizers drop control characters alone
                continue
            at = tokens.offsets[tokens.own & (tokens.segments == segment)]
            is_full = len(tokens.ids) >= self.max_length
            low = at[:, 0].min(initial=len(text)) if is_full else 0
            high = at[:, 1].max(initial=0) if is_full else len(text)
            starts, ends = np.sort(at[:, 0]), np.sort(at[:, 1])
            for match in _WORD.finditer(text, low, high):
                t = np.searchsorted(ends, match.start(), side="right")
                is_dropped = t == len(starts) or starts[t] >= match.end()
                if is_dropped and _VISIBLE.search(match[0]):
                    dropped.append(match[0])
        return dropped

    def _cut_characters(self, texts: Sequence[str], tokens: _Tokens) -> int:
        """Count the characters behind the last token, or before the first.

        Not by the encoding's ``overflowing``, which tokenizers 0.23.1 leaves empty
        where no special tokens are added.
        """
        count = 0
        for segment, text in enumerate(texts):
            mine = tokens.offsets[tokens.own & (tokens.segments == segment)]
            if self._cuts_left:
                rest = text[: mine[:, 0].min(initial=len(text))]
            else:
                rest = text[mine[:, 1].max(initial=0) :]
            # Characters that the tokenizer drops, such as controls, are not cut.
            start = rest.strip()[:_CHARACTERS]
            if start and self._untruncated.encode(start, add_special_tokens=False).ids:
                count += len(rest)
        return count

    def _warn(self, tally: _Tally, n_texts: int) -> None:
        if tally.n_cut:
            share = tally.cut_characters / tally.cut_from
            more = " The backbone reads no more: split the texts, or use another one."
            if self.limit is None:
                more = " A larger max_length reads more."
            elif self.limit > self.max_length:
                more = f" Set max_length={self.limit} to read more."
            warn(
                f"{tally.n_cut} of {n_texts} texts are longer than max_length="
                f"{self.max_length} tokens, and {_percent(share)} of their characters "
                f"are not read.{more}",
                TextTruncatedWarning,
            )
        if tally.n_unread:
            share = tally.unread_tokens / tally.tokens
            named = ", ".join(map(repr, tally.examples))
            such_as = f", such as {named}" if named else ""
            warn(
                f"{tally.n_unread} of {n_texts} texts have words that the backbone's "
                f"tokenizer cannot read{such_as}: {_percent(share)} of all tokens. "
                f"To the model they are all the same unknown token, or nothing. Use a "
                f"backbone whose vocabulary has them, for example {_MULTILINGUAL!r}.",
                UnreadTextWarning,
            )

    def token_name(self, token_id: int) -> str:
        """Return how the tokenizer writes a token."""
        return self._untruncated.id_to_token(token_id) or ""

    def _count_prompt_tokens(self) -> int:
        """Count the prompt's tokens and the special ones before it, as pooling does."""
        if not self.prompt:
            return 0
        special = self._truncating.encode(self.prompt).special_tokens_mask
        if len(special) >= self.max_length:
            raise ValueError(
                f"max_length must leave room behind the backbone's prompt, which with "
                f"its special tokens has {len(special)} tokens or more, got "
                f"{self.max_length}."
            )
        return len(special) - (1 if special[-1] else 0)

    def collate(self, tokenized: TokenizedTexts, rows: np.ndarray) -> TokenBatch:
        """Pad some texts on the right into the tensors of one batch, (B, T)."""
        B, T = len(rows), max(len(tokenized.ids[i]) for i in rows)
        ids = np.full((B, T), self._pad_id, dtype=np.int64)
        type_ids = np.zeros((B, T), dtype=np.int64)
        mask = np.zeros((B, T), dtype=np.int64)
        own = np.zeros((B, T), dtype=bool)
        for b, i in enumerate(rows):
            length = len(tokenized.ids[i])
            ids[b, :length] = tokenized.ids[i]
            type_ids[b, :length] = tokenized.type_ids[i]
            mask[b, :length] = 1
            own[b, :length] = tokenized.own[i]
        batch = {"input_ids": ids, "attention_mask": mask, "own": own}
        if self._has_type_ids:
            batch["token_type_ids"] = type_ids
        return TokenBatch({name: torch.from_numpy(a) for name, a in batch.items()})


def _percent(share: float) -> str:
    """Write a share as a percentage, never as a 0 % or 100 % that it is not."""
    percentage = f"{100 * share:.1f}"
    if percentage == "0.0":
        return "less than 0.1 %"
    if percentage == "100.0" and share < 1:
        return "more than 99.9 %"
    return f"{percentage} %"
