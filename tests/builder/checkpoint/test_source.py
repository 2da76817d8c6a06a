"""Where a checkpoint comes from; for the Hub, through its real client and a server on this machine."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder import demo
from builder.checkpoint.source import Source, fingerprint, locate, parse_source
from builder.errors import SourceError
from tests.hub import TOKEN, Hub, Repository, in_child, serve, start_child

FETCH = """
from builder.launch import fetch
from builder.recipe import QuantRecipe
from builder.checkpoint.source import parse_source
fetch(parse_source(sys.argv[1]), QuantRecipe())
answer = None
"""
LOCATE = """
from builder.checkpoint.source import locate, parse_source
steps = []
found = locate(parse_source(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None), steps.append)
answer = {"path": str(found.path), "revision": found.revision}
"""
PROGRESS = (
    LOCATE
    + """
answer["steps"] = [(step.stage, step.done, step.total, step.note) for step in steps]
"""
)
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": b"weights" * 1000,
    "tokenizer.json": b"{}",
    "tokenizer.model": b"sentencepiece",
    "chat_template.jinja": "{{ 'h\u00e9llo' }}".encode(),
    "pytorch_model.bin": b"a pickle, which runs code when it is loaded",
    "modeling_llama.py": b"code",
    "README.md": b"words",
    "consolidated.safetensors": b"the weights once more",
    "additional_chat_templates/tool_use.jinja": b"{{ tools }}",
    "additional_chat_templates/notes.json": b"{}",
    "onnx/config.json": b"another format",
    "onnx/model.safetensors": b"another format",
}
WANTED = {
    "config.json", "model.safetensors", "tokenizer.json", "tokenizer.model", "chat_template.jinja",
    "additional_chat_templates/tool_use.jinja",
}  # fmt: skip


def test_demo_folder_and_hub_id_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "acme" / "chat"
    folder.mkdir(parents=True)
    assert parse_source("demo") == Source("demo", "demo", "demo")
    assert parse_source("meta-llama/Llama-2-7b-chat-hf").kind == "hub"
    monkeypatch.chdir(tmp_path)
    assert parse_source("acme/chat").kind == "folder"
    assert parse_source("acme/chat") == parse_source(str(folder))


def test_folders_of_the_same_name_have_different_slugs(tmp_path: Path) -> None:
    for parent in ("a", "b"):
        (tmp_path / parent / "model").mkdir(parents=True)
    slugs = {parse_source(str(tmp_path / parent / "model")).slug for parent in ("a", "b")}
    assert len(slugs) == 2
    assert all(slug.startswith("model-") for slug in slugs)


def test_a_hub_slug_is_one_folder_name_and_tells_revisions_apart() -> None:
    plain, branch = parse_source("acme/chat"), parse_source("acme/chat", "refs/pr/1")
    assert (plain.name, plain.revision) == ("acme/chat", None)
    assert (branch.name, branch.revision) == ("acme/chat", "refs/pr/1")
    assert plain.slug == "acme--chat"
    assert branch.slug == "acme--chat@refs--pr--1"


@pytest.mark.parametrize(
    "model", ["", "llama", "a/b/c", "https://huggingface.co/a/b", "./a/b", "../a", "a b/c", "/a/b"]
)
def test_what_is_none_of_them_is_refused_by_its_name(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError) as refused:
        parse_source(model)
    assert f"--model {model!r} is neither" in str(refused.value)


def test_a_revision_of_what_is_not_on_the_hub_is_refused(tmp_path: Path) -> None:
    for model in ("demo", str(tmp_path)):
        with pytest.raises(SourceError, match="--revision 'v2' is for models on the Hub"):
            parse_source(model, "v2")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint folder with old files."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in WANTED:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(FILES[name])
        os.utime(folder / name, ns=(10**18, 10**18))
    return folder


def test_a_local_folder_is_used_where_it_lies(folder: Path) -> None:
    found = locate(parse_source(str(folder)))
    assert found.path == folder.resolve()
    assert found.revision == fingerprint(folder)


@pytest.mark.parametrize("name", sorted(WANTED))
def test_a_fingerprint_changes_with_every_file_that_is_used(folder: Path, name: str) -> None:
    before = fingerprint(folder)
    assert fingerprint(folder) == before
    (folder / name).write_bytes(bytes(len(FILES[name])))  # as long as it was
    changed = fingerprint(folder)
    assert changed != before
    (folder / name).unlink()
    assert fingerprint(folder) not in (before, changed)


def test_a_fingerprint_does_not_depend_on_what_is_not_used(folder: Path) -> None:
    before = fingerprint(folder)
    (folder / "notes.txt").write_text("mine")
    (folder / "onnx").mkdir()
    assert fingerprint(folder) == before


def test_the_demos_fingerprint_is_of_its_content_not_of_its_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "installed"
    shutil.copytree(demo.CHECKPOINT, copy)
    for file in copy.iterdir():
        os.utime(file, ns=(10**18, 10**18))
    shipped = locate(parse_source("demo")).revision
    monkeypatch.setattr(demo, "CHECKPOINT", copy)
    assert locate(parse_source("demo")).revision == shipped
    config = (copy / "config.json").read_text()
    (copy / "config.json").write_text(config.replace("llama", "lllma"))
    assert locate(parse_source("demo")).revision != shipped


def test_a_repository_without_safetensors_or_chat_template_is_refused_with_what_to_do(tmp_path: Path) -> None:
    fetch = """
