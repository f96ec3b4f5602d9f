"""Explanations, prototypes and reports as HTML, through Jinja templates."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jinja2
import markupsafe

from skprotolm._display.folding import fold, fold_end, folded_parts, starts
from skprotolm._display.footer import today, versions
from skprotolm._display.formatting import (
    amount,
    amounts,
    class_name,
    compared,
    decimal,
    percent,
    percents,
    printable,
    set_name,
    shorten,
    summands,
    text_of_class,
)
from skprotolm._display.matches import split_page
from skprotolm._display.pieces import strongest_words
from skprotolm._tasks.units import UNITS

_ROLES = ("target", "against", "other")


@lru_cache(maxsize=1)
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("skprotolm._display"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_visible,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    for function in (
        amount,
        class_name,
        compared,
        decimal,
        fold,
        fold_end,
        folded_parts,
        percent,
        score_parts,
        set_name,
        shorten,
        split_page,
        starts,
        strongest_words,
        sum_parts,
        text_of_class,
    ):
        environment.filters[function.__name__] = function
    environment.globals["units"] = UNITS
    return environment


def _visible(value: Any) -> Any:
    """Make text printable: a bidirectional control would reverse what follows it."""
    is_text = isinstance(value, str) and not isinstance(value, markupsafe.Markup)
    return printable(value) if is_text else value


def explanations_html(
    explanations: list[dict[str, Any]],
    *,
    page: bool,
    title: str | None = None,
    n_more: int = 0,
) -> str:
    """Render explanations as a page or a snippet; `n_more` counts those left out."""
    template = _templates().get_template("explanations.html")
    records = [{"matches": [], **explanation} for explanation in explanations]
    return template.render(
        explanations=records, page=page, title=title, n_more=n_more, **_footer()
    )


def prototypes_html(
    prototypes: list[dict[str, Any]], *, noun: str, n_more: int = 0
) -> str:
    """Render prototypes as a grid of cards; `n_more` counts those left out.

    `noun` is that of their labels, such as "class".
    """
    template = _templates().get_template("prototypes.html")
    return template.render(prototypes=prototypes, noun=noun, n_more=n_more)


def report_html(
    template: str, report: dict[str, Any], *, title: str | None = None
) -> str:
    """Render a report as a page, by the template of its kind."""
    page = _templates().get_template(template)
    return page.render(r=report, title=title, **_footer())


def _footer() -> dict[str, str]:
    return {"date": today(), "versions": versions()}


def sum_parts(explanation: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the parts of the sum: those of the target, then those of other classes.

    They are the listed prototypes of each role, and then a group of the others.
    """
    entries = [
        {**entry, "is_group": name == "groups"}
        for name in ("prototypes", "groups")
        for entry in explanation[name]
    ]
    parts = []
    for role in _ROLES:
        parts += _shown(explanation, [e for e in entries if e["role"] == role])
    return parts


def _shown(
    explanation: dict[str, Any], entries: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return entries with contributions and shares that add up as they are shown."""
    contributions = [entry["contribution"] for entry in entries]
    if explanation["kind"] == "value":
        decimals = explanation["decimals"]
        shown = [decimal(x, decimals) for x in summands(contributions, decimals)]
        shares = percents([entry["share"] for entry in entries])
    else:
        unit = UNITS[explanation.get("space", "label")]  # label sets have no space
        shown = shares = amounts(contributions, unit)
    return [
        {**entry, "shown": amount, "shown_share": share}
        for entry, amount, share in zip(entries, shown, shares, strict=True)
    ]


def score_parts(explanation: dict[str, Any], decimals: int) -> list[str]:
    """Return base and words with signs, which add up as they are shown."""
    words = sum(explanation["token_scores"])
    parts = summands([explanation["base_value"], words], decimals)
    return [decimal(part, decimals, "+") for part in parts]
