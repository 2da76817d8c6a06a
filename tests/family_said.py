"""What the makers of each family say of it: how it writes tool calls and reasoning, and its longest window."""

from dataclasses import dataclass

from tokenizers import Tokenizer, models

from serving.text.reasoning import find_markers
from serving.text.tools import format_of


@dataclass(frozen=True)
class Said:
    """calls: the marks by which a template that has tools is told, joined by blanks; empty for no tools.

    shown: what is printed of them, where it is another. reasoning: the opening marker. window: tokens, as
    max_position_embeddings of the longest. some: which models of the family have tools or reasoning, where not all do.
    """

    calls: str
    reasoning: str
    window: int
    shown: str = ""
    some_calls: str = ""
    some_reasoning: str = ""

    def tools(self) -> str:
        """Of the table: the format, and whether serving reads it."""
        if not self.calls:
            return "none in its template"
        read = format_of(self.calls, Tokenizer(models.BPE())) is not None
        return _cell(self.shown or self.calls.split()[0], self.some_calls, read)

    def thoughts(self) -> str:
        """The same of reasoning."""
        return _cell(self.reasoning, self.some_reasoning, find_markers({}, self.reasoning) is not None)


def _cell(mark: str, some: str, read: bool) -> str:
    if not mark:
        return "none"
    mark = mark.replace("|", "\\|")  # a table's cell ends at a plain one, in code too
    return f"`{mark}`" + (f" ({some})" if some else "") + ("" if read else ": not read, it stays text")


_JSON = '{"name": function, "parameters": arguments}'
_GLM = "<|observation|> \u8bf7\u4f7f\u7528 Json \u683c\u5f0f\u8868\u793a\u8c03\u7528\u7684\u53c2\u6570"

FAMILIES_SAID: dict[str, Said] = {
    "llama": Said(
        _JSON, "<think>", 131_072, '{"name": ...}', "3.1, 3.2; Hermes, SmolLM2 `<tool_call>`", "R1 distilled"
    ),
    "mistral": Said("[TOOL_CALLS]", "[THINK]", 131_072, some_calls="from v0.3", some_reasoning="Magistral"),
    "ministral": Said("[TOOL_CALLS]", "", 32_768),
    "ministral3": Said("[TOOL_CALLS] [ARGS]", "[THINK]", 262_144, "[TOOL_CALLS]f[ARGS]", "", "Reasoning"),
    "qwen2": Said("<tool_call>", "<think>", 131_072, some_calls="2.5", some_reasoning="R1 distilled, QwQ"),
    "qwen3": Said("<tool_call>", "<think>", 262_144),
    "mixtral": Said("", "", 65_536),
    "granitemoe": Said("<|tool_call|>", "", 131_072, some_calls="3.1"),
    "olmoe": Said("", "", 4_096),
    "gpt_oss": Said("<|channel|>commentary to=", "<|channel|>analysis<|message|>", 131_072),
    "qwen3_5_moe_text": Said("<tool_call> <function=", "<think>", 262_144, "<tool_call><function=f>"),
    "lfm2_moe": Said("<|tool_call_start|>", "", 128_000),
    "olmo": Said("", "", 4_096),
    "qwen3_moe": Said("<tool_call>", "<think>", 262_144, "", "Coder `<tool_call><function=f>`", "Thinking"),
    "phi3": Said("<|tool|>", "<think>", 131_072, "<|tool_call|>", "Phi-4 mini", "Phi-4 reasoning"),
    "gemma": Said("", "", 8_192),
    "gemma2": Said("", "", 8_192),
    "gemma3_text": Said("", "", 32_768),
    "gemma4_unified_text": Said("<|tool_call>", "<|channel>thought", 262_144),
    "gemma4_text": Said("<|tool_call>", "<|channel>thought", 262_144),
    "granite": Said("<|tool_call|>", "<think>", 131_072, some_reasoning="3.2, 3.3"),
    "granitemoehybrid": Said("<tool_call>", "", 131_072),
    "hunyuan_v1_dense": Said("<tool_call> <tool_sep>", "<think>", 262_144, "<tool_call>f<tool_sep>"),
    "smollm3": Said("<tool_call>", "<think>", 65_536),
    "ernie4_5": Said("", "", 131_072),
    "nemotron": Said("<toolcall>", "", 4_096),
    "qwen3_5_text": Said("<tool_call> <function=", "<think>", 262_144, "<tool_call><function=f>"),
    "lfm2": Said("<|tool_call_start|>", "", 128_000),
    "seed_oss": Said("<seed:tool_call> <function=", "<seed:think>", 524_288, "<seed:tool_call>"),
    "internlm3": Said("", "", 32_768),
    "helium": Said("", "", 4_096),
    "glm": Said(_GLM, "", 131_072, "f\\n{...}"),
    "cwm": Said("", "<think>", 131_072),
    "olmo2": Said("", "", 4_096),
    "olmo3": Said("<function_calls>", "<think>", 65_536, some_reasoning="Think"),
    "exaone4": Said("<tool_call>", "<think>", 131_072),
    "glm4": Said(_GLM, "", 32_768, "f\\n{...}"),
}
