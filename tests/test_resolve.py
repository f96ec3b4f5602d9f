"""Every "auto" of the parameters is resolved."""

import inspect
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from skprotolm import ProtoLMClassifier
from skprotolm._config import FitConfig, check_parameters
from skprotolm._resolve import (
    resolve,
    resolve_epochs,
    resolve_learning_rate,
    resolve_precision,
    resolve_preservation,
    resolve_prototype_counts,
    resolve_quoted_counts,
    resolve_smoothing,
)
from skprotolm._tasks.classification import ClassificationTask
from skprotolm._tasks.tagging import TaggingTask
from tests.helpers import FORMULATIONS, make_config


def spread(n_prototypes, labels):
    """Return the prototypes per label that the user asked for; None for "auto"."""
    if n_prototypes == "auto":
        return None
    task = ClassificationTask(np.array(labels))
    return task.prototypes_per_stratum(n_prototypes, [99] * len(labels))


def resolved(n_texts=600, label_agreement=0.5, is_paired=False, **parameters):
    config = check_parameters(ProtoLMClassifier(**parameters))
    return resolve(
        config,
        n_texts=n_texts,
        is_paired=is_paired,
        hidden_size=384,
        task=ClassificationTask(np.array(["neg", "pos"])),
        wanted=spread(config.n_prototypes, ["neg", "pos"]),
        n_candidates=[n_texts // 2, n_texts // 2],
        n_members=[n_texts // 2, n_texts // 2],
        label_agreement=label_agreement,
    )


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_no_field_is_auto_once_resolved(formulation):
    parameters = inspect.signature(ProtoLMClassifier).parameters
    automatic = {name for name, p in parameters.items() if p.default == "auto"}
    assert automatic >= {"n_prototypes", "max_epochs", "learning_rate", "device"}
    config = resolved(formulation=formulation)
    left = {f.name for f in fields(FitConfig) if getattr(config, f.name) == "auto"}
    # The device is resolved by the estimator; two fields hold the precision.
    assert left <= {"device", "precision"}
    assert config.prototype_counts == (8, 8)
    assert config.quoted_counts == (300, 300)


@pytest.mark.parametrize(
    ("n_prototypes", "quoted", "is_pruned"),
    [("auto", (300, 300), True), (8, (8, 8), False), ({"neg": 5, "pos": 9}, (5, 9), 0)],
)
def test_quoted_texts_are_pruned_if_their_number_is_automatic(
    n_prototypes, quoted, is_pruned
):
    config = resolved(n_prototypes=n_prototypes)
    assert config.quoted_counts == quoted
    assert config.prune == is_pruned
    assert config.n_prototypes == {"neg": quoted[0], "pos": quoted[1]}


@pytest.mark.parametrize(
    ("label_agreement", "quotable"), [(0.0, 0.4), (0.4, 0.4), (0.7, 0.7), (1.0, 1.0)]
)
def test_more_texts_are_quotable_where_neighbors_agree(label_agreement, quotable):
    assert resolved(label_agreement=label_agreement).quotable == quotable


@pytest.mark.parametrize(
    ("label_agreement", "weight"), [(0.0, 0.8), (0.5, 0.8), (0.75, 0.4), (1.0, 0.0)]
)
def test_less_reading_weight_where_the_frozen_encoder_separates_labels(
    label_agreement, weight
):
    """Of 77 intents the calibration error was .028, and .018 with less weight."""
    assert resolved(label_agreement=label_agreement).reading_weight == weight


def test_an_automatic_sharpness_is_chosen_anew_for_texts():
    config = resolved(sharpness="auto")
    assert (config.sharpness, config.quoted_sharpness) == (30.0, None)
    config = resolved(sharpness=12.0)
    assert config.sharpness == config.quoted_sharpness == 12.0


@pytest.mark.parametrize(
    ("label_agreement", "spread"), [(0.0, 0.1), (0.05, 0.1), (0.4, 0.4), (1.0, 1.0)]
)
def test_clusters_shrink_where_neighbors_disagree(label_agreement, spread):
    assert resolved(label_agreement=label_agreement).spread == spread


@pytest.mark.parametrize(
    ("precision", "is_fp32", "has_bf16", "expected"),
    [
        ("auto", True, True, (True, False)),
        ("auto", True, False, (False, False)),
        ("bf16", True, False, (True, True)),
        ("fp32", True, True, (False, False)),
        ("auto", False, True, (False, False)),
        ("bf16", False, True, (False, False)),
    ],
)
def test_precision_depends_on_weights_and_device(
    precision, is_fp32, has_bf16, expected
):
    config = check_parameters(ProtoLMClassifier(precision=precision))
    config = resolve_precision(config, is_fp32, has_bf16)
    assert (config.train_bf16, config.predict_bf16) == expected


@pytest.mark.parametrize(
    ("make_task", "width", "n_texts", "rate"),
    [
        (ClassificationTask, 16, 5000, 1e-4),
        (ClassificationTask, 384, 500, 1e-4),
        (ClassificationTask, 768, 5000, 5e-5),
        (ClassificationTask, 1024, 5000, 3.75e-5),
        (ClassificationTask, 384, 20, 2e-5),
        (ClassificationTask, 768, 125, 2.5e-5),
        (TaggingTask, 768, 125, 5e-5),  # at a lower rate, few tags were not learned
    ],
)
def test_the_learning_rate_is_scaled_by_width_and_number_of_texts(
    make_task, width, n_texts, rate
):
    task = make_task(np.array(["neg", "pos"]))

    def resolve_rate(**parameters: Any) -> float:
        config = check_parameters(ProtoLMClassifier(**parameters))
        return resolve_learning_rate(config, width, n_texts, task)

    assert resolve_rate() == pytest.approx(rate)
    assert resolve_rate(finetune="lora") == pytest.approx(20 * rate)
    assert resolve_rate(learning_rate=0.25) == 0.25


@pytest.mark.parametrize(
    ("n_texts", "smoothing"),
    [(16, 0.0125), (128, 0.1), (372, 0.1), (436, 0.05), (500, 0.0), (9000, 0.0)],
)
def test_labels_of_few_texts_are_smoothed(n_texts, smoothing):
    assert resolve_smoothing("auto", n_texts) == pytest.approx(smoothing)
    assert resolve_smoothing(0.5, n_texts) == 0.5


@pytest.mark.parametrize(
    ("n_texts", "batch_size", "n_epochs"),
    [(48, 16, 40), (48, 2, 7), (48, 1, 4), (52, 1, 3), (9000, 16, 3)],
)
def test_epochs_are_3_or_enough_for_150_steps_but_at_most_40(
    n_texts, batch_size, n_epochs
):
    assert resolve_epochs("auto", n_texts, batch_size) == n_epochs
    assert resolve_epochs(5, n_texts, batch_size) == 5


@pytest.mark.parametrize(("is_paired", "weight"), [(False, 0.8), (True, 0.0)])
def test_pairs_are_compared_in_the_learned_space_alone(is_paired, weight):
    """Pairs of one topic have different labels: SICK lost two points."""
    assert resolved(is_paired=is_paired).reading_weight == weight


@pytest.mark.parametrize(("is_paired", "weight"), [(False, 0.4), (True, 0.2)])
def test_preservation_is_smaller_for_pairs(is_paired, weight):
    assert resolve_preservation("auto", is_paired) == weight
    assert resolve_preservation(0.3, is_paired) == 0.3


@pytest.mark.parametrize(
    ("n_candidates", "label_agreement", "expected"),
    [
        ([99] * 2, 0.0, [8] * 2),
        ([99] * 3, 0.0, [5] * 3),
        ([99] * 4, 0.0, [4] * 4),
        ([99] * 6, 0.0, [3] * 6),
        ([99] * 2, 1.0, [10] * 2),
        ([99] * 6, 1.0, [10] * 6),
        ([4, 25, 400], 0.0, [2, 3, 5]),
        ([4, 25, 400], 0.4, [4, 4, 5]),
        ([1, 99], 0.0, [1, 8]),  # never more than candidates
        ([1, 1], 0.0, [1, 1]),
    ],
)
def test_prototypes_per_class_depend_on_texts_classes_and_agreement(
    n_candidates, label_agreement, expected
):
    counts = resolve_prototype_counts(
        make_config(), None, n_candidates, label_agreement
    )
    assert counts == expected


@pytest.mark.parametrize(
    ("n_prototypes", "expected"),
    [
        (5, [5, 2]),
        ({"a": 1, "b": 40}, [1, 2]),
        (30, [10, 2]),
        ({"a": 11, "b": 1}, [10, 1]),
    ],
)
def test_at_most_10_prototypes_are_learned_of_those_asked_for(n_prototypes, expected):
    """Never more than candidates."""
    config = make_config(n_prototypes=n_prototypes)
    wanted = spread(n_prototypes, ["a", "b"])
    assert resolve_prototype_counts(config, wanted, [50, 2], 1.0) == expected


@pytest.mark.parametrize("fields", [{"projection": False}, {"formulation": "proto-lm"}])
def test_all_prototypes_are_learned_where_texts_do_not_replace_them(fields):
    config = make_config(n_prototypes=30, **fields)
    assert resolve_prototype_counts(config, [30, 30], [50, 2], 1.0) == [30, 2]


@pytest.mark.parametrize(
    ("n_prototypes", "n_candidates", "expected"),
    [
        ("auto", [5000, 5000], [1000, 1000]),
        ("auto", [5000] * 5, [400] * 5),
        ("auto", [5000] * 150, [20] * 150),
        ("auto", [3, 5000], [3, 1000]),
        (30, [50, 2], [30, 2]),
        ({0: 1500, 1: 2}, [5000, 5000], [1500, 2]),
    ],
)
def test_2000_texts_are_quoted_and_20_per_class_at_least(
    n_prototypes, n_candidates, expected
):
    wanted = spread(n_prototypes, range(len(n_candidates)))
    assert resolve_quoted_counts(wanted, n_candidates) == expected


@pytest.mark.parametrize(
    ("n_prototypes", "classes", "expected"),
    [
        (3, ["a", "b"], [3, 3]),
        (np.int32(3), [0, 1, 2], [3, 3, 3]),
        ({"b": 1, "a": 5}, ["a", "b"], [5, 1]),
        ({np.int64(1): np.int64(2), 0: 4}, [0, 1], [4, 2]),
        ({True: 2, False: 1}, [False, True], [1, 2]),
        ({"a": 5, "b": 1, "not in this fold": 3}, ["a", "b"], [5, 1]),
    ],
)
def test_prototypes_are_counted_per_class_in_their_order(
    n_prototypes, classes, expected
):
    counts = spread(n_prototypes, classes)
    assert counts == expected
    assert {type(count) for count in counts} == {int}
