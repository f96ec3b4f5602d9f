"""Pages of explanations in a real browser: they work, and nothing of a text runs."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pytest

from skprotolm import Explanations

BROWSER = next(
    filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])),
    None,
)
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed"),
    pytest.mark.filterwarnings(
        "ignore::skprotolm.exceptions.DuplicatePrototypesWarning"
    ),
]
HOSTILE = (
    "<script>document.title = 'run'</script> good <img src=x onerror=alert(1)> film"
)


def browse(page: str, script: str, folder: Path) -> tuple[Any, str]:
    """Open a page, run a script in it, and return its result and the console."""
    result = "document.body.insertAdjacentHTML('beforeend', '<pre id=result></pre>');"
    result += "document.getElementById('result').textContent = JSON.stringify(found);"
    file = folder / "page.html"
    inserted = f"<script>const found = (() => {{ {script} }})(); {result}</script>"
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


CHOOSE = """
    const box = document.querySelector(".skprotolm-match");
    box.querySelector("summary").click();
    const [text, other] = ["text", "prototype"].map(
        side => [...box.querySelectorAll(`[data-side=${side}]`)]);
    const strengths = () => other.map(w => Number(w.style.getPropertyValue("--s")));
    const before = strengths();
    text[1].dispatchEvent(new Event("mouseenter"));
    const chosen = strengths();
    const outlined = document.querySelectorAll(".skprotolm-chosen").length;
    text[1].dispatchEvent(new Event("mouseleave"));
    other[0].dispatchEvent(new Event("focus"));  // a page without a window has none
    const back = text.map(w => Number(w.style.getPropertyValue("--s")));
    other[0].dispatchEvent(new Event("blur"));
    return {open: box.open, before, chosen, outlined, back, after: strengths()};
"""


def test_a_chosen_word_shows_what_it_matches_both_ways(fitted, tmp_path):
    explanations = fitted.explain(["the food was good", "bad film"])
    found, console = browse(explanations.to_html(), CHOOSE, tmp_path)
    assert console == ""
    assert found["open"]
    assert found["outlined"] == 1
    [e, _] = explanations
    matrix = e.word_alignment(e.prototypes[0].index).matrix
    strongest = matrix.max()
    expected = [max(0, value / strongest) for value in matrix[1]]
    assert found["chosen"] == pytest.approx(expected, abs=2e-3)
    expected = [max(0, value / strongest) for value in matrix[:, 0]]
    assert found["back"] == pytest.approx(expected, abs=2e-3)
    assert found["after"] == found["before"]


def test_texts_stay_texts(make_classifier, texts, tmp_path):
    X, y = texts
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # to a tiny tokenizer it is long
        clf = make_classifier(max_epochs=1).fit(X, y)
        clf.add_prototypes([HOSTILE], ["pos"])
        page = clf.explain([HOSTILE + " again"]).to_html()
    found, console = browse(
        page,
        "return {title: document.title, images: document.images.length, "
        "text: document.querySelector('.skprotolm-text').textContent}",
        tmp_path,
    )
    assert console == ""
    text = f"{HOSTILE} again"
    assert found == {"title": "Explanations", "images": 0, "text": text}


def test_what_comes_from_json_has_a_page_too(fitted, tmp_path):
    stored = Explanations.from_json(fitted.explain(["good food"]).to_json())
    found, console = browse(
        stored.to_html(),
        "return document.querySelectorAll('details, script[type]').length",
        tmp_path,
    )
    assert (found, console) == (0, "")


@pytest.mark.parametrize("text", ["שלום עולם טוב", "good 😀 film", "word " * 10_000])
def test_any_text_has_a_page(fitted, text, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the longest is cut
        page = fitted.explain([text]).to_html()
    found, console = browse(
        page,
        "return document.querySelector('.skprotolm-text').textContent.trim()",
        tmp_path,
    )
    assert console == ""
    assert found == text.strip()
