"""HTML, terminal text, figures and tables show all texts and execute none."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skprotolm._display.folding import fold, fold_end
from skprotolm._display.formatting import percent, shorten, text_of_class
from skprotolm._display.html import explanations_html, prototypes_html, sum_parts
from skprotolm._display.pieces import (
    STRONGEST_SHARE,
    Piece,
    split_explanation,
    split_sides,
)
from skprotolm._display.tables import as_frame
from skprotolm._display.text import colored
from skprotolm._records.sentences import find_sentences
from skprotolm._records.views import listed_record, page_records
from skprotolm._tasks.units import UNITS
from skprotolm.exceptions import MissingExtraError
from tests.conftest import make_texts

# A tiny random encoder gives many texts nearly the same vector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::skprotolm.exceptions.UnreadTextWarning"
)

no_deadline = settings(deadline=None)  # busy machines are slow

# --- Parsed HTML.

VOID = {"meta", "br", "hr", "input", "col"}
KNOWN = {
    "html", "head", "meta", "title", "style", "body", "main", "div", "article", "h1",
    "h2", "h3", "dl", "dt", "dd", "p", "span", "b", "i", "ol", "ul", "li", "table",
    "caption", "thead", "tbody", "tr", "th", "td", "details", "summary", "script",
    "footer",
}  # fmt: skip
ATTRIBUTES = {"class", "style", "title", "dir", "scope", "lang", "charset"}
ATTRIBUTES |= {"role", "name", "content", "type", "aria-label"}


class Page(HTMLParser):
    """Tags, attributes and text of a page, as a browser parses them."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.styles: list[str] = []
        self.scripts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self.styles.append(data)
        elif self.open and self.open[-1] == "script":
            self.scripts.append(data)
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        """All text, without spaces."""
        return "".join("".join(self.words).split())


def assert_harmless(html: str) -> Page:
    """Check that a page has known elements only and loads nothing."""
    page = Page(html)
    assert page.open == [], "elements are left open"
    assert set(page.tags) <= KNOWN
    assert {name for name, _ in page.attributes} <= ATTRIBUTES
    for script in page.scripts:  # numbers, or the script of the template
        if not script.strip().startswith('"use strict"'):
            assert np.isfinite(np.array(json.loads(script))).all()
    styles = [*page.styles, *(v or "" for n, v in page.attributes if n == "style")]
    assert not re.search(r"url\(|@import|expression\(|</", " ".join(styles))
    return page


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"><svg onload='alert(1)'>",
    "'' onmouseover=alert(1) x=",
    "</span></td></table><iframe src=//evil.example>",
    "</style><style>body{background:url(//evil.example)}",
    "<!-- ",
    "]]>",
    "&lt;b&gt; &amp; &#60;",
    "{{ 7 * 7 }} {% include 'x' %}",
    "javascript:alert(1)",
    "a < b & c > d",
]
# Surrogates and NUL cannot be part of a page.
texts = st.sampled_from(HOSTILE) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30
)
labels = texts | st.integers() | st.booleans()


