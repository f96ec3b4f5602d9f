"""The report: its figures are right, its page shows them, and bad input writes none."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from sklearn import config_context
from sklearn.metrics import confusion_matrix, precision_score, recall_score

from skprotolm import ProtoLMClassifier
from skprotolm._display.html import report_html
from skprotolm._report import (
    Corpus,
    Decisions,
    _never_predicted,
    build,
    doubtful_labels,
)
from tests.conftest import make_texts
from tests.test_display import HOSTILE, Page, squeezed


@pytest.fixture(scope="module")
def judged() -> tuple[list[str], np.ndarray]:
    """Texts with two labels wrong, so that there are mistakes to tell of."""
    X, y = make_texts(40, seed=1)
    y = y.copy()
    y[[0, 1]] = y[[1, 0]]
    return X, y


@pytest.fixture(scope="module")
def report(fitted: ProtoLMClassifier, judged, texts) -> dict[str, Any]:
    """What a report of the fitted classifier holds."""
    corpora = []
    for X, y in (judged, texts):
        corpora.append(Corpus(X, np.searchsorted(fitted.classes_, y)))
    return build(fitted._fitted, *corpora)


def test_figures_at_a_glance(report, fitted, judged):
    X, y = judged
    glance = report["glance"]
    assert glance["accuracy"] == fitted.score(X, y)
    # Wilson's interval, written out.
    p, n, z = glance["accuracy"], 40, 1.959964
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert glance["low"] == pytest.approx(middle - half, abs=1e-6)
    assert glance["high"] == pytest.approx(middle + half, abs=1e-6)
    assert glance["majority"] == 0.5
    assert (glance["n"], glance["n_training"], glance["n_prototypes"]) == (40, 48, 6)


def test_classes_and_confusions_agree_with_scikit_learn(report, fitted, judged):
    X, y = judged
    predicted = fitted.predict(X)
    assert report["confusion"]["matrix"] == confusion_matrix(y, predicted).tolist()
    told = report["classes"]
    assert [c["label"] for c in told] == fitted.classes_.tolist()
    recall = recall_score(y, predicted, average=None)
    assert [c["recall"] for c in told] == pytest.approx(recall.tolist())
    precision = precision_score(y, predicted, average=None)
    assert [c["precision"] for c in told] == pytest.approx(precision.tolist())
    for pair in report["confusion"]["pairs"]:
        at = report["confusion"]["matrix"][pair["true"]][pair["predicted"]]
        assert pair["n"] == at > 0
        assert pair["true"] != pair["predicted"]


def test_calibration_is_that_of_the_predictions(report, fitted, judged):
    X, y = judged
    p = fitted.predict_proba(X)
    confidence, right = p.max(axis=1), fitted.predict(X) == y
    bins = report["calibration"]["bins"]
    assert sum(b["n"] for b in bins) == len(X)
    error = 0.0
    for b in bins:
        inside = (confidence >= b["low"]) & (confidence < b["high"] + (b["high"] == 1))
        assert b["n"] == inside.sum()
        assert b["confidence"] == pytest.approx(confidence[inside].mean())
        assert b["accuracy"] == pytest.approx(right[inside].mean())
        error += abs(confidence[inside].mean() - right[inside].mean()) * inside.mean()
    assert report["calibration"]["error"] == pytest.approx(error)


def test_every_prototype_has_a_card_with_where_it_counts_most(report, fitted, judged):
    X, y = judged
    cards = report["prototypes"]
    assert [c["text"] for c in cards] == list(fitted.prototypes_.texts)
    explanations = fitted.explain(X)
    leaders = [
        next(p.index for p in e.prototypes if p.label == e.prediction)
        for e in explanations
    ]
    wrong = fitted.predict(X) != y
    for card in cards:
        mine = np.array(leaders) == card["index"]
        assert card["n_led"] == mine.sum()
        assert card["n_wrong"] == (mine & wrong).sum()
        assert len(card["led"]) == min(5, mine.sum())
        told = [q["right"] for q in card["led"]]
        assert told == sorted(told), "mistakes are not shown first"
        assert told.count(False) == min(5, card["n_wrong"])
        for quote in card["led"]:
            row = X.index(quote["text"])
            assert leaders[row] == card["index"]
            assert quote["right"] == (not wrong[row])


def test_the_texts_around_a_prototype_are_its_nearest(report, fitted, texts):
    X, _ = texts
    similarities = fitted.transform(X)
    for card in report["prototypes"]:
        order = np.argsort(-similarities[:, card["index"]], kind="stable")
        expected = [row for row in order if X[row] != card["text"]][:3]
        found = [
            similarities[X.index(q["text"]), card["index"]] for q in card["nearest"]
        ]
        assert card["text"] not in [q["text"] for q in card["nearest"]]
        best = similarities[expected, card["index"]]
        assert found == pytest.approx(best.tolist(), abs=1e-9)


def test_mistakes_come_with_the_least_likely_truths_first(report, fitted, judged):
    X, y = judged
    mistakes = report["mistakes"]
    rows = [m["row"] for m in mistakes]
    assert set(rows) == set(np.flatnonzero(fitted.predict(X) != y).tolist())
    p = fitted.predict_proba(X)
    of_truth = [p[m["row"], m["truth"]] for m in mistakes]
    assert of_truth == sorted(of_truth)
    for m in mistakes:
        assert m["text"] == X[m["row"]]
        assert fitted.classes_[m["truth"]] == y[m["row"]]
        assert m["prediction"] == fitted.classes_[m["predicted"]]
        [match] = m["matches"]
        assert match["index"] == m["leader"]
        assert fitted.prototypes_[m["leader"]].label == m["prediction"]
        same = [other for other in mistakes if other["leader"] == m["leader"]]
        assert m["n_led"] >= len(same)


def clusters(sizes: tuple[int, ...] = (20, 20)) -> tuple[list, np.ndarray, np.ndarray]:
    """Return texts, their classes, and vectors near the corner of each class."""
    codes = np.repeat(np.arange(len(sizes)), sizes)
    noise = 0.1 * np.random.RandomState(0).randn(len(codes), 4)
    return [f"text {i}" for i in range(len(codes))], codes, np.eye(4)[codes] + noise


def seen(vectors: np.ndarray, codes: np.ndarray, X: list | None = None) -> Decisions:
    """Make the decisions of a model that tells the corners apart, but is never sure."""
    p = np.exp(vectors[:, : codes.max() + 1])
    p /= p.sum(axis=1, keepdims=True)
    predicted = p.argmax(axis=1)
    keys = [*range(len(codes))] if X is None else X
    return Decisions(vectors, p, predicted, predicted, keys, np.full(len(p), False))


def doubts(X: list, codes: np.ndarray, vectors: np.ndarray) -> tuple[list[dict], int]:
    return doubtful_labels(Corpus(X, codes), seen(vectors, codes, X))


def rows_in_doubt(X: list, codes: np.ndarray, vectors: np.ndarray) -> list[int]:
    found, n = doubts(X, codes, vectors)
    assert n == len(found)
    return [t["row"] for t in found]


def test_of_classes_as_frequent_the_better_guess_is_held_against(
    make_classifier, texts
):
    """The first by name was taken, so that a model seemed better than it is."""
    X, y = texts  # half of each
    clf = make_classifier(max_epochs=1).fit(X, y)
    judged = Corpus(X[:5], np.array([1, 1, 1, 0, 1]))
    found = build(clf._fitted, judged, Corpus(X, (y == "pos").astype(int)))["glance"]
    assert (found["frequent"], found["majority"]) == ("pos", 0.8)


@pytest.mark.parametrize("sizes", [(20, 20), (40, 4), (40, 2), (30, 30, 5), (1, 1)])
def test_labels_that_fit_are_not_doubted(sizes):
    """A class of four among forty others was in doubt as a whole."""
    assert rows_in_doubt(*clusters(sizes)) == []


def test_a_planted_wrong_label_is_doubted():
    X, codes, vectors = clusters((20, 20, 20))
    codes[7] = 2
    [found], n = doubts(X, codes, vectors)
    assert (found["row"], found["code"], found["other"], n) == (7, 2, 0, 1)
    assert found["p_other"] == seen(vectors, codes).probabilities[7, 0]
    assert found["n_against"] == found["n_voices"] == 10
    assert {q["code"] for q in found["nearest"]} == {0}
    assert X[7] not in [q["text"] for q in found["nearest"]]


@pytest.mark.parametrize("n_copies", [3, 6, 12])
def test_copies_have_one_voice(n_copies):
    """Copies of a wrongly labelled text hid it, and put others in doubt."""
    X, codes, vectors = clusters()
    X += ["the same"] * n_copies
    codes = np.append(codes, [1] * n_copies)
    vectors = np.concatenate([vectors, [vectors[:20].mean(axis=0)] * n_copies])
    assert rows_in_doubt(X, codes, vectors) == [40]


def test_a_text_under_two_labels_is_a_voice_against_itself():
    X, codes, vectors = clusters()
    X[7], vectors[7] = X[9], vectors[9]
    codes[7] = 1
    [found], _ = doubts(X, codes, vectors)
    assert found["row"] == 7
    assert X[9] in [q["text"] for q in found["nearest"]]


def test_neighbours_and_model_are_asked_alike():
    """The one outvotes the other only where it is the surer."""
    X, codes, vectors = clusters()
    codes[[3, 7]] = 1
    model = seen(vectors, codes)
    model.probabilities[[3, 11]] = [0.9, 0.1], [0.3, 0.7]
    found, _ = doubtful_labels(Corpus(X, codes), model)
    assert [t["row"] for t in found] == [3, 7]  # the less supported label first
    model.probabilities[3] = [0.0, 1.0]
    found, _ = doubtful_labels(Corpus(X, codes), model)
    assert [t["row"] for t in found] == [7]


def test_the_longest_list_of_doubts_says_that_it_was_cut():
    X, codes, vectors = clusters((100, 60))
    codes[:40] = 1
    vectors[:40] = vectors[40:80]  # exactly where those of the other class are
    found, n = doubts(X, codes, vectors)
    assert len(found) == 30 <= n


def told(page: str, section: str) -> str:
    """Return the text of a section of the page."""
    html = page.partition(f'<section id="{section}">')[2].partition("</section>")[0]
    return " ".join(re.sub(r"<[^>]+>", "", html).split())


def test_labels_learned_by_heart_are_not_said_to_be_free_of_doubt(
    make_classifier, texts, tmp_path
):
    """The page said that there are no doubtful labels, of a model that saw them all."""
    X, y = texts
    clf = make_classifier(max_epochs=10, learning_rate=1e-2).fit(X, y)
    said = clf.predict(X)
    clf.report(X, said, tmp_path / "report.html", X_train=X, y_train=said)
    labels = told((tmp_path / "report.html").read_text(encoding="utf-8"), "labels")
    assert "The model gives 100.0 % of the training texts their own label." in labels
    assert "cannot doubt labels that it has learned by heart" in labels
    assert "cross_val_predict" in labels
    assert "The model finds none among the training texts." in labels
    assert "There are none" not in labels


def test_labels_that_are_not_learned_by_heart_have_no_such_notice(
    fitted, texts, tmp_path
):
    X, _ = texts
    y = fitted.predict(X)
    y[:5] = fitted.classes_[(y[:5] == fitted.classes_[0]).astype(int)]
    fitted.report(X, y, tmp_path / "report.html", X_train=X, y_train=y)
    labels = told((tmp_path / "report.html").read_text(encoding="utf-8"), "labels")
    assert "by heart" not in labels
    codes = np.searchsorted(fitted.classes_, y)
    judged = Corpus(X, codes)
    built = build(fitted._fitted, judged, judged)
    assert (built["by_heart"], built["own_label"]) == (False, 43 / 48)


def test_texts_that_were_not_trained_on_are_not_learned_by_heart(
    make_classifier, texts, tmp_path
):
    """A good model was told so of held-out texts, and to report on held-out texts."""
    clf = make_classifier(max_epochs=10, learning_rate=1e-2).fit(*texts)
    X, _ = make_texts(40, seed=5)
    clf.report(X, clf.predict(X), tmp_path / "report.html")
    labels = told((tmp_path / "report.html").read_text(encoding="utf-8"), "labels")
    assert "of the texts of this report their own label" not in labels
    assert "If the model was trained on these texts, that says little" in labels


def test_classes_that_are_never_predicted_are_named(fitted, texts, tmp_path):
    """Of a class of 20 texts among 330 none was predicted, and no line said so."""
    said = fitted.predict(texts[0])
    X = [text for text, label in zip(texts[0], said, strict=True) if label == said[0]]
    [other] = set(fitted.classes_) - {said[0]}
    path = tmp_path / "report.html"
    fitted.report(X, [other, other, *said[:1].repeat(len(X) - 2)], path)
    glance = told(path.read_text(encoding="utf-8"), "glance")
    assert f"Never predicted, though among these texts: {other} (2 texts)." in glance
    fitted.report(X, said[:1].repeat(len(X)), path)
    assert "Never predicted" not in path.read_text(encoding="utf-8")


def test_of_many_classes_that_are_never_predicted_the_largest_are_named():
    codes = np.repeat(np.arange(40), np.arange(1, 41))
    found = _never_predicted(codes, np.full(len(codes), 3))
    assert found["n_never"] == 39
    assert [c["code"] for c in found["never"]] == list(range(39, 19, -1))
    assert [c["n"] for c in found["never"]] == list(range(40, 20, -1))


@pytest.mark.parametrize(("copies", "radius"), [(1, 8.0), (20, 7.3), (250, 3.5)])
def test_the_marks_of_many_prototypes_are_small(report, copies, radius):
    """1,312 prototypes hid one another on the map."""
    own = [m for m in report["map"] if m["prototype"] is not None]
    many = {
        **report,
        "map": report["map"] + own * (copies - 1),
        "prototypes": report["prototypes"] * copies,
    }
    page = report_html(many)
    marks = re.findall(r'<a href="#prototype-.*?</a>', page, flags=re.DOTALL)
    marks = [mark for mark in marks if "report-mark" in mark]
    assert len(marks) == 6 * copies
    assert {float(r) for mark in marks for r in re.findall(r' r="(.*?)"', mark)} == {
        radius
    }
    assert ("<text" in marks[0]) == (6 * copies <= 100)


def test_the_map_places_prototypes_and_texts(report, fitted, texts):
    marks = report["map"]
    numbers = [m["prototype"] for m in marks if m["prototype"] is not None]
    assert numbers == list(range(6))
    assert len(marks) == 6 + len(texts[0])
    assert all(0 <= m[axis] <= 1 for m in marks for axis in "xy")
    assert max(max(m["x"], m["y"]) for m in marks) == 1
    at = np.array([[m["x"], m["y"]] for m in marks[:6]])
    assert len(np.unique(at, axis=0)) > 1


def test_the_page_holds_what_the_report_says(fitted, judged, texts, tmp_path):
    path = tmp_path / "report.html"
    X_train, y_train = texts
    assert fitted.report(*judged, path, X_train=X_train, y_train=y_train) is None
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    assert page.tags.count("h1") == 1
    for text in fitted.prototypes_.texts:
        assert squeezed(text) in page.text
    assert squeezed(f"{100 * fitted.score(*judged):.1f} %") in page.text
    first = path.read_bytes()
    fitted.report(*judged, str(path), X_train=X_train, y_train=y_train)
    assert path.read_bytes() == first, "the same report differs"


def test_a_page_loads_nothing(fitted, judged, tmp_path):
    fitted.report(*judged, tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    links = [value for name, value in page.attributes if name in ("href", "src")]
    assert links
    assert all(link.startswith("#") for link in links)
    assert not {"link", "img", "iframe", "object"} & set(page.tags)
    assert not any("@import" in style or "url(" in style for style in page.styles)


def test_no_hostile_text_or_label_becomes_an_element(make_classifier, tmp_path):
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
    for script in page.scripts:  # numbers, or what stands in the template
        if not script.strip().startswith('"use strict"'):
            json.loads(script)
    for label in labels:
        assert squeezed(label) in page.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": ["pos", "other"]}, r"y must hold labels of classes_, got 'other'"),
        ({"y": ["pos"]}, r"y must be one label per text \(2\), got 1"),
        ({"y": "pos"}, r"y must be one label per text \(2\), got a single value"),
        ({"y": None}, r"y must be one label per text \(2\), got a single value"),
        ({"X_train": ["good"]}, "go together"),
        ({"y_train": ["pos"]}, "go together"),
        ({"X_train": ["good"], "y_train": [1]}, "y_train must hold labels"),
        ({"X": []}, "X holds no text"),
    ],
)
def test_bad_input_writes_nothing(fitted, tmp_path, change, message):
    given: dict[str, Any] = {"X": ["good food", "bad food"], "y": ["pos", "neg"]}
    given.update(change)
    path = tmp_path / "report.html"
    with pytest.raises(ValueError, match=message):
        fitted.report(path=path, **given)
    assert not path.exists()


@pytest.mark.parametrize("place", ["", "missing/report.html"])
def test_a_path_that_takes_no_file_is_refused_first(fitted, tmp_path, place):
    with pytest.raises(ValueError, match="a file in a folder that is there"):
        fitted.report(["good food"], ["pos"], tmp_path / place)


def test_other_outputs_of_scikit_learn_change_nothing(fitted, judged, tmp_path):
    """Maps broke where transformers were told to give frames."""
    fitted.report(*judged, tmp_path / "one.html")
    with config_context(transform_output="pandas"), np.errstate(all="raise"):
        fitted.report(*judged, tmp_path / "other.html")
    pages = [(tmp_path / name).read_bytes() for name in ("one.html", "other.html")]
    assert pages[0] == pages[1]


def test_a_report_of_one_text(fitted, tmp_path):
    said = fitted.predict(["good food"])
    fitted.report(["good food"], said, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    mistakes = page.split('<section id="mistakes">')[1].split("</section>")[0]
    assert "There are none." in mistakes
    assert "None: no text is classified wrongly." in page


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


def test_a_redacted_text_is_not_named_as_the_nearest(make_classifier, texts, tmp_path):
    """The text around a redacted prototype that was nearest to it was its own."""
    X, y = texts
    clf = make_classifier(max_epochs=1).fit(X, y)
    secret = clf.prototypes_[0].text
    clf.redact_prototypes({0: "[withheld]"})
    codes = np.searchsorted(clf.classes_, y)
    card = build(clf._fitted, Corpus(X, codes), Corpus(X, codes))["prototypes"][0]
    assert card["text"] == "[withheld]"
    assert secret not in [q["text"] for q in card["nearest"]]


def test_the_nearest_texts_are_distinct(fitted, texts):
    X, y = texts
    corpus = Corpus(X * 5, np.tile(np.searchsorted(fitted.classes_, y), 5))
    for card in build(fitted._fitted, corpus, None)["prototypes"]:
        quoted = [q["text"] for q in card["nearest"]]
        assert len(set(quoted)) == len(quoted) == 3


def test_three_classes_of_which_one_is_rare(make_classifier, tmp_path):
    X, y = make_texts(40)
    labels = ["rare" if i < 5 else label for i, label in enumerate(y)]
    clf = make_classifier(max_epochs=3).fit(X, labels)
    codes = np.searchsorted(clf.classes_, labels)
    found = build(clf._fitted, Corpus(X, codes[::-1].copy()), Corpus(X, codes))
    assert np.shape(found["confusion"]["matrix"]) == (3, 3)
    assert found["glance"]["n_training"] == 40
    leaders = clf.explain(X)
    for m in found["mistakes"]:
        e = leaders[m["row"]]
        mine = [p.index for p in e.prototypes if p.label == e.prediction]
        assert m["leader"] == mine[0]
        assert [match["index"] for match in m["matches"]] == [m["leader"]]


def test_a_copy_of_a_prototype_is_not_near_it(fitted, texts):
    """One in other letters stood first among the texts around it."""
    X, y = texts
    prototypes = fitted.prototypes_
    copies = [text.upper() for text in prototypes.texts]
    labels = np.array([*prototypes.labels, *y])
    around = Corpus([*copies, *X], np.searchsorted(fitted.classes_, labels))
    cards = build(fitted._fitted, around, around)["prototypes"]
    for card, copied in zip(cards, copies, strict=True):
        near = [quote["text"] for quote in card["nearest"]]
        assert len(near) == 3
        assert copied not in near