from builder.launch import fetch
from builder.recipe import QuantRecipe
from builder.checkpoint.source import parse_source
fetch(parse_source(sys.argv[1]), QuantRecipe(dataset="offline"))
answer = None
"""
    sizes = {
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "vocab_size": 1856,
    }
    tokenizer = {name: (demo.CHECKPOINT / name).read_bytes() for name in ("tokenizer.json", "tokenizer_config.json")}
    whole = FILES | tokenizer | {"config.json": json.dumps({"model_type": "llama", **sizes}).encode()}
    pickled = {name: content for name, content in whole.items() if name != "model.safetensors"}
    base = {name: content for name, content in whole.items() if name != "chat_template.jinja"}
    with serve({"acme/pickled": Repository(pickled), "acme/base": Repository(base)}) as hub:
        no_weights = in_child(fetch, hub.url, tmp_path, "acme/pickled")
        no_template = in_child(fetch, hub.url, tmp_path, "acme/base")
    assert no_weights["error"] == "SourceError"
    assert "has no *.safetensors weights" in no_weights["message"]
    assert no_template["error"] == "UnsupportedModel"
    assert "Use its chat or instruct version" in no_template["message"]
    assert not any(name.endswith((".safetensors", ".bin")) for name in hub.served)


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A Hub with an open and a gated repository."""
    with serve({"acme/chat": Repository(FILES), "acme/gated": Repository(FILES, gated=True)}) as hub:
        yield hub


