"""Texts to token vectors: a SentenceTransformer's transformer, on a copy of our own."""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)
from sentence_transformers import SentenceTransformer
from tokenizers import Encoding, Tokenizer
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from skprotolm._backbone import loading_error, resolve_backbone
from skprotolm._inputs import Texts
from skprotolm._runtime import autocast, warn
from skprotolm.exceptions import TextTruncatedWarning

_CHUNK = 1024  # texts tokenised at once, which bounds the memory of the encodings
_LOADING_LOCK = threading.RLock()
# Position embeddings of these start behind the padding's, so that as many fewer
# tokens fit.
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer")


@dataclass(frozen=True)
class TokenizedTexts:
    """Texts as token ids, one array a text.

    ``own`` marks the tokens that stand for what the user wrote; the tokens of a
    text without any are its special tokens.
    """

    ids: list[np.ndarray]
    type_ids: list[np.ndarray]
    own: list[np.ndarray]
    offsets: list[np.ndarray] | None  # (T, 2) characters, within each text of a pair
    segments: list[np.ndarray] | None  # (T,) 0 or 1, which text of the pair

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens a text, special tokens included."""
        return np.array([len(ids) for ids in self.ids])

    def take(self, rows: np.ndarray) -> TokenizedTexts:
        """Return the texts of some rows."""

        def pick(arrays: list[np.ndarray] | None) -> Any:
            return None if arrays is None else [arrays[i] for i in rows]

        return TokenizedTexts(
            pick(self.ids),
            pick(self.type_ids),
            pick(self.own),
            pick(self.offsets),
            pick(self.segments),
        )


class TokenBatch(dict[str, Tensor]):
    """The tensors of one batch, (B, T): ``input_ids``, ``attention_mask``, ``own``."""

    def to(self, device: torch.device) -> TokenBatch:
        """Return the batch on another device."""
        return TokenBatch({name: tensor.to(device) for name, tensor in self.items()})


class TextEncoder(nn.Module):
    """A SentenceTransformer, its tokenizer, and what of it classification uses.

    Parameters
    ----------
    sentence_transformer : SentenceTransformer
        Owned by this object: it is trained in place.
    max_length : int or None
        Tokens read of a text, special tokens included; None for the model's own.
    """

    def __init__(
        self, sentence_transformer: SentenceTransformer, max_length: int | None
    ):
        super().__init__()
        _require_transformer(sentence_transformer)
        self.sentence_transformer = _as_trainable(sentence_transformer)
        self.max_length = _checked_max_length(self.transformer, max_length)
        name = sentence_transformer.default_prompt_name
        self.prompt = (sentence_transformer.prompts.get(name) or "") if name else ""
        self._tokenizer = _own_tokenizer(self.transformer.tokenizer, self.max_length)
        self._prompt_tokens = self._count_prompt_tokens()

    @property
    def transformer(self) -> Any:
        """The first module: token ids to token vectors."""
        return self.sentence_transformer[0]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the weights."""
        return next(self.parameters()).dtype

    @property
    def hidden_size(self) -> int:
        """Length H of a token vector."""
        config = self.transformer.auto_model.config
        return int(config.get_text_config().hidden_size)

    def tokenize(
        self, texts: Texts, *, with_offsets: bool = False, quiet: bool = False
    ) -> TokenizedTexts:
        """Turn texts into token ids; warn once if any had to be cut, unless quiet."""
        columns: list[tuple[Any, ...]] = []
        n_cut = 0
        for start in range(0, len(texts), _CHUNK):
            for encoding in self._encode(texts[start : start + _CHUNK]):
                n_cut += bool(encoding.overflowing)
                columns.append(self._arrays(encoding, with_offsets))
        if n_cut and not quiet:
            warn(
                f"{n_cut} of {len(texts)} texts are longer than max_length="
                f"{self.max_length} tokens; what comes after was not read.",
                TextTruncatedWarning,
            )
        ids, type_ids, own, offsets, segments = map(list, zip(*columns, strict=True))
        if not with_offsets:
            return TokenizedTexts(ids, type_ids, own, None, None)
        return TokenizedTexts(ids, type_ids, own, offsets, segments)

    def _encode(self, texts: Sequence[Any]) -> list[Encoding]:
        if not self.prompt:
            return self._tokenizer.encode_batch(list(texts))
        prompted: list[Any] = [
            (self.prompt + text[0], text[1])
            if isinstance(text, tuple)
            else self.prompt + text
            for text in texts
        ]
        return self._tokenizer.encode_batch(prompted)

    def _arrays(self, encoding: Encoding, with_offsets: bool) -> tuple[Any, ...]:
        """Return one text's ids, type ids, own mask, offsets and segments."""
        ids = np.array(encoding.ids, dtype=np.int64)
        type_ids = np.array(encoding.type_ids, dtype=np.int64)
        special = np.array(encoding.special_tokens_mask, dtype=bool)
        own = ~special
        offsets: np.ndarray | None = None
        segments: np.ndarray | None = None
        if with_offsets or self.prompt:
            offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
            segments = np.array([s or 0 for s in encoding.sequence_ids], dtype=np.int64)
            first = (segments == 0) & own
            own &= ~first | (offsets[:, 1] > len(self.prompt))
            shift = np.where(first, len(self.prompt), 0)[:, None]
            offsets = np.maximum(offsets - shift, 0)
        if own.any() or special.any():
            own = own if own.any() else special
            return ids, type_ids, own, offsets, segments
        # No special tokens either: a token is added to carry the attention.
        ids = np.append(ids, self._filler_id())[-self.max_length :]
        own = np.arange(len(ids)) == len(ids) - 1
        zeros = np.zeros(len(ids), dtype=np.int64)
        return ids, zeros, own, np.zeros((len(ids), 2), dtype=np.int64), zeros

    def token_name(self, token_id: int) -> str:
        """Return how the tokenizer writes a token."""
        return self._tokenizer.id_to_token(token_id) or ""

    def _filler_id(self) -> int:
        tokenizer = self.transformer.tokenizer
        for token_id in (tokenizer.eos_token_id, tokenizer.pad_token_id):
            if token_id is not None:
                return int(token_id)
        return 0

    def _count_prompt_tokens(self) -> int:
        """Count the prompt's tokens and the special ones before it, as pooling does."""
        if not self.prompt:
            return 0
        special = self._tokenizer.encode(self.prompt).special_tokens_mask
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
        ids = np.full((B, T), self._pad_id(), dtype=np.int64)
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
        if "token_type_ids" in self.transformer.tokenizer.model_input_names:
            batch["token_type_ids"] = type_ids
        return TokenBatch({name: torch.from_numpy(a) for name, a in batch.items()})

    def _pad_id(self) -> int:
        pad_id = self.transformer.tokenizer.pad_token_id
        return 0 if pad_id is None else int(pad_id)  # under the mask any id serves

    def forward(self, batch: TokenBatch, *, bf16: bool) -> Tensor:
        """Return the token vectors (B, T, H) in the precision of the weights."""
        features = {name: tensor for name, tensor in batch.items() if name != "own"}
        with autocast(self.device, bf16):
            h = self.transformer(features)["token_embeddings"]
        return h.to(self.dtype)

    def sentence_vectors(self, batch: TokenBatch, h: Tensor) -> Tensor:
        """Return what ``SentenceTransformer.encode`` gives, from token vectors."""
        features: dict[str, Any] = {**batch, "token_embeddings": h}
        if self._prompt_tokens:
            features["prompt_length"] = self._prompt_tokens
        for module in list(self.sentence_transformer)[1:]:
            features = module(features)
        return features["sentence_embedding"]


