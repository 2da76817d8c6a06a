"""The renderer of chat templates by itself, as the processes that write prompts import it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
CODE = """
import sys
read = []
sys.addaudithook(lambda event, of: read.append(str(of[0])) if event == "open" else None)
from serving.text.renderer import import_renderer
import_renderer()
from transformers.utils.chat_template_utils import render_jinja_template
template = "{% for message in messages %}{{ message.content | tojson }}{% endfor %}"
print(render_jinja_template([[{"role": "user", "content": "<a>"}]], chat_template=template)[0])
print([file for file in read if "/transformers/models/" in file.replace(chr(92), "/")], len(read) > 100)
"""


def test_it_renders_and_no_file_of_a_model_was_read() -> None:
    found = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[:2] == ["""['"<a>"']""", "[] True"]