def make_record(text: Any, label: Any, *, space: str = "probability") -> dict[str, Any]:
    """Return a dict as from `Explanation.to_dict`, with any text and label."""
    whole = text if isinstance(text, str) else " ".join(text)
    words = whole.split() or ["[CLS]"]
    unit = UNITS[space]
    scores = [0.5 - i for i in range(len(words))] if unit.has_token_sums else None
    return {
        "text": text,
        "prediction": label,
        "target": label,
        "against": None,
        "labels": [label, "another label"],
        "probabilities": [0.75, 0.25],
        "space": space,
        "base_value": -0.25,
        "log_odds": 1.0986,
        "score": 1.5 if unit.bias else None,
        "novelty": 0.25,
        "novelty_limit": None,
        "nearest_similarity": 0.5,
        "is_unlike": False,
        "prototypes": [
            {
                "index": 0,
                "label": label,
                "text": text,
                "unread": words[:2],
                "sentence_offsets": [[0, 0, 0], [1, 0, 0]],
                "role": "target",
                "similarity": 0.5,
                "contribution": 0.6,
            }
        ],
        "remainder": 0.4,
        "groups": [
            {"role": "target", "n": 1, "contribution": 0.15, "prototypes": []},
            {
                "role": "other",
                "n": 9,
                "contribution": 0.25,
                "prototypes": [
                    {
                        "index": 1,
                        "label": "another label",
                        "text": text,
                        "unread": [],
                        "similarity": 0.25,
                        "contribution": 0.2,
                    }
                ],
            },
        ],
        "tokens": words,
        "offsets": [[0, 1]] * len(words),
        "segments": [0] * len(words),
        "attention": [1 / len(words)] * len(words),
        "token_scores": scores,
        "words": words,
        "word_offsets": [[0, 0, 0]] * len(words),
        "word_scores": scores,
        "word_unread": [i % 2 == 1 for i in range(len(words))],
        "read_fraction": 1.0,
        "sentences": [whole],
        "sentence_offsets": [[0, 0, len(whole)]],
        "sentence_ids": [0] * len(words),
        "sentence_scores": None if scores is None else [sum(scores)],
        "token_method": "occlusion",
    }


def with_match(record: dict[str, Any]) -> dict[str, Any]:
    """Add an alignment of the text with itself."""
    n = len(record["words"])
    match = {
        "index": 0,
        "text": record["text"],
        "pairs": [[i, j, 0.5] for i in range(n) for j in range(i + 1)],
        "words": record["words"],
        "offsets": record["word_offsets"],
        "unread": record["word_unread"],
    }
    return {**record, "matches": [match]}


@no_deadline
@given(texts, labels)
def test_no_text_in_an_alignment_becomes_an_element(text, label):
    parsed = assert_harmless(
        explanations_html([with_match(make_record(text, label))], page=True)
    )
    assert parsed.tags.count("details") == 2  # word scores, and other prototypes
    assert parsed.tags.count("script") == 2


def squeezed(value: Any) -> str:
    return "".join(str(value).split())


@no_deadline
@given(texts, labels, st.booleans(), st.sampled_from(sorted(UNITS)))
@example("<script>alert(1)</script>", "<script>alert(2)</script>", True, "probability")
def test_no_text_or_label_becomes_an_element(text, label, page, space):
    html = explanations_html([make_record(text, label, space=space)] * 2, page=page)
    parsed = assert_harmless(html)
    assert parsed.tags.count("article") == 2
    # The text explained, and that of the prototype, of both explanations.
    assert parsed.text.count(squeezed(text)) >= 4
    assert squeezed(label) in parsed.text


@no_deadline
@given(texts, texts)
def test_no_text_of_a_pair_becomes_an_element(first, second):
    explanations = [make_record((first, second), "label", space="score")]
    parsed = assert_harmless(explanations_html(explanations, page=True))
    lines = f"Firsttext{squeezed(first)}Secondtext{squeezed(second)}"
    assert lines in parsed.text


@no_deadline
@given(texts, labels)
def test_no_text_of_a_prototype_becomes_an_element(text, label):
    prototype = {"index": 0, "label": label, "text": text, "purity": None, "usage": 3}
    prototype["unread"] = text.split()
    prototype |= {
        "prior": 0.5,
        "train_index": None,
        "projected": True,
        "redacted": False,
    }
    parsed = assert_harmless(prototypes_html([prototype] * 2, n_more=3))
    assert parsed.tags.count("article") == 2
    assert "3moreprototypes" in parsed.text
    assert squeezed(text) in parsed.text
    assert squeezed(label) in parsed.text


