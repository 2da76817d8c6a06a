"""Word lists written for this project, and made-up words and names with the sound of English ones."""

import re
from collections.abc import Sequence

from builder.demo.training.draw import Draw, value_split
from builder.demo.training.wording import spaced

ANIMALS = spaced(
    """fox cat dog owl bear mouse rabbit horse cow sheep goat pig duck hen goose frog toad snake turtle whale dolphin
    shark seal otter beaver badger hedgehog squirrel deer wolf lion tiger leopard elephant giraffe zebra monkey gorilla
    parrot eagle hawk raven crow sparrow robin swan penguin flamingo peacock camel donkey kangaroo koala panda hamster
    lizard crocodile octopus crab lobster snail spider bee ant butterfly moth beetle dragonfly bat mole llama moose
    heron pelican ferret lynx cricket salmon trout"""
)
FOODS = spaced(
    """milk eggs bread butter cheese apples bananas rice pasta tomatoes onions carrots potatoes coffee tea sugar
    flour honey jam yogurt fish chicken beans lentils peas spinach lettuce cucumbers peppers garlic lemons
    oranges grapes pears plums cherries strawberries melons mangoes nuts almonds raisins oats cereal soup pizza
    noodles biscuits chocolate salt pepper oil vinegar mustard mushrooms cabbage celery corn pumpkin soap
    candles batteries napkins"""
)
COLOURS = spaced(
    """red blue green yellow purple orange pink brown black white grey turquoise violet gold silver crimson indigo teal
    maroon navy lilac beige scarlet amber"""
)
OBJECTS = spaced(
    """lamp chair table window door key clock mirror pencil bottle cup plate spoon bucket ladder hammer basket blanket
    pillow carpet drum violin guitar piano trumpet flute kite ball rope tent boat sail anchor lantern candle compass map
    letter book notebook painting camera radio bicycle wagon train rocket engine wheel coin ring crown sword shield
    umbrella jacket scarf glove boot hat button needle ribbon box chest bag jar bell bridge tower castle garden fence
    bench statue"""
)
NATURE = spaced(
    """tree flower river mountain ocean forest meadow desert island valley cloud rain snow wind storm thunder rainbow
    sunrise sunset moon star planet comet stone sand leaf root seed branch grass moss lake pond stream waterfall beach
    hill cave volcano glacier winter summer autumn spring morning evening night shadow fire smoke ice frost fog
    dew"""
)
ADJECTIVES = spaced(
    """happy sad brave quiet loud tiny huge quick slow clever silly gentle proud lonely curious sleepy hungry friendly
    bright dark warm cold soft hard smooth rough sweet bitter fresh old young new strong weak rich poor kind cruel calm
    wild lazy busy clean dirty empty full heavy light deep narrow wide sharp round square wooden golden hidden
    lucky"""
)
VERBS = spaced(
    """walk run jump swim fly climb sing dance laugh cry sleep wake eat drink cook bake build break open close push pull
    throw catch carry bring send find lose keep give take buy sell read write draw paint speak listen watch learn teach
    think remember forget travel wander visit follow lead help save share hide seek plant grow gather
    repair"""
)
OTHERS = spaced(
    """hello world computer python science history music number letter question answer language picture story poem
    teacher student doctor farmer baker sailor pilot artist writer singer dancer king queen prince princess wizard
    knight captain soldier robot giant dragon friend family mother father sister brother uncle cousin child people
    village city country street house kitchen bedroom school library market station hospital museum theatre office
    factory kingdom journey adventure treasure secret mystery promise holiday birthday present party dinner breakfast
    lunch weather minute hour week month year yesterday tomorrow banana tomato lemon cherry strawberry blueberry
    raspberry chocolate vanilla cinnamon ginger pepper sugar cookie pancake sandwich mississippi elephant crocodile
    alphabet keyboard monitor printer internet website password message network program function variable memory
    processor quantum energy gravity magnet crystal diamond emerald ruby copper iron silver plastic paper cotton leather
    velvet thread fabric shoulder finger elbow stomach brain heart muscle skeleton bicycle airplane helicopter submarine
    tractor motorcycle balloon parachute telescope microscope satellite astronaut universe galaxy asteroid happiness
    sadness freedom courage wisdom justice silence patience kindness beauty strength weakness darkness brightness
    apple orange grape peach potato carrot onion garlic butter cheese jacket pocket rocket ticket basket market blanket
    winter window wonder water paper pencil purple people puzzle middle little bottle battle candle castle turtle
    gentle simple sample temple apartment education information imagination celebration conversation dictionary
    mathematics geography photograph strawberries wonderful beautiful important different dangerous delicious
    mountain fountain captain curtain certain strange change orange danger stranger finger singer ginger butterfly
    firefly cupcake rainbow sunflower moonlight starlight daylight midnight football basketball volleyball tennis
    hockey cricket chess racing swimming running jumping reading writing painting drawing sleeping dreaming
    quantize model token prompt sampler tensor weight layer cache kernel vector matrix"""
)
WORDS: tuple[str, ...] = tuple(sorted({*ANIMALS, *FOODS, *COLOURS, *OBJECTS, *NATURE, *ADJECTIVES, *VERBS, *OTHERS}))
"""Real words that training may use for anything: to spell, to sort, to repeat, to remember."""
HELD_WORDS = spaced(
    """acorn almanac anthem antler apron arcade armchair ballad bamboo banjo barrel beacon bonfire boulder bracelet
    brigade broccoli bubble bumper buffalo burglar cabin cactus canoe caramel cardigan carnival cauldron cavern
    chimney chisel cinema cobweb coconut comrade cradle cutlery dagger dandelion domino dungeon eclipse emblem
    envelope falcon festival fiddle fossil fragment furnace gallop gazelle glimmer goblet gondola gravel
    guardian gymnast hammock harbour harvest hazelnut helmet hermit hinge hurdle icicle igloo insect ivory
    jasmine jigsaw juggler kennel kidney ladle lagoon lemonade lobby lotus lullaby magpie mammal marble
    marmalade mattress meteor mitten monsoon mosaic mosquito mural nectar nephew nickname nutmeg oasis orchard
    orchid ornament paddle pancreas parcel pebble pelmet pigeon pilgrim pistachio platypus porridge puddle
    puppet quarry quilt raccoon receipt rhubarb riddle rooftop saddle sandal sapling satchel scissors scooter
    shovel sketch skipper slipper smuggler spatula squid stadium stallion stapler swamp syrup tambourine teapot
    thimble throne toffee toolbox tortoise treadmill trumpeter tulip tunnel turnip twilight unicorn vacuum
    vampire velcro venom vinegret violinist wallet walnut walrus warehouse weasel whistle wicker woodland
    wrinkle yacht yodel zipper"""
)
"""Real words that occur nowhere in training."""
_HELD = frozenset(HELD_WORDS)

