"""Predictions through ONNX Runtime and OpenVINO, in float32 and in 8-bit integers."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skprotolm import ProtoLMClassifier, ProtoLMRegressor
from skprotolm._network.engines import ENGINES
from skprotolm.exceptions import MissingExtraError
from tests import tagged
from tests.test_no_side_effects import assert_same_process, process_state
from tests.texts import make_texts

PACKAGES = {name: engine.package for name, engine in ENGINES.items()}
X_NEW = ["a kind service", "bad", "the plot of the film was dull and had no end", "a"]


def needs(backend: str) -> None:
    for package in ("onnx", "onnxscript", PACKAGES[backend]):
        pytest.importorskip(package)


@pytest.fixture(scope="module", params=PACKAGES)
def backend(request) -> str:
    needs(request.param)
    return request.param


@pytest.fixture(scope="module")
def before(fitted) -> tuple[np.ndarray, dict[str, Any]]:
    """What the estimator predicts, and its attributes, before it is optimized."""
    return fitted.predict_proba(X_NEW), dict(vars(fitted))


@pytest.fixture(scope="module")
def fp32(fitted, before, backend) -> ProtoLMClassifier:
    """A copy that predicts through a backend; tests must not change it."""
    return fitted.optimize(backend)


@pytest.fixture(scope="module")
def int8(fitted, before, backend) -> ProtoLMClassifier:
    """The same in 8-bit integers."""
    return fitted.optimize(backend, dtype="int8")


@pytest.fixture(scope="module")
def windowed(make_classifier, texts) -> ProtoLMClassifier:
    return make_classifier(long_text="window", max_length=12, max_epochs=1).fit(*texts)


def assert_sums_are_exact(explanations, labels):
    for e in explanations:
        share = e.contributions[labels == e.target].sum()
        assert share == pytest.approx(e.probability, abs=1e-9)
        total = e.base_value + e.token_scores.sum()
        assert total == pytest.approx(e.log_odds, abs=1e-6)


def test_fp32_predicts_what_torch_does(fitted, fp32):
    for method in ("predict_proba", "transform", "novelty_score"):
        expected, actual = (getattr(clf, method)(X_NEW) for clf in (fitted, fp32))
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4)
    assert fp32._fitted.network.encoder.backend != "torch"
    assert fp32.novelty_threshold(X_NEW, rate=0.5) == pytest.approx(
        fitted.novelty_threshold(X_NEW, rate=0.5), abs=1e-4
    )


def test_int8_predicts_nearly_what_torch_does(fitted, int8):
    expected, actual = (clf.predict_proba(X_NEW) for clf in (fitted, int8))
    assert 0 < np.abs(actual - expected).max() < 0.01


def test_sums_are_exact_under_int8(int8):
    clf = copy.copy(int8).add_prototypes(["a kind plot"], ["pos"])
    explanations = clf.explain(X_NEW)
    assert_sums_are_exact(explanations, clf.prototypes_.labels)
    for e in explanations:
        np.testing.assert_allclose(
            e.token_similarities.sum(axis=0), e.similarities, rtol=0, atol=1e-6
        )
        for j in range(len(e.similarities)):
            assert e.alignment(j).sum() == pytest.approx(e.similarities[j], abs=1e-6)


def test_a_text_is_predicted_the_same_beside_others(int8):
    """Ranges of a batch would let each of its texts change the others."""
    alone = np.concatenate([int8.predict_proba([text]) for text in X_NEW])
    np.testing.assert_allclose(int8.predict_proba(X_NEW), alone, rtol=0, atol=1e-6)


def test_the_estimator_itself_does_not_change(fitted, before, fp32, int8):
    copy.copy(int8).remove_prototypes([0])
    probabilities, attributes = before
    assert vars(fitted) == attributes
    np.testing.assert_array_equal(fitted.predict_proba(X_NEW), probabilities)


def test_windows_of_long_texts(windowed):
    needs("onnx")
    texts = [" ".join(X_NEW * 3), "a day"]
    fast = windowed.optimize()
    np.testing.assert_allclose(
        fast.predict_proba(texts), windowed.predict_proba(texts), rtol=0, atol=1e-4
    )
    assert_sums_are_exact(fast.explain(texts), fast.prototypes_.labels)


def test_tags_of_words(tagger):
    needs("onnx")
    fast = tagger.optimize()
    for expected, actual in zip(
        tagger.predict_proba(tagged.X[:4]),
        fast.predict_proba(tagged.X[:4]),
        strict=True,
    ):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4)


def test_numbers_of_pairs(tiny_bert):
    needs("onnx")
    X, labels = make_texts()
    pairs = list(zip(X, X[1:] + X[:1], strict=True))
    reg = ProtoLMRegressor(tiny_bert, n_prototypes=10, max_epochs=1, random_state=0)
    reg.fit(pairs, (labels == "pos") + np.arange(len(X)) % 7 / 10)
    np.testing.assert_allclose(
        reg.optimize().predict(pairs), reg.predict(pairs), rtol=0, atol=1e-4
    )


# Copies, files, threads.


def test_pickles_and_copies_predict_the_same(fp32, int8, tmp_path):
    for clf in (fp32, int8):
        joblib.dump(clf, tmp_path / "clf.joblib")
        for again in (
            pickle.loads(pickle.dumps(clf)),
            joblib.load(tmp_path / "clf.joblib"),
            copy.deepcopy(clf),
        ):
            assert again._fitted.network.encoder.backend in PACKAGES
            np.testing.assert_array_equal(
                again.predict_proba(X_NEW), clf.predict_proba(X_NEW)
            )


def test_skops_restores_what_pickle_does(int8):
    skops = pytest.importorskip("skops.io")
    stored = skops.dumps(int8)
    again = skops.loads(stored, trusted=["skprotolm.ProtoLMClassifier"])
    np.testing.assert_array_equal(again.predict_proba(X_NEW), int8.predict_proba(X_NEW))


def test_a_clone_is_not_fitted(fp32):
    with pytest.raises(NotFittedError):
        clone(fp32).predict(X_NEW)


def test_threads_predict_at_once(int8):
    expected = int8.predict_proba(X_NEW)
    with ThreadPoolExecutor(4) as pool:
        for actual in pool.map(int8.predict_proba, [X_NEW] * 16):
            np.testing.assert_array_equal(actual, expected)


def test_processes_predict(int8):
    run = joblib.Parallel(n_jobs=2)
    [actual, _] = run(joblib.delayed(int8.predict_proba)(X_NEW) for _ in range(2))
    np.testing.assert_allclose(actual, int8.predict_proba(X_NEW), rtol=0, atol=1e-6)


FORKING = """
import os, pickle, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
clf = pickle.loads(Path(sys.argv[1]).read_bytes())
expected = clf.predict(["good"])
child = os.fork()
if child == 0:
    os._exit(0 if clf.predict(["good"]) == expected else 1)
