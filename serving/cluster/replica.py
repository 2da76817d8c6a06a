"""One engine of several: an actor of Ray Serve's, and how Ray is to place, route and replace such actors."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import ray
from anyio import to_thread
from ray import serve
from ray.serve._private import replica as serve_replica
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from ray.serve.schema import LoggingConfig

from serving.engine.process import EngineProcess
from serving.engine.wire import Line, batch_line, error_line
from serving.errors import ServingError
from serving.folder import ModelFolder
from serving.hardware import usable_cores
from serving.http.answers import Answers
from serving.types import EngineSettings, Replicas, options_from

# A conversation's name leads to a replica, and to the next two where that is full: no state, the same from every front.
ROUTER = "ray.serve.experimental.consistent_hash_router:ConsistentHashRouter"
# Seconds that a replica which is to end may take over the answers that it makes; the longest ones of a CPU.
DRAIN_SECONDS = 1800.0
_HEALTH_PERIOD_SECONDS, _HEALTH_TIMEOUT_SECONDS = 2.0, 30.0
_STARTS = 3  # of a replica that cannot be started, before that is an error
QUIET = LoggingConfig(log_level="WARNING", enable_access_log=False)


class Replica:
    """An engine, with the processes that belong to it. model: a folder. settings: those of EngineSettings."""

    def __init__(self, model: str, settings: Mapping[str, Any]) -> None:
        _listen_here_alone()
        self._engine = EngineProcess.load(model, EngineSettings(**settings))

    async def hello(self) -> Line:
        """What it has loaded."""
        return {"context_length": self._engine.context_length, "notes": self._engine.notes}

    async def answers(self, requests: Sequence[Line], client: str) -> AsyncIterator[tuple[int, Line]]:
        """The answers to requests, {"tokens", "options"} each, all of them or none: lines as of the engine's process.

        Each comes with the index of its answer. An error ends them all.
        """
        wanted = [(np.asarray(each["tokens"], np.int32), options_from(each["options"])) for each in requests]
        try:
            async with Answers(self._engine, wanted, client) as answers:
                async for index, chunks in answers:
                    yield index, batch_line(chunks)
        except ServingError as error:
            yield 0, error_line(error)

    async def status(self) -> Line:
        """How busy it is."""
        return asdict(await to_thread.run_sync(self._engine.status))

    async def check_health(self) -> None:
        """For Ray, which replaces it after three failures: its engine starts again by itself, in less than that."""
        await to_thread.run_sync(self._engine.status)

    def __del__(self) -> None:
        if engine := getattr(self, "_engine", None):
            engine.close()


def _listen_here_alone() -> None:
    """Have Ray Serve open the replica's port on the loopback interface, where all of Ray is there, and not on all.

    A cluster's nodes have to reach each other.
    """
    if ray.get_runtime_context().worker.node_ip_address in ("127.0.0.1", "::1"):
        module: Any = serve_replica
        opened = module.add_port_to_grpc_server
        module.add_port_to_grpc_server = lambda server, address: opened(server, address.replace("[::]", "127.0.0.1"))


def deployed(replicas: Replicas, folder: ModelFolder, settings: EngineSettings) -> serve.Application:
    """So many replicas of an engine on a model folder, which lies at the same place on every machine."""
    threads = settings.threads or usable_cores()
    places = settings.at_once + settings.queue
    # Ray says when a replica is full, and asks another one. What the engine keeps back for others comes on top, as it
    # would refuse where another replica has room.
    wider = -(-4 * places // 3)
    scale: dict[str, Any] = {"num_replicas": replicas.least}
    if replicas.least != replicas.most:
        automatic = AutoscalingConfig(
            min_replicas=replicas.least, max_replicas=replicas.most, target_ongoing_requests=settings.at_once
        )
        scale = {"autoscaling_config": automatic}
    deployment: Any = serve.deployment(Replica)
    application: serve.Application = deployment.options(
        name="replica",
        ray_actor_options={"num_cpus": threads},
        max_ongoing_requests=places,
        max_queued_requests=places,  # of each front's, where every replica that they may go to is full
        request_router_config=RequestRouterConfig.model_validate({"request_router_class": ROUTER}),
        graceful_shutdown_timeout_s=DRAIN_SECONDS,
        health_check_period_s=_HEALTH_PERIOD_SECONDS,
        health_check_timeout_s=_HEALTH_TIMEOUT_SECONDS,
        max_constructor_retry_count=_STARTS,
        logging_config=QUIET,
        **scale,
    ).bind(str(folder.path), asdict(replace(settings, queue=wider - settings.at_once)))
    return application
