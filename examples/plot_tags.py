"""
Tags: names of persons and places
=================================

`ProtoLMTokenClassifier` gives a tag to each word of a sentence. A prediction is a sum
of shares of training words, each of which is quoted in its sentence. The sentences of
this example were written for it.
"""

# %%
# Sentences and tags
# ------------------
# A sentence is a list of words, with one tag per word. "B-…" is the first word of a
# name and "I-…" each further one.

import numpy as np

from skprotolm import ProtoLMTokenClassifier

PERSONS = ["Anna", "Peter", "Maria Lopez", "Tom Miller", "Ines", "Paul Young", "Lena"]
PLACES = ["Rome", "Paris", "New York", "Berlin", "San Diego", "Lima", "Oslo"]
PATTERNS = [
    "{person} moved to {place} last year",
    "yesterday {person} called from {place}",
    "the weather in {place} is nice , says {person}",
    "{person} and her sister live near {place}",
    "we met {person} at the station of {place}",
    "a train to {place} leaves at noon",
    "my friend {person} likes long walks",
    "nobody in the office knew the answer",
]


def tagged(text, kind):
    """Return the words of a name and their tags."""
    words = text.split()
    return [(word, f"{'BI'[i > 0]}-{kind}") for i, word in enumerate(words)]


def fill(pattern, person, place):
    """Return the words and tags of a pattern with names."""
    names = {"{person}": tagged(person, "person"), "{place}": tagged(place, "place")}
    pairs = [p for word in pattern.split() for p in names.get(word, [(word, "O")])]
    words, tags = zip(*pairs, strict=True)
    return list(words), list(tags)


filled = [
    fill(pattern, person, place)
    for i, pattern in enumerate(PATTERNS)
    for person, place in zip(PERSONS, np.roll(PLACES, i), strict=True)
]
X = [words for words, _ in filled]
y = [tags for _, tags in filled]

# %%
# Fit and predict
# ---------------

clf = ProtoLMTokenClassifier(learning_rate=2e-4, random_state=0).fit(X, y)
new = [
    ["yesterday", "Clara", "flew", "to", "Rome"],
    ["it", "rained", "in", "Rome"],
]
for words, tags in zip(new, clf.predict(new), strict=True):
    print(list(zip(words, tags.tolist(), strict=True)))

# %%
# Why this tag?
# -------------
# By default the words of names are explained. Each line is a share, and the training
# word that it belongs to, marked in its sentence.

explanations = clf.explain(new)
print(explanations[0])

# %%
# The shares of the prototypes of a tag sum exactly to its probability.

e = explanations[0]
share = e.contributions[e.prototype_labels == e.target].sum()
print(f"{e.word}: {e.probability:.6f} = {share:.6f}")

# %%
# Word scores tell which words of the sentence speak for the tag.

figure = e.plot()

# %%
# How good is it?
# ---------------
# ``score`` is the F1 of entities. Other sentences than those of the training would tell
# more, and ``report`` writes a page with F1 by type and the mistakes, explained.

print(f"F1 of the training sentences: {clf.score(X, y):.2f}")
