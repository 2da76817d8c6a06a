"""How attention is computed: not in tiles where that is slower, and with no more memory than was allowed."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from serving.engine.runtime import NO_TILES, PREFILL_CHUNK, SCORES_BYTES
from tests.hub import ROOT
from tests.scripted import ScriptedRuntime

# The last logit after a token that came alone: in tiles, sums are rounded in another order.
LOGIT = """
import sys
from pathlib import Path
import numpy as np
from serving.engine import oga, ort
from serving.folder import ModelFolder

folder, kind = sys.argv[1:]
runtime = {"oga": oga.OgaRuntime, "ort": ort.OrtRuntime}[kind](ModelFolder.open(Path(folder)), None, 2)
slot = runtime.slot(0)
slot.reserve(64)
for tokens in (range(300, 340), [340]):
    runtime.forward([(slot, np.array(tokens, np.int32))])
print(slot.logits().tobytes().hex()[:4000])
"""


@pytest.mark.parametrize("kind", ["oga", "ort"])
def test_attention_is_not_computed_in_tiles_on_x86_unless_asked_for(exact_model: Path, kind: str) -> None:
    def logits(without: str | None) -> str:
        others = {name: value for name, value in os.environ.items() if name != NO_TILES}
        environment = others | ({NO_TILES: without} if without else {})
        command = [sys.executable, "-c", LOGIT, str(exact_model), kind]
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        ).stdout  # fmt: skip

    whole, tiled = logits("1"), logits("0")
    assert len(whole) > 100 and whole != tiled
    assert logits(None) == (whole if platform.machine().lower() in ("x86_64", "amd64") else tiled)


@pytest.mark.parametrize(
    ("heads", "room", "tokens"), [(0, 131072, 64), (32, 4096, 64), (32, 32768, 64), (32, 131072, 16), (512, 10**6, 2)]
)
def test_a_pass_is_shorter_where_its_products_take_too_much_memory(heads: int, room: int, tokens: int) -> None:
    runtime = ScriptedRuntime(lambda tokens: 0, 10)
    runtime.heads = heads
    assert runtime.pass_tokens(room) == tokens <= PREFILL_CHUNK
    assert tokens == 2 or heads * room * tokens * 4 <= SCORES_BYTES
