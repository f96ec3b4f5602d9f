"""The regressor: predictions as sums of share times value, and bad y."""

from __future__ import annotations

import copy
import re
import warnings
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from skprotolm import ProtoLMRegressor, ValueExplanation
from skprotolm._data.numbers import as_numbers
from skprotolm._data.targets import Targets
from skprotolm._display.formatting import decimal, decimals_of
from skprotolm._tasks.regression import RegressionTask
from skprotolm.exceptions import FewerPrototypesWarning
from skprotolm.metrics import (
    comprehensiveness,
    evaluate_explanations,
    explanation_compactness,
    prototype_diversity,
    prototype_uniqueness,
    simulatability,
)
from tests.texts import make_texts

X, LABELS = make_texts(60)
Y = np.where(LABELS == "pos", 5.0, 2.0) + np.random.RandomState(0).rand(60)
NEW = ["the food was good", "a dull film", "cold card", ""]


@pytest.fixture(scope="module")
def make_regressor(tiny_bert):
    """Return a regressor of the tiny encoder that learns the texts of this file."""

    def make(**parameters):
        defaults = {
            "backbone": tiny_bert,
            "max_epochs": 6,
            "learning_rate": 3e-3,
            "random_state": 0,
        }
        return ProtoLMRegressor(**{**defaults, **parameters})

    return make


@pytest.fixture(scope="module")
def reg(make_regressor):
    return make_regressor().fit(X, Y)


# Predictions.


def test_numbers_are_learned(reg, make_regressor):
    assert reg.score(X, Y) > 0.9
    other = make_regressor(early_stopping=True, max_epochs=8).fit(X, Y)
    scores = [epoch["validation_score"] for epoch in other.history_]
    assert max(scores) > 0.8
    assert {"squared_error", "loss"} <= other.history_[0].keys()


def test_predictions_stay_in_the_range_of_the_training_values(reg):
    predicted = reg.predict(NEW)
    assert predicted.shape == (4,)
    assert predicted.dtype == np.float64
    assert ((Y.min() <= predicted) & (predicted <= Y.max())).all()


def test_a_prediction_is_the_sum_of_shares_times_training_values(reg):
    explanations = reg.explain(NEW, token_method="decomposition")
    values = Y[reg.prototypes_.train_indices]
    for e, prediction in zip(explanations, reg.predict(NEW), strict=True):
        assert isinstance(e, ValueExplanation)
        np.testing.assert_array_equal(e.prototype_values, values)
        assert e.shares.sum() == pytest.approx(1, abs=1e-12)
        assert e.shares @ values == pytest.approx(prediction, abs=1e-9)
        assert e.contributions.sum() == pytest.approx(prediction, abs=1e-9)
        assert e.base_value + e.token_scores.sum() == pytest.approx(
            prediction, abs=1e-5
        )


@pytest.mark.parametrize("token_method", ["relevance", "occlusion"])
def test_base_and_token_scores_sum_to_the_prediction(reg, token_method):
    for e in reg.explain(NEW[:2], token_method=token_method):
        assert e.token_method == token_method
        assert e.base_value + e.token_scores.sum() == pytest.approx(e.prediction)


def test_shares_are_a_softmax_of_the_cosines(reg):
    cosines = reg.transform(NEW[:1])[0]
    [e] = reg.explain(NEW[:1])
    np.testing.assert_allclose(e.similarities, cosines)
    logs = np.log(e.shares)
    slope, intercept = np.polyfit(cosines, logs, 1)  # priors are equal
    np.testing.assert_allclose(logs, slope * cosines + intercept, atol=1e-6)
    assert slope > 0


def test_a_shift_and_a_scale_of_y_shift_and_scale_the_predictions(make_regressor, reg):
    """Numbers near 1e9 left no digits in float32."""
    other = make_regressor().fit(X, 1e9 + 1000 * Y)
    expected = 1e9 + 1000 * reg.predict(NEW)
    np.testing.assert_allclose(other.predict(NEW) - 1e9, expected - 1e9, rtol=1e-3)


