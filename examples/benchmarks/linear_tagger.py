"""The baseline of tags: the same encoder with a linear head on each word.

A word's vector is the mean of its tokens. Everything else is as in `linear_head`.
"""

from __future__ import annotations

import numpy as np
import torch
from encoders import TokenizedTexts, prediction_batches, token_vectors
from linear_head import LinearHead
from sentence_transformers import SentenceTransformer
from torch import Tensor
from torch.nn import functional as F

IGNORED = -100  # the target of padding


class TokenizedSentences(TokenizedTexts):
    """Sentences as token ids, with the word of each token.

    Words beyond the length that the encoder reads have no tokens.
    """

    def __init__(self, encoder: SentenceTransformer, X: list):
        encodings = encoder.tokenizer(
            X,
            is_split_into_words=True,
            truncation=True,
            max_length=encoder.max_seq_length,
        )
        super().__init__(encoder, [" ".join(words) for words in X])
        self.features = [
            {name: values[i] for name, values in encodings.items()}
            for i in range(len(X))
        ]
        self.lengths = np.array([len(f["input_ids"]) for f in self.features])
        self.word_ids = [encodings.word_ids(i) for i in range(len(X))]
        self.n_words = [len(words) for words in X]

    def means(self, rows: np.ndarray, T: int) -> Tensor:
        """Return how much each token counts in each word, (B, W, T)."""
        n_words = max(self.n_words[row] for row in rows)
        weights = torch.zeros(len(rows), n_words, T)
        for b, row in enumerate(rows):
            for t, word in enumerate(self.word_ids[row]):
                if word is not None:
                    weights[b, word, t] = 1
        return weights / weights.sum(dim=2, keepdim=True).clamp(min=1)


class LinearTagger(LinearHead):
    """A linear head under cross-entropy, the mean over words.

    Attributes
    ----------
    classes_ : ndarray of shape (C,)
        The sorted tags.
    """

    def fit(self, X: list, y: list) -> LinearTagger:
        """Train on sentences and tags."""
        self.classes_ = np.unique(np.concatenate(y))
        codes = np.full((len(X), max(map(len, X))), IGNORED)
        for row, tags in enumerate(y):
            codes[row, : len(tags)] = np.searchsorted(self.classes_, tags)
        self._fit(X, codes, np.ones(len(X)), len(self.classes_))
        return self

    def _tokenized(self, X: list) -> TokenizedSentences:
        return TokenizedSentences(self.encoder, X)

    def _text_vectors(
        self, texts: TokenizedTexts, rows: np.ndarray, *, bf16: bool
    ) -> Tensor:
        """Return the means (B, W, H) of the token vectors of words."""
        assert isinstance(texts, TokenizedSentences)
        h = token_vectors(self.encoder, texts.batch(rows, self.device), bf16=bf16)
        return texts.means(rows, h.shape[1]).to(h) @ h

    def _losses(self, outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        targets = targets[:, : outputs.shape[1]]
        losses = F.cross_entropy(
            outputs.transpose(1, 2),
            targets,
            reduction="none",
            ignore_index=IGNORED,
            label_smoothing=smoothing,
        )
        n_words = (targets != IGNORED).sum()
        return losses.sum(dim=1) * len(targets) / n_words

    @torch.inference_mode()
    def predict(self, X: list) -> list[np.ndarray]:
        """Return the most probable tag of each word."""
        texts = self._tokenized(X)
        tags: list[np.ndarray] = [self.classes_[:0]] * len(X)
        for rows in prediction_batches(texts.lengths, self.clf.batch_size):
            outputs = self.head(self._text_vectors(texts, rows, bf16=False))
            codes = outputs.argmax(dim=2).cpu().numpy()
            for row, of_row in zip(rows.tolist(), codes, strict=True):
                tags[row] = self.classes_[of_row[: len(X[row])]]
        return tags
