"""How people put things: which wordings are held out, and the sentence frames that any question can be put in."""

import re
import zlib
from collections import Counter
from functools import cache

Pool = tuple[str, ...]

_SHARE = 6


@cache
def wordings(text: str) -> Pool:
    """A pool from a table of wordings with " | " between them, over as many lines as it takes."""
    return tuple(part.strip() for part in re.split(r"\s\|\s", text))


def spaced(text: str) -> Pool:
    """A pool of single words with white space between them."""
    return tuple(text.split())


# What people type most belongs to training, whatever the rule below says.
_COMMON = wordings(
    """how are you? | thank you | thanks | bye | good night | hello there | hi there | good morning | awesome |
    you are great | you are stupid | ok | i see | help | what? | tell me a joke | tell me a story |
    can you tell me a story? | tell me another story | my name is {v} | hi, my name is {v} | hello, my name is {v} |
    i am {v} | hello, i am {v} | what is my name? | do you remember my name? | do you know my name? |
    tell me my name | who am i? | where do i live? | i live in {v} | i am from {v} | i am {v} years old |
    how old am i? | my favourite colour is {v} | what is my favourite colour? | i have a {k} named {v} |
    i have a {k} called {v} | my {k} is called {v} | what is my {k} called? | what is the name of my {k}? |
    what is my {k}'s name? | my lucky number is {v} | remember the number {v} | what is my number? |
    what was the number? | the secret word is {v} | what is the secret word? | what is on my list? |
    i need to buy {v} | what do you know about me? | what do you remember? | who are you? | what are you? |
    what is your name? | what can you do? | introduce yourself | tell me about yourself | who made you? |
    who created you? | are you human? | are you a robot? | are you an ai? | are you chatgpt? | how old are you? |
    how big are you? | do you have a name? | what are your limits? | do you make mistakes? | what is {t}? |
    explain {t} | what does {t} mean? | how does {t} work? | tell me about {t} | can you explain {t}? | {t}? |
    what does {f} do? | what is {f}? | how do i use {f}? | what is {f} for? | how do i start the app? |
    how do i rebuild the model? | can i use a bigger model? | can i use another model? |
    how do i use another model? | how do i change the port? | how do i set a password? | how do i share the chat? |
    is my data private? | what languages do you speak? | what is the capital of {x}? | capital of {x} |
    tell me the capital of {x} | {x} is the capital of which country? | what is {sum}? | {sum} | calculate {sum} |
    how much is {sum}? | add {a} and {b} | multiply {a} by {b} | what is half of {n}? | sort {list} |
    sort these numbers: {list} | put {list} in order | sort {list} alphabetically | reverse {w} | spell {w} |
    spell {w} backwards | write {w} backwards | how do you spell {w}? | how many letters are in {w}? |
    how many letters does {w} have? | how many {l} are in {w}? | what is the {which} letter of {w}? |
    write {w} in capitals | write {w} in upper case | uppercase {w} | count to {n} | is {n} even or odd? |
    which is {which}, {a} or {b}? | what comes next: {list}? | say {w} | repeat {w} | repeat after me: {w} |
    can you say {w}? | write a poem about {s} | write a short poem about {s} | tell me a story about {s} |
    write a story about {s} | write a short story about {s} | what is the opposite of {x}? | opposite of {x} |
    what is the plural of {x}? | what is the symbol for {x}? | symbol for {x} | what is the chemical symbol of {x}? |
    what sound does {x} make? | which animal says {x}? | what animal says {x}? | what colour {v} {x}? |
    how many legs does {x} have? | how many {s} are in {b}? | how many {s} in {b}? | how many days does {x} have? |
    what comes after {x}? | what comes before {x}? | which {w} comes after {x}? | answer in capitals |
    answer in one word | answer in json | reply in json | talk like a pirate | you are a pirate |
    always answer in upper case | use only small letters | your name is {v} | you are {v} | what did i just say? |
    what did i say? | and {x}? | what about {x}? | please {it} | can you {it}? | could you {it}? | tell me {it} |
    what is {it}? | can you tell me {it}? | do you know {it}? | can you tell me what {it} is? | remember: {it} |
    remember that {it} | write python code that {does} | write a python program that {does} | {task} in python |
    write code to {task_lower} | how do i {task_lower} in python?"""
)


