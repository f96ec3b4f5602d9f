"""What a fitted state says of texts: scores, similarities, explanations."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from skprotolm import _decomposition
from skprotolm._encoder import TokenizedTexts
from skprotolm._explanation import Explanation, Explanations, Splitter
from skprotolm._head import LayerOutput
from skprotolm._inputs import Texts
from skprotolm._model import Encoded, encode, in_order
from skprotolm._prototypes import Text
from skprotolm._runtime import memory_errors, undisturbed
from skprotolm._state import FittedState


@undisturbed()
def head_outputs(state: FittedState, texts: Texts) -> LayerOutput:
    """Return what the prototype layer says of each text, in float64."""
    with torch.inference_mode():
        batches = [
            (encoded.rows, state.layer(encoded.s.cpu().double()))
            for encoded in _encoded(state, state.model.encoder.tokenize(texts))
        ]
    rows, outputs = zip(*batches, strict=True)
    columns = zip(*outputs, strict=True)
    return LayerOutput(
        *(in_order(list(zip(rows, column, strict=True))) for column in columns)
    )


@undisturbed()
def novelty(state: FittedState, texts: Texts) -> np.ndarray:
    """Return how unlike all prototypes each text is, (n,)."""
    with torch.inference_mode():
        batches = [
            (encoded.rows, state.layer.novelty(encoded.s.cpu().double()))
            for encoded in _encoded(state, state.model.encoder.tokenize(texts))
        ]
    return in_order(batches).numpy()


@undisturbed()
def explain(
    state: FittedState, texts: Texts, targets: np.ndarray | None, top_k: int | None
) -> Explanations:
    """Account for every text; `targets` (n,) are class indices."""
    tokenized = state.model.encoder.tokenize(texts, with_offsets=True)
    splitter = Splitter(
        lambda text: _split_tokens(state, text),
        lambda text, j: _split_pairs(state, text, j),
    )
    found: dict[int, Explanation] = {}
    for encoded in _encoded(state, tokenized):
        chosen = None if targets is None else torch.from_numpy(targets[encoded.rows])
        with torch.inference_mode():
            account = _decomposition.account(state.layer, encoded, chosen)
        facts = _Facts(state, encoded, account, chosen)
        for b, row in enumerate(encoded.rows):
            found[row] = facts.explanation(
                b, texts[row], tokenized, row, top_k, splitter
            )
    return Explanations([found[row] for row in range(len(texts))])


def _encoded(state: FittedState, tokenized: TokenizedTexts) -> Iterator[Encoded]:
    model = state.model
    with memory_errors(state.batch_size, model.encoder.max_length):
        yield from encode(
            model.encoder,
            model.head.attention,
            tokenized,
            state.batch_size,
            bf16=state.bf16,
        )


class _Facts:
    """One batch's account as NumPy arrays, cut into an explanation a text."""

    def __init__(
        self,
        state: FittedState,
        encoded: Encoded,
        account: _decomposition.Account,
        targets: Tensor | None,
    ):
        self.state = state
        self.own = encoded.batch["own"].cpu().numpy()
        self.attention = encoded.attention.cpu().double().numpy()
        self.account = account
        log_p = account.log_probabilities
        self.predicted = log_p.argmax(dim=1).numpy()
        self.targets = self.predicted if targets is None else targets.numpy()
        rivals = log_p.scatter(1, torch.from_numpy(self.targets)[:, None], -torch.inf)
        own = log_p.gather(1, torch.from_numpy(self.targets)[:, None])[:, 0]
        self.log_odds = (own - torch.logsumexp(rivals, dim=1)).numpy()
        self.probabilities = log_p.exp().numpy()

    def explanation(
        self,
        b: int,
        text: Text,
        tokenized: TokenizedTexts,
        row: int,
        top_k: int | None,
        splitter: Splitter,
    ) -> Explanation:
        """Return the explanation of the batch's text `b`, row `row` of all."""
        state, account = self.state, self.account
        assert tokenized.offsets is not None
        assert tokenized.segments is not None
        own = tokenized.own[row]
        offsets = tokenized.offsets[row][own]
        segments = tokenized.segments[row][own]
        token_scores = account.token_scores
        labels = state.classes[[self.predicted[b], self.targets[b]]].tolist()
        total = float(account.totals[b])
        mixture = token_scores is not None
        return Explanation(
            text=text,
            prediction=labels[0],
            target=labels[1],
            classes=state.classes,
            class_probabilities=self.probabilities[b].copy(),
            space="probability" if mixture else "score",
            base_value=float(account.base_values[b]),
            log_odds=float(self.log_odds[b]),
            score=None if mixture else total,
            similarities=account.similarities[b].numpy().copy(),
            contributions=account.contributions[b].numpy().copy(),
            tokens=self._tokens(text, tokenized.ids[row][own], offsets, segments),
            offsets=offsets,
            segments=segments,
            attention=self.attention[b, : len(own)][own],
            token_scores=None
            if token_scores is None
            else token_scores[b, : len(own)].numpy()[own],
            token_method="decomposition" if mixture else None,
            top_k=top_k,
            prototype_labels=state.prototypes.labels,
            prototype_texts=state.prototypes.texts,
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
            else self.state.model.encoder.token_name(token_id)
            for token_id, (start, end), segment in zip(
                ids.tolist(), offsets.tolist(), segments.tolist(), strict=True
            )
        )


def _one(state: FittedState, text: Text) -> tuple[Tensor, Tensor]:
    """Return the attention (T,) and vectors (T, H) of one text's own tokens."""
    tokenized = state.model.encoder.tokenize([text])  # type: ignore[arg-type]
    encoded = next(_encoded(state, tokenized))
    own = encoded.batch["own"][0]
    return encoded.attention[0][own].cpu(), encoded.h[0][own].cpu()


@undisturbed()
def _split_tokens(state: FittedState, text: Text) -> np.ndarray:
    attention, h = _one(state, text)
    with torch.inference_mode():
        vectors = state.layer.vectors
        return _decomposition.token_similarities(attention, h, vectors).numpy()


@undisturbed()
def _split_pairs(state: FittedState, text: Text, j: int) -> np.ndarray:
    if not state.quotes.projected[j]:
        raise ValueError(
            f"Prototype {j} is not the vector of the text that it shows (a fit with "
            f"projection=False, or a redacted text), so its cosine has no split over "
            f"pairs of tokens."
        )
    other = state.quotes.texts[j]
    with torch.inference_mode():
        split = _decomposition.alignment(*_one(state, text), *_one(state, other))
        return split.numpy()
