"""Callbacks and patches that observe or stop a fit."""

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
    """Raise an error in one step of the optimizer, counted from 1."""
    original, steps = torch.optim.AdamW.step, []

    def counted_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        steps.append(1)
        if len(steps) == step:
            raise error
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", counted_step)


class Watcher:
    """A callback that predicts after each task, and can stop or interrupt the fit."""

    def __init__(self, stop_after: int | None = None, error: Any = None) -> None:
        self.stop_after, self.error = stop_after, error
        self.started_tasks: list[str] = []
        self.ended_tasks: list[str] = []
        self.predictions: list[list[np.ndarray]] = []
        self.estimators: list[Any] = []
        self.n_teardowns = 0

    def setup(self, estimator: Any, context: Any) -> None:
        self.max_subtasks = context.max_subtasks

    def teardown(self, estimator: Any, context: Any) -> None:
        self.n_teardowns += 1

    def on_fit_task_begin(self, estimator: Any, context: Any, *, X: Any = None) -> None:
        self.started_tasks.append(context.task_name)
        if self.error and len(self.started_tasks) == 3:  # the fit and two epochs
            raise self.error

    def on_fit_task_end(
        self,
        estimator: Any,
        context: Any,
        *,
        X: Any = None,
        fitted_estimator: Any = None,
    ) -> bool:
        self.ended_tasks.append(context.task_name)
        self.predictions.append([fitted_estimator.predict_proba(X) for _ in range(2)])
        self.estimators.append(fitted_estimator)
        return len(self.ended_tasks) == self.stop_after
