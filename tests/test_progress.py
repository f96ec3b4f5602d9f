"""The progress bar of a fit: when it starts, what it counts, and how it ends."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from tqdm import tqdm

from skprotolm._training.progress import Progress
from skprotolm.exceptions import FitInterruptedWarning
from tests.helpers import make_config, make_trainer
from tests.watching import Watcher, stop_at

STOPPING = {"early_stopping": True, "validation_fraction": 0.3}
# Few texts, a constant score: training stops after the first epoch.
STOPPED = {**STOPPING, "max_epochs": 5, "n_iter_no_change": 1, "learning_rate": 1e-9}
FITS: dict[str, dict[str, Any]] = {
    "full": {},
    "head": {"finetune": "head"},
    "last layer": {"finetune": 1},
    "proto-lm": {"formulation": "proto-lm"},
    "learned vectors": {"projection": False},
    "parts of batches": {"gradient_accumulation_steps": 3},
    "automatic epochs": {"max_epochs": "auto", "batch_size": 2},
    "validation": {**STOPPING, "n_iter_no_change": 9},
    "validation, last layer": {**STOPPING, "n_iter_no_change": 9, "finetune": 1},
    "validation, head": {**STOPPING, "n_iter_no_change": 9, "finetune": "head"},
}


class Recorded:
    """What one bar of tqdm was told."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, float]] = []  # and the work done before each
        self.planned: float | None = None
        self.counted = self.total = 0.0


@pytest.fixture
def progress(monkeypatch):
    """Return a list, to which fits append their progress."""
    bars: list[Recorded] = []
    describe, update = tqdm.set_description_str, tqdm.update

    def described(bar: tqdm, phase: str, **options: Any) -> None:
        if phase == "loading the backbone":
            bars.append(Recorded())
        recorded = bars[-1]
        recorded.phases.append((phase, bar.n))
        recorded.planned = recorded.planned or bar.total
        recorded.total = bar.total
        describe(bar, phase, **options)

    def updated(bar: tqdm, n: float = 1) -> bool | None:
        bars[-1].counted += n
        return update(bar, n)

    monkeypatch.setattr(tqdm, "set_description_str", described)
    monkeypatch.setattr(tqdm, "update", updated)
    return bars


def lines(err: str) -> list[str]:
    return [line.strip() for line in err.split("\r") if line.strip()]


# What it counts.


@pytest.mark.parametrize("parameters", FITS.values(), ids=FITS)
def test_a_fit_does_the_planned_work(make_classifier, texts, progress, parameters):
    make_classifier(verbose=1, **parameters).fit(*texts)
    [bar] = progress
    assert bar.planned == pytest.approx(bar.total)
    assert bar.counted == pytest.approx(bar.total)


def test_early_stopping_reduces_the_total(make_classifier, texts, progress, capfd):
    clf = make_classifier(verbose=1, **STOPPED).fit(*texts)
    assert clf.n_iter_ < 5
    [bar] = progress
    assert bar.counted == pytest.approx(bar.total)
    assert bar.total < bar.planned
    err = capfd.readouterr().err
    assert "validation_score=" in err
    assert lines(err)[-1].startswith("done: 100%")


def test_a_training_step_counts_as_three_passes(make_classifier, texts, progress):
    make_classifier(verbose=1).fit(*texts)
    work = dict(progress[0].phases)
    assert work["initializing prototypes"] == 6  # batches
    assert work["epoch 2/2"] - work["epoch 1/2"] == 6 * 3
    assert progress[0].total == 6 + 2 * 6 * 3 + 6


def test_steps_on_stored_vectors_count_less_than_a_pass(
    make_classifier, texts, progress
):
    make_classifier(verbose=1, finetune="head").fit(*texts)
    work = dict(progress[0].phases)
    assert work["initializing prototypes"] == 6
    assert 0 < work["epoch 2/2"] - work["epoch 1/2"] < 1


