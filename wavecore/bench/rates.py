"""`rates`: the error of a stream at each rate of learning, in hindsight: what a better choice of it could be worth at
most, beside what has no rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from torch import nn

from wavecore.bench.rows import Row
from wavecore.errors import TrainingError
from wavecore.judge.metrics import seasonal_scale
from wavecore.judge.scoring import Scene
from wavecore.series.splits import origins
from wavecore.series.windows import WindowData
from wavecore.stream.evaluate import stream
from wavecore.stream.matrix import learner_of
from wavecore.stream.run import need_learners
from wavecore.stream.search import SEARCHED
from wavecore.stream.session import Shape
from wavecore.stream.settings import OnlineSettings


def rates(
    model: nn.Module,
    windows: WindowData,
    scene: Scene,
    online: OnlineSettings,
    seed: int,
    tried: Sequence[float],
    tell: Callable[[str], object] = lambda line: None,
) -> Iterator[Row]:
    """A row for each learner of `online` and rate: its MSE over the test rows, from the model as it was trained.

    Args:
        model: trained; stays as it is.
        windows, scene: as of `wavecore.stream.run.through`.
        online: the learners; the rate in it counts for nothing.
        seed: of what learners draw.
        tried: rates.
        tell: what runs now.

    Learners that take no gradient steps have one row, without a rate. `mse` is None where the loss left finite numbers.
    """
    shape = Shape(windows.window, windows.horizon, scene.arrays.channels)
    scale = seasonal_scale(scene.arrays.values, scene.arrays.observed, scene.borders.train, scene.season)
    due = len(origins(scene.borders, "test", shape.window, shape.horizon))
    for name in need_learners(model, online, shape, due):
        for rate in tried if name in SEARCHED else (None,):
            own = online if rate is None else replace(online, learning_rate=rate)
            tell(name if rate is None else f"{name}, {rate:g}")
            try:
                learner = learner_of(name, model, shape, own, seed)
                found = stream(learner, windows, scene.borders, shape, own, scene.scaler, scale)
                mse: float | None = found.result.mse
            except TrainingError:
                mse = None
            yield Row("rates", name, series=len(shape.channels), dtype="float32", more={"rate": rate, "mse": mse})
