"""The ladder on another machine: what is left goes out as a folder, its results come back and are checked."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from assets.project import Project, seed_folder
from pipelines.ladder import Rung, rungs, state_of
from pipelines.plan import ground_of
from wavecore import stages
from wavecore.errors import StorageError


def export(project: Project, benchmark: str, chosen: tuple[str, ...], seeds: int, folder: Path) -> int:
    """Write what the ladder still wants to `folder`; returns how many stages and seeds that is.

    Raises:
        StorageError: the benchmark's series and splits are not made yet, or the disk refuses.
    """
    from assets.evaluation import judge_hash
    from assets.training import backbone_hash
    from wavecore.judge.scoring import Scene
    from wavecore.ladder import Wanted, write

    ground = ground_of(project, benchmark)
    wanted = []
    for rung in rungs(project, benchmark, chosen, seeds):
        if rung.state == "done":
            continue
        stage = stages.get(rung.stage)
        train = dataclasses.asdict(ground.train_settings(stage)) if stage.trained else {}
        config = ground.config(stage, rung.seed)
        wanted.append(Wanted(stage.name, rung.seed, config, train, backbone_hash(ground, stage)))
    settings, dataset = ground.settings, ground.dataset
    scene = Scene(ground.arrays, ground.borders, ground.scaler, dataset.season, settings.judge, dataset.event_times)
    shape = ground.benchmark
    threads = settings.train.threads
    write(folder, benchmark, shape.window, shape.horizon, scene, wanted, threads, ground.data_hash, judge_hash(ground))
    return len(wanted)


def take(project: Project, benchmark: str, folder: Path) -> list[Rung]:
    """Take the results that `python -m wavecore.ladder` left in `folder` into `results/`.

    All or none: what is not of the present settings, data, language model and code is refused.

    Raises:
        StorageError: no result is there, or one does not belong to this project as it is now.
    """
    from assets.evaluation import summaries
    from assets.locks import partition_lock
    from assets.model import timing_file
    from assets.storage import read_json, to_json, write_text
    from wavecore.judge.files import LOSSES, MANIFEST, METRICS
    from wavecore.ladder import RAN, read, results

    ground, away = ground_of(project, benchmark), read(folder)
    if away.benchmark != benchmark:
        raise StorageError(f"{folder}: of the benchmark {away.benchmark}, not {benchmark}", "name its own")
    found = [one for one in away.wanted if results(folder, one.stage, one.seed).is_dir()]
    if not found:
        raise StorageError(f"{folder}: no result is there", f"python -m wavecore.ladder {folder}")
    taken = []
    for one in found:
        own = results(folder, one.stage, one.seed)
        state = state_of(project, ground, stages.get(one.stage), one.seed, own)
        if state != "done":
            raise StorageError(
                f"{own}: {state} than the project here is; nothing was taken",
                "export again, and run it with the same code there",
            )
        taken.append(Rung(one.stage, one.seed, state))
    for rung in taken:
        source, target = results(folder, rung.stage, rung.seed), project.results(benchmark, rung.stage)
        with partition_lock(project, "evaluation", f"{benchmark}|{rung.stage}"):
            # The manifest last: without it the results of this seed count for nothing.
            for name in (METRICS, LOSSES, MANIFEST):
                write_text(seed_folder(target, rung.seed) / name, (source / name).read_text(encoding="utf-8"))
            summaries(target)
        write_text(timing_file(project, benchmark, rung.stage, rung.seed), to_json(read_json(source / RAN)))
    return taken
