"""Predict the texts of a table with Spark.

python examples/distributed/predict_with_spark.py MODEL TABLE RESULT

reads a joblib file, which all machines must be able to read, and a Parquet table with a
column "text", and adds a column "label".
"""

import sys
from collections.abc import Callable

import joblib
import numpy as np
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StringType


def label_frame(frame: DataFrame, model_path: str) -> DataFrame:
    def load() -> Callable[[np.ndarray], np.ndarray]:
        clf = joblib.load(model_path)  # once per Python worker
        return lambda texts: clf.predict(texts.tolist())

    label = predict_batch_udf(load, return_type=StringType(), batch_size=1024)
    return frame.withColumn("label", label("text"))


if __name__ == "__main__":
    model_path, table, result = sys.argv[1:]
    spark = SparkSession.builder.getOrCreate()
    label_frame(spark.read.parquet(table), model_path).write.parquet(result)
