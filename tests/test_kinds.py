"""What holds for every kind of target: classes, label sets, numbers and tags."""

from __future__ import annotations

import copy
import pickle
from typing import Any, NamedTuple

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skprotolm import Explanations, ProtoLMRegressor
from tests import label_sets, tagged
from tests.texts import make_texts

KINDS = ["classes", "labels", "value", "tags"]


class Kind(NamedTuple):
    """A fitted estimator with texts, and with targets for its report."""

    model: Any
    X: Any
    y: Any

    def outputs(self) -> list[np.ndarray]:
        """Return predictions, similarities and novelty, as arrays."""
        methods = (self.model.predict, self.model.transform, self.model.novelty_score)
        return [np.concatenate(list(map(np.atleast_1d, f(self.X)))) for f in methods]


@pytest.fixture(scope="module")
def regressor(tiny_bert):
    X, labels = make_texts()
    y = (labels == "pos") + np.arange(48) % 7 / 10
    reg = ProtoLMRegressor(tiny_bert, n_prototypes=10, max_epochs=2, random_state=0)
    return reg.fit(X, y)


@pytest.fixture(params=KINDS)
def kind(request, fitted, multilabel, regressor, tagger) -> Kind:
    """Each kind; tests must not change its estimator."""
    X, y = make_texts(8, seed=2)
    return {
        "classes": Kind(fitted, X, y),
        "labels": Kind(multilabel, label_sets.X[:8], label_sets.Y[:8]),
        "value": Kind(regressor, X, np.arange(8)),
        "tags": Kind(tagger, tagged.X[:4], tagged.Y[:4]),
    }[request.param]


def test_a_clone_is_not_fitted(kind):
    new = clone(kind.model)
    stored, copied = kind.model.get_params(), new.get_params()
    del stored["backbone"], copied["backbone"]  # an encoder is copied
    assert copied == stored
    for method in ("predict", "transform", "explain", "novelty_score"):
        with pytest.raises(NotFittedError):
            getattr(new, method)(kind.X)


def test_pickles_predict_the_same(kind):
    loaded = pickle.loads(pickle.dumps(kind.model))
    for before, after in zip(
        kind.outputs(), kind._replace(model=loaded).outputs(), strict=True
    ):
        np.testing.assert_array_equal(before, after)
    assert loaded.prototypes_.texts == kind.model.prototypes_.texts
    assert loaded.prototypes_.labels.tolist() == kind.model.prototypes_.labels.tolist()
    assert str(loaded.explain(kind.X)) == str(kind.model.explain(kind.X))


def test_undone_edits_leave_no_trace(kind):
    edited = copy.deepcopy(kind.model)
    before = kind.outputs()
    edited.remove_prototypes([0])
    assert len(edited.prototypes_) == len(kind.model.prototypes_) - 1
    edited.undo_edit()
    for one, two in zip(before, kind._replace(model=edited).outputs(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_explanations_are_exact_sums(kind):
    for e in kind.model.explain(kind.X, top_k=2):
        total = e.base_value + e.token_scores.sum()
        assert total == pytest.approx(e.explained, abs=1e-9)
        listed = sum(p.contribution for p in e.prototypes)
        assert listed + e.remainder == pytest.approx(e.contributions.sum(), abs=1e-9)
        assert e.attention.sum() == pytest.approx(1, abs=1e-6)


def test_explanations_are_stored_without_loss(kind):
    explanations = kind.model.explain(kind.X, top_k=3)
    plain = explanations.to_dict()
    restored = Explanations.from_json(explanations.to_json())
    assert [type(e) for e in restored] == [type(e) for e in explanations]
    for other in (restored, pickle.loads(pickle.dumps(explanations))):
        assert other.to_dict() == plain
        assert other.to_json() == explanations.to_json()
    assert copy.deepcopy(explanations[0]).to_dict() == plain[0]


def test_a_report_is_written_whole_or_not_at_all(kind, tmp_path):
    file = tmp_path / "report.html"
    with pytest.raises(ValueError, match="a file in an existing folder"):
        kind.model.report(kind.X, kind.y, tmp_path)
    with pytest.raises(ValueError, match="title must be"):
        kind.model.report(kind.X, kind.y, file, title=1)
    with pytest.raises(ValueError, match=r"samples|y must be one label"):
        kind.model.report(kind.X, kind.y[:-1], file)
    assert not file.exists()
    kind.model.report(kind.X, kind.y, file, title="Mine <1>")
    page = file.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "<title>Mine &lt;1&gt;</title>" in page
    assert page.rstrip().endswith("</html>")
    kind.model.report(kind.X, kind.y, file)
    name = next(c.__name__ for c in type(kind.model).__mro__ if "ProtoLM" in c.__name__)
    assert f"<h1>Report of a {name}</h1>" in file.read_text(encoding="utf-8")
