"""
Inspecting a model
==================

A report shows the prototypes of a model, the texts that they decide, the worst
mistakes, and training texts whose label may be wrong.
"""

# %%
# A model of 800 reviews. Ten of the training labels are flipped.

from pathlib import Path
from tempfile import TemporaryDirectory

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
flipped = np.random.RandomState(0).choice(800, 10, replace=False)
y_train[flipped] = np.where(y_train[flipped] == "positive", "negative", "positive")
clf = ProtoLMClassifier(max_epochs=3, random_state=0).fit(X_train, y_train)

# %%
# The report
# ----------
# `ProtoLMClassifier.report` writes one file that opens in any browser and loads nothing
# from the network. The first two arguments evaluate the model. The training texts,
# which the model does not store, are used for the map, for the neighbors of the
# prototypes, and for the search for doubtful labels.

with TemporaryDirectory() as folder:
    path = Path(folder) / "report.html"
    clf.report(X_test, y_test, path, X_train=X_train, y_train=y_train)
    page = path.read_text(encoding="utf-8")
print(f"{len(page) / 1000:.0f} kB")

# %%
# "Doubtful labels" lists training texts whose neighbors and prediction support another
# label. Some of them are the flipped ones; others are reviews that resemble the other
# class. Some flipped labels are missing, since the model was trained on them.

listed = page.split("<h2>Doubtful labels</h2>")[1]
detected = [row for row in flipped if f"Row {row} of" in listed]
print(f"{listed.count('<article')} listed, {len(detected)} of the 10 flipped ones")

# %%
# The map
# -------
# The map of the report as a matplotlib figure, with large marks for prototypes and
# small marks for held-out reviews. Near neighbors stay near; distances between
# groups have little meaning.

clf.prototypes_.plot(X_test, y_test)

# %%
# The nearest prototypes
# ----------------------
# For any text, without a full explanation.

nearest = clf.prototypes_.nearest(["a film that never finds its feet"], k=2)
for j, similarity in zip(nearest.indices[0], nearest.similarities[0], strict=True):
    prototype = clf.prototypes_[j]
    print(f"{similarity:.2f}  {prototype.label}: {prototype.text}")
