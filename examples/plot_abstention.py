"""
Abstention
==========

A classifier of film reviews predicts a label for any text, often with a high
probability. The novelty score is high if no prototype is similar to the text, and a
threshold from held-out texts determines which texts to pass on to a person.
"""

# %%
# The reviews are split into training, held-out (for the threshold) and test texts.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from skprotolm import ProtoLMClassifier
from skprotolm.datasets import load_rotten_tomatoes

reviews = load_rotten_tomatoes()
labels = np.array(reviews.target_names)[reviews.target]
X, X_rest, y, y_rest = train_test_split(
    reviews.data, labels, train_size=800, stratify=labels, random_state=0
)
X_held_out, y_held_out = X_rest[:300], y_rest[:300]
X_test, y_test = X_rest[300:600], y_rest[300:600]
clf = ProtoLMClassifier(max_epochs=3, random_state=0).fit(X, y)

# %%
# The threshold
# -------------
# At most one in twenty reviews should be refused. This holds on average for texts of
# the same distribution. There is no guarantee for out-of-distribution texts.

limit = clf.novelty_threshold(X_held_out, rate=0.05)
print(f"refused of the test reviews: {np.mean(clf.novelty_score(X_test) > limit):.3f}")

# %%
# Out-of-distribution texts
# -------------------------
# Questions to a bank, and recipes.

foreign = [
    "how do i change the pin of my card",
    "the transfer has not arrived yet",
    "whisk the eggs with the sugar and fold in the flour",
    "my account was blocked after i moved house",
    "bake for forty minutes until a skewer comes out clean",
    "what is the exchange rate for dollars today",
    "simmer the onions in butter until they are soft",
    "i would like to order a second card for my daughter",
]
for text in foreign:
    novelty = clf.novelty_score([text])[0]
    probability = clf.predict_proba([text]).max()
    verdict = "refused" if novelty > limit else "answered"
    print(f"{novelty:+.2f}  {probability:.2f}  {verdict}  {text}")

# %%
# AUROC of both scores for the detection of out-of-distribution texts.

is_foreign = np.repeat([0, 1], [len(X_test), len(foreign)])
both = [*X_test, *foreign]
novelty = clf.novelty_score(both)
doubt = 1 - clf.predict_proba(both).max(axis=1)
print(f"AUROC by novelty: {roc_auc_score(is_foreign, novelty):.3f}")
print(f"AUROC by the highest probability: {roc_auc_score(is_foreign, doubt):.3f}")

fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
ax.hist(novelty[is_foreign == 0], bins=30, label="reviews")
ax.plot(novelty[is_foreign == 1], np.zeros(len(foreign)), "k|", ms=30, label="others")
ax.axvline(limit, color="tab:red", label="threshold")
ax.set_xlabel("novelty score")
ax.legend()
plt.show()

# %%
# Accuracy against coverage
# -------------------------
# For wrong predictions on reviews, the probability is the better score.

correct = clf.predict(X_test) == y_test
for name, score in (("novelty", novelty), ("probability", doubt)):
    order = np.argsort(score[: len(X_test)])
    kept = [correct[order[: round(c * len(order))]].mean() for c in (1, 0.9, 0.7, 0.5)]
    print(f"by {name}: " + ", ".join(f"{accuracy:.2f}" for accuracy in kept))
