"""A trained forecaster through a stream, with one learner after another: what is kept of it, and how they compare."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from torch import nn

from wavecore.errors import SettingsError
from wavecore.judge.metrics import rounded, seasonal_scale
from wavecore.judge.scoring import Scene
from wavecore.judge.significance import diebold_mariano
from wavecore.series.splits import origins
from wavecore.series.windows import WindowData
from wavecore.stream.evaluate import Streamed, stream
from wavecore.stream.fourier import warm_labels
from wavecore.stream.matrix import learner_of, learners_for
from wavecore.stream.progress import Keeping
from wavecore.stream.search import SEARCHED, Searched, search
from wavecore.stream.session import Shape
from wavecore.stream.settings import OnlineSettings

Array = np.ndarray[Any, np.dtype[Any]]
Row = tuple[str, str, str, float | None]
COLUMNS = ("learner", "metric", "key", "value")
STEPS = ("learner", "origin", "mse", "surprise", "gate", "norm", "error_surprise")
FROZEN = "frozen"
# A stream is looked at in this many stretches of equal length: its errors, its pace.
STRETCHES = 60
MILLISECONDS = 1000.0


class Pace(NamedTuple):
    """What a step costs, in milliseconds; not part of any result, since it differs from run to run.

    Attributes:
        forecast: median over the stream.
        learn: median over the steps that learned, times their share of all steps.
        drift, low, high: growth of a step's time over the whole stream as a share of its median, by the Theil–Sen slope
            over stretches, with its 95% interval.
    """

    forecast: float
    learn: float
    drift: float
    low: float
    high: float


class Ran(NamedTuple):
    """What a stream gave of one trained forecaster.

    Attributes:
        rows: learner, metric, key, value: mse, mae, r2 (overall and per channel), labels, windows; against the frozen
            forecaster the difference of mse and the p of Diebold and Mariano; of learners with a rate the rate, and the
            mse on decide of each that was tried.
        stretches: learner → error of each stretch of the stream, [STRETCHES or fewer].
        steps: columns STEPS, one row per learner and forecast; NaN where a learner tells no such thing.
        pace: learner → Pace.
    """

    rows: list[Row]
    stretches: dict[str, list[float | None]]
    steps: dict[str, Array]
    pace: dict[str, Pace]


def through(
    model: nn.Module,
    windows: WindowData,
    scene: Scene,
    online: OnlineSettings,
    seed: int,
    tick: Callable[[str, int], Callable[[int], object]] = lambda running, due: lambda done: None,
    keep: Keeping | None = None,
) -> Ran:
    """Run every learner of `online` that makes sense for `model` through the test rows.

    Args:
        model: trained; stays as it is.
        windows: the standardized series.
        scene: see there.
        online: see OnlineSettings.
        seed: of what learners draw.
        tick: what runs now, and how many forecasts it makes → what is told how many were made.
        keep: where learners are saved while they run, and go on from; None: nowhere.

    Raises:
        SettingsError: no learner is left to run, or see `search`.
    """
    arrays = scene.arrays
    shape = Shape(windows.window, windows.horizon, arrays.channels)
    scale = seasonal_scale(arrays.values, arrays.observed, scene.borders.train, scene.season)
    due = len(origins(scene.borders, "test", shape.window, shape.horizon))
    found, chosen = {}, {}
    for name in need_learners(model, online, shape, due):
        place = None if keep is None else keep.of(name)
        chosen[name] = search(name, model, windows, scene, shape, online, scale, seed, tick, place)
        own = chosen[name].settings
        learner = learner_of(name, model, shape, own, seed)
        told = tick(name, due)
        test = None if place is None else place.of("test")
        found[name] = stream(learner, windows, scene.borders, shape, own, scene.scaler, scale, tick=told, keep=test)
    rows: list[Row] = []
    for name, one in found.items():
        rows += _rows(name, one) + _rates(name, chosen[name])
        if name != FROZEN and FROZEN in found:
            rows += _against(name, one, found[FROZEN], shape.horizon)
    return Ran(
        rows,
        {name: _stretches(one.result.origin_mse) for name, one in found.items()},
        _steps(found),
        {name: pace_of(one.forecast_seconds, one.learn_seconds) for name, one in found.items()},
    )


def need_learners(model: nn.Module, online: OnlineSettings, shape: Shape, rows: int) -> tuple[str, ...]:
    """The learners of `online` that make sense for `model` in a stream of so many forecasts.

    Raises:
        SettingsError: none is left.
    """
    labels = rows - shape.horizon - online.delay.steps
    found = tuple(
        name
        for name in learners_for(model, online.learners)
        # A regression that says nothing before the stream ends would be `frozen` by another name.
        if name != "elf" or labels > warm_labels(shape.window)
    )
    if not found:
        raise SettingsError(
            f"online.learners: none of {', '.join(online.learners)} can be run: what learns by steps needs weights, "
            "replay a memory that begins anew, elf a longer stream",
            "add frozen",
        )
    return found


def _rows(name: str, one: Streamed) -> list[Row]:
    result = one.result
    rows: list[Row] = [(name, m, "all", rounded(v)) for m, v in (("mse", result.mse), ("mae", result.mae))]
    rows.append((name, "r2", "all", rounded(one.mean_r2)))
    rows += [(name, "r2", channel, rounded(v)) for channel, v in zip(result.channels, one.r2.tolist(), strict=True)]
    return [*rows, (name, "labels", "all", float(one.labels)), (name, "windows", "all", float(result.n_windows))]


def _rates(name: str, chosen: Searched) -> list[Row]:
    if name not in SEARCHED:
        return []
    rows: list[Row] = [(name, "rate", "all", chosen.settings.learning_rate)]
    return rows + [(name, "decide_mse", f"{rate:g}", rounded(mse)) for rate, mse in chosen.tried.items()]


def _against(name: str, one: Streamed, frozen: Streamed, horizon: int) -> list[Row]:
    difference = one.result.origin_mse - frozen.result.origin_mse
    scored = np.isfinite(difference)
    found = diebold_mariano(difference[scored], one.result.origins[scored], horizon)
    return [(name, "against_frozen", "effect", rounded(found.effect)), (name, "against_frozen", "p", rounded(found.p))]


def _stretches(values: Array) -> list[float | None]:
    parts = np.array_split(values, min(STRETCHES, len(values)))
    return [rounded(float(np.nanmean(p))) if np.isfinite(p).any() else None for p in parts]


def _steps(found: dict[str, Streamed]) -> dict[str, Array]:
    columns: dict[str, list[Any]] = {name: [] for name in STEPS}
    for name, one in found.items():
        origins = one.result.origins.tolist()
        told = {n.origin: n for n in one.noted}
        wrong = dict(one.errors)
        columns["learner"] += [name] * len(origins)
        columns["origin"] += origins
        columns["mse"] += one.result.origin_mse.tolist()
        for column in ("surprise", "gate", "norm"):
            columns[column] += [getattr(told[o], column) if o in told else math.nan for o in origins]
        columns["error_surprise"] += [wrong.get(o, math.nan) for o in origins]
    return {name: np.array(values) for name, values in columns.items()}


def pace_of(forecasting: Array, learning: Array) -> Pace:
    """What a step costs, from the seconds of each, [n] and [n]."""
    count = min(STRETCHES, len(learning))
    stretches = zip(*(np.array_split(part, count) for part in (forecasting, learning)), strict=True)
    medians = np.array([np.median(one) + _per_row(other) for one, other in stretches])
    drift = [0.0, 0.0, 0.0]
    if len(medians) > 2:
        slope, _, low, high = stats.theilslopes(medians)
        drift = [float(s) * (len(medians) - 1) / float(np.median(medians)) for s in (slope, low, high)]
    return Pace(
        float(np.median(forecasting)) * MILLISECONDS,
        _per_row(learning) * MILLISECONDS,
        *drift,
    )


def _per_row(learning: Array) -> float:
    """Seconds of a step that learned, times their share: a median over all rows would not see what few of them do."""
    learned = learning[learning > 0]
    return float(np.median(learned)) * len(learned) / len(learning) if len(learned) else 0.0
