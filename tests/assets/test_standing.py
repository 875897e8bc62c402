"""Which results stand: of what is due, by this code or code accepted as equal, and every file as it was written."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assets.accepted import recorded
from assets.project import Project
from assets.standing import BESIDE, hashes_of, stand
from wavecore.judge.files import RESULTS
from wavecore.rooms import JUDGE_ROOMS, ONLINE_ROOMS, TRAIN_ROOMS

ROOT = Path(__file__).resolve().parents[2]
DUE = {"model": "m", "data_hash": "d", "code_hash": "now"}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """One seed's results and the file beside them, as a run leaves them."""
    (tmp_path / "results").mkdir()
    for name in ("own", "beside"):
        (tmp_path / name).mkdir()
    (tmp_path / "beside" / "table").write_bytes(b"rows")
    say(tmp_path, DUE | {RESULTS: "r", BESIDE: hashes_of(tmp_path / "beside", ["table"])})
    return Project(tmp_path)


def say(root: Path, manifest: dict[str, Any], *names: str) -> None:
    for name in names or ("own", "beside"):
        (root / name / "manifest.json").write_text(json.dumps(manifest))


def stands(project: Project, due: dict[str, Any] = DUE, needed: tuple[str, ...] = ("table",)) -> bool:
    return stand(project, project.root / "own", project.root / "beside", due, needed)


def said(project: Project) -> dict[str, Any]:
    return dict(json.loads((project.root / "own" / "manifest.json").read_text()))


def test_whole_results_of_what_is_due_stand(project: Project) -> None:
    assert stands(project)
    assert not stands(project, DUE | {"data_hash": "other"})
    assert not stands(project, DUE | {"more": "than was said"})
    assert not stands(project, needed=("table", "another"))


def test_other_code_stands_only_once_it_is_accepted(project: Project) -> None:
    newer = DUE | {"code_hash": "newer"}
    assert not stands(project, newer)
    with recorded(project, {"code": [["now", "newer"]]}):
        assert stands(project, newer)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda root: (root / "beside" / "table").write_bytes(b"rowz"),
        lambda root: (root / "beside" / "table").write_bytes(b"ro"),
        lambda root: (root / "beside" / "table").unlink(),
        lambda root: (root / "beside" / "manifest.json").unlink(),
        lambda root: (root / "own" / "manifest.json").write_text("[]"),
        lambda root: say(root, DUE | {RESULTS: "r"}),
        lambda root: say(root, DUE | {RESULTS: "another", BESIDE: {}}, "beside"),
    ],
    ids=["edited", "truncated", "gone", "no manifest", "no mapping", "no hashes", "two manifests"],
)
def test_what_changed_since_it_was_written_does_not_stand(project: Project, spoil: Callable[[Path], Any]) -> None:
    spoil(project.root)
    assert not stands(project)


# Beside the rooms, what a seed's result is written, found, locked and reported with.
AROUND = {
    *("accepted", "ingest/files", "producing", "project", "standing", "storage", "timings"),
    "versions",
}


@pytest.mark.parametrize(
    ("module", "rooms"),
    [("fitting", TRAIN_ROOMS), ("scoring", JUDGE_ROOMS), ("streaming", ONLINE_ROOMS)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_module_that_a_number_goes_through_is_part_of_the_code_hash(module: str, rooms: tuple[str, ...]) -> None:
    """What trains, judges and streams a seed reads nothing of the assets that could change unseen."""
    todo, found = [module], set()
    while todo:
        name = todo.pop()
        found.add(name)
        tree = ast.parse((ROOT / "assets" / f"{name}.py").read_text())
        read = [
            node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("assets.")
        ]
        paths = {str(m).removeprefix("assets.").replace(".", "/") for m in read}
        todo += [p for p in paths - found - AROUND if f"assets/{name}.py" in rooms]
    assert {f"assets/{name}.py" for name in found - AROUND | {module}} <= set(rooms)
