"""
Fit, predict, explain
=====================

Fine-tune the default encoder on 800 sentences of film reviews, and explain predictions
on held-out sentences.
"""

# %%
# The data
# --------
# The reviews are sorted by class, so the split must be random. Explanations are easier
# to read with names as labels than with 0 and 1.

import numpy as np
from sklearn.model_selection import train_test_split

from skprotolm import ProtoLMClassifier
from skprotolm.datasets import load_rotten_tomatoes

reviews = load_rotten_tomatoes()
labels = np.array(reviews.target_names)[reviews.target]
X_train, X_test, y_train, y_test = train_test_split(
    reviews.data,
    labels,
    train_size=800,
    test_size=300,
    stratify=labels,
    random_state=0,
)
print(f"{y_train[0]}: {X_train[0]}")

# %%
# Fit
# ---
# Three epochs keep this example fast. The default, ``max_epochs="auto"``, is six epochs
# for 800 texts.

clf = ProtoLMClassifier(max_epochs=3, random_state=0).fit(X_train, y_train)

# %%
# Accuracy
# --------
# On 300 held-out sentences. Half of them are positive, so chance is 0.5.

print(f"accuracy: {clf.score(X_test, y_test):.3f}")

# %%
# Explanations
# ------------
# An explanation is about one text. Its print lists training texts of the predicted
# class with their shares, their sum, which is the probability, the shares of the other
# class, and the log-odds as a sum over the words.

explanations = clf.explain(X_test[:20], top_k=3)
explanation = explanations[8]
print(explanation)

# %%
# Notebooks display it as HTML. `Explanations.save_html` writes the same as a page.

explanation

# %%
# The sums are exact up to rounding: all shares sum to 1, those of the predicted class
# to its probability, and the word scores and the base to its log-odds.

of_target = clf.prototypes_.labels == explanation.target
print(explanation.contributions.sum() - 1)
print(explanation.contributions[of_target].sum() - explanation.probability)
print(explanation.base_value + explanation.word_scores.sum() - explanation.log_odds)

# %%
# Word scores
# -----------
# The score of a word is its part of the log-odds: positive scores support the label,
# negative scores oppose it. They predict the effect of deleting the word, but not
# exactly.

import matplotlib.pyplot as plt

positions = np.arange(len(explanation.words))
scores = explanation.word_scores
fig, ax = plt.subplots(figsize=(7, 0.25 * len(positions) + 1), layout="constrained")
ax.barh(positions, scores, color=np.where(scores > 0, "tab:green", "tab:red"))
ax.axvline(0, color="black", linewidth=0.8)
ax.set_yticks(positions, explanation.words)
ax.invert_yaxis()
ax.set_xlabel(f"part of the log-odds of {explanation.target!r}")
plt.show()

# %%
# Errors
# ------
# The wrong prediction of the highest probability. Its training texts often show the
# reason.

probabilities = clf.predict_proba(X_test)
wrong = np.flatnonzero(clf.classes_[probabilities.argmax(axis=1)] != y_test)
most_confident = wrong[probabilities[wrong].max(axis=1).argmax()]
print(f"{len(wrong)} of {len(y_test)} are wrong. This one is {y_test[most_confident]}:")
print(clf.explain([X_test[most_confident]])[0])

# %%
# The prototypes
# --------------
# All texts that the model can quote. Purity is the share of the prototype's label among
# the ten nearest other training texts; usage is the number of other training texts
# whose nearest prototype it is. Of many prototypes, most have a usage of 0 or 1. A low
# purity is rare, since texts that the model classifies correctly are quoted: such a
# text lies among texts of the other class. It may be mixed, or its label may be wrong.

table = clf.prototypes_.to_frame().sort_values("usage", ascending=False)
for row in table.head(3).itertuples():
    print(f"purity {row.purity:.1f}, usage {row.usage}, {row.label}: {row.text}")

# %%
# Notebooks display all of them as a table.

clf.prototypes_
