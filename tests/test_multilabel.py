"""Several labels per text: predictions, labels that do not vary, bad y, weights."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
import torch
from scipy.special import expit
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning
from sklearn.metrics import average_precision_score as average_precision
from sklearn.metrics import (
    coverage_error,
    label_ranking_average_precision_score,
    label_ranking_loss,
)
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MultiLabelBinarizer

from skprotolm._data.label_matrix import as_label_matrix
from skprotolm._display.formatting import percent
from skprotolm._tasks.multilabel import MultilabelTask
from skprotolm.exceptions import ConstantLabelsWarning, FewerPrototypesWarning
from skprotolm.metrics import (
    comprehensiveness,
    evaluate_explanations,
    explanation_compactness,
    prototype_purity,
    prototype_uniqueness,
)
from tests.helpers import normal
from tests.label_sets import LABELS, NEW, SENTIMENT, SETS, X, Y
from tests.texts import make_texts

pytestmark = pytest.mark.filterwarnings(
    "ignore::skprotolm.exceptions.UnpredictedClassWarning"
)


@pytest.fixture
def make(make_multilabel):
    return make_multilabel


@pytest.fixture
def clf(multilabel):
    return multilabel


# Predictions.


def test_labels_are_learned(clf, make):
    assert clf.classes_.tolist() == LABELS
    assert clf.score(X, Y) > 0.8  # all labels of a text
    new, sentiment = make_texts(30, seed=5)
    truth = np.stack([sentiment == "pos", ["food" in text for text in new]], axis=1)
    assert (clf.predict(new)[:, :2] == truth).mean() > 0.9


def test_predictions_are_an_indicator_matrix(clf):
    predicted, p = clf.predict(NEW), clf.predict_proba(NEW)
    assert predicted.shape == p.shape == (4, 3)
    assert predicted.dtype == np.int64
    np.testing.assert_array_equal(predicted, p >= 0.5)
    np.testing.assert_allclose(expit(clf.decision_function(NEW)), p)


def test_prototypes_have_the_label_sets_of_their_texts(clf):
    prototypes = clf.prototypes_
    for prototype in prototypes:
        assert prototype.label == SETS[prototype.train_index]
    assert "of 4 labels" in repr(prototypes)
    assert "no label, " in repr(prototypes)
    assert "labels praise, food" in prototypes._repr_html_()
    assert clf.get_feature_names_out()[0] == "praise_0"
    figure = prototypes.plot(X[:9], Y[:9])
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert set(legend) == {*LABELS, "no label"}


@pytest.mark.parametrize(
    "container",
    [
        lambda Y: Y.tolist(),
        lambda Y: Y.astype(bool),
        lambda Y: Y.astype(float),
        list,
        scipy.sparse.csr_matrix,
        scipy.sparse.csc_array,
        pd.DataFrame,
        lambda Y: pd.DataFrame(Y).astype("boolean"),
    ],
)
def test_a_matrix_may_be_in_any_container(make, container):
    expected = make().fit(X, Y)
    other = make().fit(X, container(Y))
    assert other.classes_.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(other.predict_proba(NEW), expected.predict_proba(NEW))
    again = make().fit(X, Y)
    np.testing.assert_array_equal(again.predict_proba(NEW), expected.predict_proba(NEW))


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame, pa.table])
def test_columns_of_a_frame_name_the_labels(make, frame):
    columns = {label: Y[:, j] for j, label in enumerate(LABELS)}
    clf = make().fit(X, frame(columns))
    assert clf.classes_.tolist() == LABELS
    np.testing.assert_array_equal(
        clf.predict_proba(NEW), make().fit(X, Y).predict_proba(NEW)
    )


def test_int_columns_of_a_frame_name_the_labels(make):
    clf = make().fit(X, pd.DataFrame(Y, columns=[7, 3, 5]))
    assert clf.classes_.tolist() == [7, 3, 5]
    assert clf.explain(NEW[:1], target=3)[0].target == 3


def test_the_caller_s_matrix_is_not_changed(make):
    given = Y.copy()
    make().fit(X, given)
    np.testing.assert_array_equal(given, Y)
    given[:] = 0  # which the model does not see either


# Labels that do not vary, and rare ones.


def test_labels_that_do_not_vary_have_a_constant_probability(make):
    full = np.column_stack([Y, np.zeros(60, int), np.ones(60, int)])
    frame = pd.DataFrame(full, columns=[*LABELS, "never", "always"])
    message = r"2 of 5 labels do not vary .* 'never' \(never\), 'always' \(always\)"
    with pytest.warns(ConstantLabelsWarning, match=message):
        clf = make().fit(X, frame)
    p = clf.predict_proba(NEW)
    assert (p[:, 3] == 0).all()
    assert (p[:, 4] == 1).all()
    assert clf.predict(NEW)[:, 3:].tolist() == [[0, 1]] * 4
    np.testing.assert_array_equal(p[:, :3], make().fit(X, Y).predict_proba(NEW))
    assert np.isneginf(clf.decision_function(NEW)[:, 3]).all()
    assert all("always" in p.label for p in clf.prototypes_)
    assert {e.target for e in clf.explain(NEW)} <= set(LABELS)
    with pytest.raises(ValueError, match="'never' has no explanation: no training"):
        clf.explain(NEW, target="never")
    with pytest.raises(ValueError, match="'always' has no explanation: every training"):
        clf.explain(NEW, target="always")
    with pytest.raises(ValueError, match="must not have the label 'never'"):
        clf.add_prototypes(["a new text"], [["never"]])
    loaded = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(loaded.predict_proba(NEW), p)


def test_a_label_that_is_nobody_s_rarest_has_prototypes(make):
    """No stratum is its own; the choice of texts could leave it out."""
    values = Y.copy()
    values[:, 2] = 0
    values[:7, 2] = values[:7, 1] = 1
    values[7:, 1] = 0
    values[7, 1] = 1  # "food" is with "film" but once
    clf = make(n_prototypes=1).fit(X, values)
    assert clf.predict_proba(NEW).shape == (4, 3)
    indicators = np.array(
        [[j in prototype.label for j in range(3)] for prototype in clf.prototypes_]
    )
    assert indicators.any(axis=0).all()
    assert not indicators.all(axis=0).any()


def test_a_label_of_one_text_is_not_held_out(make):
    """All columns must vary among the texts that are trained on."""
    values = np.column_stack([Y, np.zeros(60, int)])
    values[4, [1, 3]] = 1
    parameters = {"early_stopping": True, "validation_fraction": 0.5, "max_epochs": 2}
    clf = make(**parameters).fit(X, values)
    assert 4 in clf.prototypes_.train_indices
    scores = [epoch["validation_score"] for epoch in clf.history_]
    assert all(0 < score <= 1 for score in scores)


def test_copies_of_a_text_have_the_labels_of_their_majority(make):
    texts = [*X, X[0], X[0]]
    values = np.vstack([Y, [0, 1, 0], [0, 1, 0]])
    values[0] = [1, 1, 0]
    clf = make(n_prototypes=60).fit
    with pytest.warns(FewerPrototypesWarning):
        fitted = clf(texts, values)
    [j] = [j for j, text in enumerate(fitted.prototypes_.texts) if text == X[0]]
    assert fitted.prototypes_[j].label == (1,)


def test_a_label_of_a_minority_of_copies_is_kept(make):
    """Without it, the label would not vary."""
    texts, values = [*X, X[0], X[0]], np.vstack([Y, Y[:1], Y[:1]])
    values = np.column_stack([values, np.zeros(62, int)])
    values[-1, 3] = 1
    clf = make(n_prototypes=1).fit(texts, values)
    [prototype] = [p for p in clf.prototypes_ if 3 in p.label]
    assert prototype.text == X[0]


def test_texts_without_labels_are_prototypes_too(clf):
    unlabeled = [p for p in clf.prototypes_ if p.label == ()]
    assert unlabeled
    assert all("card" in p.text for p in unlabeled)


# y and parameters.


BAD_Y = {
    "other numbers": (2 * Y, "of 0 and 1: row 0, column 0 is 2"),
    "fractions": (0.5 * Y, "of 0 and 1: row 0, column 0 is 0.5"),
    "NaN": (np.where(Y == 1, np.nan, 0), "contains NaN: row 0, column 0"),
    "NA": (pd.DataFrame(Y).astype("Int64").mask(Y == 1), "contains NaN: row 0, col"),
    "constant": (np.tile([1, 0], (60, 1)), "each of the 2 columns is constant"),
    "too few": (Y[:-1], "inconsistent numbers of samples"),
    "names": (pd.DataFrame(Y, columns=["a", "b", "a"]), "two columns of the name 'a'"),
    "mixed names": (pd.DataFrame(Y, columns=["a", 2, "c"]), "all str or all int"),
    "NUL": (pd.DataFrame(Y, columns=["a", "b\0", "c"]), "ends with NUL"),
    "sets": (SETS, "pass the indicator matrix sklearn.preprocessing.MultiLabelBin"),
    "sparse": (scipy.sparse.csr_matrix(3 * Y), "row 0, column 0 is 3"),
}


@pytest.mark.parametrize("case", BAD_Y)
def test_matrices_that_cannot_be_learned_are_refused(make, case):
    y, message = BAD_Y[case]
    with pytest.raises(ValueError, match=message):
        make(backbone="never loaded").fit(X, y)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"formulation": "proto-lm"}, "several labels .* use formulation='mixture'"),
        ({"projection": False}, "several labels .* use projection=True"),
        ({"n_prototypes": {0: 3}}, r"every label of y that varies; missing: \[1, 2\]"),
        ({"class_weight": {5: 2.0}}, r"got \[5\]; the labels are \[0, 1, 2\]"),
        ({"class_weight": {1: -1.0}}, "finite numbers of at least 0, got -1.0"),
    ],
)
def test_parameters_without_a_meaning_are_refused(make, parameters, message):
    with pytest.raises(ValueError, match=message):
        make(**parameters).fit(X, Y)


@pytest.mark.parametrize("n_prototypes", [2, {0: 1, 1: 3, 2: 2}])
def test_prototypes_are_counted_per_rarest_label(make, n_prototypes):
    clf = make(n_prototypes=n_prototypes).fit(X, Y)
    rarest = clf.prototypes_._groups
    wanted = (
        n_prototypes if isinstance(n_prototypes, dict) else dict.fromkeys(range(3), 2)
    )
    assert {label: rarest.count(label) for label in wanted} == wanted
    assert rarest.count("no label") == max(wanted.values())


def test_texts_may_all_have_labels(make):
    """The missing texts without labels were said to be fewer than n_prototypes."""
    rows = Y.any(axis=1)
    texts = [text for text, own in zip(X, rows, strict=True) if own]
    clf = make(n_prototypes=2).fit(texts, Y[rows])
    assert len(clf.prototypes_) == 6


def test_the_score_of_early_stopping_is_the_average_precision():
    task = MultilabelTask.of(np.arange(3), Y.astype(bool), np.ones(60), None)
    outputs, weights = normal(60, 3).numpy(), np.arange(1.0, 61.0)
    expected = average_precision(Y, outputs, average="micro", sample_weight=weights)
    assert task.score(outputs, Y.astype(bool), weights) == pytest.approx(expected)
    p = expit(outputs[:2])
    loss = -np.average(np.log(1 - p).mean(axis=1), weights=[1, 3])
    without = np.zeros((2, 3), dtype=bool)
    score = task.score(outputs[:2], without, np.array([1.0, 3.0]))
    assert score == pytest.approx(-loss)


def test_the_rarest_label_is_the_stratum():
    matrix = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]], dtype=bool)
    task = MultilabelTask.of(np.array([*"abc"]), matrix, np.ones(4), None)
    assert task.stratum_names(matrix) == ["b", "a", "c", "no label"]
    weighted = MultilabelTask.of(
        np.array([*"abc"]), matrix, np.array([1, 1, 9, 9]), None
    )
    assert weighted.stratum_names(matrix[:1]) == ["b"]


def test_texts_that_share_a_label_are_mates():
    matrix = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=bool)
    task = MultilabelTask.of(np.arange(3), matrix, np.ones(4), None)
    mates = task.own_mask(matrix, matrix)
    assert mates.astype(int).tolist() == [
        [1, 1, 0, 0],
        [1, 1, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 1],
    ]


# Weights.


def test_weights_of_zero_remove_texts(make):
    weights = np.repeat([1.0, 0.0], 30)
    clf = make().fit(X, Y, sample_weight=weights)
    half = make().fit(X[:30], Y[:30])
    np.testing.assert_array_equal(clf.predict_proba(NEW), half.predict_proba(NEW))
    assert clf.prototypes_.train_indices.max() < 30


def test_weights_of_one_change_nothing(make):
    one = make().fit(X, Y, sample_weight=np.ones(60))
    np.testing.assert_array_equal(
        one.predict_proba(NEW), make().fit(X, Y).predict_proba(NEW)
    )


def test_class_weights_make_a_label_more_likely(make):
    plain = make().fit(X, Y).predict_proba(X)
    heavy = make(class_weight={1: 8.0}).fit(X, Y).predict_proba(X)
    assert heavy[:, 1].mean() > plain[:, 1].mean() + 0.1
    assert abs(heavy[:, 2].mean() - plain[:, 2].mean()) < 0.1


def test_balanced_class_weights_are_those_of_scikit_learn():
    weights = np.array([1.0, 2.0, 1.0])
    matrix = np.array([[1, 0], [0, 1], [0, 1]], dtype=bool)
    task = MultilabelTask.of(np.arange(2), matrix, weights, "balanced")
    expected = [[4 / (2 * 3), 4 / (2 * 1)], [4 / (2 * 1), 4 / (2 * 3)]]
    np.testing.assert_allclose(task.label_weights, expected)


# Measures.


def test_measures_of_one_class_per_text_refuse_several_labels(clf):
    for measure in (evaluate_explanations, comprehensiveness, prototype_purity):
        with pytest.raises(TypeError, match="another kind of target than one class"):
            measure(clf, X)
    assert prototype_uniqueness(clf) == 1
    shares = np.array([e.contributions for e in clf.explain(X[:5])])
    largest = -np.sort(-shares, axis=1)
    expected = [1 + np.count_nonzero(row.cumsum() < 0.9) for row in largest]
    assert explanation_compactness(clf, X[:5]).tolist() == expected


# scikit-learn's tools.


def test_novelty_is_that_of_all_prototypes(clf):
    scores = clf.novelty_score([*X[:5], "zebra quantum"])
    assert scores.shape == (6,)
    assert (scores <= 1 + 1e-9).all()
    assert clf.novelty_threshold(X, rate=0.1) >= np.median(clf.novelty_score(X))


def test_rankings_of_scikit_learn_accept_the_output(clf):
    p, z = clf.predict_proba(X), clf.decision_function(X)
    assert average_precision(Y, p, average="macro") > 0.9
    for scores in (p, z):
        assert coverage_error(Y, scores) < 2
        assert label_ranking_loss(Y, scores) < 0.2
        assert label_ranking_average_precision_score(Y, scores) > 0.8


@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.ConstantLabelsWarning")
def test_it_works_in_pipelines_and_searches(make):
    binarizer = MultiLabelBinarizer(classes=LABELS)
    values = binarizer.fit_transform(SETS)
    np.testing.assert_array_equal(values, Y)
    pipe = make_pipeline(make())
    grid = {"protolmclassifier__cohesion": [0.0, 0.1]}
    search = GridSearchCV(pipe, grid, scoring="f1_micro", cv=2)
    search.fit(X, values)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    predicted = binarizer.inverse_transform(search.predict(X))
    assert len(predicted) == 60
    scores = cross_val_score(clone(pipe), X, values, cv=2, scoring="average_precision")
    assert np.isfinite(scores).all()


def test_pairs_are_compared(make):
    pairs = list(zip(X, X[::-1], strict=True))
    clf = make(max_epochs=2).fit(pairs, Y)
    [e] = clf.explain(pairs[:1], target=1)
    expected = clf.predict_proba(pairs[:1])[0, 1]
    assert e.contributions[e.has_target].sum() == pytest.approx(expected)


def test_a_refit_on_single_labels_is_of_one_class_again(make):
    clf = make(n_prototypes=2).fit(X, Y)
    clf.fit(X, SENTIMENT)
    assert clf.predict_proba(NEW).shape == (4, 2)
    np.testing.assert_allclose(clf.predict_proba(NEW).sum(axis=1), 1)
    assert clf.explain(NEW[:1])[0].kind == "classes"


@pytest.mark.parametrize("names", [["b", "c", "a"], [2, 0, 1]])
def test_columns_in_another_order_are_refused(make_classifier, texts, tmp_path, names):
    """Frames of int names, and the frame of `score`, were read by position."""
    pd = pytest.importorskip("pandas")
    X, _ = texts
    rows = np.arange(len(X))
    matrix = np.stack([rows % 2 == 0, rows % 3 == 0, rows % 5 < 2], axis=1).astype(int)
    frame = pd.DataFrame(matrix, columns=names)
    clf = make_classifier(n_prototypes="auto").fit(X, frame)
    assert clf.score(X, frame) == clf.score(X, matrix)
    other = frame[names[::-1]]
    for call in (
        lambda: clf.score(X, other),
        lambda: clf.report(X, other, tmp_path / "report.html"),
        lambda: clf.add_prototypes(["q", "w"], other[:2]),
    ):
        with pytest.raises(ValueError, match="must be the labels of the fit in their"):
            call()


def test_an_unlike_text_is_not_said_to_read_like_others(clf):
    """It was said to be near texts of a cosine of .10."""
    [e] = clf.explain(NEW[:1], target="food")
    assert e.novelty_limit is not None
    unlike = str(replace(e, novelty_limit=e.novelty - 0.01))
    assert "reads like" not in unlike
    assert "because its nearest text with food is" in unlike
    assert "although its nearest text without food is" in unlike
    assert "its next text with food is" in unlike
    assert "nearest text" not in str(replace(e, novelty_limit=e.novelty + 3))


def test_a_far_text_of_the_other_side_is_not_said_to_be_like(clf):
    """A text was said to read like one at a cosine of -0.01."""
    [e] = clf.explain(NEW[:1], target="food")
    gap = e.nearest_similarity - e.similarities[~e.has_target].max()
    assert gap > 1e-3
    limit = e.novelty + gap / 2
    output = str(replace(e, novelty_limit=limit))
    assert "because it reads like" in output
    assert "although its nearest text without food is" in output
    assert "although it reads like" not in output
    page = replace(e, novelty_limit=limit).to_html()
    assert "Nearest training texts, with their shares" in page


def test_sides_of_a_print_add_up(clf):
    """57.8 + 34.3 made 92.0: each share was rounded alone."""
    for e in clf.explain([*NEW, *X[:20]]):
        shown = re.findall(r"^ *(=?) ?(<?) ?>? ?([\d.]+) %  ", str(e), re.MULTILINE)
        sums = [0]
        for is_total, is_little, number in shown:
            tenths = 0 if is_little else round(10 * float(number))
            if is_total:
                assert sums.pop() == tenths
                sums.append(0)
            else:
                sums[-1] += tenths
        assert len([1 for is_total, *_ in shown if is_total]) == 2
        [parts] = re.findall(r"log-odds .*: (\S+) \(base\) (\S+) .* = (\S+)", str(e))
        base, words, total = (round(100 * float(part)) for part in parts)
        assert base + words == total


def test_the_report_counts_labels_in_common(clf, tmp_path):
    """It showed the purity by the rarest label of each text, without saying so."""
    path = tmp_path / "report.html"
    clf.report(X, Y, path)
    section = path.read_text().split('<section id="prototypes">')[1]
    assert "Purity" not in section
    nearest = clf.transform(X).argmax(axis=1)
    rows = re.findall(r'<tr id="prototype-(\d+)">(.*?)</tr>', section)
    counts = []
    for index, row in rows:
        cells = re.findall(r"<td[^>]*>(.*?)</td>", row)
        own = {label for label in cells[2].split(", ") if label in LABELS}
        sets = [set(SETS[i]) for i in np.flatnonzero(nearest == int(index))]
        counts.append(len(sets))
        assert cells[4] == str(len(sets))
        if sets:
            jaccard = [len(s & own) / len(s | own) if s | own else 1 for s in sets]
            assert cells[5] == percent(float(np.mean(jaccard)))
        else:
            assert cells[5] == "–"
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) <= len(X)


FRAME = pd.DataFrame(Y, columns=LABELS)
MATRICES = {
    "bool frame": FRAME.astype(bool),
    "nullable bools": FRAME.astype("boolean"),
    "Arrow": FRAME.astype("int64[pyarrow]"),
    "mixed": FRAME.astype({"praise": bool}),
    "sparse int8": scipy.sparse.csr_matrix(Y.astype(np.int8)),
    "sparse bool": scipy.sparse.coo_array(Y.astype(bool)),
    "sparse float": scipy.sparse.lil_matrix(Y.astype(np.float32)),
    "a tensor with gradient": torch.tensor(Y, dtype=torch.float32, requires_grad=True),
    "a sparse tensor": torch.tensor(Y).to_sparse(),
}


@pytest.mark.parametrize("y", MATRICES.values(), ids=MATRICES)
def test_matrices_of_every_library_are_read(y):
    """A tensor that requires grad raised an error of torch."""
    np.testing.assert_array_equal(as_label_matrix(y, "y", 60), Y)


ODD = {
    "lists": (SETS, "MultiLabelBinarizer"),
    "lists of as many numbers": ([[1, 2], [2, 3]] * 30, r"MultiLabelBinarizer\(\)"),
    "str": (FRAME.astype(str), r"column 'praise' has '\d' \(str\); use y.astype"),
    "a column of names": (FRAME.assign(food="x"), "column 'food' has 'x'"),
    "fractions": (Y * 0.5, r"for example \(y >= 0.5\)"),
    "signs": (2 * Y - 1, r"use \(y > 0\).astype\(int\)"),
    "a sparse column": (scipy.sparse.csr_matrix(Y[:, :1]), r"y.toarray\(\).ravel\(\)"),
    "sparse, 1-D": (scipy.sparse.coo_array(Y[:, 0]), r"y.toarray\(\).ravel\(\)"),
    "dicts": (FRAME.to_dict("records"), r"pass pandas.DataFrame\(y\)"),
    "tensors": ([torch.tensor(row) for row in Y], r"numpy.stack\(y\)"),
    "scalar tensors": (list(torch.tensor(Y[:, 0])), r"label.item\(\) for label in y"),
    "no columns": (Y[:, :0], r"matrix of shape \(60, 0\)\.$"),
}


@pytest.mark.parametrize("case", ODD.values(), ids=ODD)
def test_odd_label_sets_are_refused_with_a_remedy(make, case):
    y, message = case
    with pytest.raises(ValueError, match=message):
        make().fit(X, y)


def test_a_column_is_one_class_per_text(make):
    with pytest.warns(DataConversionWarning):
        clf = make(max_epochs=1, n_prototypes=1).fit(X, Y[:, :1])
    assert clf.predict(NEW).shape == (4,)
