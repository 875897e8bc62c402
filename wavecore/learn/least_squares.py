"""A linear forecast in closed form: ridge regression of the horizon on the window, over all train windows.

With x [T] a window of one channel and y [H] what follows, W and b minimize the mean of |W·x + b − y|² + r·v·|W|²
(Hoerl and Kennard 1970, "Ridge regression"; v is the mean variance of a step of x, so that r has no unit), for all
channels one. It is tried on windows as they are and less their own mean, which is added again; both are one affine map
of x. Which of the two, and r, is chosen by the error on `select`. Toner and Darlow (ICML 2024, "An analysis of linear
time series forecasting models") show that linear forecasters of the literature are such regressions, and trained by
gradient no better.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wavecore.errors import DataError
from wavecore.learn.device import threads
from wavecore.series.splits import Borders, origins
from wavecore.series.windows import WindowData

RIDGES = (1e-6, 1e-4, 1e-3, 1e-2, 0.1, 0.3, 1.0)
CHUNK_BYTES = 2**25  # of windows in float64 at once


class Affine(NamedTuple):
    """y = weight·x + bias: [H, T], [H], float64."""

    weight: Tensor
    bias: Tensor


def least_squares(data: WindowData, borders: Borders, count: int) -> tuple[Affine, list[dict[str, Any]]]:
    """The map with the lowest error on `select`, and what was tried.

    Windows of a channel of which a target was not observed are left out, in `select` too.

    Args:
        data: the standardized series, on any device.
        borders: its splits; `decide` and `test` are not looked at.
        count: CPU threads; sums are split by it.

    Returns:
        the map, and a row per candidate: linear (`as it is` or `less its mean`), ridge, error (MSE on `select`),
        chosen.

    Raises:
        DataError: no target of `train`, or none of `select`, was observed.
    """
    tried: list[tuple[Affine, dict[str, Any]]] = []
    with threads(count):
        for centred, form in ((False, "as it is"), (True, "less its mean")):
            for ridge, affine in _regressions(data, borders, centred):
                tried.append((affine, {"linear": form, "ridge": ridge, "error": 0.0, "chosen": False}))
        points = 0
        for x, y in _pairs(data, borders, "select"):
            points += y.numel()
            for affine, row in tried:
                row["error"] += float((x @ affine.weight.T + affine.bias - y).square().sum())
    for _, row in tried:
        row["error"] = _mean(row["error"], points, "select")
    best, row = min(tried, key=lambda one: one[1]["error"])
    row["chosen"] = True
    return best, [row for _, row in tried]


def _regressions(data: WindowData, borders: Borders, centred: bool) -> Iterator[tuple[float, Affine]]:
    """The map of each ridge, from one pass over the train windows."""
    square, cross = (data.values.new_zeros(data.window, n, dtype=torch.float64) for n in (data.window, data.horizon))
    x_sum, y_sum, count = square.sum(dim=0), cross.sum(dim=0), 0
    for x, y in _pairs(data, borders, "train"):
        if centred:
            mean = x.mean(dim=1, keepdim=True)
            x, y = x - mean, y - mean
        square, cross = square + x.T @ x, cross + x.T @ y
        x_sum, y_sum, count = x_sum + x.sum(dim=0), y_sum + y.sum(dim=0), count + len(x)
    _mean(0.0, count, "train")
    x_mean, y_mean = x_sum / count, y_sum / count
    values, vectors = torch.linalg.eigh(square / count - torch.outer(x_mean, x_mean))
    turned = vectors.T @ (cross / count - torch.outer(x_mean, y_mean))
    values = values.clamp(min=0)
    level = float(values.mean()) or 1.0  # windows that never change: any ridge gives the mean
    for ridge in RIDGES:
        weight = (vectors @ (turned / (values + ridge * level)[:, None])).T
        bias = y_mean - weight @ x_mean
        if centred:
            # W·(x − m) + b + m with m = mean of x.
            weight = weight + (1 - weight.sum(dim=1, keepdim=True)) / weight.shape[1]
        yield ridge, Affine(weight, bias)


def _pairs(data: WindowData, borders: Borders, split: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Windows [M, T] and their targets [M, H] in float64, all of them observed."""
    chosen = origins(borders, split, data.window, data.horizon)
    at_once = max(1, CHUNK_BYTES // (8 * data.window * data.n_channels))
    for start in range(0, len(chosen), at_once):
        batch = data.batch(chosen[start : start + at_once])
        whole = batch.mask.all(dim=1)
        yield batch.x.transpose(1, 2)[whole].double(), batch.y.transpose(1, 2)[whole].double()


def _mean(total: float, count: int, split: str) -> float:
    if not count:
        raise DataError(f"no window of `{split}` has all its targets observed", "move the split borders")
    return total / count
