"""DVC: the generated pipeline files, what is out of date, and commits that bless no lies.

Two files hold the stages. `dvc.yaml` has the default matrix of params.yaml, so that `dvc repro` runs just that.
`pipelines/on_demand/dvc.yaml` has everything else that was ever run here, so that `dvc status`, `push`, `pull` and
`metrics show` know it too.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from assets.project import Project
from assets.storage import write_text
from assets.versions import Fingerprint, Versions, dvc_hash
from pipelines.steps import KINDS, Step, parameter, step_of, steps_of
from wavecore.errors import BusyError, StorageError, WavecoreError

_HEADER = """\
# Written by `wavecore sync` from pipelines/steps.py, params.yaml and data_contracts/. Edit those, not this.
"""
ROOT = "dvc.yaml"
ON_DEMAND = "pipelines/on_demand/dvc.yaml"
REGISTRY = "store/registry"
log = logging.getLogger("wavecore")
REPORT_CODE = (
    *(f"assets/{name}.py" for name in ("report", "report_build", "report_data", "report_html", "report_page")),
    *(f"assets/{name}.py" for name in ("drawing", "figures", "lineage", "lineage_graph", "results")),
    "wavecore/judge",
)
_LOCK_WAIT_SECONDS = 120
# The safe loader; in C where PyYAML was built with it, since the lock files are read often.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def dvc(project: Project, *args: str) -> str:
    """Run one DVC command in the project's root and give its standard output.

    Another DVC process on the same repository is waited for.

    Raises:
        BusyError: the other process does not end.
        StorageError: DVC failed; its message is passed on.
    """
    deadline = time.monotonic() + _LOCK_WAIT_SECONDS
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


def lock_of(file: str) -> str:
    return file.replace(".yaml", ".lock")


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader) or {}  # noqa: S506  a safe loader
    except yaml.YAMLError as error:
        raise StorageError(f"{path}: not valid YAML ({error})", "restore it with `git checkout`") from error


def default_steps(project: Project) -> list[Step]:
    """The steps of the default matrix of params.yaml."""
    pipeline = project.settings().pipeline
    return steps_of(project, pipeline.benchmarks, pipeline.stages)


def known_steps(project: Project) -> list[Step]:
    """Every step that stands in one of the two files."""
    found = [
        (asset, key)
        for file in (ROOT, ON_DEMAND)
        for asset, group in (_load(project.root / file).get("stages") or {}).items()
        for key in group.get("foreach") or {}
    ]
    return [step for asset, key in found if (step := _step_or_none(project, asset, key)) is not None]


def _step_or_none(project: Project, asset: str, key: str) -> Step | None:
    # A benchmark or stage that has since been taken away leaves the files with it.
    if asset in ("model", "evaluation"):
        key = key.replace(".", "|", 1)
    try:
        return step_of(project, asset, key)
    except WavecoreError:
        return None


def _has_registry(project: Project) -> bool:
    return REGISTRY in recorded(project) or (project.root / REGISTRY).is_dir()


def _content(project: Project, steps: Sequence[Step], file: str) -> str:
    up = "/".join([".."] * file.count("/"))
    stages: dict[str, Any] = {}
    for kind in KINDS:
        own = [s for s in steps if s.asset == kind.asset]
        if not own:
            continue
        key = "${item.benchmark}|${item.stage}" if kind.asset in ("model", "evaluation") else None
        key = key or {"raw_series": "${item.dataset}", "series": "${item.dataset}", "splits": "${item.benchmark}"}.get(
            kind.asset, "${item.features}"
        )
        do: dict[str, Any] = {"wdir": up} if up else {}
        do |= {"cmd": f"wavecore materialize {kind.asset} '{key}'", "deps": list(kind.deps)}
        if kind.params:
            do["params"] = list(kind.params)
        outs: list[Any] = []
        for out in kind.outs:
            flags: dict[str, Any] = {"persist": True}
            if out.startswith("results/"):
                flags = {"cache": False, "persist": True}
            outs.append({out: flags})
        do["outs"] = outs
        stages[kind.asset] = {"foreach": {s.name.split("@", 1)[1]: dict(s.item) for s in own}, "do": do}
    document: dict[str, Any] = {"stages": stages}
    results = [out for s in steps for out in s.outs if out.startswith("results/")]
    if file == ROOT:
        report_deps = [*REPORT_CODE, *results]
        stages["report"] = {"cmd": "wavecore materialize report", "deps": report_deps, "params": ["judge"]}
    elif _has_registry(project):
        # Frozen: entries are made by promotion, never by `dvc repro`.
        outs = [{REGISTRY: {"persist": True}}]
        stages["registry"] = {"wdir": up, "cmd": "wavecore champion", "frozen": True, "outs": outs}
    prefix = f"{up}/" if up else ""
    if results:
        document["metrics"] = [f"{prefix}{out}/metrics.json" for out in results]
        document["plots"] = [
            {
                f"{prefix}{out}/steps.csv": {
                    "x": "step",
                    "y": "mse",
                    "title": f"MSE per horizon step: {' '.join(out.split('/')[1:])}",
                }
            }
            for out in results
        ]
    return _HEADER + yaml.safe_dump(document, sort_keys=False, width=200, allow_unicode=True)


@contextmanager
def _alone(project: Project) -> Iterator[None]:
    """One process at a time reads, changes and commits the pipeline files; within a process it may be nested."""
    folder = project.store / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "pipeline.lock", is_singleton=True)
    try:
        lock.acquire(timeout=2 * _LOCK_WAIT_SECONDS)
    except Timeout:
        raise BusyError("another process is changing the pipeline files", "wait until it ends and run again") from None
    try:
        _mend_locks(project)
        yield
    finally:
        lock.release()


def write_files(project: Project, also: Iterable[Step] = ()) -> bool:
    """Bring both files up to date with params.yaml and the catalog, and take `also` up into the one on demand.

    Lock entries move with their stages.

    Returns:
        Whether anything changed.
    """
    with _alone(project):
        return _write_files(project, also)


def _write_files(project: Project, also: Iterable[Step]) -> bool:
    default = default_steps(project)
    names = {s.name for s in default}
    locked: dict[str, Any] = {}
    for file in (ROOT, ON_DEMAND):
        locked |= _load(project.root / lock_of(file)).get("stages") or {}
    # What left the default matrix before it was ever run here leaves the files.
    ever_run = [s for s in known_steps(project) if s.name in locked]
    # Deduplicated by name: an item whose override key came or went replaces its older self.
    demand = {s.name: s for s in (*ever_run, *also) if s.name not in names}
    wanted = {ROOT: default, ON_DEMAND: list(demand.values())}
    changed = False
    for file, steps in wanted.items():
        text = _content(project, steps, file) if steps or _has_registry(project) else None
        path = project.root / file
        if text is None:
            if path.exists():
                path.unlink()
                (project.root / lock_of(file)).unlink(missing_ok=True)
                changed = True
            continue
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)
            changed = True
        own = {s.name for s in steps} | ({"report"} if file == ROOT else {"registry"})
        entries = {name: entry for name, entry in locked.items() if name in own}
        lock_path = project.root / lock_of(file)
        if entries != (_load(lock_path).get("stages") or {}):
            write_text(
                lock_path, yaml.safe_dump({"schema": "2.0", "stages": entries}, sort_keys=False, allow_unicode=True)
            )
            changed = True
    return changed


def targets(project: Project, steps: Sequence[Step]) -> list[str]:
    """The steps as DVC targets: `stage`, or `file:stage` for those on demand."""
    in_root = {s.name for s in default_steps(project)}
    return [s.name if s.name in in_root else f"{ON_DEMAND}:{s.name}" for s in steps]


def recorded(project: Project) -> dict[str, str]:
    """Path → hash of every out that the lock files record."""
    found: dict[str, str] = {}
    for file in (ROOT, ON_DEMAND):
        for entry in (_load(project.root / lock_of(file)).get("stages") or {}).values():
            found |= {out["path"]: out.get("md5", "") for out in entry.get("outs", [])}
    return found


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
    with _alone(project):
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


def commit_registry(project: Project) -> None:
    """Track the registry of promoted models as a whole."""
    with _alone(project):
        write_files(project)
        _dvc_commit(project, [f"{ON_DEMAND}:registry"])


def accept_as_is(project: Project, steps: Sequence[Step]) -> None:
    """Commit steps as they lie there; `wavecore accept` has made sure that only code changed."""
    with _alone(project):
        _dvc_commit(project, targets(project, steps))


def _dvc_commit(project: Project, names: Sequence[str]) -> None:
    """Run `dvc commit`, which writes the lock files in place: copies beside them tell that they may be half written."""
    for file in (ROOT, ON_DEMAND):
        lock = project.root / lock_of(file)
        write_text(_copy_of(project, file), lock.read_text(encoding="utf-8") if lock.is_file() else "")
    dvc(project, "commit", "-f", *names)
    for file in (ROOT, ON_DEMAND):
        _copy_of(project, file).unlink(missing_ok=True)


def _copy_of(project: Project, file: str) -> Path:
    return project.runs / "committing" / file.replace("/", "__").replace(".yaml", ".lock")


def _valid_lock(path: Path) -> bool:
    """Whether DVC would read this lock file: YAML that is cut off may still be YAML."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA  # type: ignore[import-untyped]
    from voluptuous import Invalid

    try:
        COMPILED_LOCKFILE_SCHEMA(yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader))  # noqa: S506  a safe loader
    except FileNotFoundError:
        return True
    except (OSError, yaml.YAMLError, UnicodeDecodeError, Invalid):
        return False
    return True


