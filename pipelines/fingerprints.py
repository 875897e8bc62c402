"""What a step depends on, at one moment: the fingerprint that keeps a commit from blessing a lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assets.project import Project
from assets.versions import Fingerprint, dvc_hash
from pipelines.steps import Step, parameter
from wavecore.errors import StorageError

_CODE = ("assets", "data_contracts", "wavecore")
_STARTED_WITH: dict[Path, dict[str, str]] = {}


def fingerprint(project: Project, step: Step) -> Fingerprint:
    """What the step depends on, now."""
    params = project.params()
    return Fingerprint(
        deps={path: dvc_hash(project.root / path) for path in step.deps},
        params={key: parameter(params, key) for key in step.params},
    )


def _differences(before: Fingerprint, now: Fingerprint) -> list[str]:
    found = []
    for key, value in before.params.items():
        found += _param_differences(f"params.yaml: {key}", value, now.params.get(key))
    for path, value in before.deps.items():
        if now.deps.get(path) != value:
            found.append(f"{path} has other content")
    return found


def _param_differences(name: str, was: Any, now: Any) -> list[str]:
    if isinstance(was, dict) and isinstance(now, dict):
        keys = [k for k in {**was, **now} if was.get(k) != now.get(k)]
        return [line for k in keys for line in _param_differences(f"{name}.{k}", was.get(k), now.get(k))]
    return [] if was == now else [f"{name} was {was!r} and is {now!r}"]


def require_unchanged(project: Project, step: Step, before: Fingerprint) -> None:
    """Stop if what the step depends on is no longer what it began with.

    Raises:
        StorageError: naming each difference.
    """
    changed = _differences(before, fingerprint(project, step))
    if changed:
        raise StorageError(
            f"{step.name}: since the run began {'; '.join(changed)}. What it made was not kept",
            f"undo the edit, or run again: wavecore materialize {step.asset} '{step.key}'",
        )


def _code_on_disk(project: Project) -> dict[str, str]:
    return {
        str(path.relative_to(project.root)): dvc_hash(path) or ""
        for room in _CODE
        for path in sorted((project.root / room).rglob("*.py"))
    }


def require_running_code(project: Project, before: Fingerprint) -> None:
    """Stop where a step depends on code that was edited after this process loaded it: its hash would be a lie.

    Raises:
        StorageError: naming the files.
    """
    loaded = _STARTED_WITH.setdefault(project.root, _code_on_disk(project))
    now = _code_on_disk(project)
    changed = sorted(name for name in {**loaded, **now} if loaded.get(name) != now.get(name))
    used = [name for name in changed if any(name == dep or name.startswith(f"{dep}/") for dep in before.deps)]
    if used:
        raise StorageError(
            f"{', '.join(used)} changed since this process started, which still runs the old code; nothing was run",
            "run again (in the UI: reload the code location)",
        )


# Taken when this module is loaded, which is when the code of the other rooms is.
_STARTED_WITH[Project.find().root] = _code_on_disk(Project.find())
