"""Measures of explanations equal plain loops and beat random baselines."""

from __future__ import annotations

import copy
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from sklearn.exceptions import NotFittedError
from torch.nn.modules.module import register_module_forward_hook
from transformers.models.bert.modeling_bert import BertEmbeddings

from skprotolm import ProtoLMClassifier
from skprotolm.exceptions import TextTruncatedWarning
from skprotolm.metrics import (
    comprehensiveness,
    evaluate_explanations,
    prototype_comprehensiveness,
    prototype_purity,
    prototype_sufficiency,
    simulatability,
    sufficiency,
)
from tests.texts import make_texts
from tests.tiny import make_encoder

pytestmark = pytest.mark.filterwarnings(
    "ignore::skprotolm.exceptions.UnreadTextWarning"
)

X, Y = make_texts()


@pytest.fixture(scope="module")
def clf(make_classifier) -> ProtoLMClassifier:
    return make_classifier(max_epochs=4, learning_rate=5e-3).fit(X, Y)


def probability(clf: ProtoLMClassifier, text: str, label: str) -> float:
    return clf.predict_proba([text])[0][clf.classes_.tolist().index(label)]


@pytest.mark.parametrize(("removal", "replacement"), [("delete", ""), ("mask", "…")])
@pytest.mark.parametrize(
    ("protocol", "fractions", "lowest"),
    [
        ("eraser", (0.01, 0.05, 0.1, 0.2, 0.5), -math.inf),
        ("ferret", np.arange(1, 11) / 10, 0.0),
    ],
)
def test_word_measures_equal_loops(
    clf, protocol, fractions, lowest, removal, replacement
):
    options = {"protocol": protocol, "removal": removal}
    without = comprehensiveness(clf, X[:6], **options)
    only = sufficiency(clf, X[:6], **options)
    for row, e in enumerate(clf.explain(X[:6])):
        order = np.argsort(-e.word_scores, kind="stable")
        n_candidates = (e.word_scores > lowest).sum()
        counts = [math.ceil(round(f * len(order), 9)) for f in fractions]
        drops: dict[str, list[float]] = {"without": [], "only": []}
        for count in counts:
            top = order[: min(count, n_candidates)]
            # The texts have single spaces, and keep those around removed words.
            texts = {
                "without": [
                    replacement if i in top else word for i, word in enumerate(e.words)
                ],
                "only": [
                    word if i in top else replacement for i, word in enumerate(e.words)
                ],
            }
            for name, words in texts.items():
                p = probability(clf, " ".join(words), e.prediction)
                drops[name].append(e.probability - p)
        assert without[row] == pytest.approx(np.mean(drops["without"]), abs=1e-6)
        assert only[row] == pytest.approx(np.mean(drops["only"]), abs=1e-6)


def test_word_scores_of_other_methods_are_ranked(clf):
    explanations = clf.explain(X, token_method="occlusion")
    scores = [e.word_scores for e in explanations]
    np.testing.assert_array_equal(
        comprehensiveness(clf, X, scores),
        comprehensiveness(clf, X, token_method="occlusion"),
    )
    opposite = [-s for s in scores]
    assert comprehensiveness(clf, X, scores).mean() > (
        comprehensiveness(clf, X, opposite).mean()
    )


def test_occlusion_is_better_than_random_rankings(clf):
    method = {"token_method": "occlusion"}
    baseline = comprehensiveness(clf, X, "random", random_state=0).mean()
    assert comprehensiveness(clf, X, **method).mean() > baseline
    baseline = sufficiency(clf, X, "random", random_state=0).mean()
    assert sufficiency(clf, X, **method).mean() < baseline


