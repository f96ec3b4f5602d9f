"""Parameters: checked in `fit`, every "auto" resolved, frozen in one config."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from numbers import Integral, Real
from os import PathLike
from typing import Any

import numpy as np

FORMULATIONS = ("mixture", "proto-lm")
FINETUNE = ("full", "head")
PRECISIONS = ("auto", "fp32", "bf16")

# n_prototypes="auto": prototypes in total; the fewest and the most per stratum; for
# strata of few texts, the fewest, and the texts per prototype.
_TOTAL, _FEWEST, MOST_PROTOTYPES = 16, 3, 10
_FEWEST_OF_FEW, _TEXTS_PER_PROTOTYPE = 2, 8
# max_epochs="auto": few texts need steps, not epochs, but more than 40 epochs on some
# dozens of texts only memorize them.
_MIN_STEPS, _MIN_EPOCHS, _MAX_EPOCHS = 150, 3, 40
# preservation="auto", for texts and for pairs.
_PRESERVATION, _PRESERVATION_OF_PAIRS = 0.4, 0.2
# label_smoothing="auto": the largest value, the number of texts over which it rises and
# falls, and the number from which on it is 0.
_SMOOTHING, _FEW, _MANY = 0.1, 128, 500
# learning_rate="auto": chosen on MiniLM, for its width; below 500 texts it is smaller.
_RATE, _WIDTH, _ENOUGH = 1e-4, 384, 500


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
    sharpness: float
    cohesion: float
    separation: float
    diversity: float
    preservation: Any
    label_smoothing: Any
    n_nearest: float
    projection: bool
    finetune: str
    max_epochs: Any
    batch_size: int
    learning_rate: Any
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
    # Set by `resolve`.
    train_bf16: bool = False
    predict_bf16: bool = False
    prototype_counts: tuple[int, ...] = ()  # per stratum, at the start
    prune: bool = False  # unused and near-duplicate prototypes, before projection
    spread: float = 1.0  # of initial clusters around the mean of their stratum
    # Ablations, which only tests and benchmarks set.
    least_spread: float = 0.1
    cluster_before_projection: bool = True
    cluster_in_pretrained_space: bool = True
    recalibrate: bool = True
    similarities_as_distances: bool = False  # "proto-lm", as its published code

    @property
    def trains_encoder(self) -> bool:
        """Whether weights of the encoder are trained, too."""
        return self.finetune != "head"


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


def _one_of(*options: str | None) -> Rule:
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


_POSITIVE = _number("(0, inf)", lambda v: v > 0)
_NONNEGATIVE = _number("[0, inf)", lambda v: v >= 0)
# Cosines times λ are computed in fp32: the error is λ·10⁻⁷ for large λ, and 10⁻⁷/λ
# after the division of their logsumexp by a small λ.
_SHARPNESS = _number("[1e-3, 1e6]", lambda v: 1e-3 <= v <= 1e6)
_SHARE = _number("[0, 1)", lambda v: 0 <= v < 1)
FRACTION = _number("(0, 1)", lambda v: 0 < v < 1)
_FLAG = Rule("a bool", lambda v: isinstance(v, (bool, np.bool_)))
COUNT = _integer(1)
USAGE = _integer(0)
FOLDS = _integer(2)
TOKEN_METHOD = _one_of("auto", "decomposition", "relevance", "occlusion")
PURITY = _number("[0, 1]", lambda v: 0 <= v <= 1)


def _rules() -> dict[str, Rule]:
    by_label = Rule(
        "a dict mapping labels to positive ints",
        lambda v: isinstance(v, Mapping) and all(map(COUNT.allows, v.values())),
    )
    return {
        "backbone": Rule(
            "a name, a folder, or a SentenceTransformer", _is_encoder_or_name
        ),
        "n_prototypes": _either(_one_of("auto"), COUNT, by_label),
        "formulation": _one_of(*FORMULATIONS),
        "sharpness": _SHARPNESS,
        "cohesion": _SHARE,
        "separation": _SHARE,
        "diversity": _NONNEGATIVE,
        "preservation": _either(_one_of("auto"), _NONNEGATIVE),
        "label_smoothing": _either(_one_of("auto"), _SHARE),
        "n_nearest": _either(COUNT, _number("(0, 1]", lambda v: 0 < v <= 1)),
        "projection": _FLAG,
        "finetune": _one_of(*FINETUNE),
        "max_epochs": _either(_one_of("auto"), COUNT),
        "batch_size": COUNT,
        "learning_rate": _either(_one_of("auto"), _POSITIVE),
        "head_learning_rate": _POSITIVE,
        "weight_decay": _NONNEGATIVE,
        "warmup_fraction": _SHARE,
        "max_length": _either(_one_of(None), COUNT),
        "class_weight": _either(
            _one_of(None),
            _one_of("balanced"),
            Rule("a dict mapping labels to weights", lambda v: isinstance(v, Mapping)),
        ),
        "early_stopping": _FLAG,
        "validation_fraction": FRACTION,
        "n_iter_no_change": COUNT,
        "precision": _one_of(*PRECISIONS),
        "device": Rule(
            "'auto', a device name, or a torch.device",
            lambda v: isinstance(v, str) or type(v).__module__ == "torch",
        ),
        "verbose": _either(_integer(0), _FLAG),
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
    values = {parameter: getattr(estimator, parameter) for parameter in PARAMETERS}
    for parameter, rule in _rules().items():
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
    return FitConfig(**{name: _plain(value) for name, value in values.items()})


def resolve(
    config: FitConfig,
    *,
    n_texts: int,
    is_paired: bool,
    hidden_size: int,
    is_fp32: bool,
    has_bf16: bool,
    strata: Sequence[Any],
    n_candidates: Sequence[int],
    label_agreement: float,
) -> FitConfig:
    """Replace every "auto" by its value.

    Parameters
    ----------
    config : FitConfig
    n_texts : int
        Training texts.
    is_paired : bool
        Whether they are pairs of texts.
    hidden_size : int
        Width of the encoder.
    is_fp32 : bool
        Whether the encoder's weights are float32.
    has_bf16 : bool
        Whether the device multiplies bfloat16 numbers in hardware.
    strata : sequence, length S
        Names of the groups of texts that have their own prototypes: the labels.
    n_candidates : sequence of int, length S
        Distinct texts per stratum that may become prototypes.
    label_agreement : float
        How well the frozen encoder separates the strata, from 0 to 1; see
        `neighborhoods.label_agreement`.
    """
    counts = resolve_prototype_counts(
        config.n_prototypes, strata, n_candidates, label_agreement
    )
    train_bf16, predict_bf16 = resolve_precision(config.precision, is_fp32, has_bf16)
    return replace(
        config,
        train_bf16=train_bf16,
        predict_bf16=predict_bf16,
        max_epochs=resolve_epochs(config.max_epochs, n_texts, config.batch_size),
        learning_rate=resolve_learning_rate(config.learning_rate, hidden_size, n_texts),
        preservation=resolve_preservation(config.preservation, is_paired),
        label_smoothing=resolve_smoothing(config.label_smoothing, n_texts),
        n_prototypes=dict(zip(strata, counts, strict=True)),
        prototype_counts=tuple(counts),
        prune=config.n_prototypes == "auto",
        spread=max(config.least_spread, label_agreement),
    )


def resolve_precision(
    precision: str, is_fp32: bool, has_bf16: bool
) -> tuple[bool, bool]:
    """Return whether to train and whether to predict under bfloat16 autocast.

    "auto" trains in bfloat16 where the device supports it and predicts in fp32.
    """
    if not is_fp32 or precision == "fp32":
        return False, False
    return precision == "bf16" or has_bf16, precision == "bf16"


def resolve_epochs(max_epochs: Any, n_texts: int, batch_size: int) -> int:
    """Return the number of epochs; "auto": 3, or enough for 150 steps, at most 40."""
    if max_epochs != "auto":
        return int(max_epochs)
    steps_per_epoch = math.ceil(n_texts / batch_size)
    n_epochs = math.ceil(_MIN_STEPS / steps_per_epoch)
    return max(_MIN_EPOCHS, min(_MAX_EPOCHS, n_epochs))


def resolve_learning_rate(learning_rate: Any, hidden_size: int, n_texts: int) -> float:
    """Return the encoder's rate; "auto": 1e-4, scaled by width and number of texts.

    The factors are 384/width for encoders wider than 384, and √(n/500) for fewer than
    500 texts, which are soon memorized.
    """
    if learning_rate != "auto":
        return float(learning_rate)
    by_width = min(1.0, _WIDTH / hidden_size)
    return _RATE * by_width * min(1.0, math.sqrt(n_texts / _ENOUGH))


def resolve_preservation(preservation: Any, is_paired: bool) -> float:
    """Return the weight of the preservation term; "auto": 0.4, for pairs 0.2.

    The frozen encoder compares pairs by their subject, while their label is a relation
    between the two texts: the weight that texts need costs accuracy on pairs.
    """
    if preservation != "auto":
        return float(preservation)
    return _PRESERVATION_OF_PAIRS if is_paired else _PRESERVATION


def resolve_smoothing(label_smoothing: Any, n_texts: int) -> float:
    """Return ε of the label smoothing; "auto": 0.1 from 128 to 372 texts, 0 from 500.

    Few texts are repeated so often that the model gets overconfident. With fewer than
    128 texts the smaller learning rate already prevents this.
    """
    if label_smoothing != "auto":
        return float(label_smoothing)
    return _SMOOTHING * max(0.0, min(1.0, n_texts / _FEW, (_MANY - n_texts) / _FEW))


def resolve_prototype_counts(
    n_prototypes: Any,
    strata: Sequence[Any],
    n_candidates: Sequence[int],
    label_agreement: float,
) -> list[int]:
    """Return the prototypes per stratum at the start, never more than candidates.

    "auto" is max(3, 16 // S) per stratum, but at most 1 per 8 texts and at least 2; up
    to 10 if the frozen encoder separates the strata. More prototypes are then more
    accurate (77 intents); otherwise each one is another noisy text (5 grades of
    sentiment).
    """
    if n_prototypes != "auto":
        wanted = spread_prototypes(n_prototypes, strata)
    else:
        usual = max(_FEWEST, _TOTAL // len(strata))
        by_agreement = round(MOST_PROTOTYPES * label_agreement)
        wanted = [
            max(_FEWEST_OF_FEW, by_agreement, min(usual, n // _TEXTS_PER_PROTOTYPE))
            for n in n_candidates
        ]
    most = MOST_PROTOTYPES if n_prototypes == "auto" else math.inf
    return [
        int(min(count, most, n)) for count, n in zip(wanted, n_candidates, strict=True)
    ]


def _plain(value: Any) -> Any:
    """Turn numbers and mappings of any library into Python's own."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Mapping):
        return dict(value)
    return float(value) if isinstance(value, Real) else value


def spread_prototypes(n_prototypes: Any, labels: Sequence[Any]) -> list[int]:
    """Return the number per label that the user asked for: one int, or a dict."""
    if not isinstance(n_prototypes, Mapping):
        return [int(n_prototypes)] * len(labels)
    missing = [label for label in labels if label not in n_prototypes]
    # Labels without texts, as in a fold or with weight 0, are ignored.
    others = [label for label in n_prototypes if label not in labels]
    if missing:
        raise ValueError(
            f"n_prototypes must name every label of y; missing: {missing[:5]}, others "
            f"that it names: {others[:5]}."
        )
    return [int(n_prototypes[label]) for label in labels]
