"""Texts of two classes, which most tests share."""

from __future__ import annotations

import numpy as np

GOOD = ["good", "kind", "new", "great", "warm"]
BAD = ["bad", "dull", "lost", "poor", "cold"]


def make_texts(n: int = 48, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Return n distinct texts of two classes, which differ in one word."""
    rng = np.random.RandomState(seed)
    y = np.array(["pos", "neg"] * (n // 2))
    X = [
        f"the {rng.choice(['food', 'film', 'card'])} was "
        f"{rng.choice(GOOD if label == 'pos' else BAD)} today {i}"
        for i, label in enumerate(y)
    ]
    return X, y
