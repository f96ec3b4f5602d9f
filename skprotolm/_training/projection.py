"""Projection of prototypes onto training texts, for each formulation.

Letters: M prototypes, n training texts, H hidden size, P pretrained size.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.preprocessing import normalize
from torch import Tensor

from skprotolm._config import FitConfig
from skprotolm._network.mixture import MixtureLayer
from skprotolm._network.prototypes import PrototypeLayer
from skprotolm._training.linear_values import linear_values
from skprotolm._training.neighborhoods import coincident
from skprotolm._training.recalibration import draw_sample, recalibrate
from skprotolm._training.selection import representative
from skprotolm._training.sharpness import choose_sharpness
from skprotolm._training.splits import Candidates, FitData

# Correctly classified texts per stratum, of which all may be quoted: with 8 to 16 texts
# per class, half of them cost a point (SST-2, three seeds).
_FEW = 50
_RIDGE = 0.1  # of the regression from learned to pretrained vectors, of length 1

# From rows of training texts to their vectors as predictions compute them, (M, H).
Read = Callable[[np.ndarray], Tensor]
Projected = tuple[PrototypeLayer, np.ndarray]


def project_mixture(
    layer: MixtureLayer, data: FitData, config: FitConfig, vectors: Tensor, read: Read
) -> Projected:
    """Replace the learned prototypes by a larger number of texts and a larger λ.

    Few learned prototypes are accurate, but only of many texts some are similar to the
    explained one. The biases are recalibrated, so that the outputs change little.

    Returns
    -------
    layer : MixtureLayer
        Its priors are equal inside each group.
    rows : ndarray of shape (M,), int
        The row of each prototype's text.
    """
    task, targets, true = data.task, data.targets, data.targets.values
    weights, errors, directions = weights_of_texts(data), None, None
    if config.output_weight:
        s = vectors.cpu().numpy()
        errors, coefficients = linear_values(s, task.standardized(true), weights)
        outputs = layer.outputs_of(vectors).numpy()
        if (learned := task.learned_values(outputs)) is not None:
            _, coefficients = linear_values(s, learned, weights)
        directions = np.sqrt(config.output_weight) * coefficients
    confidence = confidence_of(layer, vectors, torch.from_numpy(true), errors)
    rows = choose_texts(data, config, confidence)
    rows = np.append(rows, task.indispensable(true, rows))
    assert config.reading_weight is not None
    metric = reading_metric(
        vectors, data.pretrained, weights, config.reading_weight, directions
    )
    positions = read(rows).to(metric) @ metric.T
    if config.prune:
        ids = task.value_ids(true[rows])
        kept = ~coincident(normalize(positions.cpu().numpy()), ids)
        rows, positions = rows[kept], positions[torch.from_numpy(kept)]
    projected = _on_texts(layer, data, positions, rows, metric)
    sample = draw_sample(data, vectors, rows)
    projected.sharpen(
        config.quoted_sharpness or choose_sharpness(projected, sample, targets)
    )
    if config.recalibrate:
        expected = outputs_at(layer, vectors, sample.rows)
        recalibrate(projected, sample, targets, expected)
    return projected, rows


def confidence_of(
    layer: MixtureLayer, vectors: Tensor, true: Tensor, errors: np.ndarray | None
) -> np.ndarray:
    """Return how reliable training texts are, (n,); see `Readout.confidence`."""

    def of(outputs: Tensor, rows: slice) -> Tensor:
        own = None if errors is None else errors[rows]
        return torch.from_numpy(layer.readout.confidence(outputs, true[rows], own))

    return layer.outputs_of(vectors, of).numpy()


def outputs_at(layer: PrototypeLayer, vectors: Tensor, rows: np.ndarray) -> Tensor:
    """Return the outputs of some training texts, (B, L), as those of all have them."""
    wanted = np.unique(rows)
    mask = torch.zeros(len(vectors), dtype=torch.bool)
    mask[wanted] = True
    outputs = layer.outputs_of(vectors, lambda chunk, of: chunk[mask[of]])
    return outputs[np.searchsorted(wanted, rows)]


def choose_texts(
    data: FitData, config: FitConfig, confidence: np.ndarray
) -> np.ndarray:
    """Return the rows of the texts to quote, stratum after stratum.

    They represent their stratum in the space of the frozen encoder: inside a class the
    learned vectors are similar whatever the texts are about. They are chosen from those
    texts that the model classifies correctly and most confidently, the `quotable`
    fraction; the others attract texts of neighboring classes. More are used only where
    the user asks for more.

    Parameters
    ----------
    data : FitData
    config : FitConfig
    confidence : ndarray of shape (n,)
        Of the true values; −inf if mispredicted.
    """
    candidates, ids = data.candidates, data.candidates.text_ids
    weights = np.bincount(ids, weights_of_texts(data))[ids]  # of all copies
    chosen = []
    for stratum, count in enumerate(config.quoted_counts):
        rows = candidates.rows[candidates.strata == stratum]
        if not rows.size:
            continue
        rows = rows[np.argsort(-confidence[rows], kind="stable")]
        n_correct = np.count_nonzero(confidence[rows] > -np.inf)
        least = max(1, min(n_correct, _FEW)) if config.prune else count
        rows = np.sort(rows[: max(math.ceil(n_correct * config.quotable), least)])
        unit = normalize(data.pretrained.numpy()[rows])
        picked = representative(unit, weights[rows], count, data.seed)
        chosen.append(rows[picked])
    return np.concatenate(chosen)


def weights_of_texts(data: FitData) -> np.ndarray:
    """Return weights (n,) that sum to the number of distinct texts.

    A text of weight 2 then counts as two copies of it, also relative to the ridge.
    """
    weights = data.targets.weights
    return weights * (data.candidates.text_ids.max() + 1) / weights.sum()


def reading_metric(
    vectors: Tensor,
    pretrained: Tensor,
    weights: np.ndarray,
    reading_weight: float,
    directions: np.ndarray | None = None,
) -> Tensor:
    """Return the metric A in which similar texts are also about the same, (H, H).

    Fine-tuning makes the texts of a class similar, whatever they are about. The ridge
    regression W from learned to pretrained vectors recovers the rest: the cosine of A s
    is that of the concatenation of s and √w·W s, since AᵀA = I + w·WᵀW. (The code has
    vectors in rows, and Wᵀ.)

    Parameters
    ----------
    vectors : Tensor of shape (n, H)
        Learned text vectors.
    pretrained : Tensor of shape (n, P)
        The frozen encoder's sentence vectors.
    weights : ndarray of shape (n,)
        Of the texts.
    reading_weight : float
        w; 0 is the learned space alone.
    directions : ndarray of shape (H, D), default=None
        Directions u in which texts must be near, too: AᵀA has u·uᵀ more for each.
    """
    s = normalize(vectors.cpu().double().numpy())
    targets = normalize(pretrained.cpu().double().numpy())
    identity = np.eye(s.shape[1])
    weighted = (weights[:, None] * s).T
    W = np.linalg.solve(weighted @ s + _RIDGE * identity, weighted @ targets)
    gram = identity + reading_weight * (W @ W.T)
    if directions is not None:
        gram += directions @ directions.T
    return torch.from_numpy(np.linalg.cholesky(gram).T.copy())


def _on_texts(
    layer: MixtureLayer,
    data: FitData,
    vectors: Tensor,
    rows: np.ndarray,
    metric: Tensor,
) -> MixtureLayer:
    """Return the layer with other vectors (M, H), a metric, and equal priors."""
    values = torch.from_numpy(data.targets.values[rows])
    projected = MixtureLayer(
        vectors.to(layer.vectors),
        values.to(layer.values),
        layer.readout.on_texts(),
        sharpness=layer.sharpness,
    )
    projected.metric = metric.to(layer.vectors)
    return projected.requires_grad_(False)


def project_published(
    layer: PrototypeLayer, data: FitData, config: FitConfig, vectors: Tensor, read: Read
) -> Projected:
    """Place each prototype on its nearest text."""
    rows = nearest_texts(layer, data, config, vectors)
    values = torch.from_numpy(data.targets.values[rows])
    kept = torch.arange(len(rows))
    return layer.take(kept, read(rows).to(layer.vectors), values), rows


PROJECTIONS: dict[str, Callable[..., Projected]] = {
    "mixture": project_mixture,
    "proto-lm": project_published,
}


def nearest_texts(
    layer: PrototypeLayer, data: FitData, config: FitConfig, vectors: Tensor
) -> np.ndarray:
    """Return the row of a distinct text of its stratum per prototype, (M,)."""
    positions = layer.positions.cpu().numpy()
    texts = layer.to_euclidean(vectors.to(layer.vectors)).cpu().numpy()
    return assign(positions, prototype_strata(config), texts, data.candidates)


def prototype_strata(config: FitConfig) -> np.ndarray:
    """Return the stratum of each learned prototype, (M,)."""
    counts = config.prototype_counts
    return np.repeat(np.arange(len(counts)), counts)


def assign(
    prototypes: np.ndarray,
    strata: np.ndarray,
    texts: np.ndarray,
    candidates: Candidates,
) -> np.ndarray:
    """Give every prototype a distinct text of its stratum, at the least total distance.

    Parameters
    ----------
    prototypes : ndarray of shape (M, D)
    strata : ndarray of shape (M,), int
    texts : ndarray of shape (n, D)
        Vectors of all training texts, where distance is Euclidean.
    candidates : Candidates

    Returns
    -------
    ndarray of shape (M,), int
        The row of each prototype's text.
    """
    assigned = np.empty(len(strata), dtype=np.int64)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        rows = candidates.rows[candidates.strata == stratum]
        costs = cdist(prototypes[members], texts[rows], "sqeuclidean")
        # Among a prototype's n nearest texts one is left free by the n - 1 others, so
        # that the best assignment needs no text beyond these.
        near = min(len(members), len(rows)) - 1
        columns = np.unique(np.argpartition(costs, near, axis=1)[:, : near + 1])
        matched, chosen = linear_sum_assignment(costs[:, columns])
        assigned[members[matched]] = rows[columns[chosen]]
    return assigned
