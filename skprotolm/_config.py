"""Parameters: checked in `fit`, frozen in one config."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from numbers import Integral, Real
from os import PathLike
from typing import Any

import numpy as np


class Rule:
    """What a parameter must be, in words and as a test."""

    def __init__(self, words: str, allows: Callable[[Any], bool]):
        self.words = words
        self.allows = allows


@dataclass(frozen=True)
class FitConfig:
    """Configuration of a fit: the estimator's parameters, and derived fields."""

    backbone: Any
    n_prototypes: Any
    formulation: str
    sharpness: Any
    cohesion: float
    separation: float
    diversity: float
    preservation: Any
    label_smoothing: Any
    n_nearest: float
    projection: bool
    finetune: str | int
    warm_start: bool
    max_epochs: Any
    batch_size: int
    learning_rate: Any
    head_learning_rate: float
    weight_decay: float
    warmup_fraction: float
    max_length: int | None
    long_text: str
    class_weight: Any
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int
    precision: str
    device: Any
    gradient_accumulation_steps: int
    gradient_checkpointing: bool
    verbose: int
    # Set by `resolve_precision` and `resolve`.
    train_bf16: bool = False
    predict_bf16: bool = False
    prototype_counts: tuple[int, ...] = ()  # per stratum, that are learned
    quoted_counts: tuple[int, ...] = ()  # per stratum, texts that replace them
    quotable: float = 1.0  # fraction of the correctly classified texts per stratum
    quoted_sharpness: float | None = None  # λ of these texts; None is by perplexity
    prune: bool = False  # texts that the model cannot tell apart, or misclassifies
    spread: float = 1.0  # of initial clusters around the mean of their stratum
    output_weight: float = 0.0  # see `projection.reading_metric`
    # Ablations, which only tests and benchmarks set.
    least_spread: float = 0.1
    reading_weight: float | None = None  # as output_weight; None is by the task
    recalibrate: bool = True
    similarities_as_distances: bool = False  # "proto-lm", as its published code

    @property
    def trains_encoder(self) -> bool:
        """Whether weights of the encoder are trained, too."""
        return self.finetune != "head"

    @property
    def trains_adapters(self) -> bool:
        """Whether adapters are trained instead of the encoder's own weights."""
        return self.finetune == "lora"

    @property
    def n_trained_layers(self) -> int | None:
        """The number of last layers that `finetune` names; None if it is a word."""
        return None if isinstance(self.finetune, str) else self.finetune

    @property
    def checkpoints_layers(self) -> bool:
        """Whether layers that are trained keep only their inputs."""
        return self.gradient_checkpointing and self.trains_encoder

    @property
    def reads_again(self) -> bool:
        """Whether the backward pass reads texts, or parts of them, again."""
        return self.trains_encoder and (
            self.gradient_checkpointing or self.gradient_accumulation_steps > 1
        )

    @property
    def part_size(self) -> int:
        """The number of texts, or of windows, that the encoder reads at once."""
        return math.ceil(self.batch_size / self.gradient_accumulation_steps)


# Those of the estimator, but its `random_state`; the other fields have defaults.
PARAMETERS = tuple(
    field.name for field in fields(FitConfig) if field.default is MISSING
)


def _integer(low: int) -> Rule:
    def allows(value: Any) -> bool:
        is_integer = isinstance(value, Integral) and not isinstance(value, bool)
        return is_integer and int(value) >= low

    names = {0: "a non-negative int", 1: "a positive int"}
    return Rule(names.get(low, f"an int of at least {low}"), allows)


def _number(interval: str, inside: Callable[[float], bool]) -> Rule:
    def allows(value: Any) -> bool:
        if not isinstance(value, Real) or isinstance(value, bool):
            return False
        try:
            return math.isfinite(value) and inside(float(value))
        except OverflowError:  # an int or a fraction beyond all floats
            return False

    return Rule(f"a number in {interval}", allows)


def one_of(*options: str | None) -> Rule:
    """Return the rule of an argument that has one of a few values."""

    def allows(value: Any) -> bool:
        return (value is None or isinstance(value, str)) and value in options

    return Rule(_listed(map(repr, options)), allows)


def _either(*rules: Rule) -> Rule:
    words = _listed(rule.words for rule in rules)
    return Rule(words, lambda value: any(rule.allows(value) for rule in rules))


def _listed(words: Iterable[str]) -> str:
    """Join alternatives: "a or b", "a, b, or c"."""
    *others, last = words
    if len(others) > 1:
        return f"{', '.join(others)}, or {last}"
    return " or ".join([*others, last])


def _is_encoder_or_name(value: Any) -> bool:
    if isinstance(value, (str, PathLike)):
        return str(value) != ""
    # By name, so that no torch is loaded to check a number.
    return any(base.__name__ == "SentenceTransformer" for base in type(value).__mro__)


def _is_title(value: Any) -> bool:
    if not isinstance(value, str):
        return value is None
    return value.encode("utf-8", "ignore").decode("utf-8") == value


