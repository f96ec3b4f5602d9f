"""The layer of prototypes: vectors with values, and outputs from how near they are.

Letters: B texts, H hidden size, L outputs, M prototypes.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skprotolm._config import FitConfig
from skprotolm._network import losses
from skprotolm._network.readout import Readout, grouped_logsumexp
from skprotolm._network.readouts import make_readout
from skprotolm._tasks.units import Unit

_CHUNK = 1024  # texts that are scored at once


class LayerOutput(NamedTuple):
    """Output of a prototype layer for B texts."""

    similarities: Tensor  # (B, M), higher is nearer
    squared_distances: Tensor  # (B, M), lower is nearer
    outputs: Tensor  # (B, L)


class Attribution(NamedTuple):
    """Exact sums that explain one output of each of B texts."""

    outputs: Tensor  # (B, L)
    target: Tensor  # (B,), the output that is explained
    against: Tensor | None  # (B,), the output it is compared with, instead of all
    explained: Tensor  # (B,), what is split over tokens, such as log-odds
    similarities: Tensor  # (B, M)
    contributions: Tensor  # (B, M)
    base: Tensor  # (B,), what no token, or no prototype, contributes
    direction: Tensor  # (B, H): token t contributes α_t·(h_t·direction)


class Batch(NamedTuple):
    """Inputs of the losses besides the layer's output."""

    s: Tensor  # (B, H)
    values: Tensor  # (B, ...)
    weights: Tensor  # (B,)
    pretrained: Tensor  # (B, P), the frozen encoder's sentence vectors
    own: Tensor  # (B, M), prototypes of the text's class
    mates: Tensor  # (B, B), texts of the same class


_Layer = TypeVar("_Layer", bound="PrototypeLayer")
# Terms of a loss, each with its weight in the sum.
Terms = dict[str, tuple[float, Tensor]]


class PrototypeLayer(nn.Module, ABC):
    """M vectors with values; subclasses turn nearness into outputs.

    Parameters
    ----------
    vectors : Tensor of shape (M, H)
        Those of texts are mapped, see `mapped`.
    values : Tensor of shape (M, ...)
        What each prototype stands for, such as the index of its class.
    """

    values: Tensor
    formulation: str  # the parameter of the classifier that this layer implements
    per_prototype: str  # the parameter whose last dimension is M
    unit: Unit

    def __init__(self, vectors: Tensor, values: Tensor):
        super().__init__()
        self.vectors = nn.Parameter(vectors.clone())
        self.register_buffer("values", values)

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return the further arguments of the constructor, as plain values."""

    @classmethod
    def from_arrays(
        cls, tensors: dict[str, Tensor], options: dict[str, Any]
    ) -> PrototypeLayer:
        """Build a layer from its state dict, without computing or copying anything.

        Either would start torch's threads, which do not survive a fork: a server
        that loads a model and then forks would hang.
        """
        with torch.device("meta"):
            vectors, values = (
                torch.empty_like(tensors[name], device="meta")
                for name in ("vectors", "values")
            )
            layer = cls._from_options(vectors, values, options)
        layer.load_state_dict(tensors, assign=True)
        return layer.eval().requires_grad_(False)

    @classmethod
    def _from_options(
        cls, vectors: Tensor, values: Tensor, options: dict[str, Any]
    ) -> PrototypeLayer:
        return cls(vectors, values, **options)

    def exact(self: _Layer) -> _Layer:
        """Return a copy in float64 on the CPU, for exact sums."""
        with torch.inference_mode(False):  # inference tensors have no gradients
            return copy.deepcopy(self).cpu().double().requires_grad_(False)

    @property
    def positions(self) -> Tensor:
        """Where prototypes are, with Euclidean distance, (M, H)."""
        return self.vectors

    def to_euclidean(self, s: Tensor) -> Tensor:
        """Map text vectors to where this layer's distance is Euclidean."""
        return s

    def mapped(self, vectors: Tensor) -> Tensor:
        """Map vectors of texts, or of their tokens, linearly to the prototypes'."""
        return vectors

    def outputs_of(self, vectors: Tensor) -> Tensor:
        """Return the outputs of many text vectors (n, H), on the CPU, (n, L)."""
        chunks = vectors.split(_CHUNK)
        return torch.cat([self(s.to(self.vectors)).outputs.cpu() for s in chunks])

    def take(
        self,
        rows: Tensor,
        vectors: Tensor | None = None,
        values: Tensor | None = None,
    ) -> PrototypeLayer:
        """Return a layer of some prototypes, with other vectors and values if given."""
        rows = rows.to(self.values.device)
        per_prototype = getattr(self, self.per_prototype)[..., rows]
        vectors = self.vectors[rows] if vectors is None else vectors
        values = self.values[rows] if values is None else values.to(self.values)
        return self._rebuilt(vectors, values, per_prototype)

    def extended(self, s: Tensor, values: Tensor) -> PrototypeLayer:
        """Return a layer with further texts, of the mean weight of their value."""
        values, vectors = values.to(self.values), self.mapped(s.to(self.vectors))
        per_prototype = getattr(self, self.per_prototype)
        added = [self._mean_weight(value) for value in values]
        return self._rebuilt(
            torch.cat([self.vectors, vectors]),
            torch.cat([self.values, values]),
            torch.cat([per_prototype, torch.stack(added, dim=-1)], dim=-1),
        )

    def revalued(self, rows: Tensor, values: Tensor) -> PrototypeLayer:
        """Return a layer in which some prototypes stand for other values."""
        rows = rows.to(self.values.device)
        changed = self.values.clone()
        changed[rows] = values.to(changed)
        return self._rebuilt(
            self.vectors, changed, self._revalued_weights(rows, changed)
        )

    def _rebuilt(
        self, vectors: Tensor, values: Tensor, per_prototype: Tensor
    ) -> PrototypeLayer:
        tensors = {
            **self.state_dict(),
            "vectors": vectors.detach().to(self.vectors),
            "values": values,
            self.per_prototype: per_prototype.detach(),
        }
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        return type(self).from_arrays(tensors, self.options())

    @abstractmethod
    def _mean_weight(self, value: Tensor) -> Tensor:
        """Return the number, or column, that an added prototype of a value gets."""

    def _revalued_weights(self, rows: Tensor, values: Tensor) -> Tensor:
        """Return the parameter per prototype once some have other values."""
        return getattr(self, self.per_prototype)

    def freeze(self) -> None:
        """Fix what is normalized during training."""

    @abstractmethod
    def describe(self) -> dict[str, Tensor]:
        """Return what `Prototypes` shows besides vectors and labels."""

    @abstractmethod
    def novelty(self, s: Tensor) -> Tensor:
        """Return how far text vectors (B, H) are from all prototypes, (B,)."""

    @abstractmethod
    def forward(self, s: Tensor) -> LayerOutput:
        """Compare text vectors (B, H), in their own precision and on their device."""

    @abstractmethod
    def losses(self, output: LayerOutput, batch: Batch, config: FitConfig) -> Terms:
        """Return the terms of the objective."""

    @abstractmethod
    def explained(
        self, outputs: Tensor, index: Tensor, against: Tensor | None = None
    ) -> Tensor:
        """Return what token scores are parts of, from outputs (B, L), (B,)."""

    @abstractmethod
    def attribute(
        self, s: Tensor, index: Tensor | None = None, against: Tensor | None = None
    ) -> Attribution:
        """Explain one output of each text vector (B, H), by default the predicted one.

        With `against` (B,), explain why this output and not that one. `s` is float64 on
        the CPU, as are the layer's parameters (see `exact`).
        """


