"""Token batches to token vectors: the transformer of a SentenceTransformer."""

from __future__ import annotations

from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from skprotolm._data.texts import Texts
from skprotolm._network.loading import load_backbone, prepare_backbone
from skprotolm._network.tokenized import TokenBatch, TokenizedTexts
from skprotolm._network.tokenizer import TextTokenizer
from skprotolm._runtime import autocast

# Model types whose position embeddings start after the position of the padding, which
# leaves fewer positions for tokens.
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer")


class TextEncoder(nn.Module):
    """A SentenceTransformer, its tokenizer, and its outputs for classification.

    Parameters
    ----------
    sentence_transformer : SentenceTransformer
        The model, which is not copied: training changes it in place.
    max_length : int or None
        Tokens read at once, special tokens included; None for the model's default.
    long_text : {"truncate", "window"}
        Whether longer texts are truncated, or cut into windows.
    """

    def __init__(
        self,
        sentence_transformer: SentenceTransformer,
        max_length: int | None,
        long_text: str = "truncate",
    ):
        super().__init__()
        # Whether the saved files reproduce this model; None before the first save.
        self.is_described: bool | None = None
        self.sentence_transformer = prepare_backbone(sentence_transformer)
        prompt_name = sentence_transformer.default_prompt_name
        prompts = sentence_transformer.prompts
        max_positions = _max_positions(self.transformer.auto_model.config)
        self.tokenizer = TextTokenizer(
            self.transformer.tokenizer,
            _checked_max_length(self.transformer, max_positions, max_length),
            max_positions,
            (prompts.get(prompt_name) or "") if prompt_name else "",
            long_text,
            self.is_causal,
        )

    @property
    def transformer(self) -> Any:
        """The first module, from token ids to token vectors."""
        return self.sentence_transformer[0]

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of token vectors; `hold_in_bf16` lowers that of matrices."""
        return next(self.parameters()).dtype

    @property
    def backend(self) -> str:
        """What runs the transformer."""
        return "torch"

    def in_torch(self) -> TextEncoder:
        """Return the encoder that torch runs, with the same weights."""
        return self

    def pack_engine(self) -> dict[str, Any] | None:
        """Return the engine that runs the transformer; None if torch does."""
        return None

    @property
    def is_frozen(self) -> bool:
        """Whether no weight is trained."""
        return not any(p.requires_grad for p in self.parameters())

    @property
    def model_type(self) -> str:
        """The name of the architecture in transformers."""
        return self.transformer.auto_model.config.model_type

    @property
    def is_causal(self) -> bool:
        """Whether tokens attend to earlier tokens only."""
        model = self.transformer.auto_model
        flags = [m.is_causal for m in model.modules() if hasattr(m, "is_causal")]
        # Embedding models that were made from decoders may set it to False.
        is_decoder = getattr(model.config.get_text_config(), "is_causal", True)
        return bool(is_decoder and flags and all(flags))

    @property
    def hidden_size(self) -> int:
        """Length H of a token vector."""
        config = self.transformer.auto_model.config
        return int(config.get_text_config().hidden_size)

    @property
    def max_length(self) -> int:
        """Tokens read at once, special tokens included."""
        return self.tokenizer.max_length

    def tokenize(
        self, texts: Texts, *, with_offsets: bool = False, quiet: bool = False
    ) -> TokenizedTexts:
        """Turn texts into token ids; warn about unread text, unless quiet."""
        return self.tokenizer.tokenize(texts, with_offsets=with_offsets, quiet=quiet)

    def forward(self, batch: TokenBatch, *, bf16: bool) -> Tensor:
        """Return the token vectors (B, T, H) in the precision of the weights."""
        with autocast(self.device, bf16):
            h = self.transformer(batch.features)["token_embeddings"]
        n_tokens = batch["input_ids"].shape[1]
        if h.shape[1] != n_tokens:
            raise ValueError(
                f"The backbone returns {h.shape[1]} vectors for {n_tokens} tokens; it "
                f"must return one per token, which excludes prompt tuning."
            )
        return h.to(self.dtype)

    def sentence_vectors(self, batch: TokenBatch, h: Tensor) -> Tensor:
        """Return the output of ``SentenceTransformer.encode``, from token vectors."""
        features: dict[str, Any] = {**batch, "token_embeddings": h}
        if self.tokenizer.n_prompt_tokens:
            features["prompt_length"] = self.tokenizer.n_prompt_tokens
        for module in list(self.sentence_transformer)[1:]:
            features = module(features)
        return features["sentence_embedding"]


def load_encoder(
    backbone: Any, max_length: int | None, long_text: str = "truncate"
) -> TextEncoder:
    """Load a backbone by name or folder, or copy a SentenceTransformer."""
    return TextEncoder(load_backbone(backbone), max_length, long_text)


def _max_positions(config: Any) -> int | None:
    """Return the number of tokens with a position embedding; None without a limit."""
    max_positions = getattr(config, "max_position_embeddings", None)
    if max_positions is not None and config.model_type in _OFFSET_POSITIONS:
        # The padding position of MPNet is always 1, whatever its configuration.
        padding = 1 if config.model_type == "mpnet" else config.pad_token_id or 0
        max_positions -= padding + 1
    return max_positions


def _checked_max_length(
    transformer: Any, max_positions: int | None, max_length: int | None
) -> int:
    if max_length is None:
        limits = [
            transformer.max_seq_length,
            transformer.tokenizer.model_max_length,
            max_positions,
        ]
        # The limit of tokenizers without a limit is 10 ** 30.
        return int(min(n for n in [*limits, 10**9] if n is not None))
    if max_positions is not None and max_length > max_positions:
        raise ValueError(
            f"max_length must be at most {max_positions}, the number of tokens that "
            f"the backbone has position embeddings for, got {max_length}."
        )
    n_special = transformer.tokenizer.num_special_tokens_to_add(pair=True)
    if max_length <= n_special:
        raise ValueError(
            f"max_length must be more than {n_special}, the number of special tokens "
            f"that the backbone adds, got {max_length}."
        )
    return int(max_length)
