"""The report on several labels per text."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from tests.label_sets import LABELS, SETS, X, Y


def test_the_report_shows_figures_per_label(multilabel, tmp_path):
    path = tmp_path / "report.html"
    truth = Y.copy()
    truth[0] = 1 - truth[0]
    multilabel.report(X, pd.DataFrame(truth, columns=LABELS), path, title="Tags & more")
    page = path.read_text()
    assert "<title>Tags &amp; more</title>" in page
    predicted = multilabel.predict(X)
    hits = (predicted & truth)[:, 1].sum()
    row = re.search(r'<tr><th scope="row">food</th>(.*)</tr>', page)
    cells = re.findall(r"<td>(.*?)</td>", row.group(1))
    assert cells[:2] == [str(truth[:, 1].sum()), str(predicted[:, 1].sum())]
    assert cells[2] == f"{hits / predicted[:, 1].sum():.3f}"
    assert cells[3] == f"{hits / truth[:, 1].sum():.3f}"
    assert "Row 0 of X" in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_labels_that_do_not_occur_have_no_recall(multilabel, tmp_path):
    path = tmp_path / "report.html"
    multilabel.report(X, np.zeros((60, 3), dtype=int), path)
    assert "<td>–</td>" in path.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": SETS}, "must be an indicator matrix"),
        ({"y": Y[:, :2]}, r"one column per label \(3\), got 2"),
        ({"y": Y[:-1]}, "inconsistent numbers of samples"),
        ({"y": pd.DataFrame(Y, columns=LABELS[::-1])}, "must be the labels of the fit"),
        ({"y": Y, "X_train": X}, "go together"),
        ({"y": Y, "X_train": X, "y_train": Y}, "does not have; pass X and y alone"),
    ],
)
def test_no_report_is_written_for_bad_arguments(
    multilabel, tmp_path, arguments, message
):
    with pytest.raises(ValueError, match=message):
        multilabel.report(X, path=tmp_path / "report.html", **arguments)
    assert not list(tmp_path.iterdir())
