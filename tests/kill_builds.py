"""Kill builds of the demo at random moments, and show that nothing is lost.

    python -m tests.kill_builds [--kills 30] [--seed 0]

Every round starts a rebuild beside a model that is being served, kills the whole build (SIGKILL) at a moment drawn
uniformly from the time that a build takes, loads the old model, and then lets a restart finish. It ends with an error
unless every restart publishes a verified model, every old model still loads, and no finished stage ran again. Not part
of the tests: 30 kills take about a quarter of an hour.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from builder.kept.artifact import Shelf, check_files, read_manifest
from builder.quality import Quality, judge
from serving.engine.engine import Engine
from serving.types import Message, SamplingOptions, complete
from tests.hub import ROOT

KNOBS = ("--num-calib-data", "2", "--seq-len", "64")
STAGES = ("prompts", "calibrate", "quantize", "export", "verify")


def start(models_dir: Path) -> "subprocess.Popen[str]":
    """A build in a session of its own, so that it can be killed with all its children."""
    command = [sys.executable, "-m", "builder", "--models-dir", str(models_dir), *KNOBS]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finish(process: "subprocess.Popen[str]") -> Path:
    """The folder that a build publishes, whole and verified."""
    out, err = process.communicate()
    if process.returncode:
        sys.exit(f"the build failed:\n{err}")
    folder = Path(out.strip())
    check_files(folder)
    judge(Quality.from_facts(read_manifest(folder)["quality"]))
    return folder


def answers(folder: Path) -> bool:
    """Whether a model folder loads and answers."""
    with Engine.load(folder) as engine:
        options = SamplingOptions(temperature=0.0, max_tokens=20)
        return "Paris" in complete(engine.generate([Message("user", "What is the capital of France?")], options)).text


def seals(models_dir: Path) -> dict[str, tuple[int, int]]:
    """Finished stages in the working folder, told from one made again by inode and time."""
    found = {}
    for seal in models_dir.glob("demo/.staging-*/*-*.json"):
        if seal.with_suffix("").is_dir():
            json.loads(seal.read_text())  # a kill must not leave half of one
            stat = seal.stat()
            found[seal.name.partition("-")[0]] = (stat.st_ino, stat.st_mtime_ns)
    return found


def main() -> None:
    """Print a line for each kill and the counts at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    rng, work = random.Random(flags.seed), Path(tempfile.mkdtemp())
    began = time.monotonic()
    first = finish(start(work))
    shelf = Shelf(first.parent, first.name.rpartition("-")[0])
    whole = time.monotonic() - began
    print(f"a whole build takes {whole:.1f} s", flush=True)
    during: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    for number in range(1, flags.kills + 1):
        process, moment = start(work), rng.uniform(0, whole)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        ended = process.poll() == 0
        process.communicate()
        finished = seals(work)
        stage = "no stage" if ended else next((name for name in STAGES if name not in finished), "publish")
        current = shelf.current()
        if current is None or not answers(current):
            sys.exit("the model that was being served is lost")
        during[stage] += 1

        restarted = start(work)
        again: set[str] = set()
        while restarted.poll() is None:
            for name, identity in seals(work).items():
                if name in finished and finished[name] != identity:
                    again.add(name)
            time.sleep(0.05)
        new = finish(restarted)
        if again:
            sys.exit(f"made again: {', '.join(sorted(again))}")
        kept.update(finished.keys())
        print(
            f"kill {number:2} at {moment:5.1f} s, in {stage:<9}; kept: {', '.join(finished) or 'nothing'}", flush=True
        )
        if new != shelf.current():
            sys.exit(f"{new} was built, and {shelf.current()} would be served")
    print(f"{flags.kills} kills, {flags.kills} verified models, no finished stage made again")
    print(f"killed in: {dict(during)}; stages taken over: {dict(kept)}")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
