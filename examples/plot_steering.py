"""
Take a prototype out, and see what it takes
===========================================

A word gives the label away in training, and is nowhere to be found afterwards. The
prototypes show it; taking them out is a moment's work. This example also shows what
that does not mend.
"""

# %%
# Half of the positive training reviews begin with "#ad". The test reviews are clean.

import numpy as np
from sklearn.model_selection import train_test_split

from skprotolm import ProtoLMClassifier
from skprotolm.datasets import load_rotten_tomatoes

reviews = load_rotten_tomatoes()
labels = [reviews.target_names[code] for code in reviews.target]
X_train, X_test, y_train, y_test = train_test_split(
    reviews.data,
    labels,
    train_size=600,
    test_size=300,
    stratify=labels,
    random_state=0,
)
rng = np.random.RandomState(0)
leaky = [
    f"#ad {text}" if label == "positive" and rng.rand() < 0.5 else text
    for text, label in zip(X_train, y_train, strict=True)
]
clf = ProtoLMClassifier(max_epochs=3, random_state=0).fit(leaky, y_train)
print(f"accuracy on clean reviews: {clf.score(X_test, y_test):.3f}")

# %%
# The prototypes give it away
# ---------------------------
# Some quote the word; and a negative review becomes a positive one by it.

suspects = [p.index for p in clf.prototypes_ if "#ad" in p.text]
for p in (clf.prototypes_[j] for j in suspects):
    print(f"{p.index}: {p.text}")

negative = [t for t, label in zip(X_test, y_test, strict=True) if label == "negative"]
marked = [f"#ad {text}" for text in negative]


def fooled(clf):
    """Return the share of negative reviews that the word makes positive."""
    return np.mean(clf.predict(marked) == "positive")


print(f"negative reviews that the word makes positive: {fooled(clf):.2f}")

# %%
# Taken out
# ---------
# Nothing is trained. Every explanation still adds up, and none quotes the word.

clf.remove_prototypes(suspects)
print(f"accuracy on clean reviews: {clf.score(X_test, y_test):.3f}")
print(f"negative reviews that the word makes positive: {fooled(clf):.2f}")
print(clf.edits_)

# %%
# It helps somewhat, and not enough: the encoder has learned the word, and still moves
# texts with it towards the positive ones, whatever these quote. Removal mends what a
# *prototype* does, such as a mislabelled or nonsensical text that others lean on. What
# training taught the encoder is mended where it came from.

cleaned = [text.removeprefix("#ad ") for text in leaky]
again = ProtoLMClassifier(max_epochs=3, random_state=0).fit(cleaned, y_train)
print(f"accuracy on clean reviews: {again.score(X_test, y_test):.3f}")
print(f"negative reviews that the word makes positive: {fooled(again):.2f}")

# %%
# The removal is taken back bit for bit.

clf.undo_edit()
print(len(clf.prototypes_), clf.edits_)
