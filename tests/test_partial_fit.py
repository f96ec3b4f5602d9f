"""partial_fit: new texts and classes under the encoder of the fit."""

from __future__ import annotations

import copy
import importlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from skprotolm import ProtoLMClassifier, ProtoLMRegressor
from skprotolm._records.memory import Memory
from tests.helpers import assert_same_predictions
from tests.test_no_side_effects import process_state

THINGS = ["card", "film", "food", "plot", "service", "waiter"]
LOST = [f"i lost my {thing} and want a new one {i}" for i, thing in enumerate(THINGS)]


def log_odds(clf: ProtoLMClassifier, X: Any, first: Any, second: Any) -> np.ndarray:
    columns = [clf.classes_.tolist().index(label) for label in (first, second)]
    log_p = np.log(clf.predict_proba(X)[:, columns])
    return log_p[:, 0] - log_p[:, 1]


def biases(clf: ProtoLMClassifier) -> dict[Any, float]:
    bias = clf._fitted.network.layer.readout.bias
    return dict(zip(clf.classes_.tolist(), bias.tolist(), strict=True))


@pytest.fixture
def clf(fitted) -> ProtoLMClassifier:
    """A copy of a fitted classifier, which shares its encoder."""
    return copy.copy(fitted)


@pytest.fixture(scope="module")
def extended(fitted) -> ProtoLMClassifier:
    """A classifier with a third class, which sorts before the others."""
    return copy.copy(fitted).partial_fit(LOST, ["lost"] * 6)


# --- The first call.


def test_the_first_call_is_a_fit(make_classifier, texts, fitted):
    first = make_classifier().partial_fit(*texts, classes=["neg", "other", "pos"])
    assert_same_predictions(first, fitted, texts[0])
    assert first.classes_.tolist() == ["neg", "pos"]  # that have texts


def test_the_first_call_needs_two_classes(make_classifier):
    with pytest.raises(ValueError, match="at least two classes"):
        make_classifier().partial_fit(LOST, ["lost"] * 6)


# --- New classes.


def test_a_new_class_is_predicted_beside_the_others(extended, texts):
    assert extended.classes_.tolist() == ["lost", "neg", "pos"]
    probabilities = extended.predict_proba([*texts[0], *LOST])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (probabilities > 0).all()
    lost = probabilities[:, 0]
    assert np.median(lost[:-6]) < lost[-6:].min()


def test_the_odds_of_other_classes_do_not_change(fitted, extended, texts):
    X = [*texts[0], *LOST]
    before, after = (log_odds(c, X, "neg", "pos") for c in (fitted, extended))
    np.testing.assert_allclose(after, before, atol=1e-9)
    assert biases(extended)["neg"] == biases(fitted)["neg"]


def test_new_prototypes_come_after_the_others(fitted, extended):
    old, new = fitted.prototypes_, extended.prototypes_
    assert new.texts[:6] == old.texts
    assert len(set(new.texts[6:]) & set(LOST)) == 3
    assert new.names[:6] == old.names
    assert len(set(new.names)) == 9
    assert new.labels.tolist() == [*old.labels.tolist(), *["lost"] * 3]
    np.testing.assert_array_equal(new.vectors[:6], old.vectors)
    np.testing.assert_allclose(np.diag(extended.transform(list(new.texts))), 1)


def test_priors_of_every_class_sum_to_1(clf, texts):
    X, y = texts
    unquoted = [i for i, text in enumerate(X) if text not in clf.prototypes_.texts]
    clf.partial_fit([X[i] for i in unquoted[:4]] + LOST, [*y[unquoted[:4]], *["a"] * 6])
    prototypes = clf.prototypes_
    for label in ("a", "neg", "pos"):
        priors = prototypes.priors[prototypes.labels == label]
        np.testing.assert_allclose(priors, 1 / len(priors), rtol=1e-6)


def test_explanations_stay_exact(extended):
    for e in extended.explain(LOST[:2], target="lost", token_method="decomposition"):
        probability = e.probabilities["lost"]
        assert e.contributions[e.prototype_labels == "lost"].sum() == pytest.approx(
            probability, abs=1e-12
        )
        assert e.base_value + e.token_scores.sum() == pytest.approx(e.log_odds)


