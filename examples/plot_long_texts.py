"""
Long texts: whole reviews in windows
====================================

An encoder reads a limited number of tokens at once, and by default the rest of a longer
text is not read. With ``long_text="window"`` all of it is read, in overlapping windows
under one attention over all tokens, and explanations lead with the sentences that
matter.
"""

# %%
# Reviews
# -------
# Reviews from IMDb have 230 words on average, and some more than a thousand.

import warnings

import numpy as np
from sklearn.model_selection import train_test_split

from skprotolm import ProtoLMClassifier
from skprotolm.datasets import load_imdb
from skprotolm.exceptions import TextTruncatedWarning

reviews = load_imdb()
texts = [text.replace("<br />", "\n") for text in reviews.data]
labels = np.array(reviews.target_names)[reviews.target]
X_train, X_test, y_train, y_test = train_test_split(
    texts, labels, train_size=400, test_size=300, stratify=labels, random_state=0
)
print(f"the longest test review has {max(len(x.split()) for x in X_test)} words")

# %%
# Truncated and whole texts
# -------------------------
# Short windows of 64 tokens and a frozen encoder keep this example fast. Without
# windows, a warning tells how much of the texts is not read.

settings = {"max_length": 64, "finetune": "head", "random_state": 0}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", TextTruncatedWarning)
    truncating = ProtoLMClassifier(**settings).fit(X_train, y_train)
    accuracy = truncating.score(X_test, y_test)
print(caught[0].message)
print(f"accuracy with the first 64 tokens: {accuracy:.3f}")

# %%

clf = ProtoLMClassifier(long_text="window", **settings).fit(X_train, y_train)
print(f"accuracy with all tokens: {clf.score(X_test, y_test):.3f}")

# %%
# Sentences that matter
# ---------------------
# Print leads with the sentences of the largest scores, each with its strongest words.
# With the sum of the other sentences, they are exactly what the words add to the
# log-odds. This is the review of the most confident prediction.

row = clf.predict_proba(X_test).max(axis=1).argmax()
explanation = clf.explain([X_test[row]], top_k=2)[0]
print(explanation)

# %%
# The sums are over all tokens of the review, not over those of one window.

total = explanation.base_value + explanation.sentence_scores.sum()
print(f"{len(explanation.tokens)} tokens, {len(explanation.sentences)} sentences")
print(f"{total:.6f} = {explanation.log_odds:.6f}")

# %%
# The page shows these sentences in the order of the review, and folds the others. A
# note says how many they are, and what they add.

explanation

# %%
# Sentences that match
# --------------------
# The cosine to a quoted review is a sum over pairs of sentences, too. The excess is
# what is specific to a pair.

quoted = explanation.prototypes[0].index
alignment = explanation.sentence_alignment(quoted)
i, j = np.unravel_index(alignment.excess.argmax(), alignment.excess.shape)
print(f"{explanation.sentences[i]!r}\nmatches\n{alignment.sentences[j]!r}")
