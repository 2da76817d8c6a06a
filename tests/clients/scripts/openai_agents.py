"""OpenAI Agents: an agent by responses and by chat, a conversation, and a tool that is run."""

import os
from typing import Literal

from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI

cities: list[str] = []


@function_tool
def weather(city: Literal["Rome", "Oslo"]) -> str:
    """What the weather is."""
    cities.append(city)
    return "sunny"


set_tracing_disabled(True)
model = os.environ["MODEL"]
for each in (model, OpenAIChatCompletionsModel(model, AsyncOpenAI())):
    agent = Agent(name="here", instructions="Be brief.", model=each)
    first = Runner.run_sync(agent, "hello")
    assert first.final_output
    assert Runner.run_sync(agent, [*first.to_input_list(), {"role": "user", "content": "and?"}]).final_output
    must = ModelSettings(tool_choice="required", max_tokens=300)
    cities.clear()
    caller = Agent(
        name="there", model=each, tools=[weather], model_settings=must, tool_use_behavior="stop_on_first_tool"
    )
    assert Runner.run_sync(caller, "hello").final_output == "sunny" and cities
