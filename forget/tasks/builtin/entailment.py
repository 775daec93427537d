"""Entailment: does the sentence follow from the passage?

Premises written for this package. Two premises and two hypotheses make a group of four records:
each hypothesis follows from one premise and contradicts the other, so that no word of either is
more often true than false. A group lies in one split, no two groups share their pair of content
words, and `near` has the premise in other words.
"""

# ruff: noqa: E501  a table keeps its lines

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import combinations, cycle, islice

from forget.tasks.builtin.labelled import Judged, labelled_records, sentence
from forget.tasks.builtin.making import a
from forget.tasks.task import Record

CHOICES = ("True", "False")

PEOPLE = (
    "boy, girl, toddler, schoolboy, grandmother, aunt, queen, bride, uncle, grandfather, king, monk, nurse, farmer, sailor, "
    "teacher, baker"
)

NAMES = "Anna Ben Clara David Emma Felix Greta Hugo Irene Jack Karen Leo Maria Nina Oscar Paula Rita Sam Tom Vera"

KINDS = (
    (
        "is eating",
        "has started to eat",
        "fruit: an apple, a banana, a pear, a peach, an orange, some grapes, some cherries",
        "meat: a steak, a pork chop, some bacon, some ham, a beef burger, some roast lamb, a sausage",
    ),
    (
        "is playing",
        "spends the day playing",
        "an instrument: the violin, the guitar, the piano, the flute, the trumpet, the drums, the cello",
        "a sport: tennis, football, basketball, hockey, golf, volleyball, baseball",
    ),
    (
        "is watching",
        "keeps both eyes on",
        "a bird: a sparrow, a parrot, a pigeon, an owl, an eagle, a robin, a swan",
        "a fish: a trout, a salmon, a shark, a tuna, a goldfish, a carp, a cod",
    ),
    (
        "is holding",
        "has in one hand",
        "a tool: a hammer, a saw, a screwdriver, a wrench, a shovel, a drill",
        "a flower: a rose, a tulip, a daisy, a lily, a sunflower, an orchid",
    ),
    (
        "is buying",
        "is paying for",
        "clothing: a shirt, a coat, a sweater, a skirt, a jacket, a pair of trousers",
        "something to read: a novel, a newspaper, a magazine, a comic book, a biography, a textbook",
    ),
    (
        "is painting",
        "is putting new paint on",
        "furniture: a chair, a table, a bookcase, a wardrobe, a desk, a bed",
        "a vehicle: a truck, a car, a bus, a van, a tractor, a lorry",
    ),
    (
        "is cutting up",
        "is using a knife to slice",
        "a vegetable: a carrot, an onion, a cabbage, a potato, a turnip, a leek",
        "something sweet: a chocolate cake, a cherry pie, an apple tart, a jam roll, a honey cake, a sugar bun",
    ),
    (
        "is drawing",
        "is making a picture of",
        "a shape: a triangle, a circle, a square, a rectangle, a hexagon, an oval",
        "an animal: a horse, a cat, an elephant, a pig, a lion, a rabbit",
    ),
    (
        "is trying on",
        "has come to try on",
        "something for the feet: boots, sandals, slippers, sneakers, socks, ski boots",
        "something for the head: a cap, a helmet, a crown, a turban, a wig, a straw hat",
    ),
    (
        "is learning",
        "is taking lessons in",
        "a language: French, Spanish, Italian, German, Japanese, Russian",
        "a dance: the waltz, the tango, salsa, ballet, flamenco, the foxtrot",
    ),
    (
        "is standing by",
        "is waiting next to",
        "a tree: an oak, a pine, a maple, a birch, a willow, a palm tree",
        "a building: a church, a castle, a hotel, a palace, a library, a hospital",
    ),
)
"""Things that people do, in two wordings, each with two kinds of things to do it with."""

