"""Two replicas on a real Ray: conversations stay, errors are as ever, a killed replica costs its own answers alone.

Ray takes minutes to start on two cores that other tests use, and its faults come at their own times: run by hand, with
OGA_CHAT_RAY_TESTS=1 and nothing beside it.
"""

import json
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Thread

import psutil
import pytest
from playwright.sync_api import BrowserContext, expect

from serving.engine.process import EngineProcess
from serving.engine.remote import RemoteEngine
from serving.errors import Busy
from serving.http.metrics import Metrics
from serving.page.ui import build_chat
from serving.types import EngineSettings, Message, Replicas, complete
from tests.page.test_browser import Chat, browser, context  # noqa: F401 - fixtures
from tests.pages import served
from tests.replicas import LONG, Stream, anew, edited, interleaved, killed, left
from tests.servers import api_served, asked, error_of, events_of
from tests.waiting import eventually

# Places for 16 on each replica, and as many again wait where both are full.
SETTINGS = EngineSettings(threads=1, parallel=8, queue=8, slots=16, kv_memory=256 << 20)
# Ray uses what its libraries will drop, and leaves open what belongs to processes that it has ended.
pytestmark = [
    # Not importorskip, as Ray reads its environment when it is imported.
    pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: pip install -e '.[cluster]'"),
    pytest.mark.skipif("OGA_CHAT_RAY_TESTS" not in os.environ, reason="Ray takes minutes: OGA_CHAT_RAY_TESTS=1"),
    *(
        pytest.mark.filterwarnings(f"ignore::{kind}")
        for kind in (
            "DeprecationWarning",
            "FutureWarning",
            "ResourceWarning",
            "pytest.PytestUnraisableExceptionWarning",
        )
    ),
]


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture(scope="module")
def engine(demo_model: Path, metrics: Metrics) -> Iterator[RemoteEngine]:
    from serving.cluster.start import on_replicas

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with on_replicas(Replicas(2, 2), demo_model, SETTINGS, metrics.watch) as engine:
            engine.warm_up()
            yield engine
            family = psutil.Process().children(recursive=True)
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []


@pytest.fixture(scope="module")
def url(engine: RemoteEngine, metrics: Metrics) -> Iterator[str]:
    with api_served(engine, metrics=metrics) as url:
        yield url


def test_conversations_have_as_much_in_the_cache_as_on_one_machine(engine: RemoteEngine, demo_model: Path) -> None:
    with EngineProcess.load(demo_model, SETTINGS) as one:
        _, alone = interleaved(one, 6, 4)
    people, cached = interleaved(engine, 6, 4)
    assert sum(alone) > 0 and sum(cached) >= 0.95 * sum(alone)
    for each in people:
        again = anew(engine, each).last
        assert again.cached_tokens == again.prompt_tokens - 1
        assert edited(engine, each).last.cached_tokens > 0


def test_the_api_is_the_same(url: str) -> None:
    question = {
        "model": "demo",
        "messages": [{"role": "user", "content": "What is 17+25?"}],
        "temperature": 0,
        "max_tokens": 20,
    }
    status, _, body = asked(url, "/v1/chat/completions", question)
    said = json.loads(body)["choices"][0]["message"]["content"]
    assert status == 200 and "42" in said
    status, headers, body = asked(url, "/v1/chat/completions", question | {"stream": True, "n": 2})
    pieces = [event["choices"] for event in events_of(body) if event != "[DONE]"]
    for index in (0, 1):
        text = "".join(c["delta"].get("content") or "" for choices in pieces for c in choices if c["index"] == index)
        assert text == said
    assert headers["content-type"].startswith("text/event-stream")
    status, error = error_of(url, "/v1/chat/completions", question | {"logit_bias": {"999999": 1}})
    assert status == 400 and "999999" in error["message"]
    status, _, body = asked(url, "/health")
    assert status == 200 and json.loads(body)["queue"] == {"running": 0, "waiting": 0}
    assert b'oga_chat_answers_total{outcome="stop"}' in asked(url, "/metrics")[2]


def test_the_page_is_the_same(engine: RemoteEngine, context: BrowserContext) -> None:  # noqa: F811
    with served(build_chat(engine, name="demo", examples=["x"])) as page:
        chat = Chat(context.new_page(), page.url)
        for question, answer in (("My name is Anna.", "Anna"), ("What is my name?", "Anna"), ("What is 17+25?", "42")):
            chat.ask(question)
            expect(chat.answers.last).to_contain_text(answer)
        expect(chat.status).to_contain_text("of the window are used")


def test_an_answer_that_its_reader_leaves_is_made_no_more(engine: RemoteEngine) -> None:
    assert left(engine)


def test_beyond_all_queues_a_request_is_told_when_to_come_back(engine: RemoteEngine, url: str) -> None:
    ended, full = Event(), Event()

    def one(number: int) -> None:
        """One after the other, so that there are as many at a time however slowly they begin."""
        while not ended.is_set():
            stream = engine.generate([Message("user", f"Story {number}.")], LONG, ended.is_set, client="127.0.0.1")
            try:
                complete(stream)
            except Busy:
                full.set()
                ended.wait(0.05)

    threads = [Thread(target=one, args=(number,)) for number in range(60)]
    for thread in threads:
        thread.start()
    question = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    try:
        assert full.wait(60)
        answers = (asked(url, "/v1/chat/completions", question) for _ in range(100))
        status, headers, body = next(answer for answer in answers if answer[0] != 200)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert status == 503 and headers["retry-after"] == "1" and b"every replica" in body
    eventually(lambda: asked(url, "/v1/chat/completions", question)[0] == 200)


def test_nothing_listens_where_others_can_reach_it(engine: RemoteEngine) -> None:
    family = psutil.Process().children(recursive=True)
    listening = [
        connection.laddr.ip
        for process in family
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening and {ip.removeprefix("::ffff:") for ip in listening} <= {"127.0.0.1", "::1"}


def test_a_killed_replica_costs_its_own_answers_alone(engine: RemoteEngine) -> None:
    hit, others, seconds = killed(engine, 12)
    assert hit and others
    for stream in hit:
        assert stream.error.startswith("EngineStopped: the replica that made this answer has ended")
    assert all(stream.tokens == LONG.max_tokens for stream in others)
    assert seconds < 60  # that they come back at all; how soon is measured by `python -m tests.replicas`
    assert Stream(engine, 99).join().error == ""
