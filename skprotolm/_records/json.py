"""Explanations to JSON and back, without loss.

Classes and prototypes, which explanations share, are written once. Labels are stored
with the dtype of their array, so that 1, True and "1" stay distinct. Numbers are
written with all digits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from skprotolm._records.parts import PrototypeTexts, as_list
from skprotolm._records.words import Text

_FORMAT = "skprotolm.explanations"
_VERSION = 3
_ARRAYS = {
    "class_probabilities": np.float64,
    "similarities": np.float64,
    "contributions": np.float64,
    "segments": np.int64,
    "attention": np.float64,
    "token_scores": np.float64,
    "token_unread": np.bool_,
}
_VALUES = (
    "space",
    "base_value",
    "log_odds",
    "score",
    "token_method",
    "top_k",
    "novelty",
    "novelty_limit",
)


def dump_explanations(explanations: Sequence[dict[str, Any]]) -> str:
    """Write explanations, as dicts of their fields, as JSON."""
    classes, prototypes = _Table(_dump_labels), _Table(_dump_prototypes)
    entries = []
    for e in explanations:
        codes = {label: code for code, label in enumerate(e["classes"].tolist())}
        columns = e["_prototypes"]
        entries.append(
            {
                "text": e["text"],
                "classes": classes.index(e["classes"], id(e["classes"])),
                "prototypes": prototypes.index(columns, tuple(map(id, columns))),
                "prediction": codes[e["prediction"]],
                "target": codes[e["target"]],
                "against": None if e["against"] is None else codes[e["against"]],
                "tokens": list(e["tokens"]),
                "offsets": e["offsets"].tolist(),
                **{name: e[name] for name in _VALUES},
                **{name: as_list(e[name]) for name in _ARRAYS},
            }
        )
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "classes": classes.rows,
        "prototypes": prototypes.rows,
        "explanations": entries,
    }
    return json.dumps(content, ensure_ascii=False)


def load_explanations(text: str | bytes) -> list[dict[str, Any]]:
    """Read the fields of explanations from the output of `dump_explanations`."""
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"The text is not JSON, or is truncated: {error}.") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(
            "This JSON contains no explanations; pass the output of "
            "Explanations.to_json."
        )
    version = content.get("version")
    if isinstance(version, int) and version != _VERSION:
        is_newer = version > _VERSION
        raise ValueError(
            f"The explanations have version {version} of their format; this skprotolm "
            f"reads version {_VERSION}. "
            f"{'Upgrade skprotolm' if is_newer else 'Explain the texts again'}."
        )
    try:
        classes = [_load_labels(row) for row in content["classes"]]
        prototypes = [_load_prototypes(row) for row in content["prototypes"]]
        return [
            _load_fields(
                entry, classes[entry["classes"]], prototypes[entry["prototypes"]]
            )
            for entry in content["explanations"]
        ]
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise ValueError(
            f"The JSON differs from the output of Explanations.to_json: "
            f"{type(error).__name__}: {error}."
        ) from error


def _load_fields(
    entry: dict[str, Any], classes: np.ndarray, prototypes: PrototypeTexts
) -> dict[str, Any]:
    labels, against = classes.tolist(), entry["against"]
    _check_lengths(entry, len(classes), len(prototypes.texts))
    return {
        "text": _load_text(entry["text"]),
        "classes": classes,
        "prediction": labels[entry["prediction"]],
        "target": labels[entry["target"]],
        "against": None if against is None else labels[against],
        "tokens": tuple(entry["tokens"]),
        "offsets": np.array(entry["offsets"], dtype=np.int64).reshape(-1, 2),
        "_prototypes": prototypes,
        **{name: entry[name] for name in _VALUES},
        **{
            name: None if entry[name] is None else np.array(entry[name], dtype=dtype)
            for name, dtype in _ARRAYS.items()
        },
    }


def _check_lengths(entry: dict[str, Any], n_classes: int, n_prototypes: int) -> None:
    n_tokens = len(entry["tokens"])
    expected = {
        "class_probabilities": n_classes,
        "similarities": n_prototypes,
        "contributions": n_prototypes,
        **dict.fromkeys(("offsets", "segments", "attention", "token_unread"), n_tokens),
        "token_scores": n_tokens,
    }
    for name, length in expected.items():
        if entry[name] is not None and len(entry[name]) != length:
            raise ValueError(f"{name} has {len(entry[name])} entries, not {length}")


class _Table:
    """Rows that several explanations share; each is written once."""

    def __init__(self, dump: Callable[[Any], dict[str, Any]]):
        self.dump = dump
        self.rows: list[dict[str, Any]] = []
        self._indices: dict[Hashable, int] = {}

    def index(self, value: Any, key: Hashable) -> int:
        """Return the index of a value's row, which is appended for a new key."""
        if key not in self._indices:
            self._indices[key] = len(self.rows)
            self.rows.append(self.dump(value))
        return self._indices[key]


def _dump_labels(labels: np.ndarray) -> dict[str, Any]:
    return {"dtype": labels.dtype.str, "labels": labels.tolist()}


def _load_labels(row: dict[str, Any]) -> np.ndarray:
    return np.array(row["labels"], dtype=np.dtype(row["dtype"]))


def _dump_prototypes(prototypes: PrototypeTexts) -> dict[str, Any]:
    return {
        **_dump_labels(prototypes.labels),
        "texts": list(prototypes.texts),
        "names": list(prototypes.names),
        "unread": list(prototypes.unread),
    }


def _load_prototypes(row: dict[str, Any]) -> PrototypeTexts:
    return PrototypeTexts(
        _load_labels(row),
        tuple(map(_load_text, row["texts"])),
        tuple(row["names"]),
        tuple(map(tuple, row["unread"])),
    )


def _load_text(text: Any) -> Text:
    return text if isinstance(text, str) else tuple(text)
