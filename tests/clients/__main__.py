"""Every client's shortest real use, on the program as one starts it.

    python -m tests.clients FOLDER [--only NAME ...] [--environments DIR]

FOLDER: a model folder; it is served with a chat template that knows of tools, so that calls can be asked for. A row for
each client: its version, what was run, and "ok" or the fault. Each gets an environment of its own with its newest
release, which takes minutes and gigabytes; they go when all is done, or stay in DIR, where the next run uses them as
they are.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.attacks.program import Program
from tests.clients.environment import Fault, Served, made, used, version
from tests.clients.table import CLIENTS, Client
from tests.tool_template import with_tools

HEAD = "| client | version | what was run | result |\n|---|---|---|---|"


def row(client: Client, release: str, result: str) -> str:
    """One line of the table."""
    return f"| {client.name} | {release} | {client.what} | {result.replace('|', ' ')} |"


def tried(client: Client, environments: Path, served: Served) -> tuple[str, str]:
    """The client's version, and "ok" or the fault."""
    environment, release = environments / client.script.partition(".")[0], "-"
    work = Path(tempfile.mkdtemp(dir=environments))
    try:
        made(client, environment)
        release = version(client, environment)
        used(client, environment, served, work)
    except Fault as fault:
        return release, str(fault)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return release, "ok"


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """The program on a model folder."""
    with tempfile.TemporaryDirectory() as place:
        work, folder = Path(place) / "work", with_tools(folder, Path(place) / folder.resolve().name)
        work.mkdir()
        program = Program(folder, work, ("--no-ui",))
        try:
            url = f"http://127.0.0.1:{program.port}"
            with urllib.request.urlopen(f"{url}/v1/models") as reply:
                yield Served(url, json.load(reply)["data"][0]["id"], folder)
        finally:
            program.kill()


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table. Returns how many clients failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", default=[""], metavar="NAME", help="clients whose name has one of these")
    parser.add_argument("--environments", type=Path, metavar="DIR", help="keep them here")
    flags = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # through every `finally`: no server shall stay behind
    chosen = [client for client in CLIENTS if any(name.lower() in client.name.lower() for name in flags.only)]
    failed = 0
    with tempfile.TemporaryDirectory() as temporary, serving(flags.folder) as served:
        environments = (flags.environments or Path(temporary)).resolve()
        environments.mkdir(parents=True, exist_ok=True)
        print(HEAD, flush=True)
        for client in chosen:
            release, result = tried(client, environments, served)
            print(row(client, release, result), flush=True)
            failed += result != "ok"
    print(f"\n{len(chosen)} clients, {failed} of which failed.")
    return min(failed, 100)


if __name__ == "__main__":
    sys.exit(main())
