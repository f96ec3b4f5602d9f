"""The readout of one tag per word: that of classes, in other words."""

from __future__ import annotations

from typing import Any

from skprotolm._network.class_readout import ClassReadout
from skprotolm._tasks.units import WORD_PROBABILITY

# Training words of a tag are more similar to each other than to new ones. On entities
# (WNUT-17, development, 1,200 sentences) 1.5 has 30 words for 90 % of the shares of the
# median word, 1.1 has 15, at .7 points of F1 less.
_PERPLEXITY = 1.1


class TagReadout(ClassReadout):
    """Tag evidence is a smooth maximum, as in `ClassReadout`."""

    unit = WORD_PROBABILITY
    can_be_extended = False  # `partial_fit` takes texts

    @property
    def perplexity(self) -> float:
        """The perplexity of shares in a tag."""
        return _PERPLEXITY

    def options(self) -> dict[str, Any]:
        """Return the kind, the number of tags and the sharpness λ."""
        return {**super().options(), "kind": "tags"}
