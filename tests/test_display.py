"""HTML, terminal text, figures and tables show all texts and execute none."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skprotolm._display.formatting import (
    class_name,
    percent,
    percents,
    printable,
    shorten,
    summands,
    text_of_class,
)
from skprotolm._display.html import explanations_html, prototypes_html
from skprotolm._display.tables import as_frame
from skprotolm._display.text import colored
from skprotolm._tasks.units import LABEL, PROBABILITY, UNITS, WORD_PROBABILITY
from skprotolm.exceptions import MissingExtraError

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
    "caption", "thead", "tbody", "tfoot", "tr", "th", "td", "details", "summary",
    "script", "footer",
}  # fmt: skip
ATTRIBUTES = {"class", "style", "title", "dir", "scope", "lang", "charset"}
ATTRIBUTES |= {"role", "name", "content", "type", "colspan", "aria-label"}


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
        "kind": "classes",
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
                "name": whole,
                "label": label,
                "text": text,
                "unread": words[:2],
                "sentence_offsets": [[0, 0, 0], [1, 0, 0]],
                "role": "target",
                "reads_like": True,
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
                        "name": whole,
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
    """Return a text as a page shows it, without spaces."""
    return "".join(printable(str(value)).split())


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
        "name": f"{text} name",
        "prior": 0.5,
        "train_index": None,
        "projected": True,
        "redacted": False,
    }
    parsed = assert_harmless(prototypes_html([prototype] * 2, noun="class", n_more=3))
    assert parsed.tags.count("article") == 2
    assert "3moreprototypes" in parsed.text
    assert squeezed(text) in parsed.text
    assert squeezed(f"{text} name (no. 0), class") in parsed.text
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
    assert text_of_class(label, PROBABILITY, 2) == named


def test_numbered_tags_and_labels_are_not_called_classes():
    """The tag 3 was called "class 3"."""
    assert text_of_class(3, WORD_PROBABILITY) == "word of tag 3"
    assert class_name(",", WORD_PROBABILITY) == "tag ,"
    assert class_name(3, LABEL) == "label 3"


shares_of_sums = st.lists(st.floats(0, 1), min_size=1, max_size=8).map(
    lambda values: (np.array(values) / max(sum(values), 1)).tolist()
)


@no_deadline
@given(shares_of_sums)
@example([0.5778, 0.3422, 0.0002, 0.0002])
@example([0.0004, 0.0004, 0.0004])
@example([0.9996, 0.0001])
def test_percentages_of_a_sum_add_up_as_shown(shares):
    """57.8 + 34.3 made 92.0: each share was rounded alone."""
    shown = percents(shares)
    assert [float(s.strip("<> %")) for s in shown] == pytest.approx(
        [100 * share for share in shares], abs=0.11
    )
    tenths = [0 if s[0] == "<" else round(10 * float(s.strip("> %"))) for s in shown]
    total = percent(sum(shares))
    expected = 0 if total[0] == "<" else round(10 * float(total.strip("> %")))
    if ">" not in "".join(shown) and not 1 - 1e-9 < sum(shares) < 1:
        assert sum(tenths) == expected
    assert not [s for s, x in zip(shown, shares, strict=True) if s == "0.0 %" and x]


@no_deadline
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8),
    st.integers(min_value=0, max_value=4),
)
def test_rounded_values_add_up(values, decimals):
    rounded = summands(values, decimals)
    np.testing.assert_allclose(rounded, values, atol=1.01 * 10.0**-decimals)
    units = 10.0**decimals
    whole = [round(value * units) for value in rounded]
    assert abs(sum(whole) - float(np.sum(values)) * units) <= 0.51


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
        "sentence_offsets": [(0, 0, ends[-1])] if ends else [],
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