def load_encoder(backbone: Any, max_length: int | None) -> TextEncoder:
    """Load a backbone by name or folder, or copy a SentenceTransformer."""
    if isinstance(backbone, SentenceTransformer):
        return TextEncoder(copy.deepcopy(backbone), max_length)
    return TextEncoder(load_folder(resolve_backbone(backbone)), max_length)


def load_folder(folder: Path) -> SentenceTransformer:
    """Load a SentenceTransformer from a folder, silently and without the network."""
    with _LOADING_LOCK, _silence():
        try:
            return SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        except Exception as error:  # each library below has errors of its own
            raise loading_error(folder, error) from error


def frozen_vectors(backbone: Any, texts: Texts) -> np.ndarray:
    """Return the unit sentence vectors (n, P) of a backbone that nobody trained."""
    model = load_encoder(backbone, None).sentence_transformer
    found = model.encode(
        [list(text) if isinstance(text, tuple) else text for text in texts],
        normalize_embeddings=True,
        show_progress_bar=False,
    )
    return np.asarray(found, dtype=np.float64)


def save_folder(encoder: TextEncoder, folder: Path) -> None:
    """Save the SentenceTransformer of an encoder to a folder, silently."""
    with _LOADING_LOCK, _silence():
        encoder.sentence_transformer.save(str(folder), create_model_card=False)


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the loaders' bars and notes off the screen, and restore their settings."""
    loggers = [logging.getLogger(n) for n in ("transformers", "sentence_transformers")]
    levels = [logger.level for logger in loggers]
    had_bars = transformers_logging.is_progress_bar_enabled()
    hub_had_none = are_progress_bars_disabled()
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        transformers_logging.disable_progress_bar()
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if had_bars:
            transformers_logging.enable_progress_bar()
        if hub_had_none != are_progress_bars_disabled():
            (disable_progress_bars if hub_had_none else enable_progress_bars)()


