"""Loaded models work in forked processes, and models are freed at once."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
import warnings
import weakref
from typing import Any

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook

from skprotolm._network.encoder import TextEncoder

# Threads of torch and of loading a plain backbone are not counted.
FORKING = """
import os, pickle, sys, time
from pathlib import Path
from sentence_transformers import SentenceTransformer
from skprotolm import ProtoLMClassifier

def threads():
    # Threads that load weights are ending, or starting, for a moment.
    previous = None
    while previous != (current := set(os.listdir("/proc/self/task"))):
        previous = current
        time.sleep(0.5)
    return current

model_path, backbone = sys.argv[1:]
SentenceTransformer(backbone, device="cpu", local_files_only=True)
before = threads()
clf = pickle.loads(Path(model_path).read_bytes())
print(len(threads() - before), flush=True)
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
def test_a_loaded_model_predicts_in_forked_processes(
    make_classifier, texts, tiny_folder, tmp_path, formulation
):
    """Loading started threads of torch, and the child processes waited for them."""
    clf = make_classifier(max_epochs=1, formulation=formulation).fit(*texts)
    labels = [clf.classes_[i % 2] for i in range(3000)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clf.add_prototypes([f"a day {i}" for i in range(3000)], labels)
    model_path = tmp_path / "model.pickle"
    model_path.write_bytes(pickle.dumps(clf))
    result = subprocess.run(
        [sys.executable, "-c", FORKING, str(model_path), str(tiny_folder)],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    n_started_threads, n_hanging_children = result.stdout.split()
    assert n_started_threads == "0"
    assert n_hanging_children == "0"


@pytest.fixture
def no_collector() -> Any:
    """Disable the garbage collector, so that reference cycles are not freed."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def weight_of(encoder: TextEncoder) -> weakref.ref:
    return weakref.ref(next(encoder.parameters()))


@pytest.mark.parametrize("finetune", ["full", 1, "head"])
@pytest.mark.parametrize("formulation", ["mixture", "proto-lm"])
def test_a_refit_frees_the_previous_encoder(
    make_classifier, texts, no_collector, formulation, finetune
):
    """The memory of 25 fits of the default encoder was a gigabyte."""
    X, y = texts
    clf = make_classifier(formulation=formulation, finetune=finetune).fit(X, y)
    weight = weight_of(clf._fitted.network.encoder)
    clf.explain(X[:2], token_method="relevance").to_html()
    clf.prototypes_.nearest(X[:2])
    clf.remove_prototypes([0]).undo_edit()
    assert weight() is not None
    clf.fit(X, y)
    assert weight() is None


def test_deleting_a_loaded_model_frees_its_encoder(fitted, texts, no_collector):
    loaded = pickle.loads(pickle.dumps(fitted))
    loaded.predict(texts[0][:2])
    weight = weight_of(loaded._fitted.network.encoder)
    del loaded
    assert weight() is None


def test_a_failed_fit_frees_its_encoder(make_classifier, texts, no_collector):
    weights: list[weakref.ref] = []

    def watch(module: torch.nn.Module, args: Any, output: Any) -> None:
        if isinstance(module, TextEncoder):
            weights.append(weight_of(module))

    clf = make_classifier(learning_rate=1e30, head_learning_rate=1e30)
    handle = register_module_forward_hook(watch)
    try:
        with pytest.raises(ValueError, match="diverged"):
            clf.fit(*texts)
    finally:
        handle.remove()
    assert weights
    assert all(weight() is None for weight in weights)
