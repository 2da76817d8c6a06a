"""Model cards: what a manifest says is told, what it gives away of this machine is not, and its commands are right."""

import json
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from builder.checkpoint.source import parse_source
from builder.commands import build_parser, measure_parser
from builder.errors import BuildError
from builder.flags import recipe_from, target_from
from builder.giving.card import build_command, model_card, public_manifest
from builder.giving.licence import Licence, licence_of
from builder.recipe import ExportTarget, QuantRecipe

HUB = {"kind": "hub", "name": "acme/chat", "revision": "c0ffee00" * 5}
LOSS = {
    "tokens": 2044,
    "perplexity_original": 8.125,
    "perplexity_exported": 8.25,
    "kl_divergence": 0.03125,
    "top1_agreement": 0.9375,
}
PROOF = {"tokens": 255, "kl_divergence": 0.000125, "top1_agreement": 1.0, "max_difference": 0.5}


def manifest(source: dict[str, str] = HUB, target: ExportTarget | None = None, **recipe: Any) -> dict[str, Any]:
    """As a build records it."""
    return {
        "source": source,
        "recipe": {**asdict(QuantRecipe()), **recipe},
        "target": asdict(target or ExportTarget()),
        "calibration": {"dataset": recipe.get("dataset", QuantRecipe().dataset), "sha256": ""},
        "quality": {"text": LOSS, "chats": None, "export": PROOF},
        "libraries": {"onnxruntime-genai": "0.18.0", "amd-quark": "0.13"},
        "files": {"model.onnx": {"size": 2_500_000, "sha256": "0" * 64}},
    }


@pytest.mark.parametrize(
    ("recipe", "target"),
    [
        (QuantRecipe(), ExportTarget()),
        (
            QuantRecipe("gptaq", 64, "bfloat16", "wikitext", 16, 128, fallback_dataset="offline"),
            ExportTarget("dml", 1, 16),
        ),
        (QuantRecipe(exclude_layers=(), awq_search="quark", custom_mode="awq"), ExportTarget("cuda", 4, 4)),
        (QuantRecipe("none", 32), ExportTarget(lm_head_bits=4)),
        (QuantRecipe("gptaq", 128, mixture="q4_k_m"), ExportTarget(embedding_bits=8)),
    ],
)
def test_the_command_of_a_card_builds_the_same_again(recipe: QuantRecipe, target: ExportTarget) -> None:
    recorded = {**manifest(target=target), "recipe": asdict(recipe)}
    words = shlex.split(build_command(public_manifest(json.loads(json.dumps(recorded)))))
    assert words[:3] == ["python", "-m", "builder"]
    flags = build_parser().parse_args(words[3:])
    assert (flags.model, flags.revision) == ("acme/chat", HUB["revision"])
    found = recipe_from(flags, parse_source(flags.model, flags.revision))
    assert (found, target_from(flags, found.exclude_layers)) == (recipe, target)


def test_a_card_tells_what_was_measured_and_how_to_run_it() -> None:
    card = model_card(manifest(), Licence("other", "acme licence", "https://acme.example/licence"), "me/chat-oga")
    for said in (
        "license: other\nlicense_name: acme licence\nlicense_link: https://acme.example/licence\n",
        "base_model: acme/chat\n",
        "base_model_relation: quantized\n",
        "| source | [acme/chat](https://huggingface.co/acme/chat) at commit `c0ffee00",
        "| text | 8.125 | 8.250 | 0.0312 | 93.8% | 2044 |",
        "largest difference of logits 0.5, on 255 tokens",
        "| made with | ONNX Runtime GenAI 0.18.0, AMD Quark 0.13 |",
        "    python app.py --model me/chat-oga\n",
        "    lemonade pull user.chat-oga --checkpoint main me/chat-oga --recipe ryzenai-llm\n",
        build_command(manifest()),
    ):
        assert said in card, said
    measure = next(line for line in card.splitlines() if "builder measure" in line)
    flags = measure_parser().parse_args(shlex.split(measure)[4:])
    assert (flags.folder, flags.against) == (Path("chat-oga"), "acme/chat")


def test_a_card_says_what_was_not_measured() -> None:
    nothing = {**manifest(target=ExportTarget("dml")), "quality": {"text": None, "chats": None, "export": None}}
    card = model_card(nothing, Licence("mit"), "me/chat")
    assert "Against the original: not measured." in card
    assert "All measured on the CPU: the kernels of dml were not." in card


def test_a_card_names_a_mixture() -> None:
    card = model_card(manifest(quant_algo="gptaq", mixture="q4_k_m"), Licence("mit"), "me/chat")
    assert "UINT4 in groups of 128: GPTAQ, by AMD Quark; some linears in 8 bits (q4_k_m)" in card


def test_a_card_of_what_came_quantized_says_so() -> None:
    came = {**manifest(), "quantized": True, "recipe": {"quant_algo": "awq", "group_size": 64, "exclude_layers": []}}
    card = model_card(public_manifest(came), Licence("mit"), "me/chat")
    assert "UINT4 in groups of 64: AWQ, as the source came" in card and "--quant-algo" not in card


@pytest.mark.parametrize("root", ["/home/somebody/secret", "C:\\Users\\somebody\\secret"])
def test_where_a_source_and_its_text_lay_is_not_given_away(root: str) -> None:
    source = {"kind": "folder", "name": f"{root}{root[-7]}chat", "revision": "0123456789abcdef"}
    recorded = manifest(source, dataset=f"{root}{root[-7]}mine.jsonl", fallback_dataset="offline")
    public = public_manifest(recorded)
    card = model_card(public, Licence("mit"), "me/chat")
    for text in (json.dumps(public), card):
        assert "somebody" not in text and "secret" not in text
    assert "`mine.jsonl`" in card and "--model ./chat" in card and "base_model" not in card
    assert recorded["source"] == source


def test_the_licence_is_what_the_source_says(tmp_path: Path) -> None:
    source = {"kind": "folder", "name": str(tmp_path), "revision": ""}
    (tmp_path / "README.md").write_text("---\nlicense: other\nlicense_name: acme\nlicense_link: LICENSE\n---\nwords")
    (tmp_path / "LICENSE.txt").write_text("terms")
    (tmp_path / "notes.txt").write_text("mine")
    found = licence_of(source, None)
    assert found == Licence("other", "acme", "LICENSE", (tmp_path / "LICENSE.txt",))
    assert licence_of(source, "other") == found
    with pytest.raises(BuildError, match=r"--license mit is not what .* says: its licence is other"):
        licence_of(source, "mit")


@pytest.mark.parametrize("card", [None, "words", "---\ntags: [a]\n---", "---\nlicense: [a, b]\n---", "---\n: {\n---"])
def test_a_source_that_does_not_say_its_licence_needs_it_said(tmp_path: Path, card: str | None) -> None:
    source = {"kind": "folder", "name": str(tmp_path), "revision": ""}
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    with pytest.raises(BuildError, match=r"does not say under which licence it is: .* --license"):
        licence_of(source, None)
    assert replace(licence_of(source, "mit"), texts=()) == Licence("mit")


def test_the_licence_of_a_folder_that_is_gone_needs_to_be_said(tmp_path: Path) -> None:
    source = {"kind": "folder", "name": str(tmp_path / "gone"), "revision": ""}
    with pytest.raises(BuildError, match="--license"):
        licence_of(source, None)
    assert licence_of(source, "mit") == Licence("mit")


def test_the_demo_is_under_the_programs_own_licence() -> None:
    assert licence_of({"kind": "demo", "name": "demo", "revision": ""}, None).identifier == "mit"
