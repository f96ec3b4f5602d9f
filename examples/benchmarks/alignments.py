"""Whether words that stand in both texts match themselves best, by alignment matrix.

    python examples/benchmarks/alignments.py --data FOLDER_OF_CSV_FILES

A word of a test text that also stands in a quoted text should match it there better
than any other word. Words of two or more letters count, compared without case, in the
three quoted texts of the largest shares. Function words match others of their kind, so
that content words, which are not among scikit-learn's English stop words, are also
counted alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from explanations import SEED, fitted_on, parse
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from tasks import load_task, provenance

from skprotolm import Explanation, WordAlignment

MATRICES = ("matrix", "excess", "correlation")
N_QUOTED = 3


def hits(e: Explanation, alignment: WordAlignment) -> Iterator[tuple[str, list[bool]]]:
    """Yield the words in both texts, and by which matrices they match themselves."""
    quoted = [word.casefold() for word in alignment.words]
    best = [getattr(alignment, name).argmax(axis=1) for name in MATRICES]
    for row, word in enumerate(word.casefold() for word in e.words):
        if len(word) > 1 and word.isalpha() and word in quoted:
            yield word, [quoted[columns[row]] == word for columns in best]


def print_task(name: str, arguments: argparse.Namespace) -> None:
    """Print the row of a task."""
    task = load_task(name, arguments.data)
    clf = fitted_on(name, task, arguments.fitted)
    order = np.random.RandomState(SEED).permutation(len(task.X_test))
    X = [task.X_test[i] for i in order[: arguments.texts]]
    found = [
        hit
        for e in clf.explain(X, top_k=N_QUOTED, token_method="decomposition")
        for prototype in e.prototypes
        for hit in hits(e, e.word_alignment(prototype.index))
    ]
    cells = []
    for words in (found, [hit for hit in found if hit[0] not in ENGLISH_STOP_WORDS]):
        shares = 100 * np.mean([matches for _, matches in words], axis=0)
        cells += [str(len(words)), *(f"{share:.0f} %" for share in shares)]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print the table."""
    arguments = parse(__doc__)
    print(f"{provenance()} Seed {SEED}, {arguments.texts} texts per task.\n")
    columns = ["words in both", *MATRICES, "content words", *MATRICES]
    print(f"| | {' | '.join(columns)} |")
    print(f"| --- |{' --- |' * len(columns)}")
    for name in arguments.tasks:
        print_task(name, arguments)


if __name__ == "__main__":
    main()
