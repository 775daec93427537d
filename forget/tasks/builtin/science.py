"""Science: which of two answers to a short question of school science is true?

The facts are common knowledge of biology, chemistry, physics, astronomy and earth science, written
for this package: tables here and single questions in science.tsv (relation, question, other
wording, answer, group). Facts are paired inside their relation and both facts of a pair offer both
answers, so that the options alone tell nothing. No fact lies in two splits, but for `near`, which
asks the train facts in other words.
"""

# ruff: noqa: E501  a table keeps its lines

from __future__ import annotations

import functools
from pathlib import Path

from forget.tasks.builtin.making import (
    Fact,
    fact_pairs,
    fact_records,
    share,
    sheet_facts,
    table_facts,
    template_of,
)
from forget.tasks.task import Record

RELATIONS = {
    "animal class": (
        "What kind of animal is {a}?",
        "To which group of animals does the {} belong?",
        """
        a mammal: dog, cat, horse, cow, whale, dolphin, bat, elephant, lion, bear, wolf, fox, rabbit, mouse, monkey, giraffe
        a mammal: kangaroo
        a bird: eagle, penguin, ostrich, owl, parrot, robin, sparrow, pigeon, swan, duck, crow, hawk, flamingo, peacock, seagull
        a reptile: snake, lizard, crocodile, alligator, turtle, tortoise, iguana, gecko, chameleon, cobra, rattlesnake
        a fish: shark, salmon, tuna, trout, goldfish, cod, eel, seahorse, carp, herring, clownfish, piranha
        an insect: ant, bee, butterfly, beetle, mosquito, housefly, grasshopper, moth, dragonfly, wasp, cockroach, ladybug
        an insect: termite
        an amphibian: frog, toad, salamander, newt, bullfrog
        """,
    ),
    "diet": (
        "What does {a} mainly eat?",
        "Which food does the {} live on?",
        """
        plants: cow, horse, sheep, goat, deer, rabbit, elephant, giraffe, zebra, koala, giant panda, gorilla, kangaroo
        plants: moose, bison, camel, caterpillar, Triceratops, Stegosaurus, Brachiosaurus
        other animals: lion, tiger, wolf, shark, eagle, crocodile, leopard, cheetah, hawk, python, owl, killer whale
        other animals: polar bear, spider, falcon, lynx, cobra, seal, jaguar, Tyrannosaurus
        """,
    ),
    "young": (
        "What is a baby {} called?",
        "Which name do we give to the young of the {}?",
        """
        a puppy: dog; a kitten: cat; a calf: cow, elephant, whale, giraffe; a foal: horse, donkey; a lamb: sheep; a kid: goat
        a piglet: pig; a cub: bear, lion, tiger; a chick: chicken, penguin; a duckling: duck; a fawn: deer
        a joey: kangaroo, koala; a tadpole: frog; a caterpillar: butterfly; a gosling: goose; a cygnet: swan
        """,
    ),
    "habitat": (
        "Where does {a} live?",
        "In which place would you find {a}?",
        """
        in the ocean: octopus, jellyfish, blue whale, dolphin, lobster, squid, starfish, tuna, swordfish, hammerhead shark
        in the desert: camel, fennec fox, roadrunner, Gila monster, sidewinder snake, desert scorpion
        in the rainforest: toucan, sloth, orangutan, spider monkey, poison dart frog, howler monkey, macaw, anaconda
        on a farm: cow, pig, hen, sheep, rooster, goat
        """,
    ),
    "animal home": (
        "What is the home of {a} called?",
        "Which word names the place in which {a} lives?",
        """
        a hive: bee; a nest: robin; a web: spider; an anthill: ant; a den: bear; a kennel: dog; a stable: horse; a sty: pig
        a coop: chicken; a lodge: beaver; a burrow: rabbit; an aquarium: goldfish
        """,
    ),
    "legs": (
        "How many legs does {a} have?",
        "What is the number of legs of {a}?",
        """
        two: chicken, ostrich, duck, penguin, robin, eagle, parrot
        four: dog, cat, horse, cow, lizard, elephant, lion, sheep, frog, rabbit
        six: ant, bee, beetle, butterfly, grasshopper, ladybug, housefly
        eight: spider, scorpion, tarantula
        none: snake, worm, goldfish, eel, shark, dolphin
        """,
    ),
    "animal group": (
        "What is a group of {} called?",
        "Which word do we use for many {} together?",
        """
        a pack: wolves; a pride: lions; a flock: birds, chickens, pigeons, seagulls
        a herd: cows, elephants, buffalo, horses, zebras, deer
        a swarm: bees, locusts, mosquitoes; a pod: whales
        a litter: newborn puppies, newborn kittens, newborn piglets
        a troop: monkeys, baboons
        """,
    ),
    "sound": (
        "What sound does {a} make?",
        "Which noise do we hear from {a}?",
        """
        bark: dog; meow @hiss: cat; moo: cow; quack: duck; oink: pig; baa: sheep; neigh: horse; roar: lion; hoot: owl; buzz: bee
        cluck: chicken; croak: frog; squeak: mouse; gobble: turkey; bray: donkey; hiss @hiss: snake
        """,
    ),
    "covering": (
        "What is the body of {a} covered with?",
        "Which covering protects the skin of {a}?",
        """
        feathers: owl, eagle, swan, parrot, pigeon, hen, flamingo, penguin
        fur: bear, rabbit, wolf, fox, squirrel, beaver, otter, hamster
        scales: snake, salmon, lizard, trout, iguana, crocodile, carp, goldfish
        """,
    ),
    "breathing": (
        "What does {a} breathe with?",
        "Which organs bring oxygen to {a}?",
        """
        gills: salmon, tuna, shark, goldfish, trout, tadpole, cod, carp, herring, seahorse
        lungs: whale, dolphin, horse, eagle, snake, cow, rabbit, lizard, penguin, monkey
        """,
    ),
    "birth": (
        "How does {a} have its young?",
        "In what way are the young of {a} born?",
        """
        by laying eggs: hen, duck, turtle, crocodile, ostrich, penguin, robin, frog, butterfly, salmon, ant
        by giving birth to live young: dog, cat, cow, whale, horse, elephant, lion, bat, mouse, rabbit, monkey
        """,
    ),
    "active": (
        "When is {a} most active?",
        "At what time does {a} go out to find food?",
        """
        at night: owl, bat, moth, raccoon, hedgehog, firefly, badger
        during the day: butterfly, honeybee, eagle, hen, squirrel, robin, peacock
        """,
    ),
    "backbone": (
        "Is {a} a vertebrate or an invertebrate?",
        "Which is the right word for {a}, vertebrate or invertebrate?",
        """
        a vertebrate: dog, shark, frog, eagle, snake, salmon, cow, turtle, mouse, penguin, lizard, horse
        an invertebrate: worm, jellyfish, snail, spider, ant, octopus, crab, bee, butterfly, starfish, clam, slug
        """,
    ),
    "flight": (
        "Can {a} fly?",
        "Is {a} able to move through the air on its own?",
        """
        yes: eagle, bat, butterfly, bee, sparrow, mosquito, pigeon, owl, dragonfly, crow, moth, seagull
        no: penguin, ostrich, dog, snake, turtle, elephant, rabbit, salmon, frog, horse, spider, worm
        """,
    ),
    "blood": (
        "Is {a} warm-blooded or cold-blooded?",
        "Which word fits {a}, warm-blooded or cold-blooded?",
        """
        warm-blooded: dog, whale, eagle, penguin, bear, horse, duck, cat, elephant, mouse
        cold-blooded: snake, lizard, frog, turtle, trout, crocodile, toad, salmon, iguana, alligator
        """,
    ),
    "female": (
        "What is a female {} called?",
        "Which name is used for the mother {}?",
        """
        a mare: horse; a ewe: sheep; a hen: chicken; a doe: deer; a sow: pig; a lioness: lion; a queen: bee; a vixen: fox
        """,
    ),
    "male": (
        "What is a male {} called?",
        "Which name is used for the father {}?",
        """
        a stallion: horse; a bull: cow; a ram: sheep; a rooster: chicken; a drake: duck; a gander: goose
        """,
    ),
    "continent": (
        "Which part of the world does the {} come from?",
        "Where on Earth does the {} live in the wild?",
        """
        Australia: kangaroo, koala, emu, platypus, wombat, wallaby, dingo, kookaburra
        Africa: giraffe, zebra, hippopotamus, gorilla, chimpanzee, wildebeest, aardvark, meerkat
        Asia: giant panda, Bengal tiger, orangutan, snow leopard, Komodo dragon
        South America: llama, sloth, toucan, anaconda, alpaca
        Antarctica: emperor penguin
        North America: bald eagle, American bison, prairie dog, grizzly bear
        """,
    ),
    "extinct": (
        "Is the {} extinct or still living today?",
        "Can you meet a living {} today, or did they all die out?",
        """
        extinct: dodo, woolly mammoth, Tyrannosaurus, saber-toothed cat, Triceratops, passenger pigeon, trilobite, Stegosaurus
        still living: elephant, crocodile, ostrich, tiger, rhinoceros, penguin, shark, giant panda
        """,
    ),
    "living": (
        "Is {a} living or nonliving?",
        "Which word fits {a}, living or nonliving?",
        """
        living: tree, mushroom, dog, fern, worm, rosebush, fish, blade of grass, bird, caterpillar
        nonliving: rock, car, cloud, river, candle, coin, mountain, chair, bottle, hammer
        """,
    ),
    "kingdom": (
        "Is {} an animal, a plant or a fungus?",
        "Which kingdom of life does {} belong to, animals, plants or fungi?",
        """
        an animal: the jellyfish, the sea sponge, coral, the starfish, the snail, the worm, the spider, the ladybug, the crab
        a plant: the fern, moss, the cactus, grass, ivy, bamboo, clover, the tulip, the oak
        a fungus: the mushroom, yeast, mold, the truffle, the toadstool
        """,
    ),
    "food chain": (
        "Which role does {} play in a food chain?",
        "In a food web, what do we call {}?",
        """
        a producer: grass, an oak tree, a corn plant, seaweed, clover, a fern
        a consumer: a rabbit, a wolf, a cow, a hawk, a deer, a shark
        a decomposer: a mushroom, mold, a toadstool
        """,
    ),
    "fruit": (
        "Is the {} a fruit or a vegetable?",
        "At the market, do we call the {} a fruit or a vegetable?",
        """
        a fruit: apple, banana, orange, pear, peach, grape, strawberry, mango, pineapple, cherry, plum, lemon, kiwi
        a fruit: blueberry, apricot
        a vegetable: carrot, potato, onion, cabbage, turnip, leek, beet, radish, cauliflower, Brussels sprout, artichoke
        a vegetable: parsnip, lettuce, spinach leaf, broccoli
        """,
    ),
    "tree": (
        "Is the {} a tree or a flower?",
        "What kind of plant is the {}, a flower or a tree?",
        """
        a tree: oak, pine, maple, birch, willow, cedar, elm, spruce, redwood, fir, beech, poplar, sequoia
        a flower: rose, tulip, daisy, sunflower, lily, daffodil, orchid, violet, marigold, carnation, poppy, dandelion, pansy
        """,
    ),
    "leaves": (
        "What happens to the leaves of {a} tree in winter?",
        "When the cold season comes, what do the leaves of {a} tree do?",
        """
        they fall off: maple, oak, birch, elm, beech, apple, cherry, poplar
        they stay green: pine, spruce, fir, cedar, yew, holly, hemlock, olive
        """,
    ),
    "eaten part": (
        "Which part of the plant do we eat when we eat {}?",
        "What part of a plant do people eat if they have {} for dinner?",
        """
        the root: carrots, beets, radishes, turnips, sweet potatoes, parsnips
        the leaves: lettuce, spinach, cabbage, kale, parsley
        the seed: lentils, chickpeas, kidney beans, peanuts, rice, soybeans
        the fruit: apples, cherries, grapes, peaches, bananas, plums, oranges
        """,
    ),
    "symbol": (
        "What is the chemical symbol of {}?",
        "How do chemists abbreviate the element {}?",
        """
        H: hydrogen; He: helium; Li: lithium; B: boron; C: carbon; N: nitrogen; O: oxygen; F: fluorine; Ne: neon; Na: sodium
        Mg: magnesium; Al: aluminum; Si: silicon; P: phosphorus; S: sulfur; Cl: chlorine; Ar: argon; K: potassium; Ca: calcium
        Ti: titanium; Cr: chromium; Mn: manganese; Fe: iron; Co: cobalt; Ni: nickel; Cu: copper; Zn: zinc; Ag: silver; Sn: tin
        I: iodine; Pt: platinum; Au: gold; Hg: mercury; Pb: lead; U: uranium; Ra: radium
        """,
    ),
    "metal": (
        "Is {} a metal or a nonmetal?",
        "Which word describes {}, metal or nonmetal?",
        """
        a metal: iron, copper, gold, silver, aluminum, zinc, lead, nickel, sodium, calcium, magnesium, titanium, tin, platinum
        a nonmetal: oxygen, hydrogen, nitrogen, carbon, sulfur, phosphorus, chlorine, fluorine, helium, neon, argon, iodine
        a nonmetal: krypton, bromine
        """,
    ),
    "state": (
        "In which state is {} at room temperature?",
        "Is {} a solid, a liquid or a gas in an ordinary room?",
        """
        a solid: iron, table salt, gold, sugar, sulfur, copper, diamond, aluminum, chalk, marble
        a liquid: water, mercury, alcohol, gasoline, vinegar, olive oil, milk, kerosene, orange juice
        a gas: oxygen, nitrogen, hydrogen, helium, carbon dioxide, methane, neon, argon, chlorine, carbon monoxide
        """,
    ),
    "formula": (
        "What is the chemical formula of {}?",
        "How is {} written in the language of chemistry?",
        """
        H2O: water; CO2: carbon dioxide; NaCl: table salt; CH4: methane; NH3: ammonia; O3: ozone; CO: carbon monoxide
        H2O2: hydrogen peroxide; H2SO4: sulfuric acid; C6H12O6: glucose; HCl: hydrochloric acid; N2: nitrogen gas
        CaCO3: calcium carbonate; SiO2: silicon dioxide
        """,
    ),
    "acid": (
        "Is {} an acid or a base?",
        "Which is the right word for {}, acid or base?",
        """
        an acid: vinegar, lemon juice, orange juice, gastric juice, grapefruit juice, lime juice, cola
        a base: soap, bleach, baking soda, ammonia, milk of magnesia, sodium hydroxide, drain cleaner
        """,
    ),
    "matter": (
        "Is {} an element, a compound or a mixture?",
        "How do chemists classify {}, as an element, a compound or a mixture?",
        """
        an element: gold, oxygen, iron, copper, helium, silver, hydrogen
        a compound: water, table salt, carbon dioxide, methane, ammonia, carbon monoxide
        a mixture: air, sea water, soil, salad, concrete, fruit juice, vegetable soup
        """,
    ),
    "element family": (
        "Which family of elements does {} belong to?",
        "In the periodic table, which family is {} in?",
        """
        the noble gases: helium, neon, argon, krypton, xenon, radon
        the halogens: fluorine, chlorine, bromine, iodine
        the alkali metals: lithium, sodium, potassium, rubidium, cesium
        """,
    ),
    "change": (
        "Is {} a physical change or a chemical change?",
        "Which kind of change is {}, physical or chemical?",
        """
        a physical change: melting ice, boiling water, cutting paper, breaking glass, crushing a can, freezing water
        a physical change: folding paper, tearing cloth, chopping wood, bending wire, sharpening a pencil
        a chemical change: burning wood, the rusting of iron, baking a cake, digesting food, the rotting of fruit
        a chemical change: frying an egg, burning paper, the souring of milk, lighting a match, exploding dynamite
        a chemical change: burning gasoline
        """,
    ),
    "conductor": (
        "Does {} conduct electricity?",
        "Can an electric current flow easily through {}?",
        """
        yes: copper, silver, gold, aluminum, iron, steel, brass, graphite, salt water, zinc, lead
        no: rubber, glass, plastic, dry wood, paper, cotton cloth, ceramic, wax, cork, nylon, wool
        """,
    ),
    "magnet": (
        "Does a magnet attract {a}?",
        "Will {a} stick to a magnet?",
        """
        yes: iron nail, steel bolt, steel paper clip, iron horseshoe, steel screw, steel pin, iron key, steel wrench
        no: plastic spoon, wooden pencil, rubber band, glass marble, paper cup, cotton shirt, gold ring, wool sock
        """,
    ),
    "renewable": (
        "Is {} a renewable source of energy?",
        "Will nature keep replacing {} as we use it for energy?",
        """
        yes: wind, sunlight, flowing water, the tide, the heat of the Earth, the motion of waves
        no: coal, petroleum, natural gas, gasoline, diesel fuel, uranium
        """,
    ),
    "SI unit": (
        "What is the SI unit of {}?",
        "In which unit do scientists express {}?",
        """
        the meter: length; the kilogram: mass; the second: time; the ampere: electric current; the kelvin: temperature
        the newton: force; the joule: energy; the watt: power; the pascal: pressure; the hertz: frequency
        the coulomb: electric charge; the volt: voltage; the ohm: electrical resistance; the candela: luminous intensity
        the mole: amount of substance; the farad: capacitance
        """,
    ),
    "unit": (
        "What do we measure in {}?",
        "Which quantity is given in {}?",
        """
        volume: liters, gallons, quarts, milliliters, pints
        distance: miles, inches, kilometers, light-years, feet, yards, centimeters
        mass: pounds, tons, grams
        temperature: degrees Celsius, degrees Fahrenheit
        time: hours, minutes, days, years, weeks
        speed: miles per hour, knots, kilometers per hour
        area: acres, square miles, hectares, square meters
        """,
    ),
    "instrument": (
        "What does {a} measure?",
        "What can you find out with the help of {a}?",
        """
        temperature: thermometer; air pressure @height: barometer; length: ruler, tape measure; weight: bathroom scale
        time: clock, stopwatch; speed @speed: speedometer; wind speed @speed: anemometer; earthquakes: seismograph
        rainfall: rain gauge; voltage @electric: voltmeter; electric current @electric: ammeter; humidity: hygrometer
        angles @direction: protractor; altitude @height: altimeter; direction @direction: compass; radiation: Geiger counter
        the number of steps: pedometer
        """,
    ),
    "scientist": (
        "What does {a} study?",
        "Which subject does {a} know best?",
        """
        plants: botanist; rocks @earth: geologist; stars and planets: astronomer; weather: meteorologist
        fossils @past: paleontologist; insects: entomologist; birds: ornithologist; the oceans: oceanographer
        genes: geneticist; the mind @brain: psychologist; the heart: cardiologist; the skin: dermatologist
        the nerves @brain: neurologist; chemical substances @substance: chemist; microbes @micro: microbiologist
        volcanoes @earth: volcanologist; earthquakes @earth: seismologist; languages: linguist
        ancient ruins @past: archaeologist; fungi @micro: mycologist; poisons @substance: toxicologist
        reptiles: herpetologist; cancer: oncologist
        """,
    ),
    "achievement": (
        "What is {} famous for?",
        "For which achievement do we remember {}?",
        """
        the law of gravity: Isaac Newton; the theory of evolution: Charles Darwin; the theory of relativity: Albert Einstein
        the discovery of radium: Marie Curie; the discovery of penicillin: Alexander Fleming
        the discovery of Jupiter's moons @sun: Galileo Galilei
        the laws of heredity: Gregor Mendel
        placing the Sun at the center @sun: Nicolaus Copernicus
        the structure of DNA: James Watson; the light bulb: Thomas Edison; the telephone: Alexander Graham Bell
        dynamite: Alfred Nobel; the first airplane: Orville Wright; the first smallpox vaccine: Edward Jenner
        the periodic table: Dmitri Mendeleev; the electric battery: Alessandro Volta
        the discovery of X-rays: Wilhelm Roentgen; an improved steam engine: James Watt; the lightning rod: Benjamin Franklin
        the pasteurization of milk: Louis Pasteur; the expansion of the universe: Edwin Hubble
        the printing press: Johannes Gutenberg; the study of wild chimpanzees: Jane Goodall; the telegraph code: Samuel Morse
        """,
    ),
    "organ": (
        "What is the job of the {}?",
        "Why does the human body need the {}?",
        """
        to pump blood: heart; to take in oxygen @oxygen: lungs; to digest food @food: stomach; to think: brain
        to filter waste from the blood @waste: kidneys; to hold the body upright: skeleton; to see: eyes; to hear: ears
        to smell: nose; to taste: tongue; to chew @food: teeth; to move the body: muscles; to store urine @waste: bladder
        to carry signals to the brain: nerves; to fight germs: white blood cells
        to carry oxygen in the blood @oxygen: red blood cells
        to make the blood clot: platelets; to keep dust out of the eyes: eyelashes
        """,
    ),
    "body system": (
        "Which body system includes the {}?",
        "The {} can be found in which system of the human body?",
        """
        the digestive system: stomach, small intestine, large intestine, esophagus
        the circulatory system: heart, arteries, veins, capillaries
        the respiratory system: lungs, windpipe, bronchi
        the nervous system: brain, spinal cord, nerves
        the skeletal system: skull, ribs, thighbone, kneecap, shoulder blade
        the muscular system: biceps, triceps, hamstrings
        the urinary system: kidneys, bladder
        """,
    ),
    "body place": (
        "Where in the body is the {}?",
        "In which part of a person do we find the {}?",
        """
        in the eye: retina, cornea, pupil, iris; in the ear: eardrum, cochlea, ear canal
        in the mouth: tongue, molar, gum, wisdom tooth; in the leg @leg: femur, shin, kneecap, thigh
        in the foot @leg: heel, big toe, sole
        in the arm @arm: biceps, elbow, forearm, triceps
        in the hand @arm: thumb, palm, index finger; in the chest: heart, lung, breastbone
        """,
    ),
    "nutrient": (
        "Which nutrient do we mainly get from {}?",
        "What is the main thing that {} gives the body?",
        """
        protein: lean meat, egg white, tuna, tofu, chicken breast, turkey
        carbohydrates: bread, white rice, pasta, sugar, potato, honey
        fat: butter, olive oil, lard, margarine, sunflower oil
        """,
    ),
    "disease": (
        "What causes {}?",
        "Which kind of thing makes a person fall ill with {}?",
        """
        a virus: the flu, measles, chickenpox, AIDS, the common cold, polio, mumps, rabies
        bacteria: tuberculosis, cholera, tetanus, strep throat, the plague, typhoid fever, whooping cough
        a lack of vitamins: scurvy, rickets
        """,
    ),
    "sense": (
        "Which sense do we use to {}?",
        "With which sense do people {}?",
        """
        sight: read a book, admire a painting, tell red from green, watch the stars
        hearing: enjoy a song, notice a ringing bell, listen to the radio, recognize a voice
        smell: enjoy a perfume, notice a bad odor, sniff a rose
        taste: tell sweet from sour, notice salt in soup, find out that coffee is bitter
        touch: feel how soft silk is, notice that ice is cold, feel the heat of a stove, read Braille
        """,
    ),
    "sky": (
        "What kind of object in space is {}?",
        "What do astronomers call {}?",
        """
        a planet: Mars, Venus, Jupiter, Saturn, Mercury, Neptune, Uranus, Earth
        a star: the Sun, Sirius, Polaris, Betelgeuse, Alpha Centauri, Vega
        a moon: Europa, Titan, Io, Ganymede, Triton, Callisto
        a galaxy: the Milky Way, Andromeda
        """,
    ),
    "rock": (
        "What type of rock is {}?",
        "In which of the three classes of rock do geologists put {}?",
        """
        igneous: granite, basalt, obsidian, pumice
        sedimentary: sandstone, limestone, shale, chalk, conglomerate
        metamorphic: marble, slate, gneiss, schist, quartzite
        """,
    ),
    "made from": (
        "What do we make {} from?",
        "What do we need if we want to produce {}?",
        """
        wood: paper, charcoal; sand: glass; milk: cheese, butter, yogurt; grapes: wine, raisins; soybeans: tofu
        tomatoes: ketchup; wheat: white flour; clay: pottery; iron: steel; petroleum: gasoline, plastic
        cacao beans: chocolate; potatoes: french fries; apples: cider; fleece of sheep: wool; olives: olive oil
        cucumbers: pickles; peanuts: peanut butter
        """,
    ),
    "power use": (
        "What does {a} turn electricity into?",
        "Which form of energy do we want from {a}?",
        """
        heat @glow: toaster, electric heater, clothes iron, electric kettle, electric stove
        light @glow: light bulb, flashlight, desk lamp, street lamp
        motion: fan, electric motor, electric drill, blender, electric train
        sound: doorbell, loudspeaker, radio, buzzer
        """,
    ),
    "energy": (
        "Which kind of energy does {} have, kinetic or potential?",
        "What do we call the energy of {}?",
        """
        kinetic energy: a moving car, a rolling ball, a flying arrow, a running horse, a spinning wheel, a speeding bullet
        potential energy: a stretched spring, a book on a shelf, a rock resting on a cliff, water behind a dam, a drawn bow
        potential energy: a wound-up clock
        """,
    ),
    "prefix": (
        "What does the prefix {} mean?",
        "Which number does {} stand for in front of a unit?",
        """
        thousand: kilo; million: mega; billion: giga; hundredth: centi; thousandth: milli; millionth: micro; tenth: deci
        billionth: nano
        """,
    ),
}
"""Question, other wording, and entries of "answer: subjects", by relation. Any two answers of a
relation exclude each other.
"""


@functools.cache
def _pairs() -> tuple[tuple[Fact, Fact], ...]:
    tables = {name: table_facts(*relation) for name, relation in RELATIONS.items()}
    return tuple(fact_pairs(tables | sheet_facts(Path(__file__).with_suffix(".tsv")), "science"))


def records(split: str) -> list[Record]:
    """Make two records of each pair of facts, as `fact_records` does."""
    return fact_records("science", share(_pairs(), "science", split, template_of), split)
