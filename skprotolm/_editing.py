"""Edits of a fitted model's prototypes: a state and an edit to a new state.

Nothing is trained. Under the mixture, priors are not renormalised: taking a prototype
out takes its term out of its class's sum, and texts that did not use it keep their
scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
import torch

from skprotolm._data.targets import class_codes, one_code_each
from skprotolm._fitted import FittedModel, Undo
from skprotolm._network.network import text_vectors
from skprotolm._network.prototypes import PrototypeLayer
from skprotolm._network.token_vectors import EncodedTexts
from skprotolm._network.tokenizer import TokenizedTexts
from skprotolm._records.prototypes import Quotes
from skprotolm._runtime import isolated_torch


@isolated_torch()
def remove(state: FittedModel, indices: Any) -> FittedModel:
    """Take prototypes out."""
    rows = _positions(state, indices)
    kept = np.setdiff1d(np.arange(len(state.quotes.texts)), rows)
    _require_classes(state, state.layer.owner.numpy()[kept], "removed")
    return _without(state, rows, kept, "remove")


@isolated_torch()
def prune(state: FittedModel, min_usage: int, min_purity: float) -> FittedModel:
    """Take out what is hardly used or impure, but no class's last prototype."""
    quotes, owner = state.quotes, state.layer.owner.numpy()
    known = quotes.usages >= 0  # added prototypes have no usage, and stay
    poor = known & ((quotes.usages < min_usage) | (quotes.purities < min_purity))
    for code in np.unique(owner):
        mine = np.flatnonzero(owner == code)
        if poor[mine].all():
            poor[mine[quotes.usages[mine].argmax()]] = False
    rows = np.flatnonzero(poor)
    if rows.size == 0:
        return state
    return _without(state, rows, np.flatnonzero(~poor), "prune")


@isolated_torch()
def relabel(state: FittedModel, labels: Any) -> FittedModel:
    """Give prototypes to other classes, with the priors that they have."""
    _require_mapping("labels", labels)
    rows = _positions(state, list(labels))
    codes = class_codes(state.classes, "labels", list(labels.values()))
    layer = state.model.head.layer
    owner, values = layer.owner.clone(), layer.values.clone()
    for row, code in zip(rows.tolist(), codes.tolist(), strict=True):
        if values.ndim == 2:  # output weights: the two classes change places
            places = [int(owner[row]), code]
            values[places, row] = values[places[::-1], row]
        owner[row] = code
    _require_classes(state, owner.cpu().numpy(), "relabelled")
    edited = layer.edited(layer.vectors, owner, values)
    edit = _edit("relabel", state, rows)
    edit["new_labels"] = state.classes[codes].tolist()
    return _edited(state, edited, state.quotes.with_unknown_purity(rows), edit)


@isolated_torch()
def add(state: FittedModel, texts: Any, labels: Any) -> FittedModel:
    """Put prototypes on more texts; each gets its class's mean prior."""
    checked = state.texts_of(texts, name="texts")
    codes = one_code_each(state.classes, "labels", labels, len(checked))
    layer = state.model.head.layer
    tokenized = state.model.encoder.tokenize(checked)
    _require_new(state.quoted, tokenized)
    vectors = text_vectors(
        state.model, EncodedTexts(tokenized, bf16=False), state.batch_size
    )
    columns = [layer.values_of_new(code) for code in codes.tolist()]
    edited = layer.edited(
        torch.cat([layer.vectors, vectors.to(layer.vectors)]),
        torch.cat([layer.owner, torch.from_numpy(codes).to(layer.owner)]),
        torch.cat([layer.values, torch.stack(columns, dim=-1)], dim=-1),
    )
    M = len(layer.owner)
    edit = {
        "action": "add",
        "indices": list(range(M, M + len(checked))),
        "train_indices": [None] * len(checked),
        "labels": state.classes[codes].tolist(),
    }
    all_quotes = [state.quotes, *(undo.quotes for undo in state.undo)]
    first_id = 1 + max(int(quotes.ids.max()) for quotes in all_quotes)
    return _edited(state, edited, state.quotes.added(checked, first_id), edit)


def redact(state: FittedModel, texts: Any) -> FittedModel:
    """Replace what prototypes quote, here and in all that could be undone."""
    _require_mapping("texts", texts)
    rows = _positions(state, list(texts))
    shown = state.texts_of(list(texts.values()), name="texts")
    new = dict(zip(rows.tolist(), shown, strict=True))
    undo = tuple(u._replace(quotes=_purged(u.quotes, state, new)) for u in state.undo)
    return replace(
        state,
        quotes=state.quotes.with_redactions(new),
        undo=undo,
        edits=(*state.edits, _edit("redact", state, rows)),
    )


