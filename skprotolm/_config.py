"""The estimator's parameters: checked once, in `fit`, and frozen for the fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from numbers import Integral, Real
from os import PathLike
from typing import Any, NamedTuple

import numpy as np

FINETUNE = ("full", "head")
PRECISIONS = ("auto", "fp32", "bf16")


class Rule(NamedTuple):
    """What a parameter must be, in words and as a test."""

    words: str
    allows: Callable[[Any], bool]


@dataclass(frozen=True)
class Settings:
    """The checked parameters of one fit, under the estimator's own names."""

    backbone: Any
    n_prototypes: Any
    formulation: str
    sharpness: float
    cohesion: float
    separation: float
    diversity: float
    preservation: Any  # a number, or "auto"
    label_smoothing: Any  # a number, or "auto"
    n_nearest: float
    projection: bool
    finetune: str
    max_epochs: Any
    batch_size: int
    learning_rate: Any  # a number, or "auto"
    head_learning_rate: float
    weight_decay: float
    warmup_fraction: float
    max_length: int | None
    class_weight: Any
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int
    precision: str
    device: Any
    verbose: int


def _integer(low: int) -> Rule:
    def allows(value: Any) -> bool:
        is_integer = isinstance(value, Integral) and not isinstance(value, bool)
        return is_integer and int(value) >= low

    return Rule(f"an int of at least {low}", allows)


def _number(interval: str, inside: Callable[[float], bool]) -> Rule:
    def allows(value: Any) -> bool:
        if not isinstance(value, Real) or isinstance(value, bool):
            return False
        try:
            return math.isfinite(value) and inside(float(value))
        except OverflowError:  # an int or a fraction beyond all floats
            return False

    return Rule(f"a number in {interval}", allows)


def _one_of(*options: str | None) -> Rule:
    def allows(value: Any) -> bool:
        return (value is None or isinstance(value, str)) and value in options

    return Rule(" or ".join(map(repr, options)), allows)


def _either(*rules: Rule) -> Rule:
    words = ", or ".join(rule.words for rule in rules)
    return Rule(words, lambda value: any(rule.allows(value) for rule in rules))


def _is_encoder_or_name(value: Any) -> bool:
    if isinstance(value, (str, PathLike)):
        return str(value) != ""
    # By name, so that no torch is loaded to check a number.
    return any(base.__name__ == "SentenceTransformer" for base in type(value).__mro__)


_POSITIVE = _number("(0, inf)", lambda v: v > 0)
_NOT_NEGATIVE = _number("[0, inf)", lambda v: v >= 0)
# Cosines times λ are fp32, whose seventh digit is worth λ·10⁻⁷; of their log-sum, which
# is divided by λ, it is worth 10⁻⁷/λ.
_SHARPNESS = _number("[1e-3, 1e6]", lambda v: 1e-3 <= v <= 1e6)
_SHARE = _number("[0, 1)", lambda v: 0 <= v < 1)
FRACTION = _number("(0, 1)", lambda v: 0 < v < 1)
_FLAG = Rule("True or False", lambda v: isinstance(v, (bool, np.bool_)))
COUNT = _integer(1)
USAGE = _integer(0)
FOLDS = _integer(2)
PURITY = _number("[0, 1]", lambda v: 0 <= v <= 1)


def _rules(formulations: tuple[str, ...]) -> dict[str, Rule]:
    by_label = Rule(
        "a dict from each label to one",
        lambda v: isinstance(v, Mapping) and all(map(COUNT.allows, v.values())),
    )
    return {
        "backbone": Rule(
            "a name, a folder or a SentenceTransformer", _is_encoder_or_name
        ),
        "n_prototypes": _either(_one_of("auto"), COUNT, by_label),
        "formulation": _one_of(*formulations),
        "sharpness": _SHARPNESS,
        "cohesion": _SHARE,
        "separation": _SHARE,
        "diversity": _NOT_NEGATIVE,
        "preservation": _either(_one_of("auto"), _NOT_NEGATIVE),
        "label_smoothing": _either(_one_of("auto"), _SHARE),
        "n_nearest": _either(COUNT, _number("(0, 1]", lambda v: 0 < v <= 1)),
        "projection": _FLAG,
        "finetune": _one_of(*FINETUNE),
        "max_epochs": _either(_one_of("auto"), COUNT),
        "batch_size": COUNT,
        "learning_rate": _either(_one_of("auto"), _POSITIVE),
        "head_learning_rate": _POSITIVE,
        "weight_decay": _NOT_NEGATIVE,
        "warmup_fraction": _SHARE,
        "max_length": _either(_one_of(None), COUNT),
        "class_weight": _either(
            _one_of(None, "balanced"),
            Rule("a dict from labels to weights", lambda v: isinstance(v, Mapping)),
        ),
        "early_stopping": _FLAG,
        "validation_fraction": FRACTION,
        "n_iter_no_change": COUNT,
        "precision": _one_of(*PRECISIONS),
        "device": Rule(
            "'auto', a device name or a torch.device",
            lambda v: isinstance(v, str) or type(v).__module__ == "torch",
        ),
        "verbose": _either(_integer(0), _FLAG),
    }


def require(name: str, value: Any, rule: Rule) -> None:
    """Refuse an argument of a method or a function that is not what it must be."""
    if not rule.allows(value):
        raise ValueError(f"{name} must be {rule.words}, got {value!r}.")


def check_parameters(estimator: Any, formulations: tuple[str, ...]) -> Settings:
    """Return the estimator's parameters as checked settings, or say what is wrong."""
    owner = type(estimator).__name__
    values = {field.name: getattr(estimator, field.name) for field in fields(Settings)}
    for name, rule in _rules(formulations).items():
        if not rule.allows(values[name]):
            raise ValueError(
                f"The {name!r} parameter of {owner} must be {rule.words}, got "
                f"{values[name]!r}."
            )
    if values["cohesion"] + values["separation"] >= 1:
        raise ValueError(
            f"The weights 'cohesion' and 'separation' of {owner} must sum to less than "
            f"1, since the cross-entropy gets the rest; got {values['cohesion']} + "
            f"{values['separation']}."
        )
    return Settings(**{name: _plain(value) for name, value in values.items()})


def _plain(value: Any) -> Any:
    """Turn numbers and mappings of any library into Python's own."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Mapping):
        return dict(value)
    return float(value) if isinstance(value, Real) else value


def prototype_counts(n_prototypes: Any, classes: list[Any]) -> list[int]:
    """Spread `n_prototypes` over the classes: one number for all, or one a label."""
    if not isinstance(n_prototypes, Mapping):
        return [int(n_prototypes)] * len(classes)
    missing = [label for label in classes if label not in n_prototypes]
    # A label that is not there, as in a fold or with the weight 0, does no harm.
    others = [label for label in n_prototypes if label not in classes]
    if missing:
        raise ValueError(
            f"n_prototypes must name every label of y; missing: {missing[:5]}, others "
            f"that it names: {others[:5]}."
        )
    return [int(n_prototypes[label]) for label in classes]
