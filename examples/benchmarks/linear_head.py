"""The baseline of the benchmarks: the same encoder with a linear head.

Mean of the token vectors, dropout 0.1, one linear layer. The texts, batch size,
epochs, learning rates, precision, optimizer, schedule and label smoothing are those of
the classifier that it is compared with.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch
from encoders import (
    TokenizedTexts,
    has_bf16,
    load_encoder,
    prediction_batches,
    resolve_device,
    token_vectors,
    training_batches,
)
from sklearn.utils.class_weight import compute_sample_weight
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from skprotolm import (
    ProtoLMClassifier,
    ProtoLMRegressor,
    ProtoLMTokenClassifier,
)

Estimator = ProtoLMClassifier | ProtoLMRegressor | ProtoLMTokenClassifier

DROPOUT = 0.1
MAX_GRADIENT_NORM = 1.0


class Resolved(NamedTuple):
    """The values of parameters that may be "auto"."""

    max_epochs: int
    learning_rate: float
    label_smoothing: float


def resolve(
    clf: Estimator, n_texts: int, hidden_size: int, *, has_classes: bool = True
) -> Resolved:
    """Return epochs, learning rate and label smoothing as documented for "auto".

    A test compares them with what the classifier uses.
    """
    steps_per_epoch = math.ceil(n_texts / clf.batch_size)
    n_epochs = max(3, min(40, math.ceil(150 / steps_per_epoch)))
    rate = 1e-4 * min(1, 384 / hidden_size)
    if has_classes:  # one per text
        rate *= min(1, math.sqrt(n_texts / 500))
    smoothing = 0.1 * max(0, min(1, n_texts / 128, (500 - n_texts) / 128))
    chosen = getattr(clf, "label_smoothing", 0.0)  # which regressors do not have
    return Resolved(
        n_epochs if clf.max_epochs == "auto" else int(clf.max_epochs),
        rate if clf.learning_rate == "auto" else float(clf.learning_rate),
        smoothing if chosen == "auto" else float(chosen),
    )


class LinearHead(ABC):
    """A linear head, trained with the parameters of an estimator.

    `precision` and `finetune` always have their defaults.

    Parameters
    ----------
    clf : ProtoLMClassifier, ProtoLMRegressor or ProtoLMTokenClassifier
        Need not be fitted. Its `random_state` must be an int.

    Attributes
    ----------
    encoder : SentenceTransformer
        The fine-tuned encoder.
    """

    has_classes = False

    def __init__(self, clf: Any):
        self.clf = clf
        self.device = resolve_device(clf.device)
        self.bf16 = has_bf16(self.device)

    def _fit(
        self, X: list, targets: np.ndarray, weights: np.ndarray, n_outputs: int
    ) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(int(self.clf.random_state))
            encoder = load_encoder(self.clf.backbone, self.clf.max_length)
            self.encoder = encoder.to(self.device)
            self.head = nn.Linear(hidden_size(encoder), n_outputs)
            self.head.to(self.device)
            self._train(
                self._tokenized(X),
                torch.from_numpy(targets).to(self.device),
                torch.from_numpy(weights / weights.mean()).float().to(self.device),
            )

    def _tokenized(self, X: list) -> TokenizedTexts:
        return TokenizedTexts(self.encoder, X)

    @abstractmethod
    def _losses(self, outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        """Return the loss of each text, (B,)."""

    def _train(self, texts: TokenizedTexts, targets: Tensor, weights: Tensor) -> None:
        batch_size = self.clf.batch_size
        rng = np.random.RandomState(int(self.clf.random_state))
        width = hidden_size(self.encoder)
        resolved = resolve(self.clf, len(targets), width, has_classes=self.has_classes)
        n_steps = resolved.max_epochs * math.ceil(len(targets) / batch_size)
        optimizer = self._make_optimizer(resolved.learning_rate)
        schedule = make_schedule(optimizer, n_steps, self.clf.warmup_fraction)
        parameters = [*self.encoder.parameters(), *self.head.parameters()]
        self.encoder.train()
        for _ in range(resolved.max_epochs):
            for rows in training_batches(texts.lengths, batch_size, rng):
                vectors = self._text_vectors(texts, rows, bf16=self.bf16)
                outputs = self.head(F.dropout(vectors, DROPOUT))
                smoothing = resolved.label_smoothing
                losses = self._losses(outputs, targets[rows], smoothing)
                optimizer.zero_grad()
                (weights[rows] * losses).mean().backward()
                nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
                optimizer.step()
                schedule.step()
        self.encoder.eval()

    def _make_optimizer(self, learning_rate: float) -> torch.optim.AdamW:
        """Build AdamW; biases, norms and the head have no weight decay."""
        weights = [p for p in self.encoder.parameters() if p.requires_grad]
        matrices = [p for p in weights if p.ndim > 1]
        others = [p for p in weights if p.ndim <= 1]
        head, head_rate = [*self.head.parameters()], self.clf.head_learning_rate
        return torch.optim.AdamW(
            [
                {"params": matrices, "lr": learning_rate},
                {"params": others, "lr": learning_rate, "weight_decay": 0.0},
                {"params": head, "lr": head_rate, "weight_decay": 0.0},
            ],
            weight_decay=self.clf.weight_decay,
            fused=self.device.type in ("cpu", "cuda"),
        )

    def _text_vectors(
        self, texts: TokenizedTexts, rows: np.ndarray, *, bf16: bool
    ) -> Tensor:
        """Return the means (B, H) of the token vectors."""
        batch = texts.batch(rows, self.device)
        mask = batch["attention_mask"].float()[..., None]
        h = token_vectors(self.encoder, batch, bf16=bf16)
        return (mask * h).sum(dim=1) / mask.sum(dim=1)

    @torch.inference_mode()
    def _outputs(self, X: list) -> Tensor:
        """Return the outputs of the head (n, L), computed in fp32."""
        texts = self._tokenized(X)
        outputs = torch.empty(len(X), self.head.out_features, dtype=torch.float64)
        for rows in prediction_batches(texts.lengths, self.clf.batch_size):
            vectors = self._text_vectors(texts, rows, bf16=False)
            outputs[torch.from_numpy(rows)] = self.head(vectors).double().cpu()
        return outputs


class LinearHeadClassifier(LinearHead):
    """A linear head under cross-entropy.

    Attributes
    ----------
    classes_ : ndarray of shape (C,)
        The sorted labels.
    """

    has_classes = True

    def fit(self, X: list, y: np.ndarray) -> LinearHeadClassifier:
        """Train on texts and labels."""
        self.classes_, codes = np.unique(y, return_inverse=True)
        weights = compute_sample_weight(self.clf.class_weight, y)
        self._fit(X, codes, weights, len(self.classes_))
        return self

    def _losses(self, outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        return F.cross_entropy(
            outputs, targets, reduction="none", label_smoothing=smoothing
        )

    def predict_proba(self, X: list) -> np.ndarray:
        """Return class probabilities (n, C)."""
        return self._outputs(X).softmax(dim=1).numpy()

    def predict(self, X: list) -> np.ndarray:
        """Return the most probable labels."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class LinearHeadMultilabel(LinearHead):
    """A linear head under binary cross-entropy, summed over labels."""

    def fit(self, X: list, y: np.ndarray) -> LinearHeadMultilabel:
        """Train on texts and an indicator matrix."""
        self._fit(X, y.astype(np.float32), np.ones(len(y)), y.shape[1])
        return self

    def _losses(self, outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        smooth = (1 - smoothing) * targets + smoothing * targets.mean(dim=0)
        losses = F.binary_cross_entropy_with_logits(outputs, smooth, reduction="none")
        return losses.sum(dim=1)

    def predict_proba(self, X: list) -> np.ndarray:
        """Return the probabilities of the labels (n, L)."""
        return self._outputs(X).sigmoid().numpy()


class LinearHeadRegressor(LinearHead):
    """A linear head under the squared error of standardized numbers."""

    def fit(self, X: list, y: np.ndarray) -> LinearHeadRegressor:
        """Train on texts and numbers."""
        self.center, self.scale = y.mean(), y.std()
        standardized = (y - self.center) / self.scale
        self._fit(X, standardized.astype(np.float32), np.ones(len(y)), 1)
        return self

    def _losses(self, outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        return (outputs[:, 0] - targets).square()

    def predict(self, X: list) -> np.ndarray:
        """Return the predicted numbers."""
        return self.center + self.scale * self._outputs(X)[:, 0].numpy()


def hidden_size(encoder: Any) -> int:
    """Return the width H of the token vectors of a SentenceTransformer."""
    return int(encoder[0].auto_model.config.hidden_size)


def make_schedule(
    optimizer: torch.optim.Optimizer, n_steps: int, warmup_fraction: float
) -> LambdaLR:
    """Build a linear warm-up and a linear decay to zero over `n_steps`."""
    warmup = max(1, round(warmup_fraction * n_steps))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return max(0.0, (n_steps - step) / max(1, n_steps - warmup))

    return LambdaLR(optimizer, factor)
