"""What prototypes quote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skprotolm._data.texts import Text


@dataclass(frozen=True, eq=False)
class Quotes:
    """The texts of prototypes with their metadata: one entry per prototype."""

    texts: tuple[Text, ...]
    names: tuple[str, ...]  # distinct
    train_indices: np.ndarray  # (M,) rows of X in `fit`, -1 for an added prototype
    purities: np.ndarray  # (M,), NaN if unknown
    usages: np.ndarray  # (M,), -1 if unknown
    projected: np.ndarray  # (M,) whether the vector is that of the text
    redacted: np.ndarray  # (M,) whether the text replaces the original one
    ids: np.ndarray  # (M,) numbers that identify prototypes across edits

    def take(self, rows: np.ndarray) -> Quotes:
        """Return the entries of some prototypes."""
        columns: dict[str, Any] = {
            name: tuple(column[i] for i in rows.tolist())
            if isinstance(column, tuple)
            else column[rows]
            for name, column in vars(self).items()
        }
        return Quotes(**columns)

    def added(
        self, texts: Sequence[Text], names: Sequence[str], first_id: int
    ) -> Quotes:
        """Return the entries followed by those of new texts."""
        n = len(texts)
        return Quotes(
            (*self.texts, *texts),
            (*self.names, *names),
            np.append(self.train_indices, np.full(n, -1)),
            np.append(self.purities, np.full(n, np.nan)),
            np.append(self.usages, np.full(n, -1)),
            np.append(self.projected, np.full(n, True)),
            np.append(self.redacted, np.full(n, False)),
            np.append(self.ids, first_id + np.arange(n)),
        )

    def with_redactions(self, texts: Mapping[int, Text]) -> Quotes:
        """Return the entries with other texts; the vectors stay the original ones.

        Names, which have words of the original texts, become "redacted 12", by id.
        """
        projected, redacted = self.projected.copy(), self.redacted.copy()
        projected[list(texts)] = False
        redacted[list(texts)] = True
        new_texts = tuple(texts.get(j, text) for j, text in enumerate(self.texts))
        ids = self.ids.tolist()
        new_names = tuple(
            f"redacted {ids[j]}" if j in texts else name
            for j, name in enumerate(self.names)
        )
        return replace(
            self,
            texts=new_texts,
            names=new_names,
            projected=projected,
            redacted=redacted,
        )

    def with_unknown_purity(self, rows: np.ndarray) -> Quotes:
        """Return the entries with unknown purity of relabeled prototypes."""
        purities = self.purities.copy()
        purities[rows] = np.nan
        return replace(self, purities=purities)