OPPOSITES = """
heavy/light | weighs a lot/weighs very little | suitcase, box, stone, table
full/empty | has no room left in it/has nothing in it | jar, bucket, drawer, basket
expensive/cheap | costs a lot of money/costs little money | watch, jacket, camera, carpet
wet/dry | is covered with water/has no water on it | towel, floor, coat, bench
clean/dirty | has been washed well/needs to be washed | plate, shirt, window, spoon
big/small | is large/is little | house, garden, ship, dog
fast/slow | moves quickly/moves slowly | train, horse, boat, runner
noisy/quiet | makes a lot of noise/makes almost no noise | engine, class, baby, fan
happy/sad | feels joy/feels sorrow | boy, girl, singer, clown
rich/poor | has a lot of money/has almost no money | merchant, painter, widow, farmer
old/new | was made long ago/was made recently | bridge, clock, ring, road
long/short | takes a lot of time/takes little time | film, meeting, journey, speech
easy/difficult | is simple to solve/is hard to solve | puzzle, riddle, problem, exercise
dark/bright | has little light in it/has plenty of light in it | cellar, room, hall, kitchen
strong/weak | can lift a lot/can lift very little | wrestler, man, ox, robot
"""
"""Adjectives, what follows from each, and the things they are said of."""

CROWDS = (
    "books on the shelf, birds on the roof, cups on the table, boats in the harbour, trees behind the house, cars in the "
    "street, chairs in the hall, eggs in the basket, people on the bus, ducks on the pond, coins in the purse, sheep on the "
    "hill, lamps in the corridor, pictures on the wall, players on the field, letters in the box, cows in the barn, toys on "
    "the floor, bottles in the crate, shops in the village, candles on the cake, apples in the bowl, horses in the stable, "
    "tents on the beach"
)

DEEDS = (
    "students passed the exam, guests ate the soup, players signed the shirt, windows broke in the storm, workers joined "
    "the union, children learned to swim, ships reached the harbour, lamps fell off the wall, sailors saw the island, "
    "letters arrived on time, singers forgot the words, dogs slept in the house"
)

CITIES = (
    "Madrid/Spain, Tokyo/Japan, Paris/France, Cairo/Egypt, Rome/Italy, Moscow/Russia, Berlin/Germany, Athens/Greece, "
    "Lisbon/Portugal, Beijing/China, Toronto/Canada, Sydney/Australia, London/England, Mumbai/India, Vienna/Austria, "
    "Nairobi/Kenya, Dublin/Ireland, Warsaw/Poland, Oslo/Norway, Istanbul/Turkey, Stockholm/Sweden, Bangkok/Thailand, "
    "Chicago/America, Havana/Cuba, Lima/Peru, Copenhagen/Denmark, Brussels/Belgium, Helsinki/Finland, Amsterdam/the "
    "Netherlands, Zurich/Switzerland, Budapest/Hungary, Seoul/South Korea, Barcelona/Spain, Shanghai/China, Munich/Germany, "
    "Milan/Italy, Melbourne/Australia, Edinburgh/Scotland, Boston/America, Osaka/Japan"
)

VICTORIES = """
outlived: dog/cat, wolf/fox, boy/goose
defeated in the final: king/soldier, nurse/doctor, hunter/bear
outscored in the final: actor/singer, coach/player, mayor/judge
outweighed: robot/driver, bull/horse, girl/clown
outlasted in the final: spy/guard, owl/mouse, thief/waiter
"""
"""Verbs whose past tense and participle are alike, and pairs of which one alone can have done it to
the other.
"""

TRANSFERS = """
sold/bought: car, house, guitar, horse
lent/borrowed: drill, ladder, bike, umbrella
gave/got: ring, scarf, map, watch
sent/received: letter, parcel, postcard, photo
rented out/rented: boat, flat, van, tent
"""
"""Verbs of the giver and of the taker of a thing, and the things."""

COMPARISONS = """
taller/shorter: Anna/Ben, the oak/the pine, the tower/the church, Karen/Leo
older/younger: Clara/Hugo, the king/the queen, Maria/Jack, the actor/the singer
bigger/smaller: the dog/the sheep, the red box/the blue box, the hotel/the school, the lake/the park
heavier/lighter: the stone/the brick, the sofa/the desk, the trunk/the bag, Oscar/Vera
richer/poorer: the baker/the tailor, Felix/Nina, the duke/the merchant, the doctor/the lawyer
faster/slower: the train/the bus, the horse/the camel, Emma/David, the boat/the ferry
"""

