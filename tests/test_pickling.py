"""Pickles, joblib files and copies: the same model on any machine."""

from __future__ import annotations

import copy
import io
import os
import pickle
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skprotolm import ProtoLMClassifier
from skprotolm._saving.pickling import pack, unpack
from tests.saving import REMOVED, ROUND_TRIPS, assert_same
from tests.texts import make_texts
from tests.tiny import MODEL_TYPES, make_encoder


@pytest.fixture(params=ROUND_TRIPS)
def round_trip(request) -> Any:
    return ROUND_TRIPS[request.param]


# Round trips.


def test_an_unfitted_estimator_is_restored(round_trip):
    clf = ProtoLMClassifier("a name", n_prototypes={"a": 1}, random_state=3)
    again = round_trip(clf)
    assert type(again) is ProtoLMClassifier
    assert again.get_params() == clf.get_params()
    assert vars(again).keys() == vars(clf).keys()


def test_a_fitted_estimator_is_restored(round_trip, fitted, texts):
    again = round_trip(fitted)
    assert again.get_params() == fitted.get_params()
    assert_same(again, fitted, texts[0][:6])
    expected = fitted.explain(texts[0][:1])[0].alignment(0)
    np.testing.assert_array_equal(again.explain(texts[0][:1])[0].alignment(0), expected)


@pytest.mark.parametrize(
    "parameters",
    [
        {"formulation": "proto-lm"},
        {"projection": False},
        {"precision": "bf16"},
        {"max_length": 6},
        {"finetune": "head", "sharpness": 17.5},
        {"n_prototypes": {"neg": 1, "pos": 4}},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.TextTruncatedWarning")
def test_every_kind_of_fit_is_restored(make_classifier, texts, parameters):
    clf = make_classifier(**{"n_prototypes": 2, "max_epochs": 1, **parameters})
    clf.fit(*texts)
    assert_same(pickle.loads(pickle.dumps(clf)), clf, texts[0][:6])


@pytest.mark.parametrize("pairs", [False, True], ids=["texts", "pairs"])
@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_every_kind_of_encoder_is_restored(tmp_path, kind, pairs):
    X, y = make_texts()
    if pairs:
        X = [(text, "so it was") for text in X]
    clf = ProtoLMClassifier(
        make_encoder(kind, tmp_path), n_prototypes=2, max_epochs=1, random_state=0
    ).fit(X, y)
    assert_same(pickle.loads(pickle.dumps(clf)), clf, X[:6])


def test_double_precision_and_prompts_are_restored(tmp_path):
    X, y = make_texts()
    encoder = make_encoder("bert", tmp_path, dtype=torch.float64)
    encoder.prompts, encoder.default_prompt_name = {"ask": "what a day: "}, "ask"
    clf = ProtoLMClassifier(encoder, n_prototypes=2, max_epochs=1, random_state=0)
    clf.fit(X, y)
    again = pickle.loads(pickle.dumps(clf))
    assert again.prototypes_.vectors.dtype == np.float64
    assert_same(again, clf, [*X[:6], ""])


@pytest.mark.parametrize("labels", [["no", "yes"], [0, 1], [False, True]], ids=str)
def test_labels_are_restored(make_classifier, texts, labels):
    X, y = texts
    y = np.array(labels)[(y == "pos").astype(int)]
    clf = make_classifier(n_prototypes=1, max_epochs=1).fit(X, y)
    again = pickle.loads(pickle.dumps(clf))
    assert again.predict(X).tolist() == clf.predict(X).tolist()
    assert type(again.prototypes_[0].label) is type(labels[0])


def test_a_pipeline_is_restored(make_classifier, texts):
    X, y = texts
    pipeline = make_pipeline(FunctionTransformer(), make_classifier(n_prototypes=1))
    pipeline.fit(X, y)
    again = pickle.loads(pickle.dumps(pipeline))
    np.testing.assert_array_equal(again.predict_proba(X), pipeline.predict_proba(X))


def test_a_loaded_estimator_can_be_refitted(make_classifier, texts):
    X, y = texts
    clf = make_classifier(n_prototypes=2).fit(X, y)
    again = pickle.loads(pickle.dumps(clf)).fit(X[:30], y[:30])
    expected = clone(clf).fit(X[:30], y[:30])
    np.testing.assert_array_equal(again.predict_proba(X), expected.predict_proba(X))


def test_pickles_of_one_model_are_equal(fitted):
    assert pickle.dumps(fitted) == pickle.dumps(fitted)
    assert joblib.hash(fitted) == joblib.hash(fitted)


def test_a_memory_mapped_file_can_be_loaded(fitted, texts, tmp_path):
    joblib.dump(fitted, tmp_path / "model")
    assert_same(joblib.load(tmp_path / "model", mmap_mode="r"), fitted, texts[0][:6])


# Other machines.

OTHER_PROCESS = """
import socket, sys

def refuse(*args, **kwargs):
    raise OSError("no network")

socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse

import numpy as np
import joblib, pickle

folder = sys.argv[1]
data = np.load(folder + "/expected.npz")
with open(folder + "/model.pickle", "rb") as file:
    models = {"pickle": pickle.load(file)}
with open(folder + "/model.cloudpickle", "rb") as file:
    models["cloudpickle"] = pickle.load(file)
models["joblib"] = joblib.load(folder + "/model.joblib")
for name, model in models.items():
    X = data["X"].tolist()
    np.testing.assert_array_equal(model.predict_proba(X), data["p"], err_msg=name)
    np.testing.assert_array_equal(model.predict(X), data["predicted"], err_msg=name)
    pairs = model.explain(X[:1])[0].alignment(0)
    np.testing.assert_allclose(pairs, data["alignment"], atol=1e-6, err_msg=name)
"""


def test_a_new_process_without_network_or_backbone_predicts_the_same(tmp_path, texts):
    X, y = texts
    folder = tmp_path / "backbone"
    make_encoder("bert", folder)
    clf = ProtoLMClassifier(str(folder), n_prototypes=2, max_epochs=1, random_state=0)
    clf.fit(X, y)
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(clf))
    (tmp_path / "model.cloudpickle").write_bytes(cloudpickle.dumps(clf))
    joblib.dump(clf, tmp_path / "model.joblib", compress=3)
    np.savez(
        tmp_path / "expected.npz",
        X=X,
        p=clf.predict_proba(X),
        predicted=clf.predict(X),
        alignment=clf.explain(X[:1])[0].alignment(0),
    )
    folder.rename(tmp_path / "moved")
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "empty"),
        "OMP_NUM_THREADS": "1",  # sums depend on the number of threads
    }
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", OTHER_PROCESS, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert result.stderr == ""