@cache
def divide(pool: Pool) -> tuple[Pool, Pool]:
    """The pool's train part and held-out part (about a sixth, at least one, never the first).

    A model that has read nothing but this corpus cannot understand a word it never saw, so a wording is held out only
    if other wordings of the same pool use all its words; failing that, the wording with the fewest words of its own.
    """
    if len(pool) < 2:
        raise ValueError(f"a pool of {len(pool)} cannot be divided into train and held-out: {pool!r}")
    words = {wording: frozenset(re.findall(r"[a-z']+|\{\w+\}", wording.lower())) for wording in pool}
    common = _common_keys()
    left = Counter(word for wording in set(pool) for word in words[wording])
    held: list[str] = []
    first = wording_key(pool[0])
    candidates = [wording for wording in dict.fromkeys(pool) if wording_key(wording) != first]
    candidates.sort(key=lambda wording: zlib.crc32(wording.encode()))
    for wording in candidates:
        if len(held) < max(1, round(len(pool) / _SHARE)) and all(left[w] > 1 for w in words[wording]):
            held.append(wording)
            left.subtract(words[wording])
    if not held:
        held = [min(candidates, key=lambda wording: sum(left[w] < 2 for w in words[wording]))]
    held = [wording for wording in held if wording_key(wording) not in common] or held
    keys = {wording_key(wording) for wording in held}
    return tuple(w for w in pool if wording_key(w) not in keys), tuple(held)


_SAME = dict(
    pair.split(": ")
    for pair in wordings(
        """what's: what is | whats: what is | who's: who is | how's: how is | i'm: i am | im: i am |
        you're: you are | u: you | r: are | i'd: i would | don't: do not | can't: cannot | color: colour |
        favorite: favourite | could: can | pls: please | it's: it is | that's: that is | what're: what are |
        let's: let us"""
    )
)


def wording_key(wording: str) -> str:
    """Wordings that differ only in case, punctuation or a shortened word are the same wording."""
    words = re.findall(r"[a-z0-9{}_|']+", wording.lower())
    return " ".join(_SAME.get(word, word) for word in words)


@cache
def _common_keys() -> frozenset[str]:
    return frozenset(wording_key(wording) for wording in _COMMON)


def beyond(pool: Pool, more: Pool) -> Pool:
    """Those of `more` that the pool does not have: a second pool for the same thing, divided by itself."""
    known = {wording_key(wording) for wording in pool}
    return tuple(wording for wording in more if wording_key(wording) not in known)


def cross(*parts: str) -> Pool:
    """Every combination of the alternatives: cross("hi|hello", "| there") -> hi, hi there, hello, hello there."""
    combined = [""]
    for part in parts:
        combined = [left + right for left in combined for right in part.split("|")]
    return tuple(combined)


_VERBS = frozenset(
    spaced(
        """sort put order arrange reverse say list turn flip read give take name tell pick find count spell write
        make convert change add subtract multiply divide calculate compute solve evaluate explain describe
        define show mix combine blend repeat print copy invent compose double halve line start share work guess
        complete continue uppercase lowercase alphabetize"""
    )
)
_NOUN_PHRASE = re.compile(r"(?:What is|What are|Which is) ((?:the |my |your |half |double |twice |\{sum\}).*)\?")