def _mend_locks(project: Project) -> None:
    """Put back a lock file that a commit left half written when it was killed.

    Under the lock of `_alone` no commit is at work, so a copy that is still there is of one that never ended.
    """
    for file in (ROOT, ON_DEMAND):
        lock, copy = project.root / lock_of(file), _copy_of(project, file)
        if not copy.is_file():
            continue
        if not _valid_lock(lock):
            # An empty copy: there was no lock file before that commit.
            text = copy.read_text(encoding="utf-8")
            write_text(lock, text) if text else lock.unlink(missing_ok=True)
            log.warning("%s was half written by a commit that was killed; it is as before that commit again", lock.name)
        copy.unlink(missing_ok=True)


_CODE = ("assets", "data_contracts", "wavecore")
_STARTED_WITH: dict[Path, dict[str, str]] = {}


def _code_on_disk(project: Project) -> dict[str, str]:
    return {
        str(path.relative_to(project.root)): dvc_hash(path) or ""
        for room in _CODE
        for path in sorted((project.root / room).rglob("*.py"))
    }


def _require_running_code(project: Project, before: Fingerprint) -> None:
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


class DvcVersions(Versions):
    """Commits each finished asset to DVC as the asset's own last act."""

    def begin(self, project: Project, asset: str, key: str) -> Fingerprint:
        step = step_of(project, asset, key)
        before = fingerprint(project, step)
        _require_running_code(project, before)
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
            with _alone(project):
                _dvc_commit(project, ["report"])


# Taken when this module is loaded, which is when the code of the other rooms is.
_STARTED_WITH[Project.find().root] = _code_on_disk(Project.find())
