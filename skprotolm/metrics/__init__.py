"""Measures of explanations: faithfulness, simulatability, and prototypes."""

from skprotolm.metrics._evaluation import evaluate_explanations
from skprotolm.metrics._faithfulness import (
    comprehensiveness,
    prototype_comprehensiveness,
    prototype_sufficiency,
    sufficiency,
)
from skprotolm.metrics._prototypes import (
    explanation_compactness,
    prototype_diversity,
    prototype_purity,
    prototype_uniqueness,
    seed_stability,
)
from skprotolm.metrics._reading import reading_distance, reading_gain
from skprotolm.metrics._simulatability import Simulatability, simulatability

__all__ = [
    "Simulatability",
    "comprehensiveness",
    "evaluate_explanations",
    "explanation_compactness",
    "prototype_comprehensiveness",
    "prototype_diversity",
    "prototype_purity",
    "prototype_sufficiency",
    "prototype_uniqueness",
    "reading_distance",
    "reading_gain",
    "seed_stability",
    "simulatability",
    "sufficiency",
]
