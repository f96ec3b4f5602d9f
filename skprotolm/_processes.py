"""Several processes that train one model together, as torchrun starts them.

Each process encodes its part of every batch, and all of them get all token vectors.
Everything else is computed by every process, from the same numbers.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from itertools import count
from typing import Any, TypeVar

import joblib
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from skprotolm._runtime import resolve_device, warn
from skprotolm.exceptions import WaitingForProcessesWarning

# How long a process waits for the others. Those that end are noticed at once; this is
# for machines that are lost, and for scripts in which only some processes call `fit`.
_TIMEOUT = timedelta(minutes=30)
_PATIENCE = 10  # seconds, until a process warns that it waits for others
_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # of a launcher
MANY_ROWS = 4096  # of a gradient that is exchanged without its empty rows
_BUCKET_SIZE = 2**22  # numbers that are exchanged at once: every exchange has to wait
_FIT_NUMBERS = count()  # keys in the store of the launcher are used once

T = TypeVar("T")


class Processes:
    """The processes of a fit: this one alone, with which nothing is exchanged."""

    rank = 0
    size = 1
    # What a fit survives. With several processes, Ctrl-C comes at different steps.
    interrupts: tuple[type[BaseException], ...] = (KeyboardInterrupt,)

    def part(self, n: int) -> slice | np.ndarray:
        """Return which of n rows this process encodes."""
        return slice(None)

    def gather(self, part: Tensor, n: int) -> Tensor:
        """Return all n rows, of which `part` are those of this process.

        Gradients flow to the rows of this process, for `average_gradients`.
        """
        return part

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average the gradients of all processes, in place."""

    def agree(self, value: T) -> T:
        """Return the value that the first process has."""
        return value

    def share(self, module: nn.Module) -> None:
        """Give all processes the weights of the first, in place."""

    def require_same(self, arguments: dict[str, Any]) -> None:
        """Refuse arguments, by name, that differ between processes."""


ALONE = Processes()


@contextmanager
def _explained(problem: str) -> Iterator[None]:
    """Explain what an error of torch.distributed means."""
    try:
        yield
    except RuntimeError as error:  # of which its own errors are subclasses
        raise RuntimeError(f"{problem} ({error})") from error


_exchange = _explained(
    "Another process of this fit has ended or cannot be reached, so that the fit ends "
    "here, too, and the estimator stays as it was; see what that process printed."
)


