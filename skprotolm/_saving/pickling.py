"""A fitted state to plain files, arrays and values, and back.

A pickle holds no class of torch, transformers or sentence-transformers: the encoder
travels as the files that sentence-transformers saves (safetensors, JSON), the head
as NumPy arrays. It therefore loads on any device, without the network, and does not
depend on where those libraries keep their classes.

Only where these files do not describe the encoder in memory, such as one with a layer
that was exchanged by hand, the SentenceTransformer itself is stored in their place.
"""

from __future__ import annotations

import copy
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from skprotolm._data.texts import Columns, Texts
from skprotolm._data.words import dump_text, load_text
from skprotolm._fitted import FittedModel
from skprotolm._network.encoder import TextEncoder
from skprotolm._network.engines import with_engine
from skprotolm._network.loading import load_folder, save_folder
from skprotolm._network.mixture import MixtureLayer
from skprotolm._network.network import Network, evaluating
from skprotolm._network.pooling import TokenAttention
from skprotolm._network.proto_lm import InverseDistanceLayer
from skprotolm._network.prototypes import PrototypeLayer
from skprotolm._records.memory import Memory
from skprotolm._records.quotes import Quotes
from skprotolm._runtime import isolated_torch, resolve_device, seeded
from skprotolm._tasks.base import Task
from skprotolm._tasks.classification import ClassificationTask
from skprotolm._tasks.multilabel import MultilabelTask
from skprotolm._tasks.regression import RegressionTask
from skprotolm._tasks.tagging import TaggingTask

_PROTOCOL = 5
_LAYERS = {layer.__name__: layer for layer in (MixtureLayer, InverseDistanceLayer)}
_TASKS = {
    task.__name__: task
    for task in (ClassificationTask, MultilabelTask, RegressionTask, TaggingTask)
}
_COMPARED = 8  # texts by which an encoder and what its files describe are compared
_TOLERANCE = 1e-6  # of their vectors' lengths
_RECORDED = ("skprotolm", "torch", "transformers", "sentence-transformers")


def pack(model: FittedModel) -> dict[str, Any]:
    """Turn a model into bytes, arrays and plain values, if files describe it."""
    network, encoder = model.network, model.network.encoder
    texts: Any = list(model.quotes.texts[:_COMPARED])
    return {
        "protocol": _PROTOCOL,
        "versions": {name: _version(name) for name in _RECORDED},
        "encoder": _pack_encoder(encoder, texts),
        "engine": encoder.pack_engine(),
        "max_length": encoder.max_length,
        "long_text": encoder.tokenizer.long_text,
        "attention": _arrays(network.attention),
        "layer": _pack_layer(network.layer),
        "quotes": _pack_quotes(model.quotes),
        "task": {"kind": type(model.task).__name__, **vars(model.task)},
        "columns": tuple(model.columns),
        "batch_size": model.batch_size,
        "bf16": model.bf16,
        "device": model.device,
        "novelty_limit": model.novelty_limit,
        "memory": None if model.memory is None else dict(vars(model.memory)),
        "further": model.further,
        "edits": model.edits,
        "undo": [
            (_pack_layer(layer), _pack_quotes(quotes)) for layer, quotes in model.undo
        ],
    }


