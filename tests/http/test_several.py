"""Several models behind the API: a request's `model` chooses, and one that is not loaded yet says so."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import NotFoundError, OpenAI

from serving.engine.several import Several, fitted
from serving.folder import ModelFolder
from serving.http.api import Api
from serving.http.metrics import Metrics
from serving.http.served import known_of, together
from serving.http.server import Server, make_app
from serving.types import EngineSettings, EngineStatus
from tests.servers import asked, error_of, events_of

CHAT = "/v1/chat/completions"


def body(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], "temperature": 0, "max_tokens": 5, **more}


@pytest.fixture(scope="module")
def url(demo_model: Path) -> Iterator[str]:
    """Two models with memory for one, the first of which is loaded."""
    settings, folder, metrics = EngineSettings(kv_memory=32 << 20), ModelFolder.open(demo_model), Metrics()
    with Several(fitted(folder, settings, 1 << 40)[1], settings, metrics.watch) as several:
        others = {"the other": several.add("the other", folder)}
        first = several.add("demo", folder, on_demand=False)
        server = Server(make_app(Api(first, "demo", metrics=metrics, others=others).routes()), "127.0.0.1", 0)
        yield server.url.rstrip("/")
        server.close()


def got(url: str, path: str) -> Any:
    status, _, content = asked(url, path)
    assert status == 200
    return json.loads(content)


def test_the_list_has_every_model_and_what_is_known_of_it(url: str, demo_model: Path) -> None:
    models = got(url, "/v1/models")["data"]
    assert [model["id"] for model in models] == ["demo", "the other"]
    assert models[1] == got(url, "/v1/models/the%20other")
    assert got(url, "/v1/models/")["data"] == models  # a slash too many, as where addresses are put together
    known = models[1]["meta"]
    assert known == known_of(ModelFolder.open(demo_model))
    assert (known["quant_algo"], known["group_size"], known["execution_provider"]) == ("awq", 128, "cpu")
    assert known["size"] > 5e6 and 0 < known["kl_divergence"] < 1
    names = got(url, "/openapi.json")["components"]["schemas"]["ChatRequest"]["properties"]["model"]["enum"]
    assert names == ["demo", "the other"]


def test_a_request_names_its_model_which_is_loaded_for_it(url: str) -> None:
    for name, other in (("the other", "demo"), ("demo", "the other")):
        stream = asked(url, CHAT, body(name, stream=True))[2]
        assert b": loading the model\n\n" in stream
        assert {event["model"] for event in events_of(stream)[:-1]} == {name}
        health = got(url, "/health")
        assert health["model"] == "demo" and health["loaded"]
        assert health["models"] == {name: {"loaded": True}, other: {"loaded": False}}
        again = json.loads(asked(url, CHAT, body(name))[2])
        assert again["model"] == name and again["choices"][0]["message"]["content"]


def test_whoever_names_none_gets_the_first(url: str) -> None:
    by_name = json.loads(asked(url, "/tokenize", {"prompt": "hi", "model": "the other"})[2])
    assert json.loads(asked(url, "/tokenize", {"prompt": "hi"})[2]) == by_name  # of the same tokenizer here


def test_an_unknown_model_is_the_error_that_clients_know(url: str) -> None:
    status, error = error_of(url, CHAT, body("third"))
    assert (status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert error["message"] == "there is no model 'third' here, only 'demo', 'the other'."
    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client, pytest.raises(NotFoundError):
        client.models.retrieve("third")


def test_metrics_are_of_all_of_them(url: str) -> None:
    before = asked(url, "/metrics")[2]
    asked(url, CHAT, body("the other"))
    after = asked(url, "/metrics")[2]

    def answers(text: bytes) -> float:
        return sum(
            float(line.split()[-1]) for line in text.decode().splitlines() if line.startswith("oga_chat_answers_total")
        )

    assert answers(after) > answers(before)


def test_how_busy_all_are_is_the_sum() -> None:
    busy, away = EngineStatus(1, 2, 3, 4), EngineStatus(0, 1, 0, 0, loaded=False)
    assert together([busy, away]) == EngineStatus(1, 3, 3, 4, loaded=True)
    assert together([away]) == away


def test_a_folder_that_was_made_elsewhere_tells_what_it_does(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"12345")
    folder = ModelFolder(
        tmp_path, 10, 10, 1, 16, False, tmp_path / "model.onnx", {"recipe": 5, "quality": {"text": {}}}
    )
    assert known_of(folder) == {"size": 5, "execution_provider": "cpu"}
