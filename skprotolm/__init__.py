"""Classifiers, regressors and taggers of text that show their reasons.

Names are resolved on first use, so that importing the package loads neither
torch nor sentence-transformers.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skprotolm import datasets, exceptions, metrics
    from skprotolm._classifier import ProtoLMClassifier
    from skprotolm._data.words import MarkedWord
    from skprotolm._records.explanation import Explanation
    from skprotolm._records.explanations import Explanations
    from skprotolm._records.label_explanation import LabelExplanation
    from skprotolm._records.parts import SentenceAlignment, WordAlignment
    from skprotolm._records.prototypes import Nearest, Prototype, Prototypes
    from skprotolm._records.value_explanation import ValueExplanation
    from skprotolm._records.word_explanation import WordExplanation
    from skprotolm._regressor import ProtoLMRegressor
    from skprotolm._token_classifier import ProtoLMTokenClassifier

try:
    __version__ = version("skprotolm")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

_HOME = {
    "ProtoLMClassifier": "_classifier",
    "ProtoLMRegressor": "_regressor",
    "ProtoLMTokenClassifier": "_token_classifier",
    "Explanation": "_records.explanation",
    "Explanations": "_records.explanations",
    "LabelExplanation": "_records.label_explanation",
    "ValueExplanation": "_records.value_explanation",
    "MarkedWord": "_data.words",
    "WordExplanation": "_records.word_explanation",
    "SentenceAlignment": "_records.parts",
    "WordAlignment": "_records.parts",
    "Nearest": "_records.prototypes",
    "Prototype": "_records.prototypes",
    "Prototypes": "_records.prototypes",
}
_SUBMODULES = ("datasets", "exceptions", "metrics")

__all__ = [
    "Explanation",
    "Explanations",
    "LabelExplanation",
    "MarkedWord",
    "Nearest",
    "ProtoLMClassifier",
    "ProtoLMRegressor",
    "ProtoLMTokenClassifier",
    "Prototype",
    "Prototypes",
    "SentenceAlignment",
    "ValueExplanation",
    "WordAlignment",
    "WordExplanation",
    "datasets",
    "exceptions",
    "metrics",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"skprotolm.{_HOME[name]}"), name)
    if name in _SUBMODULES:
        return import_module(f"skprotolm.{name}")
    raise AttributeError(f"module 'skprotolm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
