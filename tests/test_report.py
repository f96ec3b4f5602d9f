"""The report: correct figures on the page, and no file for invalid input."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pytest
from sklearn import config_context
from sklearn.metrics import confusion_matrix, precision_score, recall_score

from skprotolm import ProtoLMClassifier
from skprotolm._display.html import report_html
from skprotolm._fitted import fitted_model
from skprotolm._report.classes import build_class_report, never_predicted
from skprotolm._report.predictions import labeled_predictions
from tests.test_display import HOSTILE, Page, squeezed
from tests.texts import make_texts


def build(clf: ProtoLMClassifier, evaluated: Any, training: Any = None) -> dict:
    """Build the report of texts X and labels y, and of training texts and labels."""
    model = fitted_model(clf)
    predictions = [
        labeled_predictions(model, X, np.searchsorted(clf.classes_, y))
        for X, y in (evaluated, training or evaluated)
    ]
    return build_class_report(
        model, predictions[0], predictions[1] if training else None
    )


@pytest.fixture(scope="module")
def evaluated() -> tuple[list[str], np.ndarray]:
    """Texts with two wrong labels, so that there are mistakes."""
    X, y = make_texts(40, seed=1)
    y = y.copy()
    y[[0, 1]] = y[[1, 0]]
    return X, y


@pytest.fixture(scope="module")
def report(fitted: ProtoLMClassifier, evaluated, texts) -> dict[str, Any]:
    return build(fitted, evaluated, texts)


def test_figures_of_the_summary(report, fitted, evaluated):
    summary = report["summary"]
    assert summary["accuracy"] == fitted.score(*evaluated)
    # Wilson's interval, written out.
    p, n, z = summary["accuracy"], 40, 1.959964
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert summary["low"] == pytest.approx(middle - half, abs=1e-6)
    assert summary["high"] == pytest.approx(middle + half, abs=1e-6)
    assert summary["majority_accuracy"] == 0.5
    counts = summary["n"], report["n_training"], summary["n_prototypes"]
    assert counts == (40, 48, 6)


def test_classes_and_confusions_agree_with_scikit_learn(report, fitted, evaluated):
    X, y = evaluated
    predicted = fitted.predict(X)
    matrix = report["confusion"]["matrix"]
    assert matrix == confusion_matrix(y, predicted).tolist()
    figures = report["classes"]
    assert [c["label"] for c in figures] == fitted.classes_.tolist()
    recall = recall_score(y, predicted, average=None)
    assert [c["recall"] for c in figures] == pytest.approx(recall.tolist())
    precision = precision_score(y, predicted, average=None)
    assert [c["precision"] for c in figures] == pytest.approx(precision.tolist())
    assert report["confusion"]["pairs"]
    for pair in report["confusion"]["pairs"]:
        assert pair["n"] == matrix[pair["true"]][pair["predicted"]] > 0
        assert pair["true"] != pair["predicted"]


def test_calibration_is_that_of_the_predictions(report, fitted, evaluated):
    X, y = evaluated
    confidence = fitted.predict_proba(X).max(axis=1)
    is_correct = fitted.predict(X) == y
    bins = report["calibration"]["bins"]
    assert sum(b["n"] for b in bins) == len(X)
    error = 0.0
    for b in bins:
        inside = (confidence >= b["low"]) & (confidence < b["high"] + (b["high"] == 1))
        accuracy, mean = is_correct[inside].mean(), confidence[inside].mean()
        assert b["n"] == inside.sum()
        assert b["probability"] == pytest.approx(mean)
        assert b["frequency"] == pytest.approx(accuracy)
        error += abs(mean - accuracy) * inside.mean()
    assert report["calibration"]["error"] == pytest.approx(error)


def test_every_prototype_has_a_card_with_its_assigned_texts(report, fitted, evaluated):
    X, y = evaluated
    cards = report["prototypes"]
    assert [c["text"] for c in cards] == list(fitted.prototypes_.texts)
    top_prototypes = np.array(
        [
            next(p.index for p in e.prototypes if p.label == e.prediction)
            for e in fitted.explain(X)
        ]
    )
    is_correct = fitted.predict(X) == y
    for card in cards:
        is_assigned = top_prototypes == card["index"]
        assert card["n_assigned"] == is_assigned.sum()
        assert card["n_wrong"] == (is_assigned & ~is_correct).sum()
        assert len(card["assigned"]) == min(5, is_assigned.sum())
        shown = [quote["is_correct"] for quote in card["assigned"]]
        assert shown == sorted(shown), "mistakes are not first"
        assert shown.count(False) == min(5, card["n_wrong"])
        for quote in card["assigned"]:
            row = X.index(quote["text"])
            assert top_prototypes[row] == card["index"]
            assert quote["is_correct"] == is_correct[row]


def test_the_nearest_texts_have_the_largest_similarities(report, fitted, texts):
    X, _ = texts
    similarities = fitted.transform(X)
    for card in report["prototypes"]:
        order = np.argsort(-similarities[:, card["index"]], kind="stable")
        rows = [row for row in order if X[row] != card["text"]][:3]
        quoted = [X.index(quote["text"]) for quote in card["nearest"]]
        assert card["text"] not in [X[row] for row in quoted]
        assert similarities[quoted, card["index"]] == pytest.approx(
            similarities[rows, card["index"]], abs=1e-9
        )


def test_mistakes_are_in_order_of_the_true_class_s_probability(
    report, fitted, evaluated
):
    X, y = evaluated
    mistakes = report["mistakes"]
    rows = [m["row"] for m in mistakes]
    assert set(rows) == set(np.flatnonzero(fitted.predict(X) != y).tolist())
    p = fitted.predict_proba(X)
    p_true = [p[m["row"], m["true"]] for m in mistakes]
    assert p_true == sorted(p_true)
    for m in mistakes:
        assert m["text"] == X[m["row"]]
        assert fitted.classes_[m["true"]] == y[m["row"]]
        assert m["prediction"] == fitted.classes_[m["predicted"]]
        [match] = m["matches"]
        assert match["index"] == m["top_prototype"]
        assert fitted.prototypes_[m["top_prototype"]].label == m["prediction"]
        same = [other["top_prototype"] == m["top_prototype"] for other in mistakes]
        assert m["n_mistakes"] >= sum(same)


def test_the_baseline_is_the_better_one_of_equally_frequent_classes(
    make_classifier, texts
):
    """The first by name was taken, so that a model seemed better than it is."""
    X, y = texts  # half of each
    clf = make_classifier(max_epochs=1).fit(X, y)
    labels = ["pos", "pos", "pos", "neg", "pos"]
    summary = build(clf, (X[:5], labels), texts)["summary"]
    assert (summary["majority_class"], summary["majority_accuracy"]) == ("pos", 0.8)


def test_memorized_labels_are_those_of_the_training_texts(fitted, texts, evaluated):
    X, _ = texts
    y = fitted.predict(X)
    report = build(fitted, evaluated, (X, y))
    assert (report["training_accuracy"], report["memorized"]) == (1, True)
    y[:5] = fitted.classes_[(y[:5] == fitted.classes_[0]).astype(int)]
    report = build(fitted, evaluated, (X, y))
    assert (report["training_accuracy"], report["memorized"]) == (43 / 48, False)
    report = build(fitted, (X, fitted.predict(X)))
    assert (report["training_accuracy"], report["memorized"]) == (None, False)


def test_the_page_lists_classes_that_are_never_predicted(fitted, texts, tmp_path):
    """None of 20 texts of a class among 330 was predicted, without a warning."""
    predicted = fitted.predict(texts[0])
    label = predicted[0]
    X = [text for text, p in zip(texts[0], predicted, strict=True) if p == label]
    [other] = set(fitted.classes_) - {label}
    path = tmp_path / "report.html"
    fitted.report(X, [other, other, *[label] * (len(X) - 2)], path)
    page = path.read_text(encoding="utf-8")
    assert f"Classes of these texts that are never predicted: {other} (2 texts)" in page
    fitted.report(X, [label] * len(X), path)
    assert "never predicted" not in path.read_text(encoding="utf-8")


def test_the_largest_classes_that_are_never_predicted_are_listed():
    codes = np.repeat(np.arange(40), np.arange(1, 41))
    record = never_predicted(codes, np.full(len(codes), 3))
    assert record["n_never_predicted"] == 39
    classes = record["never_predicted"]
    assert [c["code"] for c in classes] == list(range(39, 19, -1))
    assert [c["n"] for c in classes] == list(range(40, 20, -1))


@pytest.mark.parametrize(("copies", "radius"), [(1, 8.0), (20, 7.3), (250, 3.5)])
def test_the_marks_of_many_prototypes_are_small(report, copies, radius):
    """1,312 prototypes overlapped on the map."""
    prototypes = [m for m in report["map"] if m["prototype"] is not None]
    many = {
        **report,
        "map": report["map"] + prototypes * (copies - 1),
        "prototypes": report["prototypes"] * copies,
    }
    page = report_html("class_report.html", many)
    marks = re.findall(r'<a href="#prototype-.*?</a>', page, flags=re.DOTALL)
    marks = [mark for mark in marks if "report-mark" in mark]
    assert len(marks) == 6 * copies
    assert {float(r) for mark in marks for r in re.findall(r' r="(.*?)"', mark)} == {
        radius
    }
    assert ("<text" in marks[0]) == (6 * copies <= 100)


def test_further_prototypes_have_rows(make_classifier, evaluated):
    texts = make_texts(96)
    fitted = make_classifier(n_prototypes=33).fit(*texts)
    n = len(fitted.prototypes_)
    record = build(fitted, evaluated, texts)
    cards, rows = record["prototypes"], record["other_prototypes"]
    assert (len(cards), len(rows)) == (60, n - 60)
    assert sorted(p["index"] for p in [*cards, *rows]) == list(range(n))
    used = [(p["n_wrong"], p["n_assigned"], p["usage"]) for p in cards]
    assert min(used) >= max((p["n_wrong"], p["n_assigned"], p["usage"]) for p in rows)
    for card in cards:
        assert len(card["nearest"]) == 3
        assert len(card["assigned"]) == min(5, card["n_assigned"])
    page = report_html("class_report.html", record)
    ids = set(re.findall(r' id="(prototype-\d+)"', page))
    assert ids == {f"prototype-{j}" for j in range(n)}
    for p in rows:
        assert f'<td>{p["index"]}</td><td dir="auto">{p["name"]}</td>' in page
    names = fitted.prototypes_.names
    for mark in record["map"][:n]:
        title = f"{names[mark['prototype']]} (no. {mark['prototype']}), "
        assert f"<title>{title}" in page
    for mistake in record["mistakes"]:
        top = mistake["top_prototype"]
        assert f">{names[top]} (no. {top})</a> is the top prototype" in page


def test_a_report_has_a_title_and_a_date(fitted, evaluated, tmp_path):
    before = datetime.now(timezone.utc).date()
    fitted.report(*evaluated, tmp_path / "report.html", title="Tickets & more")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<title>Tickets &amp; more</title>" in page
    assert "<h1>Tickets &amp; more</h1>" in page
    dates = {before, datetime.now(timezone.utc).date()}
    assert any(f"{date} (UTC), skprotolm " in page for date in dates)
    assert "words by relevance" in page


def test_the_map_shows_prototypes_and_texts(report, texts):
    marks = report["map"]
    numbers = [m["prototype"] for m in marks if m["prototype"] is not None]
    assert numbers == list(range(6))
    assert len(marks) == 6 + len(texts[0])
    assert all(0 <= m[axis] <= 1 for m in marks for axis in "xy")
    assert max(max(m["x"], m["y"]) for m in marks) == 1
    coordinates = {(m["x"], m["y"]) for m in marks[:6]}
    assert len(coordinates) > 1


def test_the_page_shows_prototypes_and_accuracy(fitted, evaluated, texts, tmp_path):
    path = tmp_path / "report.html"
    X_train, y_train = texts
    assert fitted.report(*evaluated, path, X_train=X_train, y_train=y_train) is None
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    assert page.tags.count("h1") == 1
    for p in fitted.prototypes_:
        assert squeezed(p.text) in page.text
        assert squeezed(f"{p.name} (no. {p.index}), class {p.label}") in page.text
    assert squeezed(f"{100 * fitted.score(*evaluated):.1f} %") in page.text
    first = path.read_bytes()
    fitted.report(*evaluated, str(path), X_train=X_train, y_train=y_train)
    assert path.read_bytes() == first, "a second report differs"


@pytest.mark.parametrize("formulation", ["mixture", "proto-lm"])
def test_the_page_names_the_formulation(
    make_classifier, texts, evaluated, formulation, tmp_path
):
    clf = make_classifier(formulation=formulation, max_epochs=1).fit(*texts)
    clf.report(*evaluated, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"<dt>Formulation</dt><dd>{formulation}</dd>" in page


def test_the_page_loads_nothing(fitted, evaluated, tmp_path):
    fitted.report(*evaluated, tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    links = [value for name, value in page.attributes if name in ("href", "src")]
    assert links
    assert all(link.startswith("#") for link in links)
    assert not {"link", "img", "iframe", "object"} & set(page.tags)
    assert not any("@import" in style or "url(" in style for style in page.styles)


def test_texts_and_labels_are_escaped(make_classifier, tmp_path):
    X = [f"{snippet} good {i}" for i, snippet in enumerate(HOSTILE * 2)]
    labels = ["<b onclick=alert(1)>yes</b>", "'\"></option><script>x</script>"]
    y = labels * (len(X) // 2)
    clf = make_classifier(n_prototypes=4, max_epochs=1).fit(X, y)
    flipped = [labels[1 - labels.index(label)] for label in clf.predict(X)]
    path = tmp_path / "report.html"
    clf.report(X, flipped, path, X_train=X, y_train=y)
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    assert not {"img", "iframe", "b onclick"} & set(page.tags)
    names = {name for name, _ in page.attributes}
    assert not {"onclick", "onerror", "onload", "onmouseover"} & names
    for script in page.scripts:  # JSON, or part of the template
        if not script.strip().startswith('"use strict"'):
            json.loads(script)
    for label in labels:
        assert squeezed(label) in page.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": ["pos", "other"]}, r"y must contain labels from classes_, got 'other'"),
        ({"y": ["pos"]}, r"y must be one label per text \(2\), got 1"),
        ({"y": "pos"}, r"y must be one label per text \(2\), got a single value"),
        ({"y": None}, r"y must be one label per text \(2\), got a single value"),
        ({"X_train": ["good"]}, "go together"),
        ({"y_train": ["pos"]}, "go together"),
        ({"X_train": ["good"], "y_train": [1]}, "y_train must contain labels"),
        ({"X": []}, "X holds no text"),
    ],
)
def test_invalid_input_writes_no_file(fitted, tmp_path, change, message):
    arguments: dict[str, Any] = {"X": ["good food", "bad food"], "y": ["pos", "neg"]}
    path = tmp_path / "report.html"
    with pytest.raises(ValueError, match=message):
        fitted.report(path=path, **{**arguments, **change})
    assert not path.exists()


@pytest.mark.parametrize("path", ["", "missing/report.html"])
def test_an_invalid_path_raises(fitted, tmp_path, path):
    with pytest.raises(ValueError, match="a file in an existing folder"):
        fitted.report(["good food"], ["pos"], tmp_path / path)


def test_the_page_does_not_depend_on_global_settings(fitted, evaluated, tmp_path):
    """The map failed if scikit-learn's transformers returned data frames."""
    fitted.report(*evaluated, tmp_path / "one.html")
    with config_context(transform_output="pandas"), np.errstate(all="raise"):
        fitted.report(*evaluated, tmp_path / "other.html")
    pages = [(tmp_path / name).read_bytes() for name in ("one.html", "other.html")]
    assert pages[0] == pages[1]


