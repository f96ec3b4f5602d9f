"""
Pipelines and grid search
=========================

A pipeline selects the column of texts from a table, a grid search chooses the number of
prototypes, and held-out texts evaluate the choice.
"""

# %%
# A table
# -------
# The classifier takes one column of texts, or two for pairs of texts. A
# `sklearn.compose.ColumnTransformer` selects it from a wider table.

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    cross_val_score,
    train_test_split,
)
from sklearn.pipeline import Pipeline

from skprotolm import ProtoLMClassifier
from skprotolm.datasets import load_rotten_tomatoes

reviews = load_rotten_tomatoes()
table = pd.DataFrame(
    {
        "review": reviews.data,
        "words": [len(text.split()) for text in reviews.data],
        "label": np.array(reviews.target_names)[reviews.target],
    }
)
train, test = train_test_split(
    table, train_size=240, test_size=200, stratify=table["label"], random_state=0
)
train.head()

# %%
# The pipeline
# ------------
# Use ``["review"]``, not ``"review"``: a ColumnTransformer outputs tables only, and the
# classifier accepts a table of one column. Two epochs keep this example fast.

model = Pipeline(
    [
        ("select", ColumnTransformer([("text", "passthrough", ["review"])])),
        ("clf", ProtoLMClassifier(max_epochs=2, random_state=0)),
    ]
)
folds = StratifiedKFold(2, shuffle=True, random_state=0)
scores = cross_val_score(model, train, train["label"], cv=folds)
print(f"accuracy, two folds: {scores.round(3)}")

# %%
# The grid search
# ---------------
# Every candidate is fitted once per fold, and the best one again on all texts
# (``refit=True``, the default). ``n_jobs`` stays at one, because each worker process
# would need an encoder and its optimizer.

search = GridSearchCV(model, {"clf__n_prototypes": [2, 10]}, cv=folds)
search.fit(train, train["label"])
results = pd.DataFrame(search.cv_results_)
results[["param_clf__n_prototypes", "mean_test_score", "std_test_score"]]

# %%
# Two folds of 120 texts cannot distinguish candidates that differ by a few hundredths:
# on 120 texts, an accuracy of 0.7 has a standard deviation of 0.04. Use more texts and
# more folds in practice.

print(search.best_params_)

# %%
# A held-out score
# ----------------
# The score of the best candidate on texts that were not used in the search.

print(f"held-out accuracy: {search.score(test, test['label']):.3f}")

# %%
# The last step explains the output of the previous steps.

best = search.best_estimator_
texts = best[:-1].transform(test.head(1))
best[-1].explain(texts, top_k=3)
