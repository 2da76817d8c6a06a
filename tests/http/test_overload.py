"""More than there is room for: refused at once and in words, while the others go on."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from serving.engine.process import EngineProcess
from serving.http.access import Access, Places
from serving.http.addresses import networks_in
from serving.http.answers import AnswerEngine
from serving.types import EngineSettings
from tests.http.test_stream import Puppet
from tests.servers import api_served, asked, error_of

ROOT = Path(__file__).parent.parent.parent
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
# Long to read and long to say: what goes to the engine and what comes back are more than a pipe holds.
LONG: Any = {
    "model": "demo",
    "messages": [{"role": "user", "content": "word " * 300}],
    "temperature": 2,
    "max_tokens": 200,
    "logprobs": True,
    "top_logprobs": 20,
}
SHORT: Any = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}


def test_a_crowd_that_asks_for_too_much_is_answered_or_told_when_to_come_back(exact_model: Path) -> None:
    with (
        EngineProcess.load(exact_model) as engine,
        api_served(engine) as url,
        ThreadPoolExecutor(25) as pool,
    ):
        answers = [pool.submit(asked, url, CHAT, {**LONG, "n": 16}) for _ in range(24)]
        health = pool.submit(asked, url, "/health")
        assert health.result(30)[0] == 200
        found = [answer.result(120) for answer in answers]
        assert Counter(status for status, _, _ in found) == {200: 2, 503: 22}
        for status, headers, content in found:
            if status == 200:
                assert len(json.loads(content)["choices"]) == 16
            else:
                assert json.loads(content)["error"]["code"] == "busy" and int(headers["retry-after"]) >= 1
        assert asked(url, CHAT, {**LONG, "max_tokens": 1})[0] == 200
        assert json.loads(asked(url, "/health")[2])["queue"] == {"running": 0, "waiting": 0}


def test_who_asks_for_little_is_answered_beside_somebody_who_asks_for_everything(exact_model: Path) -> None:
    access = Access(proxies=networks_in(["127.0.0.1"], "--trusted-proxy"))
    with (
        ThreadPoolExecutor(12) as pool,
        EngineProcess.load(exact_model, EngineSettings(parallel=2, queue=6)) as engine,
        api_served(engine, access=access) as url,
    ):
        endless = {**LONG, "max_tokens": None, "logit_bias": {token: -100 for token in engine.prompt.end_ids}}

        def from_client(client: str, body: Any) -> int:
            return asked(url, CHAT, body, {"x-forwarded-for": client})[0]

        assert from_client("10.0.0.1", SHORT) == 200
        crowd = [pool.submit(from_client, "10.0.0.2", endless) for _ in range(12)]
        while (queue := json.loads(asked(url, "/health")[2])["queue"])["running"] + queue["waiting"] < 6:
            pass
        assert [from_client("10.0.0.1", SHORT) for _ in range(5)] == [200] * 5
        went_on = [answer for answer in crowd if not answer.done()]
        assert len(went_on) > 2  # one in each slot, and some that were there before and wait still


@pytest.fixture
def puppet() -> Puppet:
    return Puppet()


@pytest.mark.parametrize(
    ("path", "body", "answers"),
    [
        (CHAT, {"messages": [{"role": "user", "content": "hi"}], "n": 5}, 5),
        (TEXT, {"prompt": ["a", "b", "c"], "n": 2}, 6),
        (TEXT, {"prompt": [[1]] * 7}, 7),
    ],
)
def test_what_can_never_fit_is_a_mistake_and_not_bad_luck(
    puppet: Puppet, path: str, body: dict[str, Any], answers: int
) -> None:
    puppet.places = 4
    with api_served(cast(AnswerEngine, puppet)) as url:
        status, error = error_of(url, path, {"model": "demo", **body})
    assert (status, error["code"], error["param"]) == (400, "invalid_value", "n")
    assert error["message"].startswith(f"{answers} answers were asked for at once, and there are 4 places")
    assert not puppet.sinks


def test_nor_can_more_than_one_client_may_have(puppet: Puppet) -> None:
    with api_served(cast(AnswerEngine, puppet), places=Places(2)) as url:
        status, error = error_of(url, CHAT, {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "n": 3})
    assert (status, error["param"]) == (400, "n")
    assert error["message"].startswith("3 answers were asked for at once, and there are 2 places")


def test_the_program_ends_though_its_engine_does_not_listen_and_everything_is_full(demo_model: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, "app.py", "--port", "0", "--no-ui", "--model", str(demo_model)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert program.stdout
        url = program.stdout.readline().split()[2].removesuffix("/v1,")
        (engine,) = (c for c in psutil.Process(program.pid).children() if "serving.engine.worker" in c.cmdline())
        os.kill(engine.pid, signal.SIGSTOP)
        with ThreadPoolExecutor(40) as pool:
            answers = [pool.submit(asked, url, CHAT, LONG) for _ in range(40)]
            while json.loads(asked(url, "/health")[2])["queue"]["waiting"] < 32:
                pass
            program.send_signal(signal.SIGTERM)
            assert program.wait(10) == 130
            codes = Counter(json.loads(answer.result()[2])["error"]["code"] for answer in answers)
        assert codes == {"engine_stopped": 36, "busy": 4}
        assert not psutil.pid_exists(engine.pid)
        assert program.communicate()[1] == "\nstopped.\n"
    finally:
        program.kill()
        program.communicate()
