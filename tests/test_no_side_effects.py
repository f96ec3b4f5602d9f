"""Fitting and predicting do not change the process and its settings."""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import pickle
import random
import signal
import warnings
from typing import Any

import numpy as np
import pytest
import torch
import transformers.utils.logging as transformers_logging

from skprotolm import ProtoLMClassifier, metrics
from skprotolm._display.map import map_coordinates
from skprotolm.exceptions import TextTruncatedWarning
from tests.watching import stop_at


def process_state() -> dict[str, Any]:
    """Return the global settings and state of the process."""
    loggers = [
        logging.getLogger(),
        *map(logging.getLogger, logging.root.manager.loggerDict),
    ]
    return {
        "torch generator": torch.get_rng_state().tolist(),
        "numpy generator": repr(np.random.get_state(legacy=False)),
        "python generator": random.getstate(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "warnings": list(warnings.filters),
        "environment": dict(os.environ),
        "loggers": {
            logger.name: (logger.level, list(logger.handlers), logger.propagate)
            for logger in loggers
        },
        "loading bars": transformers_logging.is_progress_bar_enabled(),
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "deterministic": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark,
        ),
        "matmul precision": torch.get_float32_matmul_precision(),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "autocast": torch.is_autocast_enabled("cpu"),
        "anomalies": torch.is_anomaly_enabled(),
        "numpy errors": np.geterr(),
        "interrupt": signal.getsignal(signal.SIGINT),
        "folder": os.getcwd(),
    }  # fmt: skip


def assert_same_process(before: dict[str, Any]) -> None:
    after = process_state()
    after["loggers"] = {name: after["loggers"][name] for name in before["loggers"]}
    assert {name for name in before if before[name] != after[name]} == set()


@pytest.fixture
def unusual_settings():
    """Settings other than the defaults, so that resetting to defaults is detected."""
    logger = logging.getLogger("transformers")
    level, had_bars = logger.level, transformers_logging.is_progress_bar_enabled()
    n_threads = torch.get_num_threads()
    logger.setLevel(logging.INFO)
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(n_threads + 1)
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision("highest")
    torch.set_num_threads(n_threads)
    logger.setLevel(level)
    if had_bars:
        transformers_logging.enable_progress_bar()


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"formulation": "proto-lm"},
        {"finetune": "head"},
        {"finetune": 1},
        {"projection": False},
        {"early_stopping": True, "validation_fraction": 0.3},
        {"precision": "bf16"},
        {"verbose": 1},
    ],
    ids=str,
)
@pytest.mark.usefixtures("unusual_settings")
def test_fit_does_not_change_the_process(make_classifier, texts, parameters):
    before = process_state()
    make_classifier(n_prototypes=2, **parameters).fit(*texts)
    assert_same_process(before)


@pytest.mark.usefixtures("unusual_settings")
def test_predicting_does_not_change_the_process(fitted, texts):
    X, y = texts
    before = process_state()
    fitted.score(X, y)
    fitted.transform(X)
    explanation = fitted.explain(X[:4])[0]
    assert explanation.token_similarities.shape[1] == 6
    explanation.alignment(0)
    assert explanation._repr_html_()
    assert_same_process(before)


@pytest.mark.usefixtures("unusual_settings")
def test_pickling_does_not_change_the_process(fitted, texts):
    before = process_state()
    copied = pickle.loads(pickle.dumps(copy.deepcopy(fitted)))
    copied.predict(texts[0])
    assert_same_process(before)


UNDERFLOWING = {
    "predict_proba": lambda clf, X, y: clf.predict_proba(X),
    "decision_function": lambda clf, X, y: clf.decision_function(X),
    "novelty_threshold": lambda clf, X, y: clf.novelty_threshold(X),
    "explain": lambda clf, X, y: clf.explain(X).to_html(),
    "report": lambda clf, X, y: clf.report(X, y, os.devnull, X_train=X, y_train=y),
    "plot": lambda clf, X, y: clf.explain(X[:2])[0].plot(),
    "map": lambda clf, X, y: clf.prototypes_.plot(X, y),
    "metrics": lambda clf, X, y: metrics.evaluate_explanations(clf, X),
    "remove_prototypes": lambda clf, X, y: copy.copy(clf).remove_prototypes([0]),
}


@pytest.fixture(scope="module")
def underflowing(make_classifier, texts) -> ProtoLMClassifier:
    """A classifier whose smaller probabilities underflow to 0."""
    clf = make_classifier(n_prototypes=2).fit(*texts)
    clf._fitted.network.layer.readout.log_concentration += 15
    assert clf.predict_proba(texts[0]).min() == 0
    return clf


@pytest.mark.parametrize("use", UNDERFLOWING.values(), ids=UNDERFLOWING)
def test_an_underflow_raises_no_error_of_numpy(underflowing, texts, use):
    """predict_proba and the metrics raised a FloatingPointError."""
    with np.errstate(all="raise"):
        errors = np.geterr()
        use(underflowing, *texts)
        assert np.geterr() == errors


def test_fit_raises_no_error_of_numpy(make_classifier, texts, tiny_bert):
    """The square of a coordinate near 0, as in MiniLM, raised a FloatingPointError."""
    backbone = copy.deepcopy(tiny_bert)
    norm = backbone[0].auto_model.encoder.layer[-1].output.LayerNorm
    norm.weight.data[0], norm.bias.data[0] = 1e-25, 0.0
    with np.errstate(all="raise"):
        make_classifier(backbone=backbone, sharpness=1000.0).fit(*texts)


