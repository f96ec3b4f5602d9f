"""Benchmarks use public names only, and each of their models runs."""

from __future__ import annotations

import ast
import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from skprotolm.exceptions import TextTruncatedWarning

FOLDER = Path(__file__).parents[1] / "examples" / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.fixture
def task(load, texts) -> Any:
    X, y = texts
    return load("tasks").Task(X, y, X, y)


@pytest.fixture
def tiny(tiny_folder) -> dict[str, Any]:
    return {"backbone": str(tiny_folder), "max_epochs": 1, "batch_size": 8}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda p: p.name)
def test_benchmarks_use_public_names_only(path):
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = [
        name
        for node in nodes
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in [getattr(node, "module", ""), *(a.name for a in node.names)]
    ]
    names += [
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute)
        and ast.unparse(node.value) != "self"
        and node.attr != "_replace"  # of named tuples
        and not node.attr.startswith("__")
    ]
    assert [name for name in names if "._" in f".{name}" and "__" not in name] == []
    assert "skprotolm._" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("n", "batch_size"), [(24, 24), (48, 8)])
def test_rules_of_auto_are_those_of_the_classifier(
    load, make_classifier, texts, n, batch_size
):
    auto = dict.fromkeys(("max_epochs", "learning_rate", "label_smoothing"), "auto")
    clf = make_classifier(**auto, batch_size=batch_size)
    resolved = load("linear_head").resolve(clf, n, hidden_size=16)
    X, y = texts[0][:n], texts[1][:n]
    clf.fit(X, y)
    assert resolved.max_epochs == clf.n_iter_
    assert resolved.learning_rate == clf.learning_rate_
    explicit = make_classifier(**resolved._asdict(), batch_size=batch_size).fit(X, y)
    np.testing.assert_array_equal(explicit.predict_proba(X), clf.predict_proba(X))


def test_explicit_values_take_precedence_over_the_rules(load, make_classifier):
    clf = make_classifier(max_epochs=7, learning_rate=0.5, label_smoothing=0.25)
    assert load("linear_head").resolve(clf, 1000, hidden_size=768) == (7, 0.5, 0.25)


def test_a_linear_head_learns_and_can_be_repeated(load, make_classifier, texts):
    X, y = texts
    clf = make_classifier(max_epochs=15, learning_rate=1e-2, head_learning_rate=0.1)
    LinearHead = load("linear_head").LinearHeadClassifier
    linear = LinearHead(clf).fit(X, y)
    assert np.mean(linear.predict(X) == y) > 0.9
    again = LinearHead(clf).fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(X), linear.predict_proba(X))


def test_class_weights_change_a_linear_head(load, make_classifier, texts):
    X, y = texts
    LinearHead = load("linear_head").LinearHeadClassifier
    equal, weighted = (
        LinearHead(make_classifier(class_weight=weight)).fit(X, y).predict_proba(X)
        for weight in (None, {"neg": 1.0, "pos": 20.0})
    )
    assert (weighted[:, 1] > equal[:, 1]).all()


def test_a_linear_head_takes_pairs(load, make_classifier, texts):
    X, y = texts
    pairs = list(zip(X, X[::-1], strict=True))
    linear = load("linear_head").LinearHeadClassifier(make_classifier())
    p = linear.fit(pairs, y).predict_proba(pairs)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert not np.array_equal(p, linear.predict_proba(X))


def test_a_linear_head_learns_several_labels(load, make_classifier, texts):
    X, y = texts
    Y = np.stack([y == "pos", ["food" in text for text in X]], axis=1)
    clf = make_classifier(max_epochs=15, learning_rate=1e-2, head_learning_rate=0.1)
    p = load("linear_head").LinearHeadMultilabel(clf).fit(X, Y).predict_proba(X)
    assert ((p >= 0.5) == Y).mean() > 0.9


def test_attributes_are_words_that_several_intents_have(load):
    intents = ["card_lost", "new_card", "Card_or_cash", "cash_or_card", "fee_or_cash"]
    known = load("tasks_labels").attributes(intents)
    assert known == {
        "card_lost": ["card"],
        "new_card": ["card"],
        "Card_or_cash": ["card", "cash"],
        "cash_or_card": ["card", "cash"],
        "fee_or_cash": ["cash"],
    }


