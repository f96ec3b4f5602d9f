"""Batches are read in parts, and layers are checkpointed: less memory, same result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from transformers.models.bert.modeling_bert import BertLayer

from skprotolm import ProtoLMRegressor
from skprotolm._training.build import load
from tests import tagged
from tests.helpers import (
    FORMULATIONS,
    Bar,
    assert_same_predictions,
    make_config,
    make_trainer,
)
from tests.tiny import MODEL_TYPES, make_encoder, without_dropout


def trained(clf: Any, X: Any, y: Any, n_steps: int = 2) -> dict[str, torch.Tensor]:
    """Return the weights after some steps from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trainer = make_trainer(clf, X, y)
        with pytest.raises(KeyboardInterrupt):
            trainer.run_epoch(Bar(interrupt_after=n_steps))
    return trainer.network.state_dict()


@pytest.fixture(scope="module")
def double_bert(tmp_path_factory) -> Any:
    """A tiny BERT in double precision, without dropout."""
    folder = tmp_path_factory.mktemp("double")
    return without_dropout(make_encoder("bert", folder, dtype=torch.float64))


# Parts of a batch.


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize("n_parts", [2, 3, 8])
def test_steps_are_those_of_the_whole_batch(
    make_classifier, texts, double_bert, formulation, n_parts
):
    """Averaged gradients of the parts differ: losses compare the texts of a batch."""
    settings = {"backbone": double_bert, "formulation": formulation}
    whole = trained(make_classifier(**settings), *texts)
    clf = make_classifier(**settings, gradient_accumulation_steps=n_parts)
    for name, weight in trained(clf, *texts).items():
        torch.testing.assert_close(weight, whole[name], msg=name)


def test_steps_depend_on_the_size_of_the_batch(make_classifier, texts, double_bert):
    """So that the test above can fail: small batches have other gradients."""
    whole = trained(make_classifier(backbone=double_bert), *texts)
    small = trained(make_classifier(backbone=double_bert, batch_size=4), *texts)
    assert not all(torch.allclose(small[name], whole[name]) for name in whole)


@pytest.mark.parametrize("finetune", ["full", "lora", 1])
@pytest.mark.parametrize(("n_steps", "largest"), [(1, 8), (2, 4), (3, 3), (8, 1)])
def test_the_encoder_reads_one_part_at_once(
    make_classifier, texts, forward_calls, finetune, n_steps, largest
):
    clf = make_classifier(
        finetune=finetune, gradient_accumulation_steps=n_steps, early_stopping=True
    )
    clf.fit(*texts)
    assert max(n for n, _ in forward_calls) == largest
    forward_calls.clear()
    clf.predict(texts[0])
    assert max(n for n, _ in forward_calls) == largest


def test_numbers_and_tags_are_read_in_parts(
    make_tagger, texts, tiny_bert, forward_calls
):
    settings = {"max_epochs": 1, "batch_size": 8, "gradient_accumulation_steps": 4}
    y = np.arange(len(texts[0])) / 7
    ProtoLMRegressor(tiny_bert, random_state=0, **settings).fit(texts[0], y)
    make_tagger(**settings).fit(tagged.X, tagged.Y)
    assert max(n for n, _ in forward_calls) == 2


def test_windows_of_long_texts_are_read_in_parts(make_classifier, texts, forward_calls):
    X = [" ".join([text] * 3) for text in texts[0]]
    clf = make_classifier(
        max_length=12, long_text="window", gradient_accumulation_steps=4
    )
    clf.fit(X, texts[1])
    assert max(n for n, _ in forward_calls) == 2


def test_more_parts_than_texts_are_refused(make_classifier, texts):
    message = (
        r"'gradient_accumulation_steps' .* at most 'batch_size'.*got 9 for 8 texts"
    )
    with pytest.raises(ValueError, match=message):
        make_classifier(gradient_accumulation_steps=9).fit(*texts)


# Checkpoints.


