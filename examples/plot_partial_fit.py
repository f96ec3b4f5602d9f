"""
New classes without a new fit
=============================

A bank's classifier of questions gets two further intents. ``partial_fit`` adds them in
seconds, and nothing that was learned is lost. The questions were written for the
examples.
"""

# %%
# Four intents, then two more
# ---------------------------

import time

import numpy as np

from skprotolm import ProtoLMClassifier

QUESTIONS = {
    "lost card": [
        "i looked everywhere and my card is nowhere to be found",
        "i think i left my card in a taxi",
        "a thief took my wallet with the bank card in it",
        "my card fell out of my pocket on the beach",
        "somebody grabbed my purse and the card was inside",
        "my card has disappeared, what now?",
    ],
    "card delivery": [
        "which day will the postman bring my new card?",
        "i ordered a card two weeks ago and the mailbox is still empty",
        "how many days does it take to mail a card?",
        "has my replacement card left your office yet?",
        "can you ship the new card by courier?",
        "my new card was sent to my old address",
    ],
    "PIN": [
        "the numbers of my pin have slipped my mind",
        "the machine at the shop says wrong pin",
        "where in the app do i see the pin?",
        "i would like a pin that is easier to remember",
        "how do i unlock a pin after too many attempts?",
        "can i choose the four digits myself?",
    ],
    "exchange rate": [
        "how many euros do i get for a hundred dollars today?",
        "i paid in yen, which rate did you use?",
        "is converting money cheaper on weekdays?",
        "what does it cost to change pounds into francs?",
        "your rate for dollars is worse than yesterday",
        "when do you update the price of foreign money?",
    ],
}
NEW = {
    "card swallowed": [
        "the machine kept my card",
        "the cash machine ate my card and shows an error",
        "my card is stuck in the slot of the machine",
        "your machine did not give my card back",
    ],
    "close account": [
        "i want to close my account",
        "please cancel my account and send me the rest of the money",
        "how do i leave the bank for good?",
        "delete my account with everything in it",
    ],
}


def as_lists(questions):
    """Return texts and labels."""
    pairs = [(text, label) for label, texts in questions.items() for text in texts]
    texts, labels = zip(*pairs, strict=True)
    return list(texts), np.array(labels)


X, y = as_lists(QUESTIONS)
started = time.perf_counter()
clf = ProtoLMClassifier(max_epochs=10, random_state=0).fit(X, y)
seconds_of_fit = time.perf_counter() - started

asked = [
    "my card never came back out of the machine",
    "i no longer want an account with you",
    "my card was stolen on the train",
]
print(clf.predict(asked))

# %%
# The first two are in none of the four classes. Four questions of each new intent
# suffice to add them.

X_new, y_new = as_lists(NEW)
before = clf.predict_proba(X)
classes = clf.classes_.tolist()
started = time.perf_counter()
clf.partial_fit(X_new, y_new)
seconds = time.perf_counter() - started
print(f"{seconds / seconds_of_fit:.3f} of the time of the fit")
print(clf.predict(asked))
print(clf.explain(asked[:1])[0])

# %%
# What was learned stays
# ----------------------
# A new class takes probability from all others alike: the odds between two of them do
# not change, whatever the text.

columns = [clf.classes_.tolist().index(label) for label in classes]
after = clf.predict_proba(X)[:, columns]
odds_before, odds_after = before[:, 0] / before[:, 1], after[:, 0] / after[:, 1]
print(np.abs(odds_after / odds_before - 1).max())
print(f"taken from the four: {1 - after.sum(axis=1).mean():.3f} of the probability")

# %%
# New prototypes come after the others, and are quoted, corrected and removed as these.

print([p.text for p in clf.prototypes_ if p.label == "card swallowed"])

# %%
# A few steps of the encoder
# --------------------------
# When there is time, ``warm_start=True`` trains the encoder further, on all texts.

clf.set_params(warm_start=True, max_epochs=2)
clf.fit([*X, *X_new], [*y, *y_new])
print(clf.predict(asked))
