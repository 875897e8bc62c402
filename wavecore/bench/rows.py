"""Rows of a benchmark, and how two sides are timed against each other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One line of a benchmark.

    Attributes:
        bench: train, infer, features, wavelet, memory, scale, stages, surface, latency, online, rates,
            variants or kept.
        path: what is measured: `exact`, `budget`, ….
        other: what it is measured against: `reference`, `neuralforecast`, `plain`, `pywt_loop`; empty where nothing is.
        backbone: geometry of the language model: minilm, gpt2 or qwen2; empty where there is none.
        series: windows × channels at once.
        dtype: of `path`.
        other_dtype: of `other`.
        ratio_median, ratio_min, ratio_max: seconds of `other` over seconds of `path`, pair by pair.
        seconds, other_seconds: medians.
        error: largest difference between the two results, relative to the standard deviation of the other's; None where
            they are not meant to be equal.
        more: what else a reader must know (tokens, prompt length, memory).
    """

    bench: str
    path: str
    other: str = ""
    backbone: str = ""
    series: int = 0
    dtype: str = ""
    other_dtype: str = ""
    ratio_median: float | None = None
    ratio_min: float | None = None
    ratio_max: float | None = None
    seconds: float | None = None
    other_seconds: float | None = None
    error: float | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As JSON values, `more` on the same level; numbers to four digits."""
        found = asdict(self)
        found |= found.pop("more")
        return {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in found.items()}


def alternate(mine: Callable[[], Any], theirs: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Time two sides in turn, after one call of each that is not counted.

    Load drifts over seconds, so a ratio is taken from neighbours only.

    Returns:
        ratio_median, ratio_min, ratio_max, seconds, other_seconds.
    """
    mine(), theirs()
    pairs = [(clocked(mine), clocked(theirs)) for _ in range(repeats)]
    ratios = [b / a for a, b in pairs]
    return {
        "ratio_median": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "seconds": statistics.median(a for a, _ in pairs),
        "other_seconds": statistics.median(b for _, b in pairs),
    }


def clocked(call: Callable[[], Any]) -> float:
    """Seconds of one call, on whatever device it ran."""
    import torch

    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def machine() -> Row:
    """Where the rows after it were measured."""
    import os
    import platform

    import torch

    name = platform.processor() or platform.machine()
    cpus = "/proc/cpuinfo"
    if os.path.exists(cpus):
        with open(cpus, encoding="utf-8") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), name)
    more = {"cpu": name, "cores": os.cpu_count(), "torch": torch.__version__}
    if torch.cuda.is_available():
        more["gpu"] = torch.cuda.get_device_name()
    return Row("machine", "", more=more)