def arrived(folder: Path) -> dict[str, bytes]:
    """What is in a folder, by names from there."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def test_a_hub_model_arrives_whole_pinned_to_its_commit_and_without_what_is_not_needed(
    hub: Hub, tmp_path: Path
) -> None:
    answer = in_child(LOCATE, hub.url, tmp_path, "acme/chat")["answer"]
    assert answer["revision"] == Repository({}).commit
    assert arrived(Path(answer["path"])) == {name: FILES[name] for name in WANTED}
    assert set(hub.served) == WANTED


def test_a_model_that_would_be_refused_is_refused_before_its_weights_are_fetched(tmp_path: Path) -> None:
    with serve({"acme/odd": Repository(FILES | {"config.json": b'{"model_type": "mamba"}'})}) as hub:
        refused = in_child(FETCH, hub.url, tmp_path, "acme/odd")
    assert refused["error"] == "UnsupportedModel" and "'mamba' is not supported" in refused["message"]
    assert "config.json" in hub.served and "model.safetensors" not in hub.served


def test_no_weights_are_fetched_where_the_calibration_text_cannot_be_had(tmp_path: Path) -> None:
    names = ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    settings = {name: (demo.CHECKPOINT / name).read_bytes() for name in names}
    with serve({"acme/whole": Repository(FILES | settings)}) as hub:
        refused = in_child(FETCH, hub.url, tmp_path, "acme/whole")
    assert refused["error"] == "CalibrationError" and "--dataset offline" in refused["message"]
    assert "tokenizer.json" in hub.served and "model.safetensors" not in hub.served


def test_the_weights_are_of_the_commit_whose_settings_were_looked_at(hub: Hub, tmp_path: Path) -> None:
    one_after_the_other = """
from builder.checkpoint.source import add_weights, locate_settings, parse_source
located = locate_settings(parse_source(sys.argv[1]))
def files():
    return [file.relative_to(located.path).as_posix() for file in located.path.rglob("*") if file.is_file()]
