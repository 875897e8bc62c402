"""Refactors that were accepted as result-equal: which code hashes stand for the same results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from assets.project import Project
from assets.storage import write_text
from wavecore.errors import StorageError


def record_file(project: Project) -> Path:
    """One JSON object per line; in git, so that a clone knows them too."""
    return project.root / "results" / "accepted.jsonl"


def records(project: Project) -> list[dict[str, Any]]:
    """All acceptances, oldest first."""
    path = record_file(project)
    if not path.is_file():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise StorageError(f"{path}, line {number}: not valid JSON", "restore it with `git checkout`") from error
    return found


@contextmanager
def recorded(project: Project, entry: dict[str, Any]) -> Iterator[None]:
    """Add one acceptance, and take it back if what is done under it fails. One process at a time."""
    path, before = record_file(project), records(project)
    text = path.read_text(encoding="utf-8") if path.is_file() else None
    write_text(path, "\n".join(json.dumps(e, sort_keys=True) for e in (*before, entry)) + "\n")
    try:
        yield
    except BaseException:
        path.unlink() if text is None else write_text(path, text)
        raise


def equal_code(project: Project, was: str, now: str) -> bool:
    """Whether code of hash `was` gives the results of `now`: as accepted in one or several steps, whichever came first.

    Two refactors of one code that were accepted apart are equal to each other, too.
    """
    if was == now:
        return True
    pairs = [pair for entry in records(project) for pair in entry.get("code", [])]
    reached, todo = {was}, [was]
    while todo:
        at = todo.pop()
        for pair in pairs:
            if at in pair:
                todo += [code for code in pair if code not in reached]
                reached.update(pair)
    return now in reached
