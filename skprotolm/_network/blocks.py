"""Blocks of rows whose comparison with all prototypes fits into memory."""

from __future__ import annotations

from collections.abc import Iterator

from sklearn.utils import gen_batches

NUMBERS = 2**22  # of one array: 32 MB in float64


def row_blocks(
    n_rows: int, n_columns: int, *, n_most: int = NUMBERS
) -> Iterator[slice]:
    """Split rows that are compared with columns, such as texts with prototypes.

    A block has at most `n_most` rows and, unless it is one row, 4 million pairs: a
    comparison needs several arrays of this size. Of 100,000 prototypes these are 41
    texts, of 2,000 more than a batch. Without rows there is one empty block.
    """
    return gen_batches(
        max(n_rows, 1), max(1, min(n_most, NUMBERS // max(n_columns, 1)))
    )
