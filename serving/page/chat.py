"""What the chat page decides, apart from how it is drawn: history -> messages, controls -> options, facts -> text."""

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from serving.errors import InvalidRequest, ServingError
from serving.folder import ModelFolder
from serving.page.marks import said, shown
from serving.types import Chunk, Message, SamplingOptions, TemplateOptions

_ENDINGS = {"stop": "ended by itself", "length": "cut off at the token limit", "cancelled": "stopped"}
Turn = dict[str, Any]  # one message as gr.Chatbot has it: role, content (a list of parts) and more

BUSY = " …"  # ends the status line while an answer is being made
LOADING = f"loading the model{BUSY}"
REASONING = "Reasoning"
_LONGEST_NAME = 200  # of a model, in characters
LONGEST_ANSWER = 512  # tokens, where neither the caller nor the model says otherwise
OPEN, DONE = "pending", "done"  # whether an answer can be gone on with, in Gradio's words
EDITED = "edited"  # the line of an answer that its reader wrote anew
CONTINUE = {"value": "continue", "label": "Continue"}  # beneath an answer that can
AS_IT_DOES = "as the model does"
THINKING = {AS_IT_DOES: None, "on": True, "off": False}


def turn(role: str, text: str) -> Turn:
    """One message for gr.Chatbot. A plain string would lose its indentation there."""
    return {"role": role, "content": [{"type": "text", "text": shown(text)}]}


def thought(text: str) -> Turn:
    """What a model thought before its answer, which gr.Chatbot folds away under a title."""
    return {**turn("assistant", text), "metadata": {"title": REASONING}}


def made(text: str, line: str, status: str) -> Turn:
    """An answer with what is told of it. status: OPEN until it has ended by itself."""
    return {**turn("assistant", text), "metadata": {"log": line, "status": status}}


def text_of(content: str | Sequence[Mapping[str, Any]]) -> str:
    """The text of a message's content, which gr.Chatbot gives as a string or as a list of parts."""
    if isinstance(content, str):
        return said(content)
    return said("".join(part["text"] for part in content if part.get("type") == "text"))


def to_messages(history: Sequence[Turn], system: str) -> list[Message]:
    """The conversation for the engine, without what the model thought: that is not for the next turn.

    Answers that were stopped before their first word are left out, and what then stands side by side is joined:
    most chat templates refuse two user turns in a row.
    """
    answers = [each for each in history if (each.get("metadata") or {}).get("title") != REASONING]
    spoken = [(each["role"], text_of(each["content"])) for each in answers]
    messages = [
        Message(role, "\n\n".join(text for _, text in group))
        for role, group in groupby((pair for pair in spoken if pair[1]), key=lambda pair: pair[0])
    ]
    return [Message("system", system.strip()), *messages] if system.strip() else messages


def without_answer(history: Sequence[Turn]) -> list[Turn]:
    """The history up to its last question."""
    kept = list(history)
    while kept and kept[-1]["role"] != "user":
        kept.pop()
    return kept


def without_question(history: Sequence[Turn]) -> tuple[list[Turn], str]:
    """The history without its last question and answer, and that question."""
    kept = without_answer(history)
    return kept[:-1], text_of(kept[-1]["content"]) if kept else ""


def unanswered(history: Sequence[Turn]) -> tuple[list[Turn], str]:
    """The history without a last question that got no answer, and that question, to be given back to its writer."""
    asks = bool(history) and history[-1]["role"] == "user"
    return without_question(history) if asks else (list(history), "")


def drafted(question: str, draft: str) -> str:
    """What stands in the box: a question that comes back to it, before what has been written there meanwhile."""
    return "\n\n".join(filter(None, (question, draft)))


def edited(history: Sequence[Turn], index: int, text: str) -> list[Turn]:
    """The history with another text at `index`: up to it where it is a question, and all of it where it is an answer.

    An answer that was edited can be gone on with, if it is the last: `offered` says so, once nothing runs any more.
    """
    if index >= len(history):
        return list(history)
    if history[index]["role"] == "user":
        return [*history[:index], turn("user", text)]
    # Gradio's page has put in already what was typed, and for each part of an answer there is an event.
    kept = [{**each, **turn(each["role"], text_of(each["content"]))} for each in history]
    kept[index] = {**kept[index], **turn("assistant", text)}
    if (kept[index].get("metadata") or {}).get("title") != REASONING:
        kept[index] = made(text, EDITED, DONE)
    return offered(kept) if is_open(kept) else kept


def is_open(history: Sequence[Turn]) -> bool:
    """Whether the history ends with an answer that can be gone on with."""
    last: Turn = history[-1] if history else {}
    return (last.get("metadata") or {}).get("status") == OPEN and bool(text_of(last["content"]))


def offered(history: Sequence[Turn]) -> list[Turn]:
    """The history once nothing runs any more: an answer that can be gone on with says so."""
    *before, last = history or [{}]
    line = settled((last.get("metadata") or {}).get("log"))
    if not is_open(history) and not (line == EDITED and text_of(last["content"])):
        return list(history)
    return [*before, {**last, "metadata": {"log": line, "status": OPEN}, "options": [dict(CONTINUE)]}]


def continued(history: Sequence[Turn]) -> list[Turn]:
    """The history whose last answer is to go on."""
    return [*history[:-1], {**history[-1], "options": None}] if is_open(history) else list(history)


def goes_on(history: Sequence[Turn]) -> bool:
    """Whether it is the last answer that is to go on."""
    return is_open(history) and not history[-1].get("options")