def test_fits_of_the_same_seed_are_equal(make_regressor, reg):
    again = make_regressor().fit(X, Y)
    np.testing.assert_array_equal(again.predict(NEW), reg.predict(NEW))


def test_learned_prototypes_have_learned_values(make_regressor):
    reg = make_regressor(projection=False, n_prototypes=5).fit(X, Y)
    explanations = reg.explain(NEW[:2])
    assert len(reg.prototypes_) == 5
    means = RegressionTask.of(Y, np.ones(60), 5).edges
    assert np.ptp(reg.prototypes_.labels) > np.ptp(means)  # stretched
    for e, prediction in zip(explanations, reg.predict(NEW[:2]), strict=True):
        assert e.shares @ e.prototype_values == pytest.approx(prediction, abs=1e-5)


@pytest.mark.parametrize(("n_prototypes", "expected"), [(1, 5), (7, 7), (60, 60)])
def test_prototypes_are_counted_in_total(make_regressor, n_prototypes, expected):
    reg = make_regressor(n_prototypes=n_prototypes, max_epochs=1).fit(X, Y)
    assert len(reg.prototypes_) == expected


def test_ranges_of_few_texts_leave_prototypes_to_the_others():
    task = RegressionTask(0.0, 1.0, [1.0, 2.0])
    assert task.prototypes_per_stratum(10, [9, 2, 9]) == [4, 2, 4]
    assert task.prototypes_per_stratum(30, [9, 2, 9])[1] == 2


def test_more_prototypes_than_texts_are_warned_of(make_regressor):
    with pytest.warns(FewerPrototypesWarning, match="1 of 10 ranges of values have"):
        reg = make_regressor(n_prototypes=61, max_epochs=1).fit(X, Y)
    assert len(reg.prototypes_) == 60


def test_copies_of_a_text_have_the_mean_of_their_values(make_regressor):
    """Their values differ, as ratings by several people do."""
    texts, values = [*X, X[0], X[0]], np.append(Y, [1.0, 3.0])
    reg = make_regressor(n_prototypes=60, max_epochs=1).fit(texts, values)
    [j] = [j for j, text in enumerate(reg.prototypes_.texts) if text == X[0]]
    assert reg.prototypes_.labels[j] == pytest.approx((Y[0] + 1 + 3) / 3)


def test_values_and_their_negatives_have_ranges(make_regressor):
    """A majority of the largest value left one range, whose prototypes all had it."""
    y = (np.arange(60) % 5 > 0).astype(float)
    for values in (y, -y):
        reg = make_regressor(n_prototypes=4, max_epochs=1).fit(X, values)
        assert set(reg.prototypes_.labels) == set(values)


def test_ratings_by_several_people_do_not_empty_a_range(make_regressor):
    """Ranges were found before the means of copies; k-means of no texts failed."""
    ratings = [1.0, 2.0, 1.0] * 4 + [5.0, 4.0, 5.0] * 4 + [2.5, 3.5]
    texts = [*X[:12], *X[:12], *X[12:14]]
    reg = make_regressor(max_epochs=1).fit(texts, ratings)
    assert len(reg.prototypes_)
    with pytest.raises(ValueError, match=r"mean of all copies .* is 3.0 for each of"):
        make_regressor(max_epochs=1).fit([*X[:2], *X[:2]], [1, 3, 5, 3])


def test_ranges_have_distinct_plain_names():
    """Years and days were all "2.02e+07"."""
    edges = [20200101.0, 20200102.0, 20200103.0]
    names = RegressionTask(0.0, 1.0, edges).strata
    assert names[1] == "20200101 to 20200102"
    assert len(set(names)) == 4


