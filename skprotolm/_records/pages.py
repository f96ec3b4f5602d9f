"""Explanations as HTML pages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from skprotolm._config import TITLE, require
from skprotolm._display.html import explanations_html
from skprotolm._records.views import page_records


class PageMixin(ABC):
    """The page of one explanation, or of several."""

    @abstractmethod
    def _explanations(self) -> Sequence[Any]:
        """Return the explanations on the page."""

    def to_html(self, *, n_alignments: int = 5, title: str | None = None) -> str:
        """Return a self-contained HTML page.

        The page lists five prototypes per text, or three of each of two classes that
        are compared; `top_k` of `explain` changes both.

        Parameters
        ----------
        n_alignments : int, default=5
            Number of first prototypes per text for which the page shows matching words,
            if alignments are available. Each text and each of these prototypes costs
            one pass through the encoder.
        title : str, default=None
            Title and heading of the page; by default "Explanations of n texts".

        Raises
        ------
        ValueError
            If `n_alignments` is not a nonnegative int, or `title` is not a str.
        """
        require("title", title, TITLE)
        records = page_records(self._explanations(), n_alignments)
        return explanations_html(records, page=True, title=title)

    def save_html(
        self,
        path: str | PathLike[str],
        *,
        n_alignments: int = 5,
        title: str | None = None,
    ) -> None:
        """Write `to_html` to a file.

        Parameters
        ----------
        path : str or path
            The file. An existing file is replaced.
        n_alignments : int, default=5
            As in `to_html`.
        title : str, default=None
            As in `to_html`.
        """
        page = self.to_html(n_alignments=n_alignments, title=title)
        Path(path).write_text(page, encoding="utf-8")
