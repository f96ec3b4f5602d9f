"""The layers on top of the encoder: attention over tokens, and the prototypes.

Letters: B texts, T tokens, H hidden size, C classes, M prototypes in all, N the
most prototypes that any class has.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

_ATTENTION_SIZE = 128  # width of the layer that scores a token
# κ of two classes at the start. With C classes it starts log(C − 1) higher, so that
# the same cosines make the model as sure; from the two-class start 77 classes stay
# underconfident to the end.
_START_CONCENTRATION = math.e**2
_EPSILON = 1e-4  # keeps 1 / (d + ε) finite on a prototype's own text
_CHUNK = 1024  # texts that are scored at once


class LayerOutput(NamedTuple):
    """What a prototype layer says of B texts; a similarity carries its distance."""

    similarities: Tensor  # (B, M), higher is nearer
    squared_distances: Tensor  # (B, M), lower is nearer
    scores: Tensor  # (B, C), logits of the classes


class TokenAttention(nn.Module):
    """Weights of the content tokens: softmax of ν·tanh(W h_t + b)."""

    def __init__(self, hidden_size: int):
        super().__init__()
        # Whatever torch's default is, which would draw other numbers.
        fp32 = torch.float32
        self.project = nn.Linear(hidden_size, _ATTENTION_SIZE, dtype=fp32)
        self.score = nn.Linear(_ATTENTION_SIZE, 1, bias=False, dtype=fp32)
        nn.init.zeros_(self.score.weight)  # untrained, it is the mean of content tokens

    def forward(self, h: Tensor, content_mask: Tensor) -> Tensor:
        """Return α (B, T) for token vectors (B, T, H); 0 outside the mask."""
        B, T, _ = h.shape
        if content_mask.shape != (B, T):
            raise ValueError(
                f"content_mask has shape {tuple(content_mask.shape)}, but the token "
                f"vectors have shape {tuple(h.shape)}; the first two sizes must agree."
            )
        logits = self.logits(h).masked_fill(~content_mask, -torch.inf)
        return torch.softmax(logits, dim=1)

    def logits(self, h: Tensor) -> Tensor:
        """Return u (B, T), of which the weights are the softmax."""
        return self.score(torch.tanh(self.project(h))).squeeze(-1)


class PrototypeLayer(nn.Module, ABC):
    """M vectors, each owned by one class. Subclasses turn nearness into scores."""

    owner: Tensor
    per_prototype: str  # the parameter with one number, or column, a prototype
    space: str  # what contributions are parts of: "probability", or "score"

    def __init__(self, vectors: Tensor, owner: Tensor, n_classes: int):
        super().__init__()
        self.n_classes = n_classes
        self.vectors = nn.Parameter(vectors.clone())
        self.register_buffer("owner", owner)

    @classmethod
    def from_tensors(
        cls, tensors: dict[str, Tensor], n_classes: int, options: dict[str, Any]
    ) -> PrototypeLayer:
        """Build a layer from its state dict, without computing or copying anything.

        Either would start torch's threads, which do not survive a fork: a server
        that loads a model and then forks would hang.
        """
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        layer.n_classes = n_classes
        for name, value in options.items():
            setattr(layer, name, value)
        for name, tensor in tensors.items():
            if tensor.is_floating_point():
                layer.register_parameter(name, nn.Parameter(tensor))
            else:
                layer.register_buffer(name, tensor)
        return layer.eval().requires_grad_(False)

    def options(self) -> dict[str, Any]:
        """Return what the constructor takes besides vectors, owners and classes."""
        return {}

    def compare(self, vectors: Tensor) -> Tensor:
        """Map text vectors to where Euclidean distance is this layer's distance."""
        return vectors

    def exact(self) -> PrototypeLayer:
        """Return a copy in float64 on the CPU, where the sums are those promised."""
        with torch.inference_mode(False):  # or it could serve no gradient
            return copy.deepcopy(self).cpu().double().requires_grad_(False)

    @property
    def values(self) -> Tensor:
        """The parameter that has one number, or column, a prototype."""
        return getattr(self, self.per_prototype)

    def edited(self, vectors: Tensor, owner: Tensor, values: Tensor) -> PrototypeLayer:
        """Return a layer of other prototypes, whose classes' parameters are these."""
        layer = type(self)(vectors, owner, self.n_classes, **self.options())
        with torch.no_grad():
            for name, parameter in layer.named_parameters():
                if name != "vectors":
                    mine = name == self.per_prototype
                    parameter.copy_(values if mine else getattr(self, name))
        return layer.eval().requires_grad_(False)

    @abstractmethod
    def describe(self) -> dict[str, Tensor]:
        """Return what is told of the prototypes besides vectors and classes."""

    @abstractmethod
    def values_of_new(self, code: int) -> Tensor:
        """Return the number, or column, that a new prototype of a class gets."""

    @abstractmethod
    def novelty(self, s: Tensor) -> Tensor:
        """Return how far text vectors (B, H) are from all prototypes, (B,)."""

    def score_all(self, vectors: Tensor) -> Tensor:
        """Return the scores of many text vectors (n, H), on the CPU, (n, C)."""
        chunks = vectors.split(_CHUNK)
        return torch.cat([self(s.to(self.vectors)).scores.cpu() for s in chunks])

    @abstractmethod
    def forward(self, s: Tensor) -> LayerOutput:
        """Score text vectors (B, H), in their own precision and on their device."""


