"""Tiny random encoders of the model types that the package is tested on.

Weights are drawn from a seed and tokenizers are built from a few sentences, so that no
test needs the network.
"""

from __future__ import annotations

import copy
import string
from pathlib import Path
from typing import Any

import torch
import transformers
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer

HIDDEN = 16
_CORPUS = [
    "the food was good and the service was kind",
    "a bad film with a dull plot and no end",
    "i lost my card and want a new one today",
    "café 😀 naïve 123 – what a day!",
    "0.5 1.25 -3.75 2e-06 7 8 9",
]
_SHAPE = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 66,
}
# Where it matters: keys and values of fewer heads than queries, and windows of fewer
# tokens than texts have.
_GROUPED = {"num_key_value_heads": 1, "head_dim": 8}
_FURTHER: dict[str, dict[str, Any]] = {
    "electra": {"embedding_size": HIDDEN},
    "llama": {"num_key_value_heads": 2},
    "mistral": {**_GROUPED, "sliding_window": 6},
    "qwen2": {"num_key_value_heads": 1},
    "qwen3": _GROUPED,
    "gemma": _GROUPED,
    "gemma2": {**_GROUPED, "sliding_window": 6},
    "gemma3_text": {
        **_GROUPED,
        "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": 6,
    },
    "phi3": {"num_key_value_heads": 1, "sliding_window": 6},
    "gpt_neox": {"rotary_pct": 0.5},
    "qwen3_moe": {**_GROUPED, "num_experts": 4, "num_experts_per_tok": 2},
}


def make_encoder(
    model_type: str, folder: Path, *, dtype: torch.dtype = torch.float32, seed: int = 0
) -> SentenceTransformer:
    """Build the tiny encoder of a model type, and save it to a folder."""
    tokenizer = _TOKENIZERS[model_type]()
    config = _config(model_type, tokenizer)
    n_tokens = config.vocab_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if model_type in ("bert", "distilbert", "mpnet"):
            config.vocab_size -= len(_pieces()[1])
        model = transformers.AutoModel.from_config(config)
        # Embeddings of further tokens are drawn last: they do not change other weights.
        model.resize_token_embeddings(n_tokens, mean_resizing=False)
        model = model.to(dtype)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    encoder = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    return encoder.to(dtype)


def _config(model_type: str, tokenizer: Any) -> Any:
    shape: dict[str, Any] = {**_SHAPE, "vocab_size": len(tokenizer)}
    if tokenizer.pad_token_id is not None or model_type == "phi3":
        shape["pad_token_id"] = tokenizer.pad_token_id
    if model_type == "distilbert":
        shape = {
            "dim": HIDDEN,
            "n_layers": 2,
            "n_heads": 2,
            "hidden_dim": 32,
            "max_position_embeddings": 66,
            "vocab_size": len(tokenizer),
        }
    elif model_type == "gpt2":
        shape = {
            "n_embd": HIDDEN,
            "n_layer": 2,
            "n_head": 2,
            "n_positions": 66,
            "vocab_size": len(tokenizer),
            "bos_token_id": tokenizer.eos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        }
    elif model_type == "modernbert":
        shape |= {
            "cls_token_id": tokenizer.cls_token_id,
            "sep_token_id": tokenizer.sep_token_id,
            "bos_token_id": tokenizer.cls_token_id,
            "eos_token_id": tokenizer.sep_token_id,
            "reference_compile": False,
            "local_attention": 12,
        }
    elif model_type in _FURTHER:
        shape |= _FURTHER[model_type]
        shape["bos_token_id"] = tokenizer.bos_token_id or tokenizer.eos_token_id
        shape["eos_token_id"] = tokenizer.eos_token_id
    return transformers.AutoConfig.for_model(model_type, **shape)


_NORMALIZER = normalizers.BertNormalizer()
_SPLITTER = pre_tokenizers.BertPreTokenizer()


