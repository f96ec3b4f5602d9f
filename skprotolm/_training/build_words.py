"""The first step of a fit on words: sentences are read, and words are the units."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from skprotolm._config import FitConfig
from skprotolm._data.targets import Targets
from skprotolm._data.texts import Columns, Texts
from skprotolm._fitted import FittedModel
from skprotolm._network.encoder import TextEncoder
from skprotolm._network.network import encode, evaluating, in_order
from skprotolm._network.pooling import TokenAttention
from skprotolm._network.token_vectors import EncodedTexts, ReadTexts, StoredTexts
from skprotolm._network.tokenizer import TokenizedTexts
from skprotolm._network.windows import WindowIndex
from skprotolm._network.word_vectors import read_units
from skprotolm._tasks.base import Task
from skprotolm._training.build import start_from, train_bf16
from skprotolm._training.neighborhoods import distinct_ids
from skprotolm._training.progress import Progress
from skprotolm._training.splits import (
    FitData,
    find_candidates,
    require_candidates,
    select,
    split_sentences,
)


def build_words(
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
    """Tokenize and split the sentences, and run the frozen encoder over them once.

    With `start`, its weights are put into the encoder and the attention then.
    """
    rows = np.unique(targets.rows)
    used: Any = [texts[row] for row in rows]
    tokenized = encoder.tokenize(used)
    words = [word for sentence in used for word in sentence.marked_words]
    keys, sentences = word_keys(tokenized)
    candidates = find_candidates(keys, targets.strata)
    trained, held_out = split_sentences(sentences, candidates, config, seed)
    training = select(targets, trained)
    candidates = find_candidates([keys[i] for i in trained], training.strata)
    trained_words: Any = [words[i] for i in trained]
    require_candidates(trained_words, training, candidates, task)
    attention = TokenAttention(encoder.hidden_size).to(encoder.device, encoder.dtype)
    tokens = _sentences_of(tokenized, rows, targets, trained)
    tokens_out = _sentences_of(tokenized, rows, targets, held_out)
    n_read, n_out = len(tokens), len(tokens_out)
    n_passes = 1 if start is None else 2
    progress.plan(config, n_read, n_out, n_passes, is_stored=encoder.is_frozen)
    source, vectors = frozen_words(encoder, attention, tokens, config, progress)
    pretrained = vectors  # the mean of a word's pieces
    if start is not None:
        start_from(encoder, attention, start.network)
        source, vectors = frozen_words(encoder, attention, tokens, config, progress)
    validation = None
    if held_out.size:
        source_out, _ = frozen_words(encoder, attention, tokens_out, config, progress)
        validation = source_out, select(targets, held_out)
    return attention, FitData(
        task=task,
        columns=columns,
        n_rows=len(texts),
        seed=seed,
        texts=trained_words,
        tokenized=tokens,
        source=source,
        targets=training,
        validation=validation,
        candidates=candidates,
        vectors=vectors,
        pretrained=pretrained,
    )


def word_keys(tokenized: TokenizedTexts) -> tuple[list[tuple[int, bytes]], np.ndarray]:
    """Return what the encoder reads of each word, and its distinct sentence, (n,).

    Equal keys have equal vectors: the same tokens of the same sentence.
    """
    ids = distinct_ids(tokenized.keys)
    keys = []
    for text_id, of_words in zip(ids.tolist(), tokenized.words, strict=True):
        assert of_words is not None
        starts = np.flatnonzero(np.diff(of_words.words))
        for tokens in np.split(of_words.tokens, starts + 1):
            keys.append((text_id, tokens.tobytes()))
    return keys, np.repeat(ids, tokenized.n_words)


def _sentences_of(
    tokenized: TokenizedTexts, rows: np.ndarray, targets: Targets, words: np.ndarray
) -> TokenizedTexts:
    """Return the sentences that the given words are in."""
    return tokenized.take(np.flatnonzero(np.isin(rows, targets.rows[words])))


def frozen_words(
    encoder: TextEncoder,
    attention: TokenAttention,
    tokenized: TokenizedTexts,
    config: FitConfig,
    progress: Progress,
) -> tuple[ReadTexts, Tensor]:
    """Run the pretrained encoder over sentences once.

    Returns the words as training reads them, from stored token vectors if no weight of
    the encoder is trained; and their vectors (n, H) under the untrained attention.
    """
    source: ReadTexts = EncodedTexts(tokenized, bf16=train_bf16(encoder, config))
    size, on_batch = config.batch_size, progress.on_frozen_pass
    with evaluating(encoder):
        if encoder.is_frozen:
            stored = StoredTexts(tokenized, encoder)

            def store(part: WindowIndex, h: Tensor) -> None:
                stored.store(part.rows, h, part.numbers)

            for _ in encode(encoder, attention, source, size, on_batch, store):
                pass
            source, on_batch = stored, progress.on_pass
        source = read_units(source, tokenized)
        vectors = [
            (encoded.rows, encoded.s.cpu())
            for encoded in encode(encoder, attention, source, size, on_batch)
        ]
    return source, in_order(vectors)
