"""Physical commonsense: which of two things, places or ways works in an everyday situation?

The situations were written for this package: goals with their means, and things to compare. A goal's distractor is the means
of a goal from another group, where it is of no use; two things are compared both ways, so that each is right once. No
situation lies in two splits, but for `near`, which asks the train situations in other words.
"""

from __future__ import annotations

import functools
import re

from forget.tasks import Record
from forget.tasks.builtin.making import Fact, coin, fact_pairs, fact_records, table_facts

RELATIONS = {
    "tool": (
        "What would you use to {}?",
        "Which of these would help you {}?",
        """
        scissors @cut: cut out a paper star, trim a piece of ribbon; a razor @cut: shave a beard, shave your legs
        a kitchen knife @cut: slice a loaf of bread, chop an onion; an axe @cut: split firewood, chop down a tree
        a saw @cut: cut a thick board in two, take a branch off a tree; a lawn mower @cut: cut the grass in the yard
        a peeler @cut: peel a potato; a grater @cut: shred cheese for a pizza; a hammer @repair: drive a nail into a wall
        a screwdriver @repair: tighten a loose screw; a wrench @repair: loosen a rusty nut
        a drill @repair: make a round hole in a board; sandpaper @repair: smooth rough wood
        a can opener @repair: open a can of beans; a corkscrew @repair: pull the cork out of a wine bottle
        a nutcracker @repair: crack a walnut; a shovel @yard: dig a hole in the garden, clear snow from a driveway
        a rake @yard: gather fallen leaves; a wheelbarrow @yard: move a heap of dirt
        a hose @wet: water the lawn, rinse mud off a car; a watering can @wet: water the houseplants
        a mop @wet: wash a tile floor; a sponge @wet: wipe a wet counter, scrub dirty dishes
        a bucket @wet: carry water from a well; a broom @dust: sweep the kitchen floor
        a vacuum cleaner @dust: clean a thick carpet; a feather duster @dust: get dust off a lamp
        a toothbrush @teeth: clean your teeth; dental floss @teeth: get food out from between two teeth
        soap @wash: get your hands clean; shampoo @wash: wash your hair
        a washing machine @wash: clean a pile of dirty clothes; a towel @dry: dry yourself after a shower
        a hair dryer @dry: dry wet hair; clothespins @dry: hang wet socks on a line; a comb @looks: untangle your hair
        a mirror @looks: see your own face; an iron @looks: get wrinkles out of a shirt
        a needle and thread @sew: sew a button on a coat, mend a torn sock; knitting needles @sew: make a wool scarf
        a pencil @write: sketch a face, mark the answers on a test; a pen @write: sign a letter, fill in a form
        chalk @write: draw on a blackboard; an eraser @write: remove a pencil mark
        a paintbrush @write: put paint on a fence; glue @cut: stick a broken cup together
        tape @cut: close a cardboard box, seal a gift in wrapping paper
        a stapler @cut: fasten five sheets of paper together
        a ruler @measure: draw a straight line, find out how long a pencil is
        a tape measure @measure: measure the length of a sofa
        a thermometer @measure: check whether a child has a fever, find out how hot the bath is
        a scale @measure: find out how heavy a suitcase is, weigh a bag of apples
        a clock @time: find out whether it is noon; an alarm clock @time: wake up at six in the morning
        a calendar @time: find out what day of the week it is; a map @way: find the way to a strange town
        a compass @way: tell which way is north; binoculars @lens: watch a bird far away
        a telescope @lens: look at the rings of Saturn; a magnifying glass @lens: read very small print
        a flashlight @light: find your way in a dark cellar, look for keys under the bed at night
        a candle @light: light a room when the power is out; matches @light: start a campfire
        a fire extinguisher @fire: put out a kitchen fire; a smoke alarm @fire: get a warning when the house is on fire
        a fan @cool: cool off on a hot night; an air conditioner @cool: make a stuffy office cooler
        a blanket @warm: keep warm in bed; a heater @warm: warm up a cold room; an umbrella @weather: stay dry in the rain
        sunscreen @weather: keep your skin from burning on the beach
        sunglasses @weather: protect your eyes from bright sun; a pot @cook: boil pasta
        a frying pan @cook: make pancakes, fry an egg; a kettle @cook: boil water for tea
        a toaster @cook: brown a slice of bread; an oven @cook: bake a cake, roast a turkey
        a refrigerator @chill: keep milk cold; a freezer @chill: make ice cubes
        a blender @mix: turn fruit into a smoothie; a whisk @mix: beat eggs; a rolling pin @mix: flatten dough
        a spoon @eat: eat soup, stir sugar into coffee; a fork @eat: eat spaghetti; a straw @eat: sip a milkshake
        a key @lock: open a locked door, start an old car; a padlock @lock: keep thieves out of a shed
        a rope @rope: tie a boat to a dock, tow a broken car; shoelaces @rope: fasten your shoes
        a leash @rope: keep a dog close on a walk; a backpack @carry: carry books to school
        a suitcase @carry: pack clothes for a trip; a tray @carry: bring four drinks to a table
        a basket @carry: gather eggs in a henhouse; a fishing rod @catch: catch a trout; a net @catch: catch butterflies
        a mousetrap @catch: catch a mouse in the kitchen; a fly swatter @catch: kill a fly
        a ladder @lift: get onto a high roof; a jack @lift: lift a car to change a tire
        a crane @lift: raise a steel beam to the top of a tower; a pump @air: put air into a flat tire
        a bandage @health: cover a cut on your finger; tweezers @health: pull a splinter out of a thumb
        a tissue @health: blow your nose; a wheelchair @move: get around with a broken leg; a canoe @move: cross a lake
        a parachute @move: land safely after a jump from a plane; a camera @record: take a picture of the sunset
        a calculator @record: multiply two long numbers; a printer @record: get a computer file onto paper
        a telephone @call: talk to a friend in another city, call an ambulance
        a whistle @call: stop a soccer game for a foul
        """,
    ),
    "method": (
        "How can you {}?",
        "What is a good way to {}?",
        """
        blow on it: cool down a spoonful of hot soup; rub them together @warm: warm up your cold hands
        stir in some sugar @taste: make sour lemonade taste better
        sprinkle salt on them @taste: give french fries more flavor; open a window: let fresh air into a room
        close the curtains: keep the morning sun out of a bedroom; flip the switch: turn on the lamp
        pull the plug: let the water out of a bathtub; turn on the faucet: fill a kitchen sink
        turn the doorknob: get through a closed door; hold your breath: swim under water
        cover your ears: endure a very loud noise; shake the bottle @bottle: mix the oil and vinegar in a salad dressing
        wipe it with a damp cloth @clean: clean a dusty shelf; put them in a vase of water: keep cut flowers fresh
        hang it in the sun: dry a wet swimsuit; put on a thick coat @warm: stay warm in the snow
        drink a glass of water: stop being thirsty; eat a sandwich: stop being hungry; take a nap: feel less tired
        put an ice pack on it: keep a bumped knee from swelling; blow air into it: make a balloon bigger
        stick a pin in it: make a balloon pop; turn it upside down @bottle: get sand out of a shoe
        step on the brake @pedal: stop a car; press the gas pedal @pedal: make a car go faster
        honk the horn: warn another driver; turn up the volume: hear the radio better
        plug in the charger: get a dead phone to work again; look both ways first: cross a street safely
        soak it in soapy water @clean: get dried food off a pan
        ring the doorbell: let friends know that you are at their house; stand on a chair: reach the top shelf
        duck your head: walk through a very low doorway; fold it several times: make a big map fit into a pocket
        pack it in bubble wrap: mail a glass vase safely; tie a double knot: keep shoelaces from coming loose
        grease the pan with butter: keep a cake from sticking while it bakes
        put oil on the hinges: stop a door from squeaking; sharpen it: make a dull pencil write well
        whisper: talk without waking a baby; push the pedals @pedal: make a bicycle go
        use the paddle: move a canoe across a lake; hold on to the railing: avoid a fall on steep stairs
        press the button and wait: call an elevator; throw a ball: play with a dog in the park
        wear gloves: protect your hands from thorns; put on a seat belt: stay safe in a moving car
        count backward from ten: announce the launch of a rocket; put a lid on it: keep hot soup from splashing the stove
        """,
    ),
    "result": (
        "What happens if you {}?",
        "Imagine that you {}. What is the result?",
        """
        it breaks @motion: drop a wine glass on a stone floor, drop an egg, throw a rock at a window, hit a mirror with a hammer
        it snaps @motion: bend a dry twig too far; it pops @motion: poke a balloon with a needle, sit on a balloon
        it bounces @motion: drop a rubber ball on the floor, throw a tennis ball on the court
        it rolls away @motion: put a marble on a steep slope, let go of a wheel on a hill
        it blows away @motion: leave a sheet of paper on a windy beach
        it spills @water: knock over a full cup of coffee, fill a glass past the rim
        it gets flat @motion: run over a soda can with a car
        it melts @water: leave ice cream in the sun, put butter in a hot pan, hold a snowflake in your hand
        it freezes @water: put juice in the freezer, leave a puddle out on an icy night
        it boils @water: heat a pot of water on the stove for a long time
        it dissolves @water: stir sugar into hot tea, mix salt into warm water
        it gets wet @water: leave a coat out in the rain, drop a towel into the pool
        it sinks @water: throw a stone into a lake, drop a coin into a fountain, toss an iron key into the sea
        it floats @water: put a cork on water, throw a log into a river, set a toy boat in the bathtub
        it rusts @water: leave an iron nail in the rain for months
        it gets moldy @water: keep damp bread in a bag for weeks; it grows @water: plant a seed and water it
        it gets dirty @water: play in the mud in a white shirt
        it catches fire: hold a match to dry paper, throw dry leaves into a campfire
        it goes out @motion: blow on a candle flame, pour water on a campfire
        it wilts: never water a flower, leave cut roses without water
        it tears @pull: pull hard on both sides of a sheet of tissue paper
        it gets longer @pull: pull both ends of a rubber band
        """,
    ),
    "storage": (
        "Where would you put {}?",
        "Which is the right place for {}?",
        """
        in the freezer @kitchen: ice cream, frozen peas; in the refrigerator @kitchen: fresh milk, leftover chicken
        in the oven @kitchen: a pie that needs to be baked; in the fruit bowl @kitchen: ripe bananas, a few apples
        in the sink @kitchen: dirty dishes; in the closet @home: a winter coat, a clean dress
        in the laundry basket @home: dirty shirts, smelly socks; on the bookshelf @home: a novel, an encyclopedia
        around the neck @home: a scarf; on the bed @home: a pillow, a blanket; in a crib @home: a sleeping baby
        in the garage @home: a parked car; in the toolbox: a wrench, a pair of pliers
        in the trash can: a banana peel, an empty candy wrapper; in the mailbox: a stamped letter, a postcard to a friend
        in a wallet @money: paper money, a credit card; in the piggy bank @money: spare coins
        in a jewelry box @money: a pearl necklace, gold earrings; on a finger @money: a wedding ring
        in a vase @home: a bouquet of roses; on the windowsill @home: a potted plant; in the flower bed @home: tulip bulbs
        in the bathroom cabinet: toothpaste, a razor; on the wall @home: a framed picture, a poster of a singer
        on the floor @home: a rug, a doormat; on the roof @home: solar panels, a chimney
        in the aquarium @pet: a pet goldfish; in a bird cage @pet: a pet parrot
        in a pencil case: ballpoint pens, colored pencils; in the lamp: a new light bulb
        """,
    ),
    "place": (
        "Where would you go to {}?",
        "If you wanted to {}, where would you go?",
        """
        to a bakery @food: buy fresh bread; to a butcher shop @food: buy raw beef
        to a restaurant @food: eat a meal cooked by a chef; to a library @books: borrow a book
        to a school @books: learn how to read; to a bank: take out a loan; to a barber shop: get a haircut
        to a hospital @health: have a broken leg treated; to a pharmacy @health: pick up medicine
        to a dentist @health: have a tooth pulled; to a gas station @car: fill up a car
        to a car wash @car: get mud off a van; to a mechanic @car: have a car engine repaired
        to a post office: mail a package; to an airport @travel: catch a flight
        to a train station @travel: get on a train; to a harbor @travel: get on a ship
        to a hotel @travel: spend the night in a strange city; to a campground @travel: sleep in a tent
        to a movie theater @show: watch a new film; to a museum @show: look at ancient statues
        to a stadium @show: watch a football match with a crowd; to a concert hall @show: hear an orchestra
        to a swimming pool @sport: swim laps; to a gym @sport: lift weights; to an ice rink @sport: skate on ice
        to a ski resort @sport: ski down a slope; to the beach @sport: build a sand castle
        to a playground @sport: go down a slide; to a zoo @animals: see live lions; to a farm @animals: milk cows
        to a pet shop @animals: buy a hamster; to a laundromat: wash clothes on a trip; to a shoe store @shop: buy boots
        to a flower shop @shop: buy a bouquet; to a hardware store @shop: buy nails and a hammer
        to a jeweler @shop: buy an engagement ring; to a police station @law: report a theft
        to a courtroom @law: watch a trial; to an elevator: ride up to the tenth floor
        """,
    ),
    "clothing": (
        "What would you wear {}?",
        "Which piece of clothing is best {}?",
        """
        a swimsuit: at the pool; mittens: to keep your hands warm
        a motorcycle helmet: to protect your head on a motorbike; rubber boots: to walk through deep puddles
        a raincoat: to walk through a rainstorm; pajamas: to sleep in bed; a scarf: around your neck in winter
        a wool hat: to keep your head warm; sandals: on your feet in the summer heat
        an apron: to keep your shirt clean while cooking; diving goggles: to see under water
        a suit and tie: to a job interview at a bank; hiking boots: on your feet on a rocky trail
        a belt: to hold up loose pants; running shoes: on your feet in a marathon
        a wedding dress: to your own wedding as a bride; earplugs: to sleep in spite of loud noise
        ice skates: to glide over a frozen lake; an oven mitt: to lift a hot pan; a space suit: to walk on the moon
        a bathrobe: right after a bath; a ballet skirt: to dance on stage as a swan
        reading glasses: to see small print clearly; knee pads: to protect your knees on a skateboard
        """,
    ),
    "material": (
        "What is {a} usually made of?",
        "Which material do you need to make {a}?",
        """
        glass @shiny: window pane, wine bottle, mirror, light bulb
        metal @shiny: nail, paper clip, coin, key, sword, car engine
        wood @firm: pencil, toothpick, log cabin, picnic table, violin
        plastic @firm: toy brick, credit card, shampoo bottle, garbage bag
        rubber: car tire, pencil eraser, bicycle tube, bouncy ball; paper: newspaper, envelope, postcard, book page
        cloth: shirt, bath towel, flag, pillowcase, handkerchief; leather: saddle, cowboy boot, baseball glove
        stone: castle wall, gravestone, Egyptian pyramid; wax: candle, crayon
        """,
    ),
    "content": (
        "What would you find inside {}?",
        "What does {} usually hold?",
        """
        tea @drink: a teapot; money: a cash register, a bank vault; water @drink: a swimming pool, a fire hose
        books: a library, a school bag; clothes: a suitcase, a dresser; tools: a mechanic's box; letters: a mailbox
        toothpaste: a tube in the bathroom; air: a bicycle tire, a soccer ball; gasoline: the fuel tank of a car
        eggs: a bird's nest in spring; ink: a pen; garbage: a dumpster; sand: an hourglass; pepper: a pepper mill
        cars: a parking garage; coffee @drink: a morning mug at the office; photos: a family album
        batteries: a remote control; arrows: an archer's quiver; airplanes: a hangar; lions and monkeys: a zoo
        prisoners: a jail; pills: a medicine bottle; feathers: a down pillow; bees: a hive; bones: a cemetery grave
        seeds: a pumpkin; soup @drink: a bowl at the start of dinner; stamps: a collector's album
        """,
    ),
}
"""Question, other wording, and entries of "means @group: goals" by relation. No means does for a goal of another group."""

