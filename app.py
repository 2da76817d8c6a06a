"""One command from a Hugging Face chat model to a private 4-bit chat in the browser."""

import argparse
import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import get_args
from urllib.parse import urlsplit

# Private unless asked for: set before any of the libraries is imported, and inherited by the build's child processes.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
from builder import launch
from builder.checkpoint.source import parse_source
from builder.demo import EXAMPLES as DEMO_EXAMPLES
from builder.errors import BuildError
from builder.flags import add_build_flags, kebab, models_dir_from, recipe_from, target_from
from builder.kept.artifact import check_files
from builder.progress import terminal
from serving.engine.process import EngineProcess
from serving.errors import InvalidRequest, ServingError
from serving.http.access import Access, Places, hosts_of
from serving.http.api import Api
from serving.http.metrics import Metrics
from serving.http.server import Server, make_app
from serving.types import EngineSettings, Provider

EXAMPLES = (
    "What can you help me with?",
    "Explain how a rainbow forms, in three sentences.",
    "Write a short poem about the sea.",
    "Give me a Python function that reverses a string.",
)
DEMO_NOTICE = (
    "A tiny demo model: it knows a few things only. For a real one, start with `--model ` and a Hugging Face id or a "
    "folder."
)


def parse_flags(argv: list[str] | None) -> argparse.Namespace:
    """Every flag of the program."""
    parser = argparse.ArgumentParser(prog="oga-chat", description=__doc__)
    add_build_flags(parser, get_args(Provider))
    parser.add_argument(
        "--rebuild", action="store_true", help="build anew; the old model stays until the new is proved"
    )
    parser.add_argument(
        "--verify", action="store_true", help="compare every file of the model with the SHA-256 it was built with"
    )
    group = parser.add_argument_group("the chat")
    group.add_argument("--context-length", type=int, help="serve a shorter window than the model has, in tokens")
    group.add_argument("--threads", type=int, help="threads to compute with (default: the usable physical cores)")
    group.add_argument("--parallel", type=int, default=4, help="answers made at the same time (default: 4)")
    group.add_argument("--batch", action="store_true", help="make them in one forward pass, on the CPU")
    group.add_argument("--queue", type=int, default=32, help="requests that may wait beyond them (default: 32)")
    group.add_argument("--kv-memory", type=size, metavar="SIZE", help="for KV caches, as 800M or 4G (default: half)")
    group.add_argument("--slots", type=int, help="conversations to keep in them (default: what the memory allows)")
    group.add_argument(
        "--on-overflow", choices=("error", "trim"), default="error",
        help="a conversation longer than the window is refused, or loses its oldest turns (default: error)",
    )  # fmt: skip
    group.add_argument("--no-guess", action="store_true", help="do not check n-gram guesses at the next tokens")
    group.add_argument(
        "--deterministic", action="store_true", help="same seed, same text, whatever else is computed at the time"
    )
    group = parser.add_argument_group("who may use it")
    group.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    group.add_argument("--port", type=int, default=7860)
    group.add_argument("--no-ui", action="store_true", help="serve the API alone")
    group.add_argument("--share", action="store_true", help="also make a public link, with a password")
    group.add_argument("--auth", metavar="USER:PASSWORD", help="ask for this login (default when shared: a random one)")
    group.add_argument(
        "--api-key", action="append", metavar="KEY",
        help="ask for this key; may be repeated, or come from OGA_CHAT_API_KEYS, divided by spaces",
    )  # fmt: skip
    group.add_argument("--api-key-file", metavar="FILE", help="keys, one on a line")
    group.add_argument("--insecure", action="store_true", help="ask nobody for anything, wherever it listens")
    group.add_argument(
        "--allow-origin", action="append", metavar="ORIGIN", help="web pages of https://this.host may use the API"
    )
    group.add_argument("--allow-host", action="append", metavar="NAME", help="a name that this server is reached by")
    group.add_argument(
        "--client-limit", type=int, metavar="N",
        help="answers that one client may have at a time, those that wait included (default: all of them; a quarter "
        "where others can reach it)",
    )  # fmt: skip
    return parser.parse_args(kebab(sys.argv[1:] if argv is None else argv))