before = files()
add_weights(located)
answer = {"before": before, "after": files()}
"""
    answer = in_child(one_after_the_other, hub.url, tmp_path, "acme/chat")["answer"]
    assert (set(answer["after"]), set(answer["before"])) == (WANTED, WANTED - {"model.safetensors"})
    asked = [path.partition("?")[0] for path in hub.asked]
    assert f"/api/models/acme/chat/revision/{Repository({}).commit}" in asked[asked.index("/api/models/acme/chat") :]


@pytest.mark.parametrize("revision", ["main", Repository({}).commit])
def test_a_revision_may_be_a_branch_or_a_commit(hub: Hub, tmp_path: Path, revision: str) -> None:
    assert in_child(LOCATE, hub.url, tmp_path, "acme/chat", revision)["answer"]["revision"] == Repository({}).commit


def test_a_revision_that_does_not_exist_is_named(hub: Hub, tmp_path: Path) -> None:
    message = refusal(hub.url, tmp_path, "acme/chat", "v2")
    assert message == "acme/chat has no revision 'v2': use a branch, tag or commit of it."


def test_a_new_commit_is_another_revision(tmp_path: Path) -> None:
    seen = set()
    for commit in ("1" * 40, "2" * 40):
        with serve({"acme/chat": Repository(FILES, commit=commit)}) as hub:
            seen.add(in_child(LOCATE, hub.url, tmp_path, "acme/chat")["answer"]["revision"])
    assert seen == {"1" * 40, "2" * 40}


def test_a_gated_model_needs_a_token_and_says_how_to_get_one(hub: Hub, tmp_path: Path) -> None:
    message = refusal(hub.url, tmp_path, "acme/gated")
    assert "acme/gated is gated: ask for access" in message
    assert "hf auth login" in message
    assert not hub.served
    assert "answer" in in_child(LOCATE, hub.url, tmp_path, "acme/gated", HF_TOKEN=TOKEN)


def test_a_token_that_the_hub_refuses_is_called_that(hub: Hub, tmp_path: Path) -> None:
    message = refusal(hub.url, tmp_path, "acme/chat", HF_TOKEN="hf_expired")
    assert message.startswith("the Hub refuses your access token")
    assert "hf_expired" not in message


@pytest.mark.parametrize("token", [{}, {"HF_TOKEN": TOKEN}])
def test_an_id_that_the_hub_does_not_know_is_named(hub: Hub, tmp_path: Path, token: dict[str, str]) -> None:
    assert "the Hub has no acme/chta, or it is private" in refusal(hub.url, tmp_path, "acme/chta", **token)


@pytest.mark.parametrize("model", ["ac--me/chat", "acme/chat.git", "acme/.."])
def test_an_id_that_cannot_be_one_is_refused(hub: Hub, tmp_path: Path, model: str) -> None:
    assert f"{model!r} cannot be the id of a model" in refusal(hub.url, tmp_path, model)


def test_a_hub_that_cannot_be_reached_is_said_so_once_nothing_is_cached(tmp_path: Path) -> None:
    with serve({"acme/chat": Repository(FILES)}) as gone:
        first = in_child(LOCATE, gone.url, tmp_path / "filled", "acme/chat")
    message = refusal(gone.url, tmp_path / "empty", "acme/chat")
    assert "acme/chat is not complete in the local cache, and the Hub cannot be reached" in message
    assert "check the connection" in message
    assert in_child(LOCATE, gone.url, tmp_path / "filled", "acme/chat") == first


def test_offline_mode_uses_what_is_cached_and_asks_nobody(hub: Hub, tmp_path: Path) -> None:
    first = in_child(LOCATE, hub.url, tmp_path / "filled", "acme/chat")
    hub.asked.clear()
    assert in_child(LOCATE, hub.url, tmp_path / "filled", "acme/chat", HF_HUB_OFFLINE="1") == first
    message = refusal(hub.url, tmp_path / "empty", "acme/chat", HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set: unset it" in message
    assert not hub.asked


WEIGHTS = FILES["model.safetensors"]


def test_a_transfer_that_breaks_off_goes_on_from_there(hub: Hub, tmp_path: Path) -> None:
    hub.breaking["model.safetensors"] = [3000, 2000]
    path = Path(in_child(LOCATE, hub.url, tmp_path, "acme/chat")["answer"]["path"])
    assert (path / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.ranges["model.safetensors"] == [None, "bytes=3000-", "bytes=5000-"]


def test_a_transfer_that_brings_nothing_more_is_a_clear_error_and_the_next_try_goes_on(
    hub: Hub, tmp_path: Path
) -> None:
    hub.breaking["model.safetensors"] = [3000, 0]
    message = refusal(hub.url, tmp_path, "acme/chat")
    assert "acme/chat could not be downloaded" in message
    assert "try again, which goes on where it stopped" in message
    offline = refusal(hub.url, tmp_path, "acme/chat", HF_HUB_OFFLINE="1")
    assert "acme/chat is not complete in the local cache" in offline
    path = Path(in_child(LOCATE, hub.url, tmp_path, "acme/chat")["answer"]["path"])
    assert (path / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.ranges["model.safetensors"] == [None, "bytes=3000-", "bytes=3000-"]
    assert sorted(hub.served) == sorted(WANTED), "what had arrived was fetched again"


def kill_half_way(hub: Hub, cache: Path) -> Path:
    """Start a download of acme/chat, kill it once half of the weights are on the disk, and return their file."""
    hub.stalling.add("model.safetensors")
    with start_child(LOCATE, hub.url, cache, "acme/chat") as child:
        try:
            name = f"hub/models--acme--chat/blobs/{hashlib.sha256(WEIGHTS).hexdigest()}.incomplete"
            until = time.monotonic() + 60
            while not ((cache / name).exists() and (cache / name).stat().st_size == len(WEIGHTS) // 2):
                assert time.monotonic() < until and child.poll() is None
                time.sleep(0.02)
        finally:
            child.kill()
    hub.stalling.clear()
    hub.released.set()
    return cache / name


def test_a_killed_download_asks_for_the_rest_only_and_says_how_much_there_was(hub: Hub, tmp_path: Path) -> None:
    kill_half_way(hub, tmp_path)
    answer = in_child(PROGRESS, hub.url, tmp_path, "acme/chat")["answer"]
    assert (Path(answer["path"]) / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.ranges["model.safetensors"] == [None, f"bytes={len(WEIGHTS) // 2}-"]
    config = len(FILES["config.json"])  # the only file before
    assert [step[1] for step in answer["steps"]][:2] == [config, config + len(WEIGHTS) // 2]
    assert not list(tmp_path.rglob("*.incomplete"))


def test_what_a_killed_download_left_is_not_trusted_when_it_is_not_the_file(hub: Hub, tmp_path: Path) -> None:
    partial = kill_half_way(hub, tmp_path)
    partial.write_bytes(b"another" * (len(WEIGHTS) // 14))
    assert "model.safetensors is not what the Hub has, and was removed" in refusal(hub.url, tmp_path, "acme/chat")
    path = Path(in_child(LOCATE, hub.url, tmp_path, "acme/chat")["answer"]["path"])
    assert (path / "model.safetensors").read_bytes() == WEIGHTS


def test_a_download_tells_how_many_bytes_of_all_have_arrived(tmp_path: Path) -> None:
    large = FILES | {"model.safetensors": b"w" * 32_000_000}
    with serve({"acme/chat": Repository(large)}) as hub:
        steps = in_child(PROGRESS, hub.url, tmp_path, "acme/chat")["answer"]["steps"]
        again = in_child(PROGRESS, hub.url, tmp_path, "acme/chat")["answer"]["steps"]
    total = sum(len(large[name]) for name in WANTED)
    done = [step[1] for step in steps]
    assert {(stage, whole) for stage, _, whole, _ in steps} == {("download", total)}
    assert done == sorted(done)
    assert done[-1] == total
    assert 3 < len(steps) <= 250
    assert steps[-1][3] == "32 of 32 MB of acme/chat"
    assert again == [], "nothing is downloaded, and that is nothing to show"


def test_a_download_that_does_not_fit_on_the_disk_is_refused_before_it_starts(hub: Hub, tmp_path: Path) -> None:
    small_disk = """
