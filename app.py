"""One command from a Hugging Face chat model to a private 4-bit chat in the browser."""

# Nothing else is imported here: whatever takes time, or may be missing, is imported where main answers for it.
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable
    from contextlib import ExitStack
    from pathlib import Path

    from builder.commandline import Parser
    from builder.kept.models import Entry
    from serving.cluster.engine import ReplicaEngine
    from serving.engine.several import Member
    from serving.engine.wire import Sink
    from serving.http.access import Access
    from serving.http.server import Server
    from serving.page.building import Building
    from serving.types import EngineSettings, Provider

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
    """Build if need be, then serve or measure. Returns the exit code: 2 for what its user can mend, in one sentence."""
    try:
        from builder.console import interrupts_end_it

        words = sys.argv[1:] if argv is None else argv
        with interrupts_end_it():
            if words[:1] == ["bench"]:
                bench(bench_parser().parse_args(words[1:]))
            else:
                run(parser().parse_args(words))
    except (Exception, KeyboardInterrupt) as error:
        from builder.console import exit_code
        from serving.errors import ServingError

        return exit_code(error, ServingError)
    return 0


def parser() -> "Parser":
    """Every flag of the program."""
    from builder.commandline import Parser, Version
    from builder.shelf import add_shelf_flags
    from serving.flags import add_access_flags, add_chat_flags

    flags = Parser("oga-chat", __doc__, epilog="oga-chat bench: how fast a model is here (--help tells more)")
    flags.add_argument("--version", action=Version)
    add_model_flags(flags)
    add_shelf_flags(flags)
    add_chat_flags(flags)
    add_access_flags(flags)
    return flags


def bench_parser() -> "Parser":
    """Every flag of `bench`."""
    from builder.commandline import Parser
    from serving.flags import add_bench_flags

    flags = Parser("oga-chat bench", bench.__doc__)
    add_model_flags(flags)
    add_bench_flags(flags)
    return flags


def add_model_flags(flags: "Parser") -> None:
    """Which model it is, and how it is built where it is missing."""
    from typing import get_args

    from builder.flags import add_build_flags, add_original_flag
    from serving.types import Provider

    add_build_flags(flags, get_args(Provider))
    flags.add_argument(
        "--subfolder", help="of a repository or folder with several exports, the one to serve (default: what fits best)"
    )
    add_original_flag(flags)
    flags.add_argument("--rebuild", action="store_true", help="build anew; the old model stays until the new is proved")
    flags.add_argument(
        "--verify", action="store_true", help="compare every file of the model with the SHA-256 it was built with"
    )


def bench(flags: "Namespace") -> None:
    """How fast a model is here: tokens/s, time to the first token, users at once, memory, follow-ups."""
    import json

    from builder.commands import ready
    from builder.console import interrupts_raise
    from builder.kept.use import serving
    from builder.progress import Step, terminal
    from serving.bench.measure import measured
    from serving.bench.picture import picture
    from serving.bench.report import facts, tables
    from serving.flags import bench_settings_from, plan_from

    plan = plan_from(flags)
    settings = bench_settings_from(flags, plan)
    folder, _ = ready(flags, lambda: usable_providers("cpu"))
    with interrupts_raise(), serving(folder), terminal() as report:

        def tell(done: int, total: int, note: str, left: float | None) -> None:
            report(Step("bench", done, total, note, left=left))

        results = measured(folder, settings, plan, tell, flags.runtime, flags.against)
    print(tables(results))
    for file, text in ((flags.json, json.dumps(facts(results), indent=2) + "\n"), (flags.svg, picture(results))):
        if file:
            file.write_text(text, encoding="utf-8")


