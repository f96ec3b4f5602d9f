"""One progress bar for a whole fit."""

from __future__ import annotations

import math
from types import TracebackType

from torch import Tensor
from tqdm.auto import tqdm

from skprotolm._config import FitConfig
from skprotolm._resolve import resolve_epochs

# Work per batch, in forward passes of the encoder: of a pass, of a training step, and
# of the rest of either. What the backward pass computes again is another pass.
_PASS, _STEP, _REST = 1.0, 3.0, 0.1
_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}{postfix}]"


class _Bar(tqdm):
    """A progress bar without tqdm's thread, which would outlive the fit."""

    monitor_interval = 0


class Progress:
    """A progress bar from the first second of a fit to the last, or a silent one.

    It counts work, so that the time left is right although a training step takes longer
    than a pass without gradients. Leaving the context without an error completes it.

    Parameters
    ----------
    verbose : int
        0 shows nothing.
    """

    def __init__(self, verbose: int):
        self.bar = _Bar(
            desc="fit",
            bar_format=_FORMAT,
            mininterval=0.25,
            smoothing=0.1,  # since batches differ in length
            miniters=0,  # otherwise quick passes delay the display of slow steps
            disable=not verbose,
        )
        self._frozen = self._pass = _PASS  # of one part of a batch
        self._step = _STEP
        self._figures: dict[str, str] = {}

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.bar.n = self.bar.total
            self.begin("done")
        self.bar.close()

    def begin(self, phase: str, n_passes: int | None = None) -> None:
        """Show the name of a phase.

        Parameters
        ----------
        phase : str
        n_passes : int, default=None
            Parts of batches that are left, if this is known to differ from the
            plan, as after early stopping.
        """
        if n_passes is not None:
            self.bar.total = self.bar.n + n_passes * self._pass
        self.bar.set_description_str(phase)

    def plan(
        self,
        config: FitConfig,
        n_texts: int,
        n_held_out: int,
        n_passes: int = 1,
        *,
        repeated: float,
    ) -> None:
        """Set the total: the frozen passes, all epochs, and the pass after them.

        Parameters
        ----------
        config : FitConfig
        n_texts, n_held_out : int
            Texts that are trained on, and held out for early stopping.
        n_passes : int, default=1
            Frozen passes over the texts that are trained on.
        repeated : float
            The part of the encoder that runs again after the first pass over a text. If
            it is 0, held-out texts have a frozen pass, too.
        """
        n_epochs = resolve_epochs(config.max_epochs, n_texts, config.batch_size)
        n_batches = math.ceil(n_texts / config.batch_size)
        n_parts = math.ceil(n_texts / config.part_size)
        n_validation = math.ceil(n_held_out / config.part_size)
        n_steps = config.gradient_accumulation_steps
        self._frozen = _PASS / n_steps
        self._pass = max(repeated * _PASS, _REST) / n_steps
        step = _STEP + (n_steps > 1) + config.gradient_checkpointing
        self._step = max(repeated * step, _REST)
        total = n_passes * n_parts * self._frozen
        if repeated == 0:
            total += n_validation * self._frozen
        total += n_epochs * (n_batches * self._step + n_validation * self._pass)
        total += (n_parts + n_validation) * self._pass
        self.bar.total = total
        self.bar.refresh()

    def on_frozen_pass(self) -> None:
        """Advance by a part of a batch that the pretrained encoder has read."""
        self._advance(self._frozen)

    def on_pass(self) -> None:
        """Advance by a part of a batch that was read without training."""
        self._advance(self._pass)

    def on_step(self, loss: Tensor) -> None:
        """Advance by a training step, and show the loss if the display is due."""
        if self._advance(self._step):
            self.show(loss=float(loss))  # waits for the device

    def show(self, **figures: float) -> None:
        """Show figures beside the bar, and keep those of other names."""
        self._figures |= {name: f"{value:.3f}" for name, value in figures.items()}
        self.bar.set_postfix(self._figures)

    def _advance(self, work: float) -> bool:
        """Advance, but not beyond the total; return whether the display was due."""
        return bool(self.bar.update(min(work, self.bar.total - self.bar.n)))