def test_random_rankings_depend_on_the_seed_alone(clf):
    first, same, other = (
        comprehensiveness(clf, X, "random", random_state=seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_pairs_and_empty_texts_are_measured(make_classifier):
    pairs = list(zip(X, X[::-1], strict=True))
    clf = make_classifier(max_epochs=1).fit(pairs, Y)
    assert np.isfinite(comprehensiveness(clf, [*pairs[:3], ("", "good")])).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "aopc"}, "protocol must be 'eraser' or 'ferret', got 'aopc'"),
        ({"removal": "drop"}, "removal must be 'delete' or 'mask'"),
        ({"word_scores": "shap"}, "word_scores must be 'random', got 'shap'"),
        ({"word_scores": [[1.0]]}, r"one array per text \(2\), got 1"),
        ({"word_scores": 1.0}, r"one array per text \(2\), got float"),
        ({"word_scores": [[1.0], [1.0]]}, r"Row 0 of word_scores must hold 6 numbers"),
    ],
)
def test_invalid_options_raise(clf, options, message):
    for measure in (comprehensiveness, sufficiency):
        with pytest.raises(ValueError, match=message):
            measure(clf, X[:2], **options)


@pytest.mark.parametrize("k", [1, 2, 50])
def test_prototype_measures_equal_removals(clf, k):
    """If k was larger than the class, sufficiency was a perfect 0."""
    without = prototype_comprehensiveness(clf, X[:6], k=k)
    only = prototype_sufficiency(clf, X[:6], k=k)
    for row, e in enumerate(clf.explain(X[:6])):
        order = [p.index for p in e.prototypes if p.label == e.prediction]
        n_top = min(k, len(order) - 1)
        for removed, drops in ((order[:n_top], without), (order[n_top:], only)):
            edited = copy.deepcopy(clf).remove_prototypes(removed)
            p = probability(edited, X[row], e.prediction)
            assert drops[row] == pytest.approx(e.probability - p, abs=1e-6)
    assert clf.edits_ == []


def test_top_prototypes_have_more_effect_than_random_ones(clf):
    random = {"ranking": "random", "random_state": 0}
    drop = prototype_comprehensiveness(clf, X, k=1).mean()
    assert drop > prototype_comprehensiveness(clf, X, k=1, **random).mean()
    drop = prototype_sufficiency(clf, X, k=1).mean()
    assert drop < prototype_sufficiency(clf, X, k=1, **random).mean()


def test_a_student_predicts_decisions_from_prototypes(clf):
    student = simulatability(clf, X, k=1, random_state=0)
    assert student.from_text.shape == student.from_prototypes.shape == (len(X),)
    # The top prototype is nearly always one of the predicted class.
    assert student.from_prototypes.mean() > 0.8
    expected = student.from_prototypes.mean() - student.from_text.mean()
    assert student.gain == pytest.approx(expected)


def test_one_frame_has_all_measures(clf):
    frame = evaluate_explanations(clf, X[:20], n_resamples=50)
    again = evaluate_explanations(clf, X[:20], n_resamples=50)
    assert frame.equals(again)
    # Each of the two word measures has four rows.
    assert len(frame) == frame["measure"].nunique() + 6
    is_one_number = frame["measure"] == "prototype_uniqueness"
    assert frame.loc[is_one_number, ["low", "high"]].isna().all(axis=None)
    others = frame[~is_one_number]
    assert (others["low"] <= others["value"]).all()
    assert (others["value"] <= others["high"]).all()
    assert others.drop(columns="baseline").notna().all(axis=None)
    has_no_baseline = frame["baseline"].isna()
    assert frame.loc[has_no_baseline, "measure"].tolist() == [
        "explanation_compactness",
        "prototype_uniqueness",
        "prototype_diversity",
        "prototype_purity",
    ]
    is_lower_better = frame["better"] == "lower"
    assert set(frame.loc[is_lower_better, "measure"]) == {
        "sufficiency",
        "prototype_sufficiency",
        "explanation_compactness",
    }


