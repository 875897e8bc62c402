"""Scaling: per channel by the train rows, per window by its own mean and deviation (R1), each with its inverse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from wavecore.errors import DataError, SettingsError
from wavecore.series.arrays import SeriesArrays

if TYPE_CHECKING:
    import torch

EPS = 1e-5  # added to the variance of a window, as the reference does (R1)

Array = TypeVar("Array", np.ndarray, "torch.Tensor")


@dataclass(frozen=True, eq=False)
class Scaler:
    """Train mean and biased standard deviation of each channel.

    Attributes:
        center: [N], original units.
        scale: [N], original units, above 0: 1 where the channel is constant in the train rows.
        constant: names of the channels that are constant there; whether that is allowed, the series contract says.
    """

    center: np.ndarray
    scale: np.ndarray
    constant: tuple[str, ...] = ()

    @classmethod
    def fit(cls, arrays: SeriesArrays, train_range: tuple[int, int]) -> Scaler:
        """Learn from the observed values of rows [start, stop); filled ones do not count.

        Raises:
            SettingsError: the range is empty or lies outside the data.
            DataError: a channel has no observed value there, or values whose squares overflow; the message names it.
        """
        start, stop = train_range
        if not 0 <= start < stop <= arrays.rows:
            raise SettingsError(
                f"train rows {start} to {stop} lie outside the data, which has {arrays.rows} rows",
                "make the train split smaller",
            )
        values, observed = arrays.values[start:stop], arrays.observed[start:stop]
        unseen = [name for j, name in enumerate(arrays.channels) if not observed[:, j].any()]
        if unseen:
            raise DataError(
                f"no value of {', '.join(unseen)} in the train rows {start} to {stop}",
                "drop the channel, or start the train split where it has values",
                columns=unseen,
            )
        center, scale = np.empty(len(arrays.channels)), np.ones(len(arrays.channels))
        constant = []
        for j, name in enumerate(arrays.channels):
            seen = values[observed[:, j], j]
            mean, std = seen.mean(), seen.std()
            if not np.isfinite(std):
                raise DataError(
                    f"the values of {name} in the train rows are too large to compute with "
                    f"(up to {np.abs(seen).max():g})",
                    "give them in a larger unit, or declare what stands for a missing value",
                    columns=[name],
                )
            # By comparison, since the mean of equal numbers may be off by a rounding; and by a deviation of 0, since
            # the squares of very small numbers vanish.
            if seen.min() == seen.max() or std == 0:
                center[j] = seen[0]
                constant.append(name)
            else:
                center[j], scale[j] = mean, std
        return cls(center, scale, tuple(constant))

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Original units to train-standardized, [..., N] → [..., N]; NaN becomes 0, the train mean."""
        scaled = (values - self.center) / self.scale
        return np.where(np.isnan(scaled), 0.0, scaled)

    def inverse(self, scaled: np.ndarray) -> np.ndarray:
        """Train-standardized to original units, [..., N] → [..., N]."""
        return scaled * self.scale + self.center


def instance_statistics(x: Array, axis: int = -1) -> tuple[Array, Array]:
    """Mean and biased standard deviation over the time axis: x [..., T] → [...], [...]; NumPy or torch.

    They are constants of the window: no gradient flows through them, as in the reference.
    """
    mean: Any
    std: Any
    if isinstance(x, np.ndarray):
        mean = x.mean(axis=axis)
        std = x.std(axis=axis, mean=np.expand_dims(mean, axis))
    else:
        mean, std = x.detach().mean(dim=axis), x.detach().std(dim=axis, correction=0)
    return mean, std


def instance_normalize(x: Array, mean: Array, std: Array, axis: int = -1) -> Array:
    """(x - mean) / sqrt(std² + 1e-5), the statistics spread along the time axis (R1). A constant window becomes 0."""
    return (x - _spread(mean, axis)) / _spread(_deviation(std), axis)


def single_series(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Windows as normalized single series, window first, then channel (R1): x [B, T, N] → [B·N, T], mean and deviation
    [B, N]."""
    mean, std = instance_statistics(x, axis=1)
    return instance_normalize(x, mean, std, axis=1).transpose(1, 2).flatten(end_dim=1), mean, std


def instance_denormalize(y: Array, mean: Array, std: Array, axis: int = -1) -> Array:
    """The inverse of `instance_normalize`, for a forecast of any length: y · sqrt(std² + 1e-5) + mean."""
    return y * _spread(_deviation(std), axis) + _spread(mean, axis)


def _deviation(std: Array) -> Array:
    return (std**2 + EPS) ** 0.5


def _spread(statistic: Array, axis: int) -> Array:
    spread: Any
    spread = np.expand_dims(statistic, axis) if isinstance(statistic, np.ndarray) else statistic.unsqueeze(axis)
    return spread
