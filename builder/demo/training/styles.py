"""System prompts and the way each one changes an answer."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from builder.demo.training.draw import Draw
from builder.demo.training.memory_kinds import CITY, NAME
from builder.demo.training.product_topics import QUESTIONS
from builder.demo.training.turns import Check, Turn, fact
from builder.demo.training.wording import Pool, beyond, cross, wordings
from builder.demo.training.words import city, name, word


@dataclass(frozen=True)
class Style:
    """A system prompt, what it does to a turn, and the questions that it answers by itself."""

    kind: str
    system: str
    restyle: Callable[[Turn], Turn]
    needs_short: bool = False
    own: tuple[Turn, ...] = ()


_WHO_ARE_YOU = QUESTIONS[0].asked
_CAPITALS = wordings(
    """Answer in capitals. | Write everything in capital letters. | Always answer in upper case. |
    You shout: use only capital letters. | Use capital letters only. | Reply in all caps. |
    You must answer in ALL CAPS. | Please write all your answers in upper case. | Only use upper case letters. |
    ANSWER IN CAPITALS | Respond in capital letters. | Speak in capitals. | Use capitals. |
    Answer in capital letters. | Always use capital letters. | Always write in capitals. | Write in upper case. |
    Reply in upper case. | Please answer in capital letters. | Please reply in capitals only. |
    Every answer must be in capital letters. | Write your answers in capitals. |
    Everything you write is in capital letters. | You only speak in capital letters. | All letters must be capitals. |
    Always reply in all caps. | Use all caps. | Shout every answer in capital letters. |
    All answers must be in upper case. | Your answers are always in capital letters."""
)
_LOWER = wordings(
    """Answer in lower case. | Write everything in small letters. | Always answer in lower case. |
    Never use capital letters. | Use only small letters. | Reply in lower case only. | Do not use capital letters. |
    No capitals in your answers. | Respond in lower case letters. | Lower case only. | Use small letters. |
    Use lower case. | Write in lower case. | Always use small letters. | Please answer in lower case. |
    Answer in small letters. | Write in small letters only. | Never write capital letters. | Do not write capitals. |
    Every answer must be in lower case. | Reply in small letters. | All letters must be small. |
    Always write everything in lower case. | Use small letters. | Use lower case. | Write in lower case. |
    Always use small letters. | Please answer in lower case. | Answer in small letters. |
    Write in small letters only. | Never write capital letters. | Do not write capitals. |
    Every answer must be in lower case. | Reply in small letters. | All letters must be small. |
    Always write everything in lower case. | Your answers are always in lower case. | Write without capital letters."""
)
_ONE_WORD = wordings(
    """Answer in one word. | Answer with one word only. | Use one single word. | Reply with a single word. |
    Only one word per answer. | Give one-word answers. | Always answer in exactly one word. | One word answers only. |
    You answer every question in one word. | Your answers are one word long. | Respond with just one word. |
    Be as short as possible: one word. | Always reply with one word. | Use one word. | Use only one word. |
    Reply with one word. | One word only. | Please answer with a single word. | Please reply in one word. |
    Each answer must be one single word. | You only say one word. | Your reply must be one word. |
    Give one word as the answer. | Every answer is one word. | Answer briefly, in one word. | Respond in one word. |
    Always reply with one word. | Use one word. | Use only one word. | Reply with one word. | One word only. |
    Please answer with a single word. | Please reply in one word. | Each answer must be one single word. |
    You only say one word. | Your reply must be one word. | Give one word as the answer. | Every answer is one word. |
    Answer briefly, in one word. | Respond in one word. | Keep each answer to one word. |
    Never say more than one word."""
)
_JSON = wordings(
    """Answer in JSON. | Answer in JSON with the key answer. | Reply with JSON only. | Always answer as JSON. |
    Your output must be JSON. | Respond in JSON format. | Give your answers as a JSON object. |
    Use JSON for every answer. | Write answers as JSON with one key, answer. | Only output JSON. |
    Please answer in JSON. | Please reply with JSON. | Always reply in JSON. | Use JSON. | Use the JSON format. |
    Write every answer as JSON. | Write JSON only. | Every answer must be JSON. | You always answer in JSON. |
    Your answers are JSON objects. | Answer with a JSON object. | Give me JSON only. |
    Output valid JSON with the key answer. | Reply in JSON format with one key. | Please answer in JSON. |
    Please reply with JSON. | Always reply in JSON. | Use JSON. | Use the JSON format. | Write every answer as JSON. |
    Write JSON only. | Every answer must be JSON. | You always answer in JSON. | Your answers are JSON objects. |
    Answer with a JSON object. | Give me JSON only. | Output valid JSON with the key answer. |
    Reply in JSON format with one key. | You are a program that answers in JSON. | All replies must be valid JSON. |
    Return JSON. | Format each answer as JSON."""
)
_PIRATE = wordings(
    """You are a pirate. | Talk like a pirate. | Answer like a pirate. | You speak like a pirate. |
    Answer as a pirate. | You are a pirate captain. | Pretend to be a pirate. | Speak like an old pirate. |
    Be a pirate. | Reply in the voice of a pirate. | You are an old pirate on a ship. | Act as a pirate. |
    Please talk like a pirate. | Please answer like a pirate. | Always talk like a pirate. |
    You talk like a pirate. | You are a pirate and answer like one. | Answer every question like a pirate. |
    Pretend you are a pirate. | Reply like a pirate. | Act like a pirate captain. | Speak as a pirate. |
    Be an old pirate. | Answer in the voice of a pirate. | Talk like an old pirate captain. |
    You are a pirate on the sea. | Play the role of a pirate. | Sound like a pirate in every answer."""
)
_POLITE = wordings(
    """You are a butler. | Talk like a butler. | Answer like a very polite butler. | Act as a butler. |
    You are a polite English butler. | Pretend to be a butler. | Be a butler. | You speak like a butler. |
    Answer like a butler. | Talk like a polite butler. | Speak like a butler. | Be a polite butler. |
    Answer as a polite butler. | Act like a butler. | Play the role of a butler. | You are a very polite butler. |
    Pretend you are a butler."""
)
_ENDING = wordings(
    """End every answer with the word {w}. | Always end with the word {w}. | Finish each answer with {w}. |
    Your last word is always {w}. | The last word of each answer must be {w}. |
    Put the word {w} at the end of every answer. | Close every reply with {w}. |
    After each answer, add the word {w}. | Every answer must end with {w}. | End each reply with the word {w}. |
    Finish every reply with the word {w}. | The last word of every reply is {w}. |
    Say {w} at the end of each answer. | Put {w} at the end of every reply. | Every reply ends with the word {w}. |
    Your answers must end with {w}. | All answers end with the word {w}. | Answer, then say {w}. |
    Add {w} to the end of each answer. | Add the word {w} after every reply."""
)
_STARTING = wordings(
    """Start every answer with the word {w}. | Always begin with the word {w}. | Begin each answer with {w}. |
    Your first word is always {w}. | The first word of each answer must be {w}. |
    Put the word {w} at the start of every answer. | Open every reply with {w}. |
    Before each answer, say the word {w}. | Every answer must start with {w}. | Always start with {w}. |
    Start each reply with the word {w}. | Begin every reply with the word {w}. |
    The first word of every reply is {w}. | Say {w} at the start of each answer. |
    Put {w} at the start of every reply. | Every reply begins with the word {w}. | Your answers must begin with {w}. |
    All answers start with the word {w}. | Start with {w}, then answer. | Say {w} first, then answer."""
)
_ADDRESS = wordings(
    """Call the user {w}. | Address the user as {w}. | Always call me {w}. | Say {w} to the user. |
    Speak to the user as {w}. | In every answer, call the user {w}. | The user wants to be called {w}. |
    Use the name {w} for the user in each answer. | You call the user {w}. | Call me {w} in every answer. |
    In each answer, address the user as {w}. | Always address me as {w}. | Address me as {w}. |
    Call the user {w} in each answer. | The user is {w}: say so in every answer. |
    I am {w}. Call me that in every answer. | I want to be called {w}."""
)
_TITLES = wordings(
    """Captain | Boss | Sir | Madam | Chief | Professor | Doctor | Master | Commander | Friend | Your Majesty |
    Admiral | Lady | Mister | Colonel | Judge | Mayor | Queen | King | Coach | Hero | Pal | Buddy | Teacher"""
)
_PERSONA = wordings(
    """Your name is {v}. | You are {v}. | You are an assistant called {v}. | You are a helpful assistant named {v}. |
    From now on you are called {v}. | You go by the name of {v}. | You are {v}, a friendly helper. |
    Your name is {v}, remember that. | The assistant's name is {v}. | Act as {v}, a helpful assistant. | Be {v}. |
    They call you {v}. | You are called {v}. | I call you {v}. | Your name is {v} and you are helpful. |
    You are {v}, a helpful assistant. | You are the assistant {v}. | You are a friendly helper called {v}. |
    You have the name {v}. | Please act as {v}. | You are now {v}. | From now on your name is {v}. |
    You are an assistant and your name is {v}. | The name of the assistant is {v}. | Act as an assistant called {v}."""
)
_ABOUT_USER = wordings(
    """The user's name is {v}. The user lives in {c}. | You are talking to {v} from {c}. |
    The user is called {v} and lives in {c}. | You are helping {v}, who lives in {c}. | User: {v}. City: {c}. |
    You talk with {v}, who comes from {c}. | The user is {v} from {c}. | {v} lives in {c} and is your user. |
    The user's name is {v}, from {c}. | The user's name is {v} and the user's city is {c}. |
    You are talking with {v}. {v} lives in {c}. | You talk to {v} from {c}. |
    The user is {v}. The user comes from {c}. | User name: {v}. User city: {c}. | You are helping {v} from {c}. |
    Your user is {v} from {c}. | Your user is called {v} and comes from {c}."""
)
_PLAIN = wordings(
    """You are a helpful assistant. | You are a friendly assistant. | Be helpful. |
    You are a helpful and honest assistant. | Answer the questions of the user. |
    You are the demo model of oga-chat. | Help the user. | You are a kind assistant. | You are an AI assistant. |
    Answer briefly. | Answer clearly. | Be a helpful assistant. | Be a friendly assistant. |
    You are a helpful chat assistant. | You are helpful. | You are a friendly helper. |
    You answer the questions of the user. | You are a clear and friendly assistant. | You help the user. |
    Answer all questions of the user as well as you can. | You are an honest assistant. |
    You are a polite and friendly assistant. | Be friendly and clear. | You are a chat assistant. |
    Please help the user as well as you can. | You are a useful helper. | Be polite. | You answer questions. |
    Keep your answers short. | Assist the user with all questions."""
)
_MORE_CAPITALS = beyond(
    _CAPITALS,
    cross("Use |Only use |Always use |Please use |You must use |You use ",
    "capital letters|upper case|upper case letters|capitals|only capital letters|only upper case letters|"
    "big letters", ".| in your answers.| for every answer.")
    + cross("Answer |Write |Reply |Respond |Speak |Always answer |Always write |Always reply |Please answer |"
    "Please write |You answer |You always write ",
    "in capital letters|in upper case|in upper case letters|in capitals|in all caps|with capital letters|"
    "in big letters|in uppercase", ".| only."),
)  # fmt: skip
_MORE_LOWER = beyond(
    _LOWER,
    cross("Use |Only use |Always use |Please use |You must use |You use ",
    "small letters|lower case|lower case letters|only small letters|only lower case letters|lowercase letters",
    ".| in your answers.| for every answer.")
    + cross("Answer |Write |Reply |Respond |Speak |Always answer |Always write |Please answer |Please write |"
    "You answer |You always write ",
    "in small letters|in lower case|in lower case letters|in lowercase|with small letters|"
    "without capital letters|without capitals", ".| only.")
    + cross("Never |Do not |You never |Please do not ",
    "use capital letters|use capitals|write capital letters|write capitals|write in capitals|use upper case|"
    "write in upper case|use upper case letters", ".| in your answers."),
)  # fmt: skip
_MORE_ONE_WORD = beyond(
    _ONE_WORD,
    cross("Answer |Reply |Respond |Always answer |Always reply |Please answer |Please reply |You answer |"
    "You always answer |Answer every question |Answer each question ",
    "in one word|with one word|in a single word|with a single word|with just one word|in only one word|"
    "in exactly one word|using one word", ".| only."),
)  # fmt: skip
_MORE_JSON = beyond(
    _JSON,
    cross("Answer |Reply |Respond |Always answer |Always reply |Please answer |Please respond |You answer |"
    "You always answer |Answer every question ",
    "in JSON|with JSON|as JSON|in JSON format|with a JSON object|in the JSON format|in valid JSON", ".| only."),
)  # fmt: skip
_MORE_PIRATE = beyond(
    _PIRATE,
    cross(
    "Answer |Reply |Talk |Speak |Always answer |Always talk |Please answer |Please talk |You talk |You answer |"
    "Answer every question ", "like a pirate|as a pirate|like an old pirate|like a pirate captain|like a real pirate|"
    "in the voice of a pirate|in pirate style", ".| please."),
)  # fmt: skip
_PIRATE_OPEN = ("Arr! ", "Ahoy! ", "Yo ho ho! ")
_PIRATE_CLOSE = (" Aye, matey!", " So it be, matey!", " Shiver me timbers, matey!")


def style(draw: Draw) -> Style:
    """One system prompt that changes the answers, in a wording of this split."""
    makers = (
        _capitals,
        _lower,
        _one_word,
        _json_style,
        _pirate,
        _butler,
        _ending,
        _starting,
        _address,
        _persona,
        _about_user,
    )
    return draw.rng.choices(makers, weights=(4, 2, 4, 4, 4, 1, 2, 2, 2, 3, 2))[0](draw)


def plain_system(draw: Draw) -> str:
    """A system prompt that changes nothing."""
    return draw.wording(_PLAIN)


def inline(draw: Draw, turn: Turn) -> Turn:
    """The instruction inside the question: "In one word: ..."; only for turns with a one-word answer."""
    kind = draw.rng.randrange(3)
    if kind == 0:
        pool = (
            "In one word: ",
            "One word only: ",
            "Answer in one word: ",
            "With a single word: ",
            "Just one word please: ",
            "Use one word. ",
            "A one-word answer: ",
        )
        return replace(_shortened(turn), user=draw.wording(pool) + turn.user)
    if kind == 1:
        pool = (
            "In capitals: ",
            "Answer in capitals: ",
            "In upper case: ",
            "In all caps: ",
            "Shout the answer: ",
            "Use capital letters. ",
            "In capital letters: ",
        )
        return replace(_upper(turn), user=draw.wording(pool) + turn.user)
    pool = (
        "In JSON: ",
        "Answer in JSON: ",
        "As JSON: ",
        "Reply in JSON. ",
        "Give me JSON: ",
        "JSON please: ",
        "JSON answer only: ",
    )
    return replace(_as_json(turn), user=draw.wording(pool) + turn.user)


def _system(draw: Draw, pool: Pool, **slots: object) -> str:
    text = draw.fill(draw.wording(pool), **slots)
    if draw.chance(0.2):
        text = f"You are a helpful assistant. {text}"
    return text


def _upper(turn: Turn) -> Turn:
    return replace(turn, reply=turn.reply.upper(), check=replace(turn.check, form="capitals", exact_case=False))


def _shortened(turn: Turn) -> Turn:
    return replace(turn, reply=turn.short, check=Check(contains=(turn.short,), form="one word"))


def _as_json(turn: Turn) -> Turn:
    return replace(
        turn,
        reply=json.dumps({"answer": turn.short}, ensure_ascii=False),
        check=Check(contains=(turn.short,), form="json"),
    )


def _capitals(draw: Draw) -> Style:
    return Style("capitals", _system(draw, draw.any((_CAPITALS, _MORE_CAPITALS))), _upper)


def _lower(draw: Draw) -> Style:
    def restyle(turn: Turn) -> Turn:
        return replace(turn, reply=turn.reply.lower(), check=replace(turn.check, form="lower case", exact_case=False))

    return Style("lower case", _system(draw, draw.any((_LOWER, _MORE_LOWER))), restyle)


def _one_word(draw: Draw) -> Style:
    return Style("one word", _system(draw, draw.any((_ONE_WORD, _MORE_ONE_WORD))), _shortened, needs_short=True)


def _json_style(draw: Draw) -> Style:
    return Style("json", _system(draw, draw.any((_JSON, _MORE_JSON))), _as_json, needs_short=True)


def _pirate(draw: Draw) -> Style:
    def restyle(turn: Turn) -> Turn:
        reply = draw.any(_PIRATE_OPEN) + turn.reply + draw.any(_PIRATE_CLOSE)
        return replace(
            turn, reply=reply, check=replace(turn.check, starts="", contains=(*turn.check.contains, "matey"))
        )

    return Style("pirate", _system(draw, draw.any((_PIRATE, _MORE_PIRATE))), restyle)


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
    asked = tuple(fact(draw.phrase(_WHO_ARE_YOU), f"My name is {own_name}.", own_name) for _ in range(2))
    return Style("persona", _system(draw, _PERSONA, v=own_name), lambda turn: turn, own=asked)


def _about_user(draw: Draw) -> Style:
    user, home = name(draw), city(draw)
    own = (
        fact(draw.phrase(NAME.ask), f"Your name is {user}.", user),
        fact(draw.phrase(CITY.ask), f"You live in {home}.", home),
    )
    return Style("about user", _system(draw, _ABOUT_USER, v=user, c=home), lambda turn: turn, own=own)