BOUGHT = (
    "hat: red/blue, lamp: green/white, coat: brown/black, ring: silver/gold, spoon: wooden/plastic, vase: yellow/pink, "
    "bowl: glass/stone, car: grey/orange, scarf: purple/red, table: round/square, cup: white/blue, sofa: black/green, "
    "kite: pink/yellow, box: iron/paper, bike: orange/purple, rug: blue/brown, plate: tin/wooden, chair: plastic/leather, "
    "shirt: green/grey, bag: leather/cotton, boat: white/red, pen: gold/black, tent: brown/yellow, doll: wooden/glass, "
    "clock: square/round, tie: silk/woollen, candle: red/white, knife: steel/stone, door: blue/green, phone: black/silver, "
    "belt: brown/white, mirror: round/oval"
)
"""Things, and two looks; each thing has only one of its two."""

CONTENTS = (
    "hat scarf lamp cup ring book clock pen map shoe coin key knife fork plate bottle ball doll drum flute candle mirror brush "
    "rope nail hammer saw comb purse towel"
)

CONTAINERS = "box bag drawer basket trunk chest suitcase crate"


def records(split: str) -> list[Record]:
    """Make a record of each passage, as `labelled_records` does; a kind is a kind of inference."""
    inferences = (
        _kinds,
        _opposites,
        _amounts,
        _all_or_none,
        _places,
        _voices,
        _transfers,
        _comparisons,
        _looks,
        _contents,
    )
    groups = {inference.__name__: list(inference()) for inference in inferences}
    return labelled_records("entailment", CHOICES, groups, split)


def _group(premises: list[str], nears: list[str], hypotheses: list[str]) -> list[Judged]:
    """Judge every hypothesis by every premise: the one follows from the other of the same index.

    Args:
        premises: two sentences.
        nears: the premises in other words.
        hypotheses: two sentences, each of which contradicts the other's premise.
    """
    group: list[Judged] = []
    for i, (premise, near) in enumerate(zip(premises, nears, strict=True)):
        for j, hypothesis in enumerate(hypotheses):
            label = str(i == j)
            group.append(Judged(sentence(premise), sentence(near), label, sentence(hypothesis)))
    return group


def _kinds() -> Iterator[list[Judged]]:
    people = cycle(PEOPLE.split(", "))
    for verb, other, *kinds in KINDS:
        names = [kind.partition(": ")[0] for kind in kinds]
        members = [kind.partition(": ")[2].split(", ") for kind in kinds]
        for things in zip(*members, strict=True):
            person = next(people)
            yield _group(
                [f"the {person} {verb} nothing but {thing}" for thing in things],
                [f"there is nothing but {thing} that the {person} {other}" for thing in things],
                [f"the {person} {verb} {name}" for name in names],
            )


def _opposites() -> Iterator[list[Judged]]:
    for line in OPPOSITES.strip().splitlines():
        adjectives, meanings, things = (part.split("/") for part in line.split(" | "))
        for number, thing in enumerate(things[0].split(", ")):
            denied = [f"is not {adjective}" for adjective in reversed(adjectives)]
            yield _group(
                [f"the {thing} is {adjective}" for adjective in adjectives],
                [f"here is {a(f'{adjective} {thing}')}" for adjective in adjectives],
                [f"the {thing} {meaning}" for meaning in (denied if number else meanings)],
            )


def _amounts() -> Iterator[list[Judged]]:
    numbers = zip(
        cycle(("ten", "eleven", "nine", "twenty", "twelve")),
        cycle(("two", "three", "four")),
        strict=False,
    )
    for crowd, amounts, middle in zip(
        CROWDS.split(", "), numbers, cycle(("six", "seven")), strict=False
    ):
        yield _group(
            [f"there are {amount} {crowd}" for amount in amounts],
            [f"I counted the {crowd}, and the number was {amount}" for amount in amounts],
            [f"there are {relation} than {middle} {crowd}" for relation in ("more", "fewer")],
        )


