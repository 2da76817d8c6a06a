"""guidellm: a short benchmark with synthetic prompts."""

import json
import os
import subprocess
import sys
from pathlib import Path

command = [
    sys.executable, "-m", "guidellm", "run", "--disable-console", "--profile", "kind=synchronous",
    "--backend", f"kind=openai_http,target={os.environ['OPENAI_BASE_URL']},model={os.environ['MODEL']}",
    "--tokenizer", f"kind=huggingface_auto,model={os.environ['FOLDER']}",
    "--data", "kind=synthetic_text,prompt_tokens=32,output_tokens=8",
    "--constraint", "kind=max_requests,count=3", "--output", "kind=json,path=out.json",
]  # fmt: skip
if code := subprocess.run(command).returncode:
    sys.exit(code)
[benchmark] = json.loads(Path("out.json").read_text())["benchmarks"]
done = benchmark["requests"]
assert len(done["successful"]) == 3, [each["info"]["error"] for each in done["errored"]]
