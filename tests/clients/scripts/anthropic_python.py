"""anthropic: messages, whole and streamed, a call of a tool, and counted tokens."""

import os

from anthropic import Anthropic

client, model = Anthropic(), os.environ["MODEL"]
messages = [{"role": "user", "content": "hello"}]
answer = client.messages.create(model=model, max_tokens=100, messages=messages, system="Be brief.")
assert answer.content[0].text and answer.stop_reason == "end_turn"
with client.messages.stream(model=model, max_tokens=100, messages=messages) as stream:
    assert "".join(stream.text_stream)
again = [*messages, {"role": "assistant", "content": answer.content}, *messages]
assert client.messages.create(model=model, max_tokens=100, messages=again).content
assert client.messages.count_tokens(model=model, messages=messages).input_tokens

schema = {"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}, "required": ["city"]}
told = {"model": model, "max_tokens": 200, "tools": [{"name": "weather", "input_schema": schema}]}
call = client.messages.create(**told, messages=messages, tool_choice={"type": "any"})
use = call.content[-1]
assert call.stop_reason == "tool_use" and use.name == "weather" and use.input["city"] in ("Rome", "Oslo")
given = {"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}
again = [*messages, {"role": "assistant", "content": call.content}, {"role": "user", "content": [given]}]
with client.messages.stream(**told, messages=again) as stream:
    assert stream.get_final_message().stop_reason
