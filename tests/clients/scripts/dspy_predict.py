"""DSPy: a call of the model, a signature by JSON schema, and an agent that runs a tool by native calls."""

import os
from typing import Literal

import dspy
import litellm

model, known = f"openai/{os.environ['MODEL']}", {"supports_response_schema": True, "supports_function_calling": True}
litellm.register_model({model: {"litellm_provider": "openai", "mode": "chat", **known}})
at = {"model": model, "api_base": os.environ["OPENAI_BASE_URL"], "cache": False, "num_retries": 0}
lm = dspy.LM(**at)
assert lm("hello")[0]
dspy.configure(lm=lm, adapter=dspy.JSONAdapter())
assert isinstance(dspy.Predict("question -> answer: bool")(question="Is 2 even?").answer, bool)
cities: list[str] = []


def weather(city: Literal["Rome", "Oslo"]) -> str:
    """What the weather is."""
    cities.append(city)
    return f"sunny in {city}"


# Its first turn has to call the tool; the agent itself asks for `submit` after its last one.
must = dspy.LM(**at, tool_choice={"type": "function", "function": {"name": "weather"}}, max_tokens=300)
dspy.configure(lm=must, adapter=dspy.ChatAdapter(use_native_function_calling=True))
answer = dspy.ReActV2("question -> sunny: bool", tools=[weather], max_iters=1)(question="Is it sunny?")
assert cities and set(cities) <= {"Rome", "Oslo"} and isinstance(answer.sunny, bool)
assert "sunny in" in str(answer.history)
