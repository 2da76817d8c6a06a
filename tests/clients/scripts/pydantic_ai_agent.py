"""Pydantic AI: an agent, whole and streamed, an object by schema and by tool, the responses endpoint."""

import asyncio
import os

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel


class Reply(BaseModel):
    """What the answer must be."""

    yes: bool


async def streamed(agent: Agent) -> str:
    """The text of a stream."""
    async with agent.run_stream("hello") as result:
        return "".join([text async for text in result.stream_text(delta=True)])


chat = OpenAIChatModel(os.environ["MODEL"])
agent = Agent(chat, instructions="Be brief.")
first = agent.run_sync("hello")
assert first.output and agent.run_sync("and?", message_history=first.all_messages()).output
assert asyncio.run(streamed(Agent(OpenAIChatModel(os.environ["MODEL"]))))
assert Agent(OpenAIResponsesModel(os.environ["MODEL"])).run_sync("hello").output
assert isinstance(Agent(chat, output_type=NativeOutput(Reply), retries=0).run_sync("yes or no?").output, Reply)
for each in (
    chat,
    OpenAIResponsesModel(os.environ["MODEL"]),
):  # it asks for a call, as any agent with an output type does
    assert isinstance(Agent(each, output_type=Reply, retries=0).run_sync("yes or no?").output, Reply)
