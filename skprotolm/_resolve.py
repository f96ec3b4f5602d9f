"""Every "auto" among the parameters, resolved in one place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from skprotolm._config import FitConfig
from skprotolm._tasks.base import Task

# n_prototypes="auto": prototypes in total; the fewest and the most per stratum; for
# strata of few texts, the fewest, and the texts per prototype.
_TOTAL, _FEWEST, MOST_PROTOTYPES = 16, 3, 10
_FEWEST_OF_FEW, _TEXTS_PER_PROTOTYPE = 2, 8
# Texts quoted by n_prototypes="auto", in total, and the fewest per stratum.
_QUOTED, _FEWEST_QUOTED = 2000, 20
# sharpness="auto": λ while prototypes are learned.
_SHARPNESS = 30.0
# max_epochs="auto": few texts need steps, not epochs, but more than 40 epochs on some
# dozens of texts only memorize them.
_MIN_STEPS, _MIN_EPOCHS, _MAX_EPOCHS = 150, 3, 40
# preservation="auto", for texts and for pairs.
_PRESERVATION, _PRESERVATION_OF_PAIRS = 0.4, 0.2
# label_smoothing="auto": the largest value, the number of texts over which it rises and
# falls, and the number from which on it is 0.
_SMOOTHING, _FEW, _MANY = 0.1, 128, 500
# learning_rate="auto": chosen on MiniLM, for its width; below 500 texts with one class
# each it is smaller.
_RATE, _WIDTH, _ENOUGH = 1e-4, 384, 500
_RATE_OF_ADAPTERS = 2e-3  # of finetune="lora"


def resolve(
    config: FitConfig,
    *,
    n_texts: int,
    is_paired: bool,
    hidden_size: int,
    task: Task,
    wanted: Sequence[int] | None,
    n_candidates: Sequence[int],
    n_members: Sequence[int],
    label_agreement: float,
) -> FitConfig:
    """Replace every "auto" by its value; the precision is resolved before.

    Parameters
    ----------
    config : FitConfig
    n_texts : int
        Training texts.
    is_paired : bool
        Whether they are pairs of texts.
    hidden_size : int
        Width of the encoder.
    task : Task
        With S strata.
    wanted : sequence of int, length S, or None
        Prototypes that the user asked for; None for "auto".
    n_candidates : sequence of int, length S
        Distinct texts per stratum that may become prototypes.
    n_members : sequence of int, length S
        Those that shape the learned prototypes of each stratum; see `Task.memberships`.
    label_agreement : float
        How well the frozen encoder separates the strata, from 0 to 1; see
        `neighborhoods.label_agreement`.
    """
    reading_weight = config.reading_weight
    if reading_weight is None:
        reading_weight = resolve_reading_weight(task, label_agreement)
    quoted = resolve_quoted_counts(wanted, n_candidates)
    counts = resolve_prototype_counts(config, wanted, n_members, label_agreement)
    is_auto = config.sharpness == "auto"
    return replace(
        config,
        max_epochs=resolve_epochs(config.max_epochs, n_texts, config.batch_size),
        learning_rate=resolve_learning_rate(config, hidden_size, n_texts, task),
        preservation=resolve_preservation(config.preservation, is_paired),
        label_smoothing=resolve_smoothing(config.label_smoothing, n_texts),
        n_prototypes=dict(zip(task.strata, quoted, strict=True)),
        prototype_counts=tuple(counts),
        quoted_counts=tuple(quoted),
        quotable=max(task.quotable, label_agreement),
        sharpness=_SHARPNESS if is_auto else config.sharpness,
        quoted_sharpness=None if is_auto else config.sharpness,
        prune=config.n_prototypes == "auto",
        spread=max(config.least_spread, label_agreement),
        # The label of a pair is a relation between its texts, not their topic: pairs of
        # the same topic often have different labels.
        reading_weight=0.0 if is_paired else reading_weight,
        output_weight=task.output_weight,
    )


def resolve_reading_weight(task: Task, label_agreement: float) -> float:
    """Return the task's weight, or less where the frozen encoder separates the labels.

    There, similar learned vectors are about the same anyway, and the weight makes
    probabilities less accurate: on 77 intents, whose agreement is 0.8, the expected
    calibration error is .028 with a weight of 0.8 and .018 with 0.3 (development).
    """
    return task.reading_weight * min(1.0, 2 * (1 - label_agreement))


def resolve_precision(config: FitConfig, is_fp32: bool, has_bf16: bool) -> FitConfig:
    """Decide whether to train and whether to predict under bfloat16 autocast.

    "auto" trains in bfloat16 where the device supports it and predicts in fp32.

    Parameters
    ----------
    config : FitConfig
    is_fp32 : bool
        Whether the encoder's weights are float32; others are not cast.
    has_bf16 : bool
        Whether the device multiplies bfloat16 numbers in hardware.
    """
    is_auto, is_bf16 = (config.precision == name for name in ("auto", "bf16"))
    return replace(
        config,
        train_bf16=is_fp32 and (is_bf16 or (is_auto and has_bf16)),
        predict_bf16=is_fp32 and is_bf16,
    )


def resolve_epochs(max_epochs: Any, n_texts: int, batch_size: int) -> int:
    """Return the number of epochs; "auto": 3, or enough for 150 steps, at most 40."""
    if max_epochs != "auto":
        return int(max_epochs)
    steps_per_epoch = math.ceil(n_texts / batch_size)
    n_epochs = math.ceil(_MIN_STEPS / steps_per_epoch)
    return max(_MIN_EPOCHS, min(_MAX_EPOCHS, n_epochs))


def resolve_learning_rate(
    config: FitConfig, hidden_size: int, n_texts: int, task: Task
) -> float:
    """Return the encoder's rate; "auto": 1e-4, scaled by width and number of texts.

    It is 2e-3 for adapters. The factors are 384/width for encoders wider than 384, and
    √(n/500) for fewer than 500 texts with one class each, which are soon memorized.
    """
    if config.learning_rate != "auto":
        return float(config.learning_rate)
    rate = _RATE_OF_ADAPTERS if config.trains_adapters else _RATE
    by_number = math.sqrt(n_texts / _ENOUGH) if task.is_soon_memorized else 1.0
    return rate * min(1.0, _WIDTH / hidden_size) * min(1.0, by_number)


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


def resolve_quoted_counts(
    wanted: Sequence[int] | None, n_candidates: Sequence[int]
) -> list[int]:
    """Return the texts to quote per stratum, never more than candidates.

    "auto" is 2,000 in total, at least 20 per stratum. `choose_texts` takes fewer where
    fewer are quotable.
    """
    S = len(n_candidates)
    if wanted is None:
        wanted = [max(_FEWEST_QUOTED, _QUOTED // S)] * S
    return list(map(min, wanted, n_candidates))


def resolve_prototype_counts(
    config: FitConfig,
    wanted: Sequence[int] | None,
    n_candidates: Sequence[int],
    label_agreement: float,
) -> list[int]:
    """Return the prototypes to learn per stratum, never more than candidates.

    "auto" is max(3, 16 // S) per stratum, but at most 1 per 8 texts and at least 2; up
    to 10 if the frozen encoder separates the strata. More prototypes are then more
    accurate (77 intents); otherwise each one is another noisy text (5 grades of
    sentiment). If texts replace the learned prototypes, at most 10 are learned.
    """
    is_replaced = config.projection and config.formulation == "mixture"
    most: float = MOST_PROTOTYPES if is_replaced else math.inf
    if wanted is None:
        most = MOST_PROTOTYPES
        usual = max(_FEWEST, _TOTAL // len(n_candidates))
        by_agreement = round(MOST_PROTOTYPES * label_agreement)
        wanted = [
            max(_FEWEST_OF_FEW, by_agreement, min(usual, n // _TEXTS_PER_PROTOTYPE))
            for n in n_candidates
        ]
    return [
        int(min(count, most, n)) for count, n in zip(wanted, n_candidates, strict=True)
    ]
