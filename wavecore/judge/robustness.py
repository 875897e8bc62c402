"""Windows as they might have come: noisy, with spikes, with a gap, from another level. The truth stays as it is.

Every disturbance is in units of the window's own standard deviation σ, channel by channel, and drawn from the origin
alone, so that every stage sees the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from wavecore.judge.metrics import rounded
from wavecore.learn.forecast import device_of, predict
from wavecore.seeds import generator
from wavecore.series.windows import Batch, WindowData

Precision = Literal["float32", "bf16"]

UNDISTURBED = "undisturbed"

NOISE = 0.5  # σ of the noise added to every step
SPIKES, HEIGHT = 0.01, 5.0  # share of the steps, and their height in σ, up or down
GAP = 0.1  # share of the window, one stretch, filled with the last value before it
SHIFT = 1.0  # how much higher the first half of the window lies, in σ


def _noise(x: np.ndarray, sigma: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return x + NOISE * sigma * random.standard_normal(x.shape)


def _spikes(x: np.ndarray, sigma: np.ndarray, random: np.random.Generator) -> np.ndarray:
    hit = random.random(x.shape) < SPIKES
    return np.asarray(x + hit * random.choice([-HEIGHT, HEIGHT], size=x.shape) * sigma)


def _gap(x: np.ndarray, sigma: np.ndarray, random: np.random.Generator) -> np.ndarray:
    length = max(1, round(GAP * len(x)))
    # The first value stays: something must be there to fill with.
    start = int(random.integers(1, max(2, len(x) - length + 1)))
    found = x.copy()
    found[start : start + length] = found[start - 1]
    return found


def _shift(x: np.ndarray, sigma: np.ndarray, random: np.random.Generator) -> np.ndarray:
    found = x.copy()
    found[: len(x) // 2] += SHIFT * sigma
    return found


DISTURBANCES: dict[str, Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]] = {
    f"noise of {NOISE:g} σ": _noise,
    f"spikes of {HEIGHT:g} σ on {100 * SPIKES:g}% of the steps": _spikes,
    f"a gap of {100 * GAP:g}%": _gap,
    f"the first half {SHIFT:g} σ higher": _shift,
}


def disturbed(batch: Batch, name: str) -> Batch:
    """The same windows [B, T, N] as they might have come; what prompts tell of them is made anew.

    Args:
        name: one of DISTURBANCES.
    """
    change, found = DISTURBANCES[name], []
    for origin, x in zip(batch.origin.tolist(), batch.x.double().cpu().numpy(), strict=True):
        random = generator(0, "disturbed", list(DISTURBANCES).index(name), origin)
        found.append(change(x, x.std(axis=0, keepdims=True), random))
    x = torch.from_numpy(np.stack(found)).to(batch.x)
    return batch._replace(x=x, facts=None)


def robust_rows(
    model: nn.Module, data: WindowData, test: np.ndarray, every: int, batch_windows: int, precision: Precision
) -> list[dict[str, Any]]:
    """Errors on some test windows as they are and as they might have come.

    Args:
        model: on any device.
        data: the standardized series.
        test: [M] origins of all test windows.
        every: one in so many is taken, drawn once for all stages and seeds (a fixed stride would meet few hours of the
            day); 0: none.
        batch_windows, precision: see `wavecore.learn.forecast.forecast`.

    Returns:
        rows of metric (`mse`), group (`robust`), key (`undisturbed` or a disturbance), value (None: nothing observed)
        and n.
    """
    if not every:
        return []
    count = math.ceil(len(test) / every)
    some = np.sort(generator(0, "robust").choice(test, size=count, replace=False))
    place = device_of(model)
    sums = dict.fromkeys((UNDISTURBED, *DISTURBANCES), (0.0, 0))
    for start in range(0, count, batch_windows):
        batch = data.batch(some[start : start + batch_windows])
        for name, (total, points) in sums.items():
            seen = batch if name == UNDISTURBED else disturbed(batch, name)
            error, scored = squared_errors(predict(model, seen.to(place), precision), batch)
            sums[name] = total + error, points + scored
    return [
        {"metric": "mse", "group": "robust", "key": name, "value": rounded(total / n) if n else None, "n": n}
        for name, (total, n) in sums.items()
    ]


def squared_errors(forecast: Tensor | np.ndarray, batch: Batch) -> tuple[float, int]:
    """Sum of squared errors over the observed targets of a batch, and their number."""
    error = (torch.as_tensor(np.asarray(forecast)).double() - batch.y.double().cpu())[batch.mask.cpu()]
    return float(error.square().sum()), error.numel()
