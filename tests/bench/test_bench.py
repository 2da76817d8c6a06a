"""`python app.py bench` on the real engine: what is asked, what is told of it, and what is refused."""

import ctypes
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

import app
from serving.bench.llama import LlamaRunner
from serving.bench.measure import Results, check_memory, measured
from serving.bench.picture import picture, tick
from serving.bench.plan import FOLLOW_UP, Case, Plan, random_prompt
from serving.bench.report import facts, over, served, tables
from serving.errors import EngineStopped, InvalidRequest, ModelFolderError
from serving.gguf import GgufChat, common_prefix
from serving.types import EngineSettings
from tests.programs import environment

PLAN = Plan(contexts=(48, 24), answer=4, users=(2, 1), rounds=2)
SETTINGS = EngineSettings(parallel=2, guess=False)
# Speaks as llama.cpp's process does, without llama.cpp: counts to the number it is asked for.
PEER = """
import json, sys
setup = json.loads(sys.stdin.readline())
print(json.dumps({"vocab_size": 1000}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    answer = {"token_ids": list(range(asked["count"])), "cached_tokens": 0, "prefill_seconds": 0.25,
              "decode_seconds": 0.5}
    print(json.dumps({"answers": [answer for _ in asked["prompts"]]}), flush=True)
"""


@pytest.fixture(scope="module")
def told() -> list[tuple[int, int, str, float | None]]:
    return []


@pytest.fixture(scope="module")
def results(demo_model: Path, told: list[tuple[int, int, str, float | None]]) -> Results:
    """Both runtimes of ours, measured."""
    return measured(demo_model, SETTINGS, PLAN, lambda *step: told.append(step))


def test_every_runtime_is_asked_for_the_same_in_every_round(results: Results) -> None:
    wanted = {Case("context", 24): 2, Case("context", 48): 2, Case("users", 24, 1): 2, Case("users", 24, 2): 2}
    assert [runner.name for runner in results.runners] == ["oga", "ort"]
    for runner in results.runners:
        assert {case: len(samples) for case, samples in runner.samples.items()} == wanted
        for case, samples in runner.samples.items():
            for sample in samples:
                assert len(sample.answers) == case.users
                for answer in sample.answers:
                    assert (answer.prompt_tokens, len(answer.token_ids)) == (case.context, 4)
                    assert answer.cached_tokens <= 1  # two random prompts may begin with the same token
                    assert 0 < answer.first < answer.whole <= sample.seconds


def test_a_follow_up_computes_what_is_new_only(results: Results) -> None:
    for runner in results.runners:
        for case, samples in runner.samples.items():
            for sample in samples:
                if case.kind == "context":
                    assert sample.follow_up
                    assert sample.follow_up.prompt_tokens == case.context + 4 + FOLLOW_UP
                    assert sample.follow_up.cached_tokens >= case.context + 3  # the answer's last token was not fed
                else:
                    assert sample.follow_up is None


def test_progress_is_told_from_the_beginning_to_the_end(
    results: Results, told: Sequence[tuple[int, int, str, float | None]]
) -> None:
    assert told[0][2] == "loading oga" and told[1][2] == "loading ort"
    steps = told[2:]
    (total,) = {all for _, all, _, _ in steps}
    assert steps[0][0] == 0 and steps[-1][:2] == (total, total)
    assert all(before[0] < after[0] for before, after in pairwise(steps))
    assert all(left is not None and left > 0 for _, _, _, left in steps[1:-1])
    assert steps[1][2] == "round 1 of 2, 24 tokens, ort"


def test_the_tables_have_the_columns_of_llama_bench_and_of_vllm(results: Results) -> None:
    speeds, first, users, memory = (table.splitlines() for table in tables(results).split("\n\n"))
    assert speeds[0] == "| model | size | backend | threads | test | t/s |"
    tests = [line.split(" | ")[4] for line in speeds[2:]]
    assert tests == ["pp24", "tg4 @ d24", "pp48", "tg4 @ d48"] * 2
    assert all(re.fullmatch(r"[\d.]+ ± [\d.]+ \|", line.split(" | ")[5]) for line in speeds[2:])
    assert "Median TTFT (ms)" in first[0] and len(first) == 2 + 2 * 2
    assert first[2].split(" | ")[-1] == "17 |"  # a follow-up's 16 tokens, and the answer's last one
    assert "Output token throughput (tok/s)" in users[0] and len(users) == 2 + 2 * 2
    assert [line.split(" | ")[3] == "x1.00" for line in users[2:]] == [True, False] * 2
    assert memory[0].startswith("| backend | size | memory: loaded | memory: 48 tokens | memory: users | peak")
    assert len(memory) == 4 and "| 0.00 MiB" not in memory[2]


