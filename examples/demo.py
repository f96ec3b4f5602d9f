"""Learn from 1,000 film reviews and 48 bank questions, and explain new ones.

Run by ``make demo``, for a few minutes. Prints the accuracy on held-out reviews,
explains a right and a wrong prediction and a few questions, and writes
``demo-report.html``, a report on the model of reviews.
``make demo FULL=1`` compares with two baselines on all reviews instead.
"""

from __future__ import annotations

import time

STARTED = time.perf_counter()
print("Loading scikit-learn and torch ...", flush=True)  # which takes seconds

import os
import sys
from pathlib import Path

import numpy as np
from intents import NEW_QUESTIONS, QUESTIONS
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from skprotolm import ProtoLMClassifier
from skprotolm.datasets import load_rotten_tomatoes

REPORT = Path("demo-report.html")


def main() -> None:
    """Fit on reviews and on questions, explain, and write a report."""
    reviews = load_rotten_tomatoes()
    labels = np.array(reviews.target_names)[reviews.target]
    X_train, X_test, y_train, y_test = train_test_split(
        reviews.data,
        labels,
        train_size=1000,
        test_size=500,
        stratify=labels,
        random_state=0,
    )
    clf = fit_reviews(X_train, y_train)
    explain_reviews(
        clf, X_test, y_test, tfidf_accuracy(X_train, y_train, X_test, y_test)
    )
    explain_questions()
    seconds = time.perf_counter() - STARTED

    step("Writing the report")
    clf.report(X_test, y_test, REPORT, X_train=X_train, y_train=y_train)
    print(f"Report on the model, its prototypes and its mistakes: {REPORT}")
    epoch = np.mean([len(X_train) / e["texts_per_second"] for e in clf.history_])
    print(
        f"\n{time.perf_counter() - STARTED:.0f} s in all; without the report "
        f"{seconds:.0f} s, {seconds / epoch:.1f} times as long as a training epoch on "
        f"1,000 reviews"
    )


def fit_reviews(X_train: list[str], y_train: np.ndarray) -> ProtoLMClassifier:
    """Fine-tune on film reviews."""
    step(f"Film reviews: training on {len(X_train):,}")
    return ProtoLMClassifier(random_state=0, verbose=1).fit(X_train, y_train)


def tfidf_accuracy(
    X_train: list[str], y_train: np.ndarray, X_test: list[str], y_test: np.ndarray
) -> float:
    """Return the accuracy of a model of words, for comparison."""
    words = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        LogisticRegression(C=10, max_iter=1000),
    )
    return words.fit(X_train, y_train).score(X_test, y_test)


def explain_reviews(
    clf: ProtoLMClassifier, X_test: list[str], y_test: np.ndarray, baseline: float
) -> None:
    """Print accuracies, and explain the first right and the first wrong prediction."""
    step(f"Predicting {len(X_test)} other reviews")
    is_right = clf.predict(X_test) == y_test
    print(f"accuracy: {100 * is_right.mean():.1f} %")
    print(f"TF-IDF + logistic regression: {100 * baseline:.1f} %")
    is_plain = np.array([text.isascii() for text in X_test])
    rows = [np.flatnonzero(is_plain & chosen)[0] for chosen in (is_right, ~is_right)]
    explanations = clf.explain([X_test[row] for row in rows], top_k=3)
    for title, explanation in zip(("right", "wrong"), explanations, strict=True):
        step(f"A prediction that is {title}")
        show(explanation)


def explain_questions() -> None:
    """Fine-tune on questions of a bank's customers, and explain new ones."""
    X = [question for questions in QUESTIONS.values() for question in questions]
    y = [intent for intent, questions in QUESTIONS.items() for _ in questions]
    step(f"Bank questions: training on {len(X)}, with {len(QUESTIONS)} intents")
    # With one prototype per question, every question can be quoted.
    n_prototypes = {intent: len(questions) for intent, questions in QUESTIONS.items()}
    clf = ProtoLMClassifier(n_prototypes=n_prototypes, random_state=0, verbose=1)
    for explanation in clf.fit(X, y).explain(NEW_QUESTIONS, top_k=1):
        print()
        show(explanation)


def step(title: str) -> None:
    """Print what begins now."""
    print(f"\n{title}\n{'-' * len(title)}", flush=True)


def show(explanation) -> None:
    """Print an explanation: green words support its label, red words oppose it."""
    print(explanation.to_text(color=sys.stdout.isatty()), flush=True)


if __name__ == "__main__":
    if os.environ.get("FULL", "0") not in ("", "0"):
        import full_demo

        full_demo.main()
    else:
        main()
