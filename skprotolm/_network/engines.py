"""Inference engines that run an exported transformer, and the encoder that uses one."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from skprotolm._network.encoder import TextEncoder
from skprotolm._network.tokenized import TokenBatch
from skprotolm.exceptions import MissingExtraError

Arrays = dict[str, np.ndarray]
Session = Callable[[Arrays], np.ndarray]


class Engine(ABC):
    """A transformer as ONNX bytes, and the sessions that run it.

    A session starts with the first batch, with as many threads as torch has, and
    another one where this number differs, or in a forked process, which does not
    inherit the threads of a session.

    Parameters
    ----------
    model : bytes
        As `export_onnx` returns them.
    """

    backend: ClassVar[str]  # as `optimize` calls it; also the name of the extra
    package: ClassVar[str]

    def __init__(self, model: bytes):
        self.model = model
        # By process and number of threads. None is ever closed: to close a session that
        # another process has started would end this one.
        self._sessions: dict[tuple[int, int], Session] = {}

    @abstractmethod
    def start(self, n_threads: int) -> Session:
        """Return a function that threads can call at once, from inputs to vectors.

        Raises
        ------
        ImportError
            If the engine is not installed.
        """

    def run(self, features: dict[str, Tensor]) -> Tensor:
        """Return token vectors (B, T, H) on the CPU."""
        session = self._session(torch.get_num_threads())
        arrays = {name: tensor.cpu().numpy() for name, tensor in features.items()}
        return torch.from_numpy(session(arrays))

    def _session(self, n_threads: int) -> Session:
        key = os.getpid(), n_threads
        if key not in self._sessions:
            # Two threads may start one each at first, of which the first one is used.
            try:
                self._sessions.setdefault(key, self.start(n_threads))
            except ImportError as error:
                raise _missing_extra(self.backend, self.package) from error
        return self._sessions[key]


class OnnxEngine(Engine):
    """ONNX Runtime on the CPU."""

    backend = "onnx"
    package = "onnxruntime"

    def start(self, n_threads: int) -> Session:
        """Start a session of ONNX Runtime."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = n_threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        session = onnxruntime.InferenceSession(
            self.model, options, providers=["CPUExecutionProvider"]
        )
        return lambda arrays: session.run(None, arrays)[0]


class OpenVinoEngine(Engine):
    """OpenVINO on the CPU, in float32 where matrices are not int8."""

    backend = "openvino"
    package = "openvino"

    def start(self, n_threads: int) -> Session:
        """Compile the model; each thread has its own request."""
        import openvino

        core = openvino.Core()
        compiled = core.compile_model(
            core.read_model(self.model),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "f32",
                "INFERENCE_NUM_THREADS": n_threads,
                "NUM_STREAMS": 1,
                "ENABLE_CPU_PINNING": False,  # other processes have the cores, too
            },
        )
        requests = threading.local()

        def run(arrays: Arrays) -> np.ndarray:
            if not hasattr(requests, "own"):
                requests.own = compiled.create_infer_request()
            return requests.own.infer(arrays)[0].copy()  # the request overwrites it

        return run


ENGINES: dict[str, type[Engine]] = {
    engine.backend: engine for engine in (OnnxEngine, OpenVinoEngine)
}


class EngineEncoder(TextEncoder):
    """An encoder whose transformer an engine runs, instead of torch.

    It shares all modules with the encoder that was exported: a fit can start from
    their weights, and files describe them.
    """

    _encoder: TextEncoder

    def __init__(self, encoder: TextEncoder, engine: Engine):
        modules = dict(encoder._modules)
        # Not as a module, which would have all weights twice.
        vars(self).update(vars(encoder), _modules=modules, _encoder=encoder)
        self.engine = engine

    @property
    def backend(self) -> str:
        """What runs the transformer."""
        return self.engine.backend

    def in_torch(self) -> TextEncoder:
        """Return the encoder that was exported."""
        return self._encoder

    def pack_engine(self) -> dict[str, Any]:
        """Return what `with_engine` needs to run the transformer again."""
        return {"backend": self.engine.backend, "model": self.engine.model}

    def forward(self, batch: TokenBatch, *, bf16: bool) -> Tensor:
        """Return the token vectors (B, T, H); `bf16` has no effect."""
        return self.engine.run(batch.features).to(self.device, self.dtype)


def require_packages(backend: str) -> None:
    """Refuse a backend whose export would fail for want of packages.

    Raises
    ------
    MissingExtraError
        If a package of the backend's extra is not installed.
    """
    packages = ("onnx", "onnxscript", ENGINES[backend].package)
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise _missing_extra(backend, ", ".join(missing))


def _missing_extra(backend: str, packages: str) -> MissingExtraError:
    return MissingExtraError(
        f"backend={backend!r} needs {packages}: pip install 'skprotolm[{backend}]'. "
        f"optimize(backend='torch') returns a copy that needs no further package."
    )


def with_engine(encoder: TextEncoder, packed: dict[str, Any] | None) -> TextEncoder:
    """Return the encoder with the engine that `TextEncoder.pack_engine` returned."""
    if packed is None:
        return encoder
    return EngineEncoder(encoder, ENGINES[packed["backend"]](packed["model"]))
