"""Reading comprehension: a made sentence says two things, and each of two questions asks for one.

Both options stand in the passage, and over the two questions each is true once. A passage has two
wordings and so have its questions, and both are drawn, so that neither the options nor their places
in the passage tell the answer. The fillers were written for this package.
"""

# ruff: noqa: E501  a table keeps its lines

from __future__ import annotations

import functools
import random
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from forget.tasks.builtin.making import coin, numbered, share
from forget.tasks.task import Record


def _words(text: str, article: str = "") -> tuple[str, ...]:
    """Part the text at its commas; the article goes before each word."""
    return tuple(article + " ".join(word.split()) for word in text.split(","))


NAMES = _words("""
    Adam, Alice, Amy, Andrew, Anna, Ben, Carla, Carol, Charles, Clara, Daniel, David, Diana, Edward, Ella, Emma, Eric, Eva,
    Fiona, Frank, George, Grace, Hannah, Harry, Helen, Henry, Irene, Jack, James, Jane, Jason, John, Julia, Karen, Kate, Kevin,
    Laura, Leo, Linda, Lucy, Mark, Mary, Michael, Nancy, Nina, Oliver, Oscar, Paul, Peter, Rachel, Robert, Rosa, Sam, Sarah,
    Simon, Sophie, Susan, Thomas, Tina, Victor
""")
THINGS = _words("""
    key, phone, wallet, umbrella, notebook, scarf, camera, backpack, ring, watch, newspaper, hat, laptop, coat, ticket,
    water bottle, flashlight, map, passport, radio
""")
PLACES = _words(
    """
    kitchen, car, bedroom, garage, office, garden, library, bathroom, attic, basement, hallway, classroom, train, hotel, café,
    gym, church, museum
""",
    "the ",
)
TASKS = _words("""
    washed the dishes, swept the floor, cooked dinner, fed the cat, watered the plants, made the beds, painted the fence,
    cleaned the windows, walked the dog, folded the laundry, cut the grass, fixed the sink, baked the bread, took out the trash,
    set the table, locked the door
""")
GIFTS = _words("""
    book, necklace, guitar, bicycle, puzzle, sweater, clock, chess set, painting, kite, teddy bear, vase, bracelet, skateboard,
    telescope, teapot
""")
MONTHS = _words(
    "January, February, March, April, May, June, July, August, September, October, November, December"
)
COUNTRIES = _words(
    "Spain, Japan, Brazil, Canada, Egypt, Norway, India, Mexico, Greece, Kenya, Peru, Turkey, Iceland, Cuba"
)
CITIES = _words("""
    Boston, Chicago, Denver, Seattle, Miami, Dallas, London, Paris, Berlin, Madrid, Rome, Vienna, Dublin, Tokyo, Toronto, Sydney
""")
OBJECTS = _words("""
    chair, door, cup, lamp, box, curtain, truck, boat, shirt, carpet, pillow, mailbox, bucket, balloon, tent, suitcase, dress,
    bus
""")
COLORS = _words("red, blue, green, yellow, white, black, brown, pink, purple, orange, gray, gold")
EVENTS = _words("""
    party, meeting, airport, beach, concert, wedding, restaurant, station, market, theater, school, park, stadium, hospital
""")
CAUSES = _words("""
    heavy traffic, a flat tire, a broken alarm clock, a missed bus, a lost key, a snowstorm, a long phone call, a sick child,
    a dentist appointment, a closed bridge, a power cut, a barking dog
""")
DISHES = _words(
    """
    soup, salad, pizza, steak, chicken, pasta, fish, sandwich, omelet, burger, rice, pancakes, cheesecake, stew, tacos, pie
""",
    "the ",
)
JOBS = _words("""
    a nurse, a pilot, a farmer, a lawyer, a baker, a teacher, a plumber, a dentist, a singer, a painter, a waiter, a barber,
    a judge, a tailor
""")
VEHICLES = _words(
    "bus, train, car, bicycle, taxi, boat, plane, tram, motorcycle, ferry, truck, subway"
)
GOODS = _words(
    """
    piano, sofa, table, television, mirror, bookcase, sewing machine, rug, typewriter, canoe, tractor, motorbike, violin, desk,
    record player, trailer
""",
    "the ",
)
INSTRUMENTS = _words(
    "piano, guitar, violin, flute, trumpet, drums, cello, harp, clarinet, banjo, saxophone, accordion",
    "the ",
)
TOPICS = _words("""
    rent, homework, picnic, trip, broken window, new job, football game, birthday cake, garden, missing cat, exam, loan,
    weather, recipe
""")


