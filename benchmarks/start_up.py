"""From the start of a process to a model that is ready, against a bare script; interleaved, on any model folder.

    python -m benchmarks.start_up FOLDER
    python -m benchmarks.start_up FOLDER --rounds 31

The bare script imports onnxruntime_genai and tokenizers and loads the same folder with both. The second one also makes
one forward pass: OGA imports numpy for it, which for a small model takes longer than everything else, and an engine
that is ready has made one. Each script runs in a process of its own, and is timed from outside. Ratios are taken round
by round; their medians are what counts.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

BARE = """\
import sys, onnxruntime_genai, tokenizers
tokenizers.Tokenizer.from_file(sys.argv[1] + "/tokenizer.json")
model = onnxruntime_genai.Model(sys.argv[1])
"""
PASS = """
params = onnxruntime_genai.GeneratorParams(model)
params.set_search_options(max_length=8)
onnxruntime_genai.Generator(model, params).append_tokens([0])
"""
ENGINE = """\
import sys
from serving.engine.engine import Engine
engine = Engine.load(sys.argv[1])
"""
PROCESS = """\
import sys
from serving.engine.process import EngineProcess
engine = EngineProcess.load(sys.argv[1])
"""
ANSWER = """
from serving.types import Message, SamplingOptions
for chunk in engine.generate([Message("user", "Hello")], SamplingOptions(max_tokens=1)):
    pass
"""
# Measured up to here: how long a process takes to end is another matter.
END = "\nimport os; os.write(1, b'x'); os._exit(0)"
SCRIPTS = {
    "bare script": BARE,
    "bare script and one forward pass": BARE + PASS,
    "Engine.load": ENGINE,
    "EngineProcess.load": PROCESS,
    "Engine.load and one token": ENGINE + ANSWER,
    "EngineProcess.load and one token": PROCESS + ANSWER,
}


def main() -> None:
    """Print a table of seconds, and of how many times those of either bare script that is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="an exported model folder")
    parser.add_argument("--rounds", type=int, default=21)
    flags = parser.parse_args()
    rounds = [
        {name: seconds(script, flags.folder.resolve()) for name, script in SCRIPTS.items()}
        for _ in range(flags.rounds + 1)
    ][1:]
    bare, passed, *_ = SCRIPTS
    print(f"seconds from the start of the process, medians of {flags.rounds} rounds")
    print(f"{'':34}{'median':>8}{'least':>8}{'/ bare':>8}{'/ bare and pass':>17}")
    for name in SCRIPTS:
        ratios = [median(took[name] / took[other] for took in rounds) for other in (bare, passed)]
        taken = [took[name] for took in rounds]
        print(f"{name:34}{median(taken):8.3f}{min(taken):8.3f}{ratios[0]:8.2f}{ratios[1]:17.2f}")


def seconds(script: str, folder: Path) -> float:
    """How long a Python process takes from its start to the end of the script."""
    begun = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", script + END, str(folder)],
        stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent, env=os.environ | {"ORT_DISABLE_TELEMETRY": "1"},
    ) as process:  # fmt: skip
        assert process.stdout
        said = process.stdout.read(1)
        took = time.perf_counter() - begun
    if said != b"x":
        raise SystemExit(f"this script failed:\n{script}")
    return took


if __name__ == "__main__":
    main()
