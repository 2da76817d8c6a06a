"""The proof that goes with a model: what it finds on a device that computes as it should, and on one that does not."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builder.build import KEPT, add_proof
from serving.engine import oga
from serving.engine.oga import OgaRuntime
from serving.engine.proof import PROOF, check_proof, read_proof
from serving.errors import InvalidRequest, ModelFolderError
from serving.folder import ModelFolder
from tests.conftest import Stages


@pytest.fixture(scope="module")
def proved(stages: Stages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's export with its proof, as a build publishes it."""
    folder = Path(shutil.copytree(stages.exported, tmp_path_factory.mktemp("proved") / "model"))
    files = add_proof(Path(stages.job["proof"]), folder)
    assert files[PROOF]["size"] < 400_000
    return folder


@pytest.fixture(scope="module")
def runtime(proved: Path) -> OgaRuntime:
    return OgaRuntime(ModelFolder.open(proved), None, 1)


def test_of_each_position_the_largest_logits_are_kept_and_some_from_everywhere(proved: Path, stages: Stages) -> None:
    proof = read_proof(proved, 1856)
    assert proof is not None and proof.ids.shape == (256, 2 * KEPT)
    with np.load(stages.job["proof"]) as content:
        whole = content["logits"]
    assert proof.ids.max() == 1855
    assert np.array_equal(whole.argmax(axis=1), proof.ids[np.arange(256), proof.logits.argmax(axis=1)])


def test_a_device_that_computes_the_same_is_said_to(proved: Path, runtime: OgaRuntime) -> None:
    proof = read_proof(proved, runtime.vocab_size)
    assert proof is not None
    note = check_proof(proof, runtime.all_logits, "cuda", runtime.context_length)
    assert note.startswith("on cuda it computes what it was proved to: KL divergence ") and "on 256 tokens" in note
    assert "on 63 tokens" in check_proof(proof, runtime.all_logits, "cuda", 64), "in a window that is shorter"


@pytest.mark.parametrize("wrong", ["rolled", "noise", "nan", "constant"])
def test_a_device_that_computes_something_else_is_refused(proved: Path, runtime: OgaRuntime, wrong: str) -> None:
    proof = read_proof(proved, runtime.vocab_size)
    assert proof is not None

    def corrupt(token_ids: Any) -> Any:
        logits = runtime.all_logits(token_ids)
        noise = np.random.default_rng(0).normal(0, 3, logits.shape)
        made = {"rolled": np.roll(logits, 1, axis=0), "noise": logits + noise, "nan": logits * np.nan}
        return made.get(wrong, np.zeros_like(logits))

    with pytest.raises(InvalidRequest, match=r"cuda does not compute what .* Start with --execution-provider cpu"):
        check_proof(proof, corrupt, "cuda", runtime.context_length)


class _Elsewhere(OgaRuntime):
    """Computes on the CPU what it is asked to compute on another device, and there wrongly where `wrong` is set."""

    wrong = False

    def all_logits(self, token_ids: Any) -> Any:
        logits = super().all_logits(token_ids)
        return np.roll(logits, 1, axis=1) if self.wrong else logits


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is installed and that OGA takes; the CPU stands in for it."""
    monkeypatch.setattr(oga, "check_provider", lambda _: None)
    plain = oga.og.Config

    class Config:
        def __init__(self, path: str) -> None:
            self.append_provider = lambda _: None
            self._plain = plain(path)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._plain, name)

    monkeypatch.setattr(oga.og, "Config", Config)
    model = oga.og.Model
    monkeypatch.setattr(oga.og, "Model", lambda config: model(config._plain))


@pytest.mark.usefixtures("device")
def test_another_device_is_checked_when_it_loads(proved: Path) -> None:
    right = _Elsewhere(ModelFolder.open(proved), None, 1, provider="cuda")
    assert any(note.startswith("on cuda it computes what it was proved to") for note in right.notes)
    _Elsewhere.wrong = True
    try:
        with pytest.raises(InvalidRequest, match="does not compute what this model was proved to compute"):
            _Elsewhere(ModelFolder.open(proved), None, 1, provider="cuda")
    finally:
        _Elsewhere.wrong = False


def test_the_cpu_was_proved_by_the_build(runtime: OgaRuntime) -> None:
    assert runtime.notes == ()


def test_a_folder_of_others_has_no_proof(stages: Stages) -> None:
    assert read_proof(stages.exported.parent, 10) is None


@pytest.mark.parametrize(
    "content",
    [
        {"token_ids": np.zeros(4, int)},
        {"token_ids": np.zeros(4, int), "ids": np.zeros((3, 2), int), "logits": np.zeros((3, 2))},
        {"token_ids": np.zeros(4, int), "ids": np.full((4, 2), 9999), "logits": np.zeros((4, 2))},
        {"token_ids": np.zeros(4), "ids": np.zeros((4, 2), int), "logits": np.zeros((4, 2))},
        {"token_ids": np.zeros(0, int), "ids": np.zeros((0, 2), int), "logits": np.zeros((0, 2))},
        {"token_ids": np.zeros(4, int), "ids": np.zeros((4, 2), int), "logits": np.zeros((1 << 22), int)},
        {"token_ids": np.array([{}]), "ids": np.zeros((4, 2), int), "logits": np.zeros((4, 2))},
    ],
)
def test_a_proof_of_another_shape_is_a_fault_of_the_folder(tmp_path: Path, content: dict[str, Any]) -> None:
    np.savez_compressed(tmp_path / PROOF, **content)
    with pytest.raises(ModelFolderError, match=r"proof\.npz cannot be read"):
        read_proof(tmp_path, 1000)
    (tmp_path / PROOF).write_bytes(b"no archive")
    with pytest.raises(ModelFolderError, match=r"proof\.npz cannot be read"):
        read_proof(tmp_path, 1000)
