"""langchain-openai: invoke, stream, structured output, tools, the responses endpoint."""

import os
from typing import Literal

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Reply(BaseModel):
    """What the answer must be."""

    yes: bool


@tool
def weather(city: Literal["Rome", "Oslo"]) -> str:
    """What the weather is."""
    return f"sunny in {city}"


model = os.environ["MODEL"]
chat = ChatOpenAI(model=model, max_retries=0)
assert chat.invoke("hello").content
assert "".join(str(chunk.content) for chunk in chat.stream("hello"))
assert isinstance(chat.with_structured_output(Reply, method="json_schema").invoke("hello"), Reply)
assert ChatOpenAI(model=model, max_retries=0, use_responses_api=True).invoke("hello").content
messages = [HumanMessage("hello")]
for each in (chat, ChatOpenAI(model=model, max_retries=0, use_responses_api=True)):
    called = each.bind_tools([weather], tool_choice="any").invoke(messages, max_tokens=300)
    (call,) = called.tool_calls
    given: ToolMessage = weather.invoke(call)
    assert given.content == f"sunny in {call['args']['city']}"
    each.bind_tools([weather]).invoke([*messages, called, given])
