"""Sentiment: is the review negative or positive?

One-sentence reviews of films, meals, books, hotels, appliances, concerts, tradespeople and outings,
written for this package. sentiment.tsv gives for each domain the things that are reviewed; two
concessions, each of which goes before praise and before blame; and opinions, each as praise, praise
in other words (for `near`), blame, and blame in other words. What is said of all things with the
words of one line lies in one split, so that no two splits share an opinion.
"""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

from forget.tasks.builtin.labelled import Judged, labelled_records, sentence
from forget.tasks.task import Record

CHOICES = ("negative", "positive")

CUT = "25/"
"""Prefix of the seed of the splits. Of forty, this one's words of train tell least of any part of
test that shares some words: there, opinions are new in what they say.
"""

LEADS = (
    ("", ""),
    ("{concession}, but ", "although {concession}, "),
    ("all in all, ", "taken as a whole, "),
    ("in my opinion, ", "if you ask me, "),
    ("{concession}; even so, ", "even though {concession}, "),
    ("I have to say that ", "let me tell you that "),
)
"""Beginnings of a review, in two wordings."""


def records(split: str) -> list[Record]:
    """Make a record of each review, as `labelled_records` does; a kind is a domain."""
    domains: dict[str, dict[str, list[list[str]]]] = {}
    for line in Path(__file__).with_suffix(".tsv").read_text(encoding="utf-8").splitlines():
        domain, column, *fields = line.split("\t")
        domains.setdefault(domain, {}).setdefault(column, []).append(fields)
    return labelled_records(
        "sentiment",
        CHOICES,
        {name: _reviews(**columns) for name, columns in domains.items()},
        split,
        CUT,
    )


def _reviews(
    things: list[list[str]], concession: list[list[str]], opinion: list[list[str]]
) -> list[list[Judged]]:
    """Make a group of each opinion: praise and blame of all things.

    Args:
        things: one line with the names of the things.
        concession: one line with two concessions that say nothing of how good the things are.
        opinion: lines of praise, praise in other words, blame, blame in other words.
    """
    [names], [concessions] = things, concession
    # There are eight things and six leads: every opinion meets every lead, and so does every thing.
    leads = cycle(LEADS)
    groups: list[list[Judged]] = []
    for number, (praise, praise_near, blame, blame_near) in enumerate(opinion):
        group: list[Judged] = []
        # The names go first: where zip runs out of them, it has taken no lead.
        for place, (thing, lead) in enumerate(zip(names, leads, strict=False)):
            # Praise and blame of a thing begin alike, so that no beginning tells the label.
            conceded = concessions[(number + place) % 2]
            group.append(_review(lead, conceded, thing, (praise, praise_near), "positive"))
            group.append(_review(lead, conceded, thing, (blame, blame_near), "negative"))
        groups.append(group)
    return groups


def _review(
    leads: tuple[str, str], concession: str, thing: str, opinions: tuple[str, str], label: str
) -> Judged:
    """Write a review in two wordings.

    Args:
        leads: its beginning in both wordings.
        concession: text for the slot {concession} of the leads.
        thing: the thing reviewed.
        opinions: what is said of it, in both wordings.
        label: the true choice.
    """
    passage, near = (
        sentence(f"{lead.format(concession=concession)}{thing} {opinion}")
        for lead, opinion in zip(leads, opinions, strict=True)
    )
    return Judged(passage, near, label)
