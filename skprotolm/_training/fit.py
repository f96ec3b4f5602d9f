"""One fit, from checked texts to a fitted state."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from skprotolm._config import Settings
from skprotolm._data.targets import Targets
from skprotolm._data.texts import Columns, Texts
from skprotolm._fitted import FittedModel
from skprotolm._network.adapters import merge_adapters
from skprotolm._network.encoder import TextEncoder, load_encoder
from skprotolm._network.network import (
    ProtoLM,
    encode,
    evaluating,
    in_order,
    text_vectors,
)
from skprotolm._network.prototypes import (
    MixtureLayer,
    PrototypeHead,
    PrototypeLayer,
    TokenAttention,
)
from skprotolm._network.token_vectors import EncodedTexts, ReadTexts, StoredTexts
from skprotolm._network.tokenizer import TokenizedTexts
from skprotolm._records.prototypes import Quotes
from skprotolm._runtime import (
    deferred_interrupt,
    has_bf16,
    memory_errors,
    preserved_rng_state,
)
from skprotolm._training.formulations import FORMULATIONS, Placement, leave
from skprotolm._training.initialization import automatic_counts, clearness
from skprotolm._training.projection import (
    assign,
    count_coincident,
    survey,
    worth_keeping,
)
from skprotolm._training.refit import TrainingTexts, refit
from skprotolm._training.splits import Plan, plan_fit
from skprotolm._training.trainer import (
    Trainer,
    TrainingSet,
    encoder_rate,
    raise_diverged,
)


class Hooks(NamedTuple):
    """What a caller is told during a fit.

    `epoch_end` is given what makes a copy of the state, and returns whether to stop.
    """

    epoch_begin: Callable[[], None]
    epoch_end: Callable[[Callable[[], FittedModel]], bool]


class _Bar(tqdm):
    """A progress bar without tqdm's thread, which would outlive the fit."""

    monitor_interval = 0


class Outcome(NamedTuple):
    """What a fit gives."""

    state: FittedModel
    history: list[dict[str, float]]
    learning_rate: float  # the highest of the encoder
    interrupted: bool
    n_coincident: int  # prototypes that nearly coincide with another one
    unpredicted: list[Any]  # labels that are never predicted, see `_Fit._unpredicted`


class Placed(NamedTuple):
    """The prototypes' texts, and where texts stood when these were chosen."""

    rows: np.ndarray  # (M,), of the training texts
    space: np.ndarray  # (n, H), in which the model compares


class Prepared(NamedTuple):
    """A fit whose texts are tokenized and whose plan holds."""

    plan: Plan
    encoder: TextEncoder
    tokenized: TokenizedTexts


def prepare_fit(
    texts: Texts,
    columns: Columns,
    targets: Targets,
    settings: Settings,
    seed: int,
    device: torch.device,
) -> Prepared:
    """Load the backbone and plan the fit; `fit` has seeded torch and isolated it."""
    used = [texts[i] for i in targets.rows]
    with torch.inference_mode(False):
        encoder = load_encoder(settings.backbone, settings.max_length).to(device)
        if settings.finetune == "head":
            encoder.requires_grad_(False)
        elif encoder.is_frozen:
            raise ValueError(
                "No weight of the backbone may be trained: requires_grad is False for "
                "all. Call backbone.requires_grad_(True), or set finetune='head'."
            )
        tokenized = encoder.tokenize(used)
    plan = plan_fit(used, tokenized.keys, columns, targets, settings, seed)
    return Prepared(plan, encoder, tokenized)


def run_fit(prepared: Prepared, seed: int, hooks: Hooks) -> Outcome:
    """Start, train, project and finish; `fit` has seeded torch and isolated it."""
    settings, encoder = prepared.plan.settings, prepared.encoder
    # The caller may have switched gradients off for the lines around `fit`.
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        memory_errors(settings.batch_size, encoder.max_length),
    ):
        return _Fit(prepared, seed, hooks).run()