print(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_predicts(fp32, tmp_path):
    """It closed the session of its parent, which has no threads there, and crashed."""
    path = tmp_path / "clf.pickle"
    path.write_bytes(pickle.dumps(fp32))
    done = subprocess.run(
        [sys.executable, "-c", FORKING, str(path)],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    assert done.stdout.split()[-1] == "0"


def test_numbers_of_threads_have_a_session_each(fp32, monkeypatch):
    """Threads with different numbers restarted the session with every prediction."""
    again = pickle.loads(pickle.dumps(fp32))
    expected, started = fp32.predict_proba(X_NEW), []
    engine = again._fitted.network.encoder.engine
    start = engine.start

    def counted(n_threads: int) -> Any:
        started.append(n_threads)
        return start(n_threads)

    monkeypatch.setattr(engine, "start", counted)
    n_threads = torch.get_num_threads()
    try:
        for n in (1, 2, 1, 2):
            torch.set_num_threads(n)
            actual = again.predict_proba(X_NEW)
            np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)
    finally:
        torch.set_num_threads(n_threads)
    assert sorted(started) == [1, 2]


def test_optimizing_does_not_change_the_process(fitted, int8, tmp_path, monkeypatch):
    # What `int8` has imported is imported.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = process_state()
    backend = int8._fitted.network.encoder.backend
    fitted.optimize(backend, "int8").explain(X_NEW)
    assert_same_process(before)
    assert list(tmp_path.iterdir()) == []


# What follows a copy.


def test_edits_and_partial_fit_keep_the_backend(fp32):
    clf = copy.copy(fp32)
    clf.add_prototypes(["a kind plot"], ["pos"])
    [e] = clf.explain(["a kind plot"])
    assert e.similarities[-1] == pytest.approx(1, abs=1e-6)
    clf.undo_edit()
    np.testing.assert_array_equal(clf.predict_proba(X_NEW), fp32.predict_proba(X_NEW))
    clf.partial_fit(["the card was lost", "i lost my card"], ["card", "card"])
    assert clf.predict_proba(X_NEW).shape == (4, 3)
    assert clf._fitted.network.encoder.backend in PACKAGES


def test_a_new_fit_runs_in_torch(fp32, texts):
    clf = copy.copy(fp32).set_params(warm_start=True, max_epochs=1).fit(*texts)
    assert clf._fitted.network.encoder.backend == "torch"


def test_a_copy_says_what_runs_it(fitted, fp32, int8, backend):
    assert fitted.backend_ == "torch"
    assert (fp32.backend_, int8.backend_) == (backend, backend)
    assert not hasattr(ProtoLMClassifier(), "backend_")


def test_torch_is_the_way_back(fitted, int8):
    again = int8.optimize("torch")
    assert again.backend_ == "torch"
    np.testing.assert_array_equal(
        again.predict_proba(X_NEW), fitted.predict_proba(X_NEW)
    )
    assert again.explain(X_NEW)[0].token_method == "relevance"


def test_relevance_needs_torch(int8):
    assert int8.explain(X_NEW)[0].token_method == "decomposition"
    assert int8.explain(X_NEW, token_method="occlusion")[0].token_scores is not None
    with pytest.raises(ValueError, match=r"needs gradients.*optimize\(backend='torch'"):
        int8.explain(X_NEW, token_method="relevance")


# Errors.


def test_a_missing_package_is_named(fitted, monkeypatch):
    for backend, package in PACKAGES.items():
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingExtraError, match=rf"skprotolm\[{backend}\]"):
            fitted.optimize(backend)


