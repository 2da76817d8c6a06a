"""Which models are served, and when each was last: small files beside a model's folder, never in it.

Where nothing can be written nothing is said, and serving goes on: a models folder may be read-only.
"""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

BUILD = re.compile(r"([0-9a-f]{12})-(\d+)")  # a build's folder: the recipe's hash, and its number


@contextmanager
def serving(folder: Path) -> Iterator[None]:
    """Say that a build is being served for as long as this is open, and that it was used now.

    Any number of processes may; each has a lock of its own, which ends with the process. A folder that a user put
    elsewhere gets nothing beside it.
    """
    if not BUILD.fullmatch(folder.name):
        yield
        return
    lock = FileLock(_lock_name(folder, secrets.token_hex(4)))
    with suppress(OSError, NotImplementedError):  # a read-only folder; a file system without locks
        _record(folder).touch()
        lock.acquire(timeout=0)
    try:
        yield
    finally:
        if lock.is_locked:
            lock.release()
            with suppress(OSError):
                Path(lock.lock_file).unlink()


def is_served(folder: Path) -> bool:
    """Whether some process serves this build. Locks that a killed one left are removed."""
    found = False
    for file in folder.parent.glob(_lock_name(folder, "*").name):
        lock = FileLock(file)
        try:
            lock.acquire(timeout=0)
        except (Timeout, PermissionError):  # another user's, of which nobody can tell
            found = True
        except (OSError, NotImplementedError):
            continue
        else:
            lock.release()
            with suppress(OSError):
                file.unlink()
    return found


def last_used(folder: Path) -> float | None:
    """When a build of this recipe was last served, in seconds since the epoch; None where nothing was said."""
    try:
        return _record(folder).stat().st_mtime
    except OSError:
        return None


def forget(folder: Path) -> None:
    """Remove what was said of a build's recipe."""
    with suppress(OSError):
        _record(folder).unlink()


def _record(folder: Path) -> Path:
    return folder.with_name(f".used-{folder.name.rpartition('-')[0]}")


def _lock_name(folder: Path, mark: str) -> Path:
    return folder.with_name(f".serving-{folder.name}.{mark}.lock")
