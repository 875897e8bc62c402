"""Whether results, or a model, are those that a run now would end with, from what they say of themselves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from assets.accepted import equal_code
from assets.project import Project
from assets.storage import read_json
from wavecore import stages
from wavecore.judge.files import MANIFEST, intact
from wavecore.rooms import judge_rooms

if TYPE_CHECKING:
    from assets.training import Ground

# `changed`: metrics or losses are not those that the manifest was written with.
State = Literal["done", "of other settings", "of other code", "changed", "missing"]


def made_now(project: Project, ground: Ground, stage: stages.Stage, seed: int, folder: Path) -> bool:
    """Whether the model in `folder` is of the present settings, data and code, on whatever machine it was trained.

    Raises:
        StorageError: its manifest cannot be read.
    """
    from assets.training import expected_of
    from wavecore.learn.checkpoint import read_manifest

    found, expected = read_manifest(folder), expected_of(project, ground, stage, seed)
    same = all(found.get(key) == expected[key] for key in ("config_hash", "backbone_hash", "data_hash"))
    return same and equal_code(project, str(found.get("code_hash")), expected["code_hash"])


def state_of(project: Project, ground: Ground, stage: stages.Stage, seed: int, folder: Path) -> State:
    """Whether the results in `folder` are those that a run now would end with."""
    from assets.training import expected_of, judge_hash
    from wavecore.learn.manifest import code_hash

    if not (folder / MANIFEST).is_file():
        return "missing"
    found, expected = read_json(folder / MANIFEST), expected_of(project, ground, stage, seed)
    if not isinstance(found, dict):
        return "changed"
    same = {
        "config_hash": expected["config_hash"],
        "backbone_hash": expected["backbone_hash"],
        "data_hash": ground.data_hash,
        "settings": judge_hash(ground),
    }
    if any(found.get(key) != value for key, value in same.items()):
        return "of other settings"
    trained = equal_code(project, str(found.get("trained_by")), expected["code_hash"])
    judged = equal_code(project, str(found.get("code_hash")), code_hash(judge_rooms(stage.family), project.root))
    if not (trained and judged):
        return "of other code"
    return "done" if intact(folder, found) else "changed"
