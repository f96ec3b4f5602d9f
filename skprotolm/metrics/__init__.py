"""Measures of explanations: whether they are faithful, and help a reader."""

from skprotolm.metrics._evaluation import evaluate_explanations
from skprotolm.metrics._faithfulness import (
    comprehensiveness,
    prototype_comprehensiveness,
    prototype_sufficiency,
    sufficiency,
)
from skprotolm.metrics._simulatability import Simulatability, simulatability

__all__ = [
    "Simulatability",
    "comprehensiveness",
    "evaluate_explanations",
    "prototype_comprehensiveness",
    "prototype_sufficiency",
    "simulatability",
    "sufficiency",
]
