"""A folder's way to the Hugging Face Hub: what is there already, what would change, and the upload of just that.

The client carries the bytes, by the Hub's chunked storage (Xet), which goes on where an interrupted upload stopped.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from builder.checkpoint.hub import download
from builder.checkpoint.hub_errors import why_not_given
from builder.errors import BuildError, SourceError
from builder.kept.artifact import MANIFEST
from builder.kept.results import sha256
from builder.progress import Report, Step

_TIMEOUT = 15  # seconds
# What the Hub puts into a repository by itself, or its owner when making one.
_EMPTY = {".gitattributes", "README.md", "LICENSE"}


@dataclass(frozen=True, slots=True)
class Item:
    """A file to give. content: where it lies, or itself."""

    path: str
    content: Path | bytes
    size: int
    sha256: str

    @classmethod
    def of(cls, path: str, content: Path | bytes) -> "Item":
        """One whose size and hash have to be found out."""
        if isinstance(content, bytes):
            return cls(path, content, len(content), hashlib.sha256(content).hexdigest())
        return cls(path, content, content.stat().st_size, sha256(content))


@dataclass(frozen=True, slots=True)
class There:
    """What the Hub has under the name. commit: "" where there is no such repository yet. sums: of its files, by path.

    manifest: what one of ours says; empty where it holds none.
    """

    account: str
    commit: str = ""
    private: bool = True
    sums: Mapping[str, str] | None = None
    manifest: Mapping[str, Any] | None = None

    def state(self, item: Item) -> Literal["new", "changed", "same"]:
        """What would become of a file."""
        there = (self.sums or {}).get(item.path)
        if there is None:
            return "new"
        return "same" if there in (item.sha256, _git_sum(item)) else "changed"


def look(repository: str) -> There:
    """Ask who is logged in, and what the repository holds. Changes nothing. Raises BuildError saying what to do."""
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    if repository.count("/") != 1 or repository.startswith("/"):
        raise BuildError(
            f"--to {repository!r} cannot be the name of a repository: give USER/NAME, of yours or of an organization."
        )
    if not get_token():
        raise BuildError(
            "publishing needs an access token that may write: log in once with 'hf auth login', or set HF_TOKEN "
            "(https://huggingface.co/settings/tokens)."
        )
    with _told(repository):
        api = HfApi()
        who = api.whoami()
        if who.get("auth", {}).get("accessToken", {}).get("role") == "read":
            raise BuildError(
                f"the access token of {who['name']} may only read: make one that may write at "
                "https://huggingface.co/settings/tokens, and log in with 'hf auth login' or set HF_TOKEN."
            )
        try:
            info = api.model_info(repository, files_metadata=True, timeout=_TIMEOUT)
        except RepositoryNotFoundError:
            return There(who["name"])
        except HFValidationError as error:
            raise BuildError(f"--to {repository!r} cannot be the name of a repository: {error}") from error
        sums = {file.rfilename: str(file.lfs.sha256 if file.lfs else file.blob_id) for file in info.siblings or ()}
        manifest = _manifest_there(repository, str(info.sha)) if MANIFEST in sums else {}
        return There(who["name"], str(info.sha), bool(info.private), sums, manifest)


def refuse_another(repository: str, there: There, manifest: Mapping[str, Any], public: bool) -> None:
    """Refuse a repository that holds something else, or that everybody could see without having been asked for."""
    names = set(there.sums or ())
    ours = (there.manifest or {}).get("source", {})
    same = all(ours.get(part) == manifest["source"][part] for part in ("kind", "name"))
    if not same and names - _EMPTY:
        holds = f"a model made from {ours['name']}" if "name" in ours else f"{', '.join(sorted(names - _EMPTY)[:3])}"
        raise BuildError(f"{repository} is taken: it holds {holds}. Choose another name with --to.")
    if there.commit and not there.private and not public:
        raise BuildError(
            f"{repository} is public, so everybody would see what is sent there: say --public, or choose another name."
        )


def send(repository: str, there: There, items: Sequence[Item], public: bool, report: Report) -> str:
    """Make the repository what was planned, and compare what it then holds. Returns its address.

    A new one is private until everything is there. Raises BuildError saying what to do; the next try sends only what is
    missing.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api, going = HfApi(), [item for item in items if there.state(item) != "same"]
    total = sum(item.size for item in going)
    with _told(repository):
        # 1. The place.
        if not there.commit:
            api.create_repo(repository, private=True)

        # 2. Large files, one after another, then all in one commit on what was looked at.
        additions, done = [], 0
        for item in going:
            report(Step("upload", done, max(total, 1), f"{item.path}, {done / 1e6:,.0f} of {total / 1e6:,.0f} MB"))
            addition = CommitOperationAdd(item.path, item.content)
            api.preupload_lfs_files(repository, [addition], free_memory=False)
            additions.append(addition)
            done += item.size
        if additions:
            api.create_commit(
                repository,
                additions,
                commit_message="Model built by oga-chat",
                parent_commit=there.commit or None,
            )
        report(Step("upload", 1, 1))

        # 3. Whether it arrived, and who sees it.
        now = look(repository)
        if wrong := [item.path for item in items if now.state(item) != "same"]:
            raise BuildError(f"{repository} has {wrong[0]} otherwise than it was sent: publish once more.")
        if public and now.private:
            api.update_repo_settings(repository, private=False)
        return f"{api.endpoint}/{repository}"


@contextmanager
def _told(repository: str) -> Iterator[None]:
    """What the client and its transport raise becomes a BuildError in a sentence."""
    from httpx2 import HTTPError

    try:
        yield
    # The client's uploads raise RuntimeError, and ValueError for an answer that makes no sense.
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        raise BuildError(why_not_given(repository, error)) from error


def _manifest_there(repository: str, commit: str) -> Mapping[str, Any]:
    with suppress(SourceError, OSError, ValueError):
        content = json.loads((download(repository, "model", commit, (MANIFEST,)) / MANIFEST).read_text("utf-8"))
        if isinstance(content, dict) and isinstance(content.get("source"), dict):
            return content
    return {}


def _git_sum(item: Item) -> str:
    """How git names a file, which is how the Hub names small ones."""
    if item.size > 64 << 20:  # no small one
        return ""
    content = item.content if isinstance(item.content, bytes) else item.content.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
