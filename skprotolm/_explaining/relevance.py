"""Token relevance: gradient times input of a linearized encoder.

An encoder becomes a linear function of its embeddings, up to biases, if some of its
intermediate results are constants: the attention probabilities, the standard
deviations of the layer norms, and the ratios act(x)/x of the activations. The
decomposition reads a linear function of the token vectors. Through the linearized
encoder, this function is a sum over the embeddings of the tokens, and one backward
pass computes the sum as gradient times input (compare Ali et al. 2022, "XAI for
Transformers"; Modarressi et al. 2023, "DecompX").

Gradient times input ignores the effect of a token on the attention to other tokens. A
presence weight m per content token measures this effect: log m is added to the
attention logits of the token as a key, so that the token counts as m copies. The
derivative with respect to log m is added to the token's relevance. Adding a constant
to all logits does not change a softmax, so these derivatives sum to 0 over all tokens,
and the sum of the relevances stays the same.

All derivatives are taken at m = 0.1. In the full text (m = 1), deleting one of several
words with the same meaning changes little; at a low weight each of them counts.
"""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from skprotolm._network.encoder import TextEncoder
from skprotolm._network.pooling import PooledWindows, TokenAttention, pool
from skprotolm._network.tokenized import TokenBatch

# What is supported, by model type: the modules that compute queries and keys, which are
# made constant, and with them the attention probabilities. A type can be added if its
# norms, activations and gates are among those that `_linearize` finds;
# tests/test_relevance.py fails for others, as for the norms of Cohere.
_QUERIES_AND_KEYS = {
    "bert": ("query", "key"),
    "roberta": ("query", "key"),
    "xlm-roberta": ("query", "key"),
    "camembert": ("query", "key"),
    "electra": ("query", "key"),
    "distilbert": ("q_lin", "k_lin"),
    "mpnet": ("q", "k"),
    "llama": ("q_proj", "k_proj"),
    "mistral": ("q_proj", "k_proj"),
    "qwen2": ("q_proj", "k_proj"),
    "qwen3": ("q_proj", "k_proj"),
    "gemma": ("q_proj", "k_proj"),
    "gemma2": ("q_proj", "k_proj"),
    "gemma3_text": ("q_proj", "k_proj"),
}
# Modules that compute queries, keys and values together; values come last.
_FUSED = {"modernbert": "Wqkv", "gpt2": "c_attn", "phi3": "qkv_proj"}
SUPPORTED = sorted([*_QUERIES_AND_KEYS, *_FUSED])
# Added to the logits of what is masked; some models have an fp32 softmax.
_LOWEST = torch.finfo(torch.float32).min
PRESENCE_WEIGHT = 0.1  # similar results from 0.05 to 0.2 on dev texts of SST-2
_ACTIVATIONS = ("torch.nn.modules.activation", "transformers.activations")
# A layer with one of these modules multiplies an activation by a second projection.
_GATES = ("gate_proj", "Wi", "gate_up_proj")


def is_supported(encoder: TextEncoder) -> bool:
    """Whether relevance is implemented for the encoder's model type, and backend."""
    return encoder.backend == "torch" and encoder.model_type in SUPPORTED


def _require_support(encoder: TextEncoder) -> None:
    """Refuse an encoder that is not supported, and say why."""
    if encoder.backend != "torch":
        raise ValueError(
            f"token_method='relevance' needs gradients, which the backend "
            f"{encoder.backend!r} does not compute. Use 'decomposition' or "
            f"'occlusion', or explain with the estimator that optimize was called "
            f"on, or with optimize(backend='torch')."
        )
    if not is_supported(encoder):
        raise ValueError(
            f"token_method='relevance' does not support the architecture "
            f"{encoder.model_type!r}; supported are {', '.join(SUPPORTED)}. Use "
            f"'decomposition' or 'occlusion'."
        )