def _pieces() -> tuple[list[str], list[str]]:
    """Return the pieces of the corpus, and the other pieces of ASCII characters."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = {
        word
        for line in _CORPUS
        for word, _ in _SPLITTER.pre_tokenize_str(_NORMALIZER.normalize_str(line))
    }
    letters = set("".join(words))
    # WordPieceTrainer is not deterministic: it breaks ties at random per process.
    pieces = [*special, *sorted(words | letters | {f"##{a}" for a in letters})]
    ascii_letters = string.ascii_lowercase + string.digits + string.punctuation
    ascii_pieces = [p for letter in ascii_letters for p in (letter, f"##{letter}")]
    return pieces, [piece for piece in ascii_pieces if piece not in pieces]


def _wordpiece(**settings: Any) -> Any:
    corpus_pieces, ascii_pieces = _pieces()
    pieces = [*corpus_pieces, *ascii_pieces]
    vocabulary = {piece: token_id for token_id, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = _NORMALIZER
    tokenizer.pre_tokenizer = _SPLITTER
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in ("[CLS]", "[SEP]")],
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=64,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        **settings,
    )


def _byte_pairs(special: list[str], template: dict[str, str] | None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=350,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    if template:
        special_ids = [(t, tokenizer.token_to_id(t)) for t in special]
        tokenizer.post_processor = TemplateProcessing(
            **template, special_tokens=special_ids
        )
    return tokenizer


def _roberta_tokenizer() -> Any:
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    template = {"single": "<s> $A </s>", "pair": "<s> $A </s> </s> $B </s>"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=_byte_pairs(special, template),
        model_max_length=64,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_input_names=["input_ids", "attention_mask"],
    )


def _modernbert_tokenizer() -> Any:
    special = ["[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"]
    template = {"single": "[CLS] $A [SEP]", "pair": "[CLS] $A [SEP] $B [SEP]"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=_byte_pairs(special, template),
        model_max_length=64,
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        unk_token="[UNK]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "attention_mask"],
    )


def _gpt2_tokenizer() -> Any:
    """Build a tokenizer that adds no special tokens and has no padding token."""
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=_byte_pairs(["<|endoftext|>"], None),
        model_max_length=64,
        eos_token="<|endoftext|>",
        model_input_names=["input_ids", "attention_mask"],
    )


def _llama_tokenizer() -> Any:
    """Build a tokenizer that adds one token at the start and has no padding token."""
    template = {"single": "<s> $A", "pair": "<s> $A <s> $B"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=_byte_pairs(["<s>"], template),
        model_max_length=64,
        bos_token="<s>",
        eos_token="<s>",
        model_input_names=["input_ids", "attention_mask"],
        padding_side="left",
    )


def _qwen_tokenizer() -> Any:
    """Build a tokenizer that adds one token at the end, which also pads on the left."""
    end = "<|endoftext|>"
    template = {"single": f"$A {end}", "pair": f"$A {end} $B {end}"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=_byte_pairs([end], template),
        model_max_length=64,
        eos_token=end,
        pad_token=end,
        model_input_names=["input_ids", "attention_mask"],
        padding_side="left",
    )


def _gemma_tokenizer() -> Any:
    """Build a tokenizer that adds a token at the start and another at the end."""
    special = ["<pad>", "<eos>", "<bos>"]
    template = {"single": "<bos> $A <eos>", "pair": "<bos> $A <eos> $B <eos>"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=_byte_pairs(special, template),
        model_max_length=64,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        model_input_names=["input_ids", "attention_mask"],
    )


def _no_type_ids() -> Any:
    return _wordpiece(model_input_names=["input_ids", "attention_mask"])


def _with_type_ids() -> Any:
    return _wordpiece(
        model_input_names=["input_ids", "token_type_ids", "attention_mask"]
    )


_TOKENIZERS = {
    "albert": _with_type_ids,
    "deberta-v2": _with_type_ids,
    "electra": _with_type_ids,
    "bert": _with_type_ids,
    "distilbert": _no_type_ids,
    "mpnet": _no_type_ids,
    "roberta": _roberta_tokenizer,
    "xlm-roberta": _roberta_tokenizer,
    "camembert": _roberta_tokenizer,
    "modernbert": _modernbert_tokenizer,
    "gpt2": _gpt2_tokenizer,
    "llama": _llama_tokenizer,
    "mistral": _llama_tokenizer,
    "qwen2": _qwen_tokenizer,
    "qwen3": _qwen_tokenizer,
    "gemma": _gemma_tokenizer,
    "gemma2": _gemma_tokenizer,
    "gemma3_text": _gemma_tokenizer,
    "phi3": _llama_tokenizer,
    "gpt_neox": _gpt2_tokenizer,
    "qwen3_moe": _qwen_tokenizer,
}
# What most tests use, of each kind of tokenizer and layers.
MODEL_TYPES = ("bert", "distilbert", "mpnet", "roberta", "modernbert", "gpt2", "llama")
DECODERS = (
    "gpt2",
    "llama",
    "mistral",
    "qwen3",
    "gemma2",
    "gemma3_text",
    "phi3",
    "gpt_neox",
    "qwen3_moe",
)


def without_dropout(encoder: Any) -> Any:
    """Return a copy of an encoder that computes the same in training."""
    encoder = copy.deepcopy(encoder)
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return encoder
