"""Metrics and the report use public attributes of estimators, models and records."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import skprotolm

FOLDER = Path(skprotolm.__file__).parent
FILES = [
    file.relative_to(FOLDER).as_posix()
    for folder in ("_report", "metrics")
    for file in sorted((FOLDER / folder).glob("*.py"))
]


def private_accesses(source: str) -> list[str]:
    """List accesses to private attributes of anything but self and cls."""
    return [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.endswith("__")
        and ast.unparse(node.value) not in ("self", "cls")
    ]


@pytest.mark.parametrize("file", FILES)
def test_no_private_attributes_of_other_objects(file):
    assert private_accesses((FOLDER / file).read_text(encoding="utf-8")) == []


def test_all_files_are_read():
    assert {"metrics/_faithfulness.py", "_report/classes.py"} <= set(FILES)


@pytest.mark.parametrize(
    ("source", "accesses"),
    [
        ("clf._fitted", ["line 1: clf._fitted"]),
        ("x = 1\nclf.explain(X)[0]._words", ["line 2: clf.explain(X)[0]._words"]),
        ("self.clf._fitted.layer", ["line 1: self.clf._fitted"]),
        ("clf._fitted = 1", ["line 1: clf._fitted"]),
        ("self._values + cls._count", []),
        ("clf.classes_", []),
        ("clf.__class__", []),
        ("_own_function(clf)", []),
    ],
)
def test_private_accesses_are_listed(source, accesses):
    assert private_accesses(source) == accesses
