"""Control tokens are written by the chat template alone: the same text in a message is encoded as text.

Wherever an input spells out a control token, marks are put around it before the template is rendered. What stands
unmarked in the rendered text was written by the template. The whole text is then encoded at once, so that words merge
as ever, by a copy of the tokenizer to which only secret names are control tokens.
"""

import json
import re
import secrets
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from os.path import commonprefix
from typing import Any

from tokenizers import AddedToken, Tokenizer

from serving.errors import ModelFolderError
from serving.text.reasoning import Markers

# Whatever looks like markup controls the model, special or not, but for the elements of HTML: Gemma has them in its
# vocabulary. Not <s>, which begins a text for most models.
CONTROL_SHAPE = re.compile(r"<[|\uff5c].+[|\uff5c]>", re.DOTALL)
_HTML = re.compile(
    r"</?(?:a|b|i|u|p|h[1-6]|br|hr|em|strong|code|pre|sub|sup|strike|blockquote|table|caption|thead|tbody|tfoot|tr|th|td"
    r"|ul|ol|li|div|span|img|html|head|body|title|script|style|link|meta|form|input|button|label|select|option|svg)/?>"
)
_SENTENCE = re.compile(r"</?(?:s|pad|unk|bos|eos|mask|cls|sep)>", re.IGNORECASE)
_MARKUP = re.compile(r"[<\[\u25c1].*[>\]\u25b7]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a template is given, as plain JSON values."""

    conversation: list[dict[str, Any]]
    tools: list[Any] | None
    arguments: dict[str, Any]


class ControlTokens:
    """Which tokens of a model control it, and how to keep them out of what others write.

    markers, calls: what the model itself writes around its reasoning and its calls.
    special_ids: the tokens that are never text in an answer.
    """

    def __init__(
        self, tokenizer: Tokenizer, template: str, markers: Markers | None, calls: Collection[str] = ()
    ) -> None:
        added = tokenizer.get_added_tokens_decoder()
        self.special_ids = frozenset(id for id, token in added.items() if token.special)
        special = {token.content for token in added.values() if token.special and not token.content.isspace()}
        others = {token.content for token in added.values() if _MARKUP.fullmatch(token.content)} - special
        texts = special | {text for text in others if text in template or not _HTML.fullmatch(text)}
        # An answer in the history is the model's own: its reasoning and its tool calls are read as it wrote them. But
        # it may repeat what a user asked it to, so the tokens that end and begin turns are text there too.
        own = {text for text in texts - special if not (CONTROL_SHAPE.fullmatch(text) or _SENTENCE.fullmatch(text))}
        own |= set(calls)
        if markers is not None:
            own |= {markers.opening, markers.closing}
        answer = markers.answer if markers and markers.answer else ()
        written = (markers.opening, markers.closing, *markers.parts) if markers else ()
        self._of_answers = {*calls, *answer, *written}
        self._tokenizer = tokenizer
        self._anywhere, self._in_answers = _Finder(tokenizer, texts), _Finder(tokenizer, texts - own)
        # Digits survive whatever a template does to text, and nobody can guess them.
        secret = f"{secrets.randbelow(10**24):024}"
        self._begin, self._end = f"~{secret}0~", f"~{secret}1~"
        self._names = {text: f"~{secret}{n}~" for n, text in enumerate(sorted(texts), start=2)}

    def ends(self, token: AddedToken) -> bool:
        """Whether a token that a template writes after an answer ends it: any markup but what answers are made of."""
        text = token.content
        marks = (token.special and not text.isspace()) or _MARKUP.fullmatch(text) is not None
        return bool(marks and text not in self._of_answers)

    def mark(self, inputs: Inputs) -> Inputs | None:
        """The inputs with marks around the control tokens that they spell out; None if there are none."""
        found = False

        def mark(text: str, finder: "_Finder" = self._anywhere) -> str:
            nonlocal found
            if not finder.finds(text):
                return text
            found = True
            marked = finder.pattern.sub(lambda match: f"{self._begin}{match[0]}{self._end}", text)
            # The end of this text must not make a token together with what the template puts after it.
            whole = marked.rstrip()
            return f"{whole}{self._end}{marked[len(whole) :]}" if finder.finds_beginning(text) else marked

        def mark_message(message: dict[str, Any]) -> dict[str, Any]:
            by_model = ("content",) if message["role"] == "assistant" else ()
            others = {name: value for name, value in message.items() if name not in ("role", *by_model)}
            own = {name: mark(message[name], self._in_answers) for name in by_model}
            marked: dict[str, Any] = _mapped(others, mark)
            return message | marked | own

        arguments = {name: _mapped(value, mark) for name, value in inputs.arguments.items()}
        marked = Inputs([*map(mark_message, inputs.conversation)], _mapped(inputs.tools, mark), arguments)
        return marked if found else None

    def named(self, rendered: str) -> str:
        """The text that a template made of marked inputs, as `private` takes it."""
        return self._rendered.sub(lambda match: match[1] or self._names.get(match[0], ""), rendered)

    @cached_property
    def _rendered(self) -> re.Pattern[str]:
        # A template may cut a text in two between its marks, which are then found alone.
        token = self._anywhere.pattern.pattern
        return re.compile(f"{self._begin}({token}){self._end}|{self._begin}|{self._end}|{token}")

    @cached_property
    def private(self) -> Tokenizer:
        """The tokenizer with a secret name for each control token, made when it is first needed."""
        names, normalizer = self._names, self._tokenizer.normalizer
        file = json.loads(self._tokenizer.to_str())
        for token in file["added_tokens"]:
            text = token["content"]
            if text in names:
                token["content"] = names[text]
                if normalizer and normalizer.normalize_str(text) != text:
                    token["normalized"] = False  # the name would not be found
        # The model must not know the old names either: Unigram looks up pieces of text in its whole vocabulary.
        model = file["model"]
        if isinstance(model["vocab"], dict):
            model["vocab"] = {names.get(piece, piece): id for piece, id in model["vocab"].items()}
        else:
            model["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
        if "merges" in model:
            model["merges"] = [[a, b] for a, b in model["merges"] if not {a, b, a + b} & names.keys()]
        if model.get("unk_token") in names:
            model["unk_token"] = names[model["unk_token"]]
        private = Tokenizer.from_str(json.dumps(file))
        for text, name in names.items():
            if private.token_to_id(name) != self._tokenizer.token_to_id(text):
                raise ModelFolderError(f"tokenizer.json gives the control token {text!r} two ids: it cannot be served.")
        return private


class _Finder:
    """Looks for some texts in a text, and in what the tokenizer's normalizer would make of it."""

    def __init__(self, tokenizer: Tokenizer, texts: Collection[str]) -> None:
        self.pattern = re.compile(longest_of(texts))
        self._beginnings = {text[:n] for text in texts for n in range(1, len(text))}
        self._longest = max(map(len, self._beginnings), default=0)
        normalized = any(token.normalized for token in tokenizer.get_added_tokens_decoder().values())
        self._normalizer = tokenizer.normalizer if normalized else None
        if self._normalizer:
            self._normalized = re.compile(longest_of(map(self._normalizer.normalize_str, texts)))

    def finds(self, text: str) -> bool:
        if self.pattern.search(text) or self.finds_beginning(text):
            return True
        return bool(self._normalizer and self._normalized.search(self._normalizer.normalize_str(text)))

    def finds_beginning(self, text: str) -> bool:
        """Whether the text ends with the beginning of what is looked for."""
        end = text.rstrip()[-self._longest :]
        return any(end[n:] in self._beginnings for n in range(len(end)))


def longest_of(texts: Iterable[str]) -> str:
    """A regular expression for the longest of the texts, none of which is empty; nothing matches where there is none.

    As a trie, since a tokenizer may have a thousand of them.
    """
    wanted = set(texts) - {""}
    return _trie(wanted) if wanted else "(?!)"


def _trie(texts: set[str]) -> str:
    head = commonprefix(list(texts))  # noqa: RUF071 - these are no paths
    tails: dict[str, set[str]] = defaultdict(set)
    for tail in {text[len(head) :] for text in texts} - {""}:
        tails[tail[0]].add(tail)
    if not tails:
        return re.escape(head)
    branches = "|".join(_trie(tails[first]) for first in sorted(tails))
    return f"{re.escape(head)}(?:{branches}){'?' if head in texts else ''}"


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """JSON values with every text in them changed, the names in objects too."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {_mapped(name, change): _mapped(part, change) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(part, change) for part in value]
    return value
