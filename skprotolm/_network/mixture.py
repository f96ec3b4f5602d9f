"""The mixture layer: evidence from cosines in a metric, under a readout.

Letters: B texts, H hidden size, L outputs, M prototypes.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skprotolm._config import FitConfig
from skprotolm._network import losses
from skprotolm._network.prototypes import (
    Attribution,
    Batch,
    LayerOutput,
    PrototypeLayer,
    Terms,
)
from skprotolm._network.readout import Readout, grouped_logsumexp
from skprotolm._network.readouts import make_readout


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
        self._positions: Tensor | None = None  # those of an exact layer are kept
        self.register_buffer("metric", torch.eye(vectors.shape[1]).to(vectors))
        self.readout = readout.to(vectors.dtype)
        self.unit = readout.unit
        self.can_be_extended = readout.can_be_extended

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
            self.values = self.readout.fold_into_values(self.values)
        self.fixed_priors = True

    def extended_to(
        self, readout: Readout, own: Tensor, s: Tensor, values: Tensor
    ) -> MixtureLayer:
        """Return a frozen layer with further texts, under a readout for all values.

        The prototypes of a group keep the sum of their priors, of which each new one
        gets an equal part. The sum of a new group is 1.

        Parameters
        ----------
        readout : Readout
        own : Tensor of shape (M, ...)
            What the prototypes of this layer stand for, as that readout knows it.
        s : Tensor of shape (N, H)
            Vectors of the further texts.
        values : Tensor of shape (N, ...)
            Their values.
        """
        M = len(self.vectors)
        layer = MixtureLayer(
            torch.cat([self.vectors, self.mapped(s.to(self.vectors))]),
            torch.cat([own.to(self.values), values.to(self.values)]),
            readout,
            sharpness=self.sharpness,
            fixed_priors=True,
        )
        groups, n_groups = layer.groups, readout.n_groups
        counts = torch.bincount(groups, minlength=n_groups)
        n_own = torch.bincount(groups[:M], minlength=n_groups)
        log_priors = self.log_priors(self.vectors)
        log_sums = grouped_logsumexp(log_priors[None], groups[:M], n_groups)[0]
        log_sums = log_sums.masked_fill(n_own == 0, 0)
        with torch.no_grad():
            layer.prior_logits.copy_((log_sums - counts.log())[groups])
            layer.prior_logits[:M] = log_priors + (n_own / counts).log()[groups[:M]]
        layer.metric = self.metric.clone()
        return layer.eval().requires_grad_(False)

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
        if self._positions is None:
            return F.normalize(self.vectors, dim=-1)
        return self._positions

    def exact(self) -> MixtureLayer:
        """Return a copy in float64 on the CPU, whose vectors no longer change."""
        layer = super().exact()
        with torch.inference_mode(False):
            # Of 100,000 prototypes, each batch would take longer than its cosines.
            layer._positions = F.normalize(layer.vectors, dim=-1)
        return layer

    def to_euclidean(self, s: Tensor) -> Tensor:
        """Return unit vectors: ‖a − b‖² = 2 − 2·cos."""
        return F.normalize(self.mapped(s), dim=-1)

    def mapped(self, vectors: Tensor) -> Tensor:
        """Apply the metric A to each vector."""
        return vectors @ self.metric.to(vectors).T

    def cosines(self, s: Tensor) -> Tensor:
        """Return cos(A s, p_j), (B, M)."""
        return self.to_euclidean(s) @ self.positions.to(s).T

    def evidence(self, cosines: Tensor, excluded: Tensor | None = None) -> Tensor:
        """Return log π_j + λ·cos_j, (B, M), and −inf for excluded prototypes.

        The priors of the other prototypes of their group are rescaled to sum to 1:
        otherwise a class of fewer prototypes would be less likely, however near they
        are.

        Parameters
        ----------
        cosines : Tensor of shape (B, M)
        excluded : Tensor of shape (B, M), bool, default=None
        """
        evidence = self.log_priors(cosines) + self.sharpness * cosines
        if excluded is None:
            return evidence
        rows = excluded.any(dim=1).nonzero().flatten()
        groups = self.groups.to(cosines.device)
        others = self.log_priors(cosines).expand(len(rows), -1)
        others = others.masked_fill(excluded[rows], -torch.inf)
        remaining = grouped_logsumexp(others, groups, self.readout.n_groups)
        remaining = remaining.masked_fill(remaining.isinf(), 0)  # no other prototype
        evidence = evidence.masked_fill(excluded, -torch.inf)
        return evidence.index_add(0, rows, -remaining[:, groups])

    def outputs(self, cosines: Tensor) -> Tensor:
        """Return the outputs (B, L) as a function of the cosines (B, M)."""
        return self.readout(self.evidence(cosines), self.values.to(cosines.device))

    def forward(self, s: Tensor) -> LayerOutput:
        """Compare text vectors (B, H) by cosine."""
        cosines = self.cosines(s)
        return LayerOutput(cosines, 2 - 2 * cosines, self.outputs(cosines))

    def novelty_at(self, points: Tensor, excluded: Tensor | None = None) -> Tensor:
        """Return −(1/λ)·log((1/C)·Σ_j π_j exp(λ·cos(A s, p_j))), C groups of priors."""
        cosines = F.normalize(points, dim=-1) @ self.positions.to(points).T
        return self.novelty_of(self.evidence(cosines, excluded))

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

    def _attribute(
        self, s: Tensor, index: Tensor | None, against: Tensor | None
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
        cosines, evidence = cosines.detach(), evidence.detach()
        explained = explained.detach()
        lengths = self.mapped(s).norm(dim=1, keepdim=True).clamp_min(1e-300)
        pull = coefficients @ self.positions.to(s) / lengths
        return Attribution(
            outputs.detach(),
            index,
            against,
            explained,
            novelty=self.novelty_of(evidence),
            base=explained - (coefficients * cosines).sum(dim=1),
            direction=pull @ self.metric.to(s),
        )

    def contributions(
        self, s: Tensor, index: Tensor | None = None, against: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return cosines and shares, which are the same against another output."""
        cosines = self.cosines(s)
        evidence = self.evidence(cosines)
        if index is None:
            index = self.readout.default_index(self.readout(evidence, self.values))
        return cosines, self.readout.shares(evidence, self.values, index)
