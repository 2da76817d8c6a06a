"""lm-eval: a task of choices by completions with echo, and one of generation by chat, on questions of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

work = Path.cwd()
questions = [{"q": f"{n}+{n}=", "a": str(2 * n), "wrong": str(3 * n)} for n in range(1, 5)]
(work / "questions.jsonl").write_text("".join(json.dumps(each) + "\n" for each in questions))
common = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {work}/questions.jsonl}}}}\ntest_split: test\n"
(work / "choices.yaml").write_text(
    f"task: choices\n{common}output_type: multiple_choice\ndoc_to_text: '{{{{q}}}}'\ndoc_to_target: 0\n"
    "doc_to_choice: '{{[a, wrong]}}'\nmetric_list: [{metric: acc}]\n"
)
(work / "said.yaml").write_text(
    f"task: said\n{common}output_type: generate_until\ndoc_to_text: '{{{{q}}}}'\ndoc_to_target: '{{{{a}}}}'\n"
    'generation_kwargs: {until: ["\\n"], max_gen_toks: 10}\nmetric_list: [{metric: exact_match}]\n'
)
model, base = os.environ["MODEL"], os.environ["OPENAI_BASE_URL"]
tokenizer = f"tokenizer={os.environ['FOLDER']},tokenizer_backend=huggingface,max_length=1024"
for task, how, path, more in (
    ("choices", "local-completions", "completions", []),
    ("said", "local-chat-completions", "chat/completions", ["--apply_chat_template"]),
):
    command = [
        sys.executable, "-m", "lm_eval", "--model", how, "--tasks", task, "--include_path", str(work), *more,
        "--model_args", f"model={model},base_url={base}/{path},{tokenizer},num_concurrent=2,max_retries=1",
        "--output_path", str(work / task),
    ]  # fmt: skip
    if code := subprocess.run(command).returncode:
        sys.exit(code)
    [results] = (work / task).rglob("results_*.json")
    assert json.loads(results.read_text())["results"][task]
