"""The registry of promoted models: entries that never change, and one pointer per benchmark to the one that serves.

`store/registry/<benchmark>/<hash>/` is a copy of a trained model under the hash of its manifest, so no later training
can touch what serves. `champion.json` beside the entries is replaced atomically; rolling back moves it back.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assets.locks import partition_lock
from assets.project import Project, seed_folder, seeds_in
from assets.storage import new_folder, read_json, to_json, write_text
from data_contracts.catalog import check_name
from wavecore.errors import StorageError

POINTER = "champion.json"


@dataclass(frozen=True)
class Champion:
    """The model that serves a benchmark.

    Attributes:
        entry: name of its folder in the registry.
        stage, seed: what it was trained as.
        before: entries that served before it, newest last.
    """

    benchmark: str
    entry: str
    stage: str
    seed: int
    before: tuple[str, ...]


def registry(project: Project) -> Path:
    return project.store / "registry"


def _folder(project: Project, benchmark: str) -> Path:
    return registry(project) / check_name(benchmark, "benchmark")


def enter(project: Project, benchmark: str, stage: str, seed: int) -> str:
    """Copy a trained model into the registry and give its entry. The same model enters once.

    Raises:
        StorageError: there is no such model, or a file of it is not what its manifest says.
    """
    from wavecore.learn.checkpoint import load_model
    from wavecore.model.build import from_config

    source = seed_folder(project.models(benchmark, stage), seed)
    if not source.is_dir():
        has = ", ".join(map(str, seeds_in(source.parent))) or "none"
        raise StorageError(
            f"{benchmark} {stage} has no model of seed {seed} (seeds: {has})",
            f"wavecore run --benchmark {benchmark} --stage {stage} --seed {seed}",
        )
    manifest = load_model(source, from_config).manifest
    entry = str(manifest["manifest_hash"])[:20]
    target = _folder(project, benchmark) / entry
    if not target.exists():
        with new_folder(target, project.store / "tmp") as folder:
            shutil.copytree(source, folder, dirs_exist_ok=True)
    verify(project, benchmark, entry)
    return entry


def verify(project: Project, benchmark: str, entry: str) -> dict[str, Any]:
    """Read an entry back, strictly. Returns its config.

    Raises:
        StorageError: it is missing or was changed.
    """
    from wavecore.learn.checkpoint import load_model
    from wavecore.model.build import from_config

    folder = _folder(project, benchmark) / entry
    loaded = load_model(folder, from_config)
    if not str(loaded.manifest["manifest_hash"]).startswith(entry):
        raise StorageError(
            f"{folder}: holds another model than its name says", "`dvc checkout` brings the old bytes back"
        )
    return loaded.config


def champion(project: Project, benchmark: str) -> Champion | None:
    """The model that serves the benchmark; None where none was promoted."""
    path = _folder(project, benchmark) / POINTER
    if not path.is_file():
        return None
    found = read_json(path)
    return Champion(benchmark, found["entry"], found["stage"], found["seed"], tuple(found["before"]))


def promote(project: Project, benchmark: str, stage: str, seed: int) -> Champion:
    """Enter a trained model and point to it."""
    with partition_lock(project, "champion", benchmark):
        entry = enter(project, benchmark, stage, seed)
        now = champion(project, benchmark)
        if now is not None and now.entry == entry:
            return now
        before = () if now is None else (*now.before, now.entry)
        return _point(project, benchmark, entry, before)


def roll_back(project: Project, benchmark: str) -> Champion:
    """Point to the entry that served before.

    Raises:
        StorageError: there is none.
    """
    with partition_lock(project, "champion", benchmark):
        now = champion(project, benchmark)
        if now is None or not now.before:
            raise StorageError(f"{benchmark}: no champion served before the present one", "promote another model")
        return _point(project, benchmark, now.before[-1], now.before[:-1])


def _point(project: Project, benchmark: str, entry: str, before: tuple[str, ...]) -> Champion:
    config = verify(project, benchmark, entry)
    found = Champion(benchmark, entry, config["stage"], config["seed"], before)
    pointer = {"entry": entry, "stage": found.stage, "seed": found.seed, "before": list(before)}
    write_text(_folder(project, benchmark) / POINTER, to_json(pointer))
    return found
