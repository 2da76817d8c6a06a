"""Short stories and poems from a grammar: about what the user asked for, and different each time."""

from builder.demo.training.draw import Draw
from builder.demo.training.turns import Check, Turn
from builder.demo.training.wording import wordings
from builder.demo.training.words import ADJECTIVES, ANIMALS, NATURE, OBJECTS, a, name, novel

_PEOPLE = wordings(
    """king | queen | prince | princess | wizard | knight | captain | robot | giant | dragon | baker | sailor | farmer |
    teacher | pilot | painter | singer | witch | pirate | astronaut | child | gardener | ghost | fairy | musician |
    inventor | clown | soldier | doctor | shepherd"""
)
_TRAITS = (
    "little",
    "brave",
    "curious",
    "shy",
    "clever",
    "lonely",
    "cheerful",
    "sleepy",
    "proud",
    "gentle",
    "old",
    "young",
    "hungry",
    "quiet",
    "funny",
    "friendly",
    "forgetful",
    "patient",
)
_PLACES = wordings(
    """in a small village | at the edge of a dark forest | near the sea | in a tall tower | on a green hill |
    in a busy town | by a quiet lake | in a snowy land | on a far island | under an old bridge | in a warm valley |
    beside a river | in a house with a red roof | high in the mountains | in a garden full of roses"""
)
_WISHES = wordings(
    """wanted to see the world | dreamed of flying | wished for a friend | wanted to learn to sing |
    looked for a lost treasure | hoped to find the moon | wanted to bake the best cake | longed for a quiet place |
    wanted to know what lies behind the hills | hoped for an adventure | wished to be brave | wanted to build a boat |
    dreamed of a warm fire | wanted to hear a new song | searched for the end of the rainbow"""
)
_STARTS = wordings(
    """One morning | One day | One rainy evening | On a cold night | Early in spring | One bright day |
    After a long winter | On the first day of summer | Late one night | One windy afternoon"""
)
_EVENTS = wordings(
    """{he} found {thing} under a stone | {he} met {other} who had lost the way | a storm blew {him} far from home |
    {he} heard a strange song in the wind | {other} came to the door and asked for help | {he} fell into a deep hole |
    {he} saw a light between the trees | {he} discovered {thing} in the grass |
    {he} followed a path that nobody knew | {other} gave {him} {thing} |
    {he} opened a door that had always been locked | {he} got a letter without a name"""
)
_TROUBLES = wordings(
    """At first {he} was afraid | Nobody believed the story | The way was long and steep |
    It was harder than it had looked | Then it began to snow | Suddenly everything went dark | The bridge was broken |
    A river blocked the way | {He} did not know what to do | The night was cold | There was no map and no guide |
    {He} almost gave up"""
)
_HELPS = wordings(
    """but {other} showed {him} the way | but {he} did not turn back | so {he} sat down and thought |
    but a small bird sang and gave {him} hope | so {he} shared the last piece of bread with {other} |
    but {he} laughed and tried again | so {he} called for help, and {other} came | but {thing} began to shine |
    so {he} counted to ten and jumped | but the moon lit the path"""
)
_ENDINGS = wordings(
    """In the end {he} came home with a happy heart. | From that day on they were the best of friends. |
    And {he} never felt alone again. | Since then {he} tells the story to everyone who listens. |
    That night {he} slept better than ever before. | And if you listen closely, you can still hear {him} sing. |
    Then everyone danced until the sun came up. | And that is how {he} learned to be brave. |
    At last {he} understood that home is the best place. | The whole village cheered, and there was cake for all. |
    And {thing} still hangs above the door today."""
)
_LESSONS = (
    "A small step can be the start of a long journey.",
    "Kindness costs nothing.",
    "Those who share are never poor.",
    "Even the smallest can be brave.",
    "",
)

