"""llm: a prompt, and the conversation going on, from its command line, with functions too, and a tool that is run."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Literal

import llm

home = Path(os.environ["LLM_USER_PATH"])
home.mkdir(exist_ok=True)
(home / "extra-openai-models.yaml").write_text(
    f"- model_id: here\n  model_name: {os.environ['MODEL']}\n  api_base: {os.environ['OPENAI_BASE_URL']}\n"
    "  supports_tools: true\n"
)
functions = 'def weather(city: str) -> str:\n    "What the weather is."\n    return f"sunny in {city}"'
for words in (["hello"], ["-c", "and?"], ["--no-stream", "hello"], ["--functions", functions, "hello"]):
    said = subprocess.run(
        [sys.executable, "-m", "llm", "prompt", "-m", "here", *words], check=True, capture_output=True, text=True
    )
    assert said.stdout.strip(), said.stderr


def weather(city: Literal["Rome", "Oslo"]) -> str:
    """What the weather is."""
    return f"sunny in {city}"


# It has no tool_choice. An answer that is JSON or a call, and likely begins with a call's mark, is one.
asked = json.dumps({"content": "<tool_call>"}).encode()
with urllib.request.urlopen(os.environ["OPENAI_BASE_URL"].removesuffix("/v1") + "/tokenize", asked) as reply:
    mark = json.load(reply)["tokens"][0]
conversation = llm.get_model("here").conversation(tools=[weather])
called = conversation.prompt("hello", json_object=True, logit_bias={mark: 100}, max_tokens=100)
results = called.execute_tool_calls()
assert results and {result.output for result in results} <= {"sunny in Rome", "sunny in Oslo"}
assert conversation.prompt(tool_results=results).text()