class MixtureLayer(PrototypeLayer):
    """Prototypes whose evidence is log π_j + λ·cos(A s, p_j), under a readout.

    The matrix A, the metric, is the identity while prototypes are learned. The vector
    of a prototype that is a text is A s of this text.

    Parameters
    ----------
    vectors : Tensor of shape (M, H)
    values : Tensor of shape (M, ...)
    readout : Readout
    sharpness : float
        λ.
    fixed_priors : bool
        Whether the priors are no longer normalized inside their groups.
    """

    metric: Tensor  # (H, H)
    formulation = "mixture"
    per_prototype = "prior_logits"

    def __init__(
        self,
        vectors: Tensor,
        values: Tensor,
        readout: Readout,
        *,
        sharpness: float,
        fixed_priors: bool = False,
    ):
        super().__init__(vectors, values)
        self.sharpness = float(sharpness)
        self.fixed_priors = fixed_priors
        self.prior_logits = nn.Parameter(vectors.new_zeros(len(vectors)))
        self.register_buffer("metric", torch.eye(vectors.shape[1]).to(vectors))
        self.readout = readout.to(vectors.dtype)
        self.unit = readout.unit

    @classmethod
    def _from_options(
        cls, vectors: Tensor, values: Tensor, options: dict[str, Any]
    ) -> PrototypeLayer:
        readout = make_readout(**options["readout"])
        return cls(vectors, values, **{**options, "readout": readout})

    def options(self) -> dict[str, Any]:
        """Return sharpness, whether priors are fixed, and the readout's arguments."""
        return {
            "sharpness": self.sharpness,
            "fixed_priors": self.fixed_priors,
            "readout": self.readout.options(),
        }

    def sharpen(self, sharpness: float) -> None:
        """Set λ, here and in the readout."""
        self.sharpness = self.readout.sharpness = float(sharpness)

    def freeze(self) -> None:
        """Fix the priors, so that removing one leaves the others as they are."""
        with torch.no_grad():
            self.prior_logits.copy_(self.log_priors(self.prior_logits))
        self.fixed_priors = True

    def describe(self) -> dict[str, Tensor]:
        """Return the priors (M,)."""
        return {"priors": self.log_priors(self.vectors).exp()}

    def log_priors(self, like: Tensor) -> Tensor:
        """Return log π_j (M,): a softmax inside each group, until they are fixed."""
        logits = self.prior_logits.to(like)
        if self.fixed_priors:
            return logits
        groups = self.groups.to(like.device)
        log_sums = grouped_logsumexp(logits[None], groups, self.readout.n_groups)
        return logits - log_sums[0, groups]

    @property
    def groups(self) -> Tensor:
        """The group of each prototype, inside which priors sum to 1, (M,)."""
        return self.readout.groups(self.values)

    def _mean_weight(self, value: Tensor) -> Tensor:
        """Return the logarithm of the mean prior of the value's group."""
        group = self.readout.groups(value[None])
        log_priors = self.log_priors(self.vectors)[self.groups == group]
        return torch.logsumexp(log_priors, dim=0) - math.log(len(log_priors))

    @property
    def positions(self) -> Tensor:
        """Unit vectors of prototypes."""
        return F.normalize(self.vectors, dim=-1)

    def to_euclidean(self, s: Tensor) -> Tensor:
        """Return unit vectors: ‖a − b‖² = 2 − 2·cos."""
        return F.normalize(self.mapped(s), dim=-1)

    def mapped(self, vectors: Tensor) -> Tensor:
        """Apply the metric A to each vector."""
        return vectors @ self.metric.to(vectors).T

    def cosines(self, s: Tensor) -> Tensor:
        """Return cos(A s, p_j), (B, M)."""
        return self.to_euclidean(s) @ self.positions.to(s).T

    def evidence(self, cosines: Tensor) -> Tensor:
        """Return log π_j + λ·cos_j, (B, M)."""
        return self.log_priors(cosines) + self.sharpness * cosines

    def outputs(self, cosines: Tensor) -> Tensor:
        """Return the outputs (B, L) as a function of the cosines (B, M)."""
        return self.readout(self.evidence(cosines), self.values.to(cosines.device))

    def forward(self, s: Tensor) -> LayerOutput:
        """Compare text vectors (B, H) by cosine."""
        cosines = self.cosines(s)
        return LayerOutput(cosines, 2 - 2 * cosines, self.outputs(cosines))

    def novelty(self, s: Tensor) -> Tensor:
        """Return −(1/λ)·log((1/C)·Σ_j π_j exp(λ·cos(s, p_j))), C groups of priors."""
        return self.novelty_of(self.evidence(self.cosines(s)))

    def novelty_of(self, evidence: Tensor) -> Tensor:
        """Return the novelty (B,) as a function of the evidence (B, M)."""
        log_sum = torch.logsumexp(evidence, dim=1)
        return (math.log(self.readout.n_groups) - log_sum) / self.sharpness

    def losses(self, output: LayerOutput, batch: Batch, config: FitConfig) -> Terms:
        """Return the readout's loss and the terms whose weight is not 0."""
        d2, own, weights = output.squared_distances, batch.own, batch.weights
        main = self.readout.loss(
            output.outputs, batch.values, weights, config.label_smoothing
        )
        terms: Terms = {
            self.readout.loss_name: (1 - config.cohesion - config.separation, main)
        }
        if config.cohesion:
            terms["cohesion"] = config.cohesion, losses.cohesion(d2, own, weights)
            terms["coverage"] = config.cohesion, losses.coverage(d2, own)
        if config.separation:
            term = losses.separation(d2, own, weights)
            terms["separation"] = config.separation, term
        if config.diversity:
            term = losses.diversity(self.positions, self.groups)
            terms["diversity"] = config.diversity, term
        if config.preservation:
            term = losses.preservation(batch.s, batch.pretrained, batch.mates)
            terms["preservation"] = config.preservation, term
        return terms

    def explained(
        self, outputs: Tensor, index: Tensor, against: Tensor | None = None
    ) -> Tensor:
        """Return what the readout explains."""
        return self.readout.explained(outputs, index, against)

    def attribute(
        self, s: Tensor, index: Tensor | None = None, against: Tensor | None = None
    ) -> Attribution:
        """Explain outputs by the derivative of what is explained by the cosines.

        With y(cos) what is explained and coef_j = ∂y/∂cos_j, the token scores are
        α_t·(h_t·direction), direction = Aᵀ Σ_j coef_j·p̂_j / ‖A s‖, and the base value
        is y − Σ_j coef_j·cos_j: since Σ_t α_t·h_t = s, they sum to y, whatever readout.
        """
        with torch.inference_mode(False), torch.enable_grad():
            cosines = self.cosines(s.clone()).detach().requires_grad_()
            evidence = self.evidence(cosines)
            outputs = self.readout(evidence, self.values)
            if index is None:
                index = self.readout.default_index(outputs)
            explained = self.explained(outputs, index, against)
            (coefficients,) = torch.autograd.grad(explained.sum(), cosines)
        cosines, explained = cosines.detach(), explained.detach()
        lengths = self.mapped(s).norm(dim=1, keepdim=True).clamp_min(1e-300)
        pull = coefficients @ self.positions.to(s) / lengths
        return Attribution(
            outputs.detach(),
            index,
            against,
            explained,
            cosines,
            contributions=self.readout.shares(evidence.detach(), self.values, index),
            base=explained - (coefficients * cosines).sum(dim=1),
            direction=pull @ self.metric.to(s),
        )
