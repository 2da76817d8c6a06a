"""The whole server on a cluster, for `serve run`: fronts, each of them today's HTTP server, before replicas.

docs/cluster.md has a configuration file.
"""

import argparse
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from ray import serve
from ray.serve.handle import DeploymentHandle

from serving.cluster.engine import ReplicaEngine
from serving.cluster.replica import DRAIN_SECONDS, QUIET, deployed
from serving.errors import EngineStopped, InvalidRequest
from serving.flags import (
    access_from,
    add_access_flags,
    add_chat_flags,
    client_limit,
    limits_from,
    others_reach,
    settings_from,
    tls_from,
)
from serving.folder import ModelFolder
from serving.http.access import Places
from serving.http.api import Api
from serving.http.metrics import Metrics
from serving.http.server import Server, make_app
from serving.types import Replicas

_KEYS = {"model", "replicas", "fronts", "flags"}


class Front:
    """The server, on the node that Ray puts it on. argv: its flags. secret: all of them sign cookies with it."""

    def __init__(self, replicas: "DeploymentHandle[Any]", model: str, argv: list[str], secret: bytes) -> None:
        flags = parsed(argv)
        access, settings = replace(access_from(flags), secret=secret), settings_from(flags)
        limits, tls, places, metrics = (
            limits_from(flags, access),
            tls_from(flags),
            Places(client_limit(flags)),
            Metrics(),
        )
        with ThreadPoolExecutor(1) as elsewhere:  # Ray refuses to wait for a replica on the thread of its own loop
            folder = ModelFolder.open(Path(model))
            self._engine = elsewhere.submit(ReplicaEngine, replicas, folder, settings, metrics.watch).result()
        name = folder.source
        application = make_app(Api(self._engine, name, places, metrics).routes(), access.middleware())
        if not flags.no_ui:
            from serving.page.mount import mount_chat
            from serving.page.ui import build_chat

            page = build_chat(self._engine, name=name, examples=(), places=places)
            mount_chat(application, page, self._engine.context_length)
        self._server = Server(application, flags.host, flags.port, limits, tls)

    def check_health(self) -> None:
        """For Ray. Raises EngineStopped once the server has ended."""
        if not self._server.serves:
            raise EngineStopped("the HTTP server has ended.")

    def __del__(self) -> None:
        if server := getattr(self, "_server", None):
            server.close()
            self._engine.close()


def application(args: Mapping[str, Any]) -> serve.Application:
    """What `serve run` is to run.

    model: a folder, at the same place on every node. replicas: "4", or "2-8". fronts: on as many nodes. flags: of
    `python app.py`, for the chat and for who may use it. Raises InvalidRequest.
    """
    if unknown := args.keys() - _KEYS:
        raise InvalidRequest(f"{', '.join(sorted(unknown))}: only {', '.join(sorted(_KEYS))} are known here.")
    argv = [str(each) for each in args.get("flags", ())]
    flags = parsed(argv)
    if flags.port == 0 or flags.share:
        raise InvalidRequest("a front has a port of its own and no share link: name --port, and leave out --share.")
    if others_reach(flags) and access_from(flags).login and not flags.auth:
        raise InvalidRequest("name --auth, --api-key-file or --insecure: nobody would see a random password.")
    folder = ModelFolder.open(Path(args["model"]))
    replicas = deployed(Replicas.of(str(args.get("replicas", 1))), folder, settings_from(flags))
    front: Any = serve.deployment(Front)
    bound: serve.Application = front.options(
        name="front",
        num_replicas=int(args.get("fronts", 1)),
        max_replicas_per_node=1,  # they listen on the same port
        ray_actor_options={"num_cpus": 1},
        graceful_shutdown_timeout_s=DRAIN_SECONDS,
        logging_config=QUIET,
    ).bind(replicas, str(folder.path), argv, secrets.token_bytes(32))
    return bound


class _Flags(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidRequest(message)


def parsed(argv: list[str]) -> argparse.Namespace:
    """The flags of a front. Raises InvalidRequest."""
    parser = _Flags("front", add_help=False)
    add_chat_flags(parser)
    add_access_flags(parser)
    parser.set_defaults(execution_provider="cpu", **{"replicas": None})
    return parser.parse_args(argv)
