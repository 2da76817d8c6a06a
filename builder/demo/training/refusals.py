"""Questions outside what the model knows: it says so plainly instead of inventing."""

from builder.demo.training.arithmetic import too_hard
from builder.demo.training.draw import Draw
from builder.demo.training.facts import unknown
from builder.demo.training.turns import Check, Turn
from builder.demo.training.wording import Pool, cross, wordings
from builder.demo.training.words import ADJECTIVES, ANIMALS, FOODS, OBJECTS, OTHERS, city, name, word

_NO_TOOLS: Pool = wordings(
    """What is the weather today? | What's the weather in {c}? | What time is it? | What day is it today? |
    What is the date today? | What is today's date? | What is the current year? | What year is it? |
    What is the news? | What happened today? | Open a web page. | Set an alarm for {n}. |
    Set a timer for {n} minutes. | Turn on the light. | Turn off the light. | Turn on the radio. | Play some music. |
    Play a song. | Is it cold in {c} today? | Is it warm outside? | How warm is it outside? | How late is it? |
    How late is it in {c}? | Draw a picture. | Draw a {o}. | Draw me a {o}. | Show me a picture of {f}. |
    Show me a photo of a {a}. | Make a picture of a {a}. | Give me the weather forecast. | Show me the way to {c}. |
    How far is it to {c}? | How do I get to {c}?"""
)  # fmt: skip
_NO_TOOLS += (
    cross("What is the weather|What is the weather like|How is the weather|Will it rain|Will it snow|Is it raining|"
    "Is it sunny|What is the temperature", "?| today?| tomorrow?| now?| in {c}?| in {c} today?| in {c} tomorrow?")
    + cross("What time is it|What is the time|What day is it|What is the date",
    " now?| in {c}?| today?| right now?| there?")
    + cross("Who won|Who is winning|Who lost",
    " the game?| the game yesterday?| the match?| last night?| yesterday?| the cup?| the race?| the world cup?|"
    " the election?| the football game in {c}?")
    + cross("What is the price of |How much does |What does |How much is ",
    "{f} cost?|a {o} cost?|gold cost today?|a house in {c} cost?|a ticket to {c} cost?|bread cost now?")
    + cross("Search the web for |Search the internet for |Look up |Google |Find news about |Find a shop for |"
    "Search online for |Find information about ", "{f}.|{p}.|{c}.|a {o}.|a {j} {o}.|a {a}.")
    + cross("Book |Find |Reserve ",
    "a flight to {c}.|a hotel in {c}.|a table in {c}.|a train to {c}.|a room in {c}.|a restaurant in {c}.|"
    "a ticket for {c}.")
    + cross("Send |Write and send ",
    "an email to {p}.|a message to {p}.|a letter to {p}.|a text to {p}.|a mail to my boss.|"
    "a message to my friend.")
    + cross("Call |Phone ", "{p}.|my mother.|my friend {p}.|a doctor.|a taxi.|the police.")
    + cross("Order |Buy ", "{f} for me.|a pizza.|some {f}.|a {o} online.|a new {o} for me.|a {o}.")
    + cross("What is new in |What happened in |Any news from |What is going on in ",
    "{c}?|the world?|{c} today?|{c} yesterday?|football?|the news?")
    + cross("Open |Download |Delete |Read |Save |Print ",
    "a file.|the file {w}.|my files.|my mail.|my calendar.|a document for me.|the document {w}.")
)  # fmt: skip

