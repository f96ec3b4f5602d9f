"""What a fit is given besides its parameters."""

from __future__ import annotations

from dataclasses import dataclass

from skprotolm._data.targets import Targets
from skprotolm._data.texts import Columns, Texts
from skprotolm._fitted import FittedModel
from skprotolm._processes import ALONE, Processes
from skprotolm._tasks.base import Task


@dataclass(frozen=True)
class FitInput:
    """Texts and targets as the user passed them, validated."""

    task: Task
    targets: Targets
    texts: Texts  # all texts of X
    columns: Columns
    seed: int
    start: FittedModel | None = None  # whose encoder training starts from
    processes: Processes = ALONE  # that fit together, with the same input
