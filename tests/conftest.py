"""Fixtures of all tests: tiny encoders, a few texts, and fitted classifiers."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from skprotolm import ProtoLMClassifier
from tests.tiny import MODEL_TYPES, make_encoder

GOOD = ["good", "kind", "new", "great", "warm"]
BAD = ["bad", "dull", "lost", "poor", "cold"]


def make_texts(n: int = 48, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Return n distinct texts of two classes, which differ in one word."""
    rng = np.random.RandomState(seed)
    y = np.array(["pos", "neg"] * (n // 2))
    X = [
        f"the {rng.choice(['food', 'film', 'card'])} was "
        f"{rng.choice(GOOD if label == 'pos' else BAD)} today {i}"
        for i, label in enumerate(y)
    ]
    return X, y


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Use one thread: on a busy machine tiny tensors are 30 times slower in several."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt, also if the suite runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


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
