"""Recalibration by distillation, mainly of biases, once prototypes are texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from skprotolm._data.targets import Targets
from skprotolm._network.blocks import row_blocks
from skprotolm._network.mixture import MixtureLayer
from skprotolm._network.readout import CalibratedReadout, Readout, grouped_logsumexp
from skprotolm._training.splits import FitData

_SAMPLE = 5000  # texts, or fewer,
_NUMBERS = 4_000_000  # where there are so many prototypes that this many cosines
_MANY = 2**25  # pairs of texts and strata; then one text stands for each stratum
_STEPS = 30
_PENALTY = 0.01  # on the mean squared change of the parameters


class Sample(NamedTuple):
    """B training texts that are compared with M prototypes that are texts."""

    rows: np.ndarray  # (B,), of the training texts
    vectors: Tensor  # (B, H), float64
    ids: np.ndarray  # (B,), of distinct texts
    quoted: np.ndarray  # (M,), ids of the texts that prototypes quote

    def compare(self, exact: MixtureLayer, some: slice) -> tuple[Tensor, Tensor]:
        """Return cosines of some texts, and whether prototypes quote them, (B, M)."""
        itself = torch.from_numpy(self.ids[some, None] == self.quoted)
        return exact.cosines(self.vectors[some]), itself

    def evidence(self, exact: MixtureLayer) -> tuple[Tensor, Tensor]:
        """Return the evidence of K distinct values (B, K), and these values.

        Prototypes of one value are summed, since cosines with all of them would fill
        the memory. No text is compared with itself.
        """
        values, groups = torch.unique(exact.values, dim=0, return_inverse=True)
        parts = []
        for some in exact.blocks(self.vectors):
            evidence = exact.evidence(*self.compare(exact, some))
            parts.append(grouped_logsumexp(evidence, groups, len(values)))
        return torch.cat(parts), values


def draw_sample(
    data: FitData,
    vectors: Tensor,
    quoted: np.ndarray,
    *,
    max_numbers: int = _NUMBERS,
    max_texts: int = _SAMPLE,
) -> Sample:
    """Draw training texts to compare with prototypes.

    Parameters
    ----------
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
    ids = data.candidates.text_ids
    return Sample(rows, vectors[rows].cpu().double(), ids[rows], ids[quoted])


def recalibrate(
    layer: MixtureLayer, sample: Sample, targets: Targets, learned: Tensor
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
    sample : Sample
    targets : Targets
        Of the training texts.
    learned : Tensor of shape (B, L)
        The outputs of the sample under the learned vectors.
    """
    exact = layer.exact()
    readout = exact.readout
    if not isinstance(readout, CalibratedReadout):
        return
    evidence, of_prototypes = sample.evidence(exact)
    # Without the text itself, a class whose only prototype it is has no evidence.
    is_usable = finite_rows(readout, evidence, of_prototypes)
    rows, evidence = sample.rows[is_usable.numpy()], evidence[is_usable]
    if not len(rows):
        return
    expected = learned[is_usable].double()
    values = torch.from_numpy(targets.values[rows])
    weights = torch.from_numpy(targets.weights[rows]).double()
    readout.align(readout(evidence, of_prototypes), expected)
    minimize(
        divergences(readout, evidence, of_prototypes, expected, values, weights),
        readout.calibrated(),
    )
    layer.load_state_dict(exact.state_dict())


def finite_rows(readout: Readout, evidence: Tensor, of_prototypes: Tensor) -> Tensor:
    """Return which of B texts have finite outputs, (B,)."""
    blocks = row_blocks(len(evidence), evidence.shape[1])
    outputs = (readout(evidence[rows], of_prototypes) for rows in blocks)
    return torch.cat([some.isfinite().all(dim=1) for some in outputs])


def divergences(
    readout: CalibratedReadout,
    evidence: Tensor,
    of_prototypes: Tensor,
    expected: Tensor,
    values: Tensor,
    weights: Tensor,
) -> Callable[[], Iterator[Tensor]]:
    """Return a function of the divergence from expected outputs, as terms of a sum.

    Parameters
    ----------
    readout : CalibratedReadout
    evidence : Tensor of shape (B, K)
    of_prototypes : Tensor of shape (K, ...)
        The values that evidence is for.
    expected : Tensor of shape (B, L)
    values, weights : Tensor of shape (B, ...)
        Of the texts.
    """

    def terms() -> Iterator[Tensor]:
        for rows in row_blocks(len(evidence), expected.shape[1]):
            outputs = readout(evidence[rows], of_prototypes)
            term = readout.divergence(outputs, expected[rows], values, weights[rows])
            yield len(outputs) / len(evidence) * term

    return terms


def sample_rows(strata: np.ndarray, n_texts: int, seed: int) -> np.ndarray:
    """Draw rows of texts, and add all texts of strata without a drawn one.

    Where these are very many, one text per stratum is added.
    """
    order = np.random.RandomState(seed).permutation(len(strata))
    drawn = order[:n_texts]
    others = order[~np.isin(strata[order], strata[drawn])]
    absent, first = np.unique(strata[others], return_index=True)
    if len(others) * len(absent) > _MANY:
        others = others[first]
    return np.append(drawn, others)


def minimize(
    distance: Callable[[], Iterable[Tensor]], parameters: list[nn.Parameter]
) -> None:
    """Minimize a distance and a penalty on the change of the parameters, in place.

    The distance is a sum of terms, each of which keeps its graph in memory only until
    the next one.
    """
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
        total = torch.zeros((), dtype=torch.float64)
        for term in chain(distance(), [_PENALTY * changes.sum()]):
            term.backward()
            total += term.detach()
        return total

    optimizer.step(loss)
