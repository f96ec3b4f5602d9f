"""Doubtful labels: wrong ones are found, and correct ones are not doubted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skprotolm import ProtoLMClassifier
from skprotolm._report.doubtful_labels import find_doubtful_labels
from skprotolm._report.predictions import Predictions
from tests.texts import make_texts


def clusters(sizes: tuple[int, ...] = (20, 20)) -> tuple[list, np.ndarray, np.ndarray]:
    """Return texts, their classes, and vectors near the corner of each class."""
    codes = np.repeat(np.arange(len(sizes)), sizes)
    noise = 0.1 * np.random.RandomState(0).randn(len(codes), 4)
    return [f"text {i}" for i in range(len(codes))], codes, np.eye(4)[codes] + noise


def predictions(X: list, codes: np.ndarray, vectors: np.ndarray) -> Predictions:
    """Return the predictions of a model that is accurate, but never confident."""
    p = np.exp(vectors[:, : codes.max() + 1])
    p /= p.sum(axis=1, keepdims=True)
    predicted = p.argmax(axis=1)
    return Predictions(X, codes, vectors, p, predicted, predicted, X, n_unread=0)


def doubtful_rows(X: list, codes: np.ndarray, vectors: np.ndarray) -> list[int]:
    doubtful, n = find_doubtful_labels(predictions(X, codes, vectors))
    assert n == len(doubtful)
    return [record["row"] for record in doubtful]


@pytest.mark.parametrize("sizes", [(20, 20), (40, 4), (40, 2), (30, 30, 5), (1, 1)])
def test_correct_labels_are_not_doubtful(sizes):
    """All four texts of a class were doubtful next to forty of another class."""
    assert doubtful_rows(*clusters(sizes)) == []


def test_a_wrong_label_is_doubtful():
    X, codes, vectors = clusters((20, 20, 20))
    codes[7] = 2
    labeled = predictions(X, codes, vectors)
    [record], n = find_doubtful_labels(labeled)
    assert (record["row"], record["code"], record["other"], n) == (7, 2, 0, 1)
    assert record["p_other"] == labeled.probabilities[7, 0]
    assert record["n_other"] == record["n_neighbors"] == 10
    assert {quote["code"] for quote in record["nearest"]} == {0}
    assert X[7] not in [quote["text"] for quote in record["nearest"]]


@pytest.mark.parametrize("n_copies", [3, 6, 12])
def test_copies_count_once(n_copies):
    """Copies of a text with a wrong label hid it, and made other labels doubtful."""
    X, codes, vectors = clusters()
    X += ["the same"] * n_copies
    codes = np.append(codes, [1] * n_copies)
    vectors = np.concatenate([vectors, [vectors[:20].mean(axis=0)] * n_copies])
    assert doubtful_rows(X, codes, vectors) == [40]


def test_a_copy_with_another_label_is_a_neighbor():
    X, codes, vectors = clusters()
    X[7], vectors[7] = X[9], vectors[9]
    codes[7] = 1
    [record], _ = find_doubtful_labels(predictions(X, codes, vectors))
    assert record["row"] == 7
    assert X[9] in [quote["text"] for quote in record["nearest"]]


def test_neighbors_and_model_have_equal_weight():
    X, codes, vectors = clusters()
    codes[[3, 7]] = 1
    labeled = predictions(X, codes, vectors)
    labeled.probabilities[[3, 11]] = [0.9, 0.1], [0.3, 0.7]
    doubtful, _ = find_doubtful_labels(labeled)
    assert [record["row"] for record in doubtful] == [3, 7]  # increasing support
    labeled.probabilities[3] = [0.0, 1.0]
    doubtful, _ = find_doubtful_labels(labeled)
    assert [record["row"] for record in doubtful] == [7]


def test_a_long_list_is_cut_and_its_length_returned():
    X, codes, vectors = clusters((100, 60))
    codes[:40] = 1
    vectors[:40] = vectors[40:80]  # equal to those of the other class
    doubtful, n = find_doubtful_labels(predictions(X, codes, vectors))
    assert len(doubtful) == 30 < n


def labels_section(
    clf: ProtoLMClassifier, path: Path, *args: Any, **options: Any
) -> str:
    """Write a report and return the text of its section on labels."""
    clf.report(*args, path, **options)
    page = path.read_text(encoding="utf-8")
    html = page.partition('<section id="labels">')[2].partition("</section>")[0]
    return " ".join(re.sub(r"<[^>]+>", "", html).split())


def test_the_page_warns_of_memorized_labels(make_classifier, texts, tmp_path):
    """The page showed no doubtful labels and no warning for a memorized data set."""
    X, y = texts
    clf = make_classifier(max_epochs=10, learning_rate=1e-2).fit(X, y)
    y = clf.predict(X)
    section = labels_section(clf, tmp_path / "report.html", X, y, X_train=X, y_train=y)
    assert "predicts the label of 100.0 % of the training texts" in section
    assert "has memorized these labels, including wrong ones" in section
    assert "cross_val_predict" in section
    assert "No label of the training texts is doubtful to the model." in section


def test_other_labels_have_no_warning(fitted, texts, tmp_path):
    X, _ = texts
    y = fitted.predict(X)
    y[:5] = fitted.classes_[(y[:5] == fitted.classes_[0]).astype(int)]
    section = labels_section(
        fitted, tmp_path / "report.html", X, y, X_train=X, y_train=y
    )
    assert "memorized" not in section


def test_held_out_texts_are_not_memorized(make_classifier, texts, tmp_path):
    """The page warned that an accurate model had memorized its held-out texts."""
    clf = make_classifier(max_epochs=10, learning_rate=1e-2).fit(*texts)
    X, _ = make_texts(40, seed=5)
    section = labels_section(clf, tmp_path / "report.html", X, clf.predict(X))
    assert "has memorized these labels" not in section
    assert "If the model was trained on these texts, this proves little" in section
