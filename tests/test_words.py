"""Words of texts: where they start and end."""

from __future__ import annotations

import numpy as np
import pytest

from skprotolm._records.words import find_words, merge_tokens

WORDS = [
    ("a lovely, honest day!", ["a", "lovely", ",", "honest", "day", "!"]),
    ('("don\'t!")', ['("', "don't", '!")']),
    ("state-of-the-art 1,000 e.g. U.S.", "state-of-the-art|1,000|e.g|.|U.S|."),
    ("-lrb- -3.75 50% $5 #tag", "-|lrb|-|-|3.75|50|%|$|5|#|tag"),
    ("snake_case _x_", "snake_case|_|x|_"),
    (":-) … ... ?!", ":-)|…|...|?!"),
    (
        "great😀 😀😀 👩\u200d👩\u200d👧 👍🏽5",
        "great|😀|😀😀|👩\u200d👩\u200d👧|👍🏽|5",
    ),
    ("😀! (👍🏽) ©.", "😀|!|(|👍🏽|)|©|."),
    ("ดีมาก", ["ดี", "ม", "า", "ก"]),
    ("1\ufe0f\u20e3 ❤\ufe0fgood❤\ufe0f", "1\ufe0f\u20e3|❤\ufe0f|good|❤\ufe0f"),
    ("cafe\u0301, ﬁne", "cafe\u0301|,|ﬁne"),
    ("हिंदी। (कि)", "हिंदी|।|(|कि|)"),
    ("«مَرْحَبًا»، عالم؟", "«|مَرْحَبًا|»،|عالم|؟"),
    ("\u200fשלום!", "\u200fשלום|!"),
    ("\ufeffgood", "\ufeffgood"),
    ("食べ物。「good」", "食|べ|物|。「|good|」"),
    ("か\u3099く 葛\U000e0100、𠮷x", "か\u3099|く|葛\U000e0100|、|𠮷|x"),
    ("한국어, 좋다!", "한국어|,|좋다|!"),
    (" \t\n\u3000", []),
    ("", []),
]


@pytest.mark.parametrize(("text", "words"), WORDS, ids=[ascii(t) for t, _ in WORDS])
def test_punctuation_is_separated_from_words(text, words):
    words = words.split("|") if isinstance(words, str) else words
    spans = find_words(text)
    assert [text[start:end] for start, end in spans] == words
    assert "".join(words) == "".join(text.split())


def test_the_bytes_of_a_space_at_the_end_are_one_word():
    """Byte-level tokenizers read U+3000 as three tokens, which were three words."""
    offsets = np.array([[0, 2], [2, 3], [2, 3], [2, 3], [0, 0]])
    spans, word_ids = merge_tokens("ab\u3000", np.zeros(5, dtype=int), offsets)
    assert spans == [(0, 0, 2), (0, 2, 3), (0, 0, 0)]
    assert word_ids.tolist() == [0, 1, 1, 1, 2]


def test_a_token_over_several_words_joins_them():
    offsets = np.array([[0, 2], [2, 5], [6, 9]])
    spans, word_ids = merge_tokens("well, (so)", np.zeros(3, dtype=int), offsets)
    assert spans == [(0, 0, 5), (0, 6, 9)]
    assert word_ids.tolist() == [0, 0, 1]
