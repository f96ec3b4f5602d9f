"""Predictions through other backends: speed, accuracy and first quoted texts.

    python examples/benchmarks/backends.py --data FOLDER_OF_CSV_FILES

One classifier is fitted, and its copies predict the same short texts in turn. Times are
CPU times of one thread, which other programs on the machine disturb least.
"""

from __future__ import annotations

import argparse
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tasks import load_task, provenance

from skprotolm import ProtoLMClassifier

SEED = 0
BACKENDS = (
    ("torch", "fp32"),
    ("onnx", "fp32"),
    ("onnx", "int8"),
    ("openvino", "fp32"),
    ("openvino", "int8"),
)
ENGINES = ("onnxruntime", "openvino")
INT8_INSTRUCTIONS = ("avx_vnni", "avx512_vnni", "amx_int8")


def int8_instructions() -> str:
    """Name the instructions for products of 8-bit integers that the CPU has."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return ", ".join(filter(capabilities.get, INT8_INSTRUCTIONS)) or "none"


def first_quoted(clf: Any, X: list[str]) -> np.ndarray:
    """Return the first prototype of the explanation of each text."""
    explanations = clf.explain(X, top_k=1, token_method="decomposition")
    return np.array([explanation.prototypes[0].index for explanation in explanations])


def cpu_seconds(copies: dict[Any, Any], X: list[str], repeats: int) -> dict[Any, list]:
    """Time the copies in turn, after one untimed round."""
    seconds: dict[Any, list] = {name: [] for name in copies}
    for repeat in range(repeats + 1):
        for name, clf in copies.items():
            started = time.process_time()
            clf.predict_proba(X)
            if repeat:
                seconds[name].append(time.process_time() - started)
    return seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--timed", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    task = load_task("sst2", arguments.data)
    X, y = task.X_train[: arguments.texts], task.y_train[: arguments.texts]
    torch.set_num_threads(1)
    fitted = ProtoLMClassifier(random_state=SEED).fit(X, y)
    copies, preparation = {}, {}
    for name in BACKENDS:
        started = time.process_time()
        copies[name] = fitted.optimize(*name)
        preparation[name] = time.process_time() - started
    engines = ", ".join(f"{name} {version(name)}" for name in ENGINES) + "."
    print(
        f"{provenance()} {engines} {len(X)} training texts of SST-2, "
        f"{len(task.X_test)} test texts, {arguments.timed} of them timed, "
        f"seed {SEED}, one thread. "
        f"Instructions for 8-bit integers: {int8_instructions()}.\n"
    )
    seconds = cpu_seconds(copies, task.X_test[: arguments.timed], arguments.repeats)
    print(
        "| backend, dtype | speed, of torch | all | accuracy, % | difference | mean "
        "change of p | same first quoted text, % | optimize, s |"
    )
    print("| --- " * 8 + "|", flush=True)
    torch_copy = copies["torch", "fp32"]
    p_torch = torch_copy.predict_proba(task.X_test)
    quoted_torch = first_quoted(torch_copy, task.X_test)
    correct_torch = fitted.classes_[p_torch.argmax(axis=1)] == task.y_test
    for name, clf in copies.items():
        ratios = np.divide(seconds["torch", "fp32"], seconds[name])
        p = clf.predict_proba(task.X_test)
        correct = fitted.classes_[p.argmax(axis=1)] == task.y_test
        same = first_quoted(clf, task.X_test) == quoted_torch
        print(
            f"| {', '.join(name)} | {np.median(ratios):.2f} "
            f"| {', '.join(f'{ratio:.2f}' for ratio in ratios)} "
            f"| {100 * correct.mean():.2f} "
            f"| {100 * (correct.mean() - correct_torch.mean()):+.2f} "
            f"| {np.abs(p - p_torch).mean():.4f} | {100 * same.mean():.1f} "
            f"| {preparation[name]:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
