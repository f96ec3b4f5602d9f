"""Adapters of peft: added to the encoder, and merged into its weights."""

from __future__ import annotations

import sys

from torch import nn

from skprotolm._network.encoder import TextEncoder
from skprotolm._network.layers import transformer_layers
from skprotolm.exceptions import MissingExtraError

_RANK, _ALPHA = 8, 16  # as Hu et al. 2022 chose them for RoBERTa-large


def add_adapters(encoder: TextEncoder) -> None:
    """Add low-rank adapters to all matrices of the layers, and freeze the rest.

    They add (α/r)·B A to a matrix, B being 0 at the start, so that the encoder computes
    what it did before (Hu et al., "LoRA", ICLR 2022).

    Raises
    ------
    MissingExtraError
        If peft is not installed.
    ValueError
        If the encoder has adapters already.
    """
    require_peft()
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.tuners_utils import BaseTunerLayer
    from transformers.pytorch_utils import Conv1D

    if any(isinstance(module, BaseTunerLayer) for module in encoder.modules()):
        raise ValueError(
            "finetune='lora' adds adapters, and the backbone has some already; set "
            "finetune='full', which trains those that are there."
        )
    names = {id(module): name for name, module in encoder.named_modules()}
    matrices = [
        module
        for module in transformer_layers(encoder).modules()
        if isinstance(module, (nn.Linear, Conv1D))
    ]
    config = LoraConfig(
        r=_RANK,
        lora_alpha=_ALPHA,
        target_modules=[names[id(module)] for module in matrices],
        fan_in_fan_out=isinstance(matrices[0], Conv1D),  # as GPT-2 stores them
    )
    encoder.requires_grad_(False)
    inject_adapter_in_model(config, encoder)


def require_peft() -> None:
    """Raise an error that says how to install peft, if it is missing."""
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "finetune='lora' needs peft; install it with pip install "
            "'skprotolm[lora]', or set finetune to another value."
        ) from error


def merge_adapters(encoder: nn.Module) -> None:
    """Merge peft's adapters into the weights that they adapt, in place.

    The merged architecture matches its configuration: it can be saved and loaded, and
    relevance supports its layers. Disabled adapters are removed. Prompts and prefixes
    stay, because there are no weights to merge them into.
    """
    if "peft" not in sys.modules:
        return
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in list(encoder.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, PeftModel) and hasattr(child, "merge_and_unload"):
                layers = [m for m in child.modules() if isinstance(m, BaseTunerLayer)]
                disabled = any(layer.disable_adapters for layer in layers)
                merged = child.unload() if disabled else child.merge_and_unload()
                module._modules[name] = merged
    for module in list(encoder.modules()):  # adapters without a PeftModel
        for name, child in list(module.named_children()):
            if isinstance(child, BaseTunerLayer) and isinstance(child, nn.Module):
                if not child.disable_adapters:
                    child.merge()
                setattr(module, name, child.get_base_layer())
