"""Every renderer shows hostile texts and labels completely and executes none."""

from __future__ import annotations

import copy
import io
import json
import re
import unicodedata
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from skprotolm import Explanations, ProtoLMClassifier
from skprotolm._display.formatting import class_name, printable, shorten
from skprotolm._display.pieces import STRONGEST_SHARE
from skprotolm._display.plots import plot_map
from skprotolm._tasks.classification import ClassificationTask
from skprotolm._tasks.units import PROBABILITY
from skprotolm.exceptions import TextTruncatedWarning
from tests.test_display import HOSTILE, Page, squeezed

pytestmark = pytest.mark.filterwarnings(
    "ignore::skprotolm.exceptions.UnreadTextWarning"
)

BIDI_CONTROLS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
RTL = "\u202eמגניב\u202c"
# Without surrogates. NumPy drops NUL at the end of labels.
any_text = st.sampled_from([*HOSTILE, "$x_1^", r"\frac{1}{", RTL, "\x1b[2J"]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=30
)
any_label = any_text.map(lambda text: text.rstrip("\x00") + "!")
fast = settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
hostile_cases = given(any_text, any_label)
KNOWN = {
    "a", "article", "b", "body", "caption", "circle", "code", "dd", "details", "div",
    "dl", "dt", "form", "g", "h1", "h2", "h3", "h4", "head", "html", "input", "label",
    "li", "line", "main", "meta", "nav", "option", "output", "p", "path", "polyline",
    "rect", "script", "section", "select", "span", "style", "summary", "svg", "table",
    "tbody", "td", "text", "tfoot", "th", "thead", "title", "tr", "ul", "i", "ol",
    "footer",
}  # fmt: skip


def with_texts(fitted: ProtoLMClassifier, text: str, label: str) -> ProtoLMClassifier:
    """Return a copy of a classifier with this prototype text and first class."""
    state = fitted._fitted
    texts = tuple(f"{text} {j}" for j in range(len(state.quotes.texts)))
    clf = copy.copy(fitted)
    clf._fitted = replace(
        state,
        task=ClassificationTask(np.array([label, f"{label} not"])),
        quotes=replace(state.quotes, texts=texts, names=texts),
    )
    clf.classes_ = clf._fitted.task.classes
    return clf


def as_shown(text: str) -> str:
    """Return a text as a page shows it: without control characters and spaces."""
    return squeezed(printable(text))


def assert_known(html: str, *texts: str) -> None:
    page = Page(html)
    assert page.open == []
    assert set(page.tags) <= KNOWN
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    for script in page.scripts:
        if not script.strip().startswith('"use strict"'):
            json.loads(script)
    for text in texts:
        assert as_shown(text) in page.text


@fast
@hostile_cases
@example("</script><script>alert(1)</script>", "<b>")
def test_pages_escape_texts(fitted, text, label):
    clf = with_texts(fitted, text, label)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # some texts are too long for the tiny tokenizer
        explanations = clf.explain([text, f"{text} more"])
        pages = [explanations.to_html(), explanations._repr_html_()]
        pages += [explanations[0].to_html(), explanations[1]._repr_html_()]
    for page in pages:
        assert_known(page, text, explanations[0].prediction)
    assert_known(clf.prototypes_._repr_html_(), f"{text} 0", label)


@fast
@hostile_cases
@example("</script><script>alert(1)</script>", "</option></select><b>")
def test_the_report_escapes_texts(fitted, tmp_path, text, label):
    clf = with_texts(fitted, text, label)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        X = [text, f"{text} more"]
        predicted = clf.predict(X)
        y = clf.classes_[(predicted == clf.classes_[0]).astype(int)]
        clf.report(X, y, tmp_path / "report.html")
    page = Path(tmp_path / "report.html").read_text(encoding="utf-8")
    assert_known(page, text, label)


@fast
@hostile_cases
def test_json_restores_texts(fitted, text, label):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explanations = with_texts(fitted, text, label).explain([text])
    restored = Explanations.from_json(explanations.to_json())
    assert restored.to_dict() == explanations.to_dict()


@fast
@hostile_cases
def test_print_replaces_control_characters(fitted, text, label):
    clf = with_texts(fitted, text, label)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explanations = clf.explain([text])
    for printed in (str(explanations), repr(explanations[0]), repr(clf.prototypes_)):
        controls = {c for c in printed if unicodedata.category(c) == "Cc"}
        controls |= {
            c for c in printed if unicodedata.bidirectional(c) in BIDI_CONTROLS
        }
        assert controls <= {"\n"}


@fast
@hostile_cases
@example("\t", "a tab!")
def test_pages_replace_control_characters(fitted, text, label):
    """A text with a bidirectional control reversed the page after it."""
    clf = with_texts(fitted, text, label)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        page = clf.explain([text]).to_html(title=f"{RTL}\x1b[31m")
    controls = {c for c in page if unicodedata.category(c) == "Cc"}
    controls |= {c for c in page if unicodedata.bidirectional(c) in BIDI_CONTROLS}
    assert controls <= {"\n"}