def unpack(payload: dict[str, Any]) -> FittedModel:
    """Build a model from what `pack` returned, on a device that is available."""
    if payload["protocol"] != _PROTOCOL:
        newer = payload["protocol"] > _PROTOCOL
        raise ValueError(
            f"The model was saved by skprotolm {payload['versions']['skprotolm']} in "
            f"format {payload['protocol']}, and this version reads {_PROTOCOL}. "
            f"{'Upgrade skprotolm to load it' if newer else 'Refit the model'}."
        )
    device = _available(payload["device"])
    # Loading draws random weights before the stored ones are put in. Nothing else is
    # computed, so that torch starts no threads: see `PrototypeLayer.from_arrays`.
    with (
        isolated_torch(),
        torch.inference_mode(False),
        seeded(0, torch.device("cpu")),
    ):
        encoder = _encoder(
            payload["encoder"],
            payload["max_length"],
            payload.get("long_text", "truncate"),  # which older files lack
        )
        encoder = with_engine(encoder, payload.get("engine"))  # older files have none
        layer = _layer(payload["layer"])
        with torch.device("meta"):
            attention = TokenAttention(layer.vectors.shape[1])
        attention.load_state_dict(_tensors(payload["attention"]), assign=True)
    network = Network(encoder, attention, layer)
    return FittedModel(
        network=network.to(device).eval().requires_grad_(False),
        task=_task(payload["task"]),
        quotes=_quotes(payload["quotes"]),
        columns=Columns(*payload["columns"][:2]),
        batch_size=payload["batch_size"],
        bf16=payload["bf16"],
        device=payload["device"],
        novelty_limit=payload["novelty_limit"],
        memory=_memory(payload.get("memory")),  # earlier versions kept none
        further=payload.get("further", (0, 0)),  # which older files lack
        edits=payload["edits"],
        undo=tuple(
            (_layer(layer).to(device), _quotes(quotes))
            for layer, quotes in payload["undo"]
        ),
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # imported from a source tree that is not installed
        return "unknown"


class _InMemory:
    """A SentenceTransformer that its files do not describe, as a part of a pickle."""

    def __init__(self, model: Any):
        self.model = model

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _InMemory, (self.model,)

    def __reduce__(self) -> tuple[Any, ...]:  # of skops, which could not load it
        raise TypeError(
            "The backbone has layers that its configuration does not describe, so that "
            "only pickle can store it: use joblib.dump or pickle.dump."
        )


def _pack_encoder(encoder: TextEncoder, texts: Texts) -> Any:
    """Return the encoder's files by name, or the SentenceTransformer itself.

    sentence-transformers takes for granted that the configuration describes the
    module in memory. It does not where an activation was exchanged, layers were
    removed, or the module is the user's own: the files would load as another model.
    """
    if encoder.is_described is not False:
        with TemporaryDirectory() as folder:
            if _save(encoder, Path(folder), texts):
                return {
                    path.relative_to(folder).as_posix(): path.read_bytes()
                    for path in sorted(Path(folder).rglob("*"))
                    if path.is_file()
                }
    model = encoder.sentence_transformer
    if any(map(is_parametrized, model.modules())):
        raise TypeError(
            "The backbone has parametrized weights, which torch does not pickle; call "
            "torch.nn.utils.parametrize.remove_parametrizations on its modules before "
            "fit."
        )
    if encoder.device.type != "cpu":  # a file must load without that device
        model = copy.deepcopy(model).cpu()
    return _InMemory(model)


def _save(encoder: TextEncoder, folder: Path, texts: Texts) -> bool:
    """Save an encoder, and return whether its files describe it."""
    try:
        save_folder(encoder.sentence_transformer, folder)
        if encoder.is_described is None:
            encoder.is_described = _is_described(encoder, folder, texts)
    except (OSError, MemoryError):  # these say nothing about the encoder
        raise
    except Exception as error:  # libraries, and a user's own module, have their own
        if isinstance(error.__cause__, (OSError, MemoryError)):
            raise
        encoder.is_described = False
    return bool(encoder.is_described)


@isolated_torch()
def _is_described(encoder: TextEncoder, folder: Path, texts: Texts) -> bool:
    """Load an encoder's files, and compare with it what they give."""
    with torch.inference_mode(False), seeded(0, torch.device("cpu")):
        loaded = TextEncoder(
            load_folder(folder), encoder.max_length, encoder.tokenizer.long_text
        )
    ours, theirs = _weights(encoder), _weights(loaded)
    if ours.keys() != theirs.keys():
        return False
    if not all(torch.equal(ours[name].cpu(), theirs[name]) for name in ours):
        return False
    if encoder.tokenizer.definition != loaded.tokenizer.definition:
        return False
    tokenized = encoder.tokenize(texts, quiet=True)
    batch = encoder.tokenizer.collate(tokenized, np.arange(len(texts)))
    # Our modules over the weights that were loaded, which are on the CPU.
    same = {id(ours[name]): theirs[name] for name in ours}
    twin = copy.deepcopy(encoder, same)
    with torch.inference_mode(), evaluating(twin), evaluating(loaded):
        h = loaded(batch, bf16=False)[batch["content_mask"]]
        gap = twin(batch, bf16=False)[batch["content_mask"]] - h
    return bool(gap.norm() <= _TOLERANCE * h.norm())


def _weights(encoder: TextEncoder) -> dict[str, Tensor]:
    """Return what the transformer computes with; what it holds twice counts once."""
    module = encoder.transformer
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _encoder(packed: Any, max_length: int, long_text: str) -> TextEncoder:
    if isinstance(packed, _InMemory):
        encoder = TextEncoder(packed.model, max_length, long_text)
        encoder.is_described = False
        return encoder
    with TemporaryDirectory() as folder:
        for name, content in packed.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        encoder = TextEncoder(load_folder(Path(folder)), max_length, long_text)
    encoder.is_described = True
    return encoder


def _pack_layer(layer: PrototypeLayer) -> dict[str, Any]:
    return {
        "kind": type(layer).__name__,
        "options": layer.options(),
        "arrays": _arrays(layer),
    }


def _layer(packed: dict[str, Any]) -> PrototypeLayer:
    layer: type[PrototypeLayer] = _LAYERS[packed["kind"]]
    return layer.from_arrays(_tensors(packed["arrays"]), packed["options"])


def _task(packed: dict[str, Any]) -> Task:
    fields = {name: value for name, value in packed.items() if name != "kind"}
    return _TASKS[packed["kind"]](**fields)


def _memory(packed: dict[str, Any] | None) -> Memory | None:
    return None if packed is None else Memory(**packed)


def _pack_quotes(quotes: Quotes) -> dict[str, Any]:
    packed = {field.name: getattr(quotes, field.name) for field in fields(Quotes)}
    return {**packed, "texts": tuple(map(dump_text, quotes.texts))}


def _quotes(packed: dict[str, Any]) -> Quotes:
    return Quotes(**{**packed, "texts": tuple(map(load_text, packed["texts"]))})


def _arrays(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: t.cpu().numpy() for name, t in module.state_dict().items()}


def _tensors(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.array(a)) for name, a in arrays.items()}


def _available(device: str) -> torch.device:
    try:
        return resolve_device(device)
    except ValueError:  # fitted on a device that this machine does not have
        return resolve_device("auto")
