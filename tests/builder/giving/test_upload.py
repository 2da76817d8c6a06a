"""Publishing, through the Hub's real client and a server on this machine: what is sent, seen, refused and taken up."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.hub import Hub, Repository, in_child, serve, start_child
from tests.hub_uploads import READ, WRITE, Uploads

# One process for all tests, since the client reads the Hub's address when it is imported: a line of JSON for each piece
# of code, and one for what it answers, says or raises.
CLIENT = """
import contextlib, io, json, os, sys
from builder.errors import BuildError
for line in sys.stdin:
    job, said = json.loads(line), io.StringIO()
    os.environ["HF_TOKEN"] = job["token"]
    names = {"arguments": job["arguments"]}
    try:
        with contextlib.redirect_stdout(said):
            exec(job["code"], names)
        reply = {"answer": names["answer"], "said": said.getvalue()}
    except BuildError as error:
        reply = {"message": str(error)}
    print(json.dumps(reply), flush=True)
"""
PUBLISH = """
from pathlib import Path
from builder.publish import publish
folder, to, public = arguments
answer = publish(Path(folder), to, public, None, True)
"""
FETCH = """
import app
from builder.commands import ready
from tests.builder.test_exports import on_cpu
answer = str(ready(app.parser().parse_args(["--model", arguments[0], "--models-dir", arguments[1]]), on_cpu)[0])
"""
CARD_SCRIPT = """
from huggingface_hub import hf_hub_download
with open(hf_hub_download(arguments[0], "README.md"), encoding="utf-8") as card:
    exec(card.read().partition("```python")[2].partition("```")[0], {})
answer = None
"""


@dataclass
class Person:
    """Somebody at a Hub, through its real client in another process."""

    hub: Hub
    process: "subprocess.Popen[str]"

    def does(self, code: str, *arguments: object, token: str = WRITE) -> dict[str, Any]:
        """Run a piece of code that sets `answer`. Returns that and what it printed, or the message of a BuildError."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps({"code": code, "arguments": arguments, "token": token}) + "\n")
        self.process.stdin.flush()
        reply: dict[str, Any] = json.loads(self.process.stdout.readline())
        return reply

    def publishes(self, folder: Path, to: str, public: bool = False, token: str = WRITE) -> dict[str, Any]:
        """Publish without being asked; it succeeds."""
        reply = self.does(PUBLISH, str(folder), to, public, token=token)
        assert "answer" in reply, reply
        return reply

    def may_not_publish(self, folder: Path, to: str, token: str = WRITE) -> str:
        """Publish without being asked; it is refused."""
        return str(self.does(PUBLISH, str(folder), to, False, token=token)["message"])


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """The process. Files go by the Hub's older protocol, a request for each: Xet needs servers of its own."""
    with serve({}) as hub:
        cache = tmp_path_factory.mktemp("cache")
        with start_child(CLIENT, hub.url, cache, HF_HUB_DISABLE_XET="1") as process:
            yield Person(hub, process)
            process.kill()


@pytest.fixture
def alice(client: Person) -> Person:
    """Somebody at a Hub where nothing is yet."""
    client.hub.repositories.clear()
    client.hub.asked.clear()
    client.hub.served.clear()
    client.hub.uploads = Uploads()
    return client


