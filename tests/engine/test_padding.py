"""What one model takes for padding is another's end of a turn: in a conversation it is a token like any other."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from serving.engine.oga import OgaRuntime
from serving.folder import ModelFolder

PAD, TOKEN = 7, 300


@pytest.fixture(scope="module")
def runtime(exact_model: Path, tmp_path_factory: pytest.TempPathFactory) -> OgaRuntime:
    """Of a model that pads with PAD."""
    folder = Path(shutil.copytree(exact_model, tmp_path_factory.mktemp("padding") / "model"))
    settings = json.loads((folder / "genai_config.json").read_text())
    settings["model"]["pad_token_id"] = PAD
    (folder / "genai_config.json").write_text(json.dumps(settings))
    return OgaRuntime(ModelFolder.open(folder), None, 1)


@pytest.mark.parametrize("tokens", [[TOKEN, PAD], [PAD, TOKEN, PAD, PAD], [PAD, PAD]], ids=["end", "ends", "only"])
def test_logits_are_those_of_the_last_token(runtime: OgaRuntime, tokens: list[int]) -> None:
    slot, ids = runtime.slot(0), np.asarray(tokens, np.int32)
    slot.reserve(8)
    slot.append(ids)
    assert np.allclose(slot.logits()[0], runtime.all_logits(ids)[-1], atol=1e-4)