@dataclass(frozen=True)
class Situation:
    """A passage and two questions in two wordings; {p} answers the one question, {q} the other."""

    fillers: Mapping[str, tuple[str, ...]]
    """Words by the slots that they may fill, a letter each: {"xy": THINGS} puts two different
    things into {x} and {y}.
    """
    passages: tuple[str, str]
    questions: tuple[tuple[str, str], tuple[str, str]]


SITUATIONS = (
    Situation(
        {"w": NAMES, "xy": THINGS, "pq": PLACES},
        (
            "{w} left the {x} in {p} and the {y} in {q}.",
            "In {q}, {w} left the {y}, and in {p} the {x}.",
        ),
        (
            ("Where did {w} leave the {x}?", "Where did {w} leave the {y}?"),
            ("In which place will {w} find the {x}?", "In which place will {w} find the {y}?"),
        ),
    ),
    Situation(
        {"xy": TASKS, "pq": NAMES},
        ("{p} {x}, and {q} {y}.", "It was {q} who {y}, while it was {p} who {x}."),
        (("Who {x}?", "Who {y}?"), ("Which person {x}?", "Which person {y}?")),
    ),
    Situation(
        {"xy": GIFTS, "pq": NAMES},
        (
            "The {x} is a present for {p}, and the {y} is a present for {q}.",
            "{p} will be given the {x}, and {q} the {y}.",
        ),
        (
            ("Who is the {x} for?", "Who is the {y} for?"),
            ("Who will get the {x}?", "Who will get the {y}?"),
        ),
    ),
    Situation(
        {"w": NAMES, "xy": COUNTRIES, "pq": MONTHS},
        (
            "{w} went to {x} in {p} and to {y} in {q}.",
            "In {p}, {w} took a trip to {x}, and in {q} a trip to {y}.",
        ),
        (
            ("When did {w} go to {x}?", "When did {w} go to {y}?"),
            ("In which month did {w} travel to {x}?", "In which month did {w} travel to {y}?"),
        ),
    ),
    Situation(
        {"w": NAMES, "xy": OBJECTS, "pq": COLORS},
        (
            "{w} drew a picture in which the {x} was {p} and the {y} was {q}.",
            "In a picture by {w}, {p} is the color of the {x} and {q} is the color of the {y}.",
        ),
        (
            ("What color was the {x}?", "What color was the {y}?"),
            ("Which color did {w} choose for the {x}?", "Which color did {w} choose for the {y}?"),
        ),
    ),
    Situation(
        {"w": EVENTS, "pq": NAMES},
        ("{p} got to the {w} before {q}.", "{q} came to the {w} after {p}."),
        (
            ("Who got to the {w} first?", "Who got to the {w} second?"),
            ("Who was at the {w} earlier?", "Who was at the {w} later?"),
        ),
    ),
    Situation(
        {"xy": NAMES, "pq": CAUSES},
        (
            "{x} was late because of {p}, and {y} was late because of {q}.",
            "{q} delayed {y}, and {p} delayed {x}.",
        ),
        (
            ("What made {x} late?", "What made {y} late?"),
            ("Why did {x} not come on time?", "Why did {y} not come on time?"),
        ),
    ),
    Situation(
        {"xy": NAMES, "pq": DISHES},
        (
            "{x} ordered {p}, and {y} ordered {q}.",
            "The waiter wrote down {p} for {x} and {q} for {y}.",
        ),
        (
            ("What did {x} order?", "What did {y} order?"),
            ("Which dish did {x} ask for?", "Which dish did {y} ask for?"),
        ),
    ),
    Situation(
        {"xy": NAMES, "pq": JOBS},
        (
            "{x} works as {p}, and {y} works as {q}.",
            "{y} earns a living as {q}, and {x} earns a living as {p}.",
        ),
        (
            ("What is the job of {x}?", "What is the job of {y}?"),
            ("What does {x} do for a living?", "What does {y} do for a living?"),
        ),
    ),
    Situation(
        {"xy": NAMES, "pq": CITIES},
        (
            "{x} was born in {p}, and {y} was born in {q}.",
            "{p} is the birthplace of {x}, and {q} is that of {y}.",
        ),
        (
            ("Where was {x} born?", "Where was {y} born?"),
            (
                "In which city did the life of {x} begin?",
                "In which city did the life of {y} begin?",
            ),
        ),
    ),
    Situation(
        {"xy": NAMES, "pq": VEHICLES},
        (
            "{x} came by {p}, and {y} came by {q}.",
            "To get here, {y} used a {q} and {x} used a {p}.",
        ),
        (
            ("Which vehicle brought {x}?", "Which vehicle brought {y}?"),
            (
                "What did {x} choose as means of transport?",
                "What did {y} choose as means of transport?",
            ),
        ),
    ),
    Situation(
        {"w": NAMES, "pq": GOODS},
        ("{w} sold {p} but kept {q}.", "{w} held on to {q} but found a buyer for {p}."),
        (
            ("What did {w} sell?", "What did {w} keep?"),
            ("What did {w} no longer own?", "What did {w} still own?"),
        ),
    ),
    Situation(
        {"xy": NAMES, "pq": INSTRUMENTS},
        ("{x} plays {p}, and {y} plays {q}.", "In the band, {x} is on {p} and {y} is on {q}."),
        (
            ("Which instrument does {x} play?", "Which instrument does {y} play?"),
            ("What does {x} make music with?", "What does {y} make music with?"),
        ),
    ),
    Situation(
        {"w": GIFTS, "pq": NAMES},
        ("{p} gave the {w} to {q}.", "{q} received the {w} from {p}."),
        (
            ("Who gave away the {w}?", "Who got the {w}?"),
            ("Who had the {w} before?", "Who had the {w} afterwards?"),
        ),
    ),
    Situation(
        {"w": TOPICS, "pq": NAMES},
        (
            "{p} called {q} on the phone about the {w}.",
            "{q} got a phone call from {p} about the {w}.",
        ),
        (("Who made the call?", "Who answered the call?"), ("Who was calling?", "Who was called?")),
    ),
    Situation(
        {"w": EVENTS, "pq": NAMES},
        (
            "At the {w}, {p} taught {q} how to dance.",
            "At the {w}, {q} learned from {p} how to dance.",
        ),
        (
            ("Who was the teacher?", "Who was the pupil?"),
            ("Who gave the lesson?", "Who took the lesson?"),
        ),
    ),
)
PASSAGES = 30
"""Number of passages made of each situation; two records are made of each."""


