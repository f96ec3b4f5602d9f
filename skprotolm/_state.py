"""All that a fit leaves behind, in one frozen record."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from skprotolm._head import PrototypeHead, PrototypeLayer
from skprotolm._model import ProtoLM
from skprotolm._prototypes import Prototypes, Quotes
from skprotolm._relevance import LinearEncoder


class Undo(NamedTuple):
    """The prototypes as they were before an edit."""

    layer: PrototypeLayer
    quotes: Quotes
    edit: dict[str, Any]  # the one that changed them


@dataclass(frozen=True, eq=False)
class FittedState:
    """A trained model with what prediction and explanation need of its fit.

    The model is never trained again, so copies may share it.
    """

    model: ProtoLM
    classes: np.ndarray  # (C,)
    quotes: Quotes
    n_columns: int  # 1, or 2 for pairs of texts
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
    def linear_encoder(self) -> LinearEncoder:
        """The view of the encoder that relevance reads."""
        return LinearEncoder(self.model.encoder)

    @cached_property
    def prototypes(self) -> Prototypes:
        """The prototypes as records: what the layer has, and what they quote."""
        told = {name: tensor.numpy() for name, tensor in self.layer.describe().items()}
        return Prototypes(
            vectors=self.model.head.layer.vectors.cpu().numpy().copy(),
            labels=self.classes[self.layer.owner.numpy()],
            priors=told.get("priors"),
            weights=told.get("weights"),
            **vars(self.quotes),
        )

    def with_prototypes(
        self, layer: PrototypeLayer, quotes: Quotes, **changes: Any
    ) -> FittedState:
        """Return the state with other prototypes under the same encoder."""
        head = PrototypeHead(self.model.head.attention, layer)
        model = ProtoLM(self.model.encoder, head).eval()
        return replace(self, model=model, quotes=quotes, **changes)

    def __copy__(self) -> FittedState:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> FittedState:
        return self
