"""LlamaIndex, OpenAILike: complete, chat, stream, and a call of a tool."""

import os
from typing import Literal

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike

llm = OpenAILike(
    model=os.environ["MODEL"], api_base=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"],
    is_chat_model=True, is_function_calling_model=True, context_window=1024, max_retries=0,
)  # fmt: skip
assert llm.complete("hello").text
assert llm.chat([ChatMessage(role="user", content="hello")]).message.content
assert "".join(each.delta or "" for each in llm.stream_chat([ChatMessage(role="user", content="hello")]))


def weather(city: Literal["Rome", "Oslo"]) -> str:
    """What the weather is."""
    return f"sunny in {city}"


tools = [FunctionTool.from_defaults(weather)]
called = llm.chat_with_tools(tools, user_msg="hello", tool_required=True, max_tokens=300)
(call,) = llm.get_tool_calls_from_response(called)
assert weather(**call.tool_kwargs).startswith("sunny in")
