"""System prompts and the way each one changes an answer."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from builder.demo.draw import Draw
from builder.demo.turns import Check, Turn, fact
from builder.demo.words import city, name, word


@dataclass(frozen=True)
class Style:
    """A system prompt, what it does to a turn, and the questions that it answers by itself."""

    kind: str
    system: str
    restyle: Callable[[Turn], Turn]
    needs_short: bool = False
    own: tuple[Turn, ...] = ()


_CAPITALS = ("Answer in capitals.", "Write everything in capital letters.", "Always answer in upper case.", "You shout: use only capital letters.", "Use capital letters only.", "Reply in all caps.", "You must answer in ALL CAPS.",
             "Please write all your answers in upper case.", "Only use upper case letters.", "ANSWER IN CAPITALS", "Respond in capital letters.", "Speak in capitals.", "All answers must be in upper case.", "Your answers are always in capital letters.")
_LOWER = ("Answer in lower case.", "Write everything in small letters.", "Always answer in lower case.", "Never use capital letters.", "Use only small letters.", "Reply in lower case only.", "Do not use capital letters.",
          "No capitals in your answers.", "Respond in lower case letters.", "Lower case only.", "Your answers are always in lower case.", "Write without capital letters.")
_ONE_WORD = ("Answer in one word.", "Answer with one word only.", "Use one single word.", "Reply with a single word.", "Only one word per answer.", "Give one-word answers.", "Always answer in exactly one word.", "One word answers only.",
             "You answer every question in one word.", "Your answers are one word long.", "Respond with just one word.", "Be as short as possible: one word.", "Keep each answer to one word.", "Never say more than one word.")
_JSON = ("Answer in JSON.", "Answer in JSON with the key answer.", "Reply with JSON only.", "Always answer as JSON.", "Your output must be JSON.", "Respond in JSON format.", "Give your answers as a JSON object.", "Use JSON for every answer.",
         "Write answers as JSON with one key, answer.", "Only output JSON.", "You are a program that answers in JSON.", "All replies must be valid JSON.", "Return JSON.", "Format each answer as JSON.")
_PIRATE = ("You are a pirate.", "Talk like a pirate.", "Answer like a pirate.", "You speak like a pirate.", "Answer as a pirate.", "You are a pirate captain.", "Pretend to be a pirate.", "Speak like an old pirate.", "Be a pirate.", "Reply in the voice of a pirate.",
           "You are an old pirate on a ship.", "Act as a pirate.", "Play the role of a pirate.", "Sound like a pirate in every answer.")
_POLITE = ("You are a butler.", "Talk like a butler.", "Answer like a very polite butler.", "Act as a butler.", "You are a polite English butler.", "Pretend to be a butler.", "Be a butler.", "You speak like a butler.")
_ENDING = ("End every answer with the word {w}.", "Always end with the word {w}.", "Finish each answer with {w}.", "Your last word is always {w}.", "The last word of each answer must be {w}.", "Put the word {w} at the end of every answer.",
           "Close every reply with {w}.", "After each answer, add the word {w}.")
_STARTING = ("Start every answer with the word {w}.", "Always begin with the word {w}.", "Begin each answer with {w}.", "Your first word is always {w}.", "The first word of each answer must be {w}.", "Put the word {w} at the start of every answer.",
             "Open every reply with {w}.", "Before each answer, say the word {w}.")
_ADDRESS = ("Call the user {w}.", "Address the user as {w}.", "Always call me {w}.", "Say {w} to the user.", "Speak to the user as {w}.", "In every answer, call the user {w}.", "The user wants to be called {w}.", "Use the name {w} for the user in each answer.")
_TITLES = ("Captain", "Boss", "Sir", "Madam", "Chief", "Professor", "Doctor", "Master", "Commander", "Friend", "Your Majesty", "Admiral")
_PERSONA = ("Your name is {v}.", "You are {v}.", "You are an assistant called {v}.", "You are a helpful assistant named {v}.", "From now on you are called {v}.", "You go by the name of {v}.", "You are {v}, a friendly helper.", "Your name is {v}, remember that.",
            "The assistant's name is {v}.", "Act as {v}, a helpful assistant.", "Be {v}.", "They call you {v}.")
_ABOUT_USER = ("The user's name is {v}. The user lives in {c}.", "You are talking to {v} from {c}.", "The user is called {v} and lives in {c}.", "You are helping {v}, who lives in {c}.", "User: {v}. City: {c}.", "You talk with {v}, who comes from {c}.",
               "The user is {v} from {c}.", "{v} lives in {c} and is your user.")
_PLAIN = ("You are a helpful assistant.", "You are a friendly assistant.", "Be helpful.", "You are a helpful and honest assistant.", "Answer the questions of the user.", "You are the demo model of oga-chat.", "Help the user.", "You are a kind assistant.",
          "You are an AI assistant.", "Answer briefly.", "Be friendly and clear.", "You are a chat assistant.", "Please help the user as well as you can.", "You are a useful helper.", "Be polite.", "You answer questions.", "Keep your answers short.", "Assist the user with all questions.")
_PIRATE_OPEN = ("Arr! ", "Ahoy! ", "Yo ho ho! ")
_PIRATE_CLOSE = (" Aye, matey!", " So it be, matey!", " Shiver me timbers, matey!")


def style(draw: Draw) -> Style:
    """One system prompt that changes the answers, in a wording of this split."""
    makers = (_capitals, _lower, _one_word, _json_style, _pirate, _butler, _ending, _starting, _address, _persona, _about_user)
    return draw.rng.choices(makers, weights=(4, 2, 4, 4, 4, 1, 2, 2, 2, 3, 2))[0](draw)


def plain_system(draw: Draw) -> str:
    """A system prompt that changes nothing."""
    return draw.value(_PLAIN)


def inline(draw: Draw, turn: Turn) -> Turn:
    """The instruction inside the question: "In one word: ..."; only for turns with a one-word answer."""
    kind = draw.rng.randrange(3)
    if kind == 0:
        pool = ("In one word: ", "One word only: ", "Answer in one word: ", "With a single word: ", "Just one word please: ", "Use one word. ", "A one-word answer: ")
        return replace(_shortened(turn), user=draw.value(pool) + turn.user)
    if kind == 1:
        pool = ("In capitals: ", "Answer in capitals: ", "In upper case: ", "In all caps: ", "Shout the answer: ", "Use capital letters. ", "In capital letters: ")
        return replace(_upper(turn), user=draw.value(pool) + turn.user)
    pool = ("In JSON: ", "Answer in JSON: ", "As JSON: ", "Reply in JSON. ", "Give me JSON: ", "JSON please: ", "JSON answer only: ")
    return replace(_as_json(turn), user=draw.value(pool) + turn.user)


def _system(draw: Draw, pool: tuple[str, ...], **slots: object) -> str:
    text = draw.fill(draw.value(pool), **slots)
    if draw.chance(0.2):
        text = f"You are a helpful assistant. {text}"
    return text


def _upper(turn: Turn) -> Turn:
    return replace(turn, reply=turn.reply.upper(), check=replace(turn.check, form="capitals", exact_case=False))


def _shortened(turn: Turn) -> Turn:
    return replace(turn, reply=turn.short, check=Check(contains=(turn.short,), form="one word"))


def _as_json(turn: Turn) -> Turn:
    return replace(turn, reply=json.dumps({"answer": turn.short}, ensure_ascii=False), check=Check(contains=(turn.short,), form="json"))


def _capitals(draw: Draw) -> Style:
    return Style("capitals", _system(draw, _CAPITALS), _upper)


def _lower(draw: Draw) -> Style:
    def restyle(turn: Turn) -> Turn:
        return replace(turn, reply=turn.reply.lower(), check=replace(turn.check, form="lower case", exact_case=False))

    return Style("lower case", _system(draw, _LOWER), restyle)


def _one_word(draw: Draw) -> Style:
    return Style("one word", _system(draw, _ONE_WORD), _shortened, needs_short=True)


def _json_style(draw: Draw) -> Style:
    return Style("json", _system(draw, _JSON), _as_json, needs_short=True)


def _pirate(draw: Draw) -> Style:
    def restyle(turn: Turn) -> Turn:
        reply = draw.any(_PIRATE_OPEN) + turn.reply + draw.any(_PIRATE_CLOSE)
        return replace(turn, reply=reply, check=replace(turn.check, starts="", contains=(*turn.check.contains, "matey")))

    return Style("pirate", _system(draw, _PIRATE), restyle)


def _butler(draw: Draw) -> Style:
    def restyle(turn: Turn) -> Turn:
        return replace(turn, reply="Very well, sir. " + turn.reply, check=replace(turn.check, starts="very"))

    return Style("butler", _system(draw, _POLITE), restyle)


def _ending(draw: Draw) -> Style:
    last = word(draw, 3, 8)

    def restyle(turn: Turn) -> Turn:
        return replace(turn, reply=f"{turn.reply} {last.capitalize()}.", check=replace(turn.check, ends=last))

    return Style("ending", _system(draw, _ENDING, w=last), restyle)


def _starting(draw: Draw) -> Style:
    first = word(draw, 3, 8)

    def restyle(turn: Turn) -> Turn:
        return replace(turn, reply=f"{first.capitalize()}! {turn.reply}", check=replace(turn.check, starts=first))

    return Style("starting", _system(draw, _STARTING, w=first), restyle)


def _address(draw: Draw) -> Style:
    title = draw.value(_TITLES)

    def restyle(turn: Turn) -> Turn:
        return replace(turn, reply=f"{title}! {turn.reply}", check=replace(turn.check, starts=title.split()[0]))

    return Style("address", _system(draw, _ADDRESS, w=title), restyle)


def _persona(draw: Draw) -> Style:
    own_name = name(draw)
    pool = ("What is your name?", "Who are you?", "What's your name?", "Tell me your name.", "How are you called?", "What are you called?", "What should I call you?", "Do you have a name?", "whats your name", "And your name?", "Introduce yourself.", "May I ask your name?")
    asked = tuple(fact(draw.phrase(pool), f"My name is {own_name}.", own_name) for _ in range(2))
    return Style("persona", _system(draw, _PERSONA, v=own_name), lambda turn: turn, own=asked)


def _about_user(draw: Draw) -> Style:
    user, home = name(draw), city(draw)
    names = ("What is my name?", "Who am I?", "Do you know my name?", "What's my name?", "Tell me my name.", "Can you tell me who I am?")
    homes = ("Where do I live?", "Which city do I live in?", "Where am I from?", "Do you know where I live?", "What is my city?", "Do you know my city?")
    own = (fact(draw.phrase(names), f"Your name is {user}.", user), fact(draw.phrase(homes), f"You live in {home}.", home))
    return Style("about user", _system(draw, _ABOUT_USER, v=user, c=home), lambda turn: turn, own=own)
