"""A fit in five steps: build, initialize, train, project, finalize."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from skprotolm._config import (
    FitConfig,
    resolve,
    resolve_precision,
    spread_prototypes,
)
from skprotolm._data.texts import Columns, Texts
from skprotolm._fitted import FittedModel
from skprotolm._network.encoder import TextEncoder, load_encoder, merge_adapters
from skprotolm._network.network import Network, encode, in_order
from skprotolm._network.pooling import TokenAttention
from skprotolm._network.prototypes import PrototypeLayer
from skprotolm._network.token_vectors import EncodedTexts, ReadTexts, StoredTexts
from skprotolm._network.tokenizer import TokenizedTexts
from skprotolm._records.prototypes import Quotes
from skprotolm._runtime import (
    deferred_interrupt,
    has_bf16,
    memory_errors,
    preserved_rng_state,
    warn,
)
from skprotolm._tasks.base import Targets, Task
from skprotolm._training.callbacks import FitCallbacks
from skprotolm._training.early_stopping import EarlyStopping
from skprotolm._training.initialization import INITIALIZERS
from skprotolm._training.neighborhoods import (
    count_coincident,
    count_usage,
    label_agreement,
    measure_purity,
)
from skprotolm._training.projection import (
    PROJECTION_TARGETS,
    assign,
    learned_positions,
    prototype_strata,
    prune,
)
from skprotolm._training.refit import RECALIBRATION
from skprotolm._training.splits import (
    FitData,
    TextSet,
    find_candidates,
    require_candidates,
    select,
    split,
)
from skprotolm._training.trainer import (
    Trainer,
    finite_vectors,
    raise_diverged,
)
from skprotolm.exceptions import FewerPrototypesWarning


@dataclass(frozen=True)
class FitInputs:
    """What an estimator hands over: checked parameters, texts and targets."""

    config: FitConfig
    task: Task
    targets: Targets
    texts: Texts
    columns: Columns
    seed: int
    device: torch.device


class FitResult(NamedTuple):
    """What a fit gives."""

    model: FittedModel
    config: FitConfig  # resolved
    history: list[dict[str, float]]
    interrupted: bool
    n_coincident: int  # prototypes that nearly coincide with another one
    never_predicted: list[Any]  # labels, see `find_never_predicted`


def fit(inputs: FitInputs, callbacks: FitCallbacks) -> FitResult:
    """Fit a model; the caller has seeded torch and isolated it."""
    # The caller's user may have switched gradients off around `fit`.
    with torch.inference_mode(False), torch.enable_grad():
        encoder = load(inputs)
        with memory_errors(inputs.config.batch_size, encoder.max_length):
            attention, data = build(encoder, inputs)
            network, config = initialize(encoder, attention, data, inputs)
            with preserved_rng_state(inputs.device):
                callbacks.on_fit_begin(config.max_epochs)
            trainer = Trainer(network, data, config, inputs.seed)
            stopping = None
            if data.validation is not None:
                stopping = EarlyStopping(network, data.validation, data.task, config)
            interrupted = train(trainer, stopping, callbacks, inputs)
            return finish(trainer, stopping, callbacks, inputs, interrupted)


# Build: from inputs to what is trained.


def load(inputs: FitInputs) -> TextEncoder:
    """Load the encoder, frozen if only the head is trained."""
    config = inputs.config
    encoder = load_encoder(config.backbone, config.max_length).to(inputs.device)
    if config.finetune == "head":
        encoder.requires_grad_(False)
    elif encoder.is_frozen:
        raise ValueError(
            "No weight of the backbone may be trained: requires_grad is False for "
            "all. Call backbone.requires_grad_(True), or set finetune='head'."
        )
    return encoder


def build(encoder: TextEncoder, inputs: FitInputs) -> tuple[TokenAttention, FitData]:
    """Tokenize and split the texts, and run the frozen encoder over them once."""
    config, targets, task = inputs.config, inputs.targets, inputs.task
    texts: Any = [inputs.texts[i] for i in targets.rows]
    tokenized = encoder.tokenize(texts)
    keys = tokenized.keys
    candidates = find_candidates(keys, targets.strata)
    rows, held_out = split(targets.strata, candidates, config, inputs.seed)
    training = select(targets, rows)
    if held_out.size:  # a text may be its class's own once others are held out
        candidates = find_candidates([keys[i] for i in rows], training.strata)
    require_candidates([texts[i] for i in rows], training, candidates, task)
    attention = TokenAttention(encoder.hidden_size).to(encoder.device, encoder.dtype)
    bf16 = train_bf16(encoder, config)
    tokens = tokenized.take(rows)
    source, vectors, pretrained = frozen_pass(
        encoder, attention, tokens, config.batch_size, bf16
    )
    validation = None
    if held_out.size:
        tokens_out = tokenized.take(held_out)
        source_out: ReadTexts = EncodedTexts(tokens_out, bf16=bf16)
        if encoder.is_frozen:
            source_out, _, _ = frozen_pass(
                encoder, attention, tokens_out, config.batch_size, bf16
            )
        validation = TextSet(tokens_out, source_out, select(targets, held_out))
    return attention, FitData(
        task=task,
        texts=[texts[i] for i in rows],
        columns=inputs.columns,
        training=TextSet(tokens, source, training),
        validation=validation,
        candidates=candidates,
        vectors=vectors,
        pretrained=pretrained,
    )


def train_bf16(encoder: TextEncoder, config: FitConfig) -> bool:
    """Whether the encoder runs in bfloat16 during the fit."""
    is_fp32 = encoder.dtype == torch.float32
    return resolve_precision(config.precision, is_fp32, has_bf16(encoder.device))[0]


def frozen_pass(
    encoder: TextEncoder,
    attention: TokenAttention,
    tokenized: TokenizedTexts,
    batch_size: int,
    bf16: bool,
) -> tuple[ReadTexts, Tensor, Tensor]:
    """Run the pretrained encoder over texts once.

    Returns the texts as training reads them, stored if no weight of the encoder is
    trained; the text vectors (n, H) of the untrained attention; and the encoder's
    sentence vectors (n, P).
    """
    source = EncodedTexts(tokenized, bf16=bf16)
    stored = StoredTexts(tokenized, encoder) if encoder.is_frozen else None
    vectors, sentences = [], []
    for encoded in encode(encoder, attention, source, batch_size):
        batch = encoder.tokenizer.collate(tokenized, encoded.rows).to(encoder.device)
        with torch.inference_mode():
            pretrained = encoder.sentence_vectors(batch, encoded.h)
        vectors.append((encoded.rows, encoded.s.cpu()))
        sentences.append((encoded.rows, pretrained.cpu()))
        if stored is not None:
            stored.store(encoded.rows, encoded.h)
    return stored or source, in_order(vectors), in_order(sentences)


# Initialize: every "auto" resolved, and the layer of prototypes.


def initialize(
    encoder: TextEncoder, attention: TokenAttention, data: FitData, inputs: FitInputs
) -> tuple[Network, FitConfig]:
    """Resolve the parameters, and start the prototypes."""
    candidates, seed = data.candidates, inputs.seed
    pretrained = data.pretrained.numpy()[candidates.rows]
    strata = data.task.strata
    n_candidates = np.bincount(candidates.strata, minlength=len(strata)).tolist()
    config = resolve(
        inputs.config,
        n_texts=len(data.texts),
        is_paired=data.columns.number == 2,
        hidden_size=encoder.hidden_size,
        is_fp32=encoder.dtype == torch.float32,
        has_bf16=has_bf16(encoder.device),
        strata=strata,
        n_candidates=n_candidates,
        label_agreement=label_agreement(pretrained, candidates.strata, seed),
    )
    warn_of_few_texts(inputs.config, strata, n_candidates)
    layer = INITIALIZERS[config.formulation](data, config, seed)
    return Network(encoder, attention, layer).to(inputs.device), config


def warn_of_few_texts(
    config: FitConfig, strata: list[Any], n_candidates: list[int]
) -> None:
    """Warn where fewer distinct texts exist than prototypes were asked for."""
    if config.n_prototypes == "auto":
        return
    wanted = spread_prototypes(config.n_prototypes, strata)
    short = [i for i in range(len(strata)) if n_candidates[i] < wanted[i]]
    if short:
        names = ", ".join(f"{strata[i]!r} ({n_candidates[i]})" for i in short[:5])
        warn(
            f"{len(short)} of {len(strata)} classes have fewer distinct texts of "
            f"their own than n_prototypes and get as many prototypes as texts: {names}"
            f"{', …' if len(short) > 5 else ''}.",
            FewerPrototypesWarning,
        )


# Train.


class _Bar(tqdm):
    """A progress bar without tqdm's thread, which would outlive the fit."""

    monitor_interval = 0