_ASK_STORY = wordings(
    """Tell me a story about {s}. | tell me a story about {s} | Write a short story about {s}. |
    Can you tell me a story about {s}? | A story about {s}, please. | I want to hear a story about {s}. |
    Make up a story about {s}. | Tell a story with {s} in it. | Write me a story about {s}. |
    Do you know a story about {s}? | story about {s} | Invent a story about {s}. |
    Please tell me about the adventures of {s}. | Give me a short story about {s}. |
    Could you write a story about {s}? | Let me hear a tale of {s}. | Tell me a bedtime story about {s}. |
    I'd like a tale about {s}. | Tell me a short story about {s}. | Tell me a little story about {s}. |
    Tell me a tale about {s}. | Tell me a tale of {s}. | Tell me something about {s} in a story. |
    Tell me another story about {s}. | Write a story about {s}. | Write a little story about {s}. |
    Write a tale about {s}. | Write me a short story about {s}. | Write a bedtime story about {s}. |
    Make up a short story about {s}. | Make up a tale about {s}. | Can you write a story about {s}? |
    Can you make up a story about {s}? | Can you tell a story about {s}? | Could you tell me a story about {s}? |
    Do you know a tale about {s}? | I want a story about {s}. | I would like a story about {s}. |
    I would like to hear a story about {s}. | I want to read a story about {s}. | Give me a story about {s}. |
    Give me a tale about {s}. | Let me hear a story about {s}. | Invent a short story about {s}. |
    Please tell me a story about {s}. | Please write a story about {s}. | A bedtime story about {s} |
    A short story about {s}, please. | A tale of {s}, please. | Story: {s} | Story with {s}"""
)
_ASK_ANY_STORY = wordings(
    """Tell me a story. | tell me a story | Can you tell me a story? | Write a short story. | I want to hear a story. |
    Do you know a story? | Another story, please. | Tell me another story. | A story please! | Make up a story. |
    Read me a story. | Tell me a bedtime story. | story time | Give me a little story. | Write me a story. |
    Write a story. | Tell a story. | Tell me a short story. | Tell me a little story. | Can you write a story? |
    Can you tell a story? | Could you tell me a story? | I want a story. | I would like a story. |
    I would like to hear a story. | Please tell me a story. | Make up a short story. | Give me a story. |
    A bedtime story please! | A short story please! | Another story! | Do you know another story? |
    One more story, please."""
)
_ASK_POEM = wordings(
    """Write a poem about {s}. | Write a short poem about {s}. | Can you write a poem about {s}? |
    A poem about {s}, please. | poem about {s} | Make a poem about {s}. | I want a poem about {s}. |
    Write me a poem about {s} | Write some verses about {s}. | Do you know a poem about {s}? |
    Compose a poem about {s}. | Let me read a poem about {s}. | Give me a poem on {s}. |
    Please write a rhyme about {s}. | Could you make up a poem about {s}? | Tell me a rhyme about {s}. |
    Invent a poem about {s}. | Some rhyming lines on {s}? | Write a little poem about {s}. |
    Write a rhyme about {s}. | Write a poem on {s}. | Write me a short poem about {s}. |
    Write me some verses about {s}. | Write a few lines about {s}. | Write some lines about {s}. |
    Make up a poem about {s}. | Make a rhyme about {s}. | Make up some verses about {s}. | Tell me a poem about {s}. |
    Tell me a short poem about {s}. | Give me a poem about {s}. | Give me a short poem on {s}. |
    Give me a rhyme about {s}. | Can you make a poem about {s}? | Can you write some verses about {s}? |
    Can you rhyme about {s}? | Could you write a poem about {s}? | Do you know a rhyme about {s}? |
    I want to read a poem about {s}. | I would like a poem about {s}. | I would like to hear a poem about {s}. |
    I want to hear a poem about {s}. | Please write a poem about {s}. | A rhyme about {s}, please. |
    A short poem about {s} | Some verses about {s}, please. | Invent a rhyme about {s}. |
    Compose a short poem about {s}. | Compose some verses on {s}. | Let me hear a poem about {s}. |
    Rhyme something about {s}."""
)

_RHYMES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        (
            "It wanders softly through the night",
            "It fills the quiet room with light",
            "It is a small and lovely sight",
            "It makes the darkest hour bright",
        ),
        (
            "and everything will be all right",
            "and keeps the dream of morning tight",
            "and sets the tired heart alight",
            "and takes the swallows on their flight",
        ),
    ),
    (
        (
            "I see it every single day",
            "It shows the wanderer the way",
            "It loves to sing, it loves to play",
            "It whispers what it has to say",
        ),
        (
            "and gently takes my cares away",
            "and colours what was cold and grey",
            "and asks the summer wind to stay",
            "and dances in the month of May",
        ),
    ),
    (
        (
            "The morning comes, the sky is blue",
            "I tell this little song to you",
            "The world is old, the world is new",
            "It shines just like the morning dew",
        ),
        (
            "and every word of it is true",
            "and all the birds are singing too",
            "and makes me feel as if I flew",
            "and hopes that you will hear it too",
        ),
    ),
    (
        (
            "The wind is high, the moon is low",
            "It knows the things I do not know",
            "It waits where only rivers flow",
            "It sparkles in the fallen snow",
        ),
        (
            "and watches how the flowers grow",
            "and smiles wherever I may go",
            "and gives the silent field a glow",
            "and hums a tune both soft and slow",
        ),
    ),
    (
        (
            "The stars look down upon the sea",
            "It sits beneath the apple tree",
            "It is as happy as can be",
            "It came from far to visit me",
        ),
        (
            "and sings a quiet melody",
            "and shares its bread with you and me",
            "and feels how good it is, and free",
            "and has its tea at half past three",
        ),
    ),
    (
        (
            "The autumn leaves begin to fall",
            "It hears the early blackbird call",
            "It is not big, it is not tall",
            "The sun has climbed the garden wall",
        ),
        (
            "and yet it is the best of all",
            "and finds a home in field and hall",
            "and rolls along just like a ball",
            "and has a smile for one and all",
        ),
    ),
)
_FIRST_LINES = (
    "Oh {s}, how I think of you,",
    "This is a song for {s},",
    "Come and listen, here is {s},",
    "There is a time for {s},",
    "My thoughts today are with {s},",
    "Let me tell you of {s},",
)


