"""What the stand-in for the Hub does with uploads: the requests that its client makes to create, fill and open one."""

import base64
import hashlib
import json
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from tests.hub import Hub, Repository

USER, ORGANIZATION = "alice", "acme"
WRITE, READ = "hf_of-alice-to-write", "hf_of-alice-to-read"
LARGE = (".data", ".safetensors", ".onnx")


@dataclass
class Uploads:
    """What came. objects: large files by SHA-256; puts: their names in the order they came; commits: files of each.

    failing: SHA-256 sums of objects whose next transfer is answered with an error that the client does not repeat.
    moving: whether somebody else commits before each commit that comes.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    puts: list[str] = field(default_factory=list)
    commits: list[list[str]] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)
    moving: bool = False


class UploadHandler(BaseHTTPRequestHandler):
    """The writing half of the server."""

    hub: "Hub"

    def refuse(self, status: int, code: str, message: str) -> None:
        raise NotImplementedError

    def answer_json(self, content: Any) -> None:
        raise NotImplementedError

    @property
    def may_write(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {WRITE}"

    def whoami(self) -> None:
        role = "write" if self.may_write else "read"
        organizations = [{"name": ORGANIZATION, "type": "org", "roleInOrg": "write"}]
        token = {"displayName": "a token", "role": role}
        auth = {"type": "access_token", "accessToken": token}
        self.answer_json({"type": "user", "name": USER, "orgs": organizations, "auth": auth})

    def do_POST(self) -> None:
        self.hub.asked.append(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = unquote(urlsplit(self.path).path).strip("/")
        parts = path.split("/")
        if not self.may_write:
            self.refuse(401, "", "Invalid credentials in Authorization header")
        elif path == "api/repos/create":
            self._create(json.loads(body))
        elif path == "api/validate-yaml":
            self.answer_json({"errors": [], "warnings": []})
        elif path.endswith(".git/info/lfs/objects/batch"):
            self._batch(json.loads(body))
        elif parts[4] == "preupload":
            self._preupload(self.hub.repositories["/".join(parts[2:4])], json.loads(body))
        elif parts[4] == "commit":
            self._commit("/".join(parts[2:4]), [json.loads(line) for line in body.splitlines()])
        else:
            self.refuse(404, "", f"no such address: {self.path}")

    def do_PUT(self) -> None:
        self.hub.asked.append(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = urlsplit(self.path).path.strip("/").split("/")
        if parts[0] == "objects":
            self._store(parts[1], body)
        elif not self.may_write:
            self.refuse(401, "", "Invalid credentials in Authorization header")
        else:
            name, wanted = "/".join(parts[2:4]), json.loads(body)
            private = wanted.get("visibility", "private" if wanted.get("private") else "public") == "private"
            self.hub.repositories[name] = replace(self.hub.repositories[name], private=private)
            self.answer_json({})

    def _create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        if wanted["organization"] not in (USER, ORGANIZATION):
            self.refuse(403, "", f'You don\'t have the rights to create a model under the namespace "{name}"')
        elif name in self.hub.repositories:
            self.refuse(409, "", "You already created this model repo")
        else:
            private = wanted.get("visibility") == "private"
            self.hub.repositories[name] = self.hub.new_repository({".gitattributes": b"*.onnx lfs\n"}, private)
            self.answer_json({"url": f"{self.hub.url}/{name}"})

    def _preupload(self, repository: "Repository", wanted: dict[str, Any]) -> None:
        files = []
        for file in wanted["files"]:
            mode = "lfs" if is_large(file["path"]) else "regular"
            there = repository.files.get(file["path"])
            oid = {} if there is None else {"oid": sum_of(file["path"], there)}
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, **oid})
        self.answer_json({"files": files})

    def _batch(self, wanted: dict[str, Any]) -> None:
        def described(each: dict[str, Any]) -> dict[str, Any]:
            if each["oid"] in self.hub.uploads.objects:
                return each
            return {**each, "actions": {"upload": {"href": f"{self.hub.url}/objects/{each['oid']}"}}}

        self.answer_json({"transfer": "basic", "objects": [described(each) for each in wanted["objects"]]})

    def _store(self, oid: str, content: bytes) -> None:
        if oid in self.hub.uploads.failing:
            self.hub.uploads.failing.discard(oid)
            self.refuse(403, "", "the address of the upload has expired")
        elif hashlib.sha256(content).hexdigest() != oid:
            self.refuse(400, "", "this is another content")
        else:
            self.hub.uploads.objects[oid] = content
            self.hub.uploads.puts.append(oid)
            self.answer_json({})

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        repository, header = self.hub.repositories[name], lines[0]["value"]
        if self.hub.uploads.moving:
            repository = replace(repository, commit="2" * 40)
        if header.get("parentCommit", repository.commit) != repository.commit:
            self.refuse(412, "", "A commit has happened since. Please refresh and try again.")
            return
        files = dict(repository.files)
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            else:
                files[value["path"]] = self.hub.uploads.objects[value["oid"]]
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.hub.repositories[name] = replace(repository, files=files, commit=commit)
        self.hub.uploads.commits.append(sorted(line["value"]["path"] for line in lines[1:]))
        self.answer_json({"commitUrl": f"{self.hub.url}/{name}/commit/{commit}", "commitOid": commit})


def is_large(path: str) -> bool:
    """Whether the Hub keeps a file outside git."""
    return path.endswith(LARGE)


def sum_of(path: str, content: bytes) -> str:
    """The Hub names large files by their SHA-256, small ones as git does."""
    if is_large(path):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
