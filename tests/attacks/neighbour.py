"""Somebody who asks short questions all the time, in a process of their own: one line for each, when and how long.

python -m tests.attacks.neighbour PORT [KEY]
"""

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.attacks.client import CHAT, PATIENCE, chat
from tests.attacks.program import ROOT

PAUSE = 0.02
MOST_WAIT = PATIENCE
MOST_QUESTIONS = 100_000


@dataclass(frozen=True, slots=True)
class Wait:
    """One question: when it was asked (time.monotonic), for how long, and how it ended. refused: times, before."""

    began: float
    seconds: float
    outcome: str
    refused: int


class Neighbour:
    """The process, and what it has told so far."""

    def __init__(self, port: int, key: str = "") -> None:
        self.waits: list[Wait] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.attacks.neighbour", str(port), key],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def between(self, began: float, ended: float) -> list[Wait]:
        """The questions that were open at any time between the two; waits for those that still are."""
        until = time.monotonic() + MOST_WAIT + 5
        while time.monotonic() < until and self._reader.is_alive():
            if self.waits and self.waits[-1].began >= ended:
                break
            time.sleep(0.02)
        return [wait for wait in list(self.waits) if wait.began <= ended and wait.began + wait.seconds >= began]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self.waits.append(Wait(*json.loads(line)))


def main() -> None:
    """Ask, say how long it took, pause, ask again."""
    port, key = int(sys.argv[1]), "".join(sys.argv[2:])
    headers = {"authorization": f"Bearer {key}"} if key else {}
    body = json.dumps(chat("hi", max_tokens=8, temperature=0)).encode()
    for _ in range(MOST_QUESTIONS):
        began, refused = time.monotonic(), 0
        while True:
            outcome, pause = _asked(port, body, headers, began + MOST_WAIT - time.monotonic())
            if outcome not in ("429", "503") or time.monotonic() + pause > began + MOST_WAIT:
                break
            refused += 1
            time.sleep(pause)
        print(json.dumps([began, time.monotonic() - began, outcome, refused]), flush=True)
        time.sleep(PAUSE)


def _asked(port: int, body: bytes, headers: Mapping[str, str], patience: float) -> tuple[str, float]:
    """How a question ended, and after how many seconds to ask again, if it was refused."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=max(0.1, patience))
    try:
        connection.request("POST", CHAT, body, dict(headers))
        response = connection.getresponse()
        content: Any = json.loads(response.read() or b"null")
        asks = response.getheader("retry-after", "0.1")
        good = response.status == 200 and content["choices"][0]["message"]["content"]
        return "good" if good else str(response.status), float(asks)
    except TimeoutError:
        return "no answer", 0.0
    except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
        time.sleep(PAUSE)
        return type(error).__name__, 0.0
    finally:
        connection.close()


if __name__ == "__main__":
    main()
