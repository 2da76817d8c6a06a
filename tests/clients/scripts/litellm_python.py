"""LiteLLM: completion, whole and streamed, with a tool, by OpenAI's protocol and by Anthropic's."""

import os

import litellm

model, messages = os.environ["MODEL"], [{"role": "user", "content": "hello"}]
for name, base in ((f"openai/{model}", "OPENAI_BASE_URL"), (f"anthropic/{model}", "ANTHROPIC_BASE_URL")):
    at = {"model": name, "api_base": os.environ[base], "messages": messages, "max_tokens": 100, "num_retries": 0}
    answer = litellm.completion(**at)
    assert answer.choices[0].message.content
    assert "".join(chunk.choices[0].delta.content or "" for chunk in litellm.completion(**at, stream=True))
    again = [*messages, answer.choices[0].message.model_dump(), *messages]
    assert litellm.completion(**{**at, "messages": again}).choices[0].message.content
    parameters = {"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}, "required": ["city"]}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": parameters}}]
    called = litellm.completion(**at, tools=tools, tool_choice="required").choices[0].message
    assert called.tool_calls[0].function.name == "weather"
    given = {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": "sunny"}
    assert litellm.completion(**{**at, "messages": [*messages, called.model_dump(), given]}, tools=tools).choices
