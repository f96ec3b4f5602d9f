"""All that a fit leaves behind, in one frozen record."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from skprotolm._head import PrototypeLayer
from skprotolm._model import ProtoLM
from skprotolm._prototypes import Prototypes


@dataclass(frozen=True, eq=False)
class FittedState:
    """A trained model with what prediction and explanation need of its fit.

    The model is never trained again, so copies may share it.
    """

    model: ProtoLM
    classes: np.ndarray  # (C,)
    prototypes: Prototypes
    n_columns: int  # 1, or 2 for pairs of texts
    batch_size: int
    bf16: bool  # whether prediction runs in bfloat16
    device: str  # as asked for: "auto" is decided anew where the state is loaded

    @cached_property
    def layer(self) -> PrototypeLayer:
        """The prototype layer in float64 on the CPU, with which texts are scored."""
        return self.model.head.layer.exact()

    def __post_init__(self) -> None:
        self.classes.setflags(write=False)  # copies share it

    def __copy__(self) -> FittedState:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> FittedState:
        return self