@pytest.mark.parametrize("device", ["cuda:63", "mps:1", "cpu", "auto"])
def test_a_model_loads_on_a_machine_without_its_device(fitted, texts, device):
    state = unpack({**pack(fitted._fitted), "device": device})
    again = copy.copy(fitted)
    again._fitted = state
    p = again.predict_proba(texts[0])
    np.testing.assert_allclose(p, fitted.predict_proba(texts[0]), atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_model_fitted_on_a_gpu_loads_on_the_cpu(make_classifier, texts):
    clf = make_classifier(device="cuda", n_prototypes=2).fit(*texts)
    again = unpack({**pack(clf._fitted), "device": "cpu"})
    assert again.network.encoder.device.type == "cpu"
    assert clf._fitted.network.encoder.device.type == "cuda"


def test_a_source_tree_that_is_not_installed_can_be_pickled(fitted, monkeypatch):
    """The package can be imported from one, but has no version then."""
    original = metadata.Distribution.from_name

    def from_name(name: str) -> Any:
        if name == "skprotolm":
            raise metadata.PackageNotFoundError(name)
        return original(name)

    monkeypatch.setattr(metadata.Distribution, "from_name", from_name)
    assert pack(fitted._fitted)["versions"]["skprotolm"] == "unknown"
    assert pickle.loads(pickle.dumps(fitted)).n_iter_ == fitted.n_iter_


@pytest.mark.parametrize(
    ("protocol", "remedy"), [(99, "Upgrade"), (1, "Refit the model")]
)
def test_the_error_for_another_format_names_the_remedy(fitted, protocol, remedy):
    payload = {"protocol": protocol, "versions": {"skprotolm": "7.1"}}
    with pytest.raises(ValueError, match=rf"skprotolm 7\.1.*{remedy}"):
        unpack(payload)


def test_a_file_of_an_older_format_is_refused(fitted):
    """It was loaded as an unfitted estimator, and kept its texts in later files."""
    old = {**fitted.get_params(), "n_iter_": 2}
    old["_state"] = {"protocol": 3, "versions": {"skprotolm": "0.1.0"}}
    with pytest.raises(ValueError, match=r"skprotolm 0\.1\.0 in format 3.*Refit"):
        type(fitted)().__setstate__(old)


# What is stored.


def test_only_texts_of_prototypes_are_stored(make_classifier):
    X = [f"secret{i:03} was {'good' if i % 2 else 'bad'} today" for i in range(60)]
    clf = make_classifier(
        n_prototypes=2, early_stopping=True, validation_fraction=0.2, max_epochs=1
    )
    clf.fit(np.array(X), [i % 2 for i in range(60)], sample_weight=np.ones(60))
    stored = pickle.dumps(clf)
    quoted = [i for i in range(60) if f"secret{i:03}".encode() in stored]
    assert quoted == sorted(clf.prototypes_.train_indices.tolist())


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_no_state_of_the_training_is_stored(tmp_path, texts, kind):
    make_encoder(kind, tmp_path)
    clf = ProtoLMClassifier(str(tmp_path), n_prototypes=2, max_epochs=1, random_state=0)
    stored = pickle.dumps(clf.fit(*texts))
    for name in (b"AdamW", b"exp_avg", b"optimizer", b"LambdaLR", b"_rebuild_tensor"):
        assert name not in stored
    weights = sum(
        t.numel() * t.element_size() for t in clf._fitted.network.state_dict().values()
    )
    tokenizer = (tmp_path / "tokenizer.json").stat().st_size
    assert len(stored) < 1.1 * weights + tokenizer + 20_000


def test_a_pickle_refers_to_no_class_of_other_packages(fitted):
    """Torch and transformers move their classes between versions."""
    modules = set()

    class Recorder(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            modules.add(module.partition(".")[0])
            return super().find_class(module, name)

    Recorder(io.BytesIO(pickle.dumps(fitted))).load()
    assert modules <= {"skprotolm", "numpy"}


def test_no_gradient_is_kept_after_the_fit(fitted):
    parameters = list(fitted._fitted.network.parameters())
    assert not any(p.requires_grad for p in parameters)
    assert all(p.grad is None for p in parameters)
    assert not fitted._fitted.network.training


def test_saving_does_not_change_the_model(round_trip, fitted, texts):
    model = fitted._fitted.network
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    addresses = [t.data_ptr() for t in model.state_dict().values()]
    modes = [module.training for module in model.modules()]
    expected = fitted.predict_proba(texts[0])
    round_trip(fitted).predict(texts[0])
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert [t.data_ptr() for t in model.state_dict().values()] == addresses
    assert [module.training for module in model.modules()] == modes
    np.testing.assert_array_equal(fitted.predict_proba(texts[0]), expected)


def test_no_temporary_file_is_left(fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    pickle.loads(pickle.dumps(fitted))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real
def test_a_pickle_is_as_large_as_the_weights(tmp_path):
    X, y = make_texts(16)
    clf = ProtoLMClassifier(n_prototypes=2, max_epochs=1, random_state=0).fit(X, y)
    stored = pickle.dumps(clf)
    weights = sum(
        t.numel() * t.element_size() for t in clf._fitted.network.state_dict().values()
    )
    assert 0.9 * weights < len(stored) < 1.1 * weights
    again = pickle.loads(stored)
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    path = Path(tmp_path, "model.joblib")
    joblib.dump(clf, path, compress=1)
    assert path.stat().st_size < 1.1 * weights


def test_encoder_files_are_compared_once_per_encoder(
    make_classifier, texts, monkeypatch
):
    """Loading them takes most of the time."""
    clf = make_classifier(max_epochs=1).fit(*texts)
    n_loaded, original = [], SentenceTransformer.__init__

    def loading(self: Any, *args: Any, **kwargs: Any) -> None:
        n_loaded.append(1)
        original(self, *args, **kwargs)

    monkeypatch.setattr(SentenceTransformer, "__init__", loading)
    for _ in range(3):
        pickle.dumps(clf)
    clf.add_prototypes(["a new good one"], [clf.classes_[0]])
    stored = pickle.dumps(clf)
    assert len(n_loaded) == 1
    again = pickle.loads(stored)
    assert len(n_loaded) == 2
    pickle.dumps(again)
    assert len(n_loaded) == 2


def test_an_error_of_the_disk_is_raised_and_not_remembered(
    make_classifier, texts, monkeypatch
):
    """It does not mean that the files do not describe the encoder."""

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    clf = make_classifier(max_epochs=1).fit(*texts)
    with monkeypatch.context() as patch:
        patch.setattr(SentenceTransformer, "save", full)
        with pytest.raises(OSError, match="No space left"):
            pickle.dumps(clf)
    assert b"_InMemory" not in pickle.dumps(clf)


# skops.


def test_skops_restores_what_pickle_does(make_classifier, texts):
    skops = pytest.importorskip("skops.io")
    clf = make_classifier().fit(*texts)
    clf.remove_prototypes([0])
    stored = skops.dumps(make_pipeline(FunctionTransformer(), clf))
    trusted = ["skprotolm.ProtoLMClassifier"]
    assert skops.get_untrusted_types(data=stored) == trusted
    again = skops.loads(stored, trusted=trusted)[-1]
    assert_same(again, clf, texts[0][:5])
    assert_same(again.undo_edit(), clf.undo_edit(), texts[0][:5])


def test_skops_refuses_an_encoder_that_its_files_do_not_describe(
    make_classifier, texts, tiny_bert
):
    skops = pytest.importorskip("skops.io")
    encoder = copy.deepcopy(tiny_bert)
    layer = encoder[0].auto_model.encoder.layer[1]
    layer.intermediate.intermediate_act_fn = torch.nn.ReLU()
    clf = make_classifier(backbone=encoder, max_epochs=1).fit(*texts)
    clf.backbone = REMOVED
    with pytest.raises(TypeError, match="only pickle can store it"):
        skops.dumps(clf)
