"""Ways to save and load an estimator, and how two of them are compared."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle
import joblib
import numpy as np
from sentence_transformers import SentenceTransformer

from skprotolm import ProtoLMClassifier
from tests.helpers import assert_same_predictions


def by_joblib(compress: int) -> Callable[[Any], Any]:
    def load_dumped(estimator: Any) -> Any:
        file = io.BytesIO()
        joblib.dump(estimator, file, compress=compress)
        file.seek(0)
        return joblib.load(file)

    return load_dumped


ROUND_TRIPS = {
    "pickle": lambda estimator: pickle.loads(pickle.dumps(estimator)),
    "pickle twice": lambda e: pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(e)))),
    "joblib": by_joblib(0),
    "joblib, compressed": by_joblib(3),
    "cloudpickle": lambda e: cloudpickle.loads(cloudpickle.dumps(e)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}

# As the backbone of a fitted estimator, so that only the fitted model is tested.
REMOVED = "a backbone that is not available"


def assert_same(again: ProtoLMClassifier, clf: ProtoLMClassifier, X: Any) -> None:
    """Compare two fitted estimators in all that users see, bit by bit."""
    assert_same_predictions(again, clf, X)
    assert again.predict_proba(X).dtype == clf.predict_proba(X).dtype
    assert again.explain(X).to_dict() == clf.explain(X).to_dict()
    assert again.prototypes_.to_dict() == clf.prototypes_.to_dict()
    np.testing.assert_array_equal(again.prototypes_.vectors, clf.prototypes_.vectors)
    assert again.history_ == clf.history_
    assert again.n_iter_ == clf.n_iter_
    assert again.classes_.tolist() == clf.classes_.tolist()
    assert again.classes_.dtype == clf.classes_.dtype


def wrap(encoder: SentenceTransformer, model: Any) -> None:
    """Put another model into the first module of a SentenceTransformer."""
    modules = encoder[0]._modules
    modules["model" if "model" in modules else "auto_model"] = model
