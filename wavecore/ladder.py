"""Climb the ladder where nothing but this package is: train and judge exported stages, such as on a machine with a GPU.

    wavecore ladder -b B --export FOLDER                    # where the project is
    python -m wavecore.ladder FOLDER [--minutes M]          # there: this package, torch and transformers are enough
    wavecore ladder -b B --take FOLDER                      # at home again: results that are what was asked for

`FOLDER/ladder.json` says what is wanted (each model's whole config, the splits, how it is judged), `FOLDER/series.npz`
holds the series. Each stage and seed becomes `FOLDER/results/STAGE/seed=K/`: errors, losses, what they follow from, and
where it ran and how long. Stopped, it goes on where it was when it is run again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from wavecore.config import JudgeSettings, TrainSettings, build
from wavecore.errors import StorageError, WavecoreError
from wavecore.judge.files import MANIFEST, identity, texts
from wavecore.judge.scoring import Scene, score
from wavecore.learn.calibrate import calibrate
from wavecore.learn.checkpoint import read_manifest, save_model
from wavecore.learn.device import place_of, threads
from wavecore.learn.loop import train
from wavecore.learn.manifest import code_hash, hash_of, manifest, versions
from wavecore.model.build import from_config
from wavecore.model.time_llm import TimeLLM
from wavecore.rooms import JUDGE_ROOMS, TRAIN_ROOMS
from wavecore.series.arrays import SeriesArrays
from wavecore.series.normalize import Scaler
from wavecore.series.splits import Borders
from wavecore.series.windows import WindowData

ABOUT, SERIES, RAN = "ladder.json", "series.npz", "ran.json"
FORMAT = 1


@dataclass(frozen=True)
class Wanted:
    """One stage with one seed.

    Attributes:
        config: all that the model is built and trained from, see `from_config`.
        train: see TrainSettings; () for a stage without weights.
        backbone_hash: of the language model that the asker has; None without one.
    """

    stage: str
    seed: int
    config: Mapping[str, Any]
    train: Mapping[str, Any]
    backbone_hash: str | None


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
        "events": {name: [str(first), str(last)] for name, (first, last) in scene.events.items()},
        "judge": {key: getattr(scene.settings, key) for key in JudgeSettings.__dataclass_fields__},
        "threads": count,
        "data_hash": data_hash,
        "settings": settings,
        "wanted": [
            {key: getattr(one, key) for key in ("stage", "seed", "config", "train", "backbone_hash")} for one in wanted
        ],
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{SERIES}.part.npz"
        times = arrays.timestamps.astype("datetime64[us]").astype(np.int64)
        np.savez_compressed(part, timestamps=times, values=arrays.values, observed=arrays.observed)
        os.replace(part, folder / SERIES)
        # Last: a folder without it is none.
        _write(folder / ABOUT, json.dumps(about, indent=1, sort_keys=True, allow_nan=False) + "\n")
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror or error}", "free space or name another folder") from error


def read(folder: Path) -> Away:
    """What was exported.

    Raises:
        StorageError: a missing or broken file, or one of another version.
    """
    fix = "export it again: wavecore ladder -b B --export FOLDER"
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            raise StorageError(f"{folder / ABOUT}: of format {about['format']}, this code reads {FORMAT}", fix)
        with np.load(folder / SERIES, allow_pickle=False) as held:
            times, values, observed = (held[key] for key in ("timestamps", "values", "observed"))
        arrays = SeriesArrays(times.astype("datetime64[us]"), tuple(about["channels"]), values, observed)
        borders = Borders(**{name: (int(a), int(b)) for name, (a, b) in about["borders"].items()})
        wanted = tuple(Wanted(**one) for one in about["wanted"])
        events = {
            name: (np.datetime64(first, "us"), np.datetime64(last, "us"))
            for name, (first, last) in about["events"].items()
        }
        window, horizon, season = (int(about[key]) for key in ("window", "horizon", "season"))
        benchmark, data_hash, settings = (str(about[key]) for key in ("benchmark", "data_hash", "settings"))
        judge = build(JudgeSettings, about["judge"], str(folder / ABOUT))
        count = int(about["threads"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{folder}: no exported ladder, or a broken one ({error})", fix) from error
    scaler = Scaler.fit(arrays, borders.train)
    scene = Scene(arrays, borders, scaler, season, judge, events)
    windows = WindowData.from_arrays(arrays, scaler, window, horizon)
    return Away(folder, benchmark, scene, windows, wanted, count, data_hash, settings)


def results(folder: Path, stage: str, seed: int) -> Path:
    """Where the results of one stage and seed lie."""
    return folder / "results" / stage / f"seed={seed}"


def done(away: Away, one: Wanted) -> bool:
    """Whether its results are there, of these settings, this data and this code."""
    path = results(away.folder, one.stage, one.seed) / MANIFEST
    if not path.is_file():
        return False
    found = json.loads(path.read_text(encoding="utf-8"))
    expected = {
        "config_hash": hash_of(one.config),
        "data_hash": away.data_hash,
        "settings": away.settings,
        "trained_by": code_hash(TRAIN_ROOMS),
        "code_hash": code_hash(JUDGE_ROOMS),
    }
    return all(found.get(key) == value for key, value in expected.items())


def climb(away: Away, seconds: float | None = None) -> Iterator[Wanted]:
    """Train and judge what is not done, one after another; gives each when it is done.

    Args:
        seconds: begin none after so many.

    Raises:
        WavecoreError: what a training or a language model that is not the asker's says.
    """
    began = time.monotonic()
    for one in away.wanted:
        if done(away, one):
            continue
        if seconds is not None and time.monotonic() - began > seconds:
            return
        _run(away, one)
        yield one


def _run(away: Away, one: Wanted) -> None:
    model = from_config(one.config)
    found = getattr(model, "identity", None)
    if found != one.backbone_hash:
        raise StorageError(
            f"{one.stage}: the language model here is not the one that the results are wanted for",
            "install the same one here, or set the backbone in params.yaml there and export again",
        )
    models = away.folder / "models" / one.stage / f"seed={one.seed}"
    trained, spent = _trained(away, one, model, models)
    saved = read_manifest(models)
    with threads(away.count):
        scored = score(trained.eval(), away.windows, away.scene, saved["dtype"])
    target = results(away.folder, one.stage, one.seed)
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name, text in texts(away.benchmark, one.stage, one.seed, scored.rows, scored.losses).items():
        _write(part / name, text)
    ran = {**spent, "eval_seconds": round(scored.seconds, 2), "device": saved["device"], "machine": _machine(saved)}
    _write(part / RAN, json.dumps(ran, indent=1, sort_keys=True) + "\n")
    follows = identity(saved, away.data_hash, away.settings, code_hash(JUDGE_ROOMS))
    _write(part / MANIFEST, json.dumps(follows, indent=1, sort_keys=True) + "\n")
    shutil.rmtree(target, ignore_errors=True)
    os.replace(part, target)


def _trained(away: Away, one: Wanted, model: nn.Module, target: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The trained model, saved, and its seconds; a stage without weights is saved as it is."""
    settings = build(TrainSettings, one.train, f"{one.stage}: train") if one.train else TrainSettings()
    place = place_of(settings)
    curve: list[dict[str, Any]] = []
    calibration: list[dict[str, Any]] = []
    steps = best = 0
    spent: dict[str, Any] = {}
    if one.train:
        follows = {"config": hash_of(one.config), "data": away.data_hash, "code": code_hash(TRAIN_ROOMS)}
        follows |= {"device": place.device, "dtype": place.precision, "versions": hash_of(versions())}
        resume = target.with_name(f".{target.name}.resume")
        began = time.monotonic()
        where = f"{away.benchmark} {one.stage} seed {one.seed}"
        run = train(model, away.windows, away.scene.borders, settings, one.seed, resume, hash_of(follows), True, where)
        model, curve, steps, best = run.model, run.curve, run.steps, run.best_step
        # A run that went on after a stop does not know what it took before.
        spent = {"train_seconds": round(time.monotonic() - began, 2)} if run.resumed_from is None else {}
        if isinstance(model, TimeLLM) and model.budget is not None:
            calibration = calibrate(model, away.windows, away.scene.borders, settings)
    full = manifest(
        model, config=one.config, data_hash=away.data_hash, rooms=TRAIN_ROOMS, seed=one.seed,
        threads=settings.threads if one.train else 1, dtype=place.precision if one.train else "float32",
        device=place.device if one.train else "cpu", steps=steps, best_step=best, calibration=calibration,
    )  # fmt: skip
    save_model(target, model, one.config, curve, full)
    shutil.rmtree(target.with_name(f".{target.name}.resume"), ignore_errors=True)
    return model, spent


def _machine(saved: Mapping[str, Any]) -> str:
    """What it ran on, in words."""
    if saved["device"] == "cuda":
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()} CPU cores"


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8", newline="\n")
    os.replace(part, path)


def main(arguments: list[str] | None = None) -> int:
    """The command line; what is done is told on standard error, one JSON object per stage on standard output."""
    parser = argparse.ArgumentParser("python -m wavecore.ladder", description=__doc__)
    parser.add_argument("folder", type=Path, help="an exported ladder")
    parser.add_argument("--minutes", type=float, help="begin no training after so many")
    given = parser.parse_args(arguments)
    try:
        away = read(given.folder)
        left = sum(not done(away, one) for one in away.wanted)
        print(f"{len(away.wanted) - left} of {len(away.wanted)} done", file=sys.stderr)
        for one in climb(away, None if given.minutes is None else 60 * given.minutes):
            ran = json.loads((results(away.folder, one.stage, one.seed) / RAN).read_text(encoding="utf-8"))
            print(json.dumps({"stage": one.stage, "seed": one.seed, **ran}), flush=True)
    except WavecoreError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
