"""Matrices in 8 bits: a transformer whose export multiplies integers.

Weights have a scale per output channel, activations one per token: with the range of a
batch, the predictions of a text would depend on the other texts of its batch.

Few channels of the activations are much larger than all others and would take the range
for themselves. As in SmoothQuant (Xiao et al., ICML 2023), each channel is divided by a
factor, by which its weights are multiplied.

Letters: C input channels, O output channels.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from skprotolm._network.layers import MATRICES
from skprotolm._network.tokenized import TokenBatch

# How far factors even out activations (1) rather than weights (0).
_SMOOTHING = 0.5
_SMALLEST = 1e-5


class _InputStatistics:
    """Largest sizes and sums of the channels of what a matrix reads, over n tokens."""

    def __init__(self, n_channels: int):
        self.largest = torch.zeros(n_channels)
        self.sum = torch.zeros(n_channels)
        self.n = 0

    def update(self, module: nn.Module, args: Any) -> None:
        """Read one batch; this is a hook."""
        x = args[0].flatten(0, -2)
        self.largest = torch.maximum(self.largest, x.abs().amax(dim=0))
        self.sum += x.sum(dim=0)
        self.n += len(x)


class _Int8Matrix(nn.Module):
    """A linear layer that torch exports as a product of 8-bit integers.

    Parameters
    ----------
    weight : Tensor of shape (C, O)
    bias : Tensor of shape (O,), or None
    inputs : _InputStatistics
    largest : int
        The largest integer of a weight.
    """

    factors: Tensor
    weight: Tensor
    scales: Tensor
    sums: Tensor
    bias: Tensor
    one: Tensor
    zero: Tensor

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        inputs: _InputStatistics,
        largest: int,
    ):
        super().__init__()
        factors = _factors(weight, inputs)
        smoothed = weight * factors[:, None]
        scales = (smoothed.abs().amax(dim=0) / largest).clamp_min(1e-12)
        integers = (smoothed / scales).round()
        rounded = integers * scales
        # Rounding the weights does not change the mean output.
        shift = (inputs.sum / inputs.n / factors) @ (smoothed - rounded)
        self.register_buffer("factors", 1 / factors)
        self.register_buffer("weight", integers.to(torch.int8))
        self.register_buffer("scales", scales)
        self.register_buffer("sums", rounded.sum(dim=0))
        self.register_buffer("bias", shift if bias is None else bias + shift)
        self.register_buffer("one", torch.tensor(1.0))
        self.register_buffer("zero", torch.tensor(0, dtype=torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.factors
        low, high = x.amin(dim=-1, keepdim=True), x.amax(dim=-1, keepdim=True)
        scale = (high - low).clamp_min(_SMALLEST) / 255
        x = (x - low) * (1 / scale)
        # The engines find the product of integers by the scales around it.
        integers = _onnx("Quantize", x, self.one, self.zero, dtype=torch.uint8)
        x = _onnx("Dequantize", integers, self.one, self.zero, dtype=x.dtype)
        weight = _onnx("Dequantize", self.weight, self.scales, dtype=x.dtype)
        return (x @ weight) * scale + low * self.sums + self.bias


def _onnx(name: str, x: Tensor, *ranges: Any, dtype: torch.dtype) -> Tensor:
    """Stand for an operator of ONNX, along the last axis."""
    return torch.onnx.ops.symbolic(
        f"{name}Linear", (x, *ranges), {"axis": x.ndim - 1}, dtype=dtype, shape=x.shape
    )


def _factors(weight: Tensor, inputs: _InputStatistics) -> Tensor:
    """Return by how much each channel is divided, (C,)."""
    activations = inputs.largest.clamp_min(_SMALLEST)
    weights = weight.abs().amax(dim=1).clamp_min(_SMALLEST)
    factors = activations**_SMOOTHING / weights ** (1 - _SMOOTHING)
    return factors / factors.mean()


@torch.no_grad()
def with_int8_matrices(
    transformer: Any, batches: Iterable[TokenBatch], *, reduce_range: bool
) -> Any:
    """Return a copy for the export, whose matrices have 8 bits.

    Parameters
    ----------
    transformer : Module
        The first module of a SentenceTransformer, in evaluation mode.
    batches : iterable of TokenBatch
        Without padding, which would count as text.
    reduce_range : bool
        Use 7 bits of the weights. Without instructions for 8-bit products (VNNI) x86
        adds pairs of products in 16 bits, which overflow otherwise.

    Raises
    ------
    ValueError
        If the transformer runs no linear layer.
    """
    copied = copy.deepcopy(transformer)
    statistics = _record_statistics(copied, batches)
    if not statistics:
        raise ValueError(
            "dtype='int8' needs linear layers, and the backbone has none; set "
            "dtype='fp32'."
        )
    largest = 63 if reduce_range else 127
    for name, inputs in statistics.items():
        matrix = copied.get_submodule(name)
        int8 = _Int8Matrix(_weight(matrix), matrix.bias, inputs, largest)
        parent, _, leaf = name.rpartition(".")
        setattr(copied.get_submodule(parent), leaf, int8)
    return copied


def _record_statistics(
    transformer: Any, batches: Iterable[TokenBatch]
) -> dict[str, _InputStatistics]:
    """Run batches, and return statistics of what each linear layer reads, by name."""
    statistics = {
        name: _InputStatistics(len(_weight(module)))
        for name, module in transformer.named_modules()
        if isinstance(module, MATRICES)
    }
    handles = [
        transformer.get_submodule(name).register_forward_pre_hook(inputs.update)
        for name, inputs in statistics.items()
    ]
    for batch in batches:
        transformer(batch.features)
    for handle in handles:
        handle.remove()
    return {name: inputs for name, inputs in statistics.items() if inputs.n}


def _weight(module: Any) -> Tensor:
    """Return a layer's weight as (C, O)."""
    return module.weight if isinstance(module, Conv1D) else module.weight.T
