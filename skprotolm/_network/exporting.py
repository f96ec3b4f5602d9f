"""A transformer, up to its token vectors, as ONNX bytes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

# The size of the batch that is traced. Both numbers are exported as variables.
_TRACED = (2, 8)


class _TokenVectors(nn.Module):
    """A transformer as a function of tensors."""

    def __init__(self, transformer: Any, names: list[str]):
        super().__init__()
        self.transformer = transformer
        self.names = names

    def forward(self, *tensors: Tensor) -> Tensor:
        features = dict(zip(self.names, tensors, strict=True))
        return self.transformer(features)["token_embeddings"]


def export_onnx(transformer: Any, names: list[str]) -> bytes:
    """Export a transformer for batches of any size.

    Parameters
    ----------
    transformer : Module
        The first module of a SentenceTransformer, in evaluation mode.
    names : list of str
        What it reads, such as "input_ids".

    Raises
    ------
    ValueError
        If torch cannot export it.
    """
    module = _TokenVectors(transformer, names).eval()
    example = tuple(torch.ones(_TRACED, dtype=torch.int64) for _ in names)
    both = {axis: torch.export.Dim.DYNAMIC for axis in range(2)}
    try:
        with _silence(), torch.no_grad():
            program = torch.export.export(
                module, example, dynamic_shapes=(tuple(both for _ in names),)
            )
            exported = torch.onnx.export(
                program,
                input_names=names,
                output_names=["token_vectors"],
                dynamo=True,
                verbose=False,
            )
            assert exported is not None
            return exported.model_proto.SerializeToString()
    except Exception as error:  # of any library, and of a user's own module
        raise ValueError(
            f"The backbone ({type(transformer.auto_model).__name__}) cannot be "
            f"exported to ONNX, so that only backend='torch' can run it: "
            f"{type(error).__name__}: {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no message").splitlines()[0]


@contextmanager
def _silence() -> Iterator[None]:
    """Suppress warnings and log messages of the exporter, and restore the settings."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            logger.setLevel(logging.ERROR)
            yield
        finally:
            logger.setLevel(level)