def test_the_phases_are_in_order(make_classifier, texts, progress):
    make_classifier(verbose=1).fit(*texts)
    phases, work = zip(*progress[0].phases, strict=True)
    assert phases == (
        "loading the backbone",
        "reading texts",
        "initializing prototypes",
        "epoch 1/2",
        "epoch 2/2",
        "placing prototypes",
        "done",
    )
    assert all(one <= other for one, other in pairwise(work))


@pytest.mark.usefixtures("callbacks")
@pytest.mark.parametrize("parameters", [{}, STOPPING], ids=["full", "validation"])
def test_snapshots_do_not_advance_the_bar(make_classifier, texts, progress, parameters):
    clf = make_classifier(verbose=1, **parameters)
    clf.fit(*texts)
    clf.set_callbacks(Watcher()).fit(*texts)
    plain, watched = (dict(bar.phases) for bar in progress)
    assert watched == plain


# Where it starts and how it ends.


def test_it_starts_before_the_backbone_is_loaded(make_classifier, texts, capfd):
    """It is also closed if loading fails."""
    with pytest.raises(OSError, match="missing"):
        make_classifier(backbone="./missing", verbose=1).fit(*texts)
    err = capfd.readouterr().err
    assert lines(err)[-1].startswith("loading the backbone:   0%")
    assert err.endswith("\n")


def test_it_is_closed_after_an_error(make_classifier, texts, monkeypatch, capfd):
    stop_at(monkeypatch, 8, RuntimeError("hardware failure"))
    with pytest.raises(RuntimeError, match="hardware failure"):
        make_classifier(verbose=1).fit(*texts)
    err = capfd.readouterr().err
    assert lines(err)[-1].startswith("epoch 2/2:")
    assert "100%" not in err
    assert err.endswith("\n")


def test_it_is_closed_after_an_early_interrupt(
    make_classifier, texts, monkeypatch, capfd
):
    stop_at(monkeypatch, 1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        make_classifier(verbose=1).fit(*texts)
    err = capfd.readouterr().err
    assert lines(err)[-1].startswith("epoch 1/2:")
    assert err.endswith("\n")


@pytest.mark.filterwarnings("ignore", category=FitInterruptedWarning)
def test_an_interrupted_fit_completes_the_bar(
    make_classifier, texts, monkeypatch, progress, capfd
):
    stop_at(monkeypatch, 8, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        make_classifier(verbose=1).fit(*texts)
    [bar] = progress
    assert bar.counted == pytest.approx(bar.total)
    assert bar.total == 6 + 7 * 3 + 6
    err = capfd.readouterr().err
    assert lines(err)[-1].startswith("done: 100%")
    assert err.endswith("\n")


# What it shows.


@pytest.mark.parametrize("parameters", [{}, STOPPED, FITS["head"]], ids=str)
def test_without_verbose_nothing_is_printed(make_classifier, texts, capfd, parameters):
    make_classifier(**parameters).fit(*texts)
    with pytest.raises(OSError, match="missing"):
        make_classifier(backbone="./missing").fit(*texts)
    assert capfd.readouterr() == ("", "")


class Unread:
    """A loss that is not read."""

    def __float__(self) -> float:
        raise AssertionError


def test_the_loss_is_read_only_for_display(capfd):
    """Reading it in every step would wait for the device."""
    with Progress(1) as progress:
        progress.plan(make_config(max_epochs=1), 64, 0, repeated=1.0)
        progress.bar.mininterval = 3600
        unread: Any = Unread()
        progress.on_step(unread)
        progress.bar.mininterval = 0
        progress.on_step(torch.tensor(0.25))
    assert "loss=0.250" in capfd.readouterr().err


def test_the_loss_is_the_mean_since_the_epoch_began(make_classifier, texts):
    losses: list[float] = []

    class Losses:
        def on_step(self, loss: torch.Tensor) -> None:
            losses.append(float(loss))

    recorder: Any = Losses()
    trainer = make_trainer(make_classifier(), *texts)
    figures = trainer.run_epoch(recorder)
    assert len(losses) == 6
    assert losses[-1] == pytest.approx(figures["loss"])
    assert losses[0] != pytest.approx(figures["loss"])
