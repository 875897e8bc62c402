"""Climb the ladder where nothing but this package is: train and judge exported stages, such as on a machine with a GPU.

    wavecore ladder -b B --export FOLDER                    # where the project is
    python -m wavecore.ladder FOLDER [--minutes M]          # there: this package and the libraries that it needs
    wavecore ladder -b B --take FOLDER                      # at home again: results that are what was asked for

`FOLDER/ladder.json` says what is wanted (each model's whole config, the splits, how it is judged), `FOLDER/series.npz`
holds the series. Each stage and seed becomes `FOLDER/results/STAGE/seed=K/`: errors, losses, what they follow from, and
where it ran and how long. Stopped, it goes on where it was when it is run again: within a training, or with a model
that is trained and not judged.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from wavecore import stages
from wavecore.config import JudgeSettings, TrainSettings
from wavecore.errors import StorageError, WavecoreError
from wavecore.judge.files import MANIFEST, RESULTS, identity, intact, results_hash, texts
from wavecore.judge.scoring import Scene, score
from wavecore.learn.checkpoint import load_model, read_manifest, save_model, write_file
from wavecore.learn.device import place_of, threads
from wavecore.learn.finishing import finish, regress
from wavecore.learn.loop import train
from wavecore.learn.manifest import code_hash, hash_of, manifest, versions
from wavecore.model.build import from_config
from wavecore.rooms import judge_rooms, science, train_rooms
from wavecore.series.arrays import SeriesArrays
from wavecore.series.normalize import Scaler
from wavecore.series.splits import Borders
from wavecore.series.windows import WindowData
from wavecore.strict import build

ABOUT, SERIES, RAN = "ladder.json", "series.npz", "ran.json"
FORMAT = 2


@dataclass(frozen=True)
class Wanted:
    """One stage with one seed.

    Attributes:
        config: all that the model is built and trained from, see `from_config`.
        train: see TrainSettings; empty for a stage without weights.
        backbone_hash: of the language model that the asker has; None without one.
        code: hashes of the asker's code: `trains` and `judges` as results say them, whose part outside this package is
            not at work here, and `science`, the part that is and must be the same.
    """

    stage: str
    seed: int
    config: Mapping[str, Any]
    train: Mapping[str, Any]
    backbone_hash: str | None
    code: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Away:
    """What was exported.

    Attributes:
        folder: where it lies, and where results go.
        benchmark: its name.
        scene: what models are judged on.
        windows: the standardized series.
        wanted: seed by seed, up the ladder.
        count: CPU threads of judging.
        data_hash, settings: as they will stand in the results.
    """

    folder: Path
    benchmark: str
    scene: Scene
    windows: WindowData
    wanted: tuple[Wanted, ...]
    count: int
    data_hash: str
    settings: str


def write(
    folder: Path,
    benchmark: str,
    window: int,
    horizon: int,
    scene: Scene,
    wanted: list[Wanted],
    count: int,
    data_hash: str,
    settings: str,
) -> None:
    """Export: the inverse of `read`. A folder that is there keeps its results.

    Raises:
        StorageError: the disk refuses.
    """
    arrays = scene.arrays
    about = {
        "format": FORMAT,
        "benchmark": benchmark,
        "window": window,
        "horizon": horizon,
        "channels": list(arrays.channels),
        "borders": {name: list(getattr(scene.borders, name)) for name in ("train", "select", "decide", "test")},
        "season": scene.season,
        "segments": {name: [str(first), str(last)] for name, (first, last) in scene.segments.items()},
        "judge": {key: getattr(scene.settings, key) for key in JudgeSettings.__dataclass_fields__},
        "threads": count,
        "data_hash": data_hash,
        "settings": settings,
        "wanted": [
            {key: getattr(one, key) for key in ("stage", "seed", "config", "train", "backbone_hash", "code")}
            for one in wanted
        ],
    }
    with _disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        held = io.BytesIO()
        times = arrays.timestamps.astype("datetime64[us]").astype(np.int64)
        np.savez_compressed(held, timestamps=times, values=arrays.values, observed=arrays.observed)
        about["series_sha256"] = hashlib.sha256(held.getvalue()).hexdigest()
        write_file(folder / SERIES, held.getvalue())
        # Last: it names the series that it goes with.
        write_file(folder / ABOUT, _json(about))


def read(folder: Path) -> Away:
    """What was exported.

    Raises:
        StorageError: a missing or broken file, or one of another version; an entry that is no stage of this code.
    """
    fix = "export it again: wavecore ladder -b B --export FOLDER"
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            raise StorageError(f"{folder / ABOUT}: of format {about['format']}, this code reads {FORMAT}", fix)
        content = (folder / SERIES).read_bytes()
        if hashlib.sha256(content).hexdigest() != about["series_sha256"]:
            raise StorageError(f"{folder / SERIES}: not the series that {ABOUT} names", fix)
        with np.load(io.BytesIO(content), allow_pickle=False) as held:
            times, values, observed = (held[key] for key in ("timestamps", "values", "observed"))
        arrays = SeriesArrays(times.astype("datetime64[us]"), tuple(about["channels"]), values, observed)
        borders = Borders(**{name: (int(a), int(b)) for name, (a, b) in about["borders"].items()})
        segments = {
            name: (np.datetime64(first, "us"), np.datetime64(last, "us"))
            for name, (first, last) in about["segments"].items()
        }
        window, horizon, season = (int(about[key]) for key in ("window", "horizon", "season"))
        benchmark, data_hash, settings = (str(about[key]) for key in ("benchmark", "data_hash", "settings"))
        judge = build(JudgeSettings, about["judge"], str(folder / ABOUT))
        count = int(about["threads"])
        wanted = tuple(
            _wanted(one, benchmark, f"{folder / ABOUT}: wanted[{i}]") for i, one in enumerate(about["wanted"])
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(f"{folder}: no exported ladder, or a broken one ({error!r})", fix) from error
    scaler = Scaler.fit(arrays, borders.train)
    scene = Scene(arrays, borders, scaler, season, judge, segments)
    windows = WindowData.from_arrays(arrays, scaler, window, horizon)
    return Away(folder, benchmark, scene, windows, wanted, count, data_hash, settings)


def _wanted(entry: Mapping[str, Any], benchmark: str, where: str) -> Wanted:
    """One entry, whose stage and seed become a path: both must be what its config says, and be known here.

    Raises:
        StorageError: they are not.
    """
    one = Wanted(**entry)
    said = {key: one.config.get(key) for key in ("benchmark", "stage", "seed")}
    fix = "export it again, with the code that is here"
    if set(one.code) != {"trains", "judges", "science"} or not all(isinstance(v, str) for v in one.code.values()):
        raise StorageError(f"{where}: code: not the three hashes of the asker's code", fix)
    if type(one.seed) is not int or one.seed < 0 or stages.find(one.stage) is None:
        raise StorageError(f"{where}: {one.stage!r}, seed {one.seed!r}, is no stage and seed of this code", fix)
    if said != {"benchmark": benchmark, "stage": one.stage, "seed": one.seed}:
        raise StorageError(f"{where}: is of {benchmark} {one.stage} seed {one.seed}, its config of {said}", fix)
    return one


def code_of(stage: str, root: Path | None = None) -> dict[str, str]:
    """`code` of Wanted, of the code here; where this package is alone, `science` only.

    Args:
        root: of a whole project; None: this package alone.
    """
    family = stages.get(stage).family
    found = {"science": code_hash(science(family), root)}
    if root is None:
        return found
    return {**found, "trains": code_hash(train_rooms(family), root), "judges": code_hash(judge_rooms(family), root)}


def results(folder: Path, stage: str, seed: int) -> Path:
    """Where the results of one stage and seed lie."""
    return folder / "results" / stage / f"seed={seed}"


def _follows(away: Away, one: Wanted) -> dict[str, Any]:
    """What a model's manifest must say to be the one that is wanted."""
    return {
        "config_hash": hash_of(one.config),
        "data_hash": away.data_hash,
        "backbone_hash": one.backbone_hash,
        "code_hash": one.code["trains"],
    }


