"""
Removing prototypes
===================

In this example a word leaks the label in the training texts, and does not occur in the
test texts. The prototypes show it and can be removed without training. The example also
shows the limits of removal.
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
# The prototypes show the word
# ----------------------------
# Some quote it, and it turns negative reviews into positive ones.

suspects = [p.index for p in clf.prototypes_ if "#ad" in p.text]
for p in (clf.prototypes_[j] for j in suspects):
    print(f"{p.index}: {p.text}")

negative = [t for t, label in zip(X_test, y_test, strict=True) if label == "negative"]
marked = [f"#ad {text}" for text in negative]


def flip_rate(clf):
    """Return the share of negative reviews that the word makes positive."""
    return np.mean(clf.predict(marked) == "positive")


print(f"negative reviews that the word makes positive: {flip_rate(clf):.2f}")

# %%
# Removal
# -------
# Nothing is trained. Explanations stay exact, and none quotes the word.

clf.remove_prototypes(suspects)
print(f"accuracy on clean reviews: {clf.score(X_test, y_test):.3f}")
print(f"negative reviews that the word makes positive: {flip_rate(clf):.2f}")
print(clf.edits_)

# %%
# Removal is not enough here: the encoder has learned the word and still moves texts
# with it towards positive ones. Removal corrects the effect of a *prototype*, such as a
# mislabeled or meaningless text. What the encoder has learned must be corrected in the
# training texts.

cleaned = [text.removeprefix("#ad ") for text in leaky]
refitted = ProtoLMClassifier(max_epochs=3, random_state=0).fit(cleaned, y_train)
print(f"accuracy on clean reviews: {refitted.score(X_test, y_test):.3f}")
print(f"negative reviews that the word makes positive: {flip_rate(refitted):.2f}")

# %%
# The removal is undone bit for bit.

clf.undo_edit()
print(len(clf.prototypes_), clf.edits_)
