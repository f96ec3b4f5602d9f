"""What a fitted state says of texts: scores, similarities, novelty."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from skprotolm._data.texts import Texts
from skprotolm._explaining import attribution as _decomposition
from skprotolm._fitted import FittedState
from skprotolm._network.prototypes import LayerOutput


def head_outputs(
    state: FittedState, texts: Texts, *, quiet: bool = False
) -> LayerOutput:
    """Return what the prototype layer says of each text, in float64."""
    tokenized = state.tokenize(texts, quiet=quiet)
    return LayerOutput(*state.read(tokenized, state.layer))


class Decisions(NamedTuple):
    """What a state says of n texts, and which prototypes say it."""

    vectors: np.ndarray  # (n, H), where distance is Euclidean
    probabilities: np.ndarray  # (n, C)
    predicted: np.ndarray  # (n,)
    leader: np.ndarray  # (n,): the predicted class's prototype that counts most
    keys: list[Any]  # n: what the encoder reads of each text
    has_unread: np.ndarray  # (n,): whether the tokenizer cannot read some of it


def decisions(state: FittedState, texts: Texts) -> Decisions:
    """Return what the state says of each text, and the prototype that counts most."""
    layer = state.layer
    owner = layer.owner

    def of(s: Tensor) -> tuple[Tensor, ...]:
        found = _decomposition.account(layer, s)
        predicted = found.log_probabilities.argmax(dim=1)
        others = owner[None, :] != predicted[:, None]
        mine = found.contributions.masked_fill(others, -math.inf)
        probabilities = found.log_probabilities.exp()
        return layer.compare(s), probabilities, predicted, mine.argmax(dim=1)

    tokenized = state.tokenize(texts)
    vectors, probabilities, predicted, leader = (
        tensor.numpy() for tensor in state.read(tokenized, of)
    )
    has_unread = np.array([unread.any() for unread in tokenized.unread])
    return Decisions(
        vectors, probabilities, predicted, leader, tokenized.keys, has_unread
    )


def novelty(state: FittedState, texts: Texts) -> np.ndarray:
    """Return how unlike all prototypes each text is, (n,)."""
    tokenized = state.tokenize(texts)
    [found] = state.read(tokenized, lambda s: (state.layer.novelty(s),))
    return found.numpy()


def threshold(scores: np.ndarray, rate: float) -> float:
    """Return what one more score like these exceeds with a probability of `rate`.

    The k-th smallest of n scores, k = ⌈(n + 1)(1 − rate)⌉, is exceeded by one more
    exchangeable score with a probability of at most `rate` (split conformal
    prediction; Vovk, Gammerman and Shafer 2005).
    """
    # A rank that is whole but for its last bits is that rank.
    rank = math.ceil((len(scores) + 1) * (1 - rate) - 1e-9)
    if rank > len(scores):
        raise ValueError(
            f"a rate of {rate} needs at least {math.ceil(1 / rate - 1e-9) - 1} texts, "
            f"got {len(scores)}; pass more of them, or a higher rate."
        )
    return float(np.sort(scores)[max(rank, 1) - 1])