@pytest.mark.parametrize("scale", [1e-30, 1e60])
def test_scores_of_words_are_those_of_any_unit(make_regressor, reg, scale):
    """In float32 large ones were NaN, and small ones 0."""
    other = make_regressor().fit(X, scale * Y)
    for one, two in zip(other.explain(NEW[:2]), reg.explain(NEW[:2]), strict=True):
        np.testing.assert_allclose(
            one.token_scores / scale, two.token_scores, rtol=0.05, atol=0.05
        )


def test_the_score_of_equal_values_is_minus_the_squared_error():
    task = RegressionTask(1.0, 2.0, [1.0])
    outputs, weights = np.array([[0.5], [2.0]]), np.array([1.0, 3.0])
    assert task.score(outputs, np.array([1.0, 1.0]), weights) == -(0.25 + 12) / 4
    assert task.score(outputs, np.array([2.0, 5.0]), weights) == 1


def test_weights_count_as_copies():
    task = RegressionTask.of(np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 2.0]))
    copies = RegressionTask.of(np.array([1.0, 2.0, 3.0, 3.0]), np.ones(4))
    assert (task.center, task.scale) == (copies.center, copies.scale)
    assert task.edges == copies.edges == [2.0]


@pytest.mark.parametrize(
    ("values", "edges"),
    [
        ([1, 5, 5, 5, 5], [1]),
        ([-5, -5, -5, -5, -1], [-5]),
        ([1, 1, 1, 1, 5], [1]),
        ([1, 2, 3, 4, 5], [1, 2, 3, 4]),
        (range(100), [9, 19, 29, 39, 49, 59, 69, 79, 89]),
    ],
)
def test_ranges_have_as_many_texts_as_equal_values_allow(values, edges):
    values = np.array(values, dtype=float)
    task = RegressionTask.of(values, np.ones(len(values)))
    assert task.edges == edges
    counts = np.bincount(task.strata_of(values), minlength=len(task.strata))
    assert counts.min() > 0


@pytest.mark.parametrize(
    ("n_prototypes", "n_ranges"), [("auto", 10), (1, 5), (5, 5), (7, 7), (300, 10)]
)
def test_few_prototypes_have_few_ranges(n_prototypes, n_ranges):
    """Texts of a range lose their order: five ranges cost .006 of the correlation."""
    values = np.arange(100.0)
    task = RegressionTask.of(values, np.ones(100), n_prototypes)
    assert len(task.strata) == n_ranges
    copies = np.repeat(np.arange(50), 2)
    targets = Targets(values, task.strata_of(values), np.ones(100), np.arange(100))
    merged, _ = task.merge_copies(targets, copies)
    assert len(merged.strata) == n_ranges


def test_weights_of_zero_remove_texts(make_regressor):
    weights = np.repeat([1.0, 0.0], 30)
    reg = make_regressor(max_epochs=1).fit(X, Y, sample_weight=weights)
    assert reg.prototypes_.train_indices.max() < 30


# y.


BAD_Y = {
    "str": (["a"] * 60, "y must hold numbers: row 0 is 'a'"),
    "numbers in str": ([str(value) for value in Y], "convert numbers with float"),
    "missing": ([None, *Y[1:]], "Input y contains NaN: row 0 is None"),
    "NaN": (np.append(Y[:-1], np.nan), "Input y contains NaN: row 59"),
    "pandas.NA": (pd.Series([pd.NA, *Y[1:]]), "Input y contains NaN: row 0"),
    "infinite": (np.append(-np.inf, Y[1:]), "contains infinity: row 0 is -inf"),
    "constant": (np.full(60, 3), "two different numbers, got only 3.0"),
    "too few": (Y[:-1], "inconsistent numbers of samples"),
    "matrix": (np.stack([Y, Y], axis=1), "MultiOutputRegressor"),
    "sparse": (csr_array(np.stack([Y, Y], axis=1)), "one column of numbers"),
    "None": (None, "requires y to be passed"),
    "complex": ([1j, *Y[1:]], "y must hold numbers: row 0 is 1j"),
    "too large": ([10**400, *Y[1:]], "Row 0 of y is too large"),
    "squares that overflow": (1e160 * Y, "of at most 1e.150, whose squares"),
    "lists": ([[1.0], [1.0, 2.0], *Y[2:]], "y must hold numbers: row 0"),
}