class _Fit:
    """A fit under way: the trainer, and what early stopping remembers."""

    def __init__(self, prepared: Prepared, seed: int, hooks: Hooks):
        plan, encoder, tokenized = prepared
        self.plan = plan
        self.device = encoder.device
        rate = encoder_rate(
            plan.settings.learning_rate, encoder.hidden_size, len(plan.training)
        )
        self.settings = replace(plan.settings, learning_rate=rate)
        self.hooks = hooks
        self.history: list[dict[str, float]] = []
        is_fp32 = encoder.dtype == torch.float32
        wanted = self.settings.precision == "bf16"
        automatic = self.settings.precision == "auto" and has_bf16(self.device)
        self.train_bf16 = is_fp32 and (wanted or automatic)
        self.predict_bf16 = is_fp32 and wanted

        self.tokenized = tokenized.take(plan.training)
        self.codes = plan.targets.codes[plan.training]
        weights = plan.targets.weights[plan.training]
        weights = weights / weights.mean()  # again, without the held-out texts
        attention = TokenAttention(encoder.hidden_size).to(
            encoder.device, encoder.dtype
        )
        self.training, untrained, pretrained = self._frozen_pass(
            encoder, attention, self.tokenized
        )
        held_out = tokenized.take(plan.validation)
        self.validation: ReadTexts = EncodedTexts(held_out, bf16=self.train_bf16)
        if encoder.is_frozen and len(held_out):
            self.validation, _, _ = self._frozen_pass(encoder, attention, held_out)
        distinct, counts = plan.candidates, plan.counts
        clear = clearness(pretrained.numpy()[distinct.rows], distinct.codes, seed)
        if self.settings.n_prototypes == "auto":
            counts = automatic_counts(counts, distinct.codes, clear)
        self.formulation = FORMULATIONS[self.settings.formulation]
        self.start = Placement(
            untrained.numpy(),
            pretrained.numpy(),
            self.codes,
            weights,
            counts,
            clear,
            seed,
        )
        layer = self.formulation.build(self.start, self.settings)
        self.model = ProtoLM(encoder, PrototypeHead(attention, layer)).to(self.device)
        # Of the training texts, while they hold.
        self.vectors: Tensor | None = untrained
        # Of the held-out texts, under the best weights so far.
        self.held_out_vectors: Tensor | None = None
        self.trainer = self._make_trainer(weights, pretrained, seed)

    def _frozen_pass(
        self, encoder: TextEncoder, attention: TokenAttention, tokenized: TokenizedTexts
    ) -> tuple[ReadTexts, Tensor, Tensor]:
        """Run the pretrained encoder once.

        Returns the texts as training reads them, the text vectors of the untrained
        head, and the sentence vectors.
        """
        bf16 = self.train_bf16
        live = EncodedTexts(tokenized, bf16=bf16)
        stored = StoredTexts(tokenized, encoder) if encoder.is_frozen else None
        texts, sentences = [], []
        with evaluating(encoder):
            for encoded in encode(
                encoder, attention, tokenized, self.settings.batch_size, bf16=bf16
            ):
                with torch.inference_mode():
                    pretrained = encoder.sentence_vectors(encoded.batch, encoded.h)
                texts.append((encoded.rows, encoded.s.cpu()))
                sentences.append((encoded.rows, pretrained.cpu()))
                if stored is not None:
                    stored.store(encoded.rows, encoded.h)
        readable = live if stored is None else stored
        return readable, in_order(texts), in_order(sentences)

    def _make_trainer(
        self, weights: np.ndarray, pretrained: Tensor, seed: int
    ) -> Trainer:
        data = TrainingSet(
            self.training,
            torch.from_numpy(self.codes),
            torch.from_numpy(weights).to(pretrained.dtype),
            pretrained,
        )
        return Trainer(
            self.model,
            data,
            self.formulation,
            self.settings,
            n_epochs=self.plan.n_epochs,
            rng=np.random.RandomState(seed),
        )

    def run(self) -> Outcome:
        interrupted = False
        total = self.plan.n_epochs * self.trainer.steps_an_epoch
        with _Bar(total=total, desc="fit", disable=not self.settings.verbose) as bar:
            try:
                self._run_epochs(bar)
            except KeyboardInterrupt:
                if self.trainer.n_steps_taken == 0:  # nothing was learned
                    raise
                interrupted = True
        try:
            state = self._snapshot(self.model, self._training_vectors())
        except KeyboardInterrupt:  # what was learned is worth the few seconds
            interrupted = True
            state = self._snapshot(self.model, self._training_vectors())
        n_coincident, unpredicted = 0, []
        try:
            n_coincident = _coincident_in(state.model.head.layer)
            unpredicted = self._unpredicted(state)
        except KeyboardInterrupt:  # only what is warned of is lost
            interrupted = True
        return Outcome(
            state,
            self.history,
            self.settings.learning_rate,
            interrupted,
            n_coincident,
            unpredicted,
        )

    def _unpredicted(self, state: FittedModel) -> list[Any]:
        """Return the labels of held-out texts that are predicted for none of them.

        Without early stopping it uses the training texts that are not prototypes, most
        of which a model soon knows by heart.
        """
        plan = self.plan
        if self.held_out_vectors is not None:
            vectors = self.held_out_vectors
            codes = plan.targets.codes[plan.validation]
        else:
            ids = plan.candidates.text_ids
            rows = plan.targets.rows[plan.training]
            quoted = ids[np.isin(rows, state.quotes.train_indices)]
            others = np.flatnonzero(~np.isin(ids, quoted))
            vectors, codes = self._training_vectors()[others], self.codes[others]
        if not len(codes):
            return []
        predicted = state.model.head.layer.score_all(vectors).argmax(dim=1).numpy()
        return state.classes[np.setdiff1d(codes, predicted)].tolist()

    def _run_epochs(self, bar: tqdm) -> None:
        """Train until all epochs are over or something says stop; keep the best."""
        best = _Best(self.model, self._validate(), enabled=self.settings.early_stopping)
        for _ in range(self.plan.n_epochs):
            stopped = self._run_epoch(bar, best)
            if stopped or best.age >= self.settings.n_iter_no_change:
                break
        with deferred_interrupt():
            if best.restore(self.model):
                self.vectors = None

    def _run_epoch(self, bar: tqdm, best: _Best) -> bool:
        """Train for one epoch and record it; return whether a callback says to stop."""
        with preserved_rng_state(self.device):
            self.hooks.epoch_begin()
        self.vectors = None
        figures = {"epoch": len(self.history) + 1, **self.trainer.run_epoch(bar)}
        if self.settings.early_stopping:
            before = self.held_out_vectors
            figures["validation_score"] = self._validate()
            best.offer(figures["validation_score"])
            if not best.in_use:
                self.held_out_vectors = before
        self.history.append(figures)
        if self.settings.verbose:
            bar.set_postfix(loss=f"{figures['loss']:.3f}")
        with preserved_rng_state(self.device):
            return self.hooks.epoch_end(lambda: self._stopped_here(best))

    def _stopped_here(self, best: _Best) -> FittedModel:
        """Return a copy of what the fit gives if it stops after this epoch."""
        model = copy.deepcopy(self.model)
        if best.restore(model):
            return self._snapshot(model, self._text_vectors(self.training, model))
        return self._snapshot(model, self._training_vectors())

    def _snapshot(self, model: ProtoLM, vectors: Tensor) -> FittedModel:
        """Finish a model, by the training texts' vectors; its prototypes stay.

        What was interrupted can be done again.
        """
        attention, layer = model.head.attention, copy.deepcopy(model.head.layer)
        head = PrototypeHead(attention, layer)
        return self._finished(ProtoLM(model.encoder, head), vectors)

    def _validate(self) -> float:
        """Return the weighted accuracy on the held-out texts."""
        if not self.settings.early_stopping:
            return 0.0
        s = self._text_vectors(self.validation, self.model)
        self.held_out_vectors = s
        with torch.no_grad():
            scores = self.model.head.layer(s.to(self.device)).scores
        predicted = scores.argmax(dim=1).cpu().numpy()
        rows = self.plan.validation
        return float(
            np.average(
                predicted == self.plan.targets.codes[rows],
                weights=self.plan.targets.weights[rows],
            )
        )

    def _training_vectors(self) -> Tensor:
        """Return the training texts' vectors (n, H), read once while they hold."""
        if self.vectors is None:
            self.vectors = self._text_vectors(self.training, self.model)
        return self.vectors

    def _text_vectors(self, texts: ReadTexts, model: ProtoLM) -> Tensor:
        vectors = text_vectors(model, texts, self.settings.batch_size)
        self._require_finite(model, vectors)
        return vectors

    def _require_finite(self, model: ProtoLM, vectors: Tensor) -> None:
        """Notice a last step that ruined the weights, which no later loss tells."""
        own = model.head.layer.vectors
        if not (vectors.isfinite().all() and own.isfinite().all()):
            raise_diverged(self.settings)

    def _finished(self, model: ProtoLM, vectors: Tensor) -> FittedModel:
        """Give a model's prototypes their texts, and fix what is left."""
        model.eval().requires_grad_(False).zero_grad(set_to_none=True)
        with deferred_interrupt():
            merge_adapters(model.encoder)
        layer = model.head.layer
        scores = layer.score_all(vectors)
        if not scores.isfinite().all():
            raise_diverged(self.settings)
        settle = self.formulation.settle if self.settings.projection else leave
        places = settle(layer, replace(self.start, vectors=vectors.numpy()), scores)
        owner = layer.owner.cpu().numpy()
        rows = assign(places[0], owner, places[1], self.plan.candidates)
        placed = Placed(rows, layer.compare(vectors).numpy())
        if self.settings.projection:
            placed = self._project(model, vectors, placed, scores)
        if isinstance(model.head.layer, MixtureLayer):
            model.head.layer.fix_priors()
        return FittedModel(
            model=model,
            classes=self.plan.targets.classes,
            quotes=self._quotes(placed),
            columns=self.plan.columns,
            batch_size=self.settings.batch_size,
            bf16=self.predict_bf16,
            device=str(self.settings.device),
        )

    def _project(
        self, model: ProtoLM, vectors: Tensor, placed: Placed, learned: Tensor
    ) -> Placed:
        """Put prototypes on their texts, in fp32, and let the rest follow from that."""
        layer, kept = model.head.layer, np.arange(len(placed.rows))
        if self.settings.n_prototypes == "auto":
            kept = worth_keeping(*placed, self.codes, self.plan.candidates)
        placed = placed._replace(rows=placed.rows[kept])
        texts = EncodedTexts(self.tokenized.take(placed.rows), bf16=False)
        quoted = text_vectors(model, texts, self.settings.batch_size)
        self._require_finite(model, quoted)
        some = torch.from_numpy(kept).to(layer.owner.device)
        layer = layer.edited(
            quoted.to(layer.vectors), layer.owner[some], layer.values[..., some]
        )
        if isinstance(layer, MixtureLayer):
            ids = self.plan.candidates.text_ids
            refit(
                layer,
                TrainingTexts(vectors, ids, self.codes, self.start.weights),
                ids[placed.rows],
                learned,
                self.start.seed,
            )
        model.head.layer = layer
        return placed

    def _quotes(self, placed: Placed) -> Quotes:
        around = survey(*placed, self.codes, self.plan.candidates)
        rows = self.plan.training[placed.rows]  # of the texts of positive weight
        return Quotes(
            texts=tuple(self.plan.texts[i] for i in rows),
            train_indices=self.plan.targets.rows[rows],
            purities=around.purity,
            usages=around.usage,
            projected=np.full(len(rows), self.settings.projection),
            redacted=np.full(len(rows), False),
            ids=np.arange(len(rows)),
        )


def _coincident_in(layer: PrototypeLayer) -> int:
    with torch.no_grad():
        vectors = layer.compare(layer.vectors).cpu().numpy()
    return count_coincident(vectors, layer.owner.cpu().numpy())


class _Best:
    """The best weights seen so far, from before the first step on."""

    def __init__(self, model: ProtoLM, score: float, *, enabled: bool):
        self.model = model
        self.score = score
        self.weights = copy.deepcopy(model.state_dict()) if enabled else None
        self.age = 0  # epochs since the score last rose
        self.in_use = True

    def offer(self, score: float) -> None:
        """Keep the model's weights if none had a higher score; of equals, the later."""
        self.age = 0 if score > self.score else self.age + 1
        self.in_use = score >= self.score
        if self.in_use:
            self.score = score
            self.weights = copy.deepcopy(self.model.state_dict())

    def restore(self, model: ProtoLM) -> bool:
        """Put the best weights into the model or a copy, if they are not in use."""
        if self.weights is None or self.in_use:
            return False
        model.load_state_dict(self.weights)
        return True
