"""Versions of artifacts: the hash that DVC gives them, and the hook by which an asset commits what it made."""

from __future__ import annotations

import functools
import hashlib
import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from assets.project import Project
from wavecore.errors import StorageError

_IGNORED = ("__pycache__", ".pyc", ".DS_Store")


def _md5(path: Path) -> str:
    found = path.stat()
    return _md5_of(path, found.st_mtime_ns, found.st_size, found.st_ino)


@functools.lru_cache(maxsize=65536)
def _md5_of(path: Path, modified: int, size: int, inode: int) -> str:
    # The same file is asked for several times a step; its time, size and inode say whether it is still the same.
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def dvc_hash(path: Path) -> str | None:
    """The hash that DVC 3 records for `path`: md5 of a file's bytes, md5 of the sorted listing (+ `.dir`) of a folder.

    None where there is nothing.
    """
    if path.is_file():
        return _md5(path)
    if not path.is_dir():
        return None
    listing = [{"md5": _md5(file), "relpath": file.relative_to(path).as_posix()} for file in _files(path)]
    listing.sort(key=lambda entry: entry["relpath"])
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def dvc_entry(root: Path, path: str) -> dict[str, Any]:
    """What DVC 3 writes of the dependency `path`, below `root`, into a lock file.

    Raises:
        StorageError: there is nothing.
    """
    value = dvc_hash(root / path)
    if value is None:
        raise StorageError(f"{root / path}: not there", "restore it with `git checkout`")
    files = _files(root / path) if (root / path).is_dir() else [root / path]
    entry = {"path": path, "hash": "md5", "md5": value, "size": sum(file.stat().st_size for file in files)}
    return entry | ({"nfiles": len(files)} if value.endswith(".dir") else {})


def _files(folder: Path) -> list[Path]:
    """The files of a folder that DVC looks at."""
    return [
        file
        for file in folder.rglob("*")
        if file.is_file() and not any(part.endswith(_IGNORED) for part in file.relative_to(folder).parts)
    ]


def data_version(hashes: Sequence[str]) -> str:
    """One version for an artifact of one or several outs."""
    return hashes[0] if len(hashes) == 1 else "+".join(hashes)


@dataclass(frozen=True)
class Fingerprint:
    """What a step depends on, at one moment.

    Attributes:
        deps: path → DVC hash (None: not there).
        params: key of params.yaml → value.
    """

    deps: dict[str, str | None]
    params: dict[str, Any]


class Versions(dg.ConfigurableResource):  # type: ignore[type-arg]
    """How assets reach version control. The assets know this face only; pipelines/dvc.py fills it in."""

    @abstractmethod
    def begin(self, project: Project, asset: str, key: str) -> Fingerprint:
        """Note what the step depends on, before it reads anything."""

    @abstractmethod
    def outs(self, project: Project, asset: str, key: str) -> tuple[Path, ...]:
        """Where the step's artifacts lie."""

    @abstractmethod
    def require_unchanged(self, project: Project, asset: str, key: str, before: Fingerprint) -> None:
        """Stop if what the step depends on is no longer what it began with.

        Raises:
            WavecoreError: the message names each difference.
        """

    @abstractmethod
    def commit(self, project: Project, asset: str, key: str, before: Fingerprint, hashes: Sequence[str]) -> None:
        """Commit what the step made.

        Raises:
            WavecoreError: what it read or made is not what it was; nothing is committed.
        """

    @abstractmethod
    def artifacts(self, project: Project) -> list[tuple[str, str, list[Path]]]:
        """(asset, partition, folders) of every step known here, in the order of the data's way."""

    @abstractmethod
    def commit_report(self, project: Project) -> None:
        """Record that the report follows from the results it read, if those are what version control has."""
