"""How long a seed took to train, to judge and to stream, where this machine did it: kept outside all that is hashed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assets.project import Project
from assets.storage import read_json, to_json, write_text


def timing_file(project: Project, benchmark: str, stage: str, seed: int) -> Path:
    return project.runs / "timings" / benchmark / stage / f"seed={seed}.json"


def timings(project: Project, benchmark: str, stage: str, seed: int) -> dict[str, Any]:
    """train_seconds, eval_seconds, `online` and so on; with `machine` of another one whose results were taken. Empty
    where nothing was timed here.

    Raises:
        StorageError: the file is broken.
    """
    path = timing_file(project, benchmark, stage, seed)
    return dict(read_json(path)) if path.is_file() else {}


def note(project: Project, benchmark: str, stage: str, seed: int, found: Mapping[str, Any], anew: bool = False) -> None:
    """Add `found` to what is noted of one seed, or, with `anew`, put it in its place."""
    before = {} if anew else timings(project, benchmark, stage, seed)
    write_text(timing_file(project, benchmark, stage, seed), to_json({**before, **found}))
