"""Files of the Hugging Face Hub, brought into its ordinary cache: with progress, and resumed after an interruption.

The client links and names what is in the cache, but it throws a partial file away when it is interrupted. Hence the
bytes are fetched here, through the client's session, into the cache's blobs, where the client then finds them.
"""

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from builder.checkpoint.hub_errors import why_broken, why_unknown
from builder.errors import SourceError
from builder.kept.results import sha256
from builder.progress import Report, Step, silent

Kind = Literal["model", "dataset"]

_HEX = re.compile(r"[0-9a-f]{40,64}")
_DISK_RESERVE = 100 << 20  # bytes that a download leaves free
_LISTING_TIMEOUT = 15  # seconds
_MADE_FROM = "base_model:"  # and then, perhaps, how, and the base's id
_REPORTS = 200  # of progress, over a whole download


@dataclass(frozen=True, slots=True)
class _File:
    """A file to fetch. etag: its name among the cache's blobs; sha256: of its content, "" where the Hub has none."""

    path: str
    size: int
    etag: str
    sha256: str


class _Progress:
    """Bytes arrived of all that are to come, reported at every half percent."""

    def __init__(self, name: str, total: int, report: Report) -> None:
        self._name, self._total, self._report = name, total, report
        self._shown = -1

    def tell(self, done: int) -> None:
        part = done * _REPORTS // max(self._total, 1)
        if part != self._shown:
            self._shown = part
            note = f"{done / 1e6:,.0f} of {self._total / 1e6:,.0f} MB of {self._name}"
            self._report(Step("download", done, self._total, note))


def download(
    name: str,
    kind: Kind,
    revision: str | None,
    files: Sequence[str],
    ignored: Sequence[str] = (),
    report: Report = silent,
    also: Sequence[str] = (),
) -> Path:
    """Bring files of a repository into the Hub cache, and return their folder, which is named after the commit.

    files, ignored: name patterns; also: names, ignored or not, that a repository may have. Where the Hub gives no
    answer, what is complete in the cache is used. Raises SourceError saying what to do, also for a disk that is too
    small, before anything is fetched.
    """
    from httpx2 import HTTPError  # the Hub client's own HTTP library; some of its errors come through as they are
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()  # ours are shown
    patterns: dict[str, Any] = {"allow_patterns": list(files), "ignore_patterns": list(ignored)}
    snapshot: dict[str, Any] = {"repo_id": name, "repo_type": kind, "revision": revision, **patterns}

    # 1. What the repository holds now; without an answer, what the cache holds.
    try:
        info: Any = HfApi().repo_info(
            name, repo_type=kind, revision=revision, files_metadata=True, timeout=_LISTING_TIMEOUT
        )
    except HFValidationError as error:
        raise SourceError(f"{name!r} cannot be the id of a {kind} on the Hub: {error}") from error
    except (HTTPError, OSError) as error:
        try:
            return Path(snapshot_download(**snapshot, local_files_only=True))
        except LocalEntryNotFoundError:
            raise SourceError(why_unknown(name, revision, error)) from error

    # 2. The bytes that are missing, then the client's links and its note of the revision's commit.
    try:
        named = [file.rfilename for file in info.siblings if file.rfilename in also]
        missing = _missing(name, kind, info, named, **patterns)
        blobs = _cache() / f"{kind}s--{name.replace('/', '--')}" / "blobs"
        _check_space(name, missing, blobs)
        _fetch(name, kind, str(info.sha), missing, blobs, report)
        folder = Path(snapshot_download(**snapshot))
        for file in named:
            hf_hub_download(name, file, repo_type=kind, revision=info.sha)
    except (HTTPError, OSError) as error:
        raise SourceError(why_broken(name, revision, error)) from error
    for fetched in missing:
        if not (folder / fetched.path).is_symlink():  # a cache that cannot link has made a copy, and one is enough
            (blobs / fetched.etag).unlink(missing_ok=True)
    return folder


@dataclass(frozen=True, slots=True)
class Listing:
    """What a repository holds at a commit: sizes in bytes by path, and the model that it says it was made from."""

    commit: str
    files: Mapping[str, int]
    base: str = ""