def test_the_encoder_is_shared_and_not_trained(fitted, texts):
    before = fitted.predict_proba(texts[0])
    other = copy.deepcopy(fitted).partial_fit(LOST, ["lost"] * 6)
    assert other._fitted.network.encoder is fitted._fitted.network.encoder
    np.testing.assert_array_equal(fitted.predict_proba(texts[0]), before)
    assert other.n_iter_ == fitted.n_iter_


def test_a_single_text_is_a_class(clf):
    """Without another text of its class, its bias is the mean of the others."""
    clf.partial_fit(LOST[:1], ["lost"])
    old = biases(clf)
    assert old["lost"] == pytest.approx((old["neg"] + old["pos"]) / 2)
    assert clf.prototypes_[6].text == LOST[0]


def test_the_number_of_texts_of_a_new_class_does_not_count(make_classifier, texts):
    """A class of few texts would hardly ever be predicted."""
    clf = make_classifier(n_prototypes=1).fit(*texts)
    few, many = copy.copy(clf), copy.copy(clf)
    few.partial_fit(LOST[:2], ["lost"] * 2)
    many.partial_fit([f"{text} {i}" for i in range(9) for text in LOST], ["lost"] * 54)
    a, b = (model.predict_proba(texts[0])[:, 0].mean() for model in (few, many))
    assert 0.5 < a / b < 2


# --- More texts of known classes.


def test_texts_of_a_known_class_move_its_bias_alone(extended):
    more = copy.copy(extended).partial_fit(
        ["i lost a day", "lost and cold"], ["lost"] * 2
    )
    before, after = biases(extended), biases(more)
    assert after["lost"] != before["lost"]
    assert (after["neg"], after["pos"]) == (before["neg"], before["pos"])
    assert len(more.prototypes_) == 11


def test_known_texts_are_ignored(extended, texts):
    again = copy.copy(extended)
    again.partial_fit(list(extended.prototypes_.texts), extended.prototypes_.labels)
    assert_same_predictions(again, extended, texts[0])
    assert again.prototypes_.texts == extended.prototypes_.texts


def test_usage_counts_new_texts_and_purity_is_unknown(fitted, extended):
    usages = extended.prototypes_.usages
    assert (usages[:6] >= fitted.prototypes_.usages).all()
    # All new texts but the three that are prototypes themselves.
    assert usages.sum() == fitted.prototypes_.usages.sum() + 3
    assert np.isnan(extended.prototypes_.purities[6:]).all()


def test_rows_are_numbered_across_calls(clf):
    clf.partial_fit(["", *LOST], ["neg", *["lost"] * 6], sample_weight=[0] + [1] * 6)
    clf.partial_fit(["i want a warm day", "a day"], ["want", "want"])
    rows = clf.prototypes_.train_indices[6:].tolist()
    X = [None] * 48 + ["", *LOST] + ["i want a warm day", "a day"]
    assert [X[row] for row in rows] == list(clf.prototypes_.texts[6:])


# --- How many texts are quoted.


@pytest.mark.parametrize(
    ("n_prototypes", "n_new"),
    [(2, 2), (7, 6), ({"neg": 1, "pos": 1, "lost": 4}, 4)],
)
def test_n_prototypes_limits_the_new_ones(clf, n_prototypes, n_new):
    clf = clf.__copy__().set_params(n_prototypes=n_prototypes)
    clf.partial_fit(LOST, ["lost"] * 6)
    assert len(clf.prototypes_) == 6 + n_new


def test_a_dict_of_n_prototypes_must_name_the_new_class(clf):
    clf.set_params(n_prototypes={"neg": 1, "pos": 1})
    with pytest.raises(ValueError, match=r"missing: \['lost'\]"):
        clf.partial_fit(LOST, ["lost"] * 6)


# --- Weights.


def test_equal_weights_are_no_weights(clf, extended, texts):
    clf.partial_fit(LOST, ["lost"] * 6, sample_weight=[3.0] * 6)
    assert_same_predictions(clf, extended, texts[0])