NAMES = spaced(
    """Anna Tom Maria Ben Lucy Oscar Emma Liam Nora Paul Sofia Peter Ivan Clara Hugo Elena Victor Alice Felix Julia
    Simon Diego Laura Marco Amira Kenji Priya Omar Leila Yuki Chen Ravi Fatima Pablo Ingrid Lars Astrid Bruno
    Carmen Denis Edith Frank Greta Henry Irene Jonas Karin Leon Mira Nils Olga Petra Quentin Rosa Stefan Tina
    Ursula Vera Walter Xenia Yara Zoe Adam Bella Carl Dora Eric Fiona George Hannah Isaac Jane Kevin Lily Max
    Nina Oliver Pia Robert Sarah Theo Uma Vincent Wendy Aaron Beth Caleb Daisy Ethan Freya Gavin Helen Ian Jack
    Kate Luke Megan Noah Olivia Philip Rachel Sam Tess Viola William Yusuf Zara Ahmed Bianca Cyrus Dalia Emil
    Farah Gustav Hana Ismail Jorge Kiran Lina Mateo Nadia Otto Paula Rafael Samira Tomas Valerie Wanda Ximena
    Yvonne Zack Alex Chris Dana Jamie Kim Lee Morgan Pat Robin Taylor Bob Joe Mike John Mary James Linda David
    Susan Daniel Karen Mark Lisa Steve Nancy Andrew Amy Brian Carol Grace Rose Ruby Ella Mia Ava Leo Finn Jake
    Toby Harry Archie Molly Ellie Holly"""
)
PETS = spaced(
    """Rex Luna Milo Bella Coco Max Daisy Simba Oreo Ginger Pepper Biscuit Shadow Tiger Fluffy Whiskers Buddy Rocky
    Muffin Peanut Cookie Snowy Patch Socks Misty Felix Nala Loki Zeus Bruno Honey Olive Waffles Pickles Noodle
    Mocha Smokey Bandit Ziggy Pip Scout Rusty"""
)
CITIES = spaced(
    """Paris London Berlin Madrid Rome Vienna Lisbon Oslo Helsinki Dublin Athens Prague Warsaw Budapest Zurich
    Geneva Munich Hamburg Lyon Porto Seville Naples Milan Turin Bergen Malmo Bristol Leeds Glasgow Cardiff
    Boston Chicago Denver Seattle Austin Dallas Houston Miami Atlanta Toronto Montreal Vancouver Lima Bogota
    Quito Santiago Tokyo Osaka Kyoto Seoul Beijing Shanghai Delhi Mumbai Chennai Karachi Dhaka Bangkok Hanoi
    Manila Jakarta Sydney Perth Brisbane Auckland Cairo Nairobi Lagos Accra Dakar Tunis Casablanca Istanbul
    Ankara Tehran Amman Dubai Doha Kiev Riga Vilnius Tallinn Sofia Bucharest Belgrade Zagreb"""
)
JOBS = spaced(
    """teacher nurse baker farmer pilot painter writer gardener plumber carpenter chemist engineer doctor lawyer singer
    dancer driver cook waiter sailor programmer librarian photographer musician dentist vet tailor builder electrician
    scientist student"""
)
HOBBIES = spaced(
    """chess painting swimming running gardening cooking reading cycling fishing dancing knitting hiking sailing
    climbing singing skiing tennis football photography pottery astronomy baking surfing juggling archery"""
)

