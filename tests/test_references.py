"""Results of fits are those of the stored references; see `tests.references`."""

from __future__ import annotations

import numpy as np
import pytest

from tests.references import (
    CASES,
    FOLDER,
    MINILM,
    REAL,
    Results,
    evaluated,
    fit,
    make_backbone,
    path_of,
    results_of,
)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return make_backbone(tmp_path_factory.mktemp("references"))


def assert_as_stored(name: str, results: Results, tolerance: float) -> None:
    with np.load(path_of(name)) as expected:
        assert results.keys() == set(expected.files)
        for key in expected.files:
            if expected[key].dtype.kind != "f":
                np.testing.assert_array_equal(results[key], expected[key], err_msg=key)
                continue
            # Near a prototype proto-lm's 1 / (d + ε) is steep, and so is relevance.
            rtol = tolerance * (10 if key.startswith("relevance") else 1)
            np.testing.assert_allclose(
                results[key], expected[key], rtol=rtol, atol=tolerance, err_msg=key
            )


def test_every_reference_has_a_case():
    assert {path_of(name) for name in [*CASES, "MiniLM"]} == set(FOLDER.glob("*.npz"))


@pytest.mark.parametrize("name", CASES)
def test_results_are_those_of_the_reference(name, backbone):
    case = CASES[name]
    assert_as_stored(name, results_of(fit(case, backbone), evaluated(case)), 1e-6)


@pytest.mark.real
def test_results_of_the_default_encoder_are_those_of_the_reference():
    results = results_of(fit(REAL, MINILM), evaluated(REAL))
    assert_as_stored("MiniLM", results, 1e-4)  # float32
