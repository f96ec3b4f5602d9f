"""Pages and reports in a real browser: scripts work, and texts are not executed."""

from __future__ import annotations

import html
import itertools
import json
import re
import shutil
import subprocess
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skprotolm import Explanations
from tests.texts import make_texts

BROWSER = next(
    filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])),
    None,
)
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed"),
]
HOSTILE = (
    "<script>document.title = 'run'</script> good <img src=x onerror=alert(1)> film"
)


def browse(
    page: str, script: str, folder: Path, options: Sequence[str] = ()
) -> tuple[Any, str]:
    """Run a script in a page; return its result and the console output."""
    output = "document.body.insertAdjacentHTML('beforeend', '<pre id=result></pre>');"
    output += (
        "document.getElementById('result').textContent = JSON.stringify(measured);"
    )
    file = folder / "page.html"
    inserted = f"<script>const measured = (() => {{ {script} }})(); {output}</script>"
    file.write_text(page.replace("</body>", inserted + "</body>"), encoding="utf-8")
    done = subprocess.run(
        [
            str(BROWSER),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            f"--user-data-dir={folder / 'profile'}",
            "--virtual-time-budget=2000",
            *options,
            "--dump-dom",
            file.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    [shown] = re.findall(r'<pre id="result">(.*?)</pre>', done.stdout, re.DOTALL)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(shown)), "\n".join(console)


DARK = ["--blink-settings=preferredColorScheme=0"]
in_both_schemes = pytest.mark.parametrize("options", [[], DARK], ids=["light", "dark"])

# Contrast as in the Web Content Accessibility Guidelines 2.1, 1.4.3.
MEASURES = """
    const all = (selector) => [...document.querySelectorAll(selector)];
    const canvas = document.createElement("canvas").getContext(
        "2d", {willReadFrequently: true});
    const rgb = (color) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const light = (c) => {
        const [r, g, b] = c.map(v => v / 255)
            .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const over = (c, alpha, under) =>
        c.map((v, i) => alpha * v + (1 - alpha) * under[i]);
    const paper = () => {  // the canvas under the root's background
        const probe = document.createElement("div");
        probe.style.backgroundColor = "Canvas";
        document.documentElement.append(probe);
        const color = rgb(getComputedStyle(probe).backgroundColor).slice(0, 3);
        probe.remove();
        return color;
    };
    const behind = (e) => {
        const layers = [];
        for (; e; e = e.parentElement) {
            const [r, g, b, a] = rgb(getComputedStyle(e).backgroundColor);
            layers.push([[r, g, b], a / 255]);
            if (a === 255) break;
        }
        return layers.reverse().reduce((under, [c, a]) => over(c, a, under), paper());
    };
    const isDark = (e) => light(behind(e)) < 0.5;
    const contrast = (e) => {
        const under = behind(e);
        const [r, g, b, alpha] = rgb(getComputedStyle(e).color);
        const [x, y] = [light(over([r, g, b], alpha / 255, under)), light(under)];
        return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
    };
    const written = () => all("body *").filter(
        e => !e.closest("svg, script, style, title")
            && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()));
    const faint = () => written().map(e => [contrast(e), e.tagName, e.className])
        .filter(([c]) => c < 4.5);
"""


CHOOSE = """
    const words = (box) => [...box.querySelectorAll("span")];
    const text = words(document.querySelector(".skprotolm-explained"));
    const json = document.querySelector(".skprotolm-quotes script");
    const quote = words(json.previousElementSibling);
    const status = document.querySelector("[role=status]");
    const lit = (list) => list.map(w => w.matches(".lit")
        ? Number(w.style.getPropertyValue("--l")) : null);
    const background = (w) => getComputedStyle(w).backgroundColor;
    const [i, j] = JSON.parse(json.textContent)[0];
    const before = background(quote[j]);
    const height = document.body.scrollHeight;
    text[i].dispatchEvent(new Event("mouseenter"));
    const chosen = lit(quote), hovered = background(quote[j]);
    const said = status.textContent;
    status.textContent += " and many more words".repeat(20);
    const moved = document.body.scrollHeight - height;
    text[i].dispatchEvent(new Event("mouseleave"));
    quote[j].dispatchEvent(new Event("focus"));  // headless pages have no focus
    const back = lit(text);
    const outlined = document.querySelectorAll(".chosen").length;
    quote[j].dispatchEvent(new Event("blur"));
    return {i, j, chosen, back, outlined, said, moved, word: text[i].textContent,
            before, hovered, after: background(quote[j]), silent: status.textContent,
            lit: document.querySelectorAll(".lit, .chosen").length};
"""


def test_matching_words_light_up_together(fitted, tmp_path):
    explanations = fitted.explain(["the food was good", "bad film"])
    page = explanations.to_html()
    measured, console = browse(page, CHOOSE, tmp_path)
    assert console == ""
    pairs = json.loads(re.search(r'<script type="application/json">(.*?)<', page)[1])
    strongest = max(strength for _, _, strength in pairs)
    i, j = measured["i"], measured["j"]
    for key, row in (("chosen", 0), ("back", 1)):
        expected = {
            pair[1 - row]: pair[2] / strongest
            for pair in pairs
            if pair[row] == (i, j)[row]
        }
        lit = {n: value for n, value in enumerate(measured[key]) if value is not None}
        assert lit == pytest.approx(expected, abs=6e-3)
    assert measured["outlined"] == 1
    assert measured["moved"] == 0, "the page moves under the pointer"
    assert measured["said"].startswith(f"{measured['word']} matches ")
    assert measured["hovered"] != measured["before"] == measured["after"]
    assert (measured["lit"], measured["silent"]) == (0, "")


ARROWS = """
    const words = [...document.querySelectorAll(".skprotolm-explained span")];
    const stops = () => words.map((w, i) => w.tabIndex === 0 ? i : null)
        .filter(i => i !== null);
    const press = (key) => {
        words[stops()[0]].dispatchEvent(
            new KeyboardEvent("keydown", {key, bubbles: true}));
        return stops();
    };
    return {n: words.length, stops: [stops(), press("ArrowRight"), press("ArrowDown"),
            press("ArrowLeft"), press("ArrowLeft"), press("ArrowLeft")]};
"""


def test_arrow_keys_move_between_words(fitted, tmp_path):
    """Each word was a stop of the Tab key."""
    page = fitted.explain(["the food was good"]).to_html()
    measured, console = browse(page, ARROWS, tmp_path)
    assert console == ""
    assert measured["n"] >= 3
    assert measured["stops"] == [[0], [1], [2], [1], [0], [0]]


NARROW = """
    const box = document.body.appendChild(document.createElement("iframe"));
    box.style.width = "400px";
    const frame = box.contentDocument;
    frame.open();
    frame.write(PAGE);
    frame.close();
    for (const e of frame.querySelectorAll("details")) e.open = true;
    const cards = [...frame.querySelectorAll(".skprotolm-card, .report-wide")];
    const matrix = frame.querySelector(".report-matrix")?.parentElement;
    return {matrix: matrix && matrix.scrollWidth - matrix.clientWidth,
            head: matrix && matrix.querySelector("thead").clientHeight,
            cards: cards.length, width: frame.documentElement.clientWidth,
            page: frame.documentElement.scrollWidth,
            cut: cards.filter(e => e.scrollWidth > e.clientWidth
                && e.tabIndex < 0).map(e => e.className)};
"""


def browse_narrow(page: str, folder: Path) -> Any:
    """Measure a page in a frame of 400 pixels, since windows are at least 500 wide."""
    written = json.dumps(page).replace("<", "\\u003c")
    empty = "<!doctype html><html><body></body></html>"
    measured, _ = browse(empty, NARROW.replace("PAGE", written), folder)
    assert measured["width"] <= 400
    return measured


LONG = (
    "The donaudampfschifffahrtsgesellschaftskapitaensmuetzenschild was good. " * 12,
    "a second text",
)


def test_a_page_fits_a_phone(make_classifier, texts, tmp_path):
    X, y = texts
    pairs = [(text, "the same") for text in X]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # too long for the tiny tokenizer
        clf = make_classifier(max_epochs=1).fit(pairs, y)
        page = clf.explain([LONG, pairs[0]]).to_html()
    measured = browse_narrow(page, tmp_path)
    assert measured["cards"] == 2
    assert measured["page"] <= 400
    assert measured["cut"] == []


def test_texts_are_not_executed(make_classifier, texts, tmp_path):
    X, y = texts
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # too long for the tiny tokenizer
        clf = make_classifier(max_epochs=1).fit(X, y)
        clf.add_prototypes([HOSTILE], ["pos"])
        page = clf.explain([HOSTILE + " again"]).to_html()
    measured, console = browse(
        page,
        "return {title: document.title, images: document.images.length, "
        "text: document.querySelector('.skprotolm-text').textContent}",
        tmp_path,
    )
    assert console == ""
    text = f"{HOSTILE} again"
    assert measured == {"title": "Explanations", "images": 0, "text": text}


def test_restored_explanations_have_a_page(fitted, tmp_path):
    stored = Explanations.from_json(fitted.explain(["good food"]).to_json())
    measured, console = browse(
        stored.to_html(),
        "return document.querySelectorAll('[role=status], script').length - 1",
        tmp_path,
    )
    assert (measured, console) == (0, "")


@pytest.mark.parametrize("text", ["שלום עולם טוב", "good 😀 film", "word " * 10_000])
def test_any_text_has_a_page(fitted, text, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the longest text is truncated
        page = fitted.explain([text]).to_html()
    measured, console = browse(
        page,
        "return document.querySelector('.skprotolm-text').textContent.trim()",
        tmp_path,
    )
    assert console == ""
    assert measured == text.strip()


@in_both_schemes
@pytest.mark.parametrize("width", [500, 1280])
def test_a_page_is_readable(fitted, tmp_path, options, width):
    """On dark systems, the title was light text on a white page."""
    page = fitted.explain(["the food was good", "bad film"]).to_html()
    script = """return {dark: isDark(document.body), faint: faint(),
        wide: document.documentElement.scrollWidth - innerWidth,
        scheme: getComputedStyle(document.documentElement).colorScheme};"""
    measured, console = browse(
        page, MEASURES + script, tmp_path, [*options, f"--window-size={width},900"]
    )
    assert console == ""
    assert measured["dark"] == (options == DARK)
    assert measured["scheme"] == "light dark"  # also for scroll bars
    assert measured["faint"] == []
    assert measured["wide"] <= 0


# --- The report.


@pytest.fixture(scope="module")
def report(make_classifier, tmp_path_factory) -> str:
    """A report with mistakes, on texts that include a script."""
    X, y = make_texts(40)
    X[0] = HOSTILE
    y = np.where(y == "pos", "a_label_without_any_place_to_break_a_line" * 3, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # too long for the tiny tokenizer
        clf = make_classifier(max_epochs=1).fit(X, y)
        clf.add_prototypes(["again " + HOSTILE], [clf.classes_[1]])
        path = tmp_path_factory.mktemp("report") / "report.html"
        clf.report(X, y[::-1], path, X_train=X, y_train=y)
    return path.read_text(encoding="utf-8")


FILTER = """
    const bar = document.querySelector(".report-bar").elements;
    const status = () => document.querySelector("output").textContent;
    const items = [...document.querySelectorAll(".report-item")];
    const shown = () => items.filter(e => e.checkVisibility()).length;
    const dimmed = () => document.querySelectorAll(".report-mark.dim").length;
    const change = (name, value) => {
        bar[name].value = value;
        bar[name].dispatchEvent(new Event("input", {bubbles: true}));
        bar[name].dispatchEvent(new Event("change", {bubbles: true}));
        return [shown(), dimmed(), status()];
    };
    const first = [shown(), dimmed(), status()];
    const word = change("text", "AGAIN");
    const held = items.filter(e => e.checkVisibility())
        .every(e => e.textContent.toLowerCase().includes("again"));
    const fixed = change("text", "top prototype");
    const nothing = change("text", "no such word");
    change("text", "");
    const code = change("code", "0");
    const ofClass = items.filter(e => e.checkVisibility())
        .every(e => e.dataset.code === "0" || e.dataset.also === "0");
    const back = change("code", "");
    change("order", "wrong");
    const cards = [...document.querySelectorAll("#prototypes article")];
    const wrong = cards.map(e => Number(e.dataset.wrong));
    return {first, word, held, fixed, nothing, code, ofClass, back, wrong,
            n: items.length, marks: document.querySelectorAll(".report-mark").length};
"""


def test_the_report_searches_filters_and_sorts(report, tmp_path):
    measured, console = browse(report, FILTER, tmp_path)
    assert console == ""
    n, marks = measured["n"], measured["marks"]
    assert measured["first"] == measured["back"] == [n, 0, ""]
    assert 1 <= measured["word"][0] < n
    assert measured["held"]
    assert measured["fixed"][0] == 0, "the search includes fixed texts of the cards"
    assert measured["word"][2] == f"{measured['word'][0]} of {n} entries shown"
    assert measured["nothing"] == [0, marks, f"0 of {n} entries shown"]
    assert 0 < measured["code"][0] < n
    assert 0 < measured["code"][1] < marks
    assert measured["ofClass"]
    assert measured["wrong"] == sorted(measured["wrong"], reverse=True)
    assert len(measured["wrong"]) == 7


OPEN = """
    const mistake = document.querySelector("#mistakes .skprotolm-card");
    const json = mistake.querySelector("script");
    const [[i]] = JSON.parse(json.textContent);
    const word = mistake.querySelectorAll(".skprotolm-explained span")[i];
    word.dispatchEvent(new Event("mouseenter"));
    const around = document.querySelector("#prototypes article details");
    around.querySelector("summary").click();
    const card = document.getElementById("prototype-6");
    card.hidden = true;
    document.querySelector("a[href='#prototype-6']")
        .dispatchEvent(new Event("click", {bubbles: true}));
    return {status: mistake.querySelector("[role=status]").textContent,
            chosen: document.querySelectorAll(".chosen").length,
            around: around.open && around.querySelectorAll("li").length,
            hidden: card.hidden, title: document.title, images: document.images.length,
            text: card.querySelector("p").textContent};
"""


def test_the_report_opens_cards_and_executes_no_text(report, tmp_path):
    measured, console = browse(report, OPEN, tmp_path)
    assert console == ""
    assert measured["chosen"] == 1
    assert re.match(r"\S+ matches \S+ \((0\.\d+|1)\)", measured["status"])
    assert measured["around"] == 3
    assert not measured["hidden"]
    assert measured["title"] == "Report of a ProtoLMClassifier"
    assert measured["images"] == 0
    assert measured["text"] == "again " + HOSTILE


MANY = """
    const list = document.getElementById("other-prototypes");
    const rows = [...list.querySelectorAll("tr[id]")];
    const bar = document.querySelector(".report-bar").elements;
    const link = document.querySelector(`a[href="#${rows[1].id}"]`);
    const closed = list.open;
    link.dispatchEvent(new Event("click", {bubbles: true}));
    const opened = list.open;
    list.open = false;
    bar.order.value = "usage";
    bar.order.dispatchEvent(new Event("change", {bubbles: true}));
    const usages = [...list.querySelectorAll("tr[id]")].map(e =>
        Number(e.cells[5].textContent.replace("–", "-1")));
    bar.text.value = "again";
    bar.text.dispatchEvent(new Event("input", {bubbles: true}));
    return {closed, opened, searched: list.open, usages, rows: rows.length,
            cards: document.querySelectorAll("#prototypes article").length,
            shown: rows.filter(e => e.checkVisibility()).map(e => e.textContent)};
"""


@pytest.fixture(scope="module")
def large_report(make_classifier, tmp_path_factory) -> str:
    """A report of ten classes with more prototypes than cards."""
    X, _ = make_texts(160)
    labels = np.array([f"class_{i % 10}_of_a_long_name" for i in range(160)])
    clf = make_classifier(max_epochs=1, n_prototypes=8).fit(X, labels)
    assert len(clf.prototypes_) == 80
    clf.add_prototypes(["again a prototype"], [labels[0]])
    path = tmp_path_factory.mktemp("large") / "report.html"
    clf.report(X, labels, path)
    return path.read_text(encoding="utf-8")


def test_further_prototypes_of_a_report_are_found(large_report, tmp_path):
    measured, console = browse(large_report, MANY, tmp_path)
    assert console == ""
    assert (measured["cards"], measured["rows"]) == (60, 21)
    assert not measured["closed"]
    assert measured["opened"]
    assert measured["searched"]
    assert measured["usages"] == sorted(measured["usages"], reverse=True)
    [row] = measured["shown"]
    assert "again a prototype" in row


def test_a_report_of_ten_classes_fits_a_phone(large_report, tmp_path):
    """The confusion matrix was cut off."""
    measured = browse_narrow(large_report, tmp_path)
    assert measured["cards"] > 4
    assert measured["page"] <= 400
    assert measured["cut"] == []
    assert measured["matrix"] <= 0
    assert measured["head"] < 40, "names of classes are broken into letters"


ACCESSIBLE = """
    const levels = all("h1, h2, h3, h4").map(e => Number(e.tagName[1]));
    const fields = all("input, select");
    return {levels, lang: document.documentElement.lang,
            unlabeled: fields.filter(e => !e.labels.length).length,
            fields: fields.length,
            links: all("a[href^='#prototype-']").length,
            unnamed: all("svg").filter(e => !e.getAttribute("aria-label")
                && e.getAttribute("aria-hidden") !== "true").length,
            headless: all("section").filter(e => !e.querySelector("h2")).length,
            tables: all("table").filter(e => !e.querySelector("caption")
                && !e.getAttribute("aria-labelledby")).length,
            broken: all("a").filter(e => !document.querySelector(
                e.getAttribute("href"))).length,
            wide: document.documentElement.scrollWidth - innerWidth,
            dark: isDark(document.body), faint: faint()};
"""


@in_both_schemes
@pytest.mark.parametrize("width", [500, 1280])  # 500 is the smallest width of a window
def test_the_report_is_accessible(report, tmp_path, options, width):
    options = [*options, f"--window-size={width},900"]
    measured, console = browse(report, MEASURES + ACCESSIBLE, tmp_path, options)
    assert console == ""
    levels = measured["levels"]
    assert levels[0] == 1
    assert levels.count(1) == 1
    # No heading skips a level on the way down.
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert measured["lang"] == "en"
    assert measured["fields"] == 3
    assert measured["links"] >= 7, "prototypes on the map cannot be reached by keyboard"
    assert measured["dark"] == (options[:1] == DARK)
    assert measured["wide"] <= 0, "the page is wider than its window"
    problems = ("unlabeled", "unnamed", "headless", "tables", "broken")
    assert {name: measured[name] for name in problems} == dict.fromkeys(problems, 0)
    assert measured["faint"] == []
