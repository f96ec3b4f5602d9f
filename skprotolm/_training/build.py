"""The first step of a fit: the encoder, tokenized and split texts, frozen vectors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from skprotolm._config import FitConfig
from skprotolm._network.adapters import adaptable_matrices
from skprotolm._network.encoder import TextEncoder, load_encoder
from skprotolm._network.layers import freeze_all_but_last, transformer_layers
from skprotolm._network.network import Network
from skprotolm._network.pooling import TokenAttention
from skprotolm._network.token_vectors import ReadTexts
from skprotolm._network.tokenized import TokenizedTexts
from skprotolm._network.word_vectors import read_units
from skprotolm._processes import Processes
from skprotolm._resolve import resolve_precision
from skprotolm._runtime import has_bf16
from skprotolm._training.inputs import FitInput
from skprotolm._training.neighborhoods import distinct_ids
from skprotolm._training.progress import Progress
from skprotolm._training.splits import (
    FitData,
    find_candidates,
    require_candidates,
    select,
)
from skprotolm._training.text_units import TextUnits
from skprotolm._training.units import FrozenPass, Units, repeated_part, training_source
from skprotolm._training.word_units import WordUnits

_UNITS: dict[str, type[Units]] = {units.noun: units for units in (TextUnits, WordUnits)}


def load(config: FitConfig, device: torch.device) -> tuple[TextEncoder, FitConfig]:
    """Load the encoder, freeze what is not trained, and resolve the precision."""
    if device.type == "mps" and config.reads_again:
        raise ValueError(
            "gradient_accumulation_steps and gradient_checkpointing need the same "
            "dropout in both readings, which torch does not repeat on MPS; use "
            "device='cpu', or a smaller batch_size."
        )
    encoder = load_encoder(config.backbone, config.max_length, config.long_text)
    encoder = encoder.to(device)
    _freeze(encoder, config)
    is_fp32 = encoder.dtype == torch.float32
    return encoder, resolve_precision(config, is_fp32, has_bf16(device))


def _freeze(encoder: TextEncoder, config: FitConfig) -> None:
    """Freeze what is not trained, and refuse what the backbone does not allow.

    What adapters are added to is frozen with them, by `add_adapters`.
    """
    if config.trains_adapters:
        adaptable_matrices(encoder)  # raises before texts are read
    if config.n_trained_layers is not None:
        freeze_all_but_last(encoder, config.n_trained_layers)
    if not config.trains_encoder:
        encoder.requires_grad_(False)
    elif encoder.is_frozen:
        raise ValueError(
            "No weight of the backbone may be trained: requires_grad is False for "
            "all, or for the last layers that finetune names. Call "
            "backbone.requires_grad_(True), or set finetune='head'."
        )
    if config.checkpoints_layers:
        transformer_layers(encoder)  # raises before texts are read


def build(
    encoder: TextEncoder, config: FitConfig, given: FitInput, progress: Progress
) -> tuple[TokenAttention, FitData]:
    """Tokenize and split the texts, and run the pretrained encoder over them once.

    The weights of the model to start from are put into place then.
    """
    used = [given.texts[row] for row in np.unique(given.targets.rows)]
    units = _UNITS[given.task.unit_noun](encoder.tokenize(used))
    rows, held_out = hold_out(units, given, config)
    keys = [units.keys[i] for i in rows]
    training = select(given.targets, rows)
    task, training = given.task.merge_copies(training, distinct_ids(keys))
    # A text may be its class's own once others are held out.
    candidates = find_candidates(keys, training.strata)
    every = task.units_of(used)
    trained = [every[i] for i in rows]
    require_candidates(trained, training, candidates, task)
    attention = TokenAttention(encoder.hidden_size).to(encoder.device, encoder.dtype)
    tokens, tokens_out = units.texts_of(rows), units.texts_of(held_out)
    n_passes, repeated = 1 if given.start is None else 2, repeated_part(encoder, config)
    progress.plan(config, len(tokens), len(tokens_out), n_passes, repeated=repeated)

    def read(some: TokenizedTexts) -> FrozenPass:
        source = training_source(encoder, some, config, given.processes)
        return units.frozen_pass(encoder, attention, source, config, progress)

    frozen = read(tokens)
    if given.start is not None:
        pretrained = frozen.pretrained
        del frozen  # what it stores is of other weights
        start_from(encoder, attention, given.start.network)
        frozen = read(tokens)._replace(pretrained=pretrained)
    validation = None
    if held_out.size:
        source = read_held_out(read, tokens_out, encoder, config, given.processes)
        validation = source, select(given.targets, held_out)
    return attention, FitData(
        task=task,
        columns=given.columns,
        n_rows=len(given.texts),
        seed=given.seed,
        texts=trained,
        tokenized=tokens,
        source=frozen.source,
        targets=training,
        validation=validation,
        candidates=candidates,
        vectors=frozen.vectors,
        pretrained=frozen.pretrained,
        processes=given.processes,
    )


def hold_out(
    units: Units, given: FitInput, config: FitConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the units to train on, and of those to hold out."""
    strata = given.targets.strata
    candidates = find_candidates(units.keys, strata)
    rows, held_out = units.split(strata, candidates, config, given.seed)
    if held_out.size:  # without its last text, a label would not vary
        kept = given.task.indispensable(given.targets.values, rows)
        kept = np.append(rows, kept)
        rows, held_out = np.sort(kept), np.setdiff1d(held_out, kept)
    return rows, held_out


def read_held_out(
    read: Callable[[TokenizedTexts], FrozenPass],
    tokens: TokenizedTexts,
    encoder: TextEncoder,
    config: FitConfig,
    processes: Processes,
) -> ReadTexts:
    """Return what early stopping reads: stored vectors, or texts in each epoch."""
    if encoder.is_frozen:
        return read(tokens).source
    return read_units(training_source(encoder, tokens, config, processes), tokens)


def start_from(
    encoder: TextEncoder, attention: TokenAttention, fitted: Network
) -> None:
    """Put the weights of a fitted network in place, which is not changed itself."""
    try:
        encoder.load_state_dict(fitted.encoder.state_dict())
        attention.load_state_dict(fitted.attention.state_dict())
    except RuntimeError as error:
        raise ValueError(
            "warm_start=True starts from the encoder of the previous fit, but its "
            "weights do not fit into the backbone, which is another one or has "
            "adapters. Set backbone to that of the previous fit, or warm_start=False."
        ) from error
