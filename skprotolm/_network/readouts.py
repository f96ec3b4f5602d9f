"""The readouts by kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skprotolm._network.class_readout import ClassReadout
from skprotolm._network.label_readout import LabelReadout
from skprotolm._network.readout import Readout
from skprotolm._network.tag_readout import TagReadout
from skprotolm._network.value_readout import ValueReadout

# By `Readout.options()["kind"]`.
_READOUTS: dict[str, Callable[..., Readout]] = {
    "classes": ClassReadout,
    "labels": LabelReadout,
    "tags": TagReadout,
    "value": ValueReadout,
}


def make_readout(kind: str, **options: Any) -> Readout:
    """Build the readout of a kind of target."""
    return _READOUTS[kind](**options)
