"""The readout of one tag per word: that of classes, in other words."""

from __future__ import annotations

from typing import Any

from skprotolm._network.class_readout import ClassReadout
from skprotolm._tasks.units import WORD_PROBABILITY


class TagReadout(ClassReadout):
    """Tag evidence is a smooth maximum, as in `ClassReadout`."""

    unit = WORD_PROBABILITY
    can_be_extended = False  # `partial_fit` takes texts

    def options(self) -> dict[str, Any]:
        """Return the kind, the number of tags and the sharpness λ."""
        return {**super().options(), "kind": "tags"}
