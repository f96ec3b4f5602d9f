"""The fits that `test_parallel.py` runs, in one process and in several.

    python -m tests.parallel_fits ENCODER RESULTS STEPS...

runs steps in one of several processes, whose environment is that of torchrun, and
writes what they return to RESULTS. The encoder should have no dropout.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from skprotolm import ProtoLMClassifier, ProtoLMRegressor, ProtoLMTokenClassifier
from skprotolm._processes import Processes, joined
from skprotolm._training.agreement import model_of_first
from skprotolm._training.row_gradients import RowGradients
from tests import label_sets, tagged
from tests.texts import make_texts
from tests.watching import Watcher, weights_of

X, Y = make_texts()
LONG = [" ".join(X[i : i + 1 + i % 12]) for i in range(len(X))]
PAIRS = list(zip(X, X[::-1], strict=True))
NUMBERS_OF_ROWS = (1, 4, 5)
WEIGHTS = np.linspace(0, 3, len(X))
NUMBERS = np.arange(len(X)) % 7 + 3.0 * (Y == "pos")
STOPPING = {"early_stopping": True, "validation_fraction": 0.3, "max_epochs": 3}
PARTS = {"gradient_accumulation_steps": 3, "gradient_checkpointing": True}
WINDOWS = {"long_text": "window", "max_length": 24}
# Parameters, and the data of `fit`, of each case.
CASES: dict[str, tuple[type, dict[str, Any], tuple[Any, ...]]] = {
    "full": (ProtoLMClassifier, {}, (X, Y)),
    "head": (ProtoLMClassifier, {"finetune": "head"}, (X, Y)),
    "last layer": (ProtoLMClassifier, {"finetune": 1}, (X, Y)),
    "adapters": (ProtoLMClassifier, {"finetune": "lora"}, (X, Y)),
    "early stopping": (ProtoLMClassifier, STOPPING, (X, Y)),
    "last layer, stopping": (ProtoLMClassifier, STOPPING | {"finetune": 1}, (X, Y)),
    "weights": (ProtoLMClassifier, {}, (X, Y, WEIGHTS)),
    "pairs": (ProtoLMClassifier, {}, (PAIRS, Y)),
    "several labels": (ProtoLMClassifier, {}, (label_sets.X, label_sets.Y)),
    "numbers": (ProtoLMRegressor, {}, (X, NUMBERS)),
    "tags": (ProtoLMTokenClassifier, {}, (tagged.X, tagged.Y)),
    "tags, head": (ProtoLMTokenClassifier, {"finetune": "head"}, (tagged.X, tagged.Y)),
    "proto-lm": (ProtoLMClassifier, {"formulation": "proto-lm"}, (X, Y)),
    "windows": (ProtoLMClassifier, WINDOWS, (LONG, Y)),
    "windows, last layer": (ProtoLMClassifier, WINDOWS | {"finetune": 1}, (LONG, Y)),
    "parts of batches": (ProtoLMClassifier, PARTS, (X, Y)),
    "a batch of one text": (ProtoLMClassifier, {"batch_size": 47}, (X, Y)),
}


def make_estimator(kind: type, encoder: str, **parameters: Any) -> Any:
    """Return a small, quick estimator."""
    defaults: dict[str, Any] = {
        "backbone": encoder,
        "n_prototypes": 3,
        "max_epochs": 2,
        "batch_size": 9,  # so that batches do not divide by two
        "learning_rate": 1e-3,
        "random_state": 0,
        "precision": "fp32",
    }
    return kind(**{**defaults, **parameters})


def fit_case(name: str, encoder: str) -> dict[str, Any]:
    """Fit one case, and return what the estimator has learned."""
    kind, parameters, data = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = make_estimator(kind, encoder, **parameters).fit(*data)
        return learned_by(estimator, data[0])


def learned_by(estimator: Any, X: Any) -> dict[str, Any]:
    """Return predictions, weights, history and quoted texts."""
    predict = getattr(estimator, "predict_proba", estimator.predict)
    return {
        "predictions": np.concatenate([np.ravel(row) for row in predict(X)]),
        "weights": {name: w.numpy() for name, w in weights_of(estimator).items()},
        "history": estimator.history_,
        "texts": [str(text) for text in estimator.prototypes_.texts],
    }


# Steps. All processes run them, one after another.


def all_cases(encoder: str, rank: int) -> dict[str, Any]:
    """Fit all cases, and return also whether a process group is left."""
    fitted = {name: fit_case(name, encoder) for name in CASES}
    return {"fitted": fitted, "is_initialized": dist.is_initialized()}


def one_case(encoder: str, rank: int) -> dict[str, Any]:
    """Fit one case."""
    return fit_case("full", encoder)


def without_seed(encoder: str, rank: int) -> dict[str, Any]:
    """Fit with the progress bar and the generator of the process, without a seed."""
    clf = make_estimator(ProtoLMClassifier, encoder, random_state=None, verbose=1)
    return learned_by(clf.fit(X, Y), X)


def dropout(encoder: str, rank: int) -> dict[str, Any]:
    """Fit an encoder with dropout, and return the first mask, too."""
    folder = Path(encoder).with_name("with dropout")
    masks: list[np.ndarray] = []

    def watch(module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(module, nn.Dropout) and module.training and not masks:
            masks.append((output == 0).numpy())

    handle = register_module_forward_hook(watch)
    clf = make_estimator(ProtoLMClassifier, str(folder), batch_size=8).fit(X, Y)
    handle.remove()
    return {"mask": masks[0], **learned_by(clf, X)}


def callbacks(encoder: str, rank: int) -> dict[str, Any]:
    """Fit with a callback that wants to stop after other epochs in each process."""
    clf = make_estimator(ProtoLMClassifier, encoder, max_epochs=4)
    watcher = Watcher(stop_after=2 if rank == 0 else 1)
    clf.set_callbacks(watcher).fit(X, Y)
    return {"n_epochs": clf.n_iter_, "tasks": watcher.ended_tasks}


def continued(encoder: str, rank: int) -> dict[str, Any]:
    """Fit by `partial_fit`, add a class, and fit again from the encoder so far."""
    clf = make_estimator(ProtoLMClassifier, encoder, warm_start=True)
    clf.partial_fit(X, Y).partial_fit(["i lost my card", "a new card"], ["card"] * 2)
    return learned_by(clf.fit(X, Y), X)


def own_group(encoder: str, rank: int) -> dict[str, Any]:
    """Fit in a process group that the script has initialized, and goes on to use."""
    dist.init_process_group("gloo")
    result = fit_case("full", encoder)
    total = torch.ones(())
    dist.all_reduce(total)
    dist.destroy_process_group()
    return {"total": float(total), **result}


def unequal_models(encoder: str, rank: int) -> dict[str, Any]:
    """Fit apart from the other process, and then take the model of the first."""
    clf = make_estimator(ProtoLMClassifier, encoder, random_state=rank)
    thread = threading.Thread(target=clf.fit, args=(X, Y))  # threads fit alone
    thread.start()
    thread.join()
    before = learned_by(clf, X)
    with joined(torch.device("cpu")) as processes:
        clf._fitted = model_of_first(processes, clf._fitted)
    return {"before": before, "after": {**learned_by(clf, X), "history": []}}


def gradients(encoder: str, rank: int) -> dict[str, Any]:
    """Return the gradients of losses on rows that two processes have computed."""
    with joined(torch.device("cpu")) as processes:
        of_rows = {str(n): gradients_of(n, processes) for n in NUMBERS_OF_ROWS}
        return {
            "embedding": embedding_gradient(processes),
            "experts": expert_gradients(processes),
            **of_rows,
        }


def gradients_of(n: int, processes: Processes) -> torch.Tensor:
    """Return the gradients of one weight for each row and of one for all of them."""
    rows, encoder, head = torch.arange(1.0, n + 1), *torch.ones(2, 1)
    encoder.requires_grad_()
    head.requires_grad_()
    vectors = processes.gather((encoder * rows)[processes.part(n)], n)
    (head * vectors).logsumexp(dim=0).square().backward()
    weights: Any = [encoder, head]
    processes.average_gradients(weights)
    return torch.stack([weight.grad for weight in weights])


def embedding_gradient(processes: Processes) -> torch.Tensor:
    """Return the gradient of a large embedding, of which a batch has few tokens.

    It is that of the last of three steps, with other tokens.
    """
    embedding = nn.Embedding(5000, 2)
    nn.init.ones_(embedding.weight)
    row_gradients = RowGradients(embedding)
    for batch in [[1, 2, 3, 4], [5, 4999, 8, 6], [7, 4000, 7, 5]]:
        embedding.zero_grad()
        with row_gradients.collected():
            tokens = torch.tensor(batch)[processes.part(4)]
            vectors = processes.gather(embedding(tokens), 4)
            (vectors * torch.arange(8.0).reshape(4, 2)).sum().square().backward()
        row_gradients.complete()
        processes.average_gradients(embedding.parameters())
    assert embedding.weight.grad is not None
    return embedding.weight.grad


def expert_gradients(processes: Processes) -> torch.Tensor:
    """Return the gradients of three weights: of a first row, of a second, of none."""
    experts: Any = [nn.Parameter(torch.tensor([value])) for value in (2.0, 3.0, 4.0)]
    [*rows] = np.arange(2)[processes.part(2)]
    part = torch.stack([experts[row] for row in rows])
    processes.gather(part, 2).prod().backward()
    processes.average_gradients(experts)
    assert experts[2].grad is None
    return torch.cat([expert.grad for expert in experts[:2]])


def errors(encoder: str, rank: int) -> dict[str, Any]:
    """Return the errors of fits whose arguments differ, or of which one fails."""
    clf = make_estimator(ProtoLMClassifier, encoder)
    other = make_estimator(
        ProtoLMClassifier, encoder, batch_size=9 + rank, max_epochs=2 + rank
    )
    swapped = np.array(["neg", "pos"])[(Y == "neg").astype(int)]
    attempts: dict[str, Callable[[], Any]] = {
        "texts": lambda: clf.fit(X[::-1] if rank else X, Y),
        "labels": lambda: clf.fit(X, swapped if rank else Y),
        "weights": lambda: clf.fit(X, Y, WEIGHTS + rank),
        "parameters": lambda: other.fit(X, Y),
        "hardware": lambda: _fit_with_other_units(rank, encoder),
        "failure": lambda: _failing(rank, clf),
    }
    return {name: _message(attempt) for name, attempt in attempts.items()}


def _fit_with_other_units(rank: int, encoder: str) -> None:
    """Fit where only one process has units for bfloat16."""
    capabilities = torch.cpu.get_capabilities
    torch.cpu.get_capabilities = lambda: {"avx512_bf16": rank == 0}
    try:
        make_estimator(ProtoLMClassifier, encoder, precision="auto").fit(X, Y)
    finally:
        torch.cpu.get_capabilities = capabilities


def killed(encoder: str, rank: int) -> dict[str, Any]:
    """Return the error of a fit of which another process is killed."""
    clf = make_estimator(ProtoLMClassifier, encoder)
    _at_third_step(lambda: os.kill(os.getpid(), signal.SIGKILL) if rank else None)
    message = _message(lambda: clf.fit(X, Y))
    return {"message": message, "is_fitted": hasattr(clf, "classes_")}


def _message(attempt: Callable[[], Any]) -> str:
    try:
        attempt()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def _failing(rank: int, clf: Any) -> None:
    def fail() -> None:
        if rank:
            raise OSError("the disk is full")

    step = torch.optim.AdamW.step
    _at_third_step(fail)
    try:
        clf.fit(X, Y)
    finally:
        torch.optim.AdamW.step = step  # type: ignore[method-assign]


def _at_third_step(action: Callable[[], Any]) -> None:
    step, n_steps = torch.optim.AdamW.step, []

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        n_steps.append(1)
        if len(n_steps) == 3:
            action()
        return step(self, *args, **kwargs)

    torch.optim.AdamW.step = counted  # type: ignore[method-assign]


STEPS: dict[str, Callable[[str, int], dict[str, Any]]] = {
    step.__name__: step
    for step in (
        all_cases,
        one_case,
        without_seed,
        dropout,
        continued,
        own_group,
        unequal_models,
        gradients,
        errors,
        callbacks,
        killed,  # comes last: one process ends
    )
}


def main() -> None:
    """Run steps, and write the result of each."""
    encoder, folder, *steps = sys.argv[1:]
    rank = int(os.environ["RANK"])
    torch.set_num_threads(1)
    for step in steps:
        result = STEPS[step](encoder, rank)
        path = Path(folder) / f"{step}-{rank}.pickle"
        path.write_bytes(pickle.dumps(result))


if __name__ == "__main__":
    main()
