"""The layers of a transformer: which are trained, and running the last ones alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from skprotolm._network.encoder import TextEncoder


def transformer_layers(encoder: TextEncoder) -> nn.ModuleList:
    """Return the layers of the transformer, the lowest first."""
    model = encoder.transformer.auto_model
    n_layers = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == n_layers:
            return module
    raise ValueError(
        f"The backbone ({encoder.model_type}) has no list of layers of which the last "
        f"ones could be trained; set finetune='full' or 'head'."
    )


def train_last_layers(encoder: TextEncoder, n_trained: int) -> None:
    """Freeze all weights but those of the last layers.

    What lies outside the layers stays frozen, too: relative positions, for example,
    are used by all of them.
    """
    layers = transformer_layers(encoder)
    if n_trained > len(layers):
        raise ValueError(
            f"finetune must be at most {len(layers)}, the number of layers of the "
            f"backbone, got {n_trained}."
        )
    trained = [p for p in layers[-n_trained:].parameters() if p.requires_grad]
    encoder.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)


@contextmanager
def recorded_output(layer: nn.Module) -> Iterator[list[Any]]:
    """Collect what a layer returns."""
    outputs: list[Any] = []
    handle = layer.register_forward_hook(lambda *args: outputs.append(args[2]))
    try:
        yield outputs
    finally:
        handle.remove()


def states_of(output: Tensor | tuple[Any, ...]) -> Tensor:
    """Return the hidden states (B, T, H) of a layer's output.

    Raises
    ------
    ValueError
        If the layers above need more of it.
    """
    if isinstance(output, Tensor):
        return output
    if any(value is not None for value in output[1:]):
        raise ValueError(
            "The layers of the backbone return more than hidden states, which cannot "
            "be kept; set finetune='full' or 'head'."
        )
    return output[0]


@contextmanager
def skipped(layers: nn.ModuleList, output: Any) -> Iterator[None]:
    """Make layers return `output` without computing anything.

    The transformer runs as it is, so that masks, positions and the kind of each layer
    are those of the layers that do run.
    """
    before = [vars(layer).get("forward") for layer in layers]
    for layer in layers:
        vars(layer)["forward"] = lambda *args, **kwargs: output
    try:
        yield
    finally:
        for layer, forward in zip(layers, before, strict=True):
            del vars(layer)["forward"]
            if forward is not None:
                vars(layer)["forward"] = forward
