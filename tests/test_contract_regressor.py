"""scikit-learn's checks of regressors, on a regressor of rows of numbers."""

from __future__ import annotations

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted, validate_data

from skprotolm import ProtoLMRegressor
from tests.test_contract import (
    folder_of_numbers,  # noqa: F401
    in_folder_of_numbers,  # noqa: F401
    written,
)


class NumbersAsTexts(ProtoLMRegressor):
    """A regressor of rows of numbers, each written out as a text.

    With one batch, one prototype per range of values and without dropout a fit depends
    only on the set of weighted texts, and in float64 fits can be compared.

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
        cohesion: float = 0.0,
        preservation: float = 0.0,
        projection: bool = False,
        max_epochs: int = 20,
        n_iter_no_change: int = 2,
        batch_size: int = 512,
        learning_rate: float = 3e-3,
        head_learning_rate: float = 1e-1,
        random_state: object = None,
    ):
        super().__init__(
            backbone,
            n_prototypes=n_prototypes,
            cohesion=cohesion,
            preservation=preservation,
            projection=projection,
            max_epochs=max_epochs,
            n_iter_no_change=n_iter_no_change,
            batch_size=batch_size,
            learning_rate=learning_rate,
            head_learning_rate=head_learning_rate,
            random_state=random_state,
        )

    def fit(self, X, y, sample_weight=None):
        X, y = validate_data(self, X, y, y_numeric=True)
        return super().fit(written(X), y, sample_weight)

    def predict(self, X):
        return super().predict(self._checked(X))

    def transform(self, X):
        return super().transform(self._checked(X))

    def _checked(self, X):
        check_is_fitted(self)
        return written(validate_data(self, X, reset=False))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.one_d_array = False
        tags.input_tags.string = False
        return tags


# Checks that must fail, by name, with the reason.
EXPECTED_FAILURES = {
    "check_regressors_train": "20 steps do not learn 200 rows of ten random numbers; "
    "after 80 steps, rounding errors of sums over weighted texts have grown large",
}


@pytest.mark.usefixtures("in_folder_of_numbers")
@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.FewerPrototypesWarning")
@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.DuplicatePrototypesWarning")
@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.TextTruncatedWarning")
@parametrize_with_checks(
    [NumbersAsTexts()], expected_failed_checks=lambda estimator: EXPECTED_FAILURES
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)