@pytest.fixture
def runs_of_layers() -> Iterator[dict[str, int]]:
    """How often the layers of any BERT run, with and without gradients."""
    counts = {"training": 0, "prediction": 0}

    def count(module: torch.nn.Module, args: Any) -> None:
        if isinstance(module, BertLayer):
            counts["training" if torch.is_grad_enabled() else "prediction"] += 1

    handle = register_module_forward_pre_hook(count)
    yield counts
    handle.remove()


@pytest.mark.parametrize("model_type", [*MODEL_TYPES, "deberta-v2"])
@pytest.mark.parametrize("n_parts", [1, 2])
def test_checkpoints_change_no_step(
    make_classifier, texts, tmp_path, model_type, n_parts
):
    """Layers run again with the same dropout."""
    backbone = make_encoder(model_type, tmp_path, dtype=torch.float64)
    settings = {"backbone": backbone, "gradient_accumulation_steps": n_parts}
    plain, checkpointed = (
        trained(make_classifier(gradient_checkpointing=flag, **settings), *texts)
        for flag in (False, True)
    )
    for name, weight in checkpointed.items():
        torch.testing.assert_close(weight, plain[name], msg=name)


@pytest.mark.parametrize(("finetune", "n_layers"), [("full", 2), ("lora", 2), (1, 1)])
def test_each_trained_layer_runs_twice_per_step(
    make_classifier, texts, runs_of_layers, finetune, n_layers
):
    counts = []
    for flag in (False, True):
        clf = make_classifier(finetune=finetune, gradient_checkpointing=flag)
        clf.fit(*texts)
        counts.append(dict(runs_of_layers))
        runs_of_layers.update(training=0, prediction=0)
    n_steps = 2 * 6
    assert counts[0]["training"] == n_layers * n_steps
    assert counts[1]["training"] == 2 * n_layers * n_steps
    assert counts[1]["prediction"] == counts[0]["prediction"]


def test_layers_keep_only_their_inputs(make_classifier, texts, tiny_bert):
    """What the graph of a step keeps, beyond the weights."""
    sizes = []
    for flag in (False, True):
        trainer = make_trainer(make_classifier(backbone=tiny_bert), *texts)
        network, source = trainer.network.train(), trainer.data.source
        weights = {p.data_ptr() for p in network.parameters()}
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor, weights: Any = weights, kept: Any = kept) -> Any:
            if tensor.data_ptr() not in weights:
                kept[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            network(source, np.arange(8), 8, checkpoints_layers=flag)
        sizes.append(sum(kept.values()))
    assert sizes[1] < sizes[0] / 2


def test_a_frozen_encoder_has_no_checkpoints(make_classifier, texts, runs_of_layers):
    clf = make_classifier(finetune="head", gradient_checkpointing=True)
    plain = make_classifier(finetune="head")
    assert_same_predictions(clf.fit(*texts), plain.fit(*texts), texts[0])
    assert runs_of_layers["training"] == 0


def test_a_backbone_without_one_list_of_layers_is_refused(
    make_classifier, texts, tmp_path
):
    backbone = make_encoder("albert", tmp_path)
    clf = make_classifier(backbone=backbone, gradient_checkpointing=True)
    with pytest.raises(ValueError, match=r"\(albert\).*gradient_checkpointing=False"):
        clf.fit(*texts)


@pytest.mark.parametrize(
    "parameters",
    [
        {"gradient_accumulation_steps": 3},
        {"gradient_checkpointing": True},
        {"gradient_accumulation_steps": 3, "gradient_checkpointing": True},
    ],
    ids=str,
)
def test_a_seed_determines_the_fit(make_classifier, texts, parameters):
    one, other = (make_classifier(**parameters).fit(*texts) for _ in range(2))
    assert_same_predictions(one, other, texts[0])


@pytest.mark.parametrize(
    "parameter",
    [{"gradient_accumulation_steps": 2}, {"gradient_checkpointing": True}],
    ids=str,
)
def test_devices_that_do_not_repeat_dropout_are_refused(tiny_folder, parameter):
    config = make_config(backbone=str(tiny_folder), **parameter)
    with pytest.raises(ValueError, match="does not repeat on MPS"):
        load(config, torch.device("mps"))
