"""Predict the texts of a table with Ray Data.

python examples/distributed/predict_with_ray.py MODEL TABLE RESULT

reads a joblib file, which all machines must be able to read, and a Parquet table with a
column "text", and adds a column "label".
"""

import sys

import joblib
import numpy as np
import ray
from ray.data import ActorPoolStrategy, Dataset


class Labels:
    def __init__(self, model_path: str):
        self.clf = joblib.load(model_path)  # once per actor

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {**batch, "label": self.clf.predict(batch["text"].tolist())}


def label_dataset(dataset: Dataset, model_path: str, n_actors: int) -> Dataset:
    return dataset.map_batches(
        Labels,
        fn_constructor_args=[model_path],
        batch_size=1024,
        compute=ActorPoolStrategy(size=n_actors),
    )


if __name__ == "__main__":
    model_path, table, result = sys.argv[1:]
    dataset = ray.data.read_parquet(table)
    label_dataset(dataset, model_path, n_actors=2).write_parquet(result)
