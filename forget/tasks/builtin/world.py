"""World knowledge: capitals, books, inventions, sports and the like, a well-known fact a question.

The facts were written for this package and lie in world.tsv: relation, subject, answer. Within a
relation the answer of one fact is the wrong choice of another, so no relation mixes answers that
could both be true.
"""

from __future__ import annotations

from pathlib import Path

from forget.tasks.builtin.making import Fact, fact_pairs, fact_records, share, template_of
from forget.tasks.task import Record

WORDINGS = {
    "animal": ("Which continent are {} native to?", "What is the home continent of {}?"),
    "athlete": ("Which sport made {} famous?", "For success in which sport is {} known?"),
    "author": ('Who wrote "{}"?', 'Which writer is the author of "{}"?'),
    "band": (
        'Which artist or band made the song "{}" famous?',
        'The song "{}" was a hit for whom?',
    ),
    "capital": ("What is the capital of {}?", "Which city serves as the capital of {}?"),
    "character": ("In which story does {} appear?", "Which work has {} as a character?"),
    "city": (
        "In which country is the city of {}?",
        "Which country would you visit to see the city of {}?",
    ),
    "company": (
        "In which country was the company {} founded?",
        "The company {} got its start in which country?",
    ),
    "composer": ("Who composed {}?", "Which composer wrote the music of {}?"),
    "continent": ("On which continent is {}?", "Which continent does the country of {} belong to?"),
    "currency": (
        "Which currency is used in {} today?",
        "What money would you pay with in {} today?",
    ),
    "custom": (
        "Which country is most closely linked with {}?",
        "Which country's culture gave the world {}?",
    ),
    "deed": ("Who is famous for {}?", "Which name do people connect with {}?"),
    "equipment": ("Which sport or game uses {}?", "For which sport or game do people need {}?"),
    "food": ("Which country's cuisine is known for {}?", "Which country gave the world {}?"),
    "holiday": ("In which month is {}?", "During what month do people observe {}?"),
    "home": ("Which country was {} from?", "What was the home country of {}?"),
    "instrument": (
        "Which family of instruments includes {}?",
        "Musicians count {} among which group of instruments?",
    ),
    "job": ("What is the work of {}?", "Which task is {} usually paid for?"),
    "landmark": (
        "In which country would you find {}?",
        "Tourists travel to which country to see {}?",
    ),
    "language": ("What is the main language of {}?", "Which language do most people in {} speak?"),
    "maker": (
        "Which product is the brand {} known for?",
        "The brand name {} stands for what kind of product?",
    ),
    "myth": ("In whose mythology do we meet {}?", "Which people's ancient stories tell of {}?"),
    "nature": (
        "On which continent would you find {}?",
        "A trip to {} would take you to which continent?",
    ),
    "occupation": ("What is {} best known as?", "As what did {} become famous?"),
    "ocean": ("In which ocean would you find {}?", "The shores of {} are washed by which ocean?"),
    "painter": ('Who painted "{}"?', 'Which artist is the painter of "{}"?'),
    "religion": (
        "Which religion do we associate with {}?",
        "Which faith do people think of when they hear of {}?",
    ),
    "state": (
        "What is the capital of the US state of {}?",
        "In which city does the state government of {} sit?",
    ),
    "team": ("Which sport is played by {}?", "In which sport do {} compete?"),
    "town": (
        "In which US state is the city of {}?",
        "The American city of {} lies in which state?",
    ),
    "workplace": (
        "Where does {} usually work?",
        "In what place would you expect to meet {} on duty?",
    ),
    "year": ("In which year was {}?", "What is the year of {}?"),
    "young": ("What is a young {} called?", "Which word do people use for a baby {}?"),
}
"""A question about a relation's subject and its paraphrase, by relation."""


def records(split: str) -> list[Record]:
    """Make two records of each pair of facts, as `fact_records` does."""
    facts: dict[str, list[Fact]] = {relation: [] for relation in WORDINGS}
    for line in Path(__file__).with_suffix(".tsv").read_text(encoding="utf-8").splitlines()[1:]:
        relation, subject, answer = line.split("\t")
        question, near = (wording.format(subject) for wording in WORDINGS[relation])
        facts[relation].append(Fact(question, near, answer))
    pairs = fact_pairs(facts, "world")
    return fact_records("world", share(pairs, "world", split, template_of), split)