def test_purity_is_measured_with_the_labels(clf):
    X_new, y_new = make_texts(20, seed=9)
    frame = evaluate_explanations(clf, X_new, y_new, n_resamples=9)
    purity = frame.set_index("measure").loc["prototype_purity", "value"]
    assert purity == pytest.approx(prototype_purity(clf, X_new, y_new).mean())
    with pytest.raises(ValueError, match="y"):
        evaluate_explanations(clf, X_new, y_new[:-1])


def test_prototype_measures_encode_texts_once(clf):
    """The encoder ran once per text, although edits do not change text vectors."""
    n_passes = 0

    def count(module: torch.nn.Module, args: tuple, output: object) -> None:
        nonlocal n_passes
        n_passes += isinstance(module, BertEmbeddings)

    hook = register_module_forward_hook(count)
    try:
        clf.explain(X, token_method="decomposition")
        n_passes_of_explain = n_passes
        prototype_comprehensiveness(clf, X)
    finally:
        hook.remove()
    assert n_passes_of_explain > 0
    # The measure explains the texts and computes their vectors.
    assert n_passes == 3 * n_passes_of_explain


@pytest.fixture(scope="module")
def albert(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of an ALBERT, an architecture without token relevance."""
    folder = tmp_path_factory.mktemp("albert")
    shutil.copytree(tiny_folder, folder, dirs_exist_ok=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    config = transformers.AlbertConfig(
        vocab_size=len(tokenizer),
        embedding_size=8,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=66,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.AlbertModel(config).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    "measure", [comprehensiveness, sufficiency, evaluate_explanations]
)
def test_words_without_scores_raise(make_classifier, albert, measure):
    """The error was about an argument that was not passed, or a TypeError."""
    clf = make_classifier(backbone=albert, formulation="proto-lm", max_epochs=1)
    clf.fit(X, Y)
    with pytest.raises(ValueError, match="use token_method='occlusion'"):
        measure(clf, X[:3])
    assert np.isfinite(comprehensiveness(clf, X[:3], token_method="occlusion")).all()


def long_texts() -> list[str]:
    """Return texts that differ only in words beyond the encoder's maximum length."""
    read = "good food bad film " * 14 + "food film "  # 58 words, and two special tokens
    return [read + "bad " * 90, read + "good " * 90, read]


@pytest.mark.parametrize("removal", ["delete", "mask"])
@pytest.mark.parametrize("measure", [comprehensiveness, sufficiency])
def test_truncated_text_has_no_effect(make_classifier, measure, removal):
    """The encoder read it in place of the removed words."""
    clf = make_classifier(max_length=60).fit(X, Y)
    with pytest.warns(TextTruncatedWarning, match="2 of 3"):  # the only warning
        values = measure(clf, long_texts(), removal=removal)
    np.testing.assert_allclose(values, values[2], atol=1e-6)


def test_truncated_text_has_no_effect_on_occlusion(make_classifier):
    clf = make_classifier(max_length=60).fit(X, Y)
    with pytest.warns(TextTruncatedWarning):
        scores = [
            e.word_scores for e in clf.explain(long_texts(), token_method="occlusion")
        ]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)


def test_reading_gain_is_nan_without_the_backbone(make_classifier, tmp_path):
    """All other measures were lost."""
    make_encoder("bert", tmp_path / "encoder")
    clf = make_classifier(backbone=str(tmp_path / "encoder"), max_epochs=4).fit(X, Y)
    shutil.rmtree(tmp_path / "encoder")
    with pytest.warns(UserWarning, match="reading gain is NaN"):
        frame = evaluate_explanations(clf, X[:20], n_resamples=9)
    values = frame.set_index("measure")["value"]
    assert np.isnan(values["reading_gain"])
    assert np.isfinite(values["prototype_comprehensiveness"])


def test_redacted_prototypes_do_not_help_the_student(make_classifier):
    """The error was about an empty vocabulary."""
    clf = make_classifier(max_epochs=4).fit(X, Y)
    clf.redact_prototypes({j: "" for j in range(len(clf.prototypes_))})
    student = simulatability(clf, X, random_state=0)
    assert student.from_prototypes.mean() < student.from_text.mean()


