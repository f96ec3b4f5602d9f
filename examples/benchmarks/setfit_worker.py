"""Fit SetFit on texts from standard input, in a separate environment.

Called by ``few_texts.py``. Reads one JSON object from standard input (``backbone``,
``X_train``, ``y_train``, ``X_test``, ``seed``, ``threads``), and writes another one to
the file named by its argument: ``seconds`` of the fit, ``probabilities`` (n, C) of the
sorted classes, and the ``version`` of SetFit.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import setfit
import torch
from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments


def main() -> None:
    """Fit with the defaults of SetFit: 20 iterations of pairs, batches of 16."""
    task = json.load(sys.stdin)
    torch.set_num_threads(task["threads"])
    classes = sorted(set(task["y_train"]))
    codes = [classes.index(label) for label in task["y_train"]]
    data = Dataset.from_dict({"text": task["X_train"], "label": codes})
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder,
            batch_size=16,
            num_epochs=1,
            num_iterations=20,
            seed=task["seed"],
            save_strategy="no",
            report_to="none",
            show_progress_bar=False,
        )
        model = SetFitModel.from_pretrained(task["backbone"], local_files_only=True)
        started = time.perf_counter()
        Trainer(model=model, args=settings, train_dataset=data).train()
        seconds = time.perf_counter() - started
    probabilities = np.asarray(model.predict_proba(task["X_test"], batch_size=32))
    response = {
        "seconds": seconds,
        "probabilities": probabilities.tolist(),
        "version": setfit.__version__,
    }
    Path(sys.argv[1]).write_text(json.dumps(response), encoding="utf-8")


if __name__ == "__main__":
    main()
