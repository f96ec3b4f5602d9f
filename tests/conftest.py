"""Fixtures of all tests: tiny encoders, a few texts, and fitted classifiers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch.nn.modules.module import register_module_forward_hook

from skprotolm import ProtoLMClassifier, ProtoLMTokenClassifier
from skprotolm.exceptions import FewerPrototypesWarning
from tests import label_sets, tagged
from tests.texts import make_texts
from tests.tiny import MODEL_TYPES, make_encoder


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Use one thread: on a busy machine tiny tensors are 30 times slower in several."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture
def forward_calls() -> Iterator[list[tuple[int, int]]]:
    """The shapes (texts or windows, tokens) of what any transformer reads at once."""
    shapes: list[tuple[int, int]] = []

    def count(module: torch.nn.Module, args: Any, output: Any) -> None:
        if type(module).__name__ == "Transformer":
            shapes.append(tuple(output["token_embeddings"].shape[:2]))

    handle = register_module_forward_hook(count)
    yield shapes
    handle.remove()


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformer:
    """A BERT with random weights, two layers and sixteen dimensions."""
    return make_encoder("bert", tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module", params=MODEL_TYPES)
def model_type(request: pytest.FixtureRequest) -> str:
    """Each model type."""
    return request.param


@pytest.fixture(scope="module")
def backbone(
    model_type: str, tmp_path_factory: pytest.TempPathFactory
) -> SentenceTransformer:
    """A tiny SentenceTransformer of each model type; tests must not change it."""
    return make_encoder(model_type, tmp_path_factory.mktemp(model_type))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny BERT, for estimators whose backbone is a name."""
    folder = tmp_path_factory.mktemp("bert-folder")
    make_encoder("bert", folder)
    return folder


@pytest.fixture(scope="session")
def texts() -> tuple[list[str], np.ndarray]:
    """Texts and labels that a tiny encoder can learn."""
    return make_texts()


@pytest.fixture(scope="session")
def make_classifier(tiny_folder: Path) -> Callable[..., ProtoLMClassifier]:
    """Return a maker of small, quick classifiers."""

    def make(**parameters: Any) -> ProtoLMClassifier:
        defaults: dict[str, Any] = {
            "backbone": str(tiny_folder),
            "n_prototypes": 3,
            "max_epochs": 2,
            "batch_size": 8,
            "learning_rate": 1e-3,
            "random_state": 0,
        }
        return ProtoLMClassifier(**{**defaults, **parameters})

    return make


@pytest.fixture(scope="session")
def fitted(
    make_classifier: Callable[..., ProtoLMClassifier],
    texts: tuple[list[str], np.ndarray],
) -> ProtoLMClassifier:
    """A fitted classifier; tests must not change it."""
    return make_classifier().fit(*texts)


@pytest.fixture
def callbacks() -> Any:
    """scikit-learn's callbacks, where it has any."""
    return pytest.importorskip("sklearn.callback", reason="scikit-learn before 1.9")


@pytest.fixture(scope="session")
def make_multilabel(tiny_bert: SentenceTransformer) -> Callable[..., ProtoLMClassifier]:
    """Return a maker of classifiers that can learn the texts of `label_sets`."""

    def make(**parameters: Any) -> ProtoLMClassifier:
        defaults: dict[str, Any] = {
            "backbone": tiny_bert,
            "max_epochs": 1,
            "batch_size": 8,
            "learning_rate": 1e-2,
            "head_learning_rate": 3e-2,
            "random_state": 0,
        }
        return ProtoLMClassifier(**{**defaults, **parameters})

    return make


@pytest.fixture(scope="session")
def multilabel(make_multilabel: Callable[..., ProtoLMClassifier]) -> ProtoLMClassifier:
    """A classifier of several labels per text; tests must not change it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        y = pd.DataFrame(label_sets.Y, columns=label_sets.LABELS)
        return make_multilabel(max_epochs=15).fit(label_sets.X, y)


@pytest.fixture(scope="session")
def make_tagger(
    tiny_bert: SentenceTransformer,
) -> Callable[..., ProtoLMTokenClassifier]:
    """Return a maker of taggers that can learn the sentences of `tagged`."""

    def make(**parameters: Any) -> ProtoLMTokenClassifier:
        defaults: dict[str, Any] = {
            "backbone": tiny_bert,
            "n_prototypes": 5,
            "max_epochs": 8,
            "batch_size": 8,
            "learning_rate": 3e-3,
            "random_state": 0,
        }
        return ProtoLMTokenClassifier(**{**defaults, **parameters})

    return make


@pytest.fixture(scope="session")
def tagger(
    make_tagger: Callable[..., ProtoLMTokenClassifier],
) -> ProtoLMTokenClassifier:
    """A fitted tagger; tests must not change it."""
    tagger = make_tagger(n_prototypes={"B-loc": 99, "I-loc": 5, "B-per": 5, "O": 5})
    # The same words stand in the same sentences.
    with pytest.warns(FewerPrototypesWarning, match="fewer distinct words"):
        return tagger.fit(tagged.X, tagged.Y)
