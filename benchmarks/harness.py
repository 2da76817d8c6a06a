"""lm-evaluation-harness on a served model and on its original: its own programs, unchanged, with a small task of ours.

    pip install -e ".[harness]"
    python -m benchmarks.harness FOLDER --against demo [--count 200]

The task is made of the demo's held-out conversations: answers with a number in them, each among three in which a digit
is another. The served model is asked for log-likelihoods (`local-completions`), and to answer in the chat's own format
(`local-chat-completions`); the original by the harness's own `hf`, in float32. Nothing is downloaded.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any

from builder import demo
from builder.checkpoint.source import locate, parse_source
from serving.engine.process import EngineProcess
from serving.http.access import Access
from serving.http.api import Api
from serving.http.server import Server, make_app
from serving.types import EngineSettings

CHOICE = """
task: demo_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{gold}}}}"
target_delimiter: ""
metric_list: [{{metric: acc}}]
"""
ANSWER = """
task: demo_answer
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{choices[gold]}}}}"
generation_kwargs: {{until: ["<|im_end|>"], max_gen_toks: 64, do_sample: false, temperature: 0.0}}
metric_list: [{{metric: exact_match}}]
"""


METRICS = {"demo_choice": "acc", "demo_answer": "exact_match"}


def documents() -> Iterator[dict[str, Any]]:
    """Questions with numbers that stand by themselves; of four answers the right one at a place that a seed draws."""
    rng = random.Random(0)
    for asked, said in chain.from_iterable(map(pairwise, demo.conversations("heldout"))):
        question, answer = asked["content"], said["content"]
        numbers, known = re.findall(r"\d+", answer), re.findall(r"\d+", question)
        if (asked["role"], said["role"]) == ("user", "assistant") and numbers and known and {*numbers[:-1]} <= {*known}:
            at = [match.start() for match in re.finditer(r"\d", answer)][-1]
            others = rng.sample([digit for digit in "0123456789" if digit != answer[at]], 3)
            choices = [answer[:at] + digit + answer[at + 1 :] for digit in (answer[at], *others)]
            rng.shuffle(choices)
            yield {"question": question, "choices": choices, "gold": choices.index(answer)}


def evaluated(work: Path, task: str, model: str, arguments: str) -> dict[str, Any]:
    """What lm_eval finds; it is a program of its own."""
    output = work / f"{task}-{model}"
    command = [sys.executable, "-m", "lm_eval", "run", "--model", model, "--model_args", arguments, "--tasks", task]
    command += ["--include_path", str(work), "--output_path", str(output), "--apply_chat_template", "--device", "cpu"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(work / "cache")}
    subprocess.run(command, check=True, env=os.environ | offline, stdout=subprocess.DEVNULL)
    (file,) = output.rglob("results_*.json")
    found: dict[str, Any] = json.loads(file.read_text())["results"][task]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--against", default="demo")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--tasks", nargs="+", choices=METRICS, default=list(METRICS))
    parser.add_argument("--batch", action="store_true", help="serve with --batch")
    flags = parser.parse_args()
    original = locate(parse_source(flags.against)).path
    with (
        tempfile.TemporaryDirectory() as name,
        EngineProcess.load(flags.folder, EngineSettings(runtime="ort" if flags.batch else "oga")) as engine,
    ):
        work = Path(name)
        (work / "task.jsonl").write_text("".join(json.dumps(d) + "\n" for d in islice(documents(), flags.count)))
        for task, text in (("demo_choice", CHOICE), ("demo_answer", ANSWER)):
            (work / f"{task}.yaml").write_text(text.format(file=work / "task.jsonl"))
        server = Server(make_app(Api(engine, "m").routes(), Access().middleware()), "127.0.0.1", 0)
        served, window = f"model=m,base_url={server.url}v1/", f"max_length={engine.context_length},num_concurrent=2"
        runs = {
            "demo_choice": ("local-completions", f"{served}completions,tokenizer={flags.folder},{window}"),
            "demo_answer": ("local-chat-completions", f"{served}chat/completions,{window}"),
        }
        print("| task | model | score | error |\n|---|---|---|---|", flush=True)
        for task in flags.tasks:
            for model, arguments in (("hf", f"pretrained={original},dtype=float32"), runs[task]):
                found = evaluated(work, task, model, arguments)
                score, error = (found[f"{METRICS[task]}{which},none"] for which in ("", "_stderr"))
                print(f"| {task} | {model} | {score:.3f} | {error:.3f} |", flush=True)
        server.close()


if __name__ == "__main__":
    main()
