"""What has been asked and answered, in Prometheus' text format: numbers only, nothing of what was said."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serving.engine.wire import Batch, Sink
from serving.errors import ServingError
from serving.types import Chunk, EngineStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FIRST = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)  # seconds
_EACH = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """Counters of one engine, the page's answers included. Safe to use from any number of threads."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(f"oga_chat_{name}", what, labels, registry=self._registry)

        def gauge(name: str, what: str) -> Gauge:
            return Gauge(f"oga_chat_{name}", what, registry=self._registry)

        def histogram(name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"oga_chat_{name}", what, buckets=buckets, registry=self._registry)

        self._requests = counter("http_requests", "HTTP requests to the API, by path and status", "path", "status")
        self._answers = counter("answers", "answers by outcome: stop, length, cancelled, or the error", "outcome")
        self._prompt = counter("prompt_tokens", "tokens of prompts")
        self._cached = counter("cached_tokens", "tokens of prompts that were in the KV cache already")
        self._made = counter("completion_tokens", "tokens of answers")
        self._first = histogram("time_to_first_token_seconds", "from the request to the first token", _FIRST)
        self._each = histogram("time_per_token_seconds", "of an answer, after its first token", _EACH)
        self._running = gauge("running", "answers being made")
        self._waiting = gauge("waiting", "requests in the queue")
        self._kv = gauge("kv_bytes", "memory held by KV caches")
        self._kv_limit = gauge("kv_limit_bytes", "memory that KV caches may hold")

    def watch(self, sink: Sink) -> Sink:
        """A sink that counts what passes through it."""
        started, first = time.perf_counter(), 0.0

        def watching(batch: Batch) -> None:
            nonlocal first
            now = time.perf_counter()
            if isinstance(batch, ServingError):
                self._answers.labels(type(batch).__name__).inc()
            else:
                last = batch[-1]
                if not first and last.completion_tokens:
                    first = now
                    self._first.observe(now - started)
                if last.finish_reason is not None:
                    self._ended(last, now - first)
            sink(batch)

        return watching

    def requested(self, path: str, status: int) -> None:
        """Count an HTTP request; `path` is a route's, not a client's."""
        self._requests.labels(path, str(status)).inc()

    def text(self, status: EngineStatus) -> bytes:
        """Everything, as it is now."""
        self._running.set(status.running)
        self._waiting.set(status.waiting)
        self._kv.set(status.kv_bytes)
        self._kv_limit.set(status.kv_limit)
        return generate_latest(self._registry)

    def _ended(self, last: Chunk, seconds: float) -> None:
        self._answers.labels(last.finish_reason).inc()
        self._prompt.inc(last.prompt_tokens)
        self._cached.inc(last.cached_tokens)
        self._made.inc(last.completion_tokens)
        if last.completion_tokens > 1:
            self._each.observe(seconds / (last.completion_tokens - 1))
