"""The demo of `make demo`, with a tiny encoder."""

from __future__ import annotations

import importlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sklearn.utils import Bunch

from skprotolm import ProtoLMClassifier
from tests.texts import make_texts

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.TextTruncatedWarning")
def test_the_demo_explains_reviews_and_questions_and_writes_a_report(
    monkeypatch, tmp_path, tiny_folder, capsys
):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.chdir(tmp_path)
    demo = importlib.import_module("demo")
    target = np.random.RandomState(0).randint(
        2, size=1500
    )  # some predictions are wrong
    reviews = Bunch(
        data=make_texts(1500)[0], target=target, target_names=["negative", "positive"]
    )
    tiny = partial(ProtoLMClassifier, str(tiny_folder), max_epochs=1)
    monkeypatch.setattr(demo, "load_rotten_tomatoes", lambda: reviews)
    monkeypatch.setattr(demo, "ProtoLMClassifier", tiny)
    demo.main()
    out, err = capsys.readouterr()
    assert "A prediction that is right" in out
    assert "A prediction that is wrong" in out
    assert all(question in out for question in demo.NEW_QUESTIONS)
    assert err.count("done: 100%") >= 2
    assert (tmp_path / "demo-report.html").is_file()


def test_new_questions_are_not_training_questions(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    intents = importlib.import_module("intents")
    questions = [q for texts in intents.QUESTIONS.values() for q in texts]
    assert len(set(questions)) == len(questions)
    assert not set(questions) & set(intents.NEW_QUESTIONS)
