"""`wavecore accept`: take refactored code as result-equal, on the record, without running anything again."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import UTC, datetime
from typing import Any

from assets import accepted
from assets.project import Project, seed_folder, seeds_in
from pipelines.dvc import DvcVersions, accept_code, dvc
from pipelines.dvc_files import alone, known_steps, targets, write_files
from pipelines.steps import Step, is_code
from wavecore import stages
from wavecore.errors import StorageError
from wavecore.learn.manifest import code_hash
from wavecore.rooms import ONLINE_ROOMS, judge_rooms, train_rooms


def _code_only(project: Project, names: dict[str, Step], status: dict[str, Any]) -> tuple[list[Step], list[str]]:
    """Split stale steps into those where nothing but code changed, and reasons for the others."""
    fine, others = [], []
    for name, changes in status.items():
        step = names.get(name.rsplit(":", 1)[-1])
        reasons = []
        for change in changes:
            if isinstance(change, str):
                reasons.append(change)
                continue
            for path, how in change.get("changed deps", {}).items():
                if isinstance(how, dict):
                    reasons += [f"{path}: {key} is {state}" for key, state in how.items()]
                elif not (is_code(path) and how in ("modified", "new")):  # new: a module that was split off
                    reasons.append(f"{path}: {how}")
            reasons += [f"{path}: {how}" for path, how in change.get("changed outs", {}).items()]
        if step is None or reasons:
            others.append(f"{name} ({'; '.join(reasons) or 'unknown stage'})")
        else:
            fine.append(step)
    return fine, others


def accept(project: Project, because: str) -> list[str]:
    """Record that the present code gives the same results, and commit it as such.

    Only steps where nothing but code changed are accepted.

    Returns:
        Names of the steps accepted.

    Raises:
        StorageError: nothing to accept, no reason given, or a step where more than code changed.
    """
    if not because.strip():
        raise StorageError(
            "accept: no reason given", 'wavecore accept --because "what was moved, and how it was shown to be equal"'
        )
    with alone(project):
        fine = _accept(project, because.strip())
    # The report reads the judge's code, too, and follows from the same results as before.
    DvcVersions().commit_report(project)
    return [s.name for s in fine]


def _accept(project: Project, because: str) -> list[Step]:
    write_files(project)
    # What is not on this machine cannot be accepted here, nor does it stand in the way of what is.
    steps = {s.name: s for s in known_steps(project) if all((project.root / out).exists() for out in s.outs)}
    names = targets(project, list(steps.values()))
    status = json.loads(dvc(project, "status", "--json", *names) or "{}") if names else {}
    fine, others = _code_only(project, steps, status)
    if others:
        listed = "\n  ".join(others)
        raise StorageError(
            f"accept: more than code changed; nothing was accepted:\n  {listed}",
            "`wavecore run` brings these up to date",
        )
    if not fine:
        raise StorageError("accept: no step is out of date", "nothing needs to be accepted")
    code = {tuple(pair) for step in fine for pair in _moved(project, step)}
    entry = {
        "because": because,
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit_of(project),
        "steps": [s.name for s in fine],
        "code": sorted(map(list, code)),
    }
    # First: after a kill between the two the same command goes on. The other way round the locks would be new, and no
    # step out of date any more, while models still counted as of other code.
    with accepted.recorded(project, entry):
        accept_code(project, fine)
    return fine


def _moved(project: Project, step: Step) -> list[tuple[str, str]]:
    """Old and new code hash of every seed of a model or evaluation."""
    rooms_of = {"model": train_rooms, "evaluation": judge_rooms, "online_evaluation": lambda family: ONLINE_ROOMS}
    if step.asset not in rooms_of:
        return []
    rooms = rooms_of[step.asset](stages.get(step.key.split("|")[1]).family)
    now = code_hash(rooms, project.root)
    folder = project.root / step.outs[0]
    found = []
    for seed in seeds_in(folder):
        was = json.loads((seed_folder(folder, seed) / "manifest.json").read_text(encoding="utf-8"))["code_hash"]
        if was != now:
            found.append((was, now))
    return found


def commit_of(project: Project) -> str:
    """The commit that the project is at; empty where there is no git."""
    if shutil.which("git") is None:
        return ""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=project.root, capture_output=True, text=True)
    return done.stdout.strip()
