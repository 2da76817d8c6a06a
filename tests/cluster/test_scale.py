"""How many replicas, and what each may use: decided without Ray."""

import pytest

import app
from serving.cluster.start import shared
from serving.errors import InvalidRequest
from serving.types import EngineSettings, Replicas
from tests.test_app import refused


def test_a_number_or_a_range() -> None:
    assert Replicas.of("3") == Replicas(3, 3)
    assert Replicas.of("1-4") == Replicas(1, 4)


@pytest.mark.parametrize("text", ["", "0", "-1", "2-", "-2", "4-1", "two", "1-2-3", "٣"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="--replicas must be N, or LEAST-MOST"):
        Replicas.of(text)


def test_replicas_on_one_machine_share_its_cores_and_memory() -> None:
    each = shared(EngineSettings(), replicas=4, cores=16, memory=64 << 30)
    assert (each.threads, each.kv_memory) == (4, 8 << 30)
    assert shared(EngineSettings(), replicas=4, cores=2, memory=64 << 30).threads == 1
    said = EngineSettings(threads=3, kv_memory=1 << 20)
    assert shared(said, replicas=4, cores=16, memory=64 << 30) == said


def test_without_ray_it_is_said_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("serving.flags.find_spec", lambda name: None)
    assert 'Ray, which is not installed: pip install -e ".[cluster]"' in refused(capsys, "--replicas", "2")


def test_another_device_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "leave out -e cuda" in refused(capsys, "--replicas", "2", "-e", "cuda")
    assert app.parser().parse_args([]).replicas is None