def test_class_weight_multiplies_the_weight_of_a_new_class(fitted, texts):
    weights: dict[str, Any] = {
        "less": {"neg": 1, "pos": 1, "a": 1, "b": 4},
        "more": {"neg": 1, "pos": 1, "a": 4, "b": 1},
        "balanced": "balanced",
    }
    means = {}
    for name, weight in weights.items():
        clf = copy.copy(fitted).set_params(class_weight=weight)
        clf.partial_fit(LOST, ["a", "b"] * 3)
        means[name] = clf.predict_proba(texts[0])[:, 0].mean()
    assert means["less"] < means["balanced"] < means["more"]


# --- Labels.


@pytest.mark.parametrize(
    ("old", "new", "classes"),
    [
        ([1, 2], [0, 0], [0, 1, 2]),
        ([1, 2], [3.0, 2.0], [1, 2, 3]),
        ([1.0, 2.0], [3, 3], [1.0, 2.0, 3.0]),
        (np.array(["b", "c"], dtype=object), ["a", "b"], ["a", "b", "c"]),
        (["b", "c"], ["longer", "b"], ["b", "c", "longer"]),
        ([False, True], [True, True], [False, True]),
    ],
    ids=str,
)
def test_labels_of_every_type_are_added(make_classifier, texts, old, new, classes):
    X, names = texts
    y = np.asarray(old)[(names == "pos").astype(int)]
    clf = make_classifier(max_epochs=1).fit(X, y)
    dtype = clf.classes_.dtype
    clf.partial_fit(LOST[:2], new)
    assert clf.classes_.tolist() == classes
    assert clf.classes_.dtype.kind == dtype.kind
    assert sorted(clf.prototypes_.labels[6:].tolist()) == sorted(new)


@pytest.mark.parametrize(("old", "new"), [(["a", "b"], 3), ([0, 1], "a")])
def test_labels_of_another_type_are_refused(make_classifier, texts, old, new):
    X, names = texts
    clf = make_classifier(max_epochs=1)
    clf.fit(X, np.asarray(old)[(names == "pos").astype(int)])
    with pytest.raises(TypeError, match="labels of the type of classes_"):
        clf.partial_fit(LOST[:2], [new, new])


def test_classes_must_list_every_label(make_classifier, texts, clf):
    with pytest.raises(ValueError, match=r"missing: \['pos'\]"):
        make_classifier().partial_fit(*texts, classes=["neg"])
    for classes, missing in ((["neg", "pos"], "lost"), (["lost", "neg"], "pos")):
        with pytest.raises(
            ValueError, match=f"missing: {[missing]}".replace("[", r"\[")
        ):
            clf.partial_fit(LOST, ["lost"] * 6, classes=classes)
    with pytest.raises(ValueError, match="classes must be a list"):
        clf.partial_fit(LOST, ["lost"] * 6, classes="lost")
    clf.partial_fit(LOST, ["lost"] * 6, classes=np.array(["lost", "neg", "pos", "z"]))


def test_classes_that_are_no_labels_are_refused(clf):
    """A dict among them was reported as "unhashable type" alone."""
    with pytest.raises(ValueError, match=r"classes must list .* missing: \['pos'\]"):
        clf.partial_fit(LOST, ["lost"] * 6, classes=[{"pos": 1}, "neg", "lost"])


# --- What is refused.


def test_swapped_arguments_are_refused(clf):
    with pytest.raises(ValueError, match="swapped"):
        clf.partial_fit(["lost"] * 6, LOST)


def test_other_columns_are_refused(clf):
    with pytest.raises(ValueError, match="fitted on single texts"):
        clf.partial_fit(pd.DataFrame({"a": LOST, "b": LOST}), ["lost"] * 6)


@pytest.mark.parametrize("change", [{"formulation": "proto-lm"}, {"projection": False}])
def test_only_texts_of_the_mixture_are_added_to(make_classifier, texts, change):
    clf = make_classifier(max_epochs=1, **change).fit(*texts)
    before = dict(vars(clf))
    with pytest.raises(ValueError, match="prototypes that are texts"):
        clf.partial_fit(LOST, ["lost"] * 6)
    assert vars(clf) == before