def test_a_warning_inside_a_decorator_of_numpy_points_to_the_user(fitted):
    with pytest.warns(TextTruncatedWarning) as warned:
        fitted.prototypes_.plot(["long " * 100])
    assert warned[0].filename == __file__


@pytest.mark.parametrize("step", [1, 8])
@pytest.mark.usefixtures("unusual_settings")
def test_a_failed_fit_does_not_change_the_process(
    make_classifier, texts, monkeypatch, step
):
    stop_at(monkeypatch, step, RuntimeError("hardware failure"))
    before = process_state()
    with pytest.raises(RuntimeError, match="hardware failure"):
        make_classifier().fit(*texts)
    assert_same_process(before)


@pytest.mark.usefixtures("unusual_settings")
def test_a_loading_error_does_not_change_the_process(make_classifier, texts, tmp_path):
    before = process_state()
    with pytest.raises(ValueError, match="cannot load a model"):
        make_classifier(backbone=str(tmp_path)).fit(*texts)
    assert_same_process(before)


@pytest.mark.parametrize("step", [1, 8])
@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.FitInterruptedWarning")
@pytest.mark.usefixtures("unusual_settings")
def test_an_interrupted_fit_does_not_change_the_process(
    make_classifier, texts, monkeypatch, step
):
    stop_at(monkeypatch, step, KeyboardInterrupt())
    before = process_state()
    with pytest.raises(KeyboardInterrupt):
        make_classifier(n_prototypes=2).fit(*texts)
    assert_same_process(before)


@pytest.mark.parametrize("scope", [torch.no_grad, torch.inference_mode])
def test_fit_trains_and_restores_disabled_gradients(
    make_classifier, texts, fitted, scope
):
    X, y = texts
    with scope():
        clf = make_classifier().fit(X, y)
        assert not torch.is_grad_enabled()
    np.testing.assert_array_equal(clf.predict_proba(X), fitted.predict_proba(X))


def test_fit_ignores_the_default_dtype(make_classifier, texts):
    X, y = texts
    torch.set_default_dtype(torch.float64)
    try:
        clf = make_classifier(n_prototypes=1).fit(X, y)
        probabilities = clf.predict_proba(X)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert clf.prototypes_.vectors.dtype == np.float32
    np.testing.assert_array_equal(clf.predict_proba(X), probabilities)


def test_a_map_is_deterministic_and_does_not_use_the_global_generator():
    """Large maps differed, and changed NumPy's generator."""
    vectors = np.random.RandomState(0).randn(620, 70)
    before = np.random.get_state()
    coordinates = map_coordinates(vectors)
    after = np.random.get_state()
    assert after[2:] == before[2:]
    np.testing.assert_array_equal(after[1], before[1])
    np.testing.assert_array_equal(map_coordinates(vectors), coordinates)
    assert np.std(coordinates[:, 0]) >= np.std(coordinates[:, 1])


def test_a_map_of_equal_vectors_gives_no_warning():
    """NumPy warned about a division by zero."""
    assert not map_coordinates(np.ones((6, 4))).any()


# --- Output.


def test_nothing_is_printed(make_classifier, texts, capfd):
    X, y = texts
    clf = make_classifier().fit(X, y)
    clf.predict(X)
    clf.explain(X[:2]).to_html()
    pickle.loads(pickle.dumps(clf)).predict(X)
    assert capfd.readouterr() == ("", "")


def test_verbose_prints_a_progress_bar(make_classifier, texts, capfd):
    make_classifier(verbose=1).fit(*texts)
    out, err = capfd.readouterr()
    assert out == ""
    assert "fit:   0%|" in err
    assert "done: 100%|" in err
    assert "loss=" in err


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("method", ["fit", "predict", "transform", "explain"])
def test_a_warning_points_to_the_users_line(method, make_classifier, texts):
    """A constant stack level was correct for some methods only."""
    X, y = [f"{label} {text}" for text, label in zip(*texts, strict=True)], texts[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clf = make_classifier(max_length=9).fit(X, y)
    with pytest.warns(TextTruncatedWarning) as warned:
        getattr(clf, method)(X, *([y] if method == "fit" else []))
    assert {warning.filename for warning in warned} == {__file__}


# --- Settings of the caller.


@contextlib.contextmanager
def double_by_default():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


SCOPES = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "default device": lambda: torch.device("meta"),
    "default dtype": double_by_default,
    "inference mode": torch.inference_mode,
}


@pytest.mark.parametrize("scope", SCOPES.values(), ids=SCOPES)
def test_settings_of_the_caller_have_no_effect(scope, make_classifier, texts, fitted):
    """Probabilities changed, and the sums of explanations were not exact."""
    X, y = texts
    expected = fitted.predict_proba(X)
    [explained] = fitted.explain(X[:1])
    with scope():
        np.testing.assert_array_equal(fitted.predict_proba(X), expected)
        [e] = fitted.explain(X[:1])
        np.testing.assert_array_equal(e.token_scores, explained.token_scores)
        np.testing.assert_array_equal(e.alignment(0), explained.alignment(0))
        loaded = pickle.loads(pickle.dumps(fitted))
        refitted = make_classifier().fit(X, y)
    np.testing.assert_array_equal(loaded.predict_proba(X), expected)
    np.testing.assert_array_equal(refitted.predict_proba(X), expected)