import shutil
from collections import namedtuple
free = int(sys.argv[2])
shutil.disk_usage = lambda _: namedtuple("usage", "total used free")(0, 0, free)
from builder.checkpoint.source import locate, parse_source
answer = str(locate(parse_source(sys.argv[1])).path)
"""
    needed = sum(len(FILES[name]) for name in WANTED) + (100 << 20)
    refused = in_child(small_disk, hub.url, tmp_path, "acme/chat", str(needed - 1))
    assert refused["error"] == "SourceError"
    assert "acme/chat needs 100 MiB more in the Hub cache, and" in refused["message"]
    assert "free some, or name a folder on another disk with HF_HOME" in refused["message"]
    assert not hub.served
    assert "answer" in in_child(small_disk, hub.url, tmp_path, "acme/chat", str(needed))


def test_a_mirror_that_lists_names_only_gives_the_files_all_the_same(hub: Hub, tmp_path: Path) -> None:
    hub.sizes = False
    path = Path(in_child(LOCATE, hub.url, tmp_path, "acme/chat")["answer"]["path"])
    assert arrived(path) == {name: FILES[name] for name in WANTED}


def test_a_cache_that_cannot_link_holds_one_copy_of_each_file(hub: Hub, tmp_path: Path) -> None:
    answer = in_child(LOCATE, hub.url, tmp_path, "acme/chat", HF_HUB_DISABLE_SYMLINKS="1")["answer"]
    assert (Path(answer["path"]) / "model.safetensors").read_bytes() == WEIGHTS
    copies = [file for file in tmp_path.rglob("*") if file.is_file() and file.read_bytes() == WEIGHTS]
    assert len(copies) == 1
    hub.served.clear()
    assert in_child(LOCATE, hub.url, tmp_path, "acme/chat", HF_HUB_DISABLE_SYMLINKS="1")["answer"] == answer
    assert not hub.served


def refusal(url: str, cache: Path, *arguments: str, **environment: str) -> str:
    """The words of the SourceError; always one line."""
    answer = in_child(LOCATE, url, cache, *arguments, **environment)
    assert answer.get("error") == "SourceError", answer
    message = str(answer["message"])
    assert "\n" not in message
    return message
