"""A fitted state and texts to explanations: prototypes, and tokens by three methods."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from skprotolm._data.texts import Texts
from skprotolm._explaining import attribution as _decomposition
from skprotolm._explaining.relevance import is_known, linear_encoder, relevance
from skprotolm._explaining.splitting import TokenSplits
from skprotolm._fitted import FittedModel
from skprotolm._network.network import Encoded
from skprotolm._network.prototypes import pool
from skprotolm._network.tokenizer import TokenizedTexts
from skprotolm._records.explanation import Explanation
from skprotolm._records.explanations import Explanations
from skprotolm._records.parts import PrototypeTexts
from skprotolm._records.words import Text, replace_words
from skprotolm._runtime import isolated_torch

TOKEN_METHODS = ("auto", "decomposition", "relevance", "occlusion")
_AT_ONCE = 1024  # texts with a word left out that are held in memory


class _Batch(NamedTuple):
    """One batch's account."""

    encoded: Encoded
    targets: Tensor | None  # (B,)
    account: _decomposition.Account
    token_scores: Tensor | None  # (B, T)


@isolated_torch()
def explain(
    state: FittedModel,
    texts: Texts,
    targets: np.ndarray | None,
    top_k: int | None,
    token_method: str,
) -> Explanations:
    """Account for every text; `targets` (n,) are class indices."""
    method = _method(state, token_method)
    tokenized = state.tokenize(texts, with_offsets=True)
    splitter = TokenSplits(state)
    found: dict[int, Explanation] = {}
    for batch in _accounts(state, tokenized, targets, method):
        facts = _Facts(state, batch, method)
        for b, row in enumerate(batch.encoded.rows):
            found[row] = facts.explanation(
                b, texts[row], tokenized, row, top_k, splitter
            )
    explanations = [found[row] for row in range(len(texts))]
    if method == "occlusion":
        explanations = _occlude(state, explanations)
    return Explanations(explanations)


def _method(state: FittedModel, token_method: str) -> str | None:
    """Decide how tokens are scored; None where "auto" finds no way to."""
    if token_method not in TOKEN_METHODS:
        raise ValueError(
            f"token_method must be one of {', '.join(map(repr, TOKEN_METHODS))}, got "
            f"{token_method!r}."
        )
    is_exact = state.layer.space == "probability"
    if token_method == "decomposition" and not is_exact:
        raise ValueError(
            'formulation="proto-lm" has no exact split over tokens, so '
            "token_method='decomposition' is not there; use 'relevance' or 'occlusion'."
        )
    if token_method != "auto":
        return token_method
    if is_exact:
        return "decomposition"
    return "relevance" if is_known(state.model.encoder) else None


def _accounts(
    state: FittedModel,
    tokenized: TokenizedTexts,
    targets: np.ndarray | None,
    method: str | None,
) -> Iterator[_Batch]:
    """Account for batches of texts, and score their tokens."""
    for encoded in state.encode(tokenized):
        chosen = None if targets is None else torch.from_numpy(targets[encoded.rows])
        with torch.inference_mode():
            s = encoded.s.cpu().double()
            account = _decomposition.account(state.layer, s, chosen)
        scores = None
        if method == "decomposition":
            with torch.inference_mode():
                scores = _decomposition.token_scores(encoded, account.pull)
        elif method == "relevance":
            predicted = account.log_probabilities.argmax(dim=1)
            k = predicted if chosen is None else chosen
            scores = _relevance_scores(state, encoded, k)
        yield _Batch(encoded, chosen, account, scores)


def _relevance_scores(state: FittedModel, encoded: Encoded, k: Tensor) -> Tensor:
    """Score the tokens of a batch for the classes k (B,) by relevance."""
    with linear_encoder(state.model.encoder).run(encoded.batch) as linear:
        weights = linear.attend(state.model.head.attention)
        s = pool(weights.detach(), linear.h.detach())
        account = _decomposition.account(state.layer, s.cpu().double(), k.clone())
        return relevance(linear, weights, account.pull)


def _occlude(state: FittedModel, explanations: list[Explanation]) -> list[Explanation]:
    """Score each word by how far the log-odds fall when it is left out."""
    occluded: list[Explanation] = []
    group: list[Explanation] = []
    n_words = 0
    for e in explanations:
        group.append(e)
        n_words += len(e.word_offsets)
        if n_words >= _AT_ONCE:
            occluded += _occlude_group(state, group)
            group, n_words = [], 0
    return occluded + _occlude_group(state, group)


