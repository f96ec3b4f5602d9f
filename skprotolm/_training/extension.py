"""New texts, and new classes, for a fitted model whose encoder stays as it is.

Letters: M prototypes, n new texts, m remembered ones, H hidden size, L outputs, S
strata.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from skprotolm._data.targets import Targets
from skprotolm._data.texts import Texts, shown
from skprotolm._fitted import FittedModel
from skprotolm._network.class_readout import NEVER
from skprotolm._network.network import text_vectors
from skprotolm._network.prototypes import PrototypeLayer
from skprotolm._network.token_vectors import EncodedTexts
from skprotolm._records.memory import Memory
from skprotolm._records.quotes import Quotes
from skprotolm._resolve import resolve_quoted_counts
from skprotolm._runtime import isolated_torch, memory_errors
from skprotolm._tasks.base import Task
from skprotolm._training.names import name_prototypes
from skprotolm._training.neighborhoods import coincident
from skprotolm._training.novelty_limit import limit_of
from skprotolm._training.recalibration import (
    Sample,
    divergences,
    finite_rows,
    minimize,
    sample_rows,
)
from skprotolm._training.selection import representative
from skprotolm._training.splits import find_candidates, select

# The weight of a new class beside the mean one of the others: how often it will occur
# is unknown. On Banking77 (development, 17 new classes, one draw) the others lose .4
# points with a half and .1 with .35; the new ones reach 82 and 79 %.
_NEW_WEIGHT = 1 / 3
_SAMPLE = 2000  # new texts that biases are calibrated on
_CHUNK = 1024  # new texts that are compared with prototypes at once


class Extension(NamedTuple):
    """New texts of a fitted model, and what its prototypes stand for beside them."""

    model: FittedModel
    task: Task  # of all classes
    positions: np.ndarray  # (L,) of the model's outputs among those of the task
    own: np.ndarray  # (M, ...) values of the model's prototypes, as the task has them
    texts: Texts
    targets: Targets
    n_rows: int  # of X
    vectors: Tensor  # (n, H)
    ids: np.ndarray  # (M + n,) which distinct text prototypes quote, and rows hold
    candidates: np.ndarray  # (K,) rows of texts that may become prototypes
    seed: int


def require_memory(model: FittedModel) -> Memory:
    """Return a model's memory, without which it cannot be extended."""
    if model.memory is None:
        raise ValueError(
            "partial_fit needs one class per text, prototypes that are texts, and the "
            "memory that fit keeps of the others: fit under formulation='mixture' and "
            "projection=True. Models of several labels, and those saved by earlier "
            "versions, have no memory. Refit the model, or pass all texts to fit; with "
            "warm_start=True it starts from the encoder of this model."
        )
    return model.memory


@isolated_torch()
@torch.inference_mode(False)
@torch.enable_grad()
def extend(
    model: FittedModel,
    task: Task,
    positions: np.ndarray,
    targets: Targets,
    texts: Texts,
    n_prototypes: Any,
    seed: int,
) -> FittedModel:
    """Return a model that has learned further texts, without training its encoder.

    Parameters
    ----------
    model : FittedModel
    task : Task
        Of all classes, old and new.
    positions : ndarray of shape (L,)
        Of the model's outputs among those of the task.
    targets : Targets
        Of the new texts, as the task has them.
    texts : list of str or of (str, str)
        All rows of X.
    n_prototypes : "auto", int or dict
        The most texts to quote per class.
    seed : int
    """
    memory = require_memory(model)
    new = _read(model, task, positions, targets, texts, seed)
    if new is None:
        counted = replace(memory, n_rows=memory.n_rows + len(texts))
        return replace(model, memory=counted, undo=())
    rows = _choose(new, n_prototypes)
    values = torch.from_numpy(new.targets.values[rows])
    layer: Any = model.network.layer
    readout = layer.readout.extended(len(task.strata), torch.from_numpy(positions))
    layer = layer.extended_to(
        readout, torch.from_numpy(new.own), new.vectors[rows], values
    )
    _calibrate(layer, new, rows, memory)
    quotes = _quotes(new, rows, layer)
    memory = _remember(new, rows, quotes, memory)
    strata = task.strata_of(layer.values.cpu().numpy())
    remembered = torch.from_numpy(memory.vectors)
    n_texts = round(memory.weights.sum())
    return model.with_prototypes(
        layer,
        quotes,
        task=task,
        memory=memory,
        novelty_limit=limit_of(
            layer.exact(), strata, remembered, memory.quoted, quotes.ids, n_texts
        ),
        undo=(),
    )


# Read.


