"""The model card of a built folder, made of its manifest: what it is, what it lost, and how to run it. Pure."""

import shlex
from collections.abc import Mapping
from dataclasses import fields
from pathlib import PurePath
from typing import Any

from builder.giving.licence import Licence
from builder.progress import megabytes
from builder.quality import Quality, share, with_error
from builder.recipe import ExportTarget, QuantRecipe

_LIBRARIES = {
    "amd-quark": "AMD Quark",
    "onnxruntime-genai": "ONNX Runtime GenAI",
    "onnxruntime": "ONNX Runtime",
    "torch": "torch",
    "transformers": "transformers",
    "tokenizers": "tokenizers",
}
# Hub tags by which others find it.
_TAGS = ["onnx", "onnxruntime-genai", "oga-chat", "int4"]
_ALGORITHMS = {"awq": "AWQ", "gptq": "GPTQ", "gptaq": "GPTAQ", "none": "rounding to nearest"}


def public_manifest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest as others may have it: of what lay in a folder of this machine, without the way to it."""
    source, recipe = dict(manifest["source"]), dict(manifest.get("recipe", {}))
    if source["kind"] == "folder":
        source["name"] = _last(source["name"])
    for name in ("dataset", "fallback_dataset"):
        if recipe.get(name):
            recipe[name] = _last(recipe[name])
    public = {**manifest, "source": source, "recipe": recipe}
    if isinstance(calibration := manifest.get("calibration"), dict):
        public["calibration"] = {**calibration, "dataset": _last(str(calibration.get("dataset", "")))}
    return public


def build_command(manifest: Mapping[str, Any]) -> str:
    """What builds the same again, of a public manifest."""
    source, recipe, target = manifest["source"], manifest.get("recipe", {}), manifest["target"]
    usual_target = ExportTarget()
    words = [
        "python",
        "-m",
        "builder",
        "--model",
        f"./{source['name']}" if source["kind"] == "folder" else source["name"],
    ]
    if source["kind"] == "hub":
        words += ["--revision", source["revision"]]
    if not manifest.get("quantized"):  # what came quantized is only exported
        usual, always = QuantRecipe(), ("quant_algo", "group_size", "dataset", "num_calib_data", "seq_len")
        for knob in (field.name for field in fields(QuantRecipe)):
            value = recipe.get(knob, getattr(usual, knob))
            if knob in ("dataset_sha256", "exclude_layers") or (knob not in always and value == getattr(usual, knob)):
                continue
            words += [f"--{knob.replace('_', '-')}", str(value)]
        if not recipe.get("exclude_layers", usual.exclude_layers):
            words += ["--exclude-layers"]
        elif target["lm_head_bits"] != usual_target.lm_head_bits:
            words += ["--lm-head-bits", str(target["lm_head_bits"])]
    if (bits := target.get("embedding_bits", usual_target.embedding_bits)) != usual_target.embedding_bits:
        words += ["--embedding-bits", str(bits)]
    words += ["--execution-provider", target["execution_provider"], "--accuracy-level", str(target["accuracy_level"])]
    return shlex.join(words)


def model_card(manifest: Mapping[str, Any], licence: Licence, repository: str) -> str:
    """Markdown with the Hub's metadata at its top. manifest: a public one."""
    from huggingface_hub import ModelCardData

    source = manifest["source"]
    data = ModelCardData(
        license=licence.identifier,
        license_name=licence.name or None,
        license_link=licence.link or None,
        base_model=source["name"] if source["kind"] == "hub" else None,
        pipeline_tag="text-generation",
        tags=[*_TAGS, *([recipe["quant_algo"]] if (recipe := manifest.get("recipe")) else [])],
        base_model_relation="quantized" if source["kind"] == "hub" else None,
    )
    parts = [f"---\n{data.to_yaml()}\n---", _what(manifest, licence, repository), _lost(manifest, repository)]
    return "\n\n".join([*parts, _running(manifest, repository), _checking(repository)]) + "\n"


