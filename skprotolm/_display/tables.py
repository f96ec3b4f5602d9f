"""Records as pandas data frames and SHAP explanations."""

from __future__ import annotations

from typing import Any

import numpy as np

from skprotolm._display.formatting import mark_unread
from skprotolm._display.pieces import split_explanation
from skprotolm.exceptions import MissingExtraError


def as_frame(records: list[dict[str, Any]]) -> Any:
    """Return a pandas DataFrame with one row per record."""
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtraError(
            "A data frame needs pandas, which is not installed: pip install pandas."
        ) from error
    return pd.DataFrame.from_records(records)


def as_shap(explanations: list[dict[str, Any]], base_values: list[float]) -> Any:
    """Return a shap.Explanation of several texts, with one value per word."""
    try:
        import shap
    except ImportError as error:
        raise MissingExtraError(
            "to_shap needs shap, which is not installed: pip install shap."
        ) from error
    n = len(explanations)
    # Object arrays, since the rows differ in length.
    values, data = np.empty(n, dtype=object), np.empty(n, dtype=object)
    for row, explanation in enumerate(explanations):
        values[row] = np.array(explanation["word_scores"])
        data[row] = np.array(_words_with_gaps(explanation), dtype=object)
    return shap.Explanation(
        values,
        base_values=np.array(base_values),
        data=data,
        # SHAP averages over texts by these names.
        feature_names=[mark_unread(e["words"], e["word_unread"]) for e in explanations],
    )


def _words_with_gaps(explanation: dict[str, Any]) -> list[str]:
    """Append the gap before the next word to each word, since SHAP adds no spaces."""
    words = list(explanation["words"])
    in_text = [
        w
        for w, (_, start, end) in enumerate(explanation["word_offsets"])
        if end > start
    ]
    pieces = split_explanation(explanation)  # gap, word, gap, word, …, gap
    for number, w in enumerate(in_text[:-1]):
        words[w] += pieces[2 * number + 2].text
    return words
