"""The layers of a transformer: which are trained, run alone, or run again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.pytorch_utils import Conv1D

from skprotolm._network.encoder import TextEncoder

# The modules of a matrix. GPT-2 has Conv1D, which stores it transposed.
MATRICES = (nn.Linear, Conv1D)


def transformer_layers(encoder: TextEncoder) -> tuple[str, nn.ModuleList]:
    """Return the name of the list of layers in the encoder, and the list.

    Raises
    ------
    ValueError
        If no list has as many modules as the configuration has layers, or several do:
        then a layer is not one module, or there are an encoder and a decoder.
    """
    config = encoder.transformer.auto_model.config.get_text_config()
    n_layers = getattr(config, "num_hidden_layers", None)
    lists: list[tuple[str, nn.ModuleList]] = []
    for name, module in encoder.named_modules():
        is_inside = any(name.startswith(f"{outer}.") for outer, _ in lists)
        is_list = isinstance(module, nn.ModuleList) and len(module) == n_layers
        if is_list and not is_inside:
            lists.append((name, module))
    if len(lists) != 1:
        raise ValueError(
            f"The layers of the backbone ({encoder.model_type}) are not in one list, "
            f"so that they cannot be told apart; set finetune='full' or 'head', and "
            f"gradient_checkpointing=False."
        )
    return lists[0]


def freeze_all_but_last(encoder: TextEncoder, n_trained: int) -> None:
    """Freeze all weights but those of the last layers.

    What lies outside the layers is frozen, too: relative positions, for example, are
    used by all of them.
    """
    _, layers = transformer_layers(encoder)
    if n_trained > len(layers):
        raise ValueError(
            f"finetune must be at most {len(layers)}, the number of layers of the "
            f"backbone, got {n_trained}."
        )
    lower, last = layers[:-n_trained], layers[-n_trained:]
    if {*map(id, lower.parameters())} & {*map(id, last.parameters())}:
        raise ValueError(
            "The last layers of the backbone share weights with others, which cannot "
            "be frozen; set finetune='full' or 'head'."
        )
    trained = [p for p in last.parameters() if p.requires_grad]
    encoder.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)


def states_of(outputs: list[Any], n_tokens: int) -> Tensor:
    """Return the hidden states (B, T, H) of what a layer has returned in one run.

    Raises
    ------
    ValueError
        If the states would not suffice to run the next layer.
    """
    if len(outputs) == 1:
        [output] = outputs
        states, *rest = output if isinstance(output, tuple) else (output,)
        if states.shape[1] == n_tokens and all(value is None for value in rest):
            return states
    raise ValueError(
        "The layers of the backbone return more than the hidden states of the tokens, "
        "which cannot be stored; set finetune='full' or 'head'."
    )


class _StandIn(nn.Module):
    """Stands for a layer in a copy of an encoder."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer
        self.training = layer.training

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:  # such as the kind of attention, which the model reads
            return getattr(super().__getattr__("layer"), name)


class _Skipped(_StandIn):
    """Returns what a layer has returned before."""

    def __init__(self, layer: nn.Module, output: Any):
        super().__init__(layer)
        self.output = output

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.output


class _Checkpointed(_StandIn):
    """Runs a layer, and again in the backward pass: only its input is kept."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return checkpoint(self.layer, *args, use_reentrant=False, **kwargs)


def resumed(encoder: TextEncoder, path: str, n_lower: int, output: Any) -> TextEncoder:
    """Return the encoder with lower layers that return `output` instead of running.

    The rest of the transformer runs as it is, so that masks and positions are right.

    Parameters
    ----------
    encoder : TextEncoder
    path : str
        The name of its list of layers.
    n_lower : int
    output : Tensor or tuple
        As a layer returns it.
    """
    layers: Any = encoder.get_submodule(path)
    skipped = [_Skipped(layer, output) for layer in layers[:n_lower]]
    return _replaced(encoder, path, skipped)


def checkpointed(encoder: TextEncoder) -> TextEncoder:
    """Return the encoder with layers of whose results only the last ones are kept.

    What transformers has for this leaves a hook in the encoder, and not all of its
    models have it, such as MPNet.
    """
    path, layers = transformer_layers(encoder)
    return _replaced(encoder, path, [_Checkpointed(layer) for layer in layers])


def is_checkpointed_by_transformers(encoder: TextEncoder) -> bool:
    """Whether the user has called `gradient_checkpointing_enable`."""
    modules = encoder.modules()
    return any(getattr(module, "gradient_checkpointing", False) for module in modules)


def _replaced(encoder: TextEncoder, path: str, layers: Sequence[_StandIn]) -> Any:
    """Return the encoder with other first layers.

    The given encoder is not changed, whenever Ctrl-C comes: the modules that contain
    the layers are copied, and share all others and all weights with it.
    """
    copied: Any = _shallow(encoder)
    module = copied
    for name in path.split("."):
        module._modules[name] = _shallow(module._modules[name])
        module = module._modules[name]
    for i, layer in enumerate(layers):
        module._modules[str(i)] = layer
    return copied


def _shallow(module: nn.Module) -> nn.Module:
    copied = type(module).__new__(type(module))
    vars(copied).update(vars(module), _modules=dict(module._modules))
    return copied