@pytest.mark.parametrize("case", BAD_Y)
def test_numbers_that_cannot_be_learned_are_refused(make_regressor, case):
    y, message = BAD_Y[case]
    with pytest.raises(ValueError, match=message):
        make_regressor(backbone="never loaded").fit(X, y)


@pytest.mark.parametrize("unit", ["ns", "D"])
def test_dates_are_refused(unit):
    """Nanoseconds since 1970 were accepted."""
    with pytest.raises(TypeError, match=f"got datetime64.{unit}.; convert them"):
        as_numbers(np.arange(60).astype(f"datetime64[{unit}]"), "y", 60)


GOOD_Y = {
    "list": Y.tolist(),
    "ints": (10 * Y).astype(int),
    "series": pd.Series(Y, index=range(5, 65)),
    "nullable": pd.Series(Y).astype("Float64"),
    "float16": Y.astype(np.float16),
    "bools": Y > 4,
    "decimals": [Decimal(str(value)) for value in Y],
    "objects": np.array([*Y[:-1].tolist(), 3], dtype=object),
}


@pytest.mark.parametrize("case", GOOD_Y)
def test_numbers_of_any_container_are_read(case):
    numbers = as_numbers(GOOD_Y[case], "y", 60)
    assert numbers.dtype == np.float64
    np.testing.assert_array_equal(numbers, [float(value) for value in GOOD_Y[case]])


def test_a_column_is_read_with_a_warning():
    with pytest.warns(UserWarning, match="column-vector y was passed"):
        as_numbers(Y[:, None], "y", 60)


@pytest.mark.parametrize("n_prototypes", [{"a": 1}, 0, 2.5, "many"])
def test_prototypes_per_label_have_no_meaning(make_regressor, n_prototypes):
    reg = make_regressor(n_prototypes=n_prototypes, backbone="never loaded")
    with pytest.raises(ValueError, match="must be 'auto' or a positive int"):
        reg.fit(X, Y)


# Explanations.


def test_print_shows_products_that_sum_to_the_prediction(reg):
    e = reg.explain(X[:1], top_k=2)[0]
    first, second = e.prototypes
    assert first.contribution == first.share * first.value
    assert e.remainder + first.contribution + second.contribution == pytest.approx(
        e.prediction
    )
    text = str(e)
    assert f"predicted: {e.prediction:.2f}" in text
    assert f"× {first.value:.2f}" in text
    assert f"= {e.prediction:.2f}" in text


def test_a_page_escapes_texts_and_shows_the_prediction(make_regressor):
    texts = ["<b>good</b> & new", *X]
    reg = make_regressor(max_epochs=1).fit(texts, np.append(4.5, Y))
    explanations = reg.explain(texts[:2])
    page = explanations.to_html(title="<i>")
    assert "<b>good</b>" not in page
    assert "<i>" not in page.split("<article")[0].split("<h1>")[1]
    for e in explanations:
        assert f"Predicted: {e.prediction:.2f}" in page


def test_frames_and_figures_show_values(reg):
    explanations = reg.explain(NEW[:2], top_k=2)
    frame = explanations.to_frame()
    assert len(frame) == 4
    np.testing.assert_allclose(
        frame["contribution"], frame["share"] * frame["prototype_value"]
    )
    words, shares = explanations[0].plot().axes
    assert len(shares.patches) == 2
    assert "part of the prediction" in words.get_xlabel()
    assert len(explanations.plot().axes[0].patches) == 2


@pytest.mark.filterwarnings("ignore:The set_bad function:PendingDeprecationWarning")
def test_shap_values_and_base_sum_to_the_prediction(reg):
    pytest.importorskip("shap")
    shown = reg.explain(NEW[:2]).to_shap()
    sums = [shown.base_values[i] + shown.values[i].sum() for i in range(2)]
    np.testing.assert_allclose(sums, reg.predict(NEW[:2]), rtol=1e-6)


