"""`latency`: seconds of one window at a time, as a service would forecast them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from wavecore.bench import SIZE
from wavecore.bench.memory import sides
from wavecore.bench.models import CHANNELS, backbone_of, batch, geometry, make
from wavecore.bench.rows import Row
from wavecore.learn.device import threads as use_threads
from wavecore.learn.forecast import forecast
from wavecore.model.settings import Size
from wavecore.series.windows import WindowData


def latency(
    backbone: str = "minilm",
    repeats: int = 100,
    threads: Sequence[int] = (2, 1),
    size: Size = SIZE,
    window: int = 512,
    model: dict[str, Any] | None = None,
    also: Sequence[str] = (),
) -> Iterator[Row]:
    """A row per number of threads and path: median and 95th percentile of one window of seven series.

    Windows come one after another in one forecasting pass, all paths in turn. What is computed once per pass
    (prototypes, the fixed part of the prompt) falls to the first window, which is told apart.

    Args:
        backbone: minilm, gpt2 or qwen2.
        repeats: windows that are timed, beside the first.
        threads: numbers of CPU threads to measure with.
        size: of the budget.
        window: T.
        model: settings that all share.
        also: stages of the Time-LLM family beside `exact` and `budget`, such as `only_sparse`.
    """
    chosen = {path: side for path, side in sides(size, model, also).items() if path != "reference"}
    shape = geometry(window)
    series = batch(CHANNELS, window + repeats, shape.horizon)
    values = torch.cat([series.x[0], series.y[0]])
    data = WindowData(values, torch.ones_like(values, dtype=torch.bool), window, shape.horizon)
    origins = np.arange(repeats + 1) + window
    with backbone_of(backbone) as name:
        models = {path: make(side, name, shape) for path, side in chosen.items()}
        for count in threads:
            with use_threads(count):
                passes = {path: forecast(models[path], data, origins, 1, side.dtype) for path, side in chosen.items()}
                times: dict[str, list[float]] = {path: [] for path in chosen}
                for _origin in origins:
                    for path, ahead in passes.items():
                        start = time.perf_counter()
                        next(ahead)
                        times[path].append(time.perf_counter() - start)
            for path, side in chosen.items():
                first, *rest = times[path]
                yield Row(
                    "latency", path, backbone=backbone, series=CHANNELS, dtype=side.dtype,
                    seconds=statistics.median(rest),
                    more={
                        "p95": float(np.quantile(rest, 0.95)), "first": first, "window": window, "threads": count,
                        "repeats": repeats, **(size._asdict() if path == "budget" else {}),
                    },
                )  # fmt: skip