FRAMES: dict[str, Pool] = {
    "noun phrase": wordings(
        """What is {it}? | Tell me {it}. | {it}? | {it} | Do you know {it}? | Can you tell me {it}? |
        Could you tell me {it}? | I want to know {it}. | I would like to know {it}. | Please tell me {it}. |
        Give me {it}. | Please give me {it}. | Can you give me {it}? | Could you give me {it}? | I need {it}. |
        I need to know {it}. | What is {it}, please? | Do you know what {it} is? |
        Can you tell me what {it} is? | I want to know what {it} is. | I would like to know what {it} is. |
        Tell me what {it} is. | Please tell me what {it} is. | Let me know {it}. | Let me know what {it} is. |
        {it} is what? | {it} is? | What would {it} be? | What would you say {it} is? |
        What do you think {it} is? | I forgot {it}. | I forgot what {it} is. | Would you tell me {it}? |
        Would you please tell me {it}? | Could you please tell me what {it} is? | I wonder what {it} is. |
        Just tell me {it}. | And what is {it}? | So what is {it}? | Say {it}. | Please say {it}. |
        Can you say what {it} is? | What exactly is {it}? | Any idea what {it} is? |
        Do you have any idea what {it} is? | I am looking for {it}. | Find {it}. | Please find {it} for me. |
        Help me find {it}. | You know {it}? | Will you tell me {it}? | I would like {it}. |
        I have to know {it}. | What might {it} be? | What could {it} be? | My question is: what is {it}? |
        Tell me, what is {it}?"""
    ),
    "request": wordings(
        """{it} | Can you {it}? | Could you {it}? | Please {it}. | Would you {it}? | Will you {it}? |
        Can you please {it}? | Could you please {it}? | Would you please {it}? | I want you to {it}. |
        I would like you to {it}. | I'd like you to {it}. | I need you to {it}. | Please {it} for me. |
        Can you {it} for me? | Could you {it} for me? | Now {it}. | Now please {it}. | Just {it}. |
        Try to {it}. | Please try to {it}. | Can you try to {it}? | Help me {it}. | Please help me {it}. |
        Can you help me {it}? | You should {it}. | You have to {it}. | Your task is to {it}. | Your job: {it}. |
        Your task: {it}. | Are you able to {it}? | Do you know how to {it}? | Let us {it}. | Let's {it}. |
        First, {it}. | Next, {it}. | Then {it}. | Go on and {it}. | Go ahead and {it}. |
        Do me a favour and {it}. | I want to see you {it}. | Show me that you can {it}. | I ask you to {it}. |
        May I ask you to {it}? | Can I ask you to {it}? | Would you be so kind and {it}? | Be so kind and {it}. |
        How about you {it}? | Why don't you {it}? | I wish you would {it}. | I think you should {it}. |
        Would you try to {it}?"""
    ),
    "question": wordings(
        """{it} | Tell me: {it} | Can you tell me: {it} | Please tell me: {it} | I have a question. {it} |
        I have a question: {it} | My question is: {it} | A question: {it} | Here is my question: {it} |
        Quick question: {it} | Let me ask you: {it} | Let me ask you something. {it} |
        Can I ask you something? {it} | May I ask: {it} | I want to know: {it} | I would like to know: {it} |
        I would like to ask: {it} | I want to ask you something: {it} | Do you know this? {it} |
        {it} Do you know? | {it} Do you know that? | {it} Please tell me. | {it} Can you tell me? |
        {it} I want to know. | {it} I would like to know. | Next question: {it} | Another question: {it} |
        One more question: {it} | I wonder: {it} | Say: {it} | Please say: {it} | Please answer: {it} |
        Answer me: {it} | Please answer my question: {it} | Help me: {it} | Can you help me? {it} |
        {it} Please answer. | {it} Help me please. | {it} I wonder. | Now tell me: {it} | And tell me: {it} |
        Do you know the answer? {it} | Tell me the answer: {it} | Here is a question for you: {it} |
        I have another question: {it}"""
    ),
    "statement": wordings(
        """{it} | By the way: {it} | Just so you know: {it} | Please note: {it} | Remember: {it} |
        Remember this: {it} | Please remember: {it} | Please remember this: {it} | {it} Remember that. |
        {it} Please remember that. | {it} Remember it. | {it} Please remember it. |
        I want to tell you something. {it} | Let me tell you something: {it} | Let me tell you: {it} |
        I want you to know: {it} | You should know: {it} | One thing about me: {it} | Something about me: {it} |
        Here is something about me: {it} | Here is one thing: {it} | I have to tell you: {it} |
        I should tell you: {it} | Did you know? {it} | {it} Did you know? | {it} Did you know that? |
        {it} Just so you know. | {it} Keep that in mind. | Keep in mind: {it} | Please keep in mind: {it} |
        Note: {it} | Note this: {it} | {it} Please note that. | {it} You should know that. | So you know: {it} |
        Listen: {it} | Please listen: {it} | Well, {it} | Fact: {it} | A fact about me: {it} | Now listen: {it} |
        {it} Please do not forget it. | Do not forget: {it} | {it} Do not forget that. |
        Please do not forget: {it} | First of all: {it} | {it} That is important. | This is important: {it} |
        Important: {it} | {it} Will you remember that? | {it} Can you remember that? |
        Can you remember this? {it} | Will you remember this? {it}"""
    ),
}
"""By kind of wording; `{it}` is the wording or its noun phrase. The first of each changes nothing."""


