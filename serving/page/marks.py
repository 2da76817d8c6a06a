"""A message as it is said -> as gr.Chatbot draws it, and back.

Gradio draws a message's HTML as HTML: the words "use the <button> element" would lose one, and what a model wrote could
cover the page or ask for a password. A character without width behind a `<` makes a text of it, wherever it stands, for
every reader of Markdown. Formulas between single dollars are the other thing that Gradio cannot tell from prices.
"""

import re

MARK = "\N{WORD JOINER}"
# What Gradio is told to draw as formulas. Single dollars are not among them: "$5 and $10".
FORMULAS: list[dict[str, str | bool]] = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
]
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
# As pandoc has it: no blank inside next to a dollar, and no digit after the second.
_DOLLARS = re.compile(r"(?<![\\$\w])\$(?![\s$])([^$\n]*[^$\s\\])\$(?![\w$])")
_IN_FORMULAS, _VARIABLE = re.compile(r"[\\^_=+{}<>]"), re.compile(r"[A-Za-z]'*(\(.*\))?")
_MARKED = re.compile(rf"{MARK}\\\(([^\n]*?)\\\){MARK}")
_CODE = re.compile(r"^(```+|~~~+)[^\n]*\n.*?(?:^\1|\Z)|(?<!`)(`+)(?!`).+?(?<!`)\2(?!`)", re.DOTALL | re.MULTILINE)


def shown(text: str) -> str:
    """A text for gr.Chatbot."""
    pieces, end = list[str](), 0
    for code in _CODE.finditer(text):
        pieces += [_DOLLARS.sub(_formula, text[end : code.start()]), code[0]]
        end = code.end()
    return _TAG.sub("<" + MARK, "".join([*pieces, _DOLLARS.sub(_formula, text[end:])]))


def said(text: str) -> str:
    """The text that `shown` was given."""
    return _MARKED.sub(r"$\1$", text).replace(f"<{MARK}", "<")


def _formula(found: re.Match[str]) -> str:
    inside = found[1]
    is_one = _IN_FORMULAS.search(inside) or _VARIABLE.fullmatch(inside)
    return f"{MARK}\\({inside}\\){MARK}" if is_one else found[0]
