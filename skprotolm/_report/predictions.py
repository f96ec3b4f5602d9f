"""Labeled texts with the predictions of a fitted model."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from skprotolm._data.texts import Texts
from skprotolm._display.formatting import shorten
from skprotolm._fitted import FittedModel

_QUOTE_LENGTH = 300  # characters


class Predictions(NamedTuple):
    """n labeled texts, and what a model with C classes predicts for them."""

    texts: Texts
    codes: np.ndarray  # (n,): the class of each label
    vectors: np.ndarray  # (n, H): Euclidean distances are those of the layer
    probabilities: np.ndarray  # (n, C)
    predicted: np.ndarray  # (n,): classes
    # (n,): the prototype of the predicted class with the largest contribution
    top_prototypes: np.ndarray
    keys: list[Any]  # n: equal for texts that the encoder cannot distinguish
    n_unread: int  # texts with words that the tokenizer cannot read

    @property
    def is_correct(self) -> np.ndarray:
        """Whether each prediction is the label, (n,)."""
        return self.predicted == self.codes

    def quote(self, row: int) -> dict[str, Any]:
        """Return the class and the shortened text of a row."""
        return {
            "code": int(self.codes[row]),
            "text": shorten(self.texts[row], _QUOTE_LENGTH),
        }


def labeled_predictions(
    model: FittedModel, texts: Texts, codes: np.ndarray
) -> Predictions:
    """Return the model's predictions for texts of the classes `codes`."""
    layer = model.layer

    def outputs(s: Tensor) -> tuple[Tensor, ...]:
        scores = layer(s).outputs
        predicted = scores.argmax(dim=1)
        is_other_class = layer.values[None, :] != predicted[:, None]
        _, contributions = layer.contributions(s, predicted)
        contributions = contributions.masked_fill(is_other_class, -math.inf)
        return (
            layer.to_euclidean(s),
            scores.softmax(dim=1),
            predicted,
            contributions.argmax(dim=1),
        )

    tokenized = model.tokenize(texts)
    vectors, probabilities, predicted, top_prototypes = (
        tensor.numpy() for tensor in model.read(tokenized, outputs)
    )
    return Predictions(
        texts=texts,
        codes=codes,
        vectors=vectors,
        probabilities=probabilities,
        predicted=predicted,
        top_prototypes=top_prototypes,
        keys=tokenized.keys,
        n_unread=sum(bool(tokens.unread.any()) for tokens in tokenized),
    )


def nearest_rows(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Return the rows of the k vectors nearest to each query, or of all vectors."""
    search = NearestNeighbors(n_neighbors=min(k, len(vectors)), algorithm="brute")
    return search.fit(vectors).kneighbors(queries, return_distance=False)
