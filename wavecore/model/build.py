"""From a stage of the ladder to a module."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from wavecore.config import Settings
from wavecore.errors import SettingsError
from wavecore.model.dlinear import DLinear, DLinearSettings
from wavecore.model.seasonal import SeasonalNaive
from wavecore.seeds import derive, isolated
from wavecore.stages import Stage


@dataclass(frozen=True)
class Geometry:
    """The shape of a benchmark.

    Attributes:
        window: T steps seen.
        horizon: H steps to forecast.
        channels: names of the N channels.
        season: length of the main cycle in steps.
    """

    window: int
    horizon: int
    channels: tuple[str, ...]
    season: int


@dataclass(frozen=True)
class NoSettings:
    """For families that have nothing to set: any key under `model:` is an error."""


def model_settings(stage: Stage, settings: Settings, benchmark: str) -> DLinearSettings | NoSettings:
    """The settings of the stage's family, as the frozen dataclass it is built from.

    Raises:
        SettingsError: an unknown or ill-typed key under `model:`.
    """
    if stage.family == "dlinear":
        return settings.model_of(benchmark, stage.name, DLinearSettings)
    if stage.family == "seasonal_naive":
        return settings.model_of(benchmark, stage.name, NoSettings)
    raise SettingsError(
        f"stage {stage.name!r} is of the unknown family {stage.family!r}", "families: dlinear, seasonal_naive"
    )


def build(stage: Stage, geometry: Geometry, settings: Settings, benchmark: str, seed: int) -> nn.Module:
    """The forecaster of a stage, its weights a function of `seed` alone.

    Returns:
        a module with `forward(batch: Batch) -> [B, H, N]` and `parameter_groups()`, on the CPU in float32.

    Raises:
        SettingsError: settings that do not fit the family or the geometry.
    """
    chosen = model_settings(stage, settings, benchmark)
    with isolated(torch.device("cpu"), derive(seed, "weights")):
        if isinstance(chosen, DLinearSettings):
            return DLinear(geometry.window, geometry.horizon, len(geometry.channels), chosen)
        return SeasonalNaive(geometry.window, geometry.horizon, geometry.season)
