"""Explanations to JSON and back, without loss.

Classes and prototypes, which explanations share, are written once. Labels are kept
beside the dtype of their array, so that 1, True and "1" stay what they are; numbers
are written with all their digits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

_FORMAT = "skprotolm.explanations"
_VERSION = 2
_ARRAYS = {
    "class_probabilities": np.float64,
    "similarities": np.float64,
    "contributions": np.float64,
    "segments": np.int64,
    "attention": np.float64,
    "token_scores": np.float64,
    "token_unread": np.bool_,
}
_PROTOTYPES = ("labels", "texts", "unread")
_VALUES = ("space", "base_value", "log_odds", "score", "token_method", "top_k")


def dump_records(records: Sequence[dict[str, Any]]) -> str:
    """Write the fields of explanations as JSON."""
    classes, prototypes = _Table(_classes_out), _Table(_prototypes_out)
    written = []
    for record in records:
        codes = {label: code for code, label in enumerate(record["classes"].tolist())}
        quoted = tuple(record[f"prototype_{name}"] for name in _PROTOTYPES)
        written.append(
            {
                "text": record["text"],
                "classes": classes.place(record["classes"], id(record["classes"])),
                "prototypes": prototypes.place(quoted, tuple(map(id, quoted))),
                "prediction": codes[record["prediction"]],
                "target": codes[record["target"]],
                "tokens": list(record["tokens"]),
                "offsets": record["offsets"].tolist(),
                **{name: record[name] for name in _VALUES},
                **{name: _list(record[name]) for name in _ARRAYS},
            }
        )
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "classes": classes.written,
        "prototypes": prototypes.written,
        "explanations": written,
    }
    return json.dumps(content, ensure_ascii=False)


def load_records(text: str | bytes) -> list[dict[str, Any]]:
    """Read the fields of explanations from what `dump_records` wrote."""
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"The text is no JSON, or was cut off: {error}.") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(
            "This JSON holds no explanations; pass what Explanations.to_json returned."
        )
    version = content.get("version")
    if isinstance(version, int) and version != _VERSION:
        newer = version > _VERSION
        raise ValueError(
            f"The explanations were written in version {version} of their format, and "
            f"this skprotolm reads version {_VERSION}. "
            f"{'Upgrade it to read them' if newer else 'Explain the texts again'}."
        )
    try:
        return _records(content)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(
            f"The JSON of explanations is not as Explanations.to_json wrote it: "
            f"{type(error).__name__}: {error}."
        ) from error


def _records(content: dict[str, Any]) -> list[dict[str, Any]]:
    classes = [_labels_in(entry) for entry in content["classes"]]
    prototypes = [
        (
            _labels_in(entry),
            tuple(map(_text_in, entry["texts"])),
            tuple(map(tuple, entry["unread"])),
        )
        for entry in content["prototypes"]
    ]
    return [
        _record(entry, classes[entry["classes"]], *prototypes[entry["prototypes"]])
        for entry in content["explanations"]
    ]


def _record(
    entry: dict[str, Any],
    classes: np.ndarray,
    labels: np.ndarray,
    texts: tuple,
    unread: tuple,
) -> dict[str, Any]:
    arrays: dict[str, np.ndarray | None] = {
        name: None if entry[name] is None else np.array(entry[name], dtype=dtype)
        for name, dtype in _ARRAYS.items()
    }
    offsets = np.array(entry["offsets"], dtype=np.int64).reshape(-1, 2)
    return {
        "text": _text_in(entry["text"]),
        "classes": classes,
        "prediction": classes.tolist()[entry["prediction"]],
        "target": classes.tolist()[entry["target"]],
        "tokens": tuple(entry["tokens"]),
        "prototype_labels": labels,
        "prototype_texts": texts,
        "prototype_unread": unread,
        **{name: entry[name] for name in _VALUES},
        **arrays,
        "offsets": offsets,
    }


class _Table:
    """Objects that several records share, each written once."""

    def __init__(self, write: Callable[[Any], dict[str, Any]]):
        self.write = write
        self.written: list[dict[str, Any]] = []
        self._places: dict[Hashable, int] = {}

    def place(self, value: Any, identity: Hashable) -> int:
        """Return where an object stands in the table, writing it if it is new."""
        if identity not in self._places:
            self._places[identity] = len(self.written)
            self.written.append(self.write(value))
        return self._places[identity]


def _classes_out(labels: np.ndarray) -> dict[str, Any]:
    return {"dtype": labels.dtype.str, "labels": labels.tolist()}


def _prototypes_out(quoted: tuple[np.ndarray, tuple, tuple]) -> dict[str, Any]:
    labels, texts, unread = quoted
    return {**_classes_out(labels), "texts": list(texts), "unread": list(unread)}


def _labels_in(entry: dict[str, Any]) -> np.ndarray:
    return np.array(entry["labels"], dtype=np.dtype(entry["dtype"]))


def _text_in(text: str | list[str]) -> str | tuple[str, ...]:
    return text if isinstance(text, str) else tuple(text)


def _list(values: np.ndarray | None) -> list | None:
    return None if values is None else values.tolist()