def test_a_text_of_another_class_is_no_prototype(clf):
    quoted = clf.prototypes_[0].text
    clf.partial_fit([quoted, *LOST], ["lost"] * 7)
    assert clf.prototypes_.texts.count(quoted) == 1
    clf = copy.copy(clf)
    with pytest.raises(
        ValueError, match=r"row 0 of X, .*, reads like prototype 0, which"
    ):
        clf.partial_fit([quoted], ["other"])
    with pytest.raises(ValueError, match=r"reads like row 1, which is 'b'; give"):
        clf.partial_fit(["one text", "one text"], ["a", "b"])
    # As the message says.
    clf.remove_prototypes([0]).partial_fit([quoted], ["other"])
    assert clf.prototypes_[-1].text == quoted


def test_a_failure_changes_nothing(clf, texts, monkeypatch):
    before, expected = dict(vars(clf)), clf.predict_proba(texts[0])

    def fail(*arguments: Any, **keywords: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.optim.LBFGS, "step", fail)
    with pytest.raises(KeyboardInterrupt):
        clf.partial_fit(LOST, ["lost"] * 6)
    assert vars(clf) == before
    np.testing.assert_array_equal(clf.predict_proba(texts[0]), expected)


def test_the_process_is_not_changed(clf):
    before = process_state()
    with torch.inference_mode():
        clf.partial_fit(LOST, ["lost"] * 6)
    assert process_state() == before


def test_the_settings_of_the_caller_have_no_effect(clf, extended, texts):
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        clf.partial_fit(LOST, ["lost"] * 6)
    assert_same_predictions(clf, extended, texts[0])
    clf.partial_fit(["a warm day"], ["pos"])


# --- Edits.


def test_edits_stay_and_cannot_be_undone(clf):
    removed = clf.prototypes_[1].text
    clf.remove_prototypes([1]).relabel_prototypes({0: "pos"})
    clf.partial_fit(LOST, ["lost"] * 6)
    assert removed not in clf.prototypes_.texts
    assert removed.encode() not in pickle.dumps(clf)
    assert clf.prototypes_[0].label == "pos"
    assert [edit["action"] for edit in clf.edits_] == ["remove", "relabel"]
    with pytest.raises(ValueError, match="no edit to undo"):
        clf.undo_edit()


def test_later_edits_can_be_undone(clf, extended, texts):
    clf.partial_fit(LOST, ["lost"] * 6)
    clf.add_prototypes(["lost"], ["lost"]).remove_prototypes([6, 7])
    clf.undo_edit().undo_edit()
    assert_same_predictions(clf, extended, texts[0])
    clf.prune_prototypes()
    assert clf.classes_.tolist() == ["lost", "neg", "pos"]


def test_a_removed_prior_is_not_given_back(clf):
    clf.remove_prototypes([0])
    total = clf.prototypes_.priors[:2].sum()
    clf.partial_fit(["a cold and dull day"], ["neg"])
    prototypes = clf.prototypes_
    assert prototypes.priors[prototypes.labels == "neg"].sum() == pytest.approx(total)


def test_a_redacted_prototype_stays_redacted(clf):
    text = clf.prototypes_[0].text
    clf.redact_prototypes({0: "hidden"}).set_params(n_prototypes="auto")
    clf.partial_fit(LOST, ["lost"] * 6)
    assert clf.prototypes_[0].redacted
    assert text not in clf.prototypes_.texts
    clf.partial_fit([text], [clf.prototypes_[0].label])  # it coincides with the vector
    assert text not in clf.prototypes_.texts


# --- The memory.


def test_the_memory_has_vectors_and_no_texts(fitted):
    memory = fitted._fitted.memory
    assert memory.vectors.dtype == np.float16
    assert memory.vectors.shape == (48, 16)
    assert memory.weights.sum() == pytest.approx(48)
    assert {
        array.dtype.kind
        for array in vars(memory).values()
        if not isinstance(array, int)
    } == {"f", "i"}
    kept = memory.quoted >= 0
    assert sorted(memory.quoted[kept]) == list(range(6))


def test_a_sample_stands_for_all():
    rng = np.random.RandomState(0)
    vectors, weights = rng.randn(5000, 4), rng.rand(5000)
    memory = Memory.sample(vectors, weights, np.arange(5000), n_rows=5000, seed=0)
    assert memory.vectors.shape == (2000, 4)
    assert memory.weights.sum() == pytest.approx(weights.sum())
    unit = vectors[memory.quoted]
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    np.testing.assert_allclose(memory.vectors, unit, atol=1e-3)


