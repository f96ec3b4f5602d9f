"""Each ablation changes the fit, and only in what it ablates."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from sklearn.base import clone

from skprotolm._config import PARAMETERS, FitConfig
from tests.helpers import ablated, without_times

RESOLVED = {"train_bf16", "predict_bf16", "prototype_counts", "prune", "spread"}
ABLATIONS = {
    "least_spread": ({}, 1.0),
    "cluster_before_projection": ({}, False),
    "cluster_in_pretrained_space": ({}, False),
    "recalibrate": ({}, False),
    "similarities_as_distances": ({"formulation": "proto-lm"}, True),
}
SETTINGS = {"n_prototypes": 5}
# They differ after training only.
AFTER_TRAINING = [
    "cluster_before_projection",
    "cluster_in_pretrained_space",
    "recalibrate",
]


def test_every_field_that_is_not_a_parameter_is_resolved_or_an_ablation():
    names = {field.name for field in fields(FitConfig)}
    assert names - set(PARAMETERS) == RESOLVED | ABLATIONS.keys()


@pytest.fixture(scope="module")
def data(texts):
    """Labels in which neighbors of the frozen encoder do not agree."""
    X, y = texts
    return X, np.random.RandomState(0).permutation(y)


@pytest.fixture(scope="module")
def fits(make_classifier, data):
    """Fits of each formulation without an ablation."""
    return {
        formulation: make_classifier(**SETTINGS, formulation=formulation).fit(*data)
        for formulation in ("mixture", "proto-lm")
    }


@pytest.mark.parametrize(
    ("name", "parameters", "value"), [(n, *case) for n, case in ABLATIONS.items()]
)
def test_an_ablation_changes_the_fit(
    make_classifier, data, fits, name, parameters, value
):
    clf = make_classifier(**SETTINGS, **parameters)
    other = ablated(clf, **{name: value}).fit(*data)
    expected = fits[clf.formulation].predict_proba(data[0])
    assert not np.allclose(other.predict_proba(data[0]), expected, atol=1e-6)


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_at_its_default_changes_nothing(make_classifier, data, fits, name):
    clf = make_classifier(**SETTINGS, **ABLATIONS[name][0])
    default = {field.name: field.default for field in fields(FitConfig)}[name]
    other = ablated(clf, **{name: default}).fit(*data)
    expected = fits[clf.formulation].predict_proba(data[0])
    np.testing.assert_array_equal(other.predict_proba(data[0]), expected)


@pytest.mark.parametrize("name", AFTER_TRAINING)
def test_an_ablation_of_the_projection_leaves_training_as_it_is(
    make_classifier, data, fits, name
):
    other = ablated(make_classifier(**SETTINGS), **{name: False}).fit(*data)
    expected = without_times(fits["mixture"].history_)
    assert without_times(other.history_) == expected


@pytest.mark.parametrize("name", ["least_spread", "similarities_as_distances"], ids=str)
def test_an_ablation_of_training_changes_its_losses(make_classifier, data, fits, name):
    parameters, value = ABLATIONS[name]
    clf = make_classifier(**SETTINGS, **parameters)
    other = ablated(clf, **{name: value}).fit(*data)
    before = fits[clf.formulation].history_[0]["loss"]
    assert other.history_[0]["loss"] != before


def test_without_recalibration_priors_and_biases_are_those_learned(
    make_classifier, data, fits
):
    clf = make_classifier(**SETTINGS)
    learned = clone(clf).set_params(projection=False).fit(*data)
    other = ablated(clf, recalibrate=False).fit(*data)
    assert other.prototypes_.projected.all()
    assert other.prototypes_.texts == fits["mixture"].prototypes_.texts
    expected = learned.prototypes_.priors
    np.testing.assert_array_equal(other.prototypes_.priors, expected)
    assert not np.allclose(fits["mixture"].prototypes_.priors, expected, rtol=1e-3)
    biases, recalibrated, learned_biases = (
        model._fitted.layer.readout.bias.numpy()
        for model in (other, fits["mixture"], learned)
    )
    np.testing.assert_array_equal(biases, learned_biases)
    assert not np.allclose(recalibrated, learned_biases, atol=1e-6)
