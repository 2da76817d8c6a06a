"""Who the model is and how oga-chat works, asked in many wordings."""

from builder.demo.draw import Draw
from builder.demo.product_topics import FLAGS, QUESTIONS, TERMS
from builder.demo.turns import Check, Turn

_ASK_TERM = (
    "What is {t}?", "what is {t}", "Explain {t}.", "What does {t} mean?", "Tell me about {t}.", "Can you explain {t}?", "What is {t} for?", "What does {t} do?", "{t}?", "How does {t} work?",
    "Describe {t}.", "What do you know about {t}?", "Please explain {t} to me.", "I want to know what {t} is.", "Do you know what {t} is?", "What's the meaning of {t}?", "What is meant by {t}?",
    "I don't understand {t}.", "Why do we need {t}?", "Can you tell me about {t}?", "Give me an explanation of {t}.", "Say something about {t}.", "Could you describe {t}?", "In simple words, what is {t}?",
    "How would you explain {t}?", "What should I know about {t}?", "Help me understand {t}.", "What is the idea of {t}?", "Ever heard of {t}?", "Define {t}.",
)
_ASK_FLAG = (
    "What does {f} do?", "What is {f}?", "What does the flag {f} do?", "Explain {f}.", "What is {f} for?", "How do I use {f}?", "What is the option {f} for?", "Tell me about {f}.", "{f}?", "When do I need {f}?",
    "What happens with {f}?", "Can you explain the flag {f}?", "what is the {f} flag", "What does the option {f} do?", "Why would I use {f}?", "Describe the flag {f}.", "What is the use of {f}?", "How does {f} work?",
)


def product(draw: Draw) -> Turn:
    """One question about the model itself or about oga-chat."""
    kind = draw.rng.random()
    if kind < 0.4:
        topic = draw.any(TERMS)
        text = draw.phrase(_ASK_TERM, t=draw.any(topic.names))
        return Turn(text, draw.any(topic.answers), Check(any_of=topic.marks))
    if kind < 0.55:
        flag = draw.any(FLAGS)
        shown = flag.name if draw.chance(0.75) else flag.name.removeprefix("--")
        return Turn(draw.phrase(_ASK_FLAG, f=shown), flag.answer, Check(contains=flag.marks))
    question = draw.any(QUESTIONS)
    return Turn(draw.phrase(question.asked), draw.any(question.answers), Check(any_of=question.marks))