class MixtureLayer(PrototypeLayer):
    """Class evidence is a smooth maximum of cosines to the class's prototypes.

        z_c = (κ/λ)·log Σ_{j: c(j)=c} π_j exp(λ·cos(s, p_j)) + b_c

    With κ = λ this is a mixture of von Mises-Fisher densities trained
    discriminatively (Seo and Obermayer 2003), with two concentrations SoftTriple
    (Qian et al. 2019) on labelled prototypes.
    """

    members: Tensor
    places: Tensor
    per_prototype = "prior_logits"
    space = "probability"

    def __init__(
        self,
        vectors: Tensor,
        owner: Tensor,
        n_classes: int,
        sharpness: float,
        fixed_priors: bool = False,
    ):
        super().__init__(vectors, owner, n_classes)
        self.sharpness = float(sharpness)
        self.fixed_priors = fixed_priors
        self.prior_logits = nn.Parameter(vectors.new_zeros(len(owner)))
        self.bias = nn.Parameter(vectors.new_zeros(n_classes))
        start = math.log(_START_CONCENTRATION + math.log(n_classes - 1))
        self.log_concentration = nn.Parameter(vectors.new_tensor(start))
        members, places = _class_table(owner, n_classes)
        self.register_buffer("members", members)
        self.register_buffer("places", places)

    def start_bias(self, class_weights: np.ndarray) -> None:
        """Start b_c at the logarithm of the class's share, where training moves it to.

        From 0 it does not get there, as b_c moves by its learning rate a step, and rare
        classes would be predicted too often.
        """
        shares = torch.from_numpy(class_weights / class_weights.sum())
        with torch.no_grad():
            self.bias.copy_(shares.log())

    def options(self) -> dict[str, Any]:
        """Return the sharpness λ, and whether priors are no longer normalised."""
        return {"sharpness": self.sharpness, "fixed_priors": self.fixed_priors}

    def fix_priors(self) -> None:
        """Take the priors as they are, so that removing one leaves the others alone."""
        self.prior_logits.copy_(self.log_priors(self.prior_logits))
        self.fixed_priors = True

    def describe(self) -> dict[str, Tensor]:
        """Return the priors (M,)."""
        return {"priors": self.log_priors(self.vectors).exp()}

    def values_of_new(self, code: int) -> Tensor:
        """Return the logarithm of the class's mean prior."""
        mine = self.log_priors(self.vectors)[self.owner == code]
        return torch.logsumexp(mine, dim=0) - math.log(len(mine))

    def novelty(self, s: Tensor) -> Tensor:
        """Return −(1/λ)·log((1/C)·Σ_j π_j exp(λ·cos(s, p_j)))."""
        log_terms = self.log_terms(self.similarities(s))
        mean = torch.logsumexp(log_terms, dim=1) - math.log(self.n_classes)
        return -mean / self.sharpness

    def compare(self, vectors: Tensor) -> Tensor:
        """Return unit vectors: ‖a − b‖² = 2 − 2·cos."""
        return F.normalize(vectors, dim=-1)

    def concentration(self, like: Tensor) -> Tensor:
        """Return κ, which sets how sure the model is."""
        return self.log_concentration.to(like).exp()

    def log_priors(self, like: Tensor) -> Tensor:
        """Return log π_j (M,): a softmax inside each class, until they are fixed."""
        if self.fixed_priors:
            return self.prior_logits.to(like)
        by_class = self.by_class(self.prior_logits.to(like), -torch.inf)  # (C, N)
        return torch.log_softmax(by_class, dim=-1).flatten()[
            self.places.to(like.device)
        ]

    def by_class(self, values: Tensor, fill: float) -> Tensor:
        """Arrange (..., M) values by class as (..., C, N), with `fill` where empty."""
        return F.pad(values, (0, 1), value=fill)[..., self.members.to(values.device)]

    def grouped(self) -> tuple[Tensor, Tensor]:
        """Return each class's unit vectors (C, N, H), zeros behind its count (C,)."""
        padded = F.pad(self.compare(self.vectors), (0, 0, 0, 1))
        return padded[self.members], (self.members < len(self.owner)).sum(dim=1)

    def similarities(self, s: Tensor) -> Tensor:
        """Return cos(s, p_j), (B, M)."""
        return F.normalize(s, dim=-1) @ F.normalize(self.vectors.to(s), dim=-1).T

    def log_terms(self, similarities: Tensor) -> Tensor:
        """Return log π_j + λ·cos(s, p_j), (B, M)."""
        return self.log_priors(similarities) + self.sharpness * similarities

    def evidence(self, log_terms: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log-sum of each class's terms and the scores z, both (B, C)."""
        log_sums = torch.logsumexp(self.by_class(log_terms, -torch.inf), dim=-1)
        scale = self.concentration(log_terms) / self.sharpness
        return log_sums, scale * log_sums + self.bias.to(log_terms)

    def scores(self, similarities: Tensor) -> Tensor:
        """Return the scores z of the classes, (B, C)."""
        return self.evidence(self.log_terms(similarities))[1]

    def forward(self, s: Tensor) -> LayerOutput:
        """Score text vectors (B, H)."""
        cosines = self.similarities(s)
        return LayerOutput(cosines, 2 - 2 * cosines, self.scores(cosines))


class InverseDistanceLayer(PrototypeLayer):
    """proto-lm's layer as published: a_j = 1/(‖s − p_j‖ + ε), linear output.

    Xie, Vosoughi and Hassanpour, Findings of EMNLP 2023. Output weights start at 1
    on the own class and −0.5 elsewhere.
    """

    per_prototype = "weights"
    space = "score"

    def __init__(self, vectors: Tensor, owner: Tensor, n_classes: int):
        super().__init__(vectors, owner, n_classes)
        own = F.one_hot(owner, n_classes).T.to(vectors)
        self.weights = nn.Parameter(1.5 * own - 0.5)  # (C, M)
        self.bias = nn.Parameter(vectors.new_zeros(n_classes))

    def describe(self) -> dict[str, Tensor]:
        """Return the output weights (C, M)."""
        return {"weights": self.weights}

    def values_of_new(self, code: int) -> Tensor:
        """Return the mean output weights (C,) of the class's prototypes."""
        return self.weights[:, self.owner == code].mean(dim=1)

    def novelty(self, s: Tensor) -> Tensor:
        """Return the distance to the nearest prototype."""
        return self(s).squared_distances.amin(dim=1).sqrt()

    def forward(self, s: Tensor) -> LayerOutput:
        """Score text vectors (B, H)."""
        # Differences, not the expansion of the square, which loses small distances.
        distances = torch.cdist(
            s, self.vectors.to(s), compute_mode="donot_use_mm_for_euclid_dist"
        )
        similarities = 1 / (distances + _EPSILON)
        scores = similarities @ self.weights.to(s).T + self.bias.to(s)
        return LayerOutput(similarities, distances.square(), scores)


class PrototypeHead(nn.Module):
    """Token attention, and the prototype layer that reads the text vector."""

    def __init__(self, attention: TokenAttention, layer: PrototypeLayer):
        super().__init__()
        self.attention = attention
        self.layer = layer

    def forward(self, h: Tensor, content_mask: Tensor) -> tuple[Tensor, LayerOutput]:
        """Return text vectors s (B, H) and what the layer says of them."""
        s = pool(self.attention(h, content_mask), h)
        return s, self.layer(s)


def pool(attention: Tensor, h: Tensor) -> Tensor:
    """Return text vectors s = Σ_t α_t h_t, (B, H)."""
    return torch.einsum("bt,bth->bh", attention, h)


def _class_table(owner: Tensor, n_classes: int) -> tuple[Tensor, Tensor]:
    """Return each class's prototypes (C, N), padded with M, and the place of each."""
    owner, M = owner.cpu(), len(owner)
    counts = torch.bincount(owner, minlength=n_classes)
    members = torch.full((n_classes, int(counts.max())), M)
    places = torch.empty(M, dtype=torch.long)
    for c in range(n_classes):
        mine = torch.nonzero(owner == c).flatten()
        members[c, : len(mine)] = mine
        places[mine] = c * members.shape[1] + torch.arange(len(mine))
    return members, places