def train(
    trainer: Trainer,
    stopping: EarlyStopping | None,
    callbacks: FitCallbacks,
    inputs: FitInputs,
) -> bool:
    """Train until all epochs are over or something stops it.

    Returns whether it was interrupted by Ctrl-C, after the first step.
    """
    config = trainer.config
    total = config.max_epochs * trainer.steps_per_epoch
    with _Bar(total=total, desc="fit", disable=not config.verbose) as bar:
        try:
            if stopping is not None:
                stopping.update()
            for _ in range(config.max_epochs):
                if run_epoch(trainer, stopping, callbacks, bar, inputs):
                    break
            with deferred_interrupt():
                if stopping is not None and not stopping.is_best:
                    trainer.load_weights(stopping.weights)
        except KeyboardInterrupt:
            if trainer.n_steps == 0:  # nothing was learned
                raise
            return True
    return False


def run_epoch(
    trainer: Trainer,
    stopping: EarlyStopping | None,
    callbacks: FitCallbacks,
    bar: tqdm,
    inputs: FitInputs,
) -> bool:
    """Train for one epoch, and return whether to stop after it."""
    with preserved_rng_state(inputs.device):
        callbacks.on_epoch_begin()
    figures = trainer.run_epoch(bar)
    if stopping is not None:
        figures["validation_score"] = stopping.update()
    if trainer.config.verbose:
        bar.set_postfix(loss=f"{figures['loss']:.3f}")

    trainer.history.append(figures)

    def snapshot() -> FittedModel:
        network, vectors = copy.deepcopy(trainer.network), None
        if stopping is not None and not stopping.is_best:
            network.load_state_dict(stopping.weights, strict=False)
            source = trainer.data.training.source
            vectors = finite_vectors(network, source, trainer.config)
        return finalize(network, vectors, trainer, inputs)

    with preserved_rng_state(inputs.device):
        is_stopped = callbacks.on_epoch_end(snapshot)
    return is_stopped or (stopping is not None and stopping.has_ended)


