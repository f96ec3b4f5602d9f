"""Adapters are trained instead of the encoder's weights, and merged at the end."""

from __future__ import annotations

import copy
import sys
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch.nn.modules.module import register_module_forward_pre_hook

from skprotolm import ProtoLMRegressor
from skprotolm._network.adapters import add_adapters, hold_in_bf16, merge_adapters
from skprotolm._network.encoder import load_encoder
from skprotolm._network.token_vectors import EncodedTexts
from skprotolm.exceptions import MissingExtraError
from tests.helpers import assert_same_predictions
from tests.tiny import MODEL_TYPES, make_encoder

ROWS = np.arange(2)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_adapters_change_nothing_before_they_are_trained(model_type, tmp_path):
    encoder = load_encoder(make_encoder(model_type, tmp_path), None).eval()
    source = EncodedTexts(encoder.tokenize(["a good film", "a day"]), bf16=False)
    with torch.no_grad():
        before, _ = source.read(encoder, ROWS)
        add_adapters(encoder)
        after, _ = source.read(encoder, ROWS)
    assert torch.equal(before, after)
    trained = [n for n, p in encoder.named_parameters() if p.requires_grad]
    assert len(trained) >= 2 * 2 * 4  # two matrices for each of a layer's
    assert all("lora_" in name for name in trained)


def test_what_is_merged_has_the_architecture_of_the_backbone(
    make_classifier, texts, tiny_bert
):
    clf = make_classifier(backbone=tiny_bert, finetune="lora").fit(*texts)
    fitted = clf._fitted.network.encoder.sentence_transformer.state_dict()
    before = tiny_bert.state_dict()
    assert fitted.keys() == before.keys()
    changed = {n for n in before if not torch.equal(before[n], fitted[n])}
    assert changed
    assert all(".layer." in n and n.endswith("weight") for n in changed)
    assert not any("LayerNorm" in n for n in changed)
    [e] = clf.explain(["a good film"], token_method="relevance")
    assert e.base_value + e.token_scores.sum() == pytest.approx(e.log_odds, abs=1e-4)


@pytest.mark.parametrize(
    "parameters",
    [
        {"early_stopping": True, "validation_fraction": 0.3},
        {"warm_start": True},
        {"formulation": "proto-lm"},
    ],
    ids=str,
)
def test_a_seed_determines_the_fit(make_classifier, texts, parameters):
    one, other = (
        make_classifier(finetune="lora", **parameters).fit(*texts).fit(*texts)
        for _ in range(2)
    )
    assert_same_predictions(one, other, texts[0])


def test_numbers(tiny_bert, texts):
    y = np.arange(len(texts[0])) / 7
    reg = ProtoLMRegressor(tiny_bert, finetune="lora", max_epochs=2, random_state=0)
    assert np.isfinite(reg.fit(texts[0], y).predict(texts[0])).all()


def test_a_backbone_with_adapters_keeps_its_own(make_classifier, texts, tiny_bert):
    backbone = copy.deepcopy(tiny_bert)
    inject_adapter_in_model(LoraConfig(target_modules=["query"]), backbone)
    with pytest.raises(ValueError, match="has some already; set finetune='full'"):
        make_classifier(backbone=backbone, finetune="lora").fit(*texts)


def test_weights_that_may_not_be_trained_get_no_adapters(
    make_classifier, texts, tiny_bert
):
    """All matrices were adapted, whatever `requires_grad` said."""
    backbone = copy.deepcopy(tiny_bert)
    layers = backbone[0].auto_model.encoder.layer
    layers[0].requires_grad_(False)
    clf = make_classifier(backbone=backbone, finetune="lora").fit(*texts)
    fitted = clf._fitted.network.encoder
    after = fitted.sentence_transformer[0].auto_model.encoder.layer
    for one, other, is_same in zip(layers, after, (True, False), strict=True):
        weights = one.attention.self.query.weight, other.attention.self.query.weight
        assert torch.equal(*weights) == is_same
    assert not hasattr(fitted, "peft_config")
    layers.requires_grad_(False)
    with pytest.raises(ValueError, match="linear layers whose weights may be trained"):
        make_classifier(backbone=backbone, finetune="lora").fit(*texts)


def test_without_peft_nothing_is_read(make_classifier, texts, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'skprotolm\[lora\]'"):
        make_classifier(finetune="lora").fit(*texts)


# Weights in bfloat16.


def rounded(backbone: Any) -> Any:
    """Return a copy with weights that bfloat16 has, too, in float32."""
    return copy.deepcopy(backbone).bfloat16().float()


def with_random_adapters(encoder: Any) -> Any:
    add_adapters(encoder)
    generator = torch.Generator().manual_seed(0)
    for name, weight in encoder.named_parameters():
        if "lora_B" in name:
            weight.data = 0.1 * torch.randn(weight.shape, generator=generator)
    return encoder


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
def test_holding_weights_in_bf16_changes_no_bit_under_autocast(model_type, tmp_path):
    backbone = rounded(make_encoder(model_type, tmp_path))
    encoder = with_random_adapters(load_encoder(backbone, None).eval())
    source = EncodedTexts(encoder.tokenize(["a good film", "a day"]), bf16=True)
    results = []
    for _ in range(2):
        encoder.zero_grad()
        h, _ = source.read(encoder, ROWS)
        h.square().sum().backward()
        gradients = {n: p.grad for n, p in encoder.named_parameters()}
        results.append((h.detach(), gradients))
        hold_in_bf16(encoder)
    weights = {p.dtype for n, p in encoder.named_parameters() if "base_layer.w" in n}
    assert weights == {torch.bfloat16}
    (h, gradients), (same_h, same_gradients) = results
    assert torch.equal(h, same_h)
    for name, gradient in gradients.items():
        assert gradient is None or torch.equal(gradient, same_gradients[name])


def test_adapters_are_merged_in_fp32(tiny_bert):
    """Sums in bfloat16 would lose most digits of what was learned."""
    backbone = rounded(tiny_bert)
    encoder = with_random_adapters(load_encoder(backbone, None))
    expected = copy.deepcopy(encoder)
    merge_adapters(expected)
    hold_in_bf16(encoder)
    merge_adapters(encoder)
    weights = encoder.state_dict()
    for name, weight in expected.state_dict().items():
        assert torch.equal(weights[name], weight), name
    changed = weights[
        "sentence_transformer.0.model.encoder.layer.0.output.dense.weight"
    ]
    assert not torch.equal(changed, changed.bfloat16().float())


def test_weights_that_bf16_would_round_stay_in_fp32(tiny_bert):
    encoder = load_encoder(tiny_bert, None)
    add_adapters(encoder)
    hold_in_bf16(encoder)
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_weights_are_held_in_bf16_during_the_fit_only(
    make_classifier, texts, tiny_bert, precision
):
    held: list[torch.dtype] = []

    def keep(module: torch.nn.Module, args: Any) -> None:
        if torch.is_grad_enabled() and isinstance(module, torch.nn.Linear):
            held.append(module.weight.dtype)

    clf = make_classifier(
        backbone=rounded(tiny_bert), finetune="lora", precision=precision
    )
    handle = register_module_forward_pre_hook(keep)
    clf.fit(*texts)
    handle.remove()
    assert (torch.bfloat16 in held) == (precision == "bf16")
    dtypes = {p.dtype for p in clf._fitted.network.parameters()}
    assert dtypes == {torch.float32}