def test_a_saved_model_goes_on_as_the_model_itself(fitted, extended, texts):
    loaded = pickle.loads(pickle.dumps(fitted)).partial_fit(LOST, ["lost"] * 6)
    assert_same_predictions(loaded, extended, texts[0])


def test_a_model_without_memory_predicts_but_does_not_go_on(fitted, texts):
    """Files of earlier versions have none."""
    state = fitted.__getstate__()
    del state["_fitted"]["memory"]
    old = ProtoLMClassifier.__new__(ProtoLMClassifier)
    old.__setstate__(state)
    assert_same_predictions(old, fitted, texts[0])
    with pytest.raises(ValueError, match="have no memory"):
        old.partial_fit(LOST, ["lost"] * 6)


def test_the_same_seed_gives_the_same_model(fitted, texts):
    one, two = (
        copy.copy(fitted).set_params(random_state=3).partial_fit(LOST, ["lost"] * 6)
        for _ in range(2)
    )
    assert_same_predictions(one, two, texts[0])


# --- Pairs, novelty, and numbers.


def test_pairs_go_on(make_classifier, texts):
    X, y = texts
    clf = make_classifier(max_epochs=1).fit(list(zip(X, X[::-1], strict=True)), y)
    clf.partial_fit(list(zip(LOST, X[:6], strict=True)), ["lost"] * 6)
    assert clf.prototypes_[6].text in list(zip(LOST, X[:6], strict=True))


def test_the_novelty_limit_is_that_of_all_texts(fitted, extended):
    limits = [clf.explain(LOST[:1])[0].novelty_limit for clf in (fitted, extended)]
    assert limits[0] != limits[1]
    novelty = extended.novelty_score(LOST)
    assert (novelty <= limits[1]).sum() >= 5


def test_numbers_have_no_partial_fit_and_no_memory(tiny_folder, texts):
    """New texts would shift the predictions of others, without a bias against it."""
    X, y = texts
    reg = ProtoLMRegressor(str(tiny_folder), n_prototypes=5, max_epochs=1)
    assert not hasattr(reg, "partial_fit")
    assert reg.fit(X, y == "pos")._fitted.memory is None


# --- The arithmetic.


def test_texts_of_another_class_alone_add_no_prototype(clf, fitted):
    quoted = fitted.prototypes_[0]
    other = "pos" if quoted.label == "neg" else "neg"
    clf.partial_fit([quoted.text], [other])
    assert clf.prototypes_.texts == fitted.prototypes_.texts


def test_probabilities_of_a_calibrated_class_add_up(fitted):
    """At the optimum, a free class has the probability in sum that is expected of it.

    This is the derivative by its bias; a small penalty on changes leaves some percent.
    """
    clf = copy.copy(fitted).set_params(n_prototypes=6).partial_fit(LOST, ["lost"] * 6)
    model, memory = clf._fitted, fitted._fitted.memory
    new = model.read(model.tokenize(LOST), lambda s: (s,))[0]
    layer, ids = model.layer, model.quotes.ids
    remembered = torch.from_numpy(memory.vectors).double()
    total, expected = 0.0, 0.0
    for s, weight, own in zip(
        [*remembered, *new],
        [*memory.weights, *[24 / 3 / 6] * 6],  # a third of 24 texts per class
        [*memory.quoted, *ids[6:]],
        strict=True,
    ):
        excluded = torch.from_numpy(ids == own)[None]
        evidence = layer.evidence(layer.cosines(s[None]), excluded)
        p = layer.readout(evidence, layer.values).softmax(dim=1)[0, 0]
        total += weight * float(p)
        expected += weight * (own in ids[6:])
    assert total == pytest.approx(expected, rel=0.1)


