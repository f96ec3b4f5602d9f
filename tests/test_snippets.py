"""Snippets in notebooks and other pages look as they do on a page of their own."""

from __future__ import annotations

import pytest

from tests.test_browser import BROWSER, DARK, MEASURES, browse, in_both_schemes

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed"),
]

# Selectors and properties of the style sheets of such pages.

JUPYTERLAB = """
    body { background: var(--jp-layout-color0); margin: 0; --jp-layout-color0: white;
        --jp-font: rgba(0, 0, 0, 0.87); --jp-row: #f5f5f5; --jp-border: #bdbdbd; }
    body[data-jp-theme-light="false"] { --jp-layout-color0: #111; --jp-font: white;
        --jp-row: #212121; --jp-border: #616161; }
    .jp-RenderedHTMLCommon { color: var(--jp-font); font: 14px/1.6 serif; }
    .jp-RenderedHTMLCommon h2, .jp-RenderedHTMLCommon h3 { font-size: 1.728em;
        font-weight: 500; line-height: 1; margin: 1.2em 0 0.8em; }
    .jp-RenderedHTMLCommon h2:first-child { margin-top: 0.6em; }
    .jp-RenderedHTMLCommon table { border: none; color: var(--jp-font); font-size: 13px;
        margin: 0 auto 1em; table-layout: fixed; }
    .jp-RenderedHTMLCommon thead { border-bottom: 1px solid var(--jp-border);
        vertical-align: bottom; }
    .jp-RenderedHTMLCommon td, .jp-RenderedHTMLCommon th, .jp-RenderedHTMLCommon tr {
        border: none; line-height: normal; max-width: none; padding: 0.5em;
        vertical-align: middle; white-space: normal; }
    :not(.jp-RenderedMarkdown).jp-RenderedHTMLCommon td,
    :not(.jp-RenderedMarkdown).jp-RenderedHTMLCommon th,
    :not(.jp-RenderedMarkdown).jp-RenderedHTMLCommon tr { text-align: right; }
    .jp-RenderedHTMLCommon tbody tr:nth-child(odd) {
        background: var(--jp-layout-color0); }
    .jp-RenderedHTMLCommon tbody tr:nth-child(even) { background: var(--jp-row); }
    .jp-RenderedHTMLCommon p { margin: 0 0 1em; text-align: left; }
    .jp-OutputArea-output dl, .jp-OutputArea-output dt, .jp-OutputArea-output dd {
        display: block; margin: 0; padding: 0; }
    .jp-OutputArea-output dl { overflow: hidden; width: 100%; }
    .jp-OutputArea-output dt { float: left; font-weight: bold; width: 20%; }
    .jp-OutputArea-output dd { float: left; width: 80%; }
    .jp-RenderedHTMLCommon > *:last-child { margin-bottom: 0.5em; }
"""
CLASSIC = """
    html { font-size: 10px; }
    * { box-sizing: border-box; }
    article, details, summary { display: block; }
    caption { color: #777; padding: 8px 0; text-align: left; }
    dl { margin: 0 0 18px; }
    dt, dd { line-height: 1.4; }
    dt { font-weight: bold; }
    .rendered_html table { border: none; color: black; font-size: 12px;
        margin: 0 auto; table-layout: fixed; }
    .rendered_html tr, .rendered_html th, .rendered_html td { border: none;
        line-height: normal; padding: 0.5em; text-align: right; white-space: normal;
        vertical-align: middle; }
    .rendered_html tbody tr:nth-child(odd) { background: #f5f5f5; }
    .rendered_html h2 { font-size: 157.1%; line-height: 1; margin: 1.27em 0 0; }
    .rendered_html * + p, .rendered_html * + table { margin-top: 1em; }
"""
SPHINX = """
    body[data-theme="dark"] { background: #131416; color: #cfd0d0; }
    article { background: inherit; line-height: 1.3; overflow-wrap: break-word; }
    article[role=main] * { scrollbar-width: thin; }
    table > caption { font-size: 81%; text-align: center; }
    dl:not([class]) dt { font-weight: 500; margin-top: 0.25rem; }
    dd { margin: 3px 0 10px 30px; }
    div.body p, div.body dd, div.body td { hyphens: auto; line-height: 140%; }
    #page td { padding: 1em; }
"""
# The rules of a page, and the opening tags before a snippet.
HOSTS = {
    "jupyterlab": (
        JUPYTERLAB,
        '<div class="jp-OutputArea-output jp-RenderedHTMLCommon jp-RenderedHTML">',
    ),
    "classic": (CLASSIC, '<div class="rendered_html">'),
    "sphinx": (SPHINX, '<div class="body" id="page"><article role="main">'),
    "plain": ("", "<div>"),
}


