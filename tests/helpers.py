"""Helpers that several test files share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from skprotolm import ProtoLMClassifier
from skprotolm._config import FitConfig, check_parameters
from skprotolm._data.targets import Targets, encode_targets
from skprotolm._data.texts import Columns, as_texts
from skprotolm._network.class_readout import ClassReadout
from skprotolm._network.encoder import TextEncoder
from skprotolm._network.mixture import MixtureLayer
from skprotolm._network.pooling import TokenAttention
from skprotolm._tasks.classification import ClassificationTask
from skprotolm._training.build import build, load
from skprotolm._training.fit import initialize
from skprotolm._training.inputs import FitInput
from skprotolm._training.progress import Progress
from skprotolm._training.splits import FitData, find_candidates
from skprotolm._training.trainer import Trainer

FORMULATIONS = ["mixture", "proto-lm"]


# Estimators.


def ablated(clf: ProtoLMClassifier, **fields: Any) -> ProtoLMClassifier:
    """Return an unfitted classifier whose fits differ in these fields of FitConfig."""
    kind = type("Ablated", (ProtoLMClassifier,), {"_ablation": fields})
    return kind(**clf.get_params())


def without_times(history: list[dict[str, float]]) -> list[dict[str, float]]:
    """Return the history without the texts per second, which differ between runs."""
    return [{k: v for k, v in e.items() if k != "texts_per_second"} for e in history]


def assert_same_predictions(one: Any, other: Any, X: Any, X_other: Any = None) -> None:
    """Compare two classifiers on texts, bit by bit."""
    X_other = X if X_other is None else X_other
    for method in ("predict_proba", "predict", "decision_function", "transform"):
        np.testing.assert_array_equal(
            getattr(one, method)(X), getattr(other, method)(X_other), err_msg=method
        )


# Tensors and layers.


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return normally distributed numbers from a seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(dtype)


def make_mixture(
    vectors: Tensor,
    values: Tensor,
    n_classes: int,
    sharpness: float = 9.0,
    **options: Any,
) -> MixtureLayer:
    """Return a mixture layer of classes, at its start."""
    readout = ClassReadout(n_classes, sharpness)
    return MixtureLayer(vectors, values, readout, sharpness=sharpness, **options)


def make_config(**fields: Any) -> FitConfig:
    """Return the checked default parameters, with these fields replaced."""
    return replace(check_parameters(ProtoLMClassifier()), **fields)


# Parts of a fit.


def make_data(
    vectors: Any,
    strata: Any,
    *,
    weights: Any = None,
    pretrained: Any = None,
    text_ids: Any = None,
    seed: int = 0,
) -> FitData:
    """Return the data of a fit without texts: the vectors and targets alone."""
    vectors, strata = torch.as_tensor(vectors), np.asarray(strata)
    n = len(strata)
    weights = np.ones(n) if weights is None else np.asarray(weights, dtype=float)
    keys = range(n) if text_ids is None else np.asarray(text_ids).tolist()
    no_texts: Any = None
    targets = Targets(strata, strata, weights, np.arange(n))
    return FitData(
        task=ClassificationTask(np.arange(strata.max() + 1)),
        columns=Columns(1, None),
        n_rows=n,
        seed=seed,
        texts=no_texts,
        tokenized=no_texts,
        source=no_texts,
        targets=targets,
        validation=None,
        candidates=find_candidates(keys, strata),
        vectors=vectors,
        pretrained=vectors if pretrained is None else torch.as_tensor(pretrained),
    )


def built(
    clf: ProtoLMClassifier, X: Any, y: Any, sample_weight: Any = None, start: Any = None
) -> tuple[TextEncoder, TokenAttention, FitData, FitConfig]:
    """Return what the first step of a fit gives; torch's seed is left as is."""
    config, texts = check_parameters(clf), as_texts(X)
    classes, targets = encode_targets(
        y, len(texts), sample_weight, config.class_weight, "ProtoLMClassifier"
    )
    task, columns = ClassificationTask(classes), Columns.of(X, texts)
    encoder, config = load(config, torch.device("cpu"))
    given = FitInput(task, targets, texts, columns, 0, start)
    attention, data = build(encoder, config, given, Progress(0))
    return encoder, attention, data, config


def make_trainer(
    clf: ProtoLMClassifier, X: Any, y: Any, sample_weight: Any = None
) -> Trainer:
    """Return the trainer of a fit before its first step; torch's seed is left as is."""
    encoder, attention, data, config = built(clf, X, y, sample_weight)
    network, config = initialize(encoder, attention, data, config)
    return Trainer(network, data, config)


class Bar:
    """A silent progress, which interrupts the run after a number of steps."""

    def __init__(self, interrupt_after: int | None = None) -> None:
        self.n_steps, self.interrupt_after = 0, interrupt_after

    def on_step(self, loss: Tensor) -> None:
        self.n_steps += 1
        if self.n_steps == self.interrupt_after:
            raise KeyboardInterrupt


class Calls:
    """Count the calls of a function since the last step of the optimizer.

    Parameters
    ----------
    monkeypatch : MonkeyPatch
    library : module or class
        Of another library.
    name : str
        The function or method that is replaced.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, library: Any, name: str
    ) -> None:
        self.count = 0
        self.n_steps = 0
        self._interrupt_at: int | None = None
        original, step = getattr(library, name), torch.optim.AdamW.step

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            if self.n_steps == 0 and self.count == self._interrupt_at:
                self._interrupt_at = None
                raise KeyboardInterrupt
            return original(*args, **kwargs)

        def stepping(*args: Any, **kwargs: Any) -> Any:
            self.count, self.n_steps = 0, max(0, self.n_steps - 1)
            return step(*args, **kwargs)

        monkeypatch.setattr(library, name, counted)
        monkeypatch.setattr(torch.optim.AdamW, "step", stepping)

    def interrupt_after_training(self, call: int, n_steps: int = 6) -> None:
        """Raise KeyboardInterrupt once, in a call after that many further steps."""
        self.n_steps, self._interrupt_at = n_steps, call
