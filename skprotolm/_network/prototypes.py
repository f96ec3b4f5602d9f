"""The layer of prototypes: vectors with values, and outputs from how near they are.

Letters: B texts, H hidden size, L outputs, M prototypes.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from skprotolm._config import FitConfig
from skprotolm._network.blocks import MAX_PAIRS, row_blocks
from skprotolm._tasks.units import Unit

_CHUNK = 1024  # texts that are scored at once, unless there are many prototypes


class LayerOutput(NamedTuple):
    """Output of a prototype layer for B texts."""

    similarities: Tensor  # (B, M), higher is nearer
    squared_distances: Tensor  # (B, M), lower is nearer
    outputs: Tensor  # (B, L)


class Attribution(NamedTuple):
    """Exact sums that explain one output of each of B texts."""

    outputs: Tensor  # (B, L)
    target: Tensor  # (B,), the output that is explained
    against: Tensor | None  # (B,), the output it is compared with, instead of all
    explained: Tensor  # (B,), what is split over tokens, such as log-odds
    novelty: Tensor  # (B,)
    base: Tensor  # (B,), what no token, or no prototype, contributes
    direction: Tensor  # (B, H): token t contributes α_t·(h_t·direction)


class Batch(NamedTuple):
    """Inputs of the losses besides the layer's output."""

    s: Tensor  # (B, H)
    values: Tensor  # (B, ...)
    weights: Tensor  # (B,)
    pretrained: Tensor  # (B, P), the frozen encoder's sentence vectors
    own: Tensor  # (B, M), prototypes of the text's class
    mates: Tensor  # (B, B), texts of the same class, of the first ones of many texts


_Layer = TypeVar("_Layer", bound="PrototypeLayer")
# Terms of a loss, each with its weight in the sum.
Terms = dict[str, tuple[float, Tensor]]


