"""Each ablation changes the fit, and only in what it ablates."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from skprotolm import ProtoLMClassifier
from skprotolm._config import PARAMETERS, FitConfig
from tests.helpers import FORMULATIONS, ablated, without_times

RESOLVED = {
    "train_bf16",
    "predict_bf16",
    "prototype_counts",
    "quoted_counts",
    "quotable",
    "quoted_sharpness",
    "prune",
    "spread",
    "output_weight",
}
ABLATIONS = {
    "least_spread": ("mixture", 1.0),
    "reading_weight": ("mixture", 0.0),
    "recalibrate": ("mixture", False),
    "similarities_as_distances": ("proto-lm", True),
}


def test_every_field_that_is_not_a_parameter_is_resolved_or_an_ablation():
    names = {field.name for field in fields(FitConfig)}
    assert names - set(PARAMETERS) == RESOLVED | ABLATIONS.keys()


@pytest.fixture(scope="module")
def data(texts):
    """Labels in which neighbors of the frozen encoder do not agree."""
    X, y = texts
    return X, np.random.RandomState(0).permutation(y)


@pytest.fixture(scope="module")
def fit(make_classifier, data):
    """Return a function that fits, once each, with and without ablations."""

    @cache
    def fit(formulation: str, **ablation: Any) -> ProtoLMClassifier:
        clf = make_classifier(formulation=formulation, n_prototypes=5)
        return ablated(clf, **ablation).fit(*data)

    return fit


@pytest.mark.parametrize(
    ("name", "formulation", "value"), [(n, *case) for n, case in ABLATIONS.items()]
)
def test_an_ablation_changes_the_fit(fit, data, name, formulation, value):
    p = fit(formulation, **{name: value}).predict_proba(data[0])
    expected = fit(formulation).predict_proba(data[0])
    assert not np.allclose(p, expected, atol=1e-6)


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_ablations_are_off_by_default(make_classifier, fit, data, formulation):
    defaults = {
        field.name: field.default
        for field in fields(FitConfig)
        if field.name in ABLATIONS
    }
    clf = make_classifier(formulation=formulation, n_prototypes=5).fit(*data)
    for other in (fit(formulation), fit(formulation, **defaults)):
        np.testing.assert_array_equal(
            other.predict_proba(data[0]), clf.predict_proba(data[0])
        )


@pytest.mark.parametrize("name", ["reading_weight", "recalibrate"])
def test_an_ablation_of_the_projection_does_not_change_training(fit, name):
    formulation, value = ABLATIONS[name]
    other = fit(formulation, **{name: value})
    expected = without_times(fit(formulation).history_)
    assert without_times(other.history_) == expected
    assert other.prototypes_.texts == fit(formulation).prototypes_.texts


@pytest.mark.parametrize("name", ["least_spread", "similarities_as_distances"])
def test_an_ablation_of_training_changes_the_first_loss(fit, name):
    formulation, value = ABLATIONS[name]
    loss = fit(formulation, **{name: value}).history_[0]["loss"]
    assert loss != fit(formulation).history_[0]["loss"]


def test_without_recalibration_biases_are_those_learned(fit, data):
    without, default = fit("mixture", recalibrate=False), fit("mixture")
    learned = clone(default).set_params(projection=False).fit(*data)
    assert without.prototypes_.projected.all()
    assert without.prototypes_.texts == default.prototypes_.texts
    biases, recalibrated, expected = (
        clf._fitted.layer.readout.bias.numpy() for clf in (without, default, learned)
    )
    np.testing.assert_array_equal(biases, expected)
    assert not np.allclose(recalibrated, expected, atol=1e-6)


def test_of_reading_weight_0_texts_are_compared_in_the_learned_space(fit):
    metric = fit("mixture", reading_weight=0.0)._fitted.layer.metric.numpy()
    np.testing.assert_allclose(metric, np.eye(len(metric)), atol=1e-6)
    metric = fit("mixture")._fitted.layer.metric.numpy()
    assert abs(metric - np.eye(len(metric))).max() > 0.01
