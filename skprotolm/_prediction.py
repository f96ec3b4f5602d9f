"""What a fitted state says of texts: scores, similarities, novelty."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from skprotolm._encoder import TokenizedTexts
from skprotolm._head import LayerOutput
from skprotolm._inputs import Texts
from skprotolm._model import Encoded, encode, in_order
from skprotolm._runtime import memory_errors, undisturbed
from skprotolm._state import FittedState


@undisturbed()
def head_outputs(
    state: FittedState, texts: Texts, *, quiet: bool = False
) -> LayerOutput:
    """Return what the prototype layer says of each text, in float64."""
    tokenized = state.model.encoder.tokenize(texts, quiet=quiet)
    with torch.inference_mode():
        batches = [
            (encoded.rows, state.layer(encoded.s.cpu().double()))
            for encoded in encoded_batches(state, tokenized)
        ]
    rows, outputs = zip(*batches, strict=True)
    columns = zip(*outputs, strict=True)
    return LayerOutput(
        *(in_order(list(zip(rows, column, strict=True))) for column in columns)
    )


@undisturbed()
def novelty(state: FittedState, texts: Texts) -> np.ndarray:
    """Return how unlike all prototypes each text is, (n,)."""
    with torch.inference_mode():
        batches = [
            (encoded.rows, state.layer.novelty(encoded.s.cpu().double()))
            for encoded in encoded_batches(state, state.model.encoder.tokenize(texts))
        ]
    return in_order(batches).numpy()


def encoded_batches(state: FittedState, tokenized: TokenizedTexts) -> Iterator[Encoded]:
    model = state.model
    with memory_errors(state.batch_size, model.encoder.max_length):
        yield from encode(
            model.encoder,
            model.head.attention,
            tokenized,
            state.batch_size,
            bf16=state.bf16,
        )
