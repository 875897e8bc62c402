"""What is found after training and kept with the weights: a token budget's sizes, the linear model to average with."""

from __future__ import annotations

from typing import Any

from torch import nn

from wavecore.config import TrainSettings
from wavecore.learn.calibrate import calibrate
from wavecore.learn.device import place_of
from wavecore.learn.least_squares import least_squares
from wavecore.model.time_llm import TimeLLM
from wavecore.series.splits import Borders
from wavecore.series.windows import WindowData


def finish(model: nn.Module, data: WindowData, borders: Borders, settings: TrainSettings) -> list[dict[str, Any]]:
    """Find what the model needs beside its weights, and leave it in its buffers.

    Args:
        model: trained.
        data: the standardized series.
        borders: its splits; `test` is not looked at.
        settings: of the training run.

    Returns:
        what was tried, each with `error` and `chosen`: see `calibrate` and `least_squares`; [] where there is nothing
        to find.
    """
    if not isinstance(model, TimeLLM):
        return []
    rows: list[dict[str, Any]] = []
    if model.linear is not None:
        affine, rows = least_squares(data.to(place_of(settings).device), borders, settings.threads)
        model.linear.become(affine.weight, affine.bias)
    # Afterwards: the sizes of a budget are those with which the whole forecast is good enough.
    return rows + (calibrate(model, data, borders, settings) if model.budget is not None else [])
