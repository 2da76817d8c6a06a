"""A model's chat templates: which of them is used, which variables it reads, and what it wants of a conversation."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from serving.errors import ModelFolderError
from serving.folder import read_json

_SHORT_ID = re.compile(r"[a-zA-Z0-9]{9}")
_OF_A_MESSAGE = re.compile(r"""\w+(?:\.tools\b|\[['"]tools['"]\])""")
_LISTED = re.compile(rf"\bin\s+{_OF_A_MESSAGE.pattern}")
_THOUGHT = re.compile(r"""\w+(?:\.thinking\b|\[['"]thinking['"]\])""")
_CODE = re.compile(r"\{[%{].*?[%}]\}", re.DOTALL)
_SWITCHES = ("enable_thinking", "thinking")
_TOOLS = ("tools", "xml_tools")  # SmolLM3 has a name of its own
_NO_EFFORT = ("none", "minimal")
Json = dict[str, Any]


def read_templates(folder: Path, tokenizer_config: Json) -> tuple[str, str | None]:
    """The chat template, and the one that is meant for tools, where there are two. Raises ModelFolderError."""
    file = folder / "chat_template.jinja"
    for_tools = folder / "additional_chat_templates" / "tool_use.jinja"
    template = file.read_text(encoding="utf-8") if file.is_file() else tokenizer_config.get("chat_template")
    named = {"tool_use": for_tools.read_text(encoding="utf-8")} if for_tools.is_file() else {}
    if isinstance(template, list):
        named |= {entry["name"]: entry["template"] for entry in template}
        template = named.get("default")
    if not isinstance(template, str):
        raise ModelFolderError(
            f"{folder} has no chat template: this looks like a base model. Use its chat or instruct version, or put a "
            "chat_template.jinja beside the tokenizer."
        )
    return template, named.get("tool_use")


@lru_cache(maxsize=8)
def variables_of(template: str) -> frozenset[str] | None:
    """The variables that a template reads and does not set itself; None for one that is no Jinja."""
    from jinja2 import TemplateSyntaxError, meta
    from transformers.utils.chat_template_utils import _compile_jinja_template

    try:
        environment = _compile_jinja_template(template).environment
        return frozenset(meta.find_undeclared_variables(environment.parse(template)))
    except (TemplateSyntaxError, RecursionError):
        return None


def knows(template: str, name: str) -> bool:
    """Whether a template reads a variable of that name. One that cannot be read is told so when it is rendered."""
    variables = variables_of(template)
    return variables is None or name in variables


def fitting_arguments(template: str, arguments: Mapping[str, Any]) -> Json:
    """The arguments with the names that the template has for them.

    Some read only whether to think, by one name or the other: an effort of "none" or "minimal" is not to.
    """
    variables = variables_of(template) or frozenset()
    switch = next((name for name in _SWITCHES if name in variables), None)
    fitting = dict(arguments)
    for name in (*_SWITCHES, "reasoning_effort"):
        if switch and name in arguments and name not in variables:
            value = fitting.pop(name)
            fitting.setdefault(switch, value not in _NO_EFFORT if name == "reasoning_effort" else value)
    return fitting


def has_switch(folder: Path) -> bool:
    """Whether a model folder's chat template reads whether to think, told by its words: to parse it takes a second."""
    try:
        template, _ = read_templates(folder, read_json(folder / "tokenizer_config.json"))
    except (ModelFolderError, OSError):
        return False
    code = " ".join(_CODE.findall(template))
    return any(re.search(rf"""(?<![\w.'"]){name}(?![\w'"])""", code) for name in _SWITCHES)


def takes_tools(template: str) -> bool:
    """Whether a template reads tools: as a variable, or of a message (Phi-4-mini, GLM-4)."""
    return _tools_name(template) is not None or bool(_OF_A_MESSAGE.search(template))


def named_tools(template: str, tools: list[Any] | None) -> Json:
    """The tools under the name that the template has for them, where that is not the usual one."""
    name = _tools_name(template)
    return {} if tools is None or name is None or name == _TOOLS[0] else {name: tools}


def _tools_name(template: str) -> str | None:
    """The variable by which a template reads tools, where it does."""
    return next((name for name in _TOOLS if knows(template, name)), None)


def with_tools(template: str, conversation: list[Json], tools: Sequence[Any]) -> list[Json]:
    """The conversation with the tools in its system message, where the template looks for them there."""
    if _tools_name(template):
        return conversation
    written = list(tools) if _LISTED.search(template) else json.dumps(list(tools), ensure_ascii=False)
    head: Json = {"role": "system", "content": ""}
    rest = conversation
    if conversation[0]["role"] == "system":
        head, *rest = conversation
    return [{**head, "tools": written}, *rest]


def with_thoughts(template: str, conversation: list[Json]) -> list[Json]:
    """The conversation with what was thought under the name that gpt-oss's template has for it.

    It refuses a thought beside a text and calls, and writes only the text then.
    """
    if "reasoning_content" in template or not _THOUGHT.search(template):
        return conversation
    return [_renamed(message) if "reasoning_content" in message else message for message in conversation]


def _renamed(message: Json) -> Json:
    rest = {name: value for name, value in message.items() if name != "reasoning_content"}
    return rest if rest["content"] and "tool_calls" in rest else {**rest, "thinking": message["reasoning_content"]}


def with_whole_tools(tools: list[Any] | None) -> list[Any] | None:
    """The tools with all that a tool may leave out: some templates read it without asking whether it is there."""
    return tools and [{**tool, "function": _whole(tool["function"])} for tool in tools]


def _whole(function: Json) -> Json:
    nothing: Json = {"type": "object", "properties": {}}
    return {"description": "", **function, "parameters": {**nothing, **(function.get("parameters") or {})}}


def with_short_ids(conversation: list[Json]) -> list[Json]:
    """The conversation with ids of calls that Mistral's templates take: nine letters and digits."""
    renamed = []
    for message in conversation:
        message = dict(message)
        if "tool_call_id" in message:
            message["tool_call_id"] = _short(message["tool_call_id"])
        if "tool_calls" in message:
            message["tool_calls"] = [{**call, "id": _short(call.get("id", ""))} for call in message["tool_calls"]]
        renamed.append(message)
    return renamed


def _short(id: str) -> str:
    return id if _SHORT_ID.fullmatch(id) else hashlib.sha256(id.encode(errors="replace")).hexdigest()[:9]
