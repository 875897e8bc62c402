"""One process at a time per partition: operating-system file locks, which the kernel frees when a process dies."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from assets.project import Project
from assets.storage import alive, owner
from wavecore.errors import BusyError


def _holder(note: Path) -> str:
    try:
        held = json.loads(note.read_text())
    except (OSError, json.JSONDecodeError):
        return "another process"
    return (
        f"process {held['owner'].split('-')[0]} (since {held['since']})" if alive(held["owner"]) else "another process"
    )


def _say(note: Path) -> None:
    note.write_text(json.dumps({"owner": owner(), "since": time.strftime("%H:%M:%S"), "pid": os.getpid()}))


@contextmanager
def partition_lock(project: Project, asset: str, key: str) -> Iterator[None]:
    """Hold the one lock of `asset` × `key`.

    Raises:
        BusyError: another process is at work on the same partition. It is not waited for.
    """
    folder = project.store / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{asset}.{key.replace('|', '.')}.lock"
    note = path.with_suffix(".json")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BusyError(
            f"{asset} of {key}: {_holder(note)} is already at work on it; nothing was changed",
            "wait until it ends, or stop it, and run again",
        ) from None
    try:
        _say(note)
        yield
    finally:
        lock.release()


@contextmanager
def compute_lock(project: Project, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the machine's compute: training runs of different partitions queue here, one after the other."""
    folder = project.store / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock, note = FileLock(folder / "compute.lock"), folder / "compute.json"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"waiting for the machine: {_holder(note)} is training")
        lock.acquire()
    try:
        _say(note)
        yield
    finally:
        lock.release()
