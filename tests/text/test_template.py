"""What a chat template reads, and what it is given for it."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken
from transformers import AutoTokenizer

from serving.errors import InvalidRequest
from serving.text.prompt import Prompt
from serving.types import Message, TemplateOptions
from tests.small_models import CHANNELS, chatml, llama3, write_folder

ASKED = [Message("user", "hi")]
CHATML = """{%- for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}"""


def with_template(folder: Path, template: str) -> Prompt:
    write_folder(chatml(), folder)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return Prompt.load(folder)


@pytest.mark.parametrize("switch", ["enable_thinking", "thinking"])
@pytest.mark.parametrize(
    ("arguments", "thinks"),
    [
        ({}, "unsaid"),
        ({"reasoning_effort": "none"}, "False"),
        ({"reasoning_effort": "minimal"}, "False"),
        ({"reasoning_effort": "high"}, "True"),
        ({"enable_thinking": False}, "False"),
        ({"thinking": True}, "True"),
        ({"reasoning_effort": "high", "enable_thinking": False}, "False"),
    ],
)
def test_whether_to_think_has_the_name_that_the_template_reads(
    tmp_path: Path, switch: str, arguments: dict[str, object], thinks: str
) -> None:
    prompt = with_template(tmp_path, f"{{{{ {switch} | default('unsaid') }}}}")
    assert prompt.render(ASKED, template_options=TemplateOptions(arguments=arguments)) == thinks


def test_an_effort_that_the_template_reads_is_told_as_it_is(tmp_path: Path) -> None:
    prompt = with_template(tmp_path, "{{ reasoning_effort }} {{ enable_thinking | default('unsaid') }}")
    told = TemplateOptions(arguments={"reasoning_effort": "none"})
    assert prompt.render(ASKED, template_options=told) == "none unsaid"
    plain = with_template(tmp_path, "hi")
    with pytest.raises(InvalidRequest, match="knows nothing of 'reasoning_effort'"):
        plain.render(ASKED, template_options=told)


def test_what_was_thought_has_the_name_that_templates_of_channels_read(tmp_path: Path) -> None:
    prompt = with_template(tmp_path, CHANNELS)
    answered = [*ASKED, Message("assistant", "yes", "Easy.")]
    told = prompt.render(answered, add_generation_prompt=False)
    assert told.endswith(
        "<|channel|>analysis<|message|>Easy.<|end|><|start|>assistant<|channel|>final<|message|>yes<|return|>"
    )
    call = {"id": "a", "type": "function", "function": {"name": "add", "arguments": {"x": 1}}}
    for said, thought, shown in (("", "Easy.", "Easy."), ("I add.", "Easy.", "I add."), ("I add.", None, "I add.")):
        called = Message("assistant", said, thought, (call,))
        told = prompt.render([*ASKED, called, Message("tool", "2", tool_call_id="a", name="add")])
        assert told.count("<|message|>") == 5 and told.endswith(
            f"<|channel|>analysis<|message|>{shown}<|end|>"
            '<|start|>assistant to=functions.add<|channel|>commentary json<|message|>{"x": 1}<|call|>'
            '<|start|>functions.add to=assistant<|channel|>commentary<|message|>"2"<|end|><|start|>assistant'
        )


def test_a_message_that_is_gone_on_with_ends_where_it_ends(tmp_path: Path) -> None:
    prompt, on = Prompt.load(write_folder(chatml(), tmp_path)), TemplateOptions(ending="continue")
    for text in ("Well, ", "", "a <|im_end|> and <|im_", "<|im_end|>", "two\n\n"):
        said = [*ASKED, Message("assistant", text)]
        ids = prompt.conversation_ids(said, on).tolist()
        assert prompt.decoded(ids).endswith(f"<|im_start|>assistant\n{text}")
        assert ids.count(prompt.tokenizer.token_to_id("<|im_end|>")) == 1  # the user's turn
    closed = prompt.conversation_ids(ASKED, TemplateOptions(ending="nothing")).tolist()
    assert prompt.decoded(closed).endswith("hi<|im_end|>\n")
    deaf = with_template(tmp_path, "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}")
    with pytest.raises(InvalidRequest, match="leaves out the last message: it cannot be continued"):
        deaf.conversation_ids([*ASKED, Message("assistant", "so")], on)


# What templates ask of the ids of calls.

CALL: Any = {"id": "call_0123456789abcdef01234567", "type": "function", "function": {"name": "add", "arguments": {}}}
CALLED = [
    *ASKED,
    Message("assistant", "", tool_calls=(CALL,)),
    Message("tool", "seven", tool_call_id=CALL["id"], name="add"),
]
REFUSING = [
    "{% if c.id | length != 9 %}{{ raise_exception('no') }}{% endif %}",
    "{% set n = c.id | length %}{% if n > 9 %}{{ raise_exception('no') }}{% endif %}",
    "{% if not (c.id | length == 9) %}{{ raise_exception('no') }}{% endif %}",
    "{{ '' if c.id | length == 9 else raise_exception('no') }}",
]
OF_CALLS = """{% for m in messages %}<|im_start|>{{ m.role }}
{% for c in m.tool_calls or [] %}CHECK{{ c.function.name }} as {{ c.id }}{% endfor %}
{%- if m.tool_call_id is defined %}{{ m.tool_call_id }}: {% endif %}{{ m.content }}<|im_end|>
{% endfor %}"""


@pytest.mark.parametrize("check", REFUSING)
def test_ids_of_calls_that_the_template_refuses_become_short_ones(tmp_path: Path, check: str) -> None:
    text = with_template(tmp_path, OF_CALLS.replace("CHECK", check)).render(CALLED)
    (id,) = re.findall("add as (.*)<", text)
    assert re.fullmatch("[a-z0-9]{9}", id) and f"{id}: seven" in text
    short = [{**CALL, "id": "a1b2c3d4e"}]
    given = [*ASKED, Message("assistant", "", tool_calls=tuple(short)), Message("tool", "7", tool_call_id="a1b2c3d4e")]
    assert "add as a1b2c3d4e<" in with_template(tmp_path, OF_CALLS.replace("CHECK", check)).render(given)


def test_ids_of_calls_stay_as_they_are_elsewhere(tmp_path: Path) -> None:
    text = with_template(tmp_path, OF_CALLS.replace("CHECK", "")).render(CALLED)
    assert text.count(CALL["id"]) == 2
    never = with_template(tmp_path, "{{ raise_exception('no tools here: ' + messages[1].tool_calls[0].id) }}")
    with pytest.raises(InvalidRequest, match=CALL["id"]):
        never.render(CALLED)


# Two templates.

TOOL: Any = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
PLAIN = "plain {{ messages[0].content }}"
WITH_TOOLS = 'tools {{ tools | tojson }} <tool_call>{"name": "add"}</tool_call> {{ messages[0].content }}'


@pytest.mark.parametrize("saved", ["listed", "beside it"])
def test_the_template_that_is_meant_for_tools_is_used_where_there_are_tools(tmp_path: Path, saved: str) -> None:
    with_template(tmp_path, PLAIN)
    if saved == "listed":
        (tmp_path / "chat_template.jinja").unlink()
        config = json.loads((tmp_path / "tokenizer_config.json").read_text())
        named = [{"name": "default", "template": PLAIN}, {"name": "tool_use", "template": WITH_TOOLS}]
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": named}))
    else:
        (tmp_path / "additional_chat_templates").mkdir()
        (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text(WITH_TOOLS)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    prompt, said = Prompt.load(tmp_path), [{"role": "user", "content": "hi"}]
    for tools in ([TOOL], None):
        expected = theirs.apply_chat_template(said, tools=tools, tokenize=False)
        assert prompt.render(ASKED, template_options=TemplateOptions(tools and tuple(tools))) == expected
        assert ('"add"' in expected) == bool(tools)
    assert prompt.calls and prompt.calls.opening == "<tool_call>"


@pytest.mark.parametrize("sign", ["<|tool_call|> and a JSON list", "<tool_call> and </tool_call>", "[TOOL_CALLS]"])
def test_a_call_of_the_history_is_in_the_prompt_though_the_template_has_no_word_for_it(
    tmp_path: Path, sign: str
) -> None:
    deaf = f"{CHATML}{{% if tools %}}{{{{ tools | tojson }}}} Answer with {sign}.{{% endif %}}"
    call = {**CALL, "function": {"name": "add", "arguments": {"city": "Rome"}}}
    said = [*ASKED, Message("assistant", "", tool_calls=(call,)), Message("tool", "sunny", tool_call_id=call["id"])]
    for tools in ((TOOL,), None):
        text = with_template(tmp_path, deaf).render(said, template_options=TemplateOptions(tools))
        assert text.count("Rome") == 1 and "sunny" in text
    with pytest.raises(InvalidRequest, match="leaves out what the assistant called"):
        with_template(tmp_path, CHATML).render(said)


# Tools as templates read them.


@pytest.mark.parametrize(
    "template",
    [
        "{% for t in tools or [] %}{{ t.function.name }}: {{ t.function.description + '!' }}{% endfor %}",
        "{% for t in tools or [] %}{% for p in t.function.parameters.properties.items() %}-{% endfor %}"
        "{{ t.function.name }}{% endfor %}",
        "{% for t in tools or [] %}{{ t.function.parameters | tojson }}{{ t.function.name }}{% endfor %}",
    ],
)
@pytest.mark.parametrize("left", [{}, {"parameters": {}}, {"parameters": {"type": "object"}}, {"description": "Adds."}])
def test_a_tool_may_leave_out_what_the_template_reads(tmp_path: Path, template: str, left: Any) -> None:
    prompt = with_template(tmp_path, template + "{{ messages[0].content }}")
    tool = {"type": "function", "function": {"name": "add", **left}}
    assert "add" in prompt.render(ASKED, template_options=TemplateOptions((tool,)))


def test_a_tool_is_shown_as_it_was_sent_where_the_template_takes_it_so(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "add"}}
    text = with_template(tmp_path, "{{ tools | tojson }}").render(ASKED, template_options=TemplateOptions((tool,)))
    assert json.loads(text) == [tool]


def test_tools_have_the_name_that_the_template_reads(tmp_path: Path) -> None:
    template = "{% if xml_tools %}{% for t in xml_tools[:] %}{{ t | string }}{% endfor %} in <tool_call>{% endif %}"
    prompt = with_template(tmp_path, f"{template}{CHATML}")
    text = prompt.render(ASKED, template_options=TemplateOptions((TOOL,)))
    assert "'name': 'add'" in text and "'add'" not in prompt.render(ASKED)
    special = {**TOOL, "function": {**TOOL["function"], "description": "<|im_end|>"}}
    ids = prompt.conversation_ids(ASKED, TemplateOptions((special,))).tolist()
    assert ids.count(prompt.tokenizer.token_to_id("<|im_end|>")) == 1, "the template's own"


# What ends a turn.


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize(
    ("after", "end"),
    [
        ("\n<extra_id_1>", "<extra_id_1>"),
        ("<end_of_turn>\n", "<end_of_turn>"),
        ("\n\n[|endofturn|]", "[|endofturn|]"),
        (" </answer><|eot|>\n", "<|eot|>"),
        ("</s><extra_id_1>", "</s>"),
    ],
)
def test_the_first_mark_after_an_answer_ends_it(tmp_path: Path, after: str, end: str, special: bool) -> None:
    kind = chatml()
    marks = ("<extra_id_1>", "<end_of_turn>", "[|endofturn|]", "</answer>", "<|eot|>", "</s>")
    kind.tokenizer.add_tokens([AddedToken(mark, special=special, normalized=False) for mark in marks])
    template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}"
        f"{{% if m.role == 'assistant' %}}{{{{ {after!r} }}}}{{% endif %}}{{% endfor %}}"
    )
    answers = "{# <answer> and </answer>, <think> and </think> #}" if "answer" in after else ""
    prompt = Prompt.load(write_folder(replace(kind, template=template + answers), tmp_path))
    assert prompt.tokenizer.token_to_id(end) in prompt.end_ids
    assert len(prompt.end_ids) == 2  # and what the files say


def test_the_first_mark_of_the_next_turn_ends_one_where_nothing_stands_after_the_last(tmp_path: Path) -> None:
    kind = chatml()
    kind.tokenizer.add_tokens([AddedToken("<extra_id_1>", special=True, normalized=False)])
    template = "{% for m in messages %}<extra_id_1>{{ m.role }}\n{{ m.content }}\n{% endfor %}"
    prompt = Prompt.load(write_folder(replace(kind, template=template), tmp_path))
    assert prompt.tokenizer.token_to_id("<extra_id_1>") in prompt.end_ids


# Control tokens that no template names.


@pytest.mark.parametrize(
    "mark", ["</s>", "<s>", "<pad>", "<think>", "</think>", "<tool_call>", "[INST]", "<fim_prefix>", "<|file|>"]
)
@pytest.mark.parametrize("rstrip", [False, True])
def test_a_user_may_not_write_a_mark_that_the_template_does_not_name(tmp_path: Path, mark: str, rstrip: bool) -> None:
    kind = llama3()
    kind.tokenizer.add_tokens([AddedToken(mark, special=False, normalized=False, rstrip=rstrip)])
    prompt = Prompt.load(write_folder(kind, tmp_path))
    token, text = prompt.tokenizer.token_to_id(mark), f"what is {mark} 7?"
    ids = prompt.conversation_ids([Message("user", text)]).tolist()
    assert token not in ids and text in prompt.decoded(ids)
    ids = prompt.conversation_ids([Message("system", text), Message("user", text), Message("tool", text)]).tolist()
    assert token not in ids


# Which variables a template reads.


@pytest.mark.parametrize(
    ("template", "reads"),
    [
        ("{% if think %}yes{% endif %}", True),
        ("{% if think is not defined %}{% set think = true %}{% endif %}{{ think }}", True),
        ("{% if think is defined and think is false %}no{% endif %}", True),
        ("{% macro m() %}{{ think }}{% endmacro %}{{ m() }}", True),
        ("<think>{{ messages[0].think }}", False),
        ("{# think #}{{ 'think' }}", False),
        ("{% for think in messages %}{{ think.content }}{% endfor %}", False),
        ("{% set think = true %}{{ think }}", False),
        ("{{ enable_think }}", False),
    ],
)
def test_an_argument_is_known_where_the_template_reads_a_variable_of_that_name(
    tmp_path: Path, template: str, reads: bool
) -> None:
    prompt, told = with_template(tmp_path, template), TemplateOptions(arguments={"think": False})
    if reads:
        prompt.render(ASKED, template_options=told)
        return
    with pytest.raises(InvalidRequest, match="knows nothing of 'think'"):
        prompt.render(ASKED, template_options=told)
