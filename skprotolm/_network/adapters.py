"""Adapters of peft, merged into the weights of the encoder."""

from __future__ import annotations

import sys

from torch import nn


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