def run(flags: "Namespace") -> None:
    """From flags to a chat that is being served, or to what was asked of the models that are there."""
    from builder.shelf import answered

    if answered(flags):
        return

    from contextlib import ExitStack

    from builder.commands import beside, ready
    from builder.console import interrupts_raise, signals_call
    from builder.flags import models_dir_from
    from builder.kept.use import serving
    from serving.engine.process import EngineProcess
    from serving.flags import (
        access_from,
        check_address,
        client_limit,
        is_readable_on_the_way,
        limits_from,
        memory_from,
        replicas_from,
        settings_from,
        tls_from,
    )
    from serving.heap import keep_small
    from serving.http.access import Places
    from serving.http.api import Api
    from serving.http.metrics import Metrics
    from serving.http.server import Server, make_app

    keep_small()

    # 1. What can be refused at once.
    settings = settings_from(flags, models_dir_from(flags))
    access, places = access_from(flags), Places(client_limit(flags))
    memory, limits, tls = memory_from(flags), limits_from(flags, access), tls_from(flags)
    replicas = replicas_from(flags)
    more = beside(flags)
    if settings.provider not in ("auto", "cpu"):
        from serving.engine.oga import check_provider

        check_provider(settings.provider)
    check_address(flags.host, flags.port)

    with ExitStack() as ending:
        # 2. The model folder: as named, or found, or built, while a page shows how far that is.
        meanwhile = ending.enter_context(ExitStack())

        def shown(title: str) -> "Building":
            from serving.page.building import Building

            building = Building(title)
            early = make_app(building.routes(page=not flags.no_ui), access.middleware())
            server = Server(early, flags.host, flags.port, limits, tls)
            meanwhile.push(lambda *_: server.close())
            flags.port = server.port  # the chat comes to the same place
            announce("" if flags.no_ui else "Progress", server, access)
            return building

        folder, is_demo = ready(flags, lambda: usable_providers(settings.provider), shown)
        ending.enter_context(serving(folder))

        # 3. The engine, the API, and the page: importing Gradio takes seconds that a failed start need not spend.
        metrics = Metrics()
        others: dict[str, Member] = {}
        with interrupts_raise():
            engine: EngineProcess | ReplicaEngine | Member
            if memory is not None:
                engine, others = several(folder, more, flags.models == "all", memory, settings, metrics.watch, ending)
            elif replicas:
                from serving.cluster.start import on_replicas

                engine = ending.enter_context(on_replicas(replicas, folder, settings, metrics.watch))
            else:
                engine = ending.enter_context(EngineProcess.load(folder, settings, metrics.watch))
        for note in engine.notes:
            print(f"note: {note}", file=sys.stderr)
        name = engine.folder.source
        application = make_app(Api(engine, name, places, metrics, others).routes(), access.middleware())
        if not flags.no_ui:
            from builder import demo
            from serving.page.mount import mount_chat
            from serving.page.ui import build_chat

            engines = {name: engine, **others}
            examples, notice = (demo.EXAMPLES, demo.NOTICE) if is_demo else (EXAMPLES, "")
            page = build_chat(
                engine, name=name, examples=examples, notice=notice, places=places, others=others,
                chosen=lambda model: engines[model].load_ahead(), loading=lambda model: engines[model].loading,
            )  # fmt: skip
            longest = max(each.context_length for each in (engine, *others.values()))
            ending.callback(mount_chat(application, page, longest))
        meanwhile.close()
        server = Server(application, flags.host, flags.port, limits, tls)
        ending.push(lambda *_: server.close())
        stopped = ending.enter_context(signals_call(server.stop, END_SECONDS))

        # 4. Where it is, and what it asks for.
        announce("" if flags.no_ui else "Chat", server, access)
        named = f"models {', '.join(map(repr, (name, *others)))}" if others else f"model {name!r}"
        print(f"API at {server.url}v1, {named}", flush=True)
        if is_readable_on_the_way(flags, access):
            print(
                "note: what is sent here, the password or the key too, can be read on the way: name a certificate with "
                "--ssl-certfile, or put a proxy with HTTPS in front.",
                file=sys.stderr, flush=True,
            )  # fmt: skip
        if flags.share and (public := shared(server)):
            access.hosts.add(public.removeprefix("https://"))
            print(f"Shared at {public}", flush=True)
        engine.warm_up(lambda: bool(stopped))
        server.wait()
        engine.close()  # what is still being answered then ends with an error that its client can read
        if stopped:
            raise KeyboardInterrupt


def several(
    folder: "Path",
    more: "list[Entry]",
    any_of_them: bool,
    memory: int,
    settings: "EngineSettings",
    watch: "Callable[[Sink], Sink]",
    ending: "ExitStack",
) -> "tuple[Member, dict[str, Member]]":
    """The engine of the model in `folder`, loaded, and those of more of the list, by their names.

    any_of_them: one of those that cannot be served is left out with a line.
    """
    from builder.kept.use import serving
    from serving.engine.several import Several
    from serving.errors import ServingError
    from serving.folder import ModelFolder

    models = ending.enter_context(Several(memory, settings, watch))
    first = ModelFolder.open(folder.resolve())
    others: dict[str, Member] = {}
    for entry in more:
        if entry.folder.resolve() == first.path:
            continue
        try:
            opened = ModelFolder.open(entry.folder.resolve())
            # By their sources, as each by itself has it; what has the same source as another, by its name in the list.
            name = entry.name if opened.source in (first.source, *others) else opened.source
            others[name] = models.add(name, opened)
            ending.enter_context(serving(entry.folder))
        except ServingError as error:
            if not any_of_them:
                raise
            print(f"note: {error}", file=sys.stderr)
    return models.add(first.source, first, on_demand=False), others


def announce(what: str, server: "Server", access: "Access") -> None:
    """Say where it is, and what it asks for."""
    if what:
        print(f"{what} at {server.url}", flush=True)
    if access.login:
        print(f"Login: user {access.login[0]}, password {access.login[1]}", flush=True)


def usable_providers(asked: "Provider") -> tuple[str, ...]:
    """The providers that can be used here, the best first: the one that was asked for, or those installed."""
    from serving.engine.oga import installed_providers

    return ("cpu",) if asked == "cpu" else installed_providers() if asked == "auto" else (asked, "cpu")


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
