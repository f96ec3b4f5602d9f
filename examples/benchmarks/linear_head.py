"""The peer of every accuracy here: the same encoder under a plain linear head.

Mean of the tokens, dropout 0.1, one linear layer; the same size of batches,
epochs, precision, optimiser, schedule and smoothing of labels as the classifier under
test.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from skprotolm import ProtoLMClassifier
from skprotolm._config import check_parameters
from skprotolm._data.targets import encode_targets
from skprotolm._network.batching import prediction_batches, training_batches
from skprotolm._network.encoder import (
    TextEncoder,
    TokenBatch,
    TokenizedTexts,
    load_encoder,
)
from skprotolm._network.losses import cross_entropy
from skprotolm._runtime import has_bf16, resolve_device, seeded
from skprotolm._training.formulations import FORMULATIONS
from skprotolm._training.splits import count_epochs, smooth_labels
from skprotolm._training.trainer import (
    _MAX_GRADIENT_NORM,
    encoder_rate,
    make_optimizer,
    make_schedule,
)


class LinearHeadClassifier:
    """A linear head, trained with the settings of a `ProtoLMClassifier`.

    Other than the defaults of `precision` and `finetune` it does not know.
    """

    def __init__(self, like: ProtoLMClassifier):
        self.settings = check_parameters(like, tuple(FORMULATIONS))
        self.seed = int(like.random_state)
        self.device = resolve_device(like.device)
        self.bf16 = has_bf16(self.device)

    def fit(self, X: list[str], y: np.ndarray) -> LinearHeadClassifier:
        """Train on texts and labels."""
        targets = encode_targets(
            y, len(X), None, self.settings.class_weight, "LinearHeadClassifier"
        )
        self.classes_ = targets.classes
        with seeded(self.seed, self.device):
            encoder = load_encoder(self.settings.backbone, self.settings.max_length)
            self.encoder: TextEncoder = encoder.to(self.device)
            self.head = nn.Linear(encoder.hidden_size, len(self.classes_))
            self.head.to(self.device)
            codes, weights = (
                torch.from_numpy(values).to(self.device)
                for values in (targets.codes, targets.weights)
            )
            self._train(encoder.tokenize(X), codes, weights.float())
        return self

    def _train(
        self, tokenized: TokenizedTexts, codes: torch.Tensor, weights: torch.Tensor
    ) -> None:
        rate = encoder_rate(
            self.settings.learning_rate, self.encoder.hidden_size, len(codes)
        )
        settings = replace(self.settings, learning_rate=rate)
        rng = np.random.RandomState(self.seed)
        smoothing = smooth_labels(settings.label_smoothing, len(codes))
        n_epochs = count_epochs(settings.max_epochs, len(codes), settings.batch_size)
        n_steps = n_epochs * math.ceil(len(codes) / settings.batch_size)
        optimizer = make_optimizer(self.encoder, self.head, settings)
        schedule = make_schedule(optimizer, n_steps, settings.warmup_fraction)
        parameters = [*self.encoder.parameters(), *self.head.parameters()]
        self.encoder.train()
        for _ in range(n_epochs):
            for rows in training_batches(tokenized.lengths, settings.batch_size, rng):
                batch = self.encoder.tokenizer.collate(tokenized, rows).to(self.device)
                vectors = F.dropout(self._mean(batch, self.bf16), 0.1)
                some = torch.from_numpy(rows)
                loss = cross_entropy(
                    self.head(vectors), codes[some], weights[some], smoothing
                )
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, _MAX_GRADIENT_NORM)
                optimizer.step()
                schedule.step()
        self.encoder.eval()

    def _mean(self, batch: TokenBatch, bf16: bool) -> torch.Tensor:
        mask = batch["attention_mask"].float()[..., None]
        h = self.encoder(batch, bf16=bf16)
        return (mask * h).sum(dim=1) / mask.sum(dim=1)

    @torch.inference_mode()
    def predict_proba(self, X: list[str]) -> np.ndarray:
        """Return class probabilities, (n, C), computed in fp32."""
        tokenized = self.encoder.tokenize(X)
        found = np.empty((len(X), len(self.classes_)))
        for rows in prediction_batches(tokenized.lengths, self.settings.batch_size):
            batch = self.encoder.tokenizer.collate(tokenized, rows).to(self.device)
            logits = self.head(self._mean(batch, bf16=False)).double()
            found[rows] = logits.softmax(dim=1).cpu().numpy()
        return found

    def predict(self, X: list[str]) -> np.ndarray:
        """Return the most probable labels."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]