def _all_or_none() -> Iterator[list[Judged]]:
    for deed in DEEDS.split(", "):
        yield _group(
            [f"all of the {deed}", f"none of the {deed}"],
            [f"every single one of the {deed}", f"not a single one of the {deed}"],
            [f"at least one of the {deed}", f"not one of the {deed}"],
        )


def _places() -> Iterator[list[Judged]]:
    cities = [entry.split("/") for entry in CITIES.split(", ")]
    half = len(cities) // 2
    for name, homes in zip(
        NAMES.split(), zip(cities[:half], cities[half:], strict=True), strict=True
    ):
        yield _group(
            [f"{name} lives in {city}" for city, _ in homes],
            [f"{city} is the city where {name} has a home" for city, _ in homes],
            [f"{name} lives in {country}" for _, country in homes],
        )


def _voices() -> Iterator[list[Judged]]:
    for deed, pairs in _table(VICTORIES):
        verb, space, where = deed.partition(" ")
        end = space + where
        for pair in pairs:
            who, whom = (f"the {one}" for one in pair.split("/"))
            orders = [(who, whom), (whom, who)]
            yield _group(
                [f"{x} {verb} {y}{end}" for x, y in orders],
                [f"it was {x} that {verb} {y}{end}" for x, y in orders],
                [f"{y} was {verb} by {x}{end}" for x, y in orders],
            )


def _transfers() -> Iterator[list[Judged]]:
    pairs = list(combinations(NAMES.split(), 2))
    names = iter(random.Random("entailment/transfers").sample(pairs, len(pairs)))
    for verbs, things in _table(TRANSFERS):
        given, taken = verbs.split("/")
        for thing in things:
            giver, taker = next(names)
            orders = [(giver, taker), (taker, giver)]
            yield _group(
                [f"the {thing} changed hands once: {x} {given} it to {y}" for x, y in orders],
                [
                    f"once only, the {thing} passed on, when {x} {given} it to {y}"
                    for x, y in orders
                ],
                [f"{y} {taken} the {thing} from {x}" for x, y in orders],
            )


def _comparisons() -> Iterator[list[Judged]]:
    for adjectives, pairs in _table(COMPARISONS):
        more, less = adjectives.split("/")
        for number, pair in enumerate(pairs):
            x, y = pair.split("/")
            # Either the adjective or the order of the two differs between the premises.
            premises = [(x, more, y), (x, less, y)] if number % 2 else [(x, more, y), (y, more, x)]
            hypotheses = (
                [(y, less, x), (y, more, x)] if number % 2 else [(y, less, x), (x, less, y)]
            )
            yield _group(
                [f"{one} is {adjective} than {two}" for one, adjective, two in premises],
                [f"compared with {two}, {one} is {adjective}" for one, adjective, two in premises],
                [f"{one} is {adjective} than {two}" for one, adjective, two in hypotheses],
            )


def _looks() -> Iterator[list[Judged]]:
    for name, entry in zip(cycle(NAMES.split()), BOUGHT.split(", "), strict=False):
        thing, _, looks = entry.partition(": ")
        yield _group(
            [f"{name} bought {a(f'{look} {thing}')}" for look in looks.split("/")],
            [f"what {name} bought is {a(f'{look} {thing}')}" for look in looks.split("/")],
            [f"the {thing} that {name} bought is {look}" for look in looks.split("/")],
        )


def _contents() -> Iterator[list[Judged]]:
    draw = random.Random("entailment/contents")
    pairs = list(combinations(CONTENTS.split(), 2))
    draw.shuffle(pairs)
    disjoint = (
        (one, other)
        for one, other in zip(pairs[::2], pairs[1::2], strict=False)
        if not set(one) & set(other)
    )
    for both, container in zip(islice(disjoint, 40), cycle(CONTAINERS.split()), strict=False):
        yield _group(
            [f"the {container} holds only {a(x)} and {a(y)}" for x, y in both],
            [f"but for {a(x)} and {a(y)}, the {container} is empty" for x, y in both],
            [f"there is {a(draw.choice(pair))} in the {container}" for pair in both],
        )


def _table(text: str) -> Iterator[tuple[str, list[str]]]:
    for line in text.strip().splitlines():
        head, _, entries = line.partition(": ")
        yield head, entries.split(", ")
