"""llm: a prompt, and the conversation going on, from its command line."""

import os
import subprocess
import sys
from pathlib import Path

home = Path(os.environ["LLM_USER_PATH"])
home.mkdir(exist_ok=True)
(home / "extra-openai-models.yaml").write_text(
    f"- model_id: here\n  model_name: {os.environ['MODEL']}\n  api_base: {os.environ['OPENAI_BASE_URL']}\n"
)
for words in (["hello"], ["-c", "and?"], ["--no-stream", "hello"]):
    said = subprocess.run(
        [sys.executable, "-m", "llm", "prompt", "-m", "here", *words], check=True, capture_output=True, text=True
    )
    assert said.stdout.strip(), said.stderr
