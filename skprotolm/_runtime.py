"""Where and how tensors are computed: device, precision, seeds, memory errors."""

from __future__ import annotations

import os
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

# Dropout reads torch's process-wide generator, which only one fit can own at a
# time: two fits in threads would read each other's numbers and restore the
# generator in the wrong order. The lock is reentrant, since a callback of a fit
# may predict or fit.
_GENERATOR_LOCK = threading.RLock()


def _renew_lock() -> None:
    global _GENERATOR_LOCK  # noqa: PLW0603 – a lock of another process is no use
    _GENERATOR_LOCK = threading.RLock()


# A process forked during a fit inherits the lock, but not the thread that frees it.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def resolve_device(device: str | torch.device) -> torch.device:
    """Turn the parameter ``device`` into a device that is there."""
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
    if not _is_there(resolved):
        raise ValueError(
            f"device is {device!r}, which this machine does not offer to torch; use "
            f"'auto' to take the best device there is."
        )
    return resolved


def _is_there(device: torch.device) -> bool:
    if device.type == "cpu":
        return True
    if device.type == "cuda":
        return (device.index or 0) < torch.cuda.device_count()
    return device.type == "mps" and torch.backends.mps.is_available()


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 numbers itself, without emulation."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def autocast(device: torch.device, enabled: bool) -> Any:
    """Return the scope in which an encoder runs: bfloat16 autocast, or none."""
    if not enabled:
        return nullcontext()
    # Casts of weights are not kept: inside a caller's autocast they would outlive a
    # step of the optimiser, and no weight is used twice in a pass.
    return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)


@contextmanager
def isolated_torch() -> Iterator[None]:
    """Compute as if the caller had set no autocast and no default device.

    Floating-point underflow is ignored: the probability of an unlikely class is 0.
    """
    with ExitStack() as stack, np.errstate(under="ignore"):
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for kind in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def infer_seed(random_state: Any) -> int:
    """Draw the one seed of a fit, as scikit-learn reads ``random_state``."""
    try:
        generator = check_random_state(random_state)
    except ValueError as error:
        raise ValueError(
            f"random_state must be None, an int in [0, 2**32 - 1] or a RandomState; "
            f"it is no seed: {error}."
        ) from error
    return int(generator.randint(np.iinfo(np.int32).max))


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch on the CPU and on `device`; put both generators back at the end."""
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
    """Put torch's generators back at the end, whatever was drawn meanwhile."""
    cpu_state = torch.default_generator.get_state()
    library = {"cuda": torch.cuda, "mps": torch.mps}.get(device.type)
    place = (device,) if device.type == "cuda" else ()
    device_state = library.get_rng_state(*place) if library else None
    try:
        yield
    finally:
        torch.default_generator.set_state(cpu_state)
        if library:
            library.set_rng_state(device_state, *place)


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the user's own line, outside this package and what decorates it."""
    level = 2
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
        level += 1
    warnings.warn(message, category, stacklevel=level)


def _is_ours(module: str) -> bool:
    # The last two have frames of their own where their scopes decorate a function.
    ours = ("skprotolm", "sklearn", "contextlib", "numpy")
    return module.partition(".")[0] in ours


@contextmanager
def deferred_interrupt() -> Iterator[None]:
    """Let Ctrl-C wait until a few statements that belong together are done.

    Signals reach the main thread alone, and it alone may say who handles them.
    """
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(usual):
        yield
        return
    waiting: list[tuple[int, Any]] = []
    signal.signal(signal.SIGINT, lambda *received: waiting.append(received))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if waiting:
        usual(*waiting[0])


@contextmanager
def memory_errors(batch_size: int, max_length: int) -> Iterator[None]:
    """Turn an allocation failure into an error that says what to make smaller."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # torch.OutOfMemoryError is a RuntimeError; other libraries have a plain one.
        exhausted = ("out of memory", "t allocate memory", "not enough memory", "ALLOC")
        is_plain = not isinstance(error, MemoryError)
        if is_plain and not any(sign in str(error) for sign in exhausted):
            raise
        raise MemoryError(
            f"The device ran out of memory with batch_size={batch_size} texts of up to "
            f"{max_length} tokens; use a smaller batch_size or max_length."
        ) from error


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
