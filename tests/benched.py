"""What the tests of the benchmarks measure: a restless little series, settings that fit the tiny language models."""

from __future__ import annotations

import numpy as np

from wavecore.series.arrays import SeriesArrays, from_values

# For the tiny language models: their prompts are long, since they know letters rather than words.
TINY = {"llm_layers": 2, "d_model": 8, "d_ff": 8, "heads": 2, "prototypes": 16, "prompt": {"tokens": 400}}


def restless(n: int = 400) -> SeriesArrays:
    """Noise, a slow swing with bursts, one value throughout; with gaps."""
    draw = np.random.default_rng(0)
    values = draw.standard_normal((n, 3))
    values[:, 1] = np.sin(np.arange(n) / 15) + 0.01 * values[:, 1]
    values[::37, 1] += 3
    values[draw.random(values.shape) < 0.05] = np.nan
    values[:3, 0] = np.nan
    values[:, 2] = 0.1
    times = np.datetime64("2024-01-01", "us") + np.arange(n) * np.timedelta64(1, "h")
    return from_values(times, ["noise", "slow", "still"], values)