def test_a_label_of_several_lines_is_printed_on_one(fitted):
    """Tabs and line breaks of labels were printed."""
    clf = with_texts(fitted, "good food", "a\tb\nc")
    [e] = clf.explain(["good food"], target="a\tb\nc")
    plain = fitted.explain(["good food"])[0]
    assert "a b c: " in str(e)
    assert "  0  a b c, good food 0: good food 0" in repr(clf.prototypes_)
    assert len(str(e).splitlines()) == len(str(plain).splitlines())


@pytest.mark.parametrize("ending", ["\r\n", "\r", "\n"])
def test_all_line_endings_are_printed_as_line_feeds(fitted, ending):
    """With CRLF, each line of a colored text ended with a replacement character."""
    text, label = f"good{ending}food{ending}", f"a{ending}b"
    clf = with_texts(fitted, text, label)
    [e] = clf.explain([text], target=label)
    colored = re.sub(r"\x1b\[[\d;]*m", "", e.to_text(color=True))
    assert colored.startswith("good\nfood\n")
    printed = [str(e), repr(e), repr(clf.prototypes_), e.to_text(color=True)]
    for written in printed:
        assert "\ufffd" not in written
        assert "\r" not in written
        assert "a b" in written


def base_characters(text: str) -> str:
    """Return a text without combining characters, which a font may lack."""
    joined = ("Mn", "Mc", "Me", "Cf")
    return "".join(
        c
        for c in text
        if unicodedata.category(c) not in joined and not "🏻" <= c <= "🏿"
    )


def is_cut_from(written: str, text: str) -> bool:
    """Whether a name in a figure is the start of a text, without missing glyphs."""
    written = base_characters(written.replace(r"\$", "$").removesuffix("…"))
    whole = base_characters(printable(shorten(text, 200)))
    return len(written) <= len(whole) and all(
        character in (expected, "\ufffd")
        for character, expected in zip(written, whole, strict=False)
    )


@fast
@hostile_cases
@example("$x_1^", r"$\frac{$")
@example("\u306d\u032c", "\uac63\u034c\u0e34!")  # accents on characters of another font
@example("a" + "\u0301" * 50, "\u0e33\ufdfd\U0001f469\U0001f3fd\u200d\U0001f680!")
def test_plots_show_texts_literally(fitted, text, label):
    """Characters that the font lacks caused warnings and were drawn as boxes."""
    pytest.importorskip("matplotlib")
    clf = with_texts(fitted, text, label)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TextTruncatedWarning)
        figures: list[Any] = [clf.explain([text])[0].plot(), clf.prototypes_.plot()]
    for figure in figures:
        figure.savefig(io.BytesIO(), format="svg")
    [words, _] = figures[0].axes
    written = words.get_xlabel()
    prefix = "part of the log-odds of "
    assert written == "" or any(
        is_cut_from(written.removeprefix(prefix), class_name(x, PROBABILITY))
        for x in clf.classes_
    )
    names = [t.get_text() for t in figures[1].axes[0].get_legend().get_texts()]
    assert is_cut_from(names[0], label)


WIDE = {
    "W": ("W" * 60, "W" * 60),
    "Chinese": ("这是一个非常好的电影我很喜欢它的故事情节" * 3, "正面的评价非常好" * 8),
    "Hebrew": ("שלום עולם " * 8, "טוב מאוד " * 10),
    "long": ("antidisestablishmentarianism" * 2, "a very long label " * 5),
    "200 words": ("a " * 200, "b"),
    "emoji": ("😀" * 30, "😀" * 20),
    "dollars": ("$" * 90, "$" * 90),
    "heaped accents": ("a" + "\u0301" * 60, "a" + "\u0301" * 60),
    "lines": ("a\nb\n" * 20, "a\nb\n" * 20),
}


@pytest.mark.parametrize(("text", "label"), WIDE.values(), ids=WIDE)
@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.TextTruncatedWarning")
def test_long_names_do_not_displace_the_axes(fitted, text, label):
    """Long names took the whole figure, and constrained layout failed."""
    pytest.importorskip("matplotlib")
    clf = with_texts(fitted, text, label)
    explanations = clf.explain([text, f"{text} b"])
    figures = [explanations[0].plot(), explanations.plot(), clf.prototypes_.plot()]
    for figure in figures:
        figure.savefig(io.BytesIO(), format="png")
        width, height = figure.get_size_inches()
        assert height < 16
        for axes in figure.axes:
            assert axes.get_position().width > 0.35
            assert axes.get_position().height * height > 0.2
            box = axes.get_tightbbox().transformed(figure.dpi_scale_trans.inverted())
            assert box.x0 > 0
            assert box.x1 < width
            assert box.y0 > 0
            assert box.y1 < height