@pytest.mark.parametrize("value", [np.nan, np.inf, "high"])
def test_word_scores_must_be_finite(fitted, value):
    """NaN scores were ranked without an error."""
    scores = [
        np.array([value, *[0.0] * (len(e.words) - 1)], dtype=object)
        for e in fitted.explain(X[:2])
    ]
    with pytest.raises(ValueError, match="Row 0 of word_scores must hold finite"):
        comprehensiveness(fitted, X[:2], scores)


@pytest.mark.parametrize(
    "measure", [evaluate_explanations, prototype_purity, simulatability, sufficiency]
)
def test_measures_need_a_fitted_classifier(make_classifier, measure):
    with pytest.raises(NotFittedError):
        measure(make_classifier(), X)


@pytest.mark.parametrize("n_resamples", [0, -1, 2.5])
def test_an_invalid_number_of_resamples_raises(fitted, n_resamples):
    with pytest.raises(ValueError, match="n_resamples must be a positive int"):
        evaluate_explanations(fitted, X, n_resamples=n_resamples)


@pytest.mark.parametrize("k", [0, -1, 1.5, True, None])
@pytest.mark.parametrize(
    "measure", [prototype_comprehensiveness, prototype_sufficiency]
)
def test_an_invalid_number_of_prototypes_raises(fitted, measure, k):
    with pytest.raises(ValueError, match="k must be a positive int"):
        measure(fitted, ["good food"], k=k)


def test_simulatability_is_nan_with_too_few_texts(fitted):
    """All other measures were lost."""
    texts = ["good food", "bad food"] * 2
    with pytest.warns(UserWarning, match="5 texts or more of each predicted class"):
        frame = evaluate_explanations(fitted, texts, n_resamples=9)
    values = frame.set_index("measure")["value"]
    assert np.isnan(values["simulatability"])
    assert values["prototype_comprehensiveness"] >= 0


def test_simulatability_needs_texts_of_each_predicted_class(fitted):
    """The error was that of the folds, and did not name the classes."""
    with pytest.raises(ValueError, match=r"3 texts or more of each .* X are \{'.*': 4"):
        simulatability(fitted, ["good food"] * 4, n_splits=3)


def test_one_prototype_per_class_has_undefined_measures(make_classifier):
    """Differences due to rounding were returned, with an interval."""
    clf = make_classifier(n_prototypes=1).fit(X, Y)
    for measure in (prototype_comprehensiveness, prototype_sufficiency):
        assert np.isnan(measure(clf, X[:3])).all()
    frame = evaluate_explanations(clf, X[:20], n_resamples=9).set_index("measure")
    undefined = frame.index[frame["value"].isna()].tolist()
    assert undefined == [
        "prototype_comprehensiveness",
        "prototype_sufficiency",
        "reading_gain",
        "prototype_diversity",
    ]
    assert frame.loc[undefined, ["low", "high"]].isna().all(axis=None)


@pytest.mark.parametrize("removal", ["delete", "mask"])
def test_an_empty_text_has_no_words_to_remove(fitted, removal):
    """Special tokens were replaced by masks."""
    [drop] = comprehensiveness(fitted, [""], removal=removal)
    assert drop == pytest.approx(0, abs=1e-12)


def test_all_measures_use_the_same_explanations(fitted, monkeypatch):
    """The texts were explained about twenty times, once per measure."""
    calls = []
    explain = ProtoLMClassifier.explain

    def count(self, *args, **kwargs):
        calls.append(kwargs)
        return explain(self, *args, **kwargs)

    monkeypatch.setattr(ProtoLMClassifier, "explain", count)
    X, _ = make_texts(36, seed=3)
    evaluate_explanations(fitted, X, token_method="occlusion", n_resamples=9)
    assert calls == [{"token_method": "occlusion"}]
