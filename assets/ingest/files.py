"""Files written whole or not at all, and their hashes."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from assets.storage import disk_errors
from wavecore.errors import StorageError

_TEMPORARY = ".part-"


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sweep(folder: Path) -> None:
    """Remove what writers that were killed have left in `folder`."""
    for left in folder.glob(f"{_TEMPORARY}*"):
        left.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it takes the place of `path`, else it vanishes.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    temporary = path.with_name(f"{_TEMPORARY}{os.getpid()}-{path.name}")
    with disk_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def copy_whole(source: Path, path: Path) -> Path:
    """Copy `source` to `path`, byte for byte; an equal file already there is left alone."""
    return _put(path, lambda temporary: _copy(source, temporary), sha256_of(source))


def write_whole(path: Path, content: bytes) -> Path:
    """Write `content` to `path`; an equal file already there is left alone."""
    return _put(path, lambda temporary: _write(temporary, content), hashlib.sha256(content).hexdigest())


def _put(path: Path, write: Callable[[Path], object], sha256: str) -> Path:
    if path.is_file() and sha256_of(path) == sha256:
        return path
    with replacing(path) as temporary:
        write(temporary)
        # A file that changes while it is copied must not pass for the one that was checked.
        if sha256_of(temporary) != sha256:
            raise StorageError(f"{path}: the copy differs from its source", "run again when nobody writes to it")
    return path


def _copy(source: Path, temporary: Path) -> None:
    shutil.copyfile(source, temporary)


def _write(temporary: Path, content: bytes) -> None:
    temporary.write_bytes(content)