@pytest.mark.parametrize(
    ("M", "numbered", "size"), [(100, True, 90), (101, False, 89), (1312, False, 16)]
)
def test_many_prototypes_have_small_markers_without_numbers(M, numbered, size):
    """A map of 1,312 prototypes had overlapping numbers and markers."""
    pytest.importorskip("matplotlib")
    vectors = np.random.RandomState(0).normal(size=(M, 2))
    labels = ["a", "b"] * (M // 2) + ["b"] * (M % 2)
    [axes] = plot_map(vectors, labels, ["name"] * M, []).axes
    assert [text.get_text() for text in axes.texts] == (
        [str(j) for j in range(M)] if numbered else []
    )
    assert ("numbers" in axes.get_title()) == numbered
    markers = [c for c in axes.collections if c.get_edgecolor()[0, :3].sum() == 0]
    assert sum(len(c.get_offsets()) for c in markers) == M
    assert {int(c.get_sizes()[0]) for c in markers} == {size}


def test_a_plot_of_a_long_text_shows_the_strongest_words(fitted):
    """300 bars made a figure too high for a screen."""
    pytest.importorskip("matplotlib")
    [e] = fitted.explain(["food " * 10])
    n, scores = 312, np.random.RandomState(0).normal(size=312)
    text = " ".join(f"w{i}" for i in range(n))
    starts = np.cumsum([0, *(len(f"w{i} ") for i in range(n - 1))])
    e = replace(
        e,
        text=text,
        tokens=tuple(text.split()),
        offsets=np.stack(
            [starts, starts + [len(word) for word in text.split()]], axis=1
        ),
        segments=np.zeros(n, dtype=int),
        attention=np.full(n, 1 / n),
        token_scores=scores,
        token_unread=np.zeros(n, dtype=bool),
    )
    words, _ = e.plot().axes
    shown = [int(tick.get_text()[1:]) for tick in words.get_yticklabels()]
    assert shown == sorted(np.argsort(-np.abs(scores))[:40].tolist())
    np.testing.assert_allclose([b.get_width() for b in words.patches], scores[shown])
    assert words.get_title() == "Words by relevance: the 40 strongest of 312"
    faces = {bar.get_facecolor() for bar in words.patches}
    strong = np.abs(scores[shown]) >= STRONGEST_SHARE * np.abs(scores).max()
    gray = [len(set(bar.get_facecolor()[:3])) == 1 for bar in words.patches]
    assert gray == (~strong).tolist()
    assert len(faces) == 2 + any(gray)


def test_a_plot_of_a_pair_names_the_text_of_each_word(make_classifier, texts):
    pytest.importorskip("matplotlib")
    X, y = texts
    clf = make_classifier(max_epochs=1).fit([(text, "the same") for text in X], y)
    words, _ = clf.explain([("good food", "food")])[0].plot().axes
    names = [tick.get_text() for tick in words.get_yticklabels()]
    assert names == ["good (first text)", "food (first text)", "food (second text)"]


@fast
@hostile_cases
def test_shap_and_frames_contain_texts(fitted, text, label):
    pytest.importorskip("shap")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explanations = with_texts(fitted, text, label).explain([text])
        shap_explanations = explanations.to_shap()
    [e] = explanations
    names = zip(shap_explanations.feature_names[0], e.words, e.word_unread, strict=True)
    for name, word, unread in names:
        assert name == (f"{word} (not read)" if unread else word)
    assert len(shap_explanations.data[0]) == len(e.words)
    assert set(explanations.to_frame()["text"]) == {text}


@pytest.mark.parametrize("formulation", ["mixture", "proto-lm"])
def test_a_plot_of_several_explanations_shows_mean_contributions(
    make_classifier, texts, formulation
):
    pytest.importorskip("matplotlib")
    X, y = texts
    clf = make_classifier(max_epochs=1, formulation=formulation).fit(X, y)
    explanations = clf.explain(X[:7])
    [axes] = explanations.plot().axes
    widths = [bar.get_width() for bar in axes.patches]
    mean = np.mean([e.contributions for e in explanations], axis=0)
    expected = mean[np.argsort(-np.abs(mean), kind="stable")]
    np.testing.assert_allclose(widths, expected)
    [few] = clf.explain(X[:7], top_k=2).plot().axes
    assert len(few.patches) == 2
    other = make_classifier(max_epochs=1, formulation=formulation, n_prototypes=2)
    mixed = Explanations([explanations[0], other.fit(X, y).explain(X[:1])[0]])
    for invalid in (mixed, Explanations([])):
        with pytest.raises(ValueError, match="at least one explanation"):
            invalid.plot()
