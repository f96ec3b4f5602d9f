"""A loaded model in forked processes, and what a model leaves behind in its own."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
import warnings
import weakref
from typing import Any

import pytest

from skprotolm import ProtoLMClassifier
from skprotolm._network.encoder import load_encoder

# Torch is imported and a plain backbone loaded first: what these start is not ours.
FORKING = """
import os, pickle, sys, time
from pathlib import Path
from sentence_transformers import SentenceTransformer
from skprotolm import ProtoLMClassifier
from skprotolm._network.encoder import load_encoder

def n_threads():
    return len(os.listdir("/proc/self/task"))

model, backbone = sys.argv[1:]
SentenceTransformer(backbone, device="cpu", local_files_only=True)
before = n_threads()
clf = pickle.loads(Path(model).read_bytes())
print(n_threads() - before, flush=True)
children = []
for _ in range(2):
    child = os.fork()
    if child == 0:
        clf.predict_proba(["the food was good"] * 20)
        os._exit(0)
    children.append(child)
end = time.monotonic() + 60
while children and time.monotonic() < end:
    children = [pid for pid in children if os.waitpid(pid, os.WNOHANG) == (0, 0)]
    time.sleep(0.05)
for pid in children:
    os.kill(pid, 9)
print(len(children))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
@pytest.mark.parametrize("formulation", ["mixture", "proto-lm"])
def test_a_model_that_is_loaded_and_then_forked_predicts(
    make_classifier, texts, tiny_folder, tmp_path, formulation
):
    """Loading started torch's threads, without which the children hung."""
    clf = make_classifier(max_epochs=1, formulation=formulation).fit(*texts)
    labels = [clf.classes_[i % 2] for i in range(3000)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clf.add_prototypes([f"a day {i}" for i in range(3000)], labels)
    model = tmp_path / "model.pickle"
    model.write_bytes(pickle.dumps(clf))
    done = subprocess.run(
        [sys.executable, "-c", FORKING, str(model), str(tiny_folder)],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    assert done.stdout.split() == ["0", "0"], "threads started, children that hang"


@pytest.fixture
def no_collector() -> Any:
    """Switch the cycle collector off: what is freed is freed by its last reference."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def weights_of(clf: ProtoLMClassifier) -> weakref.ref:
    return weakref.ref(next(clf._fitted.network.encoder.parameters()))


@pytest.mark.parametrize("finetune", ["full", "head"])
@pytest.mark.parametrize("formulation", ["mixture", "proto-lm"])
def test_a_refit_frees_the_encoder_before_it_at_once(
    make_classifier, texts, no_collector, formulation, finetune
):
    """25 head fits of the default encoder took a gigabyte."""
    X, y = texts
    clf = make_classifier(formulation=formulation, finetune=finetune).fit(X, y)
    before = weights_of(clf)
    clf.explain(X[:2], token_method="relevance").to_html()
    clf.prototypes_.nearest(X[:2])
    clf.remove_prototypes([0]).undo_edit()
    assert before() is not None
    clf.fit(X, y)
    assert before() is None


def test_a_loaded_model_is_freed_at_once(fitted, texts, no_collector):
    again = pickle.loads(pickle.dumps(fitted))
    again.predict(texts[0][:2])
    weights = weights_of(again)
    del again
    assert weights() is None


def test_a_fit_that_fails_frees_its_encoder(
    make_classifier, texts, no_collector, monkeypatch
):
    weights: list[weakref.ref] = []

    def watched(*arguments: Any) -> Any:
        encoder = load_encoder(*arguments)
        weights.append(weakref.ref(next(encoder.parameters())))
        return encoder

    monkeypatch.setattr("skprotolm._training.fit.load_encoder", watched)
    clf = make_classifier(learning_rate=1e30, head_learning_rate=1e30)
    with pytest.raises(ValueError, match="diverged"):
        clf.fit(*texts)
    assert [weight() for weight in weights] == [None]
