"""A fitted model: frozen network, task and quoted texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skprotolm._data.texts import Columns, Texts
from skprotolm._network.network import Encoded, Network, encode, in_order
from skprotolm._network.prototypes import PrototypeLayer
from skprotolm._network.token_vectors import EncodedTexts
from skprotolm._network.tokenized import TokenizedTexts
from skprotolm._network.word_vectors import read_units
from skprotolm._records.memory import Memory
from skprotolm._records.parts import PrototypeTexts
from skprotolm._records.prototypes import Prototypes
from skprotolm._records.quotes import Quotes
from skprotolm._records.words import words_of_tokens
from skprotolm._runtime import isolated_torch, memory_errors
from skprotolm._tasks.base import Task

T = TypeVar("T", bound=Task)


@dataclass(frozen=True, eq=False)
class FittedModel:
    """A trained network with all that predictions and explanations need.

    It is never trained again, so copies of an estimator share it.
    """

    network: Network
    task: Task
    quotes: Quotes
    columns: Columns  # of X in `fit`
    batch_size: int
    bf16: bool  # whether predictions run in bfloat16
    device: str  # as the user wrote it: "auto" is resolved again where it is loaded
    novelty_limit: float | None = None  # above it, texts are unlike the training texts
    memory: Memory | None = None  # for `partial_fit`, if prototypes are texts
    further: tuple[int, int] = (0, 0)  # texts and new classes of `partial_fit`
    edits: tuple[dict[str, Any], ...] = ()  # of prototypes, since the fit
    # Layer and quotes before each edit that can be undone, in the order of `edits`.
    undo: tuple[tuple[PrototypeLayer, Quotes], ...] = ()

    def task_as(self, kind: type[T]) -> T:
        """Return the task, of the kind that the caller knows it to be."""
        assert isinstance(self.task, kind)
        return self.task

    @cached_property
    def layer(self) -> PrototypeLayer:
        """The layer in float64 on the CPU, in which all predictions are computed."""
        return self.network.layer.exact()

    @cached_property
    def prototypes(self) -> Prototypes:
        """The prototypes as records: what the layer has, and what they quote."""
        described = self.layer.describe()
        arrays = {name: tensor.numpy() for name, tensor in described.items()}
        return Prototypes(
            vectors=self.network.layer.vectors.cpu().numpy().copy(),
            labels=self.task.labels(self.layer.values.numpy()),
            priors=arrays.get("priors"),
            weights=arrays.get("weights"),
            unread=self._unread_words(),
            **{k: v for k, v in vars(self.quotes).items() if k != "ids"},
            _nouns=(self.task.label_noun, self.task.strata_noun),
            _groups=tuple(self.task.stratum_names(self.layer.values.numpy())),
            _map_vectors=self.layer.positions.numpy(),
            # A copy, since a reference cycle would keep the model in memory until the
            # garbage collector runs.
            _model=replace(self),
        )

    @cached_property
    def prototype_texts(self) -> PrototypeTexts:
        """The columns of the prototypes that explanations show."""
        columns = self.prototypes
        return PrototypeTexts(
            columns.labels, columns.texts, columns.names, columns.unread
        )

    @cached_property
    def quoted(self) -> TokenizedTexts:
        """The prototypes' texts, as the encoder reads them."""
        return self.tokenize(self.quotes.texts, with_offsets=True, quiet=True)

    def _unread_words(self) -> tuple[tuple[str, ...], ...]:
        """Return the words of each prototype's text that the tokenizer cannot read."""
        return tuple(
            words_of_tokens(
                text, tokens.segments[tokens.unread], tokens.offsets[tokens.unread]
            )
            if tokens.unread.any()
            else ()
            for text, tokens in zip(self.quotes.texts, self.quoted, strict=True)
        )

    def texts_of(self, X: Any, name: str = "X") -> Texts:
        """Return the texts of X, which must be like those of the fit."""
        return self.task.texts_of(X, self.columns, name)

    def units_of(self, X: Any, name: str = "X") -> Texts:
        """Return what is predicted of X: its texts, or the words of its sentences."""
        return self.task.units_of(self.texts_of(X, name))

    def tokenize(
        self, texts: Texts, *, with_offsets: bool = False, quiet: bool = False
    ) -> TokenizedTexts:
        """Turn texts into token ids; warn about text that is not read, unless quiet."""
        encoder = self.network.encoder
        return encoder.tokenize(texts, with_offsets=with_offsets, quiet=quiet)

    def encode(self, tokenized: TokenizedTexts) -> Iterator[Encoded]:
        """Run texts up to their vectors, in batches by length."""
        encoder, attention = self.network.encoder, self.network.attention
        with memory_errors(self.batch_size, encoder.max_length):
            texts = EncodedTexts(tokenized, bf16=self.bf16)
            source = read_units(texts, tokenized)
            yield from encode(encoder, attention, source, self.batch_size)

    @isolated_torch()
    def read(
        self, tokenized: TokenizedTexts, of: Callable[[Tensor], Sequence[Tensor]]
    ) -> list[Tensor]:
        """Apply a function to the text vectors, in the order of the texts.

        Parameters
        ----------
        tokenized : TokenizedTexts
        of : callable
            From text vectors (B, H), float64 on the CPU, to tensors of B rows.
        """
        rows, results = [], []
        for encoded in self.encode(tokenized):
            s = encoded.s.cpu().double()
            for block in self.layer.blocks(s):
                rows.append(encoded.rows[block])
                with torch.inference_mode():
                    results.append(of(s[block]))
        return [
            in_order(list(zip(rows, column, strict=True)))
            for column in zip(*results, strict=True)
        ]

    def similarities(self, X: Any, name: str = "texts") -> np.ndarray:
        """Return the similarities of texts to all prototypes, (n, M)."""
        tokenized = self.tokenize(self.texts_of(X, name))
        [similarities] = self.read(tokenized, lambda s: (self.layer(s).similarities,))
        return similarities.numpy()

    def nearest(self, texts: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the k nearest prototypes of texts, and similarities, (n, k)."""

        def of(s: Tensor) -> tuple[Tensor, Tensor]:
            similarities = self.layer(s).similarities
            order = similarities.sort(dim=1, descending=True, stable=True)
            return order.indices[:, :k].clone(), order.values[:, :k].clone()

        tokenized = self.tokenize(self.texts_of(texts, "texts"))
        indices, similarities = self.read(tokenized, of)
        return indices.numpy(), similarities.numpy()

    def map_vectors(self, texts: Any) -> np.ndarray:
        """Return text vectors where the layer's distance is Euclidean, (n, H)."""
        tokenized = self.tokenize(self.texts_of(texts, "texts"))
        [vectors] = self.read(tokenized, lambda s: (self.layer.to_euclidean(s),))
        return vectors.numpy()

    def groups_of(self, labels: Any, n: int) -> list[Any]:
        """Return what a map calls the strata of n labels or numbers."""
        return self.task.stratum_names(self.task.encode(labels, "labels", n))

    def outputs(self, texts: Texts, *, quiet: bool = False) -> np.ndarray:
        """Return the outputs of each text, (n, L) float64."""
        tokenized = self.tokenize(texts, quiet=quiet)
        [outputs] = self.read(tokenized, lambda s: (self.layer(s).outputs,))
        return outputs.numpy()

    def outputs_of(self, s: Tensor, kept: np.ndarray) -> np.ndarray:
        """Return the outputs (B, L) of text vectors (B, H) for some prototypes only."""
        return self.layer.take(torch.from_numpy(kept))(s).outputs.numpy()

    def similarities_of(self, s: Tensor, kept: np.ndarray) -> np.ndarray:
        """Return the similarities of text vectors (B, H) to some prototypes only."""
        return self.layer.take(torch.from_numpy(kept))(s).similarities.numpy()

    def top_prototypes(self, texts: Texts) -> np.ndarray:
        """Return the prototype of the largest contribution to each prediction, (n,)."""

        def of(s: Tensor) -> tuple[Tensor]:
            _, contributions = self.layer.contributions(s)
            return (contributions.argmax(dim=1),)

        [tops] = self.read(self.tokenize(texts), of)
        return tops.numpy()

    def novelty(self, texts: Texts) -> np.ndarray:
        """Return how unlike all prototypes each text is, (n,)."""
        [novelty] = self.read(self.tokenize(texts), lambda s: (self.layer.novelty(s),))
        return novelty.numpy()

    def with_prototypes(
        self, layer: PrototypeLayer, quotes: Quotes, **changes: Any
    ) -> FittedModel:
        """Return the model with other prototypes under the same encoder."""
        network = Network(self.network.encoder, self.network.attention, layer).eval()
        return replace(self, network=network, quotes=quotes, **changes)

    def __copy__(self) -> FittedModel:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> FittedModel:
        return self


def fitted_model(estimator: Any) -> FittedModel:
    """Return what a fitted estimator predicts with.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    """
    check_is_fitted(estimator)
    return estimator._fitted


def fitted_classifier(estimator: Any) -> FittedModel:
    """Return what a fitted classifier predicts with.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If it is not a classifier.
    """
    model = fitted_model(estimator)
    if model.task.kind != "classes":
        raise TypeError(
            f"This measure is defined for classifiers, got {type(estimator).__name__} "
            f"with another kind of target than one class per text; the guide's page on "
            f"kinds of targets lists what each of them has."
        )
    return model
