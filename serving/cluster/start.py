"""An engine on replicas: on a Ray of our own that ends with us, or on the cluster that RAY_ADDRESS names."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from logging import ERROR, WARNING, getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.engine.wire import Sink
from serving.errors import ServingError
from serving.folder import ModelFolder
from serving.hardware import available_memory, usable_cores
from serving.types import EngineSettings, Replicas

if TYPE_CHECKING:
    from serving.cluster.engine import ReplicaEngine

APPLICATION = "oga-chat"
_STORE_BYTES = 100 << 20  # for what replicas hand over; pieces of answers never come near it
_IMPORT_ROOT = str(Path(__file__).parents[2])
# Ray listens on every address unless it believes that it cannot be a cluster, and runs what anybody sends to its ports
# unless a token is asked for.
_ALONE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),  # one for each process: Ray reads it once
}
# A replica that says too late how busy it is loses its turn to the next one, which has none of the conversation: 0.1 s
# is Ray's own, and less than a busy machine's.
_PATIENT = {"RAY_SERVE_QUEUE_LENGTH_RESPONSE_DEADLINE_S": "2", "RAY_SERVE_MAX_QUEUE_LENGTH_RESPONSE_DEADLINE_S": "5"}


@contextmanager
def on_replicas(
    replicas: Replicas, path: Path, settings: EngineSettings, watch: Callable[[Sink], Sink] | None = None
) -> "Iterator[ReplicaEngine]":
    """An engine with so many replicas, for as long as this is open. Raises ServingError.

    watch: as EngineProcess's.
    """
    folder = ModelFolder.open(path.resolve())
    folder.window(settings.context_length)
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0"} | _PATIENT)
    options: dict[str, Any] = {}
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        settings = shared(settings, replicas.most, usable_cores(), available_memory())
        path_there = os.pathsep.join(filter(None, [_IMPORT_ROOT, os.environ.get("PYTHONPATH")]))
        os.environ.update(_ALONE, PYTHONPATH=path_there)
        options = {
            "num_cpus": replicas.most * (settings.threads or 1),
            "include_dashboard": False,
            "object_store_memory": _STORE_BYTES,
            "_node_ip_address": "127.0.0.1",
        }
    import ray  # only now: it reads its environment when it is imported
    from ray import serve

    from serving.cluster.engine import ReplicaEngine
    from serving.cluster.replica import QUIET, deployed

    with ExitStack() as ending:
        try:
            ray.init(address or "local", logging_level=WARNING, log_to_driver=False, **options)
        except Exception as error:
            raise ServingError(f"Ray did not start: {error}") from error
        ending.callback(ray.shutdown)
        getLogger("ray.serve").setLevel(ERROR)
        serve.start(proxy_location="Disabled", logging_config=QUIET)
        getLogger("ray.serve").setLevel(ERROR)  # Ray has set it anew
        if address:
            ending.callback(serve.delete, APPLICATION)
        try:
            application = deployed(replicas, folder, settings)
            handle = serve.run(application, name=APPLICATION, route_prefix=None, logging_config=QUIET)
        except RuntimeError as error:
            raise ServingError(f"the replicas did not start: {_last_line(serve.status(), error)}") from error
        yield ending.enter_context(ReplicaEngine(handle, folder, settings, watch))


def shared(settings: EngineSettings, replicas: int, cores: int, memory: int) -> EngineSettings:
    """What each of so many replicas on one machine may use, where it is not said: a part of its cores and memory.

    memory: what is free, in bytes.
    """
    return replace(
        settings,
        threads=settings.threads or max(1, cores // replicas),
        kv_memory=settings.kv_memory or max(1, memory // 2 // replicas),
    )


def _last_line(status: Any, error: Exception) -> str:
    """Why a replica failed: the last line of what Ray says of its deployments."""
    said = [each.message for app in status.applications.values() for each in app.deployments.values()]
    lines = [line for message in said for line in message.strip().splitlines()]
    return lines[-1] if lines else str(error)