def size(text: str) -> int:
    """Bytes, from a number with or without K, M, G or T behind it. Raises ValueError, which argparse reports."""
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].upper() in tuple("KMGT") else (text, "")
    return int(float(number) * 1024 ** ("", "K", "M", "G", "T").index(unit))


def main(argv: list[str] | None = None) -> int:
    """Build if need be, then serve. Returns the exit code: 2 for an error the user can mend, which is one sentence."""
    flags = parse_flags(argv)
    try:
        run(flags)
    except (BuildError, ServingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped.", file=sys.stderr)
        return 130
    return 0


def run(flags: argparse.Namespace) -> None:
    """From flags to a chat that is being served."""
    # 1. What can be refused at once.
    settings, access, places = settings_from(flags), access_from(flags), Places(client_limit(flags))
    if settings.provider not in ("auto", "cpu"):
        from serving.engine.oga import check_provider

        check_provider(settings.provider)
    check_address(flags.host, flags.port)

    # 2. The model folder: as named, or found, or built.
    folder, is_demo = model_folder(flags)
    if flags.verify:
        check_files(folder)

    # 3. The engine, the API, and the page: importing Gradio takes seconds that a failed start need not spend.
    metrics = Metrics()
    with EngineProcess.load(folder, settings, metrics.watch) as engine, ExitStack() as ending:
        for note in engine.notes:
            print(f"note: {note}", file=sys.stderr)
        name = engine.folder.source
        application = make_app(Api(engine, name, places, metrics).routes(), access.middleware())
        if not flags.no_ui:
            from serving.page.ui import build_chat, mount_chat

            examples, notice = (DEMO_EXAMPLES, DEMO_NOTICE) if is_demo else (EXAMPLES, "")
            page = build_chat(engine, name=name, examples=examples, notice=notice, places=places)
            ending.callback(mount_chat(application, page))
        server = Server(application, flags.host, flags.port)
        ending.push(lambda *_: server.close())
        stopped = ending.enter_context(stopped_by_signals(server))

        # 4. Where it is, and what it asks for.
        if not flags.no_ui:
            print(f"Chat at {server.url}", flush=True)
        if access.login:
            print(f"Login: user {access.login[0]}, password {access.login[1]}", flush=True)
        print(f"API at {server.url}v1, model {name!r}", flush=True)
        if flags.share and (public := shared(server)):
            access.hosts.add(public.removeprefix("https://"))
            print(f"Shared at {public}", flush=True)
        engine.warm_up()
        server.wait()
        engine.close()  # what is still being answered then ends with an error that its client can read
        if stopped:
            raise KeyboardInterrupt


@contextmanager
def stopped_by_signals(server: Server) -> Iterator[list[int]]:
    """Ctrl+C and SIGTERM end the server while this is open; yields those that came. A second ends the program.

    A KeyboardInterrupt instead would be lost where it happens to be raised in a callback of the garbage collector.
    """
    came: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        came.append(number)
        server.stop()
        if len(came) > 1:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def shared(server: Server) -> str | None:
    """The public address; None, and a line on stderr, where it cannot be had."""
    from serving.page.ui import share

    try:
        return share(server.port)
    except ServingError as error:
        print(f"{error} The chat goes on at {server.url}", file=sys.stderr, flush=True)
        return None


def model_folder(flags: argparse.Namespace) -> tuple[Path, bool]:
    """The folder to serve, and whether it is the bundled demo; built first where it is missing or `--rebuild` is given.

    A folder that is already an export is served as it is.
    """
    exported = Path(flags.model).expanduser()
    if (exported / "genai_config.json").is_file():
        if flags.rebuild:
            raise InvalidRequest(f"--rebuild needs a checkpoint, and {flags.model} is an export already.")
        return exported, False
    source = parse_source(flags.model, flags.revision)
    recipe, models_dir = recipe_from(flags, source), models_dir_from(flags)
    target, auto_quality = target_from(flags, recipe.exclude_layers), flags.auto_quality
    found = None if flags.rebuild else launch.find(source, recipe, target, models_dir, auto_quality)
    if found is None:
        method = f"UINT4, {recipe.quant_algo}, group {recipe.group_size}, for {target.execution_provider}"
        title = f"Building {source.name}: {method}"
        with terminal(title) as report:
            found = launch.make(source, recipe, target, models_dir, report, auto_quality)
        print(launch.describe(found), file=sys.stderr)
    return found, source.kind == "demo"


def settings_from(flags: argparse.Namespace) -> EngineSettings:
    """How the engine is to run. Raises InvalidRequest."""
    return EngineSettings(
        provider=flags.execution_provider,
        context_length=flags.context_length,
        threads=flags.threads,
        parallel=flags.parallel,
        queue=flags.queue,
        slots=flags.slots,
        batch=flags.batch,
        kv_memory=flags.kv_memory,
        guess=not flags.no_guess,
        deterministic=flags.deterministic,
        overflow=flags.on_overflow,
    )


def access_from(flags: argparse.Namespace) -> Access:
    """Who may use it. Where others can reach it and nothing is said, a random password. Raises InvalidRequest."""
    keys = (*(flags.api_key or ()), *os.environ.get("OGA_CHAT_API_KEYS", "").split(), *keys_in(flags.api_key_file))
    if "" in keys:
        raise InvalidRequest("--api-key must be at least one character long.")
    if flags.insecure and (keys or flags.auth):
        raise InvalidRequest("--insecure asks for nothing: leave it out, or --auth and --api-key.")
    for origin in flags.allow_origin or ():
        parts = urlsplit(origin)
        if not (parts.scheme in ("http", "https") and origin == f"{parts.scheme}://{parts.netloc}" and parts.netloc):
            raise InvalidRequest(
                f"--allow-origin must be like https://chat.example or http://localhost:3000, not {origin!r}."
            )
    login = login_from(flags.auth, public=others_reach(flags) and not keys and not flags.insecure)
    return Access(login, keys, tuple(flags.allow_origin or ()), hosts_of(flags.host, flags.allow_host or ()))


def keys_in(file: str | None) -> list[str]:
    """API keys, one on a line. Raises InvalidRequest for a file that cannot be read."""
    try:
        return Path(file).expanduser().read_text(encoding="utf-8").split() if file else []
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"--api-key-file {file} cannot be read ({error}).") from error


