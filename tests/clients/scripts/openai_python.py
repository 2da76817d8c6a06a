"""openai: chat, whole and streamed, responses, completions, a schema, a call of a tool, models."""

import os

from openai import OpenAI
from pydantic import BaseModel


class Reply(BaseModel):
    """What the answer must be."""

    yes: bool


client, model = OpenAI(), os.environ["MODEL"]
messages = [{"role": "user", "content": "hello"}]
assert client.models.list().data[0].id == model
assert client.chat.completions.create(model=model, messages=messages).choices[0].message.content
chunks = client.chat.completions.create(
    model=model, messages=messages, stream=True, stream_options={"include_usage": True}
)
*_, last = chunks
assert last.usage.completion_tokens
parsed = client.chat.completions.parse(model=model, messages=messages, response_format=Reply, max_tokens=200)
assert isinstance(parsed.choices[0].message.parsed, Reply)
assert client.responses.create(model=model, input="hello", store=False).output_text
assert client.completions.create(model=model, prompt="hello", max_tokens=5).choices[0].text

parameters = {"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}, "required": ["city"]}
tools = [{"type": "function", "function": {"name": "weather", "parameters": parameters}}]
called = client.chat.completions.create(model=model, messages=messages, tools=tools, tool_choice="required").choices[0]
assert called.finish_reason == "tool_calls" and called.message.tool_calls[0].function.name == "weather"
given = {"role": "tool", "tool_call_id": called.message.tool_calls[0].id, "content": "sunny"}
assert client.chat.completions.create(model=model, messages=[*messages, called.message, given], tools=tools).choices
with client.chat.completions.stream(model=model, messages=messages, tools=tools, tool_choice="required") as stream:
    assert stream.get_final_completion().choices[0].message.tool_calls[0].function.arguments
flat = [{"type": "function", "name": "weather", "parameters": parameters}]
item = client.responses.create(model=model, input="hello", tools=flat, tool_choice="required").output[-1]
output = {"type": "function_call_output", "call_id": item.call_id, "output": "sunny"}
again = [{"role": "user", "content": "hello"}, item, output]
assert client.responses.create(model=model, input=again, tools=flat, tool_choice="none").output_text
