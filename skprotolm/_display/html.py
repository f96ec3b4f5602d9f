"""Explanations, prototypes and reports as HTML, through Jinja templates."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jinja2

from skprotolm._display.formatting import amount, percent, shorten
from skprotolm._display.pieces import split_explanation, split_match, strongest_words
from skprotolm._tasks.units import UNITS


@lru_cache(maxsize=1)
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("skprotolm._display"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    for function in (
        amount,
        percent,
        remainders,
        shorten,
        split_explanation,
        split_match,
        strongest_words,
    ):
        environment.filters[function.__name__] = function
    environment.globals["units"] = UNITS
    return environment


def explanations_html(
    explanations: list[dict[str, Any]], *, page: bool, n_more: int = 0
) -> str:
    """Render explanations as a page or a snippet; `n_more` counts those left out."""
    template = _templates().get_template("explanations.html")
    records = [{"matches": [], **explanation} for explanation in explanations]
    return template.render(explanations=records, page=page, n_more=n_more)


def prototypes_html(prototypes: list[dict[str, Any]], *, n_more: int = 0) -> str:
    """Render prototypes as a grid of cards; `n_more` counts those left out."""
    template = _templates().get_template("prototypes.html")
    return template.render(prototypes=prototypes, n_more=n_more)


def report_html(report: dict[str, Any]) -> str:
    """Render a report as a page."""
    return _templates().get_template("report.html").render(r=report)


def remainders(
    explanation: dict[str, Any], total: float
) -> list[tuple[float, Any, str]]:
    """Return rows for the prototypes that are not listed: contribution, class, text.

    If the total is a sum over the target's prototypes only, they have a row of their
    own.
    """
    remainder, target = explanation["remainder"], explanation["target"]
    if not remainder:
        return []
    if not UNITS[explanation["space"]].sums_target_only:
        return [(remainder, "", "all other prototypes")]
    listed = sum(
        p["contribution"] for p in explanation["prototypes"] if p["label"] == target
    )
    of_target = total - listed
    rows = [
        (of_target, target, "all other prototypes of it"),
        (remainder - of_target, "", "all other prototypes of other classes"),
    ]
    return [row for row in rows if row[0] > 1e-9]