def listing(name: str, revision: str | None) -> Listing | None:
    """What a repository of a model holds; None where the Hub gives no answer. Raises nothing: `download` tells why."""
    from httpx2 import HTTPError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    try:
        info = HfApi().model_info(name, revision=revision, files_metadata=True, timeout=_LISTING_TIMEOUT)
    except (HTTPError, OSError, HFValidationError):
        return None
    tags = (tag.removeprefix(_MADE_FROM).rpartition(":")[2] for tag in info.tags or () if tag.startswith(_MADE_FROM))
    files = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or ()}
    return Listing(str(info.sha), files, next(tags, ""))


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _missing(
    name: str,
    kind: Kind,
    info: Any,
    named: Sequence[str],
    allow_patterns: Sequence[str],
    ignore_patterns: Sequence[str],
) -> list[_File]:
    """The wanted files that the cache lacks.

    Left to the client are those over the Hub's limit for plain HTTP, and those that a mirror lists by name only.
    """
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.utils import filter_repo_objects

    listed = {sibling.rfilename: sibling for sibling in info.siblings}
    missing = []
    wanted = filter_repo_objects(listed, allow_patterns=list(allow_patterns), ignore_patterns=list(ignore_patterns))
    for path in (*wanted, *named):
        size, content = listed[path].size, listed[path].lfs.sha256 if listed[path].lfs else ""
        etag = str(content or listed[path].blob_id)
        cached = isinstance(try_to_load_from_cache(name, path, revision=info.sha, repo_type=kind), str)
        if not cached and size is not None and size <= constants.MAX_HTTP_DOWNLOAD_SIZE and _HEX.fullmatch(etag):
            missing.append(_File(path, size, etag, content))
    return missing


def _check_space(name: str, missing: Sequence[_File], blobs: Path) -> None:
    needed = sum(file.size - _arrived(blobs, file) for file in missing)
    existing = next(folder for folder in (blobs, *blobs.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if needed and free < needed + _DISK_RESERVE:
        raise SourceError(
            f"{name} needs {(needed + _DISK_RESERVE) >> 20} MiB more in the Hub cache, and {existing} has {free >> 20} "
            "MiB free: free some, or name a folder on another disk with HF_HOME."
        )


def _fetch(name: str, kind: Kind, commit: str, missing: Sequence[_File], blobs: Path, report: Report) -> None:
    """Bring the files into the blobs, one after another."""
    from huggingface_hub import hf_hub_url

    progress = _Progress(name, sum(file.size for file in missing), report)
    locks = blobs.parent.parent / ".locks" / blobs.parent.name  # the client's: it waits for us, and we for it
    before = 0
    for file in missing:
        locks.mkdir(parents=True, exist_ok=True)
        blobs.mkdir(parents=True, exist_ok=True)
        url = hf_hub_url(name, file.path, repo_type=kind, revision=commit)
        with FileLock(locks / f"{file.etag}.lock"):
            if not (blobs / file.etag).exists():
                _fetch_file(url, file, blobs, progress, before)
        before += file.size
        progress.tell(before)


def _fetch_file(url: str, file: _File, blobs: Path, progress: _Progress, before: int) -> None:
    """Bring one file into the blobs, from where an earlier attempt stopped."""
    from httpx2 import RequestError

    partial = blobs / f"{file.etag}.incomplete"
    while True:
        start = _arrived(blobs, file)
        progress.tell(before + start)
        try:
            _transfer(url, file, partial, start, progress, before)
            break
        except RequestError:
            if _arrived(blobs, file) <= start:  # a connection that brought something is worth another one
                raise
    if file.sha256 and sha256(partial) != file.sha256:
        partial.unlink()
        raise OSError(f"{file.path} is not what the Hub has, and was removed")
    os.replace(partial, blobs / file.etag)


def _transfer(url: str, file: _File, partial: Path, start: int, progress: _Progress, before: int) -> None:
    """One connection: append to the partial file what it lacks. Raises httpx2's errors, and OSError for a short one."""
    from huggingface_hub import constants, get_session
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}  # compressed bytes could not be resumed
    if start:
        headers["Range"] = f"bytes={start}-"
    with partial.open("ab", buffering=0) as content:
        content.truncate(start)
        if start == file.size:
            return
        with get_session().stream("GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as response:
            hf_raise_for_status(response)
            if start and response.status_code != 206:  # the server sends all of it
                content.truncate(0)
            for chunk in response.iter_raw():
                content.write(chunk)
                progress.tell(before + content.tell())
        if content.tell() != file.size:
            raise OSError(f"{file.path} has {content.tell()} bytes where the Hub lists {file.size}")


def _arrived(blobs: Path, file: _File) -> int:
    """Bytes that an earlier attempt left; none where they cannot be the file's."""
    if (blobs / file.etag).exists():
        return file.size
    partial = blobs / f"{file.etag}.incomplete"
    size = partial.stat().st_size if partial.exists() else 0
    return size if size <= file.size else 0
