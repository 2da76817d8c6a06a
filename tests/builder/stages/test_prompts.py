"""Tokenizer and template are written once and proved before anything heavy: as makers publish them, and spoiled."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from builder import launch
from builder.checkpoint.checkpoint import read_settings
from builder.checkpoint.families import FAMILIES
from builder.checkpoint.source import parse_source
from builder.checkpoint.text_part import WHOLES
from builder.demo import CHECKPOINT
from builder.errors import BuildError, SourceError, VerificationFailed
from builder.progress import Step, silent
from builder.recipe import ExportTarget, QuantRecipe
from builder.stages.export import stage_copy
from builder.stages.prompts import Files, check_prompts, check_streamed_text, load_tokenizer, prompts
from serving.text.detokenizer import Detokenizer
from serving.text.prompt import Prompt
from serving.types import Message
from tests.published import MODELS, write


def written(checkpoint: Path) -> Path:
    """What is served of a checkpoint."""
    output = checkpoint.with_name(f"{checkpoint.name}-served")
    prompts({"checkpoint": str(checkpoint), "output": str(output)}, silent)
    return output


def test_every_family_has_files_as_its_makers_publish_them() -> None:
    assert {published.model_type for published in MODELS.values()} == set(FAMILIES) | set(WHOLES)


@pytest.mark.parametrize("name", MODELS)
def test_what_makers_publish_is_served_and_read_once_more_it_is_the_same(name: str, tmp_path: Path) -> None:
    """The second reading is that of the quantized checkpoint, which other programs may export too."""
    checkpoint = write(MODELS[name], tmp_path / "checkpoint")
    served = written(checkpoint)
    shutil.copyfile(checkpoint / "config.json", served / "config.json")
    again = written(served)
    for file in ("tokenizer.json", "chat_template.jinja"):
        assert (again / file).read_bytes() == (served / file).read_bytes()
    config = json.loads((served / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert "auto_map" not in config, "code from a checkpoint is never run"


def test_a_mark_of_a_tool_call_may_be_a_special_token(tmp_path: Path) -> None:
    prompt = Prompt.load(served_folder(written(write(MODELS["Mistral 7B v0.3"], tmp_path / "checkpoint"))))
    assert prompt.calls is not None and set(prompt.calls.tokens) == {"[TOOL_CALLS]"}
    check_streamed_text(prompt)


def served_folder(folder: Path) -> Path:
    """With the file that the model builder writes."""
    (folder / "genai_config.json").write_text(json.dumps({"model": {}}))
    return folder


@pytest.mark.parametrize("name", ["SmolVLM 2", "Qwen2.5-VL", "Qwen3"])
def test_what_is_said_is_rendered_also_where_a_template_takes_lists_of_parts(name: str, tmp_path: Path) -> None:
    served = served_folder(written(write(MODELS[name], tmp_path / "checkpoint")))
    said = [Message("user", "one two"), Message("assistant", "three"), Message("user", "four")]
    text = Prompt.load(served).render(said)
    assert all(message.content in text for message in said)
    assert text.count("assistant") == 2


def test_the_model_builder_is_given_no_folder_of_other_templates(tmp_path: Path) -> None:
    checkpoint = write(MODELS["Hermes 4"], tmp_path / "checkpoint")
    served = written(checkpoint)
    assert (served / "additional_chat_templates" / "tool_use.jinja").is_file()
    copy = stage_copy(dataclasses.replace(read_settings(checkpoint), path=served), tmp_path / "copy")
    assert {file.name for file in copy.iterdir()} == {
        "config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"
    }  # fmt: skip


def test_no_limit_of_length_is_written_that_other_programs_cannot_read(tmp_path: Path) -> None:
    checkpoint = write(MODELS["Qwen3"], tmp_path / "checkpoint")
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 4096}))
    assert json.loads((written(checkpoint) / "tokenizer_config.json").read_text())["model_max_length"] == 4096


# What is refused


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """What is served of the demo."""
    output = tmp_path / "served"
    prompts({"checkpoint": str(CHECKPOINT), "output": str(output)}, silent)
    return served_folder(output)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("tokenizer.json", "{}", "cannot be loaded"),
        ("tokenizer_config.json", "{", "is not JSON"),
        ("generation_config.json", "[]", "does not hold a JSON object"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path: Path, file: str, content: str, words: str) -> None:
    checkpoint = write(MODELS["Qwen3"], tmp_path / "checkpoint")
    (checkpoint / file).write_text(content)
    with pytest.raises(SourceError, match=words):
        written(checkpoint)


def test_what_would_fail_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    """A tokenizer that belongs to a larger model."""
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(CHECKPOINT, checkpoint)
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, "vocab_size": 300}))

    def first_only(step: Step) -> None:
        assert step.stage == "prompts"

    recipe = QuantRecipe(dataset="demo", num_calib_data=1, seq_len=16)
    with pytest.raises(BuildError, match="they do not belong together"):
        launch.make(parse_source(str(checkpoint)), recipe, ExportTarget(), tmp_path / "models", first_only)


def test_another_template_than_the_checkpoints_is_refused(demo: Path) -> None:
    template = (demo / "chat_template.jinja").read_text()
    (demo / "chat_template.jinja").write_text(template.replace("<|im_start|>assistant", "<|im_start|>bot"))
    with pytest.raises(VerificationFailed, match="chat template or tokenizer differs"):
        check_prompts(Prompt.load(demo), Files.of(read_settings(CHECKPOINT)), load_tokenizer(CHECKPOINT))


def test_answers_that_would_not_stop_are_refused(demo: Path) -> None:
    endless = dataclasses.replace(Prompt.load(demo), fixed_end_ids=frozenset({0}))
    with pytest.raises(VerificationFailed, match=r"tokens \[2\]"):
        check_prompts(endless, Files.of(read_settings(CHECKPOINT)), load_tokenizer(CHECKPOINT))


def test_answers_that_would_show_special_tokens_are_refused(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_streamed_text(Prompt.load(demo))
    monkeypatch.setattr(Prompt, "detokenizer", lambda prompt: Detokenizer(prompt.tokenizer, skipped=()))
    with pytest.raises(VerificationFailed, match=r"among special tokens, where its tokenizer decodes"):
        check_streamed_text(Prompt.load(demo))


def test_answers_that_would_lose_text_are_refused(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Detokenizer.feed
    monkeypatch.setattr(Detokenizer, "feed", lambda self, token_id: feed(self, token_id).replace(" ", ""))
    with pytest.raises(VerificationFailed, match="an answer would be streamed as"):
        check_streamed_text(Prompt.load(demo))
