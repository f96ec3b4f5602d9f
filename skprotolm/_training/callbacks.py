"""What is called during a fit: one protocol, and scikit-learn's callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from skprotolm._fitted import FittedModel


class FitCallbacks(Protocol):
    """What is called during a fit."""

    @property
    def names(self) -> list[str]:
        """What the callbacks are called, which is the same in all processes."""

    def on_fit_begin(self, n_epochs: int) -> None:
        """Before the first epoch, of at most so many."""

    def on_epoch_begin(self) -> None:
        """Before every epoch."""

    def on_epoch_end(self, snapshot: Callable[[], FittedModel]) -> bool:
        """After every epoch; return whether to stop.

        `snapshot` returns the model that the fit gives if it stops here.
        """

    def on_fit_end(self, model: FittedModel) -> None:
        """After the fit."""


class SklearnCallbacks:
    """The callbacks that a user set on the estimator: every epoch is a subtask.

    Parameters
    ----------
    estimator : estimator
        scikit-learn before 1.9 has no callbacks; then nothing is called.
    attributes : callable
        From a model to the attributes with which the estimator can predict.
    data : dict
        ``X``, ``y`` and ``metadata``, which callbacks are handed.
    """

    def __init__(
        self,
        estimator: Any,
        attributes: Callable[[FittedModel], dict[str, Any]],
        data: dict[str, Any],
    ):
        self.estimator = estimator
        self.attributes = attributes
        self.data = data
        self.fit: Any = None
        self.epoch: Any = None

    @property
    def names(self) -> list[str]:
        """The names of their classes."""
        callbacks = getattr(self.estimator, "_skl_callbacks", [])
        return [type(callback).__name__ for callback in callbacks]

    def on_fit_begin(self, n_epochs: int) -> None:
        """Open the task of the fit, if scikit-learn has callbacks."""
        if hasattr(self.estimator, "_init_callback_context"):
            context = self.estimator._init_callback_context(max_subtasks=n_epochs)
            self.fit = context.call_on_fit_task_begin(
                estimator=self.estimator, **self.data
            )

    def on_epoch_begin(self) -> None:
        """Open the task of an epoch."""
        if self.fit is not None:
            context = self.fit.subcontext(task_name="epoch")
            self.epoch = context.call_on_fit_task_begin(
                estimator=self.estimator, **self.data
            )

    def on_epoch_end(self, snapshot: Callable[[], FittedModel]) -> bool:
        """Close the task of the epoch."""
        if self.fit is None:
            return False
        return self._end(self.epoch, snapshot)

    def on_fit_end(self, model: FittedModel) -> None:
        """Close the task of the fit."""
        if self.fit is not None:
            self._end(self.fit, lambda: model)

    def _end(self, context: Any, model: Callable[[], FittedModel]) -> bool:
        return context.call_on_fit_task_end(
            estimator=self.estimator,
            reconstruction_attributes=lambda: self.attributes(model()),
            **self.data,
        )
