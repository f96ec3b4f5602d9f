"""Pages of explanations: the sum, matching words, long texts, titles."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skprotolm._display.folding import fold, fold_end, folded_parts
from skprotolm._display.formatting import percent
from skprotolm._display.html import explanations_html, sum_parts
from skprotolm._display.pieces import (
    STRONGEST_SHARE,
    Piece,
    split_explanation,
    split_sides,
)
from skprotolm._records.sentences import find_sentences
from skprotolm._records.views import listed_record, page_records
from tests.test_display import (
    Page,
    assert_harmless,
    make_record,
    make_scored,
    no_deadline,
    squeezed,
)
from tests.texts import make_texts

# A tiny random encoder gives many texts nearly the same vector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::skprotolm.exceptions.UnreadTextWarning"
)


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
    for part in sum_parts(listed_record(e)):
        assert squeezed(part["shown"]) in parsed.text
        percentage = 100 * part["contribution"]
        assert float(part["shown"].strip("<> %")) == pytest.approx(percentage, abs=0.11)
    assert f"other{e.target}texts" in parsed.text
    [other] = {"pos", "neg"} - {e.target}
    assert f"more{other}texts" in parsed.text
    assert squeezed(f"{e.log_odds:+.2f}") in parsed.text
    titles = [value for name, value in parsed.attributes if name == "title"]
    marked = np.abs(e.word_scores) >= STRONGEST_SHARE * np.abs(e.word_scores).max()
    scores = [f"{score:+.3f}" for score in e.word_scores[marked]]
    assert [title for title in titles if title[0] in "+-"] == scores
    assert squeezed(f"Sum {e.word_scores.sum():+.3f}") in parsed.text


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
    assert widths == pytest.approx([100 * p["contribution"] for p in parts], abs=0.01)
    of_target = [p["contribution"] for p in parts if p["role"] == "target"]
    assert sum(of_target) == pytest.approx(e.probability)
    # The target's parts come first; the listed ones are in descending order.
    assert all(p["role"] == "target" for p in parts[: len(of_target)])
    for role in ("target", "other"):
        of_role = [p for p in parts if p["role"] == role and not p["is_group"]]
        listed = [p["contribution"] for p in of_role]
        assert listed == sorted(listed, reverse=True)
    [label] = [v for n, v in parsed.attributes if n == "aria-label"]
    for part in parts:
        assert part["shown"] in label
        assert squeezed(part["shown"]) in parsed.text
        percentage = 100 * part["contribution"]
        assert float(part["shown"].strip("<> %")) == pytest.approx(percentage, abs=0.11)


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
        of_role = [p for p in parts if p["role"] == role and not p["is_group"]]
        assert [p["label"] for p in of_role] == [label] * 3


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
    scripts = map(json.loads, Page(page).scripts[:5])
    record = page_records([e], 5)[0]
    by_index = {match["index"]: match for match in record["matches"]}
    order = [p["index"] for p in sum_parts(record) if not p["is_group"]]
    quotes = dict(zip(order, elements[1:], strict=True))
    aligned = [index for index in order if index in by_index]
    assert len(aligned) == 5
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


def test_a_title_is_a_str(fitted, texts, tmp_path):
    """A list of one title was printed with its brackets."""
    X, y = texts
    path = tmp_path / "page.html"
    message = "title must be a str that UTF-8 can encode, or None, got"
    for title in (["a"], "\ud800"):  # half of a surrogate pair cannot be written
        with pytest.raises(ValueError, match=message):
            fitted.explain(["good food"]).save_html(path, title=title)
    with pytest.raises(ValueError, match=message):
        fitted.report(X, y, path, title=5)
    assert not path.exists()


def test_a_page_has_a_title_a_date_and_versions(fitted, tmp_path):
    before = datetime.now(timezone.utc).date()
    explanations = fitted.explain(["good"])
    explanations.save_html(tmp_path / "page.html", title="Case <7>")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page == explanations[0].to_html(title="Case <7>")
    assert "<title>Case &lt;7&gt;</title>" in page
    assert "<h1>Case &lt;7&gt;</h1>" in page
    footer = re.search("<footer.*?>(.*?)</footer>", page)[1]
    dates = {before, datetime.now(timezone.utc).date()}
    assert footer.startswith(tuple(f"{date} (UTC), skprotolm " for date in dates))
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
    return [(run.n_folded, "".join(p.text for p in run.pieces)) for run in runs]


def test_sentences_without_words_that_count_are_folded():
    runs = folded(" ".join(SENTENCES), {"3", "5", "11"})
    assert [n for n, _ in runs] == [3, 0, 0, 0, 5, 0], "one sentence is not folded"
    assert runs[0][1] == " ".join(SENTENCES[:3]) + " "
    assert [text for _, text in runs[1:4]] == [f"{s} " for s in SENTENCES[3:6]]
    assert runs[5][1] == SENTENCES[11]


def test_sentences_of_equal_weights_are_not_all_folded():
    runs = folded(" ".join(SENTENCES * 3), {"sentence"})
    assert [n for n, _ in runs] == [0] * 10 + [26]


def test_at_most_ten_sentences_of_a_long_text_are_shown():
    words = " ".join(SENTENCES * 10).split()
    scores = [float(n) if w == "here." else 0.0 for n, w in enumerate(words)]
    record = make_scored(words, scores)
    starts = [start for start, _ in find_sentences(record["text"])]
    [side] = split_sides(record)
    runs = fold(side, starts)
    assert [run.n_folded for run in runs] == [110, *[0] * 10]
    assert sum(run.score for run in runs) == sum(scores)
    offsets = [(0, start, start) for start in starts]
    assert folded_parts([side], offsets) == runs[0]
    assert runs[0].n_words == 550
    of_pair = [(segment, start, start) for segment in (0, 1) for start in starts]
    assert folded_parts([side, side], of_pair).n_words == 1100
    assert folded_parts([side[:3]], offsets[:3]).n_folded == 0


@pytest.mark.parametrize("text", [" ".join(SENTENCES[:8]), "3 words here " * 900])
def test_short_texts_and_single_sentences_are_not_folded(text):
    assert folded(text.strip(), {"3"}) == [(0, text.strip())]


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
    assert "Words are colored by relevance" in page
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
    assert f"Predicted: {e.prediction}." in of_other.to_html()


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


def test_a_page_under_proto_lm_is_captioned_by_the_text_alone(make_classifier):
    """Similarities, which are no cosines there, were compared with the novelty."""
    clf = make_classifier(max_epochs=1, formulation="proto-lm").fit(*make_texts(40))
    [e] = clf.explain(["the food was good"])
    usual = replace(e, novelty_limit=e.novelty + 1e-6)
    assert "Nearest training texts" not in usual.to_html()
    assert "Nearest training texts" in replace(e, novelty_limit=e.novelty / 2).to_html()