class ProcessGroup(Processes):
    """All processes that the user has connected, or that a launcher has started.

    Parameters
    ----------
    backend : str
        Of torch.distributed.
    """

    interrupts = ()

    def __init__(self, backend: str):
        self._group = _make_group(backend)
        self.rank = dist.get_rank(self._group)
        self.size = dist.get_world_size(self._group)

    def leave(self) -> None:
        """Close the connections, so that the others notice if this process fails."""
        dist.destroy_process_group(self._group)
        self._group = None  # the traceback of an error would keep them open

    def part(self, n: int) -> np.ndarray:
        """Return which of n rows this process encodes.

        Parts have the same length. Where n is no multiple of it, the last ones have
        first rows again, so that none is empty.
        """
        length = -(-n // self.size)
        return np.arange(self.rank * length, (self.rank + 1) * length) % n

    @_exchange
    def gather(self, part: Tensor, n: int) -> Tensor:
        """Return all n rows, of which `part` are those of this process."""
        parts = [torch.empty_like(part) for _ in range(self.size)]
        dist.all_gather(parts, part.detach().contiguous(), group=self._group)
        if part.requires_grad:
            # Each process has the whole loss, and of the gradient only this part: it is
            # the mean of these multiples, as it is that of equal gradients elsewhere.
            part.register_hook(lambda gradient: self.size * gradient)
        parts[self.rank] = part
        return torch.cat(parts)[:n]

    @_exchange
    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average the gradients of all processes, in place."""
        gradients = self._gradients_of_any(list(parameters))
        rows = [self._changed_rows(gradient) for gradient in gradients]
        values = [g[i] for g, i in zip(gradients, rows, strict=True)]
        for bucket in _split_into_buckets([value.numel() for value in values]):
            flat = [values[i].flatten() for i in bucket]
            sums = torch.cat(flat)
            dist.all_reduce(sums, group=self._group)
            means = sums.div_(self.size).split([len(part) for part in flat])
            for i, mean in zip(bucket, means, strict=True):
                gradients[i][rows[i]] = mean.view_as(values[i])

    def _gradients_of_any(self, parameters: list[nn.Parameter]) -> list[Tensor]:
        """Return the gradients of what has one in any process; here it may be zero.

        In mixtures of experts each process may need others for its texts. Which ones
        is known only after the exchange, so that a GPU is waited for.
        """
        has_one = [p.grad is not None for p in parameters]
        in_any = torch.tensor(has_one, dtype=torch.uint8, device=parameters[0].device)
        dist.all_reduce(in_any, op=dist.ReduceOp.MAX, group=self._group)
        gradients = []
        for parameter, is_needed in zip(parameters, in_any.tolist(), strict=True):
            if is_needed and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if parameter.grad is not None:
                gradients.append(parameter.grad)
        return gradients

    def _changed_rows(self, gradient: Tensor) -> Any:
        """Return an index of the rows that have a gradient in any process.

        A batch has few of the tokens of a large embedding, which is half of the weights
        of a small transformer. Of other weights all rows are returned.
        """
        if gradient.ndim != 2 or len(gradient) < MANY_ROWS:
            return ...
        changed = gradient.any(dim=1).to(torch.uint8)  # NaN is not 0
        dist.all_reduce(changed, op=dist.ReduceOp.MAX, group=self._group)
        rows = changed.nonzero().squeeze(1)
        return rows if 2 * len(rows) < len(gradient) else ...

    @_exchange
    def agree(self, value: T) -> T:
        """Return the value that the first process has."""
        values = [value]
        dist.broadcast_object_list(
            values, group=self._group, device=torch.device("cpu")
        )
        return values[0]

    @_exchange
    def share(self, module: nn.Module) -> None:
        """Give all processes the weights of the first, in place."""
        for tensor in [*module.parameters(), *module.buffers()]:
            values = tensor.detach().contiguous()
            dist.broadcast(values, src=0, group=self._group)
            tensor.detach().copy_(values)

    def require_same(self, arguments: dict[str, Any]) -> None:
        """Refuse arguments, by name, that differ between processes."""
        hashes = {name: joblib.hash(value) for name, value in arguments.items()}
        of_all = self._gather_objects(hashes)
        first = of_all[0]
        for rank, others in enumerate(of_all):
            if names := [name for name in first if first[name] != others[name]]:
                raise ValueError(
                    f"All processes of a fit need the same data and parameters, but "
                    f"process {rank} of {self.size} differs from the first in "
                    f"{', '.join(names)}. Load the same texts in the same order in all "
                    f"of them; the fit divides the work."
                )

    def wait_for_others(self) -> None:
        """Wait until all processes have come this far."""
        self._gather_objects(None)

    @_exchange
    def _gather_objects(self, value: Any) -> list[Any]:
        values = [None] * self.size
        dist.all_gather_object(values, value, group=self._group)
        return values


def _split_into_buckets(sizes: list[int]) -> list[list[int]]:
    """Group neighbors, by position, to `_BUCKET_SIZE` or so in all."""
    buckets = np.cumsum(sizes) // _BUCKET_SIZE
    starts = np.flatnonzero(np.diff(buckets)) + 1
    return [part.tolist() for part in np.split(np.arange(len(sizes)), starts)]


def _note_fork() -> None:
    global _IS_FORKED_MEMBER  # noqa: PLW0603 – of this process
    _IS_FORKED_MEMBER = dist.is_available() and dist.is_initialized()


# A forked process inherits the group, but not its place in it.
_IS_FORKED_MEMBER = False
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def find_size() -> int:
    """Return how many processes run this fit.

    Workers of joblib inherit the environment of the process that starts them, and
    threads share its process group, but they fit on their own.
    """
    is_main_thread = threading.current_thread() is threading.main_thread()
    if not (dist.is_available() and is_main_thread):
        return 1
    if dist.is_initialized():
        return 1 if _IS_FORKED_MEMBER else dist.get_world_size()
    is_worker = multiprocessing.parent_process() is not None
    if is_worker or any(name not in os.environ for name in _VARIABLES):
        return 1
    return int(os.environ["WORLD_SIZE"])


def resolve_own_device(device: Any) -> torch.device:
    """Turn the parameter ``device`` into the device of this process.

    Of several GPUs it is the one that the launcher assigns.
    """
    resolved = resolve_device(device)
    if resolved.type == "cuda" and str(device) in ("auto", "cuda") and find_size() > 1:
        index = int(os.environ.get("LOCAL_RANK", torch.cuda.current_device()))
        return torch.device("cuda", index % torch.cuda.device_count())
    return resolved


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Join the other processes of a fit, if there are any, until the block ends."""
    if find_size() == 1:
        yield ALONE
        return
    if device.type not in ("cpu", "cuda"):
        raise ValueError(
            f"Several processes train on CPUs or CUDA devices, got the device "
            f"{str(device)!r}; set device='cpu', or use one process."
        )
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    processes = ProcessGroup(backend)
    try:
        yield processes
        processes.wait_for_others()  # none leaves while others are still at work
    finally:
        processes.leave()


@_explained(
    f"The processes of this fit did not find each other. All of them must call fit, "
    f"within {_TIMEOUT.seconds // 60} minutes, and reach the first one at MASTER_ADDR "
    f"and MASTER_PORT."
)
def _make_group(backend: str) -> Any:
    if dist.is_initialized():
        return _patiently(lambda: dist.new_group(backend=backend, timeout=_TIMEOUT))
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    number = next(_FIT_NUMBERS)

    def connect() -> Any:
        store = dist.PrefixStore(f"skprotolm/{number}", _store_of_launcher())
        dist.init_process_group(
            backend, store=store, rank=rank, world_size=size, timeout=_TIMEOUT
        )
        return dist.group.WORLD

    return _patiently(connect)


def _patiently(connect: Callable[[], Any]) -> Any:
    """Wait for other processes in a way that Ctrl-C can end, and not in silence."""
    connected: Future[Any] = Future()

    def run() -> None:
        try:
            connected.set_result(connect())
        except BaseException as error:
            connected.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    done, _ = wait([connected], timeout=_PATIENCE)
    if not done:
        warn(
            f"fit waits for other processes, because {', '.join(_VARIABLES)} are set "
            f"or torch.distributed is initialized. All of them must call fit. To fit "
            f"in this process alone, unset these variables.",
            WaitingForProcessesWarning,
        )
    return connected.result()


@cache
def _store_of_launcher() -> dist.Store:
    """Return the store at MASTER_ADDR, which is kept until the process ends.

    Otherwise a process could begin the next fit at the store of the last one.
    """
    store, _, _ = next(dist.rendezvous("env://", timeout=_TIMEOUT))
    return store
