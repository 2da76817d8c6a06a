"""Haystack: OpenAIChatGenerator, whole and streamed, and a call of a tool."""

import os

from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import Tool

generator = OpenAIChatGenerator(model=os.environ["MODEL"], api_base_url=os.environ["OPENAI_BASE_URL"], max_retries=0)
pieces = []
first = generator.run([ChatMessage.from_user("hello")])["replies"][0]
assert first.text
generator.run([ChatMessage.from_user("hello"), first, ChatMessage.from_user("and?")], streaming_callback=pieces.append)
assert "".join(piece.content for piece in pieces)
parameters = {"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}, "required": ["city"]}
weather = Tool("weather", "What the weather is.", parameters, lambda city: f"sunny in {city}")
must = {"tool_choice": "required"}
called = generator.run([ChatMessage.from_user("hello")], tools=[weather], generation_kwargs=must)["replies"][0]
(call,) = called.tool_calls
given = ChatMessage.from_tool(weather.invoke(**call.arguments), origin=call)
assert generator.run([ChatMessage.from_user("hello"), called, given], tools=[weather])["replies"]
