"""The models folder as a whole: what is listed, what a name means, and what is removed with what."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from builder.errors import BuildError
from builder.kept.artifact import MANIFEST, Shelf, check_received, staging, staging_key
from builder.kept.models import entries, find, going_with, is_building, remove
from builder.kept.results import describe
from builder.kept.use import is_served, last_used, serving
from tests.hub import ROOT

A, B = "a" * 12, "b" * 12


def put(models: Path, name: str, size: int = 10, revision: str | None = "1") -> Path:
    """A build in the models folder, of one source for each folder; without a revision it has no manifest."""
    folder = models / name
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"x" * size)
    if revision is not None:
        source = {"kind": "hub", "name": folder.parent.name.replace("--", "/"), "revision": revision}
        (folder / MANIFEST).write_text(json.dumps({"source": source}))
    return folder


def unfinished(models: Path, place: str, source: str, revision: str = "1", size: int = 100) -> Path:
    """What an interrupted build left."""
    with staging(models / place, staging_key(source, revision)) as work:
        (work / "layers-1").mkdir()
        (work / "layers-1" / "0.npy").write_bytes(b"x" * size)
    return work


def named(models: Path) -> list[tuple[str, str]]:
    return [(entry.kind, entry.name) for entry in entries(models)]


@contextmanager
def another(code: str, *arguments: Path | str) -> Iterator[None]:
    """Another process, in the middle of something."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout and process.stdout.readline() == "there\n"
            yield
        finally:
            process.kill()


SERVES = """
import sys; from pathlib import Path; from builder.kept.use import serving
with serving(Path(sys.argv[1])):
    print("there", flush=True); sys.stdin.read()
"""
BUILDS = """
import sys; from pathlib import Path; from builder.kept.artifact import staging
with staging(Path(sys.argv[1]), sys.argv[2]):
    print("there", flush=True); sys.stdin.read()
"""


def test_the_newest_build_of_each_recipe_has_a_name_that_stays_and_the_rest_is_told_apart(tmp_path: Path) -> None:
    put(tmp_path, f"acme--chat/{A}-2"), put(tmp_path, f"acme--chat/{A}-10"), put(tmp_path, f"acme--chat/{B}-1")
    put(tmp_path, f"demo/{A}-1")
    put(tmp_path, f"demo/{A}-2", revision=None)  # half removed
    work = unfinished(tmp_path, "acme--chat", "acme/chat")
    (tmp_path / "notes").mkdir()
    (tmp_path / "demo.lock").touch()
    models, rest = named(tmp_path)[:3], named(tmp_path)[3:]
    assert models == [("model", f"acme--chat/{A}"), ("model", f"acme--chat/{B}"), ("model", f"demo/{A}")]
    key = work.name.removeprefix(".staging-")
    left = {("unfinished", f"acme--chat/{key}"), ("older", f"acme--chat/{A}-2"), ("older", f"demo/{A}-2")}
    assert set(rest) == left and len(rest) == 3
    assert find(tmp_path, f"acme--chat/{A}").folder.name == f"{A}-10"
    assert entries(tmp_path / "nothing") == []


def test_a_name_is_that_of_the_list_or_of_a_source_with_one_model(tmp_path: Path) -> None:
    first = put(tmp_path, f"acme--chat/{A}-1")
    assert find(tmp_path, "acme--chat").folder == find(tmp_path, f"acme--chat/{A}").folder == first
    put(tmp_path, f"acme--chat/{B}-1")
    with pytest.raises(BuildError, match=f"acme--chat has 2 models: name one of acme--chat/{A}, acme--chat/{B}"):
        find(tmp_path, "acme--chat")
    for other in ("acme/chat", "acme--cha", f"acme--chat/{A[:6]}", "", ".", "..", "../models"):
        assert find(tmp_path, other) is None


def test_a_damaged_manifest_hides_nothing(tmp_path: Path) -> None:
    folder = put(tmp_path, f"acme--chat/{A}-1")
    for content in (b"{", b"[]", b"\xff"):
        (folder / MANIFEST).write_bytes(content)
        [entry] = entries(tmp_path)
        assert (entry.name, entry.manifest, entry.source, entry.key) == (f"acme--chat/{A}", {}, {}, "")


