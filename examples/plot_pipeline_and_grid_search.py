"""
In a pipeline, and a grid search
================================

A table with a column of texts goes through a pipeline, a grid search chooses the number
of prototypes, and a held-out part says what the choice is worth.
"""

# %%
# A table
# -------
# The classifier reads one column of texts, or two for pairs of texts. Out of a wider
# table, a `sklearn.compose.ColumnTransformer` picks it.

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
# ``["review"]`` and not ``"review"``: a ColumnTransformer passes on tables only, and
# the classifier takes a table of one column for a column. Two epochs are few, so that
# this page stays quick.

model = Pipeline(
    [
        ("pick", ColumnTransformer([("text", "passthrough", ["review"])])),
        ("clf", ProtoLMClassifier(max_epochs=2, random_state=0)),
    ]
)
folds = StratifiedKFold(2, shuffle=True, random_state=0)
scores = cross_val_score(model, train, train["label"], cv=folds)
print(f"accuracy, two folds: {scores.round(3)}")

# %%
# The grid search
# ---------------
# Every candidate is fitted once a fold, and the best one once more on all the texts
# (``refit=True``, the default). ``n_jobs`` is left at one: each worker process would
# hold an encoder and its optimiser.

search = GridSearchCV(model, {"clf__n_prototypes": [2, 10]}, cv=folds)
search.fit(train, train["label"])
results = pd.DataFrame(search.cv_results_)
results[["param_clf__n_prototypes", "mean_test_score", "std_test_score"]]

# %%
# Two folds of 120 texts cannot tell candidates apart that differ by a few hundredths:
# from one draw of 120 texts to another, an accuracy of 0.7 has a standard deviation of
# 0.04. A choice that matters wants more texts and more folds.

print(search.best_params_)

# %%
# A held-out score
# ----------------
# The score of the chosen candidate on texts that had no part in the choice.

print(f"held-out accuracy: {search.score(test, test['label']):.3f}")

# %%
# Explanations are a method of the classifier, so hand it what the steps before it give.

best = search.best_estimator_
texts = best[:-1].transform(test.head(1))
best[-1].explain(texts, top_k=3)
