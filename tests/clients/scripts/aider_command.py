"""aider: a question, from its command line."""

import os
import subprocess
import sys

quiet = ["--no-analytics", "--no-check-update", "--no-show-release-notes", "--no-show-model-warnings", "--no-git"]
command = [
    sys.executable, "-m", "aider", "--model", f"openai/{os.environ['MODEL']}", *quiet, "--yes-always", "--no-pretty",
    "--map-tokens", "0", "--edit-format", "ask", "--message", "hello",
]  # fmt: skip
said = subprocess.run(command, capture_output=True, text=True)
assert said.returncode == 0 and "received." in said.stdout, said.stdout + said.stderr
