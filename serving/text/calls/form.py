"""How a model writes tool calls, told from what its chat template says of them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tokenizers import Tokenizer

# A call's arguments: with its name in one JSON object, one JSON object after the name, each between marks, or as
# Python writes them.
Syntax = Literal["json", "named", "tags", "python"]
_MARKUP = re.compile(r"<.*>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class CallFormat:
    """How a model writes calls: section, opening, before, name, between, arguments, after, closing, end of section.

    section: around all calls. opening, closing: around each, or around all where they are `listed`. Without an opening,
    the answer begins with its call. Without a closing, it ends with its calls.
    padding: between these marks and the call. also: other marks that such models write in their place.
    arguments: their name in JSON. argument: what stands before an argument's name, between it and the value, and after.
    tokens: ids of those of these texts that are tokens of their own, which no other tokens can spell.
    """

    opening: str = ""
    closing: str = ""
    syntax: Syntax = "json"
    listed: bool = False
    section: tuple[str, str] = ("", "")
    padding: str = ""
    before: str = ""
    between: str = ""
    after: str = ""
    argument: tuple[str, str, str] = ("", "", "")
    arguments: str = "arguments"
    also: tuple[str, ...] = ()
    tokens: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "CallFormat":
        """From what `dataclasses.asdict` and JSON have taken apart."""
        values = dict(fields)
        return cls(**values | {name: tuple(values[name]) for name in ("section", "argument", "also")})

    @property
    def bare(self) -> bool:
        """Whether the answer begins with its call."""
        return not (self.opening or self.section[0])

    @property
    def openings(self) -> tuple[str, ...]:
        """Marks after which a call may stand, longest first."""
        marks = {self.section[0], self.opening, *self.also[::2]} - {""}
        return tuple(sorted(marks, key=len, reverse=True))

    @property
    def closings(self) -> tuple[str, ...]:
        """Marks that may stand after a call, longest first."""
        marks = {self.section[1], self.closing, *self.also[1::2], self.after * ("```" in self.after)} - {""}
        return tuple(sorted(marks, key=len, reverse=True))

    @property
    def marks(self) -> tuple[str, ...]:
        """Every text of the format that a tokenizer may have as a token of its own."""
        return (*self.openings, *self.closings, self.before, self.between, self.after, *self.argument)

    def with_tokens(self, tokenizer: Tokenizer) -> "CallFormat":
        """The format with the ids of its marks.

        llguidance takes an added token for a special one where it is, or where it looks like <...>.
        """
        added = tokenizer.get_added_tokens_decoder().items()
        own = {token.content: id for id, token in added if token.special or _MARKUP.fullmatch(token.content)}
        return replace(self, tokens={text: own[text] for text in own if any(text in mark for mark in self.marks)})


_TOOL_CALL = ("<tool_call>", "</tool_call>")
_FENCE = ("\n```json\n", "\n```")
QWEN = CallFormat(*_TOOL_CALL, padding="\n", also=("<tool_calls>", "</tool_calls>"))
QWEN_CODER = CallFormat(
    *_TOOL_CALL,
    "tags",
    padding="\n",
    before="<function=",
    between=">\n",
    after="</function>",
    argument=("<parameter=", ">\n", "\n</parameter>\n"),
)
SEED = CallFormat(
    "<seed:tool_call>",
    "</seed:tool_call>",
    "tags",
    padding="\n",
    before="<function=",
    between=">\n",
    after="</function>",
    argument=("<parameter=", ">", "</parameter>\n"),
)
GLM = CallFormat(*_TOOL_CALL, "tags", between="\n", argument=("<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>\n"))
HUNYUAN_TAGS = replace(GLM, section=("<tool_calls>\n", "\n</tool_calls>"), between="<tool_sep>\n")
HUNYUAN = CallFormat(
    *_TOOL_CALL,
    "named",
    section=("<tool_calls>\n", "\n</tool_calls>"),
    before="function<tool_sep>",
    between=_FENCE[0],
    after=_FENCE[1],
)
DEEPSEEK = CallFormat(
    "<\uff5ctool▁call▁begin\uff5c>",
    "<\uff5ctool▁call▁end\uff5c>",
    "named",
    section=("<\uff5ctool▁calls▁begin\uff5c>", "<\uff5ctool▁calls▁end\uff5c>"),
    before="function<\uff5ctool▁sep\uff5c>",
    between=_FENCE[0],
    after=_FENCE[1],
)
DEEPSEEK_31 = replace(DEEPSEEK, before="", between="<\uff5ctool▁sep\uff5c>", after="")
MISTRAL = CallFormat("[TOOL_CALLS]", listed=True)
MISTRAL_NAMED = CallFormat("[TOOL_CALLS]", syntax="named", between="[ARGS]")
MISTRAL_ID = CallFormat("[TOOL_CALLS]", syntax="named", between="[CALL_ID]{id}[ARGS]")
GRANITE = CallFormat("<|tool_call|>", listed=True, also=_TOOL_CALL)
PHI = CallFormat("<|tool_call|>", "<|/tool_call|>", listed=True, also=("functools", ""))
NEMOTRON = CallFormat("<TOOLCALL>", "</TOOLCALL>", listed=True)
NEMOTRON_MINI = CallFormat("<toolcall>", "</toolcall>", padding=" ")
LISTED = CallFormat("<tool_calls>", "</tool_calls>", listed=True, also=_TOOL_CALL)
OLMO = CallFormat("<function_calls>", "</function_calls>", "python", padding="\n", between="(", after=")")
LFM = CallFormat("<|tool_call_start|>", "<|tool_call_end|>", "python", listed=True, between="(", after=")")
_PYTHON_MARKS = ("<|python_tag|>", "<|eom_id|>", "<|python_start|>", "<|python_end|>")
LLAMA = CallFormat(arguments="parameters", also=_PYTHON_MARKS)
PYTHONIC = CallFormat(syntax="python", listed=True, between="(", after=")", also=_PYTHON_MARKS)
GLM_0414 = CallFormat(syntax="named", between="\n")

# By what the chat template says of them, all of it; the first that fits.
_SIGNS: tuple[tuple[tuple[str, ...], CallFormat], ...] = (
    (("<seed:tool_call>",), SEED),
    (("[TOOL_CALLS]", "[CALL_ID]"), MISTRAL_ID),
    (("[TOOL_CALLS]", "[ARGS]"), MISTRAL_NAMED),
    (("[TOOL_CALLS]",), MISTRAL),
    (("<\uff5ctool▁call▁begin\uff5c>", "```json"), DEEPSEEK),
    (("<\uff5ctool▁call▁begin\uff5c>",), DEEPSEEK_31),
    (("<function_calls>",), OLMO),
    (("<|tool_call_start|>",), LFM),
    (("<|tool_list_start|>",), LFM),  # LFM2, whose template does not say how it answers
    (("List of tools: [", "keep_past_thinking"), LFM),  # LFM2.5, which does not either
    (("<tool_sep>", "<arg_key>"), HUNYUAN_TAGS),
    (("<tool_call>", "<tool_sep>"), HUNYUAN),
    (("<tool_call>", "<arg_key>"), GLM),
    (("<tool_call>", "<function="), QWEN_CODER),
    (("<tool_calls>",), LISTED),
    (("<tool_call>",), QWEN),
    (("<|/tool_call|>",), PHI),
    (("<|tool|>",), PHI),  # Phi-4-mini, whose template does not say how it answers
    (("<|tool_call|>",), GRANITE),
    (("functools[",), PHI),
    (("<TOOLCALL>",), NEMOTRON),
    (("<toolcall>",), NEMOTRON_MINI),
    (("<extra_id_1>", "<tool>"), NEMOTRON_MINI),  # whose template does not say it either
    (("func_name1(",), PYTHONIC),  # Llama 4, and Llama 3.2 as its model card asks for it
    (("Json 格式表示调用的参数",), GLM_0414),
)
# A call as Llama 3's templates ask for it; with a description, it is how a function is declared.
_LLAMA = re.compile(r"""\{\\?"name\\?":(?:(?!description).)*"parameters\\?":""")
_UNREAD = "<invoke name="  # calls in XML, whatever is around them


def format_of(template: str, tokenizer: Tokenizer) -> CallFormat | None:
    """How a model with this chat template writes calls; None for no calls, or a way that cannot be read here."""
    if _UNREAD in template:
        return None
    signed = (form for signs, form in _SIGNS if _all_in(signs, template))
    form = next(signed, LLAMA if _LLAMA.search(template) else None)
    return form and form.with_tokens(tokenizer)


def _all_in(signs: Iterable[str], template: str) -> bool:
    return all(sign in template for sign in signs)