def done(away: Away, one: Wanted) -> bool:
    """Whether its results are there and whole, of these settings, this data, language model and code."""
    folder = results(away.folder, one.stage, one.seed)
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(found, dict):
        return False
    follows = _follows(away, one)
    expected = {**follows, "settings": away.settings, "trained_by": follows["code_hash"]}
    expected["code_hash"] = one.code["judges"]
    return all(found.get(key) == value for key, value in expected.items()) and intact(folder, found)


def climb(away: Away, seconds: float | None = None) -> Iterator[Wanted]:
    """Train and judge what is not done, one after another; gives each when it is done.

    Args:
        seconds: begin none after so many.

    Raises:
        WavecoreError: what a training, the disk, or a language model or code that is not the asker's says.
    """
    other = sorted({one.stage for one in away.wanted if one.code["science"] != code_of(one.stage)["science"]})
    if other:
        raise StorageError(
            f"{away.folder}: the code of wavecore here is not the asker's, for {', '.join(other)}",
            "copy the project's wavecore/ here, or export again with this code",
        )
    began = time.monotonic()
    for one in away.wanted:
        if done(away, one):
            continue
        if seconds is not None and time.monotonic() - began > seconds:
            return
        with _disk(away.folder):
            _run(away, one)
        yield one


def _run(away: Away, one: Wanted) -> None:
    models = away.folder / "models" / one.stage / f"seed={one.seed}"
    spent = models.with_name(f"{models.name}.seconds.json")
    model = _trained(away, one, models, spent)
    saved = read_manifest(models)
    with threads(away.count):
        scored = score(model.eval(), away.windows, away.scene, saved["dtype"])
    files = texts(away.benchmark, one.stage, one.seed, scored.rows, scored.losses)
    ran = {"eval_seconds": round(scored.seconds, 2), "device": saved["device"], "machine": _machine(saved)}
    if spent.is_file():
        ran |= json.loads(spent.read_text(encoding="utf-8"))
    follows = identity(saved, away.data_hash, away.settings, one.code["judges"])
    target = results(away.folder, one.stage, one.seed)
    target.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        write_file(target / name, text.encode())
    write_file(target / RAN, _json(ran))
    # Last: without one that fits the others count for nothing.
    write_file(target / MANIFEST, _json({**follows, RESULTS: results_hash(files)}))


