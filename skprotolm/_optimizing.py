"""Predictions through an inference engine, as a method of an estimator."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch

from skprotolm._config import one_of, require
from skprotolm._fitted import FittedModel, fitted_model
from skprotolm._network.encoder import TextEncoder
from skprotolm._network.engines import ENGINES, require_packages, with_engine
from skprotolm._network.exporting import export_onnx
from skprotolm._network.network import Network
from skprotolm._network.quantization import with_int8_matrices
from skprotolm._network.tokenized import TokenBatch, TokenizedTexts
from skprotolm._runtime import has_vnni, isolated_torch
from skprotolm._saving.pickling import pack, unpack
from skprotolm.exceptions import MissingExtraError

_Self = TypeVar("_Self", bound="OptimizeMixin")

_CALIBRATED = 256  # quoted texts that the sizes of activations are taken from
# By `dtype`, the largest difference of token vectors from those of torch, relative to
# their length. A larger one is an error of the export, such as a branch that tracing
# has fixed.
_TOLERANCES = {"fp32": 1e-3, "int8": 0.5}


class OptimizeMixin:
    """Adds `optimize` and `backend_`."""

    @property
    def backend_(self) -> str:
        """What runs the transformer: "torch", or the backend of `optimize`."""
        return fitted_model(self).network.encoder.backend

    def optimize(self: _Self, backend: str = "onnx", dtype: str = "fp32") -> _Self:
        """Return a copy that predicts through an inference engine, on the CPU.

        The transformer is exported, up to its token vectors, and run by the engine.
        Attention, prototypes and outputs are computed as before, so that shares and
        decompositions are as exact. The prototypes are those of the fit, and so is the
        limit above which texts are called unlike the training texts.

        Parameters
        ----------
        backend : {"onnx", "openvino", "torch"}, default="onnx"
            ONNX Runtime (extra ``onnx``), OpenVINO (extra ``openvino``), or torch: the
            way back from an optimized copy, in float32 on the CPU.
        dtype : {"fp32", "int8"}, default="fp32"
            "int8" multiplies the matrices of the transformer in 8-bit integers, with
            channels evened out on texts of the prototypes: token vectors, and with them
            predictions, change slightly. With "fp32" they change by rounding.

        Returns
        -------
        estimator
            A fitted copy; the estimator itself is not changed.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If an argument is invalid, "int8" is combined with "torch", or the backbone
            cannot be exported.
        MissingExtraError
            If the packages of the backend are not installed.

        Notes
        -----
        ``explain`` has no "relevance", which needs gradients: "auto" is
        "decomposition", and "occlusion" predicts the effect of words better. Edits and
        `partial_fit` work as before: torch reads the texts of new prototypes. A new
        `fit` trains the backbone in torch and ends the optimization. Files contain the
        exported model beside the encoder.

        Examples
        --------
        >>> fast = clf.optimize("openvino", "int8")  # doctest: +SKIP
        >>> fast.predict_proba(X_new)  # doctest: +SKIP
        """
        model = fitted_model(self)
        require("backend", backend, one_of(*ENGINES, "torch"))
        require("dtype", dtype, one_of(*_TOLERANCES))
        copied: Any = copy.copy(self)
        return copied._replace_model(optimized(model, backend, dtype))


@isolated_torch()
@torch.inference_mode(False)
def optimized(model: FittedModel, backend: str, dtype: str) -> FittedModel:
    """Return a copy of a model whose transformer a backend runs."""
    payload = {**pack(model), "engine": None}
    if backend == "torch":
        if dtype != "fp32":
            raise ValueError(
                f"dtype={dtype!r} needs backend={' or '.join(map(repr, ENGINES))}; "
                f"torch runs the transformer in 'fp32', or in the precision of the fit."
            )
        return unpack(payload)
    require_packages(backend)
    copied = unpack({**payload, "device": "cpu", "bf16": False})
    encoder = _in_engine(copied.network.encoder, copied.quoted, backend, dtype)
    network = Network(encoder, copied.network.attention, copied.network.layer)
    return replace(copied, network=network.eval())


def _in_engine(
    encoder: TextEncoder, quoted: TokenizedTexts, backend: str, dtype: str
) -> TextEncoder:
    """Export an encoder, and return the one that runs the export.

    Quoted texts calibrate the export, and are read to compare both encoders.
    """

    def collate(*rows: int) -> TokenBatch:
        return encoder.tokenizer.collate(quoted, np.array(rows))

    transformer = encoder.transformer
    if dtype == "int8":
        n = min(len(quoted), _CALIBRATED)
        rows = np.linspace(0, len(quoted) - 1, n).astype(int).tolist()
        transformer = with_int8_matrices(
            transformer, map(collate, rows), reduce_range=not has_vnni()
        )
    batch = collate(int(quoted.lengths.argmax()), int(quoted.lengths.argmin()))
    exported = export_onnx(transformer, list(batch.features))
    in_engine = with_engine(encoder, {"backend": backend, "model": exported})
    _require_same_vectors(in_engine, encoder, batch, _TOLERANCES[dtype])
    return in_engine


def _require_same_vectors(
    in_engine: TextEncoder, encoder: TextEncoder, batch: TokenBatch, tolerance: float
) -> None:
    """Refuse an export that cannot be run, or computes something else."""
    is_token = batch["attention_mask"].bool()
    with torch.no_grad():
        h = encoder(batch, bf16=False)[is_token]
        try:
            gap = in_engine(batch, bf16=False)[is_token] - h
        except MissingExtraError:
            raise
        except Exception as error:  # engines have their own
            raise ValueError(
                f"backend={in_engine.backend!r} cannot run the exported backbone "
                f"({encoder.model_type}); use another backend: {error}"
            ) from error
    difference = float(gap.norm() / h.norm())
    if not difference <= tolerance:
        raise ValueError(
            f"The exported backbone ({encoder.model_type}) does not compute the token "
            f"vectors of torch: they differ by {difference:.2g} of their length, more "
            f"than {tolerance:g}. Use backend='torch', or dtype='fp32' if it is 'int8'."
        )
