"""The explanation of one prediction, as a frozen record."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from skprotolm._display.formatting import compared, one_line, percent, shorten
from skprotolm._display.html import explanations_html
from skprotolm._display.plots import plot_explanation
from skprotolm._display.tables import as_frame
from skprotolm._display.text import explanation_text
from skprotolm._records.json import dump_explanations
from skprotolm._records.pages import PageMixin
from skprotolm._records.parts import (
    Contribution,
    NoSplitError,
    PrototypeTexts,
    TokenSplitter,
    WordAlignment,
    align_words,
    check_index,
    contributions_of,
    descending,
)
from skprotolm._records.scored_text import ScoredText
from skprotolm._records.views import frame_rows, listed_record, to_dict
from skprotolm._records.words import Text, merge_tokens, split_pair, sum_by_word
from skprotolm._tasks.units import UNITS, Unit


@dataclass(frozen=True, eq=False, repr=False)
class Explanation(PageMixin, ScoredText):
    """The explanation of one prediction, in exact sums.

    Under ``formulation="mixture"`` (``space == "probability"``):

    - the contributions of all prototypes sum to 1, and those of the target's
      prototypes to the probability of the target;
    - ``base_value + token_scores.sum() == log_odds`` of the target;
    - ``token_similarities[:, j].sum()`` and ``alignment(j).sum()`` are the cosine
      to prototype j.

    Under ``formulation="proto-lm"`` (``space == "score"``) the contributions and
    ``base_value`` sum to ``score``, the target's logit. Its similarities have no exact
    split over tokens.

    Attributes
    ----------
    text : str or (str, str)
        The explained text.
    prediction : object
        The predicted label.
    target : object
        The explained label: the predicted label unless `explain` gets another target.
    against : object or None
        The label that the target is compared with; None for all other labels.
    classes : ndarray of shape (C,)
        All labels.
    class_probabilities : ndarray of shape (C,), float64
        Probabilities of the labels.
    space : {"probability", "score"}
        The unit of the contributions.
    base_value : float
        The part of the log-odds that belongs to no token; under "proto-lm", the part of
        the score that belongs to no prototype.
    log_odds : float
        log p − log(1 − p) of the target; with `against`, log p(target) −
        log p(against), which is the same for two labels.
    score : float or None
        The target's logit, under "proto-lm" only; with `against`, the target's logit
        minus that of `against`.
    similarities, contributions : ndarray of shape (M,), float64
        One entry per prototype, in the order of ``prototypes_``.
    novelty : float
        The dissimilarity of the text to all prototypes; see
        `ProtoLMClassifier.novelty_score`.
    novelty_limit : float or None
        The novelty that at most two percent of the training texts exceed, as `fit`
        found it; None if there were fewer than 20. Edits of the prototypes do not
        change it, so that texts that only removed ones resembled are then unlike.
    tokens : tuple of str
        The content tokens, as substrings of the text.
    offsets : ndarray of shape (T, 2), int64
        Start and end of each token, in characters.
    segments : ndarray of shape (T,), int64
        The text of a pair that each token belongs to, 0 or 1; offsets count within it.
    attention : ndarray of shape (T,), float64
        The weight α of each token in the text vector. The weights sum to 1.
    token_scores : ndarray of shape (T,), float64, or None
        The part of the log-odds that is attributed to each token.
    token_method : {"decomposition", "relevance", "occlusion"} or None
        The method of the token scores; None without token scores.
    token_unread : ndarray of shape (T,), bool
        Whether a token is the tokenizer's unknown token: the model knows its position,
        but not its word.
    top_k : int or None
        How many prototypes are listed; None for all.
    """

    __module__ = "skprotolm"

    prediction: Any
    target: Any
    against: Any
    classes: np.ndarray
    class_probabilities: np.ndarray
    space: str
    base_value: float
    log_odds: float
    score: float | None
    similarities: np.ndarray
    contributions: np.ndarray
    novelty: float
    novelty_limit: float | None
    attention: np.ndarray
    token_method: str | None
    top_k: int | None
    _prototypes: PrototypeTexts
    # Splits are computed on demand, since token vectors would fill the memory.
    _splitter: TokenSplitter | None = field(default=None)

    @property
    def prototype_labels(self) -> np.ndarray:
        """(M,): the class of each prototype."""
        return self._prototypes.labels

    @property
    def prototype_texts(self) -> tuple[Text, ...]:
        """The training text of each prototype."""
        return self._prototypes.texts

    @property
    def prototype_names(self) -> tuple[str, ...]:
        """The name of each prototype."""
        return self._prototypes.names

    @property
    def prototype_unread(self) -> tuple[tuple[str, ...], ...]:
        """The words of each prototype's text that the tokenizer cannot read."""
        return self._prototypes.unread

    @property
    def unit(self) -> Unit:
        """The unit of the contributions; `space` is its name."""
        return UNITS[self.space]

    @property
    def probabilities(self) -> dict[Any, float]:
        """Label → probability, in the order of the classes."""
        labels, values = self.classes.tolist(), self.class_probabilities.tolist()
        return dict(zip(labels, values, strict=True))

    @property
    def probability(self) -> float:
        """The probability of the target."""
        return self.probabilities[self.target]

    @property
    def total(self) -> float:
        """The sum that the contributions explain: `score`, or else `probability`."""
        return self.probability if self.score is None else self.score

    @property
    def nearest_similarity(self) -> float:
        """The largest of the similarities."""
        return float(self.similarities.max())

    @property
    def is_unlike(self) -> bool:
        """Whether the text is unlike the training texts: `novelty` is above its limit.

        Its prototypes are then the nearest ones, but not similar.
        """
        return self.novelty_limit is not None and self.novelty > self.novelty_limit

    @property
    def prototypes(self) -> tuple[Contribution, ...]:
        """At most `top_k` prototypes, in descending order of their contributions."""
        order = descending(self.contributions)[: self.top_k]
        return tuple(contributions_of(self, order))

    @property
    def remainder(self) -> float:
        """The sum of the contributions that `prototypes` does not list."""
        if self.top_k is None:
            return 0.0
        rest = descending(self.contributions)[self.top_k :]
        return float(self.contributions[rest].sum())

    @cached_property
    def token_similarities(self) -> np.ndarray:
        """(T, M): the part of each prototype's cosine that belongs to each token.

        The first access runs one forward pass over the text.
        """
        return self._require_splitter().token_similarities(self.text)

    def alignment(self, index: int) -> np.ndarray:
        """Split the cosine to a prototype over pairs of tokens.

        Parameters
        ----------
        index : int
            Position of the prototype in ``prototypes_``.

        Returns
        -------
        ndarray of shape (T, U), float64
            How much the match of each token of this text with each of the U content
            tokens of the prototype's text adds to their cosine.

        Raises
        ------
        ValueError
            If the prototypes are not texts (``projection=False``), or the
            formulation is not "mixture".
        IndexError, TypeError
            If `index` is not an int, or out of range.
        """
        splitter = self._require_splitter()
        j = check_index(index, len(self.prototype_texts))
        return splitter.token_parts(self.text) @ splitter.prototype_parts(j).T

    def word_alignment(self, index: int) -> WordAlignment:
        """Split the cosine to a prototype over pairs of words.

        Parameters
        ----------
        index : int
            Position of the prototype in ``prototypes_``.

        Returns
        -------
        WordAlignment
            Matrices (W, V), and the V words of the prototype's text.

        Raises
        ------
        ValueError, IndexError, TypeError
            As in `alignment`.
        """
        splitter = self._require_splitter()
        j = check_index(index, len(self.prototype_texts))
        segments, offsets, unread = splitter.prototype_tokens(j)
        text = self.prototype_texts[j]
        spans, word_ids = merge_tokens(text, segments, offsets)
        matrix, correlation = align_words(
            sum_by_word(splitter.token_parts(self.text), self.word_ids),
            sum_by_word(splitter.prototype_parts(j), word_ids),
        )
        texts = split_pair(text)
        words = tuple(texts[segment][start:end] for segment, start, end in spans)
        is_unread = np.bincount(word_ids, unread) > 0
        offsets = np.array(spans).reshape(-1, 3)
        return WordAlignment(matrix, correlation, words, offsets, is_unread)

    def _require_splitter(self) -> TokenSplitter:
        if not self.unit.has_token_sums:
            raise NoSplitError(
                'formulation="proto-lm" has no exact split over tokens: its '
                "similarity is 1/(distance + ε), not a sum."
            )
        if self._splitter is None:
            raise NoSplitError(
                "This explanation was stored without its model; explain the text again "
                "to split similarities over tokens."
            )
        return self._splitter

    def _explanations(self) -> list[Explanation]:
        return [self]

    def _fields(self) -> dict[str, Any]:
        """Return the fields that can be stored without the model."""
        names = (f.name for f in fields(self) if f.name != "_splitter")
        return {name: getattr(self, name) for name in names}

    def __getstate__(self) -> dict[str, Any]:
        return {**self._fields(), "_splitter": None}  # pickles leave the model out

    def __copy__(self) -> Explanation:
        return replace(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Explanation:
        arrays: dict[str, Any] = {
            name: value.copy()
            for name, value in self._fields().items()
            if isinstance(value, np.ndarray)
        }
        return replace(self, **arrays)

    def to_dict(self, *, n_alignments: int = 0) -> dict[str, Any]:
        """Return the explanation as plain Python objects.

        Labels and probabilities are parallel lists, so that labels keep their types.

        Parameters
        ----------
        n_alignments : int, default=0
            Number of first listed prototypes whose `word_alignment` is added under
            "alignments", if it is available. Each costs one pass through the encoder.

        Raises
        ------
        ValueError
            If `n_alignments` is not a nonnegative int.
        """
        return to_dict(self, n_alignments)

    def to_json(self) -> str:
        """Return the explanation as JSON, without loss; see `Explanations.to_json`."""
        return dump_explanations([self._fields()])

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with one row per listed prototype."""
        return as_frame(frame_rows([self]))

    @np.errstate(under="ignore")
    def plot(self) -> Any:
        """Draw the word scores and the contributions of the prototypes.

        The figure shows at most the 40 words of the largest absolute scores, in the
        order of the text, and five prototypes, or `top_k` of `explain`, at most 40.
        Long words, labels and texts are shortened.

        Returns
        -------
        matplotlib.figure.Figure
            Two panels of bars. Green bars are for the target; red, hatched bars are
            against it, or belong to other classes.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        """
        return plot_explanation(self)

    def to_text(self, *, color: bool = False) -> str:
        """Return the explanation as lines of text.

        Parameters
        ----------
        color : bool, default=False
            Color the words for a terminal: green is for the target, red against it.
        """
        return explanation_text(self, color=color)

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        return one_line(
            f"<Explanation of {shorten(self.text, 40)!r}: "
            f"{compared(self.target, self.against)} {percent(self.probability)}>"
        )

    def _repr_html_(self) -> str:
        return explanations_html([listed_record(self)], page=False)
