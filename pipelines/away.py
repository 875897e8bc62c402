"""The ladder on another machine: what is left goes out as a folder, its results come back and are checked."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from assets.project import Project, seed_folder
from assets.standing import state_of
from pipelines.ladder import Rung, rungs
from pipelines.plan import ground_of
from wavecore import stages
from wavecore.errors import DataError, StorageError

# Why results are refused.
WHY = {
    "of other settings": "of other settings, data or another language model than the project has now",
    "of other code": "of other code than the project has now",
    "changed": "changed since it was judged",
}


def export(project: Project, benchmark: str, chosen: tuple[str, ...], seeds: int, folder: Path) -> int:
    """Write what the ladder still wants to `folder`; returns how many stages and seeds that is.

    Raises:
        StorageError: the benchmark's series and splits are not made yet, or the disk refuses.
    """
    from assets.training import backbone_hash, judge_hash
    from wavecore.ladder import Wanted, code_of, write

    ground = ground_of(project, benchmark)
    wanted = []
    for rung in rungs(project, benchmark, chosen, seeds):
        if rung.state == "done":
            continue
        stage = stages.get(rung.stage)
        train = dataclasses.asdict(ground.train_settings(stage)) if stage.trained else {}
        config = ground.config(stage, rung.seed)
        code = code_of(stage.name, project.root)
        wanted.append(Wanted(stage.name, rung.seed, config, train, backbone_hash(ground, stage), code))
    shape, threads = ground.benchmark, ground.settings.train.threads
    judged_by, scene = judge_hash(ground), ground.scene
    write(folder, benchmark, shape.window, shape.horizon, scene, wanted, threads, ground.data_hash, judged_by)
    return len(wanted)


def take(project: Project, benchmark: str, folder: Path, chosen: tuple[str, ...] = ()) -> list[Rung]:
    """Take the results that `python -m wavecore.ladder` left in `folder` into `results/`.

    All are looked at before the first is taken: one that is broken, or not of the present settings, data, language
    model and code, is refused and with it all others. Each seed is then replaced in one move.

    Args:
        chosen: stages to take; () for all.

    Raises:
        StorageError: no result is there, or one does not belong to this project as it is now.
        DataError: losses that break the contract of an evaluation.
    """
    from assets.locks import partition_lock
    from assets.scoring import loss_contract, summaries
    from assets.storage import new_folder, read_json, to_json, write_text
    from assets.timings import timing_file
    from wavecore.judge.files import LOSSES, MANIFEST, METRICS
    from wavecore.ladder import RAN, read, results

    ground, away = ground_of(project, benchmark), read(folder)
    if away.benchmark != benchmark:
        raise StorageError(f"{folder}: of the benchmark {away.benchmark}, not {benchmark}", "name its own")
    taken: list[tuple[Rung, dict[str, str]]] = []
    for one in away.wanted:
        own = results(folder, one.stage, one.seed)
        if not (own / MANIFEST).is_file() or (chosen and one.stage not in chosen):
            continue
        state = state_of(project, ground, stages.get(one.stage), one.seed, own)
        if state != "done":
            raise StorageError(
                f"{own}: {WHY.get(state, state)}; nothing was taken",
                "export again, and run it with the same code there",
            )
        if not (own / RAN).is_file():
            raise StorageError(f"{own / RAN}: not there; nothing was taken", "run it again there")
        long, ran = read_json(own / METRICS), read_json(own / RAN)
        if [long.get(key) for key in ("benchmark", "stage", "seed")] != [benchmark, one.stage, one.seed]:
            raise StorageError(f"{own / METRICS}: of another stage or seed; nothing was taken", "run it again there")
        if loss_contract(ground, read_json(own / LOSSES)).blocking_failed:
            raise DataError(
                f"{own / LOSSES}: breaks the contract of an evaluation; nothing was taken", "run it again there"
            )
        files = {name: (own / name).read_text(encoding="utf-8") for name in (METRICS, LOSSES, MANIFEST)}
        taken.append((Rung(one.stage, one.seed, state), {**files, RAN: to_json(ran)}))
    if not taken:
        raise StorageError(f"{folder}: no result is there", f"python -m wavecore.ladder {folder}")
    for rung, files in taken:
        ran_there, target = files.pop(RAN), project.results(benchmark, rung.stage)
        with partition_lock(project, "evaluation", f"{benchmark}|{rung.stage}"):
            with new_folder(seed_folder(target, rung.seed), project.unfinished_for(target)) as new:
                for name, text in files.items():
                    write_text(new / name, text)
            summaries(target)
        write_text(timing_file(project, benchmark, rung.stage, rung.seed), ran_there)
    return [rung for rung, _ in taken]
