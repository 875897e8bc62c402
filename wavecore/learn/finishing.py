"""What a model needs beside the weights that are trained step by step, and where it comes from.

`regress` looks at the data alone and comes before training, so that data it cannot use stop a run before it has cost
hours; `finish` comes after.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from wavecore.config import TrainSettings
from wavecore.learn.calibrate import calibrate
from wavecore.learn.least_squares import Affine, least_squares
from wavecore.model.regression import Regression
from wavecore.model.time_llm import TimeLLM
from wavecore.series.splits import Borders
from wavecore.series.windows import WindowData

Found = tuple[Affine, list[dict[str, Any]]]


def regress(model: nn.Module, data: WindowData, borders: Borders, device: str, threads: int) -> Found | None:
    """The linear regression of a model that has one; None where it has none.

    Args:
        model: as built.
        data: the standardized series.
        borders: its splits; `decide` and `test` are not looked at.
        device, threads: of the run.

    Raises:
        DataError: see `least_squares`.
    """
    if not isinstance(getattr(model, "linear", None), Regression):
        return None
    return least_squares(data.to(device), borders, threads)


def finish(
    model: nn.Module, data: WindowData, borders: Borders, settings: TrainSettings, found: Found | None
) -> list[dict[str, Any]]:
    """Leave in the model what belongs to it: the regression, then a token budget's sizes.

    Args:
        model: trained, where anything in it is.
        data: the standardized series.
        borders: its splits; `test` is not looked at.
        settings: of the training run.
        found: by `regress`.

    Returns:
        what was tried, each with `error` and `chosen`: see `least_squares` and `calibrate`; [] where nothing was.
    """
    rows: list[dict[str, Any]] = []
    if found is not None:
        affine, rows = found
        regression = model.linear
        assert isinstance(regression, Regression)
        regression.become(affine.weight, affine.bias)
    # Afterwards: the sizes of a budget are those with which the whole forecast is good enough.
    if isinstance(model, TimeLLM) and model.budget is not None:
        return rows + calibrate(model, data, borders, settings)
    return rows
