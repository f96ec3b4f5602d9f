"""
Several labels per text: the tags of a support ticket
=====================================================

A ticket may have several tags, or none. With an indicator matrix as y,
`ProtoLMClassifier` predicts a probability per tag, and explains each tag by training
tickets that have it and by others that do not. The tickets of this example were written
for it.
"""

# %%
# Texts and tags
# --------------
# ``MultiLabelBinarizer`` turns lists of tags into an indicator matrix with one column
# per tag.

import pandas as pd
from sklearn.metrics import coverage_error, f1_score
from sklearn.preprocessing import MultiLabelBinarizer

from skprotolm import ProtoLMClassifier

TICKETS = [
    ("the invoice of may lists a charge that we never ordered", ["billing"]),
    ("please send the invoice to our new address", ["billing"]),
    ("we were billed twice this month and want a refund", ["billing", "refund"]),
    ("refund the second payment of our subscription", ["billing", "refund"]),
    ("the tax number on the invoice is wrong", ["billing"]),
    ("why is the fee on my invoice higher than last month", ["billing"]),
    ("i returned the headphones and wait for my money", ["refund"]),
    ("when will the refund for order 113 reach my account", ["refund"]),
    ("money back please, the lamp is not what i ordered", ["refund"]),
    ("i want my money back for the broken kettle", ["refund", "damage"]),
    ("the mug arrived in pieces, please refund it", ["refund", "damage"]),
    ("the screen of the tablet is cracked", ["damage"]),
    ("one leg of the chair is broken", ["damage"]),
    ("the box was torn and the vase inside is broken", ["damage", "delivery"]),
    ("the parcel came late and the glass was shattered", ["damage", "delivery"]),
    ("scratches all over the new table", ["damage"]),
    ("my parcel has not arrived after two weeks", ["delivery"]),
    ("the courier left the package at the wrong house", ["delivery"]),
    ("tracking says delivered, but nothing is here", ["delivery"]),
    ("can the delivery be moved to friday", ["delivery"]),
    ("the shipment is stuck at customs", ["delivery"]),
    ("late delivery again, i want my shipping fee back", ["delivery", "refund"]),
    ("the parcel never came, please refund the order", ["delivery", "refund"]),
    ("i cannot sign in since the update", ["account"]),
    ("the reset mail for my password does not come", ["account"]),
    ("please delete my account and all data", ["account"]),
    ("my account is locked after three wrong passwords", ["account"]),
    ("change the mail address of my login", ["account"]),
    ("i cannot sign in to see my invoices", ["account", "billing"]),
    ("my account shows an invoice of somebody else", ["account", "billing"]),
    ("thank you, all is fine now", []),
    ("what are your opening hours", []),
    ("do you have this shirt in green", []),
    ("great service, thanks a lot", []),
]
X = [text for text, _ in TICKETS]
binarizer = MultiLabelBinarizer()
Y = binarizer.fit_transform([tags for _, tags in TICKETS])
print(Y[:3])

# %%
# Fit and predict
# ---------------
# The columns of a frame name the labels. Of an array they would be 0 to 4.

clf = ProtoLMClassifier(max_epochs=30, learning_rate=1e-4, random_state=0)
clf.fit(X, pd.DataFrame(Y, columns=binarizer.classes_))
new = [
    "the plate was broken and i want my money back",
    "the parcel is late",
    "we cannot sign in, and the invoice is missing",
    "thanks for the quick answer",
]
for text, tags in zip(new, binarizer.inverse_transform(clf.predict(new)), strict=True):
    print(f"{text}: {', '.join(tags) or 'no tag'}")

# %%
# Probabilities are one per tag and do not sum to 1. Metrics of scikit-learn accept the
# output.

print(pd.DataFrame(clf.predict_proba(new), columns=clf.classes_).round(2))
print("micro-F1 of the training tickets:", f1_score(Y, clf.predict(X), average="micro"))
print("their coverage error:", round(coverage_error(Y, clf.predict_proba(X)), 2))

# %%
# Why this tag?
# -------------
# The probability of a tag is the sum of the shares of the tickets that have it. The
# shares of the tickets without it sum to the rest.

explanation = clf.explain(new[:1], target="refund")[0]
print(explanation)

# %%

total = explanation.contributions[explanation.has_target].sum()
print(f"{explanation.probability:.6f} = {total:.6f}")

# %%
# As a figure: words and tickets that speak for the tag are green, and those that speak
# against it red.

figure = explanation.plot()

# %%
# Prototypes carry the tags of their tickets, and can be given others without training.

top = explanation.in_favor[0]
print(top.text, "→", top.labels)
clf.relabel_prototypes({top.index: ["refund"]})
print(pd.DataFrame(clf.predict_proba(new[:1]), columns=clf.classes_).round(2))
