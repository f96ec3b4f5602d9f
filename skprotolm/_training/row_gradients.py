"""Gradients of large embeddings, of which a batch changes few rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from skprotolm._processes import MANY_ROWS


class RowGradients:
    """Dense gradients of large embeddings that are kept from step to step.

    On the CPU, torch allocates the gradient of the whole matrix in each backward pass,
    which takes longer than filling it. Here the backward pass returns a row per token,
    and a batch usually has fewer tokens than the matrix has rows.

    Parameters
    ----------
    module : Module
        Its trained embeddings of many rows, on the CPU, are treated so.
    """

    def __init__(self, module: nn.Module):
        self._embeddings = [
            child
            for child in module.modules()
            if isinstance(child, nn.Embedding) and _is_large(child)
        ]
        weights = {id(e.weight): e.weight for e in self._embeddings}  # may be shared
        self._gradients = [(w, torch.zeros_like(w)) for w in weights.values()]

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Let backward passes return rows, for `complete`."""
        try:
            for embedding in self._embeddings:
                embedding.sparse = True
            yield
        finally:
            for embedding in self._embeddings:
                embedding.sparse = False

    def complete(self) -> None:
        """Put dense gradients into the place of rows."""
        for weight, dense in self._gradients:
            if weight.grad is None or not weight.grad.is_sparse:
                continue  # the weight has other uses, too
            rows = weight.grad.coalesce()
            dense.zero_()  # other processes may have written other rows, too
            dense[rows.indices()[0]] = rows.values()
            weight.grad = dense


def _is_large(embedding: nn.Embedding) -> bool:
    weight = embedding.weight
    is_usual = not (embedding.sparse or embedding.scale_grad_by_freq)
    is_usual = is_usual and weight.is_leaf  # not computed from others at each access
    is_trained_here = weight.requires_grad and weight.device.type == "cpu"
    return is_usual and is_trained_here and len(weight) >= MANY_ROWS
