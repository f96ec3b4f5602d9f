"""Encoders that were changed by hand, or have adapters, are pickled as they are."""

from __future__ import annotations

import copy
import pickle
import re
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import normalizers

from skprotolm import ProtoLMClassifier
from tests.helpers import assert_same_predictions
from tests.saving import REMOVED, ROUND_TRIPS, assert_same, wrap
from tests.tiny import MODEL_TYPES, make_encoder


@pytest.fixture(params=ROUND_TRIPS)
def round_trip(request) -> Any:
    return ROUND_TRIPS[request.param]


# Encoders that their configuration does not describe.


def swap_activation(encoder: Any) -> None:
    encoder[0].auto_model.encoder.layer[
        1
    ].intermediate.intermediate_act_fn = torch.nn.ReLU()


def remove_layer(encoder: Any) -> None:
    layers = encoder[0].auto_model.encoder
    layers.layer = layers.layer[:1]


def add_hook(encoder: Any) -> None:
    encoder[0].auto_model.embeddings.register_forward_hook(squash)


def squash(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
    return torch.tanh(output)


class ScaledEmbeddings(torch.nn.Module):
    """Embeddings with a parameter that the configuration does not have."""

    def __init__(self, inner: Any):
        super().__init__()
        self.inner = inner
        self.scale = torch.nn.Parameter(torch.tensor(3.0))

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self.scale * self.inner(*args, **kwargs)


def replace_module(encoder: Any) -> None:
    model = encoder[0].auto_model
    model.embeddings = ScaledEmbeddings(model.embeddings)


def keep_capitals(encoder: Any) -> None:
    encoder.tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=False
    )


CHANGES = [swap_activation, remove_layer, add_hook, replace_module]


@pytest.mark.parametrize("change", [*CHANGES, keep_capitals])
def test_a_changed_encoder_is_restored_as_it_is(
    round_trip, change, make_classifier, texts, tiny_bert
):
    """From its files, another model would be loaded without a warning."""
    encoder = copy.deepcopy(tiny_bert)
    change(encoder)
    clf = make_classifier(backbone=encoder, max_epochs=1).fit(*texts)
    clf.backbone = REMOVED
    again = round_trip(clf)
    X = [*texts[0], "a GOOD day with no End"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # capitals may be unknown
        p, expected = again.predict_proba(X), clf.predict_proba(X)
    np.testing.assert_array_equal(p, expected)
    assert clf.prototypes_.to_dict() == again.prototypes_.to_dict()


@pytest.mark.parametrize("change", [swap_activation, remove_layer, add_hook])
def test_files_of_a_changed_encoder_load_as_another_model(
    change, tmp_path, texts, tiny_bert
):
    """The test above needs such changes."""
    encoder = copy.deepcopy(tiny_bert)
    change(encoder)
    encoder.save(str(tmp_path), create_model_card=False)
    loaded = SentenceTransformer(str(tmp_path), device="cpu", local_files_only=True)
    X = texts[0][:5]
    assert np.abs(loaded.encode(X) - encoder.encode(X)).max() > 1e-3


@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_the_truncation_side_of_a_tokenizer_is_restored(kind, texts, tmp_path):
    """Texts of prototypes, by which files are compared, are not truncated."""
    encoder = make_encoder(kind, tmp_path)
    encoder.tokenizer.truncation_side = "left"
    clf = ProtoLMClassifier(
        encoder, n_prototypes=2, max_epochs=1, finetune="head", random_state=0
    ).fit(*texts)
    again = pickle.loads(pickle.dumps(clf))
    long = ["good " * 50 + "bad " * 50]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        p, expected = again.predict_proba(long), clf.predict_proba(long)
    np.testing.assert_array_equal(p, expected)


def test_the_error_for_parametrized_weights_names_the_remedy(
    make_classifier, texts, tiny_bert
):
    encoder = copy.deepcopy(tiny_bert)
    torch.nn.utils.parametrizations.orthogonal(encoder[0].auto_model.pooler.dense)
    clf = make_classifier(backbone=encoder, max_epochs=1).fit(*texts)
    clf.backbone = REMOVED
    with pytest.raises(TypeError, match="remove_parametrizations"):
        pickle.dumps(clf)


# Adapters of peft.


def adapted(tiny_bert: Any, how: str, **options: Any) -> Any:
    peft = pytest.importorskip("peft")
    encoder = copy.deepcopy(tiny_bert)
    config = peft.LoraConfig(r=4, target_modules=["query", "value"], **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transformers, about peft
        if how == "wrapped":
            wrap(encoder, peft.get_peft_model(encoder[0].auto_model, config))
        else:
            peft.inject_adapter_in_model(config, encoder[0].auto_model)
    return encoder


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of transformers, about peft
@pytest.mark.parametrize(
    ("how", "options"),
    [
        ("wrapped", {}),
        ("wrapped", {"modules_to_save": ["pooler"]}),
        ("injected", {}),
    ],
)
def test_adapters_are_merged(how, options, make_classifier, texts, tiny_bert):
    """A file without them restored another model."""
    encoder = adapted(tiny_bert, how, **options)
    clf = make_classifier(backbone=encoder, learning_rate=0.05).fit(*texts)
    clf.backbone = REMOVED
    assert b"peft" not in pickle.dumps(clf)
    assert_same(pickle.loads(pickle.dumps(clf)), clf, texts[0][:5])
    model = clf._fitted.network.encoder.sentence_transformer
    learned = dict(model.named_parameters())
    before = dict(tiny_bert.named_parameters())
    assert learned.keys() == before.keys()
    moved = {name for name in learned if not torch.equal(learned[name], before[name])}
    assert moved
    assert all(re.search(r"\.(query|value)\.|pooler", name) for name in moved)
    [e] = clf.explain(texts[0][:1], token_method="relevance")
    assert np.isfinite(e.token_scores).all()


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_disabled_adapters_are_not_merged(make_classifier, texts, tiny_bert):
    encoder = adapted(tiny_bert, "wrapped")
    for name, weights in encoder.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights)
    encoder[0].auto_model.base_model.disable_adapter_layers()
    settings = {"finetune": "head", "max_epochs": 1}
    clf = make_classifier(backbone=encoder, **settings).fit(*texts)
    plain = make_classifier(backbone=tiny_bert, **settings).fit(*texts)
    X = texts[0]
    np.testing.assert_allclose(clf.predict_proba(X), plain.predict_proba(X), atol=1e-6)


def prompted(tiny_bert: Any, tuning: str) -> Any:
    peft = pytest.importorskip("peft")
    config = getattr(peft, tuning)(num_virtual_tokens=3, task_type="FEATURE_EXTRACTION")
    encoder = copy.deepcopy(tiny_bert)
    wrap(encoder, peft.get_peft_model(encoder[0].auto_model, config))
    return encoder


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:Token type ids")
def test_prompt_tuning_is_refused(make_classifier, texts, tiny_bert):
    clf = make_classifier(backbone=prompted(tiny_bert, "PromptTuningConfig"))
    with pytest.raises(ValueError, match=r"vectors for .* tokens; .* prompt tuning"):
        clf.fit(*texts)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:Token type ids")
def test_prefixes_are_kept(make_classifier, texts, tiny_bert):
    encoder = prompted(tiny_bert, "PrefixTuningConfig")
    clf = make_classifier(backbone=encoder, max_epochs=1).fit(*texts)
    clf.backbone = REMOVED
    assert "Peft" in type(clf._fitted.network.encoder.transformer.auto_model).__name__
    again = pickle.loads(pickle.dumps(clf))
    assert_same_predictions(again, clf, texts[0])
