"""DVC at work: what is out of date, and commits that bless no lies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assets.project import Project
from assets.storage import write_text
from assets.versions import Fingerprint, Versions, dvc_entry, dvc_hash
from pipelines.dvc_files import (
    LOCK_WAIT_SECONDS,
    ON_DEMAND,
    REGISTRY,
    ROOT,
    alone,
    copy_of,
    default_steps,
    entries,
    known_steps,
    lock_of,
    recorded,
    targets,
    write_entries,
    write_files,
)
from pipelines.fingerprints import fingerprint, require_running_code, require_unchanged
from pipelines.steps import KINDS, Step, is_code, step_of
from wavecore.errors import BusyError, StorageError


def dvc(project: Project, *args: str) -> str:
    """Run one DVC command in the project's root and give its standard output.

    Another DVC process on the same repository is waited for.

    Raises:
        BusyError: the other process does not end.
        StorageError: DVC failed; its message is passed on.
    """
    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    while True:
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *args],
            cwd=project.root,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode == 0:
            return done.stdout
        text = done.stderr.strip() or done.stdout.strip()
        busy = "Unable to acquire lock" in text or "is busy" in text
        if "RWLock-file" in text and "corrupted" in text:
            # A DVC that was killed while it noted its locks. The note is only about processes that live.
            (project.root / ".dvc" / "tmp" / "rwlock").unlink(missing_ok=True)
            busy = True
        if not busy:
            lines = [line for line in text.splitlines() if line.strip()]
            raise StorageError(f"dvc {args[0]}: {' '.join(lines[-3:])}", "run `dvc doctor`, mend it and run again")
        if time.monotonic() > deadline:
            raise BusyError(
                f"dvc {args[0]}: another DVC process holds {project.root}", "wait until it ends and run again"
            )
        time.sleep(0.5)


def dirty(project: Project, steps: Sequence[Step]) -> set[str]:
    """Names of the steps whose artifacts are missing or no longer follow from what they depend on."""
    write_files(project)
    known = {s.name for s in known_steps(project)}
    unknown = {s.name for s in steps} - known
    asked = [s for s in steps if s.name in known]
    if not asked:
        return unknown
    status = json.loads(dvc(project, "status", "--json", *targets(project, asked)) or "{}")
    return unknown | {name.rsplit(":", 1)[-1] for name in status}


def _require_recorded(project: Project, step: Step, before: Fingerprint, but: str = "") -> None:
    """Stop if the step reads what DVC does not record for the step that makes it; the asset `but` is let pass.

    Raises:
        StorageError: naming the artifact and its step.
    """
    known = recorded(project)
    makers = {out: s for s in known_steps(project) if s.asset != but for out in s.outs}
    for path in step.deps:
        maker = makers.get(path)
        if maker is not None and before.deps[path] != known.get(path):
            raise StorageError(
                f"{step.name}: {path} is not what dvc.lock records for {maker.name}, so nothing was committed",
                f"wavecore materialize {maker.asset} '{maker.key}', then run this again",
            )


def commit(project: Project, step: Step, before: Fingerprint, hashes: Sequence[str]) -> None:
    """Commit one finished step.

    `dvc commit -f` accepts whatever lies there. So first: the step's dependencies and parameters must still be those
    it began with, what it made must still be there, and what it read from other steps must be what DVC records.

    Raises:
        StorageError: one of that does not hold. Nothing is committed.
    """
    with alone(project):
        _commit(project, step, before, hashes)


def _commit(project: Project, step: Step, before: Fingerprint, hashes: Sequence[str]) -> None:
    require_unchanged(project, step, before)
    _require_recorded(project, step, before)
    for path, value in zip(step.outs, hashes, strict=True):
        if dvc_hash(project.root / path) != value:
            raise StorageError(f"{path} changed after {step.name} wrote it; nothing was committed", "run it again")
    write_files(project, also=[step])
    _dvc_commit(project, targets(project, [step]))
    known = recorded(project)
    for path, value in zip(step.outs, hashes, strict=True):
        if known.get(path) != value:
            raise StorageError(f"{path}: DVC records {known.get(path)}, the run made {value}", "look at `dvc status`")


def require_registry(project: Project) -> None:
    """Stop where a registry is recorded that is not on this machine: a new one would take its place.

    Raises:
        StorageError: it must be pulled first.
    """
    if REGISTRY in recorded(project) and not (project.root / REGISTRY).is_dir():
        raise StorageError(
            f"{REGISTRY}: a registry of promoted models is recorded, but it is not on this machine",
            f"dvc pull {ON_DEMAND}:registry",
        )


def commit_registry(project: Project) -> None:
    """Track the registry of promoted models as a whole."""
    with alone(project):
        write_files(project)
        _dvc_commit(project, [f"{ON_DEMAND}:registry"])


def accept_code(project: Project, steps: Sequence[Step]) -> None:
    """Write the present code of steps into the lock files; what these say of data, settings and outs stays as it is.

    In one go, for `dvc commit` reads and writes a lock file anew for every step, and would take whatever lies there.

    Raises:
        StorageError: DVC finds that more than code differs, as it may have changed meanwhile; all is as before.
    """
    with alone(project):
        paths = [project.root / lock_of(file) for file in (ROOT, ON_DEMAND)]
        texts = [path.read_text(encoding="utf-8") if path.is_file() else None for path in paths]
        try:
            write_entries(project, {step.name: _with_code_of_now(project, step) for step in steps})
            left = json.loads(dvc(project, "status", "--json", *targets(project, steps)) or "{}")
            if left:
                raise StorageError(
                    f"accept: {', '.join(sorted(left))} changed while they were accepted; nothing was accepted",
                    "wait until no run is at work, then accept again",
                )
        except BaseException:  # also where the user interrupts: new locks beside no acceptance would look clean
            for path, text in zip(paths, texts, strict=True):
                path.unlink(missing_ok=True) if text is None else write_text(path, text)
            raise


def _with_code_of_now(project: Project, step: Step) -> dict[str, Any]:
    entry = entries(project)[step.name]
    data = {dep["path"]: dep for dep in entry["deps"] if not is_code(dep["path"])}
    return entry | {"deps": [dict(data.get(p) or dvc_entry(project.root, p)) for p in sorted(step.listed)]}


def _dvc_commit(project: Project, names: Sequence[str]) -> None:
    """Run `dvc commit`, which writes the lock files in place: copies beside them tell that they may be half written."""
    for file in (ROOT, ON_DEMAND):
        lock = project.root / lock_of(file)
        write_text(copy_of(project, file), lock.read_text(encoding="utf-8") if lock.is_file() else "")
    dvc(project, "commit", "-f", *names)
    for file in (ROOT, ON_DEMAND):
        copy_of(project, file).unlink(missing_ok=True)


class DvcVersions(Versions):
    """Commits each finished asset to DVC as the asset's own last act."""

    def begin(self, project: Project, asset: str, key: str) -> Fingerprint:
        step = step_of(project, asset, key)
        before = fingerprint(project, step)
        require_running_code(project, before)
        if not os.environ.get("DVC_STAGE"):
            # At once rather than after hours of training. A model whose seeds are not all there yet is not committed,
            # and may be judged all the same.
            _require_recorded(project, step, before, but="model")
        return before

    def outs(self, project: Project, asset: str, key: str) -> tuple[Path, ...]:
        return tuple(project.root / out for out in step_of(project, asset, key).outs)

    def require_unchanged(self, project: Project, asset: str, key: str, before: Fingerprint) -> None:
        require_unchanged(project, step_of(project, asset, key), before)

    def commit(self, project: Project, asset: str, key: str, before: Fingerprint, hashes: Sequence[str]) -> None:
        if not os.environ.get("DVC_STAGE"):  # set: DVC itself runs this step and will record it
            commit(project, step_of(project, asset, key), before, hashes)

    def artifacts(self, project: Project) -> list[tuple[str, str, list[Path]]]:
        order = [kind.asset for kind in KINDS]
        steps = sorted(known_steps(project), key=lambda s: (order.index(s.asset), s.key))
        return [(s.asset, s.key, [project.root / out for out in s.outs]) for s in steps]

    def commit_report(self, project: Project) -> None:
        """The report itself is hashed nowhere; its stage tells `dvc repro` whether it must be made again."""
        results = [out for s in default_steps(project) for out in s.outs if out.startswith("results/")]
        known = recorded(project)
        # Where the default matrix was never run, there is nothing that its report could follow from.
        whole = all(r in known and known[r] == dvc_hash(project.root / r) for r in results)
        if whole and not os.environ.get("DVC_STAGE"):
            with alone(project):
                _dvc_commit(project, ["report"])
