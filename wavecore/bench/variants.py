"""`variants`: what each variant of Titan-Stream costs beside `titan`: a row of a stream, a training step, memory."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from wavecore import stages as ladder
from wavecore.bench.memory import saved
from wavecore.bench.models import CHANNELS, Trainer, batch, device, forecasts, geometry
from wavecore.bench.rows import Row, alternate, clocked
from wavecore.config import PipelineSettings, Settings, StageOverride
from wavecore.errors import SettingsError
from wavecore.learn.checkpoint import trainable
from wavecore.learn.device import threads as use_threads
from wavecore.model.build import build
from wavecore.stream.forecaster import TitanStream
from wavecore.stream.matrix import learner_of
from wavecore.stream.session import Session, Shape
from wavecore.stream.settings import OnlineSettings

BELOW = "titan"
BENCHMARK = "bench"
# Rows are timed in blocks, so that a variant that takes one step for several labels pays for it.
BLOCK = 4


def variants(
    chosen: Sequence[str],
    window: int = 96,
    horizon: int = 24,
    batch_windows: int = 32,
    repeats: int = 15,
    threads: int = 1,
    model: Mapping[str, Any] | None = None,
    online: OnlineSettings | None = None,
) -> Iterator[Row]:
    """A row per variant, timed in turn with `titan`: `ratio` is `titan`'s seconds for a row of a stream with learning
    over its own; in `more`: milliseconds of a forecast, of a row with learning and of a training step, MiB that a
    training step keeps for its backward pass, and weights that learn.

    Args:
        chosen: `titan` and variants of it.
        window, horizon: T and H, of seven generated channels.
        batch_windows: of a training step.
        repeats: blocks of four rows, and training steps, that are timed.
        threads: of the CPU.
        model: settings that all share, as of `stages.titan.model`.
        online: how all learn that are not defined by it.

    Raises:
        SettingsError: a stage of another family.
    """
    for name in chosen:
        if ladder.get(name).family != ladder.get(BELOW).family:
            raise SettingsError(f"variants: {name} is no variant of {BELOW}", "leave it out")
    settings = Settings(
        pipeline=PipelineSettings(benchmarks=(BENCHMARK,), stages=(BELOW,)),
        stages={BELOW: StageOverride(model=dict(model or {}))},
        online=online or OnlineSettings(),
    )
    steps, one = batch(CHANNELS * batch_windows, window, horizon), batch(CHANNELS, window, horizon)
    # Two weeks of labels first, with which every learner is under way; then what is timed, and once uncounted.
    series = batch(CHANNELS, window + horizon + 336 + BLOCK * (repeats + 1), horizon).x[0]
    names = tuple(f"c{i}" for i in range(CHANNELS))

    def streamed(stage: str, model: TitanStream) -> Callable[[], None]:
        """Each call pushes the next block of rows into a session that learns."""
        own, shape = settings.online_of(BENCHMARK, stage), Shape(window, horizon, names)
        session = Session(learner_of("online", model, shape, own, 0), shape, own)
        rows = iter(series)
        for row in itertools.islice(rows, window + horizon + 336):
            session.push(row)

        def block() -> None:
            for row in itertools.islice(rows, BLOCK):
                session.push(row)

        return block

    plain = _made(BELOW, settings, window, horizon)
    for name in chosen:
        mine = _made(name, settings, window, horizon)
        # A session is on the CPU; only then is `mine` moved to where batches are.
        with use_threads(threads):
            times = alternate(streamed(name, mine), streamed(BELOW, plain), repeats)
        forecasting = [clocked(lambda m=mine: forecasts(m, one, "float32", threads)) for _ in range(repeats + 1)]  # type: ignore[misc]
        step = Trainer(mine, steps, "float32", threads)
        step()
        kept = saved(step) / 2**20
        training = [clocked(lambda s=step, i=i: s(i)) for i in range(repeats)]  # type: ignore[misc]
        more: dict[str, Any] = {
            "window": window, "horizon": horizon, "threads": threads, "device": str(device()),
            "repeats": repeats, "block": BLOCK, "batch_windows": batch_windows, "saved_mb": kept,
            "forecast_ms": 1000 * statistics.median(forecasting[1:]), "row_ms": 1000 * times["seconds"] / BLOCK,
            "train_ms": 1000 * statistics.median(training),
            "weights": sum(p.numel() for p in trainable(mine).values()),
        }  # fmt: skip
        yield Row("variants", name, BELOW, "", CHANNELS, "float32", "float32", **times, more=more)


def _made(name: str, settings: Settings, window: int, horizon: int) -> TitanStream:
    """Always of seed 0, so that variants begin alike."""
    return cast(TitanStream, build(ladder.get(name), geometry(window, horizon), settings, BENCHMARK, 0))