def test_the_figures_agree_with_each_other(results: Results) -> None:
    found = json.loads(json.dumps(facts(results)))
    assert found.keys() == {"model_filename", "cpu_info", "versions", "tests", "ttft", "serving", "memory"}
    assert len(found["tests"]) == 8 and found["versions"]["onnxruntime-genai"]
    for test in found["tests"]:
        assert (test["n_prompt"], test["n_gen"], test["n_depth"]) in ((24, 0, 0), (48, 0, 0), (0, 4, 24), (0, 4, 48))
        tokens = test["n_prompt"] or test["n_gen"] - 1
        assert [s * n / 1e9 for s, n in zip(test["samples_ts"], test["samples_ns"], strict=True)] == pytest.approx(
            [tokens] * 2, abs=1.0  # of the prompt, one token may have been cached
        )  # fmt: skip
        assert min(test["samples_ts"]) <= test["avg_ts"] <= max(test["samples_ts"])
    for said in found["serving"]:
        users = said["max_concurrency"]
        assert (said["completed"], said["total_input_tokens"]) == (2 * users, 2 * users * 24)
        assert said["output_throughput"] == pytest.approx(said["total_output_tokens"] / said["duration"])
        assert said["median_ttft_ms"] <= said["p99_ttft_ms"] and said["median_tpot_ms"] > 0
    assert {held["moment"] for held in found["memory"]} == {"loaded", "context", "users"}
    assert all(held["peak"] is None or held["peak"] >= held["rss"] > 0 for held in found["memory"])


def test_the_picture_has_four_charts_with_a_line_for_each_runtime(results: Results) -> None:
    tree = ElementTree.fromstring(picture(results))
    groups = tree.findall("{*}g")
    assert [len(group.findall("{*}polyline")) for group in groups] == [2, 2, 4, 2]
    for group in groups:
        for circle in group.findall("{*}circle"):
            assert 0 < float(circle.attrib["cx"]) < 420 and 0 < float(circle.attrib["cy"]) < 270


@pytest.mark.parametrize(("most", "step"), [(0.03, 0.005), (1.0, 0.2), (6.0, 1.0), (61.0, 20.0), (2032.0, 500.0)])
def test_the_lines_behind_a_chart_are_at_round_numbers(most: float, step: float) -> None:
    assert tick(most) == pytest.approx(step)


