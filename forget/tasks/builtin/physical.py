"""Physical commonsense: which of two things, places or ways works in an everyday situation?

The situations were written for this package: goals with their means, things with their properties,
and things to compare. A goal's distractor is the means of a goal from another group, where it is of
no use; two things are compared both ways, so that each is right once. No situation lies in two
splits, but for `near`, which asks the train situations in other words.
"""

# ruff: noqa: E501  a table keeps its lines

from __future__ import annotations

import functools
import re

from forget.tasks.builtin.making import (
    Fact,
    coin,
    fact_pairs,
    fact_records,
    share,
    table_facts,
    template_of,
)
from forget.tasks.task import Record

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
        it breaks @motion: drop a wine glass on a stone floor, drop an egg, throw a rock at a window
        it breaks @motion: hit a mirror with a hammer; it snaps @motion: bend a dry twig too far
        it pops @motion: poke a balloon with a needle, sit on a balloon
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
    "use": (
        "What would you do with {}?",
        "What do people usually do with {}?",
        """
        eat it: a sandwich, an apple pie, a cheeseburger, a pizza; drink it: lemonade, coffee, apple juice, a milkshake
        wear it: a hat, a sweater, a jacket, a necklace; read it: a novel, a newspaper, a magazine, a comic book
        sit on it @rest: a chair, a sofa, a bench, a stool; sleep on it @rest: a mattress
        drive it @go: a truck, a taxi, a van; ride it @go: a bicycle, a skateboard, a sled, a pony
        fly it @go: a kite, a helicopter; play music on it: a piano, a guitar, a violin, a flute
        live in it: a cottage, an apartment, an igloo; watch it: a movie, a cartoon, a television show
        spend it: a dollar bill, a paycheck; throw it: a frisbee, a snowball, a dart; climb it: a ladder, a steep mountain
        """,
    ),
    "hardness": (
        "Is {} hard or soft?",
        "Which word fits {}, hard or soft?",
        """
        hard: a stone, a brick, iron, a diamond, a hammer, a coconut shell, a wooden table, a marble floor, a glass bottle
        hard: a tooth; hard: concrete, a steel pipe
        soft: a pillow, a marshmallow, warm butter, a sponge, a ripe banana, a wool blanket, a carpet, a slice of bread
        soft: a teddy bear, a feather, a knit cap, cotton
        """,
    ),
    "temperature": (
        "Is {} hot or cold?",
        "Which word fits {}, hot or cold?",
        """
        hot: fire, boiling water, lava, a lit stove, a sauna, a steam iron, a desert at noon, the Sun, a burning match
        hot: fresh toast
        cold: ice, snow, a freezer, a winter night, iced tea, an ice rink, the North Pole, ice cream, a snowball, frost
        """,
    ),
    "loudness": (
        "Is {} loud or quiet?",
        "Which word fits {}, loud or quiet?",
        """
        loud: a jet engine, a drum, thunder, a scream, a fire alarm, a rock concert, a chainsaw, a roaring lion
        loud: a police siren; loud: an explosion
        quiet: a whisper, a falling feather, a rustling leaf, a sigh, a ticking watch, a library, a sleeping cat, falling snow
        quiet: a butterfly, a turning page
        """,
    ),
    "edge": (
        "Could you cut your finger on {}?",
        "Is {} sharp enough to hurt your skin?",
        """
        yes: a razor blade, a butcher knife, a thorn, broken glass, a sword, a shark's tooth, a saw, an axe, barbed wire
        yes: a scalpel
        no: a spoon, a button, a rubber ball, a rose petal, a round pebble, a pillow, a sponge, a balloon, a sock, a banana
        """,
    ),
    "brightness": (
        "Is it bright or dark {}?",
        "What is the light like {}, bright or dark?",
        """
        bright: at noon on a clear day, on a sunny beach, in a snowy field in daylight, under stadium lights
        bright: in a well lit office; bright: under a floodlight
        dark: at midnight without a lamp, in a deep cave, in a coal mine, in a closed closet, under a thick blanket
        dark: at the bottom of the ocean
        """,
    ),
    "taste": (
        "Does {} taste sweet or sour?",
        "Which taste does {} have, sweet or sour?",
        """
        sweet: honey, candy, a ripe banana, chocolate, maple syrup, a cupcake, caramel, ice cream
        sour: lemon juice, vinegar, a lime, a pickle, sauerkraut, a raw cranberry, an unripe grape, raw rhubarb
        """,
    ),
    "wetness": (
        "Is {} wet or dry?",
        "Which word fits {}, wet or dry?",
        """
        wet: a swimming pool, fresh mud, soup, a swamp, a lake, a dripping sponge, morning dew, a puddle, a river
        dry: desert sand, dust, a cracker, a sand dune, sawdust, a dead leaf, a piece of chalk, a stack of paper
        dry: toasted bread
        """,
    ),
    "strength": (
        "Does {} break easily?",
        "Is {} fragile?",
        """
        yes: a wine glass, an egg, a light bulb, a china plate, a potato chip, an icicle, a porcelain vase, a cookie
        yes: a window pane; yes: a mirror
        no: a steel pan, a golf ball, a brick, an anvil, a coin, a rubber mat, an iron rod, a car tire, a rock, a hammer
        """,
    ),
    "water": (
        "What does {} do in water?",
        "If you throw {} into a lake, what happens?",
        """
        it floats: a cork, a log, a beach ball, a rubber duck, a leaf, a wooden raft, a feather, a foam board
        it floats: a ping-pong ball; it floats: a tree branch, an apple, an empty plastic bottle
        it sinks: a stone, a brick, a bowling ball, a coin, a key, an anchor, a marble, a hammer, a golf ball, an iron chain
        it sinks: a metal spoon, a nail
        """,
    ),
    "fire": (
        "Does {} burn?",
        "Would {} catch fire from a match?",
        """
        yes: paper, a dry leaf, firewood, gasoline, hay, a newspaper, cardboard, a cotton curtain, a straw hat, charcoal
        yes: a wooden fence, a candle wick
        no: stone, wet sand, a brick, water, an iron bar, a glass jar, concrete, a steel nail, a marble statue, a metal bucket
        no: snow, a ceramic tile
        """,
    ),
    "glass": (
        "Can you see through {}?",
        "Does {} let you look at what is behind it?",
        """
        yes: a window pane, a glass jar, clean water, plastic wrap, a pair of glasses, clear ice, an aquarium
        yes: a magnifying glass
        no: a brick wall, a tin can, thick mud, cardboard, a wooden board, a rock, a steel safe, a coffee mug
        """,
    ),
    "surface": (
        "Is {} rough or smooth?",
        "Which word fits {}, rough or smooth?",
        """
        rough: sandpaper, tree bark, a gravel road, a pineapple, a hemp rope, a stone wall, a walnut shell, a nail file
        smooth: window glass, silk, an ice rink, an apple, a balloon, a satin ribbon, a mirror, a sheet of paper
        """,
    ),
    "sticky": (
        "Is {} sticky?",
        "Would {} cling to your fingers?",
        """
        yes: honey, glue, syrup, tape, chewing gum, jam, melted caramel
        no: water, a glass plate, a pencil, a coin, an ice cube, a dry bean, a marble
        """,
    ),
    "stretch": (
        "Can you stretch {}?",
        "Does {} get longer when you pull it?",
        """
        yes: a rubber band, an elastic belt, a balloon, chewing gum, a nylon stocking, a spring
        no: a pencil, a wooden ruler, a dinner plate, a nail, a key, a brick
        """,
    ),
    "melting": (
        "Does {} melt in the hot sun?",
        "Would {} turn to liquid on a summer day?",
        """
        yes: ice cream, a chocolate bar, butter, a snowman, a popsicle, an ice cube, frost, frozen yogurt
        no: a shoe, a stone, a plate, a bronze statue, a brick, a glass marble, sand, a coin
        """,
    ),
    "rolling": (
        "Can {} roll down a hill?",
        "Does {} go round and round on a slope?",
        """
        yes: a ball, a wheel, an orange, a marble, a barrel, a tire
        no: a book, a box, a brick, a tile, a mattress, a pillow
        """,
    ),
    "bouncing": (
        "Does {} bounce?",
        "Would {} jump back up if you dropped it?",
        """
        yes: a rubber ball, a tennis ball, a basketball, a ping-pong ball, a volleyball
        no: an egg, a brick, a dinner plate, a wet towel, a hammer
        """,
    ),
    "holding": (
        "Can {} hold water?",
        "Could you fill {} with juice?",
        """
        yes: a bucket, a cup, a bowl, a bottle, a vase, a bathtub, a pot
        no: a net, a fork, a sieve, a comb, a ring, a ladder, a pencil
        """,
    ),
    "food": (
        "Can you eat {}?",
        "Is {} food?",
        """
        yes: an apple, bread, a carrot, a pancake, cheese, rice, a cookie, an egg
        no: a rock, a brick, a crayon, a plate, soap, gravel, a coin, a golf ball
        """,
    ),
    "ingredient": (
        "What do you need to make {}?",
        "Which of these would you need for {}?",
        """
        two slices of bread: a sandwich; lemons: lemonade; eggs: an omelet; fresh snow: a snowman; dry wood: a campfire
        wet sand: a sand castle; yarn: a knitted sweater; potatoes: french fries; sausages: a hot dog
        kernels of corn: popcorn; noodles: a spaghetti dinner; tulips and roses: a bouquet
        dried leaves: a pot of green tea; roasted beans: an espresso; bricks: a chimney; string and beads: a bracelet
        a hollow pumpkin: a Halloween lantern; lettuce: a green salad; squares of cloth: a quilt; melted cheese: a pizza
        strawberries: a red jam; feathers: a pillow for a bed; canvas and poles: a tent; twigs: a bird's nest
        """,
    ),
    "reaction": (
        "What should you do when {}?",
        "What is the sensible thing to do when {}?",
        """
        answer it: the phone rings; feed it: your dog is hungry; change it: a baby's diaper is wet
        stop: the traffic light turns red; blow out the candles: your birthday cake is on the table
        call the fire department @water: the house next door is burning; see a dentist: your tooth hurts badly
        buy gas: the tank of your car is empty; mow it: the grass has grown too tall
        take the stairs: the elevator is broken; turn on a light: it gets dark in the living room
        open your umbrella: it starts to rain on your walk; take it out of the oven: the cake is done
        empty it: the trash can is full; water it @water: the soil of your houseplant is dry
        replace the bulb: the lamp has burned out; tie them: your shoelaces have come loose
        say that you are sorry: you step on a stranger's foot; let it cool first: the soup is too hot to eat
        go to bed: you are sleepy late at night; open the door: a guest rings the bell
        wash them: your hands are covered in mud; recharge it: the battery of your phone is empty
        iron it: your shirt is full of wrinkles; swim to the shore: your canoe sinks in a small lake
        take an aspirin: you have a headache
        """,
    ),
}
"""Question, other wording, and entries of "answer @group: situations", by relation. No answer fits
a situation of another group.
"""

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
)
"""A question that the first thing of each entry answers, one that the second answers, and both in
other words.
"""


