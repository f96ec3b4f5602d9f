"""
Look at a whole model
=====================

Before a model is put to work someone has to look at it: at its prototypes, at what they
decide, at its worst mistakes, and at training texts whose label may be wrong. One page
holds all of that.
"""

# %%
# A model to look at, of 800 reviews. Ten of the training labels are turned around.

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
turned = np.random.RandomState(0).choice(800, 10, replace=False)
y_train[turned] = np.where(y_train[turned] == "positive", "negative", "positive")
clf = ProtoLMClassifier(max_epochs=3, random_state=0).fit(X_train, y_train)

# %%
# The report
# ----------
# `ProtoLMClassifier.report` writes one file that opens in any browser and loads nothing
# from elsewhere. It judges the model by the first two arguments; the training texts,
# which the model does not keep, are what its prototypes are shown among, and what is
# searched for doubtful labels.

with TemporaryDirectory() as folder:
    path = Path(folder) / "report.html"
    clf.report(X_test, y_test, path, X_train=X_train, y_train=y_train)
    page = path.read_text(encoding="utf-8")
print(f"{len(page) / 1000:.0f} kB")

# %%
# Under "Doubtful labels" it lists training texts most of whose neighbours have another
# label. Of these, some are the ones that were turned around; others are reviews that
# only read as if they were of the other class, and some labels that were turned are not
# found, since the model has learned from them too.

listed = page.split("<h2>Doubtful labels</h2>")[1]
found = [row for row in turned if f"Row {row}:" in listed]
print(f"{listed.count('<article')} listed, among them {len(found)} of the 10 turned")

# %%
# The map
# -------
# The same map as in the report, as a matplotlib figure: prototypes large, with their
# numbers, and held-out reviews small. Near neighbours stay near; how far apart two
# groups are drawn says little.

clf.prototypes_.plot(X_test, y_test)

# %%
# The nearest prototypes
# ----------------------
# For any text, without an explanation's detail.

nearest = clf.prototypes_.nearest(["a film that never finds its feet"], k=2)
for j, similarity in zip(nearest.indices[0], nearest.similarities[0], strict=True):
    prototype = clf.prototypes_[j]
    print(f"{similarity:.2f}  {prototype.label}: {prototype.text}")
