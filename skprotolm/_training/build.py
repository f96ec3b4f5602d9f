"""The first step of a fit: the encoder, tokenized and split texts, frozen vectors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from skprotolm._config import FitConfig
from skprotolm._data.targets import Targets
from skprotolm._data.texts import Columns, Texts
from skprotolm._fitted import FittedModel
from skprotolm._network.encoder import TextEncoder, load_encoder
from skprotolm._network.network import Network, encode, evaluating, in_order
from skprotolm._network.pooling import TokenAttention
from skprotolm._network.token_vectors import EncodedTexts, ReadTexts, StoredTexts
from skprotolm._network.tokenizer import TokenizedTexts
from skprotolm._resolve import resolve_precision
from skprotolm._runtime import has_bf16
from skprotolm._tasks.base import Task
from skprotolm._training.progress import Progress
from skprotolm._training.splits import (
    FitData,
    find_candidates,
    require_candidates,
    select,
    split,
)


def load(config: FitConfig, device: torch.device) -> TextEncoder:
    """Load the encoder, frozen if only the head is trained."""
    encoder = load_encoder(config.backbone, config.max_length).to(device)
    if not config.trains_encoder:
        encoder.requires_grad_(False)
    elif encoder.is_frozen:
        raise ValueError(
            "No weight of the backbone may be trained: requires_grad is False for "
            "all. Call backbone.requires_grad_(True), or set finetune='head'."
        )
    return encoder


def build(
    encoder: TextEncoder,
    config: FitConfig,
    task: Task,
    targets: Targets,
    texts: Texts,
    columns: Columns,
    seed: int,
    progress: Progress,
    start: FittedModel | None = None,
) -> tuple[TokenAttention, FitData]:
    """Tokenize and split the texts, and run the frozen encoder over them once.

    With `start`, its weights are put into the encoder and the attention then.
    """
    used: Any = [texts[i] for i in targets.rows]
    tokenized = encoder.tokenize(used)
    keys = tokenized.keys
    candidates = find_candidates(keys, targets.strata)
    rows, held_out = split(targets.strata, candidates, config, seed)
    training = select(targets, rows)
    task, training = task.merge_copies(training, candidates.text_ids[rows])
    # A text may be its class's own once others are held out.
    candidates = find_candidates([keys[i] for i in rows], training.strata)
    trained: Any = [used[i] for i in rows]
    require_candidates(trained, training, candidates, task)
    attention = TokenAttention(encoder.hidden_size).to(encoder.device, encoder.dtype)
    tokens = tokenized.take(rows)
    n_passes = 1 if start is None else 2
    progress.plan(
        config, len(rows), len(held_out), n_passes, is_stored=encoder.is_frozen
    )
    source, vectors, pretrained = frozen_pass(
        encoder, attention, tokens, config, progress
    )
    if start is not None:
        start_from(encoder, attention, start.network)
        source, vectors, _ = frozen_pass(encoder, attention, tokens, config, progress)
    validation = None
    if held_out.size:
        tokens_out = tokenized.take(held_out)
        source_out: ReadTexts = EncodedTexts(
            tokens_out, bf16=train_bf16(encoder, config)
        )
        if encoder.is_frozen:
            source_out, _, _ = frozen_pass(
                encoder, attention, tokens_out, config, progress
            )
        validation = source_out, select(targets, held_out)
    return attention, FitData(
        task=task,
        columns=columns,
        n_rows=len(texts),
        seed=seed,
        texts=trained,
        tokenized=tokens,
        source=source,
        targets=training,
        validation=validation,
        candidates=candidates,
        vectors=vectors,
        pretrained=pretrained,
    )


def start_from(
    encoder: TextEncoder, attention: TokenAttention, fitted: Network
) -> None:
    """Put the weights of a fitted network in place, which is not changed itself."""
    try:
        encoder.load_state_dict(fitted.encoder.state_dict())
        attention.load_state_dict(fitted.attention.state_dict())
    except RuntimeError as error:
        raise ValueError(
            "warm_start=True starts from the encoder of the previous fit, but its "
            "weights do not fit into the backbone, which is another one or has "
            "adapters. Set backbone to that of the previous fit, or warm_start=False."
        ) from error


def train_bf16(encoder: TextEncoder, config: FitConfig) -> bool:
    """Whether the encoder runs in bfloat16 during the fit."""
    is_fp32 = encoder.dtype == torch.float32
    return resolve_precision(config.precision, is_fp32, has_bf16(encoder.device))[0]


def frozen_pass(
    encoder: TextEncoder,
    attention: TokenAttention,
    tokenized: TokenizedTexts,
    config: FitConfig,
    progress: Progress,
) -> tuple[ReadTexts, Tensor, Tensor]:
    """Run the pretrained encoder over texts once.

    Returns the texts as training reads them, stored if no weight of the encoder is
    trained; the text vectors (n, H) of the untrained attention; and the encoder's
    sentence vectors (n, P).
    """
    source = EncodedTexts(tokenized, bf16=train_bf16(encoder, config))
    stored = StoredTexts(tokenized, encoder) if encoder.is_frozen else None
    vectors, sentences = [], []
    with evaluating(encoder):
        for encoded in encode(
            encoder, attention, source, config.batch_size, progress.on_frozen_pass
        ):
            batch = encoder.tokenizer.collate(tokenized, encoded.rows)
            with torch.inference_mode():
                pretrained = encoder.sentence_vectors(
                    batch.to(encoder.device), encoded.h
                )
            vectors.append((encoded.rows, encoded.s.cpu()))
            sentences.append((encoded.rows, pretrained.cpu()))
            if stored is not None:
                stored.store(encoded.rows, encoded.h)
    return stored or source, in_order(vectors), in_order(sentences)
