"""Plain dicts to HTML, terminal text and frames: nothing is lost, nothing is run."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skprotolm._display.html import (
    as_frame,
    explanations_html,
    percent,
    pieces,
    prototypes_html,
    shorten,
)
from skprotolm._display.text import coloured
from skprotolm.exceptions import MissingExtraError

# A tiny random encoder gives many texts nearly the same vector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::skprotolm.exceptions.UnreadTextWarning"
)

unhurried = settings(deadline=None)  # a busy machine fails no test

# --- HTML, read back.

VOID = {"meta", "br", "hr", "input", "col"}
KNOWN = {
    "html", "head", "meta", "title", "style", "body", "main", "div", "article", "h1",
    "h2", "h3", "dl", "dt", "dd", "p", "span", "table", "caption", "thead", "tbody",
    "tr", "th", "td", "details", "summary", "script",
}  # fmt: skip
ATTRIBUTES = {"class", "style", "title", "dir", "scope", "lang", "charset"}
ATTRIBUTES |= {"role", "name", "content", "data-side", "data-word", "tabindex", "type"}


class Page(HTMLParser):
    """What a browser would find: tags, attributes, and the text between them."""

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
    """Check that a page holds our own elements and loads nothing."""
    page = Page(html)
    assert page.open == [], "elements are left open"
    assert set(page.tags) <= KNOWN
    assert {name for name, _ in page.attributes} <= ATTRIBUTES
    for script in page.scripts:  # numbers, or the one that stands in the template
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
# Without surrogates and NUL, which are no text of a page.
texts = st.sampled_from(HOSTILE) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30
)
labels = texts | st.integers() | st.booleans()


def plain(text: Any, label: Any, *, space: str = "probability") -> dict[str, Any]:
    """Return what `Explanation.to_dict` gives of a text, with whatever is in it."""
    whole = text if isinstance(text, str) else " ".join(text)
    words = whole.split() or ["[CLS]"]
    mixture = space == "probability"
    scores = [0.5 - i for i in range(len(words))] if mixture else None
    return {
        "text": text,
        "prediction": label,
        "target": label,
        "labels": [label, "another label"],
        "probabilities": [0.75, 0.25],
        "space": space,
        "base_value": -0.25,
        "log_odds": 1.0986,
        "score": None if mixture else 1.5,
        "prototypes": [
            {
                "index": 0,
                "label": label,
                "text": text,
                "unread": words[:2],
                "similarity": 0.5,
                "contribution": 0.6,
            }
        ],
        "remainder": 0.4,
        "tokens": words,
        "offsets": [[0, 1]] * len(words),
        "segments": [0] * len(words),
        "attention": [1 / len(words)] * len(words),
        "token_scores": scores,
        "words": words,
        "word_offsets": [[0, 0, 0]] * len(words),
        "word_scores": scores,
        "word_unread": [i % 2 == 1 for i in range(len(words))],
        "token_method": "occlusion",
    }


def with_match(record: dict[str, Any]) -> dict[str, Any]:
    """Add what is shown of an alignment with a text like the one explained."""
    n = len(record["words"])
    match = {
        "index": 0,
        "text": record["text"],
        "matrix": [[0.1 * (i - j) for j in range(n)] for i in range(n)],
        "words": record["words"],
        "offsets": record["word_offsets"],
        "unread": record["word_unread"],
    }
    return {**record, "matches": [match]}


@unhurried
@given(texts, labels)
def test_no_text_in_an_alignment_becomes_an_element(text, label):
    found = assert_harmless(
        explanations_html([with_match(plain(text, label))], page=True)
    )
    assert found.tags.count("details") == 2  # scores, and the alignment
    assert found.tags.count("script") == 2


def squeezed(value: Any) -> str:
    return "".join(str(value).split())


@unhurried
@given(texts, labels, st.booleans(), st.sampled_from(["probability", "score"]))
@example("<script>alert(1)</script>", "<script>alert(2)</script>", True, "probability")
def test_no_text_or_label_becomes_an_element(text, label, page, space):
    html = explanations_html([plain(text, label, space=space)] * 2, page=page)
    found = assert_harmless(html)
    assert found.tags.count("article") == 2
    # The text explained, and the prototype's, of both explanations.
    assert found.text.count(squeezed(text)) >= 4
    assert squeezed(label) in found.text


@unhurried
@given(texts, texts)
def test_no_text_of_a_pair_becomes_an_element(first, second):
    explanations = [plain((first, second), "label", space="score")]
    found = assert_harmless(explanations_html(explanations, page=True))
    assert squeezed(first) + "|" + squeezed(second) in found.text


@unhurried
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
    found = assert_harmless(prototypes_html([prototype] * 2, n_more=3))
    assert found.tags.count("article") == 2
    assert "3moreprototypes" in found.text
    assert squeezed(text) in found.text
    assert squeezed(label) in found.text


def test_hostile_texts_of_a_real_fit_are_only_shown(make_classifier):
    X = [f"{snippet} good {i}" for i, snippet in enumerate(HOSTILE)]
    y = ["<b onclick=alert(1)>yes</b>", "{{ no }}"] * (len(X) // 2)
    clf = make_classifier(n_prototypes=len(X) // 2, max_epochs=1).fit(X, y)
    several = clf.explain(X)
    for html in (several.to_html(), several._repr_html_()):
        found = assert_harmless(html)
        for text in (*X, *y):
            assert squeezed(text) in found.text
    for e in several:
        assert_harmless(e.to_html())
        assert_harmless(e._repr_html_())
    found = assert_harmless(clf.prototypes_._repr_html_())
    for text in (*X, *y):
        assert squeezed(text) in found.text


# --- The page.


def test_a_page_stands_on_its_own(fitted):
    html = fitted.explain(["the food was good", "bad"]).to_html()
    found = assert_harmless(html)
    assert html.lstrip().startswith("<!doctype html>")
    assert found.tags.count("html") == found.tags.count("title") == 1
    assert ("charset", "utf-8") in found.attributes
    assert ("lang", "en") in found.attributes
    assert "Explanationsof2texts" in found.text
    assert "http" not in html


def test_a_snippet_is_no_page(fitted):
    several = fitted.explain(["the food was good", "bad"])
    for shown in (several._repr_html_(), several[0]._repr_html_()):
        found = assert_harmless(shown)
        assert not {"html", "head", "body", "title"} & set(found.tags)
    # Rules without a prefix would restyle the notebook around them.
    for style in Page(several._repr_html_()).styles:
        outer, n_blocks = style, 1
        while n_blocks:  # from the inside out
            outer, n_blocks = re.subn(r"\{[^{}]*\}", ";", outer)
        for rule in filter(str.strip, outer.split(";")):
            assert rule.strip().startswith(".skprotolm"), rule


def test_a_card_shows_the_account(fitted):
    [e] = fitted.explain(["the food was good"], top_k=2)
    found = assert_harmless(e.to_html())
    assert squeezed(f"{e.target}: {100 * e.probability:.1f} %") in found.text
    for p in e.prototypes:
        assert squeezed(p.text) in found.text
        assert squeezed(f"{100 * p.contribution:.1f} %") in found.text
    own = sum(p.contribution for p in e.prototypes if p.label == e.target)
    for rest in (e.probability - own, e.remainder - (e.probability - own)):
        assert squeezed(f"{100 * rest:.1f} %") in found.text
    assert "allotherprototypesofit" in found.text
    assert squeezed(f"{e.log_odds:+.2f}") in found.text
    titles = [value for name, value in found.attributes if name == "title"]
    assert titles == [f"{score:+.3f} log-odds" for score in e.word_scores]


@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.TextTruncatedWarning")
def test_a_page_says_how_words_were_scored_and_what_was_not_read(fitted):
    """What was cut off looked like words that say nothing."""
    text = "good food " * 300
    page = fitted.explain([text], token_method="relevance").to_html()
    assert 'token_method="relevance"' in page
    assert "is not read" in page
    [e] = fitted.explain([text])
    unread = "".join(piece.text for piece in pieces(e.to_dict()) if piece.is_cut)
    assert text.endswith(unread)
    assert text.split() == [*e.words, *unread.split()]
    assert "not read" not in fitted.explain(["good , food !"]).to_html()


def test_a_card_says_if_another_class_is_explained(fitted):
    [e] = fitted.explain(["the food was good"])
    other = next(label for label in fitted.classes_ if label != e.prediction)
    [told] = fitted.explain([e.text], target=other)
    assert "Predicted is" not in e.to_html()
    assert f"Predicted is {e.prediction}." in told.to_html()


def test_what_was_not_read_is_shown_all_the_same(fitted):
    """The end of a text that was cut vanished from the page."""
    text = "good food " * 40 + "the very end"
    with pytest.warns(UserWarning, match="longer than"):
        [e] = fitted.explain([text])
    assert squeezed(text) in assert_harmless(e.to_html()).text


@pytest.mark.parametrize("text", ["食べ物です good", "a\u200b day", "x\x07y", "Ⅻ ﬁne"])
def test_every_letter_of_a_text_is_shown(fitted, text):
    """Letters that no token stands for, or a token of two words, were left out."""
    [e] = fitted.explain([text])
    assert squeezed(text) in assert_harmless(e.to_html()).text


def test_a_page_is_saved_as_it_is(fitted, tmp_path):
    several = fitted.explain(["naïve 😀 café", "食べ物"])
    for path in (tmp_path / "one.html", str(tmp_path / "other.html")):
        several.save_html(path)
        written = Path(path).read_bytes().decode("utf-8")
        assert written == several.to_html()


def test_texts_say_their_direction_themselves(fitted):
    found = assert_harmless(fitted.explain(["שלום good"]).to_html())
    # Five prototypes are listed, three aligned with it, and two words have scores.
    n_texts = 1 + 5 + 3 * 2 + 2
    assert found.attributes.count(("dir", "auto")) == n_texts


# --- Terminal text.


@unhurried
@given(st.floats(0, 1))
@example(0.0005)
@example(0.9995)
@example(0.0004999)
@example(1 - 1e-16)
def test_a_percentage_is_never_a_certainty_that_it_is_not(share):
    shown = percent(share)
    if 0 < share < 1:
        assert shown not in ("0.0 %", "100.0 %")
    value = float(re.search(r"[\d.]+", shown)[0])
    assert value == pytest.approx(100 * share, abs=0.1001)


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0, "0.0 %"), (1, "100.0 %"), (0.5, "50.0 %"), (1e-9, "< 0.1 %")],
)
def test_percentages(share, shown):
    assert percent(share) == shown


@unhurried
@given(st.text() | st.tuples(st.text(), st.text()), st.integers(1, 40))
def test_a_shortened_text_is_one_line_and_says_that_it_is_short(text, length):
    shown = shorten(text, length)
    assert len(shown) <= length
    assert len(shown.splitlines()) <= 1
    whole = " ".join((text if isinstance(text, str) else " | ".join(text)).split())
    if len(whole) <= length or isinstance(text, str):
        cut = shown.endswith("…") and whole.startswith(shown[:-1])
        assert shown == whole or cut
    else:
        assert "…" in shown


def scored(words: list[str], scores: list[float]) -> dict[str, Any]:
    """Return what painting reads of an explanation of a text of these words."""
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


@unhurried
@given(st.lists(st.tuples(st.text("ab<", min_size=1), st.floats(-5, 5)), max_size=8))
def test_colours_change_no_word(pairs):
    words, scores = [word for word, _ in pairs], [score for _, score in pairs]
    unread = [len(word) % 3 == 2 for word in words]
    painted = coloured({**scored(words, scores), "word_unread": unread})
    assert re.sub(r"\x1b\[[\d;]*m", "", painted) == " ".join(words)


def test_the_strongest_words_are_the_deepest():
    strong, weak, none, against = coloured(
        scored(["strong", "weak", "none", "against"], [4.0, 1.0, 0.01, -4.0])
    ).split(" ")
    assert none == "none"
    shades = {re.search(r"48;5;(\d+)m", word)[1] for word in (strong, weak, against)}
    assert len(shades) == 3
    assert coloured(scored(["a", "b"], [0.0, 0.0])) == "a b"
    assert coloured(scored([], [])) == ""


# --- Frames.


def test_a_frame_without_pandas_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match="pip install"):
        as_frame([{"a": 1}])


def test_of_a_shortened_pair_both_texts_are_shown():
    """The second text was cut off, and with it what the pair says."""
    long = "word " * 30
    assert shorten((long, long), 30) == "word word wor… | word word wo…"
    assert shorten((long, "short"), 30) == "word word word word w… | short"
    assert shorten(("short", long), 30) == "short | word word word word w…"
    assert shorten(("a  b", "c"), 30) == "a b | c"


@pytest.mark.parametrize("color", [True, False])
def test_a_terminal_is_told_nothing_by_a_text(fitted, color):
    """A text could clear the screen, or paint what stands after it."""
    hostile = "good \x1b[2J food\x9b1m \r bad"
    [e] = fitted.explain([hostile])
    shown = e.to_text(color=color) + repr(e)
    assert "\x1b[2J" not in shown
    assert "\x9b" not in shown
    assert "\r" not in shown
    assert "good" in shown


# --- SHAP.


@pytest.mark.parametrize("formulation", ["mixture", "proto-lm"])
def test_shap_s_explanation_is_ours(make_classifier, texts, formulation):
    shap = pytest.importorskip("shap")
    X, y = texts
    clf = make_classifier(formulation=formulation).fit(X, y)
    explanations = clf.explain(["the food was good", "bad film"])
    found = explanations.to_shap()
    for ours, theirs in zip(explanations, found, strict=True):
        np.testing.assert_array_equal(theirs.values, ours.word_scores)
        assert "".join(theirs.data) == ours.text, "words are not glued together"
        assert [word.strip() for word in theirs.data] == list(ours.words)
        total = theirs.base_values + theirs.values.sum()
        assert total == pytest.approx(ours.log_odds)
    for shown in (found, found[0]):
        assert "good" in shap.plots.text(shown, display=False)


def test_shap_s_plots_are_drawn(fitted):
    shap = pytest.importorskip("shap")
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    found = fitted.explain(["the food was good", "a bad film"]).to_shap()
    shap.plots.bar(found[0], show=False)
    shap.plots.waterfall(found[0], show=False)
    shap.plots.bar(found.abs.mean(0), show=False)
    assert plt.gcf().axes
    plt.close("all")


def test_shap_s_means_over_texts_go_by_words(fitted):
    """They failed on texts of different lengths, for want of the words' names."""
    pytest.importorskip("shap")
    explanations = fitted.explain(["the food was good", "good film"])
    mean = explanations.to_shap().mean(0)
    both = [e.word_scores[e.words.index("good")] for e in explanations]
    of_good = mean.values[list(mean.feature_names).index("good")]
    assert of_good == pytest.approx(np.mean(both))


def test_shap_is_asked_for_by_name(fitted, monkeypatch):
    monkeypatch.setitem(sys.modules, "shap", None)
    with pytest.raises(MissingExtraError, match="pip install shap"):
        fitted.explain(["good"]).to_shap()


# --- Figures.


@pytest.mark.parametrize("formulation", ["mixture", "proto-lm"])
@pytest.mark.parametrize("text", ["the food was $good$ today", "", "שלום 😀"])
@pytest.mark.filterwarnings("ignore:Glyph")  # of the letters that the font lacks
def test_a_plot_has_a_bar_a_word_and_a_prototype(
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
    figure.canvas.draw()  # a formula that is none would fail here


def test_matplotlib_is_asked_for_by_name(fitted, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match="pip install matplotlib"):
        fitted.explain(["good"])[0].plot()
