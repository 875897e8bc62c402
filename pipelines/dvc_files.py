"""The two files that hold DVC's stages, generated; their locks; and which of the steps stand in them.

`dvc.yaml` has the default matrix of params.yaml, so that `dvc repro` runs just that. `pipelines/on_demand/dvc.yaml` has
everything else that was ever run here, so that `dvc status`, `push`, `pull` and `metrics show` know it too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from ruamel.yaml import YAML, YAMLError

from assets.project import Project
from assets.storage import write_text
from pipelines.steps import ASSETS, KINDS, PER_STAGE, Step, step_of, steps_of
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
    *(f"assets/{name}.py" for name in ("report_online", "report_pictures", "drawing", "lineage", "lineage_graph")),
    *(f"assets/{name}.py" for name in ("figures", "figures_budget", "figures_wavelets", "gains", "results")),
    *(f"assets/{name}.py" for name in ("evaluation", "streamed", "streaming", "accepted")),
    "wavecore/judge",
)
LOCK_WAIT_SECONDS = 120


def lock_of(file: str) -> str:
    return file.replace(".yaml", ".lock")


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return _parse(path.read_text(encoding="utf-8")) or {}
    except YAMLError as error:
        raise StorageError(f"{path}: not valid YAML ({error})", "restore it with `git checkout`") from error


@lru_cache(maxsize=4)
def _parse(text: str) -> Any:
    """By DVC's own parser, to which 1e-05 is a number (to PyYAML it is a text).

    Nobody changes what this gives: a drive asks for the same four files some thirty times a step.
    """
    return YAML(typ="safe").load(text)


def _dumped_lock(stages: dict[str, Any]) -> str:
    """A lock file as DVC writes it: by its own function, which wraps long paths in its own way."""
    from dvc.utils.serialize import dumps_yaml  # type: ignore[import-untyped]

    text: str = dumps_yaml({"schema": "2.0", "stages": stages})
    return text


def _dumped(document: dict[str, Any]) -> str:
    """A pipeline file, by the library that DVC reads it with: a key like `1e5` gets its quotes."""
    emitter: Any = YAML(typ="safe")
    emitter.default_flow_style, emitter.allow_unicode, emitter.width = False, True, 200
    emitter.sort_base_mapping_type_on_output = False
    stream = StringIO()
    emitter.dump(document, stream)
    return stream.getvalue()


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
    if asset in PER_STAGE:
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
        key = "${item.benchmark}|${item.stage}" if kind.asset in PER_STAGE else None
        key = key or {
            "raw_series": "${item.dataset}",
            "series": "${item.dataset}",
            "splits": "${item.benchmark}",
            "prompts": "${item.benchmark}",
        }.get(kind.asset, "${item.features}")
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
        drawn = [out for s in steps if s.asset == "evaluation" for out in s.outs if out.startswith("results/")]
        document["plots"] = [
            {
                f"{prefix}{out}/steps.csv": {
                    "x": "step",
                    "y": "mse",
                    "title": f"MSE per horizon step: {' '.join(out.split('/')[1:])}",
                }
            }
            for out in drawn
        ]
    return _HEADER + _dumped(document)


@contextmanager
def alone(project: Project) -> Iterator[None]:
    """One process at a time reads, changes and commits the pipeline files; within a process it may be nested."""
    folder = project.store / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "pipeline.lock", is_singleton=True)
    try:
        lock.acquire(timeout=2 * LOCK_WAIT_SECONDS)
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
    with alone(project):
        return _write_files(project, also)


def _write_files(project: Project, also: Iterable[Step]) -> bool:
    default = default_steps(project)
    names = {s.name for s in default}
    locked = entries(project)
    # What left the default matrix before it was ever run here leaves the files. A step whose file was rewritten by a
    # process that was then killed is known from the locks alone.
    known = {s.name: s for s in known_steps(project)}
    alone_there = [_step_or_none(project, *name.split("@", 1)) for name in locked if "@" in name and name not in known]
    ever_run = [s for s in (*known.values(), *alone_there) if s is not None and s.name in locked]
    # A model stands there with all that makes what it reads, also with what it has come to read since it was run.
    pairs = [s.key.split("|") for s in ever_run if s.asset == "model"]
    whole = [s for benchmark, stage in pairs for s in steps_of(project, (benchmark,), (stage,))]
    before = [s for s in whole if ASSETS.index(s.asset) < ASSETS.index("model")]
    # Deduplicated by name: an item whose override key came or went replaces its older self.
    demand = {s.name: s for s in (*ever_run, *before, *also) if s.name not in names}
    wanted = {ROOT: default, ON_DEMAND: list(demand.values())}
    _keep_moving(project, wanted, locked)
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
        kept = {name: entry for name, entry in locked.items() if name in own}
        lock_path = project.root / lock_of(file)
        if kept != (_load(lock_path).get("stages") or {}):
            write_text(lock_path, _dumped_lock(kept))
            changed = True
    return changed


def _keep_moving(project: Project, wanted: Mapping[str, Sequence[Step]], locked: Mapping[str, Any]) -> None:
    """Write the lock entries that will leave one file for the other into the other one first, so that a kill between
    the two leaves them twice rather than nowhere."""
    for file, steps in wanted.items():
        path = project.root / lock_of(file)
        there = _load(path).get("stages") or {}
        coming = {s.name: locked[s.name] for s in steps if s.name in locked and s.name not in there}
        if coming:
            write_text(path, _dumped_lock({**there, **coming}))


def targets(project: Project, steps: Sequence[Step]) -> list[str]:
    """The steps as DVC targets: `stage`, or `file:stage` for those on demand."""
    in_root = {s.name for s in default_steps(project)}
    return [s.name if s.name in in_root else f"{ON_DEMAND}:{s.name}" for s in steps]


def recorded(project: Project) -> dict[str, str]:
    """Path → hash of every out that the lock files record."""
    return {out["path"]: out.get("md5", "") for entry in entries(project).values() for out in entry.get("outs", [])}


def entries(project: Project) -> dict[str, dict[str, Any]]:
    """Name of a DVC stage → what the lock files say of it."""
    found: dict[str, dict[str, Any]] = {}
    for file in (ROOT, ON_DEMAND):
        found |= _load(project.root / lock_of(file)).get("stages") or {}
    return found


def write_entries(project: Project, changed: Mapping[str, dict[str, Any]]) -> None:
    """Put entries into the lock files that have them already."""
    for file in (ROOT, ON_DEMAND):
        path = project.root / lock_of(file)
        there = _load(path).get("stages") or {}
        mine = {name: changed.get(name, entry) for name, entry in there.items()}
        if mine != there:
            write_text(path, _dumped_lock(mine))


def copy_of(project: Project, file: str) -> Path:
    return project.runs / "committing" / file.replace("/", "__").replace(".yaml", ".lock")


def _valid_lock(path: Path) -> bool:
    """Whether DVC would read this lock file: YAML that is cut off may still be YAML."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA  # type: ignore[import-untyped]
    from voluptuous import Invalid

    try:
        COMPILED_LOCKFILE_SCHEMA(_parse(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return True
    except (OSError, YAMLError, UnicodeDecodeError, Invalid):
        return False
    return True


def _mend_locks(project: Project) -> None:
    """Put back a lock file that a commit left half written when it was killed.

    Under the lock of `_alone` no commit is at work, so a copy that is still there is of one that never ended.
    """
    for file in (ROOT, ON_DEMAND):
        lock, copy = project.root / lock_of(file), copy_of(project, file)
        if not copy.is_file():
            continue
        if not _valid_lock(lock):
            # An empty copy: there was no lock file before that commit.
            text = copy.read_text(encoding="utf-8")
            write_text(lock, text) if text else lock.unlink(missing_ok=True)
            log.warning("%s was half written by a commit that was killed; it is as before that commit again", lock.name)
        copy.unlink(missing_ok=True)