_POSITIVE = _number("(0, inf)", lambda v: v > 0)
_NONNEGATIVE = _number("[0, inf)", lambda v: v >= 0)
# Cosines times λ are computed in fp32: the error is λ·10⁻⁷ for large λ, and 10⁻⁷/λ
# after the division of their logsumexp by a small λ.
_SHARPNESS = _number("[1e-3, 1e6]", lambda v: 1e-3 <= v <= 1e6)
_SHARE = _number("[0, 1)", lambda v: 0 <= v < 1)
FRACTION = _number("(0, 1)", lambda v: 0 < v < 1)
FLAG = Rule("a bool", lambda v: isinstance(v, (bool, np.bool_)))
COUNT = _integer(1)
COUNT_OR_ZERO = _integer(0)
AUTO_OR_COUNT = _either(one_of("auto"), COUNT)
FOLDS = _integer(2)
TOKEN_METHOD = one_of("auto", "decomposition", "relevance", "occlusion")
PURITY = _number("[0, 1]", lambda v: 0 <= v <= 1)
TITLE = Rule("a str that UTF-8 can encode, or None", _is_title)
BACKBONE = Rule("a name, a folder, or a SentenceTransformer", _is_encoder_or_name)


def _rules() -> dict[str, Rule]:
    by_label = Rule(
        "a dict mapping labels to positive ints",
        lambda v: isinstance(v, Mapping) and all(map(COUNT.allows, v.values())),
    )
    return {
        "backbone": BACKBONE,
        "n_prototypes": _either(one_of("auto"), COUNT, by_label),
        "formulation": one_of("mixture", "proto-lm"),
        "sharpness": _either(one_of("auto"), _SHARPNESS),
        "cohesion": _SHARE,
        "separation": _SHARE,
        "diversity": _NONNEGATIVE,
        "preservation": _either(one_of("auto"), _NONNEGATIVE),
        "label_smoothing": _either(one_of("auto"), _SHARE),
        "n_nearest": _either(COUNT, _number("(0, 1]", lambda v: 0 < v <= 1)),
        "projection": FLAG,
        "finetune": _either(one_of("full"), one_of("lora"), one_of("head"), COUNT),
        "warm_start": FLAG,
        "max_epochs": _either(one_of("auto"), COUNT),
        "batch_size": COUNT,
        "learning_rate": _either(one_of("auto"), _POSITIVE),
        "head_learning_rate": _POSITIVE,
        "weight_decay": _NONNEGATIVE,
        "warmup_fraction": _SHARE,
        "max_length": _either(one_of(None), COUNT),
        "long_text": one_of("truncate", "window"),
        "class_weight": _either(
            one_of(None),
            one_of("balanced"),
            Rule("a dict mapping labels to weights", lambda v: isinstance(v, Mapping)),
        ),
        "early_stopping": FLAG,
        "validation_fraction": FRACTION,
        "n_iter_no_change": COUNT,
        "precision": one_of("auto", "fp32", "bf16"),
        "device": Rule(
            "'auto', a device name, or a torch.device",
            lambda v: isinstance(v, str) or type(v).__module__ == "torch",
        ),
        "gradient_accumulation_steps": COUNT,
        "gradient_checkpointing": FLAG,
        "verbose": _either(COUNT_OR_ZERO, FLAG),
    }


def require(name: str, value: Any, rule: Rule) -> None:
    """Refuse an argument of a method or a function that is not what it must be."""
    if not rule.allows(value):
        raise ValueError(f"{name} must be {rule.words}, got {value!r}.")


def check_parameters(estimator: Any) -> FitConfig:
    """Return the estimator's parameters, checked; "auto" stays until `resolve`.

    Raises
    ------
    ValueError
        If a parameter is not what it must be.
    """
    name = type(estimator).__name__
    values = {
        parameter: getattr(estimator, parameter)
        for parameter in PARAMETERS
        if parameter not in estimator._fixed
    }
    values |= estimator._fixed
    for parameter, rule in {**_rules(), **estimator._rules}.items():
        if not rule.allows(values[parameter]):
            raise ValueError(
                f"The {parameter!r} parameter of {name} must be {rule.words}, got "
                f"{values[parameter]!r}."
            )
    if values["cohesion"] + values["separation"] >= 1:
        raise ValueError(
            f"The weights 'cohesion' and 'separation' of {name} must sum to less than "
            f"1, since the cross-entropy gets the rest; got {values['cohesion']} + "
            f"{values['separation']}."
        )
    if values["gradient_accumulation_steps"] > values["batch_size"]:
        raise ValueError(
            f"The 'gradient_accumulation_steps' parameter of {name} must be at most "
            f"'batch_size', which is the number of texts that it divides into parts; "
            f"got {values['gradient_accumulation_steps']} for "
            f"{values['batch_size']} texts."
        )
    return FitConfig(**{name: _plain(value) for name, value in values.items()})


def _plain(value: Any) -> Any:
    """Turn numbers and mappings of any library into Python's own."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Mapping):
        return dict(value)
    return float(value) if isinstance(value, Real) else value