def test_another_program_is_asked_for_the_same_and_compared_pair_by_pair(
    demo_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A double stands where llama.cpp's process does."""
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    monkeypatch.setattr(LlamaRunner.__init__, "__defaults__", (1, (sys.executable, "-c", PEER)))
    plan = replace(PLAN, contexts=(24,), users=(1, 2))
    found = measured(demo_model, SETTINGS, plan, lambda *_: None, ("oga",), file)
    ours, theirs = found.runners
    assert theirs.name == "llama.cpp" and {case.users for case in theirs.samples} == {1, 2}
    assert [sample.answers[0].prefill_speed for sample in theirs.samples[Case("context", 24)]] == [24 / 0.25] * 2
    speeds = tables(found).split("\n\n")[0].splitlines()
    assert speeds[0].endswith("| t/s | over llama.cpp |")
    ratio = over([sample.answers[0].decode_speed for sample in ours.samples[Case("context", 24)]], [3 / 0.5] * 2)
    assert speeds[3].endswith(f"| x{ratio:.2f} |") and speeds[5].endswith("|  |")
    users = tables(found).split("\n\n")[2].splitlines()
    assert users[0].endswith("| Median TPOT (ms) | over llama.cpp |")
    assert [bool(re.search(r"\| x[\d.]+ \|$", line)) for line in users[2:]] == [True, True, False, False]


def test_llama_cpp_that_is_not_there_or_dies_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.gguf"
    with pytest.raises(ModelFolderError, match="--against takes a GGUF file"):
        LlamaRunner(file, 64, 1)
    file.write_bytes(b"GGUF")
    with pytest.raises(EngineStopped, match="exit code 3"):
        LlamaRunner(file, 64, 1, command=(sys.executable, "-c", "raise SystemExit(3)"))
    monkeypatch.setenv("PYTHONPATH", environment(tmp_path)["PYTHONPATH"])
    monkeypatch.setenv("HIDDEN_LIBRARY", "llama_cpp")
    with pytest.raises(ModelFolderError, match="pip install llama-cpp-python"):
        LlamaRunner(file, 64, 1)


def test_what_llama_cpp_has_cached_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A double of the library: its own count is not to be had."""

    class Llama:
        def __init__(self, path: str, **settings: Any) -> None:
            assert settings["n_ctx"] == 64 and settings["n_threads"] == 2

        def n_vocab(self) -> int:
            return 1000

        def generate(self, tokens: list[int], temp: float) -> Any:
            yield from range(500, 600)

    monkeypatch.setitem(sys.modules, "llama_cpp", type(sys)("llama_cpp"))
    monkeypatch.setattr("llama_cpp.Llama", Llama, raising=False)
    chat = GgufChat(tmp_path / "any.gguf", 64, 2)
    prompt = np.arange(20, dtype=np.int32)
    first = chat.answer(prompt, 3)
    assert (first.token_ids, first.cached_tokens) == ((500, 501, 502), 0)
    follow_up = np.asarray([*prompt, 500, 501, 502, 7, 8], np.int32)
    assert chat.answer(follow_up, 1).cached_tokens == 22  # the last token of an answer is never computed
    assert chat.answer(follow_up, 1).cached_tokens == 24  # and the last one of a prompt always is
    assert common_prefix([1, 2], [1, 2, 3]) == 2 and common_prefix([], [1]) == 0


def test_several_users_are_one_pass_of_llama_cpp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A double of the library: after each token its model says the next number."""
    passes: list[list[tuple[int, int, int]]] = []
    library = cast(Any, type(sys)("llama_cpp"))
    settings = SimpleNamespace()
    batch = SimpleNamespace(**{name: [0] * 2048 for name in ("token", "pos", "logits", "n_seq_id")})
    batch.seq_id = [[0] for _ in range(2048)]

    def decode(_: object, batch: Any) -> int:
        many = range(batch.n_tokens)
        passes.append([(batch.token[i], batch.pos[i], batch.seq_id[i][0]) for i in many if batch.n_seq_id[i] == 1])
        return 0

    def logits(_: object, row: int) -> Any:
        assert batch.logits[row]
        values = (ctypes.c_float * 1000)()
        values[batch.token[row] + 1] = 1.0
        return ctypes.cast(values, ctypes.POINTER(ctypes.c_float))

    library.Llama = lambda path, **_: SimpleNamespace(model="a model", n_vocab=lambda: 1000)
    library.llama_context_default_params = lambda: settings
    library.llama_init_from_model = lambda model, settings: "a context"
    library.llama_batch_init = lambda *_: batch
    library.llama_get_memory = library.llama_memory_clear = lambda *_: None
    library.llama_decode, library.llama_get_logits_ith = decode, logits
    monkeypatch.setitem(sys.modules, "llama_cpp", library)
    chat = GgufChat(tmp_path / "any.gguf", 2400, 2, users=2)
    long, short = np.arange(100, 100 + 200, dtype=np.int32), np.array([7, 8], np.int32)
    first, second = chat.together([np.tile(long, 11), short], 3)  # more than a batch
    assert (first.token_ids, second.token_ids) == ((300, 301, 302), (9, 10, 11))
    assert (settings.n_ctx, settings.n_seq_max, settings.n_threads) == (2 * 2560, 2, 2)
    assert [len(each) for each in passes] == [2048, 154, 2, 2]
    assert passes[2:] == [[(300, 2200, 0), (9, 2, 1)], [(301, 2201, 0), (10, 3, 1)]]
    library.llama_decode = lambda *_: 1
    with pytest.raises(ModelFolderError, match="llama_decode: 1"):
        chat.together([short, short], 3)
    library.llama_init_from_model = lambda *_: None
    with pytest.raises(ModelFolderError, match="no memory for 2 answers of 64 tokens"):
        GgufChat(tmp_path / "any.gguf", 64, 2, users=2).together([short, short], 3)


def test_random_prompts_are_the_same_for_the_same_seed_and_ordinary_tokens() -> None:
    assert np.array_equal(random_prompt(50, 1000, 1, 2), random_prompt(50, 1000, 1, 2))
    assert not np.array_equal(random_prompt(50, 1000, 1, 2), random_prompt(50, 1000, 2, 2))
    prompt = random_prompt(500, 1000, 0)
    assert prompt.dtype == np.int32 and prompt.min() >= 250 and prompt.max() < 750


def test_lengths_are_those_that_fit_unless_they_are_asked_for() -> None:
    assert Plan().fitted(2048) == (128, 512, 1024) and Plan().fitted(700) == (128, 512)
    assert Plan(contexts=(300, 20)).fitted(512) == (20, 300)
    with pytest.raises(InvalidRequest, match=r"--context 1000 does not fit: .* 431 at most"):
        Plan(contexts=(20, 1000)).fitted(512)
    with pytest.raises(InvalidRequest, match="too short"):
        Plan().fitted(100)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--context", "0"], "--context must be 1 token or more, not 0"),
        (["--n-gen", "1"], "--n-gen must be 2 tokens or more"),
        (["--users", "1", "65"], "--users must be from 1 to 64, not 65"),
        (["--repetitions", "0"], "--repetitions must be 1 or more"),
        (["--json", "no/such/folder/file"], "--json no/such/folder/file cannot be written"),
        (["--against", "nothing.gguf"], "--against nothing.gguf is not there"),
        (["--execution-provider", "cuda", "--runtime", "ort"], "auto or cpu"),
        (["--context", "3000"], "--context 3000 does not fit"),
        (["--runtime", "cuda"], "--runtime: must be one of oga, ort"),
    ],
)
def test_mistakes_are_refused_before_anything_is_loaded(
    argv: list[str], said: str, demo_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.bench.measure.EngineRunner", None)
    try:
        code = app.main(["bench", "--model", str(demo_model), *argv])
    except SystemExit as end:
        code = int(str(end.code))
    output = capsys.readouterr()
    assert (code, output.out) == (2, "") and said in output.err and output.err.count("\n") == 1


def test_too_little_memory_for_all_of_them_is_refused(demo_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_memory(demo_model, 2, None)
    monkeypatch.setattr("serving.bench.measure.available_memory", lambda: 10 << 20)
    with pytest.raises(InvalidRequest, match=r"take \d+ MiB together, and 10 MiB are free: .* --runtime"):
        check_memory(demo_model, 2, None)


def test_the_command_prints_tables_and_writes_both_files(
    demo_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures, drawing = tmp_path / "bench.json", tmp_path / "bench.svg"
    argv = ["--context", "16", "--n-gen", "2", "--users", "--repetitions", "1", "--runtime", "ort", "--threads", "1"]
    code = app.main(["bench", "--model", str(demo_model), *argv, "--json", str(figures), "--svg", str(drawing)])
    output = capsys.readouterr()
    assert code == 0 and "bench: done" in output.err
    assert "| ort | 1 | pp16 |" in output.out and "throughput" not in output.out  # nobody asked for users
    assert {test["n_threads"] for test in json.loads(figures.read_text())["tests"]} == {1}
    assert ElementTree.fromstring(drawing.read_text()).tag.endswith("svg")


def test_users_at_once_are_told_as_vllm_tells_them(results: Results) -> None:
    said = served(results.runners[0].samples[Case("users", 24, 2)])
    assert said["total_token_throughput"] == pytest.approx(said["output_throughput"] * (24 + 4) / 4)
    assert said["request_throughput"] == pytest.approx(said["output_throughput"] / 4)
