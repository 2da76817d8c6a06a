"""One command from a Hugging Face chat model to a private 4-bit chat in the browser."""

# Nothing else is imported here: whatever takes time, or may be missing, is imported where main answers for it.
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from builder.commandline import Parser
    from serving.http.server import Server

# Private unless asked for: set before any of the libraries is imported, and inherited by the build's child processes.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# Our builder and serving, whoever else has packages of these names: those beside this file, as it lies in a clone or,
# installed, in the package oga_chat.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

EXAMPLES = (
    "What can you help me with?",
    "Explain how a rainbow forms, in three sentences.",
    "Write a short poem about the sea.",
    "Give me a Python function that reverses a string.",
)
END_SECONDS = 4.5  # from a signal to the end


def main(argv: list[str] | None = None) -> int:
    """Build if need be, then serve. Returns the exit code: 2 for an error the user can mend, which is one sentence."""
    try:
        from builder.console import interrupts_end_it

        with interrupts_end_it():
            run(parser().parse_args(argv))
    except (Exception, KeyboardInterrupt) as error:
        from builder.console import exit_code
        from serving.errors import ServingError

        return exit_code(error, ServingError)
    return 0


def parser() -> "Parser":
    """Every flag of the program."""
    from typing import get_args

    from builder.commandline import Parser, Version
    from builder.flags import add_build_flags
    from serving.flags import add_access_flags, add_chat_flags
    from serving.types import Provider

    flags = Parser("oga-chat", __doc__)
    flags.add_argument("--version", action=Version)
    add_build_flags(flags, get_args(Provider))
    flags.add_argument("--rebuild", action="store_true", help="build anew; the old model stays until the new is proved")
    flags.add_argument(
        "--verify", action="store_true", help="compare every file of the model with the SHA-256 it was built with"
    )
    add_chat_flags(flags)
    add_access_flags(flags)
    return flags


def run(flags: "Namespace") -> None:
    """From flags to a chat that is being served."""
    from contextlib import ExitStack

    from builder.commands import ready
    from builder.console import interrupts_raise, signals_call
    from serving.engine.process import EngineProcess
    from serving.flags import access_from, check_address, client_limit, limits_from, settings_from
    from serving.http.access import Places
    from serving.http.api import Api
    from serving.http.metrics import Metrics
    from serving.http.server import Server, make_app

    # 1. What can be refused at once.
    settings, access, places = settings_from(flags), access_from(flags), Places(client_limit(flags))
    limits = limits_from(flags, access)
    if settings.provider not in ("auto", "cpu"):
        from serving.engine.oga import check_provider

        check_provider(settings.provider)
    check_address(flags.host, flags.port)

    # 2. The model folder: as named, or found, or built.
    folder, is_demo = ready(flags)

    # 3. The engine, the API, and the page: importing Gradio takes seconds that a failed start need not spend.
    metrics = Metrics()
    with ExitStack() as ending:
        with interrupts_raise():
            engine = ending.enter_context(EngineProcess.load(folder, settings, metrics.watch))
        for note in engine.notes:
            print(f"note: {note}", file=sys.stderr)
        name = engine.folder.source
        application = make_app(Api(engine, name, places, metrics).routes(), access.middleware())
        if not flags.no_ui:
            from builder import demo
            from serving.page.mount import mount_chat
            from serving.page.ui import build_chat

            examples, notice = (demo.EXAMPLES, demo.NOTICE) if is_demo else (EXAMPLES, "")
            page = build_chat(engine, name=name, examples=examples, notice=notice, places=places)
            ending.callback(mount_chat(application, page, engine.context_length))
        server = Server(application, flags.host, flags.port, limits)
        ending.push(lambda *_: server.close())
        stopped = ending.enter_context(signals_call(server.stop, END_SECONDS))

        # 4. Where it is, and what it asks for.
        if not flags.no_ui:
            print(f"Chat at {server.url}", flush=True)
        if access.login:
            print(f"Login: user {access.login[0]}, password {access.login[1]}", flush=True)
        print(f"API at {server.url}v1, model {name!r}", flush=True)
        if flags.share and (public := shared(server)):
            access.hosts.add(public.removeprefix("https://"))
            print(f"Shared at {public}", flush=True)
        engine.warm_up(lambda: bool(stopped))
        server.wait()
        engine.close()  # what is still being answered then ends with an error that its client can read
        if stopped:
            raise KeyboardInterrupt


def shared(server: "Server") -> str | None:
    """The public address; None, and a line on stderr, where it cannot be had."""
    from serving.errors import ServingError
    from serving.page.mount import share

    try:
        return share(server.port)
    except ServingError as error:
        print(f"{error} The chat goes on at {server.url}", file=sys.stderr, flush=True)
        return None


if __name__ == "__main__":
    sys.exit(main())
