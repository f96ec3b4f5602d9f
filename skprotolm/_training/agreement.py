"""A fit in several processes: the same arguments in all, and the same model."""

from __future__ import annotations

import copy
from dataclasses import fields, replace
from typing import Any

import torch
from torch import nn

from skprotolm._config import PARAMETERS, FitConfig
from skprotolm._fitted import FittedModel
from skprotolm._network.encoder import TextEncoder
from skprotolm._network.network import Network
from skprotolm._processes import Processes
from skprotolm._training.callbacks import FitCallbacks
from skprotolm._training.inputs import FitInput

_MAY_DIFFER = ("backbone", "device", "verbose")  # of a backbone, weights are compared
_OF_PROCESS = ("network", "device")  # fields of a model; weights are shared in place


def require_same_fit(
    given: FitInput, config: FitConfig, encoder: TextEncoder, callbacks: FitCallbacks
) -> None:
    """Refuse a fit that is not the same in all processes."""
    if given.processes.size == 1:
        return
    parameters = {
        name: getattr(config, name) for name in PARAMETERS if name not in _MAY_DIFFER
    }
    start = given.start
    given.processes.require_same(
        {
            "X": given.texts,
            "y or sample_weight": (vars(given.task), given.targets),
            **parameters,
            "the precision of 'auto' on its hardware": config.train_bf16,
            "the weights of the backbone": _bytes_of(encoder),
            "the previous fit, which warm_start continues": (
                None if start is None else _bytes_of(start.network)
            ),
            "the callbacks": callbacks.names,
        }
    )


def _bytes_of(module: nn.Module) -> list[Any]:
    tensors = [*module.parameters(), *module.buffers()]
    return [t.detach().flatten().view(torch.uint8).cpu().numpy() for t in tensors]


def model_of_first(processes: Processes, model: FittedModel) -> FittedModel:
    """Return the model of the first process, bit for bit.

    Machines differ in how they round.
    """
    if processes.size == 1:
        return model
    encoder, attention = model.network.encoder, model.network.attention
    processes.share(encoder)
    processes.share(attention)
    layer = copy.deepcopy(model.network.layer).cpu()
    learned = {
        field.name: getattr(model, field.name)
        for field in fields(model)
        if field.name not in _OF_PROCESS
    }
    layer, learned = processes.agree((layer, learned))
    network = Network(encoder, attention, layer.to(encoder.device)).eval()
    return replace(model, network=network, **learned)
