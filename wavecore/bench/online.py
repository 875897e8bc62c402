"""`online`: what a row of a stream costs each learner, and whether a training step takes as long at the end."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence

from scipy import stats
from torch import nn

from wavecore.bench.models import CHANNELS, Trainer, batch, device
from wavecore.bench.rows import Row
from wavecore.learn.device import threads as use_threads
from wavecore.model.dlinear import DLinear, DLinearSettings
from wavecore.seeds import isolated
from wavecore.stream.forecaster import TitanStream
from wavecore.stream.matrix import learner_of
from wavecore.stream.session import Session, Shape
from wavecore.stream.settings import OnlineSettings, StreamSettings

PLAIN = "titan, forecast alone"
# Labels that are gathered for one step: rows are timed in blocks of as many as the largest.
EVERY = (1, 2, 4)


def online(
    repeats: int = 75,
    threads: Sequence[int] = (2, 1),
    window: int = 96,
    horizon: int = 24,
    epochs: int = 30,
    steps: int = 10,
    warm: int = 200,
) -> Iterator[Row]:
    """Per number of threads a row for each learner of `titan` and `dlinear`, seven channels, against a forecast of
    `titan` that learns nothing; then one of `titan`'s training steps over `epochs` epochs of `steps` steps each.

    All learners take each row in turn, so that load falls on all; rows are counted once labels come and `warm` more
    rows have passed, with which ELF has its regression. A time is the mean of a block of four rows, so that learners
    that take one step for several labels pay for it. `ratio` is the forecast's seconds over the learner's: its inverse
    is how many forecasts a row of learning costs.
    """
    block = max(EVERY)
    begin = window + horizon + warm
    series = batch(CHANNELS, begin + repeats * block, horizon).x[0]
    shape = Shape(window, horizon, tuple(f"c{i}" for i in range(CHANNELS)))
    with isolated(device(), 0):
        models: dict[str, nn.Module] = {
            "titan": TitanStream(window, horizon, CHANNELS, StreamSettings()),
            "dlinear": DLinear(window, horizon, CHANNELS, DLinearSettings()),
        }
    names = {PLAIN: ("titan", "frozen", 1)} | {
        f"{model}, {learner}" + (f", a step for {every} labels" if every > 1 else ""): (model, learner, every)
        for model in models
        for learner, every in (*(("online", every) for every in EVERY), ("replay", 1), ("elf", 1))
    }
    for count in threads:
        sessions = {}
        for path, (model, learner, every) in names.items():
            settings = OnlineSettings(every=every)
            sessions[path] = Session(learner_of(learner, models[model], shape, settings, 0), shape, settings)
        times: dict[str, list[float]] = {path: [] for path in sessions}
        with use_threads(count):
            for number, row in enumerate(series):
                for path, session in sessions.items():
                    start = time.perf_counter()
                    session.push(row)
                    if number >= begin:
                        times[path].append(time.perf_counter() - start)
        blocks = {path: [statistics.mean(own[i : i + block]) for i in range(0, len(own), block)]
                  for path, own in times.items()}  # fmt: skip
        plain = blocks[PLAIN]
        for path, own in blocks.items():
            ratios = [b / a for a, b in zip(own, plain, strict=True)]
            yield Row(
                "online", path, "" if path == PLAIN else PLAIN, series=CHANNELS, dtype="float32",
                ratio_median=None if path == PLAIN else statistics.median(ratios),
                ratio_min=None if path == PLAIN else min(ratios),
                ratio_max=None if path == PLAIN else max(ratios),
                seconds=statistics.median(own), other_seconds=None if path == PLAIN else statistics.median(plain),
                more={"window": window, "horizon": horizon, "threads": count, "repeats": len(own), "block": block},
            )  # fmt: skip
    yield _epochs(models["titan"], window, horizon, threads[0], epochs, steps)


def _epochs(model: nn.Module, window: int, horizon: int, count: int, epochs: int, steps: int) -> Row:
    trainer = Trainer(model, batch(32 * CHANNELS, window, horizon), "float32", count, steps)
    trainer(0)
    times = []
    for epoch in range(epochs):
        start = time.perf_counter()
        trainer(1 + epoch * steps)
        times.append((time.perf_counter() - start) / steps)
    slope, _, low, high = (float(x) for x in stats.theilslopes(times))
    middle = statistics.median(times)
    # As a share of a step, over all epochs.
    grown = {name: x * (epochs - 1) / middle for name, x in (("drift", slope), ("low", low), ("high", high))}
    return Row(
        "online", "titan, training step", series=32 * CHANNELS, dtype="float32", seconds=middle,
        more={"window": window, "horizon": horizon, "threads": count, "epochs": epochs, "steps": steps, **grown},
    )  # fmt: skip
