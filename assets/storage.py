"""Writes that happen wholly or not at all.

A new artifact is written in a folder for unfinished work on its disk, then swapped in by renames. A process that dies
leaves either the old bytes or the new ones; what it left there is swept away by the next start.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from wavecore.errors import StorageError


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn 'no space left', 'read-only' and 'no permission' into one clear error that names `path`."""
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: ("the disk is full", "free some space and run again"),
            errno.EDQUOT: ("the disk quota is used up", "free some space and run again"),
            errno.EROFS: ("the disk is read-only", "mount it writable and run again"),
            errno.EACCES: ("no permission to write", "change the owner or the mode and run again"),
        }
        if error.errno not in reasons and "No space left" in str(error):
            error.errno = errno.ENOSPC
        if error.errno not in reasons:
            raise
        problem, fix = reasons[error.errno]
        raise StorageError(f"{path}: {problem}; what was there before is unchanged", fix) from error


def _me() -> str:
    # The start time beside the process id: ids are used again by the kernel.
    return f"{os.getpid()}-{int(psutil.Process().create_time())}"


def alive(owner: str) -> bool:
    """Whether the process written as `<pid>-<start second>` still runs."""
    pid, _, started = owner.partition("-")
    try:
        process = psutil.Process(int(pid))
        # A killed process that nobody has waited for yet still has an id, and does nothing any more.
        return abs(int(process.create_time()) - int(started)) <= 1 and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, ValueError):
        return False


def owner() -> str:
    """This process as `<pid>-<start second>`."""
    return _me()


def _aside(target: Path, tmp: Path) -> Path:
    return tmp / "aside" / "__".join(target.parts[-4:])


@contextmanager
def new_folder(target: Path, tmp: Path, before_swap: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """Yield an empty folder to fill; on success it takes the place of `target`, on any error `target` stays as it was.

    Args:
        target: the artifact's folder.
        tmp: a folder for unfinished work, on the same disk.
        before_swap: a last check; what it raises keeps `target` as it was.
    """
    with disk_errors(target):
        fresh = tmp / f"{_me()}-{uuid.uuid4().hex[:8]}"
        fresh.mkdir(parents=True)
        try:
            yield fresh
            for file in fresh.rglob("*"):
                if file.is_file():
                    with file.open("rb") as handle:
                        os.fsync(handle.fileno())
            before_swap()
            swap_in(fresh, target, tmp)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def swap_in(fresh: Path, target: Path, tmp: Path) -> None:
    """Put folder `fresh` in the place of `target`.

    A folder cannot be renamed onto a full one, so the old one steps aside first under a name that tells `recover`
    where it belongs.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(target, tmp)
    shutil.rmtree(aside, ignore_errors=True)
    if target.exists():
        aside.parent.mkdir(parents=True, exist_ok=True)
        write_text(aside.parent / f"{aside.name}.target", f"{_me()}\n{target}")
        os.replace(target, aside)
    os.replace(fresh, target)
    shutil.rmtree(aside, ignore_errors=True)
    (aside.parent / f"{aside.name}.target").unlink(missing_ok=True)


def recover(tmp: Path) -> list[Path]:
    """Undo what a killed process left: bring back folders that stepped aside, drop unfinished ones.

    Returns:
        The artifacts brought back.
    """
    back: list[Path] = []
    if not tmp.is_dir():
        return back
    for note in sorted((tmp / "aside").glob("[!.]*.target")):
        swapping, _, where = note.read_text().partition("\n")
        if alive(swapping):
            continue
        target, aside = Path(where), note.with_suffix("")
        if where and aside.exists() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(aside, target)
            back.append(target)
        shutil.rmtree(aside, ignore_errors=True)
        note.unlink(missing_ok=True)
    for left in tmp.iterdir():
        if left.name != "aside" and not alive("-".join(left.name.split("-")[:2])):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
    return back


_TEMPORARY = re.compile(r"\..+\.(\d+-\d+)(\.tmp)?")


def sweep(folder: Path) -> None:
    """Drop the temporary files that killed writers left in a folder (not in those below it)."""
    for left in folder.glob(".*"):
        found = _TEMPORARY.fullmatch(left.name)
        if found and left.is_file() and not alive(found[1]):
            left.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file atomically; `sweep` knows its temporary name."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temp = path.with_name(f".{path.name}.{_me()}.tmp")
        try:
            with temp.open("w", encoding="utf-8", newline="\n") as handle:
                handle.write(text)
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(temp, path)
        finally:
            temp.unlink(missing_ok=True)


def to_json(value: Any) -> str:
    """JSON whose bytes depend on the value alone: sorted keys, no NaN, a line end at the end."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def read_json(path: Path) -> Any:
    """Read a JSON file of the store; a broken one is an error that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StorageError(f"{path}: not valid JSON ({error})", "run the asset that writes it again") from error