def to_options(
    temperature: float,
    top_p: float,
    top_k: float,
    min_p: float,
    repetition_penalty: float,
    max_tokens: float,
    seed: str,
    stop: str,
) -> SamplingOptions:
    r"""What the controls say. An empty seed is a random one; stop strings stand one on a line, \n is a line break.

    Raises InvalidRequest for a value that cannot be used.
    """
    if seed.strip() and not seed.strip().isdecimal():
        raise InvalidRequest(f"seed must be a whole number, 0 or more, or empty for a random one, not {seed!r}.")
    return SamplingOptions(
        temperature=float(temperature),
        top_p=float(top_p),
        top_k=int(top_k),
        min_p=float(min_p),
        repetition_penalty=float(repetition_penalty),
        max_tokens=int(max_tokens),
        seed=int(seed) if seed.strip() else None,
        stop=tuple(line.replace("\\n", "\n") for line in stop.splitlines() if line.strip()),
    )


def to_template(thinking: str, continued: bool) -> TemplateOptions:
    """What the chat template is told. thinking: one of THINKING."""
    wanted = THINKING[thinking]
    hints = {} if wanted is None else {"enable_thinking": wanted}
    return TemplateOptions(hints=hints, ending="continue" if continued else "answer")


def suggested_options(generation: Mapping[str, Any]) -> SamplingOptions:
    """Where the controls begin: what the model's generation_config.json suggests, if it is usable."""

    def number(key: str, otherwise: float) -> float:
        value = generation.get(key)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else otherwise

    try:
        return SamplingOptions(
            temperature=number("temperature", 0.7),
            top_p=number("top_p", 0.95),
            top_k=int(number("top_k", 0)),
            min_p=number("min_p", 0.0),
            repetition_penalty=number("repetition_penalty", 1.0),
            max_tokens=LONGEST_ANSWER,
        )
    except InvalidRequest:
        return suggested_options({})


def status_line(chunk: Chunk, window: int) -> str:
    """How far an answer is, and in the end how full the window."""
    if chunk.loading:
        return LOADING
    if chunk.finish_reason is not None:
        return f"{chunk.prompt_tokens + chunk.completion_tokens:,} of {window:,} tokens of the window are used"
    if chunk.completion_tokens == 0:
        return f"reading {chunk.prefilled_tokens:,} of {chunk.prompt_tokens:,} tokens{BUSY}"
    return answer_line(chunk)


def answer_line(chunk: Chunk, name: str = "") -> str:
    """What an answer took so far, and how it ended. name: of the model, where there are several."""
    parts = [name[:_LONGEST_NAME]] if name else []
    if chunk.completion_tokens > 1 and chunk.decode_seconds > 0:
        # The first token comes out of the prefill.
        parts.append(f"{(chunk.completion_tokens - 1) / chunk.decode_seconds:,.1f} tokens/s")
    wait = (
        f"{chunk.prefill_seconds:.2f} s" if chunk.prefill_seconds >= 0.1 else f"{chunk.prefill_seconds * 1000:.0f} ms"
    )
    parts.append(f"{_counted(chunk.completion_tokens, 'token')}, the first after {wait}")
    parts.append(f"prompt {_counted(chunk.prompt_tokens, 'token')}, {chunk.cached_tokens:,} cached")
    if chunk.dropped_messages:
        parts.append(f"{_counted(chunk.dropped_messages, 'message')} left out, the oldest")
    if chunk.finish_reason:
        parts.append(_ENDINGS[chunk.finish_reason])
    return " · ".join(parts) + ("" if chunk.finish_reason else BUSY)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" + "s" * (count != 1)


def error_line(error: ServingError) -> str:
    """Why there is no answer, or no more of it; markdown in the message is shown as it is."""
    plain = re.sub(r"([\\`*_<>#|~$])", r"\\\1", str(error))
    return f"**{plain.removesuffix('.')}**"


def settled(status: str | None) -> str:
    """The status line once nothing runs any more: an answer that had not ended by itself was stopped."""
    status = status or ""
    return f"{status.removesuffix(BUSY)} · stopped" if status.endswith(BUSY) else status


def choices(models: Mapping[str, tuple[ModelFolder, int]]) -> list[tuple[str, str]]:
    """The models to choose from: what is told of each, and its name. models: folder and window, in tokens, by name."""

    def told(folder: ModelFolder, window: int) -> str:
        size = f"{folder.size / 1e6:,.0f} MB" if folder.size < 1e9 else f"{folder.size / 1e9:,.1f} GB"
        return f"{size}, window of {window:,} tokens"

    return [(f"{name} · {told(*facts)}", name) for name, facts in models.items()]


def model_line(manifest: Mapping[str, Any], loading: bool = False) -> str:
    """Recipe and measured quality of the served model in one line; a folder made elsewhere records neither.

    loading: whether it is still being loaded.
    """
    recipe, target, quality = (
        part if isinstance(part := manifest.get(key), Mapping) else {} for key in ("recipe", "target", "quality")
    )
    parts = []
    if "group_size" in recipe:
        name = str(recipe.get("quant_algo", "")).upper()
        algorithm = "round to nearest" if name == "NONE" else name
        parts.append(f"UINT4 {algorithm}, group {recipe['group_size']}")
    if "execution_provider" in target:
        parts.append(str(target["execution_provider"]))
    measured = next((part for kind in ("chats", "text") if isinstance(part := quality.get(kind), Mapping)), {})
    if {"perplexity_original", "perplexity_exported"} <= measured.keys():
        parts.append(f"perplexity {measured['perplexity_original']:.2f} → {measured['perplexity_exported']:.2f}")
    if "top1_agreement" in measured:
        parts.append(f"same next token as the original {measured['top1_agreement']:.0%}")
    line = " · ".join(parts) or "recipe and quality not recorded in this folder"
    return f"{LOADING} · {line}" if loading else line
