"""Loaded models predict in forked processes."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings

import pytest

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