def test_a_regressor_has_no_target(reg):
    with pytest.raises(TypeError, match="target"):
        reg.explain(NEW, target=3.0)


@pytest.mark.parametrize(
    ("values", "decimals"),
    [([1.0, 5.0], 2), ([0, 1000], 0), ([0.01, 0.02], 4), ([7.0, 7.0], 2), ([], 2)],
)
def test_decimals_show_thousandths_of_the_range(values, decimals):
    assert decimals_of(np.array(values)) == decimals


def test_prototypes_are_grouped_by_ranges_of_values(reg):
    prototypes = reg.prototypes_
    assert "of 10 ranges of values" in repr(prototypes)
    assert f"value {prototypes[0].label}" in prototypes._repr_html_()
    figure = prototypes.plot(X[:9], Y[:9])
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert len(legend) == 10
    assert legend[0].startswith("up to")


def test_measures_of_classifiers_refuse_regressors(reg):
    for measure in (evaluate_explanations, comprehensiveness, simulatability):
        with pytest.raises(TypeError, match="defined for classifiers, got ProtoLMReg"):
            measure(reg, X)
    with pytest.raises(TypeError, match="defined for classifiers"):
        prototype_diversity(reg)
    shares = np.array([e.shares for e in reg.explain(X[:5])])
    largest = -np.sort(-shares, axis=1)
    expected = [1 + np.count_nonzero(row.cumsum() < 0.9) for row in largest]
    assert explanation_compactness(reg, X[:5]).tolist() == expected
    assert prototype_uniqueness(reg) == 1


# The report.


def test_the_report_shows_errors_intervals_and_explanations(reg, tmp_path):
    path = tmp_path / "report.html"
    texts, y = ["<i>good</i>", *X[1:]], np.append(99.0, Y[1:])
    reg.report(texts, y, path, title="Stars & stripes")
    page = path.read_text()
    assert "<title>Stars &amp; stripes</title>" in page
    assert "<i>good</i>" not in page
    errors = reg.predict(texts) - y
    assert f"off by {np.abs(errors).mean():.2f} on average" in page
    assert f"Row 0 of X: 99.00, predicted {reg.predict(texts)[0]:.2f}" in page
    assert page.count('class="point"') == len(X)
    width = np.sort(np.abs(errors))[int(np.ceil(61 * 0.9)) - 1]
    assert re.search(rf"90.0 %</td><td>{width:.2f}<", page)
    assert "http" not in page.replace("http://www.w3.org", "")


def test_few_texts_have_no_wide_intervals(reg, tmp_path):
    path = tmp_path / "report.html"
    reg.report(X[:3], Y[:3], path)
    page = path.read_text()
    assert "50.0 %</td>" in page
    assert "90.0 %</td>" not in page


def test_a_report_of_equal_numbers_has_no_r2(reg, tmp_path):
    path = tmp_path / "report.html"
    reg.report(X[:3], [3, 3, 3], path)
    assert "R² is not defined" in path.read_text()


@pytest.mark.parametrize(
    ("y", "name", "message"),
    [
        (["a"] * 60, "report.html", "y must hold numbers"),
        (Y[:-1], "report.html", "inconsistent numbers of samples"),
        (Y, "missing/report.html", "path must be a file"),
    ],
)
def test_no_report_is_written_for_bad_arguments(reg, tmp_path, y, name, message):
    with pytest.raises(ValueError, match=message):
        reg.report(X, y, tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("value", "decimals", "shown"),
    [
        (-0.001, 2, "0.00"),
        (1.5, 2, "1.50"),
        (2.5e-13, 15, "2.5e-13"),
        (3.7e25, 0, "3.7e+25"),
    ],
)
def test_numbers_are_short(value, decimals, shown):
    """Values near 1e-12 were all 0.000000000, and 1e25 had 26 digits."""
    assert decimal(value, decimals) == shown