def frameable(wording: str) -> tuple[str, str] | None:
    """How the wording can be put into another frame: the kind of frame and the part that goes into it."""
    found = _NOUN_PHRASE.fullmatch(wording)
    if found:
        return "noun phrase", found[1]
    first = wording.split(maxsplit=1)[0].lower()
    if first in _VERBS and not wording.endswith("?"):
        return "request", wording[0].lower() + wording[1:].rstrip(".")
    if wording.endswith("?") and len(wording.split()) > 2:
        return "question", wording
    return None


@cache
def framings(wording: str, told: bool, part: int) -> Pool:
    """The wording in every frame that fits it, of the train part (0) or the held-out part (1) of the frames.

    `told`: the wording states something. A wording that fits no frame stays alone.
    """
    parsed = (
        ("statement", wording if wording.endswith((".", "?", "!")) else wording + ".") if told else frameable(wording)
    )
    if parsed is None:
        return (wording,)
    kind, inner = parsed
    return tuple(frame.replace("{it}", inner) for frame in divide(FRAMES[kind])[part])


@cache
def train_wordings(pool: Pool, told: bool) -> frozenset[str]:
    """The keys of all wordings that training makes from the pool, with and without a frame."""
    train, held = divide(pool)
    forbidden = {wording_key(wording) for wording in held}
    return frozenset(wording_key(w) for t in train for w in (t, *framings(t, told, 0))) - forbidden


@cache
def held_keys(pool: Pool) -> frozenset[str]:
    """The keys of the pool's held-out wordings."""
    return frozenset(wording_key(wording) for wording in divide(pool)[1])


OPENERS: Pool = tuple(
    f"{opener} "
    for opener in wordings(
        """Please: | Hey, | Ok, | So, | Now then, | Hi! | And | Um, | Alright, | One more thing. | Hey! | Hello! |
        Hello, | Hi, | Ok. | Okay, | Well, | Now, | And now: | Oh, | Ah, | Hm, | Hmm. | Good. | Great! | Great, |
        Nice. | Cool. | Thanks! | Thanks. | Thank you! | Yes. | No. | But | Also, | Then | Right, | Good, now |
        Ok, now | Ok then, | Well then, | And then: | Please, | Hey you, | Hello you, | Wait, | Wait. | Listen, |
        Say, | Tell me, | Please tell me, | Sorry, | Excuse me, | One question: | Another thing: | Another one: |
        One more: | Actually, | Just | Dear model, | My friend, | Hey friend, | Good morning! | Good evening! |
        Ok great. | Ok thanks. | Ok, good. | I see. | Fine. | Fine, | Next. | Now: | Bot, | Hey bot,"""
    )
)
CLOSERS: Pool = tuple(
    f" {closer}"
    for closer in wordings(
        """please | Thanks! | thanks | :) | please? | pls | if you can | for me | right now | ok? | Thank you! |
        now | thank you | now please | Please! | thx | Thank you. | Thanks. | if you know | if you know it |
        right? | then | again | my friend | bot | today | for me please | if you like | if you want | quickly |
        quickly please | Thanks a lot! | Thank you very much! | or not | I need it | I need it now | in the end |
        friend | at once | :-) | ;) | Ok? | Do it now! | Do it please! | Now! | I need to know! | I must know."""
    )
)