def test_a_loaded_copy_names_a_missing_package(fp32, monkeypatch):
    loaded = pickle.loads(pickle.dumps(fp32))
    backend = loaded._fitted.network.encoder.backend
    monkeypatch.setitem(sys.modules, PACKAGES[backend], None)
    with pytest.raises(MissingExtraError, match=rf"skprotolm\[{backend}\]"):
        loaded.predict(X_NEW)
    assert loaded.optimize("torch").predict(X_NEW).shape == (4,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tensorrt",), r"backend must be 'onnx', 'openvino', or 'torch', got 'tensor"),
        (("onnx", "int4"), "dtype must be 'fp32' or 'int8', got 'int4'"),
        (("torch", "int8"), "dtype='int8' needs backend='onnx' or 'openvino'"),
    ],
)
def test_arguments_are_checked(fitted, arguments, message):
    with pytest.raises(ValueError, match=message):
        fitted.optimize(*arguments)


def test_an_estimator_must_be_fitted(make_classifier):
    with pytest.raises(NotFittedError):
        make_classifier().optimize()


class _Branching(torch.nn.Module):
    """An activation that depends on values, which no export can follow."""

    def forward(self, x):
        return x if float(x.detach().sum()) > 0 else torch.relu(x)


def test_a_backbone_that_cannot_be_exported(make_classifier, texts, tiny_bert):
    needs("onnx")
    encoder = copy.deepcopy(tiny_bert)
    last = encoder[0].auto_model.encoder.layer[1]
    last.intermediate.intermediate_act_fn = _Branching()
    clf = make_classifier(backbone=encoder, max_epochs=1).fit(*texts)
    with pytest.raises(ValueError, match=r"BertModel.*cannot be exported"):
        clf.optimize()


def test_an_export_that_computes_something_else_is_refused(
    fitted, backend, monkeypatch
):
    start = ENGINES[backend].start

    def start_another(engine: Any, n_threads: int) -> Any:
        session = start(engine, n_threads)
        return lambda arrays: 1.01 * session(arrays)

    monkeypatch.setattr(ENGINES[backend], "start", start_another)
    with pytest.raises(
        ValueError, match=r"\(bert\) does not compute the token vectors"
    ):
        fitted.optimize(backend)


def test_an_engine_that_cannot_run_the_export_is_named(fitted, backend, monkeypatch):
    def fail(engine: Any, n_threads: int) -> Any:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(ENGINES[backend], "start", fail)
    with pytest.raises(
        ValueError, match=rf"'{backend}' cannot run .* no such operator"
    ):
        fitted.optimize(backend)
