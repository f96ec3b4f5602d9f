"""
Are the explanations faithful?
==============================

An explanation can add up and still not say what the prediction hangs on. These measures
take reasons away, or leave nothing else, and look at what the model says then; each
stands beside the same with random reasons.
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
# *Comprehensiveness* of words: how far the probability of the predicted class falls
# when the words of the highest scores are deleted, or masked; higher is better.
# *Sufficiency*: how far it falls when only they are left; lower is better. Of
# prototypes, the same with three of them taken out of the model, or alone in it.
# *Simulatability*: how often a simple student foresees the model's decision from the
# prototypes' texts, beside how often from the text itself.

pd.set_option("display.width", 120)
table = evaluate_explanations(clf, X_test, token_method="relevance", random_state=0)
print(table.round(3).to_string(index=False))

# %%
# Methods beside each other
# -------------------------
# By one measure. The scores of any other method can be passed as well, one array a
# text.

for method in ("decomposition", "relevance", "occlusion"):
    value = comprehensiveness(clf, X_test, token_method=method).mean()
    print(f"{method}: {value:.3f}")