# Edits, and scikit-learn's tools.


def test_edits_change_predictions_and_can_be_undone(reg):
    edited = copy.deepcopy(reg)
    before = reg.predict(NEW)
    top = int(reg.explain(NEW[:1])[0].shares.argmax())
    edited.relabel_prototypes({top: 100.0})
    assert edited.predict(NEW[:1]) > before[0] + 1
    edited.remove_prototypes(top)
    edited.add_prototypes(["something else"], [4.25])
    assert edited.prototypes_.labels[-1] == 4.25
    assert [edit["action"] for edit in edited.edits_] == ["relabel", "remove", "add"]
    for _ in range(3):
        edited.undo_edit()
    np.testing.assert_array_equal(edited.predict(NEW), before)


def test_the_last_prototype_cannot_be_removed(reg):
    edited = copy.deepcopy(reg)
    with pytest.raises(ValueError, match="would have no prototype left"):
        edited.remove_prototypes(range(len(reg.prototypes_)))
    with pytest.raises(ValueError, match="labels must hold numbers: row 0 is 'a'"):
        edited.relabel_prototypes({0: "a"})


def test_it_works_in_pipelines_and_searches(make_regressor):
    reg = make_regressor(max_epochs=1, n_prototypes=5)
    search = GridSearchCV(make_pipeline(reg), {"protolmregressor__cohesion": [0, 0.1]})
    search.fit(X, Y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len(cross_val_score(clone(reg), X, Y, cv=2)) == 2


def test_pairs_are_compared(make_regressor):
    pairs = list(zip(X, X[::-1], strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reg = make_regressor(max_epochs=2).fit(pairs, Y)
        e = reg.explain(pairs[:1])[0]
    assert e.shares @ e.prototype_values == pytest.approx(reg.predict(pairs[:1])[0])


def test_print_adds_up(reg):
    """0.40 + 0.38 + 0.09 + 0.15 made 1.01: each value was rounded alone."""
    for e in reg.explain([*NEW, *X[:20]]):
        line = r"^ +(-?[\d.]+)  = ([<>]?) ?([\d.]+) %"
        lines = re.findall(line, str(e), re.MULTILINE)
        unit = 10**e.decimals
        values = [round(float(value) * unit) for value, _, _ in lines]
        assert sum(values) == round(e.prediction * unit)
        rounded = {"<": 0, ">": 1000}
        shares = [rounded.get(sign, round(10 * float(s))) for _, sign, s in lines]
        assert sum(shares) == 1000
        [parts] = re.findall(r"prediction: (\S+) \(base\) (\S+) .* = (\S+)", str(e))
        base, words, total = (round(unit * float(part)) for part in parts)
        assert base + words == total


def test_far_texts_are_listed_as_such(reg):
    """All texts were said to be like the explained one, or none."""
    [e] = reg.explain(NEW[:1])
    first, second = e.similarities[e.order[:2]]
    gap = e.nearest_similarity - min(first, second)
    assert gap > 1e-4
    output = str(replace(e, novelty_limit=e.novelty + gap / 2))
    assert "because it reads like\n" in output
    assert re.search(r"and its next texts? (is|are)\n", output)
    unlike = str(replace(e, novelty_limit=e.novelty - 0.01))
    assert "because its nearest texts are\n" in unlike
    assert "reads like" not in unlike


@pytest.mark.parametrize("value", [np.nan, None, np.inf])
def test_values_of_prototypes_are_finite(reg, value):
    """The message told to drop rows of X, which relabeling does not have."""
    with pytest.raises(ValueError, match=r"Input labels contains.*; pass ") as error:
        reg.relabel_prototypes({0: value})
    assert "drop" not in str(error.value)


def test_a_tensor_that_requires_grad_is_read():
    """It raised an error of torch."""
    y = torch.tensor([1.0, 2.5], requires_grad=True)
    assert as_numbers(y, "y").tolist() == [1.0, 2.5]
