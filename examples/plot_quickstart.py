"""
Fit, predict, explain
=====================

Fine-tune the default encoder on 800 sentences of film reviews, and look at why it says
what it says of a sentence that it has not seen.
"""

# %%
# The data
# --------
# The reviews stand in the order of their classes, so a part of them must be drawn at
# random. With names for labels, explanations read better than with 0 and 1.

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
# Three epochs are short for 800 texts: the default, ``max_epochs="auto"``, makes six of
# them here and takes twice the time.

clf = ProtoLMClassifier(max_epochs=3, random_state=0).fit(X_train, y_train)

# %%
# What it is worth
# ----------------
# On 300 held-out sentences. Half of them are positive, so guessing gets 0.5.

print(f"accuracy: {clf.score(X_test, y_test):.3f}")

# %%
# Why?
# ----
# An explanation is about one text. Printed, it lists training texts of the predicted
# class, each with its share, and their sum, which is the probability; then what speaks
# against it; then the log-odds, as a sum over the words.

explanations = clf.explain(X_test[:20], top_k=3)
explanation = explanations[8]
print(explanation)

# %%
# In a notebook it shows as HTML. `Explanations.save_html` writes a page of it.

explanation

# %%
# The sums hold up to rounding: all shares together are 1, those of the predicted class
# are its probability, and the words' scores and the base are its log-odds.

owned = clf.prototypes_.labels == explanation.target
print(explanation.contributions.sum() - 1)
print(explanation.contributions[owned].sum() - explanation.probability)
print(explanation.base_value + explanation.word_scores.sum() - explanation.log_odds)

# %%
# Which words
# -----------
# A word's score is its part of the log-odds: above zero it speaks for the label, below
# against it. This is an accounting of the sum that the model computed. It does not say
# what the model would answer without the word.

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
# Look at the errors
# ------------------
# Of the sentences that the model gets wrong, this is the one that it is surest of. The
# training texts that it leans on often say why.

probabilities = clf.predict_proba(X_test)
wrong = np.flatnonzero(clf.classes_[probabilities.argmax(axis=1)] != y_test)
surest = wrong[probabilities[wrong].max(axis=1).argmax()]
print(f"{len(wrong)} of {len(y_test)} are wrong. This one is {y_test[surest]}:")
print(clf.explain([X_test[surest]])[0])

# %%
# The prototypes
# --------------
# All that the model can quote. Purity and usage tell how each fits in: the share of its
# own class among the ten nearest other training texts, and how many of the other
# training texts have it as their nearest prototype. Look at the lowest purities first:
# texts of the other class stand around them. It may be a mixed review, or a wrong
# label.

table = clf.prototypes_.to_frame().sort_values("purity")
for row in table.head(3).itertuples():
    print(f"purity {row.purity:.1f}, usage {row.usage}, {row.label}: {row.text}")

# %%
# In a notebook, all of them show as a table.

clf.prototypes_
