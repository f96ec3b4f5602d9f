"""Predict the texts of a table in many partitions with Dask.

python examples/distributed/predict_with_dask.py MODEL TABLE RESULT

reads a joblib file and a Parquet table with a column "text", and adds a column "label".
"""

import sys

import dask.dataframe as dd
import joblib
import pandas as pd
from dask.distributed import Client

from skprotolm import ProtoLMClassifier


def label_part(part: pd.DataFrame, clf: ProtoLMClassifier) -> pd.DataFrame:
    if part.empty:  # as after a filter
        return part.assign(label=clf.classes_[:0])
    return part.assign(label=clf.predict(part["text"]))


def label_frame(
    frame: dd.DataFrame, clf: ProtoLMClassifier, client: Client
) -> dd.DataFrame:
    # Once per worker, not once per task. A key by hash would be that of earlier calls,
    # which the scheduler may release after this one.
    model = client.scatter(clf, broadcast=True, hash=False)
    meta = label_part(frame._meta, clf)  # an empty part
    return frame.map_partitions(label_part, model, meta=meta)


if __name__ == "__main__":
    model_path, table, result = sys.argv[1:]
    with Client() as client:
        frame = dd.read_parquet(table)
        label_frame(frame, joblib.load(model_path), client).to_parquet(result)
