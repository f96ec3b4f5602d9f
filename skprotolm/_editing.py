"""Edits of a fitted model's prototypes: a model and an edit to a new model.

Nothing is trained. Priors of the mixture are not renormalized: removing a prototype
removes its term from the sum of its class, and texts that did not use it keep their
scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
import torch

from skprotolm._fitted import FittedModel
from skprotolm._network.network import text_vectors
from skprotolm._network.prototypes import PrototypeLayer
from skprotolm._network.token_vectors import EncodedTexts
from skprotolm._network.tokenized import TokenizedTexts
from skprotolm._records.quotes import Quotes
from skprotolm._runtime import isolated_torch
from skprotolm._training.names import name_prototypes


@isolated_torch()
def remove(model: FittedModel, indices: Any) -> FittedModel:
    """Remove prototypes."""
    rows = _positions(model, indices)
    kept = np.setdiff1d(np.arange(len(model.quotes.texts)), rows)
    model.task.require_prototypes(model.layer.values.numpy()[kept], "removed")
    return _without(model, rows, kept, "remove")


@isolated_torch()
def prune(model: FittedModel, min_usage: int, min_purity: float) -> FittedModel:
    """Remove unused and impure prototypes, but never the last one of a class."""
    quotes = model.quotes
    strata = model.task.strata_of(model.layer.values.numpy())
    known = quotes.usages >= 0  # added prototypes have no usage, and stay
    poor = known & ((quotes.usages < min_usage) | (quotes.purities < min_purity))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        if poor[members].all():
            poor[members[quotes.usages[members].argmax()]] = False
    values = model.layer.values.numpy()
    poor[model.task.indispensable(values, np.flatnonzero(~poor))] = False
    rows = np.flatnonzero(poor)
    if rows.size == 0:
        return model
    return _without(model, rows, np.flatnonzero(~poor), "prune")


@isolated_torch()
def relabel(model: FittedModel, labels: Any) -> FittedModel:
    """Give prototypes other labels, with the priors that they have."""
    _require_mapping("labels", labels)
    rows = _positions(model, list(labels))
    values = model.task.encode(list(labels.values()), "labels")
    layer = model.network.layer.revalued(
        torch.from_numpy(rows), torch.from_numpy(values)
    )
    model.task.require_prototypes(layer.values.cpu().numpy(), "relabeled")
    edit = _edit("relabel", model, rows)
    edit["new_labels"] = model.task.labels(values).tolist()
    return _edited(model, layer, model.quotes.with_unknown_purity(rows), edit)


@isolated_torch()
def add(model: FittedModel, texts: Any, labels: Any) -> FittedModel:
    """Add prototypes on further texts; each gets the mean prior of its class."""
    added = model.texts_of(texts, name="texts")
    values = model.task.encode(labels, "labels", len(added))
    tokenized = model.tokenize(added)
    _require_new(model.quoted, tokenized)
    source = EncodedTexts(tokenized, bf16=False)
    vectors = text_vectors(model.network.in_torch(), source, model.batch_size)
    layer = model.network.layer.extended(vectors, torch.from_numpy(values))
    M = len(model.quotes.texts)
    edit = {
        "action": "add",
        "indices": list(range(M, M + len(added))),
        "train_indices": [None] * len(added),
        "labels": model.task.labels(values).tolist(),
    }
    all_quotes = [model.quotes, *(quotes for _, quotes in model.undo)]
    first_id = 1 + max(int(quotes.ids.max()) for quotes in all_quotes)
    # The quoted texts stand for the training texts.
    texts = [*model.quotes.texts, *added]
    documents = np.arange(len(texts))
    names = name_prototypes(texts, documents, documents, model.quotes.names)
    quotes = model.quotes.added(added, names[M:], first_id)
    return _edited(model, layer, quotes, edit)


def redact(model: FittedModel, texts: Any) -> FittedModel:
    """Replace the texts of prototypes, also in what can be undone."""
    _require_mapping("texts", texts)
    rows = _positions(model, list(texts))
    shown = model.texts_of(list(texts.values()), name="texts")
    new = dict(zip(rows.tolist(), shown, strict=True))
    undo = tuple((layer, _redacted(quotes, model, new)) for layer, quotes in model.undo)
    return replace(
        model,
        quotes=model.quotes.with_redactions(new),
        undo=undo,
        edits=(*model.edits, _edit("redact", model, rows)),
    )


def undo_last(model: FittedModel) -> FittedModel:
    """Undo the last edit that is not a redaction."""
    if not model.undo:
        raise ValueError("There is no edit to undo; redactions cannot be undone.")
    *undo, (layer, quotes) = model.undo
    undone = max(i for i, e in enumerate(model.edits) if e["action"] != "redact")
    edits = (*model.edits[:undone], *model.edits[undone + 1 :])
    return model.with_prototypes(layer, quotes, edits=edits, undo=tuple(undo))


def _positions(model: FittedModel, indices: Any) -> np.ndarray:
    """Validate the indices of prototypes."""
    is_text = isinstance(indices, (str, bytes))  # which is iterable, too
    if is_text or not isinstance(indices, (Integral, Iterable)):
        raise TypeError(
            f"indices must be an int or an iterable of ints, got {indices!r} "
            f"({type(indices).__name__}); they are positions in prototypes_."
        )
    listed = [indices] if isinstance(indices, Integral) else list(indices)
    M = len(model.quotes.texts)
    for index in listed:
        if not isinstance(index, Integral) or isinstance(index, bool):
            raise TypeError(f"A prototype's index must be an int, got {index!r}.")
        if not 0 <= int(index) < M:
            raise IndexError(f"There is no prototype {index}: they are 0 to {M - 1}.")
    if not listed:
        raise ValueError("indices must not be empty.")
    if len(set(listed)) < len(listed):
        raise ValueError(f"indices must be distinct, got {listed}.")
    return np.array(listed, dtype=np.int64)


def _require_mapping(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(
            f"{name} must be a dict mapping indices of prototypes to {name}, got "
            f"{type(value).__name__}."
        )


def _require_new(quoted: TokenizedTexts, added: TokenizedTexts) -> None:
    """Refuse texts that the encoder reads like another one, or like a prototype."""
    known = {key: j for j, key in enumerate(quoted.keys)}
    rows: dict[bytes, int] = {}
    for row, key in enumerate(added.keys):
        if key in known:
            raise ValueError(
                f"Row {row} of texts is the text of prototype {known[key]} already, "
                f"as the encoder reads it."
            )
        if key in rows:
            raise ValueError(
                f"Rows {rows[key]} and {row} of texts are the same text, as the "
                f"encoder reads them; pass one of them."
            )
        rows[key] = row


def _without(
    model: FittedModel, rows: np.ndarray, kept: np.ndarray, action: str
) -> FittedModel:
    layer = model.network.layer.take(torch.from_numpy(kept))
    return _edited(model, layer, model.quotes.take(kept), _edit(action, model, rows))


def _edited(
    model: FittedModel, layer: PrototypeLayer, quotes: Quotes, edit: dict[str, Any]
) -> FittedModel:
    undo = (*model.undo, (model.network.layer, model.quotes))
    return model.with_prototypes(layer, quotes, edits=(*model.edits, edit), undo=undo)


def _edit(action: str, model: FittedModel, rows: np.ndarray) -> dict[str, Any]:
    """Return the record of an edit, without texts, which may be redacted later."""
    values = model.layer.values.numpy()[rows]
    train_indices = model.quotes.train_indices[rows].tolist()
    return {
        "action": action,
        "indices": rows.tolist(),
        "train_indices": [None if i < 0 else i for i in train_indices],
        "labels": model.task.labels(values).tolist(),
    }


def _redacted(quotes: Quotes, model: FittedModel, new: dict[int, Any]) -> Quotes:
    """Redact the same prototypes and the same texts in what can be undone.

    A text may have been removed and added again, as another prototype.
    """
    by_id = {int(model.quotes.ids[j]): text for j, text in new.items()}
    by_text = {
        model.quotes.texts[j]: text
        for j, text in new.items()
        # A replacement is not secret, and may belong to several prototypes.
        if not model.quotes.redacted[j]
    }
    redactions = {}
    pairs = zip(quotes.ids.tolist(), quotes.texts, strict=True)
    for j, (prototype_id, text) in enumerate(pairs):
        if prototype_id in by_id:
            redactions[j] = by_id[prototype_id]
        elif text in by_text and not quotes.redacted[j]:
            redactions[j] = by_text[text]
    return quotes.with_redactions(redactions)
