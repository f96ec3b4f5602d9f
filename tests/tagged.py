"""Sentences with tags, which tests of token classifiers share."""

from __future__ import annotations

import numpy as np

PEOPLE, PLACES = ["anna", "peter", "card", "kind"], ["rome", "paris", "film", "food"]
INVISIBLE = "\ufe0f"  # no token of any tokenizer without bytes


def make_sentences(n: int = 60) -> tuple[list[list[str]], list[list[str]]]:
    """Return sentences of a person and of a place of two words."""
    rng = np.random.RandomState(0)
    X, y = [], []
    for i in range(n):
        person, place = rng.choice(PEOPLE), rng.choice(PLACES)
        X.append([person, "was", "in", "new", place, "today", str(i)])
        y.append(["B-per", "O", "O", "B-loc", "I-loc", "O", "O"])
    return X, y


X, Y = make_sentences()
NEW = [["today", "kind", "was", "in", "new", "rome"], [], ["in", "new", "food"]]
