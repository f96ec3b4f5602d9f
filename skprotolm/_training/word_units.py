"""Words as the units of a fit: sentences are read, and their words have values."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from skprotolm._config import FitConfig
from skprotolm._network.encoder import TextEncoder
from skprotolm._network.network import encode, evaluating, in_order
from skprotolm._network.pooling import TokenAttention
from skprotolm._network.token_vectors import EncodedTexts, ReadTexts, StoredTexts
from skprotolm._network.tokenized import TokenizedTexts
from skprotolm._network.windows import WindowIndex
from skprotolm._network.word_vectors import read_units
from skprotolm._training.neighborhoods import distinct_ids
from skprotolm._training.progress import Progress
from skprotolm._training.splits import Candidates
from skprotolm._training.units import FrozenPass, Units


class WordUnits(Units):
    """Words, which are trained on and held out by sentences."""

    noun = "word"

    def __init__(self, tokenized: TokenizedTexts):
        super().__init__(tokenized)
        ids = distinct_ids(tokenized.keys)
        self.keys = word_keys(tokenized, ids)
        self.text_rows = np.repeat(np.arange(len(tokenized)), tokenized.n_words)
        self.sentences = ids[self.text_rows]  # (n,): copies of one have the same number

    def split(
        self, strata: np.ndarray, candidates: Candidates, config: FitConfig, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Hold out a fraction of the sentences."""
        return split_sentences(self.sentences, candidates, config, seed)

    def frozen_pass(
        self,
        encoder: TextEncoder,
        attention: TokenAttention,
        source: EncodedTexts,
        config: FitConfig,
        progress: Progress,
    ) -> FrozenPass:
        """Run the encoder once; the pretrained vector of a word is that of its pieces.

        The mean of them is what the untrained attention gives.
        """
        texts: ReadTexts = source
        tokenized = source.tokenized
        size, on_batch = config.part_size, progress.on_frozen_pass
        with evaluating(encoder):
            if encoder.is_frozen:
                stored = StoredTexts(tokenized, encoder)

                def store(part: WindowIndex, h: Tensor) -> None:
                    stored.store(part.rows, h, part.numbers)

                for _ in encode(encoder, attention, source, size, on_batch, store):
                    pass
                texts, on_batch = stored, progress.on_pass
            words = read_units(texts, tokenized)
            batches = [
                (encoded.rows, encoded.s.cpu())
                for encoded in encode(encoder, attention, words, size, on_batch)
            ]
        vectors = in_order(batches)
        return FrozenPass(words, vectors, vectors)


def word_keys(tokenized: TokenizedTexts, ids: np.ndarray) -> list[tuple[int, bytes]]:
    """Return what the encoder reads of each word: tokens of a sentence, by its id."""
    keys = []
    for text_id, tokens in zip(ids.tolist(), tokenized, strict=True):
        assert tokens.words is not None
        starts = np.flatnonzero(np.diff(tokens.words.words))
        for of_word in np.split(tokens.words.tokens, starts + 1):
            keys.append((text_id, of_word.tobytes()))
    return keys


def split_sentences(
    sentences: np.ndarray, candidates: Candidates, config: FitConfig, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the words that are trained on and those that are held out, by sentences.

    The fraction of the sentences is held out, but none with the last candidate of a
    tag, and no copy of a sentence that is trained on.

    Parameters
    ----------
    sentences : ndarray of shape (n,), int
        The distinct sentence of each word, counted from 0.
    candidates : Candidates
    config : FitConfig
    seed : int
    """
    words = np.arange(len(sentences))
    if not config.early_stopping:
        return words, words[:0]
    n_sentences, n_strata = sentences.max() + 1, candidates.strata.max() + 1
    counts = np.zeros((n_sentences, n_strata), dtype=np.int64)
    np.add.at(counts, (sentences[candidates.rows], candidates.strata), 1)
    left = counts.sum(axis=0)
    n_out = max(1, round(config.validation_fraction * n_sentences))
    held_out: list[int] = []
    for sentence in np.random.RandomState(seed).permutation(n_sentences).tolist():
        in_it = counts[sentence]
        if len(held_out) < n_out and (left > in_it)[in_it > 0].all():
            left -= in_it
            held_out.append(sentence)
    if not held_out:
        raise ValueError(
            "early_stopping=True needs a sentence that can be held out: every tag must "
            "have words in other sentences."
        )
    is_out = np.isin(sentences, held_out)
    return words[~is_out], words[is_out]