_ONSETS = spaced(
    "b bl br c ch cl cr d dr f fl fr g gl gr h j k kn l m n p pl pr qu r s sc sh sk sl sm sn sp st str sw t th tr "
    "tw v w wh y z"
)
_NUCLEI = spaced("a e i o u a e i o u ai ay ea ee ie oa oo ou oi au")
_CODAS = spaced("b ck d ft g l ld ll lt m mp n nd ng nk nt p r rd rk rm rn rt s sh sk ss st t th x ze ve te ne le ce")
_ENDINGS = ("", "", "", "er", "ing", "ly", "ed", "y", "en", "le", "ness", "tion", "ous", "al", "et", "ish", "ful")


_RUDE = re.compile(
    "turd|shit|fuck|cunt|dick|cock|tits?$|piss|slut|whor|cum|fag|nig|rape|arse|^ass|poo|sex|porn|wank|"
    "crap|nazi|kkk|damn|hell$"
)
"""Letters that chance must not put together."""


def made_up(draw: Draw, low: int = 3, high: int = 10) -> str:
    """A word that does not exist, of low to high letters, in this draw's split."""
    rng = draw.rng
    while True:
        parts = []
        for _ in range(rng.choice((1, 1, 2, 2, 2, 3))):
            parts.append(rng.choice(_ONSETS) if rng.random() < 0.85 else "")
            parts.append(rng.choice(_NUCLEI))
            parts.append(rng.choice(_CODAS) if rng.random() < 0.55 else "")
        word = "".join(parts) + rng.choice(_ENDINGS)
        if not low <= len(word) <= high or value_split("word", word) != draw.split:
            continue
        if word not in _HELD and not _RUDE.search(word):
            return word


def word(draw: Draw, low: int = 3, high: int = 11) -> str:
    """A word of this split: a real one half of the time, else a made-up one."""
    if draw.chance(0.5):
        return made_up(draw, low, min(high, 10))
    while True:
        real = draw.any(WORDS if draw.split == "train" else HELD_WORDS)
        if low <= len(real) <= high:
            return real


def name(draw: Draw) -> str:
    """A first name of this split; one in four is made up, so that copying has to work for any name."""
    return made_up(draw, 3, 7).capitalize() if draw.chance(0.25) else draw.value(NAMES)


def city(draw: Draw) -> str:
    """A city of this split; one in five is made up."""
    return made_up(draw, 4, 9).capitalize() if draw.chance(0.2) else draw.value(CITIES)


def novel(draw: Draw, pool: Sequence[str], share: float = 0.25) -> str:
    """A value of the pool; now and then any word at all, so that copying has to work for values never seen before."""
    return word(draw) if draw.chance(share) else draw.value(pool)


def a(noun: str) -> str:
    """The noun with its article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def listed(items: list[str], last: str = " and ") -> str:
    """Items as a sentence lists them: "a, b and c"."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + last + items[-1]
