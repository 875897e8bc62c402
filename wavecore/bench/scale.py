"""`scale`: seconds, memory and operations of a forecast as the window grows, and the power of T with which they do.

Below some thousand steps the prompt, which does not grow, is a good part of all tokens: the fitted power is then that
of the range that was measured, not that of very long windows.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from wavecore.bench import SIZE
from wavecore.bench.child import ask
from wavecore.bench.memory import given, sides
from wavecore.bench.models import Side, backbone_of, batch, fast, forecasts, geometry, make
from wavecore.bench.rows import Row, clocked
from wavecore.errors import WavecoreError
from wavecore.model.layers import patch_count
from wavecore.model.settings import Size
from wavecore.model.time_llm import TimeLLM
from wavecore.series.windows import Batch

WINDOWS = (512, 1024, 1536, 2048, 3072)


def scale(
    backbone: str = "minilm",
    windows: Sequence[int] = WINDOWS,
    series: int = 7,
    repeats: int = 5,
    threads: int = 2,
    size: Size = SIZE,
    share: float = 0.25,
    memory: bool = True,
    model: dict[str, Any] | None = None,
) -> Iterator[Row]:
    """A row per window and path, then a row per path with the fitted powers.

    Args:
        backbone: minilm, gpt2 or qwen2.
        windows: T, rising; where a path cannot read so long a window, its row says why.
        series: windows × channels at once.
        repeats: forecasts that are timed, the paths of one window in turn.
        threads: of the CPU.
        size: of a budget that is the same for all windows.
        share: of the patches, of a budget that grows with the window and is otherwise the same.
        memory: measure the peak of each in a child process too.
        model: settings that all paths share.
    """
    told: dict[str, dict[str, list[tuple[int, float]]]] = {}
    with backbone_of(backbone) as name:
        for window in windows:
            chosen = paths(window, size, share, model)
            built = {path: _built(side, name, window) for path, side in chosen.items()}
            data = batch(series, window)
            runs = {path: made for path, made in built.items() if isinstance(made, TimeLLM)}
            times = timed({path: (made, chosen[path].dtype) for path, made in runs.items()}, data, threads, repeats)
            for path, side in chosen.items():
                more: dict[str, Any] = {"window": window, "threads": threads}
                if path not in runs:
                    yield _row(path, backbone, series, side, {**more, "stopped": built[path]})
                    continue
                seconds, operations = statistics.median(times[path]), flops(runs[path], data, side.dtype, threads)
                own = told.setdefault(path, {"seconds": [], "flops": []})
                own["seconds"].append((window, seconds))
                own["flops"].append((window, operations))
                more |= {"patches": runs[path].patches, "tokens": side.size.tokens if side.size else runs[path].patches}
                more |= {"flops": operations, "repeats": repeats}
                if memory:
                    more |= ask("infer", **given(name, side, series, window, threads))
                yield _row(path, backbone, series, side, more, seconds)
            del built, runs
    for path, side in paths(windows[0], size, share, model).items():
        own = told.get(path, {"seconds": [], "flops": []})
        fitted: dict[str, Any] = {f"exponent_{what}": exponent(points) for what, points in own.items()}
        fitted |= {"windows": [window for window, _ in own["seconds"]], "threads": threads}
        yield _row(path, backbone, series, side, fitted)


def paths(window: int, size: Size, share: float, model: dict[str, Any] | None = None) -> dict[str, Side]:
    """The sides at one window: those of `memory`, and a budget that is a share of the patches."""
    reference, exact, budget = sides(size, model).values()
    shape = geometry(window)
    part = max(1, math.floor(share * patch_count(window, *shape.patch)))
    return {
        "reference": reference,
        "exact": exact,
        f"budget, {size.tokens} tokens": budget,
        f"budget, {share:.0%} of the patches": Side("budget", fast(), model, size._replace(tokens=part)),
    }


def timed(
    models: dict[str, tuple[nn.Module, Literal["float32", "bf16"]]], data: Batch, threads: int, repeats: int
) -> dict[str, list[float]]:
    """Seconds of forecasts, the models in turn, after one of each that is not counted."""
    found: dict[str, list[float]] = {path: [] for path in models}
    for repeat in range(repeats + 1):
        for path, (model, dtype) in models.items():
            seconds = clocked(lambda m=model, d=dtype: forecasts(m, data, d, threads))  # type: ignore[misc]
            if repeat:
                found[path].append(seconds)
    return found


def flops(model: nn.Module, data: Batch, dtype: Literal["float32", "bf16"], threads: int = 1) -> int:
    """Floating-point operations of one forecast in products of matrices, convolutions and attention.

    An addition and a multiplication are two. What goes element by element, Fourier transforms and distances between
    spectra are not counted, nor what the model has kept from a forecast before this one.
    """
    # torch's counter knows the fused attention of GPUs but not that of CPUs, which would count as nothing.
    fused = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}
    with FlopCounterMode(display=False, custom_mapping=fused) as counter:
        forecasts(model, data, dtype, threads)
    return int(counter.get_total_flops())


def _attention(query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...], *_: Any, **__: Any) -> int:
    """Operations of one attention, from the shapes of what it is given."""
    return int(sdpa_flop_count(query, key, value))


def exponent(points: Sequence[tuple[float, float]]) -> float | None:
    """The power p of y = c · xᵖ by least squares of the logarithms; None for fewer than two points (x, y)."""
    if len(points) < 2:
        return None
    x, y = np.log(np.asarray(points, dtype=np.float64)).T
    return float(np.polyfit(x, y, 1)[0])


def _built(side: Side, backbone: str, window: int) -> TimeLLM | str:
    """The model, or why it cannot be."""
    try:
        return make(side, backbone, geometry(window))
    except WavecoreError as error:
        return error.problem


def _row(path: str, backbone: str, series: int, side: Side, more: dict[str, Any], seconds: float | None = None) -> Row:
    return Row("scale", path, backbone=backbone, series=series, dtype=side.dtype, seconds=seconds, more=more)