# Project: prototypes onto texts.


def project(
    network: Network, vectors: Tensor, trainer: Trainer, inputs: FitInputs
) -> tuple[PrototypeLayer, np.ndarray]:
    """Return the layer on texts, and the row of each prototype's text.

    With ``projection=False`` the layer keeps its vectors, and the rows are those of the
    nearest texts.
    """
    layer, data, config = network.layer, trainer.data, trainer.config
    outputs = layer.outputs_of(vectors)
    if not outputs.isfinite().all():
        raise_diverged(config)
    strata, seed = prototype_strata(config), inputs.seed
    if not config.projection:
        positions, texts = learned_positions(layer, vectors)
        return layer, assign(positions, strata, texts, data.candidates)
    positions, texts = PROJECTION_TARGETS[config.formulation](
        layer, data, config, vectors, outputs, seed
    )
    rows = assign(positions, strata, texts, data.candidates)
    kept = np.arange(len(rows))
    if config.prune:
        texts = layer.to_euclidean(vectors).numpy()
        kept = prune(rows, texts, data.training.targets.strata, data.candidates)
    rows = rows[kept]
    # In fp32, as predictions are.
    source = EncodedTexts(data.training.tokenized.take(rows), bf16=False)
    quoted = finite_vectors(network, source, config)
    layer = layer.take(torch.from_numpy(kept), quoted.to(layer.vectors))
    if config.recalibrate:
        RECALIBRATION[config.formulation](layer, data, vectors, rows, outputs, seed)
    return layer, rows