def test_hostile_texts_of_a_fit_are_escaped(make_classifier):
    X = [f"{snippet} good {i}" for i, snippet in enumerate(HOSTILE)]
    y = ["<b onclick=alert(1)>yes</b>", "{{ no }}"] * (len(X) // 2)
    clf = make_classifier(n_prototypes=len(X) // 2, max_epochs=1).fit(X, y)
    explanations = clf.explain(X)
    for html in (explanations.to_html(), explanations._repr_html_()):
        parsed = assert_harmless(html)
        for text in (*X, *y):
            assert squeezed(text) in parsed.text
    for e in explanations:
        assert_harmless(e.to_html())
        assert_harmless(e._repr_html_())
    parsed = assert_harmless(clf.prototypes_._repr_html_())
    for text in (*X, *y):
        assert squeezed(text) in parsed.text


# --- Pages.


def test_a_page_is_self_contained(fitted):
    html = fitted.explain(["the food was good", "bad"]).to_html()
    parsed = assert_harmless(html)
    assert html.lstrip().startswith("<!doctype html>")
    assert parsed.tags.count("html") == parsed.tags.count("title") == 1
    assert ("charset", "utf-8") in parsed.attributes
    assert ("lang", "en") in parsed.attributes
    assert "Explanationsof2texts" in parsed.text
    assert "http" not in html


def test_a_snippet_has_no_page_elements(fitted):
    explanations = fitted.explain(["the food was good", "bad"])
    for output in (explanations._repr_html_(), explanations[0]._repr_html_()):
        parsed = assert_harmless(output)
        assert not {"html", "head", "body", "title"} & set(parsed.tags)
    # Rules without the prefix would style the notebook.
    for style in Page(explanations._repr_html_()).styles:
        outer, n_blocks = style, 1
        while n_blocks:  # from innermost to outermost
            outer, n_blocks = re.subn(r"\{[^{}]*\}", ";", outer)
        for rule in filter(str.strip, outer.split(";")):
            assert rule.strip().startswith(".skprotolm"), rule


def test_a_card_shows_contributions_and_scores(fitted):
    [e] = fitted.explain(["the food was good"], top_k=2)
    parsed = assert_harmless(e.to_html())
    assert squeezed(f"{e.target}: {100 * e.probability:.1f} %") in parsed.text
    for p in e.prototypes:
        assert squeezed(p.text) in parsed.text
        assert squeezed(f"{100 * p.contribution:.1f} %") in parsed.text
    listed = sum(p.contribution for p in e.prototypes if p.label == e.target)
    of_target = e.probability - listed
    for remainder in (of_target, e.remainder - of_target):
        assert squeezed(f"{100 * remainder:.1f} %") in parsed.text
    assert f"other{e.target}texts" in parsed.text
    assert "textsofotherclasses" in parsed.text
    assert squeezed(f"{e.log_odds:+.2f}") in parsed.text
    titles = [value for name, value in parsed.attributes if name == "title"]
    marked = np.abs(e.word_scores) >= STRONGEST_SHARE * np.abs(e.word_scores).max()
    scores = [f"{score:+.3f}" for score in e.word_scores[marked]]
    assert [title for title in titles if title[0] in "+-"] == scores


@pytest.mark.parametrize("top_k", [None, 2])
def test_the_bar_and_the_quotes_are_the_same_sum(fitted, top_k):
    [e] = fitted.explain(["the food was good"], top_k=top_k)
    parsed = Page(e.to_html())
    widths = [
        float(value.removeprefix("flex-grow:"))
        for name, value in parsed.attributes
        if name == "style" and value.startswith("flex-grow:")
    ]
    assert sum(widths) == pytest.approx(100, abs=0.1)
    parts = sum_parts(listed_record(e))
    assert widths == pytest.approx([100 * p.contribution for p in parts], abs=0.01)
    of_target = [p.contribution for p in parts if p.role == "target"]
    assert sum(of_target) == pytest.approx(e.probability)
    # The target's parts come first; the listed ones are in descending order.
    assert parts[: len(of_target)] == [p for p in parts if p.role == "target"]
    for role in ("target", "other"):
        listed = [p.contribution for p in parts if p.prototype and p.role == role]
        assert listed == sorted(listed, reverse=True)
    [label] = [v for n, v in parsed.attributes if n == "aria-label"]
    for part in parts:
        assert percent(part.contribution) in label
        assert squeezed(percent(part.contribution)) in parsed.text


def test_a_contrast_shows_both_classes_side_by_side(make_classifier):
    X, _ = make_texts(60)
    y = np.array(["one", "two", "three"] * 20)
    clf = make_classifier(max_epochs=1).fit(X, y)
    [e] = clf.explain(X[:1], target="one", against="two")
    parsed = assert_harmless(e.to_html())
    p = [percent(e.probabilities[label]) for label in ("one", "two", "three")]
    assert squeezed(f"one rather than two: {p[0]} to {p[1]}") in parsed.text
    assert squeezed(f"one {p[0]} + two {p[1]} + other classes {p[2]}") in parsed.text
    assert "log-oddsofoneratherthantwo" in parsed.text
    parts = sum_parts(page_records([e], 0)[0])
    for role, label in (("target", "one"), ("against", "two")):
        listed = [p.prototype for p in parts if p.prototype and p.role == role]
        assert [p["label"] for p in listed] == [label] * 3


def test_a_page_warns_of_texts_unlike_the_training_texts(fitted):
    [e] = fitted.explain(["the food was good"])
    usual = replace(e, novelty=0.1, novelty_limit=0.2)
    unlike = replace(e, novelty=0.3, novelty_limit=0.2)
    nearest = squeezed(f"nearest cosine {e.similarities.max():.2f}")
    assert nearest not in Page(usual.to_html()).text
    text = assert_harmless(unlike.to_html()).text
    assert f"Unlikethetrainingtexts({nearest})" in text
    assert "Nearesttrainingtexts," in text
    assert "readslike" not in text


def test_words_light_up_by_the_pairs_of_a_page(fitted):
    """A pair names two words by their positions among the elements of two texts."""
    [e] = fitted.explain(["the food was good but the film was not"])
    page = e.to_html()
    texts = re.findall(r'<div class="skprotolm-text.*?">(.*?)</div></div>', page)
    elements = [re.findall(r"<span.*?>(.*?)</span>", text) for text in texts]
    scripts = map(json.loads, Page(page).scripts[:3])
    record = page_records([e], 3)[0]
    by_index = {match["index"]: match for match in record["matches"]}
    order = [p.prototype["index"] for p in sum_parts(record) if p.prototype]
    quotes = dict(zip(order, elements[1:], strict=True))
    aligned = [index for index in order if index in by_index]
    assert len(aligned) == 3
    for index, pairs in zip(aligned, scripts, strict=True):
        match = by_index[index]
        expected = [(e.words[i], match["words"][j]) for i, j, _ in match["pairs"]]
        assert pairs
        assert [(elements[0][i], quotes[index][j]) for i, j, _ in pairs] == expected


def test_a_page_of_many_texts_is_small(fitted):
    """A page had 33 kB per text."""
    X, _ = make_texts(20)
    sizes = [len(fitted.explain(X[:n]).to_html().encode()) for n in (10, 20)]
    assert sizes[1] - sizes[0] < 10 * 9_000


def test_a_page_has_a_title_a_date_and_versions(fitted, monkeypatch, tmp_path):
    monkeypatch.setattr("skprotolm._display.html.today", lambda: "2024-02-29")
    explanations = fitted.explain(["good"])
    explanations.save_html(tmp_path / "page.html", title="Case <7>")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page == explanations[0].to_html(title="Case <7>")
    assert "<title>Case &lt;7&gt;</title>" in page
    assert "<h1>Case &lt;7&gt;</h1>" in page
    footer = re.search("<footer.*?>(.*?)</footer>", page)[1]
    assert footer.startswith("2024-02-29 (UTC), skprotolm ")
    assert "torch " in footer
    assert "<title>Explanations</title>" in explanations.to_html()


# --- Long texts.

SENTENCES = [f"sentence number {i} is here." for i in range(12)]


def folded(text: str, strong: set[str]) -> list[tuple[int, str]]:
    """Fold a text with some strong words; return sizes and texts of the runs."""
    words = text.split()
    record = make_scored(words, [float(word in strong) for word in words])
    assert record["text"] == text
    [side] = split_sides(record)
    runs = fold(side, [start for start, _ in find_sentences(text)])
    assert "".join(piece.text for run in runs for piece in run.pieces) == text
    return [(n, "".join(piece.text for piece in pieces)) for pieces, n in runs]


def test_sentences_without_words_that_count_are_folded():
    runs = folded(" ".join(SENTENCES), {"3", "5", "11"})
    assert [n for n, _ in runs] == [3, 0, 5, 0]
    assert runs[0][1] == " ".join(SENTENCES[:3]) + " "
    assert runs[1][1] == " ".join(SENTENCES[3:6]) + " ", "one sentence is not folded"
    assert runs[3][1] == SENTENCES[11]


def test_short_texts_are_not_folded():
    text = " ".join(SENTENCES[:8])
    assert folded(text, {"3"}) == [(0, text)]


@no_deadline
@given(st.text(st.sampled_from("ab.!。 \n"), max_size=200), st.integers(0, 1500))
def test_folding_keeps_every_character(text, n):
    text += " b" * n
    starts = [start for start, _ in find_sentences(text)]
    pieces = [Piece(part, None, 0.0) for part in re.split(r"(\s+)", text)]
    runs = [*fold(pieces, starts), *fold_end(text, starts)]
    assert "".join(p.text for run in runs for p in run.pieces) == text * 2
    words = [Piece(p.text, 1.0, 0.0, w) for w, p in enumerate(pieces)]
    kept = [p.word for run in fold(words, starts) for p in run.pieces if p.text]
    assert kept == [p.word for p in words if p.text], "a word is cut"


def test_a_page_folds_long_texts(fitted):
    text = " ".join(f"The {i}th day was good." for i in range(12))
    record = make_record(text, "label")
    record["sentence_offsets"] = [(0, *span) for span in find_sentences(text)]
    page = explanations_html([record], page=True)
    assert re.search(r'<details class="skprotolm-fold"><summary>… \d+ sentences', page)
    assert squeezed(text[:20]) in Page(page).text


@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.TextTruncatedWarning")
def test_a_page_names_the_token_method_and_unread_text(fitted):
    """Truncated text looked like words without influence."""
    text = "good food " * 300
    page = fitted.explain([text], token_method="relevance").to_html()
    assert "Words by relevance" in page
    assert re.search(r"is not read \(\d+\.\d % of the text\)", page)
    assert "is not read" in page
    [e] = fitted.explain([text])
    unread = "".join(
        piece.text for piece in split_explanation(e.to_dict()) if piece.is_cut
    )
    assert text.endswith(unread)
    assert text.split() == [*e.words, *unread.split()]
    assert "not read" not in fitted.explain(["good , food !"]).to_html()


def test_numeric_classes_are_named_as_such(make_classifier, texts):
    """A page said "those of 1 sum to"."""
    X, y = texts
    clf = make_classifier(max_epochs=1).fit(X, (y == "pos").astype(int))
    [e] = clf.explain(X[:1], target=1)
    page = Page(e.to_html())
    assert squeezed(f"class 1: {percent(e.probability)}") in page.text
    assert "thoseofclass1sumto" in page.text
    assert "part of the log-odds of class 1" in e.plot().axes[0].get_xlabel()


def test_a_card_of_another_target_names_the_prediction(fitted):
    [e] = fitted.explain(["the food was good"])
    other = next(label for label in fitted.classes_ if label != e.prediction)
    [of_other] = fitted.explain([e.text], target=other)
    assert "Predicted is" not in e.to_html()
    assert f"Predicted is {e.prediction}." in of_other.to_html()


def test_truncated_text_is_shown(fitted):
    """The end of a truncated text was missing from the page."""
    text = "good food " * 40 + "the very end"
    with pytest.warns(UserWarning, match="longer than"):
        [e] = fitted.explain([text])
    assert squeezed(text) in assert_harmless(e.to_html()).text


@pytest.mark.parametrize("text", ["食べ物です good", "a\u200b day", "x\x07y", "Ⅻ ﬁne"])
def test_every_character_of_a_text_is_shown(fitted, text):
    """Characters without a token, or of a token over two words, were missing."""
    [e] = fitted.explain([text])
    assert squeezed(text) in assert_harmless(e.to_html()).text


def test_a_page_is_saved_unchanged(fitted, tmp_path):
    explanations = fitted.explain(["naïve 😀 café", "食べ物"])
    for path in (tmp_path / "one.html", str(tmp_path / "other.html")):
        explanations.save_html(path)
        written = Path(path).read_bytes().decode("utf-8")
        assert written == explanations.to_html()


def test_texts_have_automatic_direction(fitted):
    parsed = assert_harmless(fitted.explain(["שלום good"]).to_html())
    # All six prototypes, and two words with scores.
    n_texts = 1 + 6 + 2
    assert parsed.attributes.count(("dir", "auto")) == n_texts


# --- Terminal text.


@no_deadline
@given(st.floats(0, 1))
@example(0.0005)
@example(0.9995)
@example(0.0004999)
@example(1 - 1e-16)
def test_uncertain_shares_are_never_shown_as_certain(share):
    output = percent(share)
    if 0 < share < 1:
        assert output not in ("0.0 %", "100.0 %")
    value = float(re.search(r"[\d.]+", output)[0])
    assert value == pytest.approx(100 * share, abs=0.1001)


@pytest.mark.parametrize(
    ("share", "output"),
    [(0, "0.0 %"), (1, "100.0 %"), (0.5, "50.0 %"), (1e-9, "< 0.1 %")],
)
def test_percentages(share, output):
    assert percent(share) == output


@no_deadline
@given(st.text() | st.tuples(st.text(), st.text()), st.integers(1, 40))
def test_a_shortened_text_is_one_line_with_an_ellipsis(text, length):
    output = shorten(text, length)
    assert len(output) <= length
    assert len(output.splitlines()) <= 1
    whole = " ".join((text if isinstance(text, str) else " | ".join(text)).split())
    if len(whole) <= length or isinstance(text, str):
        cut = output.endswith("…") and whole.startswith(output[:-1])
        assert output == whole or cut
    else:
        assert "…" in output


@pytest.mark.parametrize(
    ("label", "named"),
    [
        ("positive", "positive texts"),
        ("Sci/Tech 2", "Sci/Tech 2 texts"),
        (1, "texts of class 1"),
        (True, "texts of class True"),
        ("-1", "texts of class -1"),
        ("", "texts of class "),
    ],
)
def test_texts_of_numeric_classes_are_named_as_such(label, named):
    """Print said "the 1 text"."""
    assert text_of_class(label, "texts") == named


def make_scored(words: list[str], scores: list[float]) -> dict[str, Any]:
    """Return the record of a text of these words, as far as coloring needs it."""
    ends = [len(" ".join(words[: i + 1])) for i in range(len(words))]
    return {
        "text": " ".join(words),
        "words": words,
        "word_offsets": [
            [0, end - len(word), end] for word, end in zip(words, ends, strict=True)
        ],
        "word_scores": scores,
        "word_unread": [False] * len(words),
        "token_method": "occlusion",
    }


@no_deadline
@given(st.lists(st.tuples(st.text("ab<", min_size=1), st.floats(-5, 5)), max_size=8))
def test_colors_do_not_change_words(pairs):
    words, scores = [word for word, _ in pairs], [score for _, score in pairs]
    unread = [len(word) % 3 == 2 for word in words]
    text = colored({**make_scored(words, scores), "word_unread": unread})
    assert re.sub(r"\x1b\[[\d;]*m", "", text) == " ".join(words)


def test_stronger_words_have_deeper_colors():
    strong, weak, neutral, negative = colored(
        make_scored(["strong", "weak", "neutral", "negative"], [4.0, 1.0, 0.01, -4.0])
    ).split(" ")
    assert neutral == "neutral"
    shades = {re.search(r"48;5;(\d+)m", word)[1] for word in (strong, weak, negative)}
    assert len(shades) == 3
    assert colored(make_scored(["a", "b"], [0.0, 0.0])) == "a b"
    assert colored(make_scored([], [])) == ""


# --- Frames.


def test_a_frame_without_pandas_names_the_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match="pip install"):
        as_frame([{"a": 1}])


def test_both_texts_of_a_shortened_pair_are_shown():
    """The second text was cut off."""
    long = "word " * 30
    assert shorten((long, long), 30) == "word word wor… | word word wo…"
    assert shorten((long, "short"), 30) == "word word word word w… | short"
    assert shorten(("short", long), 30) == "short | word word word word w…"
    assert shorten(("a  b", "c"), 30) == "a b | c"


@pytest.mark.parametrize("color", [True, False])
def test_control_characters_are_not_printed(fitted, color):
    """A text could clear the screen, or change the color of later output."""
    hostile = "good \x1b[2J food\x9b1m \r bad"
    [e] = fitted.explain([hostile])
    output = e.to_text(color=color) + repr(e)
    assert "\x1b[2J" not in output
    assert "\x9b" not in output
    assert "\r" not in output
    assert "good" in output


# --- SHAP.


@pytest.mark.parametrize("formulation", ["mixture", "proto-lm"])
def test_shap_explanations_equal_ours(make_classifier, texts, formulation):
    shap = pytest.importorskip("shap")
    X, y = texts
    clf = make_classifier(formulation=formulation).fit(X, y)
    explanations = clf.explain(["the food was good", "bad film"])
    shap_explanations = explanations.to_shap()
    for expected, row in zip(explanations, shap_explanations, strict=True):
        np.testing.assert_array_equal(row.values, expected.word_scores)
        assert "".join(row.data) == expected.text, "words are not glued together"
        assert [word.strip() for word in row.data] == list(expected.words)
        total = row.base_values + row.values.sum()
        assert total == pytest.approx(expected.log_odds)
    for output in (shap_explanations, shap_explanations[0]):
        assert "good" in shap.plots.text(output, display=False)


def test_shap_draws_its_plots(fitted):
    shap = pytest.importorskip("shap")
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    shap_explanations = fitted.explain(["the food was good", "a bad film"]).to_shap()
    shap.plots.bar(shap_explanations[0], show=False)
    shap.plots.waterfall(shap_explanations[0], show=False)
    shap.plots.bar(shap_explanations.abs.mean(0), show=False)
    assert plt.gcf().axes
    plt.close("all")


def test_shap_averages_over_texts_by_word(fitted):
    """Means over texts of different lengths failed without feature names."""
    pytest.importorskip("shap")
    explanations = fitted.explain(["the food was good", "good film"])
    mean = explanations.to_shap().mean(0)
    scores = [e.word_scores[e.words.index("good")] for e in explanations]
    of_good = mean.values[list(mean.feature_names).index("good")]
    assert of_good == pytest.approx(np.mean(scores))


def test_to_shap_without_shap_names_the_missing_package(fitted, monkeypatch):
    monkeypatch.setitem(sys.modules, "shap", None)
    with pytest.raises(MissingExtraError, match="pip install shap"):
        fitted.explain(["good"]).to_shap()


# --- Figures.


@pytest.mark.parametrize("formulation", ["mixture", "proto-lm"])
@pytest.mark.parametrize("text", ["the food was $good$ today", "", "שלום 😀"])
@pytest.mark.filterwarnings("ignore:Glyph")  # characters that the font lacks
def test_a_plot_has_one_bar_per_word_and_prototype(
    make_classifier, texts, formulation, text
):
    pytest.importorskip("matplotlib")
    X, y = texts
    clf = make_classifier(formulation=formulation).fit(X, y)
    [e] = clf.explain([text], top_k=4)
    figure = e.plot()
    words, prototypes = figure.axes
    widths = [bar.get_width() for bar in words.patches]
    np.testing.assert_allclose(widths, e.word_scores)
    widths = [bar.get_width() for bar in prototypes.patches]
    np.testing.assert_allclose(widths, [p.contribution for p in e.prototypes])
    figure.canvas.draw()  # fails if "$" starts a formula


def test_plot_without_matplotlib_names_the_missing_package(fitted, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match="pip install matplotlib"):
        fitted.explain(["good"])[0].plot()
