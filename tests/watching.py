"""What tests watch a fit by, and stop it with."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch


def weights_of(clf: Any) -> dict[str, torch.Tensor]:
    return clf._fitted.network.state_dict()


class Snapshots:
    """A callback that stores the model of every epoch."""

    def __init__(self) -> None:
        self.models: list[bytes] = []

    def setup(self, estimator: Any, context: Any) -> None:
        pass

    teardown = setup

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        pass

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, fitted_estimator: Any = None
    ) -> None:
        if context.task_name == "epoch":
            self.models.append(pickle.dumps(fitted_estimator))


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, error: BaseException) -> None:
    """Raise an error in place of the optimiser's step of a number, counted from 1."""
    original, taken = torch.optim.AdamW.step, []

    def stepping(self: Any, *args: Any, **kwargs: Any) -> Any:
        taken.append(1)
        if len(taken) == step:
            raise error
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", stepping)


class Watcher:
    """A callback that asks the model for predictions, and may stop or interrupt."""

    def __init__(self, stop_after: int | None = None, error: Any = None) -> None:
        self.stop_after, self.error = stop_after, error
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.predictions: list[list[np.ndarray]] = []
        self.estimators: list[Any] = []
        self.torn_down = 0

    def setup(self, estimator: Any, context: Any) -> None:
        self.max_subtasks = context.max_subtasks

    def teardown(self, estimator: Any, context: Any) -> None:
        self.torn_down += 1

    def on_fit_task_begin(self, estimator: Any, context: Any, *, X: Any = None) -> None:
        self.begun.append(context.task_name)
        if self.error and len(self.begun) == 3:  # the fit, and two epochs
            raise self.error

    def on_fit_task_end(
        self,
        estimator: Any,
        context: Any,
        *,
        X: Any = None,
        fitted_estimator: Any = None,
    ) -> bool:
        self.ended.append(context.task_name)
        self.predictions.append([fitted_estimator.predict_proba(X) for _ in range(2)])
        self.estimators.append(fitted_estimator)
        return len(self.ended) == self.stop_after
