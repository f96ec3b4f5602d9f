"""
Evaluating explanations
=======================

An exact sum does not show that the prediction depends on what is listed. These measures
remove words or prototypes, or keep only these, and predict again. Each has a baseline
with random words or prototypes.
"""

# %%

import pandas as pd
from sklearn.model_selection import train_test_split

from skprotolm import ProtoLMClassifier
from skprotolm.datasets import load_rotten_tomatoes
from skprotolm.metrics import comprehensiveness, evaluate_explanations

reviews = load_rotten_tomatoes()
labels = [reviews.target_names[code] for code in reviews.target]
X_train, X_test, y_train, y_test = train_test_split(
    reviews.data,
    labels,
    train_size=800,
    test_size=60,
    stratify=labels,
    random_state=0,
)
clf = ProtoLMClassifier(max_epochs=3, random_state=0).fit(X_train, y_train)

# %%
# All measures
# ------------
# *Comprehensiveness* of words: how far the probability of the predicted class falls if
# the words of the highest scores are deleted or masked; higher is better.
# *Sufficiency*: how far it falls if only these words are left; lower is better. For
# prototypes, three of them are removed from the model, or are left in it.
# *Simulatability*: how often a simple student predicts the model's decision from the
# prototypes' texts, compared with the text itself.

pd.set_option("display.width", 120)
table = evaluate_explanations(clf, X_test, token_method="relevance", random_state=0)
print(table.round(3).to_string(index=False))

# %%
# Comparison of methods
# ---------------------
# The scores of any other method can be passed as well, one array per text.

for method in ("decomposition", "relevance", "occlusion"):
    value = comprehensiveness(clf, X_test, token_method=method).mean()
    print(f"{method}: {value:.3f}")