class PrototypeLayer(nn.Module, ABC):
    """M vectors with values; subclasses turn nearness into outputs.

    Parameters
    ----------
    vectors : Tensor of shape (M, H)
        Those of texts are mapped, see `mapped`.
    values : Tensor of shape (M, ...)
        What each prototype stands for, such as the index of its class.
    """

    values: Tensor
    formulation: str  # the parameter of the classifier that this layer implements
    per_prototype: str  # the parameter whose last dimension is M
    can_be_extended = False  # by texts and classes, without training
    unit: Unit

    def __init__(self, vectors: Tensor, values: Tensor):
        super().__init__()
        self.vectors = nn.Parameter(vectors.clone())
        self.register_buffer("values", values)

    def _apply(self, fn: Any, recurse: bool = True) -> PrototypeLayer:
        """Move the layer, but not values in float64, which some devices lack."""
        values = self.values
        super()._apply(fn, recurse)
        if values.dtype == torch.float64:
            self.values = values
        return self

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return the further arguments of the constructor, as plain values."""

    @classmethod
    def from_arrays(
        cls, tensors: dict[str, Tensor], options: dict[str, Any]
    ) -> PrototypeLayer:
        """Build a layer from its state dict, without computing or copying anything.

        Either would start torch's threads, which do not survive a fork: a server
        that loads a model and then forks would hang.
        """
        with torch.device("meta"):
            vectors, values = (
                torch.empty_like(tensors[name], device="meta")
                for name in ("vectors", "values")
            )
            layer = cls._from_options(vectors, values, options)
        layer.load_state_dict(tensors, assign=True)
        return layer.eval().requires_grad_(False)

    @classmethod
    def _from_options(
        cls, vectors: Tensor, values: Tensor, options: dict[str, Any]
    ) -> PrototypeLayer:
        return cls(vectors, values, **options)

    def exact(self: _Layer) -> _Layer:
        """Return a copy in float64 on the CPU, for exact sums."""
        with torch.inference_mode(False):  # inference tensors have no gradients
            return copy.deepcopy(self).cpu().double().requires_grad_(False)

    @property
    def positions(self) -> Tensor:
        """Where prototypes are, with Euclidean distance, (M, H)."""
        return self.vectors

    def to_euclidean(self, s: Tensor) -> Tensor:
        """Map text vectors to where this layer's distance is Euclidean."""
        return s

    def mapped(self, vectors: Tensor) -> Tensor:
        """Map vectors of texts, or of their tokens, linearly to the prototypes'."""
        return vectors

    def novelty(self, s: Tensor, excluded: Tensor | None = None) -> Tensor:
        """Return how far text vectors (B, H) are from all prototypes, (B,)."""
        return self.novelty_at(self.to_euclidean(s), excluded)

    def outputs_of(
        self, vectors: Tensor, of: Callable[[Tensor, slice], Tensor] | None = None
    ) -> Tensor:
        """Return the outputs of many text vectors (n, H), on the CPU, (n, L).

        With `of`, return what it makes of the outputs of some texts, and of their rows:
        those of all texts would fill the memory if there are many texts and classes.
        """
        parts = []
        for rows in self.blocks(vectors, max_rows=_CHUNK):
            outputs = self(vectors[rows].to(self.vectors)).outputs.cpu()
            parts.append(outputs if of is None else of(outputs, rows))
        return torch.cat(parts)

    def blocks(self, s: Tensor, max_rows: int = MAX_PAIRS) -> Iterator[slice]:
        """Split the rows of text vectors; see `row_blocks`."""
        return row_blocks(len(s), len(self.vectors), max_rows=max_rows)

    def take(
        self,
        rows: Tensor,
        vectors: Tensor | None = None,
        values: Tensor | None = None,
    ) -> PrototypeLayer:
        """Return a layer of some prototypes, with other vectors and values if given."""
        rows = rows.to(self.values.device)
        per_prototype = getattr(self, self.per_prototype)[..., rows]
        vectors = self.vectors[rows] if vectors is None else vectors
        values = self.values[rows] if values is None else values.to(self.values)
        return self._rebuilt(vectors, values, per_prototype)

    def extended(self, s: Tensor, values: Tensor) -> PrototypeLayer:
        """Return a layer with further texts, of the mean weight of their value."""
        values, vectors = values.to(self.values), self.mapped(s.to(self.vectors))
        per_prototype = getattr(self, self.per_prototype)
        distinct, of = torch.unique(values, dim=0, return_inverse=True)
        weights = torch.stack([self._mean_weight(value) for value in distinct], dim=-1)
        return self._rebuilt(
            torch.cat([self.vectors, vectors]),
            torch.cat([self.values, values]),
            torch.cat([per_prototype, weights[..., of]], dim=-1),
        )

    def revalued(self, rows: Tensor, values: Tensor) -> PrototypeLayer:
        """Return a layer in which some prototypes stand for other values."""
        rows = rows.to(self.values.device)
        changed = self.values.clone()
        changed[rows] = values.to(changed)
        return self._rebuilt(
            self.vectors, changed, self._revalued_weights(rows, changed)
        )

    def _rebuilt(
        self, vectors: Tensor, values: Tensor, per_prototype: Tensor
    ) -> PrototypeLayer:
        tensors = {
            **self.state_dict(),
            "vectors": vectors.detach().to(self.vectors),
            "values": values,
            self.per_prototype: per_prototype.detach(),
        }
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        return type(self).from_arrays(tensors, self.options())

    @abstractmethod
    def _mean_weight(self, value: Tensor) -> Tensor:
        """Return the number, or column, that an added prototype of a value gets."""

    def _revalued_weights(self, rows: Tensor, values: Tensor) -> Tensor:
        """Return the parameter per prototype once some have other values."""
        return getattr(self, self.per_prototype)

    def freeze(self) -> None:
        """Fix what is normalized during training."""

    @abstractmethod
    def describe(self) -> dict[str, Tensor]:
        """Return what `Prototypes` shows besides vectors and labels."""

    @abstractmethod
    def novelty_at(self, points: Tensor, excluded: Tensor | None = None) -> Tensor:
        """Return how far points (B, D) are from all prototypes, (B,).

        They are where the layer's distance is Euclidean (see `to_euclidean`).
        Prototypes can be excluded per point (B, M).
        """

    @abstractmethod
    def forward(self, s: Tensor) -> LayerOutput:
        """Compare text vectors (B, H), in their own precision and on their device."""

    @abstractmethod
    def losses(self, output: LayerOutput, batch: Batch, config: FitConfig) -> Terms:
        """Return the terms of the objective."""

    @abstractmethod
    def explained(
        self, outputs: Tensor, index: Tensor, against: Tensor | None = None
    ) -> Tensor:
        """Return what token scores are parts of, from outputs (B, L), (B,)."""

    def attribute(
        self, s: Tensor, index: Tensor | None = None, against: Tensor | None = None
    ) -> Attribution:
        """Explain one output of each text vector (B, H), by default the predicted one.

        With `against` (B,), explain why this output and not that one. `s` is float64 on
        the CPU, as are the layer's parameters (see `exact`).
        """
        parts = [
            self._attribute(s[rows], rows_of(index, rows), rows_of(against, rows))
            for rows in self.blocks(s)
        ]
        columns: list[Any] = [
            None if column[0] is None else torch.cat(column)
            for column in zip(*parts, strict=True)
        ]
        return Attribution(*columns)

    @abstractmethod
    def _attribute(
        self, s: Tensor, index: Tensor | None, against: Tensor | None
    ) -> Attribution:
        """Explain one output of each text vector of a block."""

    @abstractmethod
    def contributions(
        self, s: Tensor, index: Tensor | None = None, against: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return similarities and contributions to one output, both (B, M).

        The arguments are those of `attribute`.
        """


def rows_of(values: Tensor | None, rows: slice) -> Tensor | None:
    """Return some rows of a tensor, or None."""
    return None if values is None else values[rows]
