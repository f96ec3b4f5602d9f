"""What contributions are parts of, and how text, HTML and figures write them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Unit:
    """What the contributions of an explanation are parts of."""

    name: str  # `Explanation.space`
    total: str  # what they sum to, beside the base value
    caption: str  # of an axis; "{target}" stands for the target
    # Whether contributions are shares of all outputs: they sum to 1, those of the
    # target's prototypes to the target's output, and are written as percentages.
    is_share: bool
    # Whether similarities, and what is explained, are sums over tokens.
    has_token_sums: bool


PROBABILITY = Unit("probability", "probability", "share", True, True)
SCORE = Unit("score", "score", "part of the score of {target}", False, False)
UNITS = {unit.name: unit for unit in (PROBABILITY, SCORE)}