def _trained(away: Away, one: Wanted, target: Path, spent: Path) -> nn.Module:
    """The trained model, saved in `target`, and its seconds in `spent`; one that is saved already is read.

    Raises:
        StorageError: the language model here is not the asker's.
    """
    settings = build(TrainSettings, one.train, f"{one.stage}: train") if one.train else TrainSettings()
    place, follows = place_of(settings), _follows(away, one)
    device, dtype = (place.device, place.precision) if one.train else ("cpu", "float32")
    same = {**follows, "device": device, "dtype": dtype, "versions": versions()}
    with suppress(StorageError):
        return load_model(target, from_config, same).model.to(device)
    model = from_config(one.config)
    if getattr(model, "identity", None) != one.backbone_hash:
        raise StorageError(
            f"{one.stage}: the language model here is not the one that the results are wanted for",
            "install the same one here, or set the backbone in params.yaml there and export again",
        )
    curve: list[dict[str, Any]] = []
    calibration: list[dict[str, Any]] = []
    steps = best = 0
    resume = target.with_name(f"{target.name}.resume")
    count = settings.threads if one.train else 1
    regression = regress(model, away.windows, away.scene.borders, device, count)
    if not one.train:
        calibration = finish(model, away.windows, away.scene.borders, settings, regression)
    else:
        began = time.monotonic()
        where = f"{away.benchmark} {one.stage} seed {one.seed}"
        run = train(model, away.windows, away.scene.borders, settings, one.seed, resume, hash_of(same), True, where)
        model, curve, steps, best = run.model, run.curve, run.steps, run.best_step
        calibration = finish(model, away.windows, away.scene.borders, settings, regression)
        # A run that went on after a stop does not know what it took before.
        seconds = {"train_seconds": round(time.monotonic() - began, 2)} if run.resumed_from is None else {}
        target.parent.mkdir(parents=True, exist_ok=True)
        write_file(spent, _json(seconds))
    full = manifest(
        model, config=one.config, data_hash=away.data_hash, rooms=science(stages.get(one.stage).family),
        seed=one.seed,
        threads=count, dtype=dtype, device=device, steps=steps, best_step=best,
        calibration=calibration,
    )  # fmt: skip
    save_model(target, model, one.config, curve, {**full, "code_hash": one.code["trains"]})
    shutil.rmtree(resume, ignore_errors=True)
    return model


def _machine(saved: Mapping[str, Any]) -> str:
    """What it ran on, in words."""
    if saved["device"] == "cuda":
        return torch.cuda.get_device_name()
    return f"{platform.machine()}, {os.cpu_count()} cores"


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n").encode()


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """Turn what the operating system says into an error for people."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{error.filename or folder}: {error.strerror or error}",
            "free space or correct the permissions, and run again",
        ) from error


def main(arguments: list[str] | None = None) -> int:
    """The command line; what is done is told on standard error, one JSON object per stage on standard output."""
    parser = argparse.ArgumentParser(
        "python -m wavecore.ladder", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="an exported ladder")
    parser.add_argument("--minutes", type=float, help="begin no training after so many")
    given = parser.parse_args(arguments)
    try:
        away = read(given.folder)
        left = sum(not done(away, one) for one in away.wanted)
        print(f"{len(away.wanted) - left} of {len(away.wanted)} done", file=sys.stderr)
        for one in climb(away, None if given.minutes is None else 60 * given.minutes):
            left -= 1
            ran = json.loads((results(away.folder, one.stage, one.seed) / RAN).read_text(encoding="utf-8"))
            print(json.dumps({"stage": one.stage, "seed": one.seed, **ran}), flush=True)
        if left:
            print(f"{left} left; run it again to go on", file=sys.stderr)
    except WavecoreError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
