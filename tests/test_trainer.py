"""The training loop: its state, its schedule, and tasks other than classes."""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
import pytest
import torch

from skprotolm._training.early_stopping import EarlyStopping
from skprotolm._training.trainer import Trainer, make_schedule, trainable_weights
from tests.helpers import Bar, make_trainer, without_times


def run(trainer: Trainer, n_epochs: int, bar: Any = None) -> None:
    for _ in range(n_epochs):
        trainer.history.append(trainer.run_epoch(bar or Bar()))


def stored(state: dict[str, Any]) -> dict[str, Any]:
    """Write a state to a file and read it, as another process would."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def assert_same_state(one: Trainer, other: Trainer) -> None:
    state, expected = one.state_dict(), other.state_dict()
    for name, tensor in expected["weights"].items():
        assert torch.equal(state["weights"][name], tensor), name
    moments, others = (s["optimizer"]["state"] for s in (state, expected))
    assert moments.keys() == others.keys()
    for index, tensors in others.items():
        for name, tensor in tensors.items():
            assert torch.equal(moments[index][name], tensor), name
    assert without_times(state["history"]) == without_times(expected["history"])
    assert state["n_steps"] == expected["n_steps"]
    assert state["schedule"] == expected["schedule"]


# The state of a run.


@pytest.fixture(params=["mixture", "proto-lm"])
def new_trainer(request, make_classifier, texts):
    """Return a maker of trainers of one fit, with dropout on."""
    clf = make_classifier(formulation=request.param, max_epochs=3)

    def make(seed: int) -> Trainer:
        torch.manual_seed(seed)
        return make_trainer(clf, *texts)

    with torch.random.fork_rng(devices=[]):
        yield make


def test_dropout_is_on_in_training(new_trainer):
    losses = []
    for seed in (0, 1):
        trainer = new_trainer(0)
        torch.manual_seed(seed)
        losses.append(trainer.run_epoch(Bar())["loss"])
    assert losses[0] != losses[1]


def test_a_run_continues_after_an_epoch_exactly(new_trainer):
    whole = new_trainer(0)
    run(whole, 1)
    state = stored(whole.state_dict())
    run(whole, 2)
    continued = new_trainer(1)
    continued.load_state_dict(state)
    run(continued, 2)
    assert_same_state(continued, whole)
    assert torch.equal(continued.vectors(), whole.vectors())


@pytest.mark.parametrize("n_steps", [2, 6, 9])  # of 6 per epoch
def test_a_run_continues_in_the_middle_of_an_epoch_exactly(new_trainer, n_steps):
    whole = new_trainer(0)
    run(whole, 3)
    interrupted = new_trainer(0)
    with pytest.raises(KeyboardInterrupt):
        run(interrupted, 3, Bar(interrupt_after=n_steps))
    assert interrupted.n_steps == n_steps
    state = stored(interrupted.state_dict())
    continued = new_trainer(1)
    continued.load_state_dict(state)
    run(continued, 3 - len(continued.history))
    assert_same_state(continued, whole)


def test_a_stored_state_does_not_change_with_the_run(new_trainer):
    trainer = new_trainer(0)
    run(trainer, 1)
    state = trainer.state_dict()
    before = copy.deepcopy({k: state[k] for k in ("weights", "history", "n_steps")})
    run(trainer, 1)
    for name, tensor in before["weights"].items():
        assert torch.equal(state["weights"][name], tensor), name
    assert (state["history"], state["n_steps"]) == (before["history"], 6)


def test_loading_weights_renews_the_text_vectors(new_trainer):
    trainer = new_trainer(0)
    start, weights = trainer.vectors(), trainable_weights(trainer.network)
    run(trainer, 1)
    moved = trainer.vectors()
    assert not torch.allclose(moved, start)
    trainer.load_weights(weights)
    torch.testing.assert_close(trainer.vectors(), start)


# Which weights are kept.


def test_early_stopping_keeps_trainable_weights_only(make_classifier, tiny_bert, texts):
    backbone = copy.deepcopy(tiny_bert)
    backbone[0].auto_model.embeddings.requires_grad_(False)
    backbone[0].auto_model.encoder.layer[0].requires_grad_(False)
    clf = make_classifier(
        backbone=backbone, early_stopping=True, validation_fraction=0.4
    )
    trainer = make_trainer(clf, *texts)
    stopping = EarlyStopping(
        trainer.network, *trainer.data.validation, trainer.data.task, trainer.config
    )
    stopping.update()
    frozen, trained = set(), set()
    for name, parameter in trainer.network.named_parameters():
        (trained if parameter.requires_grad else frozen).add(name)
    assert len(frozen) > 15
    assert not frozen & stopping.weights.keys()
    assert trained <= stopping.weights.keys()
    before = {k: v.clone() for k, v in trainer.network.state_dict().items()}
    run(trainer, 1)
    trainer.load_weights(stopping.weights)
    for name, tensor in trainer.network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


# Steps.


@pytest.mark.parametrize(
    ("n_steps", "warmup_fraction", "expected"),
    [
        (4, 0.5, [0.5, 1, 1, 0.5]),
        (4, 0.0, [1, 1, 2 / 3, 1 / 3]),
        (1, 0.9, [1]),
    ],
)
def test_the_schedule_warms_up_and_decays_linearly(n_steps, warmup_fraction, expected):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = make_schedule(optimizer, n_steps, warmup_fraction)
    factors = []
    for _ in range(n_steps):
        factors.append(schedule.get_last_lr()[0] / 2)
        optimizer.step()
        schedule.step()
    assert factors == pytest.approx(expected)
    assert schedule.get_last_lr()[0] == pytest.approx(0)


def test_weights_have_mean_1_over_the_training_texts(make_classifier, texts):
    """The held-out texts do not count."""
    clf = make_classifier(early_stopping=True, validation_fraction=0.4)
    weights = np.random.RandomState(0).uniform(0.1, 5, len(texts[0]))
    trainer = make_trainer(clf, *texts, sample_weight=weights)
    training = trainer.data.targets
    assert len(training.weights) == 28
    assert training.weights.mean() == pytest.approx(1)
    expected = weights[training.rows] / weights[training.rows].mean()
    np.testing.assert_allclose(training.weights, expected)