def _read(
    model: FittedModel,
    task: Task,
    positions: np.ndarray,
    targets: Targets,
    texts: Texts,
    seed: int,
) -> Extension | None:
    """Run the encoder over new texts, and find those that may become prototypes.

    Texts that are prototypes of their class are left out; None if all are.
    """
    own = task.encode(model.task.labels(model.layer.values.numpy()), "labels")
    keys = _quoted_keys(model)
    M = len(keys)
    used: Any = [texts[i] for i in targets.rows]
    tokenized = model.tokenize(used)
    known = set(zip(keys, task.strata_of(own).tolist(), strict=True))
    pairs = zip(tokenized.keys, targets.strata.tolist(), strict=True)
    kept = np.array([i for i, pair in enumerate(pairs) if pair not in known], int)
    if not kept.size:
        return None
    used = [used[i] for i in kept]
    tokenized, targets = tokenized.take(kept), select(targets, kept)
    strata = np.append(task.strata_of(own), targets.strata)
    found = find_candidates([*keys, *tokenized.keys], strata)
    candidates = found.rows[found.rows >= M] - M
    _require_candidates(task, used, targets, strata, found.text_ids, candidates)
    with memory_errors(model.batch_size, model.network.encoder.max_length):
        source = EncodedTexts(tokenized, bf16=False)
        network = model.network.in_torch()
        vectors = text_vectors(network, source, model.batch_size)
    return Extension(
        model,
        task,
        positions,
        own,
        used,
        targets,
        len(texts),
        vectors,
        found.text_ids,
        candidates,
        seed,
    )


def _quoted_keys(model: FittedModel) -> list[Any]:
    """Return what the encoder reads of each prototype; a redacted text is unknown."""
    redacted = model.quotes.redacted.tolist()
    return [j if redacted[j] else key for j, key in enumerate(model.quoted.keys)]


def _require_candidates(
    task: Task,
    texts: Texts,
    targets: Targets,
    strata: np.ndarray,
    ids: np.ndarray,
    candidates: np.ndarray,
) -> None:
    """Refuse a new class whose texts all read like texts of another one."""
    M = len(strata) - len(texts)
    present = np.append(strata[:M], targets.strata[candidates])
    missing = np.setdiff1d(targets.strata, present)
    if not missing.size:
        return
    label = task.strata[missing[0]]
    row = M + np.flatnonzero(targets.strata == missing[0])[0]
    other = np.flatnonzero((ids == ids[row]) & (strata != strata[row]))[0]
    rival = f"prototype {other}"
    remedy = "remove that prototype first, with remove_prototypes"
    if other >= M:
        rival = f"row {targets.rows[other - M]}"
        remedy = "give such texts one label, or drop them"
    raise ValueError(
        f"The new class {label!r} has no text of its own that could be its prototype: "
        f"each of them reads the same to the encoder as a text of another class. For "
        f"example, row {targets.rows[row - M]} of X, {shown(texts[row - M])}, reads "
        f"like {rival}, which is {task.strata[strata[other]]!r}; {remedy}."
    )


# Choose.


def _choose(new: Extension, n_prototypes: Any) -> np.ndarray:
    """Return the rows of the texts to quote, stratum after stratum.

    They represent the texts of their stratum. With "auto", those that nearly coincide
    with another prototype of their stratum are left out.
    """
    task, targets, layer = new.task, new.targets, new.model.layer
    strata = targets.strata[new.candidates]
    n_candidates = np.bincount(strata, minlength=len(task.strata)).tolist()
    wanted = None
    if n_prototypes != "auto":
        wanted = task.prototypes_per_stratum(n_prototypes, n_candidates)
    counts = resolve_quoted_counts(wanted, n_candidates)
    positions = layer.to_euclidean(new.vectors.double()).numpy()
    M = len(new.own)
    weights = np.bincount(new.ids[M:], targets.weights)[new.ids[M:]]  # of all copies
    chosen = []
    for stratum, count in enumerate(counts):
        rows = new.candidates[strata == stratum]
        picked = representative(positions[rows], weights[rows], count, new.seed)
        chosen.append(rows[picked])
    rows = np.concatenate(chosen)
    if n_prototypes == "auto":
        everything = np.concatenate([layer.positions.numpy(), positions[rows]])
        groups = np.append(task.strata_of(new.own), targets.strata[rows])
        rows = rows[~coincident(everything, groups)[M:]]
    return rows


# Calibrate.


def _calibrate(layer: Any, new: Extension, quoted: np.ndarray, memory: Memory) -> None:
    """Calibrate the biases of the classes of the new texts, in place.

    The biases minimize the cross-entropy of the new texts, and the divergence from the
    previous model on the remembered ones. No text is compared with itself, to which it
    is more similar than to any other. All other biases stay, so that the odds between
    classes without new texts stay, too.
    """
    exact: Any = layer.exact()
    parameters = exact.readout.calibrated()
    rows = sample_rows(new.targets.strata, _SAMPLE, new.seed)
    evidence, expected = _compare(exact, new, rows, quoted, memory)
    weights = torch.from_numpy(np.append(memory.weights, _weights(new, rows, memory)))
    classes = torch.arange(exact.readout.n_groups)
    # Without the text itself, a class whose only prototype it is has no evidence.
    usable = finite_rows(exact.readout, evidence, classes)
    usable &= expected.isfinite().all(dim=1)
    strata = new.targets.strata[rows][usable[len(memory.weights) :].numpy()]
    if not strata.size:
        return
    free = torch.zeros(exact.readout.n_groups, dtype=torch.float64)
    free[torch.from_numpy(strata)] = 1
    expected, weights = expected[usable], weights[usable] / weights[usable].mean()
    for parameter in parameters:
        parameter.requires_grad_().register_hook(lambda gradient: gradient * free)
    minimize(
        divergences(
            exact.readout, evidence[usable], classes, expected, classes, weights
        ),
        parameters,
    )
    layer.load_state_dict(exact.state_dict())


