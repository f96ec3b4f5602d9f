"""Parameters are checked in `fit`."""

import inspect
import re
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch

from skprotolm import ProtoLMClassifier
from skprotolm._config import PARAMETERS, check_parameters
from tests.helpers import FORMULATIONS

X = ["good food", "kind and good", "bad film", "dull and bad"]
Y = ["pos", "pos", "neg", "neg"]
NAMES = [name for name in inspect.signature(ProtoLMClassifier).parameters]
INF, NAN = float("inf"), float("nan")

COUNT = (r"a positive int", [0, -1, 2.0, "3", True, None, NAN])
POSITIVE = (r"a number in \(0, inf\)", [0, -1.0, INF, NAN, "1", None, True])
NOT_NEGATIVE = (r"a number in \[0, inf\)", [-1e-9, INF, NAN, "1", None, True])
SHARE = (r"a number in \[0, 1\)", [-0.1, 1, 1.5, NAN, "0", None, False])
FLAG = (r"a bool", [0, 1, "yes", None])

# The words of the message, and values that are refused.
WRONG = {
    "backbone": (r"a name, a folder, or a SentenceTransformer", ["", None, 3, ["x"]]),
    "n_prototypes": (
        r"'auto', a positive int, or a dict mapping labels to positive ints",
        ["many", *COUNT[1], {"pos": 0, "neg": 1}, {"pos": "2", "neg": 1}, [2, 2]],
    ),
    "formulation": (r"'mixture' or 'proto-lm'", ["protolm", "", None, 1, ["mixture"]]),
    "sharpness": (
        r"'auto' or a number in \[1e-3, 1e6\]",
        [*POSITIVE[1], 1e-4, 1e300],
    ),
    "cohesion": SHARE,
    "separation": SHARE,
    "diversity": NOT_NEGATIVE,
    "preservation": (
        r"'auto' or a number in \[0, inf\)",
        [-0.1, NAN, np.inf, "0.4", None, True],
    ),
    "label_smoothing": (
        r"'auto' or a number in \[0, 1\)",
        [-0.1, 1, NAN, "0.1", None, True],
    ),
    "n_nearest": (
        r"a positive int or a number in \(0, 1\]",
        [0, 0.0, 1.5, -1, NAN, "0.5", None, True],
    ),
    "projection": FLAG,
    "finetune": (
        r"'full', 'lora', 'head', or a positive int",
        ["none", "Full", None, True, 0, 1.5],
    ),
    "warm_start": FLAG,
    "max_epochs": (r"'auto' or a positive int", [0, 1.5, "3", None, True]),
    "batch_size": COUNT,
    "learning_rate": (
        r"'auto' or a number in \(0, inf\)",
        [0, -1e-3, NAN, np.inf, "1e-4", None, True],
    ),
    "head_learning_rate": POSITIVE,
    "weight_decay": NOT_NEGATIVE,
    "warmup_fraction": SHARE,
    "max_length": (r"None or a positive int", [0, -5, 12.0, "64", True]),
    "long_text": ("'truncate' or 'window'", ["auto", None, True, 4]),
    "class_weight": (
        r"None, 'balanced', or a dict mapping labels to weights",
        ["even", 2.0, ["pos", 1]],
    ),
    "early_stopping": FLAG,
    "validation_fraction": (r"a number in \(0, 1\)", [0, 1, 0.0, 1.0, NAN, "0.1"]),
    "n_iter_no_change": COUNT,
    "precision": (r"'auto', 'fp32', or 'bf16'", ["fp16", "bfloat16", None, 32]),
    "device": (r"'auto', a device name", [None, 0, ["cpu"]]),
    "gradient_accumulation_steps": COUNT,
    "gradient_checkpointing": FLAG,
    "verbose": (r"a non-negative int or a bool", [-1, 1.0, "1", None]),
}


def test_every_parameter_except_the_seed_is_a_field_and_is_checked():
    checked = [name for name in NAMES if name != "random_state"]
    assert list(PARAMETERS) == checked
    assert list(WRONG) == checked


@pytest.mark.parametrize(
    ("name", "words", "value"),
    [
        pytest.param(name, words, value, id=f"{name}={value!r}")
        for name, (words, values) in WRONG.items()
        for value in values
    ],
)
def test_the_error_names_the_parameter_what_it_must_be_and_what_arrived(
    name, words, value
):
    clf = ProtoLMClassifier(**{name: value})
    with pytest.raises(ValueError, match=name) as caught:
        clf.fit(X, Y)
    message = str(caught.value)
    assert re.search(rf"'{name}' parameter of ProtoLMClassifier", message)
    assert re.search(rf"must be {words}", message), message
    assert repr(value) in message
    assert not hasattr(clf, "classes_")


@pytest.mark.parametrize("device", ["quantum", "cuda:99"])
def test_an_unknown_or_missing_device_is_refused(device):
    with pytest.raises(ValueError, match=f"device.*{device!r}"):
        ProtoLMClassifier(device=device).fit(X, Y)


@pytest.mark.parametrize("value", ["seven", -1, 0.5])
def test_a_wrong_random_state_is_refused(value):
    with pytest.raises(ValueError, match=r"random_state must be"):
        ProtoLMClassifier(random_state=value).fit(X, Y)


@pytest.mark.parametrize("name", ["learning_rate", "sharpness", "weight_decay"])
def test_an_int_beyond_the_range_of_floats_is_refused(name):
    with pytest.raises(ValueError, match=f"'{name}' parameter"):
        ProtoLMClassifier(**{name: 10**400}).fit(X, Y)


