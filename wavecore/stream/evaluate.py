"""A learner, judged over a stream: rows of a split pushed in order, every forecast that lies in it scored."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavecore.config import FeatureSettings
from wavecore.errors import DataError, SettingsError
from wavecore.judge.metrics import HasScale, Judge, JudgeResult
from wavecore.series.splits import Borders, origins
from wavecore.series.windows import WindowData
from wavecore.stream.delay import check_delay
from wavecore.stream.learners import Noted, Titan
from wavecore.stream.progress import Given, Keeping
from wavecore.stream.session import Label, Learner, Session, Shape
from wavecore.stream.settings import OnlineSettings

Array = np.ndarray[Any, np.dtype[Any]]
AT_ONCE = 256  # forecasts judged at once


@dataclass(frozen=True)
class Streamed:
    """What a stream gave.

    Attributes:
        result: all errors, on standardized channels.
        r2: per channel, 1 − sum of squared errors / sum of squares around the channel's mean over all scored targets,
            [N]; NaN of a channel that never changes.
        labels: how many came in time to be learned from.
        forecast_seconds, learn_seconds: of each row, [n].
        noted: what Titan-Stream told of each forecast; [] of others.
        errors: its error-side surprise, each time that labels came.
    """

    result: JudgeResult
    r2: Array
    labels: int
    forecast_seconds: Array
    learn_seconds: Array
    noted: tuple[Noted, ...] = ()
    errors: tuple[tuple[int, float], ...] = ()

    @property
    def mean_r2(self) -> float:
        """The mean over the channels that have one; NaN where none has."""
        found = self.r2[np.isfinite(self.r2)]
        return float(found.mean()) if len(found) else float("nan")


@dataclass
class _Timed:
    """A learner and how long it takes."""

    learner: Learner
    forecasting: float = 0.0
    learning: float = 0.0

    def forecast(self, x: Tensor, origin: int) -> tuple[Tensor, Any]:
        began = time.perf_counter()
        found = self.learner.forecast(x, origin)
        self.forecasting = time.perf_counter() - began
        return found

    def learn(self, labels: Sequence[Label]) -> None:
        began = time.perf_counter()
        self.learner.learn(labels)
        self.learning += time.perf_counter() - began

    def state(self) -> dict[str, Tensor]:
        return self.learner.state()

    def restore(self, state: dict[str, Tensor]) -> None:
        self.learner.restore(state)


def stream(
    learner: Learner,
    data: WindowData,
    borders: Borders,
    shape: Shape,
    online: OnlineSettings,
    scaler: HasScale,
    scale: Array,
    split: str = "test",
    tick: Callable[[int], object] = lambda done: None,
    keep: Keeping | None = None,
) -> Streamed:
    """Push the rows of `split` one by one, after the window before it, and judge every forecast that lies in it.

    Args:
        learner: see `wavecore.stream.learners`; what it learned before is all it knows.
        data: the standardized series. The learner sees a row when it is pushed, not before.
        borders: its splits.
        shape, online: of the session.
        scaler, scale: of the judge: train deviation and seasonal scale per channel.
        split: `test`, or `decide` to choose settings by.
        tick: told how many forecasts were made.
        keep: where it is saved while it runs, and goes on from; None: nowhere.

    Raises:
        SettingsError: not one label is learned from within the split: the delay or `every` is too long.
        DataError: not one target was observed; a value is missing and `online.missing` is `error`.
    """
    scored = origins(borders, split, shape.window, shape.horizon)
    first, last = int(scored[0]), int(scored[-1])
    # The last row that is pushed is the one before the last origin.
    check_delay(online.delay, shape.horizon, last - first)
    timed, begin = _Timed(learner), first - shape.window
    # What stands in for a gap at the beginning is what stands in for it in every window.
    session = Session(timed, shape, online, begin, data.values[begin - 1] if begin else None)
    judge = Judge(shape.channels, shape.horizon, scaler, scale, FeatureSettings(wavelet="db2"))
    moments = np.zeros((4, len(shape.channels)))
    given = Given()
    if keep is not None:
        keep.begin(session, given, last)
        tick(len(given.made))
    # The forecast from origin o is made when row o − 1 has come.
    for row in range(session.rows, last):
        # What was filled is no value: an error, or skipped, as the session is told.
        ahead = session.push(data.values[row].where(data.observed[row], float("nan")))
        if ahead is None:
            continue
        tick(1)
        given.made.append(ahead)
        given.forecasting.append(timed.forecasting)
        given.learning.append(timed.learning)
        timed.learning = 0.0
        if isinstance(learner, Titan):
            assert learner.noted is not None
            given.noted.append(learner.noted)
            if learner.error is not None and (not given.errors or given.errors[-1][0] != learner.error[0]):
                given.errors.append(learner.error)
        if keep is not None:
            keep.mark(session, given)
    if keep is not None:
        keep.mark(session, given, last=True)
    if not session.pending.labelled:
        raise SettingsError(
            f"online.delay and online.every: within {split} ({len(scored)} forecasts) no {online.every} labels came",
            "set a shorter delay, or gather fewer labels (every)",
        )
    for start in range(0, len(scored), AT_ONCE):
        batch = data.batch(scored[start : start + AT_ONCE])
        ahead_of = torch.stack(given.made[start : start + AT_ONCE]).numpy()
        judge.update(batch.origin, ahead_of, batch.y, batch.mask)
        moments += _moments(ahead_of, batch.y.numpy(), batch.mask.numpy())
    result = judge.result()
    if not result.n_points:
        raise DataError(f"no target was observed in {split}", "move the split borders")
    return Streamed(
        result, _r2(moments), session.pending.labelled, np.array(given.forecasting), np.array(given.learning),
        tuple(given.noted), tuple(given.errors),
    )  # fmt: skip


def _moments(ahead: Array, y: Array, mask: Array) -> Array:
    """Of [B, H, N], per channel: squared error, number, sum and sum of squares of the scored targets, [4, N]."""
    y = np.where(mask, y, 0.0).astype(np.float64)
    wrong = np.where(mask, ahead - y, 0.0)
    return np.stack([part.sum(axis=(0, 1)) for part in (wrong**2, mask, y, y**2)])


def _r2(moments: Array) -> Array:
    error, count, total, squares = moments
    with np.errstate(divide="ignore", invalid="ignore"):
        around = squares - total**2 / count
        return np.where(around > 1e-9 * squares, 1 - error / around, np.nan)
