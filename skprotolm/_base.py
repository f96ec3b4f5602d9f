"""What all estimators share: a fit's last steps, prototypes, explanations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import NotFittedError

from skprotolm._config import (
    COUNT,
    FRACTION,
    TITLE,
    TOKEN_METHOD,
    FitConfig,
    Rule,
    require,
)
from skprotolm._data.targets import Targets
from skprotolm._data.texts import Columns, Texts
from skprotolm._display.formatting import set_name
from skprotolm._edit_methods import EditMethodsMixin
from skprotolm._explaining.explain import explain
from skprotolm._fitted import FittedModel, fitted_model
from skprotolm._optimizing import OptimizeMixin
from skprotolm._processes import joined, resolve_own_device
from skprotolm._records.explanations import Explanations
from skprotolm._records.prototypes import Prototypes
from skprotolm._report.pages import report_page
from skprotolm._runtime import infer_seed, isolated_torch, seeded
from skprotolm._saving.estimators import SavingMixin
from skprotolm._streaming import StreamingMixin
from skprotolm._tasks.base import Task
from skprotolm._training.callbacks import SklearnCallbacks
from skprotolm._training.extension import extend
from skprotolm._training.fit import fit
from skprotolm._training.fit_warnings import warn_of_result
from skprotolm._training.inputs import FitInput
from skprotolm._training.novelty_limit import conformal_rank

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn before 1.9 has no callbacks

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in where scikit-learn has no callbacks."""

    def with_callbacks(method: Any) -> Any:
        """Return the method as it is."""
        return method