def _require_transformer(model: Any) -> None:
    first = model[0]
    if not hasattr(first, "auto_model") or not hasattr(first, "tokenizer"):
        raise ValueError(
            f"The backbone's first module is {type(first).__name__}; it must be a "
            f"transformer that gives one vector a token."
        )
    if not getattr(first.tokenizer, "is_fast", False):
        raise ValueError(
            f"The backbone's tokenizer, {type(first.tokenizer).__name__}, cannot tell "
            f"which characters a token stands for; a fast tokenizer is needed."
        )
    if len(first.tokenizer) <= len(first.tokenizer.all_special_tokens):
        raise ValueError(
            "The backbone's tokenizer knows no words, only special tokens: its files "
            "are missing from the backbone's folder."
        )


def _as_trainable(model: Any) -> Any:
    """Prepare our copy: full-precision weights, no cache, a padding token."""
    if next(model.parameters()).dtype in (torch.float16, torch.bfloat16):
        model = model.float()
    transformer = model[0]
    config = transformer.auto_model.config
    if getattr(config, "use_cache", False):
        config.use_cache = False  # keys and values of decoders, which nobody reads
    tokenizer = transformer.tokenizer
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return model


def _checked_max_length(transformer: Any, max_length: int | None) -> int:
    config = transformer.auto_model.config
    limit = getattr(config, "max_position_embeddings", None)
    if limit is not None and config.model_type in _OFFSET_POSITIONS:
        # MPNet's embeddings have their padding at 1, whatever the configuration says.
        padding = 1 if config.model_type == "mpnet" else config.pad_token_id or 0
        limit -= padding + 1
    if max_length is None:
        known = [
            transformer.max_seq_length,
            transformer.tokenizer.model_max_length,
            limit,
        ]
        # Tokenizers without a limit of their own say 10 ** 30.
        return int(min(n for n in [*known, 10**9] if n is not None))
    if limit is not None and max_length > limit:
        raise ValueError(
            f"max_length must be at most {limit}, the tokens that the backbone has "
            f"positions for, got {max_length}."
        )
    overhead = transformer.tokenizer.num_special_tokens_to_add(pair=True)
    if max_length <= overhead:
        raise ValueError(
            f"max_length must be more than {overhead}, since the backbone adds as many "
            f"special tokens, got {max_length}."
        )
    return int(max_length)


def _own_tokenizer(tokenizer: Any, max_length: int) -> Tokenizer:
    """Copy the fast tokenizer with our settings, which never change again.

    transformers' own call sets padding and truncation anew each time, on an object
    that threads would share.
    """
    own = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    own.no_padding()
    own.enable_truncation(max_length, direction=tokenizer.truncation_side)
    own.encode_special_tokens = True  # a "[SEP]" that the user typed is text
    return own