# Finalize: what the estimator keeps.


def finalize(
    network: Network, vectors: Tensor | None, trainer: Trainer, inputs: FitInputs
) -> FittedModel:
    """Project a network's prototypes and freeze it; after Ctrl-C it can be repeated.

    Parameters
    ----------
    network : Network
        The trainer's, or a copy with other weights.
    vectors : Tensor of shape (n, H) or None
        Of the training texts; None for those of the trainer.
    trainer : Trainer
    inputs : FitInputs
    """
    vectors = trainer.vectors() if vectors is None else vectors
    encoder, attention = network.encoder, network.attention
    network = Network(encoder, attention, copy.deepcopy(network.layer))
    network.eval().requires_grad_(False).zero_grad(set_to_none=True)
    with deferred_interrupt():
        merge_adapters(encoder)
    network.layer, rows = project(network, vectors, trainer, inputs)
    network.layer.freeze()
    config = trainer.config
    texts = network.layer.to_euclidean(vectors).numpy()
    return FittedModel(
        network=network,
        task=inputs.task,
        quotes=_quotes(texts, rows, trainer),
        columns=inputs.columns,
        batch_size=config.batch_size,
        bf16=config.predict_bf16,
        device=str(config.device),
    )


def _quotes(texts: np.ndarray, rows: np.ndarray, trainer: Trainer) -> Quotes:
    """Return the texts of prototypes, with purity and usage."""
    data = trainer.data
    targets, ids = data.training.targets, data.candidates.text_ids
    return Quotes(
        texts=tuple(data.texts[i] for i in rows),
        train_indices=targets.rows[rows],
        purities=measure_purity(rows, texts, targets.strata, ids),
        usages=count_usage(rows, texts, ids),
        projected=np.full(len(rows), trainer.config.projection),
        redacted=np.full(len(rows), False),
        ids=np.arange(len(rows)),
    )


def finish(
    trainer: Trainer,
    stopping: EarlyStopping | None,
    callbacks: FitCallbacks,
    inputs: FitInputs,
    interrupted: bool,
) -> FitResult:
    """Finalize, whatever interrupts it, and collect what is warned of."""
    try:
        model = finalize(trainer.network, None, trainer, inputs)
    except KeyboardInterrupt:  # what was learned is worth the few seconds
        interrupted = True
        model = finalize(trainer.network, None, trainer, inputs)
    n_coincident, never_predicted = 0, []
    try:
        n_coincident = count_coincident(*_positions(model))
        never_predicted = find_never_predicted(model, trainer, stopping)
        with preserved_rng_state(inputs.device):
            callbacks.on_fit_end(model)
    except KeyboardInterrupt:  # all is learned
        interrupted = True
    return FitResult(
        model,
        trainer.config,
        trainer.history,
        interrupted,
        n_coincident,
        never_predicted,
    )


def _positions(model: FittedModel) -> tuple[np.ndarray, np.ndarray]:
    """Return where prototypes are, and their strata."""
    layer = model.layer
    strata = model.task.strata_of(layer.values.numpy())
    return layer.to_euclidean(layer.vectors).numpy(), strata


def find_never_predicted(
    model: FittedModel, trainer: Trainer, stopping: EarlyStopping | None
) -> list[Any]:
    """Return the labels of held-out texts that are predicted for none of them.

    Without early stopping it uses the training texts that are not prototypes, most of
    which a model soon memorizes.
    """
    data = trainer.data
    if stopping is not None:
        assert data.validation is not None
        vectors, values = stopping.vectors, data.validation.targets.values
    else:
        ids = data.candidates.text_ids
        quoted = ids[np.isin(data.training.targets.rows, model.quotes.train_indices)]
        others = np.flatnonzero(~np.isin(ids, quoted))
        vectors = trainer.vectors()[others]
        values = data.training.targets.values[others]
    if not len(values):
        return []
    outputs = model.network.layer.outputs_of(vectors).numpy()
    return model.task.never_predicted(outputs, values)
