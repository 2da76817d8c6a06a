"""A client's environment, made in a folder of its own, and its script run there."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.clients.table import Client

INSTALL_SECONDS, RUN_SECONDS = 1800, 600
LONGEST_FAULT = 300  # characters
# Clients are not to tell anybody of their use, nor to look for anything elsewhere.
QUIET = {
    "DO_NOT_TRACK": "1",
    "SCARF_NO_ANALYTICS": "true",
    "ANONYMIZED_TELEMETRY": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "LITELLM_TELEMETRY": "False",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "LANGSMITH_TRACING": "false",
    "LOGFIRE_SEND_TO_LOGFIRE": "false",
    "AIDER_ANALYTICS": "false",
    "NEXT_TELEMETRY_DISABLED": "1",
}
_ERROR = re.compile(r"[\w.]*(Error|Exception)\b")


class Fault(Exception):
    """What a command that failed says of it."""


@dataclass(frozen=True)
class Served:
    """What clients are given: the server's address, the model's name, and its folder, for those that count tokens."""

    url: str
    model: str
    folder: Path

    def variables(self, home: Path) -> dict[str, str]:
        """The environment of a script: nothing of the one who runs it but where its programs are."""
        return {
            **{name: os.environ[name] for name in ("PATH", "LANG", "NIX_LD", "SSL_CERT_FILE") if name in os.environ},
            **QUIET,
            "HOME": str(home),
            "LLM_USER_PATH": str(home / "llm"),
            "OPENAI_BASE_URL": f"{self.url}/v1",
            "OPENAI_API_BASE": f"{self.url}/v1",
            "OPENAI_API_KEY": "none",
            "ANTHROPIC_BASE_URL": self.url,
            "ANTHROPIC_API_KEY": "none",
            "MODEL": self.model,
            "FOLDER": str(self.folder.resolve()),
        }


def made(client: Client, folder: Path) -> None:
    """Install the client's packages there, the newest, unless they are there already. Raises Fault."""
    if (folder / "made").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    if client.node:
        (folder / "package.json").write_text('{"private": true}')
        commands = [["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", *client.packages]]
    else:
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        commands = [[sys.executable, "-m", "venv", "."], [*pip, *client.packages]]
    for command in commands:
        run(command, folder, dict(os.environ), INSTALL_SECONDS)
    (folder / "made").touch()


def version(client: Client, folder: Path) -> str:
    """The client's, as it is installed there."""
    name = client.packages[0]
    if client.node:
        package = json.loads((folder / "node_modules" / name / "package.json").read_text())
        return str(package["version"])
    told = f"from importlib.metadata import version; print(version({name!r}))"
    return run([str(folder / "bin" / "python"), "-c", told], folder, dict(os.environ), RUN_SECONDS).strip()


def used(client: Client, folder: Path, served: Served, work: Path, python: str | None = None) -> None:
    """Run the client's script in the empty folder `work`. python: another than the environment's. Raises Fault."""
    file = client.file
    if client.node:  # which looks for packages beside the script
        file = Path(shutil.copy(file, folder))
    program = "node" if client.node else python or str(folder / "bin" / "python")
    run([program, str(file)], work, served.variables(work), RUN_SECONDS)


def run(command: Sequence[str], folder: Path, variables: dict[str, str], seconds: float) -> str:
    """What it writes on stdout. Whatever it has started ends with it. Raises Fault."""
    process = subprocess.Popen(
        command, cwd=folder, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise Fault(f"not done after {seconds:.0f} s") from error
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode:
        raise Fault(told(err.strip() or out.strip()) or f"exit code {process.returncode}")
    return out


def told(output: str) -> str:
    """The last line that names an error, else the last line; of an assertion that says nothing the source."""
    lines = [line.strip() for line in output.splitlines() if line.strip(" ^~")]
    at = next((n for n in range(len(lines) - 1, -1, -1) if _ERROR.match(lines[n])), len(lines) - 1)
    said = [lines[at], lines[at - 1]] if lines[at:] == ["AssertionError"] and at else lines[at : at + 1]
    return ": ".join(said)[:LONGEST_FAULT]
