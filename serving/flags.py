"""The command-line flags of the chat, and what they mean as data: who may use it, and how its engine runs.

Stands above every room, and none of them knows of it.
"""

import argparse
import ipaddress
import os
import re
import secrets
import socket
import ssl
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

from serving.bench.plan import CONTEXTS, RUNTIMES, Plan
from serving.errors import InvalidRequest
from serving.hardware import available_memory
from serving.http.access import Access, hosts_of
from serving.http.addresses import networks_in
from serving.http.crowd import Limits, descriptors, limits_for
from serving.http.tls import tls_context
from serving.types import KEEP_BYTES, EngineSettings, Replicas, RuntimeName

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(?:([KMGT]?)(B?)|([KMGT])IB?)", re.IGNORECASE | re.ASCII)
_MOST_BYTES = 1 << 60
KEPT = ".cache/conversations"  # below the models folder


def add_chat_flags(parser: argparse.ArgumentParser) -> None:
    """How answers are made."""
    group = parser.add_argument_group("the chat")
    group.add_argument("--context-length", type=int, help="serve a shorter window than the model has, in tokens")
    group.add_argument("--threads", type=int, help="to compute with (default: the usable physical cores, at most 16)")
    group.add_argument("--parallel", type=int, default=4, help="answers made at the same time (default: 4)")
    group.add_argument(
        "--runtime", choices=get_args(RuntimeName), default="auto",
        help="oga: answers take turns, on any device; ort: they are made in one forward pass, on the CPU; auto: ort, "
        "where the export allows it, once two were wanted at a time, if others can reach the server or memory is "
        "short (default: auto)",
    )  # fmt: skip
    group.add_argument("--batch", action="store_const", const="ort", dest="runtime", help="the same as --runtime ort")
    group.add_argument("--queue", type=int, default=32, help="requests that may wait beyond them (default: 32)")
    group.add_argument(
        "--kv-memory", type=size, metavar="SIZE",
        help="for KV caches, as 800M or 4GiB, in 1024, or 4GB, in 1000 (default: half of what is free)",
    )  # fmt: skip
    group.add_argument(
        "--slots", type=int, help="conversations to keep in them (default: what the memory allows, up to 64)"
    )
    group.add_argument(
        "--on-overflow", choices=("error", "trim"), default="error",
        help="a conversation longer than the window is refused, or loses its oldest turns (default: error)",
    )  # fmt: skip
    group.add_argument(
        "--idle-unload", type=float, metavar="MINUTES",
        help="give the model's memory back after so long without a request; the next one has it loaded again",
    )  # fmt: skip
    group.add_argument(
        "--models", metavar="NAME,NAME",
        help="more models of --list, or all, to choose from by the API's model and on the page; each is loaded when "
        "it is asked for, and --model at once (default: none)",
    )  # fmt: skip
    group.add_argument(
        "--memory", type=size, metavar="SIZE",
        help="with --models: for the models that are loaded at a time, as of --kv-memory, which is of each then "
        "(default: three quarters of what is free)",
    )  # fmt: skip
    group.add_argument(
        "--keep-conversations", type=size, nargs="?", const=KEEP_BYTES, metavar="SIZE",
        help="let cached conversations outlive a restart: in files below the models folder that only you can read, of "
        f"{KEEP_BYTES >> 30}G together or so much (default: nothing is stored)",
    )  # fmt: skip
    group.add_argument(
        "--replicas", metavar="N|LEAST-MOST",
        help="engines in processes of their own that Ray Serve keeps alive, more of them under load; --parallel, "
        "--queue and --kv-memory are of each (default: one engine, without Ray)",
    )  # fmt: skip
    group.add_argument("--no-guess", action="store_true", help="do not check n-gram guesses at the next tokens")
    group.add_argument(
        "--deterministic", action="store_true", help="same seed, same text, whatever else is computed at the time"
    )


def add_access_flags(parser: argparse.ArgumentParser) -> None:
    """Where it is served, and who may use it."""
    group = parser.add_argument_group("who may use it")
    group.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    group.add_argument("--port", type=int, default=7860, help="port to listen on (default: 7860; 0: any free one)")
    group.add_argument("--no-ui", action="store_true", help="serve the API alone")
    group.add_argument("--share", action="store_true", help="also make a public link, which asks for a login")
    group.add_argument("--auth", metavar="USER:PASSWORD", help="ask for this login (default when shared: a random one)")
    group.add_argument(
        "--api-key", action="append", metavar="KEY",
        help="ask for this key; may be repeated, or come from OGA_CHAT_API_KEYS, divided by spaces",
    )  # fmt: skip
    group.add_argument("--api-key-file", metavar="FILE", help="keys, one on a line")
    group.add_argument("--ssl-certfile", metavar="FILE", help="serve HTTPS with this certificate (PEM, with its chain)")
    group.add_argument("--ssl-keyfile", metavar="FILE", help="its key, where that is in another file")
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
    group.add_argument(
        "--trusted-proxy", action="append", metavar="ADDRESS",
        help="believe the X-Forwarded-For of this address or network, as 127.0.0.1 or 10.0.0.0/8",
    )  # fmt: skip
    group.add_argument("--max-connections", type=int, metavar="N", help="in all (default: 1024, fewer where files are)")
    group.add_argument(
        "--max-connections-per-client", type=int, metavar="N", help="from one address (default: a quarter of all)"
    )


