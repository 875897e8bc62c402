"""One model, judged on every test window: all errors of `judge`, what an MSE does not say, and the loss per origin."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from torch import nn

from wavecore.config import FeatureSettings, JudgeSettings
from wavecore.judge.metrics import WINDOW_MEAN, Judge, long_rows, origin_losses, rounded, seasonal_scale
from wavecore.judge.robustness import robust_rows
from wavecore.judge.segments import Segments
from wavecore.judge.spectrum import Spectrum, event_rows
from wavecore.learn.forecast import forecast
from wavecore.series.arrays import SeriesArrays
from wavecore.series.normalize import Scaler
from wavecore.series.splits import Borders, origins
from wavecore.series.windows import WindowData


@dataclass(frozen=True, eq=False)
class Scene:
    """What models of one benchmark are judged on.

    Attributes:
        arrays, borders, scaler: the series, its splits, the scaling learned from the train rows.
        season: in steps.
        settings: see JudgeSettings.
        segments: name → first and last moment of those that are judged apart.
    """

    arrays: SeriesArrays
    borders: Borders
    scaler: Scaler
    season: int
    settings: JudgeSettings
    segments: Mapping[str, tuple[np.datetime64, np.datetime64]]


class Seen(NamedTuple):
    """One test window as it was forecast, on standardized channels: origin; [H, N] forecast, truth and mask."""

    origin: int
    forecast: np.ndarray
    truth: np.ndarray
    mask: np.ndarray


class Scored(NamedTuple):
    """What judging gave.

    Attributes:
        rows: metric, group, key, value, n.
        losses: columns origin, mse, mae.
        samples: `settings.sample_windows` test windows, spread evenly.
        seconds: of forecasting every test window once and adding up its errors.
    """

    rows: list[dict[str, Any]]
    losses: dict[str, list[Any]]
    samples: list[Seen]
    seconds: float


def score(
    model: nn.Module,
    windows: WindowData,
    scene: Scene,
    precision: Literal["float32", "bf16"],
    tick: Callable[[int], object] = lambda done: None,
) -> Scored:
    """Forecast every test window and judge it.

    Args:
        model: on any device.
        windows: the standardized series.
        scene: see there.
        precision: of the forecasts.
        tick: told how many windows were done after each batch.
    """
    settings, horizon = scene.settings, windows.horizon
    test = origins(scene.borders, "test", windows.window, horizon)
    bands = FeatureSettings(wavelet=settings.wavelet, levels=settings.levels)
    arrays = scene.arrays
    seasonal = seasonal_scale(arrays.values, arrays.observed, scene.borders.train, scene.season)
    judge = Judge(arrays.channels, horizon, scene.scaler, seasonal, bands)
    events = event_rows(windows.values.double().numpy(), scene.borders.test, bands)
    beyond = (Spectrum(horizon, bands, events), Segments(arrays.timestamps, scene.segments, horizon))
    sample = set(test[np.linspace(0, len(test) - 1, settings.sample_windows).astype(int)].tolist())
    samples: list[Seen] = []
    naive, points = 0.0, 0
    began = time.monotonic()
    for chosen, ahead in forecast(model, windows, test, settings.batch_windows, precision):
        batch = windows.batch(chosen)
        truth, mask = batch.y.numpy(), batch.mask.numpy()
        judge.update(chosen, ahead, batch.y, batch.mask)
        for part in beyond:
            part.update(chosen, ahead, truth, mask)
        flat = (batch.x.mean(dim=1, keepdim=True) - batch.y).double().square()[batch.mask]
        naive, points = naive + float(flat.sum()), points + flat.numel()
        samples += [
            Seen(origin, ahead[i], truth[i], mask[i]) for i, origin in enumerate(chosen.tolist()) if origin in sample
        ]
        tick(len(chosen))
    seconds = time.monotonic() - began
    result = judge.result()
    mean = rounded(naive / points) if points else None
    rows = long_rows(result)
    rows.append({"metric": "mse", "group": WINDOW_MEAN, "key": "all", "value": mean, "n": points})
    for part in beyond:
        rows += part.rows()
    rows += robust_rows(model, windows, test, settings.robust_every, settings.batch_windows, precision)
    return Scored(rows, origin_losses(result), samples, seconds)
