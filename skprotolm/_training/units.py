"""What has a value in a fit, and may be quoted: texts, or the words of sentences."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from torch import Tensor

from skprotolm._config import FitConfig
from skprotolm._network.encoder import TextEncoder
from skprotolm._network.layers import transformer_layers
from skprotolm._network.pooling import TokenAttention
from skprotolm._network.token_vectors import EncodedTexts, ReadTexts, ResumedTexts
from skprotolm._network.tokenized import TokenizedTexts
from skprotolm._processes import Processes
from skprotolm._training.progress import Progress
from skprotolm._training.splits import Candidates


class FrozenPass(NamedTuple):
    """What the pretrained encoder gives of texts."""

    # As training reads them: stored if no weight of the encoder is trained.
    source: ReadTexts
    vectors: Tensor  # (n, H), of the units, under the untrained attention
    pretrained: Tensor  # (n, P), of the units, by the encoder alone


class Units(ABC):
    """The n units of tokenized texts.

    Parameters
    ----------
    tokenized : TokenizedTexts
        All texts of the fit.
    """

    noun: ClassVar[str]  # as in `Task.unit_noun`
    keys: Sequence[Hashable]  # n: what the encoder reads; equal keys, equal vectors
    text_rows: np.ndarray  # (n,): the text of each unit

    def __init__(self, tokenized: TokenizedTexts):
        self.tokenized = tokenized

    def texts_of(self, rows: np.ndarray) -> TokenizedTexts:
        """Return the texts of the units of the given rows."""
        return self.tokenized.take(np.unique(self.text_rows[rows]))

    @abstractmethod
    def split(
        self, strata: np.ndarray, candidates: Candidates, config: FitConfig, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of the units to train on, and of those to hold out."""

    @abstractmethod
    def frozen_pass(
        self,
        encoder: TextEncoder,
        attention: TokenAttention,
        source: EncodedTexts,
        config: FitConfig,
        progress: Progress,
    ) -> FrozenPass:
        """Run the pretrained encoder over some of the texts once."""


def repeated_part(encoder: TextEncoder, config: FitConfig) -> float:
    """Return the part of the encoder that runs in each epoch, from 0 to 1."""
    if encoder.is_frozen:
        return 0.0
    if config.n_trained_layers is None:
        return 1.0
    return config.n_trained_layers / len(transformer_layers(encoder)[1])


def training_source(
    encoder: TextEncoder,
    tokenized: TokenizedTexts,
    config: FitConfig,
    processes: Processes,
) -> EncodedTexts:
    """Return texts as training reads them: layers below the trained ones run once."""
    bf16, n_trained = config.train_bf16, config.n_trained_layers
    if n_trained is None or repeated_part(encoder, config) == 1:
        return EncodedTexts(tokenized, bf16=bf16, processes=processes)
    return ResumedTexts(tokenized, encoder, n_trained, bf16=bf16, processes=processes)
