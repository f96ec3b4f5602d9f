"""The first step of a fit: the encoder, tokenized and split texts, frozen vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
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
from skprotolm._network.windows import WindowIndex
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
    encoder = load_encoder(config.backbone, config.max_length, config.long_text)
    encoder = encoder.to(device)
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
    if held_out.size:  # without its last text, a label would not vary
        kept = np.append(rows, task.indispensable(targets.values, rows))
        rows, held_out = np.sort(kept), np.setdiff1d(held_out, kept)
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
    windows, sentences = [], []

    def on_windows(part: WindowIndex, h: Tensor) -> None:
        batch = encoder.tokenizer.collate(tokenized, *part).to(encoder.device)
        windows.append((part.rows, batch["weights"].sum(dim=1).cpu()))
        sentences.append(encoder.sentence_vectors(batch, h).cpu())
        if stored is not None:
            stored.store(part.rows, h, part.numbers)

    on_batch = progress.on_frozen_pass
    with evaluating(encoder):
        vectors = [
            (encoded.rows, encoded.s.cpu())
            for encoded in encode(
                encoder, attention, source, config.batch_size, on_batch, on_windows
            )
        ]
    rows = np.concatenate([rows for rows, _ in windows])
    counts = torch.cat([counts for _, counts in windows])
    pretrained = mean_of_windows(torch.cat(sentences), rows, counts)
    return stored or source, in_order(vectors), pretrained


def mean_of_windows(vectors: Tensor, rows: np.ndarray, counts: Tensor) -> Tensor:
    """Return the mean vectors (n, P) of the windows of texts.

    Parameters
    ----------
    vectors : Tensor of shape (W, P)
    rows : ndarray of shape (W,), int
        The text of each window.
    counts : Tensor of shape (W,)
        How many tokens count in a window, its weight in the mean.
    """
    texts = torch.from_numpy(rows)
    n_texts = int(rows.max()) + 1
    totals = counts.new_zeros(n_texts).index_add(0, texts, counts)
    weighted = (counts / totals[texts]).to(vectors)[:, None] * vectors
    with torch.inference_mode(False):
        return (
            torch.zeros(n_texts, vectors.shape[1])
            .to(weighted)
            .index_add(0, texts, weighted.clone())
        )
