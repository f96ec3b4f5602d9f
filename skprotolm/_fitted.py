"""All that a fit leaves behind, in one frozen record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skprotolm._data.texts import Columns, Texts, as_texts
from skprotolm._network.network import Encoded, ProtoLM, encode, in_order
from skprotolm._network.prototypes import LayerOutput, PrototypeHead, PrototypeLayer
from skprotolm._network.tokenizer import TokenizedTexts
from skprotolm._records.prototypes import Prototypes, Quotes
from skprotolm._records.words import words_of_tokens
from skprotolm._runtime import isolated_torch, memory_errors


class Undo(NamedTuple):
    """The prototypes as they were before an edit."""

    layer: PrototypeLayer
    quotes: Quotes
    edit: dict[str, Any]  # the one that changed them


@dataclass(frozen=True, eq=False)
class FittedModel:
    """A trained model with what prediction and explanation need of its fit.

    The model is never trained again, so copies may share it.
    """

    model: ProtoLM
    classes: np.ndarray  # (C,)
    quotes: Quotes
    columns: Columns  # of the texts it was fitted on
    batch_size: int
    bf16: bool  # whether prediction runs in bfloat16
    device: str  # as asked for: "auto" is decided anew where the state is loaded
    edits: tuple[dict[str, Any], ...] = ()  # of prototypes, since the fit
    undo: tuple[Undo, ...] = ()  # the last edit's last

    def __post_init__(self) -> None:
        self.classes.setflags(write=False)  # copies share it

    @cached_property
    def layer(self) -> PrototypeLayer:
        """The prototype layer in float64 on the CPU, with which texts are scored."""
        return self.model.head.layer.exact()

    @cached_property
    def prototypes(self) -> Prototypes:
        """The prototypes as records: what the layer has, and what they quote."""
        told = {name: tensor.numpy() for name, tensor in self.layer.describe().items()}
        return Prototypes(
            vectors=self.model.head.layer.vectors.cpu().numpy().copy(),
            labels=self.classes[self.layer.owner.numpy()],
            priors=told.get("priors"),
            weights=told.get("weights"),
            unread=self._unread_words(),
            **{k: v for k, v in vars(self.quotes).items() if k != "ids"},
            _map_vectors=self.layer.compare(self.layer.vectors).numpy(),
            # A copy, since a reference cycle would keep the model in memory until the
            # garbage collector runs.
            _model=replace(self),
        )

    @cached_property
    def quoted(self) -> TokenizedTexts:
        """The prototypes' texts, as the encoder reads them."""
        texts: Any = list(self.quotes.texts)
        return self.tokenize(texts, with_offsets=True, quiet=True)

    def _unread_words(self) -> tuple[tuple[str, ...], ...]:
        """Return the words of each prototype's text that the tokenizer cannot read."""
        quoted = self.quoted
        assert quoted.offsets is not None
        assert quoted.segments is not None
        return tuple(
            words_of_tokens(text, segments[unread], offsets[unread])
            if unread.any()
            else ()
            for text, segments, offsets, unread in zip(
                self.quotes.texts,
                quoted.segments,
                quoted.offsets,
                quoted.unread,
                strict=True,
            )
        )

    def texts_of(self, X: Any, name: str = "X") -> Texts:
        """Return the texts of X, which must be like those of the fit."""
        return as_texts(X, columns=self.columns, name=name)

    def similarities(self, X: Any) -> np.ndarray:
        """Return the similarities of texts to all prototypes, (n, M)."""
        tokenized = self.tokenize(self.texts_of(X, "texts"))
        return self.read(tokenized, self.layer)[0].numpy()

    def map_vectors(self, X: Any) -> np.ndarray:
        """Return text vectors whose Euclidean distance is that of the layer."""
        tokenized = self.tokenize(self.texts_of(X, "texts"))
        return self.read(tokenized, lambda s: (self.layer.compare(s),))[0].numpy()

    def encode(self, tokenized: TokenizedTexts) -> Iterator[Encoded]:
        """Run texts up to their vectors, in batches by length."""
        model = self.model
        with memory_errors(self.batch_size, model.encoder.max_length):
            yield from encode(
                model.encoder,
                model.head.attention,
                tokenized,
                self.batch_size,
                bf16=self.bf16,
            )

    def tokenize(
        self, texts: Texts, *, with_offsets: bool = False, quiet: bool = False
    ) -> TokenizedTexts:
        """Turn texts into token ids; warn about text that is not read, unless quiet."""
        return self.model.encoder.tokenize(
            texts, with_offsets=with_offsets, quiet=quiet
        )

    @isolated_torch()
    def read(
        self, tokenized: TokenizedTexts, of: Callable[[Tensor], Sequence[Tensor]]
    ) -> list[Tensor]:
        """Return what a function gives of the text vectors, in the texts' order.

        Parameters
        ----------
        tokenized : TokenizedTexts
        of : callable
            From text vectors (B, H), float64 on the CPU, to tensors of B rows.
        """
        with torch.inference_mode():
            batches = [
                (encoded.rows, of(encoded.s.cpu().double()))
                for encoded in self.encode(tokenized)
            ]
        rows, found = zip(*batches, strict=True)
        return [
            in_order(list(zip(rows, column, strict=True)))
            for column in zip(*found, strict=True)
        ]

    def layer_outputs(self, texts: Texts, *, quiet: bool = False) -> LayerOutput:
        """Return what the prototype layer gives for each text, in float64."""
        tokenized = self.tokenize(texts, quiet=quiet)
        return LayerOutput(*self.read(tokenized, self.layer))

    def novelty(self, texts: Texts) -> np.ndarray:
        """Return how unlike all prototypes each text is, (n,)."""
        [novelty] = self.read(self.tokenize(texts), lambda s: (self.layer.novelty(s),))
        return novelty.numpy()

    def with_prototypes(
        self, layer: PrototypeLayer, quotes: Quotes, **changes: Any
    ) -> FittedModel:
        """Return the state with other prototypes under the same encoder."""
        head = PrototypeHead(self.model.head.attention, layer)
        model = ProtoLM(self.model.encoder, head).eval()
        return replace(self, model=model, quotes=quotes, **changes)

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
