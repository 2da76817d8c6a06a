"""Who the model is and how oga-chat works, asked in many wordings."""

from builder.demo.training.draw import Draw
from builder.demo.training.product_topics import FLAGS, QUESTIONS, TERMS
from builder.demo.training.turns import Check, Turn
from builder.demo.training.wording import wordings

_ASK_TERM = wordings(
    """What is {t}? | what is {t} | Explain {t}. | What does {t} mean? | Tell me about {t}. | Can you explain {t}? |
    What is {t} for? | What does {t} do? | {t}? | How does {t} work? | Describe {t}. | What do you know about {t}? |
    Please explain {t} to me. | I want to know what {t} is. | Do you know what {t} is? | What's the meaning of {t}? |
    What is meant by {t}? | I don't understand {t}. | Why do we need {t}? | Can you tell me about {t}? |
    Give me an explanation of {t}. | Say something about {t}. | Could you describe {t}? |
    In simple words, what is {t}? | How would you explain {t}? | What should I know about {t}? |
    Help me understand {t}. | What is the idea of {t}? | Ever heard of {t}? | Define {t}. | What do you mean by {t}? |
    What is meant with {t}? | What does it mean: {t}? | What is the meaning of {t}? | What is the purpose of {t}? |
    What is the point of {t}? | What is {t} good for? | What is {t} used for? | What is {t} in oga-chat? |
    What is {t}, in simple words? | What exactly is {t}? | What are the basics of {t}? | Why is {t} used? |
    Why is {t} important? | Why do you use {t}? | Why do I need {t}? | How is {t} used? | How do you use {t}? |
    How do you explain {t}? | Explain {t} to me. | Explain {t} in simple words. | Explain what {t} is. |
    Explain what {t} does. | Explain how {t} works. | Tell me what {t} is. | Tell me what {t} means. |
    Tell me what {t} does. | Tell me how {t} works. | Tell me more about {t}. | Tell me something about {t}. |
    Describe {t} to me. | Describe what {t} does. | Can you describe {t}? | Can you tell me what {t} is? |
    Can you tell me what {t} means? | Can you say what {t} is? | Can you help me understand {t}? |
    Could you explain {t}? | Could you tell me about {t}? | Do you know {t}? | Do you know what {t} means? |
    Do you know how {t} works? | I want to understand {t}. | I want to know about {t}. | I do not understand {t}. |
    I don't know what {t} is. | I have heard of {t}. What is it? | I never heard of {t}. What is it? |
    Meaning of {t}? | meaning of {t} | explain {t} | definition of {t} | Give me a definition of {t}. |
    What is the definition of {t}? | {t}, what is that? | {t}: what does it mean? | {t}: what is it? | And {t}? |
    And what is {t}? | So what is {t}?"""
)
_ASK_FLAG = wordings(
    """What does {f} do? | What is {f}? | What does the flag {f} do? | Explain {f}. | What is {f} for? |
    How do I use {f}? | What is the option {f} for? | Tell me about {f}. | {f}? | When do I need {f}? |
    What happens with {f}? | Can you explain the flag {f}? | what is the {f} flag | What does the option {f} do? |
    Why would I use {f}? | Describe the flag {f}. | What is the use of {f}? | How does {f} work? |
    What does the {f} flag do? | What does the {f} option do? | What is the {f} option? |
    What is the {f} option for? | What is the {f} flag for? | What is the flag {f} for? | What is the flag {f}? |
    What is {f} good for? | What is {f} used for? | What is the meaning of {f}? | What does {f} mean? |
    What happens if I use {f}? | What happens when I use {f}? | What happens with the flag {f}? | Why do I need {f}? |
    Why would I need {f}? | When do I use {f}? | When would I use {f}? | When should I use {f}? | How can I use {f}? |
    How do I use the flag {f}? | How does the flag {f} work? | How is {f} used? | Explain the flag {f}. |
    Explain the {f} flag. | Explain the option {f}. | Explain what {f} does. | Describe {f}. |
    Describe the option {f}. | Tell me about the flag {f}. | Tell me what {f} does. |
    Tell me what the flag {f} does. | Can you explain {f}? | Can you tell me what {f} does? |
    Can you tell me about {f}? | Can I use {f}? | Do you know what {f} does? | Do you know the flag {f}? |
    I do not understand {f}. | I don't understand the flag {f}. | the flag {f}? | flag {f} | the {f} flag |
    Why is there a flag {f}?"""
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