def add_bench_flags(parser: argparse.ArgumentParser) -> None:
    """What `bench` measures, and where it writes it."""
    usual = Plan()
    group = parser.add_argument_group("the measurement")
    group.add_argument(
        "--context", type=int, nargs="+", metavar="TOKENS",
        help=f"lengths of prompts (default: those of {', '.join(map(str, CONTEXTS))} that fit the model's window)",
    )  # fmt: skip
    group.add_argument(
        "--n-gen", type=int, default=usual.answer, metavar="TOKENS", help=f"of each answer (default: {usual.answer})"
    )
    group.add_argument(
        "--users", type=int, nargs="*", default=list(usual.users), metavar="N",
        help=f"answers at once, of prompts of the shortest length (default: {' '.join(map(str, usual.users))}; without "
        "a number: none)",
    )  # fmt: skip
    group.add_argument(
        "--repetitions", type=int, default=usual.rounds, metavar="N", help=f"of all of it (default: {usual.rounds})"
    )
    group.add_argument(
        "--runtime", nargs="+", choices=RUNTIMES,
        help="oga: answers take turns; ort: they are made in one forward pass (default: both; on other devices than "
        "the CPU oga alone)",
    )  # fmt: skip
    group.add_argument("--threads", type=int, help="to compute with (default: the usable physical cores, at most 16)")
    group.add_argument(
        "--against", type=Path, metavar="FILE.gguf",
        help="also measure this file by llama.cpp, where llama-cpp-python is installed",
    )  # fmt: skip
    group.add_argument("--json", type=Path, metavar="FILE", help="a file to write the figures into")
    group.add_argument("--svg", type=Path, metavar="FILE", help="a file to draw them into")


def plan_from(flags: argparse.Namespace) -> Plan:
    """What `bench` is to measure. Raises InvalidRequest, also for a file that could not be written in the end."""
    for name, file in (("--json", flags.json), ("--svg", flags.svg)):
        if file and (file.is_dir() or not os.access(file.absolute().parent, os.W_OK)):
            raise InvalidRequest(f"{name} {file} cannot be written: name a file in a folder that is there.")
    if flags.against and not flags.against.is_file():
        raise InvalidRequest(f"--against {flags.against} is not there: name a GGUF file.")
    return Plan(flags.context and tuple(flags.context), flags.n_gen, tuple(flags.users), flags.repetitions)


def bench_settings_from(flags: argparse.Namespace, plan: Plan) -> EngineSettings:
    """How `bench` runs the engine: with a place for every user, and without guesses. Raises InvalidRequest.

    Guesses would make decoding as fast as the text is dull, and the answers to random tokens are.
    """
    settings = EngineSettings(
        provider=flags.execution_provider, threads=flags.threads, parallel=plan.most_users, guess=False
    )
    for runtime in flags.runtime or ():
        replace(settings, runtime=runtime)  # refuses what the provider does not allow
    return settings


def check_ray() -> None:
    """Raises InvalidRequest where Ray is not installed."""
    if find_spec("ray") is None:
        raise InvalidRequest('--replicas needs Ray, which is not installed: pip install -e ".[cluster]"')


def size(text: str) -> int:
    """Bytes, from a number and a unit as dd has them: K, M, G and T, or KiB ..., count in 1024, KB, MB ... in 1000.

    Raises ArgumentTypeError.
    """
    match = _SIZE.fullmatch(text.strip())
    if match:
        number, decimal, byte, binary = match.groups()
        power = " KMGT".index((decimal or binary or " ").upper())
        count = float(number) * (1000 if decimal and byte else 1024) ** power
        if count <= _MOST_BYTES:
            return int(count)
    raise argparse.ArgumentTypeError(f"must be a size like 800M or 4GiB (in 1024) or 4GB (in 1000), not {text!r}")


