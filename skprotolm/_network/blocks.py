"""Blocks of rows whose comparison with all prototypes fits into memory."""

from __future__ import annotations

from collections.abc import Iterator

from sklearn.utils import gen_batches

MAX_PAIRS = 2**22  # 32 MB of one array in float64


def row_blocks(
    n_rows: int, n_columns: int, *, max_rows: int = MAX_PAIRS
) -> Iterator[slice]:
    """Split rows that are compared with columns, such as texts with prototypes.

    A block has at most `max_rows` rows and, unless it is one row, 4 million pairs: a
    comparison needs several arrays of this size. Of 100,000 prototypes these are 41
    texts, of 2,000 more than a batch. Without rows there is one empty block.
    """
    return gen_batches(
        max(n_rows, 1), max(1, min(max_rows, MAX_PAIRS // max(n_columns, 1)))
    )