def undo_last(state: FittedModel) -> FittedModel:
    """Take the last edit back, other than redactions, which leave nothing to undo."""
    if not state.undo:
        raise ValueError("There is no edit to undo; redactions cannot be undone.")
    last = state.undo[-1]
    edits = tuple(edit for edit in state.edits if edit is not last.edit)
    return state.with_prototypes(
        last.layer, last.quotes, edits=edits, undo=state.undo[:-1]
    )


def _positions(state: FittedModel, indices: Any) -> np.ndarray:
    """Check the indices of prototypes; each may be named once."""
    is_text = isinstance(indices, (str, bytes))  # whose items are no indices
    if is_text or not isinstance(indices, (Integral, Iterable)):
        raise TypeError(
            f"indices must be an int or an iterable of ints, got {indices!r} "
            f"({type(indices).__name__}); they are positions in prototypes_."
        )
    given = [indices] if isinstance(indices, Integral) else list(indices)
    M = len(state.quotes.texts)
    for index in given:
        if not isinstance(index, Integral) or isinstance(index, bool):
            raise TypeError(f"A prototype's index must be an int, got {index!r}.")
        if not 0 <= int(index) < M:
            raise IndexError(f"There is no prototype {index}: they are 0 to {M - 1}.")
    if not given:
        raise ValueError("No prototype is named; give the index of one at least.")
    if len(set(given)) < len(given):
        raise ValueError(f"A prototype is named twice in {given}.")
    return np.array(given, dtype=np.int64)


def _require_mapping(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(
            f"{name} must be a dict from a prototype's index to its new one, got "
            f"{type(value).__name__}."
        )


def _require_classes(state: FittedModel, owner: np.ndarray, done: str) -> None:
    left = np.bincount(owner, minlength=len(state.classes))
    if (left == 0).any():
        label = state.classes[left.argmin() : left.argmin() + 1].tolist()[0]
        raise ValueError(
            f"The class {label!r} would have no prototype left if these were {done}, "
            f"and no score; add one to it first."
        )


def _require_new(quoted: TokenizedTexts, added: TokenizedTexts) -> None:
    """Refuse texts that the encoder reads as it reads another prototype's."""
    there = {key: j for j, key in enumerate(quoted.keys)}
    for row, key in enumerate(added.keys):
        if key in there:
            raise ValueError(
                f"Row {row} of texts is the text of prototype {there[key]} already, "
                f"as the encoder reads it."
            )
        there[key] = len(quoted) + row


def _without(
    state: FittedModel, rows: np.ndarray, kept: np.ndarray, action: str
) -> FittedModel:
    layer = state.model.head.layer
    at = torch.from_numpy(kept).to(layer.owner.device)
    edited = layer.edited(layer.vectors[at], layer.owner[at], layer.values[..., at])
    quotes = state.quotes.take(kept)
    return _edited(state, edited, quotes, _edit(action, state, rows))


def _edited(
    state: FittedModel, layer: PrototypeLayer, quotes: Quotes, edit: dict[str, Any]
) -> FittedModel:
    undo = Undo(state.model.head.layer, state.quotes, edit)
    layer = layer.to(state.model.encoder.device)
    return state.with_prototypes(
        layer, quotes, edits=(*state.edits, edit), undo=(*state.undo, undo)
    )


def _edit(action: str, state: FittedModel, rows: np.ndarray) -> dict[str, Any]:
    """Record an edit, without texts, which may have to be redacted later."""
    prototypes = [state.prototypes[int(j)] for j in rows]
    return {
        "action": action,
        "indices": rows.tolist(),
        "train_indices": [p.train_index for p in prototypes],
        "labels": [p.label for p in prototypes],
    }


def _purged(quotes: Quotes, state: FittedModel, new: dict[int, Any]) -> Quotes:
    """Redact the same prototypes in what can be undone, and the same texts.

    A text may have been taken out and added again, as another prototype.
    """
    by_id = {int(state.quotes.ids[j]): text for j, text in new.items()}
    by_text = {
        state.quotes.texts[j]: text
        for j, text in new.items()
        if not state.quotes.redacted[j]  # a stand-in is no secret, and may be another's
    }
    found = {}
    for j, (number, text) in enumerate(
        zip(quotes.ids.tolist(), quotes.texts, strict=True)
    ):
        if number in by_id or (text in by_text and not quotes.redacted[j]):
            found[j] = by_id[number] if number in by_id else by_text[text]
    return quotes.with_redactions(found)