COMPARISONS = (
    (
        "Which is heavier, {}?",
        "Which is lighter, {}?",
        "Which weighs more, {}?",
        "Which weighs less, {}?",
        """
        a brick > a feather; a car > a bicycle; an elephant > a mouse; a bowling ball > a balloon; a piano > a guitar
        a refrigerator > a toaster; a cow > a chicken; a rock > a leaf; an anvil > a pillow; a gold bar > a sponge
        a dictionary > a postcard; a bucket of water > a cup of water
        """,
    ),
    (
        "Which is bigger, {}?",
        "Which is smaller, {}?",
        "Which takes up more room, {}?",
        "Which takes up less room, {}?",
        """
        a whale > a dog; a house > a shoebox; a bus > a motorcycle; a watermelon > a grape; the ocean > a pond
        a mountain > a hill; a stadium > a classroom; a basketball > a golf ball; a horse > a rabbit; a city > a village
        an airplane > a kite; a bathtub > a teacup; a pizza > a cookie
        """,
    ),
    (
        "Which is hotter, {}?",
        "Which is colder, {}?",
        "Which has the higher temperature, {}?",
        "Which has the lower temperature, {}?",
        """
        fire > ice; boiling water > snow; a summer day > a winter night; fresh coffee > iced tea
        a desert at noon > a snowy mountain; warm toast > ice cream; a sauna > an ice rink; lava > river water
        a steam iron > a snowball; a burning match > a cold drink; a lit stove > a freezer; the Sun > the North Pole
        """,
    ),
    (
        "Which is harder, {}?",
        "Which is softer, {}?",
        "Which feels more solid to the touch, {}?",
        "Which feels more tender to the touch, {}?",
        """
        a stone > a pillow; a brick > a marshmallow; iron > butter; a diamond > a piece of chalk; a hammer > a sponge
        a coconut > a ripe banana; a wooden table > a wool blanket; a marble floor > a carpet
        a walnut shell > a slice of bread; a glass bottle > a teddy bear; a tooth > a tongue; a helmet > a knit cap
        concrete > mud
        """,
    ),
    (
        "Which is faster, {}?",
        "Which is slower, {}?",
        "Which would win a race, {}?",
        "Which would lose a race, {}?",
        """
        a car > a bicycle; a cheetah > a turtle; a rabbit > a snail; a rocket > a bus; a race car > a tractor
        a horse > a cow; a bullet > an arrow; a motorboat > a rowboat; an express train > a horse cart
        a sprinter > a toddler; a jet plane > a hot-air balloon; a falcon > a caterpillar
        """,
    ),
    (
        "Which is louder, {}?",
        "Which is quieter, {}?",
        "Which makes more noise, {}?",
        "Which makes less noise, {}?",
        """
        a jet engine > a whisper; a drum > a falling feather; thunder > a rustling leaf; a scream > a sigh
        a fire alarm > a ticking watch; a rock concert > a library; a chainsaw > a pencil; a roaring lion > a purring cat
        a police siren > a cricket; a vacuum cleaner > a wall clock; an explosion > a handclap
        """,
    ),
    (
        "Which is sharper, {}?",
        "Which is duller, {}?",
        "Which would cut your finger first, {}?",
        "Which is safer to press on, {}?",
        """
        a knife > a spoon; a needle > a button; a razor blade > a rubber ball; a thorn > a petal
        broken glass > a smooth pebble; a sword > a club; a shark's tooth > a cow's tooth; an axe > a hammer
        a steak knife > a butter knife; a thumbtack > a coin; an eagle's claw > a duck's foot; a saw > a broom
        """,
    ),
    (
        "Which is brighter, {}?",
        "Which is darker, {}?",
        "Which gives more light, {}?",
        "Which gives less light, {}?",
        """
        the Sun > the Moon; noon > midnight; lightning > a candle; a white wall > a black wall
        a snowy field > a coal mine; a sunny beach > a cave; a headlight > a glowing ember; fireworks > a match
        a floodlight > a firefly; a full moon > a faint star
        """,
    ),
    (
        "Which is longer, {}?",
        "Which is shorter, {}?",
        "Which has the greater length, {}?",
        "Which has the smaller length, {}?",
        """
        a train > a car; a river > a ditch; a python > an earthworm; a highway > a driveway; a year > a week
        a month > an hour; a marathon > a sprint; a broomstick > a toothpick; a school bus > a scooter
        a noodle > a grain of rice; a baseball bat > a matchstick; a giraffe's neck > a dog's neck
        """,
    ),
    (
        "Which is sweeter, {}?",
        "Which is more sour, {}?",
        "Which tastes more of sugar, {}?",
        "Which would make you pucker your lips, {}?",
        """
        honey > lemon juice; candy > vinegar; a ripe banana > a lime; chocolate > a pickle; maple syrup > sauerkraut
        a cupcake > a raw cranberry; caramel > plain yogurt; a ripe mango > a grapefruit
        """,
    ),
    (
        "Which is more expensive, {}?",
        "Which is cheaper, {}?",
        "Which costs more money, {}?",
        "Which costs less money, {}?",
        """
        a car > a skateboard; a house > a tent; a diamond ring > a rubber band; a laptop > a pencil
        a gold necklace > a paper clip; a yacht > a canoe; a castle > a garden shed; a piano > a whistle
        a wedding cake > a cupcake; a steak dinner > a slice of toast; a jet > a kite
        """,
    ),
    (
        "Which is wetter, {}?",
        "Which is drier, {}?",
        "Which holds more moisture, {}?",
        "Which holds less moisture, {}?",
        """
        a swimming pool > a sandbox; mud > dust; soup > a cracker; a swamp > a sand dune; a rain forest > a desert
        a slice of melon > a potato chip; a lake > a parking lot; a fresh grape > a raisin
        a dripping sponge > a clean plate; dew > sawdust
        """,
    ),
    (
        "Which breaks more easily, {}?",
        "Which is harder to break, {}?",
        "Which is more fragile, {}?",
        "Which is more sturdy, {}?",
        """
        a wine glass > a steel pan; an egg > a golf ball; a light bulb > a brick; a china plate > a wooden spoon
        a potato chip > a coin; a mirror > a rubber mat; an icicle > an iron rod; a dry twig > a metal pole
        a porcelain vase > a plastic bucket; a sand castle > a stone castle; a cookie > a rock; a window > a tire
        """,
    ),
    (
        "Which floats on water, {}?",
        "Which sinks in water, {}?",
        "Which stays on top of a lake, {}?",
        "Which goes to the bottom of a lake, {}?",
        """
        a cork > a stone; a log > a brick; a beach ball > a bowling ball; a rubber duck > a coin; a leaf > a key
        a wooden raft > an anchor; a feather > a marble; a foam board > a hammer; a ping-pong ball > a golf ball
        a tree branch > an iron chain; an apple > a metal spoon; an empty plastic bottle > a nail
        """,
    ),
    (
        "Which burns easily, {}?",
        "Which does not burn, {}?",
        "Which would catch fire from a match, {}?",
        "Which is safe from fire, {}?",
        """
        paper > stone; dry leaves > wet sand; firewood > bricks; gasoline > water; hay > iron; a newspaper > a glass jar
        cardboard > concrete; a matchstick > a steel nail; a cotton curtain > a marble statue
        a straw hat > a metal bucket; charcoal > snow; a wooden fence > a stone wall
        """,
    ),
    (
        "Which can you see through, {}?",
        "Which can you not see through, {}?",
        "Which lets light pass, {}?",
        "Which blocks all light, {}?",
        """
        a window pane > a brick wall; a glass jar > a tin can; clean water > mud; plastic wrap > cardboard
        a pair of glasses > a wooden board; clear ice > a rock; an aquarium > a steel safe
        a drinking glass > a coffee mug
        """,
    ),
    (
        "Which is taller, {}?",
        "Which is shorter in height, {}?",
        "Which reaches higher, {}?",
        "Which is lower, {}?",
        """
        a giraffe > a sheep; a skyscraper > a cottage; an oak tree > a bush; an adult > a baby; a flagpole > a fence
        a lighthouse > a tent; a mountain > an anthill; a ladder > a footstool; a sunflower > a clover
        a wardrobe > a nightstand; a camel > a goat; a church tower > a mailbox
        """,
    ),
    (
        "Which feels rougher, {}?",
        "Which feels smoother, {}?",
        "Which would scratch your skin, {}?",
        "Which is nicer to slide your hand over, {}?",
        """
        sandpaper > glass; tree bark > silk; a gravel road > an ice rink; a pineapple > an apple; a cactus > a balloon
        a hemp rope > a satin ribbon; a stone wall > a window; a walnut shell > an eggshell
        a nail file > a sheet of paper
        """,
    ),
    (
        "Which is thicker, {}?",
        "Which is thinner, {}?",
        "Which is bulkier, {}?",
        "Which is more slender, {}?",
        """
        a book > a sheet of paper; a tree trunk > a twig; a rope > a thread; a mattress > a bed sheet
        a winter coat > a T-shirt; a dictionary > a pamphlet; a stone wall > a curtain; a log > a toothpick
        a thumb > a hair; a sandwich > a cracker
        """,
    ),
    (
        "Which is sticky, {}?",
        "Which is not sticky, {}?",
        "Which would cling to your fingers, {}?",
        "Which would not cling to your fingers, {}?",
        """
        honey > water; glue > dry sand; syrup > milk; tape > a coin; chewing gum > an ice cube; jam > a dry bean
        melted caramel > a marble
        """,
    ),
    (
        "Which stretches, {}?",
        "Which does not stretch, {}?",
        "Which gets longer when you pull it, {}?",
        "Which stays the same when you pull it, {}?",
        """
        a rubber band > a pencil; an elastic belt > a wooden ruler; a balloon > a dinner plate; chewing gum > a nail
        a spring > a brick; a nylon stocking > a key
        """,
    ),
    (
        "Which melts in the hot sun, {}?",
        "Which does not melt in the hot sun, {}?",
        "Which turns to liquid on a summer day, {}?",
        "Which stays solid on a summer day, {}?",
        """
        ice cream > a shoe; a chocolate bar > a stone; butter > a plate; a snowman > a statue; a popsicle > a brick
        an ice cube > a glass marble; frost > sand; frozen yogurt > a coin
        """,
    ),
    (
        "Which rolls down a hill, {}?",
        "Which does not roll down a hill, {}?",
        "Which would turn over and over on a slope, {}?",
        "Which would stay in place on a slope, {}?",
        """
        a ball > a book; a wheel > a box; an orange > a brick; a marble > a tile; a barrel > a mattress; a tire > a pillow
        """,
    ),
    (
        "Which bounces, {}?",
        "Which does not bounce, {}?",
        "Which jumps back up when you drop it, {}?",
        "Which stays down when you drop it, {}?",
        """
        a rubber ball > an egg; a tennis ball > a brick; a basketball > a dinner plate; a ping-pong ball > a wet sponge
        a volleyball > a hammer
        """,
    ),
    (
        "Which can hold water, {}?",
        "Which cannot hold water, {}?",
        "Which could you fill with juice, {}?",
        "Which could you not fill with juice, {}?",
        """
        a bucket > a net; a cup > a fork; a bowl > a sieve; a bottle > a comb; a vase > a ring; a bathtub > a ladder
        a pot > a pencil
        """,
    ),
    (
        "Which can you eat, {}?",
        "Which can you not eat, {}?",
        "Which is food, {}?",
        "Which is not food, {}?",
        """
        an apple > a rock; bread > a brick; a carrot > a crayon; a pancake > a plate; cheese > soap; rice > gravel
        a cookie > a coin; an egg > a golf ball
        """,
    ),
)
"""A question that the first thing of each entry answers, one that the second answers, and both in other words."""


def _compared(more: str, less: str, near_more: str, near_less: str, table: str) -> list[tuple[Fact, Fact]]:
    pairs: list[tuple[Fact, Fact]] = []
    for entry in re.split(r"; |\n", table.strip()):
        first, _, second = entry.strip().partition(" > ")
        named = (first, second) if coin(f"physical/{more}/{entry.strip()}") else (second, first)
        both, swapped = " or ".join(named), " or ".join(reversed(named))
        pairs.append(
            (
                Fact(more.format(both), near_more.format(swapped), first),
                Fact(less.format(both), near_less.format(swapped), second),
            )
        )
    return pairs


@functools.cache
def _pairs() -> tuple[tuple[Fact, Fact], ...]:
    goals = fact_pairs({name: table_facts(*relation) for name, relation in RELATIONS.items()}, "physical")
    return (*goals, *(pair for comparison in COMPARISONS for pair in _compared(*comparison)))


def records(split: str) -> list[Record]:
    return fact_records("physical", _pairs(), split)
