"""A stand-in for the Hugging Face Hub on 127.0.0.1, and a child process in which the real client talks to it.

The client reads its address, token and offline switch from the environment when it is imported, hence the child.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.hub_uploads import READ, WRITE, UploadHandler, Uploads, is_large, sum_of

ROOT = Path(__file__).parent.parent
TOKEN = "hf_of-someone-with-access"


@dataclass(frozen=True)
class Repository:
    """Files at one commit, under the branch main. A gated one lists its files to all, and gives them for TOKEN.

    private: only alice sees it.
    """

    files: dict[str, bytes]
    commit: str = "c0ffee00" * 5
    kind: str = "model"
    gated: bool = False
    private: bool = False


@dataclass
class Hub:
    """What the server holds, was asked and gave away, and the transfers that it spoils.

    served: files that were sent to their end. ranges: the Range header of each request for a file, None where it asked
    for all of it. sizes: whether they are listed; a mirror may not. breaking: for each file, after how many bytes its
    next transfers break off. stalling: files whose transfers stop half way and wait for `released`.
    """

    repositories: dict[str, Repository]
    url: str = ""
    asked: list[str] = field(default_factory=list)
    served: list[str] = field(default_factory=list)
    ranges: dict[str, list[str | None]] = field(default_factory=dict)
    sizes: bool = True
    breaking: dict[str, list[int]] = field(default_factory=dict)
    stalling: set[str] = field(default_factory=set)
    released: Event = field(default_factory=Event)
    uploads: Uploads = field(default_factory=Uploads)

    def new_repository(self, files: dict[str, bytes], private: bool) -> Repository:
        """One that was just made."""
        return Repository(files, private=private)


@contextmanager
def serve(repositories: dict[str, Repository]) -> Iterator[Hub]:
    """Serve repositories by their ids."""
    hub = Hub(repositories)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(UploadHandler):
    hub: Hub

    def do_GET(self) -> None:
        self.hub.asked.append(self.path)
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        if parts[0] == "api":
            kind, name, rest = parts[1][:-1], "/".join(parts[2:4]), parts[4:]
        else:
            kind = "dataset" if parts[0] == "datasets" else "model"
            parts = parts[1:] if kind == "dataset" else parts
            name, rest = "/".join(parts[:2]), parts[2:]
        repository = self.hub.repositories.get(name)
        authorization = self.headers.get("Authorization")
        if authorization not in (None, *(f"Bearer {token}" for token in (TOKEN, WRITE, READ))):
            self.refuse(401, "", "Invalid credentials in Authorization header")
        elif parts[1:] == ["whoami-v2"]:
            self.whoami()
        elif repository is None or repository.kind != kind or (repository.private and not self._is_user):
            # The real one does not tell strangers whether a private repository exists.
            self.refuse(404 if authorization else 401, "RepoNotFound", "Repository not found")
        elif len(rest) > 1 and rest[1] not in ("main", repository.commit):
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {rest[1]}")
        elif not rest or rest[0] == "revision":
            siblings = [
                _sibling(path, content) if self.hub.sizes else {"rfilename": path}
                for path, content in repository.files.items()
            ]
            facts = {"id": name, "sha": repository.commit, "siblings": siblings, "tags": []}
            self.answer_json(facts | {"private": repository.private})
        elif rest[0] == "tree":
            self.answer_json([_entry(path, content) for path, content in repository.files.items()])
        else:
            self._file(repository, "/".join(rest[2:]), authorization)

    do_HEAD = do_GET

    @property
    def _is_user(self) -> bool:
        return self.headers.get("Authorization") in (f"Bearer {WRITE}", f"Bearer {READ}")

    def _file(self, repository: Repository, path: str, authorization: str | None) -> None:
        if repository.gated and not authorization:
            self.refuse(401, "GatedRepo", "Access to this model is restricted. You must log in to access it.")
        elif path not in repository.files:
            self.refuse(404, "EntryNotFound", "Entry not found")
        else:
            content = repository.files[path]
            headers = {"ETag": f'"{sum_of(path, content)}"', "X-Repo-Commit": repository.commit}
            if self.command == "HEAD":
                self._answer(200, content, headers)
            else:
                self._transfer(path, content, headers)

    def _transfer(self, path: str, content: bytes, headers: dict[str, str]) -> None:
        asked = self.headers.get("Range")
        self.hub.ranges.setdefault(path, []).append(asked)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked).group(1)) if asked else 0
        if asked:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        rest = content[start:]
        if self.hub.breaking.get(path):
            self._answer(206 if asked else 200, rest, headers, given=self.hub.breaking[path].pop(0))
            self.close_connection = True
        elif path in self.hub.stalling:
            self._answer(206 if asked else 200, rest, headers, given=len(rest) // 2)
            self.wfile.flush()
            self.hub.released.wait()
        else:
            self._answer(206 if asked else 200, rest, headers)
            self.hub.served.append(path)

    def refuse(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self._answer(status, json.dumps({"error": message}).encode(), headers)

    def answer_json(self, content: Any) -> None:
        self._answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, content: bytes, headers: dict[str, str], given: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:given])

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _entry(path: str, content: bytes) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": len(content), "oid": sum_of(path, content)}


def _sibling(path: str, content: bytes) -> dict[str, Any]:
    described = {"rfilename": path, "size": len(content), "blobId": sum_of(path, content)}
    large = {"sha256": sum_of(path, content), "size": len(content), "pointerSize": 134}
    return described | ({"lfs": large} if is_large(path) else {})


def in_child(script: str, url: str, cache: Path, *arguments: str, **environment: str) -> dict[str, Any]:
    """Run Python code that sets `answer`, with the Hub at `url` and the client's files in `cache`.

    Returns {"answer": …}, or {"error": class name, "message": text} where the code raised a BuildError.
    """
    child = start_child(script, url, cache, *arguments, **environment)
    out, err = child.communicate(timeout=120)
    assert child.returncode == 0, err
    answer: dict[str, Any] = json.loads(out.splitlines()[-1])
    return answer


def start_child(script: str, url: str, cache: Path, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    """The process of `in_child`, to be interrupted, or written to."""
    whole = (
        "import json, sys\nfrom builder.errors import BuildError\ntry:\n"
        + "".join(f"    {line}\n" for line in script.strip().splitlines())
        + "    print(json.dumps({'answer': answer}))\n"
        "except BuildError as error:\n"
        "    print(json.dumps({'error': type(error).__name__, 'message': str(error)}))\n"
    )
    prefixes = ("HF_", "HUGGING", "TRANSFORMERS_")
    unset = {name for name in os.environ if name.startswith(prefixes) or name.lower().endswith("_proxy")}
    inherited = {name: value for name, value in os.environ.items() if name not in unset}
    settings = {"HF_ENDPOINT": url, "HF_HOME": str(cache), "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONUTF8": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", whole, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=inherited | settings | environment,
        cwd=ROOT,
    )
