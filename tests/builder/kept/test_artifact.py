"""Model folders: which of them count, how one appears, and that two builds never share a working folder."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from builder.errors import BuildError
from builder.kept.artifact import MANIFEST, Shelf, check_files, default_models_dir, publish, read_manifest, staging
from builder.kept.results import describe
from tests.hub import ROOT

HASH = "0123456789ab"


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """An empty shelf."""
    folder = tmp_path / "demo"
    folder.mkdir()
    return Shelf(folder, HASH)


def put(shelf: Shelf, name: str, whole: bool = True) -> Path:
    """Put a folder on the shelf; without a manifest it is not a build."""
    folder = shelf.folder / name
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"graph")
    if whole:
        (folder / MANIFEST).write_text("{}")
    return folder


def test_builds_are_in_the_order_of_their_numbers(shelf: Shelf) -> None:
    made = [put(shelf, f"{HASH}-{number}") for number in (10, 9, 2)]
    assert shelf.builds() == made[::-1]
    assert shelf.current() == made[0]


def test_a_shelf_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "nothing" / "here", HASH)
    assert shelf.builds() == []
    assert shelf.current() is None
    assert shelf.next() == shelf.folder / f"{HASH}-1"


def test_what_is_no_finished_build_of_this_recipe_does_not_count(shelf: Shelf) -> None:
    whole = put(shelf, f"{HASH}-1")
    put(shelf, f"{HASH}-2", whole=False)
    put(shelf, f"{HASH}-old")
    put(shelf, f".staging-{HASH}-7")
    put(shelf, "ba9876543210-8")
    assert shelf.builds() == [whole]


def test_the_next_build_comes_after_everything_that_is_there_even_what_is_not_whole(shelf: Shelf) -> None:
    put(shelf, f"{HASH}-1")
    assert shelf.next() == shelf.folder / f"{HASH}-2"
    put(shelf, f"{HASH}-9", whole=False)
    assert shelf.next() == shelf.folder / f"{HASH}-10"


def test_prune_leaves_the_newest_build_and_what_belongs_to_others(shelf: Shelf) -> None:
    put(shelf, f"{HASH}-1")
    put(shelf, f"{HASH}-2", whole=False)  # one that could not be removed the last time
    put(shelf, f"{HASH}-3")
    newest, other = put(shelf, f"{HASH}-10"), put(shelf, "ba9876543210-1")
    shelf.prune()
    assert sorted(shelf.folder.iterdir()) == sorted([newest, other])
    assert shelf.builds() == [newest]


def test_prune_removes_nothing_where_no_build_is_whole(shelf: Shelf) -> None:
    left = put(shelf, f"{HASH}-1", whole=False)
    shelf.prune()
    assert (left / "model.onnx").is_file()


def finished_export(parent: Path) -> Path:
    """A folder as the last stage leaves it."""
    folder = parent / "export"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"graph" * 1000)
    (folder / "empty").write_bytes(b"")
    (folder / "sub" / "weights.data").write_bytes(bytes(range(256)))
    return folder


def test_publish_records_the_size_and_hash_of_every_file(tmp_path: Path) -> None:
    destination = tmp_path / f"{HASH}-1"
    finished = finished_export(tmp_path)
    publish(finished, describe(finished), destination, {"recipe": {"group_size": 128}})
    manifest = read_manifest(destination)
    assert manifest["recipe"] == {"group_size": 128}
    assert manifest["libraries"]["onnxruntime-genai"]
    present = {file.relative_to(destination).as_posix() for file in destination.rglob("*") if file.is_file()}
    assert set(manifest["files"]) == present - {MANIFEST}
    for name, entry in manifest["files"].items():
        content = (destination / name).read_bytes()
        assert entry == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@pytest.mark.parametrize("content", [b"", b'{"source": ', b"\xff"])
def test_a_damaged_manifest_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(BuildError, match=r"manifest\.json cannot be read .* with --rebuild"):
        read_manifest(tmp_path)


def test_publish_moves_the_folder_itself_so_that_it_appears_at_once(tmp_path: Path) -> None:
    finished, destination = finished_export(tmp_path), tmp_path / f"{HASH}-1"
    identity = finished.stat().st_ino
    publish(finished, {}, destination, {})
    assert destination.stat().st_ino == identity
    assert not finished.exists()


def test_what_cannot_be_published_leaves_the_place_as_it_was(tmp_path: Path) -> None:
    finished, destination = finished_export(tmp_path), tmp_path / f"{HASH}-1"
    destination.mkdir()
    (destination / "precious").write_text("kept")
    with pytest.raises(OSError):
        publish(finished, {}, destination, {})
    assert [file.name for file in destination.iterdir()] == ["precious"]


def test_staging_keeps_finished_results_and_removes_half_made_ones(tmp_path: Path) -> None:
    parent = tmp_path / "demo"
    with staging(parent, "key") as work:
        assert work.parent == parent
        (work / "quantize").mkdir()
        (work / "export.123.partial").mkdir()
        (work / "export.123.partial" / "model.onnx").write_bytes(b"half")
    with staging(parent, "key") as again:
        assert again == work
        assert [entry.name for entry in again.iterdir()] == ["quantize"]


@contextmanager
def another_build(parent: Path, key: str) -> Iterator["subprocess.Popen[str]"]:
    """Another process that is in the middle of a build."""
    script = (
        "import sys; from pathlib import Path; from builder.kept.artifact import staging\n"
        "with staging(Path(sys.argv[1]), sys.argv[2]) as work:\n"
        "    (work / 'calibrate').mkdir(); print('building', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(parent), key]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout and other.stdout.readline() == "building\n"
            yield other
        finally:
            other.kill()


def test_a_second_process_that_builds_the_same_is_told_so(tmp_path: Path) -> None:
    parent = tmp_path / "demo"
    with another_build(parent, "key"):
        with pytest.raises(BuildError, match=r"another process is building in .*demo: wait"), staging(parent, "key"):
            pass
        with staging(parent, "another key"):
            pass


def test_a_build_that_was_killed_leaves_its_results_and_no_lock(tmp_path: Path) -> None:
    with another_build(tmp_path / "demo", "key") as other:
        other.kill()
        other.wait()
        with staging(tmp_path / "demo", "key") as work:
            assert (work / "calibrate").is_dir()


def test_an_error_inside_gives_the_lock_back(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), staging(tmp_path, "key"):
        raise RuntimeError
    with staging(tmp_path, "key"):
        pass


def test_a_models_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    message = r"cannot be written to .* choose another place with --models-dir"
    with pytest.raises(BuildError, match=message) as refused, staging(tmp_path / "file" / "demo", "key"):
        pass
    assert str(tmp_path / "file" / "demo") in str(refused.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is read-only for this user")
def test_a_read_only_models_folder_is_a_clear_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(BuildError, match="cannot be written to"), staging(tmp_path / "demo", "key"):
            pass
    finally:
        tmp_path.chmod(0o700)


def test_the_models_folder_can_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OGA_CHAT_HOME", str(tmp_path / "models"))
    assert default_models_dir() == tmp_path / "models"
    monkeypatch.setenv("OGA_CHAT_HOME", "")
    assert default_models_dir().name == "oga-chat"


def test_a_kill_in_the_middle_of_a_removal_leaves_no_build_that_counts(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(shelf, f"{HASH}-1")
    newest = put(shelf, f"{HASH}-2")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", killed)
        shelf.prune()
    assert shelf.builds() == [newest]
    shelf.prune()
    assert list(shelf.folder.iterdir()) == [newest]


def published(tmp_path: Path) -> Path:
    finished, destination = finished_export(tmp_path), tmp_path / f"{HASH}-1"
    publish(finished, describe(finished), destination, {})
    return destination


def test_an_untouched_folder_has_the_hashes_that_it_was_built_with(tmp_path: Path) -> None:
    check_files(published(tmp_path))


def test_a_changed_byte_is_found_by_its_hash_and_the_file_named(tmp_path: Path) -> None:
    folder = published(tmp_path)
    (folder / "sub" / "weights.data").write_bytes(bytes(range(255)) + b"!")
    message = r"sub/weights.data has another SHA-256 than when it was written. Build it again with --rebuild."
    with pytest.raises(BuildError, match=message):
        check_files(folder)


def test_a_folder_that_was_made_elsewhere_cannot_be_verified(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"has no manifest.json to verify it by"):
        check_files(finished_export(tmp_path))


@pytest.mark.parametrize(
    "manifest", ["{}", '{"files": 1}', '{"files": {"model.onnx": {}}}', '{"files": {"model.onnx": 1}}']
)
def test_a_manifest_of_another_make_verifies_nothing(tmp_path: Path, manifest: str) -> None:
    folder = finished_export(tmp_path)
    (folder / "model.onnx").touch()
    (folder / MANIFEST).write_text(manifest)
    with pytest.raises(BuildError, match="not built by oga-chat"):
        check_files(folder)