class BaseProtoLM(
    EditMethodsMixin,
    StreamingMixin,
    OptimizeMixin,
    SavingMixin,
    CallbackSupportMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Base of the estimators, which define their parameters, `fit` and `predict`."""

    # Parameters of `FitConfig` that an estimator does not have, and rules of its own.
    _fixed: ClassVar[dict[str, Any]] = {}
    _rules: ClassVar[dict[str, Rule]] = {}
    # Fields of `FitConfig` that only tests and benchmarks set, in a subclass.
    _ablation: ClassVar[dict[str, Any]] = {}

    def _fit(
        self,
        config: FitConfig,
        task: Task,
        targets: Targets,
        texts: Texts,
        X: Any,
        y: Any,
        sample_weight: Any,
    ) -> None:
        """Fit a model, adopt it in one statement, and then warn.

        Parameters
        ----------
        config : FitConfig
        task : Task
        targets : Targets
        texts : list of str or of (str, str)
            All texts of X.
        X, y, sample_weight : object
            As the user passed them, which scikit-learn's callbacks are handed.
        """
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        data = {"X": X, "y": y, "metadata": metadata}
        config = replace(config, **self._ablation)
        columns = Columns.of(X, texts)
        callbacks = SklearnCallbacks(self, self._fitted_attributes, data)
        start = self.__dict__.get("_fitted") if config.warm_start else None
        device = resolve_own_device(config.device)
        with joined(device) as processes:
            seed = processes.agree(infer_seed(self.random_state))
            with seeded(seed + processes.rank, device):  # dropout differs by rank
                given = FitInput(task, targets, texts, columns, seed, start, processes)
                result = fit(config, given, device, callbacks)
        self.__dict__.update(
            self._fitted_attributes(result.model),
            history_=result.history,
            learning_rate_=result.config.learning_rate,
            n_iter_=len(result.history),
        )
        warn_of_result(result)

    def _extend(
        self,
        model: FittedModel,
        task: Task,
        positions: np.ndarray,
        targets: Targets,
        texts: Texts,
        n_prototypes: Any,
    ) -> None:
        """Adopt a model that has learned further texts; see `extension.extend`."""
        seed = infer_seed(self.random_state)
        n_texts, n_classes = model.further
        n_new = len(task.strata) - len(model.task.strata)
        model = extend(model, task, positions, targets, texts, n_prototypes, seed)
        further = (n_texts + len(texts), n_classes + n_new)
        self._replace_model(replace(model, further=further))

    @property
    def prototypes_(self) -> Prototypes:
        """The prototypes, as a sequence of `Prototype`."""
        if "_fitted" not in self.__dict__:
            raise NotFittedError(
                f"{type(self).__name__} is not fitted: call fit first."
            )
        return self._fitted.prototypes

    def transform(self, X: Any) -> np.ndarray:
        """Return the similarity of each text to each prototype.

        The features of training texts leak their labels, since prototypes are training
        texts: use other texts to fit a second model.

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
        return fitted_model(self).similarities(X, "X")

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Name the columns of `transform`, by class or value and number of prototypes.

        Parameters
        ----------
        input_features : ignored
            Part of scikit-learn's interface.

        Returns
        -------
        ndarray of shape (M,), object
            Names such as "negative_3", for prototype 3 of the class "negative".

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        """
        labels = self.prototypes_.labels.tolist()
        names = [f"{set_name(label)}_{j}" for j, label in enumerate(labels)]
        return np.array(names, dtype=object)

    def _explain(
        self,
        X: Any,
        top_k: int | None,
        token_method: str,
        targets: Mapping[str, Any] = MappingProxyType({}),
    ) -> Explanations[Any]:
        """Check the arguments of `explain`; `targets` are those that are outputs."""
        model, texts = self._ready(X)
        require_explain(top_k, token_method)
        index, against = (
            None
            if targets.get(name) is None
            else model.task.target_index(targets[name], len(texts), name)
            for name in ("target", "against")
        )
        if top_k is not None:
            top_k = int(top_k)  # NumPy's ints are not written to JSON
        return explain(model, texts, index, against, top_k, token_method)

    def novelty_score(self, X: Any) -> np.ndarray:
        """Return the novelty of each text: its dissimilarity to all prototypes.

        Parameters
        ----------
        X : container of str, length n
            As in `fit`.

        Returns
        -------
        ndarray of shape (n,), float64
            −(1/λ)·log((1/C)·Σ_j π_j exp(λ·cos)), in [−1, 1] until prototypes are
            edited; under ``formulation="proto-lm"`` the distance to the nearest
            prototype. High if no prototype is similar to the text.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            As in `predict`.
        """
        model, texts = self._ready(X)
        return model.novelty(texts)

    def novelty_threshold(self, X: Any, *, rate: float = 0.05) -> float:
        """Return the novelty above which to abstain, from in-distribution texts.

        A text with a higher `novelty_score` should be passed on to a person. Edits of
        the prototypes change the scores: set the threshold again after an edit.

        Parameters
        ----------
        X : container of str, length n
            In-distribution texts that the estimator was *not* trained on; its training
            texts have a lower novelty than new ones.
        rate : float, default=0.05
            Highest probability of refusing another text of the same distribution. At
            least 1/rate − 1 texts are required.

        Returns
        -------
        float
            The k-th smallest of the n novelty scores, k = ⌈(n + 1)(1 − rate)⌉. Another
            text of the same distribution exceeds it with a probability of at most
            `rate` (split conformal prediction [1]_).

        Raises
        ------
        ValueError
            If `rate` is not between 0 and 1, or X has too few texts for it.
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
        model, texts = self._ready(X)
        return _conformal_threshold(model.novelty(texts), float(rate))

    @isolated_torch()
    def _write_report(
        self,
        X: Any,
        y: Any,
        path: str | PathLike[str],
        title: str | None,
        **training: Any,
    ) -> None:
        """Check the arguments of `report`, and write the page of the kind of target."""
        model = self._fitted_model()
        require("title", title, TITLE)
        file = Path(path)
        if file.is_dir() or not file.parent.is_dir():
            raise ValueError(
                f"path must be a file in an existing folder, got {str(file)!r}."
            )
        page = report_page(model, X, y, title, **training)
        file.write_bytes(page.encode("utf-8"))  # whole, before a file is opened

    def _fitted_model(self) -> FittedModel:
        return fitted_model(self)

    def _ready(self, X: Any) -> tuple[FittedModel, Texts]:
        """Return the fitted model and the validated texts."""
        model = self._fitted_model()
        return model, model.texts_of(X)

    def __sklearn_is_fitted__(self) -> bool:
        return "_fitted" in self.__dict__

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        return tags


def require_explain(top_k: Any, token_method: Any) -> None:
    """Refuse arguments of `explain` that do not depend on the kind of target."""
    if top_k is not None:
        require("top_k", top_k, COUNT)
    require("token_method", token_method, TOKEN_METHOD)


def _conformal_threshold(scores: np.ndarray, rate: float) -> float:
    """Return what one more score like these exceeds, with probability ≤ `rate`."""
    rank = conformal_rank(len(scores), rate)
    if rank > len(scores):
        raise ValueError(
            f"a rate of {rate} needs at least {math.ceil(1 / rate - 1e-9) - 1} texts, "
            f"got {len(scores)}; pass more of them, or a higher rate."
        )
    return float(np.sort(scores)[rank - 1])
