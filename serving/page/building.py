"""What a browser sees, and what a client of the API is told, while the model is being built and loaded."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from serving.http.problems import Problem

_ASSETS = Path(__file__).parent / "assets"
_LINES = 12  # of what was said, the last ones
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


class Step(Protocol):
    """How far a stage is, as a build reports it: `done` of `total` pieces; total 0 means that nobody can know.

    lasting: the note is worth a line of its own. left: seconds to the stage's end, where they are known.
    """

    @property
    def stage(self) -> str: ...
    @property
    def done(self) -> int: ...
    @property
    def total(self) -> int: ...
    @property
    def note(self) -> str: ...
    @property
    def lasting(self) -> bool: ...
    @property
    def left(self) -> float | None: ...


@dataclass(slots=True)
class _Stage:
    began: float
    done: int = 0
    total: int = 0
    note: str = ""
    end: float | None = None  # when it is expected, or was


class Building:
    """How far it is. Safe to use from any number of threads.

    title: what is being built. clock: seconds.
    """

    def __init__(self, title: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._title, self._clock, self._began = title, clock, clock()
        self._stages: dict[str, _Stage] = {}  # in the order in which they began
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._quality: dict[str, Any] = {}
        self._limit = 0.0
        self._lock = threading.Lock()

    def report(self, step: Step) -> None:
        """Take a step in."""
        now = self._clock()
        with self._lock:
            if step.lasting:
                self._lines.append(step.note)
                return
            stage = self._stages.setdefault(step.stage, _Stage(now))
            ended = 0 < step.total <= step.done
            stage.done, stage.total, stage.note = step.done, step.total, "" if ended else step.note
            stage.end = now if ended else None if step.left is None else now + step.left

    def built(self, said: str, quality: dict[str, Any], limit: float) -> None:
        """The model is there, and is being loaded.

        said: what was measured, in words. quality: the manifest's. limit: the loss beyond which a build gives advice.
        """
        with self._lock:
            self._lines.extend(said.splitlines())
            self._quality, self._limit = quality, limit
            self._stages["load"] = _Stage(self._clock())

    def facts(self) -> dict[str, Any]:
        """What the page draws. Times are in seconds, losses KL divergences in nats per token."""
        now = self._clock()
        with self._lock:
            stages = [
                {
                    "name": name,
                    "done": stage.done,
                    "total": stage.total,
                    "note": stage.note,
                    "ended": 0 < stage.total <= stage.done,
                    "left": None if stage.end is None else max(0.0, stage.end - now),
                    "seconds": (stage.end if stage.end is not None and stage.end < now else now) - stage.began,
                }
                for name, stage in self._stages.items()
            ]
            loss = [
                {"name": name, "kl": held["kl_divergence"], "error": held["kl_divergence_error"]}
                for name, held in self._quality.items()
                if name in ("text", "chats") and held
            ]
            return {
                "title": self._title,
                "seconds": now - self._began,
                "stages": stages,
                "lines": list(self._lines),
                "loss": loss,
                "limit": self._limit,
            }

    def routes(self, page: bool = True) -> Sequence[BaseRoute]:
        """What is answered meanwhile: the page, what it draws, and to everything else that it is too early."""
        shown = [
            Route("/", self._page, methods=["GET"]),
            Route("/building.js", self._script, methods=["GET"]),
            Route("/building.json", self._facts, methods=["GET"]),
        ]
        return [*(shown if page else []), Route("/{path:path}", self._too_early, methods=_METHODS)]

    async def _page(self, _: Request) -> Response:
        html = (_ASSETS / "building.html").read_text(encoding="utf-8")
        return HTMLResponse(html, headers={"content-security-policy": _POLICY})

    async def _script(self, _: Request) -> Response:
        return Response((_ASSETS / "building.js").read_bytes(), media_type="text/javascript")

    async def _facts(self, _: Request) -> Response:
        return JSONResponse(self.facts())

    async def _too_early(self, request: Request) -> Response:
        running = next((stage for stage in reversed(self.facts()["stages"]) if not stage["ended"]), None)
        where = "" if running is None else f" ({running['name']}{', ' if running['note'] else ''}{running['note']})"
        problem = Problem(
            503, f"the model is still being built{where}: try again later.", "building", headers={"retry-after": "5"}
        )
        return problem.response(request.url.path)
