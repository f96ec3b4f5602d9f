"""Devices, precision, random state, memory errors and interrupts."""

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from skprotolm._runtime import (
    autocast,
    deferred_interrupt,
    has_bf16,
    infer_seed,
    memory_errors,
    resolve_device,
    seeded,
)

CPU = torch.device("cpu")
DEVICES = [
    pytest.param(CPU, id="cpu"),
    pytest.param(
        torch.device("cuda", 0),
        id="cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
    ),
]
SEEDED = pytest.mark.parametrize("device", DEVICES)


# Devices


@pytest.mark.parametrize("device", ["cpu", CPU, torch.device("cpu", 0)])
def test_an_available_device_is_returned(device):
    assert resolve_device(device).type == "cpu"


def test_auto_returns_a_working_device():
    device = resolve_device("auto")
    assert torch.ones(2, device=device).sum().item() == 2
    assert (device.type == "cuda") == torch.cuda.is_available()


@pytest.mark.parametrize("device", ["quantum", "cpu:x", "", "cuda:-1", [1]])
def test_an_unknown_device_raises_an_error(device):
    with pytest.raises(ValueError, match="device must be 'auto', a device") as info:
        resolve_device(device)
    assert repr(device) in str(info.value)


@pytest.mark.parametrize(
    "device", ["cuda:99", "meta", torch.device("cuda", 99), torch.device("meta"), "xla"]
)
def test_an_unavailable_device_raises_an_error_with_a_remedy(device):
    with pytest.raises(ValueError, match="device='auto' to select") as info:
        resolve_device(device)
    assert repr(device) in str(info.value)


# Precision


def test_autocast_is_optional():
    a = torch.ones(2, 2)
    for enabled, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        with autocast(CPU, enabled):
            assert (a @ a).dtype == dtype
    assert (a @ a).dtype == torch.float32


def test_other_device_types_have_no_bfloat16():
    assert has_bf16(torch.device("meta")) is False


# Seeds


def test_seeds_follow_the_conventions_of_random_state():
    assert infer_seed(3) == infer_seed(np.int64(3))
    assert infer_seed(3) != infer_seed(4)
    rng = np.random.RandomState(3)
    first, second = infer_seed(rng), infer_seed(rng)
    assert first == infer_seed(3)
    assert second != first
    assert infer_seed(None) != infer_seed(None)


def random_numbers(device):
    return torch.rand(4, device=device).tolist()


@SEEDED
def test_the_same_seed_gives_the_same_numbers(device):
    results = []
    for seed in (1, 1, 2):
        with seeded(seed, device):
            results.append((random_numbers(device), random_numbers(CPU)))
    assert results[0] == results[1]
    assert results[0][0] != results[2][0]
    assert results[0][1] != results[2][1]


@SEEDED
@pytest.mark.parametrize("fails", [False, True])
def test_seeding_restores_the_generators(device, fails):
    def states():
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return [torch.get_rng_state(), cuda]

    before = states()
    numpy_before = np.random.get_state()[1].copy()
    try:
        with seeded(0, device):
            random_numbers(device)
            random_numbers(CPU)
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    for state, expected in zip(states(), before, strict=True):
        assert expected is None or torch.equal(state, expected)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)


@pytest.mark.parametrize("seed", [0, 2**31 - 1])
def test_seeded_blocks_can_be_nested(seed):
    with seeded(1, CPU):
        expected = [random_numbers(CPU), random_numbers(CPU)]
    with seeded(1, CPU):
        first = random_numbers(CPU)
        with seeded(seed, CPU):
            random_numbers(CPU)
        assert [first, random_numbers(CPU)] == expected


def test_only_one_thread_uses_the_generator():
    """Two fits in threads drew from one sequence and were not reproducible."""
    expected = {}
    for seed in range(4):
        with seeded(seed, CPU):
            expected[seed] = [random_numbers(CPU) for _ in range(20)]
    state = torch.get_rng_state()
    results, running, n_running = {}, [], []
    barrier = threading.Barrier(4)

    def work(seed):
        barrier.wait()
        with seeded(seed, CPU):
            running.append(seed)
            n_running.append(len(running))
            numbers = []
            for _ in range(20):
                numbers.append(random_numbers(CPU))
                threading.Event().wait(0.001)  # switch threads
            results[seed] = numbers
            running.remove(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert max(n_running) == 1
    assert results == expected
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_process_forked_during_a_fit_can_fit():
    """The child process waited for an inherited lock."""
    started, finished = threading.Event(), threading.Event()

    def fit() -> None:
        with seeded(0, CPU):
            started.set()
            finished.wait(60)

    thread = threading.Thread(target=fit)
    thread.start()
    started.wait(60)
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # ends a waiting child
        with seeded(1, CPU):
            os._exit(0)
    finished.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_an_error_releases_the_generator():
    with pytest.raises(RuntimeError, match="failed"), seeded(0, CPU):
        raise RuntimeError("failed")
    entered = threading.Event()

    def work():
        with seeded(0, CPU):
            entered.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert entered.wait(timeout=20)


# Memory


@SEEDED
def test_an_allocation_failure_names_the_parameters_to_reduce(device):
    with (
        pytest.raises(MemoryError, match="32 texts of up to 512 tokens") as info,
        memory_errors(32, 512),
    ):
        torch.empty(2**47, device=device)  # half a petabyte
    assert "smaller batch_size or max_length" in str(info.value)
    assert isinstance(info.value.__cause__, RuntimeError)


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.0 GB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `create`"),
    ],
    ids=["cuda", "mps", "cublas"],
)
def test_allocation_failures_of_every_library_are_detected(error):
    with pytest.raises(MemoryError, match="with 8 texts"), memory_errors(8, 64):
        raise error


def test_an_allocation_failure_of_numpy_names_the_parameters_to_reduce():
    """NumPy raises a MemoryError without a batch_size."""
    with pytest.raises(MemoryError, match="with 8 texts"), memory_errors(8, 64):
        np.empty(2**50)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("mat1 and mat2 shapes"), ValueError("x"), KeyboardInterrupt()],
)
def test_other_errors_are_not_changed(error):
    with pytest.raises(type(error)) as info, memory_errors(8, 64):
        raise error
    assert info.value is error


# Interrupts


INTERRUPTED = """
import signal, sys
from skprotolm._runtime import deferred_interrupt

signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    with deferred_interrupt():
        signal.raise_signal(signal.SIGINT)
        print("completed")
        if "error" in sys.argv:
            raise ZeroDivisionError
except BaseException as error:
    print(type(error).__name__)
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


@pytest.mark.parametrize(
    ("arguments", "raised"),
    [([], "KeyboardInterrupt"), (["error"], "ZeroDivisionError")],
)
def test_an_interrupt_is_deferred_to_the_end_of_the_block(arguments, raised):
    """In a process of its own: the signal once ended the process of the tests.

    An error takes precedence over the interrupt.
    """
    result = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert result.stdout.split() == ["completed", raised, "True"]


def test_other_threads_do_not_change_the_handler():
    handlers = []

    def run() -> None:
        with deferred_interrupt():
            handlers.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert handlers == [before]
