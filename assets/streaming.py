"""One seed of a forecaster pushed through its test rows: what of `online_evaluation` a result follows from."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.project import Project, seed_folder, seeds_in
from assets.standing import BESIDE, hashes_of, stand
from assets.storage import read_json, to_json, write_text
from assets.timings import note
from wavecore.judge.files import MANIFEST, METRICS, RESULTS, identity, rows_json
from wavecore.rooms import ONLINE_ROOMS
from wavecore.stages import get as get_stage

if TYPE_CHECKING:
    from assets.producing import Work
    from assets.training import Ground
    from wavecore.stream.run import Ran
    from wavecore.stream.settings import OnlineSettings

STEPS = "steps.parquet"


def settings_of(ground: Ground, stage: str) -> OnlineSettings:
    """How the stage learns in a stream. A dataset that declares `missing: mask` has said what a missing value is."""
    online = ground.settings.online_of(ground.benchmark.name, stage)
    return dataclasses.replace(online, missing="skip") if ground.dataset.treatment.missing == "mask" else online


def due_of(project: Project, ground: Ground, stage: str, model: Path) -> dict[str, Any]:
    """What the results of a present run would say that they follow from."""
    from wavecore.learn.checkpoint import read_manifest
    from wavecore.learn.manifest import code_hash, hash_of

    settings = hash_of(dataclasses.asdict(settings_of(ground, stage)))
    return identity(read_manifest(model), ground.data_hash, settings, code_hash(ONLINE_ROOMS, project.root))


def stands(project: Project, results: Path, beside: Path, due: Mapping[str, Any]) -> bool:
    """Whether the results of one seed are there, whole, and what a run now would end with."""
    if not (results / METRICS).is_file() or not stand(project, results, beside, due, [STEPS]):
        return False
    return bool(read_json(results / MANIFEST).get(RESULTS) == _hash((results / METRICS).read_text(encoding="utf-8")))


def stream_seed(work: Work, ground: Ground, seed: int, due: dict[str, Any], others: list[int]) -> list[str]:
    """Stream one seed, or go on with it; the results of `others` stay. Returns what a user should know.

    Args:
        due: what the results follow from, for their manifest.
    """
    from tqdm import tqdm

    from assets.tables import write_parquet
    from wavecore.learn.checkpoint import load_model
    from wavecore.learn.device import threads
    from wavecore.learn.manifest import hash_of
    from wavecore.model.build import from_config
    from wavecore.stream import run
    from wavecore.stream.progress import Keeping

    benchmark, stage = work.key.split("|")
    trained = get_stage(stage).trained_as
    loaded = load_model(seed_folder(work.project.models(benchmark, trained), seed), from_config)
    online = settings_of(ground, stage)
    with (
        threads(ground.settings.train.threads),
        tqdm(unit="row", disable=None) as bar,
    ):

        def tick(running: str, due: int) -> Any:
            bar.reset(due)
            bar.set_description(f"{benchmark} {stage} seed {seed}: {running}")
            return bar.update

        bound = hash_of([due, ground.settings.train.threads])
        keep = Keeping(work.project.resume_online(benchmark, stage, seed), bound)
        found = run.through(loaded.model, ground.windows, ground.scene, online, seed, tick=tick, keep=keep)
    text = metrics_text(benchmark, stage, seed, found)
    with work.folders() as folders:
        copy_streams(work.outs, folders, others)
        own, beside = (seed_folder(folder, seed) for folder in folders)
        for folder in (own, beside):
            folder.mkdir()
        write_text(own / METRICS, text)
        write_parquet(beside / STEPS, [found.steps])
        whole = due | {RESULTS: _hash(text), BESIDE: hashes_of(beside, [STEPS])}
        for folder in (own, beside):
            write_text(folder / MANIFEST, to_json(whole))
        _summary(folders[0])
    shutil.rmtree(keep.folder, ignore_errors=True)
    if any("goes on" in line for line in keep.notes):
        # Nor is what an earlier run noted, which may be of other code or settings.
        keep.notes.append("what a step costs is not kept: it was timed in several processes")
        pace = {}
    else:
        pace = {name: {key: round(part, 4) for key, part in one._asdict().items()} for name, one in found.pace.items()}
    note(work.project, benchmark, stage, seed, {"online": pace})
    return [f"seed {seed}: {line}" for line in keep.notes]


def metrics_text(benchmark: str, stage: str, seed: int, found: Ran) -> str:
    """metrics.json of one seed."""
    from wavecore.stream.run import COLUMNS

    return rows_json(
        {
            "benchmark": benchmark,
            "stage": stage,
            "seed": seed,
            "split": "test",
            "columns": list(COLUMNS),
            "rows": [list(row) for row in found.rows],
            "stretches": found.stretches,
        }
    )


def value(long: Mapping[str, Any], learner: str, metric: str, key: str = "all") -> float | None:
    """One value out of a seed's metrics.json."""
    for own, m, k, found in long["rows"]:
        if (own, m, k) == (learner, metric, key):
            return None if found is None else float(found)
    return None


def learners_in(long: Mapping[str, Any]) -> list[str]:
    """The learners of a seed's metrics.json, in order."""
    return list(dict.fromkeys(row[0] for row in long["rows"]))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def copy_streams(sources: tuple[Path, ...], targets: tuple[Path, ...], seeds: list[int]) -> None:
    for source, target in zip(sources, targets, strict=True):
        for seed in seeds:
            if seed_folder(source, seed).is_dir():
                shutil.copytree(seed_folder(source, seed), seed_folder(target, seed))
    _summary(targets[0])


def _summary(folder: Path) -> None:
    """metrics.json over all seeds, for `dvc metrics`."""
    found = {}
    for seed in seeds_in(folder):
        path = seed_folder(folder, seed) / METRICS
        if path.is_file():
            long = read_json(path)
            found[f"seed={seed}"] = {
                name: {metric: value(long, name, metric) for metric in ("mse", "mae", "r2")}
                for name in learners_in(long)
            }
    write_text(folder / METRICS, to_json(found))
