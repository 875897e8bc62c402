"""Forecasts of a trained model, window after window."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import nn

from wavecore.series.windows import Batch, WindowData


@contextmanager
def evaluating(model: nn.Module, goes_on: bool = False) -> Iterator[None]:
    """The model in eval mode, then every part of it in the mode it was in before.

    Args:
        goes_on: this is one more batch of a pass: the model may keep what it computed from its weights, which a call of
            `eval()` tells it to drop.
    """
    before = [(module, module.training) for module in model.modules()]
    if goes_on:
        for module, _ in before:
            module.training = False
    else:
        model.eval()
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode


def device_of(model: nn.Module) -> torch.device:
    """Where the model's weights lie, or its buffers; the CPU if it has neither."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def predict(model: nn.Module, batch: Batch, precision: Literal["float32", "bf16"] = "float32") -> np.ndarray:
    """Forecast of one batch, [B, H, N] float32, without gradients and in eval mode.

    A row depends on its own window alone, not on what else is in the batch or on its order.
    """
    return _predict(model, batch, precision, goes_on=False)


def _predict(model: nn.Module, batch: Batch, precision: Literal["float32", "bf16"], goes_on: bool) -> np.ndarray:
    mixed = torch.autocast(batch.x.device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
    with evaluating(model, goes_on), torch.inference_mode(), mixed:
        return model(batch).float().cpu().numpy()


def forecast(
    model: nn.Module,
    data: WindowData,
    origins: np.ndarray,
    batch_windows: int,
    precision: Literal["float32", "bf16"] = "float32",
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Forecast the windows of `origins` in their order, a batch at a time.

    Args:
        model: on any device.
        data: the standardized series.
        origins: [M].
        batch_windows: windows at once, B.
        precision: `bf16` for mixed precision.

    Yields:
        origins [B] int64 and forecasts [B, H, N] float32, train-standardized.

    Raises:
        DataError: an origin whose inputs or targets lie outside the data.
    """
    origins = np.asarray(origins, dtype=np.int64)
    placed = data.to(device_of(model))
    for start in range(0, len(origins), batch_windows):
        chosen = origins[start : start + batch_windows]
        yield chosen, _predict(model, placed.batch(chosen), precision, goes_on=start > 0)
