"""Searches and predictions in several processes, by engines for partitioned data.

Each engine runs for real, on this machine, where it is installed. The programs are
those of the guide.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV

from tests.texts import make_texts

FOLDER = Path(__file__).parents[1] / "examples" / "distributed"
pytestmark = [
    pytest.mark.allow_hosts(["127.0.0.1", "::1", "localhost"]),
    # Of the engines, such as ports in use and sockets that are closed late.
    pytest.mark.filterwarnings("ignore"),
]


def load_program(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import a program of the guide, here and in processes that are started."""
    monkeypatch.syspath_prepend(str(FOLDER))
    paths = [str(FOLDER), str(FOLDER.parents[1]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    return importlib.import_module(name)


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame({"text": make_texts(40, seed=1)[0], "row": np.arange(40)})


@pytest.fixture
def model_path(fitted, tmp_path) -> str:
    joblib.dump(fitted, tmp_path / "model.joblib")
    return str(tmp_path / "model.joblib")


# Dask


@pytest.fixture(scope="module")
def program() -> Iterator[ModuleType]:
    pytest.importorskip("distributed")
    pytest.importorskip("dask.dataframe")
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield load_program("predict_with_dask", monkeypatch)


@pytest.fixture(scope="module")
def client(program) -> Iterator[Any]:
    """A cluster of two worker processes, which take seconds to start."""
    from dask.distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


class ProcessLabels:
    """A classifier that counts how often it is loaded, and labels by its process."""

    classes_ = np.array(["a label"])

    def __init__(self, folder: Path):
        self.folder = folder

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        with (self.folder / str(os.getpid())).open("a") as file:
            file.write("loaded\n")

    def predict(self, X: Any) -> np.ndarray:
        return np.array([str(os.getpid())] * len(X))


def test_dask_predicts_the_partitions_of_a_frame(program, client, fitted, table):
    import dask.dataframe as dd

    frame = dd.from_pandas(table, npartitions=5)
    labeled = program.label_frame(frame, fitted, client).compute()
    expected = table.assign(label=fitted.predict(table["text"]))
    assert labeled["label"].tolist() == expected["label"].tolist()
    assert labeled["row"].tolist() == table["row"].tolist()
    few = program.label_frame(frame[frame["row"] < 9], fitted, client).compute()
    assert few["label"].tolist() == expected["label"].tolist()[:9]


def test_dask_writes_the_labels_of_a_frame(program, client, fitted, table, tmp_path):
    """Columns of NumPy's str dtype could be computed, but not written as Parquet."""
    import dask.dataframe as dd

    frame = dd.from_pandas(table, npartitions=2)
    program.label_frame(frame, fitted, client).to_parquet(tmp_path)
    written = pd.read_parquet(tmp_path)
    assert written["label"].tolist() == fitted.predict(table["text"]).tolist()


def test_dask_loads_the_model_once_per_worker(program, client, table, tmp_path):
    import dask.dataframe as dd

    frame = dd.from_pandas(table, npartitions=20)
    labeled = program.label_frame(frame, ProcessLabels(tmp_path), client).compute()
    workers = {str(pid) for pid in client.run(os.getpid).values()}
    assert len(workers) == 2
    assert set(labeled["label"]) <= workers
    for worker in workers:
        assert (tmp_path / worker).read_text() == "loaded\n"


def process_id(estimator: Any, X: Any, y: Any) -> float:
    return float(os.getpid())


def test_a_grid_search_runs_in_the_workers_of_dask(client, make_classifier, texts):
    X, y = texts
    grid = {"n_prototypes": [1, 2]}
    scoring = {"accuracy": "accuracy", "process": process_id}
    search = GridSearchCV(
        make_classifier(max_epochs=1), grid, scoring=scoring, refit="accuracy", cv=2
    )
    with joblib.parallel_backend("dask"):
        search.fit(X, y)
    expected = GridSearchCV(make_classifier(max_epochs=1), grid, cv=2).fit(X, y)
    assert search.best_params_ == expected.best_params_
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_accuracy"],
        expected.cv_results_["mean_test_score"],
    )
    workers = set(client.run(os.getpid).values())
    for fold in range(2):
        assert set(search.cv_results_[f"split{fold}_test_process"]) <= workers
    np.testing.assert_array_equal(search.predict(X), expected.predict(X))


# Spark


def test_spark_predicts_a_column(monkeypatch, fitted, model_path, table):
    pytest.importorskip("pyspark")
    program = load_program("predict_with_spark", monkeypatch)
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)  # of its Python workers
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2]")
    builder = builder.config("spark.driver.bindAddress", "127.0.0.1")
    builder = builder.config("spark.driver.host", "127.0.0.1")
    spark = builder.config("spark.ui.enabled", "false").getOrCreate()
    try:
        frame = spark.createDataFrame(table).repartition(3)
        rows = program.label_frame(frame, model_path).orderBy("row").collect()
    finally:
        spark.stop()
    assert [row["label"] for row in rows] == fitted.predict(table["text"]).tolist()


# Ray


def test_ray_predicts_batches(monkeypatch, fitted, model_path, table):
    pytest.importorskip("ray.data")
    program = load_program("predict_with_ray", monkeypatch)
    import ray

    ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1")
    try:
        dataset = ray.data.from_pandas(table)
        labeled = program.label_dataset(dataset, model_path, n_actors=1).to_pandas()
    finally:
        ray.shutdown()
    labeled = labeled.sort_values("row")
    assert labeled["label"].tolist() == fitted.predict(table["text"]).tolist()
