"""Whether results, or a model, are those that a run now would end with, from what they say of themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from assets.accepted import equal_code
from assets.ingest.files import sha256_of
from assets.project import Project
from assets.storage import read_json
from wavecore import stages
from wavecore.judge.files import MANIFEST, RESULTS, intact
from wavecore.rooms import judge_rooms

if TYPE_CHECKING:
    from assets.training import Ground

# `changed`: metrics or losses are not those that the manifest was written with.
State = Literal["done", "of other settings", "of other code", "changed", "missing"]
# The key of the hashes of what lies in the store beside the results: name → SHA-256.
BESIDE = "beside"


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


def hashes_of(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """name → SHA-256 of files in `folder`, for the manifest that stands for them."""
    return {name: sha256_of(folder / name) for name in sorted(names)}


def stand(project: Project, results: Path, beside: Path, due: Mapping[str, Any], needed: Iterable[str]) -> bool:
    """Whether one seed has results, and files beside them, that follow from what is `due`, none changed since.

    The results themselves are looked at by who knows their files.

    Args:
        results, beside: the seed's folders in git and in the store.
        due: what their manifest would say now; code that was accepted as equal counts as the same.
        needed: names of the files that must lie in `beside`.
    """
    if not ((results / MANIFEST).is_file() and (beside / MANIFEST).is_file()):
        return False
    found = read_json(results / MANIFEST)
    if not isinstance(found, dict) or found != read_json(beside / MANIFEST):
        return False  # a run ended between the two
    same = {k: v for k, v in found.items() if k not in ("code_hash", RESULTS, BESIDE)} == {
        k: v for k, v in due.items() if k != "code_hash"
    }
    if not same or not equal_code(project, str(found.get("code_hash")), due["code_hash"]):
        return False
    # Results of before files had hashes are made again: nothing tells whether those are still the same.
    written = found.get(BESIDE) or {}
    return set(needed) <= set(written) and all(
        (beside / name).is_file() and sha256_of(beside / name) == value for name, value in written.items()
    )
