"""Device, precision, random state, warnings, interrupts and memory errors."""

from __future__ import annotations

import os
import platform
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state

# Dropout draws from torch's global generator. The lock allows one fit at a time: two
# fits in threads would draw from the same sequence and restore the generator in the
# wrong order. The lock is reentrant, because a callback of a fit may predict or fit.
_GENERATOR_LOCK = threading.RLock()


def _replace_lock() -> None:
    global _GENERATOR_LOCK  # noqa: PLW0603 – one lock per process
    _GENERATOR_LOCK = threading.RLock()


# A process forked during a fit inherits the lock without the thread that releases it.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_replace_lock)


def resolve_device(device: str | torch.device) -> torch.device:
    """Turn the parameter ``device`` into an available device."""
    if isinstance(device, str) and device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"device must be 'auto', a device name such as 'cpu' or 'cuda:0', or a "
            f"torch.device, got {device!r}."
        ) from error
    if not _is_available(resolved):
        raise ValueError(
            f"device={device!r} is not available to torch on this machine; use "
            f"device='auto' to select the best available device."
        )
    return resolved


def _is_available(device: torch.device) -> bool:
    if device.type == "cpu":
        return True
    if device.type == "cuda":
        return (device.index or 0) < torch.cuda.device_count()
    return device.type == "mps" and torch.backends.mps.is_available()


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware supports bfloat16, without emulation."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def has_vnni() -> bool:
    """Whether the CPU multiplies 8-bit integers without sums of 16 bits."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(map(capabilities.get, ("avx512_vnni", "avx_vnni", "amx_int8")))


def autocast(device: torch.device, enabled: bool) -> Any:
    """Return a context manager: bfloat16 autocast, or no operation."""
    if not enabled:
        return nullcontext()
    # No cache of cast weights: inside a caller's autocast it would outlive an optimizer
    # step, and each weight is used once per pass.
    return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)


@contextmanager
def isolated_torch() -> Iterator[None]:
    """Disable the caller's autocast and default device.

    Floating-point underflow is ignored: small probabilities become 0.
    """
    with ExitStack() as stack, np.errstate(under="ignore"):
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for device_type in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(device_type):
                stack.enter_context(torch.autocast(device_type, enabled=False))
        yield


def infer_seed(random_state: Any) -> int:
    """Draw the seed of a fit from ``random_state``, as scikit-learn does."""
    try:
        generator = check_random_state(random_state)
    except ValueError as error:
        raise ValueError(
            f"random_state must be None, an int in [0, 2**32 - 1] or a RandomState: "
            f"{error}."
        ) from error
    return int(generator.randint(np.iinfo(np.int32).max))


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch on the CPU and on `device`; restore both generators at the end."""
    with _GENERATOR_LOCK, preserved_rng_state(device):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)
        yield


@contextmanager
def preserved_rng_state(device: torch.device) -> Iterator[None]:
    """Restore torch's generators at the end."""
    state = device_rng_state(device)
    try:
        yield
    finally:
        set_device_rng_state(device, state)


def device_rng_state(device: torch.device) -> dict[str, Any]:
    """Return the states of torch's generators, of the CPU and of a device."""
    state: dict[str, Any] = {"cpu": torch.default_generator.get_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_device_rng_state(device: torch.device, state: dict[str, Any]) -> None:
    """Put back the states that `device_rng_state` returned."""
    torch.default_generator.set_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    elif device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"])


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the line of the user's code that calls this package."""
    level = 2
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_internal(frame.f_globals):
        frame = frame.f_back
        level += 1
    warnings.warn(message, category, stacklevel=level)


def _is_internal(module_globals: dict[str, Any]) -> bool:
    # Context managers of contextlib and NumPy that decorate a function add a frame.
    internal = ("skprotolm", "sklearn", "contextlib", "numpy")
    return module_globals.get("__name__", "").partition(".")[0] in internal


@contextmanager
def deferred_interrupt() -> Iterator[None]:
    """Defer SIGINT to the end of the block.

    Only the main thread receives signals, and only it can set their handlers.
    """
    handler = signal.getsignal(signal.SIGINT)
    is_main_thread = threading.current_thread() is threading.main_thread()
    if not is_main_thread or not callable(handler):
        yield
        return
    deferred: list[tuple[int, Any]] = []
    signal.signal(signal.SIGINT, lambda *arguments: deferred.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if deferred:
        handler(*deferred[0])


@contextmanager
def memory_errors(part_size: int, max_length: int) -> Iterator[None]:
    """Turn an allocation failure into an error that names the parameters to reduce."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # Allocation failures of torch are RuntimeErrors, many of no specific class.
        phrases = ("out of memory", "t allocate memory", "not enough memory", "ALLOC")
        is_memory_error = isinstance(error, MemoryError)
        if not is_memory_error and not any(p in str(error) for p in phrases):
            raise
        raise MemoryError(
            f"The device ran out of memory with {part_size} texts of up to "
            f"{max_length} tokens at once; use a smaller batch_size or max_length, "
            f"more gradient_accumulation_steps, or gradient_checkpointing=True."
        ) from error