@functools.cache
def _filled() -> tuple[tuple[Situation, Mapping[str, str]], ...]:
    """Draw every passage: its situation, and a word by slot; no two words meet in two passages."""
    draw = random.Random("reading/fillers")
    met: set[frozenset[str]] = set()
    filled: list[tuple[Situation, Mapping[str, str]]] = []
    for situation in SITUATIONS:
        wanted = len(filled) + PASSAGES
        while len(filled) < wanted:
            words: dict[str, str] = {}
            for slots, pool in situation.fillers.items():
                words.update(zip(slots, draw.sample(pool, len(slots)), strict=True))
            pairs = {frozenset(pair) for pair in combinations(words.values(), 2)}
            if not pairs & met:
                met |= pairs
                filled.append((situation, words))
    return tuple(filled)


def _template(filled: tuple[Situation, Mapping[str, str]]) -> str:
    return filled[0].passages[0]


def records(split: str) -> list[Record]:
    """Make two records of each passage, over the same choices in the same order.

    Both wordings are drawn; `near` takes those that were not.
    """
    near = split == "near"
    made: list[Record] = []
    for situation, words in share(_filled(), "reading", split, _template):
        answers = (words["p"], words["q"])
        choices = answers[::-1] if coin(f"reading/{answers}/choices") else answers
        passage = situation.passages[coin(f"reading/{answers}/passage") ^ near].format(**words)
        passage = passage[0].upper() + passage[1:]
        questions = situation.questions[coin(f"reading/{answers}/questions") ^ near]
        for question, answer in zip(questions, answers, strict=True):
            asked = question.format(**words)
            made.append(
                Record(
                    "",
                    asked,
                    choices,
                    choices.index(answer),
                    passage,
                    group=f"reading/{answers}",
                    template=_template((situation, words)),
                )
            )
    return numbered("reading", split, made)
