"""
Numbers: the stars of a review
==============================

`ProtoLMRegressor` predicts a number from a text. The prediction is the mean of the
numbers of training texts, weighted by shares, so that it can be read as a sum of share
times number. The reviews of this example were written for it.
"""

# %%
# Texts and numbers
# -----------------
# Any finite numbers will do: stars, prices, minutes, scores.

import numpy as np

from skprotolm import ProtoLMRegressor

REVIEWS = {
    1: [
        "cold food, rude waiter, never again",
        "we waited an hour and left hungry",
        "the fish smelled bad and nobody cared",
        "dirty tables and a terrible soup",
        "the worst pizza i have ever had",
        "they charged us twice and laughed about it",
        "inedible, we sent everything back",
        "a rude owner and raw chicken",
    ],
    2: [
        "bland pasta and slow service",
        "the room was loud and the steak was dry",
        "small portions for that price",
        "the waiter forgot half of our order",
        "the dessert was fine, the rest was not",
        "overpriced and a bit sad",
        "lukewarm soup, stale bread",
        "not clean, but at least friendly",
    ],
    3: [
        "average food, average service",
        "the starters were good, the mains were dull",
        "okay for a quick lunch",
        "nice view, ordinary menu",
        "nothing special, nothing wrong",
        "decent burger, weak coffee",
        "a fair meal for a fair price",
        "some dishes work and some do not",
    ],
    4: [
        "good food and a friendly waiter",
        "tasty noodles, only the dessert was too sweet",
        "a cozy place with a solid menu",
        "very good fish, a short wait",
        "fresh salads and fair prices",
        "we liked it and will come back",
        "a pleasant evening with good wine",
        "the bread alone is worth a visit",
    ],
    5: [
        "the best meal of the year, perfect from start to end",
        "wonderful food and the kindest people",
        "every dish was a delight",
        "outstanding service and a superb steak",
        "i still dream of that chocolate cake",
        "a magical evening, flawless cooking",
        "we loved everything, book a table now",
        "fantastic flavors, beautiful room, five stars",
    ],
}
X = [text for texts in REVIEWS.values() for text in texts]
y = np.repeat(list(REVIEWS), [len(texts) for texts in REVIEWS.values()])

# %%
# Fit and predict
# ---------------

reg = ProtoLMRegressor(random_state=0).fit(X, y)
new = [
    "a lovely dinner, though the waiter was slow",
    "raw fish and a rude waiter",
    "superb soup and kind people",
]
print(reg.predict(new).round(2))

# %%
# The sum behind a number
# -----------------------
# Each line is a share, times the number of the training text that it belongs to. The
# words are scored in the same unit: stars.

for explanation in reg.explain(new[:2]):
    print(explanation, end="\n\n")

# %%
# The sum is exact.

explanation = reg.explain(new[:1])[0]
total = np.sum(explanation.shares * explanation.prototype_values)
print(f"{explanation.prediction:.6f} = {total:.6f}")

# %%
# As a figure: words that raise the number are green, and those that lower it red.

figure = explanation.plot()

# %%
# How good is it?
# ---------------
# ``score`` is R², as of every regressor of scikit-learn, and ``report`` writes a page
# with residuals, intervals and the largest errors, explained. Reviews that were not
# trained on would tell more.

print(f"R² of the training reviews: {reg.score(X, y):.2f}")