def client_limit(flags: argparse.Namespace) -> int | None:
    """Answers that one client may have at a time; None for no limit. Raises InvalidRequest."""
    if flags.client_limit is not None and flags.client_limit < 1:
        raise InvalidRequest(f"--client-limit must be 1 or more, not {flags.client_limit}.")
    return flags.client_limit or (max(1, (flags.parallel + flags.queue) // 4) if others_reach(flags) else None)


def others_reach(flags: argparse.Namespace) -> bool:
    """Whether anybody but this machine can reach it."""
    return flags.share or not is_loopback(flags.host)


def login_from(auth: str | None, public: bool) -> tuple[str, str] | None:
    """The login that is asked for: what was given, or a random password where others can reach the chat."""
    if auth is None:
        return ("chat", secrets.token_urlsafe(9)) if public else None
    user, colon, password = auth.partition(":")
    if not (user and colon and password):
        raise InvalidRequest("--auth must be USER:PASSWORD, both at least one character long.")
    return user, password


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    return host == "localhost" or host.startswith("127.") or host == "::1"


def check_address(host: str, port: int) -> None:
    """Refuse an address that cannot be listened on, before anything heavy starts."""
    if not 0 <= port <= 65535:
        raise InvalidRequest(f"--port must be from 0 (any free one) to 65535, not {port}.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            if os.name == "posix":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise InvalidRequest(
            f"cannot listen on {host}:{port} ({error.strerror or error}): choose another --port or --host."
        ) from error


if __name__ == "__main__":
    sys.exit(main())