def _what(manifest: Mapping[str, Any], licence: Licence, repository: str) -> str:
    source, recipe, target = manifest["source"], manifest.get("recipe", {}), manifest["target"]
    name = {"demo": "The bundled demo of oga-chat"}.get(source["kind"], source["name"])
    origin = f"{name}, content `{source['revision']}`"
    if source["kind"] == "hub":
        origin = f"[{name}](https://huggingface.co/{name}) at commit `{source['revision']}`"
    algorithm = _ALGORITHMS.get(recipe.get("quant_algo", ""), str(recipe.get("quant_algo", "unknown")))
    by = "as the source came" if manifest.get("quantized") else "by AMD Quark"
    mixed = "" if recipe.get("mixture", "none") == "none" else f"; some linears in 8 bits ({recipe['mixture']})"
    head = f"{target['lm_head_bits']} bits" if recipe.get("exclude_layers") else "quantized with the rest"
    calibrated = "not by this build"
    if "num_calib_data" in recipe:
        on = manifest.get("calibration", {}).get("dataset", recipe["dataset"])
        calibrated = f"`{on}`, {recipe['num_calib_data']} sequences of {recipe['seq_len']} tokens"
    rows = {
        "source": origin,
        "licence": f"{licence.name or licence.identifier}{f' ({licence.link})' if licence.link else ''}, as the source",
        "weights": f"UINT4 in groups of {recipe.get('group_size', 'unknown size')}: {algorithm}, {by}{mixed}",
        "output layer": head,
        **({"embeddings": "8 bits, in groups of 32"} if target.get("embedding_bits") == 8 else {}),
        "calibrated on": calibrated,
        "made for": f"`{target['execution_provider']}`, accuracy level {target['accuracy_level']}",
        "size": megabytes(sum(entry["size"] for entry in manifest["files"].values())),
        "made with": ", ".join(
            f"{_LIBRARIES.get(library, library)} {number}" for library, number in manifest.get("libraries", {}).items()
        ),
    }
    table = "\n".join(f"| {what} | {value} |" for what, value in rows.items())
    note = f"\n\n{manifest['note']}" if manifest.get("note") else ""
    lead = f"{name} in 4 bits, for ONNX Runtime GenAI (OGA), built and measured by oga-chat."
    return f"# {repository.partition('/')[2]}\n\n{lead}\n\n| | |\n|---|---|\n{table}{note}"


def _lost(manifest: Mapping[str, Any], repository: str) -> str:
    quality, source = Quality.from_facts(manifest["quality"]), manifest["source"]
    parts = ["## What it lost"]
    if quality.losses:
        rows = [
            f"| {kind} | {with_error(loss.perplexity_original, loss.perplexity_original_error, 3)} "
            f"| {with_error(loss.perplexity_exported, loss.perplexity_exported_error, 3)} "
            f"| {with_error(loss.kl_divergence, loss.kl_divergence_error, 4)} "
            f"| {share(loss.top1_agreement, loss.top1_agreement_error)} | {loss.tokens} |"
            for kind, loss in quality.losses.items()
        ]
        head = "| on | perplexity before | after | KL divergence, nats per token | same first token | tokens |"
        parts += ["\n".join([head, "|---|---|---|---|---|---|", *rows])]
    else:
        parts += ["Against the original: not measured."]
    if quality.export:
        proof = quality.export
        parts += [
            "The export against the quantized weights that it was made from: KL divergence "
            f"{with_error(proof.kl_divergence, proof.kl_divergence_error, 5)}, same first token "
            f"{share(proof.top1_agreement, proof.top1_agreement_error)}, largest difference of logits "
            f"{proof.max_difference:.2g}, on {proof.tokens} tokens."
        ]
    if manifest["target"]["execution_provider"] != "cpu":
        parts += [f"All measured on the CPU: the kernels of {manifest['target']['execution_provider']} were not."]
    against = f"./{source['name']}" if source["kind"] == "folder" else source["name"]
    measure = shlex.join(["python", "-m", "builder", "measure", repository.partition("/")[2], "--against", against])
    parts += [
        f"The build measured this on text that it had held out:\n\n    {build_command(manifest)}",
        f"More text, or another: `hf download {repository} --local-dir {repository.partition('/')[2]}`, then\n\n"
        f"    {measure}",
    ]
    return "\n\n".join(parts)


def _running(manifest: Mapping[str, Any], repository: str) -> str:
    name = repository.partition("/")[2]
    version = manifest.get("libraries", {}).get("onnxruntime-genai", "")
    return f"""## How to run it

With oga-chat, a chat in the browser and an OpenAI-compatible API:

    python app.py --model {repository}

With ONNX Runtime GenAI alone, `pip install onnxruntime-genai{f"=={version}" if version else ""} huggingface-hub`:

```python
import json

import onnxruntime_genai as og
from huggingface_hub import snapshot_download

model = og.Model(snapshot_download("{repository}"))
tokenizer = og.Tokenizer(model)
messages = json.dumps([{{"role": "user", "content": "hello"}}])
prompt = tokenizer.encode(tokenizer.apply_chat_template(messages=messages, add_generation_prompt=True))
options = og.GeneratorParams(model)
options.set_search_options(max_length=len(prompt) + 256)
generator = og.Generator(model, options)
generator.append_tokens(prompt)
stream = tokenizer.create_stream()
while not generator.is_done():
    generator.generate_next_token()
    print(stream.decode(generator.get_next_tokens()[0]), end="", flush=True)
```

With Lemonade, on Windows with a Ryzen AI processor, whose `ryzenai-llm` backend reads folders of OGA (not tried):

    lemonade pull user.{name} --checkpoint main {repository} --recipe ryzenai-llm
    lemonade run user.{name}"""


def _checking(repository: str) -> str:
    return (
        "## Files\n\n`manifest.json` has the recipe, the measurements, and the size and SHA-256 of every file; "
        f"`python app.py --model {repository}` compares them once they have arrived."
    )


def _last(name: str) -> str:
    """The last part of a path, of this system or of Windows."""
    return PurePath(name.replace("\\", "/")).name or name
