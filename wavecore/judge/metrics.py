"""Errors of forecasts: overall, per channel, per horizon step, per wavelet scale and per origin.

Choices:
- Errors are on train-standardized channels (the field's convention); original units stand beside them. Undoing the
  standardization multiplies a channel's absolute error by its train standard deviation and its squared error by the
  variance, so the original units need no second pass.
- Every mean runs over scored points (mask True), each with equal weight. A mean over no point is NaN, never 0.
- Nothing is added up across windows before `result()`, which first sorts by origin: the same windows in other
  batches, or in another order, give the same bits. The price is memory: about 20 · (H + N) bytes per window.

Letters: B windows, H horizon steps, N channels, n scored windows, J wavelet levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from wavecore.config import FeatureSettings
from wavecore.errors import DataError, SettingsError, TrainingError
from wavecore.judge.scales import band_energy, error_bands, error_levels

Array = np.ndarray[Any, np.dtype[Any]]

# The group, in the rows of a result, of the error of a forecast that repeats the window's mean.
WINDOW_MEAN = "window_mean"


class HasScale(Protocol):
    """What the judge needs of `wavecore.series.normalize.Scaler`."""

    @property
    def scale(self) -> Array:
        """Train standard deviation per channel, [N], in original units."""


class Part(NamedTuple):
    """What one batch leaves behind: sums within each window, nothing across windows.

    Attributes:
        origins: [B] row of the first target.
        channel_se, channel_ae: [B, N] squared and absolute errors summed over the horizon.
        channel_count: [B, N] scored points.
        step_se, step_ae: [B, H] the same summed over channels.
        step_count: [B, H] scored points.
        band_se: [B, J+1] energy of the error per wavelet band, summed over channels.
    """

    origins: Array
    channel_se: Array
    channel_ae: Array
    channel_count: Array
    step_se: Array
    step_ae: Array
    step_count: Array
    band_se: Array


@dataclass(frozen=True)
class JudgeResult:
    """All errors of one set of forecasts; standardized channels unless `original` is in the name.

    Attributes:
        mse, mae: over all scored points.
        mase: mean over the channels that have one.
        n_windows: windows handed in, scored or not.
        n_series: n_windows × N.
        n_points: scored points.
        channels: names, in order.
        channel_mse, channel_mae, channel_mase, channel_mse_original, channel_mae_original: [N]; NaN where undefined.
        channel_points: [N] scored points.
        channels_without_mase: names of channels left out of `mase`: no seasonal scale (zero or undefined), or no
            scored point.
        step_mse, step_mae: [H], first step first. step_points: [H].
        bands: names, coarsest first (A_J, D_J … D_1).
        band_mse: [J+1]; sums to `mse` when the wavelet is orthonormal.
        origins: [n] sorted. origin_mse, origin_mae: [n], NaN where the window has no scored point.
        n_origins_unscored: how many of them are NaN; comparisons leave those out and say so.
    """

    mse: float
    mae: float
    mase: float
    n_windows: int
    n_series: int
    n_points: int
    channels: tuple[str, ...]
    channel_mse: Array
    channel_mae: Array
    channel_mase: Array
    channel_mse_original: Array
    channel_mae_original: Array
    channel_points: Array
    channels_without_mase: tuple[str, ...]
    step_mse: Array
    step_mae: Array
    step_points: Array
    bands: tuple[str, ...]
    band_mse: Array
    origins: Array
    origin_mse: Array
    origin_mae: Array
    n_origins_unscored: int


def seasonal_scale(values: Array, observed: Array, train_range: tuple[int, int], season: int) -> Array:
    """In-sample mean absolute seasonal difference, the denominator of MASE.

    Hyndman and Koehler (2006), "Another look at measures of forecast accuracy", with a season as in
    Makridakis et al. (2020), "The M4 competition": mean |y_t − y_{t−season}| over train rows. A pair counts only
    where both values were observed, so that filled values do not lower it.

    Args:
        values: [n, N]. The result has their units; the Judge expects original ones.
        observed: [n, N] bool.
        train_range: half-open rows.
        season: steps, 1 or more.

    Returns:
        [N]; 0 for a channel that repeats exactly, NaN for one without any observed pair (also: train no longer
        than a season). The Judge leaves both kinds out of MASE and names them.

    Raises:
        SettingsError: season below 1.
    """
    if season < 1:
        raise SettingsError(f"season: {season} is below 1", "give the season in steps, 1 for none")
    start, stop = train_range
    train = np.asarray(values, dtype=np.float64)[start:stop]
    seen = np.asarray(observed, dtype=bool)[start:stop]
    pair = seen[season:] & seen[:-season]
    gap = np.where(pair, np.abs(train[season:] - train[:-season]), 0.0)
    return _ratio(gap.sum(axis=0), pair.sum(axis=0))


class Judge:
    """Collects errors batch by batch.

    Its whole state is `parts`, one `Part` per update: judges of the same geometry can be joined by joining the lists.

    Args:
        channels: N names.
        horizon: H.
        scaler: gives the train standard deviation per channel.
        seasonal: [N] from `seasonal_scale`, in original units.
        settings: which wavelet, and its levels at most.
    """

    def __init__(
        self, channels: Sequence[str], horizon: int, scaler: HasScale, seasonal: Array, settings: FeatureSettings
    ) -> None:
        self.channels = tuple(channels)
        self.horizon = horizon
        self.scale = np.asarray(scaler.scale, dtype=np.float64)
        self.seasonal = np.asarray(seasonal, dtype=np.float64)
        self.wavelet = settings.wavelet
        self.levels = error_levels(horizon, settings)
        self.parts: list[Part] = []
        for name, value in (("scaler.scale", self.scale), ("seasonal", self.seasonal)):
            if value.shape != (len(self.channels),):
                raise ValueError(
                    f"{name}: shape {value.shape}, expected one value for each of {len(self.channels)} channels"
                )

    def update(self, origins: Any, yhat: Any, y: Any, mask: Any) -> None:
        """Add a batch.

        Args:
            origins: [B] row of the first target.
            yhat, y: [B, H, N] on standardized channels; arrays or tensors on any device.
            mask: [B, H, N], True where a point is scored. A point that is not counts as zero error in the wavelet
                bands, where a gap cannot simply be left out, and not at all elsewhere.

        Raises:
            TrainingError: a forecast of a scored point is not finite. It is never dropped as if it had not been made.
            DataError: a scored truth is not finite.
        """
        rows = _array(origins).astype(np.int64)
        forecast, truth, scored = _array(yhat), _array(y), _array(mask).astype(bool)
        shape = (len(rows), self.horizon, len(self.channels))
        for name, value in (("yhat", forecast), ("y", truth), ("mask", scored)):
            if value.shape != shape:
                raise ValueError(f"{name}: shape {value.shape}, expected {shape}")
        if len(rows) == 0:
            return
        self._need_finite(
            forecast, scored, rows, TrainingError, "the forecast", "train again with a lower learning rate"
        )
        self._need_finite(truth, scored, rows, DataError, "the true value", "mask points that were not observed")
        # Contiguous and float64, so that sums run in the same order whatever came in.
        error = np.zeros(shape)
        np.subtract(forecast, truth, out=error, where=scored, dtype=np.float64)
        squared, absolute = np.square(error), np.abs(error)
        self.parts.append(
            Part(
                origins=rows,
                channel_se=squared.sum(axis=1),
                channel_ae=absolute.sum(axis=1),
                channel_count=scored.sum(axis=1, dtype=np.int32),
                step_se=squared.sum(axis=2),
                step_ae=absolute.sum(axis=2),
                step_count=scored.sum(axis=2, dtype=np.int32),
                band_se=band_energy(error, self.wavelet, self.levels),
            )
        )

    def result(self) -> JudgeResult:
        """All errors of what was added so far.

        Raises:
            DataError: nothing was added, or an origin twice (its window would count double).
        """
        if not self.parts:
            raise DataError("no forecast was handed to the judge", "score at least one window")
        joined = Part(*(np.concatenate(arrays) for arrays in zip(*self.parts, strict=True)))
        order = np.argsort(joined.origins, kind="stable")
        part = Part(*(array[order] for array in joined))
        repeated = np.unique(part.origins[1:][np.diff(part.origins) == 0])
        if len(repeated):
            raise DataError(
                f"origin {repeated[0]} was scored twice ({len(repeated)} such origins)",
                "hand each window to the judge once",
                rows=repeated.tolist(),
            )
        count = part.channel_count.sum(axis=0, dtype=np.int64)
        points = int(count.sum())
        channel_se, channel_ae = part.channel_se.sum(axis=0), part.channel_ae.sum(axis=0)
        mse, mae = _ratio(channel_se, count), _ratio(channel_ae, count)
        mae_original = mae * self.scale
        usable = np.isfinite(self.seasonal) & (self.seasonal > 0)
        mase = np.full(len(self.channels), np.nan)
        np.divide(mae_original, self.seasonal, out=mase, where=usable)
        with_mase = np.isfinite(mase)
        origin_count = part.channel_count.sum(axis=1, dtype=np.int64)
        step_count = part.step_count.sum(axis=0, dtype=np.int64)
        return JudgeResult(
            mse=_mean(channel_se.sum(), points),
            mae=_mean(channel_ae.sum(), points),
            mase=_mean(mase[with_mase].sum(), int(with_mase.sum())),
            n_windows=len(part.origins),
            n_series=len(part.origins) * len(self.channels),
            n_points=points,
            channels=self.channels,
            channel_mse=mse,
            channel_mae=mae,
            channel_mase=mase,
            channel_mse_original=mse * np.square(self.scale),
            channel_mae_original=mae_original,
            channel_points=count,
            channels_without_mase=tuple(c for c, ok in zip(self.channels, with_mase, strict=True) if not ok),
            step_mse=_ratio(part.step_se.sum(axis=0), step_count),
            step_mae=_ratio(part.step_ae.sum(axis=0), step_count),
            step_points=step_count,
            bands=error_bands(self.levels),
            band_mse=_ratio(part.band_se.sum(axis=0), np.full(self.levels + 1, points)),
            origins=part.origins,
            origin_mse=_ratio(part.channel_se.sum(axis=1), origin_count),
            origin_mae=_ratio(part.channel_ae.sum(axis=1), origin_count),
            n_origins_unscored=int((origin_count == 0).sum()),
        )

    def _need_finite(
        self,
        values: Array,
        scored: Array,
        rows: Array,
        kind: type[TrainingError] | type[DataError],
        what: str,
        fix: str,
    ) -> None:
        bad = scored & ~np.isfinite(values)
        if bad.any():
            window, step, channel = (int(i) for i in np.argwhere(bad)[0])
            raise kind(
                f"{what} of channel {self.channels[channel]!r}, origin {rows[window]}, step {step + 1} is "
                f"{values[window, step, channel]} ({int(bad.sum())} such points)",
                fix,
            )


def long_rows(result: JudgeResult) -> list[dict[str, Any]]:
    """The result as rows metric, group, key, value, n.

    group is overall, channel, channel_original, step (key "1" is the first step) or scale. n is the number of scored
    points behind the value. value is rounded to 8 significant digits, which is beyond what float32 forecasts can
    bear and keeps the file small; an undefined value (a mean over nothing) is None, since JSON has no NaN. Overall
    rows also hold the counts: n_windows, n_series, n_points, n_origins_unscored, n_channels_without_mase.
    """
    rows: list[dict[str, Any]] = []

    def add(metric: str, group: str, key: str, value: float, n: int) -> None:
        rows.append({"metric": metric, "group": group, "key": key, "value": rounded(value), "n": int(n)})

    n = result.n_points
    left_out = set(result.channels_without_mase)
    with_mase = sum(int(k) for c, k in zip(result.channels, result.channel_points, strict=True) if c not in left_out)
    for metric, value, points in (("mse", result.mse, n), ("mae", result.mae, n), ("mase", result.mase, with_mase)):
        add(metric, "overall", "all", value, points)
    for metric, number in (
        ("n_windows", result.n_windows),
        ("n_series", result.n_series),
        ("n_points", result.n_points),
        ("n_origins_unscored", result.n_origins_unscored),
        ("n_channels_without_mase", len(result.channels_without_mase)),
    ):
        add(metric, "overall", "all", number, n)
    for i, channel in enumerate(result.channels):
        points = result.channel_points[i]
        add("mse", "channel", channel, result.channel_mse[i], points)
        add("mae", "channel", channel, result.channel_mae[i], points)
        add("mase", "channel", channel, result.channel_mase[i], points)
        add("mse", "channel_original", channel, result.channel_mse_original[i], points)
        add("mae", "channel_original", channel, result.channel_mae_original[i], points)
    for i in range(len(result.step_mse)):
        add("mse", "step", str(i + 1), result.step_mse[i], result.step_points[i])
        add("mae", "step", str(i + 1), result.step_mae[i], result.step_points[i])
    for band, value in zip(result.bands, result.band_mse, strict=True):
        add("mse", "scale", band, value, n)
    return rows


def origin_losses(result: JudgeResult) -> dict[str, list[Any]]:
    """Losses per origin as columns origin, mse, mae, rounded as `long_rows`; None where no point was scored."""
    return {
        "origin": [int(o) for o in result.origins],
        "mse": [rounded(v) for v in result.origin_mse],
        "mae": [rounded(v) for v in result.origin_mae],
    }


def rounded(value: float) -> float | None:
    """`value` to 8 significant digits; None where it is not finite."""
    return float(f"{value:.8g}") if math.isfinite(value) else None


def _array(values: Any) -> Array:
    """A numpy array of an array or a tensor; bfloat16, which numpy lacks, becomes float64."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().double().numpy()
    return np.asarray(values)


def _ratio(total: Array, count: Array) -> Array:
    """Elementwise total / count; NaN where count is 0."""
    out = np.full(np.shape(total), np.nan)
    np.divide(total, count, out=out, where=np.asarray(count) > 0)
    return out


def _mean(total: float, count: int) -> float:
    return float(total) / count if count else math.nan