def _occlude_group(
    state: FittedModel, explanations: list[Explanation]
) -> list[Explanation]:
    texts: Any = [text for e in explanations for text in _without_each_word(e)]
    if not texts:
        return explanations
    codes = {label: code for code, label in enumerate(state.classes.tolist())}
    counts = [len(e.word_offsets) for e in explanations]
    targets = np.repeat([codes[e.target] for e in explanations], counts)
    scores = state.layer_outputs(texts, quiet=True).scores
    left = _decomposition.log_odds(scores, torch.from_numpy(targets)).numpy()
    parts = np.split(left, np.cumsum(counts)[:-1])
    return [
        _with_word_scores(e, e.log_odds - part)
        for e, part in zip(explanations, parts, strict=True)
    ]


def _without_each_word(e: Explanation) -> list[Any]:
    spans = e.word_offsets.tolist()
    unread = e.unread_spans
    return [replace_words(e.text, [span], deleted=unread) for span in spans]


def _with_word_scores(e: Explanation, word_scores: np.ndarray) -> Explanation:
    """Share each word's score evenly among its tokens."""
    scores = (word_scores / np.bincount(e.word_ids))[e.word_ids]
    base_value = e.base_value
    if e.space == "probability":
        base_value = e.log_odds - float(scores.sum())
    return replace(
        e, token_scores=scores, token_method="occlusion", base_value=base_value
    )


class _Facts:
    """One batch's account as NumPy arrays, cut into an explanation a text."""

    def __init__(self, state: FittedModel, batch: _Batch, method: str | None):
        account = batch.account
        self.state = state
        self.attention = batch.encoded.attention.cpu().double().numpy()
        self.account = account
        self.method = method
        columns = state.prototypes
        self.prototypes = PrototypeTexts(columns.labels, columns.texts, columns.unread)
        self.token_scores = None
        if batch.token_scores is not None:
            self.token_scores = batch.token_scores.cpu().double().numpy()
        log_p = account.log_probabilities
        self.predicted = log_p.argmax(dim=1).numpy()
        chosen = batch.targets
        self.targets = self.predicted if chosen is None else chosen.numpy()
        self.probabilities = log_p.exp().numpy()

    def explanation(
        self,
        b: int,
        text: Text,
        tokenized: TokenizedTexts,
        row: int,
        top_k: int | None,
        splitter: TokenSplits,
    ) -> Explanation:
        """Return the explanation of the batch's text `b`, row `row` of all."""
        state, account = self.state, self.account
        assert tokenized.offsets is not None
        assert tokenized.segments is not None
        own = tokenized.own[row]
        offsets = tokenized.offsets[row][own]
        segments = tokenized.segments[row][own]
        scores = None
        if self.token_scores is not None:
            scores = self.token_scores[b, : len(own)][own]
        labels = state.classes[[self.predicted[b], self.targets[b]]].tolist()
        space = state.layer.space
        log_odds = float(account.log_odds[b])
        base_value = float(account.base_values[b])
        if space == "probability" and self.method == "relevance":
            assert scores is not None
            base_value = log_odds - float(scores.sum())
        return Explanation(
            text=text,
            prediction=labels[0],
            target=labels[1],
            classes=state.classes,
            class_probabilities=self.probabilities[b].copy(),
            space=space,
            base_value=base_value,
            log_odds=log_odds,
            score=float(account.scores[b]) if space == "score" else None,
            similarities=account.similarities[b].numpy().copy(),
            contributions=account.contributions[b].numpy().copy(),
            tokens=self._tokens(text, tokenized.ids[row][own], offsets, segments),
            offsets=offsets,
            segments=segments,
            attention=self.attention[b, : len(own)][own],
            token_scores=scores,
            token_unread=tokenized.unread[row][own],
            token_method=None if scores is None else self.method,
            top_k=top_k,
            _prototypes=self.prototypes,
            _splitter=splitter,
        )

    def _tokens(
        self, text: Text, ids: np.ndarray, offsets: np.ndarray, segments: np.ndarray
    ) -> tuple[str, ...]:
        """Return the tokens as they stand in the text; special ones by their name."""
        texts = (text,) if isinstance(text, str) else text
        return tuple(
            texts[segment][start:end]
            if end > start
            else self.state.model.encoder.tokenizer.token_name(token_id)
            for token_id, (start, end), segment in zip(
                ids.tolist(), offsets.tolist(), segments.tolist(), strict=True
            )
        )