def embed(snippet: str, host: str, theme: str = "") -> str:
    """Return the page of a host with a snippet; `theme` is an attribute of its body."""
    rules, opening_tags = HOSTS[host]
    return (
        f"<!doctype html><html><head><style>{rules}</style></head>"
        f"<body {theme}>{opening_tags}{snippet}</div></body></html>"
    )


@pytest.fixture(scope="module")
def snippet(make_classifier, fitted, texts) -> str:
    """Notebook HTML: explanations of a text and of a pair, and prototypes."""
    X, y = texts
    pairs = [(text, "the same") for text in X]
    clf = make_classifier(formulation="proto-lm", max_epochs=1).fit(pairs, y)
    shown = [fitted.explain([X[0]]), clf.explain([pairs[0]]), fitted.prototypes_]
    return "".join(each._repr_html_() for each in shown)


LOOKS = """
    for (const e of all("details")) e.open = true;
    return all(".skprotolm, .skprotolm :not(style)").map(e => {
        const box = e.getBoundingClientRect();
        const from = e.closest(".skprotolm").getBoundingClientRect();
        const style = getComputedStyle(e);
        return {tag: e.tagName, x: box.x - from.x, y: box.y - from.y,
                ...Object.fromEntries([...style].map(name => [name, style[name]]))};
    });
"""


@pytest.mark.parametrize("width", [500, 1280])
@pytest.mark.parametrize("host", ["jupyterlab", "classic", "sphinx"])
def test_a_snippet_looks_the_same_everywhere(snippet, tmp_path, host, width):
    """JupyterLab's rules for tables and lists made labels overlap numbers."""
    sized = f"<div style='width: 90vw'>{snippet}</div>"
    script, options = MEASURES + LOOKS, [f"--window-size={width},900"]
    looks, _ = browse(embed(sized, host), script, tmp_path, options)
    expected, _ = browse(embed(sized, "plain"), script, tmp_path, options)
    assert len(looks) == len(expected) > 100
    changed = [
        (one["tag"], name, one[name], other[name])
        for one, other in zip(looks, expected, strict=True)
        for name in other
        if one[name] != other[name]
    ]
    assert changed == []


FITS = """
    for (const e of all("details")) e.open = true;
    const box = (e) => e.getBoundingClientRect();
    const quotes = all(".skprotolm-quotes .skprotolm-text").map(
        e => box(e).width / box(e.closest(".skprotolm")).width);
    const ink = (e) => {  // its text, which may overflow its box
        const range = document.createRange();
        range.selectNodeContents(e);
        return range.getBoundingClientRect();
    };
    const overlap = (one, other) => ink(one).left < ink(other).right
        && ink(other).left < ink(one).right
        && ink(one).top < ink(other).bottom
        && ink(other).top < ink(one).bottom;
    const covered = all("dl").flatMap(list => {
        const parts = [...list.querySelectorAll("dt, dd")];
        return parts.filter(one => parts.some(e => e !== one && overlap(one, e)));
    });
    const wide = all(".skprotolm *").filter(
        e => box(e).right > box(e.closest(".skprotolm")).right + 0.5);
    return {quotes, parts: all("dl > div").length, covered: covered.length,
            wide: wide.map(e => e.tagName),
            page: document.documentElement.scrollWidth - innerWidth};
"""


