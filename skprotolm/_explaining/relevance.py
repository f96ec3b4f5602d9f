"""Token relevance: the encoder made linear near a text, and summed over its tokens.

With its queries and keys, the standard deviations of its norms and the ratios act(x)/x
of its activations held constant, an encoder is a linear function of its embeddings, up
to biases, once its attention probabilities are given. The same linear function of a
text's token vectors that the decomposition reads is then a sum over the embeddings of
its tokens, gradient times input, which one backward pass gives (compare Ali et al.
2022, "XAI for Transformers"; Modarressi et al. 2023, "DecompX").

Two things are added. Every own token gets a presence m: it counts m-fold as a key of
every attention, log m added to its logits, and the derivative by log m says what its
presence does to the others through the attention, which gradient times input leaves
out. And all is taken at m = 0.1, where words stand more by themselves: in the whole
text one of several words that say the same changes little. A constant added to all
logits of a softmax changes nothing, so the derivatives by log m sum to 0 over all
tokens, and what is shared out stays the same.
"""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from skprotolm._network.encoder import TextEncoder
from skprotolm._network.pooling import TokenAttention
from skprotolm._network.tokenizer import TokenBatch

# Of each architecture, the modules that give queries and keys, whose constancy is
# that of the attention probabilities; "fused" ones give values in their last third.
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
}
# Those in which a token sees only those before it. The windows that some of these and
# ModernBERT have are not kept: a mask of our own takes the place of all of them.
_CAUSAL = {"llama", "mistral", "qwen2", "qwen3", "gpt2"}
_FUSED = {"modernbert": "Wqkv", "gpt2": "c_attn"}
PRESENCE = 0.1  # .05 to .2 did about as well on dev texts of SST-2
_ACTIVATIONS = ("torch.nn.modules.activation", "transformers.activations")
# Layers with one of these multiply an activation with a second projection.
_GATES = ("gate_proj", "Wi")


def is_known(encoder: TextEncoder) -> bool:
    """Whether relevance can be computed for the encoder's architecture."""
    return _kind(encoder) in _QUERIES_AND_KEYS or _kind(encoder) in _FUSED


def _kind(encoder: TextEncoder) -> str:
    return encoder.transformer.auto_model.config.model_type


class LinearEncoder:
    """A private view of an encoder that is linear in its embeddings.

    It shares the weights and nothing else: hooks are registered on a copy of the
    modules, so that the encoder itself is never changed. One thread uses it at a time.
    """

    def __init__(self, encoder: TextEncoder):
        kind = _kind(encoder)
        if not is_known(encoder):
            known = ", ".join(sorted([*_QUERIES_AND_KEYS, *_FUSED]))
            raise ValueError(
                f"token_method='relevance' does not know the architecture {kind!r}; it "
                f"knows {known}. Use 'decomposition' or 'occlusion'."
            )
        self.transformer = _share(encoder.transformer)
        self.dtype = encoder.dtype
        self.is_causal = kind in _CAUSAL
        self.lock = threading.Lock()
        # The hook fills it: one that held this object would keep the weights alive
        # until the cycle collector comes.
        self._embedded: list[Tensor] = []
        model = self.transformer.auto_model
        embeddings = getattr(model, "embeddings", None) or model.get_input_embeddings()
        embeddings.register_forward_hook(_catching(self._embedded))
        inside = set(embeddings.modules())
        for name, module in model.named_modules():
            if module not in inside:
                _linearize(module, name.rpartition(".")[2], kind, model, name)

    @contextmanager
    def run(self, batch: TokenBatch, presence: float = PRESENCE) -> Iterator[Linear]:
        """Run a batch with its graph, its own tokens present `presence`-fold."""
        features = {name: tensor for name, tensor in batch.items() if name != "own"}
        with self.lock, torch.inference_mode(False), torch.enable_grad():
            # Not the batch's own tensors, which may be bound to inference mode.
            features = {name: tensor.clone() for name, tensor in features.items()}
            own, real = batch["own"].clone(), features["attention_mask"].bool()
            log_presence = (own * math.log(presence)).to(self.dtype).requires_grad_()
            features["attention_mask"] = self._mask(log_presence, real)
            h = self.transformer(features)["token_embeddings"]
            try:
                yield Linear(h, self._embedded[-1], log_presence, own)
            finally:
                self._embedded.clear()

    def _mask(self, log_presence: Tensor, real: Tensor) -> Tensor:
        """Return what is added to attention logits (B, 1, T, T)."""
        T = real.shape[1]
        visible = real[:, None, None, :].expand(-1, 1, T, T)
        if self.is_causal:
            visible = visible & torch.ones_like(visible).tril()
        lowest = torch.finfo(log_presence.dtype).min
        return torch.where(visible, log_presence[:, None, None, :], lowest)


