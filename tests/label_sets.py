"""Texts with several labels each, which tests of multilabel classifiers share."""

from __future__ import annotations

import numpy as np

from tests.texts import make_texts

X, SENTIMENT = make_texts(60)
LABELS = ["praise", "food", "film"]
Y = np.stack(
    [
        SENTIMENT == "pos",
        ["food" in text for text in X],
        ["film" in text for text in X],
    ],
    axis=1,
).astype(int)
SETS = [tuple(np.array(LABELS)[row == 1].tolist()) for row in Y]
NEW = ["the food was good", "a dull film", "cold card", ""]