@pytest.mark.parametrize("width", [500, 1280])
def test_a_snippet_fits_into_a_notebook(snippet, tmp_path, width):
    """The column of texts had a fifth of the table's width."""
    measured, console = browse(
        embed(snippet, "jupyterlab"),
        MEASURES + FITS,
        tmp_path,
        [f"--window-size={width},900"],
    )
    assert console == ""
    assert measured["parts"] >= 12
    assert measured["covered"] == 0, "labels overlap numbers"
    assert measured["wide"] == []
    assert measured["page"] <= 0
    assert len(measured["quotes"]) == 10
    assert min(measured["quotes"]) > 0.75


COLORS = """
    return {dark: all(".skprotolm, .skprotolm-card").map(isDark), faint: faint()};
"""


@in_both_schemes
@pytest.mark.parametrize(
    ("host", "theme", "is_dark"),
    [
        ("jupyterlab", "data-jp-theme-light=true", False),
        ("jupyterlab", "data-jp-theme-light=false", True),
        ("sphinx", "data-theme=dark", True),
        ("plain", "", None),
    ],
)
def test_a_snippet_has_the_colors_of_its_notebook(
    snippet, tmp_path, options, host, theme, is_dark
):
    """Dark systems had light text on the white page of a light notebook."""
    page = embed(snippet, host, theme)
    measured, console = browse(page, MEASURES + COLORS, tmp_path, options)
    assert console == ""
    # A page without a theme has the color scheme of the system.
    assert set(measured["dark"]) == {options == DARK if is_dark is None else is_dark}
    assert measured["faint"] == []


THEMES = {
    "": "light dark",
    'data-jp-theme-light="true"': "light",
    'data-jp-theme-light="false"': "dark",
    'data-vscode-theme-kind="vscode-light"': "light",
    'data-vscode-theme-kind="vscode-dark"': "dark",
    'data-vscode-theme-kind="vscode-high-contrast"': "dark",
    'data-vscode-theme-kind="vscode-high-contrast-light"': "light",
    'data-theme="light"': "light",  # of Sphinx
    'data-theme="dark"': "dark",
    'data-theme="auto"': "light dark",
    'theme="dark"': "dark",  # of Colab
}


def test_a_snippet_follows_the_themes_of_notebooks(snippet, tmp_path):
    pages = [f"<div {theme}>{snippet}</div>" for theme in THEMES]
    script = """return all("body > div > div > .skprotolm:first-child").map(
        e => getComputedStyle(e).colorScheme)"""
    page = embed("".join(pages), "plain")
    measured, _ = browse(page, MEASURES + script, tmp_path)
    assert measured == list(THEMES.values())


KEYS = """
    const [summary] = all("summary");
    const article = summary.closest("article");
    summary.focus();
    const {outlineStyle, cursor} = getComputedStyle(summary);
    const focused = summary.matches(":focus-visible");
    summary.click();
    const open = summary.parentElement.open;
    article.hidden = true;
    return {outlineStyle, cursor, focused, open,
            order: all("summary").map(e => e.tabIndex),
            hidden: !article.checkVisibility()};
"""


def test_a_snippet_is_usable_by_keyboard(snippet, tmp_path):
    """Some pages remove the outline of the focused element."""
    rules = "<style>.jp-RenderedHTML :focus { outline: none; }</style>"
    page = embed(rules + snippet, "jupyterlab")
    for attempt in range(5):  # headless windows are not always focused
        folder = tmp_path / str(attempt)
        folder.mkdir()
        measured, console = browse(page, MEASURES + KEYS, folder)
        if measured["focused"]:
            break
    assert console == ""
    assert measured["focused"]
    assert measured["outlineStyle"] == "auto"
    assert measured["cursor"] == "pointer"
    assert measured["open"]
    assert set(measured["order"]) == {0}
    assert measured["hidden"]
