"""Explanations to JSON and back, without loss.

Classes and prototypes, which explanations share, are written once. Labels are stored
with the dtype of their array, so that 1, True and "1" stay distinct. Numbers are
written with all digits. What only one kind of explanation has is written and read by
its class.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from skprotolm._data.texts import Text
from skprotolm._data.words import Sentence, dump_text, load_text
from skprotolm._records.parts import PrototypeTexts, StoredArrays, as_list

_FORMAT = "skprotolm.explanations"
_VERSION = 4
_TOKEN_ARRAYS = {
    "segments": np.int64,
    "attention": np.float64,
    "token_scores": np.float64,
    "token_unread": np.bool_,
}
_NUMBER, _NONE = (int, float), type(None)
_VALUES: dict[str, tuple[type, ...]] = {
    "base_value": _NUMBER,
    "token_method": (str, _NONE),
    "top_k": (int, _NONE),
    "novelty": _NUMBER,
    "novelty_limit": (*_NUMBER, _NONE),
}


def dump_explanations(explanations: Sequence[Any]) -> str:
    """Write explanations as JSON."""
    classes, prototypes = _Table(_dump_labels), _Table(_dump_prototypes)
    entries = []
    for e in explanations:
        columns = e._prototypes
        entries.append(
            {
                "kind": e.kind,
                "text": dump_text(e.text),
                "prototypes": prototypes.index(columns, tuple(map(id, columns))),
                "similarities": e.similarities.tolist(),
                e.ranked_by: e.ranking.tolist(),
                "tokens": list(e.tokens),
                "offsets": e.offsets.tolist(),
                **{name: getattr(e, name) for name in _VALUES},
                **{name: as_list(getattr(e, name)) for name in _TOKEN_ARRAYS},
                **e._kind_json(lambda labels: classes.index(labels, id(labels))),
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


def load_explanations(text: str | bytes, kinds: Mapping[str, Any]) -> list[Any]:
    """Read explanations from the output of `dump_explanations`.

    `kinds` are their classes.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:  # also of bytes that are no UTF-8
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
            kind(
                **_load_fields(entry, columns),
                _compared=_load_arrays(entry, kind.ranked_by, len(columns.texts)),
                **kind._from_kind_json(entry, classes),
            )
            for entry in content["explanations"]
            for kind in [kinds[entry["kind"]]]
            for columns in [prototypes[entry["prototypes"]]]
        ]
    except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
        raise ValueError(
            f"The JSON differs from the output of Explanations.to_json: "
            f"{type(error).__name__}: {error}."
        ) from error


def _load_fields(entry: dict[str, Any], prototypes: PrototypeTexts) -> dict[str, Any]:
    n_tokens, text = len(entry["tokens"]), _load_text(entry["text"])
    for name, types in _VALUES.items():
        if not isinstance(entry[name], types) or isinstance(entry[name], bool):
            raise TypeError(f"{name} is {entry[name]!r}")
    if max(entry["segments"], default=0) >= (1 if isinstance(text, str) else 2):
        raise ValueError(f"segments of one text are {set(entry['segments'])}")
    offsets = np.array(entry["offsets"], dtype=np.int64).reshape(n_tokens, 2)
    return {
        "text": text,
        "tokens": tuple(entry["tokens"]),
        "offsets": offsets,
        "_prototypes": prototypes,
        "token_scores": None,  # unless it is among the arrays
        **{name: entry[name] for name in _VALUES},
        **{
            name: numbers(entry, name, n_tokens, dtype)
            for name, dtype in _TOKEN_ARRAYS.items()
            if name != "token_scores" or entry[name] is not None
        },
    }


def _load_arrays(entry: dict[str, Any], ranked_by: str, M: int) -> StoredArrays:
    names = ("similarities", ranked_by)
    return StoredArrays(*(numbers(entry, name, M) for name in names))


def numbers(
    entry: dict[str, Any], name: str, length: int, dtype: Any = np.float64
) -> np.ndarray:
    """Return an array of an entry, which must have this length."""
    array = np.array(entry[name], dtype=dtype)
    if array.shape != (length,):
        raise ValueError(f"{name} has shape {array.shape}, not ({length},)")
    return array


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
    dtype, labels = np.dtype(row["dtype"]), row["labels"]
    if dtype.kind != "O":
        return np.array(labels, dtype=dtype)
    array = np.empty(len(labels), dtype=object)  # sets of labels, of any lengths
    array[:] = [tuple(x) if isinstance(x, list) else x for x in labels]
    return array


def _dump_prototypes(prototypes: PrototypeTexts) -> dict[str, Any]:
    return {
        **_dump_labels(prototypes.labels),
        "texts": list(map(dump_text, prototypes.texts)),
        "names": list(prototypes.names),
        "unread": list(prototypes.unread),
    }


def _load_prototypes(row: dict[str, Any]) -> PrototypeTexts:
    columns = PrototypeTexts(
        _load_labels(row),
        tuple(map(_load_text, row["texts"])),
        tuple(row["names"]),
        tuple(map(tuple, row["unread"])),
    )
    lengths = {len(columns.labels), *(len(column) for column in columns[1:])}
    if len(lengths) > 1:
        raise ValueError(f"prototypes have columns of lengths {sorted(lengths)}")
    return columns


def _load_text(text: Any) -> Text:
    if isinstance(text, str):
        return text
    first, second = text
    if isinstance(first, str) and isinstance(second, int):
        if not 0 <= second < len(Sentence(first).words):
            raise ValueError(f"{first!r} has no word {second}")
        return load_text(text)
    if not (isinstance(first, str) and isinstance(second, str)):
        raise TypeError(f"a text is {text!r}")
    return first, second
