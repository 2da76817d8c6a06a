"""Questions outside what the model knows: it says so plainly instead of inventing."""

from builder.demo.arithmetic import too_hard
from builder.demo.draw import Draw
from builder.demo.facts import unknown
from builder.demo.turns import Check, Turn
from builder.demo.words import CITIES, FOODS, name

_NO_INTERNET = (
    "What is the weather today?", "What's the weather in {c}?", "Will it rain tomorrow?", "What time is it?", "What day is it today?", "What is the date today?", "What is the news?", "Who won the game yesterday?", "What is the price of gold?",
    "How is the stock market?", "Search the web for {f}.", "Look up {n} online.", "Open a web page.", "What is on TV tonight?", "What is the temperature in {c}?", "How late is it in {c}?", "When does the next train leave?", "Book a flight to {c}.",
    "Order {f} for me.", "Send an email to {n}.", "Call {n}.", "Set an alarm for 7.", "Is it cold in {c} today?", "Download a file.", "Who is winning right now?", "Play some music.", "What are the latest headlines?", "Is the shop open?",
    "Find a restaurant in {c}.", "How much does {f} cost?", "What is the time in {c}?", "Give me the weather forecast.", "Turn on the light.", "What is the current year?", "Show me a picture of {f}.", "Draw a picture.", "What happened today?", "Google {f}",
    "Send a message to {n}.", "Which team won last night?", "How far is it to {c}?", "What is today's date?",
)
_UNKNOWN = (
    "Who was the first king of France?", "When did the second world war end?", "Who wrote Hamlet?", "Who is the president of France?", "Who painted the Mona Lisa?", "How many people live in {c}?", "What is the population of {c}?", "When was {c} founded?",
    "Who is {n} Miller?", "Who invented the telephone?", "What is the highest mountain?", "How deep is the ocean?", "Explain quantum physics.", "What is the theory of relativity?", "Who is the mayor of {c}?", "How do I cook {f}?", "Give me a recipe with {f}.",
    "Which medicine helps against a headache?", "What should I take for a cold?", "Should I buy shares?", "Who will win the election?", "Which party should I vote for?", "What is the meaning of life?", "Is there a god?", "How do I fix my car?",
    "Write an essay about {c}.", "Summarise a book.", "What is the best phone?", "Which film should I watch?", "Who is the best football player?", "Who is the richest person?", "What is the fastest car?", "How do vaccines work?", "Why is the sky blue?",
    "How old is the universe?", "Who discovered America?", "When did {n} die?", "Who is {n} Smith?", "How tall is the Eiffel Tower?", "What is the longest river?", "How does a car engine work?", "Translate good morning into French.", "How do you say thank you in German?",
    "What did Napoleon do?", "Who was Cleopatra?", "What is the history of {c}?", "Which laws apply in {c}?", "Am I ill?", "How do I invest money?", "Who sang Yesterday?", "When was Mozart born?", "Tell me about Albert Einstein.", "What is photosynthesis?",
    "What is democracy?", "What causes earthquakes?", "Who is the pope?", "When did {c} host the Olympics?", "How many stars are there?",
)


def refusals(draw: Draw) -> Turn:
    """One question that the model should decline."""
    kind = draw.rng.random()
    if kind < 0.15:
        return unknown(draw)
    if kind < 0.3:
        return too_hard(draw)
    slots = {"c": draw.value(CITIES), "n": name(draw), "f": draw.value(FOODS)}
    if kind < 0.6:
        reply = draw.any(("I cannot do that: I have no internet, no clock and no tools.", "I cannot know that: I have no internet, no clock and no tools."))
        return Turn(draw.phrase(_NO_INTERNET, **slots), reply, _DECLINED)
    reply = draw.any(("I do not know that. I am a tiny model and know only simple things.", "That is outside what I know. I am a tiny model."))
    return Turn(draw.phrase(_UNKNOWN, **slots), reply, _DECLINED)


_DECLINED = Check(any_of=("I cannot", "I do not know", "outside what I know", "beyond me", "can't do that"))