@pytest.mark.parametrize(
    ("cohesion", "separation"), [(0.5, 0.5), (0.9, 0.2), (np.float32(0.75), 0.25)]
)
def test_cohesion_and_separation_must_sum_to_less_than_1(cohesion, separation):
    clf = ProtoLMClassifier(cohesion=cohesion, separation=separation)
    with pytest.raises(ValueError, match=r"'cohesion' and 'separation'.* less than 1"):
        clf.fit(X, Y)


def config_of(**parameters):
    return check_parameters(ProtoLMClassifier(**parameters))


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"backbone": Path("somewhere")},
        {"n_prototypes": {"pos": 1, "neg": 4}},
        {"sharpness": "auto"},
        {"sharpness": 1e-3},
        {"sharpness": 1e6},
        {"cohesion": 0, "separation": 0, "diversity": 0, "preservation": 0},
        {"cohesion": 0.5, "separation": 0.49},
        {"n_nearest": 1},
        {"n_nearest": 1.0},
        {"n_nearest": 40},
        {"weight_decay": 0, "warmup_fraction": 0},
        {"class_weight": {"pos": 2}},
        {"class_weight": "balanced"},
        {"device": torch.device("cpu")},
        {"verbose": True},
        {"verbose": 2},
    ],
)
def test_the_bounds_of_every_range_are_allowed(parameters):
    config = config_of(**parameters)
    for name, value in parameters.items():
        assert getattr(config, name) == value


# Exact in binary, so that the two fits must agree in every bit.
PLAIN = {
    "n_prototypes": 2,
    "sharpness": 16.0,
    "cohesion": 0.125,
    "separation": 0.25,
    "diversity": 0.125,
    "preservation": 0.25,
    "label_smoothing": 0.125,
    "n_nearest": 0.5,
    "projection": False,
    "max_epochs": 1,
    "batch_size": 4,
    "learning_rate": 2**-10,
    "head_learning_rate": 2**-8,
    "weight_decay": 0.0,
    "warmup_fraction": 0.25,
    "max_length": 16,
    "early_stopping": False,
    "validation_fraction": 0.5,
    "n_iter_no_change": 2,
    "verbose": 0,
}
NUMPY = {
    bool: np.bool_,
    int: np.int64,
    float: np.float32,  # unlike float64, no Python float
}


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_numpy_scalars_are_used_like_python_numbers(formulation, tiny_folder):
    """`n_nearest=np.float32(0.5)` became a count of 0, and the loss NaN."""
    scalars = {name: NUMPY[type(value)](value) for name, value in PLAIN.items()}
    scalars["formulation"] = formulation
    plain, numpy = (
        ProtoLMClassifier(
            str(tiny_folder), random_state=0, device="cpu", **{**PLAIN, **parameters}
        ).fit(X, Y)
        for parameters in ({"formulation": formulation}, scalars)
    )
    np.testing.assert_array_equal(numpy.predict_proba(X), plain.predict_proba(X))
    assert numpy.get_params()["n_nearest"].dtype == np.float32


def test_a_fraction_is_used_like_a_float(tiny_folder):
    """Unconverted, it failed in the first step of training."""
    fractions = {"learning_rate": Fraction(1, 1024), "cohesion": Fraction(1, 8)}
    config = config_of(**fractions)
    assert (config.learning_rate, config.cohesion) == (2**-10, 0.125)
    assert type(config.learning_rate) is float
    clf = ProtoLMClassifier(str(tiny_folder), n_prototypes=1, max_epochs=1, **fractions)
    assert clf.fit(X, Y).get_params()["cohesion"] == Fraction(1, 8)


class LooksLikeAnEncoder:
    """A class with methods of a SentenceTransformer that is not a subclass."""

    tokenizer = None

    def encode(self, texts):
        return texts


@pytest.mark.parametrize(
    ("name", "value"),
    [("formulation", "mixture"), ("finetune", "head"), ("precision", "fp32")],
)
def test_numpy_strings_are_accepted(name, value):
    """They come from parameter grids in NumPy arrays."""
    grid = np.array([value])
    assert getattr(config_of(**{name: grid[0]}), name) == value


@pytest.mark.parametrize(
    "backbone",
    [{"encode": 1}, torch.nn.Linear(1, 1), np.array("x"), LooksLikeAnEncoder()],
)
def test_a_backbone_of_another_type_is_refused(backbone):
    with pytest.raises(ValueError, match="'backbone' parameter"):
        ProtoLMClassifier(backbone).fit(X, Y)


def test_class_weights_may_be_any_mapping(tiny_folder):
    """scikit-learn itself accepts only dicts."""
    weights = MappingProxyType({label: 2.0 for label in np.unique(Y).tolist()})
    clf = ProtoLMClassifier(str(tiny_folder), class_weight=weights, n_prototypes=1)
    assert clf.set_params(max_epochs=1).fit(X, Y).class_weight is weights


def test_the_config_is_frozen():
    config = config_of()
    with pytest.raises(AttributeError):
        config.sharpness = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("n_prototypes", "message"),
    [
        ({"pos": 2}, r"n_prototypes must name every label.*missing: \['neg'\]"),
        ({}, r"missing: \['neg', 'pos'\]"),
        ({"pos": 2, "Neg": 2}, r"missing: \['neg'\], others.*: \['Neg'\]"),
    ],
)
def test_a_dict_as_n_prototypes_must_name_every_label(n_prototypes, message):
    with pytest.raises(ValueError, match=message):
        ProtoLMClassifier(n_prototypes=n_prototypes).fit(X, Y)
