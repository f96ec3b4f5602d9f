"""Texts as the units of a fit."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from skprotolm._config import FitConfig
from skprotolm._network.encoder import TextEncoder
from skprotolm._network.network import encode, evaluating, in_order
from skprotolm._network.pooling import TokenAttention
from skprotolm._network.token_vectors import EncodedTexts, StoredTexts
from skprotolm._network.tokenized import TokenizedTexts
from skprotolm._network.windows import WindowIndex
from skprotolm._training.progress import Progress
from skprotolm._training.splits import Candidates
from skprotolm._training.units import FrozenPass, Units


class TextUnits(Units):
    """Texts, which are trained on and held out one by one."""

    noun = "text"

    def __init__(self, tokenized: TokenizedTexts):
        super().__init__(tokenized)
        self.keys = tokenized.keys
        self.text_rows = np.arange(len(tokenized))

    def split(
        self, strata: np.ndarray, candidates: Candidates, config: FitConfig, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Hold out the same fraction of every stratum."""
        return split_texts(strata, candidates, config, seed)

    def frozen_pass(
        self,
        encoder: TextEncoder,
        attention: TokenAttention,
        source: EncodedTexts,
        config: FitConfig,
        progress: Progress,
    ) -> FrozenPass:
        """Run the encoder once; pretrained vectors are its sentence vectors."""
        tokenized = source.tokenized
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
                    encoder, attention, source, config.part_size, on_batch, on_windows
                )
            ]
        rows = np.concatenate([rows for rows, _ in windows])
        counts = torch.cat([counts for _, counts in windows])
        pretrained = mean_of_windows(torch.cat(sentences), rows, counts)
        return FrozenPass(stored or source, in_order(vectors), pretrained)


def split_texts(
    strata: np.ndarray, candidates: Candidates, config: FitConfig, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that are trained on and those that are held out.

    The same fraction of every stratum is held out, but never its last candidate, and
    no copy of a text that is trained on.
    """
    rows = np.arange(len(strata))
    if not config.early_stopping:
        return rows, rows[:0]
    rng = np.random.RandomState(seed)
    held_out = []
    for stratum in range(strata.max() + 1):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        kept = members[np.isin(members, candidates.rows)][:1]
        members = np.append(members[members != kept] if kept.size else members, kept)
        n_out = max(1, round(config.validation_fraction * len(members)))
        held_out.append(members[: min(n_out, len(members) - 1)])
    validation = np.sort(np.concatenate(held_out))
    # A copy of a training text would be scored as if it were new.
    ids = candidates.text_ids
    is_new = ~np.isin(ids[validation], ids[np.setdiff1d(rows, validation)])
    validation = validation[is_new]
    if validation.size == 0:
        raise ValueError(
            "early_stopping=True needs a class, or a range of values, with at least "
            "two texts, one of which can be held out."
        )
    return np.setdiff1d(rows, validation), validation


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
