"""Texts to token vectors: a SentenceTransformer's transformer, on a copy of our own."""

from __future__ import annotations

import copy
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
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
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from skprotolm._data.texts import Texts
from skprotolm._network.loading import loading_error, resolve_backbone
from skprotolm._network.tokenizer import TextTokenizer, TokenBatch, TokenizedTexts
from skprotolm._runtime import autocast

_LOADING_LOCK = threading.RLock()
# Position embeddings of these start behind the padding's, so that as many fewer
# tokens fit.
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer")


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
        # Whether its files describe it; None until the first save has compared them.
        self.is_described: bool | None = None
        _require_transformer(sentence_transformer)
        self.sentence_transformer = _as_trainable(sentence_transformer)
        name = sentence_transformer.default_prompt_name
        limit = _limit(self.transformer.auto_model.config)
        self.tokenizer = TextTokenizer(
            self.transformer.tokenizer,
            _checked_max_length(self.transformer, limit, max_length),
            limit,
            (sentence_transformer.prompts.get(name) or "") if name else "",
        )

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
    def is_frozen(self) -> bool:
        """Whether no weight is trained."""
        return not any(p.requires_grad for p in self.parameters())

    @property
    def hidden_size(self) -> int:
        """Length H of a token vector."""
        config = self.transformer.auto_model.config
        return int(config.get_text_config().hidden_size)

    @property
    def max_length(self) -> int:
        """Tokens read per text, special tokens included."""
        return self.tokenizer.max_length

    def tokenize(
        self, texts: Texts, *, with_offsets: bool = False, quiet: bool = False
    ) -> TokenizedTexts:
        """Turn texts into token ids; warn about text that is not read, unless quiet."""
        return self.tokenizer.tokenize(texts, with_offsets=with_offsets, quiet=quiet)

    def forward(self, batch: TokenBatch, *, bf16: bool) -> Tensor:
        """Return the token vectors (B, T, H) in the precision of the weights."""
        features = {name: tensor for name, tensor in batch.items() if name != "own"}
        with autocast(self.device, bf16):
            h = self.transformer(features)["token_embeddings"]
        n_tokens = batch["input_ids"].shape[1]
        if h.shape[1] != n_tokens:
            raise ValueError(
                f"The backbone gives {h.shape[1]} vectors for {n_tokens} tokens; it "
                f"must give one per token, which prompt tuning does not."
            )
        return h.to(self.dtype)

    def sentence_vectors(self, batch: TokenBatch, h: Tensor) -> Tensor:
        """Return what ``SentenceTransformer.encode`` gives, from token vectors."""
        features: dict[str, Any] = {**batch, "token_embeddings": h}
        if self.tokenizer.n_prompt_tokens:
            features["prompt_length"] = self.tokenizer.n_prompt_tokens
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


def merge_adapters(encoder: TextEncoder) -> None:
    """Merge peft's adapters into the weights that they adapt, in place.

    Without them the architecture is the one that its configuration describes: it can be
    saved and loaded, and relevance knows its layers. Adapters that are switched off are
    taken out; prompts and prefixes, which belong to no weight, stay.
    """
    if "peft" not in sys.modules:
        return
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in list(encoder.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, PeftModel) and hasattr(child, "merge_and_unload"):
                layers = [m for m in child.modules() if isinstance(m, BaseTunerLayer)]
                is_off = any(layer.disable_adapters for layer in layers)
                merged = child.unload() if is_off else child.merge_and_unload()
                module._modules[name] = merged
    for module in list(encoder.modules()):  # without a PeftModel around them
        for name, child in list(module.named_children()):
            if isinstance(child, BaseTunerLayer) and isinstance(child, nn.Module):
                if not child.disable_adapters:
                    child.merge()
                setattr(module, name, child.get_base_layer())


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
    # The card points back at the model, which only the cycle collector would free then.
    model.model_card_data.model = None
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


def _limit(config: Any) -> int | None:
    """Return the tokens that an architecture has positions for, if it has a limit."""
    limit = getattr(config, "max_position_embeddings", None)
    if limit is not None and config.model_type in _OFFSET_POSITIONS:
        # MPNet's embeddings have their padding at 1, whatever the configuration says.
        padding = 1 if config.model_type == "mpnet" else config.pad_token_id or 0
        limit -= padding + 1
    return limit


def _checked_max_length(
    transformer: Any, limit: int | None, max_length: int | None
) -> int:
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