def settings_from(flags: argparse.Namespace, models_dir: Path | None = None) -> EngineSettings:
    """How an engine is to run. models_dir: where one that is alone may keep something. Raises InvalidRequest."""
    keeps = flags.keep_conversations is not None
    if keeps and (models_dir is None or flags.replicas is not None):
        raise InvalidRequest("--keep-conversations is for one engine: leave it out, or --replicas.")
    return EngineSettings(
        provider=flags.execution_provider,
        context_length=flags.context_length,
        threads=flags.threads,
        parallel=flags.parallel,
        queue=flags.queue,
        slots=flags.slots,
        runtime=flags.runtime,
        shared=others_reach(flags) or flags.no_ui,
        kv_memory=flags.kv_memory,
        guess=not flags.no_guess,
        deterministic=flags.deterministic,
        overflow=flags.on_overflow,
        idle_unload=flags.idle_unload,
        keep=str(models_dir.absolute() / KEPT) if keeps and models_dir else None,
        keep_bytes=flags.keep_conversations if keeps else KEEP_BYTES,
    )


def memory_from(flags: argparse.Namespace) -> int | None:
    """Bytes that several models share; None where there is one. Raises InvalidRequest."""
    if flags.models is None:
        if flags.memory is not None:
            raise InvalidRequest("--memory is for --models: leave it out; for one model there is --kv-memory.")
        return None
    if flags.replicas is not None:
        raise InvalidRequest("--replicas are of one model: leave out --models, or --replicas.")
    if flags.memory == 0:
        raise InvalidRequest("--memory must be above 0.")
    return flags.memory or available_memory() * 3 // 4


def replicas_from(flags: argparse.Namespace) -> Replicas | None:
    """How many engines there are; None for the one that needs no Ray. Raises InvalidRequest."""
    if flags.replicas is None:
        return None
    replicas = Replicas.of(flags.replicas)
    if flags.execution_provider not in ("auto", "cpu"):
        raise InvalidRequest(f"--replicas computes on the CPU: leave out -e {flags.execution_provider}, or --replicas.")
    check_ray()
    return replicas


def access_from(flags: argparse.Namespace) -> Access:
    """Who may use it. Where others can reach it and nothing is said, a random password. Raises InvalidRequest."""
    keys = (*(flags.api_key or ()), *os.environ.get("OGA_CHAT_API_KEYS", "").split(), *keys_in(flags.api_key_file))
    if "" in keys:
        raise InvalidRequest("--api-key must be at least one character long.")
    if flags.insecure and (keys or flags.auth):
        raise InvalidRequest("--insecure asks for nothing: leave it out, or --auth and --api-key.")
    for origin in flags.allow_origin or ():
        if not is_origin(origin):
            raise InvalidRequest(
                f"--allow-origin must be like https://chat.example or http://localhost:3000, not {origin!r}."
            )
    login = login_from(flags.auth, public=others_reach(flags) and not keys and not flags.insecure)
    proxies = networks_in(flags.trusted_proxy or (), "--trusted-proxy")
    if flags.share:  # the tunnel's end is on this machine, and says whom it brings
        proxies += networks_in(("127.0.0.1", "::1"), "--share")
    hosts = hosts_of(flags.host, flags.allow_host or ())
    return Access(login, keys, tuple(flags.allow_origin or ()), hosts, proxies)


def limits_from(flags: argparse.Namespace, access: Access) -> Limits:
    """What connections may cost. Raises InvalidRequest."""
    return limits_for(descriptors(), flags.max_connections, flags.max_connections_per_client, access.proxies)


def tls_from(flags: argparse.Namespace) -> ssl.SSLContext | None:
    """What HTTPS is served with, if it is. Raises InvalidRequest."""
    if not flags.ssl_certfile:
        if flags.ssl_keyfile:
            raise InvalidRequest(f"--ssl-keyfile {flags.ssl_keyfile} needs --ssl-certfile: name both.")
        return None
    if flags.share:
        raise InvalidRequest("--share has HTTPS of its own: leave out --ssl-certfile, or --share.")
    return tls_context(flags.ssl_certfile, flags.ssl_keyfile)


def is_readable_on_the_way(flags: argparse.Namespace, access: Access) -> bool:
    """Whether a password or a key comes over a network as it is."""
    return not is_loopback(flags.host) and not flags.ssl_certfile and bool(access.login or access.keys)


def is_origin(text: str) -> bool:
    """Whether it is what a browser calls the origin of a page: scheme, host and port, and nothing behind them."""
    try:
        parts = urlsplit(text)
    except ValueError:  # a bracket that is not closed
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc) and text == f"{parts.scheme}://{parts.netloc}"


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
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:  # a name, and who can say where it leads
        return False


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
    except (OSError, UnicodeError) as error:  # the latter for what cannot be a name at all
        reason = getattr(error, "strerror", None) or error
        raise InvalidRequest(f"cannot listen on {host}:{port} ({reason}): choose another --port or --host.") from error