class LinearizedEncoder:
    """A copy of an encoder that is linear in its embeddings.

    The copy shares the weights. Hooks are registered on the copied modules, so that
    the encoder itself does not change. A lock allows one thread at a time.
    """

    def __init__(self, encoder: TextEncoder):
        _require_support(encoder)
        self.transformer = _copy_modules(encoder.transformer)
        self.dtype = encoder.dtype
        self.is_causal = encoder.is_causal
        self.lock = threading.Lock()
        # The hook refers to this list. A reference to `self` would be a cycle, which
        # keeps the weights in memory until the garbage collector runs.
        self._captured: list[Tensor] = []
        model = self.transformer.auto_model
        embeddings = getattr(model, "embeddings", None) or model.get_input_embeddings()
        embeddings.register_forward_hook(_capture_output(self._captured))
        embedding_modules = set(embeddings.modules())
        for name, module in model.named_modules():
            if module not in embedding_modules:
                _linearize(model, name, module, encoder.model_type)

    @contextmanager
    def run(
        self,
        batch: TokenBatch,
        presence_weight: float = PRESENCE_WEIGHT,
        *,
        with_graph: bool = True,
    ) -> Iterator[LinearizedBatch]:
        """Run a batch at a presence weight of all content tokens."""
        with (
            self.lock,
            torch.inference_mode(False),
            torch.set_grad_enabled(with_graph),
        ):
            # Clones, because tensors created in inference mode have no gradients.
            features = {name: t.clone() for name, t in batch.features.items()}
            log_presence = batch["content_mask"] * math.log(presence_weight)
            log_presence = log_presence.to(self.dtype).requires_grad_()
            is_token = features["attention_mask"].bool()
            features["attention_mask"] = self._logit_mask(log_presence, is_token)
            h = self.transformer(features)["token_embeddings"]
            try:
                weights = batch["weights"].clone()
                yield LinearizedBatch(h, self._captured[-1], log_presence, weights)
            finally:
                self._captured.clear()

    def _logit_mask(self, log_presence: Tensor, is_token: Tensor) -> Tensor:
        """Return the addend of the attention logits (B, 1, T, T), for all layers."""
        T = is_token.shape[1]
        visible = is_token[:, None, None, :].expand(-1, 1, T, T)
        if self.is_causal:
            visible = visible & torch.ones_like(visible).tril()
        return torch.where(visible, log_presence[:, None, None, :], _LOWEST)


# One linearized encoder per encoder. An entry is deleted with its encoder, because it
# shares the encoder's weights without a reference to the encoder.
_LINEARIZED: WeakKeyDictionary[TextEncoder, LinearizedEncoder] = WeakKeyDictionary()
_LINEARIZED_LOCK = threading.Lock()


def linearized_encoder(encoder: TextEncoder) -> LinearizedEncoder:
    """Return the linearized copy of an encoder, created at the first call."""
    with _LINEARIZED_LOCK:
        if encoder not in _LINEARIZED:
            _LINEARIZED[encoder] = LinearizedEncoder(encoder)
        return _LINEARIZED[encoder]


class LinearizedBatch:
    """The output of a linearized encoder for one batch.

    Parameters
    ----------
    h : Tensor of shape (B, T, H)
        Token vectors, with their graph.
    embeddings : Tensor of shape (B, T, E)
    log_presence : Tensor of shape (B, T)
        Logarithms of the presence weights.
    weights : Tensor of shape (B, T)
        How much tokens count in the text vector.
    """

    def __init__(
        self, h: Tensor, embeddings: Tensor, log_presence: Tensor, weights: Tensor
    ):
        self.h = h
        self.embeddings = embeddings
        self.log_presence = log_presence
        self.weights = weights

    def _logits(self, attention: TokenAttention) -> Tensor:
        """Return logits of the attention, constant but for the presence, (B, T)."""
        with torch.no_grad():
            logits = attention.weighted_logits(self.h, self.weights)
        return logits + self.log_presence

    def pool(self, attention: TokenAttention) -> PooledWindows:
        """Pool the tokens of each window, without a graph."""
        with torch.no_grad():
            logits = self._logits(attention)
            weights = torch.softmax(logits, dim=1)
            log_sums = torch.logsumexp(logits, dim=1)
            return PooledWindows(weights, log_sums, pool(weights, self.h))

    def attention_weights(
        self, attention: TokenAttention, log_totals: Tensor
    ) -> Tensor:
        """Return the weights (B, T) of tokens in their text, from constant logits.

        Parameters
        ----------
        attention : TokenAttention
        log_totals : Tensor of shape (B,)
            The logsumexp of the logits of all tokens of each window's text.
        """
        return (self._logits(attention) - log_totals[:, None]).exp()


