"""Adapters of peft: added to the encoder, and merged into its weights."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from skprotolm._network.encoder import TextEncoder
from skprotolm._network.layers import MATRICES, transformer_layers
from skprotolm.exceptions import MissingExtraError

_RANK, _ALPHA = 8, 16  # as Hu et al. 2022 chose them for RoBERTa-large


def add_adapters(encoder: TextEncoder) -> None:
    """Add low-rank adapters to the matrices of the layers, and freeze the rest.

    They add (α/r)·B A to a matrix, B being 0 at the start, so that the encoder computes
    what it did before (Hu et al., "LoRA", ICLR 2022).
    """
    from peft import LoraConfig, inject_adapter_in_model

    matrices = adaptable_matrices(encoder)
    config = LoraConfig(
        r=_RANK,
        lora_alpha=_ALPHA,
        target_modules=list(matrices),  # whole names: a suffix would match others, too
        fan_in_fan_out=not isinstance(next(iter(matrices.values())), nn.Linear),
    )
    encoder.requires_grad_(False)
    inject_adapter_in_model(config, encoder)


def hold_in_bf16(encoder: TextEncoder) -> None:
    """Hold adapted weights in bfloat16, in place, if nothing is lost.

    This is so for backbones that are published in bfloat16. Under autocast, which
    rounds the weights anyway, the encoder computes what it did before, bit for bit.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for layer in encoder.modules():
        if isinstance(layer, BaseTunerLayer):
            base: Any = layer.get_base_layer()
            rounded = base.weight.detach().bfloat16()
            if torch.equal(rounded.float(), base.weight):
                base.weight = nn.Parameter(rounded, requires_grad=False)


def adaptable_matrices(encoder: TextEncoder) -> dict[str, nn.Module]:
    """Return the modules that get adapters, by name.

    These are all matrices of the layers whose weights may be trained.

    Raises
    ------
    MissingExtraError
        If peft is not installed.
    ValueError
        If there is none, or there are adapters already.
    """
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "finetune='lora' needs peft; install it with pip install "
            "'skprotolm[lora]', or set finetune to another value."
        ) from error
    from peft.tuners.tuners_utils import BaseTunerLayer

    if any(isinstance(module, BaseTunerLayer) for module in encoder.modules()):
        raise ValueError(
            "finetune='lora' adds adapters, and the backbone has some already; set "
            "finetune='full', which trains those that are there."
        )
    path, layers = transformer_layers(encoder)
    matrices: dict[str, nn.Module] = {
        f"{path}.{name}": module
        for name, module in layers.named_modules(remove_duplicate=False)
        if isinstance(module, MATRICES) and module.weight.requires_grad
    }
    n_distinct = len({id(module.weight) for module in matrices.values()})
    if not 0 < n_distinct == len(matrices):
        raise ValueError(
            "finetune='lora' needs linear layers whose weights may be trained and are "
            "not shared, and the layers of the backbone have none, or share some; set "
            "finetune='full' or 'head'."
        )
    return matrices


def merge_adapters(encoder: nn.Module) -> None:
    """Merge peft's adapters into the weights that they adapt, in place and in fp32.

    The merged architecture matches its configuration: it can be saved and loaded, and
    relevance supports its layers. Disabled adapters are removed. Prompts and prefixes
    stay, because there are no weights to merge them into.
    """
    if "peft" not in sys.modules:
        return
    vars(encoder).pop("peft_config", None)  # which `add_adapters` leaves
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    _replace_modules(encoder, PeftModel, _merged_model)
    _replace_modules(encoder, BaseTunerLayer, _merged_layer)  # outside a PeftModel


def _replace_modules(
    encoder: nn.Module, kind: type, merged: Callable[[Any], nn.Module]
) -> None:
    for module in list(encoder.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, kind):
                module._modules[name] = merged(child)


def _merged_model(model: Any) -> nn.Module:
    """Return what a PeftModel adapts, with merged adapters unless they are disabled."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    if not hasattr(model, "merge_and_unload"):  # prompts and prefixes
        return model
    layers = [m for m in model.modules() if isinstance(m, BaseTunerLayer)]
    is_disabled = any(layer.disable_adapters for layer in layers)
    return model.unload() if is_disabled else model.merge_and_unload()


def _merged_layer(layer: Any) -> nn.Module:
    """Return the matrix of a layer, with merged adapters unless they are disabled."""
    base = layer.get_base_layer()
    if base.weight.dtype == torch.bfloat16:  # from `hold_in_bf16`
        base.weight = nn.Parameter(base.weight.float(), False)
    if not layer.disable_adapters:
        layer.merge()
    return base