@pytest.mark.real
def test_new_intents_are_learned_and_old_ones_kept(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "examples"))
    intents = importlib.import_module("intents").QUESTIONS
    questions = {intent: texts[:6] for intent, texts in intents.items()}
    new = ["PIN", "foreign currency"]
    old = [intent for intent in questions if intent not in new]
    X, y = as_lists(questions, old)
    clf = ProtoLMClassifier(max_epochs=6, random_state=0).fit(X, y)
    X_old, y_old = as_lists(intents, old, skipped=6)
    before = clf.score(X_old, y_old)
    clf.partial_fit(*as_lists(questions, new))
    assert clf.score(X_old, y_old) >= before - 1 / len(y_old)
    assert clf.score(*as_lists(intents, new, skipped=6)) >= 0.75


def as_lists(questions: Any, labels: Any, skipped: int = 0) -> tuple[list, list]:
    pairs = [(text, label) for label in labels for text in questions[label][skipped:]]
    return [text for text, _ in pairs], [label for _, label in pairs]


def test_several_labels_cannot_be_extended(make_classifier, texts):
    X, _ = texts
    labels = np.stack([np.arange(len(X)) % 3 == 0, np.arange(len(X)) % 2 == 0], axis=1)
    clf = make_classifier().fit(X, labels.astype(int))
    before = clf.predict_proba(X)
    with pytest.raises(ValueError, match="partial_fit needs one class per"):
        clf.partial_fit(X, labels.astype(int))
    np.testing.assert_array_equal(clf.predict_proba(X), before)


@pytest.mark.parametrize("dtype", ["uint64", "uint8", "int8"])
def test_integer_classes_stay_integers(make_classifier, texts, dtype):
    """uint64 classes and new ones became floats, and were predicted as such."""
    X, y = texts
    clf = make_classifier().fit(X, (np.asarray(y) == y[0]).astype(dtype))
    clf.partial_fit(["q w", "w q"], np.array([200, 200], dtype="uint64"))
    assert clf.classes_.dtype == np.int64
    assert clf.classes_.tolist() == [0, 1, 200]
    assert clf.predict(X).dtype == np.int64
    before = clf.predict_proba(X)
    with pytest.raises(ValueError, match="integer labels below 2"):
        clf.partial_fit(["q"], np.array([2**63 + 5], dtype="uint64"))
    np.testing.assert_array_equal(clf.predict_proba(X), before)


def test_the_first_call_refuses_several_labels_before_training(make_classifier, texts):
    """A whole training ran, and the error came with the second call."""
    clf = make_classifier()
    with pytest.raises(ValueError, match="one class per text, got an indicator matrix"):
        clf.partial_fit(texts[0], np.eye(len(texts[0]), 3, dtype=int))
    assert not hasattr(clf, "classes_")


def test_a_dict_of_prototypes_names_the_classes_of_the_new_texts(
    make_classifier, texts
):
    """It had to name the classes before, too."""
    clf = make_classifier().fit(*texts)
    n_before = len(clf.prototypes_)
    clf.set_params(n_prototypes={"new": 2})
    clf.partial_fit(["q w", "w q e", "e r t"], ["new"] * 3)
    assert len(clf.prototypes_) == n_before + 2
    with pytest.raises(ValueError, match="missing: \\['other'\\]"):
        clf.partial_fit(["z u i"], ["other"])


def test_the_report_says_what_was_learned_since_the_fit(fitted, texts, tmp_path):
    """It did not say that a model had learned on."""
    X, y = texts
    path = tmp_path / "report.html"

    def page(clf: ProtoLMClassifier, y: Any) -> str:
        clf.report(X, y, path)
        return path.read_text()

    assert "partial_fit" not in page(fitted, y)
    clf = copy.copy(fitted).partial_fit(LOST[:4], ["lost"] * 4)
    line = "by <code>partial_fit</code>: from {}, with {}."
    assert line.format("4 texts", "1 new class") in page(clf, y)
    clf = pickle.loads(pickle.dumps(clf.partial_fit(LOST[4:5], ["lost"])))
    assert line.format("5 texts", "1 new class") in page(clf, y)
    clf = copy.copy(fitted).partial_fit(["a new good meal"], ["pos"])
    assert line.format("1 text", "no new classes") in page(clf, y)
    older = clf.__getstate__()
    del older["_fitted"]["further"]  # as in files of earlier versions
    clf = ProtoLMClassifier.__new__(ProtoLMClassifier)
    clf.__setstate__(older)
    assert "partial_fit" not in page(clf, y)