def test_a_report_of_one_text(fitted, tmp_path):
    predicted = fitted.predict(["good food"])
    fitted.report(["good food"], predicted, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "There are no mistakes." in page
    assert "No text is misclassified." in page


def test_proto_lm_and_pairs_have_a_report(make_classifier, texts, tmp_path):
    X, y = texts
    pairs = [(text, "the same") for text in X]
    clf = make_classifier(formulation="proto-lm", max_epochs=1).fit(pairs, y)
    path = tmp_path / "report.html"
    clf.report(pairs, y[::-1], path)
    page = Page(path.read_text(encoding="utf-8"))
    assert squeezed(f"{pairs[0][0]} | {pairs[0][1]}") in page.text


def test_labels_may_be_any_labels(make_classifier, texts, tmp_path):
    pd = pytest.importorskip("pandas")
    X, y = texts
    clf = make_classifier(max_epochs=1).fit(X, y == "pos")
    frame = pd.DataFrame({"label": y == "pos"})
    clf.report(pd.Series(X), frame, tmp_path / "report.html")
    assert "True" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_redacted_text_is_not_among_the_nearest(make_classifier, texts):
    """The text nearest to a redacted prototype was the redacted text."""
    clf = make_classifier(max_epochs=1).fit(*texts)
    secret = clf.prototypes_[0].text
    clf.redact_prototypes({0: "[withheld]"})
    card = build(clf, texts, texts)["prototypes"][0]
    assert card["text"] == "[withheld]"
    assert secret not in [quote["text"] for quote in card["nearest"]]


def test_the_nearest_texts_are_distinct(fitted, texts):
    X, y = texts
    for card in build(fitted, (X * 5, np.tile(y, 5)))["prototypes"]:
        quoted = [quote["text"] for quote in card["nearest"]]
        assert len(set(quoted)) == len(quoted) == 3


def test_three_classes_one_of_them_rare(make_classifier):
    X, y = make_texts(40)
    labels = np.array(["rare" if i < 5 else label for i, label in enumerate(y)])
    clf = make_classifier(max_epochs=3).fit(X, labels)
    report = build(clf, (X, labels[::-1]), (X, labels))
    assert np.shape(report["confusion"]["matrix"]) == (3, 3)
    assert report["n_training"] == 40
    explanations = clf.explain(X)
    assert report["mistakes"]
    for m in report["mistakes"]:
        e = explanations[m["row"]]
        top = next(p.index for p in e.prototypes if p.label == e.prediction)
        assert m["top_prototype"] == top
        assert [match["index"] for match in m["matches"]] == [top]


def test_a_copy_of_a_prototype_s_text_is_not_among_the_nearest(fitted, texts):
    """A copy in upper case was the first of them."""
    X, y = texts
    prototypes = fitted.prototypes_
    copies = [text.upper() for text in prototypes.texts]
    labels = np.array([*prototypes.labels, *y])
    cards = build(fitted, ([*copies, *X], labels))["prototypes"]
    for card, text in zip(cards, copies, strict=True):
        nearest = [quote["text"] for quote in card["nearest"]]
        assert len(nearest) == 3
        assert text not in nearest
