"""`surface`: error, time and memory of a stage that keeps fewer tokens, over the share it keeps and the length T.

At each T `base` and the stage at each share are trained from the same seed with the same steps and batches, and
forecast the same test windows, batch by batch in turn. A longer window takes fewer windows per step, so that a step
of `base` reads about as many patches at every T: error is to be compared along a row of one T first.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from wavecore import stages as ladder
from wavecore.bench.child import ask
from wavecore.bench.memory import given
from wavecore.bench.models import Side, forecasts
from wavecore.bench.rows import Row
from wavecore.bench.stages import BELOW
from wavecore.config import Settings, StageOverride, TrainSettings
from wavecore.errors import SettingsError
from wavecore.learn.device import place_of
from wavecore.learn.loop import train
from wavecore.learn.losses import masked_sum
from wavecore.model.build import Geometry, build
from wavecore.model.time_llm import TimeLLM
from wavecore.series.arrays import SeriesArrays
from wavecore.series.normalize import Scaler
from wavecore.series.splits import Borders, origins
from wavecore.series.windows import WindowData
from wavecore.strict import merged


@dataclass(eq=False)
class _Tried:
    """One trained model: its squared errors and their number, and the seconds of each batch."""

    stage: str
    share: float | None
    model: TimeLLM
    asked: TrainSettings
    train_seconds: float
    total: float = 0.0
    count: int = 0
    seconds: list[float] = field(default_factory=list)


def surface(
    arrays: SeriesArrays,
    scaler: Scaler,
    borders: Borders,
    geometry: Geometry,
    settings: Settings,
    benchmark: str,
    windows: Sequence[int],
    shares: Sequence[float],
    stage: str = "only_sparse",
    steps: int | None = None,
    test_windows: int = 240,
    seed: int = 0,
    memory: bool = True,
    tell: Callable[[str], None] = lambda line: None,
) -> Iterator[Row]:
    """A row per T and share, `base` first at each T.

    Args:
        arrays, scaler, borders: the benchmark's series.
        geometry: the benchmark's, at its own window.
        settings: of the project; training and model are those of `base` on this benchmark, at every T.
        benchmark: its name.
        windows: T.
        shares: of the tokens that are kept.
        stage: one that keeps a share of the patches.
        steps: of training; None: as the settings have it.
        test_windows: how many are forecast, spread evenly over the test split; the same at every T.
        seed: of all trainings.
        memory: measure the peaks of one step and one forecast too, of 28 generated series of seven channels, 96 steps
            ahead, on the CPU.
        tell: is told what is done next.

    Raises:
        SettingsError: a stage that does not keep a share of the patches, or a T too long for the splits or the language
            model; nothing was trained.
    """
    switches = ladder.get(stage).switches
    if switches.get("sparse", {}).get("keep") != "share" or switches["tokens"]["enabled"]:
        raise SettingsError(f"surface: {stage} does not keep a share of the patches alone", "choose only_sparse")
    # Before any training: whether every T fits the splits and the language model.
    for window in windows:
        for split in ("train", "select", "test"):
            origins(borders, split, window, geometry.horizon)
        for name, share in ((BELOW, None), (stage, shares[0])):
            own = _settings(settings, benchmark, name, geometry.window / window, steps, share)
            build(ladder.get(name), replace(geometry, window=window), own, benchmark, seed)
    # Targets that every T can be asked for: an early one has no long window before it.
    test = origins(borders, "test", max(windows), geometry.horizon)
    chosen = test[np.unique(np.linspace(0, len(test) - 1, min(test_windows, len(test))).astype(int))]
    for window in windows:
        data = WindowData.from_arrays(arrays, scaler, window, geometry.horizon)
        tried = []
        for name, share in ((BELOW, None), *((stage, share) for share in shares)):
            own = _settings(settings, benchmark, name, geometry.window / window, steps, share)
            asked = own.train_of(benchmark, name)
            told = f"T = {window}, {name}" + (f", {100 * share:g}% kept" if share is not None else "")
            tell(f"{told}: {asked.steps} steps of {asked.batch_windows} windows")
            model = build(ladder.get(name), replace(geometry, window=window), own, benchmark, seed)
            assert isinstance(model, TimeLLM)
            began = time.monotonic()
            train(model, data, borders, asked, seed, progress=True, where=told)
            tried.append(_Tried(name, share, model, asked, time.monotonic() - began))
        tell(f"T = {window}: {len(chosen)} test windows")
        _judge(tried, data, chosen, settings.judge.batch_windows)
        said = {"benchmark": benchmark, "window": window, "windows": len(chosen), "seed": seed}
        series = min(settings.judge.batch_windows, len(chosen)) * len(arrays.channels)
        for one in tried:
            more = {
                **said,
                **({"share": one.share} if one.share is not None else {}),
                "tokens": float(one.model.needed(data.batch(chosen[:1]).x).float().mean()),
                "mse": one.total / one.count,
                "other_mse": tried[0].total / tried[0].count,
                "train_seconds": one.train_seconds,
                "other_train_seconds": tried[0].train_seconds,
                **{name: getattr(one.asked, name) for name in ("steps", "batch_windows", "threads")},
                **(_peaks(one, window) if memory else {}),
            }
            ratios = [theirs / mine for theirs, mine in zip(tried[0].seconds, one.seconds, strict=True)]
            dtype = place_of(one.asked).precision
            yield Row(
                "surface", one.stage, BELOW, one.model.settings.backbone, series, dtype, dtype,
                statistics.median(ratios), min(ratios), max(ratios),
                statistics.median(one.seconds), statistics.median(tried[0].seconds), more=more,
            )  # fmt: skip


def _judge(tried: Sequence[_Tried], data: WindowData, chosen: np.ndarray, batch_windows: int) -> None:
    """Add up errors and seconds on the windows `chosen`, each batch by all models in turn."""
    for start in range(0, len(chosen), batch_windows):
        batch = data.batch(chosen[start : start + batch_windows])
        for one in tried:
            precision, threads = place_of(one.asked).precision, one.asked.threads
            if not start:
                forecasts(one.model, batch, precision, threads)  # makes what stays
            began = time.perf_counter()
            ahead = forecasts(one.model, batch, precision, threads).cpu()
            # The last batch may be smaller than the others, which are what is told of.
            if len(batch.x) == min(batch_windows, len(chosen)):
                one.seconds.append(time.perf_counter() - began)
            total, count = masked_sum("mse", ahead, batch.y, batch.mask)
            one.total, one.count = one.total + total, one.count + count


def _settings(
    settings: Settings, benchmark: str, stage: str, ratio: float, steps: int | None, share: float | None
) -> Settings:
    """Those of the benchmark with `share`, `steps`, and windows a step that have as many patches as the usual ones."""
    usual = settings.train_of(benchmark, stage)
    train = {
        "batch_windows": max(1, round(usual.batch_windows * ratio)),
        # 0 stays 0: all of `select`.
        "eval_windows": max(1, round(usual.eval_windows * ratio)) if usual.eval_windows else 0,
        **({"steps": steps, "eval_every": max(1, steps // 2)} if steps else {}),
    }
    model = {"sparse": {"share": share}} if share is not None else {}
    here = settings.overrides.benchmarks.get(benchmark, {})
    before = here.get(stage, StageOverride())
    mine = replace(before, train=merged(before.train, train), model=merged(before.model, model))
    own = {**settings.overrides.benchmarks, benchmark: {**here, stage: mine}}
    return replace(settings, overrides=replace(settings.overrides, benchmarks=own))


def _peaks(one: _Tried, window: int) -> dict[str, float | str]:
    """Peak memory of training and of forecasting 28 generated series, MiB, a process each; or why there is none."""
    model = one.model.settings
    own = asdict(model)
    # What makes the stage what it is comes with its name.
    for part in (*ladder.get(one.stage).switches, "tokens", "streams", "sparse", "budget", "backbone"):
        own.pop(part, None)
    own["prompt"] = {"tokens": model.prompt.tokens}
    if one.share is not None:
        own["sparse"] = {"share": one.share}
    side = Side(one.stage, place_of(one.asked).precision, own)
    found = {}
    for work in ("train", "infer"):
        answer = ask(work, **given(model.backbone, side, 28, window, one.asked.threads))
        found[f"{work}_mb"] = answer.get("peak_mb", answer.get("stopped", ""))
    return found
