"""What the explanations of all kinds of targets have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, TypeVar

import numpy as np

from skprotolm._data.texts import Text
from skprotolm._display.html import explanations_html
from skprotolm._display.tables import as_frame
from skprotolm._records.alignments import AlignmentMixin
from skprotolm._records.json import dump_explanations
from skprotolm._records.pages import PageMixin
from skprotolm._records.parts import (
    Compared,
    PrototypeTexts,
    StoredArrays,
    TokenSplitter,
)
from skprotolm._records.scored_text import ScoredText
from skprotolm._records.views import frame_rows, listed_record, to_dict

_Self = TypeVar("_Self", bound="BaseExplanation")


@dataclass(frozen=True, eq=False, repr=False)
class BaseExplanation(PageMixin, AlignmentMixin, ScoredText):
    """The explanation of one output: the part that is the same for all targets.

    `Explanation` and `ValueExplanation` describe the fields.
    """

    kind: ClassVar[str]  # in JSON, and of the views
    ranked_by: ClassVar[str] = "contributions"  # in JSON

    prediction: Any
    base_value: float
    novelty: float
    novelty_limit: float | None
    attention: np.ndarray
    token_method: str | None
    top_k: int | None
    _prototypes: PrototypeTexts
    # Arrays of length M are computed on demand, too: many would fill the memory.
    _compared: Compared
    # Splits are computed on demand, since token vectors would fill the memory.
    _splitter: TokenSplitter | None = field(default=None)

    @property
    @abstractmethod
    def explained(self) -> float:
        """What `base_value` and the token scores sum to."""

    @property
    def ranking(self) -> np.ndarray:
        """(M,): by which prototypes are sorted, the largest first."""
        return self._compared.ranking

    @property
    def similarities(self) -> np.ndarray:
        """(M,): the similarity to each prototype."""
        return self._compared.similarities

    @property
    def prototype_texts(self) -> tuple[Text, ...]:
        """The training text of each prototype."""
        return self._prototypes.texts

    @property
    def prototype_names(self) -> tuple[str, ...]:
        """The name of each prototype."""
        return self._prototypes.names

    @property
    def prototype_unread(self) -> tuple[tuple[str, ...], ...]:
        """The words of each prototype's text that the tokenizer cannot read."""
        return self._prototypes.unread

    @property
    def nearest_similarity(self) -> float:
        """The largest of the similarities."""
        return float(self.similarities.max())

    @property
    def is_unlike(self) -> bool:
        """Whether the text is unlike the training texts: `novelty` is above its limit.

        Its prototypes are then the nearest ones, but not similar.
        """
        return self.novelty_limit is not None and self.novelty > self.novelty_limit

    @property
    def order(self) -> np.ndarray:
        """(M,): the prototypes, in descending order of `ranking`."""
        return np.argsort(-self.ranking, kind="stable")

    @property
    def _roles(self) -> np.ndarray:
        """(M,) str: what each prototype speaks for, "target", "against" or "other"."""
        return np.full(len(self.similarities), "target")

    @property
    def _reads_like(self) -> np.ndarray:
        """(M,) bool: which prototypes' texts the text reads like.

        It reads like a prototype unless it would be unlike the training texts if its
        nearest prototype were as dissimilar as this one. Novelty is on the scale of
        cosines; under "proto-lm" there is no such difference between prototypes.
        """
        if self.novelty_limit is None or not self.unit.has_token_sums:
            return np.full(len(self.similarities), not self.is_unlike)
        gaps = self.nearest_similarity - self.similarities
        return self.novelty + gaps <= self.novelty_limit

    def _listed(self, n: int) -> np.ndarray:
        """Return which prototypes a page lists, in the order of `order`."""
        return self.order[: self.top_k or n]

    @abstractmethod
    def _label_name(self, index: int) -> str:
        """Return what views call the label or value of a prototype."""

    @abstractmethod
    def _contribution_of(self, index: int) -> Any:
        """Return the record of a prototype's contribution."""

    def _contributions_of(self, indices: np.ndarray) -> list[Any]:
        """Return the records of some prototypes' contributions."""
        return [self._contribution_of(j) for j in indices.tolist()]

    def _quote_of(self, index: int) -> dict[str, Any]:
        """Return what the contributions of all kinds hold of a prototype."""
        return {
            "index": index,
            "name": self.prototype_names[index],
            "text": self.prototype_texts[index],
            "unread": self.prototype_unread[index],
            "similarity": float(self.similarities[index]),
        }

    @abstractmethod
    def _sum_of(self, indices: np.ndarray) -> dict[str, float]:
        """Return the sums of some prototypes' contributions."""

    @abstractmethod
    def _kind_dict(self) -> dict[str, Any]:
        """Return what `to_dict` has only for this kind."""

    @abstractmethod
    def _kind_row(self) -> dict[str, Any]:
        """Return what the rows of `to_frame` have only for this kind."""

    @abstractmethod
    def _kind_json(self, labels: Callable[[np.ndarray], int]) -> dict[str, Any]:
        """Return what JSON has only for this kind; `labels` stores an array once."""

    @classmethod
    @abstractmethod
    def _from_kind_json(
        cls, entry: dict[str, Any], labels: Sequence[np.ndarray]
    ) -> dict[str, Any]:
        """Return the fields that `_kind_json` wrote."""

    @property
    def remainder(self) -> float:
        """The sum of the contributions that `prototypes` does not list."""
        if self.top_k is None:
            return 0.0
        return self._sum_of(self.order[self.top_k :])["contribution"]

    @property
    def prototypes(self) -> tuple[Any, ...]:
        """At most `top_k` prototypes, in the order of `order`."""
        return tuple(self._contributions_of(self.order[: self.top_k]))

    def _explanations(self) -> list[Any]:
        return [self]

    def _fields(self) -> dict[str, Any]:
        """Return the fields that can be stored without the model."""
        names = (f.name for f in fields(self) if f.name != "_splitter")
        arrays = StoredArrays(self.similarities, self.ranking)
        return {**{name: getattr(self, name) for name in names}, "_compared": arrays}

    def __getstate__(self) -> dict[str, Any]:
        return {**self._fields(), "_splitter": None}  # pickles leave the model out

    def __copy__(self: _Self) -> _Self:
        return replace(self)

    def __deepcopy__(self: _Self, memo: dict[int, Any]) -> _Self:
        stored = self._fields()
        arrays: dict[str, Any] = {
            name: value.copy()
            for name, value in stored.items()
            if isinstance(value, np.ndarray)
        }
        compared = StoredArrays(*(array.copy() for array in stored["_compared"]))
        return replace(self, **arrays, _compared=compared)

    def to_json(self) -> str:
        """Return the explanation as JSON, without loss; see `Explanations.to_json`."""
        return dump_explanations([self])

    def to_dict(self, *, n_alignments: int = 0) -> dict[str, Any]:
        """Return the explanation as plain Python objects.

        Labels and probabilities are parallel lists, so that labels keep their types.

        Parameters
        ----------
        n_alignments : int, default=0
            Number of first listed prototypes whose `word_alignment` is added under
            "alignments", if it is available. Each costs one pass through the encoder.

        Raises
        ------
        ValueError
            If `n_alignments` is not a nonnegative int.
        """
        return to_dict(self, n_alignments)

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with one row per listed prototype."""
        return as_frame(frame_rows([self]))

    def __str__(self) -> str:
        return self.to_text()

    @abstractmethod
    def to_text(self, *, color: bool = False) -> str:
        """Return the explanation as lines of text."""

    def _repr_html_(self) -> str:
        return explanations_html([listed_record(self)], page=False)