def stories(draw: Draw) -> Turn:
    """A story about a subject of this split, or about anything."""
    noun = novel(draw, draw.any((ANIMALS, ANIMALS, _PEOPLE, _PEOPLE, OBJECTS, NATURE)), 0.2)
    hero = name(draw) if draw.chance(0.3) else ""
    trait = draw.value(_TRAITS) if draw.chance(0.35) else ""
    told = _story(draw, noun, hero, trait)
    if draw.chance(0.15):
        return Turn(draw.phrase(_ASK_ANY_STORY), told, Check(form="story"))
    subject = a(f"{trait} {noun}".strip())
    if hero:
        subject += draw.any((" called ", " named ")) + hero
    return Turn(
        draw.phrase(_ASK_STORY, s=subject), told, Check(contains=(hero, noun) if hero else (noun,), form="story")
    )


def poems(draw: Draw) -> Turn:
    """A poem about a subject of this split."""
    kind = draw.rng.randrange(3)
    if kind == 0:
        subject = "the " + novel(draw, NATURE)
    elif kind == 1:
        subject = a(novel(draw, ANIMALS))
    else:
        subject = a(f"{draw.value(ADJECTIVES)} {novel(draw, OBJECTS)}") if draw.chance(0.5) else novel(draw, NATURE)
    noun = subject.split()[-1]
    pairs = draw.rng.sample(_RHYMES, 2)
    lines: list[str] = []
    for first, second in pairs:
        lines += [draw.any(first) + ",", draw.any(second) + "."]
    shown = subject if subject.split()[0] in ("the", "a", "an") else f"the {subject}"
    lines.insert(0, draw.fill(draw.any(_FIRST_LINES), s=shown))
    lines[1] = lines[1][0].lower() + lines[1][1:]
    text = "\n".join(line[0].upper() + line[1:] for line in lines)
    return Turn(draw.phrase(_ASK_POEM, s=subject), text, Check(contains=(noun,), form="poem"))


def _story(draw: Draw, noun: str, hero: str, trait: str) -> str:
    he, him = draw.any((("he", "him"), ("she", "her")))
    trait = trait or draw.any(_TRAITS)
    slots = {
        "he": he,
        "him": him,
        "He": he.capitalize(),
        "thing": a(f"{draw.any(ADJECTIVES)} {draw.any(OBJECTS)}"),
        "other": a(f"{draw.any(_TRAITS)} {draw.any(ANIMALS)}"),
    }
    who = hero or f"the {noun}"
    opening = draw.any(
        (
            "Once upon a time there was {x} who lived {p}.",
            "{X} lived {p}.",
            "Long ago, {p}, there lived {x}.",
            "There once was {x} who lived {p}.",
        )
    )
    intro = a(f"{trait} {noun}") + (f" named {hero}" if hero else "")
    text = [draw.fill(opening, x=intro, X=intro[0].upper() + intro[1:], p=draw.any(_PLACES))]
    text.append(f"{who[0].upper() + who[1:]} {draw.any(_WISHES)}.")
    text.append(f"{draw.any(_STARTS)} {draw.fill(draw.any(_EVENTS), **slots)}.")
    if draw.chance(0.4):
        text.append(f"{draw.fill(draw.any(_TROUBLES), **slots)}.")
        text.append(f"Then {draw.fill(draw.any(_EVENTS[6:]), **slots)}.")
    else:
        text.append(f"{draw.fill(draw.any(_TROUBLES), **slots)}, {draw.fill(draw.any(_HELPS), **slots)}.")
    text.append(draw.fill(draw.any(_ENDINGS), **slots))
    lesson = draw.any(_LESSONS)
    if lesson and draw.chance(0.3):
        text.append(lesson)
    return " ".join(text)
