"""scikit-learn's checks of classifiers, on a token classifier of rows of numbers.

A row is a sentence of two words, the first of which is all of its numbers, with spaces
inside. Both have the label of the row as their tag; the prediction of a row is that of
the first word.
"""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from skprotolm import ProtoLMTokenClassifier
from tests.test_contract import (
    folder_of_numbers,  # noqa: F401
    in_folder_of_numbers,  # noqa: F401
    written,
)


class NumbersAsWords(ClassifierMixin, ProtoLMTokenClassifier):
    """A classifier of rows of numbers, by the tag of the word that they make.

    Attributes
    ----------
    n_features_in_ : int
    feature_names_in_ : ndarray
    """

    def __init__(
        self,
        backbone: str = "tiny-float64",
        *,
        n_prototypes: int = 1,
        preservation: float = 0.0,
        label_smoothing: float = 0.0,
        projection: bool = False,
        max_epochs: int = 30,
        n_iter_no_change: int = 2,
        batch_size: int = 512,
        learning_rate: float = 3e-3,
        head_learning_rate: float = 3e-2,
        class_weight: object = None,
        random_state: object = None,
    ):
        super().__init__(
            backbone,
            n_prototypes=n_prototypes,
            preservation=preservation,
            label_smoothing=label_smoothing,
            projection=projection,
            max_epochs=max_epochs,
            n_iter_no_change=n_iter_no_change,
            batch_size=batch_size,
            learning_rate=learning_rate,
            head_learning_rate=head_learning_rate,
            class_weight=class_weight,
            random_state=random_state,
        )

    def fit(self, X, y, sample_weight=None):
        X, y = validate_data(self, X, y)
        check_classification_targets(y)
        labels = np.array([str(label) for label in y.tolist()])
        self._names = dict(zip(labels.tolist(), y.tolist(), strict=True))
        sentences = as_sentences(X)
        tags = [
            [tag] * len(words) for tag, words in zip(labels, sentences, strict=True)
        ]
        super().fit(sentences, tags, sample_weight)
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        predicted = [tags[0] for tags in super().predict(self._checked(X))]
        return np.array([self._names[tag] for tag in predicted], self.classes_.dtype)

    def predict_proba(self, X):
        probabilities = super().predict_proba(self._checked(X))
        return np.array([of_words[0] for of_words in probabilities])

    def score(self, X, y, sample_weight=None):
        return accuracy_score(y, self.predict(X), sample_weight=sample_weight)

    def transform(self, X):
        return np.array(
            [of_words[0] for of_words in super().transform(self._checked(X))]
        )

    def _checked(self, X):
        check_is_fitted(self)
        return as_sentences(validate_data(self, X, reset=False))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


def as_sentences(X):
    return [[text, "the"] for text in written(X)]


# Checks that must fail, by name, with the reason.
EXPECTED_FAILURES: dict[str, str] = {}


@pytest.mark.usefixtures("in_folder_of_numbers")
@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.FewerPrototypesWarning")
@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.DuplicatePrototypesWarning")
@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.UnpredictedClassWarning")
@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.SingleTextClassesWarning")
@parametrize_with_checks(
    [NumbersAsWords()], expected_failed_checks=lambda estimator: EXPECTED_FAILURES
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)
