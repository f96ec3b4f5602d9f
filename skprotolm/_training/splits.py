"""What is decided about a fit before any tensor is computed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skprotolm._config import Settings, prototype_counts
from skprotolm._data.targets import Targets
from skprotolm._data.texts import Columns, Texts, shown
from skprotolm._runtime import warn
from skprotolm._training.initialization import MOST_PROTOTYPES
from skprotolm._training.projection import Candidates, find_candidates
from skprotolm.exceptions import FewerPrototypesWarning

_MIN_STEPS = 150  # of max_epochs="auto": few texts want steps, not epochs
_MIN_EPOCHS = 3
_MAX_EPOCHS = 40  # of these; of some dozens of texts more are only learned by heart
# preservation="auto": of texts, and of pairs, whose class is a relation of the two that
# their subject says nothing of.
_PRESERVATION, _OF_PAIRS = 0.4, 0.2
# label_smoothing="auto": the most, the texts within which it rises and falls, and the
# number with which none is left.
_SMOOTHING, _FEW, _MANY = 0.1, 128, 500


@dataclass(frozen=True)
class Plan:
    """A fit that can begin: what was checked, and what follows from it."""

    settings: Settings
    targets: Targets
    texts: Texts  # those of positive weight
    columns: Columns
    training: np.ndarray  # rows of texts that are trained on
    validation: np.ndarray  # rows held out, none without early stopping
    candidates: Candidates  # within the training rows
    counts: list[int]  # prototypes a class, at most
    n_epochs: int


def plan_fit(
    texts: Texts,
    keys: list[bytes],
    columns: Columns,
    targets: Targets,
    settings: Settings,
    seed: int,
) -> Plan:
    """Check what can be checked before training, and decide the rest.

    Parameters
    ----------
    texts : list of str or of (str, str), length n
        Those of positive weight.
    keys : list of bytes, length n
        What the encoder reads of each text. Texts of one key are one text.
    columns : Columns
    targets : Targets
    settings : Settings
    seed : int
    """
    rng = np.random.RandomState(seed)
    candidates = find_candidates(keys, targets.codes)
    training, validation = _split(targets, settings, rng, candidates.rows)
    if validation.size:  # a text may be a class's own once others are held out
        codes = targets.codes[training]
        candidates = find_candidates([keys[i] for i in training], codes)
    _require_own_texts(texts, training, targets, candidates)
    counts = _feasible_counts(settings, targets.classes.tolist(), candidates)
    n_epochs = count_epochs(settings.max_epochs, len(training), settings.batch_size)
    settings = replace(
        settings,
        preservation=weigh_preservation(settings.preservation, texts),
        label_smoothing=smooth_labels(settings.label_smoothing, len(training)),
    )
    return Plan(
        settings,
        targets,
        texts,
        columns,
        training,
        validation,
        candidates,
        counts,
        n_epochs,
    )


def weigh_preservation(preservation: Any, texts: Texts) -> float:
    """Return the weight of the preservation term; "auto": 0.4, of pairs 0.2.

    What the pretrained encoder finds alike in two pairs is their subject, while their
    class is how the two sides relate: as much preservation as texts need costs pairs
    accuracy, and as little as pairs need lets the prototypes of texts run together.
    """
    if preservation != "auto":
        return float(preservation)
    return _PRESERVATION if isinstance(texts[0], str) else _OF_PAIRS


def smooth_labels(label_smoothing: Any, n_texts: int) -> float:
    """Return the share of a label that is spread; "auto": up to 0.1 of few texts.

    Few texts are gone through so often that a model is sure of each of them in the end,
    and nearly as sure of texts of which it is wrong. Of more, each is seen less often;
    with fewer still, the smaller rate leaves the model unsure.
    """
    if label_smoothing != "auto":
        return float(label_smoothing)
    return _SMOOTHING * max(0.0, min(1.0, n_texts / _FEW, (_MANY - n_texts) / _FEW))


def _split(
    targets: Targets, settings: Settings, rng: np.random.RandomState, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Hold out the same share of every class, but no class's last text of its own."""
    everything = np.arange(len(targets.codes))
    if not settings.early_stopping:
        return everything, everything[:0]
    held_out = []
    for code in range(len(targets.classes)):
        mine = rng.permutation(np.flatnonzero(targets.codes == code))
        # The first text that no other class has can be a prototype; it goes last.
        kept = mine[np.isin(mine, own)][:1]
        mine = np.append(mine[mine != kept] if kept.size else mine, kept)
        n_out = max(1, round(settings.validation_fraction * len(mine)))
        held_out.append(mine[: min(n_out, len(mine) - 1)])
    validation = np.sort(np.concatenate(held_out))
    if validation.size == 0:
        raise ValueError(
            "early_stopping=True needs a class with at least two texts, one of which "
            "can be held out."
        )
    return np.setdiff1d(everything, validation), validation


def _feasible_counts(
    settings: Settings, classes: list[Any], candidates: Candidates
) -> list[int]:
    """Lower the number of prototypes where a class has fewer distinct texts."""
    automatic = settings.n_prototypes == "auto"
    wanted = (
        [MOST_PROTOTYPES] * len(classes)
        if automatic
        else prototype_counts(settings.n_prototypes, classes)
    )
    there = np.bincount(candidates.codes, minlength=len(classes)).tolist()
    short = [i for i in range(len(classes)) if there[i] < wanted[i]]
    if short and not automatic:
        named = ", ".join(f"{classes[i]!r} ({there[i]})" for i in short[:5])
        warn(
            f"{len(short)} of {len(classes)} classes have fewer distinct texts of "
            f"their own than n_prototypes and get as many prototypes as texts: {named}"
            f"{', …' if len(short) > 5 else ''}.",
            FewerPrototypesWarning,
        )
    return [min(pair) for pair in zip(wanted, there, strict=True)]


def _require_own_texts(
    texts: Texts, rows: np.ndarray, targets: Targets, candidates: Candidates
) -> None:
    """Refuse a class each of whose texts reads like a text of another class.

    `rows` are those of the texts that `candidates` are about.
    """
    codes, ids = targets.codes[rows], candidates.text_ids
    missing = np.setdiff1d(codes, candidates.codes)
    if not missing.size:
        return
    first = np.flatnonzero(codes == missing[0])[0]
    other = np.flatnonzero((ids == ids[first]) & (codes != codes[first]))[0]
    one, two = (
        f"row {targets.rows[rows[i]]}, {shown(texts[rows[i]])}, is "
        f"{targets.classes.tolist()[codes[i]]!r}"
        for i in (first, other)
    )
    reason = ""
    if texts[rows[first]] != texts[rows[other]]:
        reason = (
            " They differ in what the encoder does not read, such as capital letters, "
            "spaces, words that its tokenizer does not know, or tokens beyond "
            "max_length."
        )
    raise ValueError(
        f"The class {targets.classes.tolist()[missing[0]]!r} has no text of its own "
        f"that could be its prototype: each of them reads the same to the encoder as a "
        f"text under another label. For example, {one}, and {two}.{reason} Give such "
        f"texts one label, or drop them."
    )


def count_epochs(max_epochs: Any, n_texts: int, batch_size: int) -> int:
    """Return the number of epochs; "auto": 3, or what makes 150 steps, or 40."""
    if max_epochs != "auto":
        return int(max_epochs)
    steps = -(-n_texts // batch_size)
    return max(_MIN_EPOCHS, min(_MAX_EPOCHS, math.ceil(_MIN_STEPS / steps)))
