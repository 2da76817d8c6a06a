"""What is imported before the first request: seconds differ from machine to machine, modules do not."""

import re
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

from serving.engine.process import EngineProcess
from serving.folder import ModelFolder
from serving.text.process import TextProcess
from serving.text.prompt import Prompt
from serving.types import EngineSettings, Grammar, Message, SamplingOptions, complete
from tests.servers import kill

ROOT = Path(__file__).parent.parent
# Each takes a part of a second or more, or belongs to another half of the program.
HEAVY = {
    "torch",
    "transformers",
    "gradio",
    "huggingface_hub",
    "jinja2",
    "llguidance",
    "onnxruntime",
    "psutil",
    "builder",
}


def loaded_after(code: str, *argv: str) -> set[str]:
    """Top-level modules that a fresh process has loaded after running the code."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    command = [sys.executable, "-c", code, *argv]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_an_engine_that_is_ready_has_loaded_nothing_that_only_a_request_needs(demo_model: Path) -> None:
    code = "import sys; from serving.engine.engine import Engine; engine = Engine.load(sys.argv[1])"
    loaded = loaded_after(code, str(demo_model))
    assert "onnxruntime_genai" in loaded
    assert not loaded & HEAVY


def test_an_engine_that_answers_loads_the_renderer_and_no_torch(demo_model: Path) -> None:
    code = """
import sys
from serving.engine.engine import Engine
from serving.types import Message, SamplingOptions, complete
complete(Engine.load(sys.argv[1]).generate([Message("user", "hi")], SamplingOptions(max_tokens=2)))"""
    loaded = loaded_after(code, str(demo_model))
    assert "transformers" in loaded
    assert not loaded & {"torch", "gradio", "llguidance", "onnxruntime", "builder"}


def test_a_page_needs_no_oga_to_start_its_engine(demo_model: Path) -> None:
    code = "import sys; from serving.engine.process import EngineProcess; EngineProcess.load(sys.argv[1]).close()"
    assert not loaded_after(code, str(demo_model)) & (HEAVY | {"onnxruntime_genai"})


class HerePrompt(Prompt):
    """Prompts are written in this process, so that the engine's is the only other one."""

    def check(self, grammar: Grammar) -> None:
        """Nothing is tried out."""

    def close(self) -> None:
        """There is nothing to end."""


def test_the_engines_process_renders_nothing_and_still_ends_its_answers(
    demo_model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")  # the child then writes every import to stderr
    greedy = SamplingOptions(temperature=0.0, max_tokens=100)
    with EngineProcess(
        ModelFolder.open(demo_model), cast(TextProcess, HerePrompt.load(demo_model)), EngineSettings()
    ) as engine:
        for _ in range(2):
            answer = complete(engine.generate([Message("user", "What is the capital of France?")], greedy))
            assert answer.last.finish_reason == "stop"
        without_grammar = modules(capfd.readouterr().err)
        digits = SamplingOptions(temperature=0.0, max_tokens=20, grammar=Grammar("regex", "[0-9]{3}"))
        assert complete(engine.generate([Message("user", "A number?")], digits)).last.finish_reason == "stop"
    assert {"onnxruntime_genai", "tokenizers", "numpy"} <= without_grammar
    assert not without_grammar & HEAVY
    assert "llguidance" in modules(capfd.readouterr().err)


def test_the_processes_that_write_prompts_load_nothing_else(
    demo_model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    with TextProcess(demo_model) as texts:
        assert texts.tokens([Message("user", "hi")], 2048)[0].size
        assert texts.tokens([Message("user", "hi " * 20_000)], 10**6)[0].size
    loaded = modules(capfd.readouterr().err)
    assert {"transformers", "tokenizers", "numpy"} <= loaded
    assert not loaded & {"torch", "gradio", "onnxruntime", "onnxruntime_genai", "llguidance", "builder"}


def modules(import_times: str) -> set[str]:
    """Top-level modules in what Python writes about the time of imports."""
    return set(re.findall(r"^import time: .*\| +(\w+)", import_times, re.MULTILINE))


def test_an_engine_started_anew_knows_again_what_ends_an_answer(demo_model: Path) -> None:
    greedy = SamplingOptions(temperature=0.0, max_tokens=100)
    with EngineProcess.load(demo_model) as engine:
        for _ in range(2):
            answer = complete(engine.generate([Message("user", "What is the capital of France?")], greedy))
            assert answer.last.finish_reason == "stop"
            kill(engine)


def test_a_page_that_is_up_has_what_writes_prompts_ready_and_not_in_its_own_process(demo_model: Path) -> None:
    code = """
import sys
from serving.engine.process import EngineProcess
with EngineProcess.load(sys.argv[1]) as engine:
    engine.warm_up()
    assert engine.prompt.end_ids and len(engine.prompt.pids) == 2"""
    assert not loaded_after(code, str(demo_model)) & (HEAVY - {"psutil"})  # which the engine's watch takes


def test_the_lane_of_short_requests_alone_is_started_before_the_page_is_up(demo_model: Path) -> None:
    with EngineProcess.load(demo_model) as engine:
        assert complete(engine.generate([Message("user", "hi")], SamplingOptions(max_tokens=1))).token_ids
        assert len(engine.prompt.pids) == 1
