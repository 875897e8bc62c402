"""One dataset in memory: a regular time axis, named channels, and values whose gaps were filled causally."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wavecore.errors import DataError

SHOWN = 5  # how many faulty rows a message lists; the error's `rows` holds all of them


@dataclass(frozen=True, eq=False)
class SeriesArrays:
    """One dataset: n rows (time steps) of N channels.

    Attributes:
        timestamps: [n] datetime64[us], rising; the step is regular (the series contract checks it, since a calendar
            month has no fixed length).
        channels: N names, in column order.
        values: [n, N] float64, original units. A missing step holds the last value known before it; steps before a
            channel's first value are NaN until `Scaler.transform` makes them 0, the train mean.
        observed: [n, N] bool; False where the value was missing.
    """

    timestamps: np.ndarray
    channels: tuple[str, ...]
    values: np.ndarray
    observed: np.ndarray

    @property
    def rows(self) -> int:
        """n, the number of time steps."""
        return int(self.values.shape[0])


def forward_fill(values: np.ndarray) -> np.ndarray:
    """Replace every NaN of `values` [n, N] by the last value above it in the same column.

    Nothing is ever taken from below: a fill from the future would leak it into the past. NaNs before a column's first
    value stay.
    """
    n = values.shape[0]
    row = np.arange(n)[:, None]
    # The index of the last known row at or above each row; row 0 stands for "none yet" and is NaN itself in that case.
    last = np.maximum.accumulate(np.where(np.isnan(values), 0, row), axis=0)
    return np.take_along_axis(values, last, axis=0)


def from_values(timestamps: np.ndarray, channels: Sequence[str], values_with_nan: np.ndarray) -> SeriesArrays:
    """Build the arrays of one dataset, filling gaps forward.

    Args:
        timestamps: [n], anything that converts to datetime64[us]; rising, no repeats.
        channels: N distinct names.
        values_with_nan: [n, N] numbers in original units, NaN where a value is missing.

    Raises:
        DataError: shapes that do not fit, repeated channel names, no rows, infinities, or timestamps that do not rise.
    """
    names = tuple(channels)
    values = np.array(values_with_nan, dtype=np.float64)
    times = np.asarray(timestamps).astype("datetime64[us]")
    if times.ndim != 1 or values.shape != (times.shape[0], len(names)):
        raise DataError(
            f"values have shape {list(values.shape)}, but there are {times.size} timestamps and {len(names)} channels",
            "give one row per timestamp and one column per channel",
        )
    if not values.size:
        raise DataError("the series is empty", "give at least one row and one channel")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"channel names stand there twice: {', '.join(repeated)}", "rename them", columns=repeated)
    _check_times(times)
    infinite = np.isinf(values)
    if infinite.any():
        at = [str(t) for t in times[infinite.any(axis=1)]]
        which = [names[j] for j in np.flatnonzero(infinite.any(axis=0))]
        raise DataError(
            f"infinite values in {', '.join(which)} at {_listed(at)}",
            "remove them, or declare them as missing",
            columns=which,
            rows=at,
        )
    return SeriesArrays(times, names, forward_fill(values), ~np.isnan(values))


def _check_times(times: np.ndarray) -> None:
    missing = np.isnat(times)
    if missing.any():
        rows = [int(i) for i in np.flatnonzero(missing)]
        raise DataError(f"timestamps are missing in rows {_listed(rows)} (counted from 0)", "give them", rows=rows)
    falls = np.flatnonzero(np.diff(times) <= np.timedelta64(0, "us"))
    if falls.size:
        at = [str(t) for t in times[falls + 1]]
        raise DataError(
            f"timestamps do not rise at {_listed(at)}", "sort the rows by time and remove repeated timestamps", rows=at
        )


def _listed(items: Sequence[object]) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(map(str, items[:SHOWN])) + more
