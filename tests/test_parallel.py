"""Fits in several processes give the estimator that one process gives."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
import torch.distributed as dist

from skprotolm._processes import ALONE, find_size, joined, resolve_own_device
from tests import parallel_fits
from tests.helpers import without_times
from tests.tiny import make_encoder

ROOT = Path(__file__).parents[1]
RANKS = (0, 1)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tiny encoder without dropout, beside one that has it."""
    folder = tmp_path_factory.mktemp("encoders")
    for name in ("without dropout", "with dropout"):
        make_encoder("bert", folder / name)
    path = folder / "without dropout" / "config.json"
    config = json.loads(path.read_text())
    rates = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    path.write_text(json.dumps(config | dict.fromkeys(rates, 0.0)))
    return str(path.parent)


def launch(
    encoder: str,
    folder: Path,
    steps: list[str],
    prefixes: tuple[list[str], ...] = ([], []),
    **environment: str,
) -> list[str]:
    """Run steps in two processes at once, and return what they print as errors.

    Parameters
    ----------
    encoder : str
    folder : Path
        Of results.
    steps : list of str
    prefixes : tuple of list of str
        What comes before the command of each process.
    **environment : str
        Beside that of torchrun.
    """
    command = [sys.executable, "-m", "tests.parallel_fits", encoder, str(folder)]
    started = []
    for rank, prefix in zip(RANKS, prefixes, strict=True):
        ours = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        ours |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen(
            [*prefix, *command, *steps],
            cwd=ROOT,
            env={**os.environ, **ours, **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
    try:
        return [process.communicate(timeout=600)[1] for process in started]
    finally:
        for process in started:
            process.kill()


@pytest.fixture(scope="module")
def local() -> Iterator[dict[str, str]]:
    """The environment of processes on this machine, which find each other here."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    yield {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # as torchrun, which has the store
        "TORCHELASTIC_RESTART_COUNT": "0",
    }
    del store  # which serves until here


@pytest.fixture(scope="module")
def run(
    encoder: str, local: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    """The folder of the results of all steps, and what both processes print."""
    folder = tmp_path_factory.mktemp("results")
    steps = [step for step in parallel_fits.STEPS if step != "one_case"]
    if not hasattr(parallel_fits.ProtoLMClassifier, "set_callbacks"):
        steps.remove("callbacks")
    return folder, launch(encoder, folder, steps, **local)


@pytest.fixture(scope="module")
def launched(run: tuple[Path, list[str]]) -> Callable[[str], list[Any]]:
    """Return the results of a step in both processes."""
    folder, printed = run

    def results_of(step: str) -> list[Any]:
        paths = [folder / f"{step}-{rank}.pickle" for rank in RANKS]
        assert paths[0].is_file(), printed[0] + printed[1]
        return [pickle.loads(path.read_bytes()) for path in paths if path.is_file()]

    return results_of


def assert_same_estimator(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Compare what two processes have learned, bit by bit."""
    np.testing.assert_array_equal(one["predictions"], other["predictions"])
    assert one["weights"].keys() == other["weights"].keys()
    for name, weights in one["weights"].items():
        np.testing.assert_array_equal(weights, other["weights"][name], err_msg=name)
    assert one["history"] == other["history"]
    assert one["texts"] == other["texts"]


def assert_equal_results(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Compare what two fits have learned, but for rounding."""
    assert one["texts"] == other["texts"]
    np.testing.assert_allclose(one["predictions"], other["predictions"], atol=1e-4)
    histories = (without_times(fit["history"]) for fit in (one, other))
    for epoch, expected in zip(*histories, strict=True):
        assert epoch == pytest.approx(expected, abs=1e-4)


# Two processes on one machine.


@pytest.mark.parametrize("name", parallel_fits.CASES)
def test_two_processes_learn_what_one_learns(launched, encoder, name):
    if name == "adapters":
        pytest.importorskip("peft")
    one, other = (result["fitted"][name] for result in launched("all_cases"))
    assert_same_estimator(one, other)
    assert_equal_results(one, parallel_fits.fit_case(name, encoder))


@pytest.mark.parametrize("n", parallel_fits.NUMBERS_OF_ROWS)
def test_gradients_are_those_of_one_process(launched, n):
    """AdamW would hide a factor."""
    expected = parallel_fits.gradients_of(n, ALONE)
    for result in launched("gradients"):
        np.testing.assert_allclose(result[str(n)], expected, rtol=1e-6)


def test_the_gradient_of_an_embedding_is_that_of_one_process(launched):
    """Rows that another process had in an earlier step were never cleared."""
    expected = parallel_fits.embedding_gradient(ALONE)
    assert expected.any(dim=1).sum() == 3
    for result in launched("gradients"):
        np.testing.assert_allclose(result["embedding"], expected, rtol=1e-6)


def test_a_weight_may_have_a_gradient_in_one_process_only(launched):
    """Gradients were exchanged with those of other weights, by their position."""
    expected = parallel_fits.expert_gradients(ALONE)
    np.testing.assert_array_equal(expected, [3, 2])
    for result in launched("gradients"):
        np.testing.assert_allclose(result["experts"], expected, rtol=1e-6)


def test_no_process_group_is_left(launched):
    assert [r["is_initialized"] for r in launched("all_cases")] == [False, False]


def test_without_a_seed_all_processes_use_that_of_the_first(launched):
    assert_same_estimator(*launched("without_seed"))


def test_only_the_first_process_shows_progress(run):
    _, (shown, hidden) = run
    assert "done: 100%|" in shown
    assert "%|" not in hidden


def test_dropout_differs_between_processes(launched):
    one, other = launched("dropout")
    assert one["mask"].any()
    assert one["mask"].shape == other["mask"].shape
    assert (one["mask"] != other["mask"]).any()
    assert_same_estimator(one, other)


def test_further_texts_and_a_warm_start_give_the_same_estimator(launched):
    assert_same_estimator(*launched("continued"))


def test_an_initialized_process_group_is_used_and_kept(launched):
    one, other = launched("own_group")
    assert one["total"] == 2
    assert_same_estimator(one, other)
    expected = launched("all_cases")[0]["fitted"]["full"]
    np.testing.assert_array_equal(one["predictions"], expected["predictions"])


def test_all_processes_get_the_model_of_the_first(launched):
    """Machines differ in how they round; the models of this test differ much more."""
    one, other = launched("unequal_models")
    assert (one["before"]["predictions"] != other["before"]["predictions"]).any()
    assert_same_estimator(one["after"], other["after"])
    assert_same_estimator(one["after"], {**one["before"], "history": []})


@pytest.mark.usefixtures("callbacks")
def test_callbacks_of_the_first_process_decide_when_to_stop(launched):
    for result in launched("callbacks"):
        assert result["n_epochs"] == 2
        assert result["tasks"] == ["epoch", "epoch", "fit"]


# Errors.


@pytest.mark.parametrize(
    ("attempt", "names"),
    [
        ("texts", "X"),
        ("labels", "y or sample_weight"),
        ("weights", "y or sample_weight"),
        ("parameters", "max_epochs, batch_size"),
        ("hardware", "the precision of 'auto' on its hardware"),
    ],
)
def test_arguments_that_differ_are_refused_in_all_processes(launched, attempt, names):
    for result in launched("errors"):
        assert result[attempt].startswith("ValueError: All processes")
        assert f"process 1 of 2 differs from the first in {names}." in result[attempt]


def test_an_error_in_one_process_ends_the_others(launched):
    waiting, failing = launched("errors")
    assert failing["failure"] == "OSError: the disk is full"
    assert waiting["failure"].startswith("RuntimeError: Another process of this fit")


def test_a_killed_process_ends_the_others(launched):
    [left] = launched("killed")
    assert left["message"].startswith("RuntimeError: Another process of this fit")
    assert not left["is_fitted"]


# Two machines.


def network(*commands: str) -> bool:
    """Run commands of iproute2, and return whether all succeed."""
    return all(
        subprocess.run(
            ["ip", *command.split()], check=False, capture_output=True
        ).returncode
        == 0
        for command in commands
    )


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Two network namespaces, which a cable connects."""
    if shutil.which("ip") is None:
        pytest.skip("iproute2 is not installed")
    names = [f"skprotolm-{os.getpid()}-{rank}" for rank in RANKS]
    try:
        made = network(
            *(f"netns add {name}" for name in names),
            f"link add cable0 netns {names[0]} type veth "
            f"peer name cable1 netns {names[1]}",
            *(
                f"-n {name} {command}"
                for rank, name in enumerate(names)
                for command in (
                    f"address add 10.77.0.{rank + 1}/24 dev cable{rank}",
                    f"link set cable{rank} up",
                    "link set lo up",
                )
            ),
        )
        if not made:
            pytest.skip("network namespaces are not permitted")
        yield names
    finally:
        for name in names:
            network(f"netns del {name}")


def test_two_machines_learn_what_one_learns(hosts, encoder, tmp_path):
    """Without torchrun's store: the first process has it, and keeps it for all fits."""
    cables = [["env", f"GLOO_SOCKET_IFNAME=cable{rank}"] for rank in RANKS]
    prefixes = tuple(
        ["ip", "netns", "exec", host, *cable]
        for host, cable in zip(hosts, cables, strict=True)
    )
    address = {"MASTER_ADDR": "10.77.0.1", "MASTER_PORT": "29500"}
    steps = ["one_case", "one_case"]
    printed = launch(encoder, tmp_path, steps, prefixes, **address)
    paths = [tmp_path / f"one_case-{rank}.pickle" for rank in RANKS]
    assert all(path.is_file() for path in paths), printed
    one, other = (pickle.loads(path.read_bytes()) for path in paths)
    assert_same_estimator(one, other)
    assert_equal_results(one, parallel_fits.fit_case("full", encoder))


# Which processes fit together.


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of the second of two processes."""
    for name, value in {
        "RANK": "1",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)


def test_a_process_without_a_launcher_fits_alone():
    assert find_size() == 1
    with joined(torch.device("cpu")) as processes:
        assert (processes.rank, processes.size) == (0, 1)


@pytest.mark.usefixtures("launcher")
def test_a_launched_process_fits_with_the_others():
    assert find_size() == 2


def test_a_process_that_waits_for_others_says_so_and_can_be_interrupted(encoder):
    """It was silent for 30 minutes, and Ctrl-C had no effect."""
    announced = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    script = (
        "from skprotolm import ProtoLMClassifier\n"
        f"ProtoLMClassifier({encoder!r}).fit(['good', 'bad'] * 4, [1, 0] * 4)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, **announced, "MASTER_PORT": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        lines = iter(process.stderr.readline, "")
        assert any("fit waits for other processes" in line for line in lines)
        process.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
    finally:
        process.kill()


@pytest.mark.usefixtures("launcher")
def test_threads_fit_alone():
    sizes: list[int] = []
    thread = threading.Thread(target=lambda: sizes.append(find_size()))
    thread.start()
    thread.join()
    assert sizes == [1]


@pytest.mark.usefixtures("launcher")
def test_workers_of_a_search_fit_alone(monkeypatch):
    """They inherit the environment of the process that starts them."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with joblib.parallel_config("loky", n_jobs=2):
        sizes = joblib.Parallel()(joblib.delayed(find_size)() for _ in range(2))
    assert sizes == [1, 1]


@pytest.mark.usefixtures("launcher")
@pytest.mark.parametrize(
    ("device", "expected"),
    [("auto", "cuda:1"), ("cuda", "cuda:1"), ("cuda:0", "cuda:0"), ("cpu", "cpu")],
)
def test_each_process_has_its_own_gpu_unless_one_is_named(
    monkeypatch, device, expected
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert resolve_own_device(device) == torch.device(expected)


@pytest.mark.usefixtures("launcher")
def test_devices_that_cannot_exchange_tensors_are_refused():
    with (
        pytest.raises(ValueError, match="set device='cpu'"),
        joined(torch.device("mps")),
    ):
        pass
