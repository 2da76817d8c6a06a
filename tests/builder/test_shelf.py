"""`--list`, `--info`, `--remove`, and a name of the list as `--model`: through the program, on a real build."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import app
from builder.commands import build_parser
from builder.errors import BuildError
from builder.kept.artifact import MANIFEST, RECEIVED, staging, staging_key
from builder.recipe import FORMAT
from builder.shelf import chosen
from tests.hub import ROOT
from tests.servers import asked as requested
from tests.servers import ended

OTHER = "0" * 12


@pytest.fixture
def models(demo_model: Path, tmp_path: Path) -> Path:
    """A models folder with a build of the demo."""
    shutil.copytree(demo_model, tmp_path / "demo" / demo_model.name)
    return tmp_path


@pytest.fixture
def name(demo_model: Path) -> str:
    """Of that build in the list."""
    return f"demo/{demo_model.name.rpartition('-')[0]}"


def put(models: Path, model: Path, place: str, **changes: Any) -> Path:
    """One more build, with another manifest."""
    folder = Path(shutil.copytree(model, models / place))
    manifest = json.loads((folder / "manifest.json").read_text()) | changes
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def asked(capsys: pytest.CaptureFixture[str], models: Path, *argv: str, code: int = 0) -> str:
    """Run the program: what it prints, or the sentence that it ends with."""
    assert app.main([*argv, "--models-dir", str(models)]) == code
    output = capsys.readouterr()
    assert (output.err == "") == (code == 0), output.err
    return output.err if code else output.out


def test_the_list_tells_name_source_size_recipe_loss_and_when_used(
    models: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    head, row, _, total = asked(capsys, models, "--list").splitlines()
    assert head.split() == ["name", "source", "size", "recipe", "loss,", "nats/token", "used"]
    assert re.fullmatch(rf"{name}  bundled  6 MB  awq, group 128, cpu  0\.\d+ ± 0\.\d+ +never", row)
    assert total == f"6 MB in {models}. --model NAME serves one of them."


def test_the_list_as_json_has_the_same(
    models: Path, name: str, demo_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [entry] = json.loads(asked(capsys, models, "--list", "--json"))
    manifest = json.loads((demo_model / "manifest.json").read_text())
    assert (entry["name"], entry["kind"], entry["source"]) == (name, "model", manifest["source"])
    assert entry["size"] == sum(file.stat().st_size for file in demo_model.iterdir())
    assert entry["kl_divergence"] == max(manifest["quality"][kind]["kl_divergence"] for kind in ("text", "chats"))
    assert (entry["recipe"], entry["used"], entry["served"], entry["unneeded"]) == (manifest["recipe"], None, False, "")


def test_an_empty_list_says_how_to_fill_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "There are no models in" in asked(capsys, tmp_path / "none", "--list")


def test_what_no_source_needs_any_more_is_named_with_its_size_and_the_reason(
    models: Path, demo_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((demo_model / "manifest.json").read_text())
    gone = {**manifest["source"], "kind": "folder", "name": str(tmp_path / "gone")}
    changed = {**manifest["source"], "kind": "folder", "name": str(tmp_path / "demo")}
    hash_ = demo_model.name.rpartition("-")[0]
    put(models, demo_model, f"demo/{hash_}-7")  # newer than the one that is there
    put(models, demo_model, f"demo/{OTHER}-1")  # its recipe leads elsewhere
    put(models, demo_model, f"gone-00000000/{hash_}-1", source=gone)
    put(models, demo_model, f"changed-00000000/{hash_}-1", source=changed)
    put(models, demo_model, f"old--format/{hash_}-1", format=1)
    put(models, demo_model, f"acme--chat/{hash_}-1", source={"kind": "hub", "name": "acme/chat", "revision": "1"})
    with staging(models / "acme--chat", staging_key("acme/chat", "1")) as work:
        (work / "layers").write_bytes(b"x" * 3_000_000)
    said = asked(capsys, models, "--list")
    unneeded, _, unfinished = said.partition("Nothing needs these")[2].partition("Unfinished builds")
    assert dict(re.findall(r"  (\S+), 6 MB: (.*)", unneeded)) == {
        f"demo/{demo_model.name}": "a newer build has taken its place",
        f"demo/{OTHER}": "an earlier oga-chat made it; a start builds anew",
        f"old--format/{hash_}": "an earlier oga-chat made it; a start builds anew",
        f"gone-00000000/{hash_}": f"{tmp_path / 'gone'} is gone, so it cannot be built again",
        f"changed-00000000/{hash_}": f"{tmp_path / 'demo'} has changed since",
    }
    sizes = [entry["size"] for entry in json.loads(asked(capsys, models, "--list", "--json")) if entry["unneeded"]]
    assert len(sizes) == 5 and f"frees {sum(sizes) / 1e6:.0f} MB in all" in unneeded
    assert f"  acme--chat/{staging_key('acme/chat', '1')}, 3 MB" in unfinished


def test_what_others_built_is_listed_told_and_needed(
    models: Path, demo_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, given = f"acme--chat-onnx/{OTHER}", f"me--given/{OTHER}"
    origin = {"name": "acme/chat-onnx", "revision": "1", "folder": "cpu"}
    folder = put(models, demo_model, f"{theirs}-1")
    (folder / MANIFEST).write_text(json.dumps({"format": FORMAT, "source": {"kind": "export", **origin}, "files": {}}))
    received = {"name": "me/given", "revision": "1", "folder": ""}
    (put(models, demo_model, f"{given}-1") / RECEIVED).write_text(json.dumps(received))
    with staging(models / "me--given", staging_key("me/given", "1")) as work:
        (work / "part").write_bytes(b"x")
    said = asked(capsys, models, "--list")
    assert "Nothing needs these" not in said
    assert re.search(rf"{theirs} +Hub acme/chat-onnx, export of others +6 MB +unknown +not measured +never", said)
    assert re.search(
        rf"{given} +Hub me/given, built elsewhere +6 MB  awq, group 128, cpu  0\.\d+ ± 0\.\d+ +never", said
    )
    assert "Hub acme/chat-onnx, export of others, at 1" in asked(capsys, models, "--info", "acme--chat-onnx")
    told = asked(capsys, models, "--info", "me--given")
    assert "Hub me/given, built elsewhere, at 1" in told and "lost on text" in told
    asked(capsys, models, "--remove", "acme--chat-onnx", "--yes")
    asked(capsys, models, "--remove", "me--given", "--yes")
    assert sorted(folder.name for folder in models.iterdir()) == ["demo"], "what was left of fetching it goes too"


def test_info_tells_all_of_one_and_how_to_build_it_again(
    models: Path, name: str, demo_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = asked(capsys, models, "--info", "demo")
    for part in (str(models / "demo" / demo_model.name), "lost on text", "onnxruntime-genai 0.18", "quantize "):
        assert part in said
    words = re.search(r"built by +python -m builder (.*)", said)
    assert words and build_parser().parse_args(words[1].split()).num_calib_data == 4
    whole = json.loads(asked(capsys, models, "--info", name, "--json"))
    assert whole["manifest"] == json.loads((demo_model / "manifest.json").read_text())


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--info", "nothing"], "there is no 'nothing' in"),
        (["--remove", "nothing"], "there is no 'nothing' in"),
        (["--remove", "demo"], "this is no terminal to ask on. Say --yes"),
        (["--json"], "--json is for --list and --info"),
        (["--list", "--yes"], "--yes is for --remove"),
        (["--remove", "demo", "--json"], "--json is for --list and --info"),
    ],
)
def test_mistakes_are_one_sentence_and_remove_nothing(
    models: Path, argv: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert said in asked(capsys, models, *argv, code=2)
    assert len(json.loads(asked(capsys, models, "--list", "--json"))) == 1


def test_whoever_does_not_agree_keeps_everything(
    models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    answers = ["", "n", "y"]
    monkeypatch.setattr("builtins.input", lambda question: answers.pop(0))
    for _ in range(2):
        assert "nothing was removed" in asked(capsys, models, "--remove", "demo", code=2)
    assert "removed demo/" in asked(capsys, models, "--remove", "demo")
    assert list(models.iterdir()) == []


def test_a_name_of_the_list_is_served_seen_so_and_not_removed_meanwhile(
    models: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "app.py", "--model", name, "--models-dir", str(models), "--no-ui", "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert "model 'demo'" in process.stdout.readline()
        assert asked(capsys, models, "--list").splitlines()[1].endswith(" now")
        assert "is being served: stop that first" in asked(capsys, models, "--remove", name, "--yes", code=2)
    finally:
        _, errors = ended(process)
    assert errors == "\nstopped.\n"
    assert re.search(r" 20\d\d-\d\d-\d\d \d\d:\d\d$", asked(capsys, models, "--list").splitlines()[1])
    assert f"removed {name}" in asked(capsys, models, "--remove", name, "--yes")
    assert list(models.iterdir()) == []


def test_more_models_are_served_beside_one_each_by_its_source_or_else_its_name(
    models: Path, name: str, demo_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(models, demo_model, f"demo/{OTHER}-1")
    put(
        models,
        demo_model,
        "acme--chat/" + "1" * 12 + "-1",
        source={"kind": "hub", "name": "acme/chat", "revision": "1"},
    )
    broken = put(models, demo_model, "broken/" + "2" * 12 + "-1")
    (broken / "model.onnx.data").unlink()
    command = [sys.executable, "app.py", "--model", name, "--models-dir", str(models), "--no-ui", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--models", "all"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.endswith(f", models 'demo', 'acme/chat', 'demo/{OTHER}'\n")
        url = line.split()[2].removesuffix("/v1,")
        body = {"model": "acme/chat", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
        status, _, content = requested(url, "/v1/chat/completions", body)
        assert status == 200 and json.loads(content)["model"] == "acme/chat"
        assert "is being served: stop that first" in asked(capsys, models, "--remove", "acme--chat", "--yes", code=2)
    finally:
        _, errors = ended(process)
    assert re.fullmatch(r"note: \S+model\.onnx\.data is missing: .*\n\nstopped\.\n", errors), errors


def test_names_with_commas_mean_models_once_each(models: Path, name: str, demo_model: Path) -> None:
    put(models, demo_model, "acme--chat/" + "1" * 12 + "-1")
    with staging(models / "demo", "ab" * 6):
        pass
    one, other = name, "acme--chat/" + "1" * 12
    assert [entry.name for entry in chosen(models, "all")] == [other, one]
    assert [entry.name for entry in chosen(models, f"demo, acme--chat,{one}")] == [one, other]
    for wrong, said in (("", "not ''"), ("demo,none", "there is no 'none'"), ("demo/" + "ab" * 6, "unfinished build")):
        with pytest.raises(BuildError, match=said):
            chosen(models, wrong)


def test_what_is_unfinished_or_an_export_cannot_be_started_or_rebuilt_by_its_name(
    models: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with staging(models / "demo", "ab" * 6):
        pass
    left = "demo/" + "ab" * 6
    assert "is what an unfinished build left" in asked(capsys, models, "--model", left, "--port", "0", code=2)
    said = asked(capsys, models, "--model", name, "--rebuild", "--port", "0", code=2)
    assert "--rebuild needs a checkpoint" in said
