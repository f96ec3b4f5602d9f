"""A fit in five steps: build, initialize, train, project, finalize."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from skprotolm._config import FitConfig
from skprotolm._fitted import FittedModel
from skprotolm._network.adapters import add_adapters, hold_in_bf16, merge_adapters
from skprotolm._network.encoder import TextEncoder
from skprotolm._network.network import Network
from skprotolm._network.pooling import TokenAttention
from skprotolm._network.prototypes import PrototypeLayer
from skprotolm._network.token_vectors import EncodedTexts
from skprotolm._records.memory import Memory
from skprotolm._records.quotes import Quotes
from skprotolm._resolve import resolve
from skprotolm._runtime import deferred_interrupt, memory_errors, preserved_rng_state
from skprotolm._training.agreement import model_of_first, require_same_fit
from skprotolm._training.build import build, load
from skprotolm._training.callbacks import FitCallbacks
from skprotolm._training.early_stopping import EarlyStopping
from skprotolm._training.initialization import INITIALIZERS, warn_of_few_texts
from skprotolm._training.inputs import FitInput
from skprotolm._training.names import name_prototypes
from skprotolm._training.neighborhoods import (
    coincident,
    count_usage,
    label_agreement,
    measure_purity,
    nearest_prototypes,
)
from skprotolm._training.novelty_limit import find_novelty_limit
from skprotolm._training.progress import Progress
from skprotolm._training.projection import PROJECTIONS, nearest_texts
from skprotolm._training.splits import FitData
from skprotolm._training.trainer import (
    Trainer,
    finite_vectors,
    raise_diverged,
)


class FitResult(NamedTuple):
    """Result of a fit."""

    model: FittedModel
    config: FitConfig  # resolved
    history: list[dict[str, float]]
    is_interrupted: bool
    n_coincident: int  # prototypes that nearly coincide with another one
    never_predicted: list[Any]  # labels, see `find_never_predicted`


def fit(
    config: FitConfig, given: FitInput, device: torch.device, callbacks: FitCallbacks
) -> FitResult:
    """Fit a model; the caller has seeded torch and isolated it."""
    processes = given.processes
    # Gradients may be disabled around `fit`.
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        Progress(config.verbose if processes.rank == 0 else 0) as progress,
    ):
        progress.begin("loading the backbone")
        encoder, config = load(config, device)
        require_same_fit(given, config, encoder, callbacks)
        batch = config.part_size, encoder.max_length
        progress.begin("reading texts")
        with memory_errors(*batch):
            attention, data = build(encoder, config, given, progress)
            if config.trains_adapters:  # which rename the weights that `start` has
                add_adapters(encoder)
                if config.train_bf16:
                    hold_in_bf16(encoder)
            progress.begin("initializing prototypes")
            network, config = initialize(encoder, attention, data, config)
        trainer = Trainer(network, data, config)
        stopping = None
        if data.validation is not None:
            stopping = EarlyStopping(
                network, *data.validation, data.task, config, processes
            )
        with preserved_rng_state(device):
            callbacks.on_fit_begin(config.max_epochs)
        with memory_errors(*batch):
            is_interrupted = train(trainer, stopping, callbacks, progress)
            result = collect_result(trainer, stopping, is_interrupted, progress)
        try:
            with preserved_rng_state(device):
                callbacks.on_fit_end(result.model)
        except processes.interrupts:  # everything is learned
            return result._replace(is_interrupted=True)
        return result


# Initialize: every "auto" resolved, and the layer of prototypes.


def initialize(
    encoder: TextEncoder, attention: TokenAttention, data: FitData, config: FitConfig
) -> tuple[Network, FitConfig]:
    """Resolve the parameters, and start the prototypes."""
    candidates = data.candidates
    pretrained = data.pretrained.numpy()[candidates.rows]
    strata = data.task.strata
    n_candidates = np.bincount(candidates.strata, minlength=len(strata)).tolist()
    rows, memberships = data.task.memberships(data.targets)
    is_member = np.isin(rows, candidates.rows)
    n_members = np.bincount(memberships[is_member], minlength=len(strata)).tolist()
    wanted = None
    if config.n_prototypes != "auto":
        n = config.n_prototypes
        wanted = data.task.prototypes_per_stratum(n, n_candidates)
        warn_of_few_texts(wanted, n_candidates, data.task)
    config = resolve(
        config,
        n_texts=len(data.tokenized),
        is_paired=data.columns.number == 2,
        hidden_size=encoder.hidden_size,
        task=data.task,
        wanted=wanted,
        n_candidates=n_candidates,
        n_members=n_members,
        label_agreement=data.processes.agree(
            label_agreement(pretrained, candidates.strata, data.seed)
        ),
    )
    layer = INITIALIZERS[config.formulation](data, config)
    network = Network(encoder, attention, layer).to(encoder.device)
    data.processes.share(network)
    return network, config


# Train.


def train(
    trainer: Trainer,
    stopping: EarlyStopping | None,
    callbacks: FitCallbacks,
    progress: Progress,
) -> bool:
    """Train until all epochs are over or something stops it.

    Returns whether it was interrupted by Ctrl-C, after the first step.
    """
    processes = trainer.data.processes
    try:
        if stopping is not None:
            stopping.update(progress.on_pass)
        for _ in range(trainer.config.max_epochs):
            if run_epoch(trainer, stopping, callbacks, progress):
                break
        with deferred_interrupt():
            if stopping is not None and not stopping.is_best:
                trainer.load_weights(stopping.weights)
    except processes.interrupts:
        if trainer.n_steps == 0:  # nothing was learned
            raise
        return True
    return False


def run_epoch(
    trainer: Trainer,
    stopping: EarlyStopping | None,
    callbacks: FitCallbacks,
    progress: Progress,
) -> bool:
    """Train for one epoch, and return whether to stop after it."""
    with preserved_rng_state(trainer.network.encoder.device):
        callbacks.on_epoch_begin()
    progress.begin(f"epoch {len(trainer.history) + 1}/{trainer.config.max_epochs}")
    figures = trainer.run_epoch(progress)
    progress.show(loss=figures["loss"])
    if stopping is not None:
        figures["validation_score"] = stopping.update(progress.on_pass)
        progress.show(validation_score=figures["validation_score"])
    trainer.history.append(figures)

    def snapshot() -> FittedModel:
        network = copy.deepcopy(trainer.network)
        if stopping is None or stopping.is_best:
            return finalize(network, trainer.vectors(), trainer)
        network.load_state_dict(stopping.weights, strict=False)
        vectors = finite_vectors(network, trainer.data.source, trainer.config)
        return finalize(network, vectors, trainer)

    with preserved_rng_state(trainer.network.encoder.device):
        is_stopped = trainer.data.processes.agree(callbacks.on_epoch_end(snapshot))
    return is_stopped or (stopping is not None and stopping.has_ended)


# Project: prototypes onto texts.


def project(
    network: Network, vectors: Tensor, trainer: Trainer
) -> tuple[PrototypeLayer, np.ndarray]:
    """Return the layer on texts, and the row of each prototype's text.

    With ``projection=False`` the layer keeps its vectors, and the rows are those of the
    nearest texts.
    """
    layer, data, config = network.layer, trainer.data, trainer.config
    is_finite = layer.outputs_of(vectors, lambda outputs, _: outputs.isfinite().all(1))
    if not is_finite.all():
        raise_diverged(config)
    if not config.projection:
        return layer, nearest_texts(layer, data, config, vectors)

    def read(rows: np.ndarray) -> Tensor:
        # In fp32, as predictions are.
        texts = [data.texts[row] for row in rows]
        tokenized = network.encoder.tokenize(texts, quiet=True)
        source = EncodedTexts(tokenized, bf16=False)
        return finite_vectors(network, source, config)

    return PROJECTIONS[config.formulation](layer, data, config, vectors, read)


# Finalize: what the estimator keeps.


def finalize(network: Network, vectors: Tensor, trainer: Trainer) -> FittedModel:
    """Project a network's prototypes and freeze it; after Ctrl-C it can be repeated.

    Parameters
    ----------
    network : Network
        The trainer's, or a copy with other weights.
    vectors : Tensor of shape (n, H)
        Of the training texts.
    trainer : Trainer
    """
    encoder, attention = network.encoder, network.attention
    network = Network(encoder, attention, copy.deepcopy(network.layer))
    network.eval().requires_grad_(False).zero_grad(set_to_none=True)
    with deferred_interrupt():
        merge_adapters(encoder)
    network.layer, rows = project(network, vectors, trainer)
    network.layer.freeze()
    config = trainer.config
    texts = network.layer.to_euclidean(vectors.to(network.layer.vectors)).cpu().numpy()
    model = FittedModel(
        network=network,
        task=trainer.data.task,
        quotes=_quotes(texts, rows, trainer),
        columns=trainer.data.columns,
        batch_size=config.part_size,
        bf16=config.predict_bf16,
        device=str(config.device),
        novelty_limit=find_novelty_limit(network.layer, trainer.data, vectors, rows),
        memory=_remember(vectors, rows, trainer),
    )
    return model_of_first(trainer.data.processes, model)


def _remember(vectors: Tensor, quoted: np.ndarray, trainer: Trainer) -> Memory | None:
    """Return the memory of a model that can go on learning.

    Parameters
    ----------
    vectors : Tensor of shape (n, H)
        Of the training texts.
    quoted : ndarray of shape (M,)
        The row of each prototype's text.
    trainer : Trainer
    """
    data, layer = trainer.data, trainer.network.layer
    if not (trainer.config.projection and layer.can_be_extended):
        return None
    ids = data.candidates.text_ids
    prototypes = np.full(ids.max() + 1, -1)
    prototypes[ids[quoted]] = np.arange(len(quoted))
    weights = data.targets.weights
    return Memory.sample(
        vectors.numpy(), weights, prototypes[ids], data.n_rows, data.seed
    )


def _quotes(texts: np.ndarray, rows: np.ndarray, trainer: Trainer) -> Quotes:
    """Return the texts of prototypes, with names, purity and usage."""
    data = trainer.data
    targets, ids = data.targets, data.candidates.text_ids
    nearest = nearest_prototypes(rows, texts)
    return Quotes(
        texts=tuple(data.texts[i] for i in rows),
        names=name_prototypes(data.texts, rows, nearest),
        train_indices=targets.rows[rows],
        purities=measure_purity(rows, texts, targets.strata, ids),
        usages=count_usage(rows, nearest, ids),
        projected=np.full(len(rows), trainer.config.projection),
        redacted=np.full(len(rows), False),
        ids=np.arange(len(rows)),
    )


def collect_result(
    trainer: Trainer,
    stopping: EarlyStopping | None,
    is_interrupted: bool,
    progress: Progress,
) -> FitResult:
    """Finalize, also if interrupted, and collect what the estimator warns of."""
    processes = trainer.data.processes
    try:
        progress.begin("placing prototypes", trainer.parts_per_pass)
        vectors = trainer.vectors(progress.on_pass)
        model = finalize(trainer.network, vectors, trainer)
    except processes.interrupts:  # it takes seconds, and training took minutes
        is_interrupted = True
        vectors = trainer.vectors(progress.on_pass)
        model = finalize(trainer.network, vectors, trainer)
    n_coincident, never_predicted = 0, []
    try:
        n_coincident = int(coincident(*_positions(model)).sum())
        never_predicted = find_never_predicted(model, trainer, stopping)
    except processes.interrupts:  # everything is learned
        is_interrupted = True
    return FitResult(
        model,
        trainer.config,
        processes.agree(trainer.history),
        is_interrupted,
        n_coincident,
        never_predicted,
    )


def _positions(model: FittedModel) -> tuple[np.ndarray, np.ndarray]:
    """Return where prototypes are, and which have the same value."""
    layer = model.network.layer
    ids = model.task.value_ids(layer.values.cpu().numpy())
    return layer.positions.cpu().numpy(), ids


def find_never_predicted(
    model: FittedModel, trainer: Trainer, stopping: EarlyStopping | None
) -> list[Any]:
    """Return the labels of held-out texts that are predicted for none of them.

    Without early stopping it uses the training texts that are not prototypes, most of
    which a model soon memorizes.
    """
    data = trainer.data
    if stopping is not None:
        vectors, values = stopping.vectors, stopping.targets.values
    else:
        ids = data.candidates.text_ids
        quoted = ids[np.isin(data.targets.rows, model.quotes.train_indices)]
        others = np.flatnonzero(~np.isin(ids, quoted))
        vectors = trainer.vectors()[others]
        values = data.targets.values[others]
    if not len(values):
        return []
    task = model.task

    def predicted(outputs: Tensor, _: slice) -> Tensor:
        return torch.from_numpy(task.predicted_values(outputs.numpy()))

    found = model.network.layer.outputs_of(vectors, predicted).numpy()
    return task.never_predicted(found, values)
