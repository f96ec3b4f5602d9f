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
from torch import Tensor, nn

from skprotolm._encoder import TextEncoder, load_folder, save_folder
from skprotolm._head import (
    InverseDistanceLayer,
    MixtureLayer,
    PrototypeHead,
    PrototypeLayer,
    TokenAttention,
)
from skprotolm._inputs import Columns
from skprotolm._model import ProtoLM
from skprotolm._prototypes import Quotes
from skprotolm._runtime import resolve_device, seeded, undisturbed
from skprotolm._state import FittedState, Undo

_PROTOCOL = 2
_LAYERS = {layer.__name__: layer for layer in (MixtureLayer, InverseDistanceLayer)}
_RECORDED = ("skprotolm", "torch", "transformers", "sentence-transformers")


def pack(state: FittedState) -> dict[str, Any]:
    """Turn a state into bytes, arrays and plain values."""
    encoder, head = state.model.encoder, state.model.head
    return {
        "protocol": _PROTOCOL,
        "versions": {name: _version(name) for name in _RECORDED},
        "encoder": _files(encoder),
        "max_length": encoder.max_length,
        "attention": _arrays(head.attention),
        "layer": _pack_layer(head.layer),
        "quotes": _pack_quotes(state.quotes),
        "classes": state.classes,
        "columns": tuple(state.columns),
        "batch_size": state.batch_size,
        "bf16": state.bf16,
        "device": state.device,
        "edits": state.edits,
        "undo": [
            (_pack_layer(undo.layer), _pack_quotes(undo.quotes), undo.edit)
            for undo in state.undo
        ],
    }


def unpack(payload: dict[str, Any]) -> FittedState:
    """Build a state from what `pack` gave, on a device that is there."""
    if payload["protocol"] != _PROTOCOL:
        newer = payload["protocol"] > _PROTOCOL
        raise ValueError(
            f"The model was saved by skprotolm {payload['versions']['skprotolm']} in "
            f"format {payload['protocol']}, and this version reads {_PROTOCOL}. "
            f"{'Upgrade skprotolm to load it' if newer else 'Fit it anew'}."
        )
    device = _available(payload["device"])
    # Modules are built with random weights before the stored ones are put in.
    with (
        undisturbed(),
        torch.inference_mode(False),
        seeded(0, torch.device("cpu")),
    ):
        encoder = _encoder(payload["encoder"], payload["max_length"])
        layer = _layer(payload["layer"])
        attention = TokenAttention(layer.vectors.shape[1]).to(encoder.dtype)
    attention.load_state_dict(_tensors(payload["attention"]))
    head = PrototypeHead(attention, layer)
    model = ProtoLM(encoder, head).to(device).eval().requires_grad_(False)
    return FittedState(
        model=model,
        classes=payload["classes"],
        quotes=Quotes(**payload["quotes"]),
        columns=Columns(*payload["columns"]),
        batch_size=payload["batch_size"],
        bf16=payload["bf16"],
        device=payload["device"],
        edits=payload["edits"],
        undo=tuple(
            Undo(_layer(layer).to(device), Quotes(**quotes), edit)
            for layer, quotes, edit in payload["undo"]
        ),
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


def _pack_layer(layer: PrototypeLayer) -> dict[str, Any]:
    return {
        "kind": type(layer).__name__,
        "n_classes": layer.n_classes,
        "options": layer.options(),
        "arrays": _arrays(layer),
    }


def _layer(packed: dict[str, Any]) -> PrototypeLayer:
    tensors = _tensors(packed["arrays"])
    layer: PrototypeLayer = _LAYERS[packed["kind"]](
        tensors["vectors"], tensors["owner"], packed["n_classes"], **packed["options"]
    )
    layer.load_state_dict(tensors)
    return layer.eval().requires_grad_(False)


def _pack_quotes(quotes: Quotes) -> dict[str, Any]:
    return {field.name: getattr(quotes, field.name) for field in fields(Quotes)}


def _arrays(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: t.cpu().numpy() for name, t in module.state_dict().items()}


def _tensors(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.array(a)) for name, a in arrays.items()}


def _available(device: str) -> torch.device:
    try:
        return resolve_device(device)
    except ValueError:  # fitted on a device that this machine does not have
        return resolve_device("auto")


def _reduce(state: FittedState) -> tuple[Any, ...]:
    return unpack, (pack(state),)


copyreg.pickle(FittedState, _reduce)
