"""Fine-tune on all film reviews, compare with two baselines, and explain a prediction.

Run by ``make demo FULL=1``. Prints held-out accuracies and one explained review, and
writes ``demo-report.html``, a report on the whole model.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from transformers.utils import logging

from skprotolm import ProtoLMClassifier
from skprotolm.datasets import load_rotten_tomatoes

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))
from encoders import has_bf16, resolve_device
from linear_head import LinearHeadClassifier

REPORT = Path("demo-report.html")
N_EXPLAINED = 30


def main() -> None:
    """Train, compare, explain, and write a report."""
    logging.disable_progress_bar()  # of loading the baseline's weights
    reviews = load_rotten_tomatoes()
    labels = np.array(reviews.target_names)[reviews.target]
    X_train, X_test, y_train, y_test = train_test_split(
        reviews.data, labels, test_size=0.2, stratify=labels, random_state=0
    )
    # Without bfloat16 an epoch takes twice the time, so only one is trained.
    fast = has_bf16(resolve_device("auto"))
    clf = ProtoLMClassifier(max_epochs="auto" if fast else 1, random_state=0, verbose=1)
    models = {
        "TF-IDF + logistic regression": make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
            LogisticRegression(C=10, max_iter=1000),
        ),
        "same encoder, linear head": LinearHeadClassifier(clf),
        "ProtoLMClassifier": clf,
    }
    print(f"{len(X_train)} training reviews, {len(X_test)} held out", flush=True)
    rows = ["| model | held-out accuracy |", "| --- | --- |"]
    for name, model in models.items():
        print(f"Fitting {name} ...", flush=True)
        model.fit(X_train, y_train)
        accuracy = 100 * np.mean(model.predict(X_test) == y_test)
        rows.append(f"| {name} | {accuracy:.1f} % |")
    print("", *rows, sep="\n")

    explanations = clf.explain(X_test[:N_EXPLAINED], top_k=3)
    print("\nGreen words support the label, red words oppose it.\n")
    english = next(e for e in explanations if e.text.isascii())
    print(english.to_text(color=True))
    print("\nWriting the report ...", flush=True)
    clf.report(X_test, y_test, REPORT, X_train=X_train, y_train=y_train)
    print(f"Report on the model, its prototypes and its mistakes: {REPORT}")
