"""A chat template that knows of tools, and model folders that have it: a grammar holds any model to its calls."""

import shutil
from pathlib import Path

TEMPLATE = """{%- if tools %}<|im_start|>system
Tools: {{ tools | tojson }} Call them as <tool_call>{"name": ..., "arguments": ...}</tool_call><|im_end|>
{% endif %}{%- for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}<|im_end|>
{% endfor %}{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def with_tools(folder: Path, place: Path) -> Path:
    """A copy at `place` of an exported model, as anybody may have changed it."""
    shutil.copytree(folder, place)
    (place / "chat_template.jinja").write_text(TEMPLATE)
    (place / "manifest.json").unlink(missing_ok=True)
    return place
