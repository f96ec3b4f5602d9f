"""Units of contributions: what they sum to, and how text, HTML and figures show them.

A display reads the fields of a unit and has no branch per unit. In the templates of
this module, "{target}" stands for the target and "{total}" for the formatted total. In
the reasons, "{link}" stands for "because" or "although", "{text}" for a text of a class
such as "positive text", and "{rank}" for "nearest" or "next".
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Unit:
    """The unit of an explanation's contributions."""

    name: str  # `Explanation.space`
    noun: str  # for one contribution
    is_percentage: bool  # contributions are percentages, otherwise signed numbers
    total: str  # the sum of the contributions
    # The total is the sum over the prototypes of the target, otherwise over all.
    sums_target_only: bool
    bias: str | None  # name of `base_value` if it is part of that sum
    # Similarities, and the log-odds less `base_value`, are sums over tokens.
    has_token_sums: bool
    # What joins a contribution to the prototype that it comes from, for texts that are
    # like the training texts and for others.
    reason: str
    reason_if_unlike: str
    similarity: str  # format of a similarity
    axis_label: str
    # Of the listed prototypes, for texts that are like the training texts and others.
    table_caption: str
    table_caption_if_unlike: str
    quoted: str = "text"  # what a prototype is,
    group: str = "class"  # and what it stands for,
    groups: str = "classes"  # in the plural


PROBABILITY = Unit(
    name="probability",
    noun="share",
    is_percentage=True,
    total="{target}",
    sums_target_only=True,
    bias=None,
    has_token_sums=True,
    reason="{link} it reads like the {text}",
    reason_if_unlike="{link} its {rank} {text} is",
    similarity="cosine {:.2f}",
    axis_label="share",
    table_caption=(
        "Training texts it reads like, with their shares; those of {target} sum to "
        "{total}"
    ),
    table_caption_if_unlike=(
        "Nearest training texts, with their shares; those of {target} sum to {total}"
    ),
)
SCORE = Unit(
    name="score",
    noun="contribution",
    is_percentage=False,
    total="score of {target}",
    sums_target_only=False,
    bias="bias of the class",
    has_token_sums=False,
    reason="from the {text}",
    reason_if_unlike="from the {text}",
    similarity="similarity {:.3f}",
    axis_label="part of the score of {target}",
    table_caption="Training texts, and what each adds to the score of {target}",
    table_caption_if_unlike=(
        "Nearest training texts, and what each adds to the score of {target}"
    ),
)
VALUE = Unit(
    name="value",
    noun="share",
    is_percentage=True,
    total="{target}",
    sums_target_only=False,
    bias=None,
    has_token_sums=True,
    reason="{link} it reads like the {text}",
    reason_if_unlike="{link} its {rank} {text} is",
    similarity="cosine {:.2f}",
    axis_label="share",
    table_caption="Training texts it reads like: their shares times their values",
    table_caption_if_unlike="Nearest training texts: their shares times their values",
)
LABEL = replace(
    PROBABILITY,
    name="label",
    table_caption=(
        "Training texts it reads like, with their shares; those with {target} sum to "
        "{total}"
    ),
    table_caption_if_unlike=(
        "Nearest training texts, with their shares; those with {target} sum to {total}"
    ),
    group="label",
    groups="labels",
)
WORD_PROBABILITY = replace(
    PROBABILITY,
    name="probability of a word",
    table_caption=PROBABILITY.table_caption.replace("texts", "words"),
    table_caption_if_unlike=PROBABILITY.table_caption_if_unlike.replace(
        "texts", "words"
    ),
    quoted="word",
    group="tag",
    groups="tags",
)
UNITS = {
    unit.name: unit for unit in (PROBABILITY, SCORE, VALUE, LABEL, WORD_PROBABILITY)
}