def test_with_a_model_go_its_older_builds_and_with_the_last_of_a_source_what_was_left_of_builds(tmp_path: Path) -> None:
    put(tmp_path, f"acme--chat/{A}-1"), put(tmp_path, f"acme--chat/{A}-2"), put(tmp_path, f"acme--chat/{B}-1")
    unfinished(tmp_path, "acme--chat", "acme/chat")
    other = unfinished(tmp_path, "acme--chat", "acme/chat", revision="2")
    going = going_with(find(tmp_path, f"acme--chat/{A}"), entries(tmp_path))
    assert [entry.folder.name for entry in going] == [f"{A}-2", f"{A}-1"]
    remove(tmp_path, going)
    assert named(tmp_path)[0] == ("model", f"acme--chat/{B}") and len(named(tmp_path)) == 3
    remove(tmp_path, going_with(find(tmp_path, f"acme--chat/{B}"), entries(tmp_path)))
    assert [entry.folder for entry in entries(tmp_path)] == [other]
    remove(tmp_path, entries(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_an_older_build_goes_by_itself(tmp_path: Path) -> None:
    put(tmp_path, f"demo/{A}-1"), put(tmp_path, f"demo/{A}-2")
    remove(tmp_path, going_with(find(tmp_path, f"demo/{A}-1"), entries(tmp_path)))
    assert named(tmp_path) == [("model", f"demo/{A}")]


def test_what_is_served_or_being_built_is_not_removed(tmp_path: Path) -> None:
    folder = put(tmp_path, f"demo/{A}-1")
    going = going_with(find(tmp_path, f"demo/{A}"), entries(tmp_path))
    with another(SERVES, folder), another(SERVES, folder):
        assert is_served(folder)
        with pytest.raises(BuildError, match=f"demo/{A} is being served: stop that first"):
            remove(tmp_path, going)
    work = unfinished(tmp_path, "demo", "demo")
    with another(BUILDS, tmp_path / "demo", staging_key("demo", "1")):
        assert is_building(find(tmp_path, f"demo/{work.name.removeprefix('.staging-')}"))
        with pytest.raises(BuildError, match="demo is being built right now"):
            remove(tmp_path, going)
    assert (folder / MANIFEST).is_file()
    remove(tmp_path, going)  # both were killed, and left no lock
    assert not folder.exists()


def test_a_rebuild_leaves_the_older_build_that_is_still_served(tmp_path: Path) -> None:
    old, new = put(tmp_path, f"demo/{A}-1"), put(tmp_path, f"demo/{A}-2")
    shelf = Shelf(tmp_path / "demo", A)
    with serving(old):
        shelf.prune()
        assert shelf.builds() == [old, new]
    shelf.prune()
    assert shelf.builds() == [new]


def test_links_are_neither_listed_nor_followed_nor_removed(tmp_path: Path) -> None:
    models, elsewhere = tmp_path / "models", tmp_path / "elsewhere"
    kept = put(elsewhere, f"demo/{A}-1", size=1000)
    folder = put(models, f"demo/{A}-1")
    (models / "other").symlink_to(elsewhere / "demo")
    (models / "demo" / f"{B}-1").symlink_to(kept)
    (folder / "inside").symlink_to(kept)
    [entry] = entries(models)
    assert entry.size < 1000
    moved = models / "demo" / "moved"
    folder.rename(moved)
    folder.symlink_to(kept)  # between the look and the removal
    with pytest.raises(BuildError, match="is a link, or lies behind one"):
        remove(models, [entry])
    folder.unlink()
    moved.rename(folder)
    remove(models, [entry])
    assert (kept / "model.onnx").is_file() and (kept / MANIFEST).is_file()
    assert (models / "demo" / f"{B}-1").is_symlink()


def test_a_models_folder_that_is_itself_a_link_is_an_ordinary_one(tmp_path: Path) -> None:
    put(tmp_path / "disk", f"demo/{A}-1")
    (tmp_path / "models").symlink_to(tmp_path / "disk")
    remove(tmp_path / "models", entries(tmp_path / "models"))
    assert list((tmp_path / "disk").iterdir()) == []


def test_when_a_model_was_used_outlives_a_rebuild_but_not_its_removal(tmp_path: Path) -> None:
    first = put(tmp_path, f"demo/{A}-1")
    assert last_used(first) is None
    with serving(first), serving(first):
        assert is_served(first)
    assert not is_served(first)
    os.utime(tmp_path / "demo" / f".used-{A}", (1e9, 1e9))
    put(tmp_path, f"demo/{A}-2")
    assert find(tmp_path, "demo").used == 1e9
    remove(tmp_path, going_with(find(tmp_path, "demo"), entries(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_beside_a_folder_that_lies_elsewhere_or_cannot_be_written_to(tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "export"
    folder.mkdir(parents=True)
    with serving(folder):
        assert [file.name for file in folder.parent.iterdir()] == ["export"]
    with serving(tmp_path / "nowhere" / f"{A}-1"):  # as a folder that cannot be written to
        pass


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is read-only for this user")
def test_a_read_only_models_folder_is_served_all_the_same(tmp_path: Path) -> None:
    folder = put(tmp_path, f"demo/{A}-1")
    folder.parent.chmod(0o500)
    try:
        with serving(folder):
            assert not is_served(folder)
    finally:
        folder.parent.chmod(0o700)


def received(tmp_path: Path, **changes: Any) -> Path:
    """A folder as it comes from the Hub."""
    (tmp_path / "model.onnx").write_bytes(b"graph" * 100)
    (tmp_path / MANIFEST).write_text(json.dumps({"files": describe(tmp_path), **changes}))
    return tmp_path


def test_a_download_is_compared_with_every_hash_of_its_manifest(tmp_path: Path) -> None:
    folder = received(tmp_path)
    check_received(folder, "me/chat")
    (folder / "model.onnx").write_bytes(b"graph" * 99 + b"grapf")
    said = r"me/chat is not what its manifest.json says: model.onnx has another SHA-256 .*hf cache rm model/me/chat"
    with pytest.raises(BuildError, match=said):
        check_received(folder, "me/chat")
    (folder / "model.onnx").unlink()
    with pytest.raises(BuildError, match=r"model\.onnx is missing"):
        check_received(folder, "me/chat")


@pytest.mark.parametrize("files", [1, {"model.onnx": 1}, {"model.onnx": {}}, None])
def test_a_download_whose_manifest_is_none_is_refused(tmp_path: Path, files: object) -> None:
    with pytest.raises(BuildError, match=r"its manifest.json cannot be read"):
        check_received(received(tmp_path, files=files), "me/chat")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "C:\\secret", "..\\secret", ""])
def test_a_download_never_reads_what_lies_elsewhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(BuildError, match="it names the file"):
        check_received(received(tmp_path, files={name: {"size": 1, "sha256": ""}}), "me/chat")
