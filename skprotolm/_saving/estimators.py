"""Pickles and copies of estimators."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from skprotolm._saving.pickling import pack, unpack

_Self = TypeVar("_Self", bound="SavingMixin")


class SavingMixin:
    """Stores the fitted model of an estimator as plain values."""

    def __getstate__(self) -> dict[str, Any]:
        parent: Any = super()
        attributes = dict(parent.__getstate__())
        if "_fitted" in attributes:
            attributes["_fitted"] = pack(attributes["_fitted"])
        return attributes

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        if "_state" in attributes:  # of format 3 or earlier, which is refused
            unpack(attributes["_state"])
        if "_fitted" in attributes:
            attributes = {**attributes, "_fitted": unpack(attributes["_fitted"])}
        parent: Any = super()
        parent.__setstate__(attributes)

    def __copy__(self: _Self) -> _Self:
        # Not by the two above, which write and read the model; copies share it.
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __deepcopy__(self: _Self, memo: dict[int, Any]) -> _Self:
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return copied