@pytest.fixture(scope="module")
def built(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built folder."""
    return Path(shutil.copytree(demo_model, tmp_path_factory.mktemp("built") / "demo"))


def sums(folder: Path) -> list[str]:
    """Of the large files, in the order in which they are sent."""
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("model.onnx", "model.onnx.data")]


def test_a_published_model_is_private_whole_and_runs_as_its_card_says(
    alice: Person, built: Path, tmp_path: Path
) -> None:
    reply, name = alice.publishes(built, "alice/demo-oga"), "alice/demo-oga"
    there, manifest = alice.hub.repositories[name], json.loads((built / "manifest.json").read_text())
    assert reply["answer"] == f"{alice.hub.url}/{name}" and there.private
    assert set(there.files) == {*manifest["files"], "manifest.json", "README.md", ".gitattributes"}
    for file in manifest["files"]:
        assert there.files[file] == (built / file).read_bytes()
    assert f"{name} (will be made; private: only you, or your organization, can see it), as alice:" in reply["said"]
    assert all(f"  {file}\n" in reply["said"] for file in {*there.files} - {".gitattributes"})
    assert alice.hub.uploads.puts == sums(built) and len(alice.hub.uploads.commits) == 1

    # Whoever may see it names it as a model, or runs it by the words of the card.
    received = Path(alice.does(FETCH, name, str(tmp_path), token=READ)["answer"])
    assert received.parent == tmp_path / "alice--demo-oga"
    assert all((received / file).read_bytes() == (built / file).read_bytes() for file in manifest["files"])
    assert len(alice.does(CARD_SCRIPT, name, token=READ)["said"].split()) >= 2


def test_a_file_that_was_exchanged_on_the_hub_is_found_by_its_hash(alice: Person, built: Path, tmp_path: Path) -> None:
    alice.publishes(built, "alice/exchanged")
    there = alice.hub.repositories["alice/exchanged"]
    weights = there.files["model.onnx.data"]
    changed = {**there.files, "model.onnx.data": weights[:-1] + bytes([weights[-1] ^ 1])}
    alice.hub.repositories["alice/exchanged"] = replace(there, files=changed, commit="1" * 40)
    message = alice.does(FETCH, "alice/exchanged", str(tmp_path))["message"]
    assert message.startswith("alice/exchanged is not what its manifest.json says: model.onnx.data has another SHA-256")


def test_publishing_again_sends_what_differs_and_nothing_where_nothing_does(alice: Person, built: Path) -> None:
    first, uploads = alice.publishes(built, "alice/again"), alice.hub.uploads
    again = alice.publishes(built, "alice/again")
    assert again["answer"] == first["answer"] and "To send: 0 kB" in again["said"]
    assert uploads.puts == sums(built) and len(uploads.commits) == 1

    there = alice.hub.repositories["alice/again"]
    altered = {**there.files, "tokenizer.json": b"{}", "mine": b"notes"}
    alice.hub.repositories["alice/again"] = replace(there, files=altered)
    said = alice.publishes(built, "alice/again")["said"]
    assert "changed " in said and "stays as it is: mine" in said
    assert uploads.commits[1:] == [["tokenizer.json"]] and uploads.puts == sums(built)
    assert alice.hub.repositories["alice/again"].files == {**there.files, "mine": b"notes"}


def test_an_upload_that_broke_off_goes_on_with_what_is_missing(alice: Person, built: Path) -> None:
    graph, weights = sums(built)
    uploads = alice.hub.uploads
    uploads.failing.add(weights)
    assert "the address of the upload has expired" in alice.may_not_publish(built, "alice/broken")
    assert uploads.puts == [graph] and not uploads.commits
    alice.publishes(built, "alice/broken")
    assert uploads.puts == [graph, weights]


def test_public_is_what_was_called_so_and_only_once_everything_is_there(alice: Person, built: Path) -> None:
    assert "everybody can see it" in alice.publishes(built, "acme/demo", public=True)["said"]
    assert not alice.hub.repositories["acme/demo"].private
    opened = next(at for at, path in enumerate(alice.hub.asked) if path.endswith("/settings"))
    assert any("/commit/" in path for path in alice.hub.asked[:opened])
    assert "acme/demo is public, so everybody would see" in alice.may_not_publish(built, "acme/demo")


def test_a_private_one_is_opened_later_without_sending_anything(alice: Person, built: Path) -> None:
    alice.publishes(built, "alice/later")
    alice.publishes(built, "alice/later", public=True)
    assert not alice.hub.repositories["alice/later"].private and len(alice.hub.uploads.commits) == 1


def test_what_the_hub_does_not_let_one_do_is_said_in_a_sentence(alice: Person, built: Path) -> None:
    assert "publishing needs an access token" in alice.may_not_publish(built, "alice/demo", token="")
    assert "the access token of alice may only read" in alice.may_not_publish(built, "alice/demo", token=READ)
    assert "the Hub refuses your access token" in alice.may_not_publish(built, "alice/demo", token="hf_expired")
    assert "you may not write to bob/demo (You don't have the right" in alice.may_not_publish(built, "bob/demo")
    for name in ("demo oga", "a/b/c", "ali--ce/demo", "alice/", "demo"):
        assert "cannot be the name of a repository" in alice.may_not_publish(built, name)
    assert not alice.hub.repositories and not alice.hub.uploads.puts


def test_a_name_that_is_taken_is_left_alone(alice: Person, built: Path) -> None:
    other = json.dumps({"source": {"kind": "hub", "name": "acme/chat"}}).encode()
    alice.hub.repositories["alice/weights"] = Repository({"model.safetensors": b"mine"}, private=True)
    alice.hub.repositories["alice/chat"] = Repository({"manifest.json": other}, private=True)
    assert "alice/weights is taken: it holds model.safetensors" in alice.may_not_publish(built, "alice/weights")
    assert "alice/chat is taken: it holds a model made from acme/chat" in alice.may_not_publish(built, "alice/chat")
    assert not alice.hub.uploads.commits


def test_what_changed_since_it_was_shown_is_not_written_over(alice: Person, built: Path) -> None:
    alice.hub.repositories["alice/moved"] = Repository({"README.md": b"words"}, private=True)
    alice.hub.uploads.moving = True
    assert "alice/moved has changed since it was looked at" in alice.may_not_publish(built, "alice/moved")
    assert not alice.hub.uploads.commits


def test_what_is_not_as_it_was_built_is_not_given(alice: Person, built: Path, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(built, tmp_path / "damaged"))
    (damaged / "tokenizer.json").write_text("{}")
    assert "is not as it was built: tokenizer.json has 2 bytes" in alice.may_not_publish(damaged, "alice/demo")
    (damaged / "tokenizer.json").unlink()
    (damaged / "tokenizer.json").symlink_to(built / "tokenizer.json")
    assert "names 'tokenizer.json', which is not inside it" in alice.may_not_publish(damaged, "alice/demo")
    for content in ("[]", "{}", '{"source": {}, "target": {}, "quality": {}, "files": {"a": 1}}'):
        (damaged / "manifest.json").write_text(content)
        assert "does not say what was built" in alice.may_not_publish(damaged, "alice/demo")
    (damaged / "manifest.json").unlink()
    assert "only what oga-chat built and measured is published" in alice.may_not_publish(damaged, "alice/demo")
    assert "is not a folder" in alice.may_not_publish(tmp_path / "nothing", "alice/demo")
    assert not alice.hub.repositories


def test_only_what_was_built_is_sent_and_the_licence_of_the_source_goes_along(
    alice: Person, built: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(built, tmp_path / "copy"))
    (copy / "passwords.txt").write_text("secret")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["source"] = {"kind": "hub", "name": "acme/chat", "revision": Repository({}).commit}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    card = b"---\nlicense: llama2\n---\n"
    whole = {"README.md": card, "LICENSE.txt": b"terms", "model.safetensors": b"weights"}
    alice.hub.repositories["acme/chat"] = Repository(whole)
    said = alice.publishes(copy, "alice/chat-oga")["said"]
    assert "Not sent, since the build did not make it: passwords.txt" in said and "licence llama2" in said
    files = alice.hub.repositories["alice/chat-oga"].files
    assert "passwords.txt" not in files and files["LICENSE.txt"] == b"terms"
    assert b"license: llama2\n" in files["README.md"] and b"base_model: acme/chat\n" in files["README.md"]
    assert "model.safetensors" not in alice.hub.served


def test_a_hub_that_cannot_be_reached_is_said_so(built: Path, tmp_path: Path) -> None:
    with serve({}) as gone:
        pass
    code = f"arguments = [{str(built)!r}, 'alice/demo', False]\n{PUBLISH}"
    assert "the Hub cannot be reached" in in_child(code, gone.url, tmp_path, HF_TOKEN=WRITE)["message"]
