"""Devices, seeds that leave no trace, memory errors, and one generator at a time."""

import os
import signal
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
def test_a_device_that_is_there_is_taken(device):
    assert resolve_device(device).type == "cpu"


def test_auto_takes_a_device_that_can_compute():
    device = resolve_device("auto")
    assert torch.ones(2, device=device).sum().item() == 2
    assert (device.type == "cuda") == torch.cuda.is_available()


@pytest.mark.parametrize("device", ["quantum", "cpu:x", "", "cuda:-1", [1]])
def test_a_device_of_no_known_name_is_refused(device):
    with pytest.raises(ValueError, match="device must be 'auto', a device") as caught:
        resolve_device(device)
    assert repr(device) in str(caught.value)


@pytest.mark.parametrize(
    "device", ["cuda:99", "meta", torch.device("cuda", 99), torch.device("meta"), "xla"]
)
def test_a_device_that_is_not_there_is_refused_with_a_way_out(device):
    with pytest.raises(ValueError, match="does not offer to torch; use 'auto'") as info:
        resolve_device(device)
    assert repr(device) in str(info.value)


# Precision


def test_autocast_computes_in_bfloat16_only_where_it_is_asked_to():
    a = torch.ones(2, 2)
    for enabled, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        with autocast(CPU, enabled):
            assert (a @ a).dtype == dtype
    assert (a @ a).dtype == torch.float32


def test_bfloat16_is_a_question_of_the_hardware():
    assert has_bf16(torch.device("meta")) is False


# Seeds


def test_an_int_is_its_own_seed_and_a_generator_is_drawn_from():
    assert infer_seed(3) == infer_seed(np.int64(3))
    assert infer_seed(3) != infer_seed(4)
    rng = np.random.RandomState(3)
    first, second = infer_seed(rng), infer_seed(rng)
    assert first == infer_seed(3)
    assert second != first
    assert infer_seed(None) != infer_seed(None)


def draw(device):
    return torch.rand(4, device=device).tolist()


@SEEDED
def test_the_same_seed_gives_the_same_numbers(device):
    found = []
    for seed in (1, 1, 2):
        with seeded(seed, device):
            found.append((draw(device), draw(CPU)))
    assert found[0] == found[1]
    assert found[0][0] != found[2][0]
    assert found[0][1] != found[2][1]


@SEEDED
@pytest.mark.parametrize("fails", [False, True])
def test_generators_go_on_as_if_nothing_had_been_drawn(device, fails):
    def states():
        own = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return [torch.get_rng_state(), own]

    before = states()
    numpy_before = np.random.get_state()[1].copy()
    try:
        with seeded(0, device):
            draw(device)
            draw(CPU)
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    for mine, theirs in zip(states(), before, strict=True):
        assert theirs is None or torch.equal(mine, theirs)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)


@pytest.mark.parametrize("seed", [0, 2**31 - 1])
def test_scopes_may_stand_in_one_another(seed):
    with seeded(1, CPU):
        expected = [draw(CPU), draw(CPU)]
    with seeded(1, CPU):
        first = draw(CPU)
        with seeded(seed, CPU):
            draw(CPU)
        assert [first, draw(CPU)] == expected


def test_one_thread_at_a_time_owns_the_generator():
    """Two fits in threads read each other's numbers, and neither could be repeated."""
    expected = {}
    for seed in range(4):
        with seeded(seed, CPU):
            expected[seed] = [draw(CPU) for _ in range(20)]
    state = torch.get_rng_state()
    found, inside, most = {}, [], []
    barrier = threading.Barrier(4)

    def work(seed):
        barrier.wait()
        with seeded(seed, CPU):
            inside.append(seed)
            most.append(len(inside))
            numbers = []
            for _ in range(20):
                numbers.append(draw(CPU))
                threading.Event().wait(0.001)  # let the others have their turn
            found[seed] = numbers
            inside.remove(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert max(most) == 1
    assert found == expected
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_process_forked_during_a_fit_can_fit():
    """It inherited a lock that no thread of it would ever free, and hung."""
    inside, over = threading.Event(), threading.Event()

    def fit() -> None:
        with seeded(0, CPU):
            inside.set()
            over.wait(60)

    thread = threading.Thread(target=fit)
    thread.start()
    inside.wait(60)
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # ends a child that waits
        with seeded(1, CPU):
            os._exit(0)
    over.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_failure_inside_lets_the_next_thread_in():
    with pytest.raises(RuntimeError, match="inside"), seeded(0, CPU):
        raise RuntimeError("inside")
    entered = threading.Event()

    def work():
        with seeded(0, CPU):
            entered.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert entered.wait(timeout=20)


# Memory


@SEEDED
def test_an_allocation_failure_says_what_to_make_smaller(device):
    with (
        pytest.raises(MemoryError, match="batch_size=32 texts of up to 512") as caught,
        memory_errors(32, 512),
    ):
        torch.empty(2**47, device=device)  # half a petabyte
    assert "smaller batch_size or max_length" in str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.0 GB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `create`"),
    ],
    ids=["cuda", "mps", "cublas"],
)
def test_every_librarys_word_for_it_is_understood(error):
    with pytest.raises(MemoryError, match="batch_size=8"), memory_errors(8, 64):
        raise error


def test_numpys_allocation_failure_says_so_too():
    """It is a MemoryError already, but one that names no batch_size."""
    with pytest.raises(MemoryError, match="batch_size=8"), memory_errors(8, 64):
        np.empty(2**50)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("mat1 and mat2 shapes"), ValueError("x"), KeyboardInterrupt()],
)
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error)) as caught, memory_errors(8, 64):
        raise error
    assert caught.value is error


# Ctrl-C


@pytest.mark.usefixtures("ctrl_c")
def test_an_interruption_waits_for_the_end_of_the_block():
    before, done = signal.getsignal(signal.SIGINT), []

    def run() -> None:
        with deferred_interrupt():
            signal.raise_signal(signal.SIGINT)
            done.append(1)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert done == [1]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.usefixtures("ctrl_c")
def test_an_error_of_the_block_goes_before_an_interruption():
    before = signal.getsignal(signal.SIGINT)

    def run() -> None:
        with deferred_interrupt():
            signal.raise_signal(signal.SIGINT)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.usefixtures("ctrl_c")
def test_another_thread_leaves_the_handler_alone():
    found = []

    def run() -> None:
        with deferred_interrupt():
            found.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [before]
