"""Time steps such as `15m`, `1h`, `7d` or `1mo`: their text, their length and the regular grid they span."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wavecore.errors import SettingsError
from wavecore.series.durations import parse

DAY = 86_400_000_000
_UNITS = {"w": 7 * DAY, "d": DAY, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000, "us": 1}


@dataclass(frozen=True)
class Step:
    """The distance between two rows of a series.

    Attributes:
        microseconds: its length; 0 for a step of the calendar.
        months: its length in months; 0 for a fixed step.
    """

    microseconds: int
    months: int = 0

    def stamps(self, first: np.datetime64, count: int, month_end: bool = False) -> np.ndarray:
        """`count` timestamps from `first` on. Shape [count], datetime64[us].

        A step of the calendar keeps the day of the month (cut to the month's length), or with `month_end` the last one.
        """
        first = first.astype("datetime64[us]")
        if not self.months:
            return first + (np.arange(count, dtype=np.int64) * self.microseconds).astype("timedelta64[us]")
        months = first.astype("datetime64[M]") + (np.arange(count) * self.months).astype("timedelta64[M]")
        starts = months.astype("datetime64[D]")
        lengths = ((months + np.timedelta64(1, "M")).astype("datetime64[D]") - starts).astype(np.int64)
        day = (first.astype("datetime64[D]") - first.astype("datetime64[M]").astype("datetime64[D]")).astype(np.int64)
        days = lengths - 1 if month_end else np.minimum(day, lengths - 1)
        clock = first - first.astype("datetime64[D]")
        return (starts + days.astype("timedelta64[D]")).astype("datetime64[us]") + clock

    def positions(self, timestamps: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
        """Where sorted `timestamps` [n] lie on the grid that starts at the first of them.

        Returns:
            index [n] of the grid point at or before each, whether it is hit exactly [n], and whether the grid is one
            of month ends.
        """
        timestamps = timestamps.astype("datetime64[us]")
        if not self.months:
            passed = (timestamps - timestamps[0]).astype(np.int64)
            return passed // self.microseconds, passed % self.microseconds == 0, False
        tomorrow = timestamps.astype("datetime64[D]") + np.timedelta64(1, "D")
        month_end = bool((tomorrow == tomorrow.astype("datetime64[M]")).all())
        month = timestamps.astype("datetime64[M]").astype(np.int64)
        index = (month - month[0]) // self.months
        grid = self.stamps(timestamps[0], int(index[-1]) + 1, month_end)
        return index, grid[index] == timestamps, month_end

    def ceiling(self, timestamps: np.ndarray) -> tuple[np.ndarray, np.datetime64]:
        """The end of the bin (end - step, end] that each timestamp falls in, as an index from the first bin's end.

        Bins end on round times: at multiples of the step since midnight where the step divides a day, at midnights
        for whole days, at the first of the month for months, else counted from the first timestamp.
        """
        timestamps = timestamps.astype("datetime64[us]")
        first = timestamps.min()
        if self.months:
            start = timestamps.astype("datetime64[M]")
            later = (start.astype("datetime64[us]") < timestamps).astype(np.int64)
            month = start.astype(np.int64) + later
            # Quarters and years end on the calendar's own: months since 1970-01 are counted in whole steps.
            index = -(-month // self.months)
            origin = np.datetime64(int(index.min()) * self.months, "M").astype("datetime64[us]")
            return index - index.min(), origin
        midnight = first.astype("datetime64[D]").astype("datetime64[us]")
        anchor = midnight if DAY % self.microseconds == 0 or self.microseconds % DAY == 0 else first
        passed = (timestamps - anchor).astype(np.int64)
        index = -(-passed // self.microseconds)
        origin = anchor + np.timedelta64(int(index.min()) * self.microseconds, "us")
        return index - index.min(), origin


def parse_step(text: str, where: str) -> Step:
    """Read `15m`, `1h`, `7d`, `1mo` …

    Raises:
        SettingsError: it is none, or mixes months with lengths that are fixed; names `where`.
    """
    duration = parse(text, where)
    if duration.months and duration.microseconds:
        raise SettingsError(
            f"{where}: {text!r} mixes months with a fixed length", "write months alone: 1mo, 3mo; or none: 30d"
        )
    return Step(duration.microseconds, duration.months)


def step_text(step: Step, weeks: bool = False) -> str:
    """The shortest text of a step: 900 s is `15m`, 7 days are `7d` (or `1w` with `weeks`)."""
    if step.months:
        return f"{step.months // 12}y" if step.months % 12 == 0 else f"{step.months}mo"
    units = _UNITS if weeks else {unit: length for unit, length in _UNITS.items() if unit != "w"}
    unit = next(unit for unit, length in units.items() if step.microseconds % length == 0)
    return f"{step.microseconds // _UNITS[unit]}{unit}"
