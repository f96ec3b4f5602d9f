"""A fitted state to plain files, arrays and values, and back.

A pickle holds no class of torch, transformers or sentence-transformers: the encoder
travels as the files that sentence-transformers saves (safetensors, JSON), the head
as NumPy arrays. It therefore loads on any device, without the network, and does not
depend on where those libraries keep their classes.
"""

from __future__ import annotations

import copyreg
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from skprotolm._encoder import TextEncoder, load_folder, save_folder
from skprotolm._head import (
    InverseDistanceLayer,
    MixtureLayer,
    PrototypeHead,
    PrototypeLayer,
    TokenAttention,
)
from skprotolm._model import ProtoLM
from skprotolm._prototypes import Prototypes
from skprotolm._runtime import resolve_device, seeded
from skprotolm._state import FittedState

_PROTOCOL = 1
_LAYERS = {layer.__name__: layer for layer in (MixtureLayer, InverseDistanceLayer)}
_RECORDED = ("skprotolm", "torch", "transformers", "sentence-transformers")


def pack(state: FittedState) -> dict[str, Any]:
    """Turn a state into bytes, arrays and plain values."""
    encoder, head = state.model.encoder, state.model.head
    prototypes = state.prototypes
    return {
        "protocol": _PROTOCOL,
        "versions": {name: _version(name) for name in _RECORDED},
        "encoder": _files(encoder),
        "max_length": encoder.max_length,
        "layer": {"kind": type(head.layer).__name__, "options": head.layer.options()},
        "head": {name: t.cpu().numpy() for name, t in head.state_dict().items()},
        "classes": state.classes,
        "prototypes": {f.name: getattr(prototypes, f.name) for f in fields(Prototypes)},
        "n_columns": state.n_columns,
        "batch_size": state.batch_size,
        "bf16": state.bf16,
        "device": state.device,
    }


def unpack(payload: dict[str, Any]) -> FittedState:
    """Build a state from what `pack` gave, on a device that is there."""
    if payload["protocol"] > _PROTOCOL:
        raise ValueError(
            f"The model was saved by skprotolm {payload['versions']['skprotolm']} in "
            f"format {payload['protocol']}; this version reads up to {_PROTOCOL}. "
            f"Upgrade skprotolm to load it."
        )
    device = _available(payload["device"])
    # Modules are built with random weights before the stored ones are put in.
    with seeded(0, torch.device("cpu")):
        encoder = _encoder(payload["encoder"], payload["max_length"])
        head = _head(payload, encoder.dtype)
    model = ProtoLM(encoder, head).to(device).eval().requires_grad_(False)
    return FittedState(
        model=model,
        classes=payload["classes"],
        prototypes=Prototypes(**payload["prototypes"]),
        n_columns=payload["n_columns"],
        batch_size=payload["batch_size"],
        bf16=payload["bf16"],
        device=payload["device"],
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # imported from a source tree that is not installed
        return "unknown"


def _files(encoder: TextEncoder) -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        save_folder(encoder, Path(folder))
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(Path(folder).rglob("*"))
            if path.is_file()
        }


def _encoder(files: dict[str, bytes], max_length: int) -> TextEncoder:
    with TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return TextEncoder(load_folder(Path(folder)), max_length)


def _head(payload: dict[str, Any], dtype: torch.dtype) -> PrototypeHead:
    tensors = {
        name: torch.from_numpy(np.array(a)) for name, a in payload["head"].items()
    }
    vectors, owner = tensors["layer.vectors"], tensors["layer.owner"]
    kind, options = payload["layer"]["kind"], payload["layer"]["options"]
    layer: PrototypeLayer = _LAYERS[kind](
        vectors, owner, len(payload["classes"]), **options
    )
    head = PrototypeHead(TokenAttention(vectors.shape[1]), layer).to(dtype)
    head.load_state_dict(tensors)
    return head


def _available(device: str) -> torch.device:
    try:
        return resolve_device(device)
    except ValueError:  # fitted on a device that this machine does not have
        return resolve_device("auto")


def _reduce(state: FittedState) -> tuple[Any, ...]:
    return unpack, (pack(state),)


copyreg.pickle(FittedState, _reduce)