def test_labels_are_evaluated_at_a_threshold_of_a_half(load):
    y, p = np.array([[1, 0], [0, 1]]), np.array([[0.9, 0.6], [0.1, 0.3]])
    scores = load("tasks_labels").evaluate(y, p)
    assert scores["micro_f1"] == pytest.approx(100 * 2 / 4)
    assert scores["macro_f1"] == pytest.approx(100 * (1 + 0) / 2)
    assert scores["ece"] == pytest.approx((0.1 + 0.6 + 0.1 + 0.7) / 4)


@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.FewerPrototypesWarning")
def test_every_variant_of_the_ablation_differs_from_the_default(load, task, tiny):
    ablation = load("ablation")
    p = {
        title: variant.fit(task, 0, **tiny).predict_proba(task.X_test)
        for title, variant in ablation.VARIANTS.items()
    }
    default = p.pop(ablation.DEFAULT)
    assert all(np.isfinite(values).all() for values in p.values())
    assert not any(np.array_equal(values, default) for values in p.values())


@pytest.mark.parametrize(
    ("name", "column", "models"),
    [
        ("ablation", "variant", ["VARIANTS"]),
        ("published", "variant", ["VARIANTS"]),
        ("accuracy", "model", ["TITLES"]),
        ("few_texts", "model", ["MODELS"]),
        ("robustness", "model", ["RANKERS"]),
    ],
)
def test_saved_results_are_those_of_present_models(load, name, column, models):
    module = load(name)
    known = {model for group in models for model in getattr(module, group)}
    rows = module.RESULTS.rows()
    assert rows
    assert {row[column] for row in rows} <= known


def test_the_sign_of_the_published_code_changes_a_fit(load, task, tiny):
    Variant = load("published").Variant
    signs = []
    for code_sign in (False, True):
        variant = Variant(code_sign=code_sign, warm=True)
        clf = variant.make("sst2", tiny["backbone"], 0).set_params(max_epochs=1)
        signs.append(clf.fit(task.X_train, task.y_train).predict_proba(task.X_test))
    assert not np.array_equal(*signs)


@pytest.mark.parametrize(
    "model", ["linear", "mixture", "learned", "proto-lm", "frozen", "tfidf", "prior"]
)
def test_every_model_of_the_accuracy_benchmark_fits(load, task, tiny, model):
    accuracy = load("accuracy")
    assert model in accuracy.TITLES
    fitted = accuracy.make(model, task, 0, **tiny)
    fitted.fit(task.X_train, task.y_train)
    measures = load("measuring").evaluate(fitted, task)
    assert set(measures) == set(load("measuring").EVALUATED)
    assert 0 <= measures["accuracy"] <= 100


def test_the_conformal_threshold_is_that_of_the_classifier(load, fitted, texts):
    scores = fitted.novelty_score(texts[0])
    for rate in (0.05, 0.2, 0.5):
        expected = fitted.novelty_threshold(texts[0], rate=rate)
        assert load("abstention").threshold(scores, rate) == expected


def test_masked_log_odds_give_the_scores_of_occlusion(load, fitted, texts):
    explanations = load("explanations")
    for e in fitted.explain(texts[0][:3], token_method="occlusion"):
        W = len(e.words)
        masks = np.vstack([np.ones(W), 1 - np.eye(W)])
        full, *without = explanations.masked_log_odds(fitted, e, masks)
        np.testing.assert_allclose(full - without, e.word_scores, atol=1e-6)


@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.TextTruncatedWarning")
def test_masked_texts_end_where_reading_ends(load, make_classifier, texts):
    clf = make_classifier(max_length=6).fit(*texts)
    e = clf.explain(["good bad good dull film card"])[0]
    kept = np.arange(len(e.words)) != 1
    assert len(e.words) < 6
    assert load("explanations").masked_text(e, kept).split() == [
        word for i, word in enumerate(e.words) if i != 1
    ]


def test_word_scores_are_sums_over_the_tokens_of_words(load, fitted):
    e = fitted.explain(["the unbelievably good film was wonderfully warm"])[0]
    assert len(e.tokens) > len(e.words)
    sums = np.bincount(load("explanations").word_ids(e), e.token_scores)
    np.testing.assert_allclose(sums, e.word_scores)