def relevance(
    batch: LinearizedBatch, weights: Tensor, direction: Tensor, s: Tensor
) -> Tensor:
    """Split Σ_t α_t h_t·direction over the tokens, (B, T).

    Presence changes the weights of all tokens of a text, since they sum to 1, also of
    those in other windows. With respect to log m_t, the derivative of α is that of a
    softmax: α_t·(h_t − s)·direction.

    Parameters
    ----------
    batch : LinearizedBatch
    weights : Tensor of shape (B, T)
        α, with the graph of `LinearizedBatch.attention_weights`.
    direction : Tensor of shape (B, H)
    s : Tensor of shape (B, H)
        The vector of each window's text.
    """
    centered = batch.h - s[:, None]
    total = torch.einsum("bt,bth,bh->", weights, centered, direction.to(centered))
    embedding_grad, presence_grad = torch.autograd.grad(
        total, [batch.embeddings, batch.log_presence]
    )
    return (embedding_grad * batch.embeddings.detach()).sum(dim=-1) + presence_grad


def _copy_modules(transformer: Any) -> Any:
    """Copy the modules of a transformer, and share its tensors and tokenizer."""
    shared = [
        *transformer.parameters(),
        *transformer.buffers(),
        transformer.tokenizer,
        getattr(transformer, "processor", None),
    ]
    return copy.deepcopy(transformer, {id(item): item for item in shared}).eval()


def _linearize(model: nn.Module, path: str, module: nn.Module, model_type: str) -> None:
    """Register the hook that makes a nonlinear module linear.

    Parameters
    ----------
    model : Module
    path : str
        The qualified name of the module in the model.
    module : Module
    model_type : str
    """
    parent, _, name = path.rpartition(".")
    if type(module).__name__.endswith("Attention") and hasattr(module, "config"):
        config = getattr(module.config, "sliding_window", None)
        window = getattr(module, "sliding_window", config)
        if window is not None:
            module.register_forward_pre_hook(_mask_distant(window), with_kwargs=True)
    elif name in _QUERIES_AND_KEYS.get(model_type, ()):
        module.register_forward_hook(_detach_output)
    elif name == _FUSED.get(model_type):
        module.register_forward_hook(_detach_queries_and_keys(model.config))
    elif isinstance(module, nn.LayerNorm):
        module.register_forward_hook(_detach_deviation)
    elif type(module).__name__.endswith("RMSNorm"):
        module.register_forward_hook(_detach_ratio)
    elif type(module).__module__ in _ACTIVATIONS:
        layer = model.get_submodule(parent)
        is_gated = any(hasattr(layer, gate) for gate in _GATES)
        module.register_forward_hook(_detach_output if is_gated else _detach_ratio)


def _capture_output(captured: list[Tensor]) -> Any:
    """Return a hook that replaces an output by a leaf and appends it to the list."""

    def capture(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        captured.append(output.detach().requires_grad_())
        return captured[-1]

    return capture


def _detach_output(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    return output.detach()


def _detach_queries_and_keys(config: Any) -> Any:
    """Return a hook for a module whose output ends with the values of all heads."""
    n_heads = config.num_attention_heads
    n_values = getattr(config, "num_key_value_heads", None) or n_heads

    def detach(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        size = output.shape[-1] * n_values // (n_heads + 2 * n_values)
        queries_and_keys, values = output[..., :-size], output[..., -size:]
        return torch.cat([queries_and_keys.detach(), values], dim=-1)

    return detach


def _mask_distant(window: int) -> Any:
    """Return a hook for sliding attention: tokens farther away are masked."""

    def mask(module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        logits = kwargs["attention_mask"]
        positions = torch.arange(logits.shape[-1], device=logits.device)
        is_near = (positions - positions[:, None]).abs() < window
        kwargs["attention_mask"] = torch.where(is_near, logits, _LOWEST)
        return args, kwargs

    return mask


def _detach_ratio(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    """Return x·(f(x)/x) with a constant ratio, 0 where x = 0."""
    x = args[0]
    constant = x.detach()
    return x * torch.where(constant == 0, 0, output.detach() / constant)


def _detach_deviation(module: Any, args: Any, output: Tensor) -> Tensor:
    """Return the layer norm with a constant standard deviation."""
    centered = args[0] - args[0].mean(dim=-1, keepdim=True)
    variance = centered.detach().square().mean(dim=-1, keepdim=True)
    scaled = centered * torch.rsqrt(variance + module.eps)
    if module.weight is not None:
        scaled = scaled * module.weight
    return scaled if module.bias is None else scaled + module.bias