# The views that were asked for. An entry goes with its encoder, which it does not hold.
_VIEWS: WeakKeyDictionary[TextEncoder, LinearEncoder] = WeakKeyDictionary()
_VIEWS_LOCK = threading.Lock()


def linear_encoder(encoder: TextEncoder) -> LinearEncoder:
    """Return the linear view of an encoder, which is made once."""
    with _VIEWS_LOCK:
        if encoder not in _VIEWS:
            _VIEWS[encoder] = LinearEncoder(encoder)
        return _VIEWS[encoder]


class Linear(NamedTuple):
    """A batch under the linear view."""

    h: Tensor  # (B, T, H), with its graph
    embedded: Tensor  # (B, T, E)
    log_presence: Tensor  # (B, T)
    own: Tensor  # (B, T)

    def attend(self, attention: TokenAttention) -> Tensor:
        """Return the weights (B, T) of own tokens, their logits held."""
        with torch.no_grad():
            logits = attention.logits(self.h)
        logits = (logits + self.log_presence).masked_fill(~self.own, -torch.inf)
        return torch.softmax(logits, dim=1)


def relevance(linear: Linear, weights: Tensor, direction: Tensor) -> Tensor:
    """Return what each token adds to Σ_t α_t h_t·direction, (B, T).

    Parameters
    ----------
    linear : Linear
    weights : Tensor of shape (B, T)
        α, with the graph of `Linear.attend`.
    direction : Tensor of shape (B, H)
    """
    total = torch.einsum("bt,bth,bh->", weights, linear.h, direction.to(linear.h))
    leaves = [linear.embedded, linear.log_presence]
    by_embedding, by_presence = torch.autograd.grad(total, leaves)
    return (by_embedding * linear.embedded.detach()).sum(dim=-1) + by_presence


def _share(transformer: Any) -> Any:
    """Copy the modules of a transformer, but not the tensors or the tokenizer."""
    kept = [*transformer.parameters(), *transformer.buffers(), transformer.tokenizer]
    processor = getattr(transformer, "processor", None)
    memo = {id(thing): thing for thing in chain(kept, [processor])}
    return copy.deepcopy(transformer, memo).eval()


def _linearize(
    module: nn.Module, own_name: str, kind: str, model: nn.Module, name: str
) -> None:
    """Register the hook that holds a module's part of the nonlinearity constant."""
    if own_name in _QUERIES_AND_KEYS.get(kind, ()):
        module.register_forward_hook(_hold)
    elif own_name == _FUSED.get(kind):
        module.register_forward_hook(_hold_queries_and_keys)
    elif isinstance(module, nn.LayerNorm):
        module.register_forward_hook(_hold_deviation)
    elif type(module).__name__.endswith("RMSNorm"):
        module.register_forward_hook(_hold_ratio)
    elif type(module).__module__ in _ACTIVATIONS:
        layer = model.get_submodule(name.rpartition(".")[0])
        gated = any(hasattr(layer, gate) for gate in _GATES)
        module.register_forward_hook(_hold if gated else _hold_ratio)


def _catching(embedded: list[Tensor]) -> Any:
    """Return a hook that starts the graph at the embeddings, and hands them out."""

    def catch(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1]

    return catch


def _hold(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    return output.detach()


def _hold_queries_and_keys(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    at = 2 * output.shape[-1] // 3
    return torch.cat([output[..., :at].detach(), output[..., at:]], dim=-1)


def _hold_ratio(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    """x·(f(x)/x), the second factor a constant; both are 0 where x is."""
    x = args[0]
    there = x.detach()
    ratio = torch.where(there == 0, 0, output.detach() / there)
    return x * ratio


def _hold_deviation(module: Any, args: Any, output: Tensor) -> Tensor:
    centred = args[0] - args[0].mean(dim=-1, keepdim=True)
    variance = centred.detach().square().mean(dim=-1, keepdim=True)
    scaled = centred * torch.rsqrt(variance + module.eps)
    if module.weight is not None:
        scaled = scaled * module.weight
    return scaled if module.bias is None else scaled + module.bias