def test_wrong_labels_are_doubtful(load, make_classifier, texts):
    robustness = load("robustness")
    X, y = texts
    labels, wrong = robustness.flipped(y, 0.1, 0)
    clf = make_classifier(max_epochs=6, learning_rate=1e-2).fit(X, y)
    codes = np.searchsorted(clf.classes_, labels)
    doubt = robustness.label_doubt(clf, X, codes)
    assert robustness.precision(doubt, wrong) == 100


def test_speed_compares_epochs_and_fits_with_the_bare_loop(
    load, make_classifier, texts, capsys
):
    load("speed").measure_training(make_classifier(), *texts, repeats=2)
    steps, fit = capsys.readouterr().out.splitlines()
    assert steps.startswith("| training steps |")
    assert fit.startswith("| whole fit of 2 epochs |")
    for row in (steps, fit):
        assert all(float(x) > 0 for x in row.split("|")[4].split(","))


def test_models_of_long_texts_run(load, monkeypatch, tiny_folder):
    long_texts = load("tasks_long_texts")
    X = [f"the food was {word} today. " * 9 for word in ("good", "bad") * 6]
    y = np.array(["pos", "neg"] * 6)
    task = load("tasks").Task(X, y, X, y)
    original = long_texts.ProtoLMClassifier
    monkeypatch.setattr(
        long_texts,
        "ProtoLMClassifier",
        lambda **options: original(str(tiny_folder), max_epochs=1, **options),
    )
    for model in long_texts.TITLES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TextTruncatedWarning)
            row = long_texts.run_one(task, model, 0, 16)
        assert 0 <= row["accuracy"] <= 100
    assert row["gap"] < 1e-5


@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.UnpredictedClassWarning")
def test_models_of_tags_run(load, monkeypatch, tmp_path, tiny_folder):
    tags = load("tasks_tags")
    names = ["good", "kind", "bad", "food"]
    text = "\n".join(
        f"{name}\tB-x\nfilm\tI-x\nwas\tO\ntoday\tO\n\t\n" for name in names * 3
    )
    for part in ("train", "test"):
        (tmp_path / f"wnut17.{part}.conll").write_text(text, encoding="utf-8")
    task = tags.load(tmp_path, "test")
    assert task.X_train[1] == ["kind", "film", "was", "today"]
    assert task.y_test[0] == ["B-x", "I-x", "O", "O"]
    original = tags.ProtoLMTokenClassifier
    monkeypatch.setattr(
        tags,
        "ProtoLMTokenClassifier",
        lambda **options: original(
            str(tiny_folder), max_epochs=30, learning_rate=1e-2, **options
        ),
    )
    for model in tags.TITLES:
        row = tags.run_one(task, model, 0)
        assert row["f1"] > 0.9
    assert tags.run_one(task, "mixture", 0)["gap"] < 1e-4


def test_entities_of_the_benchmark_are_those_of_conll(load):
    tags = load("tasks_tags")
    y = ["I-a", "I-a", "I-b", "B-b", "I-b", "O", "B-a"]
    expected = [(0, 2, "a"), (2, 3, "b"), (3, 5, "b"), (6, 7, "a")]
    assert tags.entities(y) == expected
    assert tags.entity_f1([y], [["O"] * 7]) == 0
    assert tags.entity_f1([y], [y]) == 1


@pytest.mark.parametrize("finetune", ["full", "lora", 1, "head"])
@pytest.mark.usefixtures("callbacks")
def test_memory_is_measured(load, tiny, texts, finetune):
    worker = load("memory_worker")
    options = {
        **tiny,
        "finetune": finetune,
        "gradient_accumulation_steps": 2,
        "gradient_checkpointing": True,
    }
    fit = worker.measure_fit(*texts, options)
    assert fit["fit"] >= fit["steps"] > 0
    if finetune != "head":
        bare = worker.BareLoop(*texts, options).run()
        assert bare["seconds"] > 0


def test_backends_are_compared_by_first_quoted_text_and_time(load, fitted, texts):
    backends, X = load("backends"), texts[0][:4]
    first = [e.prototypes[0].index for e in fitted.explain(X)]
    assert backends.first_quoted(fitted, X).tolist() == first
    seconds = backends.cpu_seconds({"torch": fitted}, X, repeats=2)
    assert len(seconds["torch"]) == 2
