"""Pickles, joblib's files and copies: the same model, anywhere, and nothing else."""

from __future__ import annotations

import copy
import io
import os
import pickle
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
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
from tokenizers import normalizers

from skprotolm import ProtoLMClassifier
from skprotolm._network.encoder import load_encoder, load_folder
from skprotolm._saving.pickling import pack, unpack
from tests.conftest import make_texts
from tests.tiny import KINDS, make_encoder


def by_joblib(compress: int) -> Callable[[Any], Any]:
    def round_trip(estimator: Any) -> Any:
        file = io.BytesIO()
        joblib.dump(estimator, file, compress=compress)
        file.seek(0)
        return joblib.load(file)

    return round_trip


ROUND_TRIPS = {
    "pickle": lambda estimator: pickle.loads(pickle.dumps(estimator)),
    "pickle twice": lambda e: pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(e)))),
    "joblib": by_joblib(0),
    "joblib, compressed": by_joblib(3),
    "cloudpickle": lambda e: cloudpickle.loads(cloudpickle.dumps(e)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


@pytest.fixture(params=ROUND_TRIPS)
def round_trip(request) -> Callable[[Any], Any]:
    return ROUND_TRIPS[request.param]


def assert_same(again: ProtoLMClassifier, clf: ProtoLMClassifier, X: Any) -> None:
    for method in ("predict", "predict_proba", "decision_function", "transform"):
        found, expected = getattr(again, method)(X), getattr(clf, method)(X)
        np.testing.assert_array_equal(found, expected, err_msg=method)
        assert found.dtype == expected.dtype
    assert again.explain(X).to_dict() == clf.explain(X).to_dict()
    assert again.prototypes_.to_dict() == clf.prototypes_.to_dict()
    np.testing.assert_array_equal(again.prototypes_.vectors, clf.prototypes_.vectors)
    assert again.history_ == clf.history_
    assert again.n_iter_ == clf.n_iter_
    assert again.classes_.tolist() == clf.classes_.tolist()
    assert again.classes_.dtype == clf.classes_.dtype


# --- Round trips.


def test_an_unfitted_estimator_survives(round_trip):
    clf = ProtoLMClassifier("a name", n_prototypes={"a": 1}, random_state=3)
    again = round_trip(clf)
    assert type(again) is ProtoLMClassifier
    assert again.get_params() == clf.get_params()
    assert vars(again).keys() == vars(clf).keys()


def test_a_fitted_estimator_survives(round_trip, fitted, texts):
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
def test_every_kind_of_fit_survives(make_classifier, texts, parameters):
    clf = make_classifier(**{"n_prototypes": 2, "max_epochs": 1, **parameters})
    clf.fit(*texts)
    assert_same(pickle.loads(pickle.dumps(clf)), clf, texts[0][:6])


@pytest.mark.parametrize("pairs", [False, True], ids=["texts", "pairs"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_encoder_survives(tmp_path, kind, pairs):
    X, y = make_texts()
    if pairs:
        X = [(text, "so it was") for text in X]
    clf = ProtoLMClassifier(
        make_encoder(kind, tmp_path), n_prototypes=2, max_epochs=1, random_state=0
    ).fit(X, y)
    assert_same(pickle.loads(pickle.dumps(clf)), clf, X[:6])


def test_double_precision_and_prompts_survive(tmp_path):
    X, y = make_texts()
    encoder = make_encoder("bert", tmp_path, dtype=torch.float64)
    encoder.prompts, encoder.default_prompt_name = {"ask": "what a day: "}, "ask"
    clf = ProtoLMClassifier(encoder, n_prototypes=2, max_epochs=1, random_state=0)
    clf.fit(X, y)
    again = pickle.loads(pickle.dumps(clf))
    assert again.prototypes_.vectors.dtype == np.float64
    assert_same(again, clf, [*X[:6], ""])


@pytest.mark.parametrize("labels", [["no", "yes"], [0, 1], [False, True]], ids=str)
def test_labels_survive(make_classifier, texts, labels):
    X, y = texts
    y = np.array(labels)[(y == "pos").astype(int)]
    clf = make_classifier(n_prototypes=1, max_epochs=1).fit(X, y)
    again = pickle.loads(pickle.dumps(clf))
    assert again.predict(X).tolist() == clf.predict(X).tolist()
    assert type(again.prototypes_[0].label) is type(labels[0])


def test_a_pipeline_survives(make_classifier, texts):
    X, y = texts
    pipeline = make_pipeline(FunctionTransformer(), make_classifier(n_prototypes=1))
    pipeline.fit(X, y)
    again = pickle.loads(pickle.dumps(pipeline))
    np.testing.assert_array_equal(again.predict_proba(X), pipeline.predict_proba(X))


def test_what_was_loaded_can_be_fitted_again(make_classifier, texts):
    X, y = texts
    clf = make_classifier(n_prototypes=2).fit(X, y)
    again = pickle.loads(pickle.dumps(clf)).fit(X[:30], y[:30])
    expected = clone(clf).fit(X[:30], y[:30])
    np.testing.assert_array_equal(again.predict_proba(X), expected.predict_proba(X))


def test_the_same_model_is_the_same_file(fitted):
    assert pickle.dumps(fitted) == pickle.dumps(fitted)
    assert joblib.hash(fitted) == joblib.hash(fitted)


def test_a_file_that_stays_on_disk_will_do(fitted, texts, tmp_path):
    joblib.dump(fitted, tmp_path / "model")
    assert_same(joblib.load(tmp_path / "model", mmap_mode="r"), fitted, texts[0][:6])


# --- Elsewhere.

ELSEWHERE = """
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


def test_a_new_process_without_network_or_backbone_predicts_the_same(
    tmp_path, texts, fitted
):
    X, y = texts
    home = tmp_path / "backbone"
    make_encoder("bert", home)
    clf = ProtoLMClassifier(str(home), n_prototypes=2, max_epochs=1, random_state=0)
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
    home.rename(tmp_path / "moved")
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "empty"),
        "OMP_NUM_THREADS": "1",  # another number of threads adds up in another order
    }
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", ELSEWHERE, str(tmp_path)],
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
def test_a_model_loads_where_its_device_is_not(fitted, texts, device):
    state = unpack({**pack(fitted._fitted), "device": device})
    again = copy.copy(fitted)
    again._fitted = state
    found = again.predict_proba(texts[0])
    np.testing.assert_allclose(found, fitted.predict_proba(texts[0]), atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_model_fitted_on_a_gpu_is_stored_without_it(make_classifier, texts):
    clf = make_classifier(device="cuda", n_prototypes=2).fit(*texts)
    again = unpack({**pack(clf._fitted), "device": "cpu"})
    assert again.network.encoder.device.type == "cpu"
    assert clf._fitted.network.encoder.device.type == "cuda"


def test_a_source_tree_that_was_never_installed_stores_models(fitted, monkeypatch):
    """The package itself can be imported so, but had no version to write down."""

    def version(name: str) -> str:
        if name == "skprotolm":
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr("skprotolm._saving.pickling.version", version)
    assert pickle.loads(pickle.dumps(fitted)).n_iter_ == fitted.n_iter_


@pytest.mark.parametrize(
    ("protocol", "remedy"), [(99, "Upgrade"), (1, "Refit the model")]
)
def test_a_file_of_another_format_says_what_to_do(fitted, protocol, remedy):
    """One of an earlier format was a KeyError."""
    payload = {"protocol": protocol, "versions": {"skprotolm": "7.1"}}
    with pytest.raises(ValueError, match=rf"skprotolm 7\.1.*{remedy}"):
        unpack(payload)


# --- What is stored.


def test_only_the_prototypes_texts_are_stored(make_classifier):
    X = [f"secret{i:03} was {'good' if i % 2 else 'bad'} today" for i in range(60)]
    clf = make_classifier(
        n_prototypes=2, early_stopping=True, validation_fraction=0.2, max_epochs=1
    )
    clf.fit(np.array(X), [i % 2 for i in range(60)], sample_weight=np.ones(60))
    stored = pickle.dumps(clf)
    quoted = [i for i in range(60) if f"secret{i:03}".encode() in stored]
    assert quoted == sorted(clf.prototypes_.train_indices.tolist())


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_nothing_of_the_training_is_stored(tmp_path, texts, kind):
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


def test_a_pickle_names_no_class_of_other_packages(fitted):
    """Torch and transformers move their classes; a file must not depend on them."""
    modules = set()

    class Listener(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            modules.add(module.partition(".")[0])
            return super().find_class(module, name)

    Listener(io.BytesIO(pickle.dumps(fitted))).load()
    assert modules <= {"skprotolm", "numpy"}


def test_after_the_fit_no_gradient_is_kept(fitted):
    parameters = list(fitted._fitted.network.parameters())
    assert not any(p.requires_grad for p in parameters)
    assert all(p.grad is None for p in parameters)
    assert not fitted._fitted.network.training


def test_storing_does_not_touch_the_live_model(round_trip, fitted, texts):
    model = fitted._fitted.network
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    places = [t.data_ptr() for t in model.state_dict().values()]
    modes = [module.training for module in model.modules()]
    expected = fitted.predict_proba(texts[0])
    round_trip(fitted).predict(texts[0])
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert [t.data_ptr() for t in model.state_dict().values()] == places
    assert [module.training for module in model.modules()] == modes
    np.testing.assert_array_equal(fitted.predict_proba(texts[0]), expected)


def test_nothing_is_left_in_the_temporary_folder(fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    pickle.loads(pickle.dumps(fitted))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real
def test_a_stored_model_is_as_large_as_its_weights(tmp_path):
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


# --- Encoders that their files do not describe.


def swap_activation(encoder: Any) -> None:
    encoder[0].auto_model.encoder.layer[
        1
    ].intermediate.intermediate_act_fn = torch.nn.ReLU()


def remove_layer(encoder: Any) -> None:
    layers = encoder[0].auto_model.encoder
    layers.layer = layers.layer[:1]


def add_hook(encoder: Any) -> None:
    encoder[0].auto_model.embeddings.register_forward_hook(squash)


def squash(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
    return torch.tanh(output)


class OwnEmbeddings(torch.nn.Module):
    """Embeddings with a parameter more than the configuration knows of."""

    def __init__(self, inner: Any):
        super().__init__()
        self.inner = inner
        self.scale = torch.nn.Parameter(torch.tensor(3.0))

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self.scale * self.inner(*args, **kwargs)


def own_module(encoder: Any) -> None:
    model = encoder[0].auto_model
    model.embeddings = OwnEmbeddings(model.embeddings)


def keep_capitals(encoder: Any) -> None:
    encoder.tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=False
    )


CHANGES = [swap_activation, remove_layer, add_hook, own_module]


@pytest.mark.parametrize("change", [*CHANGES, keep_capitals])
def test_an_encoder_that_was_changed_by_hand_is_loaded_as_it_was(
    round_trip, change, make_classifier, texts, tiny_bert
):
    """The files were taken to describe it, and another model was loaded silently."""
    encoder = copy.deepcopy(tiny_bert)
    change(encoder)
    clf = make_classifier(backbone=encoder, max_epochs=1).fit(*texts)
    clf.backbone = "the fitted model, and not this parameter, is what is tested"
    again = round_trip(clf)
    X = [*texts[0], "a GOOD day with no End"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # capitals may be unknown
        found, expected = again.predict_proba(X), clf.predict_proba(X)
    np.testing.assert_array_equal(found, expected)
    assert clf.prototypes_.to_dict() == again.prototypes_.to_dict()


@pytest.mark.parametrize("change", CHANGES)
def test_files_alone_would_load_another_model(change, tmp_path, texts, tiny_bert):
    """Or none. Without this the test above would say nothing."""
    encoder = copy.deepcopy(tiny_bert)
    change(encoder)
    encoder.save(str(tmp_path), create_model_card=False)
    X = texts[0][:5]
    try:
        loaded = SentenceTransformer(str(tmp_path), device="cpu", local_files_only=True)
    except Exception:
        return
    assert np.abs(loaded.encode(X) - encoder.encode(X)).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_at_which_a_tokenizer_cuts_is_kept(kind, texts, tmp_path):
    """Prototypes' texts, which are not cut, did not show that it was lost."""
    encoder = make_encoder(kind, tmp_path)
    encoder.tokenizer.truncation_side = "left"
    clf = ProtoLMClassifier(
        encoder, n_prototypes=2, max_epochs=1, finetune="head", random_state=0
    ).fit(*texts)
    again = pickle.loads(pickle.dumps(clf))
    long = ["good " * 50 + "bad " * 50]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, expected = again.predict_proba(long), clf.predict_proba(long)
    np.testing.assert_array_equal(found, expected)


def test_parametrized_weights_are_refused_with_a_way_on(
    make_classifier, texts, tiny_bert
):
    encoder = copy.deepcopy(tiny_bert)
    torch.nn.utils.parametrizations.orthogonal(encoder[0].auto_model.pooler.dense)
    clf = make_classifier(backbone=encoder, max_epochs=1).fit(*texts)
    clf.backbone = "the fitted model, and not this parameter, is what is tested"
    with pytest.raises(TypeError, match="remove_parametrizations"):
        pickle.dumps(clf)


def test_files_are_compared_once_per_encoder(make_classifier, texts, monkeypatch):
    clf = make_classifier(max_epochs=1).fit(*texts)
    loaded: list[Path] = []

    def counting(folder: Path) -> Any:
        loaded.append(folder)
        return load_folder(folder)

    monkeypatch.setattr("skprotolm._saving.pickling.load_folder", counting)
    for _ in range(3):
        pickle.dumps(clf)
    clf.add_prototypes(["a new good one"], [clf.classes_[0]])
    stored = pickle.dumps(clf)
    assert len(loaded) == 1
    again = pickle.loads(stored)
    assert len(loaded) == 2
    pickle.dumps(again)
    assert len(loaded) == 2


def test_an_error_of_the_disk_is_not_one_of_the_encoder(
    make_classifier, texts, monkeypatch
):
    """The module itself was stored from then on."""

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    clf = make_classifier(max_epochs=1).fit(*texts)
    with monkeypatch.context() as patch:
        patch.setattr("skprotolm._saving.pickling.save_folder", full)
        with pytest.raises(OSError, match="No space left"):
            pickle.dumps(clf)
    assert b"_InMemory" not in pickle.dumps(clf)


def wrap(encoder: Any, model: Any) -> None:
    """Put another model into the first module of a SentenceTransformer."""
    modules = encoder[0]._modules
    modules["model" if "model" in modules else "auto_model"] = model


def adapted(tiny_bert: Any, how: str) -> Any:
    peft = pytest.importorskip("peft")
    encoder = copy.deepcopy(tiny_bert)
    more = {"modules_to_save": ["pooler"]} if how == "wrapped, and more saved" else {}
    config = peft.LoraConfig(r=4, target_modules=["query", "value"], **more)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transformers, about peft
        if how.startswith("wrapped"):
            wrap(encoder, peft.get_peft_model(encoder[0].auto_model, config))
        else:
            peft.inject_adapter_in_model(config, encoder[0].auto_model)
    return encoder


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of transformers, about peft
@pytest.mark.parametrize("how", ["wrapped", "wrapped, and more saved", "injected"])
def test_adapters_of_peft_are_merged(how, make_classifier, texts, tiny_bert):
    """Accuracy was .770 before saving and .595 after it."""
    encoder = adapted(tiny_bert, how)
    clf = make_classifier(backbone=encoder, learning_rate=0.05).fit(*texts)
    clf.backbone = "the fitted model, and not this parameter, is what is tested"
    assert b"peft" not in pickle.dumps(clf)
    assert_same(pickle.loads(pickle.dumps(clf)), clf, texts[0][:5])
    learned = dict(clf._fitted.network.encoder.named_parameters())
    before = dict(load_encoder(tiny_bert, None).named_parameters())
    assert learned.keys() == before.keys()
    moved = {name for name in learned if not torch.equal(learned[name], before[name])}
    assert moved
    assert all(re.search(r"\.(query|value)\.|pooler", name) for name in moved)
    clf.explain(texts[0][:1], token_method="relevance")


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_adapters_that_are_switched_off_stay_so(make_classifier, texts, tiny_bert):
    """They were merged, which moved every vector after the training."""
    encoder = adapted(tiny_bert, "wrapped")
    for name, weights in encoder.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights)
    encoder[0].auto_model.base_model.disable_adapter_layers()
    settings = {"finetune": "head", "max_epochs": 1}
    clf = make_classifier(backbone=encoder, **settings).fit(*texts)
    plain = make_classifier(backbone=tiny_bert, **settings).fit(*texts)
    X = texts[0]
    np.testing.assert_allclose(clf.predict_proba(X), plain.predict_proba(X), atol=1e-6)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:Token type ids")
@pytest.mark.parametrize("tuning", ["PromptTuningConfig", "PrefixTuningConfig"])
def test_prefixes_are_kept_and_prompts_refused(
    make_classifier, texts, tiny_bert, tuning
):
    """Prefixes were dropped at the end of the fit."""
    peft = pytest.importorskip("peft")
    config = getattr(peft, tuning)(num_virtual_tokens=3, task_type="FEATURE_EXTRACTION")
    encoder = copy.deepcopy(tiny_bert)
    wrap(encoder, peft.get_peft_model(encoder[0].auto_model, config))
    clf = make_classifier(backbone=encoder, max_epochs=1)
    if tuning == "PromptTuningConfig":
        with pytest.raises(
            ValueError, match=r"vectors for .* tokens; .* prompt tuning"
        ):
            clf.fit(*texts)
        return
    clf.fit(*texts)
    clf.backbone = "the fitted model, and not this parameter, is what is tested"
    assert "Peft" in type(clf._fitted.network.encoder.transformer.auto_model).__name__
    again = pickle.loads(pickle.dumps(clf))
    X = texts[0]
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))


# --- skops.


def test_skops_stores_what_pickle_does(make_classifier, texts):
    """Its RecursionError came from the way in which states were pickled."""
    skops = pytest.importorskip("skops.io")
    clf = make_classifier().fit(*texts)
    clf.remove_prototypes([0])
    stored = skops.dumps(make_pipeline(FunctionTransformer(), clf))
    trusted = ["skprotolm.ProtoLMClassifier"]
    assert skops.get_untrusted_types(data=stored) == trusted
    again = skops.loads(stored, trusted=trusted)[-1]
    assert_same(again, clf, texts[0][:5])
    assert_same(again.undo_edit(), clf.undo_edit(), texts[0][:5])


def test_skops_refuses_what_it_could_not_load(make_classifier, texts, tiny_bert):
    skops = pytest.importorskip("skops.io")
    encoder = copy.deepcopy(tiny_bert)
    swap_activation(encoder)
    clf = make_classifier(backbone=encoder, max_epochs=1).fit(*texts)
    clf.backbone = "the fitted model, and not this parameter, is what is tested"
    with pytest.raises(TypeError, match="only pickle can store it"):
        skops.dumps(clf)