_UNKNOWN: Pool = wordings(
    """Who was the first king of France? | Who was the first king of {c}? | What is the meaning of life? |
    Is there a god? | Why is the sky blue? | Am I ill? | Explain quantum physics. | Should I buy shares? |
    What is the theory of relativity? | Who is the pope? | Who wrote Hamlet? | When did the second world war end? |
    When did the first world war start? | Who painted the Mona Lisa? | Tell me about the war. |
    How many stars are there? | How many people are there? | How many people live in the world? | What is love? |
    What is time? | What is happiness? | Do aliens exist? | Is there life after death? | Should I marry {p}? |
    Which came first, the {a} or the egg? | What is the best {o}?"""
)  # fmt: skip
_UNKNOWN += (
    cross("Who is |Who was |Tell me who |Do you know ",
    "{p} Miller?|{p} Smith?|the president of {c}?|the king of {c}?|the mayor of {c}?|the richest person?|"
    "the best singer?|the best player?|the first president?|the queen of {c}?|the boss of {w}?|{p} the great?|"
    "Albert {p}?|the author of {w}?")
    + cross("Who invented |Who discovered |Who made |Who built |Who wrote |Who painted |Who sang ",
    "the {o}?|the {j} {o}?|the telephone?|America?|{w}?|this song?|the book {w}?|the tower in {c}?|"
    "the bridge in {c}?|the first {o}?")
    + cross("When was |When did |In which year was |In which year did ",
    "{c} founded?|{p} born?|{p} die?|the {o} invented?|the war in {c} end?|{p} become king?|"
    "the {o} of {c} built?|the war start?|{p} win?")
    + cross("How tall is |How old is |How big is |How heavy is |How deep is |How fast is |How long is |How far is |"
    "How high is |How hot is ",
    "the {o}?|a {a}?|the ocean?|the tower of {c}?|{c}?|the universe?|the moon?|the highest mountain?|"
    "the river in {c}?|a {j} {o}?|the sun?")
    + cross("How do I |How can I |How do you |What is the best way to ",
    "cook {f}?|bake {f}?|fix my {o}?|repair a {o}?|build a {o}?|clean a {o}?|learn French?|get rich?|"
    "invest money?|lose weight?|catch a {a}?|train a {a}?|grow {f}?|become a {t}?|find a job?|paint a {o}?|"
    "make {f}?")
    + cross("Give me a recipe |I need a recipe |Do you have a recipe |Write a recipe ",
    "with {f}.|for {f}.|for {f} and {g}.|for a cake.|for dinner.|for {f} soup.")
    + cross("Translate |Say |How do you say |What is ",
    "{w} in French.|{w} in German.|{w} in Spanish.|good morning in Italian.|thank you in French.|"
    "hello in Japanese.|{w} in Chinese.|the word {w} in Latin.")
    + cross("What is |Explain |Tell me about |Describe |What do you know about |Write an essay about |"
    "Write an article about |Give me a summary of |Summarise ",
    "democracy.|photosynthesis.|the history of {c}.|the life of {p}.|evolution.|black holes.|the economy.|"
    "the stock market.|the law in {c}.|the book {w}.|philosophy.|the middle ages.|climate change.|psychology.|"
    "a volcano.|inflation.|the internet.|religion.|football.|the city of {c}.|the film {w}.")
    + cross("Who will win |Which party should I vote for in |What do you think of |What is your opinion on ",
    "the election?|{c}?|politics?|the war?|the president?|the government?|the game?")
    + cross("What should I |What can I |Which medicine should I ",
    "take for a cold?|take against a headache?|do against pain?|wear today?|cook today?|eat today?|read next?|"
    "watch tonight?|study?|buy for {p}?|give {p} for a birthday?")
    + cross("What is the best |Which is the best |What is the longest |What is the biggest |What is the fastest |"
    "What is the most expensive |What is the highest |What is the smallest |What is the oldest ",
    "phone?|car?|film?|river?|mountain?|{a}?|city?|country?|{o} in the world?|{a} in the world?|book?|"
    "city in the world?|lake?|building?")
    + cross("Why is |Why are |Why do |Why does |Why did ",
    "{c} so big?|the sea salty?|{f} healthy?|people sad?|we sleep?|people dream?|the moon round?|a {a} sleep?|"
    "a {o} break?|{p} leave?|the war start?|leaves fall?|birds sing?|the sun hot?|fire hot?")
    + cross("How does |How do ",
    "a car engine work?|a {o} work?|vaccines work?|planes fly?|a computer work?|the internet work?|a {a} see?|"
    "a {o} fly?|magnets work?|the heart work?|a clock work?|electricity work?")
    + cross("How many people live in |What is the population of |How big is the city of |What is the currency of |"
    "Who is the president of |Who rules ", "{c}?|the city of {c}?|the town {c}?|{c} today?")
    + cross("Is |Are |Can |Does ", "a {a} dangerous?|{f} healthy?|{c} beautiful?|{p} famous?|a {a} fly?|a {a} swim?|"
    "{f} and {g} good together?|{c} bigger than {d}?|a {o} expensive?|there life on Mars?|God real?|"
    "a {a} eat {f}?")
)  # fmt: skip
_CANNOT = (
    "I cannot do that: I have no internet, no clock and no tools.",
    "I cannot know that: I have no internet, no clock and no tools.",
)
_NOT_KNOWN = (
    "I do not know that. I am a tiny model and know only simple things.",
    "That is outside what I know. I am a tiny model.",
)
_DECLINED = Check(any_of=("I cannot", "I do not know", "outside what I know", "beyond me", "can't do that"))


def refusals(draw: Draw) -> Turn:
    """One question that the model should decline."""
    kind = draw.rng.random()
    if kind < 0.12:
        return unknown(draw)
    if kind < 0.25:
        return too_hard(draw)
    pool, replies = (_NO_TOOLS, _CANNOT) if kind < 0.5 else (_UNKNOWN, _NOT_KNOWN)
    return Turn(draw.phrase(pool, **_slots(draw)), draw.any(replies), _DECLINED)


def _slots(draw: Draw) -> dict[str, object]:
    thing = draw.any(OTHERS) if draw.chance(0.3) else draw.any(OBJECTS)
    return {
        "c": city(draw), "d": city(draw), "p": name(draw), "f": draw.any(FOODS), "g": draw.any(FOODS), "o": thing,
        "a": draw.any(ANIMALS),
        "j": draw.any(ADJECTIVES), "w": word(draw), "n": draw.number(1, 60), "t": draw.any(("doctor", "pilot",
        "singer", "king", "star", "teacher", "millionaire")),
    }  # fmt: skip
