"""Recalibration by distillation, mainly of biases, once prototypes are texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from skprotolm._data.targets import Targets
from skprotolm._network.mixture import MixtureLayer
from skprotolm._training.splits import FitData

_SAMPLE = 5000  # texts, or fewer,
_NUMBERS = 4_000_000  # where there are so many prototypes that this many cosines
_STEPS = 30
_PENALTY = 0.01  # on the mean squared change of the parameters


class Comparison(NamedTuple):
    """B training texts compared with M prototypes that are texts."""

    rows: np.ndarray  # (B,), of the training texts
    cosines: Tensor  # (B, M), float64
    itself: Tensor  # (B, M), whether the prototype quotes the text itself


def compare(
    layer: MixtureLayer,
    data: FitData,
    vectors: Tensor,
    quoted: np.ndarray,
    *,
    max_numbers: int = _NUMBERS,
    max_texts: int = _SAMPLE,
) -> Comparison:
    """Compare training texts, or a sample of them, with prototypes.

    Parameters
    ----------
    layer : MixtureLayer
        Its vectors are those of texts.
    data : FitData
    vectors : Tensor of shape (n, H)
        Of the training texts.
    quoted : ndarray of shape (M,)
        The row of each prototype's text.
    max_numbers, max_texts : int
        At most as many cosines and texts are used.
    """
    n_texts = min(max_texts, max(1, max_numbers // len(quoted)))
    rows = sample_rows(data.targets.strata, n_texts, data.seed)
    cosines = layer.exact().cosines(vectors[rows].cpu().double())
    ids = data.candidates.text_ids
    return Comparison(rows, cosines, torch.from_numpy(ids[rows, None] == ids[quoted]))


def recalibrate(
    layer: MixtureLayer, compared: Comparison, targets: Targets, learned: Tensor
) -> None:
    """Make the projected model match the learned one, in place.

    The biases b minimize

        Σ_b w_b·KL(p_b with learned vectors ‖ p_b with texts) / B
        + 0.01·Σ_c (change of b_c)² / C

    where no text is compared with itself, to which it is more similar than to any
    other. Of several labels per text, the concentrations are parameters, too. The step
    uses no labels. (ProtoPNet retrains its last layer on the labels: Chen et al. 2019.)

    Parameters
    ----------
    layer : MixtureLayer
        Its vectors are those of texts.
    compared : Comparison
    targets : Targets
        Of the training texts.
    learned : Tensor of shape (n, L)
        The outputs of the training texts under the learned vectors.
    """
    exact = layer.exact()
    readout, parameters = exact.readout, exact.readout.calibrated()
    if not parameters:
        return
    rows, cosines, itself = compared
    evidence = exact.evidence(cosines, itself)
    # Without the text itself, a class whose only prototype it is has no evidence.
    is_usable = readout(evidence, exact.values).isfinite().all(dim=1)
    rows, evidence = rows[is_usable.numpy()], evidence[is_usable]
    if not len(rows):
        return
    expected = learned[rows].cpu().double()
    values = torch.from_numpy(targets.values[rows])
    weights = torch.from_numpy(targets.weights[rows]).double()

    readout.align(readout(evidence, exact.values), expected)

    def divergence() -> Tensor:
        outputs = readout(evidence, exact.values)
        return readout.divergence(outputs, expected, values, weights)

    minimize(divergence, parameters)
    layer.load_state_dict(exact.state_dict())


def sample_rows(strata: np.ndarray, n_texts: int, seed: int) -> np.ndarray:
    """Draw rows of texts, and add all texts of strata without a drawn one."""
    order = np.random.RandomState(seed).permutation(len(strata))
    drawn = order[:n_texts]
    return np.append(drawn, order[~np.isin(strata[order], strata[drawn])])


def minimize(distance: Callable[[], Tensor], parameters: list[nn.Parameter]) -> None:
    """Minimize a distance and a penalty on the change of the parameters, in place."""
    before = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.LBFGS(
        [parameter.requires_grad_() for parameter in parameters],
        max_iter=_STEPS,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        pairs = zip(parameters, before, strict=True)
        changes = torch.stack([(now - then).square().mean() for now, then in pairs])
        total = distance() + _PENALTY * changes.sum()
        total.backward()
        return total

    optimizer.step(loss)