def _compare(
    exact: Any, new: Extension, rows: np.ndarray, quoted: np.ndarray, memory: Memory
) -> tuple[Tensor, Tensor]:
    """Return the evidence of classes for remembered texts, then for new ones, (B, C).

    The second array are the expected outputs: of remembered texts, those of the
    previous model.
    """
    before: Any = new.model.layer
    m, M = len(memory.weights), len(new.own)
    remembered = torch.from_numpy(memory.vectors).double()
    of_prototypes = new.ids[np.append(np.arange(M), M + quoted)]
    ids = _ids_of_remembered(new, memory)
    vectors = torch.cat([remembered, new.vectors[rows].double()])
    all_ids = np.append(ids, new.ids[M + rows])
    evidence, _ = Sample(rows, vectors, all_ids, of_prototypes).evidence(exact)
    expected = torch.full((m, exact.readout.n_groups), NEVER, dtype=torch.float64)
    sample = Sample(rows, remembered, ids, of_prototypes[:M])
    expected[:, new.positions] = before.readout(*sample.evidence(before))
    certain = exact.readout.certain(torch.from_numpy(new.targets.values[rows]))
    return evidence, torch.cat([expected, certain])


def _ids_of_remembered(new: Extension, memory: Memory) -> np.ndarray:
    """Return which distinct text each remembered one is, −1 unless it is quoted."""
    quoted = new.model.quotes.ids
    order = np.argsort(quoted)
    near = order[np.searchsorted(quoted[order], memory.quoted).clip(max=len(order) - 1)]
    return np.where(quoted[near] == memory.quoted, new.ids[near], -1)


def _weights(new: Extension, rows: np.ndarray, memory: Memory) -> np.ndarray:
    """Return the weights of some new texts beside the remembered ones."""
    strata = new.targets.strata[rows]
    is_new = ~np.isin(strata, new.task.strata_of(new.own))
    # Of a new class, the number of texts does not count.
    of_class = _NEW_WEIGHT * memory.weights.sum() / len(new.positions)
    factors = np.where(
        is_new, of_class / np.bincount(strata)[strata], len(new.texts) / len(rows)
    )
    return new.targets.weights[rows] * factors


# What the estimator keeps.


def _quotes(new: Extension, rows: np.ndarray, layer: PrototypeLayer) -> Quotes:
    """Return the texts of all prototypes, with names and usage.

    Usage counts the new texts, too. The purity of new prototypes is unknown.
    """
    quotes, memory, M = new.model.quotes, require_memory(new.model), len(new.own)
    nearest = _nearest(new, layer)
    quoted_ids = new.ids[np.append(np.arange(M), M + rows)]
    others = new.ids[M:] != quoted_ids[nearest]
    usages = np.bincount(nearest[others], minlength=len(quoted_ids))
    texts: Any = [*quotes.texts, *new.texts]
    names = name_prototypes(
        texts,
        np.append(np.arange(M), M + rows),
        np.append(np.arange(M), nearest),
        quotes.names,
    )
    all_quotes = [quotes, *(quotes for _, quotes in new.model.undo)]
    first_id = 1 + max(int(quotes.ids.max()) for quotes in all_quotes)
    added = quotes.added([new.texts[i] for i in rows], names[M:], first_id)
    usages[:M] = np.where(quotes.usages < 0, -1, quotes.usages + usages[:M])
    train_indices = memory.n_rows + new.targets.rows[rows]
    return replace(
        added,
        usages=usages,
        train_indices=np.append(quotes.train_indices, train_indices),
    )


def _nearest(new: Extension, layer: Any) -> np.ndarray:
    """Return the prototype of the largest cosine to each new text, (n,)."""
    exact, vectors = layer.exact(), new.vectors.double()
    return np.concatenate(
        [
            exact.cosines(vectors[chunk]).argmax(dim=1).numpy()
            for chunk in exact.blocks(vectors, max_rows=_CHUNK)
        ]
    )


def _remember(
    new: Extension, rows: np.ndarray, quotes: Quotes, memory: Memory
) -> Memory:
    """Return a sample of the remembered and the new texts."""
    M = len(new.own)
    prototypes = np.full(new.ids.max() + 1, -1)
    prototypes[new.ids[np.append(np.arange(M), M + rows)]] = quotes.ids
    # Prototypes that were removed are gone for good.
    is_there = np.isin(memory.quoted, quotes.ids)
    return Memory.sample(
        np.concatenate([memory.vectors, new.vectors.numpy()]),
        np.append(memory.weights, new.targets.weights),
        np.append(np.where(is_there, memory.quoted, -1), prototypes[new.ids[M:]]),
        memory.n_rows + new.n_rows,
        new.seed,
    )