def _compared(
    more: str, less: str, near_more: str, near_less: str, table: str
) -> list[tuple[Fact, Fact]]:
    """Make a pair of facts of each entry: two things, named in a drawn order.

    Args:
        more: the question that an entry's first thing answers.
        less: the question that its second thing answers.
        near_more: `more` in other words, with the things the other way round.
        near_less: `less` in other words, likewise.
        table: entries of "first > second", parted by "; " or lines.
    """
    pairs: list[tuple[Fact, Fact]] = []
    for entry in re.split(r"; |\n", table.strip()):
        first, _, second = entry.strip().partition(" > ")
        named = (first, second) if coin(f"physical/{more}/{entry.strip()}") else (second, first)
        both, swapped = " or ".join(named), " or ".join(reversed(named))
        pairs.append(
            (
                Fact(more.format(both), near_more.format(swapped), first, template=more),
                Fact(less.format(both), near_less.format(swapped), second, template=more),
            )
        )
    return pairs


@functools.cache
def _pairs() -> tuple[tuple[Fact, Fact], ...]:
    tables = {name: table_facts(*relation) for name, relation in RELATIONS.items()}
    pairs = fact_pairs(tables, "physical")
    for comparison in COMPARISONS:
        pairs += _compared(*comparison)
    return tuple(pairs)


def records(split: str) -> list[Record]:
    """Make two records of each pair of facts, as `fact_records` does."""
    return fact_records("physical", share(_pairs(), "physical", split, template_of), split)
