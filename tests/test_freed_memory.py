"""Models that are replaced or deleted, and those of failed fits, are freed at once."""

from __future__ import annotations

import gc
import pickle
import weakref
from typing import Any

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook

from skprotolm._network.encoder import TextEncoder


@pytest.fixture
def no_collector() -> Any:
    """Disable the garbage collector, so that reference cycles are not freed."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def weight_of(encoder: TextEncoder) -> weakref.ref:
    return weakref.ref(next(encoder.parameters()))


@pytest.mark.parametrize("finetune", ["full", 1, "head"])
@pytest.mark.parametrize("formulation", ["mixture", "proto-lm"])
def test_a_refit_frees_the_previous_encoder(
    make_classifier, texts, no_collector, formulation, finetune
):
    """The memory of 25 fits of the default encoder was a gigabyte."""
    X, y = texts
    clf = make_classifier(formulation=formulation, finetune=finetune).fit(X, y)
    weight = weight_of(clf._fitted.network.encoder)
    clf.explain(X[:2], token_method="relevance").to_html()
    clf.prototypes_.nearest(X[:2])
    clf.remove_prototypes([0]).undo_edit()
    assert weight() is not None
    clf.fit(X, y)
    assert weight() is None


def test_deleting_a_loaded_model_frees_its_encoder(fitted, texts, no_collector):
    loaded = pickle.loads(pickle.dumps(fitted))
    loaded.predict(texts[0][:2])
    weight = weight_of(loaded._fitted.network.encoder)
    del loaded
    assert weight() is None


def test_a_failed_fit_frees_its_encoder(make_classifier, texts, no_collector):
    weights: list[weakref.ref] = []

    def watch(module: torch.nn.Module, args: Any, output: Any) -> None:
        if isinstance(module, TextEncoder):
            weights.append(weight_of(module))

    clf = make_classifier(learning_rate=1e30, head_learning_rate=1e30)
    handle = register_module_forward_hook(watch)
    try:
        with pytest.raises(ValueError, match="diverged"):
            clf.fit(*texts)
    finally:
        handle.remove()
    assert weights
    assert all(weight() is None for weight in weights)
